"""The state of a login for programs, without secrets and without a network request."""

from dataclasses import dataclass
from datetime import UTC, datetime

from webex_loopback.paths import profile_name

from .record import ServiceApp
from .source import TokenSource


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginStatus:
    """The state of a profile's login.

    Attributes:
        account_name, account_email, account_id: From `GET /people/me` at login; "" if unknown.
        scopes_granted: As far as is known.
        scopes_missing: Requested but not granted.
        issued_at: When the last token response arrived. All times are aware `datetime`s in UTC.
        refresh_at: When `get_token()` starts to renew the access token.
        expires_at: Expiry of the access token; None if unknown.
        refresh_token_expires_at: Expiry of the refresh token; None if unknown or if there is none.
        can_renew: Whether the access token can be renewed.
        service_app: Set if this is a Service App's login.
        store: Where the tokens are.
    """

    profile: str
    account_name: str
    account_email: str
    account_id: str
    scopes_requested: tuple[str, ...]
    scopes_granted: tuple[str, ...]
    scopes_missing: tuple[str, ...]
    client_id: str
    api_base_url: str
    issued_at: datetime
    refresh_at: datetime
    expires_at: datetime | None
    refresh_token_expires_at: datetime | None
    can_renew: bool
    service_app: ServiceApp | None
    store: str


def login_status(profile: str | None = None) -> LoginStatus | None:
    """Return the state of a profile's login, or None if it is not logged in. Reads the store only.

    Raises:
        TokenStoreError: The stored token cannot be read or trusted.
        ConfigurationError: The profile's name is not valid.
    """
    source = TokenSource(profile_name(profile))
    record = source.stored()
    if record is None:
        return None
    end, refresh_end = record.expires_at, record.refresh_token_expires_at
    return LoginStatus(
        profile=profile_name(profile),
        account_name=record.account.name,
        account_email=record.account.email,
        account_id=record.account.id,
        scopes_requested=tuple(record.scopes_requested),
        scopes_granted=tuple(record.granted),
        scopes_missing=tuple(record.missing),
        client_id=record.client_id,
        api_base_url=record.api_base_url,
        issued_at=_moment(record.issued_at),
        refresh_at=_moment(record.refresh_at),
        expires_at=None if end is None else _moment(end),
        refresh_token_expires_at=None if refresh_end is None else _moment(refresh_end),
        can_renew=record.can_renew,
        service_app=record.service_app,
        store=str(source.store),
    )


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # outside the calendar; on Windows also before 1970
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime.min.replace(tzinfo=UTC)
