"""What is done with a login afterwards: asking whose it is, and revoking it."""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from .errors import ServerUnreachable, TokenEndpointError
from .grant import webex_of
from .oauth import webex_of_token
from .settings import is_loopback, load

if TYPE_CHECKING:
    from .source import TokenSource
    from .token import Account, StoredToken

REVOKE_PAGE = "https://idbroker.webex.com/idb/profile#/tokens"


def who_is(source: "TokenSource") -> "Account":
    """Ask Webex whose token the source hands out; a token that it refuses is refreshed once.

    Raises:
        LoginRequired, TokenEndpointError, ServerUnreachable, TokenStoreError
    """
    access_token = SecretStr(source.get_token())
    stored = None if source.from_environment() else source.stored()
    with webex_of(load()) if stored is None else webex_of_token(stored) as webex:
        try:
            return webex.people_me(access_token)
        except TokenEndpointError as error:
            if error.status_code == 403:
                error.remedy = "The token lacks spark:people_read: add it to WEBEX_SCOPES, then log in with --force."
            if error.status_code != 401:
                raise
            renewed = SecretStr(source.refresh(rejected=access_token.get_secret_value()))
            if renewed == access_token:
                error.remedy = "The token is not accepted any more: run `webex-loopback login --force`."
                if stored is None:
                    error.remedy = "WEBEX_ACCESS_TOKEN is not accepted: put another token there, or unset it."
                raise
            return webex.people_me(renewed)


def revoke_grant(token: "StoredToken") -> str:
    """Ask Webex to revoke both tokens; return, for people, what came of it."""
    url = _revoke_url(token.api_base_url)
    if not url:
        return f"  No way to revoke tokens is known for {token.api_base_url}. Try {REVOKE_PAGE}"
    failures = []
    with webex_of_token(token) as webex:
        # The refresh token first: Webex ends the access tokens that came of it.
        for value, hint in ((token.refresh_token, "refresh_token"), (token.access_token, "access_token")):
            if value is None:
                continue
            try:
                webex.revoke(url, client_id=token.client_id, client_secret=token.client_secret, token=value, hint=hint)
            except (TokenEndpointError, ServerUnreachable) as error:
                failures.append(f"{hint.replace('_', ' ')}: {error}")
    if failures:
        return f"  Webex did not revoke them ({'; '.join(failures)}). You can do it at {REVOKE_PAGE}"
    return "  Webex has taken the request to revoke them; it may honour the access token for some minutes yet."


def _revoke_url(api_base_url: str) -> str:
    """Return the revocation endpoint of the identity broker that belongs to an API, "" where none is known."""
    parts = urlsplit(api_base_url)
    if parts.hostname in ("webexapis.com", "api.ciscospark.com"):
        # Not in Webex's documentation; Webex's own JavaScript SDK uses it.
        return "https://idbroker.webex.com/idb/oauth2/v1/revoke"
    if is_loopback(parts.hostname or ""):
        return f"{parts.scheme}://{parts.netloc}/idb/oauth2/v1/revoke"
    return ""
