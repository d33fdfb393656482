"""A store for one process, for tests and for programs that keep tokens elsewhere."""

import contextlib
import os
import threading
from collections.abc import Iterator

from webex_loopback.errors import TokenStoreError
from webex_loopback.tokens.record import StoredToken

from . import LOCK_SECONDS


class MemoryTokenStore:
    """Keeps one token in this process only."""

    def __init__(self, token: StoredToken | None = None) -> None:
        self._token = token
        self._locks: dict[int, threading.Lock] = {}  # one per process: a lock held during a fork stays locked

    def __str__(self) -> str:
        return "memory"

    def load(self) -> StoredToken | None:
        return self._token

    def save(self, token: StoredToken) -> None:
        """Keep the token for the life of the process."""
        self._token = token

    def delete(self) -> bool:
        had, self._token = self._token is not None, None
        return had

    @contextlib.contextmanager
    def lock(self, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Exclude the other threads."""
        lock = self._locks.setdefault(os.getpid(), threading.Lock())
        if not lock.acquire(timeout=max(wait_seconds, 0)):
            raise TokenStoreError("Another thread holds the lock of this token store.", problem="locked")
        try:
            yield
        finally:
            lock.release()
