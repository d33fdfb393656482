"""`RequestsAuth` for requests, and for SDKs built on it. The rules are in `authorization_header`."""

from functools import partial
from typing import Any

from webex_loopback.errors import ConfigurationError
from webex_loopback.secret import Secret
from webex_loopback.tokens.source import TokenSource

from .authorization_header import authorize, reauthorize, source_for

try:
    from requests import PreparedRequest, Response
    from requests.cookies import extract_cookies_to_jar
    from requests.exceptions import UnrewindableBodyError
    from requests.utils import rewind_body
except ImportError as error:
    raise ConfigurationError(f"Cannot import requests: {error}.", remedy="Run `pip install requests`.") from error


class RequestsAuth:
    """For `auth=` of a `requests` call or `Session`: adds a valid token to every request.

    Uses the tokens of `source`, or of `profile`. After a 401, a file in `data=` is sent again from its old position.
    """

    def __init__(self, source: TokenSource | None = None, *, profile: str | None = None) -> None:
        self._source = source_for(source, profile)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        token = authorize(request, self._source)
        # requests keeps the hook on a redirect, and removes the header if the origin changes.
        request.register_hook("response", partial(self._repeat, token))  # type: ignore[no-untyped-call]
        return request

    def _repeat(self, token: Secret, response: Response, **options: Any) -> Response:
        if response.status_code != 401:
            return response
        _ = response.content  # frees the connection
        request = response.request.copy()
        if not reauthorize(request, self._source, token):
            return response
        if not isinstance(request.body, str | bytes | None):
            try:
                rewind_body(request)
            except UnrewindableBodyError:
                return response
        # The rest is what requests' own HTTPDigestAuth does.
        cookies = request._cookies  # type: ignore[attr-defined]
        extract_cookies_to_jar(cookies, response.request, response.raw)  # type: ignore[no-untyped-call]
        request.prepare_cookies(cookies)
        answer: Response = response.connection.send(request, **options)
        answer.history.append(response)
        answer.request = request
        return answer
