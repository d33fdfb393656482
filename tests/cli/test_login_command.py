"""`login`, `logout` and `import` as commands: what they print, and their exit codes."""

import re
from pathlib import Path

import pytest

from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .conftest import Run, command, posix, visitor

pytestmark = pytest.mark.usefixtures("sandbox")


@pytest.fixture
def browser(tmp_path: Path, redirect_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is a person who logs in and approves."""
    monkeypatch.setenv("WEBEX_BROWSER", visitor(tmp_path))


@pytest.fixture
def tokens(run: Run, logged_in: StoredToken, tmp_path: Path) -> Path:
    """A token response of the default profile's login, in a file."""
    run("token", "--format", "token-response", "-o", str(tmp_path / "tokens.json"))
    return tmp_path / "tokens.json"


@pytest.mark.usefixtures("browser")
def test_login_says_who_is_logged_in_and_until_when() -> None:
    done = command("login", "-p", "work")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Logged in as Alex Morgan <alex.morgan@example.com>." in done.stderr
    assert re.search(r"Profile work\. Refreshed on first use after .* log in again\.", done.stderr)
    again = command("login", "-p", "work").stderr
    assert "Already logged in as Alex Morgan" in again
    assert "`webex-loopback login -p work --force`" in again


@pytest.mark.usefixtures("browser")
def test_login_says_what_is_missing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.switches.omit, sandbox.switches.withhold = ["refresh_token"], ["spark:people_read"]
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    told = command("login").stderr
    parts = (
        "an unknown account (the token does not have spark:people_read).",
        "cannot be renewed",
        "not granted: spark:people_read",
        "ACCESS_TOKEN is set (env",
    )
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


def test_logout_removes_the_tokens_and_says_where_to_revoke_them(
    run: Run, logged_in: StoredToken, store: FileTokenStore
) -> None:
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
    assert "Imported the tokens of Alex Morgan <alex.morgan@example.com>." in told
    run("token", "--refresh", "-p", "other")
    assert "--force" in run("import", str(tokens), "-p", "other", code=2).err
    run("import", str(tokens), "-p", "other", "--force")


def test_import_reads_standard_input(tokens: Path) -> None:
    assert command("import", "-p", "other", input=tokens.read_text()).returncode == 0
    done = command("import", "-p", "third", input="")
    assert (done.returncode, "Standard input" in done.stderr) == (2, True)


def test_import_without_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch, tokens: Path) -> None:
    monkeypatch.setattr("sys.stdin", None)  # closed: `<&-`
    run("import", str(tokens), "-p", "other")
    run("import", "-p", "third", code=2)


@pytest.mark.parametrize("path", [pytest.param("/dev/zero", marks=posix), "nowhere", ".", "\x1b[31m"])
def test_import_of_what_cannot_be_read(run: Run, path: str) -> None:
    told = run("import", path, code=2).err
    assert ("is too large" in told or "Could not read" in told, "\x1b" in told) == (True, False)
