"""Keeps in memory what a store refused to take: the refresh token that it replaces has been spent."""

import contextlib
import logging

from webex_loopback.errors import TokenStoreError

from .record import StoredToken
from .stores import TokenStore

log = logging.getLogger(__name__)

# By the store's place, since a program may have several sources of it: what the store holds, and what it should hold.
refused: dict[str, tuple[StoredToken | None, StoredToken]] = {}


class Keeper:
    """A store, with this process's memory of what it refused.

    Attributes:
        place: Identifies the store within this process.
    """

    def __init__(self, store: TokenStore) -> None:
        self.store = store
        self.place = str(getattr(store, "real_path", "")) or f"{type(store).__name__} {id(store)}"

    @property
    def holds(self) -> bool:
        """Whether a renewed token is waiting to be stored."""
        return self.place in refused

    def load(self) -> StoredToken | None:
        """Return what is stored, or would be if the store had not refused it."""
        return self._waiting() or self.store.load()

    def save(self, record: StoredToken, current: StoredToken | None) -> None:
        """Store the new record, under the lock, or keep it; `current` is what it replaces."""
        try:
            self.store.save(record)
        except TokenStoreError as error:
            stored, _ = refused.get(self.place, (current, record))
            refused[self.place] = stored, record
            log.warning("%s The new token works in this process; saving is tried again. %s", error, error.remedy)
        else:
            refused.pop(self.place, None)

    def save_again(self) -> None:
        """Try to store what was refused; another process's renewal, a login or logout wins."""
        if not self.holds:
            return
        with contextlib.suppress(TokenStoreError), self.store.lock(0):
            if (record := self._waiting()) is not None:
                self.store.save(record)
                log.warning("The renewed token is saved now.")
            refused.pop(self.place, None)

    def _waiting(self) -> StoredToken | None:
        """Return what was refused, unless what it replaces has been replaced meanwhile."""
        if self.place not in refused:
            return None
        stored, record = refused[self.place]
        with contextlib.suppress(TokenStoreError):
            return record if self.store.load() == stored else None
        return record
