"""Authentication for HTTP clients: every request carries a token that works, also after days.

    httpx.Client(base_url="https://webexapis.com/v1/", auth=WebexAuth())             # AsyncClient as well
    requests.get("https://webexapis.com/v1/people/me", auth=RequestsAuth())
    aiohttp.ClientSession(middlewares=[aiohttp_middleware()])

All three do the same:
- A request carries the `TokenSource`'s token; what else is in its `Authorization` header is replaced.
- Answered 401, the token is refreshed, once for all who ask. If that gives another token, the request that was
  answered (after a redirect: the last one) is sent once more; otherwise the 401 is the answer.
- A body that is gone once it is sent (a generator, a pipe) is not sent again: the caller gets the 401, and the
  next request has the new token.
- The token goes to where the request goes, but not where only a redirect leads, on another host, and never over
  plain http to another machine: `ConfigurationError`.

What `get_token()` raises comes out of the request: `LoginRequired`, `ServerUnreachable` and so on.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from .errors import ConfigurationError
from .source import TokenSource

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
    from requests import PreparedRequest, Response
    from yarl import URL

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class WebexAuth(httpx.Auth):
    """`auth=` of an `httpx.Client` or `httpx.AsyncClient` (asyncio or trio).

    Bytes, JSON, forms and files of `files=` that can seek are sent again after a 401; `content=` with an iterator
    or an open file is not.

    Args:
        source: Whose tokens to use; default: one for `profile`.
        profile: Default: `$WEBEX_PROFILE`, else `default`.
    """

    def __init__(self, source: TokenSource | None = None, *, profile: str | None = None) -> None:
        self._source = source_for(source, profile)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request, and again after a 401 that a refresh can help."""
        _check_way(request.url.scheme, request.url.host)
        token = SecretStr(self._source.get_token())
        _put(token, request)
        response = yield request
        if response.status_code == 401 and _carries(token, response.request):
            fresh = _refresh(self._source, token)
            if fresh is not None and _can_repeat(response.request):
                _put(fresh, response.request)
                yield response.request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request, and again after a 401 that a refresh can help; the event loop is never blocked."""
        _check_way(request.url.scheme, request.url.host)
        if _on_asyncio():
            token = SecretStr(await self._source.aget_token())
        else:
            token = await _in_thread(lambda: SecretStr(self._source.get_token()))
        _put(token, request)
        response = yield request
        if response.status_code == 401 and _carries(token, response.request):
            fresh = await _in_thread(lambda: _refresh(self._source, token))
            if fresh is not None and _can_repeat(response.request):
                _put(fresh, response.request)
                yield response.request


class RequestsAuth:
    """`auth=` of `requests`, for one request or a `Session`.

    A file as `data=` is rewound after a 401 to where it stood.

    Args:
        source: Whose tokens to use; default: one for `profile`.
        profile: Default: `$WEBEX_PROFILE`, else `default`.
    """

    def __init__(self, source: TokenSource | None = None, *, profile: str | None = None) -> None:
        self._source = source_for(source, profile)

    def __call__(self, request: "PreparedRequest") -> "PreparedRequest":
        """Give the request its token, and a hook that sends it again after a 401."""
        parts = urlsplit(request.url or "")
        _check_way(str(parts.scheme), str(parts.hostname))
        token = SecretStr(self._source.get_token())
        _put(token, request)

        def hook(response: "Response", **kwargs: Any) -> "Response":
            # It goes along on a redirect, while requests takes the token out where the host is another.
            return self._answer(token, response, kwargs)

        request.register_hook("response", hook)  # type: ignore[no-untyped-call]
        return request

    def _answer(self, token: SecretStr, response: "Response", kwargs: dict[str, Any]) -> "Response":
        from requests.cookies import extract_cookies_to_jar
        from requests.exceptions import UnrewindableBodyError
        from requests.utils import rewind_body

        if response.status_code != 401 or not _carries(token, response.request):
            return response
        _ = response.content  # the connection is free again, also if no token comes
        fresh = _refresh(self._source, token)
        if fresh is None:
            return response
        request = response.request.copy()
        if not isinstance(request.body, str | bytes | None):
            try:
                rewind_body(request)
            except UnrewindableBodyError:
                return response
        _put(fresh, request)
        # From here on as requests' own HTTPDigestAuth.
        cookies = request._cookies  # type: ignore[attr-defined]
        extract_cookies_to_jar(cookies, response.request, response.raw)  # type: ignore[no-untyped-call]
        request.prepare_cookies(cookies)
        answer: Response = response.connection.send(request, **kwargs)
        answer.history.append(response)
        answer.request = request
        return answer


def aiohttp_middleware(source: TokenSource | None = None, *, profile: str | None = None) -> "ClientMiddlewareType":
    """Return a middleware for `aiohttp.ClientSession(middlewares=[...])` or one request of it.

    An origin that it first meets as the target of a redirect gets no token from this middleware any more, not even
    when the program addresses it later; a new middleware knows nothing of it.

    Args:
        source: Whose tokens to use; default: one for `profile`.
        profile: Default: `$WEBEX_PROFILE`, else `default`.
    """
    tokens = source_for(source, profile)
    # aiohttp asks a middleware for each request of a chain of redirects alike. The token is for the origins that
    # the program itself addresses, not for those that a redirect was the first to name.
    own: set[URL] = set()
    foreign: set[URL] = set()

    async def middleware(request: "ClientRequest", handler: "ClientHandlerType") -> "ClientResponse":
        origin = request.url.origin()
        if origin in foreign:
            response = await handler(request)
        else:
            own.add(origin)
            response = await _authorized(tokens, request, handler)
        target = _redirect_target(request, response)
        if target is not None and target not in own and target not in foreign:
            log.info("%s redirects to %s, which gets no token.", origin, target)
            foreign.add(target)
        return response

    return middleware


async def _authorized(source: TokenSource, request: "ClientRequest", handler: "ClientHandlerType") -> "ClientResponse":
    _check_way(request.url.scheme, str(request.url.host))
    token = SecretStr(await source.aget_token())
    _put(token, request)
    response = await handler(request)
    if response.status != 401 or (fresh := await _in_thread(lambda: _refresh(source, token))) is None:
        return response
    if getattr(request.body, "consumed", False):  # an empty body is bytes, others know it
        return response
    response.release()
    await request.close()  # an upload that the 401 overtook has to end before the body is read anew
    _put(fresh, request)
    return await handler(request)


def _redirect_target(request: "ClientRequest", response: "ClientResponse") -> "URL | None":
    """Return the origin that aiohttp will ask next, or None."""
    from yarl import URL

    location = response.headers.get("Location") or response.headers.get("URI")
    if location is None or response.status not in (301, 302, 303, 307, 308):
        return None
    try:
        return request.url.join(URL(location)).origin()
    except ValueError:
        return None


def source_for(source: TokenSource | None, profile: str | None) -> TokenSource:
    """Return the source given, or a new one for the profile."""
    if source is not None and profile is not None:
        raise TypeError("give a source or a profile, not both: a source has its profile")
    return source or TokenSource(profile)


# Tokens are held as SecretStr: a traceback printed with locals, as pytest and error trackers do, must not show them.


def _put(token: SecretStr, request: Any) -> None:
    request.headers["Authorization"] = f"Bearer {token.get_secret_value()}"


def _carries(token: SecretStr, request: Any) -> bool:
    """Whether a request still has the token: a redirect to another origin takes it away."""
    return bool(request.headers.get("Authorization") == f"Bearer {token.get_secret_value()}")


def _refresh(source: TokenSource, refused: SecretStr) -> SecretStr | None:
    """Return the token to use in place of one that was answered with 401; None where there is no other."""
    fresh = SecretStr(source.refresh(rejected=refused.get_secret_value()))
    return None if fresh == refused else fresh


def _check_way(scheme: str, host: str) -> None:
    if scheme in ("http", "ws"):
        from .settings import is_loopback

        if not is_loopback(host):
            raise ConfigurationError(
                f"A request to {scheme}://{host} would carry the access token in the clear; it was not sent.",
                remedy="Use https://; plain http is for a sandbox on this machine only.",
            )


def _can_repeat(request: httpx.Request) -> bool:
    """Whether the body is still there: bytes are, and the files of a multipart form that can seek."""
    if isinstance(request.stream, httpx.ByteStream):
        return True
    fields = getattr(request.stream, "fields", None)  # httpx has no public name for its multipart stream
    if fields is None:
        return False
    files = [field.file for field in fields if hasattr(field, "file")]
    return all(isinstance(file, str | bytes) or file.seekable() for file in files)


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _in_thread(function: Callable[[], _T]) -> _T:
    """Run what may wait for the network in a thread; a task that is cancelled does not wait for it."""
    import anyio.to_thread  # which httpx depends on

    return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
