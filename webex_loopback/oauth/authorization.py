"""The authorization request and its response (RFC 6749 §4.1.1-2, RFC 7636)."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlencode

from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.secret import Secret
from webex_loopback.wording import printable, without_tokens

LONGEST_QUERY = 16_384
# Found around a URL in mails, chats and shells. Brackets may belong to an IPv6 host, which does not matter here.
_AROUND = re.compile("[\\s<>\"'`()\\[\\]{}|\\\\\u2018\u2019\u201c\u201d\u3000-\u303f\uff08\uff09]+")
_ESCAPED_AMPERSAND = re.compile(r"&(amp|#0*38|#x0*26);|\\u0026", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One authorization request, with PKCE S256 (32 bytes, as RFC 7636 §4.1 recommends) and a `state` of its own."""

    authorize_url: str
    client_id: str
    redirect_uri: str
    scopes: Sequence[str]
    login_hint: str = ""
    prompt: str = ""
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    code_verifier: Secret = field(default_factory=lambda: Secret(secrets.token_urlsafe(32)))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def code_challenge(self) -> str:
        """The SHA-256 of `code_verifier`, base64url without padding (RFC 7636 §4.2)."""
        digest = hashlib.sha256(self.code_verifier.get_secret_value().encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def url(self) -> str:
        """The URL for the browser."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self.scopes),
            "state": self.state,
            "code_challenge": self.code_challenge,
            "code_challenge_method": "S256",
            "nonce": self.nonce if "openid" in self.scopes else "",  # Webex requires one with OIDC scopes
            "login_hint": self.login_hint,
            "prompt": self.prompt,
        }
        given = {name: value for name, value in parameters.items() if value}
        # quote, not quote_plus: Webex's portal writes %20 between scopes and is reported to have rejected "+".
        query = urlencode(given, quote_via=quote, errors="replace")
        return f"{self.authorize_url}{'&' if '?' in self.authorize_url else '?'}{query}"


@dataclass(frozen=True, slots=True)
class AuthorizationResponse:
    """Either a `code` or an `error`. The texts are safe to print."""

    code: Secret | None = None
    error: str = ""
    error_description: str = ""


class NotThisLogin(Exception):
    """Raised for text that is not a response to this login; str() names it ("a request without a state")."""

    def __init__(self, why: str, error: str = "") -> None:
        super().__init__(why)
        self.error = error  # of a request without any state: Webex may leave it out of error redirects


def read_response(query: str, state: str) -> AuthorizationResponse:
    """Read a redirect's raw query string; raise `NotThisLogin` unless it answers the login that created `state`.

    It must have exactly one `state`, the right one, and exactly one `code` or `error`. `state` is checked first. `iss`
    (RFC 9207) is ignored: Webex's issuer depends on the user's region.
    """
    if len(query) > LONGEST_QUERY or query.count("&") > 100:
        raise NotThisLogin("a request with an overlong query")
    values = parse_qs(query, keep_blank_values=True)
    states, codes, errors = (values.get(name, []) for name in ("state", "code", "error"))
    # compare_digest() rejects non-ASCII str; surrogates come from invalid UTF-8.
    if [secrets.compare_digest(given.encode(errors="replace"), state.encode()) for given in states] != [True]:
        claimed = "" if states or codes else "".join(errors[:1])
        why = "a request with the wrong state" if states else "a request without a state"
        raise NotThisLogin(why, without_tokens(claimed, 60))
    value = (codes or errors)[0] if len(codes) + len(errors) == 1 else ""
    if not value or not value.isascii() or not value.isprintable():
        raise NotThisLogin("a request without exactly one usable code or error")
    if codes:
        return AuthorizationResponse(code=Secret(value))
    description = without_tokens(values.get("error_description", [""])[0])
    return AuthorizationResponse(error=printable(value, 60), error_description=description)


def read_pasted(text: str, redirect_uri: RedirectURI, state: str) -> AuthorizationResponse:
    """Read a pasted redirect URL, whole or in part, even if a mail program or terminal has mangled it.

    Several readings are tried. That is safe, because each must contain the right `state`.
    """
    trouble: NotThisLogin | None = None
    for query in dict.fromkeys(_readings(text[:LONGEST_QUERY])):
        try:
            return read_response(query.replace(state, f"{state}&"), state)  # a mark may follow the URL
        except NotThisLogin as error:
            trouble = trouble or error
    if "://" in text and redirect_uri.path not in text:
        raise NotThisLogin("the URL of another page")
    raise trouble or NotThisLogin("text without code= and state=")


def _readings(text: str) -> Iterator[str]:
    """Yield possible queries, the most literal first: the text may be wrapped, escaped or inside other text."""
    lines = [line.strip() for line in text.splitlines()][:20]
    spans = [(start, start + length) for length in range(20, 0, -1) for start in range(len(lines) - length + 1)]
    for reading in ("".join(lines[start:end]) for start, end in spans):
        for _ in range(4):
            for word in (*_AROUND.split(reading), _AROUND.sub("", reading)):
                # The parameters may be in the fragment, or the whole URL inside the query of a mail filter's URL.
                parts = (part.strip().rstrip(".,;") for part in re.split("[?#]", word))
                yield from (part for part in parts if "state=" in part)
            reading = unquote(_ESCAPED_AMPERSAND.sub("&", reading))
