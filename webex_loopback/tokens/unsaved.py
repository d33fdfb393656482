"""Keeps a token in memory that could not be stored: the refresh token that it replaces has been used up."""

import contextlib
import logging

from webex_loopback.errors import TokenStoreError

from .record import StoredToken
from .stores import TokenStore

log = logging.getLogger(__name__)

# By the store's place, because a program may have several sources of it: the stored record, and the one to store.
refused: dict[str, tuple[StoredToken | None, StoredToken]] = {}


class Keeper:
    """A store, and the record that this process could not save in it.

    Attributes:
        place: Identifies the store within this process.
    """

    def __init__(self, store: TokenStore) -> None:
        self.store = store
        self.place = str(getattr(store, "real_path", "")) or f"{type(store).__name__} {id(store)}"

    @property
    def holds(self) -> bool:
        """Whether a renewed token still has to be stored."""
        return self.place in refused

    def load(self) -> StoredToken | None:
        """Return the stored record, or the one that could not be stored."""
        return self._waiting() or self.store.load()

    def save(self, record: StoredToken, current: StoredToken | None) -> None:
        """Store the new record, under the lock, or keep it in memory; it replaces `current`."""
        try:
            self.store.save(record)
        except TokenStoreError as error:
            stored, _ = refused.get(self.place, (current, record))
            refused[self.place] = stored, record
            log.warning("%s The new token works in this process; saving will be retried. %s", error, error.remedy)
        else:
            refused.pop(self.place, None)

    def save_again(self) -> None:
        """Try again to store the record, unless another process has renewed, logged in or logged out."""
        if not self.holds:
            return
        with contextlib.suppress(TokenStoreError), self.store.lock(0):
            if (record := self._waiting()) is not None:
                self.store.save(record)
                log.warning("The renewed token has been saved.")
            refused.pop(self.place, None)

    def _waiting(self) -> StoredToken | None:
        """Return the unsaved record, unless the stored one has changed since then."""
        if self.place not in refused:
            return None
        stored, record = refused[self.place]
        with contextlib.suppress(TokenStoreError):
            return record if self.store.load() == stored else None
        return record
