"""What runs inside a measured process, by `python -c`. Kept light: the cached token's process loads it too.

A library is a module of this folder that has
- `prepare()`: write the library's token file from `read_response()`,
- `ready()`: return a function that answers with the token, refreshed where it has expired,
- `held()`: the same with the token in memory already, where `ready()` reads the file each time,
- `ready_async()`: the same for asyncio, where it has that,
- `login()`: log in by the browser and write the token file, where it can.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SETTINGS: dict[str, Any] = json.loads(os.environ.get("BENCH_SETTINGS", "{}"))
TOKEN_FILE = os.environ.get("BENCH_FILE", "")


def read_response() -> dict[str, Any]:
    """Return a token response, with `expires_at` in epoch seconds besides."""
    response: dict[str, Any] = json.loads(os.environ["BENCH_RESPONSE"])
    return response


def _held(library: str) -> Callable[[], str]:
    module = __import__(library)
    ask: Callable[[], str] = getattr(module, "held", module.ready)()
    return ask


def _tell(**results: Any) -> None:
    print(json.dumps(results))


def _per_call(call: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls


def hot(library: str, repeats: int) -> None:
    """Time a call that finds its token good."""
    ask = _held(library)
    assert ask(), "no token"
    calls = max(10, int(0.01 / _per_call(ask, 20)))
    _tell(seconds=[_per_call(ask, calls) for _ in range(repeats)])


def hot_ours(repeats: int, calls: int, looking_seconds: float) -> None:
    """Time ours beside a bare comparison, in one thread, in eight, and in an event loop; count what it looks at."""
    import asyncio
    import threading

    from webex_loopback import aget_token, get_token, source

    expiry = time.time() + 1e6
    get_token()

    def bare() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            time.time() < expiry  # noqa: B015
        return (time.perf_counter() - begin) / calls

    def one() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            get_token()
        return (time.perf_counter() - begin) / calls

    def eight() -> float:
        barrier = threading.Barrier(9)

        def run() -> None:
            barrier.wait()
            for _ in range(calls):
                get_token()
            barrier.wait()

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        barrier.wait()
        begin = time.perf_counter()
        barrier.wait()
        spent = time.perf_counter() - begin
        for thread in threads:
            thread.join()
        return spent / calls / 8

    async def in_loop() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            await aget_token()
        return (time.perf_counter() - begin) / calls

    def asynchronous() -> float:
        return asyncio.run(in_loop())

    results: dict[str, list[float]] = {"bare": [], "one": [], "eight": [], "async": []}
    for _ in range(repeats):
        for name, measure in (("bare", bare), ("one", one), ("eight", eight), ("async", asynchronous)):
            results[name].append(measure())
    _tell(**results, leaves=_leaves_the_loop(calls), **_looks(looking_seconds, source))


def _leaves_the_loop(calls: int) -> int:
    """Count the calls of `aget_token()` that gave the loop back: one that does not has ended after one step."""
    from webex_loopback import aget_token, get_token

    left = 0
    for _ in range(min(calls, 1000)):
        get_token()  # so that memory is fresh
        coroutine = aget_token()
        try:
            coroutine.send(None)
        except StopIteration:
            continue
        coroutine.close()
        left += 1
    return left


def _looks(seconds: float, source: Any) -> dict[str, int]:
    """Count, in some seconds of nothing but calls, the `os.stat` of whatever file and the looks at the environment."""
    counts = {"stats": 0, "environment": 0}
    stat, look = os.stat, source.TokenSource._environment_token

    def counting_stat(*arguments: Any, **others: Any) -> os.stat_result:
        counts["stats"] += 1
        return stat(*arguments, **others)

    def counting_look(self: Any) -> Any:
        counts["environment"] += 1
        return look(self)

    os.stat = counting_stat
    source.TokenSource._environment_token = counting_look
    begin = time.time()
    while time.time() < begin + seconds:
        source.get_token()
    os.stat, source.TokenSource._environment_token = stat, look
    return counts


def threads(library: str, count: int) -> None:
    """Ask from many threads at once; tell when the last one had its token."""
    import threading

    ask = _held(library)
    barrier = threading.Barrier(count)
    errors: list[str] = []

    def run() -> None:
        barrier.wait()
        try:
            assert ask()
        except Exception as error:
            errors.append(type(error).__name__)

    started = [threading.Thread(target=run) for _ in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    _tell(at=time.time(), errors=len(errors))


def tasks(library: str, count: int) -> None:
    """Ask from many tasks at once."""
    import asyncio

    async def ask_all() -> list[Any]:
        ask = __import__(library).ready_async()
        return await asyncio.gather(*(ask() for _ in range(count)), return_exceptions=True)

    results = asyncio.run(ask_all())
    _tell(at=time.time(), errors=sum(isinstance(result, BaseException) for result in results))


def alone(library: str) -> None:
    """Ask once; one of several processes."""
    assert __import__(library).ready()()
    _tell(at=time.time(), errors=0)


def modules() -> None:
    """Tell what a cached token makes the interpreter load."""
    before = set(sys.modules)
    from webex_loopback import get_token

    get_token()
    _tell(modules=sorted(set(sys.modules) - before))
