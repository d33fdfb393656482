import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from webex_loopback.errors import TokenStoreError
from webex_loopback.tokens import transaction
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores.memory import MemoryTokenStore

from .postgres import Server, running_server

collect_ignore = ["test_postgres_store.py"] if sys.platform == "win32" else []  # psycopg is not installed there


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for the whole session."""
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_unsaved() -> Iterator[None]:
    yield
    transaction.unsaved.clear()


class FailingStore(MemoryTokenStore):
    """A store that notes its calls, and fails with the problem that `fails` has for a call."""

    def __init__(self, token: StoredToken | None = None, **fails: str) -> None:
        super().__init__(token)
        self.fails = fails
        self.calls: list[str] = []

    def load(self) -> StoredToken | None:
        self._note("load")
        return super().load()

    def reserve(self) -> None:
        self._note("reserve")

    def save(self, token: StoredToken) -> None:
        self._note("save")
        super().save(token)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if problem := self.fails.get(call):
            raise TokenStoreError(f"It cannot {call}.", problem=problem)


@contextlib.contextmanager
def failing(call: str, number: int, *, after: int = 0, folder: str = "") -> Iterator[None]:
    """Have a call of the operating system fail, except for the first ones, reads, and other folders."""
    original, left = getattr(os, call), after

    def fail(what: Any, *others: Any, **named: Any) -> Any:
        nonlocal left
        reads = call == "open" and not others[0] & (os.O_WRONLY | os.O_RDWR)
        if not reads and (isinstance(what, int) or str(what).startswith(folder)):
            left -= 1
            if left < 0:
                raise OSError(number, os.strerror(number))
        return original(what, *others, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fail)
        yield


def ask_again(source: TokenSource) -> str:
    """Return what `get_token()` returns a second later, when it looks again."""
    source._hot = (0.0, 0.0, "")
    return source.get_token()
