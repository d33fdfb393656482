"""Requests to Webex: tokens (RFC 6749 §4.1.3, §6), device grant (RFC 8628), Service Apps, people/me, API calls."""

import base64
import re
import time
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

from webex_loopback import __version__
from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from webex_loopback.oauth.token_response import MalformedToken, TokenResponse, read_object
from webex_loopback.secret import Secret
from webex_loopback.webex.account import Account
from webex_loopback.webex.error_response import Answer, read_error
from webex_loopback.webex.transport import Transport
from webex_loopback.wording import printable

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
_Form = dict[str, str | Secret]
_log = getLogger(__name__)
_HEADERS = {"accept": "application/json", "user-agent": f"webex-loopback/{__version__}"}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\n[\x20-\x7e\t]*")  # name, value (RFC 9110 §5, ASCII only)
_OURS = frozenset(["authorization", "connection", "content-length", "cookie", "host", "transfer-encoding"])
_PATIENCE = 2.0  # seconds that a Retry-After may ask for within one refresh
_PORTAL = "You may have to sign in to the network first: open any page in the browser, then try again."


class UnusableAnswer(ServerUnreachable):
    """Nothing in a response is usable, except perhaps a new `refresh_token`."""

    __slots__ = ("refresh_token",)  # so that pickling, which takes what is in `__dict__`, leaves it out
    refresh_token: Secret | None


class Webex(Transport):
    """A client of one Webex. Safe to use from several threads; a context manager.

    Methods that send a request raise `TokenEndpointError`, `ServerUnreachable` or `ConfigurationError`. `seconds`
    limits the whole call. `profile` is for the login command in remedies.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        token_url: str,
        ca_bundle: str = "",
        http_client: "httpx.Client | None" = None,
        profile: str = "",
    ) -> None:
        super().__init__((api_base_url, token_url), ca_bundle, http_client)
        self.api_base_url = api_base_url.rstrip("/")
        self.token_url = token_url
        self.profile = profile

    @classmethod
    def of(cls, endpoints: Any, *, profile: str = "", http_client: "httpx.Client | None" = None) -> Self:
        """Return a client of the Webex that `Settings`, a `StoredToken`, or an object like them names."""
        urls = {"api_base_url": endpoints.api_base_url, "token_url": endpoints.token_url}
        return cls(**urls, ca_bundle=endpoints.ca_bundle, http_client=http_client, profile=profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def probe(self, *, seconds: float = 10.0) -> int:
        """Send HEAD to the token endpoint, without a secret; return the status."""
        return self._send("HEAD", self.token_url, seconds).status_code

    def exchange_code(
        self,
        *,
        client_id: str,
        client_secret: Secret,
        code: Secret,
        code_verifier: Secret,
        redirect_uri: str,
        seconds: float = 30.0,
    ) -> TokenResponse:
        """Exchange an authorization code for tokens."""
        form: _Form = {"client_id": client_id, "client_secret": client_secret, "grant_type": "authorization_code"}
        form |= {"code": code, "code_verifier": code_verifier, "redirect_uri": redirect_uri}
        return self._tokens(self._send("POST", self.token_url, seconds, data=form), "authorization_code")

    def refresh(
        self, *, client_id: str, client_secret: Secret, refresh_token: Secret, seconds: float = 30.0
    ) -> TokenResponse:
        """Renew an access token; retried once if the server is busy and asks to wait two seconds at most."""
        form: _Form = {"client_id": client_id, "client_secret": client_secret, "grant_type": "refresh_token"}
        form |= {"refresh_token": refresh_token}
        deadline = time.monotonic() + seconds
        answer = self._send("POST", self.token_url, seconds, data=form)
        pause = self.error(answer).retry_after if answer.status_code in (429, 503) else None
        if pause is not None and pause <= _PATIENCE and time.monotonic() + pause < deadline:
            time.sleep(pause)
            answer = self._send("POST", self.token_url, deadline - time.monotonic(), data=form)
        return self._tokens(answer, "refresh_token")

    def application_token(
        self, *, app_id: str, client_id: str, client_secret: Secret, org_id: str, bearer: Secret, seconds: float = 30.0
    ) -> TokenResponse:
        """Fetch the tokens of a Service App; `bearer` needs the scope `spark:applications_token`."""
        url = f"{self.api_base_url}/applications/{quote(app_id, safe='')}/token"
        fields: _Form = {"clientId": client_id, "clientSecret": client_secret, "targetOrgId": org_id}
        return self._tokens(self._send("POST", url, seconds, headers=_bearer(bearer), json=fields), "service_app")

    def device_authorization(self, *, client_id: str, scope: str, seconds: float = 30.0) -> dict[str, Any]:
        """Start a device grant (RFC 8628 §3.1); return the response's members."""
        form = {"client_id": client_id, "scope": scope}
        answer = self._send("POST", f"{self.api_base_url}/device/authorize", seconds, data=form)
        values = self._read(answer, "", read_object)
        for name in ("device_code", "user_code", "verification_uri"):
            if not values.get(name) or not isinstance(values[name], str):
                del values  # a traceback printed with local variables must not show it
                raise ServerUnreachable(f"{answer.host} sent a device authorization response without {name}.")
        return values

    def device_token(
        self, *, client_id: str, client_secret: Secret, device_code: Secret, seconds: float = 30.0
    ) -> TokenResponse | str:
        """Ask whether the user has approved; return the tokens, `authorization_pending`, or `slow_down`."""
        form: _Form = {"client_id": client_id, "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}
        form |= {"device_code": device_code}
        # Here, unlike at the token endpoint, the secret goes into HTTP Basic only. RFC 6749 §2.3.1: form-encoded first.
        pair = Secret(f"{quote(client_id, safe='')}:{quote(client_secret.get_secret_value(), safe='')}")
        basic = {"authorization": Secret("Basic " + base64.b64encode(pair.get_secret_value().encode()).decode())}
        answer = self._send("POST", f"{self.api_base_url}/device/token", seconds, headers=basic, data=form)
        code = self.error(answer).error if answer.status_code in (400, 428, 429) else ""
        if code == "slow_down" or answer.status_code == 429:
            return "slow_down"
        if code == "authorization_pending" or answer.status_code == 428:
            return "authorization_pending"
        return self._tokens(answer, "device_code")

    def people_me(self, access_token: Secret, *, seconds: float = 10.0) -> Account:
        """Return the account that the token belongs to."""
        answer = self._send("GET", f"{self.api_base_url}/people/me", seconds, headers=_bearer(access_token))
        return Account.from_person(self._read(answer, "api", read_object))

    def call(self, method: str, path: str, *, bearer: Secret, seconds: float = 300.0, **parts: Any) -> Answer:
        """Send any API request; return the answer, whatever its status. Redirects are not followed.

        Args:
            path: Relative to the API base URL, or an absolute URL of the same origin: the token goes nowhere else.
            parts: `headers` (a mapping), `content`, `data`, `files` or `json`, as for `httpx.Request`.
        """
        headers: _Form = {name.lower(): value for name, value in parts.pop("headers", {}).items()}
        for name, value in headers.items():
            if not _HEADER.fullmatch(f"{name}\n{value}") or name in _OURS:
                message = f"The header {printable(name, 60)!r} is not valid, or cannot be set."
                raise ConfigurationError(message, remedy="Correct it or leave it out.")
        headers |= _bearer(bearer)
        return self._send(method, self._api_url(path), seconds, limited=False, headers=headers, **parts)

    def error(self, answer: Answer, grant: str = "api") -> TokenEndpointError:
        """Return the error that an answer stands for; `grant` as in `read_error()`."""
        return read_error(answer, grant=grant, profile=self.profile)

    def _send(self, method: str, url: str, seconds: float, **parts: Any) -> Answer:
        return self.send(method, url, seconds=seconds, headers=_HEADERS | parts.pop("headers", {}), **parts)

    def _api_url(self, path: str) -> str:
        where = path.partition("?")[0].partition("#")[0]
        url = path if "://" in where else f"{self.api_base_url}/{path.removeprefix('/')}"
        with suppress(ValueError):
            origins = {(u.scheme, u.hostname, u.port, u.username) for u in map(urlsplit, (url, self.api_base_url))}
            climbs = {".", ".."}.intersection(re.split("[/;]", unquote(unquote(where))))
            if len(origins) == 1 and not climbs and not re.search(r"^//|[\x00-\x1f\x7f\\]", path):
                return url
        raise ConfigurationError(
            f"{printable(path, 200)!r} is not a path of {self.api_base_url}; the access token is sent nowhere else.",
            remedy="Use a path such as people/me, or a URL that starts with the API base URL.",
        )

    def _tokens(self, answer: Answer, grant: str) -> TokenResponse:
        response = self._read(answer, grant, TokenResponse.from_json)
        if response.dropped:
            _log.warning("Ignored invalid values in the token response: %s", ", ".join(response.dropped))
        return response

    def _read(self, answer: Answer, grant: str, read: Callable[[bytes], _T]) -> _T:
        status, problem, refresh_token = answer.status_code, "", None
        if 200 <= status < 300:  # 203 means that a proxy has changed something
            try:
                return read(answer.body)
            except MalformedToken as error:
                problem, refresh_token = f"but the body {error}", error.refresh_token
        elif 300 <= status < 400 or status == 511:
            problem = "which this endpoint never does"
        told = self.error(answer, grant)
        if told.error or not problem:
            raise told
        message = f"{answer.host} answered {status}, {problem}."
        unusable = UnusableAnswer(message, remedy="" if refresh_token else _PORTAL)
        unusable.refresh_token = refresh_token
        raise unusable


def _bearer(token: Secret) -> dict[str, str | Secret]:
    # Refused here, because the errors of httpx would quote it.
    if not re.fullmatch(r"[\x21-\x7e]+", token.get_secret_value()):
        raise ConfigurationError("The access token contains characters that cannot be sent in an HTTP header.")
    return {"authorization": Secret(f"Bearer {token.get_secret_value()}")}
