"""A clean environment and a separate data directory for every test, and a sandbox for those that need one."""

import dataclasses
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
import pytest

from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens import source
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores import TokenStore, open_store
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex.account import Account
from webex_loopback.wording import language

# What the fixtures of many tests give.
Patch: TypeAlias = pytest.MonkeyPatch
Output: TypeAlias = pytest.CaptureFixture[str]
Log: TypeAlias = pytest.LogCaptureFixture
Port: TypeAlias = Callable[[], int]
Store: TypeAlias = FileTokenStore
Token: TypeAlias = StoredToken
Make: TypeAlias = Callable[..., Token]
_E = TypeVar("_E", bound=Exception)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs modes, links, FIFOs, signals or terminals of POSIX")
as_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can give files away")
KEPT = ("PATH", "PATHEXT", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV", "CI")


def python(program: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program in an interpreter of its own, to its end."""
    options = {"capture_output": True, "text": True, "timeout": 30} | options
    return subprocess.run([sys.executable, "-c", program, *arguments], **options)


def raised(kind: type[_E], action: Callable[..., object], *arguments: Any, **named: Any) -> _E:
    """Return the exception that a call raises."""
    with pytest.raises(kind) as caught:
        action(*arguments, **named)
    return caught.value


def with_locals(error: BaseException) -> str:
    """Return the traceback with local variables, except those of the test itself."""
    link = error.__traceback__ and error.__traceback__.tb_next
    return "".join(traceback.TracebackException(type(error), error, link, capture_locals=True).format())


def revoke(sandbox: Sandbox, token: Secret | None) -> None:
    """End a token at the sandbox."""
    assert token is not None
    form, auth = {"token": token.get_secret_value()}, (sandbox.client_id, sandbox.client_secret)
    url = f"{sandbox.origin}/idb/oauth2/v1/revoke"
    assert httpx.post(url, data=form, auth=auth, trust_env=False).status_code == 200


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: Patch, tmp_path: Path) -> Iterator[None]:
    """Hide the developer's own settings, proxies, display and tokens."""
    for name in list(os.environ):
        if not name.startswith(("PYTEST", "COV", "HYPOTHESIS", "WINE")) and name not in KEPT:
            monkeypatch.delenv(name)
    if language() == "ja":  # most tests expect English
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "data"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    source.forget()
    yield
    source.forget()


@pytest.fixture
def tokyo(monkeypatch: Patch) -> Iterator[None]:
    """Local time is that of Tokyo."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone of a process cannot be set on this platform")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, monkeypatch: Patch) -> Iterator[Sandbox]:
    """A running sandbox, and the settings of its Integration in the environment; a parameter is its `on_request`."""
    with Sandbox(on_request=getattr(request, "param", None)) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def free_port() -> Port:
    """Return a port of 127.0.0.1 that is free at this moment."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def redirect_uri(request: pytest.FixtureRequest, sandbox: Sandbox, monkeypatch: Patch, free_port: Port) -> str:
    """A redirect URI on a free port, registered with the sandbox and set; a parameter is its pattern."""
    uri = str(getattr(request, "param", "http://127.0.0.1:{}/callback")).format(free_port())
    sandbox.redirect_uris.append(uri)
    monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
    return uri


def visiting(person: str = "") -> str:
    """Return the command of a browser: a simulated user, in a process, is the sandbox's `Person(...)`."""
    visit = f"__import__('webex_loopback.sandbox').sandbox.Person({person}).visit(__import__('sys').argv[1])"
    return f'"{sys.executable}" -c "{visit}" %s'


@pytest.fixture
def browser(monkeypatch: Patch) -> None:
    """A simulated user is the browser that commands open."""
    monkeypatch.setenv("WEBEX_BROWSER", visiting())


@pytest.fixture
def store(tmp_path: Path) -> FileTokenStore:
    """The default profile's store."""
    return FileTokenStore(str(tmp_path / "data" / "tokens" / "default.json"))


@pytest.fixture
def make_token() -> Make:
    """Make a record that no server has issued; `age` seconds old."""

    def make(
        access_token: str = "access-token-one",
        *,
        refresh_token: str | None = "refresh-token-one",
        expires_in: int | None = 1_209_599,
        refresh_token_expires_in: int | None = 7_775_999,
        scope: list[str] | None = None,
        age: float = 0,
        **others: Any,
    ) -> StoredToken:
        tokens = Secret(access_token), None if refresh_token is None else Secret(refresh_token)
        response = TokenResponse(*tokens, expires_in, refresh_token_expires_in, scope)
        fields: dict[str, Any] = {
            "scopes_requested": ["spark:people_read"],
            "client_id": "C" + "0" * 64,
            "client_secret": Secret("client-secret-one"),
            "token_url": "http://127.0.0.1:9/v1/access_token",
            "api_base_url": "http://127.0.0.1:9/v1",
            "account": Account(name="Alex Morgan", email="alex.morgan@example.com"),
        }
        return StoredToken.from_response(response, now=time.time() - age, **(fields | others))

    return make


@pytest.fixture
def logged_in(sandbox: Sandbox, redirect_uri: str, store: FileTokenStore) -> StoredToken:
    """The default profile, logged in to the sandbox by a simulated user over HTTP."""
    from webex_loopback import log_in

    return log_in(open_browser=Person().visit).token


@pytest.fixture
def make_due() -> Make:
    """Make a stored token due for renewal: expired, or with `left` seconds left; with other fields if given."""

    def make(left: float = 0, profile: str = "default", **fields: Any) -> StoredToken:
        store, now = open_store(profile), int(time.time())
        with store.lock():  # a renewal in another process may be under way
            stored = store.load()
            assert stored is not None
            times = {"issued_at": now - 1_000_000, "refresh_at": now - 1, "expires_at": int(now + left) - (left == 0)}
            due = dataclasses.replace(stored, **times | fields)
            store.save(due)
        source.forget()
        return due

    return make


@pytest.fixture
def save(store: FileTokenStore, make_token: Make) -> Make:
    """Store a record, or one made with these arguments, for the default profile or in a given store; return it."""

    def save(record: StoredToken | str = "access-token-one", into: TokenStore = store, **fields: Any) -> StoredToken:
        token = make_token(record, **fields) if isinstance(record, str) else record
        with into.lock():
            into.save(token)
        return token

    return save
