"""Token responses and the token file's content: what is read, what is refused, when a refresh is due."""

import copy
import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from webex_loopback.authorization import AuthorizationRequest, RedirectURI
from webex_loopback.grant import Plan
from webex_loopback.settings import load
from webex_loopback.source import quick_look
from webex_loopback.store import FileTokenStore
from webex_loopback.token import (
    DAY,
    MINUTE,
    FutureVersion,
    MalformedToken,
    StoredToken,
    TokenResponse,
    fingerprint,
    refresh_time,
)

HOUR = 3_600
SECRETS = ("access-token-one", "refresh-token-one", "client-secret-one")


def response(**members: Any) -> TokenResponse:
    return TokenResponse.from_json(json.dumps({"access_token": "access-token-two"} | members).encode())


# What a response may look like


def test_only_the_access_token_must_be_there() -> None:
    bare = response()
    assert (bare.token_type, bare.expires_in, bare.refresh_token, bare.scope) == ("Bearer", None, None, None)


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "", None, 7])
def test_token_type_is_compared_without_case_and_may_be_missing(token_type: object) -> None:
    assert response(token_type=token_type).token_type == "Bearer"


def test_a_token_of_another_type_is_refused() -> None:
    with pytest.raises(MalformedToken, match="token_type"):
        response(token_type="mac")


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (1_209_599, 1_209_599),
        (64_799.0, 64_799),
        ("3600", 3_600),
        (1.9, 1),
        (1e300, 100 * 365 * DAY),
        (10**40, 100 * 365 * DAY),
        (-5, None),
        (-0.5, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("٣٦٠٠", None),
        ("9" * 5_000, None),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_a_lifetime_of_nonsense_is_unknown_and_the_token_is_kept(told: object, read: int | None) -> None:
    one = response(expires_in=told, refresh_token_expires_in=told)
    assert (one.expires_in, one.refresh_token_expires_in) == (read, read)


@pytest.mark.parametrize("told", [0, 0.5, "0"])
def test_no_time_left_is_an_end_of_an_access_token_only(told: object) -> None:
    one = response(expires_in=told, refresh_token_expires_in=told)
    assert (one.expires_in, one.refresh_token_expires_in) == (1, None)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_no_json_are_refused(number: str) -> None:
    with pytest.raises(MalformedToken):
        TokenResponse.from_json(b'{"access_token": "a", "expires_in": %s}' % number.encode())


@pytest.mark.parametrize("scope", [None, "", " ", 5, {"a": 1}, [1]])
def test_a_scope_that_says_nothing_is_unknown(scope: object) -> None:
    assert response(scope=scope).scope is None


def test_scopes_are_a_string_or_a_list() -> None:
    assert response(scope="a b  a").scope == response(scope=["a", "b"]).scope == ["a", "b"]


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "é", "x" * 16_385, 5, None, ["a"]])
def test_an_access_token_that_no_header_could_carry_is_refused(token: object) -> None:
    with pytest.raises(MalformedToken, match="access_token"):
        response(access_token=token)


@pytest.mark.parametrize("token", ["", "a b", 5, ["a"], None])
def test_an_unusable_refresh_token_counts_as_missing(token: object) -> None:
    assert response(refresh_token=token).refresh_token is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe\x00",
        b"<html></html>",
        b'{"access_token": "a", "access_token": "b"}',
        b"[" * 100_000,
        b'{"expires_in": 5}',
    ],
)
def test_what_is_no_token_response_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedToken):
        TokenResponse.from_json(body)


def test_a_refusal_quotes_nothing() -> None:
    body = json.dumps({"access_token": "spoilt secret", "refresh_token": "other-secret"}).encode()
    with pytest.raises(MalformedToken) as caught:
        TokenResponse.from_json(body)
    link: BaseException | None = caught.value
    while link is not None:
        assert "secret" not in repr(link) + str(link)
        link = link.__cause__ or link.__context__


def test_unknown_members_do_no_harm() -> None:
    assert response(id_token="x", expires="never", nested={"a": [1]}).access_token.get_secret_value()


# When a refresh is due

TABLE = [
    # lifetime, refresh token's lifetime, due after
    ("14 days: a day before the end", 14 * DAY, 90 * DAY, 13 * DAY),
    ("10 days: a tenth is a day", 10 * DAY, 90 * DAY, 9 * DAY),
    ("18 hours: a tenth", 18 * HOUR, 90 * DAY, 18 * HOUR * 9 // 10),
    ("12 hours: a tenth", 12 * HOUR, 60 * DAY, 12 * HOUR * 9 // 10),
    ("1 hour: a tenth", HOUR, None, HOUR * 9 // 10),
    ("10 minutes: a minute", 600, None, 540),
    ("9 minutes: a minute, more than a tenth", 540, None, 480),
    ("6 minutes: a minute meets the five", 360, None, 300),
    ("5 min 30 s: the five minutes win over the margin", 330, None, 300),
    ("5 minutes: the end itself", 300, None, 300),
    ("1 minute: the end itself", 60, None, 60),
    ("1 second: the end itself", 1, None, 1),
    ("100 years: a day before", 100 * 365 * DAY, None, 100 * 365 * DAY - DAY),
    ("unknown: once a day", None, 90 * DAY, DAY),
    ("unknown, both: once a day", None, None, DAY),
    ("refresh token dies first: before it does", 14 * DAY, 5 * DAY, 5 * DAY - 12 * HOUR),
    ("refresh token dies at the same moment", 14 * DAY, 13 * DAY, 12 * DAY),
    ("refresh token dies within minutes: too late for an attempt", 14 * DAY, 320, 14 * DAY),
    ("refresh token is dead at once: the access token's end", HOUR, 1, HOUR),
    ("unknown, refresh token dies first: before it does", None, 10 * HOUR, 9 * HOUR),
]


@pytest.mark.parametrize(
    ("lifetime", "refresh_lifetime", "due"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_refresh_is_due(lifetime: int | None, refresh_lifetime: int | None, due: int) -> None:
    now = 1_700_000_000
    end = None if lifetime is None else now + lifetime
    refresh_end = None if refresh_lifetime is None else now + refresh_lifetime
    assert refresh_time(now, end, refresh_end) - now == due


@pytest.mark.parametrize(
    ("margin", "due"), [(0, HOUR), (60, HOUR - 60), (1_800, 1_800), (10**9, 5 * MINUTE), (-60, HOUR), (0.9, HOUR)]
)
def test_a_margin_of_ones_own_keeps_the_five_minutes(margin: float, due: int) -> None:
    assert refresh_time(0, HOUR, None, margin=margin) == due


def test_without_a_refresh_token_the_access_token_is_used_to_its_end() -> None:
    assert refresh_time(0, HOUR, None, can_refresh=False) == HOUR
    assert refresh_time(0, None, None, can_refresh=False) > 50 * 365 * DAY


@given(
    lifetime=st.none() | st.integers(1, 100 * 365 * DAY),
    refresh_lifetime=st.none() | st.integers(1, 100 * 365 * DAY),
    margin=st.none() | st.floats(-1e6, 1e9),
    can_refresh=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_a_refresh_never_loops_and_never_comes_after_the_end(
    lifetime: int | None, refresh_lifetime: int | None, margin: float | None, can_refresh: bool
) -> None:
    end, refresh_end = lifetime, refresh_lifetime
    due = refresh_time(0, end, refresh_end, can_refresh=can_refresh, margin=margin)
    if end is None:
        assert due >= 5 * MINUTE
    else:
        assert min(end, 5 * MINUTE) <= due <= end


def test_the_same_token_with_the_time_that_is_left_does_not_loop() -> None:
    """Webex may answer each refresh so: followed to the end, that is a handful of refreshes, not thousands."""
    now, end = 0, 14 * DAY
    refreshes = 0
    token = StoredToken.from_response(response(expires_in=end, refresh_token="r"), now=now)
    while token.refresh_at < end:
        now = token.refresh_at
        refreshes += 1
        token = token.renewed(response(expires_in=end - now), now=now)
        assert token.refresh_at >= min(now + 5 * MINUTE, end)
    assert refreshes < 10


# What a refresh leaves as it was


def test_a_response_without_a_refresh_token_keeps_the_old_one(make_token: Callable[..., StoredToken]) -> None:
    before = make_token()
    after = before.renewed(response(expires_in=HOUR), now=time.time())
    assert after.same_refresh_token(before)
    assert after.refresh_token_expires_at == before.refresh_token_expires_at
    assert after.refresh_token_issued_at == before.refresh_token_issued_at
    assert after.client_id == before.client_id
    assert after.account == before.account


def test_a_response_with_a_refresh_token_replaces_the_old_one(make_token: Callable[..., StoredToken]) -> None:
    after = make_token(age=DAY).renewed(response(refresh_token="r2"), now=1_800_000_000)
    assert after.refresh_token is not None
    assert after.refresh_token.get_secret_value() == "r2"
    assert after.refresh_token_expires_at is None, "the old one's end says nothing of the new one"
    assert after.refresh_token_issued_at == 1_800_000_000


def test_the_time_left_of_a_refresh_token_is_no_new_lifetime(make_token: Callable[..., StoredToken]) -> None:
    before = make_token(age=10)
    after = before.renewed(
        response(refresh_token="refresh-token-one", refresh_token_expires_in=7_775_979), now=time.time()
    )
    assert after.refresh_token_issued_at == before.refresh_token_issued_at


def test_scopes_are_those_last_told(make_token: Callable[..., StoredToken]) -> None:
    token = make_token()
    assert token.granted == token.scopes_requested
    narrowed = token.renewed(response(scope="spark:kms"), now=1)
    assert (narrowed.granted, narrowed.missing) == (["spark:kms"], ["spark:people_read"])
    assert narrowed.renewed(response(), now=2).granted == ["spark:kms"]


# The file's content


@given(
    access_token=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200),
    name=st.text(max_size=30),
    lifetime=st.none() | st.integers(1, DAY),
    scopes=st.lists(st.text(max_size=8), max_size=3),
)
@settings(deadline=None, max_examples=150)
def test_what_is_written_is_read_again(access_token: str, name: str, lifetime: int | None, scopes: list[str]) -> None:
    token = StoredToken.from_response(
        response(access_token=access_token, expires_in=lifetime, refresh_token="r"),
        now=1_700_000_000.9,
        scopes_requested=scopes,
        account={"name": name},
    )
    assert StoredToken.from_json(token.to_json()) == token


@pytest.mark.parametrize("version", [2, 3, 10**6])
def test_a_future_version_is_told_from_a_corrupt_file(make_token: Callable[..., StoredToken], version: int) -> None:
    values = json.loads(make_token().to_json()) | {"version": version}
    with pytest.raises(FutureVersion, match=str(version)):
        StoredToken.from_json(json.dumps(values).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": "1"},
        {"version": None},
        {"access_token": None},
        {"access_token": "a b"},
        {"refresh_at": "soon"},
        {"refresh_at": 1e30},
        {"refresh_at": True},
        {"issued_at": None},
        {"expires_at": "x"},
        {"refresh_token": ""},
        {"client_secret": 5},
        {"account": "me"},
        {"scopes_requested": "a b"},
    ],
)
def test_a_file_with_a_wrong_value_is_malformed(make_token: Callable[..., StoredToken], change: dict[str, Any]) -> None:
    values = json.loads(make_token().to_json()) | change
    with pytest.raises(MalformedToken) as caught:
        StoredToken.from_json(json.dumps(values).encode())
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_a_file_may_hold_what_a_later_release_adds(make_token: Callable[..., StoredToken]) -> None:
    token = make_token()
    values = json.loads(token.to_json()) | {"added_later": {"x": 1}}
    assert StoredToken.from_json(json.dumps(values).encode()) == token


@pytest.mark.parametrize("access_token", ["a", "A" * 64 + "_PF84_" + "0" * 36, "eyJ.-_~+/=" + "x" * 2_000])
def test_the_quick_look_agrees_with_the_full_one(
    store: FileTokenStore, make_token: Callable[..., StoredToken], access_token: str
) -> None:
    token = make_token(access_token)
    store.save(token)
    looked = quick_look(store.path)
    assert looked is not None
    assert looked[1:] == (token.refresh_at, access_token)


# No secret gets out


def test_no_secret_shows(make_token: Callable[..., StoredToken], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_CLIENT_SECRET", "client-secret-one")
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "access-token-one")
    plan = Plan(
        profile="default",
        settings=load(),
        redirect_uris=[RedirectURI.parse("http://127.0.0.1:8765/callback")],
        store=FileTokenStore("/nowhere/default.json"),
    )
    request = AuthorizationRequest(
        authorize_url="http://127.0.0.1/authorize", client_id="c", redirect_uri="http://127.0.0.1/", scopes=["s"]
    )
    token = make_token()
    hidden = [*SECRETS, request.code_verifier, request.state]
    for thing in (
        token,
        response(access_token="access-token-one", refresh_token="refresh-token-one"),
        load(),
        plan,
        request,
    ):
        shown = [repr(thing), str(thing), f"{thing}", repr([thing])]
        if isinstance(thing, BaseModel):
            shown += [str(thing.model_dump()), thing.model_dump_json(), repr(dict(thing))]
        assert not [secret for secret in hidden if any(secret in text for text in shown)], type(thing).__name__


def test_records_with_secrets_are_not_pickled(make_token: Callable[..., StoredToken]) -> None:
    for record in (make_token(), response()):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(record, protocol)


def test_records_with_secrets_are_copied(make_token: Callable[..., StoredToken]) -> None:
    token = make_token()
    assert copy.copy(token) == copy.deepcopy(token) == token.model_copy() == token


def test_a_fingerprint_is_short_and_tells_secrets_apart() -> None:
    assert len(fingerprint("one")) == 12
    assert fingerprint("one") != fingerprint("two")
