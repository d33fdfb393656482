"""Asking whose a login is, and revoking it; and how the commands word it."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from webex_loopback.errors import LoginRequired, ServerUnreachable, TokenEndpointError
from webex_loopback.login import log_in
from webex_loopback.oauth import webex_of_token
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.session import REVOKE_PAGE, revoke_grant, who_is
from webex_loopback.source import TokenSource, get_token
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken


def command(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run the command; return its standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "webex_loopback", *arguments], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


# Whose it is


def test_who_it_is(logged_in: StoredToken) -> None:
    account = who_is(TokenSource())
    assert (account.name, account.email) == ("Alex Morgan", "alex.morgan@example.com")
    assert account == logged_in.account


def test_who_it_is_by_command(logged_in: StoredToken) -> None:
    assert command("whoami")[0] == "Alex Morgan <alex.morgan@example.com>\n"


@pytest.fixture
def old_login(logged_in: StoredToken, store: FileTokenStore) -> StoredToken:
    """A login of some minutes ago; a token just issued is not refreshed when it is refused."""
    old = logged_in.model_copy(update={"issued_at": logged_in.issued_at - 600})
    store.save(old)
    return old


def test_a_token_that_was_ended_is_refreshed(sandbox: Sandbox, old_login: StoredToken) -> None:
    revoke_grant(old_login.model_copy(update={"refresh_token": None}))
    assert who_is(TokenSource()).name == "Alex Morgan"
    assert sandbox.count("refresh_token") == 1
    assert get_token() != old_login.access_token.get_secret_value()


def test_a_login_that_was_ended_needs_another(old_login: StoredToken) -> None:
    revoke_grant(old_login)
    with pytest.raises(LoginRequired):
        who_is(TokenSource())


def test_a_refresh_that_would_not_help(sandbox: Sandbox, logged_in: StoredToken) -> None:
    revoke_grant(logged_in.model_copy(update={"refresh_token": None}))
    with pytest.raises(TokenEndpointError) as caught:
        who_is(TokenSource())
    assert caught.value.status_code == 401
    assert "login --force" in caught.value.remedy
    assert sandbox.count("refresh_token") == 0


@pytest.mark.usefixtures("redirect_uri")
def test_who_it_is_without_the_scope_for_it(sandbox: Sandbox) -> None:
    log_in(scopes="spark:kms", open_browser=Person().visit)
    with pytest.raises(TokenEndpointError) as caught:
        who_is(TokenSource())
    assert caught.value.status_code == 403
    assert "spark:people_read" in caught.value.remedy


def test_who_it_is_while_webex_is_away(sandbox: Sandbox, logged_in: StoredToken) -> None:
    sandbox.switches.api_faults = ["reset"]
    with pytest.raises(ServerUnreachable):
        who_is(TokenSource())


def test_whose_the_environment_s_token_is(
    sandbox: Sandbox, logged_in: StoredToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", logged_in.access_token.get_secret_value())
    assert who_is(TokenSource()).name == "Alex Morgan"
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "ended")
    with pytest.raises(TokenEndpointError) as caught:
        who_is(TokenSource())
    assert caught.value.status_code == 401
    assert sandbox.count("refresh_token") == 0


def test_who_it_is_by_command_when_nobody_is_logged_in() -> None:
    assert "webex-loopback login" in command("whoami", code=3)[1]


# Revoking


def is_alive(token: StoredToken) -> bool:
    with webex_of_token(token) as webex:
        try:
            webex.people_me(token.access_token)
        except TokenEndpointError:
            return False
        return True


def test_revoking_ends_both_tokens(sandbox: Sandbox, logged_in: StoredToken) -> None:
    assert is_alive(logged_in)
    assert "has taken the request" in revoke_grant(logged_in)
    assert not is_alive(logged_in)
    assert sandbox.count("/idb/oauth2/v1/revoke", status=200) == 2
    with pytest.raises(LoginRequired):
        TokenSource().refresh()


def test_revoking_without_a_refresh_token(sandbox: Sandbox, logged_in: StoredToken) -> None:
    revoke_grant(logged_in.model_copy(update={"refresh_token": None}))
    assert sandbox.count("/idb/oauth2/v1/revoke") == 1
    assert not is_alive(logged_in)


def test_a_revocation_that_is_refused(sandbox: Sandbox, logged_in: StoredToken) -> None:
    told = revoke_grant(logged_in.model_copy(update={"client_secret": SecretStr("f" * 64)}))
    assert told.startswith("  Webex did not revoke them (refresh token: ")
    assert "access token: " in told
    assert REVOKE_PAGE in told
    assert is_alive(logged_in)


def test_a_revocation_while_webex_is_away(sandbox: Sandbox, logged_in: StoredToken) -> None:
    sandbox.stop()
    assert "cannot be reached" in revoke_grant(logged_in)


@pytest.mark.parametrize("base", ["https://webexapis.com/v1", "https://api.ciscospark.com/v1"])
def test_webex_s_own_revocation_endpoint(
    base: str, make_token: Callable[..., StoredToken], monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    """The request goes nowhere: the proxy is one that nobody runs."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    told = revoke_grant(make_token(api_base_url=base, token_url=f"{base}/access_token", refresh_token=None))
    assert "idbroker.webex.com" in told
    assert "did not revoke" in told


def test_a_webex_whose_revocation_endpoint_is_not_known(make_token: Callable[..., StoredToken]) -> None:
    token = make_token(api_base_url="https://api-usgov.webex.com/v1")
    assert "No way to revoke tokens is known for https://api-usgov.webex.com/v1" in revoke_grant(token)


# Logging out


def test_logging_out_says_that_the_tokens_live_on(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore
) -> None:
    _, told = command("logout")
    assert "The tokens of profile default are removed from this machine." in told
    assert f"At Webex they stay valid until they end. To revoke them now: {REVOKE_PAGE}" in told
    assert store.load() is None
    assert is_alive(logged_in)
    assert command("logout")[1] == "Profile default was not logged in.\n"


def test_logging_out_and_revoking(sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore) -> None:
    _, told = command("logout", "--revoke")
    assert "are removed from this machine" in told
    assert "Webex has taken the request to revoke them" in told
    assert "stay valid" not in told
    assert store.load() is None
    assert not is_alive(logged_in)


def test_logging_out_when_nothing_can_be_revoked(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore
) -> None:
    sandbox.stop()
    _, told = command("logout", "--revoke")
    assert "are removed from this machine" in told
    assert "Webex did not revoke them" in told
    assert store.load() is None
    assert command("logout", "--revoke")[1] == "Profile default was not logged in.\n"
