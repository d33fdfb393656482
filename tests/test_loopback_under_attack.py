"""A genuine login goes on while somebody else on the machine, or a page in its browser, attacks the loopback port.

Whatever happened: the genuine redirect still settles the login, its code is exchanged once, nothing of a request
comes back unescaped, every answer carries the headers of the house, and neither stderr nor a log has a traceback
or a secret.
"""

import contextlib
import gc
import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from attack import ANY_CERTIFICATE, Answer, connect, in_thread, read, request, running

from webex_loopback import loopback, pages
from webex_loopback.authorization import RedirectURI
from webex_loopback.certificate import server_context
from webex_loopback.errors import AuthorizationDenied
from webex_loopback.grant import LoginResult
from webex_loopback.login import log_in
from webex_loopback.loopback import MOST_BYTES, MOST_CONNECTIONS
from webex_loopback.sandbox import Person, Sandbox, Visit

MARK = "<mark-of-the-attacker>"
linux = pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")


class Pending:
    """A login that waits for its browser, which comes when `genuine()` is called."""

    def __init__(self, redirect_uri: str, visit: Callable[[str], Visit]) -> None:
        parts = urlsplit(redirect_uri)
        self.redirect_uri = redirect_uri
        self.port = parts.port or 0
        self.path = parts.path
        self.tls = ANY_CERTIFICATE if parts.scheme == "https" else None
        self.answers: list[Answer] = []
        self.lasting = contextlib.ExitStack()  # what goes on until the login has ended
        self._visit = visit
        self._visited: Future[Visit] = Future()
        self._opened: list[str] = []
        self._came, self._free = threading.Event(), threading.Event()
        self._login = in_thread(lambda: log_in(open_browser=self._browser))
        assert self._came.wait(10)
        self.start = urlsplit(self._opened[0]).path
        self.get("/")  # answered when the server has begun to accept
        location = self.get(self.start).headers["location"]
        self.state = parse_qs(urlsplit(location).query)["state"][0]
        self.authorize = location

    def _browser(self, url: str) -> bool:
        self._opened.append(url)
        self._came.set()
        self._free.wait(50)
        try:
            self._visited.set_result(self._visit(url))
        except BaseException as error:
            self._visited.set_exception(error)
        return True

    @property
    def visit(self) -> Visit:
        """What the browser saw in the end."""
        return self._visited.result(10)

    def connect(self) -> socket.socket:
        return self.lasting.enter_context(connect(self.port, tls=self.tls))

    def send(self, raw: bytes) -> Answer:
        with connect(self.port, tls=self.tls) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(raw)
            answer = read(connection)
        self.answers.append(answer)
        return answer

    def get(self, target: str, **options: object) -> Answer:
        return self.send(request(target, self.port, **options))  # type: ignore[arg-type]

    @property
    def ended(self) -> bool:
        return self._login.done()

    def genuine(self) -> LoginResult:
        assert not self.ended
        self._free.set()
        return self._login.result(20)

    def close(self) -> None:
        self._free.set()
        with contextlib.suppress(BaseException):
            self._login.result(20)
        self.lasting.close()


@pytest.fixture
def pend(
    sandbox: Sandbox,
    redirect_uri: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Pending]]:
    """Begin a login; when the test ends, see that it left no trace of an attack."""
    begun: list[Pending] = []
    caplog.set_level(logging.DEBUG)

    def begin(visit: Callable[[str], Visit] | None = None, *, scheme: str = "http") -> Pending:
        uri = redirect_uri.replace("http", scheme, 1)
        sandbox.redirect_uris.append(uri)
        monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
        begun.append(Pending(uri, visit or Person().visit))
        return begun[-1]

    yield begin
    for pending in begun:
        pending.close()
        secrets = {*sandbox.secrets, pending.state}
        for answer in pending.answers:
            check(answer)
            assert not [secret for secret in secrets if secret in answer.raw.decode() and secret != pending.state]
        shown = capfd.readouterr()
        assert shown.out == ""
        # When a fixture ends, caplog.records are those of the ending alone.
        records = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.records]
        told = shown.err + "\n".join(f"{one.getMessage()} {one.exc_info}" for one in records)
        assert "token" in told
        assert not [secret for secret in secrets if secret in told]
        assert "Traceback" not in shown.err
        # In its debug mode (-X dev) asyncio also tells what took long, and of ends of connections with tracebacks.
        ours = [one for one in records if one.name != "asyncio" or one.levelno > logging.WARNING]
        assert not [one for one in ours if one.exc_info or one.levelno >= logging.WARNING]
        assert MARK not in shown.err
        assert shown.err.count("Ignored") <= 3
        assert "\x1b" not in shown.err


@pytest.fixture
def pending(pend: Callable[..., Pending], sandbox: Sandbox) -> Iterator[Pending]:
    """A login over http; when the test ends, the genuine redirect comes, and succeeds."""
    one = pend()
    yield one
    succeeds(one, sandbox)


def succeeds(pending: Pending, sandbox: Sandbox) -> None:
    assert pending.genuine().how == "browser"
    assert pending.visit.status == 200
    assert "alex.morgan@example.com" in pending.visit.body
    assert not re.search(r"code|state", pending.visit.url)
    assert sandbox.count("authorization_code") == 1
    with pytest.raises(ConnectionRefusedError):  # the truth for who comes too late
        connect(pending.port)


def check(answer: Answer) -> None:
    """See that an answer, if there is one, is as every answer has to be."""
    if answer.status:
        assert {name: value for name, value in pages.HEADERS.items() if answer.headers.get(name.lower()) != value} in (
            {},
            {"Content-Type": "text/html; charset=utf-8"},
        )
        assert answer.headers["server"] == "webex-loopback"
        assert "access-control-allow-origin" not in answer.headers
        assert MARK not in answer.raw.decode()
        assert MARK.strip("<>") not in answer.raw.decode()


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


IDLERS = textwrap.dedent("""
    import resource, socket, sys
    port, count = int(sys.argv[1]), int(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= count + 50:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 50, hard))
    held = []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        held.append(one)
    print("connected", flush=True)
    sys.stdin.read()
""")


@contextlib.contextmanager
def idlers(port: int, count: int = 1000) -> Iterator[None]:
    """Hold many connections that say nothing, from another process, which has descriptors of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", IDLERS, str(port), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "connected\n"
            yield
        finally:
            child.stdin.close()


# Connections


def test_an_idle_connection(pending: Pending) -> None:
    pending.connect()


@linux
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_thousand_idle_connections(pend: Callable[..., Pending], sandbox: Sandbox, scheme: str) -> None:
    pending = pend(scheme=scheme)
    open_before, before = len(os.listdir("/proc/self/fd")), resident()
    pending.lasting.enter_context(idlers(pending.port))
    for _ in range(5):
        time.sleep(0.1)
        assert len(os.listdir("/proc/self/fd")) < open_before + 100
    # A TLS connection of asyncio's has a buffer of 256 kB; a thousand of them would be 256 MB.
    assert resident() - before < 120_000_000
    succeeds(pending, sandbox)


@linux
def test_running_out_of_descriptors(free_port: Callable[[], int], capfd: pytest.CaptureFixture[str]) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    genuine = textwrap.dedent("""
        import sys, urllib.error, urllib.request
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=10)
        except urllib.error.HTTPError as error:
            print(error.code)
    """)
    with running(f"http://127.0.0.1:{free_port()}/callback") as server, idlers(server.port, 200):
        url = f"http://127.0.0.1:{server.port}/callback"
        child = [sys.executable, "-c", genuine, url]
        time.sleep(0.2)
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as browser:
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 10, hard))
            try:
                assert browser.communicate(timeout=15)[0] == "400\n"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert capfd.readouterr().err == ""


def test_half_a_request_that_drips_in(pending: Pending) -> None:
    dripping = [pending.connect() for _ in range(3)]
    stopped = threading.Event()

    def drip() -> None:
        for byte in request("/callback?code=x", pending.port, headers=("X: y",) * 100):
            for one in dripping:
                with contextlib.suppress(OSError):
                    one.send(bytes([byte]))
            if stopped.wait(0.01):
                return

    done = in_thread(drip)
    pending.lasting.callback(lambda: done.result(5))
    pending.lasting.callback(stopped.set)
    time.sleep(0.3)


def test_a_request_that_never_ends_is_cut_off(free_port: Callable[[], int]) -> None:
    with running(f"http://127.0.0.1:{free_port()}/callback") as server, connect(server.port) as slow:
        slow.sendall(b"GET /callback HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert read(slow).raw == b""
        assert 3 < time.monotonic() - began < 8


def test_connections_that_are_reset_at_once(pending: Pending) -> None:
    linger = b"\x01\0\0\0\0\0\0\0"
    for _ in range(200):
        with connect(pending.port) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_end_while_connections_come_in(free_port: Callable[[], int], tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}://localhost:{free_port()}/callback"
    context = server_context(folder=str(tmp_path)) if scheme == "https" else None
    stopped = threading.Event()

    def flood() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError), connect(RedirectURI.parse(uri).port) as one:
                one.sendall(b"GET /callback HTTP/1.1\r\n")

    floods = [in_thread(flood) for _ in range(2)]
    try:
        for _ in range(30):
            with running(uri, context):  # tells what asyncio complains of
                time.sleep(0.005)
    finally:
        stopped.set()
        for one in floods:
            one.result(10)
    gc.collect()  # what was left open is told now


def test_readers_that_do_not_read(pending: Pending) -> None:
    for _ in range(20):
        one = pending.connect()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        one.sendall(request("/callback", pending.port))


# What is no HTTP


def test_tls_at_the_http_port_is_explained_once(
    pend: Callable[..., Pending], sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    pending = pend()
    for _ in range(5):
        with pytest.raises(OSError, match=r"(?i)ssl|reset"):
            connect(pending.port, tls=ANY_CERTIFICATE)
    succeeds(pending, sandbox)
    shown = capfd.readouterr().err
    assert shown.count("came with https:// to the http:// port") == 1
    assert "HSTS" in shown


def test_plain_http_at_the_https_port(pend: Callable[..., Pending], sandbox: Sandbox) -> None:
    pending = pend(scheme="https")
    for raw in (request("/callback", pending.port), b"\x00" * 10_000, b"\x16\x03\x01\x00\x05hello", b""):
        with connect(pending.port) as plain:
            plain.sendall(raw)
            plain.shutdown(socket.SHUT_WR)
            assert read(plain).status == 0
    succeeds(pending, sandbox)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n" * 1000,
        b"\x00" * 100_000,
        b"\xff" * 100_000,
        b"GET\r\n\r\n",
        b"GET /callback\r\n\r\n",
        b"GET /callback HTTP/0.9\r\n\r\n",
        b"GET /callback HTTP/9.9\r\n\r\n",
        b"CONNECT \r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"<policy-file-request/>\x00",
        b"\x05\x01\x00",
        b"GET http://[mark-of-the-attacker HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /<mark-of-the-attacker> HTTP/1.1\r\nHost: <mark-of-the-attacker>\r\n<mark-of-the-attacker>\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: <mark-of-the-attacker>\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
    ],
    ids=range(23),
)
def test_what_is_no_request_of_a_browser(pending: Pending, raw: bytes) -> None:
    with connect(pending.port) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = read(connection)
    check(answer)
    assert answer.status in (0, 400, 404, 421)


# Too much


@linux
def test_a_header_of_a_megabyte_and_many_long_ones(pending: Pending) -> None:
    before = resident()
    many = b"".join(b"x-%d: " % number + b"y" * 60_000 + b"\r\n" for number in range(200))
    for raw in (b"x: " + b"y" * 1_000_000, many, b"Cookie: " + b"y" * 66_000, b"x: y\r\n" * 100_000):
        answer = pending.send(b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1\r\n" + raw + b"\r\n\r\n")
        assert answer.status in (0, 400)
    assert resident() - before < 80_000_000


def test_headers_that_are_too_much_together(pending: Pending) -> None:
    for count, status in ((4, 400), (5, 0)):
        assert (60_000 * count > MOST_BYTES) is (status == 0)
        headers = tuple(f"x-{number}: {'y' * 60_000}" for number in range(count))
        assert pending.send(request("/callback", pending.port, headers=headers)).status == status


@linux
def test_long_headers_on_all_connections_at_once(pending: Pending) -> None:
    before = resident()
    for _ in range(MOST_CONNECTIONS - 2):
        one = pending.connect()
        one.setblocking(False)
        lines = b"".join(b"x-%d: " % number + b"y" * 60_000 + b"\r\n" for number in range(10))
        with contextlib.suppress(OSError):
            for _ in range(10):
                one.send(b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1\r\n" + lines)
    time.sleep(0.3)
    assert resident() - before < 4 * MOST_CONNECTIONS * MOST_BYTES


def test_a_query_of_nine_kilobytes(pending: Pending) -> None:
    assert pending.get(f"/callback?code={'c' * 9000}").status == 400
    assert pending.get(f"/callback?code={'c' * 40_000}&state={pending.state}").status == 400
    assert pending.get(f"/callback?code={'c' * 20_000}&state={pending.state}").status == 400
    assert pending.get(f"/callback?state={pending.state}&code=a" + "&x" * 5_000).status == 400


def test_a_body_without_end(pending: Pending) -> None:
    for framing in ("Content-Length: 1000000000", "Transfer-Encoding: chunked"):
        one = pending.connect()
        one.sendall(request("/callback", pending.port, method="POST", headers=(framing, "Content-Encoding: gzip")))
        one.setblocking(False)
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if "chunked" in framing else b"x" * 65_536
        with contextlib.suppress(OSError):
            for _ in range(1000):
                one.send(chunk)
        one.settimeout(5)
        assert read(one).status in (0, 405)


def test_wrong_states_as_fast_as_can_be(pending: Pending) -> None:
    until, guesses = time.monotonic() + 1.5, 0
    while time.monotonic() < until:
        state = pending.state[:-1] + "!" if guesses % 2 else f"guess-{guesses}"
        assert pending.get(f"/callback?code=stolen&state={state}").status == 400
        guesses += 1
        pending.answers[1:] = []
    assert guesses > 100
    assert not pending.ended


def test_a_hundred_pipelined_requests(pending: Pending) -> None:
    # The second would settle it: but the first answer ends the connection.
    harmful = request(f"/callback?code=stolen&state={pending.state}", pending.port)
    answer = pending.send(request("/callback?code=x", pending.port) + harmful * 100)
    assert answer.status == 400
    assert answer.raw.count(b"HTTP/1.1 ") == 1
    assert not pending.ended


# What looks like the callback


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=stolen",
        "code=stolen&state=",
        "code=stolen&state=wrong",
        f"code={MARK}&state={MARK}",
        "code=stolen&state={state}&state={state}",
        "code=stolen&state=wrong&state={state}",
        "code=stolen&state={state}&state=wrong",
        "code=a&code=b&state={state}",
        "code=a&error=access_denied&state={state}",
        "error=a&error=b&state={state}",
        "code=&state={state}",
        "code&state={state}",
        "error=&state={state}",
        "state={state}",
        "code=%00&state={state}",
        "code=a%0d%0aSet-Cookie:%20a=b&state={state}",
        "code=%ff%fe&state={state}",
        "code=\udcff\udcfe&state={state}",
        "code=stolen&state={state}%00",
        "code=stolen&state=%ff{state}",
        "code=stolen&state=\udcff",
        "code=stolen&state[]={state}",
        "code=stolen;state={state}",
        "error=access_denied",
        f"error=access_denied&error_description={MARK}",
        f"error=access_denied&error_description={MARK}&state=wrong",
        "error=access_denied&state={state}&state={state}",
        "error=%1b[2J%1b]0;owned%07",
    ],
)
def test_a_callback_that_is_not_this_logins(pending: Pending, query: str) -> None:
    answer = pending.get(f"/callback?{query.format(state=pending.state)}")
    assert answer.status == 400
    assert not pending.ended


@pytest.mark.parametrize(
    "method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND"]
)
def test_another_method_with_all_that_is_right(pending: Pending, method: str) -> None:
    answer = pending.get(f"/callback?code=stolen&state={pending.state}", method=method)
    assert answer.status == 405
    assert not pending.ended


def test_a_posted_form(pending: Pending) -> None:
    body = f"code=stolen&state={pending.state}"
    form = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    assert pending.get("/callback", method="POST", headers=form, body=body).status == 405
    assert pending.get("/callback", headers=form, body=body).status == 400


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.nip.io:{port}", "localtest.me:{port}", "0.0.0.0:{port}", ""],
)
def test_a_rebound_name_with_all_that_is_right(pending: Pending, host: str) -> None:
    named = (f"Host: {host.format(port=pending.port)}",)
    for target in (f"/callback?code=stolen&state={pending.state}", pending.start):
        answer = pending.get(target, host=None, headers=named)
        assert answer.status == 421
        assert "location" not in answer.headers
    assert not pending.ended


@pytest.mark.parametrize("origin", ["http://127.0.0.1:{port}", "http://evil.example", "https://127.0.0.1:{port}"])
def test_an_absolute_form_with_all_that_is_right(pending: Pending, origin: str) -> None:
    target = f"{origin.format(port=pending.port)}/callback?code=stolen&state={pending.state}"
    assert pending.get(target).status == 404
    assert not pending.ended


@pytest.mark.parametrize(
    "path",
    ["//callback", "/callback/", "/./callback", "/x/../callback", "/%63allback", "/callback;x", "/CALLBACK"],
)
def test_another_spelling_of_the_path(pending: Pending, path: str) -> None:
    assert pending.get(f"{path}?code=stolen&state={pending.state}").status in (400, 404)
    assert not pending.ended


def test_a_web_page_that_fetches(pending: Pending) -> None:
    page = (
        "Origin: https://evil.example",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: image",
    )
    assert pending.get("/callback?code=stolen&state=guess", headers=page).status == 400
    assert pending.get("/favicon.ico", headers=page).status == 404
    preflight = (*page, "Access-Control-Request-Method: GET", "Access-Control-Request-Private-Network: true")
    answer = pending.get("/callback", method="OPTIONS", headers=preflight)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_browsers_own_extras(pending: Pending) -> None:
    referer = (f"Referer: {pending.redirect_uri}?code=x&state={pending.state}",)
    for path in (
        "/favicon.ico",
        "/apple-touch-icon.png",
        "/robots.txt",
        "/.well-known/appspecific/com.chrome.devtools.json",
    ):
        assert pending.get(path, headers=referer).status == 404
    for purpose in ("Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "X-Moz: prefetch"):
        assert pending.get(pending.start, headers=(purpose,)).headers["location"] == pending.authorize
        assert pending.get("/callback", headers=(purpose,)).status == 400


def test_an_error_without_a_state_is_named_in_the_terminal(
    pend: Callable[..., Pending], sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    pending = pend()
    assert pending.get("/callback?error=access_denied").status == 400
    assert "access_denied). If that was you, press Ctrl-C" in capfd.readouterr().err.replace("\n", " ")
    succeeds(pending, sandbox)


# The genuine one, more than once


class ManyTabs(Person):
    """Somebody whose browser opens the callback in several tabs at once."""

    def __init__(self, redirect_uri: str, others: int) -> None:
        super().__init__()
        self.redirect_uri, self.others = redirect_uri, others
        self.tabs: list[Visit] = []
        self.callback = ""

    def visit(self, url: str) -> Visit:
        visit = super().visit(url)
        deadline = time.monotonic() + 10
        while len(self.tabs) < self.others and time.monotonic() < deadline:
            time.sleep(0.01)
        return visit

    def _fetch(self, url: str, form: object) -> tuple[int, dict[str, str], str]:
        if url.startswith(self.redirect_uri):
            self.callback = url
            for _ in range(self.others):
                in_thread(lambda: self.tabs.append(Person().visit(url)))
        return super()._fetch(url, form)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("others", [1, 4])
def test_the_genuine_callback_in_several_tabs(
    pend: Callable[..., Pending], sandbox: Sandbox, redirect_uri: str, scheme: str, others: int
) -> None:
    sandbox.switches.latency = 0.5  # so that all have come before the end
    person = ManyTabs(redirect_uri.replace("http", scheme, 1), others)
    pending = pend(person.visit, scheme=scheme)
    succeeds(pending, sandbox)
    assert [tab.body for tab in person.tabs] == [pending.visit.body] * others
    assert person.callback
    with pytest.raises(OSError, match="refused"):  # a reload after the end
        Person().visit(person.callback)
    assert sandbox.count("authorization_code") == 1


def test_a_stolen_state_ends_the_login_and_gives_the_thief_nothing(
    pend: Callable[..., Pending], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback, "FAREWELL_SECONDS", 0.2)
    pending = pend(lambda url: Visit(0, url, "", {}, ()))
    thief = in_thread(
        lambda: pending.get(f"/callback?error=access_denied&error_description={MARK}&state={pending.state}")
    )
    with pytest.raises(AuthorizationDenied):
        pending.genuine()
    answer = thief.result(10)
    assert answer.status == 303
    assert sandbox.count("authorization_code") == 0
    sandbox.requests.clear()


def test_a_callback_whose_tab_is_closed_is_still_exchanged(pend: Callable[..., Pending], sandbox: Sandbox) -> None:
    class Closer(Person):
        def _fetch(self, url: str, form: object) -> tuple[int, dict[str, str], str]:
            if "/callback?" in url:
                parts = urlsplit(url)
                with connect(parts.port or 0) as tab:
                    tab.sendall(request(f"{parts.path}?{parts.query}", parts.port or 0))
                    time.sleep(0.01)
                raise http.client.IncompleteRead(b"")
            return super()._fetch(url, form)  # type: ignore[arg-type]

    sandbox.switches.latency = 0.3  # closed before there is an answer
    pending = pend(Closer().visit)
    began = time.monotonic()
    assert pending.genuine().how == "browser"
    assert time.monotonic() - began < 2.5
    assert sandbox.count("authorization_code") == 1


# Python's own checks


def test_nothing_is_left_open(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import gc, os, sys, tempfile
        from webex_loopback.login import log_in
        from webex_loopback.sandbox import Person, Sandbox
        from attack import connect, request, ANY_CERTIFICATE
        from urllib.parse import urlsplit

        os.environ["WEBEX_LOOPBACK_HOME"] = sys.argv[1]
        def visit(url):
            port = urlsplit(url).port
            tls = ANY_CERTIFICATE if url.startswith("https") else None
            half, body = b"GET /callback HTTP/1.1\\r\\nHost: ", ("Content-Length: 9",)
            for raw in (b"", half, b"\\x16\\x03\\x01", request("/", port, headers=body), request("/callback", port)):
                left.append(connect(port))
                left[-1].sendall(raw)
                left.append(connect(port, tls=tls))
                left[-1].sendall(raw)
            return Person().visit(url)
        with Sandbox() as sandbox:
            for uri in sys.argv[2:]:
                left = []
                sandbox.redirect_uris.append(uri)
                os.environ.update(sandbox.environment(uri))
                assert log_in(open_browser=visit, force=True).how == "browser"
                for one in left:
                    one.close()
        gc.collect()
    """)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    done = subprocess.run(
        [
            *(sys.executable, "-X", "dev", "-W", "error", "-c", program, str(tmp_path)),
            *(f"http://127.0.0.1:{port}/callback", f"https://127.0.0.1:{port}/callback"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it would warn, too
        | {"PYTHONPATH": str(Path(pages.__file__).parents[1])},
    )
    # Development mode also reports each step of an event loop that took long; imports do.
    trouble = [line for line in done.stderr.splitlines() if re.search(r"Warning|Error|Traceback|never|unclosed", line)]
    assert not trouble
    assert done.returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_ctrl_c_while_a_callback_is_held_and_others_idle(
    sandbox: Sandbox, redirect_uri: str, tmp_path: Path, scheme: str
) -> None:
    program = textwrap.dedent("""
        import sys
        from webex_loopback.login import log_in
        try:
            log_in(open_browser=lambda url: print(url, flush=True))
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    uri = redirect_uri.replace("http", scheme, 1)
    sandbox.redirect_uris.append(uri)
    sandbox.switches.latency = 1.5
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with (
        contextlib.ExitStack() as clients,
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ | {"PYTHONPATH": str(Path(pages.__file__).parents[1]), "WEBEX_REDIRECT_URI": uri},
        ) as child,
    ):
        assert child.stdout is not None
        start = child.stdout.readline().strip()
        seen = in_thread(lambda: Person().visit(start))
        port, tls = urlsplit(uri).port or 0, ANY_CERTIFICATE if scheme == "https" else None
        for raw in (
            b"",
            b"GET /callback HTTP/1.1\r\n",
            request("/", port, method="POST", headers=("Content-Length: 9",)),
        ):
            clients.enter_context(connect(port)).sendall(raw)
            clients.enter_context(connect(port, tls=tls)).sendall(raw)
        deadline = time.monotonic() + 10
        while not sandbox.count("authorization_code") and time.monotonic() < deadline:
            time.sleep(0.01)  # the exchange is under way, and the callback held
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, shown = child.communicate(timeout=15)
        assert time.monotonic() - began < 2.5
        assert child.returncode == 130
        assert "cancelled" in seen.result(10).body.lower()
    assert not re.search(r"Traceback|Error|Warning|never|unclosed", shown)
