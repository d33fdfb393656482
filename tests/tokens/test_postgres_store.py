"""The PostgreSQL store, against a real server: locks, crashes, restarts, roles, keys."""

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.conftest import Make, Patch, python, raised
from webex_loopback import ConfigurationError, TokenSource, TokenStoreError, get_token
from webex_loopback.clients.pytest_plugin import Clock
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.sandbox import Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores import open_store
from webex_loopback.tokens.stores.postgres import PostgresTokenStore
from webex_loopback.tokens.transaction import RetryingStore

from .postgres import Server

Connect = Callable[..., PostgresTokenStore]
TABLE = "webex_loopback_tokens"


@pytest.fixture
def url(postgres: Server, monkeypatch: Patch) -> str:
    """The URL of an empty database, set as WEBEX_TOKEN_STORE."""
    postgres.execute(f"DROP TABLE IF EXISTS {TABLE}")
    monkeypatch.setenv("WEBEX_TOKEN_STORE", postgres.url())
    return postgres.url()


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    """Return a store with a connection of its own, for as long as the test lasts."""
    stores = []

    def connect(profile: str = "default", keys: str = "", role: str = url) -> PostgresTokenStore:
        stores.append(PostgresTokenStore(role, profile, keys=Secret(keys)))
        return stores[-1]

    yield connect
    for store in stores:
        store.close()


@pytest.fixture
def database(connect: Connect) -> PostgresTokenStore:
    return connect()


def test_a_token_is_kept_in_a_row_per_profile(database: PostgresTokenStore, connect: Connect, make_token: Make) -> None:
    assert not database.delete()
    assert database.profiles() == []
    token = make_token()
    with database.lock():
        database.reserve()
        assert database.load() is None
        database.save(token)
    assert connect("work").load() is None
    assert open_store().load() == token
    assert RetryingStore(open_store()).place == RetryingStore(connect()).place  # an unsaved token is known to both
    assert get_token() == "access-token-one"
    assert database.delete()
    assert database.load() is None


def test_the_record_is_encrypted_and_keys_can_be_rotated(
    postgres: Server, connect: Connect, save: Make, monkeypatch: Patch
) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    token = save(into=connect(keys=old))
    ((content,),) = postgres.execute(f"SELECT record FROM {TABLE}")
    assert "refresh-token-one" not in str(content)
    assert connect(keys=f"{new},{old}").load() == token
    for keys in (new, ""):
        assert raised(TokenStoreError, connect(keys=keys).load).problem == "corrupt"
    with pytest.raises(ConfigurationError):
        connect(keys="not-a-key")
    monkeypatch.setenv("WEBEX_TOKEN_STORE_KEY", old)
    assert open_store().load() == token
    token = save(into=connect())
    assert connect(keys=new).load() == token  # saved before there was a key


def test_a_table_of_a_newer_version_is_used_but_not_its_rows(
    database: PostgresTokenStore, postgres: Server, save: Make
) -> None:
    save(into=database)
    postgres.execute(f"ALTER TABLE {TABLE} ADD COLUMN note text")
    assert save("second", into=database) == database.load()
    postgres.execute(f"UPDATE {TABLE} SET version = 2")
    assert raised(TokenStoreError, database.load).problem == "future"


@pytest.mark.parametrize("role", ["stranger", "reader"])
def test_a_role_that_may_not_write_does_not_use_the_refresh_token(
    database: PostgresTokenStore, connect: Connect, postgres: Server, save: Make, role: str
) -> None:
    token = save(into=database)
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    if role == "reader":
        postgres.execute(f"GRANT SELECT ON {TABLE} TO reader")
    store = connect(role=postgres.url(role))
    with pytest.raises(TokenStoreError) as caught, store.lock():
        store.reserve()
    assert caught.value.problem == "unwritable"
    assert role == "stranger" or store.load() == token


def test_an_ordinary_role_creates_the_schema_itself(connect: Connect, postgres: Server, save: Make) -> None:
    postgres.execute("CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app")
    store = connect(role=postgres.url("app", "app"))
    with store.lock():
        store.reserve()
    assert save(into=store) == store.load()


def test_the_lock_excludes_threads_and_connections(database: PostgresTokenStore, connect: Connect) -> None:
    other = connect()

    def wait() -> None:
        with other.lock(10):
            pass

    with ThreadPoolExecutor(1) as pool, database.lock():
        began = time.monotonic()
        for store, seconds in itertools.product((database, other), (0, 0.2)):
            with pytest.raises(TokenStoreError) as caught, store.lock(seconds):
                pass
            assert caught.value.problem == "locked"
        assert time.monotonic() - began < 1.5
        with connect("work").lock(0):
            pass
        waiting = pool.submit(wait)
        time.sleep(0.3)
        assert not waiting.done()
        began = time.monotonic()
        assert other.load() is None  # while a thread of the same store waits
        assert time.monotonic() - began < 1
    with database.lock(0):
        waiting.result()


def test_a_child_that_is_forked_while_a_thread_holds_the_lock_can_acquire_it(database: PostgresTokenStore) -> None:
    reading, writing = os.pipe()
    with database.lock():
        child = os.fork()
        if child == 0:
            try:
                os.read(reading, 1)
                with database.lock(3):
                    os._exit(0)
            finally:
                os._exit(1)
    os.write(writing, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


HOLDER = """
import sys, time
from webex_loopback.tokens.stores.postgres import PostgresTokenStore
store = PostgresTokenStore(sys.argv[1], "default")
with store.lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_releases_the_lock(url: str, database: PostgresTokenStore) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TokenStoreError), database.lock(0):
            pass
        holder.kill()
    with database.lock(5):
        pass


def test_sixteen_machines_make_one_renewal(
    database: PostgresTokenStore, sandbox: Sandbox, logged_in: StoredToken, make_due: Make, tmp_path: Path
) -> None:
    """Separate data directories stand for machines; the token has expired and rotates."""
    sandbox.switches.update({"rotation": True, "latency": 0.2})
    make_due()

    def ask(machine: int) -> str:
        environ = os.environ | {"WEBEX_LOOPBACK_HOME": str(tmp_path / f"machine{machine}")}
        return python("from webex_loopback import get_token; print(get_token())", env=environ, timeout=50).stdout

    with ThreadPoolExecutor(16) as pool:
        (token,) = {*pool.map(ask, range(16))}
    assert token.strip() in sandbox.secrets
    assert sandbox.count("refresh_token") == 1


def test_a_restart_in_the_middle_of_a_renewal_does_not_lose_the_new_token(
    postgres: Server, database: PostgresTokenStore, save: Make, make_token: Make
) -> None:
    save("old", into=database)
    new = make_token("new")
    with database.lock():
        database.reserve()
        postgres.stop("immediate")
        restart = threading.Timer(1, postgres.start)
        restart.start()
        database.save(new)
        restart.join()
    assert database.load() == new


def test_a_database_that_is_down_is_reported_within_five_seconds(
    postgres: Server, database: PostgresTokenStore, save: Make
) -> None:
    save(into=database)
    postgres.stop()
    try:
        began = time.monotonic()
        assert raised(TokenStoreError, database.load).problem == "unavailable"
        assert time.monotonic() - began < 5
    finally:
        postgres.start()


def test_a_database_that_does_not_answer_is_reported_within_five_seconds(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        store = connect(role=f"postgresql://127.0.0.1:{mute.getsockname()[1]}/postgres")
        began = time.monotonic()
        assert raised(TokenStoreError, store.load).problem == "unavailable"
    assert time.monotonic() - began < 5


def test_memory_is_trusted_for_thirty_seconds(database: PostgresTokenStore, save: Make, webex_clock: Clock) -> None:
    asked = TokenSource(clock=webex_clock)
    for seconds, token, answer in ((0, "first", "first"), (29, "second", "first"), (2, "second", "second")):
        save(token, into=database)
        webex_clock.move(seconds)
        assert asked.get_token() == answer


@pytest.mark.parametrize(
    ("rest", "shown"),
    [
        ("u:secret@one:5432,two:5433/db", "one:5432,two:5433/db"),
        *((f"u:secret{sign}secret@host/db", "host/db") for sign in "#?[@"),
        ("u:12/secret@host/db", "u:12/[...]"),
        ("[::1]:5432/db?password=secret", "[::1]:5432/db"),
        ("/db?host=/run/postgresql", "/run/postgresql/db"),
    ],
)
def test_a_store_is_named_as_libpq_reads_its_url_without_the_password(rest: str, shown: str) -> None:
    assert str(PostgresTokenStore(f"postgresql://{rest}", "work")) == f"postgresql://{shown} (profile work)"


@pytest.mark.parametrize("rest", ["app:hunter2@127.0.0.1:9/db", "u:hunter2%zz@host/db"])
def test_no_password_is_in_a_message(rest: str) -> None:
    error = raised(WebexLoopbackError, lambda: PostgresTokenStore(f"postgresql://{rest}", "default").load())
    assert "hunter2" not in f"{error} {error.remedy}"
