"""The Japanese messages: that `texts/ja.json` fits the source, and what a few commands say."""

import ast
import errno
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest

import webex_loopback
from tests.conftest import Patch
from webex_loopback.cli.app import COMMANDS
from webex_loopback.texts import _table, translated
from webex_loopback.webex.error_response import Answer, read_error

from .conftest import command

CLICK = [
    click.NoSuchOption("--x", possibilities=["--y"]),
    click.NoSuchOption("--x", possibilities=["--y", "--z"]),
    click.MissingParameter(param_hint="'PATH'", param_type="argument"),
    click.BadOptionUsage("-p", "Option '-p' requires an argument."),
    click.BadOptionUsage("-p", "Option '-p' does not take a value."),
    click.UsageError("No such command 'x'."),
    click.UsageError("Got unexpected extra argument (x)"),
    click.UsageError("Got unexpected extra arguments (x y)"),
    click.BadParameter("'x' is not one of 'y', 'z'.", param_hint="'--prompt'"),
]
FROM_LIBRARIES = [*map(os.strerror, errno.errorcode), *(error.format_message() for error in CLICK)]
# Functions that take a part of a message: their module, and the rest of it.
PARTS = {
    "_error": ("settings.py", "WEBEX_X {}"),
    "ValueError": ("settings.py", "WEBEX_X {}."),
    "_matches": ("settings.py", "WEBEX_X {}."),
    "_wrong": ("redirect_uri.py", "The redirect URI x {}."),
    "NotThisLogin": ("authorization.py", "{}"),
    "MalformedToken": (".py", "The token file '/x' {}."),
    "FutureVersion": (".py", "The token file '/x' {}."),
    "_unavailable": ("keyring.py", "{}."),
    "Choice": ("browser.py", "{}"),
}
ENGLISH = {  # the answers of the loopback server; on stdout; for Python programs only
    *("This request cannot be answered.", "This host name is not served here.", "There is nothing here."),
    *("This login has received its response.", "Only GET is allowed."),
    *("No problems found.", "Fix the first error first."),
    *("WEBEX_ACCESS_TOKEN is set (\0). It is used unchanged and never renewed.", "found on PATH"),
    *("A callback failed. The token has been stored.", "Another thread holds the lock of this token store."),
    "Have the logging handler do its work in another thread.",
    *(text for _, text in COMMANDS.values()),
}


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module with \\0 for each field, but no docstrings and no help."""
    docstring = isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant)
    if docstring or (isinstance(tree, ast.keyword) and tree.arg == "help"):
        return
    parts = tree.values if isinstance(tree, ast.JoinedStr) else [tree]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
    yield re.sub(r"\{[^{}]*\}|%s", "\0", text)
    inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
    for child in inner if isinstance(tree, ast.JoinedStr) else ast.iter_child_nodes(tree):
        yield from texts(child)


@pytest.fixture(scope="module")
def modules() -> dict[Path, ast.AST]:
    """The product's modules."""
    paths = Path(webex_loopback.__file__).parent.rglob("*.py")
    ours = [path for path in paths if not {"sandbox", "clients"}.intersection(path.parts)]
    return {path: ast.parse(path.read_text("utf-8")) for path in ours}


@pytest.fixture(scope="module")
def said(modules: dict[Path, ast.AST]) -> set[str]:
    """All strings of the product."""
    return {text.strip() for module in modules.values() for text in texts(module)}


@pytest.mark.skipif(sys.platform == "win32", reason="the system's own messages are those of Linux")
def test_every_message_of_the_table_is_one_of_the_product(said: set[str]) -> None:
    every = said | {text.replace("_", " ") for text in said}  # for instance a grant of RFC 6749

    def exists(parts: list[str]) -> bool:
        text = "\0".join(parts[::2]).strip("\0 .`")
        ours = any(text in one for one in every)
        return ours or any(re.search(".+".join(map(re.escape, parts[::2])), one) for one in FROM_LIBRARIES)

    assert [parts for parts, _ in _table() if not exists(parts)] == []


def test_every_message_for_users_is_in_the_table(said: set[str]) -> None:
    def sample(text: str) -> str:  # a field that is not part of a sentence holds one
        return re.sub(r"(^|\. )\0(?= [A-Z]|$)", r"\1Cancelled.", text).replace("\0", "x")

    sentences = [text for text in said - ENGLISH if re.fullmatch(r"[A-Z\0].*[a-z] .*[.?]", text)]
    assert len(sentences) > 180
    assert [text for text in sentences if translated(sample(text), "ja") == sample(text)] == []


def test_every_part_of_a_message_is_in_the_table(modules: dict[Path, ast.AST]) -> None:
    found = []
    for path, module in modules.items():
        for call in ast.walk(module):
            match call:
                case ast.Call(ast.Name(name), arguments) if name in PARTS and path.name.endswith(PARTS[name][0]):
                    parts = [next(texts(argument)).replace("\0", "x") for argument in arguments]
                    found += [PARTS[name][1].format(p) for p in parts if re.match(r"[^A-Z]*[a-z] [a-z]", p)]
    assert len(found) > 30
    assert [text for text in found if translated(text, "ja") == text and text not in ENGLISH] == []


def test_both_languages_have_the_same_fields() -> None:
    fields = [(set(parts[1::2]), set(re.findall(r"{(\w+)}", japanese))) for parts, japanese in _table()]
    assert [pair for pair in fields if pair[0] != pair[1]] == []
    assert [japanese for _, japanese in _table() if re.search(r"[ぁ-ん][,.:;?!]|[(][ぁ-龠]|\n", japanese)] == []


@pytest.mark.parametrize("message", [error.format_message() for error in CLICK])
def test_common_usage_errors_are_translated(message: str) -> None:
    assert translated(message, "ja") != message


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        (
            "  Profile p. Refreshed on first use from now on. If unused until 2026-12-09 07:05, log in again.",
            "  プロファイル：p。今後、最初に使用したときにトークンを更新します。"
            "2026年12月9日 7:05まで使用しなかった場合は、もう一度ログインしてください。",
        ),
        ("Logged in as Dr. A. 山田 <a@example.com>.", "Dr. A. 山田 <a@example.com>としてログインしました。"),
        (
            "使用できませんでした。 Port 8765 is in use by python3 (pid 1), the login of profile work.",
            "使用できませんでした。ポート8765は、プロファイルworkのログイン（python3 (pid 1)）が使用しています。",
        ),
        (
            "This machine's clock is 1 h 5 min ahead of that of h. Set the clock, or logins and renewals may fail.",
            "このマシンの時計は、hより1時間5分進んでいます。時計を合わせないと、ログインや更新が失敗する可能性があります。",
        ),
        ("使用できません。 コピーしてください：https://h/", "使用できません。コピーしてください：https://h/"),
        ("Profile now is not logged in. And so on.", "Profile now is not logged in. And so on."),
        ("Cancelled. And so on.", "Cancelled. And so on."),
    ],
)
def test_messages_are_translated_with_their_fields_or_not_at_all(english: str, japanese: str) -> None:
    assert translated(english, "ja") == japanese
    assert translated(english, "en") == english


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token", "device_code", "service_app", "api", ""])
@pytest.mark.parametrize(
    ("status", "body"), [(400, ""), (401, '{"error": "invalid_grant", "message": "It. Is. Bad."}')]
)
def test_answers_of_webex_are_translated_around_its_own_words(grant: str, status: int, body: str) -> None:
    headers = {"trackingid": "ROUTERGW_00000000-0000-0000-0000-000000000000"}
    error = read_error(
        Answer(status, httpx.Headers(headers), body.encode(), "webexapis.com"), grant=grant, profile="work"
    )
    message, remedy = translated(f"{error} {error}", "ja"), translated(error.remedy, "ja")
    assert message.startswith("webexapis.com")
    assert message.count("、トラッキングID：ROUTERGW_00000000-") == 2
    assert grant.replace("_", " ") not in message or grant in ("", "api")
    assert not re.search("[a-z] [a-z]", remedy.replace("webex-loopback login -p work --force", ""))


def outputs(monkeypatch: Patch, *arguments: str, code: int) -> list[tuple[str, str]]:
    """Run a command in a Japanese locale and in another one; return what each printed to stdout and stderr."""
    both = []
    monkeypatch.setenv("PYTHONUTF8", "1")
    for locale in ("ja_JP.UTF-8", "C"):
        monkeypatch.setenv("LC_ALL", locale)
        done = command(*arguments, encoding="utf-8")
        assert done.returncode == code, done.stderr
        both.append((re.sub(r"seconds_left.*", "", done.stdout), done.stderr))
    return both


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("arguments", [["token"], ["status"], ["whoami"], ["doctor", "--offline"]])
def test_stdout_is_the_same_in_all_languages(monkeypatch: Patch, arguments: list[str]) -> None:
    japanese, english = outputs(monkeypatch, *arguments, code=0)
    assert japanese == english
    assert japanese[1] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "japanese", "english"),
    [
        (
            ["token"],
            3,
            "default.jsonに保存されたトークンがありません）。\n  `webex-loopback login`を実行してください。",
            "Run `webex",
        ),
        (["logout"], 0, "プロファイルdefaultはログインしていませんでした。\n", "Profile default was not logged in.\n"),
    ],
)
def test_errors_are_in_the_language_of_the_locale(
    monkeypatch: Patch, arguments: list[str], code: int, japanese: str, english: str
) -> None:
    told = outputs(monkeypatch, *arguments, code=code)
    assert [stdout for stdout, _ in told] == ["", ""]
    assert japanese in told[0][1]
    assert english in told[1][1]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "。 " * 100 + "x",
            ". " * 4000,
            "." * 8000,
            "Unexpected error: " + ". : ' `" * 1100,
            "Did you mean x? " * 15 + "zzz.",
        ),
        *("Did you mean " * 600 + "?" * 200, "a (" * 2000 + ") is not safe to use, because " * 60 + "x"),
        *(f"Try again in {number} s." for number in ("9" * 400, "\u0663", "999999")),
    ],
)
def test_any_text_of_a_server_is_translated_at_once(text: str) -> None:
    began = time.perf_counter()
    assert translated(text, "ja")
    assert time.perf_counter() - began < 0.2
