"""SIGKILL at random moments of a refresh: a rotating login is lost only between the server's answer and the file.

`make fuzz` kills 200. The server here does not process the request of a client that is gone; another may.
"""

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import pytest

if sys.platform == "win32":
    pytest.skip("signals and fork servers as POSIX has them", allow_module_level=True)

from tests.programs.renewing import REFRESH_SECONDS, Renewing, count, is_lost
from webex_loopback import TokenSource
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [pytest.mark.slow, pytest.mark.fuzz, pytest.mark.usefixtures("logged_in")]
answered: list[float] = []  # when each request was answered


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(on_request=lambda _: answered.append(time.monotonic())) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.switches.rotation = True
        yield running


def test_a_kill_loses_only_an_answer_that_is_not_yet_written(
    sandbox: Sandbox, make_due: Callable[..., StoredToken], store: FileTokenStore
) -> None:
    sandbox.switches.latency = REFRESH_SECONDS
    chance, lost = random.Random(200), []
    for _ in range(count(12)):
        make_due()
        process = Renewing(store.path)
        process.ask()
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.3))
        sandbox.switches.tokenlimit_reached = True  # for a client that is gone
        killed = time.monotonic()
        process.kill()
        time.sleep(REFRESH_SECONDS * 1.2)
        sandbox.switches.tokenlimit_reached = False
        answer = answered[-1]
        if is_lost(sandbox, store):
            lost.append(round((killed - answer) * 1e6))
    print(f"{len(lost)} of {count(12)} logins lost, killed so many microseconds after the answer: {lost}")
    assert all(microseconds < 100_000 for microseconds in lost)
    assert len(lost) <= 2 + count(12) // 20


def test_how_long_the_window_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the server's answer until a kill finds the whole content in the file system's cache."""
    written: list[float] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        written.append(time.monotonic())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    source, windows = TokenSource(), []
    for _ in range(count(12)):
        source.refresh()
        windows.append((written[-2] - answered[-1]) * 1e6)  # the last one is the directory's
    print(f"{statistics.median(windows):.0f} µs in the middle, {max(windows):.0f} µs at worst")
    assert statistics.median(windows) < 100_000
