"""Each row of the two tables in `decision` is a case here; a row without a case fails `test_every_row_has_a_case`."""

import dataclasses
import re
from typing import Any

import pytest

from webex_loopback.errors import ServerUnreachable, TokenEndpointError, WebexLoopbackError
from webex_loopback.secret import Secret
from webex_loopback.tokens import decision
from webex_loopback.tokens.decision import Fail, Failure, LoginNeeded, Renew, Use, attempt_of, decide, failure_of
from webex_loopback.tokens.record import StoredToken

NOW = 1_000_000
VALID = StoredToken(
    access_token=Secret("access"),
    refresh_token=Secret("refresh"),
    issued_at=NOW - 1000,
    refresh_at=NOW + 500,
    expires_at=NOW + 1000,
    refresh_token_expires_at=NOW + 5000,
)


def changed(**fields: object) -> StoredToken:
    return dataclasses.replace(VALID, **fields)  # type: ignore[arg-type]


DUE = changed(refresh_at=NOW - 1)
EXPIRED = changed(refresh_at=NOW - 500, expires_at=NOW - 1)
LONG_AGO = changed(refresh_at=5, expires_at=9, refresh_token_expires_at=9)
UNKNOWN = changed(refresh_at=NOW - 1, expires_at=None)
UNREACHABLE = ServerUnreachable("no route")


def answer(status: int = 400, meaning: str = "passing", error: str = "x", **others: Any) -> TokenEndpointError:
    return TokenEndpointError("answer", status_code=status, error=error, meaning=meaning, **others)


def failed(error: WebexLoopbackError, ago: float, of: StoredToken, times: int = 1) -> Failure:
    return Failure(error, NOW - ago, attempt_of(of), times)


def use(until: float, token: str = "access") -> Use:
    return Use(Secret(token), until)


CASES: list[tuple[str, StoredToken | None, Failure | None, object]] = [
    ("1", None, None, LoginNeeded),
    ("2", VALID, None, use(NOW + 500)),
    ("2 a failure does not matter", VALID, failed(UNREACHABLE, 1, VALID), use(NOW + 500)),
    ("3", changed(refresh_token=None, refresh_at=NOW - 1), None, use(NOW + 1000)),
    ("4", DUE, None, Renew(required=False)),
    ("4 pause over", DUE, failed(UNREACHABLE, 16, DUE), Renew(required=False)),
    ("4 the failure was another token's", DUE, failed(UNREACHABLE, 1, changed(issued_at=1)), Renew(required=False)),
    ("4 the failure is in the future", DUE, failed(UNREACHABLE, -5, DUE), Renew(required=False)),
    ("4 the clock is before issued_at", changed(issued_at=NOW + 9), None, Renew(required=False)),
    ("4 unknown expiry", UNKNOWN, None, Renew(required=False)),
    ("4 rejected a minute ago", DUE, failed(answer(meaning="rejected"), 61, DUE), Renew(required=False)),
    ("4 refresh token past its end", changed(refresh_at=5, refresh_token_expires_at=5), None, Renew(required=False)),
    ("5", DUE, failed(UNREACHABLE, 1, DUE), use(NOW + 14)),
    ("5 pauses double", DUE, failed(UNREACHABLE, 1, DUE, times=3), use(NOW + 59)),
    ("5 pauses end", DUE, failed(UNREACHABLE, 100, DUE, times=10), use(NOW + 800)),
    ("5 Retry-After", DUE, failed(answer(429, retry_after=200), 1, DUE), use(NOW + 199)),
    ("5 the token ends first", changed(refresh_at=5, expires_at=NOW + 3), failed(UNREACHABLE, 1, DUE), use(NOW + 3)),
    ("5 rejected", DUE, failed(answer(meaning="rejected"), 1, DUE), use(NOW + 59)),
    ("5 unknown expiry", UNKNOWN, failed(UNREACHABLE, 1, UNKNOWN), use(NOW + 14)),
    ("6", changed(refresh_token=None, refresh_at=NOW - 1, expires_at=NOW - 1), None, LoginNeeded),
    ("7", EXPIRED, None, Renew(required=True)),
    ("7 expired this second", changed(expires_at=NOW), None, Renew(required=True)),
    ("7 pause over", EXPIRED, failed(UNREACHABLE, 6, EXPIRED), Renew(required=True)),
    ("7 refresh token past its end", LONG_AGO, None, Renew(required=True)),
    ("7 rejected a minute ago", EXPIRED, failed(answer(meaning="rejected"), 61, EXPIRED), Renew(required=True)),
    ("8", EXPIRED, failed(answer(meaning="rejected"), 59, EXPIRED), LoginNeeded),
    ("9", EXPIRED, failed(UNREACHABLE, 4, EXPIRED), Fail(UNREACHABLE)),
    ("9 Retry-After", EXPIRED, failed(answer(429, retry_after=60), 50, EXPIRED), Fail),
]  # fmt: skip
OTHER = Secret("another")
FORCED: list[tuple[str, StoredToken | None, Failure | None, Secret | None, object]] = [
    ("1", None, None, None, LoginNeeded),
    ("1 nothing to renew with", changed(refresh_token=None), None, None, LoginNeeded),
    ("1 nothing to renew with, expired", changed(refresh_token=None, expires_at=1), None, None, LoginNeeded),
    ("2", VALID, None, OTHER, use(NOW)),
    ("3", changed(issued_at=NOW - 299), None, VALID.access_token, use(NOW)),
    ("4", VALID, failed(UNREACHABLE, 1, VALID), VALID.access_token, Fail(UNREACHABLE)),
    ("4 rejected", VALID, failed(answer(meaning="rejected"), 1, VALID), VALID.access_token, LoginNeeded),
    ("5", VALID, None, None, Renew(required=True)),
    ("5 by hand, soon after a failure", VALID, failed(UNREACHABLE, 1, VALID), None, Renew(required=True)),
    ("5 rejected by an API", VALID, None, VALID.access_token, Renew(required=True)),
    ("5 another one, but expired", EXPIRED, None, OTHER, Renew(required=True)),
]
ALL: list[Any] = [
    *(pytest.param(*case[1:3], {}, case[3], id=case[0]) for case in CASES),
    *(
        pytest.param(*case[1:3], {"forced": True, "rejected": case[3]}, case[4], id=f"forced {case[0]}")
        for case in FORCED
    ),
]


@pytest.mark.parametrize(("record", "failure", "options", "expected"), ALL)
def test_decide(record: StoredToken | None, failure: Failure | None, options: Any, expected: object) -> None:
    decided = decide(record, NOW, failure, **options)
    if isinstance(expected, type):
        assert type(decided) is expected
    else:
        assert (type(decided), decided) == (type(expected), expected)


def test_every_row_has_a_case() -> None:
    rows = re.findall(r"^\| (\d+) ", decision.__doc__ or "", re.MULTILINE)
    assert rows == [*map(str, range(1, 10)), *map(str, range(1, 6))]
    assert [{*rows[:9]}, {*rows[9:]}] == [{case[0].split()[0] for case in cases} for cases in (CASES, FORCED)]


@pytest.mark.parametrize(
    ("error", "expired", "expected"),
    [
        (answer(400, "rejected"), False, True),
        (answer(403, "rejected"), True, True),
        (answer(400, error=""), True, True),
        (answer(400, error=""), False, False),
        (answer(401, error=""), True, False),
        (answer(400, "misconfigured"), True, False),
        (answer(503), True, False),
        (UNREACHABLE, True, False),
    ],
)
def test_only_a_rejection_by_the_server_means_a_login(error: WebexLoopbackError, expired: bool, expected: bool) -> None:
    record = EXPIRED if expired else VALID
    assert decision.means_login(error, record, NOW) is expected
    assert failure_of(error, record, NOW, None).rejected is expected


def test_failures_of_one_token_are_counted_and_those_of_another_are_not() -> None:
    first = failure_of(UNREACHABLE, DUE, NOW, None)
    assert failure_of(UNREACHABLE, DUE, NOW + 20, first).times == 2
    assert failure_of(UNREACHABLE, changed(issued_at=5), NOW + 20, first).times == 1
