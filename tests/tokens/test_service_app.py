"""Service Apps once their tokens are due: fetched again through the other profile, once for everybody."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from webex_loopback import ConfigurationError, LoginRequired, TokenSource, get_token, log_in
from webex_loopback.errors import TokenEndpointError, WebexLoopbackError
from webex_loopback.login.service_app import log_in_service_app
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens import source
from webex_loopback.tokens.record import ServiceApp, StoredToken
from webex_loopback.tokens.stores import open_store
from webex_loopback.tokens.token_request import client_for

Age = Callable[..., StoredToken]


@pytest.fixture(autouse=True)
def bot(sandbox: Sandbox, redirect_uri: str) -> None:
    """Profiles `admin`, a person's login, and `bot`, a Service App."""
    log_in("admin", scopes="spark:people_read spark:applications_token", open_browser=Person().visit)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.service_app_environment().items():
            patch.setenv(name, value)
        log_in_service_app("bot", sandbox.org_id, "admin")
    sandbox.requests.clear()


@pytest.fixture
def age() -> Age:
    """Make a profile's token due, expired unless some seconds are to be left; with other fields if given."""

    def age(profile: str, left: int = -1, **fields: Any) -> StoredToken:
        store, now = open_store(profile), int(time.time())
        stored = store.load()
        assert stored is not None
        moments = {"issued_at": now - 10**6, "refresh_at": now - 2, "expires_at": now + left}
        old = dataclasses.replace(stored, **moments | fields)
        with store.lock():
            store.save(old)
        source.forget()
        return old

    return age


def revoke(sandbox: Sandbox, token: Secret | None) -> None:
    assert token is not None
    auth = (sandbox.client_id, sandbox.client_secret)
    httpx.post(f"{sandbox.origin}/idb/oauth2/v1/revoke", data={"token": token.get_secret_value()}, auth=auth)


def fetched(sandbox: Sandbox) -> int:
    return sandbox.count(f"/v1/applications/{sandbox.service_app_id}/token", status=200)


def test_it_is_refreshed_like_any_other(sandbox: Sandbox, age: Age) -> None:
    old = age("bot")
    assert get_token("bot") != old.access_token.get_secret_value()
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 0)
    age("bot", refresh_token=None)
    assert get_token("bot")
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 1)


def test_a_rejected_refresh_token_means_one_fetch_for_all_processes(sandbox: Sandbox, age: Age) -> None:
    sandbox.switches.latency = 0.2
    age("admin")
    revoke(sandbox, age("bot").refresh_token)
    program = "import sys; from webex_loopback import get_token; print(get_token(sys.argv[1]))"
    began = time.monotonic()
    commands = ([sys.executable, "-c", program, name] for name in ("bot", "admin") * 3)
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    results = [process.communicate(timeout=40)[0] for process in running]
    assert time.monotonic() - began < 25  # nobody has waited for a lock in vain
    assert len(set(results)) == 2
    assert all(results)
    # The refresh of `bot` that was rejected, that of `admin`, and one fetch.
    assert [sandbox.count("refresh_token", status=status) for status in (400, 200)] == [1, 1]
    assert fetched(sandbox) == 1


def test_a_passing_error_causes_no_fetch(sandbox: Sandbox, age: Age) -> None:
    age("bot")
    sandbox.switches.faults = ["503:60"]
    with pytest.raises(TokenEndpointError):
        get_token("bot")
    assert fetched(sandbox) == 0


def test_the_other_profiles_token_is_renewed_if_webex_rejects_it(sandbox: Sandbox, age: Age) -> None:
    revoke(sandbox, age("admin", 5000, refresh_at=int(time.time()) + 4000).access_token)
    age("bot", refresh_token=None)
    assert get_token("bot")
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 1)


def test_a_rejected_token_that_renewing_does_not_replace_needs_a_login(sandbox: Sandbox, age: Age) -> None:
    revoke(sandbox, Secret(get_token("admin")))  # a moment old
    age("bot", refresh_token=None)
    with pytest.raises(LoginRequired, match="through profile admin") as caught:
        get_token("bot")
    command = 'webex-loopback login -p admin --scopes "spark:people_read spark:applications_token" --force'
    assert command in caught.value.remedy


def test_a_logged_out_profile_is_named_and_nothing_is_opened(
    sandbox: Sandbox, age: Age, caplog: pytest.LogCaptureFixture
) -> None:
    revoke(sandbox, age("bot", 5000).refresh_token)
    open_store("admin").delete()
    told: list[StoredToken] = []
    watched = TokenSource("bot", on_login_needed=told.append)
    assert watched.get_token()
    assert "`webex-loopback login -p admin --scopes" in caplog.text
    assert len(told) == 1
    age("bot")
    for interactive in (False, True):
        source.forget()
        with pytest.raises(LoginRequired) as caught:
            get_token("bot", interactive=interactive)
        assert "`webex-loopback login -p admin --scopes" in caught.value.remedy
    assert open_store("bot").load() is not None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {"message": "x"}), "Control Hub"),
        ((400, {"error": "invalid_grant"}), ""),
        ((400, ""), "Control Hub"),
        ((401, {"message": "Invalid client credentials"}), "the Service App's page"),
    ],
)
def test_a_failed_fetch_is_reported_and_suggests_no_login_of_a_user(
    sandbox: Sandbox, age: Age, answer: tuple[int, Any], said: str
) -> None:
    revoke(sandbox, age("bot").refresh_token)
    sandbox.answer(f"/v1/applications/{sandbox.service_app_id}/token", *answer)
    with pytest.raises(TokenEndpointError) as caught:
        get_token("bot")
    assert said in caught.value.remedy
    with pytest.raises(WebexLoopbackError) as caught_again:  # at once, from memory
        get_token("bot")
    command = "`webex-loopback login -p bot`"
    assert command not in f"{caught.value.remedy} {caught_again.value.remedy}"


def test_profiles_that_name_each_other_do_not_wait_for_each_other(sandbox: Sandbox, age: Age) -> None:
    for name, using in (("bot", "admin"), ("admin", "bot")):
        app = ServiceApp(org_id=sandbox.org_id, app_id=sandbox.service_app_id, using=using)
        age(name, refresh_token=None, service_app=app)
    began = time.monotonic()
    with pytest.raises(ConfigurationError):
        get_token("bot")
    assert time.monotonic() - began < 5


def test_a_token_is_not_sent_to_another_webex(age: Age) -> None:
    with Sandbox() as other:
        age("admin", api_base_url=other.base_url)
        age("bot", refresh_token=None)
        with pytest.raises(ConfigurationError):
            get_token("bot")
        assert other.requests == []


def test_the_environments_certificates_override_those_of_the_login(
    make_token: Callable[..., StoredToken], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("WEBEX_CA_BUNDLE", f'"{tmp_path / "ca.pem"}"')
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        client_for(make_token(token_url="https://localhost/", ca_bundle="/elsewhere"))
