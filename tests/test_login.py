"""`log_in()` and `log_out()` in this process, against the sandbox, a person coming over HTTP."""

import asyncio
import contextlib
import http.client
import os
import queue
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import trustme
from attack import in_thread

from webex_loopback import get_token
from webex_loopback.browser_login import MOST_IGNORED_LINES
from webex_loopback.errors import (
    AuthorizationDenied,
    ConfigurationError,
    LoginFailed,
    LoginTimeout,
    ServerUnreachable,
    TokenEndpointError,
    TokenStoreError,
)
from webex_loopback.grant import LoginResult
from webex_loopback.login import _claim, log_in, log_out
from webex_loopback.sandbox import Person, Sandbox, Visit
from webex_loopback.session import revoke_grant
from webex_loopback.store import FileTokenStore, file_lock
from webex_loopback.token import StoredToken

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, owners and signals as POSIX has them")


def can_bind(port: int, host: str = "127.0.0.1") -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
            probe.bind((host, port))
    except OSError:
        return False
    return True


class Visitor:
    """Somebody to open the address with, whose visit can be looked at afterwards."""

    def __init__(self, person: Person | None = None, *, host: str = "") -> None:
        self.person = person or Person()
        self.host = host
        self.visits: queue.Queue[Visit] = queue.Queue()
        self.addresses: list[str] = []

    def __call__(self, url: str) -> None:
        self.addresses.append(url)
        if self.host:
            url = url.replace("localhost", self.host, 1)
        self.visits.put(self.person.visit(url))

    @property
    def visit(self) -> Visit:
        return self.visits.get(timeout=10)


class Elsewhere(Person):
    """A person whose browser is on another machine: an address with a code leads nowhere there."""

    def _fetch(self, url: str, form: Any) -> tuple[int, dict[str, str], str]:
        if re.search(r"[?&](code|error)=", url):
            return 0, {}, ""
        return super()._fetch(url, form)


def nobody(url: str) -> None:
    """A browser that must not be opened."""
    pytest.fail("A browser was opened.")


def redirected(url: str) -> dict[str, str]:
    """Open the start address; return the fields of the authorization request that it leads to."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", parts.path)
    location = connection.getresponse().getheader("Location") or ""
    connection.close()
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def answer(url: str, **fields: str) -> Visit:
    """Be Webex: send the browser back with these fields, and this login's `state` where none is given."""
    request = redirected(url)
    return Person().visit(f"{request['redirect_uri']}?{urlencode({'state': request['state']} | fields)}")


@pytest.fixture
def register(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    def register(uri: str) -> str:
        sandbox.redirect_uris.append(uri)
        monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
        return uri

    return register


# Where the browser comes back to


@pytest.mark.parametrize("pattern", ["http://127.0.0.1:{}", "http://127.0.0.1:{}/a/b%20c.php", "http://127.0.0.2:{}/"])
@pytest.mark.usefixtures("sandbox")
def test_a_login_by_http(
    pattern: str, register: Callable[[str], str], free_port: Callable[[], int], store: FileTokenStore
) -> None:
    register(pattern.format(free_port()))
    visitor = Visitor()
    result = log_in(open_browser=visitor)
    assert result == LoginResult(result.token, store.path, "browser")
    assert store.load() == result.token
    assert (result.token.account.name, result.token.account.email) == ("Alex Morgan", "alex.morgan@example.com")
    assert get_token() == result.token.access_token.get_secret_value()
    visit = visitor.visit
    assert visit.status == 200
    assert "code=" not in visit.url
    assert "You are logged in" in visit.body
    assert "Alex Morgan" in visit.body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
@pytest.mark.usefixtures("sandbox")
def test_localhost_is_both_families(host: str, register: Callable[[str], str], free_port: Callable[[], int]) -> None:
    if host == "[::1]" and not can_bind(0, "::1"):
        pytest.skip("This machine has no IPv6.")
    register(f"http://localhost:{free_port()}/callback")
    visitor = Visitor(host=host)
    assert log_in(open_browser=visitor).how == "browser"
    assert visitor.addresses[0].startswith("http://localhost:")
    assert visitor.visit.status == 200


@pytest.mark.parametrize(("uri", "port"), [("http://127.0.0.1", 80), ("https://127.0.0.1/", 443)])
@pytest.mark.usefixtures("sandbox")
def test_a_redirect_uri_without_a_port(uri: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_bind(port):
        pytest.skip(f"Port {port} is not for this user, or taken.")
    monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)  # the sandbox knows both
    visitor = Visitor()
    assert log_in(open_browser=visitor).how == "browser"
    assert visitor.addresses[0].startswith(f"{uri.rstrip('/')}/start/")


@pytest.mark.usefixtures("sandbox")
def test_a_self_signed_certificate_is_announced_and_kept(
    register: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = urlsplit(register(f"https://127.0.0.1:{free_port()}/"))
    shown: list[str] = []

    def open_browser(url: str) -> None:
        shown.append(ssl.get_server_certificate(("127.0.0.1", uri.port or 0)))
        Person().visit(url)

    log_in(open_browser=open_browser)
    log_in(open_browser=open_browser, force=True)
    assert shown[0] == shown[1]
    assert "warn of this machine's own certificate" in capsys.readouterr().err
    assert any(path.suffix == ".pem" for path in (tmp_path / "state").rglob("*"))


@pytest.mark.usefixtures("sandbox")
def test_a_given_certificate_is_used_and_nothing_is_announced(
    register: Callable[[str], str],
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = urlsplit(register(f"https://127.0.0.1:{free_port()}/"))
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    monkeypatch.setenv("WEBEX_TLS_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("WEBEX_TLS_KEY", str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    trusted: list[bool] = []

    def open_browser(url: str) -> None:
        with (
            socket.create_connection(("127.0.0.1", uri.port or 0)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            trusted.append(connection.version() is not None)
        Person().visit(url)

    log_in(open_browser=open_browser)
    assert trusted == [True]
    assert "own certificate" not in capsys.readouterr().err


@pytest.mark.usefixtures("redirect_uri")
def test_a_certificate_that_cannot_be_used_is_told_before_a_browser_is_opened(
    register: Callable[[str], str], free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    register(f"https://127.0.0.1:{port}/")
    monkeypatch.setenv("WEBEX_TLS_CERT", "/nowhere.pem")
    monkeypatch.setenv("WEBEX_TLS_KEY", "/nowhere.pem")
    with pytest.raises(ConfigurationError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.setting == "WEBEX_TLS_CERT"
    assert can_bind(port)


def test_the_next_redirect_uri_where_the_first_port_is_taken(
    sandbox: Sandbox, redirect_uri: str, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        both = f"http://127.0.0.1:{port}/callback, {redirect_uri}"
        assert log_in(redirect_uri=both, open_browser=Visitor()).how == "browser"
        assert f"Port {port} is in use by" in capsys.readouterr().err
        with pytest.raises(LoginFailed, match=f"Port {port} is in use by") as caught:
            log_in(redirect_uri=f"http://127.0.0.1:{port}/callback", open_browser=nobody, force=True)
    assert "register a further redirect URI" in caught.value.remedy
    assert sandbox.count("authorization_code") == 1


# What is asked before anything is opened


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"WEBEX_CLIENT_ID": ""}, "WEBEX_CLIENT_ID"),
        ({"WEBEX_CLIENT_SECRET": ""}, "WEBEX_CLIENT_SECRET"),
        ({"WEBEX_SCOPES": " "}, "WEBEX_SCOPES"),
        ({"WEBEX_SCOPES": ","}, "WEBEX_SCOPES"),
        ({"WEBEX_SCOPES": 'spark:all "x"'}, "WEBEX_SCOPES"),
        ({"WEBEX_REDIRECT_URI": "https://example.com/callback"}, "WEBEX_REDIRECT_URI"),
        ({"WEBEX_REDIRECT_URI": "http://127.0.0.1:8765/callback http://10.0.0.1/"}, "WEBEX_REDIRECT_URI"),
        ({"WEBEX_REDIRECT_URI": ","}, "WEBEX_REDIRECT_URI"),
        ({"WEBEX_LOGIN_TIMEOUT": "0"}, "WEBEX_LOGIN_TIMEOUT"),
        ({"WEBEX_PROFILE": "../x"}, "WEBEX_PROFILE"),
        ({"WEBEX_CA_BUNDLE": "/nowhere.pem"}, "WEBEX_CA_BUNDLE"),
        ({"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE"),
    ],
)
@pytest.mark.usefixtures("redirect_uri")
def test_settings_are_judged_before_anything_is_opened(
    changes: dict[str, str], setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.setting == setting
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("redirect_uri")
def test_a_state_folder_that_cannot_be_written_is_told_before_a_browser_is_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(TokenStoreError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.exit_code == 6


@pytest.mark.usefixtures("redirect_uri")
def test_locks_elsewhere_do_not_hide_a_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tokens").symlink_to(tmp_path / "gone" / "tokens")
    (tmp_path / "gone").write_text("")
    monkeypatch.setenv("WEBEX_LOCK_DIR", str(tmp_path / "locks"))
    with pytest.raises(TokenStoreError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.problem in ("unwritable", "unreadable")


@pytest.mark.usefixtures("redirect_uri")
def test_all_locks_are_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", str(tmp_path / "locks"))
    log_in(open_browser=Visitor())
    assert sorted(path.name for path in (tmp_path / "state" / "tokens").iterdir()) == ["default.json"]
    assert len(list((tmp_path / "locks").iterdir())) == 2


# What Webex is asked, and what is made of its answers


@pytest.mark.usefixtures("redirect_uri")
def test_what_goes_to_webex(sandbox: Sandbox) -> None:
    asked: list[dict[str, str]] = []

    def open_browser(url: str) -> None:
        asked.append(redirected(url))
        Person().visit(url)

    scopes, hint = "spark:people_read,openid", "taro.sato@example.com"
    log_in(open_browser=open_browser, scopes=scopes, login_hint=hint, prompt="select_account")
    authorize = asked[0]
    assert authorize["scope"] == "spark:people_read openid"
    assert authorize["code_challenge_method"] == "S256"
    assert (authorize["login_hint"], authorize["prompt"]) == (hint, "select_account")
    assert authorize["nonce"]
    exchange = next(request for request in sandbox.requests if request.grant_type == "authorization_code")
    assert exchange.client_auth == "body"
    assert {"code", "code_verifier", "redirect_uri", "client_id", "client_secret"} < set(exchange.fields)
    assert sandbox.count("authorization_code", status=200) == 1


@pytest.mark.usefixtures("redirect_uri")
def test_the_browser_is_held_until_the_tokens_are_saved(sandbox: Sandbox, store: FileTokenStore) -> None:
    sandbox.switches.latency = 0.5
    found: queue.Queue[StoredToken | None] = queue.Queue()

    def open_browser(url: str) -> None:
        Person().visit(url)
        found.put(store.load())

    result = log_in(open_browser=open_browser)
    assert found.get(timeout=10) == result.token


@pytest.mark.usefixtures("redirect_uri")
def test_a_login_without_the_scope_to_look_the_account_up(sandbox: Sandbox) -> None:
    visitor = Visitor()
    result = log_in(scopes="spark:kms", open_browser=visitor)
    assert sandbox.count("/v1/people/me", status=403) == 1
    assert result.token.account.name == ""
    assert "You are logged in" in visitor.visit.body
    assert log_in(scopes="spark:kms", open_browser=nobody).how == "already"


@pytest.mark.parametrize("fault", ["500", "reset", "html", "429"])
@pytest.mark.usefixtures("redirect_uri")
def test_a_login_survives_a_failure_to_look_the_account_up(fault: str, sandbox: Sandbox, store: FileTokenStore) -> None:
    sandbox.switches.api_faults = [fault]
    result = log_in(open_browser=Visitor())
    assert result.token.account.email == ""
    assert store.load() == result.token


@pytest.mark.usefixtures("redirect_uri")
def test_the_tokens_are_saved_before_the_account_is_looked_up(sandbox: Sandbox, store: FileTokenStore) -> None:
    sandbox.switches.api_faults = ["hang"]
    visitor = Visitor()
    login = in_thread(lambda: log_in(open_browser=visitor))
    until = time.monotonic() + 10
    while store.load() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert not login.done()
    sandbox.stop()  # which ends what hangs
    assert login.result(10).token == store.load()
    assert "You are logged in" in visitor.visit.body


@pytest.mark.usefixtures("redirect_uri")
def test_an_account_does_not_overwrite_what_came_after_the_login(
    sandbox: Sandbox, store: FileTokenStore, make_token: Callable[..., StoredToken]
) -> None:
    sandbox.switches.api_faults = ["slow:1"]
    login = in_thread(lambda: log_in(open_browser=Visitor()))
    while not sandbox.count("/v1/people/me"):
        time.sleep(0.02)
    other = make_token()
    store.save(other)
    assert login.result(10).token.account.name == "Alex Morgan"
    assert store.load() == other


@pytest.mark.usefixtures("redirect_uri")
def test_fewer_scopes_than_asked_for_are_no_failure(sandbox: Sandbox) -> None:
    sandbox.switches.withhold = ["spark:kms"]
    visitor = Visitor()
    token = log_in(open_browser=visitor).token
    assert (token.granted, token.missing) == (["spark:people_read"], ["spark:kms"])
    assert "spark:kms" in visitor.visit.body
    assert log_in(open_browser=nobody).how == "already"  # asking again would give no more


@pytest.mark.parametrize(
    ("fault", "kind", "title"),
    [
        ("empty400", TokenEndpointError, "Webex did not exchange the code for tokens"),
        ("500", TokenEndpointError, "Webex did not exchange the code for tokens"),
        ("reset", ServerUnreachable, "Webex could not be reached"),
        ("html", ServerUnreachable, "Webex could not be reached"),
        ("truncated", ServerUnreachable, "Webex could not be reached"),
    ],
)
@pytest.mark.usefixtures("redirect_uri")
def test_the_page_tells_that_the_exchange_failed(
    fault: str, kind: type[Exception], title: str, sandbox: Sandbox, store: FileTokenStore
) -> None:
    sandbox.switches.fault = fault
    visitor = Visitor()
    with pytest.raises(kind):
        log_in(open_browser=visitor)
    assert f"<h1>{title}</h1>" in visitor.visit.body
    assert sandbox.count("authorization_code") == 1
    assert store.load() is None


@pytest.mark.usefixtures("redirect_uri")
def test_a_wrong_client_secret_names_the_setting_and_the_tracking_id(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_CLIENT_SECRET", "f" * 64)
    visitor = Visitor()
    with pytest.raises(TokenEndpointError) as caught:
        log_in(open_browser=visitor)
    assert "WEBEX_CLIENT_SECRET" in caught.value.remedy
    assert caught.value.tracking_id in str(caught.value)
    assert caught.value.tracking_id in visitor.visit.body
    assert sandbox.count("authorization_code", status=401) == 1


@pytest.mark.usefixtures("redirect_uri")
def test_the_page_tells_that_the_tokens_could_not_be_saved(sandbox: Sandbox, tmp_path: Path) -> None:
    visitor = Visitor()
    folder = tmp_path / "state" / "tokens"

    def open_browser(url: str) -> None:
        shutil.rmtree(folder)
        folder.write_text("")
        visitor(url)

    with pytest.raises(TokenStoreError):
        log_in(open_browser=open_browser)
    assert "<h1>The tokens could not be saved</h1>" in visitor.visit.body
    assert sandbox.count("authorization_code", status=200) == 1


def test_a_fault_of_our_own_is_told_too(redirect_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    visitor = Visitor()

    def open_browser(url: str) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
        visitor(url)

    # Whatever the kind: here a setting that went bad under way.
    with pytest.raises(ConfigurationError):
        log_in(open_browser=open_browser)
    assert "<h1>Something unexpected went wrong</h1>" in visitor.visit.body


# What Webex says no to


@pytest.mark.usefixtures("redirect_uri")
def test_a_login_that_is_declined(sandbox: Sandbox) -> None:
    visitor = Visitor(Person(decision="decline"))
    with pytest.raises(AuthorizationDenied, match="declined in the browser") as caught:
        log_in(open_browser=visitor)
    assert caught.value.error == "access_denied"
    assert caught.value.error_description == "The resource owner denied the request."
    assert "<h1>Access was declined</h1>" in visitor.visit.body
    assert sandbox.count("authorization_code") == 0


@pytest.mark.usefixtures("redirect_uri")
def test_a_scope_that_the_integration_lacks() -> None:
    visitor = Visitor()
    with pytest.raises(AuthorizationDenied) as caught:
        log_in(scopes="spark:people_read spark:nonsense", open_browser=visitor)
    assert caught.value.error == "invalid_scope"
    assert "spark:people_read spark:nonsense" in caught.value.remedy
    assert "does not have a scope" in visitor.visit.body


@pytest.mark.usefixtures("redirect_uri")
def test_prompt_none_where_nobody_is_signed_in() -> None:
    visitor = Visitor()
    with pytest.raises(AuthorizationDenied) as caught:
        log_in(prompt="none", open_browser=visitor)
    assert caught.value.error == "login_required"
    assert "without --prompt none" in caught.value.remedy
    assert "<h1>Webex did not complete the login</h1>" in visitor.visit.body


@pytest.mark.parametrize("error", ["server_error", "temporarily_unavailable", "<script>"])
@pytest.mark.usefixtures("redirect_uri")
def test_other_errors_in_webex_s_words(error: str) -> None:
    visits: queue.Queue[Visit] = queue.Queue()
    with pytest.raises(AuthorizationDenied, match="because") as caught:
        log_in(open_browser=lambda url: visits.put(answer(url, error=error, error_description="because <b>")))
    assert caught.value.error == error
    body = visits.get(timeout=10).body
    assert "because &lt;b&gt;" in body
    assert "<script" not in body


@pytest.mark.usefixtures("redirect_uri")
def test_a_foreign_state_changes_nothing_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def open_browser(url: str) -> None:
        for n in range(MOST_IGNORED_LINES + 2):
            assert answer(url, state=f"foreign-{n}", code="x").status == 400
        Person().visit(url)

    assert log_in(open_browser=open_browser).how == "browser"
    told = capsys.readouterr().err
    assert told.count("Ignored a request with a foreign state") == MOST_IGNORED_LINES


def test_an_unregistered_redirect_uri_ends_with_its_name(sandbox: Sandbox, redirect_uri: str) -> None:
    sandbox.redirect_uris.remove(redirect_uri)
    visitor = Visitor()
    with pytest.raises(LoginTimeout, match="did not send the browser back within 1 seconds") as caught:
        log_in(timeout_seconds=1, open_browser=visitor)
    assert f": {redirect_uri}." in caught.value.remedy
    assert visitor.visit.status == 400


@pytest.mark.usefixtures("redirect_uri")
def test_nobody_comes(capsys: pytest.CaptureFixture[str]) -> None:
    def open_browser(url: str) -> None:
        port = urlsplit(url).port
        Person().visit(f"http://127.0.0.1:{port}/callback?error=access_denied")
        with socket.create_connection(("127.0.0.1", port or 0)) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")

    with pytest.raises(LoginTimeout, match=r"No browser came within 0\.5 seconds\..*ignored: 1") as caught:
        log_in(timeout_seconds=0.5, open_browser=open_browser)
    assert caught.value.ignored == 1
    told = capsys.readouterr().err
    assert "Ignored an error without a state (access_denied). If that was you, press Ctrl-C" in told
    assert "A browser came with https:// to the http:// port" in told


# The browser


@pytest.mark.usefixtures("redirect_uri")
def test_a_browser_that_fails_leaves_the_address_to_the_person(capsys: pytest.CaptureFixture[str]) -> None:
    addresses: queue.Queue[str] = queue.Queue()

    def open_browser(url: str) -> None:
        addresses.put(url)
        raise RuntimeError("no display")

    login = in_thread(lambda: log_in(open_browser=open_browser))
    address = addresses.get(timeout=10)
    time.sleep(0.3)
    Person().visit(address)
    assert login.result(10).how == "browser"
    told = capsys.readouterr().err
    assert "The browser could not be opened: RuntimeError." in told
    assert "Open the address yourself" in told
    assert address in told


@pytest.mark.usefixtures("redirect_uri")
def test_a_browser_that_came_is_believed_whatever_its_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    def open_browser(url: str) -> bool:
        redirected(url)
        threading.Timer(0.4, Person().visit, (url,)).start()
        return False

    assert log_in(open_browser=open_browser).how == "browser"
    assert "could not be opened" not in capsys.readouterr().err


@pytest.mark.usefixtures("redirect_uri")
def test_a_start_address_that_is_opened_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    def open_browser(url: str) -> None:
        for _ in range(3):
            assert redirected(url)["state"], "who reloads the page is served as well"
        Person().visit(url)

    assert log_in(open_browser=open_browser).how == "browser"
    told = capsys.readouterr().err
    assert told.count("The start address was opened again. If that was not you,") == 1


@pytest.mark.usefixtures("redirect_uri")
def test_a_start_address_that_is_opened_once_is_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_in(open_browser=Visitor()).how == "browser"
    assert "opened again" not in capsys.readouterr().err


@pytest.mark.usefixtures("redirect_uri")
def test_a_browser_that_blocks_does_not_hold_the_login_up() -> None:
    release = threading.Event()

    def open_browser(url: str) -> None:
        Person().visit(url)
        release.wait(20)

    start = time.monotonic()
    assert log_in(open_browser=open_browser).how == "browser"
    assert time.monotonic() - start < 8
    release.set()


@pytest.mark.usefixtures("redirect_uri")
def test_without_a_browser_the_whole_address_and_the_tunnel_are_told(
    redirect_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 2222")
    with pytest.raises(LoginTimeout):
        log_in(timeout_seconds=0.2)
    told = capsys.readouterr().err
    port = urlsplit(redirect_uri).port
    assert "No browser is opened: this is an SSH session" in told
    assert f"ssh -L {port}:127.0.0.1:{port} -p 2222 " in told
    assert "/v1/authorize?response_type=code&" in told
    assert "paste" not in told  # stdin is no terminal


@posix
@pytest.mark.usefixtures("redirect_uri")
def test_a_terminal_that_goes_away_leaves_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    person = Person()

    def open_browser(url: str) -> None:
        redirected(url)
        time.sleep(0.3)
        os.close(master)
        time.sleep(0.3)
        person.visit(url)

    with open(slave, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert log_in(open_browser=open_browser).how == "browser"


@posix
@pytest.mark.usefixtures("redirect_uri")
def test_pasting_settles_the_server_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.switches.latency = 0.5
    master, slave = os.openpty()
    visits: queue.Queue[Visit] = queue.Queue()

    def open_browser(url: str) -> None:
        final = Elsewhere().visit(url).url
        os.write(master, f"{final}\r".encode())
        while not sandbox.count("authorization_code"):
            time.sleep(0.02)
        visits.put(Person().visit(final))  # the tunnel stands after all

    with open(slave, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert log_in(open_browser=open_browser).how == "pasted"
    os.close(master)
    assert "You are logged in" in visits.get(timeout=10).body


# Who is logged in already


@pytest.mark.usefixtures("logged_in")
def test_nothing_is_opened_where_the_profile_is_logged_in(sandbox: Sandbox, logged_in: StoredToken) -> None:
    assert log_in(open_browser=nobody) == LoginResult(logged_in, log_in(open_browser=nobody).path, "already")
    assert sandbox.count("authorization_code") == 1


@pytest.mark.usefixtures("logged_in")
def test_the_order_of_scopes_does_not_matter() -> None:
    assert log_in(scopes="spark:kms,spark:people_read", open_browser=nobody).how == "already"


@pytest.mark.parametrize(
    "changes",
    [
        {"force": True},
        {"scopes": "spark:people_read"},
        {"login_hint": "alex.morgan@example.com"},
        {"prompt": "select_account"},
    ],
)
def test_another_login_is_made_where_it_is_asked_for(changes: Any, logged_in: StoredToken) -> None:
    result = log_in(open_browser=Visitor(), **changes)
    assert result.how == "browser"
    assert not result.token.same_refresh_token(logged_in)


def test_another_integration_is_another_login(logged_in: StoredToken, store: FileTokenStore) -> None:
    store.save(logged_in.model_copy(update={"client_id": "C" + "9" * 64}))
    assert log_in(open_browser=Visitor()).how == "browser"


def test_a_revoked_token_is_noticed(logged_in: StoredToken) -> None:
    revoke_grant(logged_in)
    assert log_in(open_browser=Visitor()).how == "browser"


@pytest.mark.usefixtures("logged_in")
def test_a_dead_refresh_token_is_noticed(sandbox: Sandbox, make_due: Callable[..., StoredToken]) -> None:
    make_due()
    sandbox.switches.dead_refresh_token = "invalid_grant"
    assert log_in(open_browser=Visitor()).how == "browser"


@pytest.mark.usefixtures("logged_in")
def test_a_token_that_is_due_is_refreshed_and_nothing_is_opened(
    sandbox: Sandbox, make_due: Callable[..., StoredToken], store: FileTokenStore
) -> None:
    due = make_due()
    assert log_in(open_browser=nobody).how == "already"
    assert store.load() != due
    assert sandbox.count("refresh_token") == 1


@pytest.mark.usefixtures("logged_in")
def test_a_refresh_under_way_is_not_taken_for_another_login(
    sandbox: Sandbox, make_due: Callable[..., StoredToken]
) -> None:
    """Looking whether it is logged in refreshed the token, and the token was refused all the same."""
    make_due()
    sandbox.switches.api_faults = ["empty400"]
    assert log_in(open_browser=Visitor()).how == "browser"
    assert sandbox.count("authorization_code") == 2


# Two logins at a time


@contextlib.contextmanager
def another_login(store: FileTokenStore) -> Iterator[None]:
    """Be another process that logs in, as far as its locks can tell."""
    with file_lock(f"{store.path}.login.lock", 0):
        yield


def waiting(login: "Future[LoginResult]", capsys: pytest.CaptureFixture[str]) -> str:
    told = ""
    until = time.monotonic() + 10
    while "waiting for it" not in told:
        assert time.monotonic() < until
        assert not login.done()
        told += capsys.readouterr().err
        time.sleep(0.02)
    return told


def test_waiting_for_another_login_costs_next_to_nothing(
    store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = time.sleep

    def counted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", counted)
    with another_login(store), pytest.raises(TokenStoreError), _claim(store, 0.35):
        pytest.fail("there are two")
    assert 1 <= len(slept) <= 4


@pytest.mark.usefixtures("sandbox")
def test_a_second_login_waits_for_the_first_and_takes_its_token(
    sandbox: Sandbox, redirect_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    addresses: queue.Queue[str] = queue.Queue()
    first = in_thread(lambda: log_in(open_browser=addresses.put))
    address = addresses.get(timeout=10)
    second = in_thread(lambda: log_in(open_browser=nobody))
    assert f"is under way (process {os.getpid()})" in waiting(second, capsys)
    Person().visit(address)
    assert first.result(10).how == "browser"
    assert second.result(10).how == "other"
    assert second.result().token == first.result().token
    assert sandbox.count("authorization_code") == 1


@pytest.mark.parametrize("changes", [{"scopes": "spark:people_read"}, {"login_hint": "hanako.yamada@example.com"}])
def test_a_second_login_that_wants_something_else_goes_on_itself(
    changes: Any,
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    make_token: Callable[..., StoredToken],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with another_login(store):
        Path(f"{store.path}.login").touch()  # it has not come to writing its number yet
        second = in_thread(lambda: log_in(open_browser=Visitor(), **changes))
        assert "is under way; waiting" in waiting(second, capsys)
        store.save(
            make_token(
                client_id=sandbox.client_id,
                token_url=f"{sandbox.base_url}/access_token",
                scopes_requested=["spark:people_read", "spark:kms"],
            )
        )
    assert second.result(10).how == "browser"


@pytest.mark.usefixtures("redirect_uri")
def test_a_second_login_does_not_wait_for_ever(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webex_loopback.login.GRACE_SECONDS", 0)
    with another_login(store), pytest.raises(TokenStoreError) as caught:
        log_in(timeout_seconds=0.3, open_browser=nobody)
    assert caught.value.problem == "locked"


@pytest.mark.usefixtures("redirect_uri")
def test_a_lock_that_cannot_be_taken_at_all(tmp_path: Path) -> None:
    (tmp_path / "state" / "tokens" / "default.json.login.lock").mkdir(parents=True)
    with pytest.raises(TokenStoreError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.problem == "unwritable"


# A token file that is in the way


@pytest.mark.usefixtures("redirect_uri")
def test_a_corrupt_file_is_set_aside_and_told(store: FileTokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    Path(store.path).parent.mkdir(parents=True)
    Path(store.path).write_text("{")
    result = log_in(open_browser=Visitor())
    assert store.load() == result.token
    (aside,) = Path(store.path).parent.glob("default.json.corrupt-*")
    assert aside.read_text() == "{"
    assert f"It is kept as {aside}." in capsys.readouterr().err


@posix
@pytest.mark.parametrize("problem", ["future", "foreign"])
@pytest.mark.usefixtures("redirect_uri")
def test_a_file_that_is_not_ours_to_judge_needs_force(
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
    with pytest.raises(TokenStoreError) as caught:
        log_in(open_browser=nobody)
    assert caught.value.problem == problem
    assert "--force" in caught.value.remedy
    with pytest.raises(TokenStoreError):
        log_out()
    assert path.read_bytes() == before
    log_in(open_browser=Visitor(), force=True)
    (aside,) = path.parent.glob(f"default.json.{problem}-*")
    assert aside.read_bytes() == before
    assert str(aside) in capsys.readouterr().err


def test_logging_out(logged_in: StoredToken, store: FileTokenStore) -> None:
    assert log_out() == (logged_in, "")
    assert log_out() == (None, "")
    assert store.load() is None


def test_logging_out_of_a_corrupt_file_keeps_it(store: FileTokenStore) -> None:
    Path(store.path).parent.mkdir(parents=True)
    Path(store.path).write_text("{")
    held, aside = log_out()
    assert held is None
    assert Path(aside).read_text() == "{"
    assert log_out() == (None, "")


# Where an event loop runs (Jupyter), and from get_token()


@pytest.mark.usefixtures("redirect_uri")
def test_a_login_where_an_event_loop_is_running() -> None:
    async def cell() -> str:
        return log_in(open_browser=Visitor()).how

    assert asyncio.run(cell()) == "browser"


@pytest.mark.usefixtures("redirect_uri")
def test_a_failure_where_an_event_loop_is_running() -> None:
    async def cell() -> None:
        log_in(open_browser=Visitor(Person(decision="decline")))

    with pytest.raises(AuthorizationDenied):
        asyncio.run(cell())


@posix
def test_interrupting_a_login_where_an_event_loop_is_running(redirect_uri: str) -> None:
    def open_browser(url: str) -> None:
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()

    async def cell() -> None:
        log_in(open_browser=open_browser)

    loop = asyncio.new_event_loop()  # not asyncio.run(): like a notebook's, it leaves SIGINT alone
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        loop.close()
    assert time.monotonic() - start < 5
    assert can_bind(urlsplit(redirect_uri).port or 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "webex-loopback" and not thread.daemon]


@pytest.mark.usefixtures("redirect_uri")
def test_an_interactive_get_token_logs_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport sys\nfrom webex_loopback.sandbox import Person\nPerson().visit(sys.argv[1])\n"
    )
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    token = get_token(interactive=True)
    assert get_token() == token
