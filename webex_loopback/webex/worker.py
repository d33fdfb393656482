"""Runs blocking work in a thread of its own, with a deadline for the caller.

Python runs signal handlers in the main thread only. An exception that a handler raises (Ctrl-C, or a program's own)
therefore never interrupts work in a worker, only the wait for it; see `finish`.
"""

import sys
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, TypeVar

_T = TypeVar("_T")

_SLICE_SECONDS = 0.2  # on Windows Ctrl-C does not wake a thread that waits


class Late(TimeoutError):
    """The work is still running; a class of its own, since a program's alarm usually raises TimeoutError."""


class Work(Future[_T]):
    """A future that cannot be cancelled and is safe to wait for in a thread where signal handlers raise exceptions.

    An exception raised inside a `threading.Condition` may leave it locked, and the worker could then never deliver its
    result. So the worker sets an attribute first, and waiting threads use a bare lock that it releases.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._running = allocate_lock()
        self._running.acquire()

    def run(self, function: Callable[[], _T]) -> None:  # pragma: no cover - tracing begins inside
        """Call the function, store its result or exception, and wake whoever waits."""
        sys.settrace(threading.gettrace())  # set by a debugger or coverage; a Thread does this, too
        sys.setprofile(threading.getprofile())
        try:
            self._outcome = function(), None
        except BaseException as error:
            self._outcome = None, error
        self._running.release()
        value, failure = self._outcome
        self.set_result(value) if failure is None else self.set_exception(failure)  # type: ignore[arg-type]

    def join(self, seconds: float) -> None:
        """Wait for the end of the work, at most this long."""
        until = time.monotonic() + seconds
        while not self.done() and (left := until - time.monotonic()) > 0:
            if self._running.acquire(timeout=min(left, _SLICE_SECONDS)):
                self._running.release()  # for the next waiting thread

    def done(self) -> bool:
        return self._outcome is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        return self._outcome[1] if self._outcome else super().exception(timeout)

    def result(self, timeout: float | None = None) -> _T:
        if self._outcome is None:
            return super().result(timeout)
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]


def start(function: Callable[[], _T]) -> Work[_T]:
    """Start the function in a daemon thread; return the future of its result.

    The interpreter may exit while it runs; `transaction` makes it wait for what must be completed.
    """
    work: Work[_T] = Work()
    try:
        # Neither a Thread, whose start() waits on a Condition, nor one of the event loop's executor, which may all be
        # waiting for this token.
        start_new_thread(copy_context().run, (work.run, function))
    except RuntimeError:  # the interpreter is shutting down and starts no threads
        work.run(function)
    return work


def wait(work: Work[_T], seconds: float) -> _T:
    """Return the result, or raise what the function raised, or `Late` if it is still running after `seconds`."""
    work.join(seconds)
    if not work.done():
        raise Late(f"still running after {seconds:g} seconds")
    return work.result()


def finish(work: Work[_T], seconds: float, *, cancel: Callable[[], bool] = lambda: False) -> _T:
    """Like `wait`, but an exception from a signal handler is raised only when the work has ended or the time is up.

    `cancel` is called then, and returns whether the work has been cancelled and need not be waited for.
    """
    until = time.monotonic() + seconds
    interruption: BaseException | None = None
    while True:
        try:
            result = wait(work, until - time.monotonic())
        except BaseException as error:
            if (work.done() and work.exception() is error) or isinstance(error, Late):
                raise interruption or error from None
            if cancel():
                raise
            interruption = error  # the latest one; a second Ctrl-C adds nothing
        else:
            if interruption is not None:
                raise interruption
            return result


def run(function: Callable[[], _T], seconds: float) -> _T:
    """Run a function that may hang (D-Bus, a network file system); raise `Late` after `seconds`."""
    return wait(start(function), seconds)
