"""The authorization endpoint, the pages behind it, and the device grant."""

import re
from urllib.parse import urlsplit

import httpx

from webex_loopback.sandbox import Person

from .conftest import DEVICE_GRANT, Client, Clock, gateway_error, oauth_error


def test_what_cannot_be_trusted_is_shown_on_a_page_and_never_redirected(client: Client) -> None:
    wrong: list[tuple[dict[str, str | None], str]] = [
        ({"client_id": None}, "Parameter:client_id is blank"),
        ({"client_id": "C" + "0" * 64}, "Client Id is invalid"),
        ({"redirect_uri": None}, "Parameter:redirect_uri is blank"),
        ({"redirect_uri": "http://127.0.0.1:8765/callback/"}, "is not registered"),
        ({"state": "one&state=two"}, "Parameter:state is repeated"),
    ]
    for changes, words in wrong:
        response = client.http.get(client.authorize_url(**changes).replace("%26state%3D", "&state="))
        assert (response.status_code, response.headers["Content-Type"][:9]) == (400, "text/html")
        assert (words in response.text, response.headers["trackingId"] in response.text) == (True, True)


def test_other_errors_are_redirected_with_the_state(client: Client) -> None:
    wrong: list[tuple[dict[str, str | None], str]] = [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "spark:people_read spark:unknown"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ]
    for changes, error in wrong:
        answer = client.redirect(**changes)
        assert sorted(answer) == ["error", "error_description", "state"]
        assert (answer["error"], answer["state"]) == (error, "the-state")
    assert client.redirect(Person(decision="decline"))["error"] == "access_denied"
    client.switches.state_with_errors = False
    assert sorted(client.redirect(Person(decision="decline"))) == ["error", "error_description"]


def test_a_redirect_uri_keeps_its_own_query_and_needs_no_path(client: Client) -> None:
    for uri, start in ((f"{client.redirect_uri}?app=1", "&code="), (client.sandbox.origin, "?code=")):
        client.sandbox.redirect_uris[:] = [uri]  # the only one need not be sent, nor openid scopes be registered
        visit = Person().visit(client.authorize_url(redirect_uri=None, scope="openid spark:kms"))
        assert visit.url.startswith(uri + start)
    client.switches.response_mode = "fragment"
    assert Person().visit(client.authorize_url(redirect_uri=None)).url.startswith(f"{client.sandbox.origin}#code=")


def test_a_session_skips_the_login_page_unless_select_account_asks_for_it(client: Client) -> None:
    person = Person()
    client.redirect(person)
    visit = person.visit(client.authorize_url())
    assert [urlsplit(url).path for url in visit.visited] == ["/v1/authorize", "/v1/consent", "/"]
    for person.email, name in (("hanako.yamada@example.com", "山田 花子"), ("kim.lee@example.net", "Kim Lee")):
        tokens = client.exchange(client.redirect(person, prompt="select_account")["code"]).json()
        assert client.get("/people/me", tokens["access_token"]).json()["displayName"] == name
    assert "code" in client.redirect(person, prompt="none")
    assert client.redirect(person, prompt="none", scope="spark:rooms_read")["error"] == "consent_required"
    for malformed in ("nobody", "a b@example.com", "a@b@example.com"):
        visit = Person(malformed).visit(client.authorize_url())
        assert (visit.status, urlsplit(visit.url).path, 'role="alert"' in visit.body) == (200, "/v1/login", True)


def test_a_double_click_on_allow_gets_the_same_redirect_twice(client: Client, clock: Clock) -> None:
    with httpx.Client(trust_env=False, verify=False, base_url=client.sandbox.base_url) as browser:
        page = browser.get(client.authorize_url())
        assert {"HttpOnly", "SameSite=Lax"} <= set(page.headers["Set-Cookie"].split("; "))
        form = {"request": re.findall(r'name="request" value="([^"]+)"', page.text)[0], "decision": "allow"}
        assert browser.post("/consent", data=form).status_code == 400  # not logged in
        browser.post("/login", data=form | {"email": "a@example.com"})
        assert client.call("POST", "/consent", data=form).status_code == 400  # another browser
        assert "Parameter:decision is blank" in browser.post("/consent", data=form | {"decision": ""}).text
        first, second = (browser.post("/consent", data=form) for _ in range(2))
        assert (first.status_code, first.headers["Location"]) == (302, second.headers["Location"])
        assert client.exchange(httpx.URL(first.headers["Location"]).params["code"]).status_code == 200
        assert "has expired" in browser.post("/consent", data=form | {"decision": "decline"}).text
        assert "has expired" in browser.get("/consent", params=form).text  # the Back button
        clock.now += 601
        assert browser.post("/consent", data=form).status_code == 400
        browser.get(client.authorize_url())


# Device grant


def test_a_device_is_allowed_by_a_person_elsewhere(client: Client, clock: Clock) -> None:
    device = client.begin_device(scope="spark:people_read spark:kms").json()
    assert (device["expires_in"], device["interval"], len(device["user_code"])) == (300, 2, 6)
    assert gateway_error(client.poll(device["device_code"])) == (428, "authorization_pending")
    assert Person().approve_device(device["verification_uri"], device["user_code"]).status == 200
    clock.now += 2
    tokens = client.poll(device["device_code"]).json()
    assert tokens["scope"] == "spark:people_read spark:kms"
    assert client.is_valid(tokens["access_token"])
    assert client.refresh(tokens["refresh_token"]).status_code == 200
    clock.now += 2
    assert oauth_error(client.poll(device["device_code"])) == (400, "invalid_grant")


def test_the_complete_verification_uri_needs_no_typing_and_a_decline_is_access_denied(client: Client) -> None:
    device = client.begin_device().json()
    Person(decision="decline").visit(device["verification_uri_complete"])
    assert oauth_error(client.poll(device["device_code"])) == (400, "access_denied")


def test_an_unknown_or_expired_user_code_is_asked_for_again(client: Client, clock: Clock) -> None:
    device = client.begin_device().json()
    clock.now += 300
    for user_code in ("12 34", device["user_code"]):
        visit = Person().approve_device(device["verification_uri"], user_code)
        assert (f'value="{user_code}"' in visit.body, 'role="alert"' in visit.body) == (True, True)
    assert oauth_error(client.poll(device["device_code"])) == (400, "expired_token")


def test_polling_too_fast_is_slowed_down_by_five_seconds(client: Client, clock: Clock) -> None:
    device, statuses = client.begin_device().json(), []
    for wait in (0, 1, 5, 7):
        clock.now += wait
        statuses.append(client.poll(device["device_code"]).status_code)
    assert statuses == [428, 400, 400, 400]
    client.switches.error_shape = 1
    assert gateway_error(client.poll(device["device_code"])) == (400, "slow_down")


def test_the_device_endpoints_check_client_scope_and_grant(client: Client) -> None:
    assert gateway_error(client.begin_device(client_id="C0")) == (400, "Client Id is invalid")
    for scope in ("", "openid", "x:y"):
        assert gateway_error(client.begin_device(scope=scope)) == (400, "invalid_scope")
    code = client.begin_device().json()["device_code"]
    form = {"grant_type": DEVICE_GRANT, "device_code": code, "client_id": client.sandbox.client_id}
    in_form = form | {"client_secret": client.sandbox.client_secret}
    assert client.call("POST", "/device/token", data=in_form).status_code == 401  # only HTTP Basic
    assert oauth_error(client.poll(code, grant_type="device_code")) == (400, "unsupported_grant_type")
    assert oauth_error(client.poll("unknown")) == (400, "invalid_grant")
