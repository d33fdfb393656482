"""Raw connections to a loopback server, and a server to attack: what other users and web pages can send to it."""

import asyncio
import contextlib
import email
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlencode

from webex_loopback.login.listener import Listener, bind
from webex_loopback.login.loopback_server import LoopbackServer
from webex_loopback.login.pages import HEADERS, FailurePage, SuccessPage
from webex_loopback.oauth.authorization import AuthorizationRequest, AuthorizationResponse
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.webex import worker

T = TypeVar("T")

ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE

MARK = "<mark-of-the-attacker>"
SUCCESS = SuccessPage("default", "Alex Morgan", "alex.morgan@example.com", ("spark:people_read",), (), None, None)

in_thread = worker.start


class Answer:
    """An HTTP response as sent; `status` 0: the connection ended without one."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, body = raw.partition(b"\r\n\r\n")
        self.status = int(raw[9:12]) if raw.startswith(b"HTTP/1.") else 0
        self.headers = email.message_from_bytes(head.partition(b"\r\n")[2])
        self.body = body.decode()

    def check(self) -> "Answer":
        """Assert what must hold for every answer; return the answer."""
        if self.status:
            wrong = {name for name, value in HEADERS.items() if self.headers[name] != value}
            assert wrong <= {"Content-Type"}
            assert self.headers["content-type"] in ("text/html; charset=utf-8", "text/plain; charset=utf-8")
            assert self.headers["server"] == "webex-loopback"
            assert "access-control-allow-origin" not in self.headers
            assert self.status == 302 or "set-cookie" not in self.headers
            assert self.raw.startswith(b"HTTP/1.0") or self.headers["connection"] == "close"
            assert MARK.strip("<>") not in self.raw.decode()
        return self


def connect(port: int, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Open a connection; with `tls`, after the handshake."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection((host, port), 10))
        connection = tls.wrap_socket(plain, server_hostname=host) if tls else plain
        stack.pop_all()
    return connection


def read(connection: socket.socket) -> Answer:
    """Read to the end, or to the reset that follows a request which was not read to its end."""
    raw = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := connection.recv(65_536):
            raw += chunk
    return Answer(raw)


def send(
    port: int, raw: bytes, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, half_close: bool = False
) -> Answer:
    """Send bytes on a connection of their own and return what comes back."""
    with connect(port, host, tls=tls) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        return read(connection)


def request(
    target: str, port: int, *, method: str = "GET", host: str | None = "127.0.0.1", headers: tuple[str, ...] = ()
) -> bytes:
    """Return a request as bytes; surrogates in it stand for bytes that are not UTF-8."""
    named = () if host is None else (f"Host: {host}:{port}" if ":" not in host.strip("[]") else f"Host: {host}",)
    return "\r\n".join((f"{method} {target} HTTP/1.1", *named, *headers, "", "")).encode(errors="surrogateescape")


class Running:
    """A loopback server in a thread of its own, for tests that talk to it through blocking sockets."""

    def __init__(
        self,
        listener: Listener,
        context: ssl.SSLContext | None = None,
        network_problem: Callable[[], Awaitable[FailurePage | None]] | None = None,
        language: str = "en",
    ) -> None:
        self.events: list[tuple[str, str]] = []
        self._cookie = ""
        self.trouble: list[str] = []  # asyncio's
        self.tls = ANY_CERTIFICATE if context else None
        self.listener = listener
        self.port, self.path = listener.redirect_uri.port, listener.redirect_uri.path
        self.printed_path, self.browser_path = listener.printed_path, listener.browser_path
        self.request = AuthorizationRequest(
            authorize_url="http://127.0.0.1:9/v1/authorize",
            client_id="C0",
            redirect_uri=listener.redirect_uri.text,
            scopes=("spark:people_read", "spark:kms"),
        )
        ready: Future[None] = Future()

        async def serve() -> None:
            self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self.loop.set_exception_handler(lambda _, context: self.trouble.append(str(context)))
            self.server = LoopbackServer(
                listener,
                self.request,
                context=context,
                on_event=lambda kind, text: self.events.append((kind, text)),
                network_problem=network_problem and network_problem(),
                profile="work",
                language=language,
            )
            await self.server.start()
            ready.set_result(None)
            await self._stop.wait()
            await self.server.close()

        self._serving = in_thread(lambda: asyncio.run(serve()))
        ready.result(20)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(20)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [kind for kind, _ in self.events]

    def open(self) -> str:
        """Open the printed URL, as a browser does, without leaving an event; return the cookie's request header."""
        if not self._cookie:
            self._cookie = f"Cookie: {self.get(self.printed_path).headers['set-cookie'].partition(';')[0]}"
            assert self.events.pop() == ("opened", "")
        return self._cookie

    def callback(self, **fields: str) -> str:
        """Return the target of a callback with this login's state, unless another is given."""
        return f"{self.path}?{urlencode({'state': self.request.state} | fields)}"

    def get(self, target: str, **options: Any) -> Answer:
        return send(self.port, request(target, self.port, **options), tls=self.tls)

    def hold(self, target: str) -> "Future[Answer]":
        """Send a callback from a browser that has the cookie; return once the server holds it."""
        cookie, held = self.open(), self.held()
        answer = in_thread(lambda: self.get(target, headers=(cookie,)))
        wait_until(lambda: self.held() > held or answer.done())
        assert not answer.done(), answer.result()
        return answer

    def held(self) -> int:
        """Count the callbacks that wait; no event tells."""
        return self.server._waiting

    def follow(self, answer: Answer) -> Answer:
        """Go where an answer redirects to on this server."""
        assert answer.status == 303
        origin = self.listener.redirect_uri.origin
        assert answer.headers["location"].startswith(f"{origin}/")
        return self.get(answer.headers["location"].removeprefix(origin))

    def response(self) -> AuthorizationResponse:
        return self.call(asyncio.wait_for(self.server.response(), 5))

    def finish(self, answer: "Future[Answer]", page: SuccessPage | FailurePage = SUCCESS) -> Answer:
        """Conclude as a login does while the browser that waits follows; return the page it ends on."""
        conclusion = self.begin(self.server.conclude(page))
        seen = self.follow(answer.result(10))
        conclusion.result(1)
        return seen

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._serving.result(20)


@contextlib.contextmanager
def running(redirect_uri: str, context: ssl.SSLContext | None = None, **options: Any) -> Iterator[Running]:
    """Run a server; asserts in the end that asyncio had nothing to complain about."""
    listener, refusals = bind([RedirectURI.parse(redirect_uri)])
    assert listener is not None, refusals
    with contextlib.closing(Running(listener, context, **options)) as server:
        yield server
    assert server.trouble == []


def wait_until(claim: Callable[[], object], seconds: float = 10) -> None:
    """Wait until a claim is true."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.001)
