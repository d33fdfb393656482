"""Requests the tokens that a renewal needs; a Service App's are fetched anew if its refresh token is rejected.

Separate from `renewal` so that a process that only waits for another's renewal imports no HTTP client.
"""

import base64
import os
import time
from typing import TYPE_CHECKING

from webex_loopback.errors import TokenEndpointError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.secret import Secret
from webex_loopback.webex.client import Webex

from .decision import means_login
from .record import ServiceApp, StoredToken
from .source import TokenSource

if TYPE_CHECKING:
    import httpx


def application_id(client_id: str) -> str:
    """Return the application id that belongs to a client id: unpadded base64url of Webex's internal name."""
    return base64.urlsafe_b64encode(f"ciscospark://us/APPLICATION/{client_id}".encode()).decode().rstrip("=")


def client_for(record: StoredToken, http_client: "httpx.Client | None" = None) -> Webex:
    """Return a client of the Webex that a token comes from; `$WEBEX_CA_BUNDLE` overrides the one noted at login."""
    named = os.environ.get("WEBEX_CA_BUNDLE")
    return Webex(
        api_base_url=record.api_base_url,
        token_url=record.token_url,
        ca_bundle=os.path.abspath(os.path.expanduser(named)) if named else record.ca_bundle,
        http_client=http_client,
    )


def request_tokens(record: StoredToken, seconds: float, http_client: "httpx.Client | None" = None) -> TokenResponse:
    """Make a refresh grant (RFC 6749 §6); for a Service App whose refresh token is rejected, fetch a new pair.

    Raises:
        TokenEndpointError, ServerUnreachable, ConfigurationError
        WebexLoopbackError: From the profile that fetches a Service App's tokens.
    """
    until = time.monotonic() + seconds
    with client_for(record, http_client) as webex:
        if record.refresh_token is not None:
            try:
                return webex.refresh(
                    client_id=record.client_id,
                    client_secret=record.client_secret,
                    refresh_token=record.refresh_token,
                    seconds=seconds,
                )
            except TokenEndpointError as error:
                if record.service_app is None or not means_login(error, record, time.time()):
                    raise
        assert record.service_app is not None  # noqa: S101 - can_renew: it has the one or the other
        return fetch_service_app(webex, record.service_app, record, until - time.monotonic())


def fetch_service_app(webex: Webex, app: ServiceApp, record: StoredToken, seconds: float) -> TokenResponse:
    """Fetch a Service App's tokens with the access token of the profile it names.

    A token that Webex rejects there is renewed once.
    """
    source = TokenSource(app.using)
    bearer = Secret(source.get_token())
    for last in (False, True):
        try:
            return webex.application_token(
                app_id=app.app_id,
                client_id=record.client_id,
                client_secret=record.client_secret,
                org_id=app.org_id,
                bearer=bearer,
                seconds=max(seconds, 1.0),
            )
        except TokenEndpointError as error:
            if error.status_code != 401 or last:
                raise
            renewed = Secret(source.refresh(rejected=bearer.get_secret_value()))
            if renewed == bearer:
                raise
            bearer = renewed
    raise AssertionError("unreachable")
