import contextlib
import io
import json
import os
import re
import stat
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from webex_loopback.cli import init as init_file
from webex_loopback.cli import interview
from webex_loopback.cli.interview import API_BASE_URL, ID, REDIRECT_URI, SCOPES, SECRET, read_answer
from webex_loopback.errors import ConfigurationError
from webex_loopback.secret import Secret
from webex_loopback.settings import load, require

from .conftest import Run, on_terminal, posix, visitor

CLIENT_ID, OTHER_ID = "C" + "0a" * 32, "C" + "0b" * 32
CLIENT_SECRET, OTHER_SECRET = "1c" * 32, "2d" * 32
URI = "http://127.0.0.1:8765/callback"


def portal_url(client_id: str = CLIENT_ID, scopes: str = "spark:kms spark:rooms_read", uri: str = URI) -> str:
    return (
        f"https://webexapis.com/v1/authorize?client_id={client_id}&response_type=code"
        f"&redirect_uri={quote(uri, safe='')}&scope={quote(scopes, safe='')}&state=set_state_here"
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data" / "config.env"


@pytest.fixture
def init(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `init` without a terminal, by default with a client ID and a secret; return what it says."""

    def init(*arguments: str, client_id: str = CLIENT_ID, secret: str = CLIENT_SECRET, code: int = 0) -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{secret}\n"))
        given = ["--client-id", client_id] if client_id else []
        given += ["--client-secret-stdin"] if secret else []
        out, err = run("init", *given, *arguments, code=code)
        assert (out, CLIENT_SECRET in err) == ("", False)
        return str(err)

    return init


# What people paste


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("%20", "+"),
        lambda url: f"  <{url}>\n",
        lambda url: f"OAuth Authorization URL: “{url}”",
        lambda url: url.replace("&scope", "\n  &scope"),
        lambda url: url.replace("&scope", "&\n> scope"),
        lambda url: url.replace("&", "&amp;"),
        lambda url: quote(url, safe=""),
        lambda url: url.replace("https://webexapis.com", "HTTPS://WebexAPIs.com:443"),
    ],
)
def test_an_authorization_url_survives_copying(change: Callable[[str], str]) -> None:
    found = read_answer(ID, Secret(change(portal_url())))
    assert found.pop(API_BASE_URL) == "https://webexapis.com/v1"
    assert found == {ID: CLIENT_ID, SCOPES: "spark:kms spark:rooms_read", REDIRECT_URI: URI}


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (ID, f"Client ID: {CLIENT_ID}", CLIENT_ID),
        (ID, f"クライアント ID：{CLIENT_ID}", CLIENT_ID),
        (ID, f" \u200b`Ｃ{CLIENT_ID[1:]}`\u00a0,", CLIENT_ID),
        (ID, "'abc'", "abc"),
        (SECRET, f"{CLIENT_ID} Client Secret: {CLIENT_SECRET}", CLIENT_SECRET),
        (SCOPES, "2,1；2 4", "spark:kms spark:people_read spark:rooms_write"),
        (SCOPES, "spark-admin:wholesale_billing_read 2", "spark-admin:wholesale_billing_read spark:kms"),
        (SCOPES, "spark%3Akms%20spark%3Aall", "spark:kms spark:all"),
        (SCOPES, portal_url(), "spark:kms spark:rooms_read"),
        (API_BASE_URL, "https://api-usgov.webex.com/v1/", "https://api-usgov.webex.com/v1"),
    ],
)
def test_other_answers_survive_copying(setting: str, text: str, value: str) -> None:
    assert read_answer(setting, Secret(text)) == {setting: value}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (ID, "nonsense://"),
        (ID, "http://webexapis.com/v1/authorize?client_id=x"),
        (ID, "https://webexapis.com.example.com/v1/authorize?client_id=x"),
        (ID, "https://webexapis.com@example.com/v1/authorize?client_id=x"),
        (ID, "ftp://127.0.0.1/v1/authorize?client_id=x"),
        (ID, "http://me@127.0.0.1/v1/authorize?client_id=x"),
        (ID, "https://webexapis.com/v1/authorize?" + "a=b&" * 200 + "client_id=x"),
        (ID, f" {CLIENT_SECRET}."),
        (SECRET, CLIENT_ID),
        (SECRET, "hunter2 hunter3"),
        *((SCOPES, text) for text in (",", "0", "21", "people_read", 'a:"b', "spark:kms \x1b[31m")),
    ],
)
def test_other_answers_are_refused_and_no_secret_is_quoted(setting: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_answer(setting, Secret(text))
    shown = f"{caught.value} {caught.value.remedy} {caught.value.__dict__} {interview.Values({SECRET: 'hunter2'})!r}"
    assert caught.value.setting == setting
    assert not [part for part in ("\x1b", "hunter", CLIENT_ID, CLIENT_SECRET) if part in shown]


@given(st.text(max_size=300))
@example("https://webexapis.com/v1/authorize?client_id=x&scope=\ud800")
def test_any_text_can_be_read_without_an_unexpected_error(text: str) -> None:
    for setting in (ID, SECRET, SCOPES, REDIRECT_URI, API_BASE_URL):
        for candidate in (text, f"https://{text}", f"https://webexapis.com/v1/authorize?{text}"):
            with contextlib.suppress(ConfigurationError):
                assert all(read_answer(setting, Secret(candidate)).values())


def test_both_languages_say_the_same_and_the_menu_fits_on_one_screen() -> None:
    folder = Path(interview.__file__).parent / "texts"
    languages = [json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("en", "ja")]
    shapes = []
    for texts in languages:
        keys = [(section, key) for section, entries in texts.items() for key in entries]
        fields = [re.findall(r"\{(\w+)\}", str(texts[section][key])) for section, key in keys]
        shapes.append([(key, sorted(set(found))) for key, found in zip(keys, fields, strict=True)])
        assert len(texts["scopes"]) + texts["init"]["scopes"].count("\n") + 2 <= 24
        assert max(len(text.encode("shift-jis")) for text in texts["scopes"].values()) + 42 <= 80
    assert shapes[0] == shapes[1]
    assert not set(string.Formatter().parse(str(languages))) & {None}  # no stray brace


# Without a terminal


def test_options_are_enough(init: Callable[..., str], config: Path) -> None:
    told = init("--url", portal_url(OTHER_ID), "--scopes", "a:b,c:d")
    assert (str(config) in told, "`webex-loopback login`" in told) == (True, True)
    current = load()
    require(current)
    assert current.client_id == CLIENT_ID  # an option takes precedence over the URL
    assert current.client_secret.get_secret_value() == CLIENT_SECRET
    assert (current.scope_list, current.redirect_uris) == (["a:b", "c:d"], [URI])
    assert "API_BASE_URL" not in config.read_text()  # it is the default


@pytest.mark.parametrize(
    ("arguments", "given", "named"),
    [
        ([], {"client_id": ""}, "--client-id"),
        ([], {"secret": ""}, "--client-secret-stdin"),
        (["--client-secret-stdin"], {"secret": ""}, "contains no client secret"),
        (["--redirect-uri", f"{URI} http://example.com/"], {}, "WEBEX_REDIRECT_URI"),
        (["--url", "https://example.com/v1/authorize?client_id=x"], {}, "example.com"),
        (["--url", "abc"], {}, "OAuth Authorization URL"),
        ([], {"client_id": "日本"}, "Client ID"),
        (["--api-base-url", "http://example.com/v1"], {}, "http://example.com/v1"),
    ],
)
def test_missing_and_wrong_values_are_named_and_nothing_is_written(
    arguments: list[str], given: dict[str, str], named: str, init: Callable[..., str], config: Path
) -> None:
    assert named in init(*arguments, **given, code=2)
    assert not config.exists()


def test_an_existing_file_is_changed_only_with_force(init: Callable[..., str], config: Path) -> None:
    init()
    before = config.read_bytes()
    init(client_id=OTHER_ID, code=2)
    init("--scopes", "a:b", client_id="", secret="", code=2)
    assert config.read_bytes() == before
    for number, client_id in enumerate((OTHER_ID, CLIENT_ID), 1):
        init("--force", client_id=client_id)
        assert load().client_id == client_id
        assert len(list(config.parent.glob("config.env.bak*"))) == number
    assert config.with_name("config.env.bak").read_bytes() == before
    assert "already contains" in init()
    init("--force", "--api-base-url", "https://api-usgov.webex.com/v1")
    init("--force", "--url", portal_url())  # the default replaces another value
    assert load().token_url == "https://webexapis.com/v1/access_token"


def test_settings_that_choose_where_secrets_go_are_named(
    init: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a cloned repository, for instance, whose core.fsmonitor would be run by git.
    monkeypatch.setattr(subprocess, "Popen", None)
    Path("config.env").write_text("WEBEX_BROWSER=evil\nWEBEX_TOKEN_STORE=postgresql://me:hunter2@h/d\n")
    Path(".git").mkdir()
    told = init("--output", "config.env", "--force")
    assert ("WEBEX_BROWSER=evil" in told, "@h/d" in told, "config.env* to .gitignore" in told) == (True, True, True)
    assert "hunter2" not in told


@posix
def test_a_file_that_is_not_a_text_file_is_refused(init: Callable[..., str]) -> None:
    other = Path("other")
    other.write_text("A=b\n")
    os.mkdir("directory")
    os.mkfifo("fifo")
    os.symlink("other", "link")
    Path("shift-jis").write_bytes("A=日本".encode("shift-jis"))
    before = {name: os.lstat(name).st_ino for name in os.listdir()}
    for path in ("directory", "fifo", "link", "shift-jis", "/dev/null", "other/below-a-file", "/proc/no-room"):
        init("--force", "--output", path, code=2)
    assert {name: os.lstat(name).st_ino for name in os.listdir()} == before
    assert other.read_text() == "A=b\n"


def test_a_named_file_is_written_and_a_found_one_is_not(
    init: Callable[..., str], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config.env").write_text("WEBEX_SCOPES=a:b\n")
    for options in ([], ["--output", "~/elsewhere/my.env"]):
        assert "WEBEX_CONFIG_FILE" in init(*options)  # in the command that is next
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "named.env"))
    init()
    for path in (config, tmp_path / "home" / "elsewhere" / "my.env", tmp_path / "named.env"):
        assert CLIENT_ID in path.read_text()
    assert Path("config.env").read_text() == "WEBEX_SCOPES=a:b\n"


# The file


@posix
def test_files_are_private_from_creation(init: Callable[..., str], config: Path) -> None:
    config.parent.rmdir()
    before = os.umask(0)
    try:
        init()
        config.chmod(0o644)
        init("--force", client_id=OTHER_ID)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (config.parent, config, config.with_name("config.env.bak"))]
    assert modes == [0o700, 0o600, 0o600]


EXISTING = """\
# mine
export WEBEX_CLIENT_ID = "old"   # from Kim
OTHER='x # y'

  webex_client_secret=old
# WEBEX_SCOPES=a:b
MULTI="one
two"
WEBEX_CLIENT_ID=twice
no equals sign"""


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_rest_of_the_file_is_kept(end: str, encoding: str, init: Callable[..., str], config: Path) -> None:
    existing = EXISTING.replace("\n", end or "\n") + end
    config.write_bytes(existing.encode(encoding))
    init("--force", "--scopes", "c:d e:f", "--redirect-uri", URI)
    expected = f"""\
# mine
WEBEX_CLIENT_ID='{CLIENT_ID}'
OTHER='x # y'

  WEBEX_CLIENT_SECRET='{CLIENT_SECRET}'
# WEBEX_SCOPES=a:b
MULTI="one
two"
WEBEX_CLIENT_ID='{CLIENT_ID}'
no equals sign
WEBEX_SCOPES='c:d e:f'
WEBEX_REDIRECT_URI='{URI}'
"""
    assert config.read_bytes().decode() == expected.replace("\n", end or "\n")
    assert config.with_name("config.env.bak").read_bytes().decode() == existing


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(min_size=1).map(str.strip).filter(bool),
    before=st.sampled_from(["", "WEBEX_SCOPES='x'\n", "# WEBEX_SCOPES=x\n", EXISTING]),
)
@example(value="a'b\\c\"d#e $f", before="")
@example(value="${HOME}\\", before="")
def test_a_value_is_read_back_as_it_was_or_refused(value: str, before: str) -> None:
    try:
        text = init_file._updated(before, interview.Values({SCOPES: value}))
    except ConfigurationError:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]", value)
        return
    assert init_file._values(text)[SCOPES] == value


# The interview, on a real terminal


def talk(options: str, *dialogue: str, code: int = 0) -> str:
    shown = on_terminal(f"init {options}", *dialogue, code=code)
    assert CLIENT_SECRET not in shown
    return " ".join(shown.split())


@posix
def test_a_user_without_an_integration_is_guided_to_one(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    opener.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(opener))
    answers = ["Client ID or URL: ", "", "Scopes [spark:people_read spark:kms]: ", "1 2 3", "/callback]: ", URI]
    answers += ["browser? [Y/n]: ", "perhaps", "browser? [Y/n]: ", "y"]
    answers += ["Client ID or URL: ", portal_url(scopes="spark:kms spark:people_read")]
    shown = talk("", *answers, "(not shown): ", CLIENT_SECRET, "Log in now? [Y/n]: ", "n")
    for label in ("Integration name", "Contact email", "Icon", "Description", f"Redirect URI(s) {URI}", "once"):
        assert label in shown
    assert "select spark:people_read spark:kms spark:rooms_read" in shown
    assert "Will this use a mobile SDK? No" in shown
    assert "Answer y or n." in shown
    assert (tmp_path / "opened").read_text() == "https://developer.webex.com/my-apps/new/integration\n"
    require(load())
    assert load().scope_list == ["spark:kms", "spark:people_read"]  # what is registered, not what was intended
    assert load().client_secret.get_secret_value() == CLIENT_SECRET


@posix
def test_wrong_answers_are_asked_for_again() -> None:
    answers = ["URL: ", "https://developer.webex.com/my-apps/x"]
    answers += ["URL: ", "https://example.com/v1/authorize?client_id=x", "URL: ", "C123", "anyway? [y/N]: ", ""]
    answers += ["URL: ", OTHER_SECRET, "URL: ", portal_url(uri="https://example.com/")]
    answers += ["/callback]: ", "http://example.com/", "/callback]: ", "http://127.0.0.1:9000/"]
    answers += ["(not shown): ", "", "(not shown): ", CLIENT_ID, "(not shown): ", "abc", "anyway? [y/N]: ", "y"]
    shown = talk("--no-login", *answers)
    said = ("of the developer portal", "not Webex", "Nothing was entered.", "not on this machine", "64 hexadecimal")
    for words in (*said, "not a Client ID", "not a Client Secret"):
        assert words in shown
    assert load().client_secret.get_secret_value() == "abc"
    assert load().redirect_uris == ["http://127.0.0.1:9000/"]


@posix
@pytest.mark.parametrize(("key", "position"), [("\x03", 0), ("\x04", 1), ("\x03", 2)])
def test_ctrl_c_and_ctrl_d_quit_before_anything_is_changed(
    key: str, position: int, init: Callable[..., str], config: Path
) -> None:
    init(client_id=OTHER_ID)
    before = config.read_bytes()
    dialogue = [f"[{OTHER_ID}]: ", portal_url(), "(not shown): ", CLIENT_SECRET, "in it? [Y/n]: ", ""]
    dialogue[2 * position + 1] = key
    talk("", *dialogue[: 2 * position + 2], code=130)
    assert config.read_bytes() == before
    assert list(config.parent.iterdir()) == [config]


@posix
def test_the_values_in_the_file_are_proposed(init: Callable[..., str], config: Path) -> None:
    init("--scopes", "a:b", "--redirect-uri", "http://localhost:8080/")
    before = config.read_bytes()
    answers = [f"[{CLIENT_ID}]: ", "", "[a:b]: ", "", "[http://localhost:8080/]: ", "", "Enter keeps the one in", ""]
    shown = talk("--no-login", *answers)
    assert ("already contains" in shown, "Without spark:people_read" in shown) == (True, True)
    options = f"--no-login --url '{portal_url(OTHER_ID)}'"  # another Integration has another secret
    assert "Nothing was changed" in talk(options, "(not shown): ", OTHER_SECRET, "in it? [Y/n]: ", "n")
    assert config.read_bytes() == before


@posix
@pytest.mark.parametrize("redirected", ["< /dev/null", "2> /dev/null", "> /dev/null"])
def test_without_a_terminal_nothing_is_asked(redirected: str) -> None:
    assert "[Y/n]" not in talk(f"--client-id {CLIENT_ID} {redirected}", code=2)


@posix
def test_a_secret_typed_on_a_terminal_is_not_shown() -> None:
    talk(f"--client-id {CLIENT_ID} --client-secret-stdin --no-login", "(not shown): ", CLIENT_SECRET)
    assert load().client_secret.get_secret_value() == CLIENT_SECRET


@posix
def test_a_service_app_gets_a_file_of_its_own(config: Path) -> None:
    lines = on_terminal("init --service-app -p acme", "Client ID: ", OTHER_ID, "(not shown): ", OTHER_SECRET).split(
        "\n"
    )
    shown = " ".join(" ".join(lines).split())
    own = config.with_name("acme.env")
    assert OTHER_ID in own.read_text()
    assert not [name for name in ("SCOPES", "REDIRECT_URI") if name in own.read_text()]
    assert not config.exists()
    assert "init --scopes 'spark:people_read spark:applications_token'" in shown
    command = "webex-loopback login -p acme --service-app ORG_ID --using default"
    assert lines[-3:] == ["  webex-loopback login", f"  WEBEX_CONFIG_FILE={own} {command}", ""]  # to be pasted


def test_a_login_can_follow(
    init: Callable[..., str], sandbox: Any, redirect_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the portal's URL to stored tokens; the browser is a person over HTTP."""
    for name in sandbox.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEBEX_BROWSER", visitor(tmp_path))
    url = portal_url(sandbox.client_id, "spark:people_read", redirect_uri)
    url = url.replace("https://webexapis.com/v1", sandbox.base_url)
    for where in ("--output=config.env", "--output=my.env"):
        init("--login", where, "--url", url, client_id="", secret=sandbox.client_secret)
        (tmp_path / "data" / "tokens" / "default.json").unlink()
        Path("config.env").unlink(missing_ok=True)
