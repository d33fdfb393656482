"""Webex's endpoints, by httpx: token requests (RFC 6749 §4.1.3, §6), device grant (RFC 8628), people/me.

What is sent again, and when (every request has a time limit, see `LIMITS`):
- A request that certainly did not reach the server (no connection) is sent up to three times.
- A refresh that was answered 429, 500 or 503 is sent once more, if the server asks for no longer than two seconds;
  not so 502 and 504: a gateway has lost Webex's answer, and the refresh may have been carried out.
- Anything else is sent once: a code is good for one request, and a rotating refresh token may be as well.

Secrets are `SecretStr` up to the request itself, and what httpx raises is chained without its frames: a
traceback printed with locals would otherwise show the request's body.
"""

import email.utils
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from . import __version__
from .errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from .network import issuer_seen, proxy_for, proxy_transport, ssl_context, without_frames
from .token import Account, MalformedToken, StoredToken, TokenResponse, read_object

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

LIMITS = {"connect": 10.0, "read": 20.0, "write": 10.0, "pool": 10.0}  # seconds
PEOPLE_SECONDS = 6.0  # for `people/me`: at a login a person waits before a page, and the tokens are saved already
WHOLE_SECONDS = 30.0  # for one answer, since a server that drips resets the read limit with every byte
_LARGEST_BODY = 1 << 20
_PAUSES = (0.2, 1.0)  # seconds before the second and the third try to connect
_AGAIN = (429, 500, 503)  # what a refresh is sent once more for
_LOST = (502, 504)  # what a gateway says that has lost the answer
_PATIENCE = 2.0  # seconds that a Retry-After may ask for within one call
_REUSE_SECONDS = 20.0
_SKEW_SECONDS = 300
_LONGEST_RETRY_AFTER = 3_600.0


class Rejected(TokenEndpointError):
    """The refresh token (or the code) itself was refused: a new login is needed."""


class NotSent(ServerUnreachable):
    """The request certainly did not reach the server; any other `ServerUnreachable` leaves that in doubt."""


class Webex:
    """A client of one Webex: its base URL, its token endpoint.

    Args:
        ca_bundle: PEM file to trust besides the operating system's store, or "".
        noted: Whether that was noted at login, rather than set now; an error is worded by it.
        http_client: An `httpx.Client` to use instead of our own; it is then yours to close.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        token_url: str,
        ca_bundle: str = "",
        noted: bool = False,
        http_client: "httpx.Client | None" = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.api_base_url = api_base_url
        self.token_url = token_url
        self.ca_bundle = ca_bundle
        self._noted = noted
        self.clock_skew: float | None = None
        self._sleep = sleep
        self._own = http_client is None
        self._client = http_client
        self._context: ssl.SSLContext | None = None
        self._used_at = 0.0

    def __enter__(self) -> "Webex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, unless the client is the caller's."""
        if self._own and self._client is not None:
            self._client.close()
            self._client = None

    def warm_up(self) -> None:
        """Load httpx and the certificates and connect to the token endpoint; failure is not told here."""
        import httpx

        try:
            # No secret is in it, and any answer will do: it is the connection that counts.
            self._http().head(self.token_url)
            self._used_at = time.time()
        except (httpx.HTTPError, httpx.InvalidURL, ConfigurationError, OSError, UnicodeError) as error:
            log.debug("Connecting ahead failed: %s", type(error).__name__)

    def reach(self) -> int:
        """Ask the token endpoint for nothing (HEAD), once, and return the status; `clock_skew` is known then.

        Raises:
            ConfigurationError, ServerUnreachable
        """
        return self._send("HEAD", self.token_url, pauses=()).status_code

    def exchange_code(
        self, *, client_id: str, client_secret: SecretStr, code: SecretStr, code_verifier: SecretStr, redirect_uri: str
    ) -> TokenResponse:
        """Exchange the code; it is sent twice only where the first sending did not reach the server.

        Raises:
            TokenEndpointError, ServerUnreachable
        """
        form: dict[str, str | SecretStr] = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "client_secret": client_secret,
            "code": code,
            "code_verifier": code_verifier,
            "redirect_uri": redirect_uri,
        }
        return _token_response(self._post(self.token_url, form))

    def refresh(self, *, client_id: str, client_secret: SecretStr, refresh_token: SecretStr) -> TokenResponse:
        """Make a refresh grant.

        Raises:
            Rejected: The refresh token is dead.
            TokenEndpointError: Something else is wrong, for instance the client secret.
            ServerUnreachable: In doubt; the refresh token may well be good still.
        """
        form: dict[str, str | SecretStr] = {
            "grant_type": "refresh_token",
            "client_id": client_id,
            "client_secret": client_secret,
            "refresh_token": refresh_token,
        }
        answer = self._post(self.token_url, form)
        if answer.status_code in _AGAIN:
            pause = 0.5 if answer.retry_after is None else answer.retry_after
            if pause <= _PATIENCE:
                self._sleep(pause)
                answer = self._post(self.token_url, form)
        return _token_response(answer)

    def device_authorization(self, *, client_id: str, scope: str) -> dict[str, Any]:
        """Start a device grant (RFC 8628 §3.1); return the response's members.

        Raises:
            TokenEndpointError, ServerUnreachable
        """
        answer = self._post(f"{self.api_base_url}/device/authorize", {"client_id": client_id, "scope": scope})
        if answer.status_code != 200:
            raise answer.error()
        try:
            values = read_object(answer.body)
        except MalformedToken as error:
            raise ServerUnreachable(f"{answer.host} sent an answer to the device authorization that {error}.") from None
        names = ("device_code", "user_code", "verification_uri")
        lacking = [name for name in names if not isinstance(values.get(name), str) or not values[name]]
        if not lacking:
            return values
        del values  # an error's traceback may be printed with its locals
        raise ServerUnreachable(f"{answer.host} sent a device authorization response without {lacking[0]}.")

    def device_token(
        self, *, client_id: str, client_secret: SecretStr, device_code: SecretStr
    ) -> "TokenResponse | str":
        """Ask once whether the person has approved; return the tokens, or `authorization_pending` or `slow_down`.

        Raises:
            TokenEndpointError, ServerUnreachable
        """
        form: dict[str, str | SecretStr] = {
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": device_code,
            "client_id": client_id,
        }
        # Here, other than at the token endpoint, Webex takes the secret by HTTP Basic only.
        answer = self._post(f"{self.api_base_url}/device/token", form, auth=(client_id, client_secret))
        if answer.status_code in (400, 428, 429):
            error = answer.error()
            words = f"{error.error} {error.error_description}"
            if "slow_down" in words or answer.status_code == 429:
                return "slow_down"
            if answer.status_code == 428 or "authorization_pending" in words:
                return "authorization_pending"
        return _token_response(answer)

    def people_me(self, access_token: SecretStr) -> Account:
        """Return whose token it is (`GET /people/me`).

        Raises:
            TokenEndpointError: For instance 403, where the token has no `spark:people_read`.
            ServerUnreachable
        """
        url = f"{self.api_base_url}/people/me"
        answer = self._send("GET", url, bearer=access_token, read_seconds=PEOPLE_SECONDS)
        if answer.status_code != 200:
            raise answer.error()
        try:
            person = read_object(answer.body)
        except MalformedToken as error:
            raise ServerUnreachable(f"{answer.host} sent a person that {error}.") from None
        emails = person.get("emails")
        return Account(
            name=_words(person.get("displayName")),
            email=_words(emails[0]) if isinstance(emails, list) and emails else "",
            id=_words(person.get("id")),
        )

    def revoke(self, url: str, *, client_id: str, client_secret: SecretStr, token: SecretStr, hint: str) -> None:
        """Ask for a token's revocation (RFC 7009 §2.1), with HTTP Basic.

        Raises:
            TokenEndpointError, ServerUnreachable
        """
        form: dict[str, str | SecretStr] = {"token": token, "token_type_hint": hint}
        answer = self._post(url, form, auth=(client_id, client_secret))
        if answer.status_code not in (200, 204):
            raise answer.error()

    def _post(
        self, url: str, form: Mapping[str, str | SecretStr], auth: tuple[str, SecretStr] | None = None
    ) -> "_Answer":
        return self._send("POST", url, form=form, auth=auth)

    def _send(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str | SecretStr] | None = None,
        auth: tuple[str, SecretStr] | None = None,
        bearer: SecretStr | None = None,
        pauses: Iterable[float] | None = None,
        read_seconds: float | None = None,
    ) -> "_Answer":
        import httpx

        limits = LIMITS | ({} if read_seconds is None else {"read": read_seconds})
        host = urlsplit(url).hostname or url
        left = iter(_PAUSES if pauses is None else pauses)
        while True:
            try:
                # UnicodeError is what the socket module makes of a host name such as `a..b`.
                answer = self._answer(self._http(), _request(method, url, form, auth, bearer), limits)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                if (pause := next(left, None)) is None or _unverified(error):
                    raise self._unreachable(host, error) from without_frames(error)
                self._sleep(pause)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, UnicodeError) as error:
                raise self._unreachable(host, error) from without_frames(error)
            else:
                self._used_at = time.time()
                self._compare_clocks(answer)
                return answer

    def _unreachable(self, host: str, error: Exception) -> ServerUnreachable:
        import httpx

        if (unverified := _unverified(error)) is not None:
            return self._intercepted(host, unverified)
        if isinstance(error, httpx.ProxyError):
            return NotSent(
                f"The proxy refused the way to {host}: {_reason(error)}.",
                remedy="See to HTTPS_PROXY and NO_PROXY, and whether the proxy asks for a password.",
            )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return NotSent(f"{host} cannot be reached{self._by_proxy(host)}: {_reason(error)}.")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | UnicodeError):
            return NotSent(f"{host!r} is no address of a server: {_reason(error)}.")
        if isinstance(error, httpx.TimeoutException | TimeoutError):
            return ServerUnreachable(f"{host} did not answer in time.")
        return ServerUnreachable(f"{host} gave no usable answer: {_reason(error)}.")

    def _answer(self, client: "httpx.Client", request: "httpx.Request", limits: Mapping[str, float]) -> "_Answer":
        until = time.monotonic() + WHOLE_SECONDS
        request.extensions["timeout"] = dict(limits)
        response = client.send(request, stream=True, follow_redirects=False, auth=None)
        body = b""
        try:
            for chunk in response.iter_bytes():  # with a size, httpx would wait until that many have come
                body += chunk
                if len(body) > _LARGEST_BODY:
                    break
                if time.monotonic() > until:
                    raise TimeoutError
        finally:
            response.close()
        return _Answer(response.status_code, response.headers, body, request.url.host)

    def _http(self) -> "httpx.Client":
        import httpx

        # A connection that idled through a suspend or behind a NAT may be dead without a sign, and a code sent
        # into it would be in doubt. Wall time: the monotonic clock stands still while Linux sleeps.
        if self._own and self._client is not None and not 0 <= time.time() - self._used_at < _REUSE_SECONDS:
            self._client.close()
            self._client = None
        if self._client is None:
            if self._context is None:
                self._context = ssl_context(self.ca_bundle, noted=self._noted)
            context = self._context
            limits = httpx.Limits(keepalive_expiry=_REUSE_SECONDS)
            mounts: dict[str, httpx.BaseTransport] = {}
            for url in (self.api_base_url, self.token_url):
                host = urlsplit(url).hostname or ""
                if (proxy := proxy_for(url)) and f"all://{host}" not in mounts:
                    mounts[f"all://{host}"] = proxy_transport(proxy, context, limits)
            # trust_env is off: httpx would also take a password from ~/.netrc, fail on a NO_PROXY it cannot
            # parse, and send a request to this machine through the proxy. proxy_for() does the choosing.
            self._client = httpx.Client(
                verify=context,
                trust_env=False,
                limits=limits,
                mounts=mounts,
                timeout=httpx.Timeout(**LIMITS),
            )
            self._used_at = time.time()
        return self._client

    def _by_proxy(self, host: str) -> str:
        proxy = urlsplit(proxy_for(self._origin(host))) if self._own else None
        return f" by the proxy {proxy.hostname}" if proxy and proxy.hostname else ""

    def _origin(self, host: str) -> str:
        return next((url for url in (self.token_url, self.api_base_url) if urlsplit(url).hostname == host), "")

    def _intercepted(self, host: str, error: ssl.SSLCertVerificationError) -> ServerUnreachable:
        origin = self._origin(host)
        issuer = _text(issuer_seen(origin)) if origin else ""
        seen = f" It was issued by {issuer}." if issuer else ""
        return NotSent(
            f"The certificate of {host} is not trusted: {error.verify_message}.{seen}",
            remedy="If your organisation inspects TLS, save its root certificate as a PEM file and name that in "
            "WEBEX_CA_BUNDLE. Otherwise somebody may be listening: do not log in from this network.",
        )

    def _compare_clocks(self, answer: "_Answer") -> None:
        try:
            there = email.utils.parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        except (TypeError, ValueError, OverflowError):
            return
        skew = there - time.time()
        if abs(skew) > _SKEW_SECONDS and self.clock_skew is None:
            log.warning(
                "This machine's clock and that of %s differ by %s; set the clock, or a login may fail.",
                answer.host,
                f"{abs(skew) / 3600:.1f} hours" if abs(skew) > 7200 else f"{abs(skew) / 60:.0f} minutes",
            )
        self.clock_skew = skew


def webex_of_token(token: StoredToken, http_client: "httpx.Client | None" = None) -> Webex:
    """Return a client of the Webex that a token comes from; `$WEBEX_CA_BUNDLE` comes before what login noted."""
    named = os.environ.get("WEBEX_CA_BUNDLE")
    return Webex(
        api_base_url=token.api_base_url,
        token_url=token.token_url,
        ca_bundle=os.path.abspath(os.path.expanduser(named)) if named else token.ca_bundle,
        noted=not named,
        http_client=http_client,
    )


class _Answer:
    """A whole response; repr and str show nothing of the body."""

    def __init__(self, status_code: int, headers: "httpx.Headers", body: bytes, host: str) -> None:
        self.status_code = status_code
        self.headers = headers
        self.body = body
        self.host = host
        self.retry_after = retry_after(headers.get("Retry-After", ""), time.time())

    def error(self) -> TokenEndpointError:
        """Return the error that this answer is (facts of both of Webex's bodies, and of none)."""
        code, words, tracking_id = error_words(self.body)
        tracking_id = tracking_id or _tracking_id(self.headers.get("trackingId"))
        known = f"{code} {words}".lower()
        kind, message, remedy = TokenEndpointError, f"{self.host} answered {self.status_code}", ""
        if self.status_code == 429:
            message = f"{self.host} asks to slow down (429)"
            remedy = "Wait a few minutes, then try again."
        elif self.status_code >= 500:
            message = f"{self.host} has a fault of its own ({self.status_code})"
        elif "tokenlimit" in known:
            message = "This Webex account has reached its limit of active access tokens (tokenlimit_reached)"
            remedy = "End sessions at https://idbroker.webex.com/idb/profile#/tokens, then log in again."
        elif _client_trouble(code, known):
            message = f"{self.host} refuses the client id or the client secret"
            remedy = (
                "Compare WEBEX_CLIENT_ID and WEBEX_CLIENT_SECRET with the Integration's page (a new secret can be made "
                "there), then run `webex-loopback login --force`."
            )
        elif self.status_code in (400, 401) and (code or words):
            kind = Rejected
        elif self.status_code in (400, 401) and not self.body.strip():
            # Webex is reported to answer a bad code so; it may mean a dead refresh token, but does not say it.
            message += " without a word"
            remedy = "Try again in a while; if it stays so, run `webex-loopback login --force`."
        detail = ": ".join(part for part in (code, words) if part)
        if detail:
            message += f": {detail}"
        if tracking_id:
            message += f" (tracking id {tracking_id})"
        return kind(
            f"{message}.",
            status_code=self.status_code,
            error=code,
            error_description=words,
            tracking_id=tracking_id,
            retry_after=self.retry_after,
            remedy=remedy,
        )


def _client_trouble(code: str, known: str) -> bool:
    # Webex has been seen to call a dead refresh token `invalid_client`, with the description that is its own.
    if "refresh token" in known:
        return False
    return code in ("invalid_client", "unauthorized_client") or bool(
        re.search(r"client[ _]?(id|secret|credentials?)\b", known)
    )


def is_passing(error: Exception) -> bool:
    """Whether a refresh that failed so may succeed later with the same refresh token."""
    if isinstance(error, Rejected):
        return False
    if isinstance(error, TokenEndpointError):
        # A 4xx without a word is not Webex's judgement of the request but some gateway's or proxy's.
        worded = bool(error.error or error.error_description)
        return error.status_code == 429 or error.status_code >= 500 or not worded
    return isinstance(error, ServerUnreachable)


def is_in_doubt(error: Exception) -> bool:
    """Whether a request that failed so may have been carried out, the answer being lost."""
    if isinstance(error, TokenEndpointError):
        return error.status_code in _LOST
    return isinstance(error, ServerUnreachable) and not isinstance(error, NotSent)


def error_words(body: bytes) -> tuple[str, str, str]:
    """Return `error`, description and tracking id of either of Webex's error bodies; "" what is not there."""
    try:
        values = read_object(body)
    except MalformedToken:
        return "", "", ""
    tracking_id = _tracking_id(values.get("trackingId")) or _tracking_id(values.get("trackingID"))
    words = _text(values.get("error_description"))
    if not words:
        items = values.get("errors")
        first = items[0] if isinstance(items, list) and items else None
        words = _text(first.get("description")) if isinstance(first, dict) else ""
    return _text(values.get("error")), words or _text(values.get("message")), tracking_id


def _words(value: object) -> str:
    """Take text from outside: only text, not too long, nothing that moves a cursor."""
    return "".join(c if c.isprintable() else " " for c in value).strip()[:500] if isinstance(value, str) else ""


def _text(value: object) -> str:
    """Take text of an error from outside: as `_words`, and nothing that looks like a token."""
    clean = _words(value)
    # A server that quotes what it was sent would have us print it. Webex's tokens and JWTs are longer than this.
    return re.sub(r"[A-Za-z0-9+/=_.~-]{40,}", "[...]", clean)


def _tracking_id(value: object) -> str:
    """Take a tracking id from outside; it is long enough to look like a token, were it not for its UUID."""
    clean = _words(value)
    return (
        clean
        if re.fullmatch(r"\w{0,20}_?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}.{0,20}", clean)
        else _text(clean)
    )


def _token_response(answer: _Answer) -> TokenResponse:
    if answer.status_code != 200:
        if 300 <= answer.status_code < 400:
            raise ServerUnreachable(
                f"{answer.host} answered with a redirect ({answer.status_code}), which the token endpoint never does.",
                remedy="You may have to sign in to the network first: open any page in the browser, then try again.",
            )
        raise answer.error()
    try:
        return TokenResponse.from_json(answer.body)
    except MalformedToken as error:
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        raise ServerUnreachable(
            f"{answer.host} answered 200, but what it sent ({_text(kind) or 'of no type'}) {error}.",
            remedy="A proxy or the network's sign-in page may have answered in Webex's place: open any page in the "
            "browser, then try again.",
        ) from None


def retry_after(text: str, now: float) -> float | None:
    """Read `Retry-After`: seconds or a date; None for anything else (Webex has sent `rand(30),add(30)`)."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_RETRY_AFTER)
    try:
        wait = email.utils.parsedate_to_datetime(text).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), _LONGEST_RETRY_AFTER)


def _unverified(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _reason(error: Exception) -> str:
    return _text(str(error)).rstrip(".") or type(error).__name__


def _request(
    method: str,
    url: str,
    form: Mapping[str, str | SecretStr] | None,
    auth: tuple[str, SecretStr] | None,
    bearer: SecretStr | None,
) -> "httpx.Request":
    import httpx

    headers = {"Accept": "application/json", "User-Agent": f"webex-loopback/{__version__}"}
    if auth is not None:
        headers["Authorization"] = _basic(*auth)
    elif bearer is not None:
        headers["Authorization"] = f"Bearer {bearer.get_secret_value()}"
    data = None if form is None else {name: _plain(value) for name, value in form.items()}
    return httpx.Request(method, url, data=data, headers=headers)


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _basic(client_id: str, client_secret: SecretStr) -> str:
    import base64
    from urllib.parse import quote

    # RFC 6749 §2.3.1: each is form-encoded first.
    pair = f"{quote(client_id, safe='')}:{quote(client_secret.get_secret_value(), safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
