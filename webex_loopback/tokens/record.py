"""The stored token: a token response in absolute time, and everything a renewal needs.

All moments are epoch seconds on this machine's clock. The current time is always passed in.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any, Self

from webex_loopback.oauth.token_response import MalformedToken, TokenResponse, read_object
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.webex.account import Account

VERSION = 1

MINUTE, DAY = 60, 86_400
_FOREVER = 100 * 365 * DAY  # a later date cannot be printed; a bot's token, Webex's longest, lasts about this long
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


class FutureVersion(MalformedToken):
    """A token file written by a newer webex-loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceApp:
    """Where a Service App's tokens come from (`POST /applications/{app_id}/token`).

    Attributes:
        org_id: The organization whose administrator has authorized the Service App.
        app_id: The Service App's application id.
        using: Profile whose access token has `spark:applications_token`.
    """

    org_id: str
    app_id: str
    using: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """One profile's tokens.

    Attributes:
        refresh_at: When to renew; before that, the access token is returned without further checks.
        issued_at: When the last token response arrived.
        expires_at: Expiry of the access token; None if unknown.
        refresh_token_expires_at: Expiry of the refresh token; None if unknown.
        refresh_token_issued_at: Start of that lifetime, to show how much of it is left.
        scopes_granted: None if Webex did not say; then the requested scopes count as granted.
        ca_bundle: Absolute path of the PEM file in use at login, or "".
        service_app: Set if this is a Service App's token.
    """

    refresh_at: int
    access_token: Secret
    issued_at: int
    expires_at: int | None = None
    refresh_token: Secret | None = None
    refresh_token_issued_at: int | None = None
    refresh_token_expires_at: int | None = None
    scopes_requested: list[str] = field(default_factory=list)
    scopes_granted: list[str] | None = None
    client_id: str = ""
    client_secret: Secret = field(default_factory=Secret)
    token_url: str = ""
    api_base_url: str = ""
    ca_bundle: str = ""
    account: Account = field(default_factory=Account)
    service_app: ServiceApp | None = None

    @classmethod
    def from_response(cls, response: TokenResponse, *, now: float, margin: float | None = None, **others: Any) -> Self:
        """Create the record for a first token response; `others` are the fields that no response contains."""
        blank = cls(refresh_at=0, access_token=response.access_token, issued_at=0, **others)
        return blank.renewed(response, now=now, margin=margin)

    def renewed(self, response: TokenResponse, *, now: float, margin: float | None = None) -> Self:
        """Return the record after a refresh; what the response leaves out stays as it was."""
        issued_at = since = int(now)
        old_end, old_since = self.refresh_token_expires_at, self.refresh_token_issued_at
        refresh_token, lifetime = response.refresh_token or self.refresh_token, response.refresh_token_expires_in
        end = None if lifetime is None or refresh_token is None else issued_at + lifetime
        if end is None:
            if refresh_token == self.refresh_token:
                end, since = old_end, old_since or issued_at
        elif old_end is not None and old_since is not None and abs(end - old_end) <= 5 * MINUTE:
            since = old_since  # Webex often sends the time left, not a new lifetime
        record = dataclasses.replace(
            self,
            access_token=response.access_token,
            issued_at=issued_at,
            expires_at=None if response.expires_in is None else issued_at + response.expires_in,
            refresh_token=refresh_token,
            refresh_token_issued_at=since if refresh_token else None,
            refresh_token_expires_at=end,
            scopes_granted=response.scope or self.scopes_granted,
        )
        return dataclasses.replace(record, refresh_at=refresh_time(record, margin))

    @property
    def granted(self) -> list[str]:
        """The granted scopes, as far as is known."""
        return self.scopes_requested if self.scopes_granted is None else self.scopes_granted

    @property
    def missing(self) -> list[str]:
        """The scopes that were requested but not granted."""
        return [scope for scope in self.scopes_requested if scope not in self.granted]

    @property
    def can_renew(self) -> bool:
        """Whether there is a refresh token, or a Service App whose tokens can be fetched again."""
        return self.refresh_token is not None or self.service_app is not None

    def expired(self, now: float) -> bool:
        """Whether the access token has expired; one with an unknown lifetime has not."""
        return self.expires_at is not None and now >= self.expires_at

    def refresh_token_expired(self, now: float) -> bool:
        """Whether the refresh token has probably expired. Only the server knows, so this must not prevent a renewal."""
        return self.refresh_token_expires_at is not None and now >= self.refresh_token_expires_at

    def login_command(self, profile: str, *options: str) -> str:
        """Return the command that obtains a token like this one."""
        if (app := self.service_app) is not None:
            organization = app.org_id if re.fullmatch(r"[\w=-]+", app.org_id, re.ASCII) else "ORG_ID"
            options = "--service-app", organization, "--using", app.using, *options
        return login_command(profile, *options)

    def to_json(self) -> bytes:
        """Return the token file's content. The first three keys are in the order that `quick_look` expects."""
        values = {"version": VERSION} | dataclasses.asdict(self)
        if self.service_app is None:
            del values["service_app"]
        return json.dumps(values, indent=1, default=Secret.get_secret_value).encode() + b"\n"

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Read a token file's content.

        Raises:
            FutureVersion, MalformedToken: The message names the fields, never a value.
        """
        values = read_object(body)
        version = values.get("version", VERSION)
        if isinstance(version, int) and version > VERSION:
            raise FutureVersion(f"has format version {version}; this webex-loopback reads version {VERSION}")
        fields, wrong = {}, [] if version == VERSION else ["version"]
        for name, read in _READERS.items():
            try:
                if name in _REQUIRED or values.get(name) is not None:
                    fields[name] = read(values[name])
            except (ValueError, TypeError, KeyError, AttributeError):
                wrong.append(name)
        del values, body  # an error's traceback may be printed with its local variables
        if wrong:
            raise MalformedToken(f"is not a token file: missing or invalid {', '.join(wrong)}")
        return cls(**fields)


def refresh_time(record: StoredToken, margin: float | None) -> int:
    """Return when the access token becomes due for renewal.

    That is a tenth of the lifetime before its end (at least a minute, at most a day), but not sooner than five minutes
    after the last response: Webex may answer a refresh with the same token and the time that is left. If the refresh
    token will have expired by then, one attempt is made before it does.
    """
    issued_at, end, last_call = record.issued_at, record.expires_at, record.refresh_token_expires_at
    if not record.can_renew:
        return issued_at + _FOREVER if end is None else end

    def before(end: int) -> int:
        tenth = min(max((end - issued_at) / 10, MINUTE), DAY)
        return end - max(int(tenth if margin is None else margin), 0)

    soonest = issued_at + 5 * MINUTE
    # Without a known lifetime, one refresh a day keeps both tokens valid.
    moment = issued_at + DAY if end is None else min(max(before(end), soonest), end)
    if last_call is not None and last_call <= moment and before(last_call) >= soonest:
        return before(last_call)
    return moment


def _moment(value: object) -> int:
    # Up to 16 digits: a clock that gives milliseconds or microseconds must not make the login unreadable.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 10**16:
        raise ValueError("not a moment")
    return int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _token(value: object) -> Secret:
    if not _HEADER_VALUE.fullmatch(_text(value)):
        raise ValueError("cannot be sent in a header")
    return Secret(_text(value))


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return [_text(item) for item in value]


def _service_app(value: Any) -> ServiceApp:
    return ServiceApp(org_id=_text(value["org_id"]), app_id=_text(value["app_id"]), using=_text(value["using"]))


_REQUIRED = ("refresh_at", "access_token", "issued_at")
_READERS: dict[str, Any] = {
    "refresh_at": _moment,
    "access_token": _token,
    "issued_at": _moment,
    "expires_at": _moment,
    "refresh_token": _token,
    "refresh_token_issued_at": _moment,
    "refresh_token_expires_at": _moment,
    "scopes_requested": _texts,
    "scopes_granted": _texts,
    "client_id": _text,
    "client_secret": lambda value: Secret(_text(value)),
    "token_url": _text,
    "api_base_url": _text,
    "ca_bundle": _text,
    "account": lambda value: Account(**{name: _text(value.get(name, "")) for name in ("name", "email", "id")}),
    "service_app": _service_app,
}
