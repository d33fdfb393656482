"""A login by the device grant (RFC 8628): approve on any device; nothing is redirected to this machine."""

import io
import time
from typing import Any
from urllib.parse import urlsplit

import segno

from webex_loopback.errors import AuthorizationDenied, LoginTimeout, ServerUnreachable, TokenEndpointError
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.transaction import Transaction
from webex_loopback.webex import worker
from webex_loopback.webex.client import Webex
from webex_loopback.wording import printable

from .attempt import Attempt
from .paste import Keyboard

# Webex sends the approval through these; if one is not registered, it shows an error page at the end.
HELPER_REDIRECT_URIS = tuple(
    f"https://oauth-helper-{letter}.wbx2.com/helperservice/v1/actions/device/callback" for letter in "arkd"
)
SLOW_DOWN_SECONDS = 5.0  # RFC 8628 §3.5
POLL_SECONDS = 10.0  # how long one request may take


class _Undecided(Exception):
    """The user has not decided yet; the text is the server's answer."""


def log_in_by_device(attempt: Attempt) -> StoredToken:
    """Show the code to enter elsewhere, wait for the approval, and save the tokens; raises as `log_in`."""
    with attempt.webex() as webex, Keyboard(on_stop=attempt.display.erase).unused():
        return attempt.with_account(_approved(attempt, webex), webex)


def _approved(attempt: Attempt, webex: Webex) -> StoredToken:
    settings, display, say = attempt.settings, attempt.display, attempt.say
    named = {
        "login": login_command(attempt.profile, "--device", *attempt.options),
        "uris": " ".join(HELPER_REDIRECT_URIS),
    }
    try:
        device = webex.device_authorization(client_id=settings.client_id, scope=" ".join(settings.scope_list))
    except TokenEndpointError as error:
        if "redirect" in error.error_description.lower():
            error.remedy = say("helpers", **named)
        raise
    code = Secret(device.pop("device_code"))
    interval = _seconds(device.get("interval"), 5)
    deadline = time.time() + min(_seconds(device.get("expires_in"), 300), settings.login_timeout)
    _announce(attempt, device)
    attempt.step("approval", "waiting_for_approval", "doing")
    display.start(deadline)
    trouble: ServerUnreachable | TokenEndpointError | None = None
    while time.time() + interval < deadline:
        time.sleep(interval)
        try:
            token = _poll(attempt, webex, code)
        except _Undecided as answer:
            trouble = None
            interval += SLOW_DOWN_SECONDS * (str(answer) == "slow_down")
        except (ServerUnreachable, TokenEndpointError) as error:
            words = f"{error.error} {error.error_description}" if isinstance(error, TokenEndpointError) else ""
            if "access_denied" in words:
                raise AuthorizationDenied(
                    say("device_declined", detail="access_denied"),
                    error="access_denied",
                    remedy=say("denied_access_denied.remedy", **named),
                ) from error
            if "expired_token" in words or "invalid_grant" in words:
                break
            if isinstance(error, TokenEndpointError) and error.status_code < 500:
                raise
            trouble = error  # RFC 8628 §3.5: the device code is still valid
            interval += SLOW_DOWN_SECONDS
            display.note(f"{error} {say('trying_again')}")
        else:
            attempt.step("approval", "approved", "done")
            attempt.step("saved", "saved", "done", store=attempt.store)
            return token
    raise trouble or LoginTimeout(say("device_timeout"), remedy=say("device_timeout.remedy", **named))


def _poll(attempt: Attempt, webex: Webex, code: Secret) -> StoredToken:
    """Poll once and save the tokens, if any; an interruption waits for the answer and reports the outcome."""
    settings = attempt.settings

    def make() -> StoredToken:
        answer = webex.device_token(
            client_id=settings.client_id, client_secret=settings.client_secret, device_code=code, seconds=POLL_SECONDS
        )
        if isinstance(answer, str):
            raise _Undecided(answer)
        return attempt.token(answer)

    transaction = Transaction(attempt.store, attempt.replacing(make))
    poll = worker.start(transaction.run)
    try:
        return worker.finish(poll, 3 * POLL_SECONDS, cancel=transaction.cancel)
    except BaseException:
        if poll.done() and poll.exception() is None:
            attempt.note("cancelled_saved")
        raise


def _announce(attempt: Attempt, device: dict[str, Any]) -> None:
    say, uri, code = attempt.say, device["verification_uri"], printable(device["user_code"], 20)
    complete = device.get("verification_uri_complete")
    if not isinstance(complete, str) or urlsplit(complete).scheme not in ("http", "https"):
        complete = uri
    out = io.StringIO()
    segno.make_qr(complete, error="l").terminal(out=out, compact=True, border=2)
    qr_code = [f"  {line}" for line in out.getvalue().rstrip("\n").split("\n")]
    # URL and code come last, because on a terminal of 24 lines the rest scrolls off the screen.
    hints = [say("enter_code"), f"  {code}"]
    attempt.display.show_url(uri, say("device_at"), hints, above=[say("scan"), *qr_code])


def _seconds(value: object, default: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 86_400
    return float(value) if good else default  # type: ignore[arg-type]
