"""SIGKILL at every step: the file is the old one or the new one, whole, and nobody is blocked by the dead."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from webex_loopback import TokenSource, get_token, source
from webex_loopback.errors import LoginRequired, TokenStoreError
from webex_loopback.sandbox import Sandbox
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

KILL_SAVERS = str(Path(__file__).parent / "programs" / "kill_savers.py")
MakeToken = Callable[..., StoredToken]

GET = "from webex_loopback import get_token; print(get_token())"
# The answer has come, and not a byte of it is saved.
DIE_BEFORE_THE_SAVE = """
import os, signal
from webex_loopback import get_token
from webex_loopback.store import FileTokenStore
FileTokenStore.save = lambda self, token: os.kill(os.getpid(), signal.SIGKILL)
get_token()
"""
# Saved, and nothing told to anybody.
DIE_AFTER_THE_SAVE = """
import os, signal
from webex_loopback import get_token
from webex_loopback.store import FileTokenStore
save = FileTokenStore.save
FileTokenStore.save = lambda self, token: (save(self, token), os.kill(os.getpid(), signal.SIGKILL))
get_token()
"""
# A server forks a worker at the worst of moments.
FORK_AND_WAIT = """
import os, threading, time
from webex_loopback import get_token
threading.Thread(target=get_token, daemon=True).start()
time.sleep(0.5)
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(20)
"""


def kill_savers(path: str, *arguments: str) -> dict[str, int]:
    run = subprocess.run(
        [sys.executable, KILL_SAVERS, path, *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert run.returncode == 0, run.stderr
    counts: dict[str, int] = json.loads(run.stdout)
    return counts


def fresh_process() -> str:
    return subprocess.run(
        [sys.executable, "-c", GET], capture_output=True, text=True, timeout=20, check=True
    ).stdout.strip()


def test_a_saver_killed_at_each_step(store: FileTokenStore) -> None:
    counts = kill_savers(store.path, "steps")
    # A step is a bytecode; early releases of 3.12 tell of lines only.
    steps = 30 if sys.version_info[:2] == (3, 12) else 200
    assert counts["kills"] > steps
    assert counts["old"] > steps / 2
    assert counts["new"] > steps / 20, "past the renaming, it is the new one"
    assert counts["left over"] == 0
    assert fresh_process()


def test_savers_killed_at_any_moment(store: FileTokenStore) -> None:
    counts = kill_savers(store.path, "random", "300")
    assert counts["kills"] == 300
    assert counts["advanced"] > 5, "they were killed at work"
    assert counts["left over"] <= 2, "but for those whose number another process has by now"
    assert fresh_process()


@pytest.mark.parametrize("call", ["open", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_file_as_it_was(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store.save(make_token("old"))
    before = Path(store.path).read_bytes()

    def refuse(*arguments: object, **others: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(TokenStoreError) as caught:
            store.save(make_token("new"))
    assert caught.value.problem == "unwritable"
    assert os.strerror(number) in str(caught.value)
    assert Path(store.path).read_bytes() == before
    assert os.listdir(os.path.dirname(store.path)) == ["default.json"]


@contextmanager
def refreshing(sandbox: Sandbox, program: str = GET) -> Iterator["subprocess.Popen[str]"]:
    """Run a program until its refresh is under way, lock and all."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 15
        while not sandbox.count("refresh_token"):
            assert time.monotonic() < until
            time.sleep(0.005)
        yield process
    finally:
        process.kill()
        process.communicate()


def lock_is_held(store: FileTokenStore) -> bool:
    try:
        with FileTokenStore(store.path, lock_timeout_seconds=0).lock():
            return False
    except TokenStoreError:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_dead_hold_no_lock(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, number: int
) -> None:
    due = make_due()
    before = Path(store.path).read_bytes()
    sandbox.switches.latency = 30
    with refreshing(sandbox) as process:
        assert lock_is_held(store)
        inode = os.stat(store.lock_path).st_ino
        process.send_signal(number)
        process.wait(10)
    assert Path(store.path).read_bytes() == before
    sandbox.switches.latency = 0
    started = time.monotonic()
    assert get_token() != due.access_token.get_secret_value()
    assert time.monotonic() - started < 2
    assert sandbox.count("refresh_token") == 2, "the old refresh token was tried once more, and was good"
    assert os.stat(store.lock_path).st_ino == inode


def test_those_who_waited_for_the_dead_go_on(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.latency = 30
    with refreshing(sandbox) as process:
        waiting = [subprocess.Popen([sys.executable, "-c", GET], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        time.sleep(0.6)
        sandbox.switches.latency = 0
        process.kill()
        got = {each.communicate(timeout=20)[0] for each in waiting}
    assert len(got) == 1
    assert sandbox.count("refresh_token") == 2


@pytest.mark.parametrize("rotation", [False, True])
def test_killed_between_the_answer_and_the_save(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, rotation: bool
) -> None:
    make_due()
    sandbox.switches.update({"rotation": rotation, "reuse_detection": False})
    before = Path(store.path).read_bytes()
    dead = subprocess.Popen([sys.executable, "-c", DIE_BEFORE_THE_SAVE])
    assert dead.wait(20) == -signal.SIGKILL
    assert sandbox.count("refresh_token", status=200) == 1
    started = time.monotonic()
    if rotation:
        with pytest.raises(LoginRequired, match="lost with the answer") as caught:
            get_token()
        assert f"process {dead.pid}" in str(caught.value)
        assert Path(store.path).read_bytes() == before
    else:
        assert get_token()
        assert not os.path.exists(f"{store.path}.refreshing")
    assert time.monotonic() - started < 2
    assert sandbox.count("refresh_token") == 2, "the old refresh token was tried once"


def test_killed_while_the_server_is_at_it(sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken) -> None:
    """The server rotates the token all the same, and nobody is there to take the new one."""
    make_due()
    sandbox.switches.update({"rotation": True, "latency": 0.5})
    with refreshing(sandbox) as process:
        process.kill()
        process.wait(10)
    time.sleep(0.7)
    with pytest.raises(LoginRequired, match="cut off") as caught:
        get_token()
    assert f"process {process.pid}" in str(caught.value)


def test_killed_after_the_save(sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken) -> None:
    make_due()
    sandbox.switches.rotation = True
    dead = subprocess.Popen([sys.executable, "-c", DIE_AFTER_THE_SAVE])
    assert dead.wait(20) == -signal.SIGKILL
    token = get_token()
    assert sandbox.count("refresh_token") == 1, "it was saved before it was used"
    source.forget()
    assert TokenSource().refresh() != token
    sandbox.switches.dead_refresh_token = "invalid_grant"
    with pytest.raises(LoginRequired) as caught:
        TokenSource().refresh()
    assert "cut off" not in str(caught.value), "that was another refresh token"


def test_a_child_of_the_dead_holds_no_lock(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    """A lock belongs to its open file, and a fork has that open as well: it must let go."""
    make_due()
    sandbox.switches.latency = 30
    with refreshing(sandbox, FORK_AND_WAIT) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert lock_is_held(store)
        process.kill()
        process.wait(10)
        try:
            assert not lock_is_held(store)
            sandbox.switches.latency = 0
            assert get_token()
        finally:
            os.kill(child, signal.SIGKILL)
