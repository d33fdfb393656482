"""Replacing the stored token as a transaction: reserve, request, store, return.

A refresh token may work only once. So it is used only when there is room for its successor, and the server's answer is
stored before anyone uses it. Nothing interrupts a transaction between request and storing: it runs in a worker, and
both the caller and an exiting interpreter wait for its end.
"""

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from webex_loopback.errors import ServerUnreachable, TokenStoreError
from webex_loopback.webex.worker import Late, finish, start

from .record import StoredToken
from .stores import LOCK_SECONDS, TokenStore


class Unsaved(TokenStoreError):
    """The new token could not be stored although room was reserved; `token` exists in memory only."""

    token: StoredToken


class Cancelled(Exception):
    """The transaction was cancelled before anything was sent."""


class Transaction:
    """One replacement of a store's token.

    Args:
        make: Takes the stored token, returns the one to store; usually makes the request. If it returns the same
            object, nothing is stored.
        wait_seconds: For the lock.
        load: Reads the stored token; default: `store.load`, with None for an unreadable one.
        save: Takes the new token and the one that it replaces; default: `store.save`, and `Unsaved` if that fails.
    """

    def __init__(
        self,
        store: TokenStore,
        make: Callable[[StoredToken | None], StoredToken],
        *,
        wait_seconds: float = LOCK_SECONDS,
        load: Callable[[], StoredToken | None] | None = None,
        save: Callable[[StoredToken, StoredToken | None], None] | None = None,
    ) -> None:
        self._store = store
        self._make = make
        self._wait_seconds = max(wait_seconds, 0)
        self._load = load or (lambda: _readable(store))
        self._save = save or self._save_or_raise
        self._guard = threading.Lock()
        self._cancelled = False
        self._ended = threading.Event()
        self._begun = False
        self._for_main_thread = threading.current_thread() is threading.main_thread()

    def cancel(self) -> bool:
        """Cancel it unless the request has begun; return whether it is cancelled."""
        with self._guard:
            self._cancelled = self._cancelled or not self._begun
            return self._cancelled

    def run(self) -> StoredToken:
        """Run the transaction in this thread, which should be a worker's; return the stored token.

        Raises:
            TokenStoreError: The lock could not be acquired, or there is no room: `make` has not been called.
            Unsaved: `make` has returned a token that could not be stored.
            Exception: From `make`; what was stored is unchanged.
        """
        with _hold(self._store, self._wait_seconds):
            current = self._load()
            getattr(self._store, "reserve", _nothing)()
            self._begin()
            try:
                token = self._make(current)
                if token is not current:
                    self._save(token, current)
                return token
            finally:
                self._ended.set()

    def _begin(self) -> None:
        with self._guard:
            if self._cancelled:
                raise Cancelled
            self._begun = True
        # The interpreter waits for this thread before it exits; in a child process of multiprocessing, which runs no
        # atexit functions, too.
        with contextlib.suppress(RuntimeError):  # it is exiting: see below
            threading.Thread(target=self._ended.wait, args=[LOCK_SECONDS], daemon=False).start()
        if not threading.main_thread().is_alive() and not self._for_main_thread:
            self._ended.set()
            raise TokenStoreError("The token was not renewed because the program is exiting.", problem="locked")

    def _save_or_raise(self, token: StoredToken, current: StoredToken | None) -> None:
        try:
            self._store.save(token)
        except TokenStoreError as error:
            unsaved = Unsaved(str(error), problem=error.problem, remedy=error.remedy)
            unsaved.token = token
            raise unsaved from error


def replace_token(
    store: TokenStore, make: Callable[[StoredToken | None], StoredToken], *, seconds: float = LOCK_SECONDS
) -> StoredToken:
    """Run a transaction in a worker and wait for its end, even if signals arrive.

    Raises:
        ServerUnreachable: It is still running after `seconds`.
        Exception: As `Transaction.run`; from a signal handler: after the end of the transaction.
    """
    transaction = Transaction(store, make, wait_seconds=seconds)
    try:
        return finish(start(transaction.run), seconds, cancel=transaction.cancel)
    except Late:
        raise ServerUnreachable(f"No usable answer arrived within {seconds:g} seconds.") from None


def _hold(store: TokenStore, wait_seconds: float) -> AbstractContextManager[None]:
    try:
        return store.lock(wait_seconds)
    except TypeError:  # a store written for version 1, whose lock() takes no argument
        return store.lock()


def _readable(store: TokenStore) -> StoredToken | None:
    try:
        return store.load()
    except TokenStoreError:
        return None


def _nothing() -> None: ...
