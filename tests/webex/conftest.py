"""Small servers that do what no sane server does, and a client with the sandbox's credentials."""

import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from tests.conftest import with_locals
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.sandbox import Sandbox
from webex_loopback.secret import Secret
from webex_loopback.webex.client import Webex

CODE, VERIFIER, REFRESH_TOKEN = "code-" + "c" * 60, "verifier-" + "v" * 60, "refresh-" + "r" * 60
CLIENT_SECRET, PROXY_PASSWORD = "client-secret-" + "s" * 50, "proxy-password"


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[bytes]]]:
    """Answer every connection by a function; yield the origin, and what each connection sent first."""
    came: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            with suppress(OSError):
                came.append(self.request.recv(65_536))
                answer(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", came
        server.shutdown()


def saying(text: bytes) -> Callable[[socket.socket], object]:
    return lambda connection: connection.sendall(text)


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(handler))


@dataclass
class Asker:
    """Makes the usual token requests, with a client of its own for each."""

    token_url: str
    client_id: str = "C123"
    client_secret: Secret = field(default_factory=lambda: Secret(CLIENT_SECRET))
    ca_bundle: str = ""
    http_client: httpx.Client | None = None
    seconds: float = 10.0

    @property
    def api_base_url(self) -> str:
        return self.token_url.rpartition("/")[0]

    def webex(self) -> Webex:
        return Webex.of(self, http_client=self.http_client)

    def refresh(self) -> TokenResponse:
        return self._ask("refresh", refresh_token=Secret(REFRESH_TOKEN))

    def exchange(self) -> TokenResponse:
        form = {"code": Secret(CODE), "code_verifier": Secret(VERIFIER), "redirect_uri": "http://127.0.0.1/callback"}
        return self._ask("exchange_code", **form)

    def _ask(self, request: str, **form: Any) -> TokenResponse:
        with self.webex() as webex:
            send = partial(getattr(webex, request), client_id=self.client_id, client_secret=self.client_secret)
            tokens: TokenResponse = send(**form, seconds=self.seconds)
        return tokens


@pytest.fixture
def asker(sandbox: Sandbox) -> Asker:
    return Asker(f"{sandbox.base_url}/access_token", sandbox.client_id, Secret(sandbox.client_secret))


@contextmanager
def bell_after(seconds: float, kind: type[Exception] = InterruptedError) -> Iterator[None]:
    """Raise an exception in the main thread, from a signal handler."""

    def ring(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def failure(ask: Callable[[], object]) -> WebexLoopbackError:
    """Return the error; nothing in it, its causes and their local variables shows a secret."""
    with pytest.raises(WebexLoopbackError) as caught:
        ask()
    shown = with_locals(caught.value) + caught.value.remedy
    assert not [secret for secret in (CODE, VERIFIER, REFRESH_TOKEN, CLIENT_SECRET, PROXY_PASSWORD) if secret in shown]
    assert caught.value.remedy
    return caught.value
