import sys
from collections.abc import Iterator

import pytest

from .postgres import Server, running_server

collect_ignore = ["test_postgres_store.py"] if sys.platform == "win32" else []  # psycopg is not installed there


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for the whole session."""
    with running_server() as server:
        yield server
