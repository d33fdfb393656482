"""The encrypted file whose key is in a keyring: a real Secret Service, and keyrings that fail in their own ways."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked

from tests.conftest import Make, Patch, raised
from webex_loopback import TokenStoreError, get_token
from webex_loopback.tokens.stores import keyring as module
from webex_loopback.tokens.stores import open_store
from webex_loopback.tokens.stores.keyring import KeyringTokenStore


class Dictionary(KeyringBackend):
    """A keyring that works."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


def locked(*_: object) -> None:
    raise KeyringLocked("locked")


@pytest.fixture
def backend() -> Iterator[Dictionary]:
    before = keyring.get_keyring()
    working = Dictionary()
    keyring.set_keyring(working)
    yield working
    keyring.set_keyring(before)


def test_the_file_is_encrypted_and_only_the_key_is_in_the_keyring(
    backend: Dictionary, save: Make, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("WEBEX_TOKEN_STORE", "keyring")
    store = open_store("work")
    assert isinstance(store, KeyringTokenStore)
    with store.lock():
        store.reserve()
    token = save(into=store)
    content = Path(store.path).read_bytes()
    for secret in (b"access-token-one", b"refresh-token-one", b"client-secret-one"):
        assert secret not in content
    assert [len(value) for value in backend.entries.values()] == [44]  # Windows takes 1,280 characters
    assert open_store("work").load() == token
    assert get_token("work") == "access-token-one"
    assert store.delete()
    assert not backend.entries
    assert open_store("work").load() is None


def test_a_killed_processs_complete_save_is_adopted_once_the_keyring_answers(
    backend: Dictionary, save: Make, make_token: Make, monkeypatch: Patch
) -> None:
    save("old", into=(store := KeyringTokenStore("work")))
    new = make_token("new")
    Path(os.path.dirname(store.path), f".{os.path.basename(store.path)}.new").write_bytes(store._encode(new))
    with monkeypatch.context() as patch:
        patch.setattr(backend, "get_password", locked)
        with pytest.raises(TokenStoreError):
            KeyringTokenStore("work").load()
    assert KeyringTokenStore("work").load() == new


def test_a_process_finds_the_new_key_after_a_logout_and_a_login_in_another(backend: Dictionary, save: Make) -> None:
    save(into=(known := KeyringTokenStore("work")))
    KeyringTokenStore("work").delete()
    assert known.load() is None
    new = save("new", into=KeyringTokenStore("work"))
    assert known.load() == new


@pytest.mark.parametrize("key", [None, "not a key", "A" * 43 + "="])
def test_a_lost_or_wrong_key_is_an_error(backend: Dictionary, save: Make, key: str | None) -> None:
    save(into=KeyringTokenStore("work"))
    for entry in [*backend.entries]:
        if key is None:
            del backend.entries[entry]
        else:
            backend.entries[entry] = key
    error = raised(TokenStoreError, KeyringTokenStore("work").load)
    assert ("webex-loopback login -p work" in error.remedy) is (key != "not a key")


UNUSABLE: dict[str, dict[str, Any]] = {
    "locked": {"get_password": locked},
    "hanging": {"get_password": lambda *_: time.sleep(30)},
    "forgetful": {"set_password": lambda *_: None},
    "none": {},
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_keyring_that_cannot_be_used_is_an_error_within_five_seconds_and_nothing_is_written(
    backend: Dictionary, save: Make, kind: str, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3 if kind == "hanging" else 4)
    for name, method in UNUSABLE[kind].items():
        monkeypatch.setattr(backend, name, method)
    if kind == "none":
        keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]
    store = KeyringTokenStore("work")
    began = time.monotonic()
    with pytest.raises(TokenStoreError) as caught, store.lock():
        store.reserve()
    assert time.monotonic() - began < 5
    assert caught.value.problem == "unavailable"
    with pytest.raises(TokenStoreError):
        save(into=store)
    assert not os.path.exists(store.path)


PROGRAM = """
import os, sys
import keyring
from webex_loopback.tokens.stores.keyring import KeyringTokenStore
from webex_loopback.tokens.record import StoredToken
from webex_loopback.secret import Secret
backend = type(keyring.get_keyring()).__module__
assert backend == "keyring.backends." + ("Windows" if sys.platform == "win32" else "SecretService"), backend
store = KeyringTokenStore("work")
token = StoredToken(access_token=Secret("a" * 2000), refresh_token=Secret("r"), issued_at=1, refresh_at=2)
with store.lock():
    store.reserve()
    store.save(token)
assert KeyringTokenStore("work").load() == token
assert b"aaaa" not in open(store.path, "rb").read()
assert store.delete()
print("works")
"""


def test_it_works_with_a_real_secret_service_or_windows_credential_manager(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    if sys.platform != "win32":
        missing = [name for name in ("dbus-run-session", "gnome-keyring-daemon") if shutil.which(name) is None]
        if missing:
            if os.environ.get("CI"):
                pytest.fail(f"{missing[0]} is not installed; CI needs it.")
            pytest.skip(f"{missing[0]} is not installed (Debian: apt-get install dbus-daemon gnome-keyring).")
        session = 'printf password | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; exec "$@"'
        command = ["dbus-run-session", "--", "sh", "-c", session, "sh", *command]
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "works\n", done.stderr
