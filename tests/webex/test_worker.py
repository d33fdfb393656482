import itertools
import sys
import threading
import time
from types import FrameType

import pytest

from tests.conftest import posix
from webex_loopback.webex.worker import Late, finish, run, start, wait

from .conftest import bell_after


class Bell(Exception):
    pass


def test_result_and_error_come_through() -> None:
    assert run(lambda: 5, 5) == 5
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0, 5)


def test_waiting_ends_and_the_work_goes_on() -> None:
    go, ended = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(5)
        ended.set()

    future = start(work)
    with pytest.raises(TimeoutError):
        wait(future, 0.01)
    assert not future.cancel()
    go.set()
    wait(future, 5)
    assert ended.is_set()


@posix
@pytest.mark.parametrize("kind", [Bell, TimeoutError])  # what the handlers of alarms usually raise
def test_a_signal_handlers_exception_waits_for_the_end_of_the_work(kind: type[Exception]) -> None:
    ended = threading.Event()

    def work() -> None:
        time.sleep(0.3)
        ended.set()

    future = start(work)
    with bell_after(0.05, kind), pytest.raises(kind):
        finish(future, 5)
    assert ended.is_set()


@posix
def test_it_does_not_wait_for_cancelled_work_or_beyond_the_deadline() -> None:
    go = threading.Event()
    began = time.monotonic()
    with bell_after(0.05, Bell), pytest.raises(Bell):
        finish(start(lambda: go.wait(5)), 5, cancel=lambda: True)
    with bell_after(0.05, Bell), pytest.raises(Bell):
        finish(start(lambda: go.wait(5)), 0.2)
    assert time.monotonic() - began < 2
    go.set()


def test_an_error_of_the_work_is_not_taken_for_an_interruption() -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(start(fail), 5)


def test_an_exception_at_any_moment_of_the_wait_leaves_nothing_locked() -> None:
    """A signal handler raises it between two calls; the work still ends, and others who wait for it get the result."""

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_return") and next(calls) == number:
            raise Bell

    for number in itertools.count():  # noqa: B007 - interrupt() reads it
        calls, go = itertools.count(), threading.Event()
        work = start(lambda go=go: go.wait(5))  # type: ignore[misc]
        other, late = start(lambda work=work: wait(work, 5)), False  # type: ignore[misc]
        sys.setprofile(interrupt)
        try:
            finish(work, 0.01, cancel=lambda: True)
        except Bell:
            pass
        except Late:
            late = True
        finally:
            sys.setprofile(None)
        go.set()
        assert wait(other, 5)
        assert wait(work, 5)
        if late:
            break
    assert number > 5
