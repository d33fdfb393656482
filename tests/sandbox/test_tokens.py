"""The token endpoint: codes, refresh tokens, Service Apps, errors in both shapes."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from .conftest import VERIFIER, Client, Clock, gateway_error, oauth_error

DEAD = "The refresh token provided is expired, revoked, malformed, or invalid."
TOKEN_FORM = re.compile(r"[A-Za-z0-9+/]{64}_[A-Za-z0-9]+_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_code_gives_tokens_in_webex_form(client: Client) -> None:
    response = client.exchange(client.code())
    tokens = response.json()
    assert all(TOKEN_FORM.fullmatch(tokens.pop(name)) for name in ("access_token", "refresh_token"))
    lifetimes = {"expires_in": 1209599, "refresh_token_expires_in": 7775999}
    assert tokens == lifetimes | {"token_type": "Bearer", "scope": "spark:people_read spark:kms"}
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("revokes", [True, False])
def test_a_code_works_once_and_its_reuse_revokes_the_tokens(client: Client, revokes: bool) -> None:
    client.switches.code_reuse_revokes = revokes
    code = client.code()
    tokens = client.exchange(code).json()
    assert oauth_error(client.exchange(code)) == (400, "invalid_grant")
    assert client.is_valid(tokens["access_token"]) is not revokes
    assert client.refresh(tokens["refresh_token"]).status_code == (400 if revokes else 200)


def test_a_code_is_bound_to_its_request_and_its_challenge(client: Client) -> None:
    form = {"grant_type": "authorization_code", "redirect_uri": client.redirect_uri, "code_verifier": VERIFIER}
    wrong: list[tuple[str, str | None, str]] = [
        ("redirect_uri", "http://127.0.0.1:8765/callback", "invalid_grant"),
        ("redirect_uri", None, "invalid_request"),
        ("code_verifier", "b" * 43, "invalid_grant"),
        ("code_verifier", None, "invalid_grant"),
        ("code", "unknown", "invalid_grant"),
        ("grant_type", "password", "unsupported_grant_type"),
    ]
    for name, value, error in wrong:
        assert oauth_error(client.token(**(form | {"code": client.code(), name: value}))) == (400, error)
    assert client.login(code_challenge=VERIFIER, code_challenge_method="plain")
    without = {"code_challenge": None, "code_challenge_method": None}
    assert client.exchange(client.code(**without), code_verifier=None).status_code == 200
    assert client.exchange(client.code(**without)).status_code == 400


def test_credentials_are_checked_in_the_form_and_in_http_basic(client: Client) -> None:
    old, token = client.sandbox.client_secret, client.login()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert client.call("POST", "/access_token", data=form, auth=client.basic).status_code == 200
    assert [request.client_auth for request in client.sandbox.requests[-2:]] == ["body", "basic"]
    assert client.call("POST", "/access_token", json=form).status_code == 415
    client.sandbox.client_secret = "1" * 64
    for wrong in ({"client_secret": None}, {"client_id": "C0"}, {"client_secret": old}):
        assert oauth_error(client.refresh(token, **wrong)) == (401, "invalid_client")
    assert oauth_error(client.refresh(token, client_id=None)) == (400, "invalid_request")
    for headers in ({"Authorization": "Basic ???"}, {"Authorization": "Basic 4pyT"}):
        response = client.http.post(f"{client.sandbox.base_url}/access_token", data=form, headers=headers)
        assert response.status_code == 401
    client.switches.update({"error_shape": 1, "wrong_secret": 400})
    response = client.refresh(token, client_secret=old)
    assert gateway_error(response) == (400, "The provided clientSecret is invalid")
    assert response.json()["message"] == "Invalid client credentials"


def test_codes_and_tokens_expire_by_the_clock_and_a_refresh_leaves_the_old_access_token_valid(
    client: Client, clock: Clock
) -> None:
    client.switches.update({"expires_in": 60, "refresh_token_expires_in": 600, "code_expires_in": 59})
    code, first = client.code(), client.login()
    clock.now += 59
    assert oauth_error(client.exchange(code)) == (400, "invalid_grant")
    second = client.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] == first["refresh_token"]
    assert client.is_valid(first["access_token"])
    clock.now += 1
    assert not client.is_valid(first["access_token"])
    assert client.is_valid(second["access_token"])
    clock.now += 599
    assert oauth_error(client.refresh(first["refresh_token"])) == (400, "invalid_request")


def test_a_refresh_can_restart_the_lifetime_of_the_refresh_token_or_not(client: Client, clock: Clock) -> None:
    client.switches.update({"refresh_token_expires_in": 600, "same_token": True, "expires_in": 1000})
    first = client.login()
    for renews, rotation, refresh_left, left in ((1, 0, 600, 900), (0, 0, 500, 800), (0, 1, 400, 700)):
        client.switches.update({"refresh_renews": bool(renews), "rotation": bool(rotation)})
        clock.now += 100
        again = client.refresh(first["refresh_token"]).json()
        assert (again["refresh_token_expires_in"], again["expires_in"]) == (refresh_left, left)
        assert again["access_token"] == first["access_token"]


@pytest.mark.parametrize("detection", [True, False])
def test_reuse_of_a_rotated_refresh_token_revokes_the_whole_login(client: Client, detection: bool) -> None:
    client.switches.update({"rotation": True, "reuse_detection": detection, "latency": 0.05})
    first = client.login()
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: client.refresh(first["refresh_token"]), range(4)))
    (second,) = [response.json() for response in responses if response.status_code == 200]
    assert client.sandbox.count("refresh_token", status=400) == 3
    assert second["refresh_token"] != first["refresh_token"]
    assert client.is_valid(second["access_token"]) is not detection
    assert client.refresh(second["refresh_token"]).status_code == (400 if detection else 200)


@pytest.mark.parametrize("way", ["invalid_request", "invalid_grant", "401"])
def test_a_dead_refresh_token_is_rejected_in_each_of_webex_ways(client: Client, way: Any) -> None:
    token = client.login()["refresh_token"]
    client.switches.dead_refresh_token = way
    expected = (401, "invalid_client") if way == "401" else (400, way)
    assert oauth_error(client.refresh(token)) == expected
    client.switches.error_shape = 1
    assert gateway_error(client.refresh(token)) == (expected[0], DEAD)
    client.switches.update({"dead_refresh_token": "", "rejection": way, "error_shape": 2})
    assert client.refresh(token).status_code == 200
    assert oauth_error(client.refresh("unknown")) == expected


def test_tokenlimit_reached_stops_every_grant(client: Client) -> None:
    code, tokens = client.code(), client.login()
    client.switches.tokenlimit_reached = True
    responses = client.refresh(tokens["refresh_token"]), client.exchange(code)
    assert {oauth_error(response) for response in responses} == {(400, "tokenlimit_reached")}
    client.switches.tokenlimit_reached = False
    assert client.exchange(code).status_code == 200


def test_revoking_a_refresh_token_revokes_its_access_tokens_but_not_the_reverse(client: Client) -> None:
    url, first = f"{client.sandbox.origin}/idb/oauth2/v1/revoke", client.login()
    for token, status in ((first["access_token"], 200), ("unknown", 200), ("", 400)):
        assert client.http.post(url, data={"token": token}, auth=client.basic).status_code == status
    second = client.refresh(first["refresh_token"]).json()
    assert (client.is_valid(first["access_token"]), client.is_valid(second["access_token"])) == (False, True)
    client.http.post(url, data={"token": second["refresh_token"]}, auth=client.basic)
    assert not client.is_valid(second["access_token"])
    assert [client.sandbox.is_alive(second[name]) for name in ("access_token", "refresh_token")] == [False, False]


@pytest.mark.parametrize(("style", "longer_than"), [("jwt", 1024), ("long", 12_000), ("newline", 106)])
def test_token_responses_can_be_odd(client: Client, style: Any, longer_than: int) -> None:
    odd = {"token_type": "bearer", "expires_in": "3600", "id_token": "x"}
    client.switches.update({"omit": ["refresh_token"], "extra": odd, "token_status": 201, "token_style": style})
    client.switches.withhold = ["spark:kms"]
    response = client.exchange(client.code())
    tokens = response.json()
    assert (response.status_code, "refresh_token" in tokens, odd.items() <= tokens.items()) == (201, False, True)
    token = tokens["access_token"]
    assert (len(token) >= longer_than, token[-1] == "\n") == (True, style == "newline")
    assert (client.is_valid(token.strip()), tokens["scope"]) == (True, "spark:people_read")


def application_token(client: Client, bearer: str, application: str = "", **changes: Any) -> httpx.Response:
    settings = client.sandbox.service_app_environment()
    fields = {"clientId": settings["WEBEX_CLIENT_ID"], "clientSecret": settings["WEBEX_CLIENT_SECRET"]}
    fields |= {"targetOrgId": client.sandbox.org_id} | changes
    path = f"/applications/{application or client.sandbox.service_app_id}/token"
    return client.call("POST", path, bearer, json=fields)


@pytest.fixture
def bearer(client: Client) -> str:
    return str(client.login(scope="spark:applications_token")["access_token"])


def test_a_service_app_gets_tokens_of_its_own(client: Client, bearer: str) -> None:
    sandbox = client.sandbox
    application = base64.urlsafe_b64decode(sandbox.service_app_id + "=" * (-len(sandbox.service_app_id) % 4))
    assert application.decode() == f"ciscospark://us/APPLICATION/{sandbox.service_app_client_id}"
    tokens = application_token(client, bearer).raise_for_status().json()
    assert "scope" not in tokens
    assert client.get("/people/me", tokens["access_token"]).json()["displayName"] == "Sandbox Service App"
    assert oauth_error(client.refresh(tokens["refresh_token"])) == (400, "invalid_request")
    credentials = {"client_id": sandbox.service_app_client_id, "client_secret": sandbox.service_app_client_secret}
    sandbox.switches.rotation = True
    rotated = client.refresh(tokens["refresh_token"], **credentials).raise_for_status().json()
    assert client.refresh(tokens["refresh_token"], **credentials).status_code == 400
    assert client.refresh(rotated["refresh_token"], **credentials).status_code == 400


def test_service_app_tokens_need_everything_to_be_right(client: Client, bearer: str, clock: Clock) -> None:
    integration = {"clientId": client.sandbox.client_id, "clientSecret": client.sandbox.client_secret}
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"clientSecret": "0" * 64}, 401, "The provided clientSecret is invalid"),
        (integration, 401, "The provided clientSecret is invalid"),
        ({"clientId": ""}, 400, "Parameter:clientId is blank"),
        ({"targetOrgId": 3}, 400, "Parameter:targetOrgId is blank"),
        ({"targetOrgId": "another-organization"}, 400, "The provided targetOrgId is invalid"),
        ({"application": "unknown"}, 404, "Service App not found"),
    ]
    for changes, status, words in wrong:
        assert gateway_error(application_token(client, bearer, **changes)) == (status, words)
    path = f"/applications/{client.sandbox.service_app_id}/token"
    assert client.call("POST", path, bearer, data=integration).status_code == 415
    assert application_token(client, client.login(scope="spark:all")["access_token"]).status_code == 403
    client.switches.service_app_authorized = False
    refused = gateway_error(application_token(client, bearer))
    assert refused == (403, "Service App not authorized by Full Admin in Control Hub")
    clock.now += 1209599
    assert "valid access token" in gateway_error(application_token(client, bearer))[1]
