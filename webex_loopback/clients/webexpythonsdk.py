"""webexpythonsdk with a valid token in every request. On its own, the SDK keeps the token it was created with."""

from typing import TYPE_CHECKING, Any

from webex_loopback.errors import ConfigurationError
from webex_loopback.tokens.source import TokenSource

from .authorization_header import source_for
from .sdk import PLACEHOLDER, api_base_url, import_sdk, requests_auth

if TYPE_CHECKING:
    from webexpythonsdk import WebexAPI


def webexpythonsdk_api(source: TokenSource | None = None, *, profile: str | None = None, **options: Any) -> "WebexAPI":
    """Return a `webexpythonsdk.WebexAPI` for the profile's API; `options` are its other arguments.

    The SDK cannot change its token, so it is added by the `requests` session inside (`api._session._req_session`).
    """
    tokens = source_for(source, profile)
    base: Any = import_sdk("webexpythonsdk", "webexpythonsdk").WebexAPI
    make: Any = type("ValidWebexAPI", (base,), {"access_token": property(lambda _: tokens.get_token())})
    # The SDK joins URLs like a browser: without the final slash, "v1" would be lost.
    options.setdefault("base_url", api_base_url(tokens).rstrip("/") + "/")
    api: WebexAPI = make(access_token=PLACEHOLDER, **options)
    try:
        api._session._req_session.auth = requests_auth(tokens)
    except AttributeError:
        remedy = 'Run `pip install "webexpythonsdk>=2.0.4,<2.1"`, or call WebexAPI(access_token=get_token()) every day.'
        raise ConfigurationError("This version of webexpythonsdk is not supported.", remedy=remedy) from None
    return api
