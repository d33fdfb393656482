"""The tokens of a Service App, which are fetched with the access token of another profile."""

import base64
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from webex_loopback.errors import ConfigurationError, LoginRequired, TokenEndpointError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.webex.client import Webex
from webex_loopback.wording import printable

from .record import ServiceApp, StoredToken

if TYPE_CHECKING:
    from .source import TokenSource

SCOPE = "spark:applications_token"


def application_id(client_id: str) -> str:
    """Return the application id that belongs to a client id: unpadded base64url of Webex's internal name."""
    return base64.urlsafe_b64encode(f"ciscospark://us/APPLICATION/{client_id}".encode()).decode().rstrip("=")


def login_with_scope(profile: str, scopes: Iterable[str], scope: str) -> str:
    """Return the command that logs in again with one more scope; leaves out any that a shell would interpret."""
    harmless = filter(re.compile(r"[\w:.-]+").fullmatch, scopes)
    return login_command(profile, "--scopes", '"{}"'.format(" ".join(dict.fromkeys([*harmless, scope]))), "--force")


def fetch_service_app(
    webex: Webex, app: ServiceApp, client_id: str, client_secret: Secret, seconds: float, source: "TokenSource"
) -> TokenResponse:
    """Fetch a Service App's tokens with the access token of the profile it names, which is renewed once if rejected.

    That profile's lock may be taken while the caller holds the Service App's. Since it cannot be a Service App itself,
    no two profiles can wait for each other.

    Raises:
        ConfigurationError: That profile is a Service App, or a login at another Webex.
        LoginRequired: Someone has to log in to that profile.
    """
    until, through = time.monotonic() + seconds, source.stored()
    scopes = ["spark:people_read"] if through is None else through.scopes_requested
    command = login_with_scope(app.using, scopes, SCOPE)
    if through is not None:
        _check(through, app, webex, client_id)
    try:
        bearer = Secret(source.get_token())
        for last in (False, True):
            try:
                return webex.application_token(
                    app_id=app.app_id,
                    client_id=client_id,
                    client_secret=client_secret,
                    org_id=app.org_id,
                    bearer=bearer,
                    seconds=max(until - time.monotonic(), 1.0),
                )
            except TokenEndpointError as error:
                if error.status_code != 401 or error.meaning != "passing":
                    raise _explained(error, app, through, command) from None
                newer = bearer if last else Secret(source.refresh(rejected=bearer.get_secret_value()))
                if newer == bearer:
                    raise LoginRequired(f"Webex rejected its access token. {error}") from None
                bearer = newer
        raise AssertionError("unreachable")
    except LoginRequired as error:
        raise LoginRequired(
            f"The tokens of the Service App are fetched through profile {app.using}, which needs a login. {error}",
            remedy=f"Run `{command}`, with the settings of the Integration.",
        ) from None


def _check(through: StoredToken, app: ServiceApp, webex: Webex, client_id: str) -> None:
    """Raise `ConfigurationError` unless that profile's token may be sent to this Webex, for this client."""
    if through.service_app is not None:
        raise ConfigurationError(
            f"Profile {app.using} is a Service App itself; it cannot fetch the tokens of another one.",
            setting="--using",
            remedy="With --using, name a profile that a user is logged in to.",
        )
    if through.api_base_url.rstrip("/") != webex.api_base_url:
        raise ConfigurationError(
            f"Profile {app.using} is a login at {printable(through.api_base_url)}, but the Service App is at "
            f"{printable(webex.api_base_url)}. An access token is not sent to another API.",
            setting="WEBEX_API_BASE_URL",
            remedy="Correct WEBEX_API_BASE_URL, or name another profile with --using.",
        )
    if through.client_id == client_id:
        raise ConfigurationError(
            f"WEBEX_CLIENT_ID is that of the Integration that profile {app.using} uses.",
            setting="WEBEX_CLIENT_ID",
            remedy="Set WEBEX_CLIENT_ID and WEBEX_CLIENT_SECRET to those of the Service App.",
        )


def _explained(
    error: TokenEndpointError, app: ServiceApp, through: StoredToken | None, command: str
) -> TokenEndpointError:
    """Return the error with a remedy for a Service App."""
    if error.meaning == "rejected":
        error.meaning = "passing"  # no refresh token was sent
    if error.meaning == "misconfigured":
        error.remedy = (
            "Compare WEBEX_CLIENT_ID and WEBEX_CLIENT_SECRET with the Service App's page on "
            "https://developer.webex.com/my-apps, then repeat the login with --service-app."
        )
    if error.status_code == 403 and through is not None and SCOPE not in through.granted:
        error.remedy = (
            f"Profile {app.using} does not have the scope {SCOPE}. Select it on the Integration, then run `{command}`, "
            "with the settings of the Integration."
        )
    return error
