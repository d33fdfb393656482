"""Token responses: a usable access token is kept whatever is beside it; everything else is refused."""

import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import with_locals
from webex_loopback.oauth.token_response import MalformedToken, TokenResponse, read_object
from webex_loopback.secret import Secret

DAY = 86_400


def response(**members: Any) -> TokenResponse:
    return TokenResponse.from_json(json.dumps({"access_token": "access-token"} | members).encode())


def test_a_usual_response() -> None:
    usual = {
        "refresh_token": "refresh-token",
        "expires_in": 1_209_599,
        "refresh_token_expires_in": 7_775_999,
        "token_type": "Bearer",
        "scope": "spark:people_read spark:kms",
    }
    scopes = ["spark:people_read", "spark:kms"]
    expected = TokenResponse(Secret("access-token"), Secret("refresh-token"), 1_209_599, 7_775_999, scopes)
    assert response(**usual) == expected


@pytest.mark.parametrize("absent", [{}, dict.fromkeys(("refresh_token", "expires_in", "token_type", "scope"))])
def test_only_the_access_token_must_be_there(absent: dict[str, None]) -> None:
    assert response(**absent) == TokenResponse(Secret("access-token"))


SECONDS = [
    *((sent, 3600) for sent in (3600, 3600.0, "3600", " 3600\n", "3600.0", "3600.")),
    *((sent, 1_209_599) for sent in (1_209_599, 1_209_599_000, "1209599000")),  # the latter in milliseconds
    *((1.9, 1), (10 * 365 * DAY, 10 * 365 * DAY), (10 * 365 * DAY + 1, 315_360)),
]
READ: list[tuple[str, Any, Any]] = [
    *((name, sent, read) for name in ("expires_in", "refresh_token_expires_in") for sent, read in SECONDS),
    # No time left means expired for an access token and unknown for a refresh token.
    *(("expires_in", sent, 1) for sent in (0, "0", 0.5)),
    *(("refresh_token_expires_in", sent, None) for sent in (0, "0", 0.5)),
    *(("scope", sent, ["a", "b"]) for sent in ("a b  a", "a,b", "a, b", ["a", "b"], ["a b", 7, "b"])),
    *(("scope", "", None), ("scope", [], None), ("scope", None, None)),
    *(("token_type", sent, None) for sent in ("Bearer", "bearer", "BEARER ", "", None)),
]


@pytest.mark.parametrize(("name", "sent", "read"), READ)
def test_a_field_is_read_in_every_usual_form(name: str, sent: object, read: object) -> None:
    one = response(**{name: sent})
    assert (getattr(one, name, None), one.dropped) == (read, ())


NO_TIME = [-5, -0.5, "soon", "-1", "1e9", "٣٦٠٠", "9" * 5000, True, False, [1], {}, 1e300, 10**40, float("nan"), "nan"]
ODD_TOKENS = ["a b", "a\nb", "é", "\x7f", "\udcff", 5, ["a"], {"a": 1}, True]
ODD = [
    *((name, sent) for name in ("expires_in", "refresh_token_expires_in") for sent in NO_TIME),
    *(("scope", sent) for sent in (5, {"a": 1}, [1], ",", True)),
    *(("token_type", sent) for sent in ("mac", 7, ["Bearer"])),
    *(("refresh_token", sent) for sent in ODD_TOKENS),
]


@pytest.mark.parametrize(("name", "sent"), ODD)
def test_an_invalid_field_is_dropped_and_the_token_is_kept(name: str, sent: object) -> None:
    one = response(**{name: sent})
    assert (getattr(one, name, None), one.dropped) == (None, (name,))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 5000])
def test_a_number_too_large_for_the_parser_does_not_cost_the_token(number: str) -> None:
    one = TokenResponse.from_json(b'{"access_token": "a", "expires_in": %s}' % number.encode())
    assert (one.expires_in, one.dropped) == (None, ("expires_in",))


@pytest.mark.parametrize("token", ["a", " a\r\n", "x" * 1_000_000, "eyJ.-_~+/=" * 200, "!~"])
def test_tokens_are_kept_without_surrounding_white_space(token: str) -> None:
    one = response(access_token=token, refresh_token=token)
    assert one.access_token == one.refresh_token == Secret(token.strip())


@pytest.mark.parametrize("token", [*ODD_TOKENS, "", " ", None])
def test_an_access_token_that_no_header_can_carry_is_refused(token: object) -> None:
    with pytest.raises(MalformedToken, match="access_token"):
        response(access_token=token)


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"access_token": "a"}',
        '{"access_token": "a"}'.encode("utf-16"),
        b' \r\n{"access_token": "a"}\n\x00',
        b'{"access_token": "a\n", "scope": "b\tc"}',
        b'{"access_token": "a", "name": "M\xfcller"}',
        b'{"access_token": "first", "access_token": "a"}',
        b'{"access_token": "a", "error": ""}',
        b'{"access_token": "a", "error": "x", "id_token": [], "nested": {"a": [1]}}',
    ],
)
def test_a_body_that_is_not_quite_json_is_read(body: bytes) -> None:
    assert TokenResponse.from_json(body).access_token == Secret("a")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        *((body, "is not a JSON object") for body in (b"null", b"[]", b'"text"', b"7")),
        *((body, "is not valid JSON") for body in (b"", b"{", b"<html></html>", b'{"access_token": "a"')),
        *((body, "is not valid JSON") for body in (b"\xff\xfe\x00", b"[" * 100_000)),
        (b'{"expires_in": 5}', "has no access_token"),
        (b'{"access_token": {}}', "has no access_token"),
        (b'{"access_token": 5}', "has an unusable access_token"),
        (b'{"error": "invalid_grant"}', r"is an error response \(invalid_grant\)"),
        (b'{"error": {"code": 1}}', "has no access_token"),
    ],
)
def test_what_is_not_a_token_response_is_refused_with_the_reason(body: bytes, why: str) -> None:
    with pytest.raises(MalformedToken, match=why):
        TokenResponse.from_json(body)


@pytest.mark.parametrize("access_token", ["spoilt secret-one", ["secret-one"]])
def test_a_refusal_shows_no_secret_even_with_local_variables(access_token: object) -> None:
    body = json.dumps({"access_token": access_token, "refresh_token": "secret-two", "error": "x"}).encode()
    with pytest.raises(MalformedToken) as caught:
        TokenResponse.from_json(body)
    assert not {"secret-one", "secret-two"} & {*re.findall(r"[\w-]+", with_locals(caught.value))}


def test_no_repr_and_no_pickle_holds_a_token() -> None:
    one = response(refresh_token="refresh-token")
    assert "access-token" not in repr(one) + str(one)
    assert "refresh-token" not in repr(one) + str(one)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(one)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["refresh_token", "expires_in", "refresh_token_expires_in", "scope", "token_type", "error", "x"]
)


@settings(deadline=None)
@given(st.dictionaries(FIELDS, JSON))
def test_no_other_field_costs_a_good_access_token(others: dict[str, Any]) -> None:
    one = response(**others)
    assert one.access_token == Secret("access-token")
    assert one.expires_in is None or one.expires_in >= 1
    assert set(one.dropped) <= set(others)


@settings(deadline=None)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_response_or_malformed(body: bytes) -> None:
    for read in (TokenResponse.from_json, read_object):
        said = ""
        try:
            read(body)
        except MalformedToken as error:
            said = str(error)
        assert said.isprintable()
