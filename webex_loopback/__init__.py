"""OAuth tokens for Webex Integrations: log in once in the browser, then `get_token()`.

>>> from webex_loopback import get_token
>>> headers = {"Authorization": f"Bearer {get_token()}"}
"""

__version__ = "1.0.0"

_HOMES = {
    "get_token": "source",
    "aget_token": "source",
    "TokenSource": "source",
    "log_in": "login",
    "log_out": "login",
    "WebexAuth": "auth",
    "RequestsAuth": "auth",
    "aiohttp_middleware": "auth",
    "wxc_sdk_tokens": "bridges",
    "wxc_sdk_api": "bridges",
    "as_wxc_sdk_api": "bridges",
    "webexpythonsdk_api": "bridges",
    "TokenStore": "store",
    "FileTokenStore": "store",
    "KeyringTokenStore": "store",
    "MemoryTokenStore": "store",
    "StoredToken": "token",
    "WebexLoopbackError": "errors",
    "ConfigurationError": "errors",
    "LoginRequired": "errors",
    "LoginFailed": "errors",
    "AuthorizationDenied": "errors",
    "LoginTimeout": "errors",
    "TokenEndpointError": "errors",
    "ServerUnreachable": "errors",
    "TokenStoreError": "errors",
}

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from .auth import RequestsAuth as RequestsAuth
    from .auth import WebexAuth as WebexAuth
    from .auth import aiohttp_middleware as aiohttp_middleware
    from .bridges import as_wxc_sdk_api as as_wxc_sdk_api
    from .bridges import webexpythonsdk_api as webexpythonsdk_api
    from .bridges import wxc_sdk_api as wxc_sdk_api
    from .bridges import wxc_sdk_tokens as wxc_sdk_tokens
    from .errors import AuthorizationDenied as AuthorizationDenied
    from .errors import ConfigurationError as ConfigurationError
    from .errors import LoginFailed as LoginFailed
    from .errors import LoginRequired as LoginRequired
    from .errors import LoginTimeout as LoginTimeout
    from .errors import ServerUnreachable as ServerUnreachable
    from .errors import TokenEndpointError as TokenEndpointError
    from .errors import TokenStoreError as TokenStoreError
    from .errors import WebexLoopbackError as WebexLoopbackError
    from .login import log_in as log_in
    from .login import log_out as log_out
    from .source import TokenSource as TokenSource
    from .source import aget_token as aget_token
    from .source import get_token as get_token
    from .store import FileTokenStore as FileTokenStore
    from .store import KeyringTokenStore as KeyringTokenStore
    from .store import MemoryTokenStore as MemoryTokenStore
    from .store import TokenStore as TokenStore
    from .token import StoredToken as StoredToken


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562): a valid token needs hardly any of them."""
    if name == "__all__":
        return sorted(_HOMES)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # importlib.import_module does the same, but importing it takes a tenth of the whole call.
    value = getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
