"""Processes that renew a token when they are told to, forked from a server that has imported what they need."""

import atexit
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from webex_loopback import log_in
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens import decision, renewal
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores.file import FileTokenStore

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # of `make fuzz`
REFRESH_SECONDS = 0.2 if EXAMPLES else 0.1  # that a refresh takes in the tests with signals
PAUSES = ("FIRST_PAUSE_SECONDS", "EXPIRED_PAUSE_SECONDS", "REJECTED_PAUSE_SECONDS")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["httpx", "webex_loopback.tokens.service_app", __name__])

_armed = False


def count(usually: int) -> int:
    """Return how often to do something: as often as usual, or 200 times for 10,000 examples."""
    return max(EXAMPLES // 50, usually)


def is_lost(sandbox: Sandbox, store: FileTokenStore) -> bool:
    """Whether the login is lost; if so, log in again."""
    with store.lock():  # a renewal that has outlived its caller ends first
        stored = store.load()
    if stored and stored.refresh_token and sandbox.is_alive(stored.refresh_token.get_secret_value()):
        return False
    log_in(open_browser=Person().visit, force=True)
    return True


class Bell(Exception):
    """What the signal handler raises."""


class Renewing:
    """Such a process, and the pipe to it."""

    def __init__(self, path: str) -> None:
        self._pipe, other = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(path, other), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()  # it is ready

    def ask(self, moved: float = 0) -> None:
        """Have it ask for a token, with a clock that is moved by so many seconds."""
        self._pipe.send(moved)

    def ring(self) -> None:
        """Interrupt it by a signal whose handler raises, if it is asking."""
        assert self._process.pid
        os.kill(self._process.pid, signal.SIGUSR1)

    def answer(self) -> tuple[str, str]:
        """Return the kind of the outcome, and the token or the message."""
        assert self._pipe.poll(20)
        return self._pipe.recv()  # type: ignore[no-any-return]

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        """Wait for it to exit as an interpreter does: with what is under way completed."""
        self._pipe.close()
        self._process.join(20)
        self._process.close()


def _serve(path: str, pipe: "Connection[Any, Any]") -> None:
    renewal.OPTIONAL_SECONDS = 0.3
    for name in PAUSES:
        setattr(decision, name, 0.0)
    signal.signal(signal.SIGUSR1, _ring)
    moved = 0.0
    source = TokenSource(store=FileTokenStore(path), clock=lambda: time.time() + moved)
    pipe.send("ready")
    try:
        while True:
            moved = pipe.recv()
            source._hot = (0.0, 0.0, "")
            pipe.send(_ask(source))
    except EOFError:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _ask(source: TokenSource) -> tuple[str, str]:
    global _armed
    try:
        try:
            _armed = True
            return "token", source.get_token()
        finally:
            _armed = False
    except Bell:
        return "bell", ""
    except WebexLoopbackError as error:
        return type(error).__name__, str(error)


def _ring(*_: object) -> None:
    global _armed
    if _armed:
        _armed = False
        raise Bell
