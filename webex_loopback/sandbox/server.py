"""The sandbox as an object: its thread, its event loop, its socket."""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from aiohttp import web

from .authority import Authority
from .endpoints import Endpoints, Request
from .registration import CLIENT_ID, CLIENT_SECRET, REDIRECT_URIS, SCOPES
from .switches import Switches

# A logger without any handler would fall back to stderr, and malformed requests are answered, not reported.
_logger = logging.getLogger("webex_loopback.sandbox")
_logger.addHandler(logging.NullHandler())

_EVERYDAY_SCOPES = ("spark:people_read", "spark:kms")


class Sandbox:
    """A small Webex on a loopback port; a context manager, or `start()` and `stop()`.

    After a stop it can be started again: on the same port, with the same tokens.

    Attributes:
        switches: Change them at any time.
        redirect_uris: What is registered; a list, to be changed at any time.
        requests: Every request so far, in the order of arrival.
    """

    def __init__(
        self,
        *,
        switches: Switches | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        redirect_uris: Iterable[str] = REDIRECT_URIS,
        scopes: Iterable[str] = SCOPES,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        self.host = host
        self.port = port
        self.requests: list[Request] = []
        self._tls = tls
        self._on_request = on_request
        self._authority = Authority(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uris=list(redirect_uris),
            scopes=list(scopes),
            switches=switches or Switches(),
            clock=clock,
        )
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def switches(self) -> Switches:
        return self._authority.switches

    @property
    def client_id(self) -> str:
        return self._authority.client_id

    @property
    def client_secret(self) -> str:
        return self._authority.client_secret

    @client_secret.setter
    def client_secret(self, value: str) -> None:
        """Regenerate the secret: clients that hold the old one are refused from now on."""
        self._authority.client_secret = value
        self._authority.secrets.add(value)

    @property
    def redirect_uris(self) -> list[str]:
        return self._authority.redirect_uris

    @property
    def scopes(self) -> list[str]:
        return list(self._authority.scopes)

    @property
    def secrets(self) -> set[str]:
        """Every secret that was issued or received so far: to look for in logs, pages and messages."""
        return set(self._authority.secrets)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def environment(self, redirect_uri: str | None = None) -> dict[str, str]:
        """Return the settings of a client of this sandbox, by their `WEBEX_*` names."""
        registered = self.scopes
        scopes = [scope for scope in _EVERYDAY_SCOPES if scope in registered] or registered
        return {
            "WEBEX_API_BASE_URL": self.base_url,
            "WEBEX_CLIENT_ID": self.client_id,
            "WEBEX_CLIENT_SECRET": self.client_secret,
            "WEBEX_REDIRECT_URI": redirect_uri or self.redirect_uris[0],
            "WEBEX_SCOPES": " ".join(scopes),
        }

    def count(self, what: str, *, status: int | None = None) -> int:
        """Count the requests with this grant type or path, answered or not; with this status if given."""
        return sum(
            what in (request.grant_type, request.path) and status in (None, request.status)
            for request in list(self.requests)
        )

    def start(self) -> None:
        """Bind the port and serve until `stop()`.

        Raises:
            OSError: The port cannot be bound, or the certificate cannot be read.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is running")
        bound: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(bound)), name="webex-sandbox", daemon=True
        )
        self._thread.start()
        try:
            bound.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    def stop(self) -> None:
        """Close all connections and the port; requests that hang are dropped."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def _serve(self, bound: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        endpoints = Endpoints(self._authority, self.requests, self._on_request, self._stopping)
        runner = web.AppRunner(endpoints.application(), access_log=None, logger=_logger, shutdown_timeout=0.1)
        try:
            await self._bind(runner)
            endpoints.base_url = self.base_url
            # Cookies know no ports, so a second sandbox on this host needs another name.
            endpoints.cookie = f"webex_sandbox_{self.port}"
        except BaseException as error:
            await runner.cleanup()
            bound.set_exception(error)
            return
        bound.set_result(None)
        await self._stopping.wait()
        await runner.cleanup()

    async def _bind(self, runner: web.AppRunner) -> None:
        context = None
        if self._tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*self._tls)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port, ssl_context=context).start()
        self.port = runner.addresses[0][1]
