"""The documentation is true: commands and code run against the sandbox, links resolve, names and messages exist."""

import ast
import asyncio
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dotenv.parser import parse_stream

import webex_loopback
from tests.conftest import Make
from webex_loopback.cli.app import COMMANDS, cli
from webex_loopback.cli.formats import write
from webex_loopback.sandbox import Sandbox
from webex_loopback.sandbox.__main__ import parser
from webex_loopback.settings import ENVIRONMENT_ONLY, Settings
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Shell blocks with these are only parsed: they install this project, need another system, or have tests of their own.
NOT_RUN = re.compile(
    r"^\s*(git|make|\.venv|python3 -m venv|uv|pipx|pip|systemctl|loginctl|launchctl|mkcert|ssh|docker|createdb|psql"
    r"|sudo|webex-loopback (sandbox|demo))\b",
    re.MULTILINE,
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=name_of)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    return FENCE.sub("", read(page))


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Return line number and content of each code block in one of these languages."""
    found = [match for match in FENCE.finditer(read(page)) if match[1] in languages]
    return [(match.string.count("\n", 0, match.start()) + 1, match[2]) for match in found]


def runnable(page: Path) -> list[str]:
    return [f"echo 'line {line}' >&2\n{code}" for line, code in blocks(page, "sh") if not NOT_RUN.search(code)]


def run(*command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)


def at(sandbox: Sandbox, code: str) -> str:
    return code.replace("https://webexapis.com/v1", sandbox.base_url).replace("http://127.0.0.1:8780", sandbox.origin)


# Code


@each(PAGES)
def test_shell_blocks_contain_commands_only(page: Path) -> None:
    for line, code in blocks(page, "sh", "powershell", "console"):
        assert not re.search(r"^(\$|>|PS>) ", code, re.MULTILINE), f"{line}: a prompt cannot be pasted"
        assert not re.search(r"[^\n] #(?!\d)", code), f"{line}: zsh passes a comment on as arguments"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@each(PAGES)
def test_shell_blocks_parse(page: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    for line, code in blocks(page, "sh"):
        done = run(shell, "-n", input=code)
        assert (done.returncode, done.stderr) == (0, ""), line


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="needs bash and curl")
@pytest.mark.usefixtures("browser")
@each([page for page in PAGES if runnable(page)])
def test_the_commands_of_a_page_run(
    page: Path, logged_in: StoredToken, sandbox: Sandbox, redirect_uri: str, tmp_path: Path
) -> None:
    settings = sandbox.environment(redirect_uri) | {"WEBEX_SCOPES": " ".join(sandbox.scopes)}
    config = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    tokens = write("token-response", logged_in.access_token.get_secret_value(), logged_in, time.time())
    files = {"data/config.env": config, "work/config.env": config, "work/token.json": tokens, "work/my_bot.py": ""}
    files["work/sandbox.env"] = config
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    environ = settings | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path / "home"),
        "WEBEX_LOOPBACK_HOME": str(tmp_path / "data"),
        "WEBEX_BROWSER": os.environ["WEBEX_BROWSER"],
        "WEBHOOK_URL": sandbox.origin,
    }
    # A reader works through the page in one shell, logged in with all scopes.
    code = "\n".join(["set -eo pipefail\nwebex-loopback login --force", *runnable(page)])
    done = run("bash", "-c", at(sandbox, code), env=environ, cwd=tmp_path / "work", input="")
    assert done.returncode == 0, done.stderr[-2000:]


EXAMPLES = {
    f"{page.name}:{line}": code
    for page in (README, ROOT / "docs" / "python.md")
    for line, code in blocks(page, "python")
    if not read(page).splitlines()[line - 2].startswith("<!-- not run")
}
TESTS = [where for where, code in EXAMPLES.items() if "def test_" in code]


@pytest.mark.usefixtures("browser", "logged_in")
@pytest.mark.parametrize("where", [where for where in EXAMPLES if where not in TESTS])
def test_an_example_in_python_runs(where: str, sandbox: Sandbox, redirect_uri: str, capsys: Any) -> None:
    for needed in re.findall("wxc_sdk|webexpythonsdk|trio", EXAMPLES[where]):
        pytest.importorskip(needed, reason=f"{needed} is not installed: not every SDK supports every Python")
    code = at(sandbox, EXAMPLES[where])
    code = code.replace("Sandbox(", f"Sandbox(redirect_uris=[{redirect_uri!r}], ")  # the default port may be in use
    compiled = compile(code, "example.py", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with warnings.catch_warnings():
        # wxc_sdk derives from aiohttp's session, and gives it attributes of its own.
        warnings.filterwarnings("ignore", "Inheritance class|Setting custom ClientSession", DeprecationWarning)
        waiting = eval(compiled, {"__name__": "example"})
        if waiting is not None:
            asyncio.run(waiting)
    assert ("Alex Morgan\n" in capsys.readouterr().out) is bool(re.search("print.*display_?[nN]ame", code))


@pytest.mark.parametrize("where", TESTS)
def test_an_example_of_a_test_passes(where: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(EXAMPLES[where])
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=EXAMPLES[where].count("def test_"))


KEEPALIVE = ROOT / "docs" / "keepalive.md"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")
@pytest.mark.parametrize("state", ["fine", "expires in a day", "logged out"])
def test_the_keepalive_script_reports_what_a_person_has_to_do(
    state: str, logged_in: StoredToken, save: Make, store: FileTokenStore, sandbox: Sandbox, tmp_path: Path
) -> None:
    if state == "expires in a day":
        save(dataclasses.replace(logged_in, refresh_token_expires_at=int(time.time()) + 86_400))
    if state == "logged out":
        store.delete()
    (script,) = [code for _, code in blocks(KEEPALIVE, "sh") if "mail" in code]
    script = script.replace("/home/you/.local/bin", f"{tmp_path}:{Path(sys.executable).parent}")
    sent = tmp_path / "sent"
    for name, text in {"keepalive": script, "mail": f'#!/bin/sh\necho "$@" > {sent}\ncat >> {sent}\n'}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o700)
    done = run(str(tmp_path / "keepalive"))
    assert (done.returncode, done.stdout, done.stderr) == (state != "fine", "", "")
    mail = read(sent) if sent.exists() else ""
    assert ("you@example.com" in mail, "`webex-loopback login" in mail) == (state != "fine", state != "fine")
    assert not any(secret in mail for secret in sandbox.secrets)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    (_, service), (_, timer) = blocks(KEEPALIVE, "ini")
    (tmp_path / "webex-keepalive.service").write_text(service.replace("%h/.local/bin/webex-keepalive", sys.executable))
    (tmp_path / "webex-keepalive.timer").write_text(timer)
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = run("systemd-analyze", "--user", "verify", str(tmp_path / "webex-keepalive.timer"), env=environ)
    assert (done.returncode, done.stderr) == (0, "")


# Names


@each(PAGES)
def test_settings_exist(page: Path) -> None:
    known = {f"WEBEX_{field.upper()}" for field in Settings.model_fields} | set(ENVIRONMENT_ONLY)
    assert set(re.findall(r"\bWEBEX_[A-Z][A-Z_]*[A-Z]\b", read(page))) <= known
    for _, code in blocks(page, "ini"):
        if "WEBEX_" in code:
            assert all(not binding.error and binding.key in known for binding in parse_stream(io.StringIO(code)))


def typed(page: Path) -> str:
    """Return everything on a page that stands for a command line."""
    code = [text for _, text in blocks(page, "sh", "powershell")] + re.findall(r"`([^`\n]*)`", prose(page))
    return "\n".join(code).replace("\\\n", " ")


@each(PAGES)
def test_commands_and_options_exist(page: Path) -> None:
    root = cli.make_context("webex-loopback", [], resilient_parsing=True)
    for use in re.findall(r"(?<![\w/.'-])(?<!inject )webex-loopback ([^\n|)\"#>&;]+)", typed(page)):
        name, *words = [word for word in use.partition(" -- ")[0].split() if word != "--debug"]
        if name == "COMMAND" or name.startswith("-"):
            continue
        assert name in COMMANDS, use
        command = cli.get_command(root, name)
        assert command is not None
        options = {text for option in command.params for text in (*option.opts, *option.secondary_opts)} | {"--help"}
        if name == "sandbox":
            options |= {text for action in parser()._actions for text in action.option_strings}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)} <= options, use


@each(PAGES)
def test_make_targets_exist(page: Path) -> None:
    known = re.findall(r"^([a-z-]+):.*##", read(ROOT / "Makefile"), re.MULTILINE)
    assert set(re.findall(r"^make (?:\w+=\S+ )?([a-z-]+)", typed(page), re.MULTILINE)) <= set(known)


def test_every_public_name_is_documented() -> None:
    text = "".join(read(page) for page in PAGES if page.parent == ROOT / "docs")
    assert [name for name in vars(webex_loopback)["__all__"] if not re.search(rf"\b{name}\b", text)] == []


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[(.*?)\]", read(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", webex_loopback.__version__]


def texts() -> Iterator[str]:
    """Yield every string of the product, with "…" in place of values."""
    for file in (ROOT / "webex_loopback").rglob("*.json"):
        yield re.sub(r"\{\w+\}", "…", json.dumps(json.loads(read(file)), ensure_ascii=False))
    for file in (ROOT / "webex_loopback").rglob("*.py"):
        for node in ast.walk(ast.parse(read(file))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            constants = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
            yield re.sub(r"%[sag]|\{[\w!]*\}", "…", "".join(text for text in constants if isinstance(text, str)))


def test_the_troubleshooting_page_quotes_the_messages_as_they_are() -> None:
    messages = re.findall(r"^### `(.*)`$", read(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    fragments = {part.strip() for message in messages for part in message.split("…") if len(part.strip()) > 3}
    product = "\n".join(texts())
    assert sorted(part for part in fragments if part not in product) == []


# Links


def anchors(page: Path) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = "".join(c for c in text if c.isalnum() or c in " -_").replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return found


def targets(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))


@each(PAGES)
def test_links_resolve_and_pictures_are_described(page: Path) -> None:
    broken = []
    for target in targets(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not target.startswith("https://") and not (file.exists() and (not anchor or anchor in anchors(file))):
            broken.append(target)
    assert broken == []
    assert all(len(words) > 10 for words in re.findall(r"!\[([^\]]*)\]", prose(page)))


def test_the_readme_is_short_and_links_every_page_once() -> None:
    assert read(README).count("\n") <= 250
    linked = [target for target in targets(README) if target.startswith("docs/") and target.endswith(".md")]
    pages = [name_of(page) for page in PAGES if page.parent == ROOT / "docs"]
    assert sorted(linked) == [name for name in pages if not name.endswith(".ja.md")]


@pytest.mark.parametrize("name", ["README", "docs/from-postman"])
def test_the_japanese_page_has_the_same_sections_settings_and_code(name: str) -> None:
    english, japanese = (ROOT / f"{name}{end}" for end in (".md", ".ja.md"))
    levels = [re.findall(r"^(#+) ", prose(page), re.MULTILINE) for page in (english, japanese)]
    assert levels[0] == levels[1]
    assert set(re.findall(r"`WEBEX_\w+", read(english))) <= set(re.findall(r"`WEBEX_\w+", read(japanese)))
    for language in ("python", "sh", "powershell", "ini"):
        assert [code for _, code in blocks(english, language)] == [code for _, code in blocks(japanese, language)]
