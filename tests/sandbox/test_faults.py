"""Faults on request: what a network, a proxy or an overloaded Webex does."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.journeys.attack import wait_until

from .conftest import Client, gateway_error, oauth_error

RESETS = sys.platform != "win32"


@pytest.fixture
def token(client: Client) -> str:
    """A refresh token."""
    return str(client.login()["refresh_token"])


@contextmanager
def refreshing(client: Client, token: str) -> Iterator[http.client.HTTPConnection]:
    """Give a connection on which a refresh has been sent and has arrived."""
    form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": client.sandbox.client_id}
    content = urlencode(form | {"client_secret": client.sandbox.client_secret})
    with closing(http.client.HTTPConnection("127.0.0.1", client.sandbox.port, timeout=5)) as connection:
        connection.request("POST", "/v1/access_token", content, {"Content-Type": "application/x-www-form-urlencoded"})
        wait_until(lambda: client.sandbox.count("refresh_token"))
        yield connection


def test_faults_come_once_from_the_queue_or_always_with_any_retry_after(client: Client, token: str) -> None:
    client.switches.faults = ["500", "429", "429:rand(30),add(30)", "429:", "503:7", "423:1"]
    client.switches.retry_after = "3600"
    answers = [client.refresh(token) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [500, 429, 429, 429, 503, 423, 200]
    waits = [None, "3600", "rand(30),add(30)", None, "7", "1", None]
    assert [answer.headers.get("Retry-After") for answer in answers] == waits
    client.switches.fault = "504"
    assert [client.refresh(token).status_code for _ in range(2)] == [504, 504]


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_grant"), (403, "odd"), (503, "invalid_scope")])
def test_any_oauth_error_can_come_with_any_status_in_both_shapes(client: Client, status: int, code: str) -> None:
    client.switches.update({"faults": [f"error:{status}:{code}"] * 2, "error_shape": 2})
    assert oauth_error(client.refresh("x")) == (status, code)
    client.switches.error_shape = 1
    assert gateway_error(client.refresh("x"))[0] == status


def test_bodies_that_are_not_a_token_response(client: Client, token: str) -> None:
    client.switches.faults = ["html", "html:502", "empty400", "gateway401", "error", "truncated", "huge"]
    portal, proxy, empty, gateway, error, truncated, huge = (client.refresh(token) for _ in range(7))
    assert (portal.status_code, portal.headers["Content-Type"][:9]) == (200, "text/html")
    assert (proxy.status_code, "502 Proxy Error" in proxy.text) == (502, True)
    assert (empty.status_code, empty.content) == (400, b"")
    assert (gateway.status_code, sorted(gateway.json())) == (401, ["message", "trackingId"])
    assert oauth_error(error) == (400, "server_error")
    assert (truncated.status_code, truncated.headers["Content-Type"]) == (200, "application/json")
    with pytest.raises(json.JSONDecodeError):
        truncated.json()
    assert (huge.status_code, len(huge.content) > 10_000_000) == (200, True)


@pytest.mark.parametrize("switches", [{"fault": "hang"}, {"mute": True}])
def test_a_request_that_is_never_answered_does_not_delay_the_stop(client: Client, switches: dict[str, Any]) -> None:
    client.switches.update(switches)
    with refreshing(client, "x") as connection:
        connection.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.sock.recv(1)
        began = time.monotonic()
        client.sandbox.stop()
        assert time.monotonic() - began < 3
        with pytest.raises(ConnectionError) if RESETS else nullcontext():
            connection.sock.recv(1)


@pytest.mark.skipif(not RESETS, reason="asyncio's proactor ends a connection before it resets it")
@pytest.mark.parametrize("fault", ["lost_answer", "reset_body", "reset_body:0"])
def test_an_answer_can_be_lost_after_the_refresh_token_has_rotated(client: Client, token: str, fault: str) -> None:
    client.switches.update({"rotation": True, "faults": [fault]})
    with pytest.raises(httpx.TransportError):
        client.refresh(token)
    client.switches.faults = ["reset", "reset_body:10"]
    with refreshing(client, token) as connection, pytest.raises(ConnectionResetError):
        connection.sock.recv(1)
    with refreshing(client, token) as connection:
        response = connection.getresponse()
        assert (response.status, len(response.read(10))) == (400, 10)
        with pytest.raises(ConnectionResetError):
            response.read()


@pytest.mark.parametrize("switches", [{"faults": ["slow:0.2"]}, {"faults": ["drip:0.0005"]}, {"latency": 0.2}])
def test_slow_answers_arrive_complete(client: Client, token: str, switches: dict[str, Any]) -> None:
    client.switches.update(switches)
    began = time.monotonic()
    assert client.refresh(token).json()["refresh_token"] == token
    assert time.monotonic() - began >= 0.19


@pytest.mark.parametrize(("switch", "processed"), [("latency", False), ("answer_latency", True)])
def test_the_pause_is_before_or_after_processing(client: Client, token: str, switch: str, processed: bool) -> None:
    client.switches.update({switch: 60, "rotation": True})
    with refreshing(client, token):
        assert client.get("/people/me").status_code == 401
    client.switches.update({switch: 0.01})
    assert client.refresh(token).status_code == (400 if processed else 200)


def test_devices_and_the_api_have_their_own_queues_of_faults(client: Client) -> None:
    device, token = client.begin_device().json(), client.login()["access_token"]
    client.switches.device_faults = ["429:7"]
    assert client.poll(device["device_code"]).headers["Retry-After"] == "7"
    assert client.poll(device["device_code"]).status_code == 428
    other = "http://other.example/"
    client.switches.api_faults = ["503", f"redirect:{other}", f"link:{other}", "lost_answer"]
    unavailable, redirect, link = (client.get("/people/me", token) for _ in range(3))
    assert unavailable.status_code == 503
    assert (redirect.status_code, redirect.headers["Location"]) == (307, other)
    assert (link.status_code, link.headers["Link"]) == (200, f'<{other}>; rel="next"')
    with pytest.raises(httpx.TransportError):
        client.get("/people/me", "invalid")
    assert client.is_valid(token)


def test_an_exact_answer_replaces_the_next_answers_of_a_path(client: Client, token: str) -> None:
    client.switches.rotation = True
    client.sandbox.answer("/v1/access_token", 418, {"error": "teapot"}, times=2, process=True)
    client.sandbox.answer("/v1/people/me", body=b"\xff", headers={"Content-Type": "text/x-odd"})
    assert client.get("/people/me").content == b"\xff"
    assert client.get("/people/me").status_code == 401
    answers = [client.refresh(token) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [418, 418, 400]
    assert (answers[0].json(), answers[0].headers["Content-Type"]) == ({"error": "teapot"}, "application/json")
