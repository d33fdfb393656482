"""The loopback server that catches the authorization response (RFC 8252 §7.3), by aiohttp.

Only a request with this login's `state` settles the login; everything else is answered, counted and forgotten.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from . import pages
from .authorization import (
    AuthorizationRequest,
    AuthorizationResponse,
    NotThisLogin,
    RedirectURI,
    printable,
    read_response,
)

if TYPE_CHECKING:
    from aiohttp import web

    from .pages import FailurePage, SuccessPage

MOST_CONNECTIONS = 64  # macOS gives a process 256 descriptors
MOST_BYTES = 262_144  # of one connection; aiohttp limits each header, and would keep 128 of the longest
LONGEST_LINE = 32_768
LONGEST_HEADER = 65_536  # cookies of all other servers on localhost come along, whatever their port
FAREWELL_SECONDS = 3.0

_NewHandler = Callable[[socket.socket], asyncio.Protocol]


@dataclass(frozen=True, slots=True)
class Listener:
    """The sockets that are bound for one redirect URI."""

    redirect_uri: RedirectURI
    sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        """Close the sockets."""
        for bound in self.sockets:
            bound.close()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a redirect URI cannot be listened on: `in_use`, `privileges`, or `unavailable`."""

    redirect_uri: RedirectURI
    why: str
    text: str


def bind(redirect_uris: Sequence[RedirectURI]) -> tuple[Listener | None, list[Refusal]]:
    """Bind the first redirect URI that can be; return it, and why those before it could not."""
    refusals: list[Refusal] = []
    for redirect_uri in redirect_uris:
        try:
            return _bind(redirect_uri), refusals
        except OSError as error:
            refusals.append(_refusal(redirect_uri, error))
    return None, refusals


def _bind(redirect_uri: RedirectURI) -> Listener:
    sockets: list[socket.socket] = []
    try:
        for host in redirect_uri.hosts:
            try:
                bound = socket.socket(_family(host), socket.SOCK_STREAM)
            except OSError as error:  # pragma: no cover - needs a kernel without IPv6
                if sockets and error.errno == errno.EAFNOSUPPORT:
                    continue  # RFC 8252 §7.3: use what there is
                raise
            sockets.append(bound)
            _make_exclusive(bound)
            try:
                bound.bind((host, redirect_uri.port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or len(redirect_uri.hosts) == 1:
                    raise
                sockets.pop().close()  # IPv6 switched off
                continue
            bound.listen(128)  # who finds the queue full tries again a second later
            bound.setblocking(False)
        if not sockets:  # pragma: no cover - a machine without any loopback address
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return Listener(redirect_uri, tuple(sockets))


def _make_exclusive(bound: socket.socket) -> None:
    if sys.platform == "win32":  # pragma: no cover - there SO_REUSEADDR would let two programs share a port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        # It lets a second login use the port while connections of the first are in TIME_WAIT, and no more.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _refusal(redirect_uri: RedirectURI, error: OSError) -> Refusal:
    port = redirect_uri.port
    denied = error.errno in (errno.EACCES, errno.EPERM)
    # Windows says EACCES of any port that another program holds for itself; Linux asks for privileges first.
    taken = error.errno == errno.EADDRINUSE or (denied and (sys.platform == "win32" or _is_listened_on(redirect_uri)))
    if taken:
        owner = port_owner(port)
        return Refusal(redirect_uri, "in_use", f"Port {port} is in use{f' by {owner}' if owner else ''}.")
    if denied and port < 1024:
        return Refusal(redirect_uri, "privileges", f"Port {port} may be opened by privileged programs only.")
    return Refusal(redirect_uri, "unavailable", f"{redirect_uri.text} cannot be listened on: {error.strerror}.")


def _is_listened_on(redirect_uri: RedirectURI) -> bool:
    """Whether a browser would reach a program there; one that is too busy to accept counts."""
    for host in redirect_uri.hosts:
        with contextlib.suppress(OSError), socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            with contextlib.suppress(TimeoutError):
                probe.connect((host, redirect_uri.port))
            return True
    return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def port_owner(port: int) -> str:
    """Return which process listens on a port, for instance `python3 (process 4711)`, or "" where that is not told."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                        # Linux cuts it at 15 bytes, also within a character; and it is what that program likes.
                        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                            return f"{printable(file.read().strip(), 60)} (process {pid})"
    return ""  # pragma: no cover - another user's process, which root sees all the same


def new_start_path() -> str:
    """Return a path to send the browser to, which nobody can guess."""
    return f"/start/{secrets.token_urlsafe(32)}"


class LoopbackServer:
    """Serves one login on bound sockets.

    Args:
        start_path: Where a browser has been sent already (`new_start_path`); default: a new one.
        on_event: Called on the event loop with what happened: `came` (each time a browser opens the start address),
            `received` (the authorization response), `ignored` (text: why), `https` (a browser spoke TLS to the
            http port).
    """

    def __init__(
        self,
        listener: Listener,
        request: AuthorizationRequest,
        *,
        context: ssl.SSLContext | None = None,
        start_path: str = "",
        on_event: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self.listener = listener
        self.request = request
        self._context = context
        self._on_event = on_event
        loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[AuthorizationResponse] = loop.create_future()
        self._page: asyncio.Future[SuccessPage | FailurePage] = loop.create_future()
        self._all_told = asyncio.Event()
        self._untold = 0
        # Two: the first stands in the command line of the browser, which all users of the machine can read.
        self._start_path = start_path or new_start_path()
        self._end_path = f"/done/{secrets.token_urlsafe(32)}"
        self._connections: dict[socket.socket, bool] = {}  # in order of arrival; True: the callback is held
        self._accepting: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()
        self._closing = False
        self._manager: web.Server | None = None
        self._spoke_tls = False

    @property
    def start_url(self) -> str:
        """Where the browser is to be sent: it redirects to Webex, and proves that a browser came."""
        return self.listener.redirect_uri.origin + self._start_path

    async def start(self) -> None:
        """Begin to accept connections; those that came since the binding are answered now."""
        from aiohttp import web

        self._manager = web.Server(self._handle)
        new_handler = _handler_class(self, self._manager)
        self._accepting = [asyncio.create_task(self._accept(bound, new_handler)) for bound in self.listener.sockets]

    async def response(self) -> AuthorizationResponse:
        """Wait for the authorization response of this login."""
        return await asyncio.shield(self._settled)

    def settle(self, response: AuthorizationResponse) -> None:
        """Take the response that came; the first one counts."""
        if not self._settled.done():
            self._settled.set_result(response)
            self._on_event("received", "")

    async def conclude(self, page: "SuccessPage | FailurePage") -> None:
        """Tell the browsers that wait how the login ended, and give them a moment to show it."""
        if not self._page.done():  # pragma: no branch - concluded once, unless it is being closed
            self._page.set_result(page)
        self._untold = sum(held and connection.fileno() != -1 for connection, held in self._connections.items())
        if self._untold:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_told.wait(), FAREWELL_SECONDS)

    async def close(self) -> None:
        """Stop; no connection is waited for longer than a second."""
        self._closing = True
        for bound in self.listener.sockets:
            # sock_accept stumbles, with a traceback, where a connection comes in the moment of its cancellation.
            with contextlib.suppress(NotImplementedError):  # Windows' event loop has no readers, and no such fault
                asyncio.get_running_loop().remove_reader(bound)
        await asyncio.sleep(0)  # what has been accepted is admitted
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self.listener.close()
        self._page.cancel()  # where nobody has concluded, aiohttp would wait for those that are held
        if self._manager is not None:  # pragma: no branch - closed before it was started
            self._manager.pre_shutdown()
            await self._manager.shutdown(1)
        for connection in self._connections:
            _cut(connection)
        if self._greeting:
            await asyncio.wait(self._greeting, timeout=1)
        # A transport closes its socket some rounds of the loop later.
        for _ in range(100):  # pragma: no branch - a second was not enough
            if all(connection.fileno() == -1 for connection in self._connections):
                break
            await asyncio.sleep(0.01)

    async def _accept(self, bound: socket.socket, new_handler: _NewHandler) -> None:
        """Accept connections; asyncio's own server counts none that is still at its TLS handshake."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                connection, _ = await loop.sock_accept(bound)
            except OSError:  # pragma: no cover - tested in a process with few descriptors, which is killed
                # The connection was reset while it waited, or no descriptor is left.
                self._make_room()
                await asyncio.sleep(0.05)
                continue
            self._connections = {one: held for one, held in self._connections.items() if one.fileno() != -1}
            if len(self._connections) >= MOST_CONNECTIONS:
                self._make_room()
            self._connections[connection] = False
            task = asyncio.create_task(self._greet(connection, new_handler))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)
            await asyncio.sleep(0)  # sock_accept lets nobody else run as long as connections are waiting

    def _make_room(self) -> None:
        """Cut the oldest connection that holds no callback."""
        for connection, held in self._connections.items():  # pragma: no branch - all hold the callback
            if not held and connection.fileno() != -1:  # pragma: no branch - closed in this very moment
                # At the end of the order, in case that it takes its time.
                self._connections[connection] = self._connections.pop(connection)
                _cut(connection)
                return

    async def _greet(self, connection: socket.socket, new_handler: _NewHandler) -> None:
        with contextlib.suppress(OSError):  # gone already, or no TLS handshake: ssl.SSLError is one
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: new_handler(connection),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=5 if self._context else None,
                ssl_shutdown_timeout=1 if self._context else None,
            )

    def _met_tls(self) -> None:
        if not self._spoke_tls:  # a browser tries several times
            self._spoke_tls = True
            self._on_event("https", "")

    async def _handle(self, request: "web.BaseRequest") -> "web.StreamResponse":
        redirect_uri = self.listener.redirect_uri
        if not self._is_here(request.headers.getall("Host", [])):
            return _plain(421, "This host name is not served here.")
        path, _, query = request.raw_path.partition("?")
        is_start, is_end = _same(path, self._start_path), _same(path, self._end_path)
        is_callback = path == redirect_uri.path
        if not (is_start or is_end or is_callback):
            return _plain(404, "There is nothing here.")
        if request.method != "GET":
            return _plain(405, "Only GET is answered here.", {"Allow": "GET"})
        if is_start:
            if not self._settled.done():
                self._on_event("came", "")
            return _plain(302, "", {"Location": self.request.url})
        language = pages.choose_language(request.headers.get("Accept-Language"))
        if is_end:
            if not self._page.done():
                return _plain(404, "There is nothing here.")
            self._untold -= 1
            if self._untold <= 0:
                self._all_told.set()
            return _html(200, self._page.result(), language)
        try:
            response = read_response(query, self.request.state)
        except NotThisLogin as reason:
            self._on_event("ignored", _ignored(reason))
            return _html(400, pages.FailurePage("not_this_login"), language)
        self.settle(response)
        self._connections[cast("Any", request.protocol).connection] = True
        await asyncio.shield(self._page)
        # Away from the address that holds the code; the page there tells how it ended.
        return _plain(303, "", {"Location": redirect_uri.origin + self._end_path})

    def _is_here(self, hosts: Sequence[str]) -> bool:
        """Whether `Host` is a loopback name with our port: a page of a rebound DNS name comes with its own."""
        if len(hosts) != 1:
            return False
        redirect_uri = self.listener.redirect_uri
        names = {"localhost", "127.0.0.1", "[::1]", redirect_uri.host}
        default = 443 if redirect_uri.secure else 80
        given = hosts[0].lower()
        return given in {f"{name}:{redirect_uri.port}" for name in names} or (
            redirect_uri.port == default and given in names
        )


def _ignored(reason: NotThisLogin) -> str:
    if reason.error:
        return f"Ignored an error without a state ({reason.error}). If that was you, press Ctrl-C and log in again."
    return f"Ignored {reason}; still waiting."


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> "web.Response":
    from aiohttp import web

    fixed = dict(pages.HEADERS) | {"Content-Type": "text/plain; charset=utf-8", "Server": "webex-loopback"}
    answer = web.Response(status=status, body=text.encode(), headers=fixed | (headers or {}))
    answer.force_close()
    return answer


def _html(status: int, page: "SuccessPage | FailurePage", language: str) -> "web.Response":
    from aiohttp import web

    fixed = dict(pages.HEADERS) | {"Server": "webex-loopback"}
    answer = web.Response(status=status, body=pages.render(page, language).encode(), headers=fixed)
    answer.force_close()
    return answer


def _cut(connection: socket.socket) -> None:
    """End a connection in any state; its transport reads the end, and closes the socket."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _same(path: str, expected: str) -> bool:
    return secrets.compare_digest(path.encode(errors="replace"), expected.encode())


def _handler_class(server: LoopbackServer, manager: "web.Server") -> _NewHandler:
    from aiohttp import web

    # aiohttp would log each malformed request, with a traceback, and logging prints what has no handler.
    quiet = logging.getLogger(f"{__name__}.http")
    quiet.propagate = False
    if not quiet.handlers:
        quiet.addHandler(logging.NullHandler())

    class Handler(web.RequestHandler):
        """aiohttp's connection handler, with our answer to what is no HTTP, and a limit on what is taken in."""

        received = 0

        def __init__(self, connection: socket.socket) -> None:
            super().__init__(manager, loop=asyncio.get_running_loop(), **options)
            self.connection = connection

        async def start(self) -> None:
            try:
                await super().start()
            except Exception:
                # aiohttp 3.14.5 fails at CONNECT without a target, and would leave a traceback and the connection.
                self.force_close()

        def data_received(self, data: bytes) -> None:
            if not self.received and data[:2] == b"\x16\x03" and server._context is None:
                server._met_tls()
            self.received += len(data)
            if self.received > MOST_BYTES and self.transport is not None:
                self.transport.abort()
            else:
                super().data_received(data)

        def handle_error(
            self,
            request: web.BaseRequest,
            status: int = 500,
            exc: BaseException | None = None,
            message: str | None = None,
        ) -> web.StreamResponse:
            # The message quotes the request; nothing of a request goes back.
            return _plain(status, "This request cannot be answered.")

    options: dict[str, Any] = {
        "access_log": None,  # it would print the code
        "logger": quiet,
        "max_line_size": LONGEST_LINE,
        "max_field_size": LONGEST_HEADER,
        "auto_decompress": False,  # no body is read; it might be a bomb
        "keepalive_timeout": 5,
        "lingering_time": 1,
    }
    return Handler
