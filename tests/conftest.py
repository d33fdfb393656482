"""A clean environment and a state folder of its own for every test; one sandbox where it is asked for."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from webex_loopback import source
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.store import FileTokenStore
from webex_loopback.token import Account, StoredToken, TokenResponse

KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV", "CI")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing of the person who runs the tests: no settings, no proxy, no display, no tokens."""
    for name in list(os.environ):
        if not name.startswith(("PYTEST", "COV", "HYPOTHESIS")) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "state"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    source.forget()
    yield
    source.forget()


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running sandbox, and the settings of its Integration in the environment."""
    with Sandbox() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def redirect_uri(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> str:
    """A redirect URI on a free port, registered with the sandbox and set."""
    uri = f"http://127.0.0.1:{free_port()}/callback"
    sandbox.redirect_uris.append(uri)
    monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
    return uri


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a port of 127.0.0.1 that is free at this moment."""
    import socket

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def store(tmp_path: Path) -> FileTokenStore:
    """The default profile's store."""
    return FileTokenStore(str(tmp_path / "state" / "tokens" / "default.json"))


@pytest.fixture
def make_token() -> Callable[..., StoredToken]:
    """Make a record that no server has issued; `age` seconds old."""

    def make(
        access_token: str = "access-token-one", *, expires_in: int | None = 1_209_599, age: float = 0, **others: Any
    ) -> StoredToken:
        response = {
            "access_token": access_token,
            "refresh_token": others.pop("refresh_token", "refresh-token-one"),
            "refresh_token_expires_in": others.pop("refresh_token_expires_in", 7_775_999),
        }
        if expires_in is not None:
            response["expires_in"] = expires_in
        fields: dict[str, Any] = {
            "scopes_requested": ["spark:people_read"],
            "client_id": "C" + "0" * 64,
            "client_secret": "client-secret-one",
            "token_url": "http://127.0.0.1:9/v1/access_token",
            "api_base_url": "http://127.0.0.1:9/v1",
            "account": Account(name="Alex Morgan", email="alex.morgan@example.com"),
        }
        return StoredToken.from_response(
            TokenResponse.model_validate(response), now=time.time() - age, **(fields | others)
        )

    return make


@pytest.fixture
def logged_in(sandbox: Sandbox, redirect_uri: str, store: FileTokenStore) -> StoredToken:
    """The default profile, logged in at the sandbox by a person over HTTP."""
    from webex_loopback.login import log_in

    return log_in(open_browser=Person().visit).token


@pytest.fixture
def make_due(store: FileTokenStore) -> Callable[..., StoredToken]:
    """Turn the clock of a stored token: due for a refresh, and expired unless `left` seconds are to be left."""

    def make(left: float = 0) -> StoredToken:
        stored = store.load()
        assert stored is not None
        now = int(time.time())
        due = stored.model_copy(
            update={"refresh_at": now - 1, "expires_at": int(now + left) - (left == 0), "issued_at": now - 1_000_000}
        )
        store.save(due)
        source.forget()
        return due

    return make
