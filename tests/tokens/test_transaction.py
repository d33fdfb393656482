import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from webex_loopback.errors import TokenStoreError
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.memory import MemoryTokenStore
from webex_loopback.tokens.transaction import Cancelled, Transaction, replace_token

Make = Callable[..., StoredToken]


class Recorder(MemoryTokenStore):
    """A store that notes what happens to it, and fails on request."""

    def __init__(self, token: StoredToken | None = None, *, full: bool = False, broken: bool = False) -> None:
        super().__init__(token)
        self.full = full
        self.broken = broken
        self.events: list[str] = []

    def load(self) -> StoredToken | None:
        self.events.append("load")
        return super().load()

    def reserve(self) -> None:
        self.events.append("reserve")
        if self.full:
            raise TokenStoreError("no room", problem="unwritable")

    def save(self, token: StoredToken) -> None:
        self.events.append("save")
        if self.broken:
            raise TokenStoreError("cannot save", problem="unwritable")
        super().save(token)


def test_reserve_request_store_return(make_token: Make) -> None:
    old, new = make_token("old"), make_token("new")
    store = Recorder(old)

    def request(current: StoredToken | None) -> StoredToken:
        store.events.append("request")
        assert current == old
        return new

    assert replace_token(store, request) is new
    assert store.events == ["load", "reserve", "request", "save"]


def test_nothing_is_spent_if_there_is_no_room(make_token: Make) -> None:
    called: list[object] = []
    with pytest.raises(TokenStoreError):
        replace_token(Recorder(make_token(), full=True), called.append)  # type: ignore[arg-type]
    assert not called


def test_the_very_object_it_was_given_is_not_stored_again(make_token: Make) -> None:
    store = Recorder(make_token())
    replace_token(store, lambda current: current or make_token())
    assert "save" not in store.events


def test_a_failed_request_changes_nothing_and_frees_the_lock(make_token: Make) -> None:
    store = Recorder(old := make_token())

    def fail(_: StoredToken | None) -> StoredToken:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        replace_token(store, fail)
    assert store.load() == old
    with store.lock(0):
        pass


def test_it_can_be_cancelled_only_before_the_request(make_token: Make) -> None:
    store = Recorder(make_token())
    begun, go = threading.Event(), threading.Event()
    new = make_token("new")

    def request(_: StoredToken | None) -> StoredToken:
        begun.set()
        go.wait(5)
        return new

    waiting = Transaction(store, request)
    assert waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.run()
    running = Transaction(store, request)
    thread = threading.Thread(target=running.run)
    thread.start()
    begun.wait(5)
    assert not running.cancel()
    go.set()
    thread.join()
    assert store.load() is new


def test_a_store_written_for_version_1_works(make_token: Make) -> None:
    class Old(MemoryTokenStore):
        @contextlib.contextmanager
        def lock(self) -> Iterator[None]:  # type: ignore[override]
            yield

    store = Old()
    replace_token(store, lambda _: make_token("new"))  # type: ignore[arg-type]
    assert store.load() is not None


PROGRAM = """
import sys, threading, time
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.transaction import Transaction
from webex_loopback.webex.worker import start
store = FileTokenStore(sys.argv[1])
def request(current):
    print("sent", flush=True)
    time.sleep(0.5)
    import dataclasses
    return dataclasses.replace(current, scopes_granted=["new"])
start(Transaction(store, request).run)
time.sleep(float(sys.argv[2]))
"""


FORKED = """
import multiprocessing
def child():
    exec(program, {})
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
"""  # its children run no atexit functions


@pytest.mark.parametrize(
    "program",
    [
        PROGRAM,
        pytest.param(
            f"program = {PROGRAM!r}\n{FORKED}",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
        ),
    ],
    ids=["program", "multiprocessing"],
)
def test_the_interpreter_exits_only_when_the_answer_is_stored(make_token: Make, tmp_path: object, program: str) -> None:
    from webex_loopback.tokens.stores.file import FileTokenStore

    store = FileTokenStore(os.path.join(str(tmp_path), "tokens", "default.json"))
    with store.lock():
        store.save(make_token())
    done = subprocess.run([sys.executable, "-c", program, store.path, "0.2"], timeout=20, check=False)
    assert done.returncode == 0
    stored = store.load()
    assert stored is not None
    assert stored.granted == ["new"]


EXITING = """
import atexit, sys, threading, time
from webex_loopback.tokens.stores.memory import MemoryTokenStore
from webex_loopback.tokens.transaction import Transaction
from webex_loopback.webex.worker import start
go = threading.Event()
def renew():
    go.wait()
    Transaction(MemoryTokenStore(), lambda _: print("sent", flush=True)).run()
running = start(renew)
@atexit.register
def exiting():
    go.set()
    print(type(running.exception(5)).__name__)
"""


def test_nothing_is_sent_once_the_interpreter_is_exiting() -> None:
    """It would end the thread that waits for the answer."""
    done = subprocess.run([sys.executable, "-c", EXITING], timeout=20, capture_output=True, text=True, check=True)
    assert done.stdout == "TokenStoreError\n"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_during_the_request_does_not_lose_the_answer(make_token: Make, tmp_path: object) -> None:
    from webex_loopback.tokens.stores.file import FileTokenStore

    store = FileTokenStore(os.path.join(str(tmp_path), "tokens", "default.json"))
    with store.lock():
        store.save(make_token())
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, store.path, "30"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    process.stdout.close()
    stored = store.load()
    assert stored is not None
    assert stored.granted == ["new"]
