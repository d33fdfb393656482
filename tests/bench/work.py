"""What runs in a measured process, as `python -c "from tests.bench import work; ..."`; prints JSON."""

import asyncio
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from webex_loopback import aget_token, get_token

from .libraries import LIBRARIES


def _held(library: str) -> Any:
    made = LIBRARIES[library]()
    return getattr(made, "held", made.ready)()


def _span(call: Callable[[], object], calls: int) -> tuple[float, float]:
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return begin, time.perf_counter()


def _per_call(call: Callable[[], object], calls: int) -> float:
    begin, end = _span(call, calls)
    return (end - begin) / calls


def hot(library: str, repeats: int) -> None:
    """Time calls that find a valid token in memory."""
    ask = _held(library)
    calls = max(10, int(0.01 / _per_call(ask, 20)))
    print(json.dumps([_per_call(ask, calls) for _ in range(repeats)]))


def hot_ours(repeats: int, calls: int, counting_seconds: float) -> None:
    """Time our hot call in one thread, in eight and in an event loop, beside a bare comparison; count its lookups."""
    expiry = time.time() + 1e6
    get_token()

    def bare() -> float:  # without _per_call: in a program, the comparison would not be a call
        begin = time.perf_counter()
        for _ in range(calls):
            time.time() < expiry  # noqa: B015
        return (time.perf_counter() - begin) / calls

    async def in_loop() -> float:
        left_the_loop: list[int] = []
        asyncio.get_running_loop().call_soon(left_the_loop.append, 1)
        begin = time.perf_counter()
        for _ in range(calls):
            await aget_token()
        results["leaves"].append(len(left_the_loop))
        return (time.perf_counter() - begin) / calls

    results: dict[str, list[float]] = {"bare": [], "one": [], "eight": [], "async": [], "leaves": []}
    for _ in range(repeats):
        results["bare"].append(bare())
        results["one"].append(_per_call(get_token, calls))
        begins, ends = zip(*_in_threads(8, lambda: _span(get_token, calls)), strict=True)
        results["eight"].append((max(ends) - min(begins)) / calls / 8)
        results["async"].append(asyncio.run(in_loop()))
    print(json.dumps(results | _lookups(counting_seconds)))


def _lookups(seconds: float) -> dict[str, list[float]]:
    """Count `os.stat` calls and environment lookups of WEBEX_ACCESS_TOKEN in some seconds of nothing but calls."""
    from unittest.mock import patch

    environ = type(os.environ)
    look = patch.object(environ, "__getitem__", autospec=True, side_effect=environ.__getitem__)
    with patch.object(os, "stat", wraps=os.stat) as stat, look as getitem:
        end = time.time() + seconds
        while time.time() < end:
            get_token()
        keys = [call.args[1] for call in getitem.call_args_list]
    return {"stats": [stat.call_count], "environment": [keys.count("WEBEX_ACCESS_TOKEN")]}


def _in_threads(count: int, function: Callable[[], Any]) -> list[Any]:
    """Call a function in many threads at once; return the results, exceptions among them."""
    barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(lambda: (barrier.wait(), function())) for _ in range(count)]
    return [call.exception() or call.result()[1] for call in calls]


def threads(library: str, count: int) -> None:
    """Ask from many threads at once; exit with the number of failures."""
    sys.exit(sum(isinstance(result, Exception) for result in _in_threads(count, _held(library))))


def tasks(library: str, count: int) -> None:
    """Ask from many tasks at once; exit with the number of failures."""

    async def ask_all() -> list[Any]:
        ask = LIBRARIES[library]().ready_async()
        return await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)

    sys.exit(sum(isinstance(result, BaseException) for result in asyncio.run(ask_all())))


def keep(left: int) -> None:
    """Put the token of the default profile's file, with some seconds left, into the store that the settings name."""
    from webex_loopback.tokens.stores import open_store

    stored, end = open_store(kind="file").load(), int(time.time()) + left
    assert stored is not None
    with open_store().lock():
        open_store().save(dataclasses.replace(stored, issued_at=end - 1_100_000, refresh_at=end, expires_at=end))
