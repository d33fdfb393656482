"""Each request to Webex: what is sent, what an answer becomes, and where the access token never goes."""

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from tests.conftest import Log
from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.sandbox import Sandbox
from webex_loopback.secret import Secret
from webex_loopback.webex.account import Account
from webex_loopback.webex.client import Webex

from .conftest import CLIENT_SECRET, CODE, REFRESH_TOKEN, VERIFIER, Asker, answering, failure, listening, saying

TOKEN = {"access_token": "a"}


def served(status: int, body: object, **headers: str) -> tuple[Asker, list[httpx.Request]]:
    """Return a client whose every request gets this answer, and the list of what it sends."""
    sent = []
    content = body if isinstance(body, str) else json.dumps(body)

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(status, content=content, headers=headers)

    return Asker("https://webexapis.com/v1/access_token", http_client=answering(handler)), sent


# Tokens


@pytest.mark.parametrize("status", [200, 201, 203])
def test_a_response_that_is_odd_is_kept_with_a_warning(caplog: Log, status: int) -> None:
    asker, _ = served(status, {"access_token": f" {REFRESH_TOKEN}\n", "expires_in": "soon", "scope": 7})
    assert asker.refresh().access_token == Secret(REFRESH_TOKEN)
    assert "expires_in, scope" in caplog.text
    assert REFRESH_TOKEN not in caplog.text


def test_what_is_sent_is_what_webex_documents() -> None:
    asker, sent = served(200, TOKEN)
    asker.exchange()
    asker.refresh()
    assert sent[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert sent[0].headers["User-Agent"].startswith("webex-loopback/")
    assert sent[0].headers["Accept"] == "application/json"
    assert "Authorization" not in sent[0].headers
    credentials = {"client_id": ["C123"], "client_secret": [CLIENT_SECRET]}
    exchange, refresh = (parse_qs(request.content.decode(), keep_blank_values=True) for request in sent)
    assert exchange == credentials | {
        "grant_type": ["authorization_code"],
        "code": [CODE],
        "code_verifier": [VERIFIER],
        "redirect_uri": ["http://127.0.0.1/callback"],
    }
    assert refresh == credentials | {"grant_type": ["refresh_token"], "refresh_token": [REFRESH_TOKEN]}


AGAIN = [  # fault, how often a refresh is sent
    *(("429:0", 2), ("429:1", 2), ("429:3", 1), ("429:3600", 1), ("429:", 1), ("429:rand(30),add(30)", 1)),
    *(("500", 1), ("502", 1), ("503", 1), ("504", 1), ("empty400", 1), ("html", 1), ("huge", 1), ("truncated", 1)),
    *(("reset", 1), ("reset_body", 1)),
]


@pytest.mark.parametrize(("fault", "refreshes"), AGAIN)
def test_only_a_busy_server_gets_a_refresh_twice_and_none_a_code(
    sandbox: Sandbox, asker: Asker, fault: str, refreshes: int
) -> None:
    sandbox.switches.fault = fault
    error = failure(asker.refresh)
    assert sandbox.count("refresh_token") == refreshes
    assert not isinstance(error, TokenEndpointError) or error.meaning == "passing"
    failure(asker.exchange)
    assert sandbox.count("authorization_code") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_for_a_moment_is_not_noticed(sandbox: Sandbox, asker: Asker, status: int) -> None:
    sandbox.answer("/v1/access_token", status, headers={"Retry-After": "1"})
    sandbox.answer("/v1/access_token", body=TOKEN)
    started = time.monotonic()
    assert asker.refresh().access_token == Secret("a")
    assert time.monotonic() - started >= 1


def test_a_wait_is_within_the_time_limit() -> None:
    asker, sent = served(429, "", **{"Retry-After": "2"})
    asker.seconds = 1
    assert isinstance(failure(asker.refresh), TokenEndpointError)
    assert len(sent) == 1


ASK: dict[str, Callable[[Asker], object]] = {
    "exchange": Asker.exchange,
    "device": lambda asker: asker.webex().device_authorization(client_id="C", scope="s"),
    "poll": lambda asker: asker.webex().device_token(client_id="C", client_secret=Secret(), device_code=Secret(CODE)),
    "person": lambda asker: asker.webex().people_me(Secret("a")),
}


@pytest.mark.parametrize(
    ("ask", "status", "body", "words"),
    [
        *((ask, 200, "<h1>Welcome to the hotel</h1>", "not valid JSON") for ask in ("exchange", "device")),
        ("exchange", 200, "{}", "has no access_token"),
        ("exchange", 200, {"access_token": f"{REFRESH_TOKEN} {CODE}"}, "has an unusable access_token"),
        ("exchange", 204, "", "not valid JSON"),
        *(("exchange", status, "", f"answered {status}, which this endpoint never does") for status in (302, 511)),
        ("device", 200, {"device_code": CODE, "user_code": "u"}, "without verification_uri"),
        ("device", 200, {"device_code": CODE, "user_code": 5, "verification_uri": "x"}, "without user_code"),
        *(("person", 200, body, "") for body in ("[]", "{", "null", "<html>")),
    ],
)
def test_what_is_not_webex_is_named_with_the_remedy(ask: str, status: int, body: object, words: str) -> None:
    asker, sent = served(status, body, Location="/v1/people/me")
    error = failure(lambda: ASK[ask](asker))
    assert isinstance(error, ServerUnreachable)
    assert words in str(error)
    assert ("sign in to the network" in error.remedy) is ("without" not in words)
    assert len(sent) == 1, "no redirect is followed"


@pytest.mark.parametrize(
    ("ask", "status", "code"), [("exchange", 200, "x"), ("poll", 400, "access_denied"), ("person", 401, "")]
)
def test_an_error_is_an_error_whatever_its_status(ask: str, status: int, code: str) -> None:
    asker, _ = served(status, {"error": code, "error_description": "Bad."})
    error = failure(lambda: ASK[ask](asker))
    assert isinstance(error, TokenEndpointError)
    assert (error.status_code, error.error) == (status, code)
    assert "network" not in error.remedy


def test_probing_sends_no_secret() -> None:
    with listening(saying(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")) as (origin, came):
        with Webex.of(Asker(f"{origin}/v1/access_token"), profile="work") as webex:  # has the three attributes
            assert (webex.probe(), webex.profile) == (405, "work")
        assert came[0].startswith(b"HEAD /v1/access_token ")


def test_the_tokens_of_a_service_app_are_fetched_with_another_profiles_token() -> None:
    asker, (sent) = served(200, TOKEN)
    ids, secret = {"app_id": "a/b", "client_id": "C", "org_id": "O"}, Secret(CLIENT_SECRET)
    tokens = asker.webex().application_token(**ids, client_secret=secret, bearer=Secret("t"))  # type: ignore[arg-type]
    assert tokens == TokenResponse(Secret("a"))
    assert str(sent[0].url) == "https://webexapis.com/v1/applications/a%2Fb/token"
    assert sent[0].headers["Authorization"] == "Bearer t"
    assert json.loads(sent[0].content) == {"clientId": "C", "clientSecret": CLIENT_SECRET, "targetOrgId": "O"}


@pytest.mark.parametrize(
    ("status", "body", "read"),
    [
        *((428, body, "authorization_pending") for body in ("", {"error": "authorization_pending"})),
        (400, {"error": "authorization_pending"}, "authorization_pending"),
        (400, {"message": "x", "errors": [{"description": "authorization_pending"}]}, "authorization_pending"),
        *((status, {"error": "slow_down"}, "slow_down") for status in (400, 428, 429)),
        (429, "", "slow_down"),
        (200, TOKEN, TokenResponse(Secret("a"))),
    ],
)
def test_polls_of_a_device_grant(status: int, body: object, read: object) -> None:
    asker, sent = served(status, body)
    poll = {"client_id": "C:1", "client_secret": Secret("s/é"), "device_code": Secret(CODE)}
    assert asker.webex().device_token(**poll) == read  # type: ignore[arg-type]
    assert sent[0].headers["Authorization"] == "Basic QyUzQTE6cyUyRiVDMyVBOQ=="
    assert "client_secret" not in sent[0].content.decode()


def test_the_start_of_a_device_grant() -> None:
    body = {"device_code": CODE, "user_code": "u", "verification_uri": "x", "interval": 2}
    asker, sent = served(200, body)
    assert asker.webex().device_authorization(client_id="C", scope="a b") == body
    assert (sent[0].url.path, sent[0].content) == ("/v1/device/authorize", b"client_id=C&scope=a+b")


# The API


def test_people_me() -> None:
    bodies: list[object] = [{}, {"emails": []}, {"displayName": ["x"], "emails": 5, "id": None}]
    bodies += [{"displayName": "[/]\x1b[31m\n山田 花子", "emails": ["a@b", "c"], "id": "i"}]
    read = [served(200, body)[0].webex().people_me(Secret("a")) for body in bodies]
    assert read == [*[Account()] * 3, Account("[/][31m 山田 花子", "a@b", "i")]


@pytest.mark.parametrize("path", ["messages?x=1", "/messages?x=1", "https://webexapis.com/v1/messages?x=1"])
def test_an_api_call_follows_no_redirect(path: str) -> None:
    asker, sent = served(302, "the-body", Location="http://evil.example/")
    parts: Any = {"headers": {"Accept": "text/plain", "X-Empty": ""}, "json": {"a": 1}}
    answer = asker.webex().call("POST", path.replace("https", "HTTPS"), bearer=Secret("t"), **parts)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://evil.example/")
    assert "the-body" not in repr(answer)
    assert asker.webex().error(answer).status_code == 302
    (request,) = sent
    assert (str(request.url), request.content) == ("https://webexapis.com/v1/messages?x=1", b'{"a":1}')
    assert request.headers.get_list("Accept") == ["text/plain"]
    assert (request.headers["Authorization"], request.headers["X-Empty"]) == ("Bearer t", "")


ELSEWHERE = """
    http://webexapis.com/v1/people/me https://webexapis.com:444/v1/people/me https://webexapis.com./v1/people/me
    https://webexapis.com.evil.example/v1 https://webexapis.com@evil.example/v1 https://me@webexapis.com/v1
    https://me:pw@webexapis.com/v1 https://evil.example\\@webexapis.com/v1 https://[webexapis.com/v1
    https://webexapis.com:port/v1 ftp://webexapis.com/v1 //evil.example/v1 ../people/me people/../../admin
    people/%2e%2E/admin people/%252e%252e/admin people/..%2fadmin people/..;/admin https://webexapis.com/v1/../admin
    people\\me people/\0 people/\u202eme\x1b[2J
"""
HEADERS = [("Authorization", "Bearer x"), ("HOST", "evil.example"), ("Cookie", "a=b"), ("Content-Length", "1")]
HEADERS += [(name, "1") for name in ("X One", "", "X:", "X-É", "X\n")] + [("X", v) for v in ("a\r\nB: c", "é", "\0")]


@pytest.mark.parametrize(
    ("path", "headers"),
    [*((path, {}) for path in [*ELSEWHERE.split(), "people/me\r\nX: 1"]), *(("x", {n: v}) for n, v in HEADERS)],
)
def test_the_token_goes_nowhere_else_and_no_header_is_forged(path: str, headers: dict[str, str]) -> None:
    asker, sent = served(200, "")
    error = failure(lambda: asker.webex().call("GET", path, bearer=Secret("t"), headers=headers))
    assert isinstance(error, ConfigurationError)
    assert str(error).isprintable()
    assert sent == []


@pytest.mark.parametrize("token", ["", f"{REFRESH_TOKEN}\n", f"{REFRESH_TOKEN} é", "\udcff"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(token: str) -> None:
    bearer = Secret(token)
    del token
    assert isinstance(failure(lambda: served(200, "")[0].webex().people_me(bearer)), ConfigurationError)
