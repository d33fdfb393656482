"""The authorization request as it goes out, and what counts as its answer."""

import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from webex_loopback.authorization import (
    LONGEST_QUERY,
    AuthorizationRequest,
    AuthorizationResponse,
    NotThisLogin,
    RedirectURI,
    printable,
    read_pasted,
    read_response,
)
from webex_loopback.errors import ConfigurationError

STATE = "s7jSVUQhd9ZZrSaXDzq0TDpuZn2lZNwIMcH1nLsk0xM"
CALLBACK = "http://127.0.0.1:8765/callback"


def make_request(
    *scopes: str, authorize_url: str = "https://webexapis.com/v1/authorize", **others: Any
) -> AuthorizationRequest:
    return AuthorizationRequest(authorize_url, "C123", CALLBACK, scopes or ("spark:people_read", "spark:kms"), **others)


# The request


def test_the_url_holds_what_the_rfcs_and_webex_ask_for() -> None:
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


def test_spaces_between_scopes_are_percent_encoded() -> None:
    url = make_request().url
    assert "scope=spark%3Apeople_read%20spark%3Akms&" in url
    assert "+" not in url


def test_the_code_challenge_is_that_of_rfc_7636_appendix_b() -> None:
    request = make_request(code_verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert request.code_challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_verifier_and_state_are_new_each_time_and_long_enough() -> None:
    requests = [make_request() for _ in range(100)]
    secrets = {secret for one in requests for secret in (one.state, one.code_verifier, one.nonce)}
    assert len(secrets) == 300
    assert all(re.fullmatch(r"[\w.~-]{43,128}", one.code_verifier, re.ASCII) for one in requests)  # RFC 7636 §4.1
    assert all(len(one.state) * 6 >= 128 for one in requests)


def test_a_nonce_goes_with_openid_only() -> None:
    request = make_request("openid", "email")
    assert parse_qs(urlsplit(request.url).query)["nonce"] == [request.nonce]
    assert "nonce=" not in make_request("openid_like").url


def test_login_hint_and_prompt_are_sent_when_given() -> None:
    query = parse_qs(urlsplit(make_request(login_hint="a+b@example.com", prompt="select_account").url).query)
    assert query["login_hint"] == ["a+b@example.com"]
    assert query["prompt"] == ["select_account"]
    assert "login_hint" not in make_request().url
    assert "prompt" not in make_request().url


def test_an_authorize_url_with_a_query_keeps_it() -> None:
    url = make_request(authorize_url="https://idbroker.example.com/authorize?org=1").url
    assert url.count("?") == 1
    assert parse_qs(urlsplit(url).query)["org"] == ["1"]
    assert parse_qs(urlsplit(url).query)["response_type"] == ["code"]


def test_no_repr_holds_a_secret() -> None:
    request = make_request("openid")
    shown = repr(request) + str(request)
    assert not [secret for secret in (request.state, request.code_verifier, request.nonce) if secret in shown]
    assert "the-code" not in repr(AuthorizationResponse(code="the-code"))


# The redirect URI


@pytest.mark.parametrize(
    ("text", "origin", "hosts", "port", "path"),
    [
        (CALLBACK, "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/callback"),
        ("http://127.0.0.1", "http://127.0.0.1", ("127.0.0.1",), 80, "/"),
        ("https://127.0.0.1/", "https://127.0.0.1", ("127.0.0.1",), 443, "/"),
        ("https://127.0.0.1:80/", "https://127.0.0.1:80", ("127.0.0.1",), 80, "/"),
        ("http://127.1.2.3:9/a/b%20c", "http://127.1.2.3:9", ("127.1.2.3",), 9, "/a/b%20c"),
        ("http://localhost:8080/oauth", "http://localhost:8080", ("127.0.0.1", "::1"), 8080, "/oauth"),
        ("http://LocalHost:8080/oauth", "http://localhost:8080", ("127.0.0.1", "::1"), 8080, "/oauth"),
        ("https://[::1]:8443/cb", "https://[::1]:8443", ("::1",), 8443, "/cb"),
        ("http://[0:0:0:0:0:0:0:1]:81/", "http://[0:0:0:0:0:0:0:1]:81", ("0:0:0:0:0:0:0:1",), 81, "/"),
        ("http://127.0.0.1:8765/cb?from=webex", "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/cb"),
        ("http://127.0.0.1:8765/.well-known/cb", "http://127.0.0.1:8765", ("127.0.0.1",), 8765, "/.well-known/cb"),
    ],
)
def test_a_loopback_redirect_uri_is_taken_apart(
    text: str, origin: str, hosts: tuple[str, ...], port: int, path: str
) -> None:
    uri = RedirectURI.parse(text)
    assert (uri.text, uri.origin, uri.hosts, uri.port, uri.path) == (text, origin, hosts, port, path)
    assert uri.secure is text.startswith("https")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "callback",
        "127.0.0.1:8765/callback",
        "//127.0.0.1:8765/callback",
        "ftp://127.0.0.1/callback",
        "javascript:alert(1)",
        "http://",
        "http:///callback",
        "http://0.0.0.0:8765/callback",
        "http://[::]:8765/callback",
        "http://192.168.1.10:8765/callback",
        "http://128.0.0.1:8765/callback",
        "http://example.com:8765/callback",
        "http://localhost.example.com:8765/callback",
        "http://127.0.0.1.nip.io:8765/callback",
        "http://localhost.:8765/callback",
        "http://127.1:8765/callback",
        "http://2130706433:8765/callback",
        "http://0x7f000001/callback",
        "http://0177.0.0.1/callback",
        "http://[::ffff:127.0.0.1]:8765/callback",
        "http://[::1%25lo]:8765/callback",
        "http://[::1:8765/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:-1/callback",
        "http://127.0.0.1:8_765/callback",
        "http://127.0.0.1:port/callback",
        "http://127.0.0.1:８７６５/callback",
        "http://127.0.0.1:8765/callback#fragment",
        "http://127.0.0.1:8765/callback#",
        "http://user@127.0.0.1:8765/callback",
        "http://user:password@127.0.0.1:8765/callback",
        "http://127.0.0.1:8765@example.com/callback",
        "http://127.0.0.1:8765\\@example.com/callback",
        "http://127.0.0.1:8765/call back",
        "http://127.0.0.1:8765/callback\n",
        "\thttp://127.0.0.1:8765/callback",
        "http://127.0.0.1:8765/\x7f",
        "http://127.0.0.1:8765/<b>",
        "http://127.0.0.1:8765/コールバック",
        "http://127.0.0.1:8765/a/../callback",
        "http://127.0.0.1:8765/a/%2E%2e/callback",
        "http://127.0.0.1:8765/./callback",
        "http://127.0.0.1:8765/callback/..",
    ],
)
def test_another_redirect_uri_is_refused_with_what_to_set(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedirectURI.parse(text)
    assert caught.value.setting == "WEBEX_REDIRECT_URI"
    assert "WEBEX_REDIRECT_URI" in caught.value.remedy
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://[::1:8765/callback", "is not a URL"),
        ("ftp://127.0.0.1/callback", "must begin with http"),
        ("http://127.0.0.1:8765/callback#fragment", "has a fragment"),
        ("http://127.0.0.1:8765/a/../callback", "is not one that a browser would open"),
        ("http://127.0.0.1:0/callback", "has port 0"),
        ("http://192.168.1.10:8765/callback", "is not on a loopback host"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_it(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        RedirectURI.parse(text)


def test_a_refused_redirect_uri_is_not_quoted_at_length() -> None:
    with pytest.raises(ConfigurationError) as caught:
        RedirectURI.parse("ftp://" + "x" * 100_000)
    assert len(str(caught.value)) < 400


# The response: the decision table


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"code=abc&state={STATE}", AuthorizationResponse(code="abc")),
        (f"state={STATE}&code=abc", AuthorizationResponse(code="abc")),
        (f"code=a%2Bb%2F%3D&state={STATE}", AuthorizationResponse(code="a+b/=")),
        (f"%63ode=abc&st%61te={STATE}", AuthorizationResponse(code="abc")),
        (f"code=abc&state={STATE}&iss=https%3A%2F%2Fidbroker.webex.com&x=1&x=2", AuthorizationResponse(code="abc")),
        (f"&&code=abc&&state={STATE}&&", AuthorizationResponse(code="abc")),
        (f"code={'c' * 9000}&state={STATE}", AuthorizationResponse(code="c" * 9000)),
        (f"code=abc&error_description=ignored&state={STATE}", AuthorizationResponse(code="abc")),
        (f"error=access_denied&state={STATE}", AuthorizationResponse(error="access_denied")),
        (
            f"error=invalid_scope&error_description=The%20scope%0A+is%1B[31m+unknown%E2%80%AE&state={STATE}",
            AuthorizationResponse(error="invalid_scope", error_description="The scope  is [31m unknown "),
        ),
        (f"error=x&error_description=a&error_description=b&state={STATE}", AuthorizationResponse("", "x", "a")),
        (f"error=x&error_description=&state={STATE}", AuthorizationResponse("", "x", "")),
    ],
)
def test_a_query_with_this_logins_state_settles(query: str, expected: AuthorizationResponse) -> None:
    assert read_response(query, STATE) == expected


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("", "without a state"),
        ("code=abc", "without a state"),
        ("code=abc&state", "foreign state"),
        ("code=abc&state=", "foreign state"),
        ("code=abc&state=wrong", "foreign state"),
        (f"code=abc&state={STATE}x", "foreign state"),
        (f"code=abc&state={STATE[:-1]}", "foreign state"),
        (f"code=abc&state={STATE.swapcase()}", "foreign state"),
        (f"code=abc&state=%00{STATE}", "foreign state"),
        (f"code=abc&state={STATE}%00", "foreign state"),
        (f"code=abc&state={STATE}%20", "foreign state"),
        (f"code=abc&state=+{STATE}", "foreign state"),
        ("code=abc&state=%FF%FE", "foreign state"),
        ("code=abc&state=\udcff", "foreign state"),
        (f"code=abc&STATE={STATE}", "without a state"),
        (f"code=abc&state[]={STATE}", "without a state"),
        (f"code=abc;state={STATE}", "without a state"),
        (f"code=abc&state={STATE}&state={STATE}", "more than one state"),
        (f"code=abc&state={STATE}&state=wrong", "more than one state"),
        (f"code=abc&state=wrong&state={STATE}", "more than one state"),
        (f"code=abc&state={STATE}&st%61te=", "more than one state"),
        (f"error=access_denied&state={STATE}&state={STATE}", "more than one state"),
        ("error=access_denied&state=wrong", "foreign state"),
        ("error=access_denied", "without a state"),
        (f"state={STATE}", "exactly one code or error"),
        (f"code=a&code=b&state={STATE}", "exactly one code or error"),
        (f"code=a&code=a&state={STATE}", "exactly one code or error"),
        (f"code=a&error=b&state={STATE}", "exactly one code or error"),
        (f"error=a&error=b&state={STATE}", "exactly one code or error"),
        (f"code=&error=b&state={STATE}", "exactly one code or error"),
        (f"CODE=a&state={STATE}", "exactly one code or error"),
        (f"code=&state={STATE}", "unusable"),
        (f"code&state={STATE}", "unusable"),
        (f"error=&state={STATE}", "unusable"),
        (f"code=%00&state={STATE}", "unusable"),
        (f"code=a%00b&state={STATE}", "unusable"),
        (f"code=a%0Ab&state={STATE}", "unusable"),
        (f"code=%FF&state={STATE}", "unusable"),
        (f"code=%C3%A9&state={STATE}", "unusable"),
        (f"code=\udcff&state={STATE}", "unusable"),
        (f"error=%1B[2J&state={STATE}", "unusable"),
        (f"code={'c' * LONGEST_QUERY}&state={STATE}", "too long"),
        (f"code=abc&state={STATE}" + "&x=1" * 200, "too many fields"),
    ],
)
def test_another_query_does_not_settle(query: str, why: str) -> None:
    with pytest.raises(NotThisLogin, match=why) as caught:
        read_response(query, STATE)
    assert STATE not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("error=access_denied", "access_denied"),
        ("error=access_denied&error_description=no", "access_denied"),
        ("error=" + "x" * 1000, "x" * 59 + "…"),
        ("error=%1B[2Jbad%0D%0A%E2%80%AE", " [2Jbad   "),
        ("error=one&error=two", ""),
        ("error=one&code=two", ""),
        ("error=access_denied&state=wrong", ""),
        (f"error=access_denied&state={STATE}&state={STATE}", ""),
        ("code=abc", ""),
    ],
)
def test_an_error_without_a_state_is_named_but_settles_nothing(query: str, error: str) -> None:
    with pytest.raises(NotThisLogin) as caught:
        read_response(query, STATE)
    assert caught.value.error == error


def test_the_limits_are_these_and_no_less() -> None:
    longest = f"state={STATE}&code="
    longest += "c" * (LONGEST_QUERY - len(longest))
    assert read_response(longest, STATE).code.startswith("ccc")
    with pytest.raises(NotThisLogin, match="too long"):
        read_response(longest + "c", STATE)
    most = f"code=abc&state={STATE}" + "&x=1" * 98
    assert read_response(most, STATE).code == "abc"
    with pytest.raises(NotThisLogin, match="too many fields"):
        read_response(f"{most}&x=1", STATE)
    told = read_response(f"error={'e' * 61}&error_description={'d' * 501}&state={STATE}", STATE)
    assert (told.error, told.error_description) == ("e" * 59 + "…", "d" * 499 + "…")
    whole = AuthorizationResponse(error="e" * 60, error_description="d" * 500)
    assert (
        read_response(f"error={whole.error}&error_description={whole.error_description}&state={STATE}", STATE) == whole
    )


# What is pasted


@pytest.mark.parametrize(
    "pasted",
    [
        f"{CALLBACK}?code=abc&state={STATE}",
        f"  {CALLBACK}?code=abc&state={STATE}\r\n",
        f"<{CALLBACK}?code=abc&state={STATE}>",
        f"'{CALLBACK}?code=abc&state={STATE}'",
        f'"{CALLBACK}?state={STATE}&code=abc"',
        f"{CALLBACK}?code=abc&state={STATE}#",
        f"{CALLBACK}?code=abc&state={STATE}#fragment?state=1",
        f"http://localhost:9/callback?code=abc&state={STATE}",
        f"https://127.0.0.1/callback?code=abc&state={STATE}",
        f"127.0.0.1:8765/callback?code=abc&state={STATE}",
        f"/callback?code=abc&state={STATE}",
        f"?code=abc&state={STATE}",
        f"code=abc&state={STATE}",
    ],
)
def test_a_pasted_address_is_read(pasted: str) -> None:
    assert read_pasted(pasted, RedirectURI.parse(CALLBACK), STATE) == AuthorizationResponse(code="abc")


def test_the_address_of_a_redirect_uri_without_a_path_is_read() -> None:
    for path in ("", "/"):
        uri = RedirectURI.parse(f"https://127.0.0.1{path}")
        assert read_pasted(f"https://127.0.0.1/?code=abc&state={STATE}", uri, STATE).code == "abc"
        assert read_pasted(f"https://127.0.0.1?code=abc&state={STATE}", uri, STATE).code == "abc"


@pytest.mark.parametrize(
    ("pasted", "why"),
    [
        ("", "not the whole address"),
        ("abc", "not the whole address"),
        ("code=abc", "not the whole address"),
        (CALLBACK, "not the whole address"),
        (f"{CALLBACK}?code=abc", "not the whole address"),
        (f"{CALLBACK}?code=abc&state=wrong", "foreign state"),
        (f"{CALLBACK}?code=abc&state={STATE}&state={STATE}", "more than one state"),
        (f"{CALLBACK}?state={STATE}", "exactly one code"),
        (f"{CALLBACK}?code={'c' * 70_000}&state={STATE}", "too long"),
        (f"{CALLBACK}#code=abc&state={STATE}", "another page|not the whole address"),
        (f"https://webexapis.com/v1/authorize?state={STATE}", "another page"),
        (f"http://127.0.0.1:8765/start/nonce?code=abc&state={STATE}", "another page"),
        (f"http://127.0.0.1:8765?code=abc&state={STATE}", "another page"),
        (f"http://[?code=abc&state={STATE}", "another page"),
        (f"http://[::1/callback?code=abc&state={'x' * 43}", "foreign state"),
        (f"file:///callback?code=abc&state={STATE}", "not a web address"),
        (f"javascript://x/callback?code=abc&state={STATE}", "not a web address"),
    ],
)
def test_what_else_is_pasted_is_refused_with_a_reason(pasted: str, why: str) -> None:
    with pytest.raises(NotThisLogin, match=why) as caught:
        read_pasted(pasted, RedirectURI.parse(CALLBACK), STATE)
    assert STATE not in str(caught.value)


def test_text_from_outside_is_cut_and_moves_no_cursor() -> None:
    assert printable("a\x1b[2J\r\nb\u202e\u2028c", 100) == "a [2J  b  c"
    assert printable("x" * 11, 10) == "x" * 9 + "…"
    assert printable("日本語", 3) == "日本語"
    assert printable(quote("\udcff", errors="replace"), 10) == "%3F"
