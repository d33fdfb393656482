"""The token requests over real sockets: what is sent again, what an answer means, what a failure says."""

import email.utils
import inspect
import logging
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from webex_loopback import oauth
from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError, WebexLoopbackError
from webex_loopback.network import issuer_seen, proxy_for, ssl_context
from webex_loopback.oauth import NotSent, Rejected, Webex, is_in_doubt, is_passing, retry_after, webex_of_token
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.token import StoredToken, TokenResponse

CODE, VERIFIER = "code-" + "c" * 60, "verifier-" + "v" * 60
UUID = "62E068B0-1B2C-4D5E-8F90-0123456789AB"


class Client:
    """A `Webex` with the credentials of the sandbox, and the pauses that it would have made."""

    open: ClassVar[list["Client"]] = []

    def __init__(self, sandbox: Sandbox, *, token_url: str = "", http_client: httpx.Client | None = None) -> None:
        self.open.append(self)
        self.pauses: list[float] = []
        self.id, self.secret = sandbox.client_id, SecretStr(sandbox.client_secret)
        self.webex = Webex(
            api_base_url=sandbox.base_url,
            token_url=token_url or f"{sandbox.base_url}/access_token",
            http_client=http_client,
            sleep=self.pauses.append,
        )

    def refresh(self, refresh_token: SecretStr | str | None = "refresh-token") -> TokenResponse:
        value = refresh_token if isinstance(refresh_token, SecretStr) else SecretStr(refresh_token or "")
        return self.webex.refresh(client_id=self.id, client_secret=self.secret, refresh_token=value)

    def exchange(self) -> TokenResponse:
        return self.webex.exchange_code(
            client_id=self.id,
            client_secret=self.secret,
            code=SecretStr(CODE),
            code_verifier=SecretStr(VERIFIER),
            redirect_uri="http://127.0.0.1/callback",
        )


def close_clients() -> None:
    while Client.open:
        Client.open.pop().webex.close()


@pytest.fixture(autouse=True)
def clients_that_close() -> Iterator[None]:
    yield
    close_clients()


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The usual one, which need not wait for our connections when it stops."""
    yield sandbox
    close_clients()


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(sandbox)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "LIMITS", {"connect": 0.3, "read": 0.3, "write": 0.3, "pool": 0.3})
    monkeypatch.setattr(oauth, "WHOLE_SECONDS", 0.6)


def failure(ask: Callable[[], object]) -> WebexLoopbackError:
    """Return the error; nothing of it, of its causes or of their traceback's own lines shows a secret."""
    with pytest.raises(WebexLoopbackError) as caught:
        ask()
    error = caught.value
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()) + error.remedy
    for secret in (CODE, VERIFIER, "fedcba9876543210"):
        assert secret not in shown
    assert error.remedy
    return error


# What is sent again

TWICE = [  # fault, how often a refresh is sent, how often a code, what the error says of the refresh
    ("429:0", 2, 1, TokenEndpointError, "slow down"),
    ("429:2", 2, 1, TokenEndpointError, "slow down"),
    ("429:3", 1, 1, TokenEndpointError, "slow down"),
    ("429:3600", 1, 1, TokenEndpointError, "slow down"),
    ("429:", 2, 1, TokenEndpointError, "slow down"),
    ("429:rand(30),add(30)", 2, 1, TokenEndpointError, "slow down"),
    ("500", 2, 1, TokenEndpointError, "fault of its own"),
    ("502", 1, 1, TokenEndpointError, "fault of its own"),
    ("503", 2, 1, TokenEndpointError, "fault of its own"),
    ("504", 1, 1, TokenEndpointError, "fault of its own"),
    ("empty400", 1, 1, TokenEndpointError, "answered 400 without a word"),
    ("html", 1, 1, ServerUnreachable, "text/html"),
    ("huge", 1, 1, ServerUnreachable, "not a JSON object"),
    ("truncated", 1, 1, TokenEndpointError, "answered 400"),
    ("reset", 1, 1, ServerUnreachable, "gave no usable answer"),
    ("reset_body", 1, 1, ServerUnreachable, "gave no usable answer"),
    ("hang", 1, 1, ServerUnreachable, "did not answer in time"),
    ("slow:2", 1, 1, ServerUnreachable, "did not answer in time"),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "refreshes", "exchanges", "kind", "words"), TWICE, ids=[row[0] for row in TWICE])
def test_a_server_that_fails(
    sandbox: Sandbox,
    client: Client,
    fault: str,
    refreshes: int,
    exchanges: int,
    kind: type[WebexLoopbackError],
    words: str,
) -> None:
    sandbox.switches.fault = fault
    error = failure(client.refresh)
    assert isinstance(error, kind)
    assert words in str(error)
    assert sandbox.count("refresh_token") == refreshes
    wanted = float(fault.removeprefix("429:")) if fault in ("429:0", "429:2") else 0.5
    assert client.pauses == [wanted] * (refreshes - 1)
    failure(client.exchange)
    assert sandbox.count("authorization_code") == exchanges
    assert is_passing(error)
    assert is_in_doubt(error) == (kind is ServerUnreachable or fault in ("502", "504"))


@pytest.mark.usefixtures("impatient")
def test_a_body_that_drips_is_not_waited_for(sandbox: Sandbox, client: Client) -> None:
    """No single read is late, only the whole."""
    sandbox.switches.fault = "slow:2.5"
    started = time.monotonic()
    assert "did not answer in time" in str(failure(client.exchange))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("fault", ["500", "503", "429:1"])
def test_a_fault_that_is_over_at_once_is_not_noticed(
    sandbox: Sandbox, logged_in: StoredToken, client: Client, fault: str
) -> None:
    sandbox.switches.faults = [fault]
    assert client.refresh(logged_in.refresh_token).access_token
    assert sandbox.count("refresh_token") == 2


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """Answer every connection by a function; yield the origin, and a list that grows by each connection."""
    came: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(1)
                with connection:
                    connection.settimeout(5)
                    with suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", came
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # ends accept(), on Linux
    thread.join(5)


def saying(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(text)

    return answer


def test_a_refused_connection_is_tried_three_times(sandbox: Sandbox, free_port: Callable[[], int]) -> None:
    one = Client(sandbox, token_url=f"http://127.0.0.1:{free_port()}/v1/access_token")
    for ask in (one.refresh, one.exchange):
        one.pauses.clear()
        error = failure(ask)
        assert isinstance(error, NotSent)
        assert "cannot be reached" in str(error)
        assert one.pauses == [0.2, 1.0]


def test_a_code_is_sent_once_the_server_is_there(
    sandbox: Sandbox, redirect_uri: str, free_port: Callable[[], int]
) -> None:
    """The first try meets no server; the second one reaches it, and the code is still good."""
    port = free_port()
    late = Sandbox(port=port, redirect_uris=[redirect_uri])
    one = Client(sandbox, token_url=f"http://127.0.0.1:{port}/v1/access_token")
    one.webex._sleep = lambda seconds: late.start()
    try:
        error = failure(one.exchange)
        assert isinstance(error, Rejected), "it came to the server, which does not know it"
        assert late.count("authorization_code") == 1
    finally:
        late.stop()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda connection: None, "gave no usable answer"),
        (lambda connection: connection.recv(65_536), "gave no usable answer"),
        (lambda connection: time.sleep(0.5), "did not answer in time"),
        (saying(b""), "gave no usable answer"),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "gave no usable answer"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"), "gave no usable answer"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), "wrong or missing access_token"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"), "no usable answer"),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nContent-Length: 0\r\n\r\n"), "redirect"),
        (saying(b"HTTP/1.1 204 No Content\r\n\r\n"), "204"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"), "gave no usable answer"),
        (saying(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nBlocked"), "403"),
    ],
    ids=[
        *("closes at once", "closes after the request", "says nothing", "ends the answer", "another protocol"),
        *("half a body", "empty object", "broken gzip", "redirect", "no content", "endless headers", "blocked"),
    ],
)
def test_what_is_no_webex(sandbox: Sandbox, answer: Callable[[socket.socket], None], words: str) -> None:
    with listening(answer) as (origin, came):
        one = Client(sandbox, token_url=f"{origin}/v1/access_token")
        error = failure(one.exchange)
        assert words in str(error)
        assert len(came) == 1, "the code was sent twice"
        error = failure(one.refresh)
        assert is_passing(error), "a refresh token is not dead because of this"
        assert not isinstance(error, Rejected)


def test_a_name_that_does_not_exist(sandbox: Sandbox) -> None:
    for host in ("no-such-host.invalid", "a..b", "x" * 70 + ".invalid"):
        one = Client(sandbox, token_url=f"https://{host}/v1/access_token")
        error = failure(one.exchange)
        assert isinstance(error, NotSent)
        assert host in str(error)


def every_httpx_exception() -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(httpx, inspect.isclass)
        # A cookie jar is not ours, and HTTPStatusError is raised on request only; both would still be mapped.
        if issubclass(kind, Exception) and kind is not httpx.CookieConflict
    ]


def made(kind: type[Exception]) -> Exception:
    request = httpx.Request("POST", "http://127.0.0.1/")
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError("x", request=request, response=httpx.Response(500, request=request))
    try:
        return kind("x")
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", every_httpx_exception(), ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_is_translated(sandbox: Sandbox, kind: type[Exception]) -> None:
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise made(kind)

    one = Client(sandbox, http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    error = failure(one.exchange)
    assert isinstance(error, ServerUnreachable)
    assert isinstance(error.__cause__, kind)
    before_sending = issubclass(kind, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    assert len(calls) == (3 if before_sending else 1)
    if before_sending:
        assert not is_in_doubt(error)


# What an answer means


@pytest.mark.parametrize("shape", [1, 2])
@pytest.mark.parametrize("way", ["invalid_request", "invalid_grant", "401"])
def test_a_dead_refresh_token_is_known_in_each_of_webexs_ways(
    sandbox: Sandbox, client: Client, shape: int, way: str
) -> None:
    sandbox.switches.update({"error_shape": shape, "dead_refresh_token": way})
    error = failure(client.refresh)
    assert isinstance(error, Rejected)
    assert "expired, revoked, malformed, or invalid" in error.error_description
    assert error.tracking_id.startswith("ROUTER_")
    assert error.tracking_id in str(error)
    assert not is_passing(error)


@pytest.mark.parametrize("shape", [1, 2])
@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_secret_is_not_a_dead_refresh_token(sandbox: Sandbox, client: Client, shape: int, status: int) -> None:
    sandbox.switches.update({"error_shape": shape, "wrong_secret": status})
    client.secret = SecretStr("another-secret")
    error = failure(client.refresh)
    assert isinstance(error, TokenEndpointError)
    assert not isinstance(error, Rejected)
    assert "WEBEX_CLIENT_SECRET" in error.remedy
    assert not is_passing(error)


@pytest.mark.parametrize("shape", [1, 2])
def test_too_many_tokens_is_not_a_dead_refresh_token(
    sandbox: Sandbox, logged_in: StoredToken, client: Client, shape: int
) -> None:
    sandbox.switches.update({"error_shape": shape, "tokenlimit_reached": True})
    error = failure(lambda: client.refresh(logged_in.refresh_token))
    assert not isinstance(error, Rejected)
    assert "idbroker.webex.com/idb/profile" in error.remedy


def answering(status: int, body: object = "", **headers: str) -> httpx.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(body, str):
            return httpx.Response(status, text=body, headers=headers)
        return httpx.Response(status, json=body, headers=headers)

    return httpx.Client(transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("status", "body", "rejected"),
    [
        (400, "", False),
        (401, " ", False),
        (400, {"error": "invalid_refresh_token"}, True),
        (400, {"error": "unsupported_grant_type"}, True),
        (400, {"message": "The request could not be understood by the server due to malformed syntax."}, True),
        (401, {"message": "Unauthorized", "errors": [{"description": "expired"}], "trackingId": "X"}, True),
        (400, {"error": "unauthorized_client"}, False),
        (400, {"error": "invalid_request", "error_description": "Parameter:client_id is blank"}, False),
        (400, {"message": "x", "errors": [{"description": "Client Id is invalid"}]}, False),
        (400, "<html>Bad Request</html>", False),
        (401, "<html>Log in to the proxy</html>", False),
        (403, {"message": "Forbidden"}, False),
        (404, "not here", False),
        (407, "", False),
        (500, {"error": "invalid_grant"}, False),
        (503, "", False),
    ],
)
def test_only_a_word_from_webex_rejects_a_refresh_token(
    sandbox: Sandbox, status: int, body: object, rejected: bool
) -> None:
    error = failure(Client(sandbox, http_client=answering(status, body)).refresh)
    assert isinstance(error, Rejected) == rejected


@pytest.mark.parametrize(
    ("body", "header", "shown"),
    [
        ({"error": "e", "trackingID": f"NA_{UUID}"}, "", f"NA_{UUID}"),
        ({"message": "m", "trackingId": f"ROUTERGW_{UUID}_1"}, "", f"ROUTERGW_{UUID}_1"),
        ({"message": "m"}, f"ROUTER_{UUID}", f"ROUTER_{UUID}"),
        ("plain", f"ROUTER_{UUID}", f"ROUTER_{UUID}"),
        ({"error": "e", "trackingID": "x" * 64}, "", "[...]"),
        ({"error": "e", "trackingID": ["x"]}, "", ""),
    ],
)
def test_the_tracking_id_is_found_and_shown(sandbox: Sandbox, body: object, header: str, shown: str) -> None:
    headers = {"trackingId": header} if header else {}
    error = failure(Client(sandbox, http_client=answering(403, body, **headers)).refresh)
    assert isinstance(error, TokenEndpointError)
    assert error.tracking_id == shown
    assert shown in str(error)


@pytest.mark.parametrize(
    "words",
    ["\x1b[2J\x1b[31mred", "line\r\nX-Header: 1", "\u202eright to left", "a" * 5_000, 5, None, {"a": 1}, ["x"]],
)
def test_what_a_server_says_cannot_spoil_the_terminal(sandbox: Sandbox, words: object) -> None:
    error = failure(Client(sandbox, http_client=answering(400, {"error": words, "error_description": words})).refresh)
    assert str(error).isprintable()
    assert len(str(error)) < 1_300


def test_a_server_that_quotes_what_it_was_sent_is_not_quoted(sandbox: Sandbox) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        return httpx.Response(400, json={"error": "x", "error_description": f"bad {form}", "message": str(form)})

    one = Client(sandbox, http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    failure(one.exchange)
    assert "r" * 64 not in str(failure(lambda: one.refresh("r" * 64)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        (" 194 ", 194),
        ("3600", 3_600),
        ("99999999999999999999", 3_600),
        ("rand(30),add(30)", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("٣", None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text, 100) == seconds


@given(st.text(max_size=40))
def test_retry_after_survives_anything(text: str) -> None:
    wait = retry_after(text, time.time())
    assert wait is None or 0 <= wait <= 3_600


def test_what_is_sent_is_what_webex_documents(sandbox: Sandbox) -> None:
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request, parse_qs(request.content.decode(), keep_blank_values=True)))
        return httpx.Response(200, json={"access_token": "a"})

    one = Client(sandbox, http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    one.exchange()
    one.refresh("r")
    (first, exchange), (_, refresh) = sent
    assert first.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert first.headers["User-Agent"].startswith("webex-loopback/")
    assert "Authorization" not in first.headers
    credentials = {"client_id": [sandbox.client_id], "client_secret": [sandbox.client_secret]}
    assert exchange == credentials | {
        "grant_type": ["authorization_code"],
        "code": [CODE],
        "code_verifier": [VERIFIER],
        "redirect_uri": ["http://127.0.0.1/callback"],
    }
    assert refresh == credentials | {"grant_type": ["refresh_token"], "refresh_token": ["r"]}


def test_a_netrc_is_not_read(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login me password mine\n")
    (tmp_path / "home" / ".netrc").chmod(0o600)
    failure(Client(sandbox).refresh)
    assert [request.client_auth for request in sandbox.requests] == ["body"]


def test_a_connection_that_idled_is_not_trusted_with_a_code(
    sandbox: Sandbox, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.webex.warm_up()
    first = client.webex._client
    failure(client.exchange)
    assert client.webex._client is first, "the connection made ahead is used"
    monkeypatch.setattr(client.webex, "_used_at", time.time() - 60)
    failure(client.exchange)
    assert client.webex._client is not first


def test_a_connection_that_the_server_closed_is_noticed_before_the_code_is_sent(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.switches.close_idle_after = 0.05
    client.webex.warm_up()
    time.sleep(0.3)
    assert isinstance(failure(client.exchange), Rejected), "it was answered"
    assert sandbox.count("authorization_code") == 1


def test_connecting_ahead_to_what_is_no_host_name_is_no_error() -> None:
    with Webex(api_base_url="https://a..b/v1", token_url="https://a..b/v1/access_token") as webex:
        webex.warm_up()


# Clocks


@pytest.mark.parametrize(("offset", "warned"), [(0, ""), (200, ""), (-86_400, "24.0 hours"), (3_600, "60 minutes")])
def test_a_wrong_clock_is_told(
    sandbox: Sandbox, client: Client, caplog: pytest.LogCaptureFixture, offset: float, warned: str
) -> None:
    sandbox.switches.date_offset = offset
    failure(client.refresh)
    failure(client.refresh)
    assert client.webex.clock_skew == pytest.approx(offset, abs=3)
    assert caplog.text.count("This machine's clock") == (1 if warned else 0)
    assert warned in caplog.text


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Foo 1970", email.utils.formatdate(0)])
def test_a_date_of_nonsense_does_no_harm(sandbox: Sandbox, date: str) -> None:
    one = Client(sandbox, http_client=answering(200, {"access_token": "a"}, Date=date))
    assert one.refresh().access_token.get_secret_value() == "a"


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Example Proxy Inc.")


@pytest.fixture
def tls_sandbox(authority: trustme.CA, tmp_path: Path) -> Iterator[Sandbox]:
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Sandbox(tls=(str(tmp_path / "server.pem"), str(tmp_path / "server.pem"))) as sandbox:
        yield sandbox
        close_clients()  # a TLS connection waits for the other side's last word


def test_an_unknown_authority_is_named_with_the_way_out(tls_sandbox: Sandbox) -> None:
    one = Client(tls_sandbox)
    error = failure(one.exchange)
    assert isinstance(error, NotSent)
    assert "Example Proxy Inc." in str(error)
    assert "WEBEX_CA_BUNDLE" in error.remedy
    assert one.pauses == [], "another try would not help"
    assert tls_sandbox.count("authorization_code") == 0
    assert issuer_seen(tls_sandbox.base_url)


def test_webex_ca_bundle_is_trusted(tls_sandbox: Sandbox, tmp_path: Path) -> None:
    one = Client(tls_sandbox)
    one.webex.ca_bundle = str(tmp_path / "ca.pem")
    assert isinstance(failure(one.exchange), Rejected)


@pytest.mark.parametrize(
    ("named", "meant"),
    [("", "/at/login.pem"), ("~/now.pem", "home/now.pem"), ("now.pem", "work/now.pem"), ("/now.pem", "/now.pem")],
)
def test_a_bundle_of_the_environment_comes_before_that_of_the_login(
    make_token: Callable[..., StoredToken], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str, meant: str
) -> None:
    monkeypatch.setenv("WEBEX_CA_BUNDLE", named)
    assert webex_of_token(make_token(ca_bundle="/at/login.pem")).ca_bundle == str(tmp_path / meant)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_usual_variables_are_trusted(
    tls_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, authority: trustme.CA
) -> None:
    if name == "SSL_CERT_FILE":
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    else:
        folder = tmp_path / "certs"
        folder.mkdir()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        try:
            subprocess.run(["openssl", "rehash", str(folder)], check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("needs openssl rehash")
        monkeypatch.setenv(name, str(folder))
    assert isinstance(failure(Client(tls_sandbox).exchange), Rejected)


@pytest.mark.parametrize("name", ["WEBEX_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("content", [None, "no certificate", ""])
def test_a_bundle_of_no_use_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    if name == "SSL_CERT_FILE":
        monkeypatch.setenv(name, str(path))
    with pytest.raises(ConfigurationError, match=r"bundle\.pem") as caught:
        ssl_context(str(path) if name == "WEBEX_CA_BUNDLE" else "")
    assert caught.value.setting == name


def test_a_certificate_for_another_host(authority: trustme.CA, tmp_path: Path) -> None:
    authority.issue_cert("webex.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Sandbox(tls=(str(tmp_path / "server.pem"), str(tmp_path / "server.pem"))) as sandbox:
        one = Client(sandbox)
        one.webex.ca_bundle = str(tmp_path / "ca.pem")
        error = failure(one.exchange)
        close_clients()
    assert "not trusted" in str(error)
    assert "127.0.0.1" in str(error)


def test_https_to_a_server_that_speaks_http(sandbox: Sandbox) -> None:
    error = failure(Client(sandbox, token_url=f"{sandbox.base_url.replace('http', 'https')}/access_token").exchange)
    assert isinstance(error, NotSent)


# Proxies


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://webexapis.com/v1", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https://webexapis.com/v1", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://webexapis.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://webexapis.com/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://webexapis.com/v1", ""),
        ({"ALL_PROXY": "socks5://p:1"}, "https://webexapis.com/v1", "socks5://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "webexapis.com"}, "https://webexapis.com/v1", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".webexapis.com"}, "https://webexapis.com/v1", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://webexapis.com/v1", ""),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8, ::1,,[x"}, "https://webexapis.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://p:1"}, "http://127.0.0.1:8780/v1", ""),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "localhost"}, "http://127.4.5.6/v1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:8780/v1", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://[::1]:8780/v1", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "https://127.example.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "https://10.0.0.1/v1", "http://p:1"),
    ],
)
def test_the_proxy_is_chosen_as_usual_but_never_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], url: str, proxy: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@contextmanager
def proxying(origin: str, refusal: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """Run a CONNECT proxy that leads every name to `origin`; yield its address, and what it was asked for."""
    asked: list[str] = []
    host, port = urlsplit(origin).hostname, urlsplit(origin).port

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(65_536).split(b"\r\n")[0].decode())
        if refusal:
            connection.sendall(refusal)
            return
        with socket.create_connection((host, port), 5) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, connection), daemon=True)
            back.start()
            pump(connection, upstream)
            back.join(5)

    with listening(answer) as (proxy, _):
        yield proxy, asked


def test_a_proxy_leads_to_webex(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.issue_cert("webexapis.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with (
        Sandbox(tls=(str(tmp_path / "server.pem"), str(tmp_path / "server.pem"))) as sandbox,
        proxying(sandbox.origin) as (proxy, asked),
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        one = Client(sandbox, token_url="https://webexapis.example/v1/access_token")
        error = failure(one.exchange)
        assert "Example Proxy Inc." in str(error), "the issuer is looked up through the proxy too"
        one = Client(sandbox, token_url="https://webexapis.example/v1/access_token")
        one.webex.ca_bundle = str(tmp_path / "ca.pem")
        assert isinstance(failure(one.exchange), Rejected)
        assert sandbox.count("authorization_code") == 1
        close_clients()
    assert set(asked) == {"CONNECT webexapis.example:443 HTTP/1.1"}


@pytest.mark.parametrize(
    "refusal", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\n\r\n"]
)
def test_a_proxy_that_refuses(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, refusal: bytes) -> None:
    with proxying(sandbox.origin, refusal) as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy.replace("http://", "http://me:proxy-password@"))
        error = failure(Client(sandbox, token_url="https://webexapis.example/v1/access_token").exchange)
    assert isinstance(error, NotSent)
    assert refusal[9:12].decode() in str(error)
    assert "HTTPS_PROXY" in error.remedy
    assert "proxy-password" not in str(error) + error.remedy
    assert len(asked) == 1


def test_a_proxy_that_is_not_there_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:proxy-password@127.0.0.1:{free_port()}")
    error = failure(Client(sandbox, token_url="https://webexapis.example/v1/access_token").exchange)
    assert "by the proxy 127.0.0.1" in str(error)
    assert "proxy-password" not in str(error)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://127.0.0.1:1", "http://[bad:1"])
def test_a_proxy_of_an_unknown_kind(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    one = Client(sandbox, token_url="https://webexapis.example/v1/access_token")
    error = failure(one.exchange)
    assert isinstance(error, ConfigurationError)
    assert error.setting == "HTTPS_PROXY"


# Whose token it is


def test_people_me(sandbox: Sandbox, logged_in: StoredToken, client: Client) -> None:
    account = client.webex.people_me(logged_in.access_token)
    assert account.email == Person().email
    assert account.name
    with pytest.raises(TokenEndpointError) as caught:
        client.webex.people_me(SecretStr("wrong"))
    assert caught.value.status_code == 401


@pytest.mark.parametrize("body", ["[]", "{", "null", '{"emails": 5, "displayName": ["x"]}', '{"emails": []}', "{}"])
def test_a_person_of_nonsense(sandbox: Sandbox, body: str) -> None:
    one = Client(sandbox, http_client=answering(200, body))
    if body.startswith("{") and body != "{":
        account = one.webex.people_me(SecretStr("a"))
        assert (account.name, account.email) == ("", "")
    else:
        with pytest.raises(ServerUnreachable):
            one.webex.people_me(SecretStr("a"))


def test_httpx_logs_no_secret(
    sandbox: Sandbox, logged_in: StoredToken, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client.refresh(logged_in.refresh_token)
    client.webex.people_me(logged_in.access_token)
    failure(client.exchange)
    assert caplog.text
    assert not [secret for secret in sandbox.secrets if secret in caplog.text]


def test_certificates_and_names_are_verified() -> None:
    context = ssl_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_an_answer_to_the_device_authorization_that_is_no_json(sandbox: Sandbox) -> None:
    def portal(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<h1>Welcome to the hotel</h1>")

    client = httpx.Client(transport=httpx.MockTransport(portal))
    webex = Webex(api_base_url=sandbox.base_url, token_url=f"{sandbox.base_url}/access_token", http_client=client)
    with pytest.raises(ServerUnreachable, match="is not a JSON object"):
        webex.device_authorization(client_id="C", scope="spark:people_read")
    client.close()


def test_a_device_authorization_that_lacks_something_is_not_shown(sandbox: Sandbox) -> None:
    one = Client(sandbox, http_client=answering(200, {"device_code": CODE, "user_code": "u"}))
    error = failure(lambda: one.webex.device_authorization(client_id="C", scope="spark:people_read"))
    assert "without verification_uri" in str(error)


def test_an_issuer_that_cannot_be_seen_is_empty(free_port: Callable[[], int]) -> None:
    from webex_loopback.network import issuer_seen

    assert issuer_seen(f"https://127.0.0.1:{free_port()}") == ""
