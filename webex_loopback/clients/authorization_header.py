"""Rules and helpers that the HTTP clients share.

- A request carries the source's token in its `Authorization` header; the request raises the exceptions of
  `get_token()`.
- After a 401 the token is renewed, once for all waiting requests. If that returns another token and the body can be
  sent again, the request (after redirects: the last one) is sent once more. Otherwise the caller gets the 401.
- The token does not follow a redirect to another origin, and is never sent over plain http to another machine.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

from webex_loopback.errors import ConfigurationError
from webex_loopback.secret import Secret
from webex_loopback.tokens.source import TokenSource
from webex_loopback.webex.worker import start
from webex_loopback.wording import is_loopback


def source_for(source: TokenSource | None, profile: str | None) -> TokenSource:
    """Return the source, or a new one for the profile (default: `$WEBEX_PROFILE`, else `default`)."""
    if source is not None and profile is not None:
        raise TypeError("Pass either a source or a profile: a source has its own profile.")
    return source or TokenSource(profile)


def authorize(request: Any, source: TokenSource) -> Secret:
    """Add the source's token to a request of any HTTP client; return the token."""
    _check_encrypted(str(request.url))
    return _set(request, Secret(source.get_token()))


async def aauthorize(request: Any, source: TokenSource) -> Secret:
    """Like `authorize`, without blocking the event loop (asyncio or trio)."""
    _check_encrypted(str(request.url))
    return _set(request, Secret(await (source.aget_token() if _on_asyncio() else _in_thread(source.get_token))))


def reauthorize(request: Any, source: TokenSource, rejected: Secret) -> bool:
    """Put a renewed token into a request that was answered with 401; return False if there is none."""
    if request.headers.get("Authorization") != f"Bearer {rejected.get_secret_value()}":
        return False  # removed by a redirect to another origin
    return _set(request, Secret(source.refresh(rejected=rejected.get_secret_value()))) != rejected


async def areauthorize(request: Any, source: TokenSource, rejected: Secret) -> bool:
    return bool(await _in_thread(lambda: reauthorize(request, source, rejected)))


def _set(request: Any, token: Secret) -> Secret:
    request.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    return token


def _check_encrypted(url: str) -> None:
    if url.startswith(("http:", "ws:")) and not is_loopback(host := urlsplit(url).hostname or ""):
        message = f"The request to {host} was not sent: plain http would expose the access token."
        raise ConfigurationError(message, remedy="Use https. Plain http is accepted only for this machine.")


def _on_asyncio() -> bool:
    try:
        return asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


async def _in_thread(function: Any) -> Any:
    if _on_asyncio():  # not in the loop's pool, whose threads may all be waiting for this request
        return await asyncio.wrap_future(start(function))
    import anyio.to_thread

    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
