"""Token responses (RFC 6749 §5.1) and the token file's content, with the moments at which things end.

All moments are epoch seconds on this machine's clock; the time is always passed in.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

VERSION: Literal[1] = 1

MINUTE, DAY = 60, 86_400
_LONGEST = 100 * 365 * DAY  # past it a date no longer prints; Webex's longest (a bot's) is about this
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


class MalformedToken(ValueError):
    """Bytes that are no token response, or no token file; says what is wrong, never with the bytes."""


class FutureVersion(MalformedToken):
    """A token file written by a newer webex-loopback."""


def _lifetime(value: object) -> int | None:
    """Read a lifetime in seconds; what makes no sense is unknown, since a good token came with it."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return int(min(value, _LONGEST))


def _access_lifetime(value: object) -> int | None:
    """Take 0 for an end: Webex may tell the time left. As a second, lest a server be asked with every call."""
    lifetime = _lifetime(value)
    return None if lifetime is None else max(lifetime, 1)


def _refresh_lifetime(value: object) -> int | None:
    """Take 0 for unknown: some servers say so of a refresh token that does not end."""
    return _lifetime(value) or None


def _moment(value: object) -> object:
    return int(value) if isinstance(value, float) and abs(value) < 1e15 else value


def _opaque(value: object) -> object:
    """Refuse a token that no header could carry (RFC 6750 §2.1 allows less than this still does)."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or len(text) > 16_384 or not _VISIBLE_ASCII.fullmatch(text):
        raise ValueError("must be a string of visible ASCII characters")
    return value


def _opaque_or_none(value: object) -> object:
    try:
        return _opaque(value)
    except ValueError:
        return None


def _scopes(value: object) -> list[str] | None:
    parts = value.split() if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        return None
    return list(dict.fromkeys(parts)) or None


def _bearer(value: object) -> str:
    # RFC 6749 §7.1: a token of a type one does not understand must not be used. Missing: Webex leaves it out.
    if isinstance(value, str) and value.lower() not in ("", "bearer"):
        raise ValueError("is not Bearer")
    return "Bearer"


_Token = Annotated[SecretStr, BeforeValidator(_opaque)]
_AccessLifetime = Annotated[int | None, BeforeValidator(_access_lifetime)]
_RefreshLifetime = Annotated[int | None, BeforeValidator(_refresh_lifetime)]
_Moment = Annotated[int, BeforeValidator(_moment), Field(strict=True, ge=-(10**12), le=10**12)]


_M = TypeVar("_M", bound=BaseModel)


class _Model(BaseModel):
    # The input of a validation error would be a secret.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class _Secret(_Model):
    def __reduce__(self) -> Any:
        # A pickle would carry the secrets to wherever pickles go (a cache, a job queue, another user's /tmp).
        raise TypeError(f"a {type(self).__name__} is not pickled: it holds secrets; pickle the profile's name instead")


class TokenResponse(_Secret):
    """What the token endpoint granted (RFC 6749 §5.1); only `access_token` must be there.

    Attributes:
        expires_in: Seconds, at least 1, or None where the server gave none or nonsense.
        refresh_token_expires_in: Seconds, likewise, and None for 0; Webex's own key.
        scope: Granted scopes, or None where the server did not say.
    """

    access_token: _Token
    token_type: Annotated[Literal["Bearer"], BeforeValidator(_bearer)] = "Bearer"
    expires_in: _AccessLifetime = None
    refresh_token: Annotated[SecretStr | None, BeforeValidator(_opaque_or_none)] = None
    refresh_token_expires_in: _RefreshLifetime = None
    scope: Annotated[list[str] | None, BeforeValidator(_scopes)] = None

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a token response's body; raise `MalformedToken` if it is none."""
        return _validated(cls, read_object(body), "token response")


class Account(_Model):
    """Whose token it is, as `GET /people/me` tells; every part may be empty."""

    name: str = ""
    email: str = ""
    id: str = ""


class StoredToken(_Secret):
    """The token file: a token response in absolute time, and all that a refresh needs.

    Attributes:
        refresh_at: When to refresh; before it the access token is handed out without further thought.
        issued_at: When the last token response came.
        expires_at: End of the access token, None where unknown.
        refresh_token_expires_at: End of the refresh token, None where unknown.
        refresh_token_issued_at: Since when that end has stood, so that a share of a lifetime can be shown.
        scopes_granted: None where Webex did not say; then what was asked for is taken as granted.
        ca_bundle: Absolute path of the PEM file that was in force at login, or "".
    """

    version: Literal[1] = VERSION
    refresh_at: _Moment
    access_token: _Token
    issued_at: _Moment
    expires_at: _Moment | None = None
    refresh_token: _Token | None = None
    refresh_token_issued_at: _Moment | None = None
    refresh_token_expires_at: _Moment | None = None
    scopes_requested: list[str] = []
    scopes_granted: list[str] | None = None
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    token_url: str = ""
    api_base_url: str = ""
    ca_bundle: str = ""
    account: Account = Account()

    @classmethod
    def from_response(cls, response: TokenResponse, *, now: float, margin: float | None = None, **others: Any) -> Self:
        """Make a record of a first token response; `others` are the fields that no response holds."""
        issued_at = int(now)
        expires_at = _end(issued_at, response.expires_in)
        refresh_end = _end(issued_at, response.refresh_token_expires_in)
        return cls(
            refresh_at=refresh_time(
                issued_at, expires_at, refresh_end, can_refresh=bool(response.refresh_token), margin=margin
            ),
            access_token=response.access_token,
            issued_at=issued_at,
            expires_at=expires_at,
            refresh_token=response.refresh_token,
            refresh_token_issued_at=issued_at if response.refresh_token else None,
            refresh_token_expires_at=refresh_end if response.refresh_token else None,
            scopes_granted=response.scope,
            **others,
        )

    def renewed(self, response: TokenResponse, *, now: float, margin: float | None = None) -> "StoredToken":
        """Return the record after a refresh; what the response leaves out stays as it was."""
        fresh = StoredToken.from_response(response, now=now, margin=margin)
        refresh_token = response.refresh_token or self.refresh_token
        end = fresh.refresh_token_expires_at or _end(fresh.issued_at, response.refresh_token_expires_in)
        since: int | None = fresh.issued_at
        if end is None and response.refresh_token is None:
            end, since = self.refresh_token_expires_at, self.refresh_token_issued_at
        elif _near(end, self.refresh_token_expires_at):
            since = self.refresh_token_issued_at  # Webex often tells the time left, not a new lifetime
        return self.model_copy(
            update={
                "refresh_at": refresh_time(
                    fresh.issued_at,
                    fresh.expires_at,
                    end,
                    can_refresh=refresh_token is not None,
                    margin=margin,
                ),
                "access_token": fresh.access_token,
                "issued_at": fresh.issued_at,
                "expires_at": fresh.expires_at,
                "refresh_token": refresh_token,
                "refresh_token_issued_at": since,
                "refresh_token_expires_at": end,
                "scopes_granted": response.scope or self.scopes_granted,
            }
        )

    @property
    def granted(self) -> list[str]:
        """The scopes granted, as far as is known."""
        return self.scopes_requested if self.scopes_granted is None else self.scopes_granted

    @property
    def missing(self) -> list[str]:
        """The scopes that were asked for and not granted."""
        return [scope for scope in self.scopes_requested if scope not in self.granted]

    def expired(self, now: float) -> bool:
        """Whether the access token has ended; one of unknown lifetime has not, until the server says so."""
        return self.expires_at is not None and now >= self.expires_at

    def refresh_token_expired(self, now: float) -> bool:
        """Whether the refresh token has ended, as far as is known."""
        return self.refresh_token_expires_at is not None and now >= self.refresh_token_expires_at

    def same_refresh_token(self, other: "StoredToken") -> bool:
        """Whether both hold the same refresh token."""
        return self.refresh_token == other.refresh_token

    def to_json(self) -> bytes:
        """Return the file's bytes: a key a line, the first three in the order that `source.quick_look` knows."""
        plain = {name: getattr(self, name) for name in type(self).model_fields}
        return json.dumps(plain, indent=1, default=_plain).encode() + b"\n"

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a token file; raise `FutureVersion` or `MalformedToken`."""
        values = read_object(body)
        version = values.get("version")
        if isinstance(version, int) and version > VERSION:
            raise FutureVersion(f"has format version {version}, and this webex-loopback knows {VERSION}")
        return _validated(cls, values, "token file")


def refresh_time(
    issued_at: int,
    expires_at: int | None,
    refresh_token_expires_at: int | None,
    *,
    can_refresh: bool = True,
    margin: float | None = None,
) -> int:
    """Return the moment from which the access token is to be refreshed.

    A tenth of the lifetime before the end (at least a minute, at most a day), but never sooner than five
    minutes after the last response, since Webex may answer a refresh with the same token and the time
    that is left of it. If the refresh token would be dead by then, one attempt is made while it lives.
    """
    if not can_refresh:
        return issued_at + _LONGEST if expires_at is None else expires_at
    soonest = issued_at + 5 * MINUTE
    if expires_at is None:
        # No lifetime to go by. A refresh a day keeps both tokens alive, and does no harm.
        moment = issued_at + DAY
    else:
        moment = min(max(expires_at - _margin(expires_at - issued_at, margin), soonest), expires_at)
    if refresh_token_expires_at is not None and refresh_token_expires_at <= moment:
        last_call = refresh_token_expires_at - _margin(refresh_token_expires_at - issued_at, margin)
        if last_call >= soonest:
            return last_call
        return moment if expires_at is None else expires_at
    return moment


def fingerprint(secret: str) -> str:
    """Return what can be compared and printed in a secret's place: a short SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def _margin(lifetime: int, margin: float | None) -> int:
    return int(min(max(lifetime / 10, MINUTE), DAY)) if margin is None else max(int(margin), 0)


def _end(issued_at: int, lifetime: int | None) -> int | None:
    return None if lifetime is None else issued_at + lifetime


def _near(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= 5 * MINUTE


def _plain(value: SecretStr | BaseModel) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value.model_dump()


def _validated(model: type[_M], values: dict[str, Any], what: str) -> _M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in item["loc"][:1]) for item in error.errors()})
    # Raised outside the except: the validation error's context would carry the values along.
    raise MalformedToken(f"is no {what}: wrong or missing {', '.join(places)}")


def read_object(body: bytes | str) -> dict[str, Any]:
    """Read one JSON object, strictly: no duplicate names (RFC 6749 §5.1 rules them out), no NaN."""
    try:
        value = json.loads(body, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise MalformedToken("is not a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name stands twice")
    return values


def _no_constant(name: str) -> object:
    raise ValueError(name)
