"""`aiohttp_middleware` for aiohttp's client. The rules are in `authorization_header`."""

import contextlib

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
from yarl import URL

from webex_loopback.tokens.source import TokenSource

from .authorization_header import aauthorize, areauthorize, source_for


def aiohttp_middleware(source: TokenSource | None = None, *, profile: str | None = None) -> ClientMiddlewareType:
    """Return a middleware for `aiohttp.ClientSession(middlewares=[...])`, or for a single request.

    Uses the tokens of `source`, or of `profile`. aiohttp does not tell a middleware which requests follow a redirect.
    An origin that it first sees as the target of one therefore never gets a token, even if requested directly later.
    """
    tokens = source_for(source, profile)
    requested: set[URL] = set()
    redirected_to: set[URL] = set()

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.url.origin() in redirected_to:
            response = await handler(request)
        else:
            requested.add(request.url.origin())
            response = await _send(request, handler, tokens)
        if response.status in (301, 302, 303, 307, 308):
            location = response.headers.get("Location") or response.headers.get("URI") or ""
            with contextlib.suppress(ValueError):  # aiohttp does not follow an invalid URL
                redirected_to.update({request.url.join(URL(location)).origin()} - requested)
        return response

    return middleware


async def _send(request: ClientRequest, handler: ClientHandlerType, source: TokenSource) -> ClientResponse:
    token = await aauthorize(request, source)
    response = await handler(request)
    if response.status != 401 or not await areauthorize(request, source, token):
        return response
    if getattr(request.body, "consumed", False):  # an empty body is bytes; every other kind has the attribute
        return response
    response.release()
    await request.close()  # an upload that the 401 interrupts must end before the body is read again
    return await handler(request)
