"""A client of the sandbox, in plain httpx."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
import trustme

from webex_loopback.sandbox import Person, Sandbox

VERIFIER = "a-code-verifier-of-the-tests-that-is-long-enough"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A client of a running sandbox. Its redirect URI is the sandbox's home page."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.switches = sandbox.switches
        self.redirect_uri = f"{sandbox.origin}/"
        self.basic = httpx.BasicAuth(sandbox.client_id, sandbox.client_secret)
        self.http = httpx.Client(trust_env=False, timeout=5, verify=False)  # no certificates to load
        sandbox.redirect_uris.append(self.redirect_uri)

    def authorize_url(self, **changes: str | None) -> str:
        query: dict[str, str | None] = {"response_type": "code", "client_id": self.sandbox.client_id}
        query |= {"redirect_uri": self.redirect_uri, "scope": "spark:people_read spark:kms", "state": "the-state"}
        query |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        given = {name: value for name, value in (query | changes).items() if value is not None}
        return f"{self.sandbox.base_url}/authorize?{urlencode(given, quote_via=quote)}"

    def redirect(self, person: Person | None = None, /, **changes: str | None) -> dict[str, str]:
        """What arrives at the redirect URI."""
        visit = (person or Person()).visit(self.authorize_url(**changes))
        assert visit.url.startswith(self.redirect_uri + "?")
        return {name: value for name, (value,) in parse_qs(urlsplit(visit.url).query).items()}

    def code(self, **changes: str | None) -> str:
        return self.redirect(**changes)["code"]

    def exchange(self, code: str, **changes: str | None) -> httpx.Response:
        form = {"code": code, "redirect_uri": self.redirect_uri, "code_verifier": VERIFIER}
        return self.token(grant_type="authorization_code", **(form | changes))

    def refresh(self, refresh_token: str, **changes: str | None) -> httpx.Response:
        return self.token(**{"grant_type": "refresh_token", "refresh_token": refresh_token, **changes})

    def token(self, **form: str | None) -> httpx.Response:
        credentials = {"client_id": self.sandbox.client_id, "client_secret": self.sandbox.client_secret}
        fields = {name: value for name, value in (credentials | form).items() if value is not None}
        return self.call("POST", "/access_token", data=fields)

    def login(self, **changes: str | None) -> dict[str, Any]:
        tokens: dict[str, Any] = self.exchange(self.code(**changes)).raise_for_status().json()
        return tokens

    def call(self, method: str, path: str, access_token: str = "", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        return self.http.request(method, f"{self.sandbox.base_url}{path}", headers=headers, **options)

    def get(self, path: str, access_token: str = "") -> httpx.Response:
        return self.call("GET", path, access_token)

    def is_valid(self, access_token: str) -> bool:
        return self.get("/people/me", access_token).status_code == 200

    def begin_device(self, **changes: str) -> httpx.Response:
        form = {"client_id": self.sandbox.client_id, "scope": "spark:people_read"} | changes
        return self.call("POST", "/device/authorize", data=form)

    def poll(self, device_code: str, **changes: str) -> httpx.Response:
        form = {"grant_type": DEVICE_GRANT, "device_code": device_code, "client_id": self.sandbox.client_id}
        return self.call("POST", "/device/token", data=form | changes, auth=self.basic)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(clock: Clock) -> Iterator[Client]:
    with Sandbox(clock=clock) as sandbox:
        made = Client(sandbox)
        with made.http:
            yield made


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    issued = trustme.CA().issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def gateway_error(response: httpx.Response) -> tuple[int, str]:
    """Return status and errors[0].description of an error in the gateway's shape."""
    body = response.json()
    assert (sorted(body), body["trackingId"]) == (["errors", "message", "trackingId"], response.headers["trackingId"])
    return response.status_code, body["errors"][0]["description"]


def oauth_error(response: httpx.Response) -> tuple[int, str]:
    """Return status and error code of an error in RFC 6749's shape."""
    body = response.json()
    assert sorted(body) == ["error", "error_description", "trackingID"]
    return response.status_code, body["error"]
