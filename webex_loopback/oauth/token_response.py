"""Token responses (RFC 6749 §5.1): strict about the access token, lenient about the other fields.

The request may have used up a refresh token, so a usable access token is never discarded because of another field.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Self

from webex_loopback.secret import Secret
from webex_loopback.wording import split_list, without_tokens

_TEN_YEARS = 10 * 365 * 86_400
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")  # nothing else is allowed in an Authorization header
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?")


class MalformedToken(ValueError):
    """Invalid data; str() is a predicate ("has no access_token") without secrets.

    Attributes:
        refresh_token: The new one, if the access token is missing or unusable; the old one may have been used up.
    """

    refresh_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """What the token endpoint issued; only `access_token` is always present.

    Attributes:
        expires_in: Seconds, at least 1; None if unknown.
        refresh_token_expires_in: Seconds (Webex's own field); None if unknown.
        scope: Granted scopes; None if the server did not say.
        dropped: Names of the fields that were ignored because their value is invalid.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    expires_in: int | None = None
    refresh_token_expires_in: int | None = None
    scope: list[str] | None = None
    dropped: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a token response's body; raise `MalformedToken` unless it has a usable access token."""
        values = read_object(body)
        access_token = _token(values.get("access_token"))
        if access_token is None:
            why = "has an unusable access_token" if values.get("access_token") else "has no access_token"
            malformed = MalformedToken(why)
            if isinstance(error := values.get("error"), str):
                malformed.args = (f"is an error response ({without_tokens(error, 60)})",)
            else:
                malformed.refresh_token = _token(values.get("refresh_token"))
            del body, values, error  # a traceback printed with local variables must not show them
            raise malformed
        lifetime = _seconds(values.get("expires_in"))
        readings: dict[str, Any] = {
            "refresh_token": _token(values.get("refresh_token")),
            "expires_in": None if lifetime is None else max(lifetime, 1),  # 0 means expired, not unlimited
            "refresh_token_expires_in": _seconds(values.get("refresh_token_expires_in")),
            "scope": _scopes(values.get("scope")),
        }
        # RFC 6749 §7.1 forbids using a token of an unknown type; an API that wants another type refuses it anyway.
        kind = values.get("token_type") or "bearer"
        kind_is_odd = not isinstance(kind, str) or kind.strip().lower() != "bearer"
        odd = [name for name, value in readings.items() if value is None and values.get(name) not in (None, "", [])]
        readings["refresh_token_expires_in"] = readings["refresh_token_expires_in"] or None  # some servers: 0 = never
        return cls(access_token, **readings, dropped=(*odd, *(["token_type"] if kind_is_odd else [])))


def read_object(body: bytes | str) -> dict[str, Any]:
    """Read one JSON object; raise `MalformedToken` for anything else.

    Tolerates a byte order mark, invalid UTF-8, control characters in strings, and repeated names (the last one counts).
    """
    why = "is not a JSON object"
    try:
        text = body.decode(json.detect_encoding(body), "replace") if isinstance(body, bytes) else body
        # int() refuses more than 4,300 digits.
        value = json.loads(text.strip("\ufeff\0 \t\r\n"), strict=False, parse_int=lambda d: int(d[:4_000]))
    except (ValueError, RecursionError):
        value, text, why = "", "", "is not valid JSON"
    if isinstance(value, dict):
        return value
    del body, text, value
    raise MalformedToken(why)


def _token(value: object) -> Secret | None:
    stripped = value.strip() if isinstance(value, str) else ""
    return Secret(stripped) if _VISIBLE_ASCII.fullmatch(stripped) else None


def _seconds(value: object) -> int | None:
    """Read a number, or a string of one: seconds, or milliseconds if as seconds it would exceed ten years."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    seconds = value if value <= _TEN_YEARS else value // 1000
    return int(seconds) if seconds <= _TEN_YEARS else None


def _scopes(value: object) -> list[str] | None:
    if isinstance(value, list):
        value = " ".join(item for item in value if isinstance(item, str))
    return (split_list(value) or None) if isinstance(value, str) else None
