"""The demo: it ends well whatever there is, and leaves everything as it was."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from webex_loopback.demo import show
from webex_loopback.errors import AuthorizationDenied
from webex_loopback.token import StoredToken

NONSENSE = {
    "WEBEX_CLIENT_ID": "mine",
    "webex_client_id": "mine, in lower case",
    "webex_login_timeout": "never",
    "WEBEX_CLIENT_SECRET": "my-own-secret",
    "WEBEX_SCOPES": '"',
    "WEBEX_REDIRECT_URI": "ftp://nowhere",
    "WEBEX_API_BASE_URL": "https://192.0.2.1/v1",
    "WEBEX_LOGIN_TIMEOUT": "never",
    "WEBEX_ACCESS_TOKEN": "my-own-token",
    "WEBEX_PROFILE": "../mine",
    "WEBEX_CONFIG_FILE": "/nowhere/config.env",
    "WEBEX_LOCK_DIR": "/nowhere",
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NONSENSE.items():
        monkeypatch.setenv(name, value)
    Path("config.env").write_text("WEBEX_ACCESS_TOKEN=my-own-token\nWEBEX_CLIENT_ID=mine\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "config.env").write_text("WEBEX_SCOPES=mine\n")
    before = files(tmp_path)
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "webex_loopback", "demo"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 10
    assert files(tmp_path) == before
    for line in (
        "This demo plays the person's part over HTTP",
        "Alex Morgan <alex.morgan@example.com>",
        "a new access token; the sandbox counted 1 refresh",
        "Refresh token",
        "from webex_loopback import get_token",
    ):
        assert line in done.stdout
    assert "my-own" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in NONSENSE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DISPLAY", ":99")  # --no-browser means it
    monkeypatch.setenv("BROWSER", "/bin/false")
    before = dict(os.environ)
    show(no_browser=True)
    assert dict(os.environ) == before
    told = capsys.readouterr().out
    assert "No browser is opened (--no-browser)." in told


def test_the_person_s_own_browser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nfrom webex_loopback.sandbox import Person\n"
        "Person(email='hanako.yamada@example.com').visit(sys.argv[1])\n"
    )
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    show()
    told = capsys.readouterr().out
    assert "Your browser opens on the sandbox's pages" in told
    assert "山田 花子 <hanako.yamada@example.com>" in told


def test_a_demo_that_fails_puts_everything_back_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nfrom webex_loopback.sandbox import Person\n"
        "Person(decision='decline').visit(sys.argv[1])\n"
    )
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    before = dict(os.environ)
    with pytest.raises(AuthorizationDenied):
        show()
    assert dict(os.environ) == before


def test_the_demo_leaves_a_login_alone(logged_in: StoredToken, tmp_path: Path) -> None:
    before = files(tmp_path / "state")
    show(no_browser=True)
    assert files(tmp_path / "state") == before
