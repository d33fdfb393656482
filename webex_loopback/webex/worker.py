"""Runs blocking work in a thread of its own, with a deadline for the caller.

Python runs signal handlers in the main thread only. An exception that a handler raises (Ctrl-C, or a program's own)
therefore never interrupts work in a worker, only the wait for it; see `finish`.
"""

import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

_T = TypeVar("_T")

_SLICE_SECONDS = 0.2  # on Windows Ctrl-C does not wake a thread that waits


class Late(TimeoutError):
    """The work is still running; a class of its own, since a program's alarm usually raises TimeoutError."""


def start(function: Callable[[], _T]) -> "Future[_T]":
    """Start the function in a daemon thread; return the future of its result, which cannot be cancelled.

    The interpreter may exit while it runs; `transaction` makes it wait for what must be completed.
    """
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    try:
        # Not the event loop's executor: its threads may all be waiting for this token.
        Thread(target=copy_context().run, args=(run,), daemon=True, name="webex-loopback").start()
    except RuntimeError:  # the interpreter is shutting down and starts no threads
        run()
    except KeyError as error:  # CPython's Thread.start() may raise it if a signal handler raises
        raise error.__context__ or error from None
    return future


def wait(future: "Future[_T]", seconds: float) -> _T:
    """Return the result, or raise what the function raised, or `Late` if it is still running after `seconds`."""
    until = time.monotonic() + seconds
    while not future.done() and (left := until - time.monotonic()) > 0:
        futures.wait([future], min(left, _SLICE_SECONDS))
    if not future.done():
        raise Late(f"still running after {seconds:g} seconds")
    return future.result()


def finish(future: "Future[_T]", seconds: float, *, cancel: Callable[[], bool] = lambda: False) -> _T:
    """Like `wait`, but an exception of a signal handler is raised only when the work, or the time, has ended.

    `cancel` is called then, and returns whether the work has been cancelled and need not be waited for.
    """
    until = time.monotonic() + seconds
    interruption: BaseException | None = None
    while True:
        try:
            result = wait(future, until - time.monotonic())
        except BaseException as error:
            if (future.done() and future.exception() is error) or isinstance(error, Late):
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
