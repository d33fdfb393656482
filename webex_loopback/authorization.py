"""The authorization request and what may come back (RFC 6749 §4.1.1-2, RFC 7636, RFC 8252)."""

import base64
import hashlib
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from .errors import ConfigurationError

LONGEST_QUERY = 16_384

# RFC 3986, without what urlsplit would overlook ([::1]x) and a browser would rewrite.
_URL = re.compile(r"https?://([\w.-]+|\[[\w:.]+\])(:\d*)?([/?][\w.~:/?@!$&'()*+,;=%\[\]-]*)?", re.ASCII | re.IGNORECASE)
_DOTS = {".", "..", "%2e", ".%2e", "%2e.", "%2e%2e"}  # path segments that a browser leaves out


@dataclass(frozen=True, slots=True)
class RedirectURI:
    """A registered redirect URI; `text` goes to Webex exactly as it was given.

    Attributes:
        hosts: The loopback addresses to listen on; for `localhost` both families, since a browser may try
            either first.
    """

    text: str
    secure: bool
    host: str
    hosts: tuple[str, ...]
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> "RedirectURI":
        """Read a redirect URI; raise `ConfigurationError` unless it is a loopback one that can be served."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise _wrong(text, "is not a URL") from None
        if parts.scheme not in ("http", "https"):
            raise _wrong(text, "must begin with http:// or https://")
        if "#" in text:
            raise _wrong(text, "has a fragment, which RFC 6749 §3.1.2 rules out")
        if not _URL.fullmatch(text) or _DOTS.intersection(parts.path.lower().split("/")):
            raise _wrong(text, "is not one that a browser would open as it stands")
        if port == 0:
            raise _wrong(text, "has port 0; Webex compares the port, so it must be a fixed one")
        secure = parts.scheme == "https"
        host = parts.hostname or ""
        return cls(text, secure, host, _loopback(text, host), port or (443 if secure else 80), parts.path or "/")

    @property
    def origin(self) -> str:
        """Scheme, host and port, as an address to open: `http://127.0.0.1:8765`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == (443 if self.secure else 80) else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}"


def _loopback(text: str, host: str) -> tuple[str, ...]:
    if host == "localhost":
        return ("127.0.0.1", "::1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback or "%" in host or getattr(address, "ipv4_mapped", None):
        raise _wrong(text, "is not on a loopback host: only 127.0.0.1 (127.0.0.0/8), [::1] and localhost are")
    return (host,)


def _wrong(text: str, why: str) -> ConfigurationError:
    shown = text if len(text) <= 200 else text[:200] + "..."
    return ConfigurationError(
        f"The redirect URI {shown!r} {why}.",
        setting="WEBEX_REDIRECT_URI",
        remedy="Set WEBEX_REDIRECT_URI to one that is registered on the Integration, character for character, "
        "for instance http://127.0.0.1:8765/callback.",
    )


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One authorization request, with PKCE S256 and a `state` that only this login knows."""

    authorize_url: str
    client_id: str
    redirect_uri: str
    scopes: Sequence[str]
    login_hint: str = ""
    prompt: str = ""
    # 32 bytes are 43 characters: RFC 7636 §4.1's recommendation, and far more than state's 128 bits.
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    code_verifier: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def code_challenge(self) -> str:
        """The verifier's SHA-256, base64url without padding (RFC 7636 §4.2)."""
        digest = hashlib.sha256(self.code_verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def url(self) -> str:
        """The address that the browser is to open."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.scopes),
            "state": self.state,
            "code_challenge": self.code_challenge,
            "code_challenge_method": "S256",
        }
        if "openid" in self.scopes:
            parameters["nonce"] = self.nonce  # Webex requires one with OIDC scopes
        if self.login_hint:
            parameters["login_hint"] = self.login_hint
        if self.prompt:
            parameters["prompt"] = self.prompt
        joint = "&" if "?" in self.authorize_url else "?"
        # quote, not quote_plus: Webex's portal writes %20 between scopes, and is said to have rejected "+".
        return self.authorize_url + joint + urlencode(parameters, quote_via=quote)


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """This login's outcome at the authorization endpoint: a `code`, or an `error`; never both."""

    code: str = field(default="", repr=False)
    error: str = ""
    error_description: str = ""


class NotThisLogin(Exception):
    """An answer of the parser, no failure: a query that does not settle this login; str() says why, without a secret.

    Attributes:
        error: The `error` that it claimed, where it had no `state` at all: Webex may leave state out there.
    """

    def __init__(self, why: str, *, error: str = "") -> None:
        super().__init__(why)
        self.error = error


def read_response(query: str, state: str) -> AuthorizationResponse:
    """Read the redirect's raw query string; raise `NotThisLogin` unless it settles the login of `state`.

    It settles if and only if there is exactly one `state`, the right one, and exactly one of one `code` and
    one `error`, not empty. `state` is compared before anything else is looked at.
    """
    if len(query) > LONGEST_QUERY:
        raise NotThisLogin("a query that is too long")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise NotThisLogin("a query of too many fields") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    states = values.get("state", [])
    # compare_digest takes no str beyond ASCII; surrogates come from broken UTF-8.
    matches = [secrets.compare_digest(given.encode(errors="replace"), state.encode()) for given in states]
    codes, errors = values.get("code", []), values.get("error", [])
    if matches != [True]:
        if len(states) > 1:
            raise NotThisLogin("a request with more than one state")
        if states:
            raise NotThisLogin("a request with a foreign state")
        error = printable(errors[0], 60) if len(errors) == 1 and not codes else ""
        raise NotThisLogin("a request without a state", error=error)
    if len(codes) + len(errors) != 1:
        raise NotThisLogin("a request that has not exactly one code or error")
    value = (codes or errors)[0]
    if not value or not value.isascii() or not value.isprintable():
        raise NotThisLogin("a request with an unusable code or error")
    if codes:
        return AuthorizationResponse(code=value)
    descriptions = values.get("error_description", [""])
    return AuthorizationResponse(error=printable(value, 60), error_description=printable(descriptions[0], 500))


def read_pasted(text: str, redirect_uri: RedirectURI, state: str) -> AuthorizationResponse:
    """Read what a person pasted: the address the browser ended on, or its query alone."""
    text = text.strip().strip("<>\"'")
    if "://" in text:
        address, _, query = text.partition("?")
        if not address.startswith(("http://", "https://")):
            raise NotThisLogin("not a web address")
        if ("/" + address.partition("://")[2].partition("/")[2]) != redirect_uri.path:
            raise NotThisLogin("the address of another page; it must be the one that the browser ended on")
    else:
        query = text.partition("?")[2] or text
    if "state=" not in query:
        raise NotThisLogin("not the whole address: it must hold code= and state=")
    return read_response(query.partition("#")[0], state)


def printable(text: str, most: int) -> str:
    """Cut text from outside to a length, with nothing in it that moves a terminal's cursor."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
