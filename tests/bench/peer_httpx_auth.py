"""httpx-auth: an `httpx.Auth` with a JSON token cache, and a login of its own.

Of several threads that find the token expired one refreshes, and the others find none: their requests would begin
a login. There is no lock between processes. What the token request needs it puts into the authorization URL too, the
client secret included.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

import json
from collections.abc import Callable

from httpx_auth import JsonTokenFileCache, OAuth2, OAuth2AuthorizationCodePKCE
from work import SETTINGS, TOKEN_FILE, read_response


def _auth() -> OAuth2AuthorizationCodePKCE:
    OAuth2.token_cache = JsonTokenFileCache(TOKEN_FILE)
    return OAuth2AuthorizationCodePKCE(
        SETTINGS["authorize_url"],
        SETTINGS["token_url"],
        client_id=SETTINGS["client_id"],
        client_secret=SETTINGS["client_secret"],
        scope=" ".join(SETTINGS["scopes"]),
        redirect_uri_domain="127.0.0.1",
        redirect_uri_port=int(SETTINGS["port"]),
    )


def prepare() -> None:
    response = read_response()
    entry = [response["access_token"], response["expires_at"], response["refresh_token"]]
    state = _auth().state
    with open(TOKEN_FILE, "w") as file:
        json.dump({state: entry}, file)


def ready() -> Callable[[], str]:
    auth = _auth()

    # What its auth_flow does before each request.
    def ask() -> str:
        return OAuth2.token_cache.get_token(auth.state, early_expiry=30, on_expired_token=auth.refresh_token)

    return ask


def login() -> None:
    auth = _auth()
    OAuth2.token_cache.get_token(auth.state, early_expiry=30, on_missing_token=auth.request_new_token)
