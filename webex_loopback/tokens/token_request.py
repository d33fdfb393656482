"""The request that renews a login: a refresh grant, or a new pair of tokens for a Service App.

Separate from `renewal` so that a process that only waits for another's renewal imports no HTTP client.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from webex_loopback.errors import ConfigurationError, TokenEndpointError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.paths import environment_path
from webex_loopback.webex.client import Webex

from .decision import means_login
from .record import StoredToken
from .service_app import fetch_service_app

if TYPE_CHECKING:
    import httpx

    from .source import TokenSource


def client_for(record: StoredToken, profile: str = "", http_client: "httpx.Client | None" = None) -> Webex:
    """Return a client of the Webex that issued a token; `$WEBEX_CA_BUNDLE` overrides the one saved at login."""
    return Webex(
        api_base_url=record.api_base_url,
        token_url=record.token_url,
        ca_bundle=environment_path("WEBEX_CA_BUNDLE") or record.ca_bundle,
        http_client=http_client,
        profile=profile,
    )


def request_tokens(
    record: StoredToken,
    seconds: float,
    profile: str = "",
    http_client: "httpx.Client | None" = None,
    source_of: "Callable[[str], TokenSource] | None" = None,
) -> TokenResponse:
    """Make a refresh grant (RFC 6749 §6); for a Service App whose refresh token is rejected, fetch a new pair.

    Args:
        profile: For remedies.
        source_of: Returns the `TokenSource` of a profile; without it, nothing is fetched.
    """
    until = time.monotonic() + seconds
    with client_for(record, profile, http_client) as webex:
        if record.refresh_token is not None:
            try:
                return webex.refresh(
                    client_id=record.client_id,
                    client_secret=record.client_secret,
                    refresh_token=record.refresh_token,
                    seconds=seconds,
                )
            except TokenEndpointError as error:
                if source_of is None or record.service_app is None or not means_login(error, record, time.time()):
                    raise
        app, left = record.service_app, until - time.monotonic()
        if app is None or source_of is None:
            raise ConfigurationError("There is no refresh token, and no way to get another one.")
        return fetch_service_app(webex, app, record.client_id, record.client_secret, left, source_of(app.using))
