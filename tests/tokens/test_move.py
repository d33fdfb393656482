"""Moving a login from one store to another: it is in exactly one of them afterwards, or where it was."""

import dataclasses
import time
from pathlib import Path

import pytest

from tests.conftest import Make, Patch
from webex_loopback import ConfigurationError, LoginRequired, TokenStoreError, get_token
from webex_loopback.cli.app import main
from webex_loopback.paths import token_file
from webex_loopback.tokens import move
from webex_loopback.tokens.move import move_login
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores import open_store, stored_profiles
from webex_loopback.tokens.stores.file import FileTokenStore

from .postgres import Server
from .test_keyring_store import Dictionary, backend, locked  # noqa: F401

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def token(save: Make) -> StoredToken:
    """What profile `work` has in its file."""
    return save(into=open_store("work", "file"))


def where(*kinds: str) -> list[str]:
    return [kind for kind in kinds if open_store("work", kind).load() is not None]


def test_there_and_back(token: StoredToken, postgres: Server, monkeypatch: Patch) -> None:
    postgres.execute("DROP TABLE IF EXISTS webex_loopback_tokens")
    kinds = "file", "keyring", postgres.url()
    for old, new in (kinds[:2], kinds[1:], (kinds[2], kinds[0])):
        monkeypatch.setenv("WEBEX_TOKEN_STORE", new)
        assert main(["import", "--from-store", old, "-p", "work"]) == 0
        assert where(*kinds) == [new]
        assert stored_profiles() == ["work"]
        assert open_store("work").load() == token
        assert get_token("work") == "access-token-one"


@pytest.mark.parametrize(("other", "force"), [(True, False), (True, True), (False, False)])
def test_a_login_that_the_new_store_has_is_replaced_only_with_force(
    token: StoredToken, save: Make, monkeypatch: Patch, other: bool, force: bool
) -> None:
    monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
    store = open_store("work")
    stored = save(dataclasses.replace(token, issued_at=token.issued_at + other), into=store)
    if other and not force:
        with pytest.raises(ConfigurationError, match="has another login"):
            move_login("work", "file")
        assert (store.load(), where("file")) == (stored, ["file"])
    else:  # the same login: a move was interrupted before the removal
        assert move_login("work", "file", force=force)[0] == token
        assert (open_store("work").load(), where("file")) == (token, [])


def test_errors_leave_the_login_where_it_is(
    token: StoredToken, postgres: Server, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(token_file("work"))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="nothing to move"):
        move_login("work", "file")
    monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
    monkeypatch.setattr(Dictionary, "get_password", locked)
    with pytest.raises(TokenStoreError, match="keyring could not be used"):
        move_login("work", "file")
    monkeypatch.setenv("WEBEX_TOKEN_STORE", "postgresql://127.0.0.1:9/x")
    assert main(["import", "--from-store", "file", "-p", "work"]) == 6
    with pytest.raises(ConfigurationError, match="must be file, keyring"):
        move_login("work", "elsewhere")
    for arguments in (["file.json", "--from-store", "file"], ["--from-store", ""]):
        assert main(["import", *arguments]) == 2
    assert path.read_bytes() == before
    monkeypatch.setenv("WEBEX_TOKEN_STORE", '"file"')
    with pytest.raises(LoginRequired, match="not logged in"):
        move_login("work", postgres.url())
    assert path.read_bytes() == before


def test_one_database_under_two_names_loses_nothing(save: Make, postgres: Server, monkeypatch: Patch) -> None:
    monkeypatch.setattr(move, "_LOCK_SECONDS", 0.3)
    monkeypatch.setenv("WEBEX_TOKEN_STORE", postgres.url())
    store = open_store("work")
    save(into=store)
    with pytest.raises(TokenStoreError, match="acquire the lock"):
        move_login("work", postgres.url().replace("127.0.0.1", "localhost"))
    assert store.load() is not None


def test_a_failed_removal_after_the_move_is_reported(token: StoredToken, monkeypatch: Patch) -> None:
    def refuse(_store: FileTokenStore) -> bool:
        raise TokenStoreError("No.", problem="unwritable")

    monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
    monkeypatch.setattr(FileTokenStore, "delete", refuse)
    with pytest.raises(TokenStoreError, match="could not be removed from"):
        move_login("work", "file")
    assert where("file", "keyring") == ["file", "keyring"]
    monkeypatch.setattr(move, "_SECONDS", 0.1)
    monkeypatch.setattr(FileTokenStore, "delete", lambda _: time.sleep(1))
    with pytest.raises(TokenStoreError, match="not moved within"):
        move_login("work", "file")
