"""`whoami`: asks Webex, renews a rejected token once, and sends no token where it must not go."""

import dataclasses
import json

import pytest

from webex_loopback import log_in
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .conftest import Run


@pytest.fixture(params=[3600])
def rejected(logged_in: StoredToken, store: FileTokenStore, request: pytest.FixtureRequest) -> StoredToken:
    """A login of an hour ago, or another age, whose access token Webex does not accept any more."""
    old = logged_in.issued_at - request.param
    token = dataclasses.replace(logged_in, access_token=Secret("revoked"), issued_at=old)
    with store.lock():
        store.save(token)
    return token


def test_the_account_is_printed(run: Run, sandbox: Sandbox, redirect_uri: str) -> None:
    account = log_in(open_browser=Person("hanako.yamada@example.com").visit).token.account
    before = sandbox.count("/v1/people/me")
    assert run("whoami").out == "山田 花子 <hanako.yamada@example.com>\n"
    out = run("whoami", "--json").out
    assert (json.loads(out), out.isascii()) == (dataclasses.asdict(account), True)
    assert sandbox.count("/v1/people/me") == before + 2


def test_a_rejected_token_is_renewed_once(
    run: Run, rejected: StoredToken, sandbox: Sandbox, store: FileTokenStore
) -> None:
    run("whoami")
    assert sandbox.count("refresh_token") == 1
    assert store.load() != rejected


@pytest.mark.usefixtures("rejected")
def test_a_dead_login_exits_with_3(run: Run, sandbox: Sandbox) -> None:
    sandbox.switches.dead_refresh_token = "invalid_grant"
    assert "`webex-loopback login" in run("whoami", code=3).err


@pytest.mark.usefixtures("redirect_uri")
def test_a_missing_scope_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    token = log_in("work", scopes="spark:kms", open_browser=Person().visit).token
    told = run("whoami", "-p", "work", code=5).err
    assert "spark:people_read" in told
    assert "`webex-loopback login -p work --scopes " in told
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", token.access_token.get_secret_value())
    told = run("whoami", code=5).err
    assert "spark:people_read" in told
    assert "webex-loopback login" not in told


def test_the_token_of_the_environment(
    run: Run, logged_in: StoredToken, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", logged_in.access_token.get_secret_value())
    assert "Alex Morgan" in run("whoami").out
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "expired")
    assert "Set WEBEX_ACCESS_TOKEN to another token" in run("whoami", code=5).err
    assert sandbox.count("refresh_token") == 0
