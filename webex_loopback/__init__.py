"""OAuth tokens for Webex: log in once in the browser, then call `get_token()`.

>>> from webex_loopback import get_token
>>> headers = {"Authorization": f"Bearer {get_token()}"}
"""

__version__ = "2.0.0"

# Modules and their public names; type checkers read `__init__.pyi` instead.
_HOMES = {
    "tokens.source": "get_token aget_token TokenSource",
    "tokens.status": "LoginStatus login_status",
    "login.login": "log_in log_out",
    "clients.httpx_auth": "WebexAuth",
    "clients.requests_auth": "RequestsAuth",
    "clients.aiohttp_middleware": "aiohttp_middleware",
    "clients.wxc_sdk": "wxc_sdk_tokens wxc_sdk_api as_wxc_sdk_api",
    "clients.webexpythonsdk": "webexpythonsdk_api",
    "tokens.stores": "TokenStore",
    "tokens.stores.file": "FileTokenStore",
    "tokens.stores.keyring": "KeyringTokenStore",
    "tokens.stores.postgres": "PostgresTokenStore",
    "tokens.stores.memory": "MemoryTokenStore",
    "tokens.record": "StoredToken",
    "errors": "WebexLoopbackError ConfigurationError LoginRequired LoginFailed AuthorizationDenied LoginTimeout "
    "TokenEndpointError ServerUnreachable TokenStoreError",
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = list(_NAMES)


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562); returning a valid token needs hardly any of them."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # importlib.import_module does the same, but importing importlib takes a tenth of the whole call.
    value = getattr(__import__(f"{__name__}.{_NAMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
