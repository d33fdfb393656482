from collections.abc import Iterator

import pytest

from .postgres import Server, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for the whole session."""
    with running_server() as server:
        yield server
