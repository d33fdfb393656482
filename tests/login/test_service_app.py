"""Logging in as a Service App: what is fetched, where the secrets go, and what stays as it was after an error."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Output, Patch
from webex_loopback import ConfigurationError, LoginRequired, get_token, log_in, login_status
from webex_loopback.cli.app import main
from webex_loopback.errors import TokenEndpointError, WebexLoopbackError
from webex_loopback.login.service_app import log_in_service_app
from webex_loopback.paths import token_file
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.sandbox.registration import CLIENT_ID

SCOPES = "spark:people_read spark:applications_token"


@pytest.fixture(autouse=True)
def admin(sandbox: Sandbox, redirect_uri: str, monkeypatch: Patch) -> None:
    """A person's login that may fetch, and one that may not; the settings are then those of the Service App."""
    log_in("admin", scopes=SCOPES, open_browser=Person().visit)
    log_in("plain", scopes="spark:people_read", open_browser=Person().visit)
    for name, value in sandbox.service_app_environment().items():
        monkeypatch.setenv(name, value)


def test_it_is_a_profile_like_any_other(sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    result = log_in_service_app("bot", sandbox.org_id, "admin")
    assert result.path == token_file("bot")
    assert get_token("bot") == result.token.access_token.get_secret_value()
    status = login_status("bot")
    assert status is not None
    assert (status.account_name, status.scopes_granted) == ("Sandbox Service App", ())
    app = status.service_app
    assert app is not None
    assert (app.org_id, app.app_id, app.using) == (sandbox.org_id, sandbox.service_app_id, "admin")
    again = log_in_service_app("bot", sandbox.org_id, "admin", sandbox.service_app_id)
    assert again.token.access_token != result.token.access_token
    assert not any(secret in f"{result!r} {status!r} {caplog.text}" for secret in sandbox.secrets)


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"using": "bot"}, ConfigurationError, "another name"),
        ({"using": "nobody"}, LoginRequired, f'webex-loopback login -p nobody --scopes "{SCOPES}"'),
        ({"org_id": ""}, ConfigurationError, "organization ID"),
        ({"org_id": "WRONG"}, ConfigurationError, "--force"),
        ({"org_id": "WRONG", "force": True}, TokenEndpointError, "organization ID"),
        ({"app_id": "a/b"}, ConfigurationError, "application ID"),
        ({"WEBEX_CLIENT_ID": CLIENT_ID, "force": True}, ConfigurationError, "those of the Service App"),
        ({"WEBEX_CLIENT_SECRET": "wrong"}, TokenEndpointError, "the Service App's page"),
        ({"authorized": False}, TokenEndpointError, "Control Hub"),
        ({"using": "plain"}, TokenEndpointError, f'webex-loopback login -p plain --scopes "{SCOPES}" --force'),
    ],
)
def test_an_error_names_its_remedy_and_leaves_the_old_login(
    sandbox: Sandbox, arguments: dict[str, Any], kind: type[WebexLoopbackError], said: str, monkeypatch: Patch
) -> None:
    log_in_service_app("bot", sandbox.org_id, "admin")
    before = Path(token_file("bot")).read_bytes()
    for name in ("WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET"):
        monkeypatch.setenv(name, arguments.pop(name, os.environ[name]))
    sandbox.switches.service_app_authorized = arguments.pop("authorized", True)
    with pytest.raises(kind) as caught:
        log_in_service_app(**{"profile": "bot", "org_id": sandbox.org_id, "using": "admin"} | arguments)
    assert said in f"{caught.value} {caught.value.remedy}"
    assert Path(token_file("bot")).read_bytes() == before


def test_a_persons_login_is_replaced_only_with_force(sandbox: Sandbox) -> None:
    person = Path(token_file("person"))
    person.write_bytes(Path(token_file("admin")).read_bytes())
    person.chmod(0o600)
    with pytest.raises(ConfigurationError, match="already logged in"):
        log_in_service_app("person", sandbox.org_id, "admin")
    log_in_service_app("person", sandbox.org_id, "admin", force=True)
    person.write_text("{")
    log_in_service_app("person", sandbox.org_id, "admin")
    assert [path.name.partition("-")[0] for path in person.parent.glob("person.json.c*")] == ["person.json.corrupt"]


def test_a_found_file_sends_the_tokens_to_no_other_server(sandbox: Sandbox, monkeypatch: Patch) -> None:
    with Sandbox() as other:
        settings = sandbox.service_app_environment() | {"WEBEX_API_BASE_URL": other.base_url}
        for name in settings:
            monkeypatch.delenv(name)
        Path("config.env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        Path("config.env").chmod(0o600)
        with pytest.raises(ConfigurationError, match="the access token of profile admin"):
            log_in_service_app("bot", sandbox.org_id, "admin")
        assert other.requests == []


def test_the_command(sandbox: Sandbox, capsys: Output) -> None:
    assert main(["login", "-p", "bot", "--service-app", sandbox.org_id, "--using", "admin"]) == 0
    told = capsys.readouterr().err
    assert "Logged in as Sandbox Service App" in told
    assert f"Service App, fetched through profile admin, for organization {sandbox.org_id}\n" in told
    assert main(["status", "-p", "bot"]) == 0
    assert "Fetched with profile admin" in " ".join(capsys.readouterr().out.split())
    for arguments in (["--service-app", "x"], ["--using", "x"], ["--app-id", "x"], ["--service-app=x", "--using="]):
        assert main(["login", *arguments]) == 2


def test_check_counts_the_days_of_the_login_it_depends_on(sandbox: Sandbox, capsys: Output) -> None:
    sandbox.switches.refresh_token_expires_in = 86_400
    log_in_service_app("bot", sandbox.org_id, "admin")
    assert main(["status", "-p", "bot", "--check", "7d"]) == 0
    os.unlink(token_file("admin"))
    assert main(["status", "-p", "bot", "--check", "1h"]) == 0
    assert main(["status", "--all", "--check", "7d"]) == 3
    told = capsys.readouterr()
    assert "Profile bot: less than 7 days left. Run `webex-loopback login -p admin --force`." in told.err
    assert "(through admin)" in told.out
    os.unlink(token_file("bot"))
    os.unlink(token_file("plain"))
    assert main(["status", "--all", "--check", "7d"]) == 3
    assert main(["status", "--all"]) == 0
