"""The sandbox as an object, its switches, and the person with the browser."""

import errno
import socket
from urllib.parse import urlsplit

import pytest

from tests.conftest import Patch
from webex_loopback.sandbox import Person, Sandbox, Switches

from .conftest import VERIFIER, Client


def test_requests_are_recorded_without_values_and_secrets_are_known_but_never_shown(client: Client) -> None:
    code = client.code()
    tokens = client.exchange(code).json()
    client.get("/people/me", tokens["access_token"])
    client.exchange("short", code_verifier="w" * 43)
    exchange, people, _ = client.sandbox.requests[-3:]
    assert (exchange.method, exchange.path, exchange.status) == ("POST", "/v1/access_token", 200)
    assert (exchange.grant_type, "code_verifier" in exchange.fields) == ("authorization_code", True)
    count = client.sandbox.count
    assert (people.status, count("authorization_code"), count("/v1/people/me", status=401)) == (200, 2, 0)
    known = client.sandbox.secrets
    assert known >= {code, tokens["access_token"], tokens["refresh_token"], VERIFIER, "w" * 43}
    assert {client.sandbox.client_secret, client.sandbox.service_app_client_secret} <= known - {"short"}
    shown = repr([client.sandbox, client.sandbox.requests, client.switches])
    assert not [secret for secret in known if secret in shown]


def test_after_a_stop_it_starts_again_on_the_same_port_with_the_same_tokens(client: Client) -> None:
    token, port = client.login()["refresh_token"], client.sandbox.port
    for _ in range(2):
        client.sandbox.stop()
    with client.sandbox:
        assert (client.sandbox.port, client.refresh(token).status_code) == (port, 200)
        with pytest.raises(RuntimeError):
            client.sandbox.start()
        with pytest.raises(OSError, match=r"in use|0x2740") as caught:  # WSAEADDRINUSE
            Sandbox(port=port).start()
        assert caught.value.errno == errno.EADDRINUSE
    environment = Sandbox(scopes=["spark:teams_read"], redirect_uris=[]).environment()
    assert (environment["WEBEX_SCOPES"], environment["WEBEX_REDIRECT_URI"]) == ("spark:teams_read", "")
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host="0.0.0.0")


def test_it_serves_on_ipv6_and_https(certificate: tuple[str, str]) -> None:
    with Sandbox(tls=certificate, host="::1" if socket.has_ipv6 else "127.0.0.1") as sandbox:
        client = Client(sandbox)
        with client.http:
            assert client.is_valid(client.login()["access_token"])
            assert "Secure" in client.http.get(client.authorize_url()).headers["Set-Cookie"]


INVALID: dict[str, list[object]] = {
    "expires_in": ["60", True, float("nan")],
    "rotation": [1],
    "omit": ["scope", [1]],
    "error_shape": [3, True],
    "fault": ["earthquake", "slow:ly", "error:x:y", 3],
    "faults": [["429", "earthquake"]],
    "answers": [[{"path": "/", "code": 1}], [{"status": 200}], [{"path": 1}], ["/"], {}],
    "rotate": [True],
}


@pytest.mark.parametrize("name", INVALID)
def test_a_switch_refuses_invalid_values_and_an_update_sets_all_or_nothing(name: str) -> None:
    switches = Switches()
    for value in INVALID[name]:
        with pytest.raises((ValueError, AttributeError), match=r"invalid|unknown|convert"):
            setattr(switches, name, value)
        with pytest.raises(ValueError, match=r"invalid|unknown|convert"):
            switches.update({"latency": 1, name: value})
    assert switches == Switches()


def test_a_switch_is_read_from_a_command_line() -> None:
    words = "expires_in=60 rotation=on error_shape=1 omit=scope,token_type dead_refresh_token=401 retry_after=rand(30)"
    values = [60, True, 1, ["scope", "token_type"], "401", "rand(30)"]
    assert [Switches.parse(word)[1] for word in words.split()] == values
    assert Switches.parse('omit=["scope"]') == ("omit", ["scope"])
    for wrong in ("rotate=on", "rotation", "rotation=perhaps", "latency=x", "error_shape=5"):
        with pytest.raises(ValueError, match=r"rotat|latency|error_shape"):
            Switches.parse(wrong)


def test_another_process_sets_switches_over_http_but_another_site_cannot(client: Client) -> None:
    url = f"{client.sandbox.origin}/_sandbox/switches"
    assert client.http.get(url).json() == client.switches.as_dict()
    assert client.http.patch(url, json={"latency": 0.5, "faults": ["500"]}).json()["latency"] == 0.5
    assert client.http.patch(url, json={"latency": "x"}).status_code == 400
    assert client.http.patch(url, json={}, headers={"Host": "evil.example"}).status_code == 421
    assert client.http.patch(url, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert (client.switches.latency, client.switches.faults) == (0.5, ["500"])


def test_a_person_follows_redirects_without_a_proxy_leaves_pages_open_and_opens_web_pages_only(
    client: Client, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    visit = Person(language="ja").visit(client.authorize_url())
    paths = ["/v1/authorize", "/v1/login", "/v1/consent", "/v1/consent", "/"]
    assert [urlsplit(url).path for url in visit.visited] == paths
    assert (visit.status, '<html lang="ja">' in visit.body, visit.url) == (200, True, visit.visited[-1])
    assert repr(visit) == f"<Visit 200 {client.redirect_uri}>"
    assert urlsplit(Person(decision="abandon").visit(client.authorize_url()).url).path == "/v1/consent"
    with pytest.raises(ValueError, match="http"):
        Person().visit("file:///etc/hostname")
    client.sandbox.stop()
    with pytest.raises(ConnectionRefusedError):
        Person().visit(client.authorize_url())
