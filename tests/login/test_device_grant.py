"""The device grant: what is shown, how it polls, how it ends."""

import contextlib
import io
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.journeys.attack import wait_until
from tests.login.conftest import Interrupt
from webex_loopback.errors import (
    AuthorizationDenied,
    LoginTimeout,
    TokenEndpointError,
)
from webex_loopback.login import device_grant
from webex_loopback.login.device_grant import HELPER_REDIRECT_URIS
from webex_loopback.login.login import log_in
from webex_loopback.login.progress import Progress
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex import worker


class Shown(io.StringIO):
    """What the login shows, and somebody who reads the code there and approves."""

    def __init__(self, person: Person | None = None, *, after: float = 0) -> None:
        super().__init__()
        self.person = person
        self.after = after
        self.display = Progress(self, {})

    def write(self, text: str) -> int:
        if self.person is not None and (code := re.search(r"^  (\d{6})$", text, re.MULTILINE)):
            url = re.search(r"^  (http\S+)$", text, re.MULTILINE)
            assert url is not None
            threading.Timer(self.after, self.person.approve_device, (url[1], code[1])).start()
            self.person = None
        return super().write(text)


@pytest.fixture(autouse=True)
def quick(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds are the protocol's, not the test's."""
    sandbox.switches.device_interval = 0.1
    monkeypatch.setattr(device_grant, "SLOW_DOWN_SECONDS", 0.2)


@pytest.mark.parametrize("pending_status", [428, 400])
def test_approving_on_another_device(sandbox: Sandbox, store: FileTokenStore, pending_status: Any) -> None:
    sandbox.switches.pending_status = pending_status
    shown = Shown(Person(), after=0.4)
    result = log_in(device=True, display=shown.display)
    assert (result.how, result.path) == ("device", store.path)
    assert result.token == store.load()
    assert result.token.account.name == "Alex Morgan"
    assert sandbox.count("/v1/device/token", status=pending_status) >= 1
    assert sandbox.count("/v1/device/token", status=200) == 1
    text = shown.getvalue()
    assert "Or open this URL on any device and log in to Webex:" in text
    assert "✓ Approved" in text
    assert f"✓ Saved the tokens in {store.path}" in text
    assert [secret for secret in sandbox.secrets if secret in text] == []


def test_declining_on_another_device(store: FileTokenStore) -> None:
    with pytest.raises(AuthorizationDenied, match="declined on the other device") as caught:
        log_in("work", device=True, display=Shown(Person(decision="decline")).display)
    assert caught.value.error == "access_denied"
    assert "webex-loopback login -p work --device" in caught.value.remedy
    assert store.load() is None


@pytest.mark.parametrize("by_timeout", [True, False])
def test_nobody_approves(sandbox: Sandbox, by_timeout: bool) -> None:
    if not by_timeout:
        sandbox.switches.device_expires_in = 0.5
    with pytest.raises(LoginTimeout, match="not approved in time") as caught:
        log_in(device=True, display=Shown().display, timeout_seconds=0.5 if by_timeout else None)
    assert all(uri in caught.value.remedy for uri in HELPER_REDIRECT_URIS)
    assert len(HELPER_REDIRECT_URIS) == 4
    assert sandbox.count("/v1/device/token", status=428) >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_an_interruption_during_the_last_poll_says_that_the_tokens_were_saved(
    sandbox: Sandbox, store: FileTokenStore, interrupt: Callable[[], None]
) -> None:
    def interrupt_the_poll() -> None:
        wait_until(lambda: sandbox.count("/v1/device/token"))
        interrupt()

    sandbox.switches.device_interval = 1
    sandbox.switches.device_faults = ["slow:1"]
    shown = Shown(Person())
    worker.start(interrupt_the_poll)
    with pytest.raises(Interrupt):
        log_in(device=True, display=shown.display)
    assert store.load() is not None
    assert "profile default is logged in" in shown.getvalue()


# Answers that no sane server gives


GOOD = {
    "device_code": "d" * 36,
    "user_code": "123456",
    "verification_uri": "https://login.example.com/device",
    "verification_uri_complete": "https://login.example.com/device?userCode=x",
    "expires_in": 300,
    "interval": 0.05,
}


@contextlib.contextmanager
def webex(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, object]) -> Iterator[None]:
    """Be Webex: give these answers, one each to the authorization and to each poll."""
    remaining = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, content = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("WEBEX_API_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "changes",
    [{"interval": True, "expires_in": "soon"}, {"verification_uri_complete": 7}, {"user_code": "AB\x1b[2J-12"}],
)
def test_odd_fields_do_no_harm(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    denied = (400, {"error": "access_denied"})
    with webex(monkeypatch, (200, GOOD | changes), denied), pytest.raises((AuthorizationDenied, LoginTimeout)):
        log_in(device=True, display=shown.display, timeout_seconds=0.4)
    assert "\x1b[2J" not in shown.getvalue()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([(400, {"error": "expired_token"})], LoginTimeout),
        ([(400, {"error": "invalid_grant"})], LoginTimeout),
        ([(404, {"message": "gone"})], TokenEndpointError),
        ([(503, {}), (400, {"error": "access_denied"})], AuthorizationDenied),
        ([(428, {"error": "slow_down"}), (503, {})], TokenEndpointError),
    ],
)
def test_a_poll_can_end_the_login_but_a_passing_error_does_not(
    answers: list[tuple[int, object]], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with webex(monkeypatch, (200, GOOD), *answers), pytest.raises(kind):
        log_in(device=True, display=Shown().display, timeout_seconds=1)


@pytest.mark.parametrize(("words", "told"), [("The redirect URI is not registered.", True), ("No.", False)])
def test_an_integration_without_the_helper_redirect_uris(
    words: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = (400, {"error": "invalid_request", "error_description": words})
    with webex(monkeypatch, refusal), pytest.raises(TokenEndpointError) as caught:
        log_in(device=True, display=Shown().display)
    assert (HELPER_REDIRECT_URIS[0] in caught.value.remedy) is told
