"""Decides what to do about an access token: a pure function of the stored record, the time, and the last failure.

decide(record, now, failure), first row that applies:

| # | stored token               | last failure, of the same token  | decision                              |
|---|----------------------------|----------------------------------|---------------------------------------|
| 1 | none                       | any                              | LoginNeeded                           |
| 2 | not due                    | any                              | Use until refresh_at                  |
| 3 | due, cannot be renewed     | any                              | Use until expires_at                  |
| 4 | due                        | none, or its pause is over       | Renew(required=False)                 |
| 5 | due                        | its pause is not over            | Use until the pause or the token ends |
| 6 | expired, cannot be renewed | any                              | LoginNeeded                           |
| 7 | expired                    | none, or its pause is over       | Renew(required=True)                  |
| 8 | expired                    | rejected, its pause is not over  | LoginNeeded                           |
| 9 | expired                    | another, its pause is not over   | Fail with that error again            |

"Due" includes a clock that shows a time before `issued_at`: it was wrong then or is wrong now, so no lifetime can be
trusted. Only the server decides whether a refresh token is still valid: its stored expiry never leads to LoginNeeded.

decide(record, now, failure, forced=True, rejected=token), for a renewal that a caller requests, due or not:

| # | stored token                                  | last failure          | decision             |
|---|-----------------------------------------------|-----------------------|----------------------|
| 1 | none, or cannot be renewed                    | any                   | LoginNeeded          |
| 2 | valid, and not the one that an API rejected   | any                   | Use once             |
| 3 | valid, rejected by an API, younger than 5 min | any                   | Use once             |
| 4 | rejected by an API                            | its pause is not over | LoginNeeded or Fail  |
| 5 | any other                                     | any                   | Renew(required=True) |

Row 3: a renewal was just made and did not help. Row 4 protects the server from a program whose every request is
answered with 401; `token --refresh` (no rejected token) does not have to wait.
"""

from typing import NamedTuple

from webex_loopback.errors import TokenEndpointError, WebexLoopbackError
from webex_loopback.secret import Secret

from .record import MINUTE, StoredToken

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 900.0  # between attempts while the access token is valid
EXPIRED_PAUSE_SECONDS = 5.0  # once it has expired
REJECTED_PAUSE_SECONDS = 60.0  # until a server that has rejected the refresh token is asked again
YOUNG_SECONDS = 5 * MINUTE


class Use(NamedTuple):
    """Return this token; no new decision is needed before `until`."""

    token: Secret
    until: float


class Renew(NamedTuple):
    """Renew; `required`: there is no valid token to fall back on."""

    required: bool


class LoginNeeded(NamedTuple):
    """The user has to log in; `reason` is a sentence."""

    reason: str


class Fail(NamedTuple):
    """Raise the error of the last attempt again, without another request."""

    error: WebexLoopbackError


Decision = Use | Renew | LoginNeeded | Fail


class Failure(NamedTuple):
    """A renewal that failed.

    Attributes:
        of: What the attempt used (`attempt_of`), so that a new login is not delayed.
        times: Number of failures in a row.
    """

    error: WebexLoopbackError
    at: float
    of: object
    times: int = 1

    @property
    def rejected(self) -> bool:
        """Whether the server has rejected the refresh token."""
        return isinstance(self.error, TokenEndpointError) and self.error.meaning == "rejected"

    def pause_ends(self, record: StoredToken, now: float) -> float | None:
        """Return when the next attempt is due, Retry-After included, or None if there is nothing to wait for."""
        if self.of != attempt_of(record) or now < self.at:
            return None
        if self.rejected:
            pause = REJECTED_PAUSE_SECONDS
        elif record.expired(now):
            pause = EXPIRED_PAUSE_SECONDS
        else:
            pause = min(FIRST_PAUSE_SECONDS * 2 ** (self.times - 1), LONGEST_PAUSE_SECONDS)
        end = self.at + max(pause, getattr(self.error, "retry_after", None) or 0.0)
        return end if now < end else None


def decide(
    record: StoredToken | None,
    now: float,
    failure: Failure | None = None,
    *,
    forced: bool = False,
    rejected: Secret | None = None,
) -> Decision:
    """Decide by the first table of this module; if `forced`, by the second.

    Args:
        rejected: With `forced`: the token that an API rejected.
    """
    if record is None:
        return LoginNeeded("This profile is not logged in.")
    expired = record.expired(now)
    if forced:
        other, young = record.access_token != rejected, 0 <= now - record.issued_at < YOUNG_SECONDS
        if rejected and not expired and (other or young):
            return Use(record.access_token, now)
    elif record.issued_at <= now < record.refresh_at and not expired:
        return Use(record.access_token, record.refresh_at)
    if not record.can_renew:
        if expired:
            return LoginNeeded("The access token has expired, and there is no refresh token to renew it with.")
        if forced:
            return LoginNeeded("There is no refresh token to renew this login with.")
        return Use(record.access_token, record.refresh_at if record.expires_at is None else record.expires_at)
    pause_ends = failure.pause_ends(record, now) if failure else None
    if failure is None or pause_ends is None or (forced and not rejected):
        return Renew(required=expired or forced)
    if expired or forced:
        return LoginNeeded(rejection(failure.error)) if failure.rejected else Fail(failure.error)
    return Use(record.access_token, pause_ends if record.expires_at is None else min(pause_ends, record.expires_at))


def means_login(error: WebexLoopbackError, record: StoredToken, now: float) -> bool:
    """Whether a failed renewal means that a login is needed, once the access token has expired.

    This includes an empty 400, which Webex is reported to return for an expired refresh token.
    """
    if not isinstance(error, TokenEndpointError):
        return False
    silent = error.status_code == 400 and not (error.error or error.error_description)
    return error.meaning == "rejected" or (silent and record.expired(now))


def rejection(error: WebexLoopbackError) -> str:
    """Return a sentence for an error that requires a login."""
    return str(error) if "rejected" in str(error) else f"Webex rejected the refresh token. {error}"


def failure_of(error: WebexLoopbackError, record: StoredToken, now: float, before: Failure | None) -> Failure:
    """Return the failure to remember after an attempt."""
    of = attempt_of(record)
    if means_login(error, record, now) and isinstance(error, TokenEndpointError):
        error.meaning = "rejected"
    times = before.times + 1 if before and before.of == of else 1
    return Failure(error, now, of, min(times, 10))


def attempt_of(record: StoredToken) -> object:
    """Return what identifies an attempt: the record's refresh token and age (a new login may return the same token)."""
    return record.refresh_token, record.issued_at
