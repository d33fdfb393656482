"""Each request to Webex: what is sent, what an answer becomes, and where the access token never goes."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from webex_loopback.oauth.authorization import AuthorizationRequest, read_response
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.webex.account import Account
from webex_loopback.webex.client import Webex

from .conftest import CLIENT_SECRET, CODE, REFRESH_TOKEN, VERIFIER, Asker, answering, failure, listening, saying

SCOPES = ("spark:people_read", "spark:messages_write", "spark:applications_token")


def log_in(sandbox: Sandbox, asker: Asker, *scopes: str) -> TokenResponse:
    """Let a person approve, and exchange the code that arrives at the sandbox's home page."""
    redirect_uri = f"{sandbox.origin}/"
    sandbox.redirect_uris.append(redirect_uri)
    request = AuthorizationRequest(f"{sandbox.base_url}/authorize", asker.client_id, redirect_uri, scopes or SCOPES)
    response = read_response(urlsplit(Person().visit(request.url).url).query, request.state)
    return asker.exchange(response.code, request.code_verifier, redirect_uri)


@pytest.fixture
def webex(asker: Asker) -> Iterator[Webex]:
    with asker.webex() as client:
        yield client


# Tokens


def test_a_login_and_a_renewal(sandbox: Sandbox, asker: Asker) -> None:
    sandbox.switches.rotation = True
    first = log_in(sandbox, asker)
    assert first.refresh_token is not None
    assert first.scope == list(SCOPES)
    second = asker.refresh(first.refresh_token)
    assert second.access_token != first.access_token
    assert second.refresh_token not in (None, first.refresh_token)


@pytest.mark.parametrize("status", [200, 201, 203])
def test_a_response_that_is_odd_is_kept_with_a_warning(
    sandbox: Sandbox, asker: Asker, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    body = {"access_token": f" {REFRESH_TOKEN}\n", "expires_in": "soon", "scope": 7}
    sandbox.answer("/v1/access_token", status, body)
    response = asker.refresh()
    assert response.access_token == Secret(REFRESH_TOKEN)
    assert "expires_in, scope" in caplog.text
    assert REFRESH_TOKEN not in caplog.text


def test_what_is_sent_is_what_webex_documents() -> None:
    sent = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append((request, parse_qs(request.content.decode(), keep_blank_values=True)))
        return httpx.Response(200, json={"access_token": "a"})

    asker = Asker("https://webexapis.com/v1/access_token", http_client=answering(handler))
    asker.exchange()
    asker.refresh()
    (first, exchange), (_, refresh) = sent
    assert first.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert first.headers["User-Agent"].startswith("webex-loopback/")
    assert first.headers["Accept"] == "application/json"
    assert "Authorization" not in first.headers
    credentials = {"client_id": ["C123"], "client_secret": [CLIENT_SECRET]}
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
    sandbox.answer("/v1/access_token", body={"access_token": "a"})
    started = time.monotonic()
    assert asker.refresh().access_token == Secret("a")
    assert time.monotonic() - started >= 1


def test_a_wait_is_within_the_time_limit(sandbox: Sandbox, asker: Asker) -> None:
    sandbox.switches.fault = "429:2"
    asker.seconds = 1
    assert isinstance(failure(asker.refresh), TokenEndpointError)
    assert sandbox.count("refresh_token") == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<h1>Welcome to the hotel</h1>", "not a JSON object"),
        (200, "{}", "has no access_token"),
        (200, json.dumps({"access_token": f"{REFRESH_TOKEN} {CODE}"}), "has an unusable access_token"),
        (204, "", "not a JSON object"),
        (302, "", "answered 302, which this endpoint never does"),
        (511, "<html>", "answered 511, which this endpoint never does"),
    ],
)
def test_what_is_not_webex_is_named_with_the_remedy(
    sandbox: Sandbox, asker: Asker, status: int, body: str, words: str
) -> None:
    sandbox.answer("/v1/access_token", status, body, headers={"Location": "/v1/people/me"})
    error = failure(asker.exchange)
    assert isinstance(error, ServerUnreachable)
    assert words in str(error)
    assert "sign in to the network" in error.remedy
    assert len(sandbox.requests) == 1, "no redirect is followed"


def test_an_error_with_status_200_is_an_error(sandbox: Sandbox, asker: Asker) -> None:
    sandbox.answer("/v1/access_token", 200, {"error": "x", "error_description": "Bad code."})
    error = failure(asker.exchange)
    assert isinstance(error, TokenEndpointError)
    assert error.status_code == 200
    assert "network" not in error.remedy


def test_probing_sends_no_secret() -> None:
    with listening(saying(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")) as (origin, came):
        with Webex.of(Asker(f"{origin}/v1/access_token"), profile="work") as webex:  # has the three attributes
            assert (webex.probe(), webex.profile) == (405, "work")
        assert came[0].startswith(b"HEAD /v1/access_token ")


# Service Apps


def application_token(sandbox: Sandbox, webex: Webex, bearer: Secret, **others: str) -> TokenResponse:
    given: dict[str, Any] = {
        "app_id": sandbox.service_app_id,
        "client_id": sandbox.service_app_client_id,
        "org_id": sandbox.org_id,
    }
    secret = Secret(sandbox.service_app_client_secret)
    return webex.application_token(**(given | others), client_secret=secret, bearer=bearer)


def test_the_tokens_of_a_service_app(sandbox: Sandbox, asker: Asker, webex: Webex) -> None:
    bearer = log_in(sandbox, asker).access_token
    tokens = application_token(sandbox, webex, bearer)
    assert tokens.refresh_token
    asker.client_id, asker.client_secret = sandbox.service_app_client_id, Secret(sandbox.service_app_client_secret)
    assert asker.refresh(tokens.refresh_token).access_token


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({"org_id": "x"}, "organization ID"), ({"app_id": "a/../b"}, "app ID"), ({"client_id": ""}, "CLIENT_ID")),
        *(({"authorized": "no"}, "Control Hub"), ({"scope": "no"}, "applications_token"), ({"bearer": "no"}, "log in")),
    ],
)
def test_a_service_app_that_gets_no_tokens(
    sandbox: Sandbox, asker: Asker, webex: Webex, change: dict[str, str], words: str
) -> None:
    sandbox.switches.service_app_authorized = "authorized" not in change
    scopes = SCOPES[:1] if "scope" in change else SCOPES
    bearer = Secret("wrong") if "bearer" in change else log_in(sandbox, asker, *scopes).access_token
    given = {name: value for name, value in change.items() if value != "no"}
    with pytest.raises(TokenEndpointError) as caught:
        application_token(sandbox, webex, bearer, **given)
    assert words in caught.value.remedy


# Device grant


@pytest.mark.parametrize("pending_status", [428, 400])
def test_a_device_grant(sandbox: Sandbox, asker: Asker, webex: Webex, pending_status: int) -> None:
    sandbox.switches.update({"pending_status": pending_status, "device_interval": 0})
    device = webex.device_authorization(client_id=sandbox.client_id, scope="spark:people_read")

    def poll() -> TokenResponse | str:
        code, secret = Secret(device["device_code"]), Secret(sandbox.client_secret)
        return webex.device_token(client_id=sandbox.client_id, client_secret=secret, device_code=code)

    assert poll() == "authorization_pending"
    sandbox.switches.device_faults = ["429"]
    assert poll() == "slow_down"
    Person().approve_device(device["verification_uri"], device["user_code"])
    tokens = poll()
    assert isinstance(tokens, TokenResponse)
    assert tokens.scope == ["spark:people_read"]
    assert {request.client_auth for request in sandbox.requests if request.path.endswith("/token")} == {"basic"}


@pytest.mark.parametrize("shape", [1, 2])
def test_a_device_that_polls_too_fast_or_is_refused(sandbox: Sandbox, webex: Webex, shape: int) -> None:
    def device(interval: float) -> Iterator[TokenResponse | str]:
        sandbox.switches.update({"error_shape": shape, "pending_status": 400, "device_interval": interval})
        device = webex.device_authorization(client_id=sandbox.client_id, scope="spark:people_read")
        code, secret = Secret(device["device_code"]), Secret(sandbox.client_secret)
        while True:
            yield webex.device_token(client_id=sandbox.client_id, client_secret=secret, device_code=code)
            Person(decision="decline").approve_device(device["verification_uri"], device["user_code"])

    fast, patient = device(60), device(0)
    assert [next(fast), next(fast)] == ["authorization_pending", "slow_down"]
    assert next(patient) == "authorization_pending"
    with pytest.raises(TokenEndpointError) as caught:
        next(patient)
    assert caught.value.error == "access_denied"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<h1>Welcome</h1>", "not a JSON object"),
        ({"device_code": CODE, "user_code": "u"}, "without verification_uri"),
        ({"device_code": CODE, "user_code": 5, "verification_uri": "x"}, "without user_code"),
    ],
)
def test_an_unusable_device_authorization(
    sandbox: Sandbox, webex: Webex, body: str | dict[str, str], words: str
) -> None:
    sandbox.answer("/v1/device/authorize", 200, body)
    error = failure(lambda: webex.device_authorization(client_id="C", scope="s"))
    assert isinstance(error, ServerUnreachable)
    assert words in str(error)


# The API


def test_people_me(sandbox: Sandbox, asker: Asker, webex: Webex) -> None:
    account = webex.people_me(log_in(sandbox, asker).access_token)
    assert (account.name, account.email) == ("Alex Morgan", Person().email)
    with pytest.raises(TokenEndpointError) as caught:
        webex.people_me(Secret("wrong"))
    assert caught.value.status_code == 401


@pytest.mark.parametrize(
    ("body", "account"),
    [
        *((body, None) for body in ("[]", "{", "null", "<html>")),
        *(({}, Account()), ({"emails": []}, Account()), ({"displayName": ["x"], "emails": 5, "id": None}, Account())),
        (
            {"displayName": "[/]\x1b[31m\n山田 花子", "emails": ["a@b", "c"], "id": "i"},
            Account("[/][31m 山田 花子", "a@b", "i"),
        ),
    ],
)
def test_an_odd_person(sandbox: Sandbox, webex: Webex, body: str | dict[str, object], account: Account | None) -> None:
    sandbox.answer("/v1/people/me", 200, body)
    if account is not None:
        assert webex.people_me(Secret("a")) == account
    else:
        with pytest.raises(ServerUnreachable):
            webex.people_me(Secret("a"))


def test_api_calls(sandbox: Sandbox, asker: Asker, webex: Webex) -> None:
    bearer = log_in(sandbox, asker).access_token
    message = {"toPersonEmail": "a@example.com", "text": "héllo"}
    urls = (f"{sandbox.base_url}/messages", sandbox.base_url.replace("h", "H") + "/messages")
    for path in ("messages", "/messages", *urls):
        answer = webex.call("POST", path, bearer=bearer, json=message)
        assert answer.status_code == 200
        assert json.loads(answer.body)["text"] == "héllo"
        assert answer.body.decode() not in repr(answer)
    assert webex.call("GET", "people/me?callingData=true", bearer=bearer, headers={"X-One": "1"}).status_code == 200
    refused = webex.call("GET", "nothing", bearer=bearer)
    assert webex.error(refused).status_code == 404


def test_an_api_call_sends_the_headers_of_the_caller_and_follows_no_redirect() -> None:
    def redirect(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n")

    with listening(redirect) as (origin, came), Asker(f"{origin}/v1/access_token").webex() as webex:
        answer = webex.call("GET", "x", bearer=Secret("t"), headers={"Accept": "text/plain", "X-Empty": ""})
    assert (answer.status_code, answer.headers["location"]) == (302, "http://evil.example/")
    request = came[0].lower()
    assert request.count(b"accept: ") == 1
    assert b"accept: text/plain\r\n" in request
    assert b"authorization: bearer t\r\n" in request


ELSEWHERE = """
    http://webexapis.com/v1/people/me https://webexapis.com:444/v1/people/me https://webexapis.com./v1/people/me
    https://webexapis.com.evil.example/v1 https://webexapis.com@evil.example/v1 https://me@webexapis.com/v1
    https://me:pw@webexapis.com/v1 https://evil.example\\@webexapis.com/v1 https://[webexapis.com/v1
    https://webexapis.com:port/v1 ftp://webexapis.com/v1 //evil.example/v1 ../people/me people/../../admin
    people/%2e%2E/admin people/%252e%252e/admin people/..%2fadmin people/..;/admin https://webexapis.com/v1/../admin
    people\\me people/\0 people/\u202eme\x1b[2J
"""


@pytest.mark.parametrize("path", [*ELSEWHERE.split(), "people/me\r\nX: 1"])
def test_the_token_goes_to_the_api_and_nowhere_else(path: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    asker = Asker("https://webexapis.com/v1/access_token", http_client=answering(handler))
    error = failure(lambda: asker.webex().call("GET", path, bearer=Secret("t")))
    assert isinstance(error, ConfigurationError)
    assert str(error).isprintable()


HEADERS = [("Authorization", "Bearer x"), ("HOST", "evil.example"), ("Cookie", "a=b"), ("Content-Length", "1")]
HEADERS += [(name, "1") for name in ("X One", "", "X:", "X-É", "X\n")] + [("X", v) for v in ("a\r\nB: c", "é", "\0")]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_a_header_that_cannot_be_sent_is_refused(webex: Webex, name: str, value: str) -> None:
    error = failure(lambda: webex.call("GET", "x", bearer=Secret("t"), headers={name: value}))
    assert isinstance(error, ConfigurationError)
    assert str(error).isprintable()


@pytest.mark.parametrize("token", [Secret(text) for text in ("", f"{REFRESH_TOKEN}\n", f"{REFRESH_TOKEN} é", "\udcff")])
def test_a_token_that_no_header_can_carry_is_refused_unseen(webex: Webex, token: Secret) -> None:
    assert isinstance(failure(lambda: webex.people_me(token)), ConfigurationError)
