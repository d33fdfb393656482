"""Redirect URIs that the loopback server can serve (RFC 8252 §7.3)."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from webex_loopback.errors import ConfigurationError
from webex_loopback.wording import is_loopback, without_tokens

# RFC 3986, without forms that urlsplit would misread ([::1]x) or a browser would rewrite.
_URL = re.compile(r"https?://([\w.-]+|\[[\w:.]+\])(:\d*)?([/?][\w.~:/?@!$&'()*+,;=%\[\]-]*)?", re.ASCII | re.IGNORECASE)
_DOTS = frozenset([".", "..", "%2e", ".%2e", "%2e.", "%2e%2e"])  # path segments that a browser removes


@dataclass(frozen=True, slots=True)
class RedirectURI:
    """A registered redirect URI; `text` is sent exactly as given, because Webex compares every character.

    Attributes:
        hosts: The loopback addresses to listen on: both families for `localhost`, since a browser may try either.
    """

    text: str
    secure: bool
    host: str
    hosts: tuple[str, ...]
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a redirect URI; raise `ConfigurationError` unless it is on this machine and can be served."""
        try:
            parts, port = urlsplit(text), urlsplit(text).port
        except ValueError:
            raise _wrong(text, "is not a valid URL") from None
        if not _URL.fullmatch(text) or _DOTS.intersection(parts.path.lower().split("/")):
            raise _wrong(text, "is not an http:// or https:// URL in the form that browsers use, without a fragment")
        if port == 0:
            raise _wrong(text, "has port 0, but Webex compares the port, so it must be fixed")
        host, secure = parts.hostname or "", parts.scheme == "https"
        if not is_loopback(host) or {".", ":"} <= set(host):  # no IPv4 address in IPv6 form
            raise _wrong(text, "is not on this machine: the host must be 127.0.0.1, localhost, or [::1]")
        hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
        return cls(text, secure, host, hosts, port or (443 if secure else 80), parts.path or "/")

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.secure else 80) else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}"


def _wrong(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The redirect URI {without_tokens(text, 200)!r} {why}.",
        setting="WEBEX_REDIRECT_URI",
        remedy="Set WEBEX_REDIRECT_URI to a redirect URI registered on the Integration, exactly as written there.",
    )
