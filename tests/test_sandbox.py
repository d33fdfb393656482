"""The sandbox, over real sockets: strict where Webex is strict, and as bad as it is told to be."""

import base64
import email.utils
import hashlib
import http.client
import json
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
import trustme

from webex_loopback.sandbox import FAULTS, Person, Sandbox, Switches, Visit
from webex_loopback.sandbox.__main__ import main

VERIFIER = "a-code-verifier-of-the-tests-that-is-long-enough"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
DEAD = "The refresh token provided is expired, revoked, malformed, or invalid."
TOKEN_FORM = re.compile(r"[A-Za-z0-9+/]{64}_[A-Za-z0-9]+_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TRACKING_ID = re.compile(r"ROUTER(GW)?_[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")

Tokens = dict[str, Any]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Product(ThreadingHTTPServer):
    """What the product's loopback server looks like from outside: /start, the callback, the result."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProductHandler)
        self.start_location = ""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/callback"


class _ProductHandler(BaseHTTPRequestHandler):
    server: Product

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        location = {"/start/nonce": self.server.start_location, "/callback": "/result"}.get(path)
        self.send_response(303 if path == "/callback" else 302 if location else 200)
        if location:
            self.send_header("Location", location)
        body = b"" if location else f"result {self.headers['Accept-Language']}".encode()
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Client:
    """A client of a sandbox, in plain httpx."""

    def __init__(self, sandbox: Sandbox, redirect_uri: str) -> None:
        self.sandbox = sandbox
        self.redirect_uri = redirect_uri
        self.http = httpx.Client(trust_env=False, timeout=5)

    def authorize_url(self, **changes: str | None) -> str:
        query: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.sandbox.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "spark:people_read spark:kms",
            "state": "the-state",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        given = {name: value for name, value in (query | changes).items() if value is not None}
        return f"{self.sandbox.base_url}/authorize?{urlencode(given, quote_via=quote)}"

    def redirect(self, person: Person | None = None, /, **changes: str | None) -> dict[str, str]:
        """What arrives at the redirect URI."""
        visit = (person or Person()).visit(self.authorize_url(**changes))
        (arrival,) = [url for url in visit.visited if url.startswith(self.redirect_uri + "?")]
        return {name: value for name, (value,) in parse_qs(urlsplit(arrival).query).items()}

    def code(self, **changes: str | None) -> str:
        return self.redirect(**changes)["code"]

    def exchange(self, code: str, **changes: str | None) -> httpx.Response:
        return self.token(
            grant_type="authorization_code",
            **{"code": code, "redirect_uri": self.redirect_uri, "code_verifier": VERIFIER, **changes},
        )

    def refresh(self, refresh_token: str, **changes: str | None) -> httpx.Response:
        return self.token(**{"grant_type": "refresh_token", "refresh_token": refresh_token, **changes})

    def token(self, **form: str | None) -> httpx.Response:
        credentials = {"client_id": self.sandbox.client_id, "client_secret": self.sandbox.client_secret}
        fields = {name: value for name, value in (credentials | form).items() if value is not None}
        return self.http.post(f"{self.sandbox.base_url}/access_token", data=fields)

    def login(self, **changes: str | None) -> Tokens:
        response = self.exchange(self.code(**changes))
        assert response.status_code == 200
        tokens: Tokens = response.json()
        return tokens

    def get(self, path: str, access_token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        return self.http.get(f"{self.sandbox.base_url}{path}", headers=headers)

    def is_valid(self, access_token: str) -> bool:
        return self.get("/people/me", access_token).status_code == 200

    def begin_device(self, **changes: str) -> dict[str, Any]:
        form = {"client_id": self.sandbox.client_id, "scope": "spark:people_read"} | changes
        response = self.http.post(f"{self.sandbox.base_url}/device/authorize", data=form)
        assert response.status_code == 200
        answer: dict[str, Any] = response.json()
        return answer

    def basic(self) -> httpx.BasicAuth:
        return httpx.BasicAuth(self.sandbox.client_id, self.sandbox.client_secret)

    def poll(self, device_code: str, **changes: str) -> httpx.Response:
        form = {"grant_type": DEVICE_GRANT, "device_code": device_code, "client_id": self.sandbox.client_id}
        return self.http.post(f"{self.sandbox.base_url}/device/token", data=form | changes, auth=self.basic())

    def revoke(self, token: str) -> httpx.Response:
        return self.http.post(self.revoke_url, data={"token": token}, auth=self.basic())

    @property
    def revoke_url(self) -> str:
        return f"{self.sandbox.origin}/idb/oauth2/v1/revoke"


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(product: Product, clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock) as server:
        server.redirect_uris.append(product.uri)
        yield server


@pytest.fixture
def client(sandbox: Sandbox, product: Product) -> Iterator[Client]:
    made = Client(sandbox, product.uri)
    yield made
    made.http.close()


def assert_shape_1(response: httpx.Response) -> str:
    """Return errors[0].description of a gateway's error."""
    body = response.json()
    assert sorted(body) == ["errors", "message", "trackingId"]
    assert body["trackingId"] == response.headers["trackingId"]
    description: str = body["errors"][0]["description"]
    return description


def assert_shape_2(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert sorted(body) == ["error", "error_description", "trackingID"]
    assert body["trackingID"] == response.headers["trackingId"]
    return response.status_code, body["error"], body["error_description"]


# The authorization endpoint


def test_a_login_gives_code_and_state_and_the_code_gives_tokens_in_webex_form(client: Client) -> None:
    answer = client.redirect()
    assert sorted(answer) == ["code", "state"]
    assert answer["state"] == "the-state"
    response = client.exchange(answer["code"])
    tokens = response.json()
    assert sorted(tokens) == [
        "access_token",
        "expires_in",
        "refresh_token",
        "refresh_token_expires_in",
        "scope",
        "token_type",
    ]
    assert (tokens["expires_in"], tokens["refresh_token_expires_in"]) == (1209599, 7775999)
    assert (tokens["token_type"], tokens["scope"]) == ("Bearer", "spark:people_read spark:kms")
    assert TOKEN_FORM.fullmatch(tokens["access_token"])
    assert len(tokens["access_token"]) == 106
    assert response.headers["Cache-Control"] == "no-store"
    assert client.get("/people/me", tokens["access_token"]).json()["emails"] == ["alex.morgan@example.com"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_id": None}, "Parameter:client_id is blank"),
        ({"client_id": "C" + "0" * 64}, "Client Id is invalid"),
        ({"redirect_uri": None}, "Parameter:redirect_uri is blank"),
        ({"redirect_uri": "http://127.0.0.1:9999/callback"}, "is not registered"),
        ({"redirect_uri": "http://127.0.0.1:8765/callback/"}, "is not registered"),
    ],
)
def test_what_cannot_be_trusted_is_shown_on_a_page_and_never_redirected(
    client: Client, changes: dict[str, str | None], words: str
) -> None:
    response = client.http.get(client.authorize_url(**changes))
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert words in response.text
    assert response.headers["trackingId"] in response.text


def test_a_parameter_that_is_there_twice_is_refused_on_a_page(client: Client) -> None:
    response = client.http.get(client.authorize_url() + "&state=other")
    assert (response.status_code, response.headers["Content-Type"][:9]) == (400, "text/html")


def test_the_only_registered_redirect_uri_need_not_be_sent(client: Client) -> None:
    client.sandbox.redirect_uris[:] = [client.redirect_uri]
    assert "code" in client.redirect(redirect_uri=None)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "spark:people_read spark:unknown"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_other_mistakes_are_redirected_with_the_state(
    client: Client, changes: dict[str, str | None], error: str
) -> None:
    answer = client.redirect(**changes)
    assert sorted(answer) == ["error", "error_description", "state"]
    assert (answer["error"], answer["state"]) == (error, "the-state")


def test_an_error_redirect_can_come_without_the_state(client: Client) -> None:
    client.sandbox.switches.state_with_errors = False
    assert sorted(client.redirect(scope="no:such")) == ["error", "error_description"]
    assert sorted(client.redirect(Person(decision="decline"))) == ["error", "error_description"]


def test_openid_scopes_need_no_registration(client: Client) -> None:
    assert "code" in client.redirect(scope="openid email spark:people_read")


def test_a_decline_is_access_denied(client: Client) -> None:
    answer = client.redirect(Person(decision="decline"))
    assert (answer["error"], answer["state"]) == ("access_denied", "the-state")


def test_who_abandons_the_consent_page_leaves_nothing_behind(client: Client) -> None:
    visit = Person(decision="abandon").visit(client.authorize_url())
    assert (visit.status, urlsplit(visit.url).path) == (200, "/v1/consent")
    assert "alex.morgan@example.com" in visit.body


def test_the_second_login_of_a_browser_goes_straight_to_consent(client: Client) -> None:
    person = Person()
    client.redirect(person)
    visit = person.visit(client.authorize_url())
    assert [urlsplit(url).path for url in visit.visited] == [
        "/v1/authorize",
        "/v1/consent",
        "/callback",
        "/result",
    ]


def test_select_account_asks_who_it_is_in_spite_of_a_session(client: Client) -> None:
    person = Person()
    client.redirect(person)
    person.email = "hanako.yamada@example.com"
    tokens = client.exchange(client.redirect(person, prompt="select_account")["code"]).json()
    assert client.get("/people/me", tokens["access_token"]).json()["displayName"] == "山田 花子"


def test_prompt_none_answers_at_once_where_the_same_was_granted_before(client: Client) -> None:
    person = Person()
    assert client.redirect(person, prompt="none")["error"] == "login_required"
    client.redirect(person)
    assert "code" in client.redirect(person, prompt="none")
    assert client.redirect(person, prompt="none", scope="spark:rooms_read")["error"] == "consent_required"


def test_login_hint_prefills_the_login_page(client: Client) -> None:
    assert 'value="kim@example.com"' in client.http.get(client.authorize_url(login_hint="kim@example.com")).text


def test_any_address_is_a_person_and_anything_else_is_asked_again(client: Client) -> None:
    tokens = client.exchange(client.redirect(Person("kim.lee@example.net"))["code"]).json()
    assert client.get("/people/me", tokens["access_token"]).json()["displayName"] == "Kim Lee"
    for no_address in ("nobody", "a b@example.com", "a@b@example.com"):
        visit = Person(no_address).visit(client.authorize_url())
        assert (visit.status, urlsplit(visit.url).path) == (200, "/v1/login")
        assert "Enter an e-mail address." in visit.body


def test_the_pages_speak_japanese_to_a_japanese_browser(client: Client) -> None:
    for accept, language in (("ja,en;q=0.8", "ja"), ("de, en;q=0.5, ja;q=0.4", "en"), ("x;q=y", "en")):
        response = client.http.get(client.authorize_url(), headers={"Accept-Language": accept})
        assert f'lang="{language}"' in response.text


def test_a_consent_of_another_browser_is_refused(client: Client) -> None:
    page = Person(decision="abandon").visit(client.authorize_url())
    found = re.search(r'name="request" value="([^"]+)"', page.body)
    assert found
    form = {"request": found[1], "decision": "allow"}
    response = client.http.post(f"{client.sandbox.base_url}/consent", data=form)
    assert (response.status_code, "expired" in response.text) == (400, True)


def test_a_login_page_left_open_for_long_has_expired(client: Client, clock: Clock) -> None:
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(client.authorize_url()).text
        form = {"request": re.findall(r'name="request" value="([^"]+)"', page)[0], "email": "a@example.com"}
        clock.now += 601
        assert browser.post(f"{client.sandbox.base_url}/login", data=form).status_code == 400
        browser.get(client.authorize_url())


def test_consent_needs_a_login_and_a_decision(client: Client) -> None:
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(client.authorize_url()).text
        form = {"request": re.findall(r'name="request" value="([^"]+)"', page)[0]}
        url = f"{client.sandbox.base_url}/consent"
        assert browser.post(url, data=form | {"decision": "allow"}).status_code == 400
        browser.post(f"{client.sandbox.base_url}/login", data=form | {"email": "a@example.com"})
        assert "Parameter:decision is blank" in browser.post(url, data=form).text
        assert browser.post(url, data=form | {"decision": "allow"}).status_code == 302
        assert browser.post(url, data=form | {"decision": "allow"}).status_code == 400


def test_the_way_back_leads_to_a_page_that_says_it_has_expired(client: Client) -> None:
    person = Person()
    visit = person.visit(client.authorize_url())
    back = person.visit(visit.visited[2])
    assert (back.status, "has expired" in back.body) == (400, True)


def test_the_session_cookie_is_for_this_port_and_not_for_scripts(client: Client) -> None:
    cookie = client.http.get(client.authorize_url()).headers["Set-Cookie"]
    assert cookie.startswith(f"webex_sandbox_{client.sandbox.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_redirect_uri_keeps_its_own_query_and_may_have_no_path(client: Client) -> None:
    bare = f"{client.redirect_uri.removesuffix('/callback')}"
    for uri in (f"{client.redirect_uri}?app=1", bare):
        client.sandbox.redirect_uris.append(uri)
        visit = Person().visit(client.authorize_url(redirect_uri=uri))
        arrival = visit.visited[4]
        assert arrival.startswith(f"{uri}{'&' if '?' in uri else '?'}code=")
        code = parse_qs(urlsplit(arrival).query)["code"][0]
        assert client.exchange(code, redirect_uri=uri).status_code == 200


# Codes


def test_a_code_works_once_and_its_reuse_ends_the_tokens(client: Client) -> None:
    code = client.code()
    tokens = client.exchange(code).json()
    assert assert_shape_2(client.exchange(code))[:2] == (400, "invalid_grant")
    assert not client.is_valid(tokens["access_token"])
    assert client.refresh(tokens["refresh_token"]).status_code == 400


def test_the_reuse_of_a_code_can_leave_the_tokens_alone(client: Client) -> None:
    client.sandbox.switches.code_reuse_revokes = False
    code = client.code()
    tokens = client.exchange(code).json()
    assert client.exchange(code).status_code == 400
    assert client.is_valid(tokens["access_token"])


def test_a_code_expires(client: Client, clock: Clock) -> None:
    client.sandbox.switches.code_expires_in = 30
    fresh, old = client.code(), client.code()
    clock.now += 29
    assert client.exchange(fresh).status_code == 200
    clock.now += 1
    assert assert_shape_2(client.exchange(old))[:2] == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "http://127.0.0.1:8765/callback"}, "invalid_grant"),
        ({"code_verifier": "b" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code": None}, "invalid_request"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
    ],
)
def test_a_code_is_bound_to_its_request(client: Client, changes: dict[str, str | None], error: str) -> None:
    form = {"grant_type": "authorization_code", "redirect_uri": client.redirect_uri, "code_verifier": VERIFIER}
    response = client.token(**(form | {"code": client.code()} | changes))
    assert assert_shape_2(response)[:2] == (400, error)


def test_plain_pkce_and_no_pkce_work_but_a_verifier_out_of_nowhere_does_not(client: Client) -> None:
    plain = client.code(code_challenge=VERIFIER, code_challenge_method="plain")
    assert client.exchange(plain).status_code == 200
    without = {"code_challenge": None, "code_challenge_method": None}
    assert client.exchange(client.code(**without), code_verifier=None).status_code == 200
    assert client.exchange(client.code(**without)).status_code == 400


# The client


def test_credentials_are_taken_from_the_body_and_by_basic_and_recorded(client: Client) -> None:
    sandbox = client.sandbox
    client.login()
    assert sandbox.requests[-1].client_auth == "body"
    form = {"grant_type": "authorization_code", "code": client.code(), "redirect_uri": client.redirect_uri}
    auth = (sandbox.client_id, sandbox.client_secret)
    url = f"{sandbox.base_url}/access_token"
    response = client.http.post(url, data=form | {"code_verifier": VERIFIER}, auth=auth)
    assert response.status_code == 200
    assert sandbox.requests[-1].client_auth == "basic"


@pytest.mark.parametrize("status", [401, 400])
def test_a_wrong_secret_is_said_in_both_shapes(client: Client, status: Any) -> None:
    client.sandbox.switches.wrong_secret = status
    assert assert_shape_2(client.refresh("x", client_secret="0" * 64))[:2] == (status, "invalid_client")
    client.sandbox.switches.error_shape = 1
    response = client.refresh("x", client_secret="0" * 64)
    assert assert_shape_1(response) == "The provided clientSecret is invalid"
    assert (response.status_code, response.json()["message"]) == (status, "Invalid client credentials")


def test_a_missing_client_is_refused(client: Client) -> None:
    assert assert_shape_2(client.refresh("x", client_id=None))[2] == "Parameter:client_id is blank"
    assert client.refresh("x", client_secret=None).status_code == 401
    url = f"{client.sandbox.base_url}/access_token"
    broken = client.http.post(url, data={"grant_type": "x"}, headers={"Authorization": "Basic ???"})
    assert broken.status_code == 401


def test_a_regenerated_secret_shuts_out_who_holds_the_old_one(client: Client) -> None:
    old, tokens = client.sandbox.client_secret, client.login()
    client.sandbox.client_secret = "1" * 64
    assert client.refresh(tokens["refresh_token"], client_secret=old).status_code == 401
    assert client.refresh(tokens["refresh_token"]).status_code == 200


def test_the_token_endpoint_takes_a_form_and_each_field_once(client: Client) -> None:
    url = f"{client.sandbox.base_url}/access_token"
    assert client.http.post(url, json={"grant_type": "refresh_token"}).status_code == 415
    assert client.http.post(url, data={"grant_type": ["refresh_token", "refresh_token"]}).status_code == 400


def test_a_form_that_cannot_be_decoded_or_is_too_long_is_refused(client: Client) -> None:
    url = f"{client.sandbox.base_url}/access_token"
    for charset in ("no-such", "ascii"):
        headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
        response = client.http.post(url, content="code=é".encode(), headers=headers)
        assert response.status_code == 400
        assert_shape_1(response)
    assert client.http.post(url, data={"code": "x" * 2_000_000}).status_code == 413


# Refresh


def test_a_refresh_gives_a_new_access_token_and_leaves_the_old_ones_alive(client: Client) -> None:
    first = client.login()
    second = client.refresh(first["refresh_token"]).json()
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] == first["refresh_token"]
    assert client.is_valid(first["access_token"])
    assert client.is_valid(second["access_token"])


def test_tokens_expire_by_the_clock_of_the_sandbox(client: Client, clock: Clock) -> None:
    client.sandbox.switches.update({"expires_in": 60, "refresh_token_expires_in": 600})
    tokens = client.login()
    assert (tokens["expires_in"], tokens["refresh_token_expires_in"]) == (60, 600)
    clock.now += 60
    assert not client.is_valid(tokens["access_token"])
    assert client.refresh(tokens["refresh_token"]).status_code == 200
    clock.now += 600
    assert assert_shape_2(client.refresh(tokens["refresh_token"])) == (400, "invalid_request", DEAD)


def test_a_refresh_renews_the_refresh_token_or_does_not(client: Client, clock: Clock) -> None:
    client.sandbox.switches.refresh_token_expires_in = 600
    token = client.login()["refresh_token"]
    clock.now += 100
    assert client.refresh(token).json()["refresh_token_expires_in"] == 600
    client.sandbox.switches.refresh_renews = False
    clock.now += 100
    assert client.refresh(token).json()["refresh_token_expires_in"] == 500
    client.sandbox.switches.rotation = True
    clock.now += 100
    assert client.refresh(token).json()["refresh_token_expires_in"] == 400


def test_the_same_token_comes_back_with_the_time_that_is_left(client: Client, clock: Clock) -> None:
    client.sandbox.switches.update({"same_token": True, "expires_in": 1000})
    first = client.login()
    clock.now += 300
    second = client.refresh(first["refresh_token"]).json()
    assert (second["access_token"], second["expires_in"]) == (first["access_token"], 700)
    clock.now += 700
    third = client.refresh(first["refresh_token"]).json()
    assert third["expires_in"] == 1000
    assert third["access_token"] != first["access_token"]


def test_rotation_ends_the_old_refresh_token_and_its_reuse_ends_the_family(client: Client) -> None:
    client.sandbox.switches.rotation = True
    first = client.login()
    second = client.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert assert_shape_2(client.refresh(first["refresh_token"])) == (400, "invalid_request", DEAD)
    assert client.refresh(second["refresh_token"]).status_code == 400
    assert not client.is_valid(second["access_token"])


def test_without_reuse_detection_the_family_survives(client: Client) -> None:
    client.sandbox.switches.update({"rotation": True, "reuse_detection": False})
    first = client.login()
    second = client.refresh(first["refresh_token"]).json()
    assert client.refresh(first["refresh_token"]).status_code == 400
    assert client.refresh(second["refresh_token"]).status_code == 200


def test_of_many_refreshes_at_once_rotation_lets_one_win(client: Client) -> None:
    client.sandbox.switches.update({"rotation": True, "latency": 0.05})
    token = client.login()["refresh_token"]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: client.refresh(token).status_code, range(8)))
    assert sorted(statuses) == [200] + [400] * 7
    assert client.sandbox.count("refresh_token") == 8
    assert client.sandbox.count("refresh_token", status=200) == 1


@pytest.mark.parametrize(
    ("way", "status", "error"),
    [
        ("invalid_request", 400, "invalid_request"),
        ("invalid_grant", 400, "invalid_grant"),
        ("401", 401, "invalid_client"),
    ],
)
def test_a_dead_refresh_token_is_said_in_each_of_webex_ways(client: Client, way: Any, status: int, error: str) -> None:
    token = client.login()["refresh_token"]
    client.sandbox.switches.dead_refresh_token = way
    assert assert_shape_2(client.refresh(token)) == (status, error, DEAD)
    client.sandbox.switches.error_shape = 1
    response = client.refresh(token)
    assert (response.status_code, assert_shape_1(response)) == (status, DEAD)
    client.sandbox.switches.update({"dead_refresh_token": "", "rejection": way, "error_shape": 2})
    assert client.refresh(token).status_code == 200
    assert assert_shape_2(client.refresh("unknown")) == (status, error, DEAD)
    assert client.token(grant_type="refresh_token").status_code == 400


def test_tokenlimit_reached_is_named_in_both_shapes(client: Client) -> None:
    code, tokens, device = client.code(), client.login(), client.begin_device()
    Person().approve_device(device["verification_uri"], device["user_code"])
    client.sandbox.switches.tokenlimit_reached = True
    for response in (
        client.refresh(tokens["refresh_token"]),
        client.exchange(code),
        client.poll(device["device_code"]),
    ):
        assert assert_shape_2(response)[:2] == (400, "tokenlimit_reached")
    client.sandbox.switches.error_shape = 1
    assert assert_shape_1(client.refresh(tokens["refresh_token"])) == "tokenlimit_reached"


def test_fields_can_be_missing_added_or_replaced(client: Client) -> None:
    client.sandbox.switches.update(
        {"omit": ["scope", "refresh_token"], "extra": {"token_type": "bearer", "id_token": "x"}}
    )
    tokens = client.login()
    assert sorted(tokens) == ["access_token", "expires_in", "id_token", "refresh_token_expires_in", "token_type"]
    assert tokens["token_type"] == "bearer"


def test_fewer_scopes_can_be_granted_than_asked_for(client: Client) -> None:
    client.sandbox.switches.withhold = ["spark:people_read"]
    tokens = client.login()
    assert tokens["scope"] == "spark:kms"
    assert client.get("/people/me", tokens["access_token"]).status_code == 403


def test_a_token_can_be_a_jwt_of_more_than_a_kilobyte(client: Client) -> None:
    client.sandbox.switches.token_style = "jwt"
    token = client.login()["access_token"]
    assert token.startswith("eyJ")
    assert len(token) > 1024
    assert client.is_valid(token)


# Faults


def test_429_has_an_html_body_and_any_retry_after(client: Client) -> None:
    client.sandbox.switches.faults = ["429", "429:rand(30),add(30)", "429:"]
    client.sandbox.switches.retry_after = "3600"
    answers = [client.refresh("x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429] * 3
    assert [answer.headers.get("Retry-After") for answer in answers] == ["3600", "rand(30),add(30)", None]
    assert answers[0].headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("fault", ["500", "502", "503", "504"])
def test_server_errors_come_once_from_the_queue_and_always_as_the_fault(client: Client, fault: str) -> None:
    token = client.login()["refresh_token"]
    client.sandbox.switches.faults.append(fault)
    assert [client.refresh(token).status_code for _ in range(2)] == [int(fault), 200]
    client.sandbox.switches.fault = fault
    assert [client.refresh(token).status_code for _ in range(2)] == [int(fault), int(fault)]


def test_bodies_that_are_no_token_response(client: Client) -> None:
    token = client.login()["refresh_token"]
    client.sandbox.switches.faults = ["html", "empty400", "truncated", "huge"]
    html, empty, truncated, huge = (client.refresh(token) for _ in range(4))
    assert (html.status_code, html.headers["Content-Type"][:9]) == (200, "text/html")
    assert (empty.status_code, empty.content) == (400, b"")
    assert (truncated.status_code, truncated.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        truncated.json()
    assert (huge.status_code, len(huge.content) > 10_000_000) == (200, True)


def test_hang_never_answers_and_does_not_hold_up_the_stop(client: Client) -> None:
    client.sandbox.switches.fault = "hang"
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(f"{client.sandbox.base_url}/access_token", data={"grant_type": "refresh_token"}, timeout=0.1)
    while client.sandbox.count("refresh_token", status=0) < 1:
        time.sleep(0.01)
    caught: queue.Queue[Exception] = queue.Queue()

    def wait_for_ever() -> None:
        try:
            client.refresh("x")
        except httpx.TransportError as error:
            caught.put(error)

    thread = threading.Thread(target=wait_for_ever)
    thread.start()
    while client.sandbox.count("refresh_token") < 2:
        time.sleep(0.01)
    began = time.monotonic()
    client.sandbox.stop()
    assert time.monotonic() - began < 5
    thread.join()
    assert isinstance(caught.get_nowait(), httpx.ReadError)


def test_reset_is_a_tcp_reset_and_processes_nothing(client: Client) -> None:
    client.sandbox.switches.rotation = True
    token = client.login()["refresh_token"]
    client.sandbox.switches.faults = ["reset"]
    form = urlencode({"grant_type": "refresh_token", "refresh_token": token}).encode()
    with socket.create_connection(("127.0.0.1", client.sandbox.port), timeout=5) as raw:
        raw.sendall(
            b"POST /v1/access_token HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(form), form)
        )
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    assert client.refresh(token).status_code == 200


@pytest.mark.parametrize("fault", ["lost_answer", "reset_body"])
def test_an_answer_can_be_lost_after_the_refresh_token_has_rotated(client: Client, fault: str) -> None:
    client.sandbox.switches.rotation = True
    token = client.login()["refresh_token"]
    client.sandbox.switches.faults = [fault]
    with pytest.raises(httpx.TransportError):
        client.refresh(token)
    assert assert_shape_2(client.refresh(token))[:2] == (400, "invalid_request")


def test_slow_bodies_arrive_whole_in_the_end(client: Client) -> None:
    token = client.login()["refresh_token"]
    client.sandbox.switches.faults = ["slow:0.2"]
    began = time.monotonic()
    assert client.refresh(token).json()["refresh_token"] == token
    assert time.monotonic() - began >= 0.19


def test_latency_holds_up_token_requests_only(client: Client) -> None:
    client.sandbox.switches.latency = 0.2
    began = time.monotonic()
    client.refresh("x")
    assert time.monotonic() - began >= 0.2
    client.sandbox.switches.latency = 60
    assert client.get("/people/me").status_code == 401
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(f"{client.sandbox.base_url}/access_token", data={"grant_type": "x"}, timeout=0.2)


def test_devices_and_the_api_have_queues_of_faults_of_their_own(client: Client) -> None:
    token, device = client.login()["access_token"], client.begin_device()
    client.sandbox.switches.update({"api_faults": ["503"], "device_faults": ["429:7"]})
    assert [client.get("/people/me", token).status_code for _ in range(2)] == [503, 200]
    assert client.poll(device["device_code"]).headers["Retry-After"] == "7"
    assert client.poll(device["device_code"]).status_code == 428


def test_the_date_header_can_be_wrong(client: Client, clock: Clock) -> None:
    client.sandbox.switches.date_offset = -3600
    date = email.utils.parsedate_to_datetime(client.refresh("x").headers["Date"])
    assert date.timestamp() == clock.now - 3600


def test_idle_connections_are_closed_when_told(client: Client) -> None:
    client.sandbox.switches.close_idle_after = 0.1
    connection = http.client.HTTPConnection("127.0.0.1", client.sandbox.port, timeout=5)
    connection.connect()
    raw = connection.sock
    for _ in range(2):
        connection.request("GET", "/v1/people/me")
        connection.getresponse().read()
    assert connection.sock is raw
    assert raw.recv(1) == b""
    connection.close()


# The device grant


def test_a_device_is_allowed_by_a_person_elsewhere(client: Client, clock: Clock) -> None:
    device = client.begin_device(scope="spark:people_read spark:kms")
    assert (device["expires_in"], device["interval"]) == (300, 2)
    assert re.fullmatch(r"\d{6}", device["user_code"])
    pending = client.poll(device["device_code"])
    assert (pending.status_code, assert_shape_1(pending)) == (428, "authorization_pending")
    visit = Person().approve_device(device["verification_uri"], device["user_code"])
    assert visit.status == 200
    clock.now += 2
    tokens = client.poll(device["device_code"]).json()
    assert tokens["scope"] == "spark:people_read spark:kms"
    assert client.is_valid(tokens["access_token"])
    assert client.refresh(tokens["refresh_token"]).status_code == 200
    clock.now += 2
    assert assert_shape_2(client.poll(device["device_code"]))[:2] == (400, "invalid_grant")


def test_the_complete_verification_uri_needs_no_typing(client: Client) -> None:
    device = client.begin_device()
    person = Person()
    person.visit(device["verification_uri_complete"])
    assert client.poll(device["device_code"]).status_code == 200
    again = client.begin_device()
    visit = person.visit(again["verification_uri_complete"])
    assert "/v1/login" not in [urlsplit(url).path for url in visit.visited]


def test_a_code_of_no_device_is_asked_for_again(client: Client) -> None:
    visit = Person().approve_device(f"{client.sandbox.base_url}/device/verify", "12 34")
    assert (visit.status, 'value="12 34"' in visit.body) == (200, True)
    assert Person(language="ja").approve_device(visit.url, "1234").body.count("有効期限") == 1


def test_a_device_that_is_declined_gets_access_denied(client: Client) -> None:
    device = client.begin_device()
    Person(decision="decline").approve_device(device["verification_uri"], device["user_code"])
    assert assert_shape_2(client.poll(device["device_code"]))[:2] == (400, "access_denied")


def test_a_device_code_expires(client: Client, clock: Clock) -> None:
    device = client.begin_device()
    clock.now += 300
    assert assert_shape_2(client.poll(device["device_code"]))[:2] == (400, "expired_token")
    visit = Person().approve_device(device["verification_uri"], device["user_code"])
    assert "not known, or it has expired" in visit.body


def test_polling_too_fast_is_slowed_down_by_five_seconds(client: Client, clock: Clock) -> None:
    device = client.begin_device()
    statuses = []
    for wait in (0, 1, 5, 7):
        clock.now += wait
        statuses.append(client.poll(device["device_code"]))
    assert [response.status_code for response in statuses] == [428, 400, 400, 400]
    assert assert_shape_2(statuses[1])[1] == "slow_down"
    client.sandbox.switches.update({"error_shape": 1, "pending_status": 400})
    clock.now += 60
    assert assert_shape_1(client.poll(device["device_code"])) == "authorization_pending"
    assert assert_shape_1(client.poll(device["device_code"])) == "slow_down"


def test_a_device_poll_needs_basic_and_the_right_grant(client: Client) -> None:
    code, url = client.begin_device()["device_code"], f"{client.sandbox.base_url}/device/token"
    form = {"grant_type": DEVICE_GRANT, "device_code": code, "client_id": client.sandbox.client_id}
    in_body = form | {"client_secret": client.sandbox.client_secret}
    assert client.http.post(url, data=in_body).status_code == 401
    assert client.http.post(url, data=form, auth=(client.sandbox.client_id, "3" * 64)).status_code == 401
    assert client.poll(code, grant_type="device_code").json()["error"] == "unsupported_grant_type"
    assert client.poll("unknown").json()["error"] == "invalid_grant"


def test_a_device_with_a_bad_client_id_or_scope_is_refused_in_the_gateway_words(client: Client) -> None:
    url = f"{client.sandbox.base_url}/device/authorize"
    response = client.http.post(url, data={"client_id": "C0", "scope": "spark:kms"})
    assert (response.status_code, assert_shape_1(response)) == (400, "Client Id is invalid")
    assert response.json()["message"] == "The request could not be understood by the server due to malformed syntax."
    for scope in ("", "openid", "no:such"):
        response = client.http.post(url, data={"client_id": client.sandbox.client_id, "scope": scope})
        assert assert_shape_1(response) == "invalid_scope"


# The API


def test_people_me_says_401_without_a_valid_token_and_403_without_the_scope(client: Client) -> None:
    text = "The request requires a valid access token set in the Authorization request header."
    for token in ("", "wrong"):
        response = client.get("/people/me", token)
        assert (response.status_code, assert_shape_1(response)) == (401, text)
    token = client.login(scope="spark:kms")["access_token"]
    response = client.get("/people/me", token)
    assert response.status_code == 403
    assert_shape_1(response)


def test_spark_all_covers_the_scopes_of_a_user(client: Client) -> None:
    assert client.is_valid(client.login(scope="spark:all")["access_token"])


def test_a_message_is_posted_with_the_scope_only(client: Client) -> None:
    def post(token: str, **changes: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return client.http.post(f"{client.sandbox.base_url}/messages", headers=headers, **changes)

    allowed = client.login(scope="spark:messages_write")["access_token"]
    content = {"toPersonEmail": "kim@example.com", "text": "hello"}
    for response in (post(allowed, json=content), post(allowed, data=content)):
        message = response.json()
        assert (message["text"], message["toPersonEmail"]) == ("hello", "kim@example.com")
        assert (message["personEmail"], message["roomType"]) == ("alex.morgan@example.com", "direct")
    assert post(client.login()["access_token"], json=content).status_code == 403
    assert post(allowed, json={"text": "to nobody"}).status_code == 400
    assert post(allowed, json=["no object"]).status_code == 400


def test_token_expiry_is_in_milliseconds(client: Client, clock: Clock) -> None:
    token = client.login()["access_token"]
    assert client.get("/authorizations/tokenExpiry", token).json() == {"exp": int((clock.now + 1209599) * 1000)}


def test_revoking_an_access_token_spares_the_refresh_token_but_not_the_other_way_round(client: Client) -> None:
    first = client.login()
    assert client.revoke(first["access_token"]).status_code == 200
    assert not client.is_valid(first["access_token"])
    second = client.refresh(first["refresh_token"]).json()
    assert client.revoke(second["refresh_token"]).status_code == 200
    assert not client.is_valid(second["access_token"])
    assert client.refresh(second["refresh_token"]).status_code == 400
    assert client.revoke("unknown").status_code == 200
    assert client.revoke("").status_code == 400
    assert client.http.post(client.revoke_url, data={"token": "unknown"}).status_code == 401


# All answers


def test_every_answer_has_a_tracking_id_and_no_version_of_the_server(client: Client) -> None:
    for path in ("/", "/v1/authorize", "/v1/people/me", "/v1/nothing", "/authorize"):
        response = client.http.get(f"{client.sandbox.origin}{path}")
        assert TRACKING_ID.fullmatch(response.headers["trackingId"])
        assert response.headers["Server"] == "webex-sandbox"


def test_paths_without_the_version_get_the_gateway_401(client: Client) -> None:
    response = client.http.get(f"{client.sandbox.origin}/authorize")
    assert response.status_code == 401
    assert sorted(response.json()) == ["message", "trackingId"]
    assert response.json()["trackingId"].startswith("ROUTERGW_")


def test_unknown_paths_and_methods_are_refused_in_the_gateway_words(client: Client) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert_shape_1(response)
    response = client.get("/access_token")
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    head = client.http.head(client.authorize_url())
    assert (head.status_code, client.sandbox.requests[-1].method) == (405, "GET")


def test_the_first_page_names_the_settings(client: Client) -> None:
    text = client.http.get(f"{client.sandbox.origin}/").text
    assert client.sandbox.base_url in text
    assert client.sandbox.client_id in text


# The sandbox as an object


def test_requests_are_recorded_by_the_names_of_their_fields(client: Client) -> None:
    tokens = client.login()
    client.refresh(tokens["refresh_token"])
    client.get("/people/me", tokens["access_token"])
    token_request, refresh, people = client.sandbox.requests[-3:]
    assert (token_request.method, token_request.path) == ("POST", "/v1/access_token")
    assert (token_request.grant_type, token_request.status) == ("authorization_code", 200)
    assert "code_verifier" in token_request.fields
    assert refresh.fields == ("client_id", "client_secret", "grant_type", "refresh_token")
    assert (people.path, people.status) == ("/v1/people/me", 200)
    assert client.sandbox.count("authorization_code") == 1
    assert client.sandbox.count("refresh_token") == 1
    assert client.sandbox.count("/v1/people/me") == 1
    assert client.sandbox.count("/v1/people/me", status=401) == 0


def test_every_secret_is_known_and_none_is_in_a_repr(client: Client) -> None:
    answer = client.redirect()
    tokens = client.exchange(answer["code"]).json()
    device = client.begin_device()
    client.poll(device["device_code"])
    client.exchange("short", code_verifier="w" * 43)
    secrets = client.sandbox.secrets
    assert secrets >= {
        answer["code"],
        tokens["access_token"],
        tokens["refresh_token"],
        VERIFIER,
        "w" * 43,
        device["device_code"],
        client.sandbox.client_secret,
    }
    assert "short" not in secrets
    shown = repr([client.sandbox, client.sandbox.requests, client.sandbox.switches])
    assert not [secret for secret in secrets if secret in shown]


def test_the_environment_is_that_of_a_client(client: Client) -> None:
    environment = client.sandbox.environment(client.redirect_uri)
    assert environment == {
        "WEBEX_API_BASE_URL": client.sandbox.base_url,
        "WEBEX_CLIENT_ID": client.sandbox.client_id,
        "WEBEX_CLIENT_SECRET": client.sandbox.client_secret,
        "WEBEX_REDIRECT_URI": client.redirect_uri,
        "WEBEX_SCOPES": "spark:people_read spark:kms",
    }
    assert client.sandbox.environment()["WEBEX_REDIRECT_URI"] == "http://127.0.0.1:8765/callback"
    assert Sandbox(scopes=["spark:rooms_read"]).environment()["WEBEX_SCOPES"] == "spark:rooms_read"
    assert re.fullmatch(r"C[0-9a-f]{64}", client.sandbox.client_id)
    assert re.fullmatch(r"[0-9a-f]{64}", client.sandbox.client_secret)


def test_after_a_stop_it_starts_again_on_the_same_port_with_the_same_tokens(client: Client) -> None:
    token = client.login()["refresh_token"]
    port = client.sandbox.port
    client.sandbox.stop()
    client.sandbox.stop()
    with pytest.raises(httpx.TransportError):
        client.refresh(token)
    client.sandbox.start()
    assert client.sandbox.port == port
    assert client.refresh(token).status_code == 200
    with pytest.raises(RuntimeError):
        client.sandbox.start()


def test_many_run_in_one_process_without_sharing_anything() -> None:
    sandboxes = [Sandbox() for _ in range(5)]
    for sandbox in sandboxes:
        sandbox.start()
    assert len({sandbox.port for sandbox in sandboxes}) == 5
    sandboxes[0].switches.faults.append("500")
    assert sandboxes[1].switches.faults == []
    for sandbox in sandboxes:
        sandbox.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "webex-sandbox"]


def test_a_port_in_use_is_an_os_error_and_can_be_tried_again() -> None:
    with Sandbox() as first:
        second = Sandbox(port=first.port)
        with pytest.raises(OSError, match="in use"):
            second.start()
    with second:
        assert second.port == first.port


def test_only_loopback_addresses_are_served() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::"):
        with pytest.raises(ValueError, match="loopback"):
            Sandbox(host=host)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_serves_on_ipv6_too(product: Product) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with Sandbox(host="::1", redirect_uris=[product.uri]) as sandbox:
        assert sandbox.base_url == f"http://[::1]:{sandbox.port}/v1"
        client = Client(sandbox, product.uri)
        with client.http:
            assert client.is_valid(client.login()["access_token"])


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str, trustme.CA]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    return certificate, key, authority


def test_it_serves_https(certificate: tuple[str, str, trustme.CA], product: Product) -> None:
    *files, authority = certificate
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with Sandbox(tls=(files[0], files[1]), redirect_uris=[product.uri]) as sandbox:
        assert sandbox.base_url == f"https://127.0.0.1:{sandbox.port}/v1"
        client = Client(sandbox, product.uri)
        client.http.close()
        with httpx.Client(trust_env=False, verify=context) as client.http:
            tokens = client.login()
            assert client.is_valid(tokens["access_token"])
            sandbox.switches.faults = ["reset"]
            with pytest.raises(httpx.TransportError):
                client.refresh(tokens["refresh_token"])
            assert "Secure" in client.http.get(client.authorize_url()).headers["Set-Cookie"]


def test_a_certificate_that_is_none_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sandbox(tls=(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))).start()


def test_start_and_stop_leave_no_warning_in_development_mode() -> None:
    program = """
import urllib.request
from webex_loopback.sandbox import Sandbox
for _ in range(3):
    with Sandbox() as sandbox:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(sandbox.origin + "/") as response:
            response.read()
"""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_nothing_of_the_product_is_imported() -> None:
    program = "import sys, webex_loopback.sandbox; print(*sorted(m for m in sys.modules if 'webex_loopback' in m))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert {name for name in run.stdout.split() if not name.startswith("webex_loopback.sandbox")} == {"webex_loopback"}


def test_a_malformed_request_is_answered_without_a_traceback_on_stderr(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", client.sandbox.port), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert raw.recv(64).startswith(b"HTTP/1.")
    assert capfd.readouterr().err == ""


# Switches


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expires_in", "60"),
        ("expires_in", True),
        ("rotation", 1),
        ("omit", "scope"),
        ("omit", [1]),
        ("extra", []),
        ("error_shape", 3),
        ("error_shape", True),
        ("dead_refresh_token", "gone"),
        ("fault", "earthquake"),
        ("faults", ["429", "earthquake"]),
        ("fault", "slow:ly"),
    ],
)
def test_a_switch_refuses_what_it_cannot_be(name: str, value: object) -> None:
    switches = Switches()
    with pytest.raises(ValueError, match=r"no value for|no fault|could not convert"):
        setattr(switches, name, value)
    assert switches == Switches()


def test_a_misspelt_switch_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Switches().rotate = True  # type: ignore[attr-defined]


def test_an_update_sets_all_or_nothing() -> None:
    switches = Switches()
    for changes in ({"latency": 1, "expires_in": "x"}, {"latency": 1, "rotate": True}):
        with pytest.raises(ValueError, match=r"expires_in|rotate"):
            switches.update(changes)
    assert switches == Switches()


def test_a_queue_is_a_copy_of_what_was_given() -> None:
    mine = ["500"]
    switches = Switches(faults=mine)
    switches.faults.pop()
    assert mine == ["500"]


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("expires_in=60", 60),
        ("rotation=on", True),
        ("rotation=false", False),
        ("omit=scope,token_type", ["scope", "token_type"]),
        ("omit=", []),
        ('faults=["429:rand(30),add(30)"]', ["429:rand(30),add(30)"]),
        ('extra={"a": 1}', {"a": 1}),
        ("error_shape=1", 1),
        ("dead_refresh_token=401", "401"),
        ("dead_refresh_token=", ""),
        ("retry_after=rand(30),add(30)", "rand(30),add(30)"),
    ],
)
def test_a_switch_is_read_from_a_command_line(assignment: str, value: object) -> None:
    assert Switches.parse(assignment) == (assignment.partition("=")[0], value)


@pytest.mark.parametrize("assignment", ["rotate=on", "rotation", "rotation=perhaps", "latency=x", "error_shape=5"])
def test_a_switch_that_cannot_be_read_is_refused(assignment: str) -> None:
    with pytest.raises(ValueError, match=r"rotat|latency|error_shape"):
        Switches.parse(assignment)


def test_every_switch_and_fault_has_a_meaning() -> None:
    described = {name: meaning for name, _, meaning in Switches.describe()}
    assert described.keys() == Switches().as_dict().keys()
    assert all(described.values())
    assert described["error_shape"].endswith("(1 | 2)")
    assert all(FAULTS.values())


def test_another_process_turns_the_switches_over_http(client: Client) -> None:
    url = f"{client.sandbox.origin}/_sandbox/switches"
    assert client.http.get(url).json() == client.sandbox.switches.as_dict()
    assert client.http.patch(url, json={"latency": 0.5, "faults": ["500"]}).json()["latency"] == 0.5
    assert client.sandbox.switches.faults == ["500"]
    assert client.http.patch(url, json={"latency": 1, "nothing": 1}).status_code == 400
    assert client.http.patch(url, json={"latency": "x"}).status_code == 400
    assert client.http.patch(url, json=3).status_code == 400
    assert client.sandbox.switches.latency == 0.5


def test_a_page_of_another_site_cannot_turn_the_switches(client: Client) -> None:
    url = f"{client.sandbox.origin}/_sandbox/switches"
    assert client.http.patch(url, json={}, headers={"Host": "evil.example"}).status_code == 421
    assert client.http.patch(url, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415


# The person


def test_a_person_goes_from_the_product_and_back_to_its_result_page(client: Client, product: Product) -> None:
    product.start_location = client.authorize_url()
    visit = Person(language="ja").visit(f"http://127.0.0.1:{product.server_port}/start/nonce")
    assert [urlsplit(url).path for url in visit.visited] == [
        "/start/nonce",
        "/v1/authorize",
        "/v1/login",
        "/v1/consent",
        "/v1/consent",
        "/callback",
        "/result",
    ]
    assert (visit.status, visit.body) == (200, "result ja")
    assert visit.url == visit.visited[-1]


def test_a_person_uses_no_proxy(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert "code" in client.redirect()


def test_a_person_accepts_a_self_signed_certificate_of_a_loopback_host_only(
    certificate: tuple[str, str, trustme.CA], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection

    def to_loopback(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        return connect(("127.0.0.1", address[1]), *args, **kwargs)

    with Sandbox(tls=certificate[:2]) as sandbox:
        assert Person().visit(f"{sandbox.origin}/").status == 200
        assert Person().visit(f"https://localhost:{sandbox.port}/").status == 200
        monkeypatch.setattr(socket, "create_connection", to_loopback)
        for host in ("webex.example", "192.0.2.1"):
            with pytest.raises(ssl.SSLCertVerificationError):
                Person().visit(f"https://{host}:{sandbox.port}/")


def test_a_person_visits_web_pages_only() -> None:
    with pytest.raises(ValueError, match="http"):
        Person().visit("file:///etc/hostname")


def test_persons_in_many_threads_do_not_disturb_each_other(client: Client) -> None:
    def log_in(number: int) -> str:
        tokens = client.exchange(client.redirect(Person(f"user{number}@example.com"))["code"]).json()
        (address,) = client.get("/people/me", tokens["access_token"]).json()["emails"]
        return str(address)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(log_in, range(6))) == [f"user{number}@example.com" for number in range(6)]


def test_the_repr_of_a_visit_shows_no_code() -> None:
    visit = Visit(200, "http://127.0.0.1:8765/callback?code=secret#secret", "secret", {}, ())
    assert repr(visit) == "<Visit 200 http://127.0.0.1:8765/callback>"


# The command line


def start_command(*arguments: str) -> tuple["subprocess.Popen[str]", dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "webex_loopback.sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    heading = process.stdout.readline()
    assert re.match(r"# The sandbox is at https?://127\.0\.0\.1:\d+/ ", heading)
    return process, dict(process.stdout.readline().rstrip("\n").split("=", 1) for _ in range(5))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_settings_logs_requests_without_secrets_and_exits_with_0(
    number: signal.Signals, product: Product
) -> None:
    process, settings = start_command(
        "--expires-in", "60", "--rotate", "--redirect-uri", product.uri, "--switch", "omit=scope"
    )
    base_url, secret = settings["WEBEX_API_BASE_URL"], settings["WEBEX_CLIENT_SECRET"]
    assert settings["WEBEX_REDIRECT_URI"] == product.uri
    form = {
        "client_id": settings["WEBEX_CLIENT_ID"],
        "client_secret": secret,
        "grant_type": "refresh_token",
        "refresh_token": "some-token-of-no-value",
    }
    with httpx.Client(trust_env=False, base_url=base_url) as http_client:
        switches = http_client.get(f"{base_url.removesuffix('/v1')}/_sandbox/switches").json()
        assert (switches["expires_in"], switches["rotation"], switches["omit"]) == (60, True, ["scope"])
        assert http_client.post("/access_token", data=form).status_code == 400
        http_client.post("/access_token", data={"grant_type": "evil\nline"})
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (0, "")
    lines = stderr.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"\d\d:\d\d:\d\d POST /v1/access_token refresh_token 400", lines[1])
    assert secret not in stderr
    assert "some-token" not in stderr


def test_the_command_serves_https(certificate: tuple[str, str, trustme.CA]) -> None:
    process, settings = start_command("--tls-cert", certificate[0], "--tls-key", certificate[1], "--fault", "503")
    assert settings["WEBEX_API_BASE_URL"].startswith("https://127.0.0.1:")
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "earthquake"], "no fault 'earthquake'"),
        (["--switch", "rotate=on"], "rotate=on"),
        (["--host", "0.0.0.0"], "loopback"),
        (["--tls-cert", "cert.pem"], "go together"),
    ],
)
def test_the_command_says_what_is_wrong_with_its_options(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_command_says_that_the_port_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox() as sandbox:
        assert main(["--port", str(sandbox.port)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"127.0.0.1:{sandbox.port}" in captured.err
    assert "--port" in captured.err


def test_a_certificate_that_is_not_there_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--tls-cert", "no.pem", "--tls-key", "no.pem"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_help_lists_every_switch_and_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"\n  {name} (" in text for name in Switches().as_dict())
    assert all(f"\n  {name}: " in text for name in FAULTS)
