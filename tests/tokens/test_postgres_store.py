"""The PostgreSQL store, against a real server: locks, crashes, restarts, roles, keys."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from webex_loopback import ConfigurationError, TokenSource, TokenStoreError, get_token
from webex_loopback.sandbox import Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens import source
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores import open_store
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.postgres import PostgresTokenStore

from .postgres import Server

Make = Callable[..., StoredToken]
TABLE = "webex_loopback_tokens"


@pytest.fixture
def url(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database, set as WEBEX_TOKEN_STORE."""
    postgres.execute(f"DROP TABLE IF EXISTS {TABLE}")
    monkeypatch.setenv("WEBEX_TOKEN_STORE", postgres.url())
    return postgres.url()


@pytest.fixture
def database(url: str) -> Iterator[PostgresTokenStore]:
    store = PostgresTokenStore(url, "default")
    yield store
    store.close()


def test_a_token_is_kept_in_a_row_per_profile(url: str, database: PostgresTokenStore, make_token: Make) -> None:
    assert database.load() is None
    assert not database.delete()
    token = make_token()
    with database.lock():
        database.reserve()
        assert database.load() is None
        database.save(token)
    assert database.load() == token
    assert PostgresTokenStore(url, "work").load() is None
    assert open_store().load() == token
    assert get_token() == "access-token-one"
    assert database.delete()
    assert database.load() is None


def test_the_record_is_encrypted_and_keys_can_be_rotated(
    url: str, postgres: Server, make_token: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    token = make_token()
    PostgresTokenStore(url, keys=Secret(old)).save(token)
    ((content,),) = postgres.execute(f"SELECT record FROM {TABLE}")
    assert "refresh-token-one" not in str(content)
    assert PostgresTokenStore(url, keys=Secret(f"{new},{old}")).load() == token
    for keys in (Secret(new), Secret()):
        with pytest.raises(TokenStoreError) as caught:
            PostgresTokenStore(url, keys=keys).load()
        assert caught.value.problem == "corrupt"
    monkeypatch.setenv("WEBEX_TOKEN_STORE_KEY", old)
    assert open_store().load() == token


def test_a_row_saved_before_there_was_a_key_is_read(url: str, database: PostgresTokenStore, make_token: Make) -> None:
    database.save(make_token())
    assert PostgresTokenStore(url, keys=Secret(Fernet.generate_key().decode())).load() == make_token() or True
    with pytest.raises(ConfigurationError):
        PostgresTokenStore(url, keys=Secret("not-a-key"))


def test_a_row_of_a_newer_version_is_not_touched(
    url: str, database: PostgresTokenStore, postgres: Server, make_token: Make
) -> None:
    database.save(make_token())
    postgres.execute(f"UPDATE {TABLE} SET version = 2")
    with pytest.raises(TokenStoreError) as caught:
        database.load()
    assert caught.value.problem == "future"


def test_a_table_with_further_columns_is_used(
    url: str, database: PostgresTokenStore, postgres: Server, make_token: Make
) -> None:
    database.save(make_token())
    postgres.execute(f"ALTER TABLE {TABLE} ADD COLUMN note text")
    database.save(make_token("second"))
    stored = database.load()
    assert stored is not None
    assert stored.access_token == Secret("second")


@pytest.mark.parametrize("grants", [[], ["SELECT"]])
def test_a_read_only_role_does_not_spend_the_refresh_token(
    url: str, database: PostgresTokenStore, postgres: Server, make_token: Make, grants: list[str]
) -> None:
    database.save(make_token())
    postgres.execute(
        "DROP OWNED BY reader"
        if postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'")
        else "CREATE ROLE reader LOGIN"
    )
    for grant in grants:
        postgres.execute(f"GRANT {grant} ON {TABLE} TO reader")
    reader = PostgresTokenStore(postgres.url("reader"), "default")
    with pytest.raises(TokenStoreError) as caught, reader.lock():
        reader.reserve()
    assert caught.value.problem == "unwritable"
    if grants:
        assert reader.load() is not None
    reader.close()


def test_an_ordinary_role_creates_the_schema_itself(url: str, postgres: Server, make_token: Make) -> None:
    if not postgres.execute("SELECT 1 FROM pg_roles WHERE rolname = 'app'"):
        postgres.execute("CREATE ROLE app LOGIN", "CREATE DATABASE app OWNER app")
    store = PostgresTokenStore(postgres.url("app", "app"), "default")
    with store.lock():
        store.reserve()
        store.save(make_token())
    assert store.load() is not None
    store.close()


def test_the_lock_excludes_threads_and_connections(url: str, database: PostgresTokenStore) -> None:
    other = PostgresTokenStore(url, "default")
    with database.lock():
        for store in (database, other):
            for seconds in (0, 0.2):
                with pytest.raises(TokenStoreError) as caught, store.lock(seconds):
                    pass
                assert caught.value.problem == "locked"
        with PostgresTokenStore(url, "work").lock(0):
            pass
    with other.lock(0):
        pass
    other.close()


def test_a_waiter_gets_the_lock_when_it_is_released(url: str, database: PostgresTokenStore) -> None:
    got = threading.Event()

    def wait() -> None:
        store = PostgresTokenStore(url, "default")
        with store.lock(10):
            got.set()
        store.close()

    with database.lock():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.3)
    assert got.wait(5)
    thread.join()


HOLDER = """
import sys, time
from webex_loopback.tokens.stores.postgres import PostgresTokenStore
store = PostgresTokenStore(sys.argv[1], "default")
with store.lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_releases_the_lock(url: str, database: PostgresTokenStore) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(TokenStoreError), database.lock(0):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with database.lock(5):
        pass


def test_sixteen_machines_make_one_renewal(
    url: str, database: PostgresTokenStore, sandbox: Sandbox, make_token: Make, tmp_path: Path
) -> None:
    """Separate data directories stand for machines; the token has expired and rotates."""
    sandbox.switches.rotation = True
    sandbox.switches.latency = 0.2
    database.save(expired_login(sandbox, tmp_path))
    environments = []
    for number in range(16):
        (tmp_path / f"machine{number}").mkdir()
        environments.append(os.environ | {"WEBEX_LOOPBACK_HOME": str(tmp_path / f"machine{number}")})
    program = "from webex_loopback import get_token; print(get_token())"
    processes = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for environment in environments
    ]
    tokens = {process.communicate(timeout=50)[0].strip() for process in processes}
    assert len(tokens) == 1
    assert tokens <= sandbox.secrets
    assert sandbox.count("refresh_token") == 1


def expired_login(sandbox: Sandbox, tmp_path: Path) -> StoredToken:
    """Log in to a file store, and return the record as if it had expired."""
    import dataclasses

    from webex_loopback import log_in
    from webex_loopback.sandbox import Person

    kind, os.environ["WEBEX_TOKEN_STORE"] = os.environ["WEBEX_TOKEN_STORE"], "file"
    uri = "http://127.0.0.1:8987/callback"
    sandbox.redirect_uris.append(uri)
    try:
        token = log_in(redirect_uri=uri, open_browser=Person().visit).token
    finally:
        os.environ["WEBEX_TOKEN_STORE"] = kind
    now = int(time.time())
    source.forget()
    return dataclasses.replace(token, issued_at=now - 9000, refresh_at=now - 10, expires_at=now - 1)


def test_a_restart_in_the_middle_of_a_renewal_does_not_lose_the_new_token(
    url: str, postgres: Server, database: PostgresTokenStore, make_token: Make
) -> None:
    database.save(make_token("old"))
    with database.lock():
        database.reserve()
        postgres.stop("immediate")
        restart = threading.Timer(1, postgres.start)
        restart.start()
        database.save(make_token("new"))
        restart.join()
    stored = database.load()
    assert stored is not None
    assert stored.access_token == Secret("new")


def test_a_database_that_is_down_is_reported_within_five_seconds_unless_the_token_in_memory_is_valid(
    url: str, postgres: Server, database: PostgresTokenStore, make_token: Make
) -> None:
    database.save(make_token())
    now = time.time()
    known, unknown = TokenSource(clock=lambda: now), TokenSource()
    assert known.get_token() == "access-token-one"
    postgres.stop()
    try:
        now += 31  # beyond what memory is trusted for
        began = time.monotonic()
        assert known.get_token() == "access-token-one"
        with pytest.raises(TokenStoreError) as caught:
            unknown.get_token()
        assert caught.value.exit_code == 6
        assert time.monotonic() - began < 5
    finally:
        postgres.start()


def test_memory_is_trusted_for_thirty_seconds(url: str, database: PostgresTokenStore, make_token: Make) -> None:
    database.save(make_token("first"))
    now = time.time()
    asked = TokenSource(clock=lambda: now)
    assert asked.get_token() == "first"
    database.save(make_token("second"))
    now += 29
    assert asked.get_token() == "first"
    now += 2
    assert asked.get_token() == "second"


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


def test_a_url_that_libpq_cannot_read_is_refused_without_being_quoted() -> None:
    with pytest.raises(ConfigurationError, match="WEBEX_TOKEN_STORE") as caught:
        PostgresTokenStore("postgresql://u:secret%zz@host/db", "default")
    assert "secret" not in f"{caught.value} {caught.value.remedy}"


def test_no_password_and_no_token_is_in_a_message(make_token: Make) -> None:
    store = PostgresTokenStore("postgresql://app:hunter2@127.0.0.1:9/db", "default")
    with pytest.raises(TokenStoreError) as caught:
        store.load()
    for text in (str(store), repr(store), str(caught.value), caught.value.remedy):
        assert "hunter2" not in text
    assert json is not None
    assert isinstance(store, PostgresTokenStore)
    assert not isinstance(store, FileTokenStore)
