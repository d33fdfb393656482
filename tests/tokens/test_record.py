import dataclasses
import json
import os
import pickle
import tempfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Make, raised, with_locals
from webex_loopback.oauth.token_response import MalformedToken, TokenResponse
from webex_loopback.secret import Secret
from webex_loopback.tokens.decision import Renew, decide
from webex_loopback.tokens.quick_look import TOKEN_BYTES, quick_look
from webex_loopback.tokens.record import DAY, MINUTE, FutureVersion, ServiceApp, StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

NOW = 1_764_000_000
HOUR = 3600


def response(**fields: object) -> TokenResponse:
    values: dict[str, object] = {"access_token": Secret("new-access"), "expires_in": HOUR}
    return TokenResponse(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expires_in", "refresh_expires_in", "after"),
    [
        (14 * DAY, 90 * DAY, 13 * DAY),  # a tenth, but a day at most
        (12 * HOUR, 60 * DAY, 12 * HOUR * 9 // 10),
        (900, None, 810),  # a tenth
        (400, None, 340),  # but a minute at least
        (200, None, 200),  # not sooner than five minutes after the last response, unless it expires
        (1, None, 1),
        (None, None, DAY),  # unknown
        (14 * DAY, 10 * DAY, 9 * DAY),  # once while the refresh token is alive
        (14 * DAY, 14 * DAY, 13 * DAY),
        (HOUR, 5 * MINUTE, 3240),  # the refresh token's last call would be too soon
        (None, HOUR, HOUR - 360),
    ],
)
def test_refresh_time(expires_in: int | None, refresh_expires_in: int | None, after: int) -> None:
    fresh = response(
        expires_in=expires_in, refresh_token=Secret("refresh"), refresh_token_expires_in=refresh_expires_in
    )
    assert StoredToken.from_response(fresh, now=NOW).refresh_at == NOW + after


def test_what_cannot_be_renewed_is_used_to_its_end() -> None:
    assert StoredToken.from_response(response(), now=NOW).refresh_at == NOW + HOUR
    assert StoredToken.from_response(response(expires_in=None), now=NOW).refresh_at > NOW + 36_000 * DAY


@pytest.mark.parametrize(("margin", "after"), [(600, 3000), (0, 3600), (-5, 3600), (4000, 300)])
def test_the_margin_can_be_chosen(margin: float, after: int) -> None:
    fresh = response(refresh_token=Secret("refresh"))
    assert StoredToken.from_response(fresh, now=NOW, margin=margin).refresh_at == NOW + after


def test_a_renewal_keeps_what_the_response_leaves_out(make_token: Make) -> None:
    before = make_token(scope=["a", "b"])
    after = before.renewed(response(), now=NOW)
    changed = {"access_token": Secret("new-access"), "issued_at": NOW, "expires_at": NOW + HOUR}
    assert after == dataclasses.replace(before, **changed, refresh_at=NOW + HOUR - 360)  # type: ignore[arg-type]


@pytest.mark.parametrize("lifetime", [60 * DAY, None])
def test_a_renewal_takes_a_rotated_refresh_token_and_its_lifetime(make_token: Make, lifetime: int | None) -> None:
    fresh = response(refresh_token=Secret("second"), refresh_token_expires_in=lifetime, scope=["c"])
    after = make_token(scope=["a"]).renewed(fresh, now=NOW)
    assert (after.refresh_token, after.refresh_token_issued_at) == (Secret("second"), NOW)
    assert after.refresh_token_expires_at == (lifetime and NOW + lifetime)
    assert after.granted == ["c"]


def test_webex_sends_the_time_left_and_the_lifetime_keeps_its_start(make_token: Make) -> None:
    before = make_token(age=DAY)
    assert before.refresh_token_expires_at is not None
    left = before.refresh_token_expires_at - NOW
    after = before.renewed(response(refresh_token=before.refresh_token, refresh_token_expires_in=left - 20), now=NOW)
    assert after.refresh_token_issued_at == before.refresh_token_issued_at


def test_scopes_that_were_not_granted_are_missing(make_token: Make) -> None:
    assert make_token(scopes_requested=["a", "b"], scope=["b", "c"]).missing == ["a"]
    assert make_token(scopes_requested=["a", "b"]).missing == []


def test_a_record_survives_its_file(make_token: Make) -> None:
    for record in (
        make_token(),
        make_token(refresh_token=None, expires_in=None, scope=[]),
        make_token(service_app=ServiceApp(org_id="o", app_id="a", using="admin")),
    ):
        assert StoredToken.from_json(record.to_json()) == record


def test_a_file_of_version_1_0_is_read() -> None:
    body = {
        "version": 1, "refresh_at": 5, "access_token": "a", "issued_at": 1, "expires_at": 9, "refresh_token": "r",
        "refresh_token_issued_at": 1, "refresh_token_expires_at": 99, "scopes_requested": ["s"], "scopes_granted": None,
        "client_id": "C1", "client_secret": "x", "token_url": "https://t", "api_base_url": "https://b", "ca_bundle": "",
        "account": {"name": "N", "email": "e", "id": "i"}, "unknown": [1],
    }  # fmt: skip
    record = StoredToken.from_json(json.dumps(body).encode())
    assert (record.access_token, record.account.name, record.service_app) == (Secret("a"), "N", None)


@pytest.mark.parametrize(
    "damage",
    [
        {"access_token": "a\nb"}, {"issued_at": "5"}, {"issued_at": True}, {"expires_at": 1e300}, {"client_secret": 1},
        {"scopes_requested": "a"}, {"scopes_granted": [1]}, {"account": {"name": 5}}, {"account": []},
        {"service_app": {"org_id": "x"}}, {"refresh_token": 5}, {"refresh_at": float("inf")},
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused_without_its_values(make_token: Make, damage: dict[str, object]) -> None:
    values = json.loads(make_token().to_json()) | damage
    error = raised(MalformedToken, StoredToken.from_json, json.dumps(values).encode())
    assert next(iter(damage)) in str(error)
    shown = with_locals(error)
    assert "refresh-token-one" not in shown
    assert "client-secret-one" not in shown


def test_a_record_of_a_clock_that_gives_milliseconds_is_readable_and_due(make_token: Make) -> None:
    read = StoredToken.from_json(make_token(age=-1000 * time.time()).to_json())
    assert read.refresh_token is not None
    assert isinstance(decide(read, time.time()), Renew)


VERSION = b'{"version": %s, "refresh_at": 5, "access_token": "a", "issued_at": 1}'


@pytest.mark.parametrize("body", [b"", b"[]", b'{"version": 1}', VERSION % b'"9"', VERSION % b"2"])
def test_what_is_not_a_record_is_refused_and_a_newer_version_is_told_from_it(body: bytes) -> None:
    with pytest.raises(FutureVersion if body == VERSION % b"2" else MalformedToken):
        StoredToken.from_json(body)


def test_a_record_shows_and_pickles_no_secret(make_token: Make) -> None:
    record = make_token()
    for secret in ("access-token-one", "refresh-token-one", "client-secret-one"):
        assert secret not in repr(record)
        assert secret not in str(dataclasses.asdict(record))
    with pytest.raises(TypeError):
        pickle.dumps(record)


@given(st.text(alphabet=TOKEN_BYTES.decode(), min_size=1), st.integers(0, 10**10), st.integers(0, 10**10))
def test_quick_look_and_the_full_reader_agree(token: str, refresh_at: int, issued_at: int) -> None:
    record = StoredToken(access_token=Secret(token), refresh_at=refresh_at, issued_at=issued_at)
    with tempfile.TemporaryDirectory() as folder:
        store = FileTokenStore(os.path.join(folder, "tokens", "default.json"))
        with store.lock():
            store.save(record)
        found = quick_look(store.path)
    assert found is not None
    assert found[1:] == (issued_at, refresh_at, token)
