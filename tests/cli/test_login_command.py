"""`login`, `logout` and `import` as commands: what they print, and their exit codes."""

import re
from pathlib import Path

import pytest

from tests.conftest import Patch, Store, Token, posix
from webex_loopback.sandbox import Sandbox

from .conftest import Run, command, on_terminal

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def tokens(run: Run, logged_in: Token, tmp_path: Path) -> Path:
    """A token response of the default profile's login, in a file."""
    run("token", "--format", "token-response", "-o", str(tmp_path / "tokens.json"))
    return tmp_path / "tokens.json"


@pytest.mark.usefixtures("browser", "redirect_uri")
def test_login_says_who_is_logged_in_and_until_when() -> None:
    done = command("login", "-p", "work")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Logged in as Alex Morgan <alex.morgan@example.com>." in done.stderr
    assert re.search(r"Profile work\. Refreshed on first use after .* log in again\.", done.stderr)
    again = command("login", "-p", "work").stderr
    assert "Already logged in as Alex Morgan" in again
    assert "`webex-loopback login -p work --force`" in again


@pytest.mark.usefixtures("browser", "redirect_uri")
def test_login_says_what_is_missing(sandbox: Sandbox, monkeypatch: Patch) -> None:
    sandbox.switches.omit, sandbox.switches.withhold = ["refresh_token"], ["spark:people_read"]
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    told = command("login").stderr
    parts = ["an unknown account (the token does not have spark:people_read).", "cannot be renewed"]
    parts += ["not granted: spark:people_read", "ACCESS_TOKEN is set (env"]
    assert [part for part in parts if part not in told] == []
    assert re.search(r"log in again before \d{4}-", told)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--timeout", "0"], 2, "--timeout must"),
        (["--redirect-uri", "http://127.0.0.1:70000/"], 2, "70000"),
        (["--prompt", "x"], 2, "select_account"),
        (["--no-browser", "--timeout", "0.3"], 4, "`webex-loopback login -p work"),
    ],
)
@pytest.mark.usefixtures("redirect_uri")
def test_a_login_that_fails_says_why(run: Run, options: list[str], code: int, said: str) -> None:
    told = run("login", "-p", "work", *options, code=code).err
    assert (said in told, "Traceback" in told) == (True, False)


def test_logout_removes_the_tokens_and_says_where_to_revoke_them(run: Run, logged_in: Token, store: Store) -> None:
    run("logout", "-p", "", code=2)  # not the default profile
    assert store.load() == logged_in
    told = run("logout").err
    assert "Removed the tokens of profile default" in told
    assert "https://idbroker.webex.com/idb/profile#/tokens" in told
    assert store.load() is None
    assert "was not logged in" in run("logout").err


def test_import_says_what_it_found_and_whose_it_is(run: Run, tokens: Path) -> None:
    told = run("import", str(tokens), "-p", "other").err
    assert "Found a token response." in told
    assert "Imported tokens for Alex Morgan <alex.morgan@example.com>." in told
    run("token", "--refresh", "-p", "other")
    assert "--force" in run("import", str(tokens), "-p", "other", code=2).err
    run("import", str(tokens), "-p", "other", "--force")


def test_import_reads_standard_input(run: Run, monkeypatch: Patch, tokens: Path) -> None:
    assert command("import", "-p", "other", input=tokens.read_text()).returncode == 0
    done = command("import", "-p", "third", input="")
    assert (done.returncode, "Standard input" in done.stderr) == (2, True)

    monkeypatch.setattr("sys.stdin", None)  # closed: `<&-`
    run("import", "-p", "third", code=2)


@posix
def test_import_reads_a_paste_with_lines_longer_than_the_terminal_s(tokens: Path) -> None:
    pasted = tokens.read_text().replace("\n", "").replace("{", f'{{"notes": "{"x" * 5000}",')
    ready = "\x1b[?2004h"  # readline marks the ends of what is pasted
    assert "Imported tokens" in on_terminal("import -p other", ready, pasted, ready, "\x04")


@pytest.mark.parametrize("path", [pytest.param("/dev/zero", marks=posix), "nowhere", ".", "\x1b[31m"])
def test_import_of_what_cannot_be_read(run: Run, path: str) -> None:
    told = run("import", path, code=2).err
    assert ("is too large" in told or "Could not read" in told, "\x1b" in told) == (True, False)
