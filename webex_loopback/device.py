"""A login by the device grant (RFC 8628): approve on any device, nothing is redirected to this machine."""

import io
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from .authorization import printable
from .errors import AuthorizationDenied, LoginTimeout, ServerUnreachable, TokenEndpointError, WebexLoopbackError
from .grant import Plan, add_account, save_grant, webex_of

if TYPE_CHECKING:
    from .oauth import Webex
    from .terminal import Display
    from .token import StoredToken, TokenResponse

# Webex sends the approval through these; an Integration that lacks one shows an error page at the end.
HELPER_REDIRECT_URIS = tuple(
    f"https://oauth-helper-{letter}.wbx2.com/helperservice/v1/actions/device/callback" for letter in "arkd"
)
_SLOW_DOWN_SECONDS = 5  # RFC 8628 §3.5
_REMEDY = "Register all four of these redirect URIs on the Integration, then try again:\n  " + "\n  ".join(
    HELPER_REDIRECT_URIS
)


def log_in_by_device(plan: Plan, display: "Display") -> "StoredToken":
    """Show the code to enter elsewhere, wait for the approval, and save the tokens.

    Raises:
        AuthorizationDenied, LoginTimeout, TokenEndpointError, ServerUnreachable, TokenStoreError
    """
    with webex_of(plan.settings) as webex:
        try:
            device = webex.device_authorization(
                client_id=plan.settings.client_id, scope=" ".join(plan.settings.scope_list)
            )
        except TokenEndpointError as error:
            if "redirect" in error.error_description.lower():
                error.remedy = _REMEDY
            raise
        code = SecretStr(device.pop("device_code"))
        expires_in = _seconds(device.get("expires_in"), 300)
        deadline = time.time() + min(expires_in, plan.settings.login_timeout)
        with display:
            _announce(device, display)
            display.start(deadline)
            response = _poll(plan, webex, code, _seconds(device.get("interval"), 5), deadline, display)
            display.step("approved", "Approved", "done")
            token = save_grant(plan, response)
            display.step("saved", f"Saved in {plan.store.path}", "done")
            return add_account(plan.store, token, webex)


def _poll(
    plan: Plan, webex: "Webex", code: SecretStr, interval: float, deadline: float, display: "Display"
) -> "TokenResponse":
    """Ask every `interval` seconds, slower where the server wants it so, until there is a decision."""
    settings = plan.settings
    trouble: WebexLoopbackError | None = None
    while time.time() + interval < deadline:
        time.sleep(interval)
        try:
            answer = webex.device_token(
                client_id=settings.client_id, client_secret=settings.client_secret, device_code=code
            )
        except ServerUnreachable as error:
            trouble = error
        except TokenEndpointError as error:
            words = f"{error.error} {error.error_description}"
            if "access_denied" in words:
                raise AuthorizationDenied(
                    "The login was declined on the other device (access_denied).",
                    error="access_denied",
                    error_description=error.error_description,
                ) from error
            if "expired_token" in words or "invalid_grant" in words:
                break
            if error.status_code < 500:
                raise
            trouble = error
        else:
            trouble = None
            if not isinstance(answer, str):
                return answer
        if trouble is not None:
            display.note(f"{trouble} Trying again.")  # RFC 8628 §3.5: the device code is still good
        if trouble is not None or answer == "slow_down":
            interval += _SLOW_DOWN_SECONDS
    if trouble is not None:
        raise trouble
    raise LoginTimeout("The code was not approved in time.", remedy=f"Run the command again. {_REMEDY}")


def _announce(device: dict[str, Any], display: "Display") -> None:
    uri, code = device["verification_uri"], printable(device["user_code"], 20)
    complete = device.get("verification_uri_complete")
    if not isinstance(complete, str) or urlsplit(complete).scheme not in ("http", "https"):
        complete = uri
    # The code comes last: on 24 lines the rest of it scrolls away.
    hints = ["Or scan this:", *qr_code(complete), "", f"At {uri} enter this code:", "", *large(code)]
    display.address(uri, hints=hints, heading="On any device, open this address and log in to Webex:")
    display.step("approved", "Waiting for the approval", "doing")
    display.step("saved", "Save the tokens", "todo")


def qr_code(text: str) -> list[str]:
    """Return a QR code as lines for a terminal, two rows of dots a line."""
    import segno

    out = io.StringIO()
    segno.make_qr(text, error="l").terminal(out=out, compact=True, border=2)
    return out.getvalue().rstrip("\n").split("\n")


_DIGITS = {
    "0": ("█▀█", "█ █", "▀▀▀"),
    "1": ("▄█ ", " █ ", "▀▀▀"),
    "2": ("▀▀█", "█▀▀", "▀▀▀"),
    "3": ("▀▀█", " ▀█", "▀▀▀"),
    "4": ("█ █", "▀▀█", "  ▀"),
    "5": ("█▀▀", "▀▀█", "▀▀▀"),
    "6": ("█▀▀", "█▀█", "▀▀▀"),
    "7": ("▀▀█", "  █", "  ▀"),
    "8": ("█▀█", "█▀█", "▀▀▀"),
    "9": ("█▀█", "▀▀█", "▀▀▀"),
}


def large(code: str) -> list[str]:
    """Return a code of digits in large characters, and below it as it is."""
    if not code or any(character not in _DIGITS for character in code):
        return [f"  {code}"]
    rows = ["    " + "  ".join(_DIGITS[character][row] for character in code) for row in range(3)]
    return [*rows, "", f"  {code}"]


def _seconds(value: object, default: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 86_400
    return float(value) if good else default  # type: ignore[arg-type]
