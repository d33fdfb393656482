"""Service Apps once their tokens are due: fetched again through the other profile, once for everybody."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Log, Make, Patch, python, raised, revoke
from webex_loopback import ConfigurationError, LoginRequired, TokenSource, get_token, log_in
from webex_loopback.errors import TokenEndpointError, WebexLoopbackError
from webex_loopback.login.service_app import log_in_service_app
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens import source
from webex_loopback.tokens.record import ServiceApp, StoredToken
from webex_loopback.tokens.stores import open_store
from webex_loopback.tokens.token_request import client_for


@pytest.fixture(autouse=True)
def bot(sandbox: Sandbox, redirect_uri: str) -> None:
    """Profiles `admin`, a person's login, and `bot`, a Service App."""
    log_in("admin", scopes="spark:people_read spark:applications_token", open_browser=Person().visit)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.service_app_environment().items():
            patch.setenv(name, value)
        log_in_service_app("bot", sandbox.org_id, "admin")
    sandbox.requests.clear()


def fetched(sandbox: Sandbox) -> int:
    return sandbox.count(f"/v1/applications/{sandbox.service_app_id}/token", status=200)


def test_it_is_refreshed_like_any_other(sandbox: Sandbox, make_due: Make) -> None:
    old = make_due(profile="bot")
    assert get_token("bot") != old.access_token.get_secret_value()
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 0)
    make_due(profile="bot", refresh_token=None)
    assert get_token("bot")
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 1)


def test_a_rejected_refresh_token_means_one_fetch_for_all_processes(sandbox: Sandbox, make_due: Make) -> None:
    sandbox.switches.latency = 0.2
    make_due(profile="admin")
    revoke(sandbox, make_due(profile="bot").refresh_token)
    program = "import sys; from webex_loopback import get_token; print(get_token(sys.argv[1]))"
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        results = [done.stdout for done in pool.map(partial(python, program), ("bot", "admin") * 3)]
    assert time.monotonic() - began < 25  # nobody has waited for a lock in vain
    assert len(set(results)) == 2
    assert all(results)
    # The refresh of `bot` that was rejected, that of `admin`, and one fetch.
    assert [sandbox.count("refresh_token", status=status) for status in (400, 200)] == [1, 1]
    assert fetched(sandbox) == 1


def test_a_passing_error_causes_no_fetch(sandbox: Sandbox, make_due: Make) -> None:
    make_due(profile="bot")
    sandbox.switches.faults = ["503:60"]
    with pytest.raises(TokenEndpointError):
        get_token("bot")
    assert fetched(sandbox) == 0


def test_the_other_profiles_token_is_renewed_if_webex_rejects_it(sandbox: Sandbox, make_due: Make) -> None:
    revoke(sandbox, make_due(5000, "admin", refresh_at=int(time.time()) + 4000).access_token)
    make_due(profile="bot", refresh_token=None)
    assert get_token("bot")
    assert (sandbox.count("refresh_token"), fetched(sandbox)) == (1, 1)


def test_a_rejected_token_that_renewing_does_not_replace_needs_a_login(sandbox: Sandbox, make_due: Make) -> None:
    revoke(sandbox, Secret(get_token("admin")))  # a moment old
    make_due(profile="bot", refresh_token=None)
    error = raised(LoginRequired, get_token, "bot")
    assert "through profile admin" in str(error)
    command = 'webex-loopback login -p admin --scopes "spark:people_read spark:applications_token" --force'
    assert command in error.remedy


def test_a_logged_out_profile_is_named_and_nothing_is_opened(sandbox: Sandbox, make_due: Make, caplog: Log) -> None:
    revoke(sandbox, make_due(5000, "bot").refresh_token)
    open_store("admin").delete()
    told: list[StoredToken] = []
    watched = TokenSource("bot", on_login_needed=told.append)
    assert watched.get_token()
    assert "`webex-loopback login -p admin --scopes" in caplog.text
    assert len(told) == 1
    make_due(profile="bot")
    for interactive in (False, True):
        source.forget()
        error = raised(LoginRequired, get_token, "bot", interactive=interactive)
        assert "`webex-loopback login -p admin --scopes" in error.remedy
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
    sandbox: Sandbox, make_due: Make, answer: tuple[int, Any], said: str
) -> None:
    revoke(sandbox, make_due(profile="bot").refresh_token)
    sandbox.answer(f"/v1/applications/{sandbox.service_app_id}/token", *answer)
    remedy, again = (raised(kind, get_token, "bot").remedy for kind in (TokenEndpointError, WebexLoopbackError))
    assert said in remedy
    assert "`webex-loopback login -p bot`" not in f"{remedy} {again}"  # the latter at once, from memory


def test_profiles_that_name_each_other_do_not_wait_for_each_other(sandbox: Sandbox, make_due: Make) -> None:
    for name, using in (("bot", "admin"), ("admin", "bot")):
        app = ServiceApp(org_id=sandbox.org_id, app_id=sandbox.service_app_id, using=using)
        make_due(profile=name, refresh_token=None, service_app=app)
    began = time.monotonic()
    with pytest.raises(ConfigurationError):
        get_token("bot")
    assert time.monotonic() - began < 5


def test_a_token_is_not_sent_to_another_webex(make_due: Make) -> None:
    with Sandbox() as other:
        make_due(profile="admin", api_base_url=other.base_url)
        make_due(profile="bot", refresh_token=None)
        with pytest.raises(ConfigurationError):
            get_token("bot")
        assert other.requests == []


def test_the_environments_certificates_override_those_of_the_login(
    make_token: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("WEBEX_CA_BUNDLE", f'"{tmp_path / "ca.pem"}"')
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        client_for(make_token(token_url="https://localhost/", ca_bundle="/elsewhere"))
