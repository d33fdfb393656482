"""The way to Webex: certificates to trust, the proxy to take, and what may be told of a failure on it."""

import ipaddress
import os
import ssl
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .errors import ConfigurationError

if TYPE_CHECKING:
    import httpx


def ssl_context(ca_bundle: str = "", *, noted: bool = False) -> ssl.SSLContext:
    """Return a context that trusts the operating system's store, and `ca_bundle`, `SSL_CERT_FILE` and `_DIR` too.

    Args:
        ca_bundle: PEM file, or "".
        noted: Whether that is what a login noted, and may not be set any more.

    Raises:
        ConfigurationError: A file named there cannot be read or holds no certificate.
    """
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, path, keyword in (
        ("WEBEX_CA_BUNDLE", ca_bundle, "cafile"),
        ("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE", ""), "cafile"),
        ("SSL_CERT_DIR", os.environ.get("SSL_CERT_DIR", ""), "capath"),
    ):
        if path:
            try:
                context.load_verify_locations(**{keyword: path})
            except (OSError, ssl.SSLError) as error:
                why = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no PEM certificate"
                message = f"{name} names {path}, which cannot be used: {why}."
                remedy = f"Correct or unset {name}; it must be a PEM file of certificates."
                if noted and name == "WEBEX_CA_BUNDLE":
                    message = f"At login {name} named {path}, which cannot be used any more: {why}."
                    remedy = f"Put the file back, or run `webex-loopback login --force` with {name} as it should be."
                raise ConfigurationError(message, setting=name, remedy=remedy) from error
    return context


def proxy_for(url: str) -> str:
    """Return the proxy for a URL, or "": by the usual variables, and the system's settings on macOS and Windows.

    Never one for this machine's own addresses: `NO_PROXY=localhost` does not cover 127.0.0.1.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or _is_loopback(host):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_transport(proxy: str, context: ssl.SSLContext, limits: "httpx.Limits") -> "httpx.HTTPTransport":
    """Return a transport that goes through a proxy.

    Raises:
        ConfigurationError: The proxy's address is of no use.
    """
    import httpx

    try:
        if not urlsplit(proxy).hostname:
            raise ValueError("no host")
        return httpx.HTTPTransport(proxy=proxy, verify=context, limits=limits, trust_env=False)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        scheme = proxy.partition("://")[0]
        install = " Run `pip install socksio` for a SOCKS proxy." if scheme.startswith("socks") else ""
        raise ConfigurationError(
            f"The proxy that the environment names (a {scheme} one) cannot be used.",
            setting="HTTPS_PROXY",
            remedy=f"Correct HTTPS_PROXY or ALL_PROXY.{install}",
        ) from without_frames(error)


def issuer_seen(origin: str) -> str:
    """Return who issued the certificate that a server (or what sits between) shows, or "" if that fails.

    Nothing but the request for it is sent over this connection, which is not verified.
    """
    import httpx
    from cryptography import x509

    # Looking at a certificate that is not trusted is the whole point here.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    proxy = proxy_for(origin) or None
    try:
        with (
            httpx.Client(verify=context, proxy=proxy, trust_env=False, timeout=5) as client,
            client.stream("HEAD", origin) as response,
        ):
            stream = response.extensions["network_stream"]
            der = stream.get_extra_info("ssl_object").getpeercert(True)  # as _ssl has it: no keyword
        return x509.load_der_x509_certificate(der).issuer.rfc4514_string()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, KeyError, AttributeError, ImportError):
        return ""


def without_frames(error: BaseException) -> BaseException:
    """Return the error with neither its traceback nor those of what caused it."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
