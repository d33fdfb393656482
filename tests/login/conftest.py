"""Fixtures of more than one kind of login."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest


class Interrupt(BaseException):
    """Raised by a signal handler, as Ctrl-C or a program's own."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Raise `Interrupt` in the main thread."""

    def handler(*_: object) -> None:
        raise Interrupt

    previous = signal.signal(signal.SIGTERM, handler)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, previous)


@pytest.fixture
def terminal() -> Iterator[Any]:
    from .terminals import Terminal  # not on Windows

    terminal = Terminal()
    yield terminal
    terminal.close()
