"""Logins shared by several machines: one row per profile in a PostgreSQL database (extra `postgres`).

The database does the locking: an advisory lock of the session, which ends with the connection if a process dies.
"""

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from webex_loopback.errors import ConfigurationError, TokenStoreError
from webex_loopback.oauth.token_response import MalformedToken
from webex_loopback.paths import login_command, profile_name
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import FutureVersion, StoredToken
from webex_loopback.webex.worker import Late, run
from webex_loopback.wording import without_tokens

from . import LOCK_SECONDS

try:
    import psycopg
except ImportError as error:
    raise ConfigurationError(
        f"WEBEX_TOKEN_STORE names a PostgreSQL database, but psycopg cannot be imported: {error}.",
        setting="WEBEX_TOKEN_STORE",
        remedy=f"Run `{sys.executable} -m pip install 'psycopg[binary]'`.",
    ) from error

_T = TypeVar("_T")
_Connection = psycopg.Connection[tuple[Any, ...]]

VERSION = 1  # of the row's content; a higher one was written by a newer webex-loopback
ANSWER_SECONDS = 4.5
_RECONNECT_SECONDS = 15.0  # that a save waits for a server that restarts: the new token exists nowhere else
_CREATE = (
    "CREATE TABLE IF NOT EXISTS webex_loopback_tokens (profile text PRIMARY KEY, version integer NOT NULL,"
    " record text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now())"
)
_SELECT = "SELECT version, record FROM webex_loopback_tokens WHERE profile = %s"
_PROFILES = "SELECT profile FROM webex_loopback_tokens ORDER BY profile"
_SAVE = (
    "INSERT INTO webex_loopback_tokens (profile, version, record) VALUES (%s, %s, %s)"
    " ON CONFLICT (profile) DO UPDATE SET version = excluded.version, record = excluded.record, updated_at = now()"
)
_DELETE = "DELETE FROM webex_loopback_tokens WHERE profile = %s RETURNING profile"


class PostgresTokenStore:
    """One profile's row.

    Args:
        url: `postgresql://...`, with any parameters that libpq accepts (`sslmode`, `host` lists, ...).
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        keys: Fernet keys separated by commas or spaces: the first encrypts, all decrypt. Empty: not encrypted.
    """

    look_seconds = 30.0

    def __init__(self, url: str, profile: str | None = None, *, keys: Secret | None = None) -> None:
        self._url = Secret(url)  # it may hold a password
        del url  # an error's traceback may be printed with its local variables
        self._profile = profile_name(profile)
        self.row = f"{_place(self._url)} (profile {self._profile})"
        self._fernet = _fernet(keys or Secret())
        # One each per process: a forked child must not use its parent's, and a lock may be held during a fork.
        self._connections: dict[int, _Connection] = {}
        self._guards: dict[int, threading.Lock] = {}

    def __str__(self) -> str:
        return self.row

    def load(self) -> StoredToken | None:
        """Return the stored token, or None if there is none; waits up to 5 seconds for the database."""
        rows = self._rows(_SELECT, self._profile)
        if not rows:
            return None
        version, text = rows.pop()
        try:
            if version > VERSION:
                raise FutureVersion(f"has version {version}; this webex-loopback reads version {VERSION}")
            return StoredToken.from_json(self._decrypted(text))
        except FutureVersion as error:
            problem, what, remedy = "future", str(error), "Upgrade webex-loopback on this machine."
        except MalformedToken as error:
            problem, what = "corrupt", str(error)
            remedy = f"Check WEBEX_TOKEN_STORE_KEY, or log in again: `{login_command(self._profile, '--force')}`."
        finally:
            del text  # an error's traceback may be printed with its local variables
        raise TokenStoreError(f"The row in {self} cannot be used: it {what}.", problem=problem, remedy=remedy)

    def save(self, token: StoredToken) -> None:
        """Store the token; waits for a server that is being restarted. After an error, the row is unchanged."""
        until = time.monotonic() + _RECONNECT_SECONDS
        while True:
            try:
                return self._query(lambda connection: self._write(connection, self._encrypted(token)))
            except TokenStoreError as error:
                if error.problem != "unavailable" or time.monotonic() >= until:
                    raise
            time.sleep(0.25)

    def reserve(self) -> None:
        """Make sure that this role may save, by writing the row and rolling back."""

        def attempt(connection: _Connection) -> None:
            with connection.transaction(force_rollback=True):
                self._write(connection, " " * 4096)

        self._query(attempt)

    def delete(self) -> bool:
        """Remove the row; return whether there was one."""
        return bool(self._rows(_DELETE, self._profile))

    def profiles(self) -> list[str]:
        """Return the names of all profiles in the database."""
        return [row[0] for row in self._rows(_PROFILES)]

    @contextlib.contextmanager
    def lock(self, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Exclude every other renewal of this profile, on any machine."""
        locked = TokenStoreError(
            f"Could not acquire the lock of profile {self._profile} in {self} within {wait_seconds:g} seconds.",
            problem="locked",
            remedy="Another process or machine is renewing it. Try again.",
        )
        digest = hashlib.sha256(f"webex-loopback {self._profile}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        # A session of its own, because others use the store's while this one waits.
        connection = self._answer(self._connect)
        try:
            # Not 0, which would mean without limit; the server may still be ending the session that had the lock.
            milliseconds = max(int(wait_seconds * 1000), 20)
            try:
                # Before version 13, a statement_timeout does not apply to the statements sent along with it.
                connection.execute(f"SET lock_timeout = {milliseconds}; SET statement_timeout = {milliseconds + 1000}")
                connection.execute("SELECT pg_advisory_lock(%s)", (key,))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
                raise locked from None
            except psycopg.Error as error:
                raise self._translated(error) from None
            yield
        finally:
            connection.close()

    def close(self) -> None:
        """Close this process's connection."""
        connection = self._connections.pop(os.getpid(), None)
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()  # psycopg warns about connections that are left open

    def _query(self, action: Callable[[_Connection], _T]) -> _T:
        """Run an action on this process's connection; once more on a new one if the old one is lost."""

        def attempts() -> _T:
            try:
                return action(self._connection())
            except psycopg.OperationalError as error:
                self.close()
                # SQLSTATE 57P01: the server is shutting down. Without any, the connection was lost.
                if error.sqlstate not in (None, "57P01", "57P02", "57P03"):
                    raise
            return action(self._connection())

        return self._answer(attempts)

    def _answer(self, function: Callable[[], _T]) -> _T:
        try:
            return run(function, ANSWER_SECONDS)
        except Late:
            self._connections.pop(os.getpid(), None)
            raise self._translated(None) from None
        except psycopg.Error as error:
            raise self._translated(error) from None

    def _connection(self) -> _Connection:
        with self._guards.setdefault(os.getpid(), threading.Lock()):
            connection = self._connections.get(os.getpid())
            if connection is None or connection.closed:
                connection = self._connections[os.getpid()] = self._connect()
            return connection

    def _connect(self) -> _Connection:
        connection = psycopg.connect(
            self._url.get_secret_value(),
            autocommit=True,
            connect_timeout=3,
            application_name="webex-loopback",
            tcp_user_timeout=int(ANSWER_SECONDS * 1000),
            prepare_threshold=None,  # so that a connection pooler can be used
        )
        connection.execute(f"SET statement_timeout = {int(ANSWER_SECONDS * 1000)}")
        return connection

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, none if there is no table."""

        def fetch(connection: _Connection) -> list[tuple[Any, ...]]:
            try:
                return connection.execute(statement, values).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

        return self._query(fetch)

    def _write(self, connection: _Connection, text: str) -> None:
        values = (self._profile, VERSION, text)
        try:
            with connection.transaction():
                connection.execute(_SAVE, values)
        except psycopg.errors.UndefinedTable:
            with contextlib.suppress(psycopg.errors.UniqueViolation), connection.transaction():
                connection.execute(_CREATE)  # another machine may create it at the same moment
            connection.execute(_SAVE, values)

    def _encrypted(self, token: StoredToken) -> str:
        data = token.to_json()
        return (data if self._fernet is None else self._fernet.encrypt(data)).decode()

    def _decrypted(self, text: str) -> bytes:
        if text.startswith("{"):
            return text.encode()  # saved before there was a key
        if self._fernet is None:
            raise MalformedToken("is encrypted, and WEBEX_TOKEN_STORE_KEY is not set")
        try:
            return self._fernet.decrypt(text)
        except InvalidToken:
            raise MalformedToken("cannot be decrypted with WEBEX_TOKEN_STORE_KEY") from None

    def _translated(self, error: psycopg.Error | None) -> TokenStoreError:
        problem = "unavailable"
        remedy = "Check that the database is running and WEBEX_TOKEN_STORE is right, or run `webex-loopback doctor`."
        if isinstance(error, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
            problem = "unwritable"
            remedy = "Grant the role CREATE on the schema, and SELECT, INSERT, UPDATE and DELETE on the table."
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = f"no answer within {ANSWER_SECONDS:g} seconds" if error is None else without_tokens(lines[0])
        return TokenStoreError(f"The token store {self} could not be used: {why}.", problem=problem, remedy=remedy)


def _place(url: Secret) -> str:
    """Return the URL without user and password, as libpq reads it: a `#` or `?` in a password is not a delimiter."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url.get_secret_value())
    except psycopg.Error:
        raise ConfigurationError(
            "WEBEX_TOKEN_STORE is not a valid PostgreSQL URL.",
            setting="WEBEX_TOKEN_STORE",
            remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded.",
        ) from None  # that error quotes what it cannot read
    hosts, ports = (str(parts.get(name, "")).split(",") for name in ("host", "port"))
    ports *= len(hosts) if len(ports) == 1 else 1
    hosts = [f"[{host}]" if ":" in host else host.rpartition("@")[2] for host in hosts]  # a password may have an @
    where = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    database = str(parts.get("dbname", ""))  # a / in the password: this is the rest of it
    shown = "[...]" if "@" in database else database
    return f"postgresql://{where}/{shown}" if where or shown else "postgresql://"


def _fernet(keys: Secret) -> "MultiFernet | None":
    if not keys:
        return None
    try:
        return MultiFernet([Fernet(text) for text in keys.get_secret_value().replace(",", " ").split()])
    except ValueError:
        raise ConfigurationError(
            "WEBEX_TOKEN_STORE_KEY is not a Fernet key.",
            setting="WEBEX_TOKEN_STORE_KEY",
            remedy="Create one with `python -c 'from cryptography.fernet import Fernet; "
            "print(Fernet.generate_key().decode())'` and use it on every machine.",
        ) from None
