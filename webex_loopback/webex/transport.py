"""Sends requests to Webex: proxies, certificates, one deadline per request, and a message for every failure.

Secrets stay `Secret` up to `_attempt()`. Exceptions lose its frame and those below, because they hold the request.
"""

import os
import ssl
import sys
import time
import types
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from logging import getLogger
from socket import gaierror
from typing import Any
from urllib.parse import urlsplit

from webex_loopback.errors import ConfigurationError, ServerUnreachable
from webex_loopback.secret import Secret
from webex_loopback.webex.error_response import Answer, http_date
from webex_loopback.webex.worker import Late, run
from webex_loopback.wording import duration, is_loopback, printable, without_tokens

# httpx imports its own command line: click, and rich if installed (125 ms). The stand-in does so when it is called.
_stand_in = types.ModuleType("httpx._main")
_stand_in.__dict__["main"] = lambda: __import__("httpx._main", fromlist=["main"]).main()
sys.modules.setdefault("httpx._main", _stand_in)
import httpx  # noqa: E402

if sys.modules["httpx._main"] is _stand_in:
    del sys.modules["httpx._main"]

TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # variables that name certificates
_LONGEST_BODY = 1 << 20  # of a token response
_SKEW_SECONDS = 300
_PAUSES = (0.2, 1.0, None)  # seconds before the second and the third attempt to connect
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BAD_DATES = (9, 10, 0x800B0101, -67818, -67819)  # expired or not valid yet: OpenSSL, Windows, macOS
_BAD_URL = (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError)
# The failure or one of its causes, what happened, the remedy ("" for the usual one). The first row that fits counts.
_MEANINGS: tuple[tuple[Any, str, str], ...] = (
    (httpx.ProxyError, "Connection to {host} refused by {server}: {reason}", "Check HTTPS_PROXY and NO_PROXY."),
    (gaierror, "Could not resolve the host name of {server}: {reason}", ""),
    (ConnectionRefusedError, "Connection refused by {server}", ""),
    ((httpx.TimeoutException, TimeoutError), "No answer from {server} within {seconds}", ""),
    (httpx.ConnectError, "Could not connect to {server}: {reason}", ""),
    (_BAD_URL, "Invalid URL {url!r}: {reason}", "Correct WEBEX_API_BASE_URL or WEBEX_TOKEN_URL."),
    (BaseException, "Unusable answer from {server}: {reason}", ""),
)
_PROXY_LOGIN = (
    "The proxy requires authentication: set HTTPS_PROXY to http://USER:PASSWORD@HOST:PORT (percent-encoded), or run a "
    "local proxy that authenticates for you, such as px or cntlm."
)
_INTERCEPTED = (
    "If your organization inspects TLS, save its root certificate as a PEM file and set WEBEX_CA_BUNDLE to its path. "
    "Otherwise do not log in from this network: the connection may be intercepted."
)


class Transport:
    """Sends requests to the servers of `urls`, with our own `httpx.Client`, or one that the caller provides and closes.

    Attributes:
        clock_skew: Seconds by which the server's clock is ahead of this machine's; None before the first answer.
    """

    def __init__(self, urls: Iterable[str], ca_bundle: str = "", http_client: httpx.Client | None = None) -> None:
        self.clock_skew: float | None = None
        self._ours = http_client is None
        self._client = http_client or _new_client(tuple(urls), ca_bundle)

    def close(self) -> None:
        if self._ours:
            self._client.close()

    def send(self, method: str, url: str, *, seconds: float, limited: bool = True, **parts: Any) -> Answer:
        """Send a request and return the answer, whatever its status; redirects are not followed.

        It is sent once, because a code works only once, and so may a refresh token. Only connecting is retried, up to
        three attempts in all.

        Args:
            seconds: For everything together: name resolution, connecting, sending, receiving.
            limited: Refuse a body longer than a token response can be.
            parts: `headers`, `data`, `json` and so on, as for `httpx.Request`; the values may be secrets.

        Raises:
            ServerUnreachable
        """
        deadline = time.monotonic() + seconds
        for pause in _PAUSES:
            left = deadline - time.monotonic()
            # In a worker, because httpx's timeouts cover neither name resolution, nor several addresses in turn, nor a
            # server that sends a byte now and then. A late one is abandoned.
            result: Any
            try:
                result = run(partial(self._attempt, method, url, left, limited, parts), left)
            except Late:
                result = TimeoutError()
            if isinstance(result, Answer):
                return result
            again = isinstance(result, _NOT_SENT) and not _cause(result, ssl.SSLError)
            if not again or pause is None or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        if isinstance(result, Exception):  # of any kind: a SOCKS library or the caller's client may raise its own
            raise self._failed(result, url, seconds) from result
        raise result

    def _attempt(
        self, method: str, url: str, seconds: float, limited: bool, parts: Mapping[str, Any]
    ) -> Answer | BaseException:
        """Return the answer, or what was raised: raising it here would add a frame that holds the request."""
        try:
            request = httpx.Request(method, url, **{name: _plain(part) for name, part in parts.items()})
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
            response = self._client.send(request, stream=True, follow_redirects=False, auth=None)
            body = bytearray()
            try:
                for chunk in response.iter_bytes():  # with a size, httpx would wait until that many bytes have arrived
                    body += chunk
                    if limited and len(body) > _LONGEST_BODY:
                        raise httpx.DecodingError("it is too long")
            except httpx.TransportError:
                if not limited or not body.rstrip().endswith(b"}"):  # a complete token is kept
                    raise
            finally:
                response.close()
            self._compare_clocks(response.headers.get("Date", ""), request.url.host)
            return Answer(response.status_code, response.headers, bytes(body), request.url.host)
        except BaseException as error:
            for cause in _causes(error):
                cause.__traceback__ = None
            return error

    def _compare_clocks(self, date: str, host: str) -> None:
        moment, known = http_date(date), self.clock_skew is not None
        if moment is not None:
            self.clock_skew = skew = moment - time.time()
            if abs(skew) > _SKEW_SECONDS and not known:
                text = "This machine's clock is %s that of %s. Set the clock, or logins and renewals may fail."
                order = "behind" if skew > 0 else "ahead of"
                getLogger(__name__).warning(text, f"{duration(abs(skew))} {order}", host)

    def _failed(self, error: Exception, url: str, seconds: float) -> ServerUnreachable:
        host = url.partition("://")[2].partition("/")[0]
        reason = without_tokens(str(error), 200).rstrip(".") or type(error).__name__
        if unverified := _cause(error, ssl.SSLCertVerificationError):
            reason = getattr(unverified, "verify_message", reason)
            issuer = issuer_seen(url) if self._ours else ""
            message = f"The certificate of {host} is not trusted: {reason}{issuer and f' (issued by {issuer})'}."
            clock = getattr(unverified, "verify_code", 0) in _BAD_DATES
            return ServerUnreachable(message, remedy=clock * "Check this machine's clock. " + _INTERCEPTED)
        kind, message, remedy = next(row for row in _MEANINGS if _cause(error, row[0]))
        proxy = urlsplit(proxy_for(url)).hostname if isinstance(error, (httpx.ProxyError, *_NOT_SENT)) else None
        server = f"the proxy {proxy}" if proxy and self._ours else host
        message = message.format(server=server, host=host, url=url, reason=reason, seconds=duration(seconds))
        remedy = _PROXY_LOGIN if kind is httpx.ProxyError and "407" in reason else remedy
        return ServerUnreachable(f"{message}.", remedy=remedy)


def _plain(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return {name: value.get_secret_value() if isinstance(value, Secret) else value for name, value in part.items()}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException, kinds: Any) -> Any:
    return next((cause for cause in _causes(error) if isinstance(cause, kinds)), None)


def _new_client(urls: tuple[str, ...], ca_bundle: str) -> httpx.Client:
    secure = any(url.lower().startswith("https:") for url in urls)
    # A bare context trusts no certificate, and is created quickly.
    context = ssl_context(ca_bundle) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mounts = {"/".join(url.split("/")[:3]): through for url in urls if (through := _through(url, context))}
    # trust_env is off: httpx fails on a NO_PROXY that it cannot parse, and sends requests to this machine to the proxy.
    return httpx.Client(verify=context, trust_env=False, mounts=mounts)


def _through(url: str, context: ssl.SSLContext) -> httpx.HTTPTransport | None:
    """Return a transport through the proxy for a URL; None if there is none."""
    if not (proxy := proxy_for(url)):
        return None
    with suppress(ImportError, ValueError, httpx.InvalidURL):  # these quote the URL, which may contain a password
        if not urlsplit(proxy).hostname or "@" in "".join(urlsplit(proxy)[2:]):  # after a / ? or # in a password
            raise ValueError
        through = httpx.Proxy(proxy, ssl_context=context if proxy.startswith("https:") else None)
        return httpx.HTTPTransport(verify=context, trust_env=False, proxy=through)
    scheme = without_tokens(proxy.partition("://")[0], 20)
    del proxy  # an error's traceback may be printed with its local variables
    install = " A SOCKS proxy needs `pip install socksio`." if scheme.startswith("socks") else ""
    message = f"Cannot use the proxy set in the environment ({scheme}://...)."
    raise ConfigurationError(message, setting="HTTPS_PROXY", remedy=f"Correct HTTPS_PROXY or ALL_PROXY.{install}")


def proxy_for(url: str) -> str:
    """Return the URL of the proxy for a URL, or "": from the environment or the system's settings.

    Never for this machine's own addresses: `NO_PROXY=localhost` does not cover 127.0.0.1.
    """
    try:
        scheme, host, port = urlsplit(url).scheme, urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError:
        return ""  # the request will fail
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or is_loopback(host) or urllib.request.proxy_bypass(f"{host}:{port}" if port else host):
        return ""
    return proxy.replace("socks://", "socks5://") if "://" in proxy else f"http://{proxy}"


def ssl_context(ca_bundle: str = "") -> ssl.SSLContext:
    """Return a context that trusts the operating system's certificates and those named by the usual variables.

    Raises:
        ConfigurationError: A file named there cannot be read or has no certificate.
    """
    import truststore

    context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    usual = {name: os.environ.get(name, "") for name in TRUST}
    for name, path in ({"WEBEX_CA_BUNDLE": ca_bundle} | usual).items():
        try:
            if path:
                kind = "capath" if name == "SSL_CERT_DIR" or os.path.isdir(path) else "cafile"
                context.load_verify_locations(**{kind: path})
        except OSError as error:
            why = "it has no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
            message = f"Cannot use '{printable(path)}', named by {name}: {why}."
            noted = " If it is not set, it was saved at login: log in again." if name == "WEBEX_CA_BUNDLE" else ""
            remedy = f"Correct or unset {name}; it must be the path of a PEM file.{noted}"
            raise ConfigurationError(message, setting=name, remedy=remedy) from error
    return context


def issuer_seen(url: str) -> str:
    """Return who issued the certificate that a server, or an intercepting proxy, presents; "" if that fails."""
    from cryptography import x509

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # looking at a certificate that is not trusted is the point; nothing is sent
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(Exception),
        httpx.Client(verify=context, mounts={"all://": _through(url, context)}, trust_env=False, timeout=5) as client,
        client.stream("HEAD", httpx.URL(url).join("/")) as response,
    ):
        der = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
        return without_tokens(x509.load_der_x509_certificate(der).issuer.rfc4514_string())
    return ""
