import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import Log, Make, python
from webex_loopback.errors import TokenStoreError
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.memory import MemoryTokenStore
from webex_loopback.tokens.transaction import Cancelled, RetryingStore, Transaction, replace_token
from webex_loopback.webex.worker import start

from .conftest import FailingStore


def test_reserve_request_store_return(make_token: Make) -> None:
    old, new = make_token("old"), make_token("new")
    store = FailingStore(old)

    def request(current: StoredToken | None) -> StoredToken:
        store.calls.append("request")
        assert current == old
        return new

    assert replace_token(store, request) is new
    assert store.calls == ["load", "reserve", "request", "save"]


def test_the_refresh_token_is_not_used_if_there_is_no_room(make_token: Make) -> None:
    called: list[object] = []
    with pytest.raises(TokenStoreError):
        replace_token(FailingStore(make_token(), reserve="unwritable"), called.append)  # type: ignore[arg-type]
    assert not called


def test_a_failed_request_or_an_unchanged_token_stores_nothing_and_frees_the_lock(make_token: Make) -> None:
    store = FailingStore(make_token())
    with pytest.raises(ZeroDivisionError):
        replace_token(store, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    replace_token(store, lambda current: current or make_token())
    assert "save" not in store.calls


def test_it_can_be_cancelled_only_before_the_request_and_says_that_it_goes_on(make_token: Make, caplog: Log) -> None:
    begun, go = threading.Event(), threading.Event()
    store, new = FailingStore(make_token()), make_token("new")

    def request(_: StoredToken | None) -> StoredToken:
        begun.set()
        go.wait(5)
        return new

    waiting, running = (Transaction(store, request) for _ in range(2))
    assert (waiting.interrupted(), caplog.text) == (True, "")
    with pytest.raises(Cancelled):
        waiting.run()
    flight = start(running.run)
    begun.wait(5)
    assert (running.interrupted(), "Waiting for Webex" in caplog.text) == (False, True)
    go.set()
    assert flight.result(5) is new
    assert store.load() is new


def test_an_unsaved_token_is_kept_even_if_the_store_can_no_longer_be_read(make_token: Make) -> None:
    store = FailingStore(make_token(), save="unwritable")
    for new in (make_token("second"), make_token("third")):
        retrying = RetryingStore(store)
        retrying.load()
        retrying.save(new)
        store.fails["load"] = "unreadable"
        assert RetryingStore(store).load() is new
    store.fails.clear()
    assert RetryingStore(store).load() is new


def test_a_programs_own_store_may_raise_anything(make_token: Make, caplog: Log) -> None:
    class Broken(MemoryTokenStore):
        def save(self, token: StoredToken) -> None:
            raise ValueError(f"Cannot store {token.to_json()!r}")

    retrying = RetryingStore(Broken(make_token()))
    retrying.load()
    retrying.save(new := make_token("new"))
    retrying.save_again()
    assert retrying.load() is new
    assert "refresh-token-one" not in caplog.text


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
time.sleep(0.2)
"""


FORKED = """
import multiprocessing
def child():
    exec(program, {})
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
"""  # its children run no atexit functions


PROGRAMS = {"program": PROGRAM}
if sys.platform != "win32":  # has no fork, and SIGINT cannot be sent to one process
    PROGRAMS["multiprocessing"] = f"program = {PROGRAM!r}\n{FORKED}"
    PROGRAMS["ctrl-c"] = PROGRAM + "\nimport os, signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_interpreter_exits_only_when_the_answer_is_stored(store: FileTokenStore, save: Make, kind: str) -> None:
    save()
    assert python(PROGRAMS[kind], store.path).returncode == (-signal.SIGINT if kind == "ctrl-c" else 0)
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
    """The exiting interpreter would end the thread that waits for the answer."""
    assert python(EXITING).stdout == "TokenStoreError\n"
