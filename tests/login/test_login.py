"""`log_in()`, `log_out()` and `adopt()`: what is checked first, who is logged in already, who else logs in."""

import asyncio
import contextlib
import dataclasses
import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from tests.journeys.attack import wait_until
from tests.login.visitors import Visitor, nobody
from webex_loopback import errors
from webex_loopback.cli.formats import Imported
from webex_loopback.login.adopt import adopt
from webex_loopback.login.login import LoginResult, log_in, log_out
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import DAY, StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.lock import hold_lock
from webex_loopback.webex import worker

pytestmark = pytest.mark.usefixtures("redirect_uri")
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, owners and signals as POSIX has them")


# What is checked before anything is opened


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("WEBEX_CLIENT_ID", ""),
        ("WEBEX_REDIRECT_URI", "http://127.0.0.1:8765/callback http://10.0.0.1/"),
        ("WEBEX_PROFILE", "../x"),
        ("WEBEX_CA_BUNDLE", "/nowhere.pem"),
        ("SSL_CERT_FILE", "/dev/null"),
    ],
)
def test_settings_are_checked_before_anything_is_opened(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(errors.ConfigurationError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.setting == setting
    assert not (tmp_path / "data").exists()


@posix
@pytest.mark.parametrize("place", ["", "/tokens", "/tokens/default.json.login.lock/x", "/tokens/.default.json.new/x"])
def test_a_directory_that_cannot_be_written_is_reported_before_a_browser_is_opened(tmp_path: Path, place: str) -> None:
    path = Path(f"{tmp_path}/data{place}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    with pytest.raises(errors.TokenStoreError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.exit_code == 6


def test_both_locks_are_in_the_lock_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", str(tmp_path / "locks"))
    log_in(open_browser=Visitor())
    assert [path.name for path in (tmp_path / "data" / "tokens").iterdir()] == ["default.json"]
    assert len(list((tmp_path / "locks").iterdir())) == 2


def test_the_next_redirect_uri_is_used_if_the_first_port_is_taken(
    sandbox: Sandbox, redirect_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        both = f"http://127.0.0.1:{port}/callback, {redirect_uri}"
        assert log_in(redirect_uri=both, open_browser=Visitor()).how == "browser"
        assert f"Port {port} is in use" in capsys.readouterr().err
        with pytest.raises(errors.LoginFailed, match=f"Port {port} is in use") as caught:
            log_in(redirect_uri=f"http://127.0.0.1:{port}/callback", open_browser=nobody, force=True)
    assert "WEBEX_REDIRECT_URI" in caught.value.remedy
    assert sandbox.count("authorization_code") == 1


def test_warnings_about_the_settings_and_their_language_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.env").write_text("WEBEX_LANG=ja\nnot a setting\n")
    Path("config.env").chmod(0o600)
    log_in(open_browser=Visitor())
    told = capsys.readouterr().err
    assert "config.env:2：NAME=value" in told
    assert "✓ トークンを保存しました" in told


def test_the_server_is_imported_after_the_browser_has_been_opened() -> None:
    late = ("aiohttp", "httpx", "cryptography", "segno", "webex_loopback.tokens.renewal", "webex_loopback.webex.client")
    program = f"import sys, webex_loopback.login.login; print([name for name in {late} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b"[]"


# Which browser

SSH = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 2222"}


@pytest.mark.parametrize(
    ("environ", "arguments", "shown"),
    [
        # Windows opens its default browser then.
        pytest.param({"BROWSER": "/nowhere/x"}, {}, "'/nowhere/x' ($BROWSER) was not found", marks=posix),
        ({"WEBEX_BROWSER": "/nowhere/x"}, {}, "'/nowhere/x' (WEBEX_BROWSER) was not found"),
        ({"WEBEX_BROWSER": "/nowhere/x"}, {"browser": "lynx"}, "'lynx' (--browser) was not found"),
        (SSH, {}, "SSH session"),
        (SSH, {"open_browser": False}, "ssh -L {port}:127.0.0.1:{port} -p 2222 "),
    ],
)
def test_without_a_browser_it_says_why_and_how_to_continue(
    redirect_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environ: dict[str, str],
    arguments: dict[str, Any],
    shown: str,
) -> None:
    for name, value in ({"PATH": "/nowhere"} | environ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.LoginFailed):
        log_in(timeout_seconds=0.1, **arguments)
    told = capsys.readouterr().err
    assert shown.replace("{port}", str(urlsplit(redirect_uri).port)) in told
    assert f"  {redirect_uri.removesuffix('/callback')}/start/" in told
    assert "paste" not in told  # stdin is not a terminal


# Who is logged in already


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({}, "already"),
        ({"scopes": "spark:kms,spark:people_read"}, "already"),
        ({"scopes": "spark:people_read"}, "browser"),
        ({"force": True}, "browser"),
        ({"login_hint": "alex.morgan@example.com"}, "browser"),
        ({"prompt": "select_account"}, "browser"),
    ],
)
def test_a_browser_is_opened_only_if_that_is_needed_or_asked_for(
    changes: Any, how: str, logged_in: StoredToken
) -> None:
    result = log_in(open_browser=Visitor() if how == "browser" else nobody, **changes)
    assert (result.how, result.token == logged_in) == (how, how == "already")


def test_a_stored_token_is_sent_only_where_it_comes_from(
    logged_in: StoredToken, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, redirect_uri: str
) -> None:
    with Sandbox() as other:
        other.redirect_uris.append(redirect_uri)
        monkeypatch.setenv("WEBEX_API_BASE_URL", other.base_url)
        assert log_in(open_browser=Visitor()).how == "browser"
        assert other.count("/v1/people/me") == 1  # with the new token, after the login


@pytest.mark.skipif(sys.platform == "win32", reason="Wine accepts certificates of an unknown issuer")
def test_a_stored_token_is_sent_with_the_certificates_of_its_login(
    logged_in: StoredToken, store: FileTokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other, served, config = (str(tmp_path / name) for name in ("own.pem", "other.pem", "served.pem", "named.env"))
    for path in (other, own):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(path)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(served)
    Path(config).write_text(f"WEBEX_CA_BUNDLE={other}\n")
    monkeypatch.setenv("WEBEX_CONFIG_FILE", config)
    with Sandbox(tls=(served, served)) as sandbox:
        monkeypatch.setenv("WEBEX_API_BASE_URL", sandbox.base_url)
        api, exchange = sandbox.base_url, f"{sandbox.base_url}/access_token"
        with store.lock():
            store.save(dataclasses.replace(logged_in, api_base_url=api, token_url=exchange, ca_bundle=own))
        sandbox.switches.update({"api_faults": ["500"]})  # which says nothing about the token
        assert log_in(open_browser=nobody).how == "already"


@pytest.mark.parametrize(
    ("switches", "due", "how"),
    [
        ({"api_faults": ["empty400"]}, False, "browser"),
        ({"api_faults": ["reset"] * 3}, False, "browser"),
        ({"api_faults": ["500"]}, False, "already"),  # a fault at Webex says nothing about the token
        ({"api_faults": ["429"]}, False, "already"),
        ({}, True, "already"),
        ({"dead_refresh_token": "invalid_grant"}, True, "browser"),
    ],
)
@pytest.mark.usefixtures("logged_in")
def test_webex_decides_whether_the_stored_token_is_still_good(
    sandbox: Sandbox, make_due: Callable[..., StoredToken], store: FileTokenStore, switches: Any, due: bool, how: str
) -> None:
    old = make_due() if due else store.load()
    sandbox.switches.update(switches)
    result = log_in(open_browser=Visitor())
    assert (result.token, result.how) == (store.load(), how)
    assert (result.token != old) is (due or how == "browser")
    assert sandbox.count("refresh_token") == due


# Two logins at a time


@contextlib.contextmanager
def another_login(store: FileTokenStore) -> Iterator[None]:
    """Be another process that logs in, as far as its lock can tell."""
    with hold_lock(f"{store.path}.login.lock", 0):
        yield


def waiting(login: "Future[LoginResult]", capsys: pytest.CaptureFixture[str]) -> str:
    told = ""
    until = time.monotonic() + 10
    while "to finish" not in told:
        assert time.monotonic() < until
        assert not login.done(), login.result()
        told += capsys.readouterr().err
        time.sleep(0.02)
    return told


def test_a_second_login_waits_for_the_first_and_takes_its_token(
    sandbox: Sandbox, redirect_uri: str, store: FileTokenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    urls: queue.Queue[str] = queue.Queue()
    first = worker.start(lambda: log_in(open_browser=urls.put))
    url = urls.get(timeout=10)
    second = worker.start(lambda: log_in(open_browser=nobody))
    place = f"on port {urlsplit(redirect_uri).port} (pid {os.getpid()})"
    assert f"Another login for profile default is in progress {place}" in waiting(second, capsys)
    assert sys.platform == "win32" or os.stat(f"{store.path}.login").st_mode & 0o777 == 0o600  # doctor looks at it
    Person().visit(url)
    assert first.result(10).how == "browser"
    assert second.result(10).how == "other"
    assert second.result().token == first.result().token
    assert sandbox.count("authorization_code") == 1


def test_a_login_waits_for_one_that_has_not_said_where_it_waits(
    store: FileTokenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_login(store), pytest.raises(errors.TokenStoreError) as caught:
        log_in(timeout_seconds=0.3, open_browser=nobody)
    assert caught.value.problem == "locked"
    assert "is in progress in another process. Waiting" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"scopes": "spark:people_read"}, {"login_hint": "hanako.yamada@example.com"}])
def test_a_second_login_with_other_scopes_or_account_logs_in_itself(
    changes: Any, logged_in: StoredToken, store: FileTokenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_login(store):
        second = worker.start(lambda: log_in(open_browser=Visitor(), **changes))
        waiting(second, capsys)
        with store.lock():
            store.save(dataclasses.replace(logged_in, access_token=Secret("newer")))
    assert second.result(10).how == "browser"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to tell who holds a port")
def test_a_port_that_another_profile_waits_on_is_reported_with_its_name(redirect_uri: str) -> None:
    urls: queue.Queue[str] = queue.Queue()
    first = worker.start(lambda: log_in("work", open_browser=urls.put))
    url = urls.get(timeout=10)
    with pytest.raises(errors.LoginFailed, match="the login of profile work"):
        log_in("home", open_browser=nobody)
    Person().visit(url)
    assert first.result(10).how == "browser"


# A record that is in the way


def test_a_corrupt_file_is_set_aside_when_it_is_replaced(
    store: FileTokenStore, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(store.path).parent.mkdir(parents=True, mode=0o700)
    Path(store.path).write_text("{")
    with pytest.raises(errors.AuthorizationDenied):
        log_in(open_browser=Visitor(decision="decline"))
    assert Path(store.path).read_text() == "{"
    result = log_in(open_browser=Visitor())
    assert store.load() == result.token
    (aside,) = Path(store.path).parent.glob("default.json.corrupt-*")
    assert aside.read_text() == "{"
    assert f"It was moved to {aside}." in capsys.readouterr().err
    Path(store.path).write_text("{")
    assert adopt("default", an_import(result.token.access_token)) == store.load()


@posix
@pytest.mark.parametrize("problem", ["future", "foreign"])
def test_a_file_of_a_newer_version_or_another_user_needs_force(
    problem: str, store: FileTokenStore, make_token: Callable[..., StoredToken], capsys: pytest.CaptureFixture[str]
) -> None:
    store.save(make_token())
    path = Path(store.path)
    if problem == "future":
        path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    elif os.geteuid():
        pytest.skip("Only root can give a file away.")
    else:
        os.chown(path, 12_345, 12_345)
    before = path.read_bytes()
    for action in (lambda: log_in(open_browser=nobody), lambda: adopt("default", an_import("x"))):
        with pytest.raises(errors.TokenStoreError) as caught:
            action()
        assert caught.value.problem == problem
        assert "--force" in caught.value.remedy
    assert path.read_bytes() == before
    log_in(open_browser=Visitor(), force=True)
    (aside,) = path.parent.glob(f"default.json.{problem}-*")
    assert aside.read_bytes() == before
    assert str(aside) in capsys.readouterr().err


# Logging out


def test_logging_out_removes_the_token_and_everything_that_held_one(
    logged_in: StoredToken, store: FileTokenStore, sandbox: Sandbox
) -> None:
    folder = Path(store.path).parent
    for name in ("default.json.corrupt-20261126T050000", ".default.json.new", "other.json"):
        (folder / name).write_text("x")
    before = len(sandbox.requests)
    assert log_out() == (logged_in, "")
    left = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert left == {"other.json"}
    for unreadable in ("{", '{"version": 9}'):
        Path(store.path).write_text(unreadable)
        assert log_out() == (None, store.path)
    assert log_out() == (None, "")
    assert len(sandbox.requests) == before  # nothing is revoked


def test_logout_removes_the_file_from_before_another_store_was_set(
    logged_in: StoredToken, store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = pytest.importorskip("keyring")
    from tests.tokens.test_keyring_store import Dictionary

    before = keyring.get_keyring()
    keyring.set_keyring(Dictionary())
    try:
        monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
        assert log_out()[0] == logged_in
    finally:
        keyring.set_keyring(before)
    assert store.load() is None


def test_a_logout_while_the_account_is_looked_up_takes_precedence(sandbox: Sandbox, store: FileTokenStore) -> None:
    sandbox.switches.api_faults = ["slow:1"]
    login = worker.start(lambda: log_in(open_browser=Visitor()))
    wait_until(lambda: sandbox.count("/v1/people/me"))
    log_out()
    assert login.result(10).token.account.email == "alex.morgan@example.com"
    assert store.load() is None


# Importing


def an_import(access_token: Any, **others: Any) -> Imported:
    value = access_token if isinstance(access_token, Secret) else Secret(access_token)
    return Imported(kind="a token response", access_token=value, **others)


@pytest.fixture
def issued(sandbox: Sandbox, redirect_uri: str) -> StoredToken:
    """Tokens that another tool has obtained."""
    token = log_in("other", open_browser=Visitor(email="hanako.yamada@example.com")).token
    log_out("other")
    return token


def test_the_time_left_of_an_imported_token_is_not_taken_for_its_lifetime(issued: StoredToken) -> None:
    for days, lifetime in ((2, 14), (20, 20)):
        imported = an_import(issued.access_token, expires_at=int(time.time()) + days * DAY)
        token = adopt("default", imported, force=True)
        assert round(((token.expires_at or 0) - token.issued_at) / DAY) == lifetime


def test_imported_tokens_are_checked_and_saved(issued: StoredToken, store: FileTokenStore) -> None:
    imported = an_import(
        issued.access_token,
        refresh_token=issued.refresh_token,
        expires_at=issued.expires_at,
        refresh_token_expires_at=issued.refresh_token_expires_at,
        scopes=["spark:people_read"],
    )
    stored = adopt("default", imported)
    assert stored == store.load()
    assert stored.account.email == "hanako.yamada@example.com"
    assert (stored.expires_at, stored.granted) == (issued.expires_at, ["spark:people_read"])
    assert (stored.client_id, stored.can_renew) == (issued.client_id, True)
    with pytest.raises(errors.ConfigurationError, match="already logged in"):
        adopt("default", imported)
    assert adopt("default", imported, force=True).access_token == issued.access_token


def test_a_client_secret_does_not_go_with_another_client_id(issued: StoredToken) -> None:
    stored = adopt("default", an_import(issued.access_token, client_id="C" + "9" * 64))
    assert (stored.client_id, stored.client_secret) == ("C" + "9" * 64, Secret())
    own = adopt("default", an_import(issued.access_token, client_id="C9", client_secret=Secret("s")), force=True)
    assert own.client_secret == Secret("s")


def test_an_expired_access_token_is_renewed_before_it_is_saved(
    issued: StoredToken, sandbox: Sandbox, store: FileTokenStore
) -> None:
    stored = adopt("default", an_import("expired", refresh_token=issued.refresh_token, expires_at=1))
    assert stored == store.load()
    assert stored.account.email == "hanako.yamada@example.com"
    assert sandbox.count("refresh_token", status=200) == 1


@pytest.mark.parametrize(
    ("others", "fault", "kind"),
    [
        ({}, "", errors.LoginRequired),
        ({"refresh_token": Secret("dead")}, "", errors.LoginRequired),
        ({}, "500", errors.TokenEndpointError),
        ({}, "html", errors.ServerUnreachable),
    ],
)
def test_tokens_that_are_not_accepted_replace_nothing(
    logged_in: StoredToken,
    sandbox: Sandbox,
    store: FileTokenStore,
    others: dict[str, Any],
    fault: str,
    kind: type[Exception],
) -> None:
    sandbox.switches.api_faults = [fault] if fault else []
    with pytest.raises(kind) as caught:
        adopt("default", an_import("rejected", **others), force=True)
    assert store.load() == logged_in
    if kind is errors.LoginRequired:
        assert "Nothing was replaced" in str(caught.value)


def test_a_found_file_does_not_get_imported_tokens(sandbox: Sandbox, issued: StoredToken) -> None:
    Path("config.env").write_text("WEBEX_CA_BUNDLE=/etc/hosts\n")
    with pytest.raises(errors.ConfigurationError, match="the imported token"):
        adopt("default", an_import(issued.access_token))


# Where an event loop runs (Jupyter), and from get_token()


def test_a_login_while_an_event_loop_is_running() -> None:
    async def cell(decision: str) -> str:
        return log_in(open_browser=Visitor(decision=decision), force=True).how

    assert asyncio.run(cell("allow")) == "browser"
    with pytest.raises(errors.AuthorizationDenied):
        asyncio.run(cell("decline"))
