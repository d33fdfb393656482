"""Everybody at once: threads, tasks, processes, forks, loops. One refresh, and everyone gets its token.

Counts decide, not times.
"""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from aiohttp import ClientSession, web

from webex_loopback import TokenSource, aget_token, get_token, source
from webex_loopback.errors import LoginRequired, ServerUnreachable, TokenEndpointError
from webex_loopback.login import log_in, log_out
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

ASK = str(Path(__file__).parent / "programs" / "ask.py")
LATENCY = 0.05

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
# Forking with threads alive is what is tried here; from 3.12 on, Python warns of it.
with_threads = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def due(sandbox: Sandbox, logged_in: StoredToken, make_due: Callable[..., StoredToken]) -> StoredToken:
    """An expired token, at a server that takes a refresh token once and ends everything where it comes twice."""
    sandbox.switches.update({"latency": LATENCY, "rotation": True, "reuse_detection": True})
    return make_due()


def settle(sandbox: Sandbox, due: StoredToken, got: list[str], wanted: int) -> None:
    """Assert one refresh, one token for all, and a refresh token on disk that is alive."""
    assert len(got) == wanted
    assert len(set(got)) == 1, f"{len(set(got))} tokens"
    assert got[0] != due.access_token.get_secret_value()
    assert sandbox.count("refresh_token") == 1
    source.forget()
    assert TokenSource().refresh() != got[0], "the rotated refresh token was kept"
    assert sandbox.count("refresh_token", status=200) == 2


def start_processes(number: int, start: Path, threads: int, tasks: int) -> list["subprocess.Popen[str]"]:
    arguments = [sys.executable, ASK, str(start), str(threads), str(tasks)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return processes


def collect(processes: list["subprocess.Popen[str]"]) -> list[str]:
    got = []
    for process in processes:
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        got += json.loads(out)
    return got


def test_fifty_threads(sandbox: Sandbox, due: StoredToken) -> None:
    barrier = threading.Barrier(50)

    def ask(_: int) -> str:
        barrier.wait(10)
        return get_token()

    with ThreadPoolExecutor(50) as pool:
        got = list(pool.map(ask, range(50)))
    settle(sandbox, due, got, 50)


def test_fifty_threads_with_a_source_each(sandbox: Sandbox, due: StoredToken) -> None:
    """No lock in memory is common to them: the file's must do."""
    barrier = threading.Barrier(50)

    def ask(_: int) -> str:
        barrier.wait(10)
        return TokenSource().get_token()

    with ThreadPoolExecutor(50) as pool:
        got = list(pool.map(ask, range(50)))
    settle(sandbox, due, got, 50)


def test_two_hundred_tasks(sandbox: Sandbox, due: StoredToken) -> None:
    async def ask_all() -> list[str]:
        return await asyncio.gather(*(aget_token() for _ in range(200)))

    settle(sandbox, due, asyncio.run(ask_all()), 200)


def test_eight_processes(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    processes = start_processes(8, tmp_path / "start", 1, 0)
    (tmp_path / "start").touch()
    settle(sandbox, due, collect(processes), 8)


def test_processes_threads_and_tasks_together(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    processes = start_processes(4, tmp_path / "start", 10, 25)

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(aget_token() for _ in range(50)))

    with ThreadPoolExecutor(12) as pool:
        (tmp_path / "start").touch()
        here = [pool.submit(get_token) for _ in range(10)]
        tasks = pool.submit(lambda: asyncio.run(ask_all()))
        got = [future.result(30) for future in here] + tasks.result(30)
    settle(sandbox, due, got + collect(processes), 4 * 35 + 60)


def test_a_hundred_forced_refreshes_at_once(sandbox: Sandbox, due: StoredToken, store: FileTokenStore) -> None:
    """A hundred requests of one program have been answered with 401: one refresh helps them all."""
    due_token = due.access_token.get_secret_value()
    one = TokenSource()
    with ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda _: one.refresh(rejected=due_token), range(100)))
    settle(sandbox, due, got, 100)


def test_a_failure_is_shared_too(sandbox: Sandbox, due: StoredToken) -> None:
    sandbox.switches.fault = "429:30"

    async def ask() -> str:
        try:
            return await aget_token()
        except TokenEndpointError as error:
            return str(error)

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(ask() for _ in range(100)))

    assert len(set(asyncio.run(ask_all()))) == 1
    assert sandbox.count("refresh_token") == 1


# Event loops


def test_the_loop_is_never_blocked(sandbox: Sandbox, due: StoredToken) -> None:
    sandbox.switches.latency = 0.4
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            gaps.append(time.perf_counter() - before)

    async def main() -> str:
        ticking = asyncio.create_task(tick())
        token = await aget_token()
        ticking.cancel()
        return token

    assert asyncio.run(main()) != due.access_token.get_secret_value()
    assert len(gaps) > 10, "it ticked on while the refresh was under way"


def test_from_memory_no_thread_is_needed(sandbox: Sandbox, logged_in: StoredToken) -> None:
    async def main() -> int:
        one = TokenSource()
        assert await aget_token() == await one.aget_token()
        before = threading.active_count()
        for _ in range(100):
            assert await aget_token() == await one.aget_token()
        return threading.active_count() - before

    assert asyncio.run(main()) <= 0


def test_a_cancelled_task_does_not_cancel_the_refresh(sandbox: Sandbox, due: StoredToken) -> None:
    sandbox.switches.latency = 0.3

    async def main() -> list[str]:
        tasks = [asyncio.create_task(aget_token()) for _ in range(10)]
        await asyncio.sleep(0.1)
        for task in tasks[:5]:
            task.cancel()
        cancelled = await asyncio.gather(*tasks[:5], return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in cancelled)
        return await asyncio.gather(*tasks[5:])

    settle(sandbox, due, asyncio.run(main()), 5)


def test_a_loop_that_ends_does_not_take_the_refresh_along(sandbox: Sandbox, due: StoredToken) -> None:
    sandbox.switches.latency = 0.3

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(aget_token(), 0.1)

    asyncio.run(impatient())
    settle(sandbox, due, [asyncio.run(aget_token()), get_token()], 2)


def test_two_loops_in_two_threads(sandbox: Sandbox, due: StoredToken) -> None:
    async def ask_all() -> list[str]:
        return await asyncio.gather(*(aget_token() for _ in range(20)))

    with ThreadPoolExecutor(2) as pool:
        got = [pool.submit(asyncio.run, ask_all()) for _ in range(2)]
    settle(sandbox, due, [token for future in got for token in future.result()], 40)


def test_a_synchronous_call_inside_a_running_loop(sandbox: Sandbox, due: StoredToken) -> None:
    async def main() -> list[str]:
        return [get_token(), await aget_token()]

    settle(sandbox, due, asyncio.run(main()), 2)


def test_a_default_executor_full_of_callers(sandbox: Sandbox, due: StoredToken) -> None:
    """Each of its threads waits for a token, and so does a task: the refresh has a thread of its own."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        blocked = [
            loop.run_in_executor(None, lambda: asyncio.run_coroutine_threadsafe(aget_token(), loop).result(20))
            for _ in range(6)
        ]
        return [await aget_token(), *(await asyncio.gather(*blocked))]

    settle(sandbox, due, asyncio.run(main()), 7)


def test_an_aiohttp_handler(sandbox: Sandbox, due: StoredToken) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=await aget_token())

    async def main() -> list[str]:
        application = web.Application()
        application.router.add_get("/", handler)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with ClientSession() as session:

                async def visit() -> str:
                    async with session.get(f"http://127.0.0.1:{port}/") as response:
                        return await response.text()

                return await asyncio.gather(*(visit() for _ in range(30)))
        finally:
            await runner.cleanup()

    settle(sandbox, due, asyncio.run(main()), 30)


def test_trio(sandbox: Sandbox, due: StoredToken) -> None:
    pytest.importorskip("trio")
    got: list[str] = []

    async def ask() -> None:
        got.append(await anyio.to_thread.run_sync(get_token))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(ask)

    anyio.run(main, backend="trio")
    settle(sandbox, due, got, 30)


def test_where_no_thread_can_be_started_nobody_waits_for_ever(
    sandbox: Sandbox, due: StoredToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            asyncio.run(aget_token())
    settle(sandbox, due, [asyncio.run(asyncio.wait_for(aget_token(), 10))], 1)


# Forks


def forked(action: Callable[[], object]) -> int:
    """Run an action in a forked child, for ten seconds at most; return its pid."""
    child = os.fork()
    if child == 0:
        import signal
        import traceback

        signal.alarm(10)
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def outcomes(children: list[int]) -> list[int]:
    return [os.waitpid(child, 0)[1] for child in children]


def write_token(one: TokenSource, path: Path) -> None:
    path.write_text(one.get_token())


@needs_fork
@with_threads
def test_forks_while_another_thread_refreshes(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    """Each lock that the refreshing thread holds is copied into the child, where nobody will ever release it."""
    sandbox.switches.latency = 0.5
    one = TokenSource()
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(one.get_token()))
    thread.start()
    while not sandbox.count("refresh_token"):
        time.sleep(0.005)
    children = [forked(partial(write_token, one, tmp_path / f"token-{n}")) for n in range(4)]
    thread.join()
    assert outcomes(children) == [0] * 4
    got += [path.read_text() for path in tmp_path.glob("token-*")]
    settle(sandbox, due, got, 5)


@needs_fork
@with_threads
def test_forks_while_tasks_wait(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    sandbox.switches.latency = 0.5

    async def main() -> str:
        task = asyncio.create_task(aget_token())
        await asyncio.sleep(0.2)
        assert sandbox.count("refresh_token") == 1, "it is under way"
        children.append(forked(partial(write_token, TokenSource(), tmp_path / "token")))
        return await task

    children: list[int] = []
    got = [asyncio.run(main())]
    assert outcomes(children) == [0]
    settle(sandbox, due, [*got, (tmp_path / "token").read_text()], 2)


@needs_fork
@with_threads
def test_threads_that_were_started_before_the_fork(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    """A server that preloads and forks its workers, with the token still to be had."""
    one = TokenSource()
    over = threading.Event()
    idle = [threading.Thread(target=over.wait) for _ in range(5)]
    for thread in idle:
        thread.start()

    def worker(n: int) -> None:
        with ThreadPoolExecutor(4) as pool:
            (tmp_path / f"token-{n}").write_text("\n".join(pool.map(lambda _: one.get_token(), range(8))))

    children = [forked(partial(worker, n)) for n in range(3)]
    over.set()
    for thread in idle:
        thread.join()
    assert outcomes(children) == [0] * 3
    settle(sandbox, due, [t for path in tmp_path.glob("token-*") for t in path.read_text().split()], 24)


@needs_fork
@with_threads
def test_a_child_saves_what_its_parent_could_not(
    sandbox: Sandbox, due: StoredToken, store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full; the rotated refresh token is in memory only, and then in the child's memory as well."""
    from webex_loopback.errors import TokenStoreError

    def refuse(self: FileTokenStore, token: StoredToken) -> None:
        raise TokenStoreError("The disk is full.", problem="unwritable")

    one = TokenSource()
    with monkeypatch.context() as patch:
        patch.setattr(FileTokenStore, "save", refuse)
        token = one.get_token()

    def child() -> None:
        time.sleep(1.05)
        assert one.get_token() == token

    assert outcomes([forked(child)]) == [0]
    saved = store.load()
    assert saved is not None
    assert saved.access_token.get_secret_value() == token
    assert sandbox.count("refresh_token") == 1


def ask_spawned(one: TokenSource) -> str:
    return one.get_token()


def test_multiprocessing_spawn(sandbox: Sandbox, due: StoredToken) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        got = pool.map(ask_spawned, [TokenSource()] * 6)
        pool.close()
        pool.join()
    settle(sandbox, due, got, 6)


def test_an_error_comes_back_from_a_pool(sandbox: Sandbox, due: StoredToken) -> None:
    sandbox.switches.fault = "429:30"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(TokenEndpointError, match="slow down") as caught:
            pool.apply_async(ask_spawned, [TokenSource()]).get(20)
        pool.close()
        pool.join()
    assert caught.value.retry_after == 30


# Login and logout in between


def test_a_logout_during_a_refresh_wins(sandbox: Sandbox, due: StoredToken, store: FileTokenStore) -> None:
    sandbox.switches.latency = 0.3
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(get_token()))
    thread.start()
    while not sandbox.count("refresh_token"):
        time.sleep(0.005)
    held, _ = log_out()
    thread.join()
    assert held is not None
    assert [held.access_token.get_secret_value()] == got, "it waited for the refresh, and took its token away"
    assert not os.path.exists(store.path)
    time.sleep(1.01)
    with pytest.raises(LoginRequired):
        get_token()


def test_a_login_during_refreshes_wins(sandbox: Sandbox, due: StoredToken, store: FileTokenStore) -> None:
    """Callers go on all the while; in the end the newest login's token is stored, and alive."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                TokenSource().get_token()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    token = log_in(force=True, open_browser=Person().visit).token
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.load() == token
    source.forget()
    assert TokenSource().refresh()


def test_two_logins_at_once_are_one(sandbox: Sandbox, redirect_uri: str, store: FileTokenStore) -> None:
    """The second waits for the first, and takes its tokens."""
    sandbox.switches.latency = 0.2
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(log_in, open_browser=Person().visit) for _ in range(2)]
    tokens = {result.result().token.access_token.get_secret_value() for result in results}
    assert sandbox.count("authorization_code") == 1
    assert len(tokens) == 1
    assert get_token() in tokens


def test_a_server_that_comes_and_goes(sandbox: Sandbox, due: StoredToken, tmp_path: Path) -> None:
    """Offline, then faults, then back: no more than one refresh succeeds, and all get it in the end."""
    sandbox.switches.faults = ["reset", "503", "503"]
    got: list[str] = []

    def ask(_: int) -> None:
        while True:
            try:
                got.append(TokenSource().get_token())
                return
            except (ServerUnreachable, TokenEndpointError):
                time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(set(got)) == 1
    assert len(got) == 8
    assert sandbox.count("refresh_token", status=200) == 1
