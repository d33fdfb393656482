"""OAuth tokens for Webex: log in once in the browser, then call `get_token()`.

>>> from webex_loopback import get_token
>>> headers = {"Authorization": f"Bearer {get_token()}"}
"""

__version__ = "2.0.0"

_HOMES = {
    "get_token": "tokens.source",
    "aget_token": "tokens.source",
    "TokenSource": "tokens.source",
    "LoginStatus": "tokens.status",
    "login_status": "tokens.status",
    "log_in": "login.login",
    "log_out": "login.login",
    "WebexAuth": "clients.httpx_auth",
    "RequestsAuth": "clients.requests_auth",
    "aiohttp_middleware": "clients.aiohttp_middleware",
    "wxc_sdk_tokens": "clients.wxc_sdk",
    "wxc_sdk_api": "clients.wxc_sdk",
    "as_wxc_sdk_api": "clients.wxc_sdk",
    "webexpythonsdk_api": "clients.webexpythonsdk",
    "TokenStore": "tokens.stores",
    "FileTokenStore": "tokens.stores.file",
    "KeyringTokenStore": "tokens.stores.keyring",
    "PostgresTokenStore": "tokens.stores.postgres",
    "MemoryTokenStore": "tokens.stores.memory",
    "StoredToken": "tokens.record",
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

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing
if TYPE_CHECKING:
    from .clients.aiohttp_middleware import aiohttp_middleware as aiohttp_middleware
    from .clients.httpx_auth import WebexAuth as WebexAuth
    from .clients.requests_auth import RequestsAuth as RequestsAuth
    from .clients.webexpythonsdk import webexpythonsdk_api as webexpythonsdk_api
    from .clients.wxc_sdk import as_wxc_sdk_api as as_wxc_sdk_api
    from .clients.wxc_sdk import wxc_sdk_api as wxc_sdk_api
    from .clients.wxc_sdk import wxc_sdk_tokens as wxc_sdk_tokens
    from .errors import AuthorizationDenied as AuthorizationDenied
    from .errors import ConfigurationError as ConfigurationError
    from .errors import LoginFailed as LoginFailed
    from .errors import LoginRequired as LoginRequired
    from .errors import LoginTimeout as LoginTimeout
    from .errors import ServerUnreachable as ServerUnreachable
    from .errors import TokenEndpointError as TokenEndpointError
    from .errors import TokenStoreError as TokenStoreError
    from .errors import WebexLoopbackError as WebexLoopbackError
    from .login.login import log_in as log_in
    from .login.login import log_out as log_out
    from .tokens.record import StoredToken as StoredToken
    from .tokens.source import TokenSource as TokenSource
    from .tokens.source import aget_token as aget_token
    from .tokens.source import get_token as get_token
    from .tokens.status import LoginStatus as LoginStatus
    from .tokens.status import login_status as login_status
    from .tokens.stores import TokenStore as TokenStore
    from .tokens.stores.file import FileTokenStore as FileTokenStore
    from .tokens.stores.keyring import KeyringTokenStore as KeyringTokenStore
    from .tokens.stores.memory import MemoryTokenStore as MemoryTokenStore
    from .tokens.stores.postgres import PostgresTokenStore as PostgresTokenStore


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562); returning a valid token needs hardly any of them."""
    if name == "__all__":
        return sorted(_HOMES)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # importlib.import_module does the same, but importing importlib takes a tenth of the whole call.
    value = getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
