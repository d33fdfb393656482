"""The sandbox as an object: its thread, event loop and socket."""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Self

from aiohttp import web

from . import registration
from .endpoints import Endpoints
from .registration import Client, Tenant
from .request import Request
from .switches import Switches

# A logger without a handler would print to stderr; malformed requests are answered, not reported.
_logger = logging.getLogger("webex_loopback.sandbox")
_logger.addHandler(logging.NullHandler())

_HEADER_BYTES = 64 * 1024  # for long access tokens


class Sandbox:
    """A simulated Webex on a loopback port. Use it as a context manager, or call `start()` and `stop()`.

    Args:
        switches: How the sandbox differs from normal operation.
        port: 0 for a free one.
        tls: Files with the certificate and its key, to serve https.
        clock: Returns epoch seconds; decides when tokens expire.
        on_request: Called after each request, in the sandbox's thread.

    Attributes:
        requests: All requests so far, in order of arrival.
        redirect_uris: The registered redirect URIs; a list that can be changed at any time. So is `scopes`.
        service_app_id: The application ID in the path of `POST /applications/{id}/token`.
    """

    def __init__(
        self,
        *,
        switches: Switches | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        redirect_uris: Iterable[str] = registration.REDIRECT_URIS,
        scopes: Iterable[str] = registration.SCOPES,
        on_request: Callable[[Request], None] | None = None,
    ) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address")
        if not 0 <= port <= 65535:
            raise ValueError(f"{port} is not a valid port")
        self.host = host
        self.port = port
        self.redirect_uris = list(redirect_uris)
        self.scopes = list(scopes)
        self._integration = Client(registration.CLIENT_ID, registration.CLIENT_SECRET, self.scopes, self.redirect_uris)
        service_app = registration.new_service_app()
        self.client_id = self._integration.client_id
        self.service_app_client_id = service_app.client_id
        self.service_app_client_secret = service_app.client_secret
        self.service_app_id = service_app.application_id
        self.org_id = registration.ORG_ID
        self._tenant = Tenant(self._integration, service_app, switches or Switches(), clock)
        self._tenant.secrets |= {self.client_secret, self.service_app_client_secret}
        self._endpoints = Endpoints(self._tenant, on_request)
        self._tokens = self._endpoints.tokens
        self._tls = tls
        self._thread: threading.Thread | None = None

    @property
    def switches(self) -> Switches:
        return self._tenant.switches

    @property
    def requests(self) -> list[Request]:
        return self._endpoints.requests

    @property
    def client_secret(self) -> str:
        """The Integration's secret. Set it to invalidate the old one, as "Regenerate" in the developer portal does."""
        return self._integration.client_secret

    @client_secret.setter
    def client_secret(self, value: str) -> None:
        self._integration.client_secret = value
        self._tenant.secrets.add(value)

    @property
    def secrets(self) -> set[str]:
        """All secrets issued or received so far, to search logs, pages and messages for."""
        return set(self._tenant.secrets)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def authorization_url(self) -> str:
        """The Authorization URL that the developer portal would show for the Integration."""
        return self._integration.authorization_url(self.base_url)

    def environment(self, redirect_uri: str | None = None) -> dict[str, str]:
        """Return the settings of a client of this sandbox, by their `WEBEX_*` names."""
        return {
            "WEBEX_API_BASE_URL": self.base_url,
            "WEBEX_CLIENT_ID": self.client_id,
            "WEBEX_CLIENT_SECRET": self.client_secret,
            "WEBEX_REDIRECT_URI": redirect_uri or next(iter(self.redirect_uris), ""),
            "WEBEX_SCOPES": " ".join(self._integration.registered("spark:people_read", "spark:kms")),
        }

    def service_app_environment(self) -> dict[str, str]:
        """Return the settings of the Service App, by their `WEBEX_*` names."""
        return {
            "WEBEX_API_BASE_URL": self.base_url,
            "WEBEX_CLIENT_ID": self.service_app_client_id,
            "WEBEX_CLIENT_SECRET": self.service_app_client_secret,
        }

    def answer(self, path: str, status: int = 200, body: str | bytes | Mapping[str, Any] = "", **options: Any) -> None:
        """Set the exact answer to the next requests for a path (`/v1/access_token`).

        The options are `headers`, `times` and `process`, as in the switch `answers`.
        """
        content = body.decode("utf-8", "surrogateescape") if isinstance(body, bytes) else body
        item = {"path": path, "status": status, "body": content, **options}
        self.switches.answers = [*self.switches.answers, item]

    def count(self, what: str, *, status: int | None = None) -> int:
        """Count the requests with this grant type or path, answered or not; with this status if given."""
        return sum(
            what in (request.grant_type, request.path) and status in (None, request.status)
            for request in list(self.requests)
        )

    def is_alive(self, token: str) -> bool:
        """Return whether an access or refresh token is accepted now: issued, not expired, rotated or revoked."""
        return self._tokens.is_alive(token)

    def start(self) -> None:
        """Bind the port and serve until `stop()`.

        Raises:
            OSError: The port cannot be bound or the certificate cannot be read.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is already running")
        bound: Future[None] = Future()
        serve = self._serve(bound)
        self._thread = threading.Thread(target=asyncio.run, args=[serve], name="webex-sandbox", daemon=True)
        self._thread.start()
        try:
            bound.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    def stop(self) -> None:
        """Close the port and all connections; pending requests are dropped."""
        if self._thread is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, bound: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        application = self._endpoints.application(self._stopping)
        limits: dict[str, Any] = {"max_line_size": _HEADER_BYTES, "max_field_size": _HEADER_BYTES}
        runner = web.AppRunner(application, access_log=None, logger=_logger, shutdown_timeout=0.1, **limits)
        try:
            context = None
            if self._tls:
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(*self._tls)
            await runner.setup()
            await web.TCPSite(runner, self.host, self.port, ssl_context=context).start()
        except BaseException as error:
            await runner.cleanup()
            bound.set_exception(error)
            return
        self.port = runner.addresses[0][1]
        self._tenant.base_url, self._tenant.cookie = self.base_url, f"webex_sandbox_{self.port}"
        bound.set_result(None)
        await self._stopping.wait()
        await runner.cleanup()
