"""The device grant: what is shown, how it polls, how it ends."""

import contextlib
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import segno

from webex_loopback import device
from webex_loopback.device import HELPER_REDIRECT_URIS, large, qr_code
from webex_loopback.errors import (
    AuthorizationDenied,
    LoginTimeout,
    ServerUnreachable,
    TokenEndpointError,
    WebexLoopbackError,
)
from webex_loopback.login import log_in
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.store import FileTokenStore
from webex_loopback.terminal import Display


class Shown(io.StringIO):
    """What the login shows, and somebody who reads the code there and approves."""

    def __init__(self, person: Person | None = None, *, after: float = 0) -> None:
        super().__init__()
        self.person = person
        self.after = after
        self.display = Display(stream=self)

    def write(self, text: str) -> int:
        if self.person is not None and (code := re.search(r"^  (\d{6})$", text, re.MULTILINE)):
            address = re.search(r"^  (http\S+)$", text, re.MULTILINE)
            assert address is not None
            threading.Timer(self.after, self.person.approve_device, (address[1], code[1])).start()
            self.person = None
        return super().write(text)


@pytest.fixture(autouse=True)
def quick(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds are the protocol's, not the test's."""
    sandbox.switches.device_interval = 0.1
    monkeypatch.setattr(device, "_SLOW_DOWN_SECONDS", 0.2)


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
    assert "On any device, open this address and log in to Webex:" in text
    assert "✓ Approved" in text
    assert f"✓ Saved in {store.path}" in text
    assert [secret for secret in sandbox.secrets if secret in text] == []


def test_the_announcement(sandbox: Sandbox) -> None:
    sandbox.switches.device_expires_in = 0.3
    shown = Shown()
    with pytest.raises(LoginTimeout):
        log_in(device=True, display=shown.display)
    lines = shown.getvalue().split("\n")
    code = next(line.strip() for line in lines if re.fullmatch(r"  \d{6}", line))
    uri = f"{sandbox.base_url}/device/verify"
    at = lines.index(large(code)[0])
    assert lines[at : at + 5] == large(code)
    # A row of blocks is two rows of dots; the dark ones are what is left blank.
    start = next(n for n, line in enumerate(lines) if line.startswith("███"))
    rows = [line for line in lines[start:] if re.fullmatch("[█▀▄ ]{25,}", line)]
    shades = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    dots = [[shades[block][half] for block in row] for row in rows for half in (0, 1)]
    size = len(dots[0])
    complete = f"{uri}?userCode=" + "0" * 64
    alike = segno.make_qr(complete, error="l")
    assert size == alike.symbol_size(border=2)[0]
    assert [line for line in lines if "userCode" in line] == []  # it stands in the picture only
    assert f"At {uri} enter this code:" in lines


def test_a_qr_code_is_read_as_what_it_was_made_of() -> None:
    text = "https://oauth-helper-a.wbx2.com/helperservice/v1/actions/device/verify?userCode=abcdef"
    shades = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    dots = [[shades[block][half] for block in line] for line in qr_code(text) for half in (0, 1)]
    matrix = [list(row) for row in segno.make_qr(text, error="l").matrix_iter(border=2)]
    assert dots[: len(matrix)] == matrix


def test_digits_are_told_apart() -> None:
    rows = {tuple(row[4:] for row in large(digit)[:3]) for digit in "0123456789"}
    assert len(rows) == 10
    assert large("12")[3:] == ["", "  12"]
    assert large("AB-12") == ["  AB-12"]
    assert large("") == ["  "]


def test_declining_on_another_device(store: FileTokenStore) -> None:
    with pytest.raises(AuthorizationDenied, match="declined on the other device") as caught:
        log_in(device=True, display=Shown(Person(decision="decline")).display)
    assert caught.value.error == "access_denied"
    assert store.load() is None


@pytest.mark.parametrize("by_time_limit", [True, False])
def test_nobody_approves(sandbox: Sandbox, by_time_limit: bool) -> None:
    if not by_time_limit:
        sandbox.switches.device_expires_in = 0.5
    with pytest.raises(LoginTimeout, match="not approved in time") as caught:
        log_in(device=True, display=Shown().display, timeout_seconds=0.5 if by_time_limit else None)
    assert all(uri in caught.value.remedy for uri in HELPER_REDIRECT_URIS)
    assert len(HELPER_REDIRECT_URIS) == 4
    assert sandbox.count("/v1/device/token", status=428) >= 1


def test_a_server_that_wants_it_slower(sandbox: Sandbox) -> None:
    sandbox.switches.device_faults = ["429"]
    shown = Shown(Person())
    begun = time.monotonic()
    assert log_in(device=True, display=shown.display).how == "device"
    assert time.monotonic() - begun > 0.1 + 0.3
    assert "Trying again" not in shown.getvalue()


def test_polling_faster_than_allowed_slows_down(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that forgets to say its interval, and says slow_down."""
    sandbox.switches.device_interval = 0.3
    monkeypatch.setattr(device, "_seconds", lambda value, default: 0.05 if default == 5 else 300.0)
    monkeypatch.setattr(device, "_SLOW_DOWN_SECONDS", 5.5)
    with pytest.raises(LoginTimeout):
        log_in(device=True, display=Shown().display, timeout_seconds=1)
    assert sandbox.count("/v1/device/token") == 2


@pytest.mark.parametrize("fault", ["500", "502", "reset"])
def test_trouble_while_polling_is_passed_over(sandbox: Sandbox, fault: str) -> None:
    sandbox.switches.device_faults = [fault]
    shown = Shown(Person(), after=0.2)
    assert log_in(device=True, display=shown.display).how == "device"
    assert shown.getvalue().count("Trying again.") == 1


@pytest.mark.parametrize(("fault", "kind"), [("503", TokenEndpointError), ("reset", ServerUnreachable)])
def test_trouble_to_the_end_is_what_is_reported(sandbox: Sandbox, fault: str, kind: type[WebexLoopbackError]) -> None:
    sandbox.switches.device_faults = [fault] * 20
    with pytest.raises(kind):
        log_in(device=True, display=Shown().display, timeout_seconds=0.6)


def test_a_wrong_client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_CLIENT_SECRET", "f" * 64)
    with pytest.raises(TokenEndpointError) as caught:
        log_in(device=True, display=Shown(Person()).display)
    assert caught.value.status_code == 401
    assert "WEBEX_CLIENT_SECRET" in caught.value.remedy


def test_a_scope_that_the_integration_lacks() -> None:
    with pytest.raises(TokenEndpointError) as caught:
        log_in(device=True, scopes="spark:nonsense", display=Shown().display)
    assert "invalid_scope" in str(caught.value)


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


@pytest.mark.parametrize("missing", ["device_code", "user_code", "verification_uri"])
def test_a_field_that_is_missing(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {name: value for name, value in GOOD.items() if name != missing}
    with webex(monkeypatch, (200, answer)), pytest.raises(ServerUnreachable, match=missing):
        log_in(device=True, display=Shown().display)


@pytest.mark.parametrize(
    "changes",
    [
        {"interval": True, "expires_in": "soon"},
        {"interval": -1, "expires_in": None},
        {"verification_uri_complete": "javascript:alert(1)"},
        {"verification_uri_complete": 7},
        {"user_code": "AB\x1b[2J-12"},
    ],
)
def test_fields_of_no_use(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    answer = {name: value for name, value in (GOOD | changes).items() if value is not None}
    denied = (400, {"error": "access_denied"})
    with webex(monkeypatch, (200, answer), denied), pytest.raises((AuthorizationDenied, LoginTimeout)):
        log_in(device=True, display=shown.display, timeout_seconds=0.4)
    assert "\x1b[2J" not in shown.getvalue()
    assert "javascript" not in shown.getvalue()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"error": "expired_token"}), LoginTimeout),
        ((400, {"error": "invalid_grant", "error_description": "The device code is invalid."}), LoginTimeout),
        ((404, {"message": "gone"}), TokenEndpointError),
    ],
)
def test_how_a_poll_ends_it(answer: tuple[int, object], kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    with webex(monkeypatch, (200, GOOD), answer), pytest.raises(kind):
        log_in(device=True, display=Shown().display, timeout_seconds=5)


@pytest.mark.parametrize(("words", "told"), [("The redirect URI is not registered.", True), ("No.", False)])
def test_an_integration_without_the_helpers(words: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = (400, {"error": "invalid_request", "error_description": words})
    with webex(monkeypatch, refusal), pytest.raises(TokenEndpointError) as caught:
        log_in(device=True, display=Shown().display)
    assert (HELPER_REDIRECT_URIS[0] in caught.value.remedy) is told


@pytest.mark.usefixtures("sandbox")
def test_nothing_listens_and_no_redirect_uri_is_needed(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_REDIRECT_URI", "http://127.0.0.1:1/unregistered")
    assert log_in(device=True, display=Shown(Person()).display).how == "device"
