"""A login goes on while somebody else on the machine, or a page in its browser, attacks the loopback port.

Whatever happened: the genuine redirect settles the login, nothing of a request comes back unescaped, every answer has
our headers, and neither stderr nor a log has a traceback or a secret.
"""

import contextlib
import logging
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.attack import ANY_CERTIFICATE, MARK, Running, connect, read, request, running, send
from webex_loopback.login.certificate import server_context
from webex_loopback.login.connections import MOST_BYTES
from webex_loopback.secret import Secret

pytestmark = pytest.mark.slow


@pytest.fixture
def lasting() -> Iterator[contextlib.ExitStack]:
    """What goes on until the genuine redirect has come."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def login(
    request: pytest.FixtureRequest, lasting: contextlib.ExitStack, free_port: Callable[[], int], tmp_path: Path,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> Iterator[Running]:  # fmt: skip
    """A login that waits, over http or https; when the test ends, the genuine redirect comes, and no trace is left."""
    caplog.set_level(logging.DEBUG)
    scheme = getattr(request, "param", "http")
    context = server_context(folder=str(tmp_path)) if scheme == "https" else None
    with running(f"{scheme}://127.0.0.1:{free_port()}/callback", context) as server:
        cookie = server.open()
        yield server
        assert "received" not in server.kinds
        answer = server.hold(server.callback(code="genuine"))
        assert server.response().code == Secret("genuine")
        page = server.finish(answer)
        assert (page.status, "alex.morgan@example.com" in page.body) == (200, True)
    shown = capfd.readouterr()
    told = shown.out + shown.err + "\n".join(f"{one.getMessage()} {one.exc_info}" for one in caplog.records)
    terminal = "".join(text for _, text in server.events)
    for secret in ("genuine", server.request.state, cookie.partition("=")[2]):
        assert secret not in told + terminal
    assert "Traceback" not in told
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING and one.name != "asyncio"]
    assert MARK not in terminal
    assert not terminal or terminal.isprintable()


# Connections


def client_hello() -> bytes:
    """Return the first bytes of a TLS handshake."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ANY_CERTIFICATE.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def taken() -> tuple[int, int]:
    """Return this process's resident memory in bytes, and its number of open descriptors."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize(("login", "megabytes"), [("http", 20), ("https", 40)], indirect=["login"])
def test_a_flood_of_connections_takes_little_memory(
    login: Running, lasting: contextlib.ExitStack, megabytes: int
) -> None:
    import resource  # not on Windows

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    lasting.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    hello = client_hello() if login.tls else b""
    memory, descriptors = taken()
    held, deadline = 0, time.monotonic() + 15
    while held < 2500 and time.monotonic() < deadline:
        one = socket.socket()
        one.settimeout(0.02)  # when the queue is full, the kernel would try again after a second
        try:
            one.connect(("127.0.0.1", login.port))
            one.send(hello)
        except OSError:
            one.close()
        else:
            lasting.enter_context(one)
            held += 1
    time.sleep(0.3)
    more_memory, more_descriptors = taken()
    assert held >= 300
    # asyncio and OpenSSL take half a megabyte for each TLS connection; version 1.0 took 280 MB for this.
    assert more_memory - memory < megabytes << 20
    assert more_descriptors - held < descriptors + 100


# Not HTTP


@pytest.mark.parametrize("login", ["https"], indirect=True)
@pytest.mark.parametrize(
    "raw", [b"GET /callback HTTP/1.1\r\n\r\n", b"\x00" * 10_000, b"\x16\x03\x01\x00\x05hello", b""]
)
def test_what_is_not_tls_at_the_https_port(login: Running, raw: bytes) -> None:
    assert send(login.port, raw, half_close=True).status == 0


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
def test_what_is_not_a_request_of_a_browser(login: Running, raw: bytes) -> None:
    assert send(login.port, raw, half_close=True).check().status in (0, 400, 404, 421)


# Too much


def test_headers_of_megabytes(login: Running) -> None:
    def pour(one: socket.socket) -> None:
        one.sendall(b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(4 * MOST_BYTES // 60_000):  # aiohttp accepts ten times as many
            one.sendall(b"x%d: " % number + b"y" * 60_000 + b"\r\n")
            time.sleep(0.02)

    with connect(login.port) as one, pytest.raises(ConnectionError):
        pour(one)


@pytest.mark.parametrize("framing", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_body_without_end(login: Running, lasting: contextlib.ExitStack, framing: str) -> None:
    one = lasting.enter_context(connect(login.port))
    one.sendall(request("/callback", login.port, method="POST", headers=(framing, "Content-Encoding: gzip")))
    one.setblocking(False)
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if "chunked" in framing else b"x" * 65_536
    with contextlib.suppress(OSError):
        for _ in range(1000):
            one.send(chunk)
    one.settimeout(5)
    assert read(one).status in (0, 405)


def test_a_hundred_pipelined_requests(login: Running) -> None:
    # The second would settle it, but the first answer ends the connection.
    harmful = request(f"/callback?code=stolen&state={login.request.state}", login.port, headers=(login.open(),))
    answer = send(login.port, request("/callback?code=x", login.port) + harmful * 100).check()
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
def test_a_url_that_looks_like_the_callback(login: Running, target: str) -> None:
    target = target.format(port=login.port, state=login.request.state)
    # With the cookie: the attacker, or one of their pages, uses the user's browser.
    assert login.get(target, headers=(login.open(),)).check().status in (400, 404)
