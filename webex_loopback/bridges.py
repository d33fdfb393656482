"""Bridges to the Webex SDKs, for programs that run longer than a token lives.

    api = wxc_sdk_api()                       # or WebexSimpleApi(tokens=wxc_sdk_tokens())
    api = as_wxc_sdk_api()                    # its asyncio twin
    api = webexpythonsdk_api()

What `..._api` returns is the SDK's own object, at the API of the profile (also FedRAMP's, or a sandbox's); every
request has a fresh token, and one that is answered 401 is sent again as `auth` says. Without these, wxc_sdk reads
its token at each request but renews it only when told to, and webexpythonsdk keeps the first one for ever.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .auth import RequestsAuth, aiohttp_middleware, source_for
from .errors import ConfigurationError
from .source import TokenSource

if TYPE_CHECKING:
    from webexpythonsdk import WebexAPI
    from wxc_sdk import WebexSimpleApi
    from wxc_sdk.as_api import AsWebexSimpleApi
    from wxc_sdk.tokens import Tokens

# What the SDKs put into the header where the real token is put in its place: they want some string.
_PLACEHOLDER = "set-by-webex-loopback"


def wxc_sdk_tokens(source: TokenSource | None = None, *, profile: str | None = None) -> "Tokens":
    """Return `wxc_sdk.tokens.Tokens` whose `access_token` is a fresh one whenever it is read.

    `WebexSimpleApi` reads it at each request. It cannot be set, and is not in a dump or a repr; there is no refresh
    token in it, so that `wxc_sdk.integration.Integration` has nothing to do with it. `AsWebexSimpleApi` reads it
    on the event loop, which waits while a refresh is made: use `as_wxc_sdk_api()` there.

    Raises:
        ConfigurationError: wxc_sdk is not installed.
    """
    tokens = source_for(source, profile)
    base: Any = _sdk("wxc_sdk.tokens", "wxc-sdk").Tokens

    class FreshTokens(base):  # type: ignore[misc]  # a base class that mypy may not know
        pass

    # Not in the class body, where pydantic would take the property for the field's default.
    FreshTokens.access_token = property(lambda _: tokens.get_token())
    made: Tokens = FreshTokens()
    return made


def wxc_sdk_api(source: TokenSource | None = None, *, profile: str | None = None, **options: Any) -> "WebexSimpleApi":
    """Return a `wxc_sdk.WebexSimpleApi`; `options` are its other arguments, for instance `concurrent_requests`.

    The few of its calls that name a host of their own (SCIM, analytics) go there, whatever the profile's API.

    Raises:
        ConfigurationError: wxc_sdk is not installed.
        TokenStoreError: The token file, which names the API, cannot be read.
    """
    tokens = source_for(source, profile)
    api: WebexSimpleApi = _sdk("wxc_sdk", "wxc-sdk").WebexSimpleApi(tokens=wxc_sdk_tokens(tokens), **options)
    session: Any = api.session
    session.BASE = _api_base_url(tokens)
    session.auth = RequestsAuth(tokens)
    return api


def as_wxc_sdk_api(
    source: TokenSource | None = None, *, profile: str | None = None, **options: Any
) -> "AsWebexSimpleApi":
    """Return a `wxc_sdk.as_api.AsWebexSimpleApi`, to be made and used on an asyncio event loop, as `wxc_sdk_api()`.

    `api.access_token` is not the token: that is put into each request when it is sent.

    Raises:
        ConfigurationError: wxc_sdk is not installed.
        TokenStoreError: The token file, which names the API, cannot be read.
    """
    tokens = source_for(source, profile)
    middlewares = (*options.pop("middlewares", ()), aiohttp_middleware(tokens))
    made: AsWebexSimpleApi = _sdk("wxc_sdk.as_api", "wxc-sdk").AsWebexSimpleApi(
        tokens=_PLACEHOLDER, middlewares=middlewares, **options
    )
    # As an entry of its __dict__: aiohttp's sessions warn of attributes that they do not know.
    vars(made.session)["BASE"] = _api_base_url(tokens)
    return made


def webexpythonsdk_api(source: TokenSource | None = None, *, profile: str | None = None, **options: Any) -> "WebexAPI":
    """Return a `webexpythonsdk.WebexAPI`; `options` are its other arguments, for instance `proxies`.

    It has no public way to change the token of a live object. The token is therefore given to the `requests` session
    inside it (`api._session._req_session`), through the `auth` that every such session has.

    Raises:
        ConfigurationError: webexpythonsdk is not installed, or has no such session.
        TokenStoreError: The token file, which names the API, cannot be read.
    """
    tokens = source_for(source, profile)
    base: Any = _sdk("webexpythonsdk", "webexpythonsdk").WebexAPI

    class FreshWebexAPI(base):  # type: ignore[misc]  # a base class that mypy may not know
        @property
        def access_token(self) -> str:
            return tokens.get_token()

    # It joins the paths of its endpoints to the base as a browser would: without the slash, "v1" would be lost.
    options.setdefault("base_url", _api_base_url(tokens).rstrip("/") + "/")
    made: WebexAPI = FreshWebexAPI(access_token=_PLACEHOLDER, **options)
    try:
        made._session._req_session.auth = RequestsAuth(tokens)
    except AttributeError:
        raise ConfigurationError(
            "This version of webexpythonsdk is built otherwise than is known here, and would keep one token for ever.",
            remedy="Install `webexpythonsdk>=2.0.4,<2.1`, or make a new WebexAPI(access_token=get_token()) each day.",
        ) from None
    return made


def _api_base_url(source: TokenSource) -> str:
    """Return the API that the source's token is for."""
    stored = None if source.from_environment() else source.stored()
    if stored is not None and stored.api_base_url:
        return stored.api_base_url
    from .settings import load

    return load().api_base_url


def _sdk(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{module} cannot be imported: {error}.", remedy=f"Run `pip install {package}` in this Python."
        ) from error
