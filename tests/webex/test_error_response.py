"""What an error response means: the table of DESIGN §4, both bodies, tracking IDs, Retry-After."""

import json
import time
from collections.abc import Mapping
from itertools import product
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from webex_loopback.errors import TokenEndpointError
from webex_loopback.webex.error_response import TABLE, Answer, http_date, read_error, retry_after

DEAD = "The refresh token provided is expired, revoked, malformed, or invalid."
RFC_TEXT = (
    "The provided authorization grant or refresh token is invalid, expired, revoked, does not match the redirection "
    "URI used in the authorization request, or was issued to another client."
)
UNAUTHORIZED = "The request requires a valid access token set in the Authorization request header."
TRACKING_ID = "ROUTER_62E068B0-1B2C-4D5E-8F90-0123456789AB"


def error_of(
    status: int,
    body: object = b"",
    headers: Mapping[str, str] | None = None,
    grant: str = "refresh_token",
    **others: Any,
) -> TokenEndpointError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(Answer(status, httpx.Headers(headers), content, "webexapis.com"), grant=grant, **others)


def gateway(description: str, message: str = "The request could not be understood.") -> dict[str, object]:
    return {"message": message, "errors": [{"description": description}], "trackingId": TRACKING_ID}


def oauth(error: str, description: str = "") -> dict[str, object]:
    return {"error": error, "error_description": description, "trackingID": TRACKING_ID}


BY_ID = oauth("invalid_client", DEAD)  # Webex sends it with these words, too
REJECTED = [
    *(oauth("invalid_grant"), oauth("invalid_grant", RFC_TEXT), oauth("invalid_refresh_token")),
    *(gateway("invalid_grant"), gateway(DEAD), oauth("", DEAD)),
    *(oauth("invalid_request", text) for text in (DEAD, "Invalid refresh_token", "Refresh token is not valid")),
]
MISCONFIGURED = [
    *(oauth("invalid_client"), oauth("unauthorized_client"), oauth("invalid_scope"), gateway("invalid_scope")),
    oauth("invalid_scope", "A scope requested with the refresh token is invalid."),
    *(gateway("The provided clientSecret is invalid"), gateway("x", "Invalid client credentials")),
    oauth("invalid_request", "Parameter:client_id is blank"),
]
TOLD = ["temporarily_unavailable", "server_error", "slow_down"]  # count, whatever the text beside them
PASSING = [
    *(oauth(code, "The refresh token service returned an invalid response.") for code in TOLD),
    *map(oauth, [*TOLD, "unsupported_grant_type", "invalid_request", "x", "tokenlimit_reached"]),
    *(gateway(UNAUTHORIZED), gateway("tokenlimit_reached")),
    oauth("invalid_request", "Parameter:refresh_token is blank"),
    *({}, [], b"", b"<html>", b"no healthy upstream"),
]
MEANINGS = [  # status, body, meaning: DESIGN §4 spelled out
    *product((400, 401, 403, 404, 422), [*REJECTED, BY_ID], ["rejected"]),
    *product((400, 401, 403), MISCONFIGURED, ["misconfigured"]),
    *product((200, 503), [oauth("invalid_client")], ["misconfigured"]),
    *product((400, 401, 403, 408, 429, 500, 503), PASSING, ["passing"]),
    *product((200, 500, 502, 503, 504), REJECTED, ["passing"]),
]


@pytest.mark.parametrize(("status", "body", "meaning"), MEANINGS)
def test_what_an_answer_to_a_refresh_means(status: int, body: object, meaning: str) -> None:
    error = error_of(status, body)
    assert (error.meaning, error.status_code) == (meaning, status)
    assert error.remedy
    assert str(error).startswith("webexapis.com ")
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("body", "code", "description"),
    [
        *((body, "", "") for body in (b"", b" \n")),  # only an empty body says nothing
        (b"<html>", "", "an HTML page"),
        (b"{}", "", "JSON without an error"),
        (oauth("invalid_grant", "Gone."), "invalid_grant", "Gone."),
        (gateway("Gone."), "", "Gone."),
        (gateway("slow_down", "Too fast."), "slow_down", "Too fast."),
        *((odd | {"message": "Odd."}, "", "Odd.") for odd in ({"error": {"code": 5}}, {"errors": ["text"]})),
        ({"error": "Internal Server Error", "error_description": 7}, "Internal Server Error", ""),
        (b"upstream connect error", "", "upstream connect error"),
    ],
)
def test_both_bodies_are_read(body: object, code: str, description: str) -> None:
    error = error_of(400, body)
    assert (error.error, error.error_description) == (code, description)
    assert all(part in str(error) for part in (code, description.rstrip(".")))


REMEDIES = [  # one for each row of the table, and the words that must not be taken for those of another row
    ("refresh_token", 400, oauth("tokenlimit_reached"), "idbroker.webex.com/idb/profile"),
    ("refresh_token", 400, oauth("invalid_client"), "WEBEX_CLIENT_SECRET"),
    *(
        ("refresh_token", 400, body, "WEBEX_SCOPES")
        for body in (oauth("invalid_scope"), gateway("The scope is invalid."))
    ),
    ("refresh_token", 400, oauth("invalid_grant"), "log in again"),
    ("refresh_token", 400, b"", "Try again in a few minutes"),
    ("authorization_code", 400, oauth("invalid_request", "redirect_uri does not match"), "WEBEX_REDIRECT_URI"),
    ("authorization_code", 400, oauth("redirect_uri_mismatch"), "WEBEX_REDIRECT_URI"),
    ("authorization_code", 400, b"", "WEBEX_REDIRECT_URI and WEBEX_CLIENT_SECRET"),
    ("service_app", 400, gateway("The provided clientSecret is invalid"), "WEBEX_CLIENT_SECRET"),
    ("service_app", 400, gateway("The provided targetOrgId is invalid"), "organization ID"),
    ("service_app", 403, gateway("Service App not authorized by Full Admin in Control Hub"), "Control Hub"),
    ("service_app", 403, gateway("The access token is missing required scopes"), "applications_token"),
    ("service_app", 401, gateway(UNAUTHORIZED), "log in"),
    ("api", 400, gateway("The refresh token is invalid; client id unknown"), "Try again"),
    ("api", 401, gateway("x"), "log in again"),
    ("api", 403, gateway("x"), "WEBEX_SCOPES"),
]


@pytest.mark.parametrize(("grant", "status", "body", "words"), REMEDIES)
def test_the_remedy_fits_the_case(grant: str, status: int, body: object, words: str) -> None:
    remedy, of_profile = (error_of(status, body, grant=grant, profile=name).remedy for name in ("", "work"))
    assert words in remedy
    assert remedy.replace("log in again", "run `webex-loopback login -p work --force`") == of_profile


@pytest.mark.parametrize(
    ("body", "header", "shown"),
    [
        (gateway("x"), "", TRACKING_ID),
        (oauth("x"), "IGNORED", TRACKING_ID),
        ({"error": "x"}, f"webex-js-sdk_{TRACKING_ID[7:]}_12", f"webex-js-sdk_{TRACKING_ID[7:]}_12"),
        ({"error": "x", "trackingID": ["x"]}, "", ""),
        (b"", "x" * 64 + "_PF84_62e068b0-1b2c-4d5e-8f90-0123456789ab", "[...]"),
        (b"", "\x1b[2J\nid", "[2J id"),
    ],
)
def test_the_tracking_id_is_found_and_shown(body: object, header: str, shown: str) -> None:
    error = error_of(500, body, {"trackingId": header} if header else {})
    assert error.tracking_id == shown
    assert shown in str(error)
    assert ("Webex support" in error.remedy) is bool(shown)


@pytest.mark.parametrize("secret", ["r" * 64, "client_secret=abc", "Bearer abcdefghijklmnop"])
def test_a_server_that_quotes_a_secret_is_not_quoted(secret: str) -> None:
    value = secret.rpartition("=")[2].rpartition(" ")[2]
    for body in (oauth("invalid_request", f"bad {secret}"), gateway(secret), oauth(secret), f"got {secret}".encode()):
        error = error_of(400, body)
        assert value not in str(error) + error.error + error.error_description


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), (" 194 ", 194), ("99999999999999999999", 3_600)),
        *((text, None) for text in ("rand(30),add(30)", "-5", "1.5", "", "٣", "Thu, 99 Jan 1970 00:00:00 GMT")),
        *((f"Thu, 01 Jan 1970 {time}", 20) for time in ("00:02:00 GMT", "00:02:00 -0000", "09:02:00 +0900")),
        *(("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600)),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text, 100) == seconds


def test_the_error_says_how_long_to_wait() -> None:
    error = error_of(429, b"<html>", {"Retry-After": "3600"})
    assert error.retry_after == 3600
    assert "1 h" in error.remedy


@pytest.mark.usefixtures("tokyo")
def test_a_date_with_the_zone_minus_zero_is_utc_everywhere() -> None:
    assert http_date("Thu, 01 Jan 1970 00:02:00 -0000") == 120


@settings(deadline=None)
@given(st.text(max_size=40))
def test_dates_and_waits_survive_any_text(text: str) -> None:
    wait, moment = retry_after(text, time.time()), http_date(text)
    assert wait is None or 0 <= wait <= 3_600
    assert moment is None or moment < 1e12


@settings(deadline=None)
@example(400, json.dumps(dict.fromkeys(("error", "error_description", "message"), "\x1b[2J\r\na " * 5000)).encode(), "")
@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(["error", "error_description", "message", "errors", "trackingId"]),
        st.text(max_size=60) | st.none() | st.integers() | st.lists(st.dictionaries(st.just("description"), st.text())),
    ).map(lambda value: json.dumps(value).encode()),
    grant=st.sampled_from(["", "authorization_code", "refresh_token", "device_code", "service_app", "api"]),
)
def test_any_answer_has_a_meaning_and_a_remedy(status: int, body: bytes, grant: str) -> None:
    error = error_of(status, body, grant=grant)
    assert error.meaning in {row.meaning for row in TABLE}
    assert error.remedy
    assert (str(error) + error.remedy).isprintable()
    assert len(str(error)) < 1300
