"""Replacing the stored token as a transaction: reserve, request, store, return.

A refresh token may work only once. So it is used only when there is room for its successor, and the server's answer is
stored before anyone uses it. Nothing interrupts a transaction between request and storing: it runs in a worker, and
both the caller and an exiting interpreter wait for its end.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from webex_loopback.errors import ServerUnreachable, TokenStoreError
from webex_loopback.webex.worker import Late, finish, start
from webex_loopback.wording import without_tokens

from .record import StoredToken
from .stores import LOCK_SECONDS, TokenStore, reserve

log = logging.getLogger(__name__)


class Unsaved(NamedTuple):
    """A record that could not be stored, and the stored one that it is to replace."""

    record: StoredToken
    replaces: StoredToken | None


unsaved: dict[str, Unsaved] = {}  # by the store's place, since a program may open a store more than once


class RetryingStore:
    """A store that keeps a record in memory if it cannot save it: the old refresh token may have been used up.

    Attributes:
        place: Identifies the store within this process.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._stored: StoredToken | None = None
        known = getattr(store, "real_path", "") or getattr(store, "row", "")
        self.place = str(known) or f"{type(store).__name__} {id(store)}"

    @property
    def holds(self) -> bool:
        """Whether a renewed token still has to be stored."""
        return self.place in unsaved

    def load(self) -> StoredToken | None:
        """Return the stored record, or the unsaved one if the stored record has not changed since."""
        waiting = unsaved.get(self.place)
        try:
            self._stored = self._store.load()
        except Exception:
            if waiting is None:
                raise
            self._stored = waiting.replaces
        return waiting.record if waiting and waiting.replaces == self._stored else self._stored

    def save(self, record: StoredToken) -> None:
        """Store the record, or keep it in memory if that fails; called under the lock, after `load`."""
        try:
            self._store.save(record)
        except Exception as error:  # of any kind, from a program's own store
            unsaved[self.place] = Unsaved(record, self._stored)
            what, remedy = f"{without_tokens(str(error)).rstrip('.')}.", getattr(error, "remedy", "")
            log.warning("%s The new token works in this process; saving will be retried. %s", what, remedy)
        else:
            unsaved.pop(self.place, None)

    def save_again(self) -> None:
        """Try again to store the record, unless another process has renewed, logged in or logged out."""
        if not self.holds:
            return
        with contextlib.suppress(Exception), self.lock(0):
            waiting = unsaved.get(self.place)
            if waiting and self.load() is waiting.record:
                self._store.save(waiting.record)
                log.warning("The renewed token has been saved.")
            unsaved.pop(self.place, None)

    def reserve(self) -> None:
        """Make sure that the next `save()` has room, if the store can."""
        reserve(self._store)

    def lock(self, wait_seconds: float) -> AbstractContextManager[None]:
        """Hold the store's lock."""
        return _hold(self._store, wait_seconds)


class Cancelled(Exception):
    """The transaction was cancelled before anything was sent."""


class Transaction:
    """One replacement of a store's token.

    Args:
        make: Takes the stored token (None also if it cannot be read), returns the one to store; usually makes the
            request. If it returns the same object, nothing is stored.
        wait_seconds: For the lock.
    """

    def __init__(
        self,
        store: TokenStore | RetryingStore,
        make: Callable[[StoredToken | None], StoredToken],
        *,
        wait_seconds: float = LOCK_SECONDS,
    ) -> None:
        self._store = store
        self._make = make
        self._wait_seconds = max(wait_seconds, 0)
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

    def interrupted(self) -> bool:
        """Like `cancel`, but tell the user if the request has begun and its end is awaited."""
        cancelled = self.cancel()
        if not cancelled:
            log.warning("Waiting for Webex to answer, so that no tokens are lost.")
        return cancelled

    def run(self) -> StoredToken:
        """Run the transaction in this thread, which should be a worker's; return the stored token.

        Raises:
            TokenStoreError: The lock could not be acquired, or there is no room: `make` has not been called. Or the
                new token could not be stored.
            Exception: From `make`; what was stored is unchanged.
        """
        with _hold(self._store, self._wait_seconds):
            current: StoredToken | None = None
            with contextlib.suppress(TokenStoreError):
                current = self._store.load()
            reserve(self._store)
            self._begin()
            try:
                token = self._make(current)
                if token is not current:
                    self._store.save(token)
                return token
            finally:
                self._ended.set()

    def _begin(self) -> None:
        with self._guard:
            if self._cancelled:
                raise Cancelled
            self._begun = True
        # The interpreter waits for this thread before it exits, even in a child process of multiprocessing, which runs
        # no atexit functions.
        with contextlib.suppress(RuntimeError):  # it is exiting: see below
            threading.Thread(target=self._ended.wait, args=[LOCK_SECONDS], daemon=False).start()
        if not threading.main_thread().is_alive() and not self._for_main_thread:
            self._ended.set()
            raise TokenStoreError("The token was not renewed because the program is exiting.", problem="locked")


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
        return finish(start(transaction.run), seconds, cancel=transaction.interrupted)
    except Late:
        raise ServerUnreachable(f"No usable answer arrived within {seconds:g} seconds.") from None


def _hold(store: TokenStore | RetryingStore, wait_seconds: float) -> AbstractContextManager[None]:
    try:
        return store.lock(wait_seconds)
    except TypeError:  # a store written for version 1, whose lock() takes no argument
        return store.lock()  # type: ignore[call-arg]
