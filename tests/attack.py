"""What an attacker on this machine, or a page in its browser, can do to a loopback port; and a server to do it to."""

import asyncio
import contextlib
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from webex_loopback.authorization import AuthorizationRequest, AuthorizationResponse, RedirectURI
from webex_loopback.loopback import Listener, LoopbackServer, bind
from webex_loopback.pages import FailurePage, SuccessPage

T = TypeVar("T")

ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname = False
ANY_CERTIFICATE.verify_mode = ssl.CERT_NONE

SUCCESS = SuccessPage(
    profile="default",
    account_name="Alex Morgan",
    account_email="alex.morgan@example.com",
    granted=("spark:people_read",),
    missing=(),
    access_token_until=None,
    refresh_token_until=None,
)


@dataclass(frozen=True)
class Answer:
    """An HTTP response as it stood on the wire; `status` 0: the connection ended without one."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw[9:12]) if self.raw.startswith(b"HTTP/1.") else 0

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[2].decode()


def connect(
    port: int, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, timeout: float = 10
) -> socket.socket:
    """Open a connection; with `tls`, after the handshake."""
    plain = socket.create_connection((host, port), timeout)
    try:
        return tls.wrap_socket(plain, server_hostname=host) if tls else plain
    except BaseException:
        plain.close()
        raise


def read(connection: socket.socket) -> Answer:
    """Read to the end, or to the reset that follows what was not read to the end."""
    raw = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := connection.recv(65_536):
            raw += chunk
    return Answer(raw)


def send(port: int, raw: bytes, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> Answer:
    """Send bytes on a connection of their own, and return what comes back."""
    with connect(port, host, tls=tls) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(raw)
        return read(connection)


def request(
    target: str,
    port: int,
    *,
    method: str = "GET",
    host: str | None = "127.0.0.1",
    headers: tuple[str, ...] = (),
    body: str = "",
) -> bytes:
    """Return a request's bytes; surrogates in it stand for bytes that are no UTF-8."""
    named = () if host is None else (f"Host: {host}:{port}" if ":" not in host.strip("[]") else f"Host: {host}",)
    lines = (f"{method} {target} HTTP/1.1", *named, *headers, "", body)
    return "\r\n".join(lines).encode(errors="surrogateescape")


class Running:
    """A loopback server in a thread of its own, for tests that speak to it by blocking sockets."""

    def __init__(self, listener: Listener, context: ssl.SSLContext | None = None) -> None:
        self.events: list[tuple[str, str]] = []
        self.loop = asyncio.new_event_loop()
        self.port = listener.redirect_uri.port
        self.path = listener.redirect_uri.path
        self.request = AuthorizationRequest(
            authorize_url="http://127.0.0.1:9/v1/authorize",
            client_id="C0",
            redirect_uri=listener.redirect_uri.text,
            scopes=("spark:people_read", "spark:kms"),
        )
        self.trouble: list[str] = []  # what asyncio would print
        self.loop.set_exception_handler(lambda loop, told: self.trouble.append(_text_of(told)))
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.server = self.call(self._start(listener, context))

    async def _start(self, listener: Listener, context: ssl.SSLContext | None) -> LoopbackServer:
        server = LoopbackServer(
            listener, self.request, context=context, on_event=lambda kind, text: self.events.append((kind, text))
        )
        await server.start()
        return server

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    @property
    def settled(self) -> bool:
        return ("received", "") in self.events

    def response(self) -> AuthorizationResponse:
        return self.call(asyncio.wait_for(self.server.response(), 5))

    def conclude(self, page: SuccessPage | FailurePage = SUCCESS) -> None:
        self.call(self.server.conclude(page))

    def callback(self, **fields: str) -> str:
        """Return the target of a callback with this login's state, unless another is given."""
        return f"{self.path}?{urlencode({'state': self.request.state} | fields)}"

    def get(self, target: str, **options: Any) -> Answer:
        return send(self.port, request(target, self.port, **options))

    def close(self) -> None:
        try:
            self.call(self.server.close())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


@contextlib.contextmanager
def running(redirect_uri: str, context: ssl.SSLContext | None = None) -> Iterator[Running]:
    listener, refusals = bind([RedirectURI.parse(redirect_uri)])
    assert listener is not None, refusals
    server = Running(listener, context)
    try:
        yield server
    finally:
        server.close()
    assert not server.trouble, "\n".join(server.trouble)


def _text_of(told: dict[str, Any]) -> str:
    error = told.get("exception")
    return "\n".join([str(told["message"]), *(traceback.format_exception(error) if error else ())])


def in_thread(action: Callable[[], T]) -> "Future[T]":
    """Begin something that blocks; `.result(timeout)` gives or raises what becomes of it."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(action())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
