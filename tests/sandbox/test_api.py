"""The resources of the API, and what all answers have in common."""

import json
import re

import pytest

from webex_loopback.sandbox import Person

from .conftest import Client, Clock, gateway_error

TRACKING_ID = re.compile(r"ROUTER(GW)?_[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")
MESSAGE = {"toPersonEmail": "kim@example.com", "text": "hello"}


@pytest.fixture
def token(client: Client) -> str:
    return str(client.login(scope="spark:messages_write spark:messages_read spark:rooms_read")["access_token"])


def test_people_me_is_401_without_a_token_and_403_without_the_scope(client: Client, token: str, clock: Clock) -> None:
    for invalid in ("", "wrong"):
        text = "The request requires a valid access token set in the Authorization request header."
        assert gateway_error(client.get("/people/me", invalid)) == (401, text)
    status, description = gateway_error(client.get("/people/me", token))
    assert (status, "spark:" in description) == (403, False)
    assert client.is_valid(client.login(scope="spark:all")["access_token"])
    milliseconds = int((clock.now + 1209599) * 1000)
    assert client.get("/authorizations/tokenExpiry", token).json() == {"exp": milliseconds}


@pytest.mark.parametrize("encoding", ["json", "data"])
def test_a_message_is_created_read_and_deleted_by_its_author(client: Client, token: str, encoding: str) -> None:
    message = client.call("POST", "/messages", token, **{encoding: MESSAGE}).raise_for_status().json()
    assert MESSAGE.items() <= message.items()
    assert (message["personEmail"], message["roomType"]) == ("alex.morgan@example.com", "direct")
    path = f"/messages/{message['id']}"
    assert client.get(path, token).json() == message
    kim = client.exchange(client.redirect(Person("kim@example.com"), scope="spark:messages_write")["code"]).json()
    assert client.call("DELETE", path, kim["access_token"]).status_code == 403
    deleted = client.call("DELETE", path, token)
    assert (deleted.status_code, deleted.content, client.get(path, token).status_code) == (204, b"", 404)
    reply = client.call("POST", "/messages", token, json={"roomId": message["roomId"], "markdown": "**hi**"}).json()
    assert (reply["roomType"], reply["roomId"]) == ("group", message["roomId"])


def test_a_message_has_at_most_one_file(client: Client, token: str) -> None:
    file, fields = ("files", ("notes.txt", b"notes", "text/plain")), {"toPersonId": "someone"}
    uploads = [client.call("POST", "/messages", token, data=fields, files=[file] * count) for count in (1, 2)]
    assert uploads[0].json()["files"][0].startswith(f"{client.sandbox.base_url}/contents/")
    assert uploads[1].status_code == 400
    url = "https://example.com/a.png"
    for files, status in ((url, 200), ([url], 200), ([url, url], 400), (["notes.txt"], 400), (3, 400)):
        response = client.call("POST", "/messages", token, json=fields | {"files": files})
        assert (response.status_code, response.json().get("files")) == (status, [url] if status == 200 else None)


def test_a_message_needs_a_scope_one_destination_and_a_content(client: Client, token: str) -> None:
    url, headers = f"{client.sandbox.base_url}/messages", {"Content-Type": "application/json"}
    headers["Authorization"] = f"Bearer {token}"
    for content, status, words in (
        (json.dumps({"text": "to nobody"}), 400, "Message destination could not be determined"),
        (json.dumps(MESSAGE | {"roomId": "x"}), 400, "Provide only one destination"),
        (json.dumps(MESSAGE | {"text": ""}), 400, "Both text and file cannot be empty."),
        (json.dumps(MESSAGE | {"toPersonEmail": "kim"}), 404, "Failed to find user with specified email address."),
        (json.dumps(MESSAGE | {"text": 3}), 400, "malformed syntax"),
        ("[" * 100_000, 400, "malformed syntax"),
    ):
        response = client.http.post(url, content=content, headers=headers)
        assert (response.status_code, words in response.json()["message"]) == (status, True)
    assert client.call("POST", "/messages", client.login()["access_token"], json=MESSAGE).status_code == 403


def test_rooms_are_listed_in_pages_linked_by_their_headers(client: Client, token: str) -> None:
    titles, path = [], "/rooms?max=3"
    while path:
        response = client.get(path, token)
        titles += [room["title"] for room in response.json()["items"]]
        link = re.fullmatch(rf'<{client.sandbox.base_url}(.*)>; rel="next"', response.headers.get("Link", ""))
        path = link[1] if link else ""
    assert len(titles) == len(set(titles)) == 7
    assert [room["title"] for room in client.get("/rooms", token).json()["items"]] == titles
    assert {client.get(f"/rooms?max={wrong}", token).status_code for wrong in ("0", "1001", "x")} == {400}
    assert client.get("/rooms", client.login()["access_token"]).status_code == 403


def test_every_answer_has_a_tracking_id_and_unknown_paths_get_the_gateways_words(client: Client) -> None:
    for path in ("/", "/v1/authorize", "/v1/people/me", "/v1/nothing", "/authorize"):
        response = client.http.get(f"{client.sandbox.origin}{path}")
        assert TRACKING_ID.fullmatch(response.headers["trackingId"])
        assert response.headers["Server"] == "webex-sandbox"
    # The last path is without the version.
    assert (response.status_code, sorted(response.json())) == (401, ["message", "trackingId"])
    assert gateway_error(client.get("/nothing")) == (404, "Not Found")
    assert client.get("/access_token").headers["Allow"] == "POST"
    assert client.http.head(client.authorize_url()).status_code == 405


def test_the_home_page_names_a_url_for_init_but_no_secret(client: Client) -> None:
    text = client.http.get(client.sandbox.origin).text
    assert client.sandbox.authorization_url.replace("&", "&amp;") in text
    assert client.sandbox.authorization_url.endswith("&state=set_state_here")
    assert (client.sandbox.service_app_id in text, client.sandbox.client_secret in text) == (True, False)
