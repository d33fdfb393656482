"""Accepts the loopback server's connections, and limits their number, their time, and what they send."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from .listener import Listener
from .pages import HEADERS

MOST_CONNECTIONS = 24  # asyncio and OpenSSL take half a megabyte for each that speaks TLS
LONGEST_SECONDS = 10.0  # from accepting a connection to its end, unless it waits for the outcome of the login
MOST_BYTES = 262_144  # per connection: aiohttp limits each header, but accepts 128 of the longest
LONGEST_LINE = 32_768
LONGEST_HEADER = 65_536  # browsers send the cookies of all servers on localhost, whatever their port

# aiohttp logs malformed requests with tracebacks, and logging prints what has no handler.
_QUIET = logging.getLogger(f"{__name__}.aiohttp")
_QUIET.propagate = False
_QUIET.addHandler(logging.NullHandler())


def respond(status: int, text: str, headers: Mapping[str, str] | None = None, *, html: bool = False) -> web.Response:
    """Build a response that has our headers and ends its connection."""
    fixed = {"Content-Type": f"text/{'html' if html else 'plain'}; charset=utf-8"}
    fixed["Server"] = "webex-loopback"  # aiohttp would name its version and Python's
    if status == 405:
        fixed["Allow"] = "GET"
    response = web.Response(status=status, body=text.encode(), headers={**HEADERS, **fixed, **(headers or {})})
    response.force_close()
    return response


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with limits, and without details about malformed requests."""

    def __init__(self, manager: web.Server, on_tls: Callable[[], None] | None) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # it would print the code
            logger=_QUIET,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_HEADER,
            auto_decompress=False,  # bodies are not read, and one might be a decompression bomb
            lingering_time=1,
        )
        self.deadline = asyncio.timeout(LONGEST_SECONDS)
        self.lost = asyncio.Event()
        self.on_tls = on_tls
        self.kept = False
        self.received = 0

    def keep(self) -> None:
        """Lift the limits on time and number: this connection waits for the outcome of the login."""
        self.kept = True
        with contextlib.suppress(RuntimeError):  # it may be timing out right now
            self.deadline.reschedule(None)

    async def start(self) -> None:
        try:
            await super().start()
        except Exception:  # aiohttp 3.14.5 fails at CONNECT without a target, and would keep the connection
            self.force_close()

    def data_received(self, data: bytes) -> None:
        if self.on_tls and not self.received and data.startswith(b"\x16\x03"):  # a TLS handshake record
            self.on_tls()
        self.received += len(data)
        if self.received > MOST_BYTES and self.transport is not None:
            self.transport.abort()
        else:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost.set()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        return respond(status, "This request cannot be answered.")  # the message would quote it


class Connections:
    """The connections to a listener. When there are too many, the oldest is closed before another is served.

    Args:
        answer: Returns the response to a request; cancelled if the connection is lost.
        on_tls: Called when a client speaks TLS without `context`.
    """

    def __init__(
        self,
        listener: Listener,
        context: ssl.SSLContext | None,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        on_tls: Callable[[], None],
    ) -> None:
        self._listener, self._context = listener, context
        self._on_tls = None if context else on_tls
        self._manager = web.Server(answer, handler_cancellation=True)
        self._open: dict[asyncio.Task[None], Connection] = {}  # oldest first
        self._closing = False
        self._accepting = [asyncio.create_task(self._accept(bound)) for bound in listener.sockets]

    async def close(self) -> None:
        """Stop listening, finish sending responses, and close everything."""
        self._closing = True
        for bound in self._listener.sockets:
            # Cancelling sock_accept() leaves a traceback if a connection comes in at the same moment.
            with contextlib.suppress(NotImplementedError):  # Windows' event loop has no readers, nor this problem
                asyncio.get_running_loop().remove_reader(bound)
        await asyncio.sleep(0)  # a connection that was just accepted gets its task
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._listener.close()
        self._manager.pre_shutdown()
        await self._manager.shutdown(0.5)
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                accepted, _ = await loop.sock_accept(bound)
                await self._admit(accepted)
                await asyncio.sleep(0)  # sock_accept() lets nothing else run while connections are waiting
            except Exception:  # no descriptors or memory, a reset while waiting, anything: the login continues
                self._close_oldest()
                await asyncio.sleep(0.05)

    async def _admit(self, accepted: socket.socket) -> None:
        """Serve a connection as soon as there is room: even an unfinished TLS handshake takes memory."""
        try:
            while len(self._open) >= MOST_CONNECTIONS and (oldest := self._close_oldest()):
                await asyncio.wait([oldest])
            connection = Connection(self._manager, self._on_tls)
        except BaseException:
            accepted.close()
            raise
        task = asyncio.create_task(self._serve(accepted, connection))
        self._open[task] = connection
        task.add_done_callback(self._open.pop)

    def _close_oldest(self) -> asyncio.Task[None] | None:
        oldest = next((task for task, connection in self._open.items() if not connection.kept), None)
        if oldest:
            oldest.cancel()
        return oldest

    async def _serve(self, accepted: socket.socket, connection: Connection) -> None:
        """Serve a connection until its socket is closed and its memory is freed."""
        with contextlib.suppress(Exception, asyncio.CancelledError):  # the client speaks no TLS, has left, or is slow
            async with connection.deadline:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._context,
                    ssl_shutdown_timeout=1 if self._context else None,
                )
                await connection.lost.wait()
        with contextlib.suppress(OSError):
            accepted.shutdown(socket.SHUT_RDWR)  # the transport, whatever its state, then reads the end and closes
        for pause in (*[0.0] * 10, *[0.01] * 100):
            if accepted.fileno() == -1:
                return
            await asyncio.sleep(pause)
