"""Helpers that the modules for the Webex SDKs share."""

import importlib
from typing import TYPE_CHECKING, Any

from webex_loopback.errors import ConfigurationError
from webex_loopback.settings import load
from webex_loopback.tokens.source import TokenSource

if TYPE_CHECKING:
    from .requests_auth import RequestsAuth

PLACEHOLDER = "set-by-webex-loopback"  # the SDKs require a token at creation; each request gets the real one


def import_sdk(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"Cannot import {module}: {error}.", remedy=f"Run `pip install {package}`.") from error


def requests_auth(source: TokenSource) -> "RequestsAuth":
    """Return the `requests` authentication that both synchronous SDKs use; call it once the SDK is imported."""
    from .requests_auth import RequestsAuth

    return RequestsAuth(source)


def api_base_url(source: TokenSource) -> str:
    """Return the base URL of the API that the source's token is for."""
    if not (origin := source.from_environment()):
        if (stored := source.stored()) is None:
            source.get_token()  # raises LoginRequired; the settings may name another API than a later login
        elif stored.api_base_url:
            return stored.api_base_url
    settings = load()
    settings.check_destinations(origin or str(source.store), "the access token")
    return settings.api_base_url
