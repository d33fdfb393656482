"""Asking whose a login is, and revoking it; and how the commands word it."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from webex_loopback.errors import LoginRequired, ServerUnreachable, TokenEndpointError
from webex_loopback.login import log_in
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


def test_a_token_that_was_ended_is_refreshed(sandbox: Sandbox, logged_in: StoredToken) -> None:
    only_access = logged_in.model_copy(update={"refresh_token": None})
    revoke_grant(only_access)
    assert who_is(TokenSource()).name == "Alex Morgan"
    assert sandbox.count("refresh_token") == 1
    assert get_token() != logged_in.access_token.get_secret_value()


def test_a_login_that_was_ended_needs_another(sandbox: Sandbox, logged_in: StoredToken) -> None:
    revoke_grant(logged_in)
    with pytest.raises(LoginRequired):
        who_is(TokenSource())


def test_a_refresh_that_gives_the_same_token_is_no_way_out(sandbox: Sandbox, logged_in: StoredToken) -> None:
    sandbox.switches.same_token = True
    sandbox.switches.api_faults = ["empty400"]
    with pytest.raises(TokenEndpointError) as caught:
        who_is(TokenSource())
    assert caught.value.status_code == 400  # no 401: nothing was refreshed
    assert sandbox.count("refresh_token") == 0


def test_a_token_refused_though_it_is_the_latest(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore
) -> None:
    """A token just issued is refused: a refresh has just not helped, and another would not."""
    revoke_grant(logged_in.model_copy(update={"refresh_token": None}))
    store.save(logged_in.model_copy(update={"issued_at": logged_in.issued_at + 1_000_000}))
    with pytest.raises(TokenEndpointError) as caught:
        who_is(TokenSource())
    assert caught.value.status_code == 401
    assert "login --force" in caught.value.remedy


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


def is_alive(sandbox: Sandbox, token: StoredToken) -> bool:
    before = sandbox.count("/v1/people/me", status=200)
    with TokenSourceOf(token) as ask:
        ask()
    return sandbox.count("/v1/people/me", status=200) > before


class TokenSourceOf:
    """Asks `people/me` with a certain token, and takes any answer."""

    def __init__(self, token: StoredToken) -> None:
        from webex_loopback.grant import webex_of_token

        self.token = token
        self.webex = webex_of_token(token)

    def __enter__(self) -> Callable[[], None]:
        def ask() -> None:
            try:
                self.webex.people_me(self.token.access_token)
            except TokenEndpointError as error:
                assert error.status_code == 401

        return ask

    def __exit__(self, *_: object) -> None:
        self.webex.close()


def test_revoking_ends_both_tokens(sandbox: Sandbox, logged_in: StoredToken) -> None:
    assert is_alive(sandbox, logged_in)
    assert "has taken the request" in revoke_grant(logged_in)
    assert not is_alive(sandbox, logged_in)
    assert sandbox.count("/idb/oauth2/v1/revoke", status=200) == 2
    with pytest.raises(LoginRequired):
        TokenSource().refresh()


def test_revoking_without_a_refresh_token(sandbox: Sandbox, logged_in: StoredToken) -> None:
    revoke_grant(logged_in.model_copy(update={"refresh_token": None}))
    assert sandbox.count("/idb/oauth2/v1/revoke") == 1
    assert not is_alive(sandbox, logged_in)


def test_a_revocation_that_is_refused(sandbox: Sandbox, logged_in: StoredToken) -> None:
    told = revoke_grant(logged_in.model_copy(update={"client_secret": SecretStr("f" * 64)}))
    assert told.startswith("  Webex did not revoke them (refresh token: ")
    assert "access token: " in told
    assert REVOKE_PAGE in told
    assert is_alive(sandbox, logged_in)


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
    assert is_alive(sandbox, logged_in)
    assert command("logout")[1] == "Profile default was not logged in.\n"


def test_logging_out_and_revoking(sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore) -> None:
    _, told = command("logout", "--revoke")
    assert "are removed from this machine" in told
    assert "Webex has taken the request to revoke them" in told
    assert "stay valid" not in told
    assert store.load() is None
    assert not is_alive(sandbox, logged_in)


def test_logging_out_when_nothing_can_be_revoked(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore
) -> None:
    sandbox.stop()
    _, told = command("logout", "--revoke")
    assert "are removed from this machine" in told
    assert "Webex did not revoke them" in told
    assert store.load() is None
    assert command("logout", "--revoke")[1] == "Profile default was not logged in.\n"
