"""msal: Microsoft's endpoints only, so it has a cached token to show and no login at a Webex.

At its construction it asks its authority for the endpoints; it is answered from memory here, so that what is
measured is its own work.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return"

import base64
import json
from collections.abc import Callable
from typing import ClassVar

import msal
from work import TOKEN_FILE, read_response

AUTHORITY = "https://login.microsoftonline.com/common"
SCOPES = ["User.Read"]


class _Discovery:
    """An HTTP client that knows one answer."""

    status_code = 200
    headers: ClassVar[dict[str, str]] = {}
    text = json.dumps(
        {
            "issuer": AUTHORITY,
            "authorization_endpoint": f"{AUTHORITY}/oauth2/v2.0/authorize",
            "token_endpoint": f"{AUTHORITY}/oauth2/v2.0/token",
        }
    )

    def get(self, _url: str, **_: object) -> "_Discovery":
        return self

    post = get

    def raise_for_status(self) -> None: ...

    def close(self) -> None: ...


def prepare() -> None:
    response = read_response()
    claims = {"sub": "alex", "oid": "alex", "tid": "org", "preferred_username": "alex", "iss": AUTHORITY, "aud": "C"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    client_info = base64.urlsafe_b64encode(b'{"uid": "alex", "utid": "org"}').decode().rstrip("=")
    cache = msal.SerializableTokenCache()
    cache.add(
        {
            "client_id": "C",
            "scope": SCOPES,
            "token_endpoint": f"{AUTHORITY}/oauth2/v2.0/token",
            "response": {
                "access_token": response["access_token"],
                "refresh_token": response["refresh_token"],
                "expires_in": response["expires_in"],
                "id_token": f"e30.{body}.e30",
                "client_info": client_info,
            },
        }
    )
    with open(TOKEN_FILE, "w") as file:
        file.write(cache.serialize())


def ready() -> Callable[[], str]:
    cache = msal.SerializableTokenCache()
    with open(TOKEN_FILE) as file:
        cache.deserialize(file.read())
    application = msal.PublicClientApplication(
        "C", authority=AUTHORITY, token_cache=cache, http_client=_Discovery(), instance_discovery=False
    )
    (account,) = application.get_accounts()
    return lambda: application.acquire_token_silent(SCOPES, account)["access_token"]
