"""What an error response means: one table, for both kinds of Webex's error bodies and for an empty body."""

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import NamedTuple

from webex_loopback.errors import TokenEndpointError
from webex_loopback.oauth.token_response import MalformedToken, read_object
from webex_loopback.paths import login_command
from webex_loopback.wording import duration, printable, without_tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response; the names of its headers may be in any case. repr() shows neither them nor the body."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    host: str


class Row(NamedTuple):
    """A row fits if grant and status fit, and the error is in `codes` or the texts match `words`, if any are given."""

    meaning: str
    remedy: str
    grant: str
    statuses: range
    codes: str = ""
    words: str = ""


_ANY, _4XX, _401, _403, _429 = range(1000), range(400, 500), range(401, 402), range(403, 404), range(429, 430)
_ALL, _CODE, _APP = "", "authorization_code", "service_app"
_BUSY = "temporarily_unavailable server_error slow_down unsupported_grant_type"
_DEAD = (
    r"refresh.?token\b.{0,60}\b(expired|revoked|malformed|invalid|not valid)\b"
    r"|\b(expired|revoked|invalid) refresh.?token\b"
)
_CLIENT = r"\bclient[ _]?(id|secret|credentials?)\b"
_SCOPE = r"\bscopes? (is|are) (invalid|unknown)\b|\b(invalid|unknown) scopes?\b"

# The first row that fits counts. invalid_client comes after _DEAD, because Webex also sends it with those words.
# fmt: off
TABLE = (
    Row("passing",       "too_many",  _ALL,  _ANY, "tokenlimit_reached", "tokenlimit"),
    Row("passing",       "bearer",    "api", _401),
    Row("passing",       "forbidden", "api", _403),
    Row("passing",       "later",     "api", _4XX),
    Row("passing",       "later",     _ALL,  _429),
    Row("misconfigured", "redirect",  _CODE, _4XX, "redirect_uri_mismatch", r"\bredirect[ _]?ur[il]\b"),
    Row("rejected",      "log_in",    _ALL,  _4XX, "invalid_grant invalid_refresh_token"),
    Row("misconfigured", "scopes",    _ALL,  _ANY, "invalid_scope"),
    Row("passing",       "later",     _ALL,  _ANY, _BUSY),
    Row("rejected",      "log_in",    _ALL,  _4XX, words=_DEAD),
    Row("misconfigured", "client",    _ALL,  _ANY, "invalid_client unauthorized_client"),
    Row("misconfigured", "client",    _ALL,  _4XX, words=_CLIENT),
    Row("misconfigured", "scopes",    _ALL,  _4XX, words=_SCOPE),
    Row("passing",       "bearer",    _APP,  _401),
    Row("passing",       "app",       _APP,  _4XX, words=r"\bauthorized\b"),
    Row("passing",       "app_scope", _APP,  _403, words=r"\bscopes?\b"),
    Row("passing",       "app",       _APP,  _4XX),
    Row("passing",       "empty",     _CODE, _4XX, words=r"^$"),
    Row("passing",       "later",     _ALL,  _ANY),
)
# fmt: on

# {login} is "run `webex-loopback login ...`" or, if the profile is not known, "log in again".
_PAGE = "the app's page on https://developer.webex.com/my-apps"
_REMEDIES = {
    "too_many": "End sessions at https://idbroker.webex.com/idb/profile#/tokens and try again.",
    "bearer": "The access token has expired or was revoked. If a new one is rejected as well: {login}.",
    "forbidden": "The token lacks a scope, or the user a role or license. Add the scope to WEBEX_SCOPES, then {login}.",
    "redirect": f"Compare WEBEX_REDIRECT_URI with {_PAGE}, then {{login}}.",
    "log_in": "It has expired, was revoked, or was used before: {login}.",
    "client": f"Compare WEBEX_CLIENT_ID and WEBEX_CLIENT_SECRET with {_PAGE}, then {{login}}.",
    "scopes": f"Compare WEBEX_SCOPES with {_PAGE}, then {{login}}.",
    "app_scope": "The profile that requests the tokens needs the scope spark:applications_token: log in with that "
    "scope.",
    "app": f"Compare organization ID and app ID with {_PAGE}, and check in Control Hub (Apps > Service Apps) that an "
    "administrator of that organization has authorized the Service App.",
    "empty": f"Compare WEBEX_REDIRECT_URI and WEBEX_CLIENT_SECRET with {_PAGE}, then {{login}}.",
    "later": "Try again in {wait}.",
}


def read_error(answer: Answer, *, grant: str = "", profile: str = "") -> TokenEndpointError:
    """Return the error that an answer stands for.

    Args:
        grant: `authorization_code`, `refresh_token`, `device_code`, `service_app`, or `api` for a request with a token.
        profile: For the login command in the remedy.
    """
    wait = retry_after(answer.headers.get("Retry-After", ""), time.time())
    error, description, tracking_id, words = _read(answer.body)
    tracking_id = tracking_id or _tracking_id(answer.headers.get("TrackingID"))
    row = next(row for row in TABLE if _fits(row, answer.status_code, error, words, grant))
    login = f"run `{login_command(profile, '--force')}`" if profile else "log in again"
    remedy = _REMEDIES[row.remedy].format(login=login, wait=duration(wait) if wait else "a few minutes")
    detail = ": ".join(filter(None, (error, description))).rstrip(".")
    message = f"{answer.host} rejected the {grant.replace('_', ' ') or 'request'}: {detail}"
    if row.meaning != "rejected":
        message = f"{answer.host} answered {answer.status_code}{': ' * bool(detail)}{detail}"
    if tracking_id:
        message += f" (tracking ID {tracking_id})"
        remedy += " If the problem persists, give the tracking ID to Webex support." if row.remedy == "later" else ""
    return TokenEndpointError(
        f"{message}.",
        status_code=answer.status_code,
        error=error,
        error_description=description,
        tracking_id=tracking_id,
        retry_after=wait,
        meaning=row.meaning,
        remedy=remedy,
    )


def _fits(row: Row, status: int, error: str, words: str, grant: str) -> bool:
    if status not in row.statuses or row.grant not in ("", grant):
        return False
    named = bool(error) and error in row.codes.split()
    return named or (bool(re.search(row.words, words, re.IGNORECASE)) if row.words else not row.codes)


def _read(body: bytes) -> tuple[str, str, str, str]:
    """Return code, description, tracking ID, and the texts of a JSON body; all are "" only for an empty body."""
    try:
        values = read_object(body)
    except MalformedToken:
        text = without_tokens(body[:2000].decode(errors="replace"), 200)
        return "", "an HTML page" if text.startswith("<") else text, "", "-" if text else ""
    errors = values.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code, message = _text(values.get("error")), _text(values.get("message"))
    description = _text(values.get("error_description")) or _text(first.get("description")) or message
    if not code and re.fullmatch("[a-z]+(_[a-z]+)+", description):
        code, description = description, message  # the gateway describes an OAuth error by its bare code
    tracking_id = _tracking_id(values.get("trackingId")) or _tracking_id(values.get("trackingID"))
    description = description or ("" if code else "JSON without an error")
    return code, description, tracking_id, f"{code} {description} {message}"


def _text(value: object) -> str:
    return without_tokens(value) if isinstance(value, str) else ""


def _tracking_id(value: object) -> str:
    text = printable(value) if isinstance(value, str) else ""
    uuid = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"  # which looks like a token
    return text if re.fullmatch(rf"([\w-]{{0,20}}_)?{uuid}\w{{0,10}}", text, re.ASCII) else without_tokens(text)


def retry_after(text: str, now: float) -> float | None:
    """Read `Retry-After`: seconds or a date, at most an hour; None for anything else, such as `rand(30),add(30)`."""
    seconds, moment = text.strip(), http_date(text)
    if seconds.isascii() and seconds.isdigit():
        return min(float(seconds[:9]), 3600.0)
    return None if moment is None else min(max(moment - now, 0.0), 3600.0)


def http_date(text: str) -> float | None:
    """Read an HTTP date; return epoch seconds, or None if it is not one."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        # The zone -0000 gives a naive datetime, whose timestamp() raises OSError for 1970 on Windows.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, LookupError):
        return None
