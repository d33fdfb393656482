"""SIGKILL at random moments of a refresh: a rotating login is lost only between the server's answer and the file.

`make fuzz` kills 200 processes and prints what was lost. A server may also have begun to process the request of a
process that is killed; the one here looks whether its client is still there before it uses up the refresh token.
"""

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("signals and fork servers as POSIX has them", allow_module_level=True)

from tests.programs.renewing import CONTEXT, Renewing
from webex_loopback import TokenSource, log_in
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.sandbox.request import Request
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
COUNT = max(EXAMPLES // 50, 12)
REFRESH_SECONDS = 0.2 if EXAMPLES else 0.1

Make = Callable[..., StoredToken]


@pytest.fixture
def answered() -> list[float]:
    """When each token request was answered."""
    return []


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, answered: list[float]) -> Iterator[Sandbox]:
    def note(request: Request) -> None:
        if request.grant_type == "refresh_token":
            answered.append(time.monotonic())

    with Sandbox(on_request=note) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.switches.rotation = True
        running.switches.latency = REFRESH_SECONDS
        yield running


def test_a_kill_loses_only_what_was_answered_and_not_yet_written(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make, store: FileTokenStore, answered: list[float]
) -> None:
    chance = random.Random(200)
    lost = []
    for _ in range(COUNT):
        make_due()
        process = Renewing(store.path)
        process.ask()
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.1))
        sandbox.switches.tokenlimit_reached = True  # the client is gone
        killed = time.monotonic()
        process.kill()
        time.sleep(REFRESH_SECONDS * 1.2)
        sandbox.switches.tokenlimit_reached = False
        stored = store.load()
        assert stored is not None
        assert stored.refresh_token is not None
        if not sandbox.is_alive(stored.refresh_token.get_secret_value()):
            lost.append(killed - answered[-1])
            log_in(open_browser=Person().visit, force=True)
    microseconds = [round(seconds * 1e6) for seconds in lost]
    print(f"{len(lost)} of {COUNT} logins lost, killed so many microseconds after the answer: {microseconds}")
    assert all(seconds < 0.1 for seconds in lost)
    assert len(lost) <= 2 + COUNT // 20


def test_a_kill_between_the_write_and_the_renaming_loses_nothing(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make, store: FileTokenStore
) -> None:
    make_due()
    pipe, other = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_stop_before_renaming, args=(store.path, other), daemon=True)
    process.start()
    assert pipe.poll(20)
    process.kill()
    process.join(20)
    token = TokenSource().get_token()
    assert sandbox.is_alive(token)
    assert sandbox.count("refresh_token") == 1


def _stop_before_renaming(path: str, pipe: "Connection[Any, Any]") -> None:
    def stop(*_: object) -> None:
        pipe.send("written")
        time.sleep(30)

    os.replace = stop  # type: ignore[assignment]
    TokenSource(store=FileTokenStore(path)).get_token()


@pytest.mark.skipif(not EXAMPLES, reason="a measurement, for `make fuzz -s`")
def test_how_long_the_window_is(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore, answered: list[float]
) -> None:
    sandbox.switches.latency = 0
    pipe, other = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_measure, args=(store.path, other), daemon=True)
    process.start()
    answered.clear()
    for name, moments in pipe.recv():
        microseconds = [(moment - answer) * 1e6 for moment, answer in zip(moments, answered, strict=True)]
        middle, worst = statistics.median(microseconds), max(microseconds)
        print(f"from the server's answer to {name}: {middle:.0f} µs in the middle, {worst:.0f} µs at worst")
    process.join(20)


def _measure(path: str, pipe: "Connection[Any, Any]") -> None:
    """Send when the new content was complete in the file system's cache, and on disk; CLOCK_MONOTONIC is one clock."""
    moments: list[float] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        moments.append(time.monotonic())
        original(descriptor)
        moments.append(time.monotonic())

    os.fsync = fsync  # type: ignore[assignment]
    source = TokenSource(store=FileTokenStore(path))
    complete, durable = [], []
    for _ in range(50):
        moments.clear()
        source.refresh()
        complete.append(moments[2])  # 0 and 1: the reservation; 2 and 3: the content; 4 and 5: the directory
        durable.append(moments[3])
    pipe.send([("the whole content being written (survives SIGKILL)", complete), ("disk (survives a crash)", durable)])
