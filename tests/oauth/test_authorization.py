"""The authorization request as it is sent, and what counts as its response."""

import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import raised
from webex_loopback.oauth.authorization import (
    LONGEST_QUERY,
    AuthorizationRequest,
    AuthorizationResponse,
    NotThisLogin,
    read_pasted,
    read_response,
)
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.secret import Secret

STATE = "s7jSVUQhd9ZZrSaXDzq0TDpuZn2lZNwIMcH1nLsk0xM"
CALLBACK = "http://127.0.0.1:8765/callback"
URI = RedirectURI.parse(CALLBACK)


def make_request(*scopes: str, url: str = "https://webexapis.com/v1/authorize", **others: Any) -> AuthorizationRequest:
    return AuthorizationRequest(url, "C123", CALLBACK, scopes or ("spark:people_read", "spark:kms"), **others)


def granted(code: str) -> AuthorizationResponse:
    return AuthorizationResponse(code=Secret(code))


# The request


def test_the_url_has_what_the_rfcs_and_webex_require() -> None:
    request = make_request()
    parts = urlsplit(request.url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://webexapis.com/v1/authorize"
    assert parse_qs(parts.query, strict_parsing=True) == {
        "response_type": ["code"],
        "client_id": ["C123"],
        "redirect_uri": [CALLBACK],
        "scope": ["spark:people_read spark:kms"],
        "state": [request.state],
        "code_challenge": [request.code_challenge],
        "code_challenge_method": ["S256"],
    }
    assert "scope=spark%3Apeople_read%20spark%3Akms&" in request.url, "a space is %20, not +"


def test_the_code_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    request = make_request(code_verifier=Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))
    assert request.code_challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifier_and_state_are_new_each_time_and_long_enough() -> None:
    requests = [make_request() for _ in range(100)]
    verifiers = [one.code_verifier.get_secret_value() for one in requests]
    assert len({secret for one in requests for secret in (one.state, one.nonce)} | set(verifiers)) == 300
    assert all(re.fullmatch(r"[\w.~-]{43,128}", verifier, re.ASCII) for verifier in verifiers)  # RFC 7636 §4.1
    assert all(len(one.state) * 6 >= 128 for one in requests)


def test_optional_parameters_are_sent_only_if_given() -> None:
    request = make_request("openid", "email", login_hint="a+b@example.com", prompt="select_account")
    query = parse_qs(urlsplit(request.url).query)
    sent = [query[name] for name in ("nonce", "login_hint", "prompt")]
    assert sent == [[request.nonce], ["a+b@example.com"], ["select_account"]]
    assert not re.search("nonce|login_hint|prompt", make_request("openid_like").url)


def test_an_authorize_url_with_a_query_keeps_it() -> None:
    url = make_request(url="https://idbroker.example.com/authorize?org=1").url
    assert url.startswith("https://idbroker.example.com/authorize?org=1&response_type=code&")


def test_a_login_hint_that_is_not_text_is_sent_without_a_traceback() -> None:
    assert make_request(login_hint="\udcff@example.com").url.isascii()


def test_no_repr_shows_a_secret() -> None:
    request = make_request("openid")
    shown = repr(request) + repr(granted("the-code"))
    secrets = (request.state, request.code_verifier.get_secret_value(), request.nonce, "the-code")
    assert not [secret for secret in secrets if secret in shown]


# The response


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        *((query, granted("abc")) for query in (f"code=abc&state={STATE}", f"state={STATE}&code=abc")),
        *((query, granted("abc")) for query in (f"%63ode=abc&st%61te={STATE}", f"&&code=abc&&state={STATE}&&")),
        (f"code=abc&state={STATE}&iss=https%3A%2F%2Fidbroker.webex.com&x=1&x=2", granted("abc")),
        (f"code=abc&error_description=ignored&state={STATE}" + "&x=1" * 98, granted("abc")),
        (f"code=a%2Bb%2F%3D&state={STATE}", granted("a+b/=")),
        (f"code={'c' * 9000}&state={STATE}", granted("c" * 9000)),
        (f"error=access_denied&state={STATE}", AuthorizationResponse(error="access_denied")),
        (f"error=x&error_description=a&error_description=b&state={STATE}", AuthorizationResponse(None, "x", "a")),
        (f"error=x&error_description=&state={STATE}", AuthorizationResponse(None, "x", "")),
    ],
)
def test_a_query_with_this_logins_state_settles_it(query: str, expected: AuthorizationResponse) -> None:
    assert read_response(query, STATE) == expected


WITHOUT, WRONG, NOT_ONE = "without a state", "the wrong state", "exactly one usable code or error"
WITHOUT_STATE = f"code=abc code=abc&STATE={STATE} code=abc&state[]={STATE} code=abc;state={STATE} error=access_denied"
WRONG_STATE = f"""
    code=abc&state code=abc&state= code=abc&state=wrong code=abc&state={STATE}x code=abc&state={STATE[:-1]}
    code=abc&state={STATE.swapcase()} code=abc&state=%00{STATE} code=abc&state={STATE}%20 code=abc&state=+{STATE}
    code=abc&state=%FF%FE code=abc&state=\udcff code=abc&state={STATE}&state={STATE} code=abc&state={STATE}&state=wrong
    code=abc&state=wrong&state={STATE} code=abc&state={STATE}&st%61te= error=access_denied&state=wrong
"""
NOT_ONE_CODE = """
    code=a&code=a code=a&error=b error=a&error=b code=&error=b CODE=a code= error= code=a%00b code=a%0Ab code=%C3%A9
    code=\udcff error=%1B[2J
"""


@pytest.mark.parametrize(
    ("query", "why"),
    [
        *((query, WITHOUT) for query in ["", *WITHOUT_STATE.split()]),
        *((query, WRONG) for query in WRONG_STATE.split()),
        *((f"{query}&state={STATE}", NOT_ONE) for query in ["", *NOT_ONE_CODE.split()]),
        (f"code={'c' * LONGEST_QUERY}&state={STATE}", "overlong"),
        (f"code=abc&state={STATE}" + "&x=1" * 200, "overlong"),
    ],
)
def test_another_query_does_not_settle_it(query: str, why: str) -> None:
    with pytest.raises(NotThisLogin, match=why) as caught:
        read_response(query, STATE)
    assert STATE not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("error=access_denied&error_description=no", "access_denied"),
        *((query, "") for query in ("error=a&code=b", "error=a&state=wrong", f"error=a&state={STATE}&state={STATE}")),
    ],
)
def test_an_error_without_a_state_is_named_but_settles_nothing(query: str, error: str) -> None:
    assert raised(NotThisLogin, read_response, query, STATE).error == error


def test_what_the_server_says_is_safe_to_print() -> None:
    odd = quote("The\n\x1b[31m scope\u202e is " + "x" * 900)
    response = read_response(f"error={'e' * 90}&error_description={odd}&state={STATE}", STATE)
    ignored = raised(NotThisLogin, read_response, f"error={odd}", STATE)
    for text, longest in ((response.error, 60), (response.error_description, 500), (ignored.error, 60)):
        assert text.isprintable()
        assert "\u202e" not in text
        assert 0 < len(text) <= longest


# What people paste

URL = f"{CALLBACK}?code=abc&state={STATE}"


@pytest.mark.parametrize(
    "pasted",
    [
        *(URL, f"  {URL}\r\n", f"<{URL}>", f"'{URL}'", f'"{CALLBACK}?state={STATE}&code=abc"', f"「{URL}」です。"),
        *(f"[link]({URL})", f"{URL}#", f"{URL}#fragment?state=1", f"{CALLBACK}#code=abc&state={STATE}"),
        *(f"{place}?code=abc&state={STATE}" for place in ("http://localhost:9/callback", "127.0.0.1:8765/callback")),
        *(f"{place}?code=abc&state={STATE}" for place in ("https://x.example/proxy/1/callback", "http://[::1]:1/", "")),
        *(f"code=abc&state={STATE}", f"code=abc&state={STATE}.", f"/callback?code=abc&state={STATE}"),
        *(URL.replace("&", "&amp;"), URL.replace("&", "&#38;"), URL.replace("&", "&amp;amp;")),
        *(f"&quot;{URL.replace('&', '&amp;')}&quot;", f"{CALLBACK}?state={STATE}&amp;code=abc"),
        *(quote(URL, safe=""), quote(quote(URL, safe=""), safe="")),
        f"https://nam01.safelinks.example.com/?url={quote(URL, safe='')}&data=05%7C02",
        *(f"This site can't be reached\n{URL}\nERR_CONNECTION_REFUSED", f"Please use {URL} for the login."),
        *(f"{URL[:40]}\n{URL[40:80]}\n{URL[80:]}", f"see\n  {URL[:50]}\n  {URL[50:]}\nbye", f"{URL[:50]}  {URL[50:]}"),
        *(f"{URL[:37]} {URL[37:]}", f"> {URL[:37]}\n> {URL[37:]}", f"{URL[:37]}\\\n{URL[37:]}"),  # within the code
        *(re.sub("[?=&]", r"\\\g<0>", URL), URL.replace("&", r"\u0026"), *(f"{URL}{mark}" for mark in "*_~!:/…»")),
    ],
)
def test_a_pasted_redirect_is_read(pasted: str) -> None:
    assert read_pasted(pasted, URI, STATE) == granted("abc")


@pytest.mark.parametrize(
    ("pasted", "why"),
    [
        *((text, "without code= and state=") for text in ("", "o", "code=abc", CALLBACK)),
        ("https://webexapis.com/v1/people/me", "the URL of another page"),
        (f"https://webexapis.com/v1/authorize?client_id=C&state={STATE}", "the URL of another page"),
        (f"{CALLBACK}?code=abc&state=wrong", WRONG),
        (f"{CALLBACK}?code=abc&state={STATE}&state={STATE}", WRONG),
        (f"{CALLBACK}?state={STATE}", NOT_ONE),
        ("state=&" * 10_000, "overlong"),
    ],
)
def test_other_pasted_text_is_refused_with_the_reason(pasted: str, why: str) -> None:
    with pytest.raises(NotThisLogin, match=why) as caught:
        read_pasted(pasted, URI, STATE)
    assert STATE not in str(caught.value)


@settings(deadline=None)
@given(st.text(st.sampled_from(f"{STATE}?&=%#<>\"' \n;codestateerror://amp"), max_size=300))
def test_any_pasted_text_is_a_response_or_not_this_login(text: str) -> None:
    for pasted in (text, f"{text}?code=abc&state={STATE}", f"code={text}&state={STATE}"):
        said = ""
        try:
            read_pasted(pasted, URI, STATE)
        except NotThisLogin as error:
            said = str(error)
        assert STATE not in said
