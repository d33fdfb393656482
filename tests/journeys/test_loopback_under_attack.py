"""A login goes on while somebody else on the machine, or a page in its browser, attacks the loopback port.

Whatever happened: the genuine redirect settles the login, nothing of a request comes back unescaped, every answer has
our headers, and neither stderr nor a log has a traceback or a secret.
"""

import contextlib
import logging
import os
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
@pytest.mark.parametrize(("scheme", "says_hello", "megabytes"), [("http", False, 20), ("https", True, 40)])
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
        b"GET /callback HTTP/9.9\r\n\r\n",
        b"CONNECT \r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[mark-of-the-attacker HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /<mark-of-the-attacker> HTTP/1.1\r\nHost: <mark-of-the-attacker>\r\n<mark-of-the-attacker>\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: <mark-of-the-attacker>\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffffff\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=range(14),
)
def test_what_is_not_a_request_of_a_browser(login: Attacked, raw: bytes) -> None:
    assert login.send(raw, half_close=True).status in (0, 400, 404, 421)


# Too much


def test_headers_of_megabytes(login: Attacked) -> None:
    def send(one: socket.socket) -> None:
        one.sendall(b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(4 * MOST_BYTES // 60_000):  # aiohttp accepts ten times as many
            one.sendall(b"x%d: " % number + b"y" * 60_000 + b"\r\n")
            time.sleep(0.02)

    with connect(login.port) as one, pytest.raises(ConnectionError):
        send(one)


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
        "/callback?code=stolen&state[]={state}",
        "/callback?code=stolen;state={state}",
        f"/callback?error=access_denied&error_description={MARK}",
        "/callback?error=%1b[2J%1b]0;owned%07",
        "http://127.0.0.1:{port}/callback?code=stolen&state={state}",
    ],
)
def test_a_url_that_looks_like_the_callback(login: Attacked, target: str) -> None:
    assert login.get(target.format(port=login.port, state=login.state)).status in (400, 404)
