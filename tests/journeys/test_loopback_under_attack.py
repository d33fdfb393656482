"""A login goes on while somebody else on the machine, or a page in its browser, attacks the loopback port.

Whatever happened: the genuine redirect settles the login, nothing of a request comes back unescaped, every answer has
our headers, and neither stderr nor a log has a traceback or a secret.
"""

import contextlib
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.attack import MARK, Answer, Running, connect, in_thread, read, request, running
from webex_loopback.login.certificate import server_context
from webex_loopback.login.connections import MOST_BYTES
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.secret import Secret

pytestmark = pytest.mark.slow

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")


class Attacked:
    """A login that waits, and ways to attack it."""

    def __init__(self, server: Running) -> None:
        self.server = server
        self.port, self.state = server.port, server.request.state
        self.cookie = server.open()
        self.lasting = contextlib.ExitStack()  # what goes on until the genuine redirect has come

    def connect(self) -> socket.socket:
        return self.lasting.enter_context(connect(self.port, tls=self.server.tls))

    def send(self, raw: bytes, *, half_close: bool = False) -> Answer:
        with connect(self.port, tls=self.server.tls) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(raw)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            answer = read(connection)
        answer.check()
        return answer

    def get(self, target: str, *, headers: tuple[str, ...] = (), **options: Any) -> Answer:
        """Send a request with the cookie: the attacker, or a page of his, uses the user's browser."""
        return self.send(request(target, self.port, headers=(self.cookie, *headers), **options))

    def end(self) -> None:
        """Assert that the genuine redirect still settles the login."""
        assert "received" not in self.server.kinds
        answer = self.server.hold(self.server.callback(code="genuine"))
        assert self.server.response().code == Secret("genuine")
        page = self.server.finish(answer)
        assert (page.status, "alex.morgan@example.com" in page.body) == (200, True)


@pytest.fixture
def attack(
    free_port: Callable[[], int], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[str], Attacked]]:
    """Start a login over http or https; when the test ends, the genuine redirect comes, and no trace is left."""
    caplog.set_level(logging.DEBUG)
    with contextlib.ExitStack() as stack:
        started: list[Attacked] = []

        def start(scheme: str = "http") -> Attacked:
            context = server_context(folder=str(tmp_path)) if scheme == "https" else None
            server = stack.enter_context(running(f"{scheme}://127.0.0.1:{free_port()}/callback", context))
            started.append(Attacked(server))
            return started[-1]

        yield start
        (attacked,) = started
        with attacked.lasting:
            attacked.end()
    shown = capfd.readouterr()
    told = shown.out + shown.err + "\n".join(f"{one.getMessage()} {one.exc_info}" for one in caplog.records)
    terminal = "".join(text for _, text in attacked.server.events)
    for secret in ("genuine", attacked.state, attacked.cookie.partition("=")[2]):
        assert secret not in told + terminal
    assert "Traceback" not in told
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING and one.name != "asyncio"]
    assert MARK not in terminal
    assert not terminal or terminal.isprintable()


@pytest.fixture
def login(attack: Callable[[str], Attacked]) -> Attacked:
    return attack("http")


# Connections

FLOOD = textwrap.dedent("""
    import contextlib, resource, socket, ssl, sys, time
    port, count, says_hello = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= count + 50:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 50, hard))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    hello = outgoing.read() if says_hello else b""
    held, deadline = [], time.monotonic() + 15
    while len(held) < count and time.monotonic() < deadline:
        one = socket.socket()
        one.settimeout(0.02)  # when the queue is full, the kernel would try again after a second
        try:
            one.connect(("127.0.0.1", port))
            one.send(hello)
            held.append(one)
        except OSError:
            one.close()
    print(len(held), flush=True)
    sys.stdin.read()
""")


@contextlib.contextmanager
def flood(port: int, count: int, *, says_hello: bool = False) -> Iterator[None]:
    """Hold many connections, perhaps each in a TLS handshake, from a process that has descriptors of its own."""
    command = [sys.executable, "-c", FLOOD, str(port), str(count), str(says_hello)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert int(child.stdout.readline()) >= min(count, 300)
            yield
        finally:
            child.stdin.close()


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@linux
@pytest.mark.parametrize(
    ("scheme", "says_hello", "megabytes"), [("http", False, 20), ("https", False, 40), ("https", True, 40)]
)
def test_a_flood_of_connections_takes_little_memory(
    attack: Callable[[str], Attacked], scheme: str, says_hello: bool, megabytes: int
) -> None:
    login = attack(scheme)
    descriptors, before = len(os.listdir("/proc/self/fd")), resident()
    most, stopped = [0, 0], threading.Event()

    def watch() -> None:
        while not stopped.wait(0.05):
            most[:] = max(most[0], resident()), max(most[1], len(os.listdir("/proc/self/fd")))

    watching = in_thread(watch)
    login.lasting.enter_context(flood(login.port, 2500, says_hello=says_hello))
    stopped.set()
    watching.result(5)
    # asyncio and OpenSSL take half a megabyte for each TLS connection; version 1.0 took 280 MB for this.
    assert most[0] - before < megabytes << 20
    assert most[1] < descriptors + 100


def test_half_a_request_that_drips_in(login: Attacked) -> None:
    dripping, stopped = [login.connect() for _ in range(3)], threading.Event()

    def drip() -> None:
        for byte in request("/callback?code=x", login.port, headers=("X: y",) * 100):
            for one in dripping:
                with contextlib.suppress(OSError):
                    one.send(bytes([byte]))
            if stopped.wait(0.01):
                return

    done = in_thread(drip)
    login.lasting.callback(lambda: done.result(5))
    login.lasting.callback(stopped.set)
    time.sleep(0.3)


def test_connections_that_are_reset_at_once(login: Attacked) -> None:
    for _ in range(200):
        with connect(login.port) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def test_readers_that_do_not_read(login: Attacked) -> None:
    for _ in range(20):
        one = login.connect()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        one.sendall(request("/callback", login.port))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_end_while_connections_come_in(free_port: Callable[[], int], tmp_path: Path, scheme: str) -> None:
    uri = f"{scheme}://localhost:{free_port()}/callback"
    context = server_context(folder=str(tmp_path)) if scheme == "https" else None
    stopped = threading.Event()

    def hammer() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError), connect(RedirectURI.parse(uri).port) as one:
                one.sendall(b"GET /callback HTTP/1.1\r\n")

    hammers = [in_thread(hammer) for _ in range(2)]
    try:
        for _ in range(30):
            with running(uri, context):  # asserts that asyncio had nothing to complain about
                time.sleep(0.005)
    finally:
        stopped.set()
        for one in hammers:
            one.result(10)
    gc.collect()  # what was left open is reported now


# Not HTTP


@pytest.mark.parametrize(
    "raw", [b"GET /callback HTTP/1.1\r\n\r\n", b"\x00" * 10_000, b"\x16\x03\x01\x00\x05hello", b""]
)
def test_what_is_not_tls_at_the_https_port(attack: Callable[[str], Attacked], raw: bytes) -> None:
    with connect(attack("https").port) as plain:
        plain.sendall(raw)
        plain.shutdown(socket.SHUT_WR)
        assert read(plain).status == 0


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
def test_what_is_not_a_request_of_a_browser(login: Attacked, raw: bytes) -> None:
    assert login.send(raw, half_close=True).status in (0, 400, 404, 421)


def test_a_connect_without_a_target_is_not_kept_open(login: Attacked) -> None:
    began = time.monotonic()
    assert login.send(b"CONNECT \r\n\r\n").status in (0, 400)
    assert time.monotonic() - began < 3


# Too much


def test_headers_of_megabytes(login: Attacked) -> None:
    def send(one: socket.socket) -> None:
        one.sendall(b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(4 * MOST_BYTES // 60_000):  # aiohttp accepts ten times as many
            one.sendall(b"x%d: " % number + b"y" * 60_000 + b"\r\n")
            time.sleep(0.02)

    with connect(login.port) as one, pytest.raises(ConnectionError):
        send(one)


@pytest.mark.parametrize("query", ["code={long}", "code={long}&state={state}", "state={state}&code=a{fields}"])
def test_an_overlong_query(login: Attacked, query: str) -> None:
    for length in (20_000, 40_000):
        filled = query.format(long="c" * length, state=login.state, fields="&x" * (length // 2))
        assert login.get(f"/callback?{filled}").status == 400


@pytest.mark.parametrize("framing", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_body_without_end(login: Attacked, framing: str) -> None:
    one = login.connect()
    one.sendall(request("/callback", login.port, method="POST", headers=(framing, "Content-Encoding: gzip")))
    one.setblocking(False)
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if "chunked" in framing else b"x" * 65_536
    with contextlib.suppress(OSError):
        for _ in range(1000):
            one.send(chunk)
    one.settimeout(5)
    assert read(one).status in (0, 405)


def test_wrong_states_as_fast_as_possible(login: Attacked) -> None:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        for state in (login.state[:-1] + "!", login.state[:-1], login.state + "A"):
            assert login.get(f"/callback?code=stolen&state={state}").status == 400


def test_a_hundred_pipelined_requests(login: Attacked) -> None:
    # The second would settle it, but the first answer ends the connection.
    harmful = request(f"/callback?code=stolen&state={login.state}", login.port, headers=(login.cookie,))
    answer = login.send(request("/callback?code=x", login.port) + harmful * 100)
    assert answer.status == 400
    assert answer.raw.count(b"HTTP/1.1 ") == 1


# What looks like the callback, with the cookie; what an ordinary mistake looks like is in test_loopback_server


@pytest.mark.parametrize(
    "target",
    [
        f"/callback?code={MARK}&state={MARK}",
        "/callback?code=a%0d%0aSet-Cookie:%20a=b&state={state}",
        "/callback?code=\udcff\udcfe&state={state}",
        "/callback?code=stolen&state={state}%00",
        "/callback?code=stolen&state=%ff{state}",
        "/callback?code=stolen&state=\udcff",
        "/callback?code=stolen&state[]={state}",
        "/callback?code=stolen;state={state}",
        f"/callback?error=access_denied&error_description={MARK}",
        "/callback?error=%1b[2J%1b]0;owned%07",
        "http://127.0.0.1:{port}/callback?code=stolen&state={state}",
        "http://evil.example/callback?code=stolen&state={state}",
        "/./callback?code=stolen&state={state}",
        "/x/../callback?code=stolen&state={state}",
        "/%63allback?code=stolen&state={state}",
        "/callback;x?code=stolen&state={state}",
    ],
)
def test_a_url_that_looks_like_the_callback(login: Attacked, target: str) -> None:
    assert login.get(target.format(port=login.port, state=login.state)).status in (400, 404)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_form_with_everything_right(login: Attacked, method: str) -> None:
    body = f"code=stolen&state={login.state}"
    form = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    assert login.get("/callback", method=method, headers=form, body=body).status in (400, 405)


def test_a_web_page_that_fetches(login: Attacked) -> None:
    page = ("Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    assert login.get("/callback?code=stolen&state=guess", headers=page).status == 400
    preflight = (*page, "Access-Control-Request-Method: GET", "Access-Control-Request-Private-Network: true")
    assert login.get("/callback", method="OPTIONS", headers=preflight).status == 405


# Python's own checks


def test_nothing_is_left_open(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import gc, os, sys
        from urllib.parse import urlsplit
        from tests.journeys.attack import ANY_CERTIFICATE, connect, request
        from webex_loopback import log_in
        from webex_loopback.sandbox import Person, Sandbox

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
            for uri in sys.argv[1:]:
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
    uris = (f"http://127.0.0.1:{port}/callback", f"https://127.0.0.1:{port}/callback")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # it would warn, too
    environ |= {"PYTHONPATH": str(Path(__file__).parents[2]), "WEBEX_LOOPBACK_HOME": str(tmp_path / "data")}
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, *uris]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environ)
    # Development mode also reports the steps of an event loop that took long; imports do.
    trouble = [line for line in done.stderr.splitlines() if re.search(r"Warning|Error|Traceback|never|unclosed", line)]
    assert trouble == []
    assert done.returncode == 0
