"""The device grant: what is shown, how it polls, how it ends."""

import io
import re
import threading
from collections.abc import Callable

import pytest

from tests.conftest import Patch, Store, posix
from tests.journeys.attack import wait_until
from tests.login.conftest import Interrupt
from webex_loopback.errors import AuthorizationDenied, LoginTimeout, TokenEndpointError
from webex_loopback.login import device_grant
from webex_loopback.login.device_grant import HELPER_REDIRECT_URIS
from webex_loopback.login.login import log_in
from webex_loopback.login.progress import Progress
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.webex import worker


class Shown(io.StringIO):
    """What the login shows, and somebody who reads the code there and approves."""

    def __init__(self, person: Person | None = None, *, after: float = 0) -> None:
        super().__init__()
        self.person, self.after, self.display = person, after, Progress(self, {})

    def write(self, text: str) -> int:
        if self.person and (found := re.search(r"^  (http\S+)\n.*^  (\d{6})$", text, re.MULTILINE | re.DOTALL)):
            threading.Timer(self.after, self.person.approve_device, found.groups()).start()
            self.person = None
        return super().write(text)


@pytest.fixture(autouse=True)
def quick(sandbox: Sandbox, monkeypatch: Patch) -> None:
    """Shorten the protocol's pauses of five seconds."""
    sandbox.switches.device_interval = 0.1
    monkeypatch.setattr(device_grant, "SLOW_DOWN_SECONDS", 0.2)


def test_approving_on_another_device(sandbox: Sandbox, store: Store) -> None:
    shown = Shown(Person(), after=0.4)
    result = log_in(device=True, display=shown.display)
    assert (result.how, result.path) == ("device", store.path)
    assert result.token == store.load()
    assert result.token.account.name == "Alex Morgan"
    assert sandbox.count("/v1/device/token", status=428) >= 1
    assert sandbox.count("/v1/device/token", status=200) == 1
    text = shown.getvalue()
    assert "Or open this URL on any device and log in to Webex:" in text
    assert "✓ Approved" in text
    assert f"✓ Saved the tokens in {store.path}" in text
    assert [secret for secret in sandbox.secrets if secret in text] == []


def test_declining_on_another_device(store: Store) -> None:
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
    assert sandbox.count("/v1/device/token", status=428) >= 1


@posix
def test_an_interruption_during_the_last_poll_says_that_the_tokens_were_saved(
    sandbox: Sandbox, store: Store, interrupt: Callable[[], None]
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


GOOD: dict[str, object] = {"device_code": "d" * 36, "user_code": "123456", "expires_in": 300, "interval": 0.05}
GOOD |= {"verification_uri": "https://h.example/device", "verification_uri_complete": "https://h.example/device?u=x"}


def answer(sandbox: Sandbox, *answers: tuple[int, dict[str, object]]) -> None:
    """Have the sandbox give these answers, one each to the authorization and to each poll, the last one always."""
    for n, (status, body) in enumerate(answers):
        sandbox.answer(
            "/v1/device/token" if n else "/v1/device/authorize", status, body, times=99 if n + 1 == len(answers) else 1
        )


@pytest.mark.parametrize(
    "changes",
    [{"interval": True, "expires_in": "soon"}, {"verification_uri_complete": 7}, {"user_code": "AB\x1b[2J-12"}],
)
def test_odd_fields_do_no_harm(changes: dict[str, object], sandbox: Sandbox) -> None:
    shown = Shown()
    answer(sandbox, (200, GOOD | changes), (400, {"error": "access_denied"}))
    with pytest.raises((AuthorizationDenied, LoginTimeout)):
        log_in(device=True, display=shown.display, timeout_seconds=0.4)
    assert "\x1b[2J" not in shown.getvalue()


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([(400, {"error": "expired_token"})], LoginTimeout),
        ([(404, {"message": "gone"})], TokenEndpointError),
        ([(503, {}), (400, {"error": "access_denied"})], AuthorizationDenied),
        ([(428, {"error": "slow_down"}), (503, {})], TokenEndpointError),
    ],
)
def test_a_poll_can_end_the_login_but_a_passing_error_does_not(
    answers: list[tuple[int, dict[str, object]]], kind: type[Exception], sandbox: Sandbox
) -> None:
    answer(sandbox, (200, GOOD), *answers)
    with pytest.raises(kind):
        log_in(device=True, display=Shown().display, timeout_seconds=1)


@pytest.mark.parametrize(("words", "told"), [("The redirect URI is not registered.", True), ("No.", False)])
def test_an_integration_without_the_helper_redirect_uris(words: str, told: bool, sandbox: Sandbox) -> None:
    answer(sandbox, (400, {"error": "invalid_request", "error_description": words}))
    with pytest.raises(TokenEndpointError) as caught:
        log_in(device=True, display=Shown().display)
    assert (HELPER_REDIRECT_URIS[0] in caught.value.remedy) is told
