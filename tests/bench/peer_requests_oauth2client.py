"""requests_oauth2client: a `requests` auth that refreshes; keeping the serialised token is left to its user.

It has no loopback server and no lock.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

from collections.abc import Callable

from requests_oauth2client import BearerToken, OAuth2AccessTokenAuth, OAuth2Client, TokenSerializer
from work import SETTINGS, TOKEN_FILE, read_response


def prepare() -> None:
    response = read_response()
    token = BearerToken(
        response["access_token"], expires_in=response["expires_in"], refresh_token=response["refresh_token"]
    )
    with open(TOKEN_FILE, "wb") as file:
        file.write(TokenSerializer().dumps(token))


def ready() -> Callable[[], str]:
    with open(TOKEN_FILE, "rb") as file:
        token = TokenSerializer().loads(file.read())
    client = OAuth2Client(SETTINGS["token_url"], (SETTINGS["client_id"], SETTINGS["client_secret"]))
    auth = OAuth2AccessTokenAuth(client, token)

    def ask() -> str:
        if auth.token is None or auth.token.is_expired(auth.leeway):
            auth.renew_token()
        return auth.token.access_token

    return ask
