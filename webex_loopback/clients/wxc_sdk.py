"""wxc_sdk with a valid token in every request. On its own, wxc_sdk renews tokens only on request."""

from typing import TYPE_CHECKING, Any

from webex_loopback.tokens.source import TokenSource

from .aiohttp_middleware import aiohttp_middleware
from .authorization_header import source_for
from .sdk import PLACEHOLDER, api_base_url, import_sdk, requests_auth

if TYPE_CHECKING:
    from wxc_sdk import WebexSimpleApi as Api
    from wxc_sdk.as_api import AsWebexSimpleApi as AsApi
    from wxc_sdk.tokens import Tokens


def wxc_sdk_tokens(source: TokenSource | None = None, *, profile: str | None = None) -> "Tokens":
    """Return `wxc_sdk.tokens.Tokens` whose `access_token` is valid whenever it is read.

    `WebexSimpleApi` reads it for each request. It cannot be set and is not part of a dump or a repr. There is no
    refresh token, so `wxc_sdk.integration.Integration` does not renew it. `AsWebexSimpleApi` would block its event loop
    for a renewal: use `as_wxc_sdk_api()` there.
    """
    tokens = source_for(source, profile)
    valid: Any = type("ValidTokens", (import_sdk("wxc_sdk.tokens", "wxc-sdk").Tokens,), {"__module__": __name__})
    # Not in the class body, because pydantic would treat the property as the field's default.
    valid.access_token = property(lambda _: tokens.get_token())
    made: Tokens = valid()
    return made


def wxc_sdk_api(source: TokenSource | None = None, *, profile: str | None = None, **options: Any) -> "Api":
    """Return a `wxc_sdk.WebexSimpleApi` for the profile's API; `options` are its other arguments.

    The few calls for which wxc_sdk uses another host (SCIM, analytics) go to that host, whatever the profile's API is.
    """
    tokens = source_for(source, profile)
    make: Any = import_sdk("wxc_sdk", "wxc-sdk").WebexSimpleApi
    base_url = api_base_url(tokens)
    api: Api = make(tokens=wxc_sdk_tokens(tokens), **options)
    session: Any = api.session
    session.BASE, session.auth = base_url, requests_auth(tokens)
    return api


def as_wxc_sdk_api(source: TokenSource | None = None, *, profile: str | None = None, **options: Any) -> "AsApi":
    """Return a `wxc_sdk.as_api.AsWebexSimpleApi`, to be created and used on one asyncio event loop."""
    tokens = source_for(source, profile)
    make: Any = import_sdk("wxc_sdk.as_api", "wxc-sdk").AsWebexSimpleApi
    base_url = api_base_url(tokens)
    middlewares = (*options.pop("middlewares", ()), aiohttp_middleware(tokens))
    api: AsApi = make(tokens=PLACEHOLDER, middlewares=middlewares, **options)
    vars(api.session)["BASE"] = base_url  # aiohttp's sessions warn about setattr
    return api
