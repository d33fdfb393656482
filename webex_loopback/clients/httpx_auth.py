"""`WebexAuth` for httpx. The rules are in `authorization_header`."""

from collections.abc import AsyncGenerator, Generator

import httpx

from webex_loopback.tokens.source import TokenSource

from .authorization_header import aauthorize, areauthorize, authorize, reauthorize, source_for


class WebexAuth(httpx.Auth):
    """For `auth=` of an `httpx.Client` or `httpx.AsyncClient` (asyncio or trio): adds a valid token to every request.

    Uses the tokens of `source`, or of `profile`. After a 401, bytes, JSON, forms and seekable files in `files=` are
    sent again; `content=` with an iterator or an open file is not.
    """

    def __init__(self, source: TokenSource | None = None, *, profile: str | None = None) -> None:
        self._source = source_for(source, profile)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = authorize(request, self._source)
        reply = yield request
        if reply.status_code == 401 and reauthorize(reply.request, self._source, token) and _can_repeat(reply):
            yield reply.request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await aauthorize(request, self._source)
        reply = yield request
        if reply.status_code == 401 and await areauthorize(reply.request, self._source, token) and _can_repeat(reply):
            yield reply.request


def _can_repeat(reply: httpx.Response) -> bool:
    """Return whether the body can be sent again: bytes can, and a multipart form if its files are seekable."""
    stream = reply.request.stream
    fields = getattr(stream, "fields", None)  # httpx has no public name for its multipart stream
    if fields is None:
        return isinstance(stream, httpx.ByteStream)
    files = [field.file for field in fields if hasattr(field, "file")]
    return all(isinstance(file, str | bytes) or file.seekable() for file in files)
