"""Where tokens are kept: whole or not at all, for their owner alone, and with a word on what is wrong."""

import _thread
import contextlib
import json
import logging
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import keyring
import keyring.backend
import keyring.errors
import pytest

from webex_loopback.errors import LoginRequired, TokenStoreError
from webex_loopback.sandbox import Sandbox
from webex_loopback.source import TokenSource, get_token
from webex_loopback.store import (
    FileTokenStore,
    KeyringTokenStore,
    MemoryTokenStore,
    TokenStore,
    _within,
    file_lock,
    make_private_folder,
    process_lives,
)
from webex_loopback.token import StoredToken

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX")
root_only = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can give a file to another user"
)
not_root = pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root may write anywhere")
needs_gcc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs gcc to stand in for a network file system"
)

MakeToken = Callable[..., StoredToken]


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_every_store_is_one(store: FileTokenStore) -> None:
    for each in (store, MemoryTokenStore(), KeyringTokenStore("default", store)):
        assert isinstance(each, TokenStore)


# A file


def test_save_load_delete(store: FileTokenStore, make_token: MakeToken) -> None:
    assert store.load() is None
    assert not store.delete()
    one, two = make_token(), make_token("access-token-two")
    store.save(one)
    store.save(two)
    assert store.load() == two
    assert store.delete()
    assert store.load() is None


@posix_only
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_only_the_owner_may_read_whatever_the_umask(
    store: FileTokenStore, make_token: MakeToken, tmp_path: Path, umask: int
) -> None:
    old = os.umask(umask)
    try:
        with store.lock():
            store.save(make_token())
    finally:
        os.umask(old)
    assert mode(tmp_path / "state") == mode(tmp_path / "state" / "tokens") == 0o700
    assert {mode(path) for path in everything_in(tmp_path / "state" / "tokens")} == {0o600}


@posix_only
def test_modes_are_so_from_birth(store: FileTokenStore, make_token: MakeToken, tmp_path: Path) -> None:
    """The audit hook sees each file as it is created: never is it wider, not for a moment."""
    script = """
import os, sys
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken
token = StoredToken(refresh_at=1, access_token="a", issued_at=1)
seen = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].endswith(".tmp"):
        seen.append(args[2])
os.umask(0)
sys.addaudithook(hook)
real = os.open
modes = []
def watched(path, flags, mode=0o777, **others):
    descriptor = real(path, flags, mode, **others)
    modes.append(os.fstat(descriptor).st_mode & 0o777)
    return descriptor
os.open = watched
FileTokenStore(sys.argv[1]).save(token)
assert modes[0] == 0o600, modes
assert seen and seen[0] & os.O_EXCL
"""
    subprocess.run([sys.executable, "-c", script, store.path], check=True, timeout=20)


@posix_only
@pytest.mark.parametrize("wide", [0o644, 0o666, 0o640, 0o604])
@pytest.mark.parametrize("how", ["load", "get_token"])
def test_a_file_that_others_can_read_is_mended_with_a_warning(
    store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture, wide: int, how: str
) -> None:
    store.save(make_token())
    os.chmod(store.path, wide)
    if how == "load":
        store.load()
    else:
        assert get_token() == "access-token-one"
    assert mode(store.path) == 0o600
    assert "Others could read" in caplog.text
    assert store.path in caplog.text


def test_a_file_that_is_as_it_should_be_is_read_without_a_word(
    store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(make_token())
    assert store.load() == TokenSource().stored()
    assert not caplog.records


@posix_only
def test_a_file_made_readable_while_it_is_in_memory_is_mended_as_well(
    store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000_000_000.0]
    store.save(make_token())
    source = TokenSource(clock=lambda: now[0])
    source.get_token()
    os.chmod(store.path, 0o644)
    now[0] += 1.1
    assert source.get_token() == "access-token-one"
    assert mode(store.path) == 0o600
    assert "Others could read" in caplog.text


@root_only
def test_a_file_of_another_user_is_not_trusted(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    os.chown(store.path, 12_345, 12_345)
    for ask in (store.load, get_token):
        with pytest.raises(TokenStoreError, match="12345") as caught:
            ask()
        assert caught.value.problem == "foreign"
        assert "WEBEX_LOOPBACK_HOME" in caught.value.remedy


BROKEN = {
    "empty": (b"", "corrupt"),
    "truncated": (b'{\n "version": 1,\n "refresh_at": 99999999999,\n "access_token": "acc', "corrupt"),
    "garbage": (os.urandom(300), "corrupt"),
    "zeros, as after a power cut": (b"\0" * 900, "corrupt"),
    "two files in one": (b'{"version": 1}\n{"version": 1}\n', "corrupt"),
    "another program's": (b'{"access_token": "x", "expires_in": 5}', "corrupt"),
    "huge": (b'{"version": 1, "x": "' + b"x" * (3 << 20) + b'"}', "corrupt"),
    "of a later release": (b'{"version": 2, "tokens": []}', "future"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_cannot_be_read_is_told_of_and_left_alone(store: FileTokenStore, kind: str) -> None:
    content, problem = BROKEN[kind]
    os.makedirs(os.path.dirname(store.path), 0o700)
    Path(store.path).write_bytes(content)
    os.chmod(store.path, 0o600)
    for ask in (store.load, get_token, TokenSource().refresh):
        with pytest.raises(TokenStoreError) as caught:
            ask()
        assert caught.value.problem == problem
        assert store.path in str(caught.value)
        assert "login" in caught.value.remedy
    assert Path(store.path).read_bytes() == content


@pytest.mark.parametrize("ask", ["load", "get_token"])
def test_a_folder_in_the_files_place(store: FileTokenStore, make_token: MakeToken, ask: str) -> None:
    os.makedirs(store.path, 0o700)
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(3):
        with pytest.raises(TokenStoreError) as caught:
            store.load() if ask == "load" else get_token()
        assert caught.value.problem == "unreadable"
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == descriptors, "a descriptor has leaked"
    with pytest.raises(TokenStoreError) as caught:
        store.save(make_token())
    assert caught.value.problem == "unwritable"
    assert os.listdir(os.path.dirname(store.path)) == ["default.json"], "no temporary file is left"


@posix_only
@pytest.mark.parametrize("ask", ["load", "get_token"])
def test_a_pipe_in_the_files_place_does_not_hang(store: FileTokenStore, ask: str) -> None:
    os.makedirs(os.path.dirname(store.path), 0o700)
    os.mkfifo(store.path, 0o600)
    with pytest.raises(TokenStoreError, match="regular file"):
        store.load() if ask == "load" else get_token()


@posix_only
def test_a_link_is_followed_and_stays(store: FileTokenStore, make_token: MakeToken, tmp_path: Path) -> None:
    os.makedirs(os.path.dirname(store.path), 0o700)
    real = tmp_path / "elsewhere" / "real.json"
    os.symlink(real, store.path)
    assert store.load() is None
    store.save(make_token())
    assert os.path.islink(store.path)
    assert store.load() is not None
    assert mode(real) == 0o600
    assert get_token() == "access-token-one"
    assert store.delete()
    assert not real.exists(), "a logout that leaves the secrets is none"
    assert not store.delete()


@posix_only
def test_a_link_into_a_circle(store: FileTokenStore) -> None:
    os.makedirs(os.path.dirname(store.path), 0o700)
    os.symlink(store.path, store.path)
    with pytest.raises(TokenStoreError) as caught:
        store.load()
    assert caught.value.problem == "unreadable"


def read_only(folder: str) -> Iterator[None]:
    """Mount the folder read-only upon itself, which stops root too."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs to mount")
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, timeout=10).returncode:
        pytest.skip("mounting is not permitted")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, timeout=10)
        yield
    finally:
        subprocess.run(["umount", folder], check=True, timeout=10)


@posix_only
def test_a_read_only_folder(store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture) -> None:
    token = make_token()
    store.save(token)
    os.chmod(store.path, 0o644)
    with contextlib.contextmanager(read_only)(os.path.dirname(store.path)):
        assert get_token() == "access-token-one", "a token that is good needs no writing"
        assert "Others could read" in caplog.text
        for ask in (lambda: store.save(token), store.delete, lambda: store.set_aside("corrupt")):
            with pytest.raises(TokenStoreError) as caught:
                ask()
            assert caught.value.problem == "unwritable"
            assert caught.value.remedy


@not_root
@posix_only
def test_a_folder_without_the_right_to_write(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    os.chmod(os.path.dirname(store.path), 0o500)
    with pytest.raises(TokenStoreError) as caught:
        store.save(make_token())
    assert caught.value.problem == "unwritable"


def test_what_a_killed_process_left_is_swept(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    folder = Path(store.path).parent
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(20)
    dead = folder / f".default.json.{ended.pid}.0a0b0c0d.tmp"
    reused = folder / f".default.json.{os.getpid()}.0a0b0c0d.tmp"  # as pid 1 is in each container
    at_work = folder / f".default.json.{os.getppid()}.01020304.tmp"
    others = [folder / ".other.json.1.00.tmp", folder / "default.json.1.00.tmp", folder / "notes.txt"]
    for path in (dead, reused, at_work, *others):
        path.touch()
    os.utime(reused, (time.time() - 7_200,) * 2)
    store.save(make_token())
    assert not dead.exists()
    assert not reused.exists()
    assert at_work.exists()
    assert all(path.exists() for path in others)


@posix_only
def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", denied)
    assert process_lives(1)


@posix_only
def test_the_whole_token_is_on_the_disk_before_it_is_in_place(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, done = make_token(), list[tuple[str, int]]()
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append(("folder", 0) if stat.S_ISDIR(status.st_mode) else ("file", status.st_size))
        real_fsync(descriptor)

    def replace(old: str, new: str) -> None:
        done.append(("replace", 0))
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.save(token)
    assert done == [("file", len(token.to_json())), ("replace", 0), ("folder", 0)]


def test_nothing_leaves_a_descriptor_behind(store: FileTokenStore, make_token: MakeToken) -> None:
    def next_descriptor() -> int:
        descriptor = os.open(store.path, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    store.save(make_token())
    before = next_descriptor()
    for _ in range(3):
        with store.lock():
            pass
        store.save(make_token())
        store.load()
    assert next_descriptor() == before


def test_set_aside_loses_nothing(store: FileTokenStore, make_token: MakeToken) -> None:
    kept = {}
    for name in ("one", "two", "three"):
        store.save(make_token(name))
        kept[name] = store.set_aside("corrupt")
    assert [json.loads(Path(path).read_bytes())["access_token"] for path in kept.values()] == list(kept)
    with pytest.raises(TokenStoreError):
        store.set_aside("corrupt")


def test_readers_and_a_writer_never_meet_half_a_file(store: FileTokenStore, make_token: MakeToken) -> None:
    tokens = [make_token("a" * 50), make_token("b" * 5_000)]
    store.save(tokens[0])
    done = threading.Event()
    seen: list[object] = []

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(store.load() in tokens)
            except Exception as error:
                seen.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(150):
        store.save(tokens[n % 2])
    done.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 50
    assert set(map(repr, seen)) == {"True"}


def test_a_strange_name_does_not_stop_a_save(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    (Path(store.path).parent / f".default.json.{'9' * 40}.00.tmp").touch()
    store.save(make_token())


@pytest.mark.parametrize("readers", [3, 10**9])
@pytest.mark.parametrize(("name", "ask"), [("open", "load"), ("unlink", "delete"), ("rename", "set_aside")])
def test_windows_lets_no_file_be_touched_while_it_is_replaced(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, name: str, ask: str, readers: int
) -> None:
    real = getattr(os, name)
    tries = []

    def touch(path: str, *others: Any) -> Any:
        tries.append(path)
        if len(tries) <= readers:
            raise PermissionError(13, "Access is denied")
        return real(path, *others)

    store.save(make_token())
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, touch)
        patch.setattr(sys, "platform", "win32")
        act = getattr(store, ask)
        if readers == 3:
            assert act(*["corrupt"] * (ask == "set_aside"))
        else:
            with pytest.raises(TokenStoreError, match="Access is denied"):
                act(*["corrupt"] * (ask == "set_aside"))
    assert len(tries) == min(readers + 1, 50)


def test_a_drive_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda folder: False)
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", Mock(side_effect=FileNotFoundError))
        with pytest.raises(FileNotFoundError):
            make_private_folder(os.path.abspath("/no/such/place"))


@pytest.mark.parametrize("readers", [3, 10**9])
def test_windows_lets_no_file_be_replaced_while_it_is_read(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, readers: int
) -> None:
    real = os.replace
    tries = []

    def replace(source: str, target: str) -> None:
        tries.append(target)
        if len(tries) <= readers:
            raise PermissionError(13, "Access is denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        if readers == 3:
            store.save(make_token())
        else:
            with pytest.raises(TokenStoreError, match="Access is denied"):
                store.save(make_token())
    assert len(tries) == min(readers + 1, 50)
    assert os.listdir(os.path.dirname(store.path)) == (["default.json"] if readers == 3 else [])


# The disk refuses

FULL_DISK = """
import logging, resource, sys
sys.dont_write_bytecode = True  # the limit would cut the .pyc files short, and every later import would fail on them
from webex_loopback import TokenSource
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
source = TokenSource()
tokens = [source.get_token()]
tokens.append(source.get_token())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
import time
time.sleep(1.1)
tokens.append(source.get_token())
print(*tokens)
"""


@posix_only
def test_a_full_disk_costs_a_warning_and_not_the_token(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Callable[..., StoredToken], store: FileTokenStore
) -> None:
    sandbox.switches.rotation = True
    due = make_due()
    run = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=30, check=True)
    assert len(set(run.stdout.split())) == 1
    assert run.stdout.split()[0] != due.access_token.get_secret_value()
    assert "could not be written" in run.stderr
    assert "is saved now" in run.stderr
    assert sandbox.count("refresh_token") == 1
    saved = store.load()
    assert saved is not None
    assert saved.access_token.get_secret_value() == run.stdout.split()[0]
    assert TokenSource().refresh(), "the rotated refresh token was saved too"
    assert not [name for name in os.listdir(os.path.dirname(store.path)) if name.endswith(".tmp")]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs to mount")
    place = tmp_path / "tiny"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, timeout=10
    )
    if made.returncode:
        pytest.skip("mounting is not permitted")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4_096)
    return filler


def test_no_space_left(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: Callable[..., StoredToken],
    tiny_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.switches.rotation = True
    due = make_due()
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tiny_disk))
    there = FileTokenStore(str(tiny_disk / "tokens" / "default.json"))
    there.save(due)
    with there.lock():
        pass
    before = Path(there.path).read_bytes()
    filler = fill(tiny_disk)
    now = [time.time()]
    source = TokenSource(clock=lambda: now[0])
    token = source.get_token()
    assert token != due.access_token.get_secret_value()
    assert Path(there.path).read_bytes() == before
    assert "No space left" in caplog.text
    now[0] += 2
    assert source.get_token() == token
    filler.unlink()
    now[0] += 2
    assert source.get_token() == token
    saved = there.load()
    assert saved is not None
    assert saved.access_token.get_secret_value() == token
    assert sandbox.count("refresh_token") == 1


def test_two_sources_of_one_file_know_of_a_token_that_waits_to_be_saved(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: Callable[..., StoredToken],
    store: FileTokenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rotation, what the file still holds is dead: the other source must not refresh with that."""
    sandbox.switches.rotation = True
    make_due()
    now = [time.time()]
    one, other = (TokenSource(profile, clock=lambda: now[0]) for profile in (None, "default"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
        token = one.get_token()
        assert other.get_token() == token
    now[0] += 2
    real = FileTokenStore.lock

    def overtaken(self: FileTokenStore) -> contextlib.AbstractContextManager[None]:
        monkeypatch.setattr(FileTokenStore, "lock", real)
        assert other.get_token() == token
        return real(self)

    monkeypatch.setattr(FileTokenStore, "lock", overtaken)
    assert one.get_token() == token
    saved = store.load()
    assert saved is not None
    assert saved.access_token.get_secret_value() == token
    assert sandbox.count("refresh_token") == 1
    newest = one.refresh()
    now[0] += 2
    assert other.get_token() == newest != token


def test_a_logout_while_a_token_waits_to_be_saved_wins(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Callable[..., StoredToken], store: FileTokenStore
) -> None:
    class Refusing(FileTokenStore):
        def save(self, token: StoredToken) -> None:
            raise TokenStoreError("The disk is full.", problem="unwritable")

    make_due()
    now = [time.time()]
    source = TokenSource(store=Refusing(store.path), clock=lambda: now[0])
    source.get_token()
    store.delete()
    now[0] += 2
    with pytest.raises(LoginRequired):
        source.get_token()
    assert not os.path.exists(store.path)


# The lock


def test_the_lock_excludes_and_its_file_stays_the_same(store: FileTokenStore, make_token: MakeToken) -> None:
    short = FileTokenStore(store.path, lock_timeout_seconds=0.1)
    inodes = set()
    for _ in range(3):
        with store.lock():
            inodes.add(os.stat(store.lock_path).st_ino)
            with pytest.raises(TokenStoreError, match="not to be had") as caught, short.lock():
                pass
            assert caught.value.problem == "locked"
            assert "WEBEX_LOCK_DIR" in caught.value.remedy
        assert os.path.exists(store.lock_path)
    with short.lock():
        inodes.add(os.stat(store.lock_path).st_ino)
    assert len(inodes) == 1


def test_the_lock_is_released_by_an_error(store: FileTokenStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with FileTokenStore(store.path, lock_timeout_seconds=0).lock():
        pass


def test_a_lock_that_comes_too_late_is_given_back(store: FileTokenStore) -> None:
    """The waiting thread outlives the caller's patience only to let go."""
    with store.lock(), pytest.raises(TokenStoreError), FileTokenStore(store.path, lock_timeout_seconds=0.05).lock():
        pass
    for _ in range(3):
        with FileTokenStore(store.path, lock_timeout_seconds=0.5).lock():
            pass


def test_what_goes_wrong_in_time_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        _within(10, lambda: 1 // 0)


def test_what_comes_too_late_is_undone() -> None:
    undone = threading.Event()
    with pytest.raises(TimeoutError):
        _within(0.05, lambda: time.sleep(0.2), undo=undone.set)
    assert undone.wait(5)


def test_what_comes_with_ctrl_c_is_undone() -> None:
    with pytest.raises(KeyboardInterrupt):
        _within(5, _thread.interrupt_main)
    for pause in [0.0, 0.01] * 10:
        undone = threading.Semaphore(0)

        def act(pause: float = pause) -> None:
            time.sleep(pause)
            _thread.interrupt_main()

        with pytest.raises(KeyboardInterrupt):
            _within(5, act, undo=undone.release)
        assert undone.acquire(timeout=5)
        assert not undone.acquire(timeout=0.01), "twice"


def test_where_no_thread_can_be_started_the_lock_is_taken_in_this_one(
    store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is in an exit handler, from Python 3.12 on."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with store.lock():
            pass
    with FileTokenStore(store.path, lock_timeout_seconds=0).lock():
        pass


def test_locks_can_be_kept_elsewhere(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", "~/locks")
    store.save(make_token())
    with store.lock(), pytest.raises(TokenStoreError), FileTokenStore(store.path, lock_timeout_seconds=0).lock():
        pass
    locks = everything_in(tmp_path / "home" / "locks")
    assert len(locks) == 1
    assert mode(locks[0]) == 0o600
    assert os.listdir(os.path.dirname(store.path)) == ["default.json"]
    with FileTokenStore(f"{store.path}2").lock(), store.lock():
        assert len(everything_in(tmp_path / "home" / "locks")) == 2


@posix_only
def test_a_state_folder_of_two_names_has_one_lock(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.save(make_token())
    os.symlink(tmp_path / "state", tmp_path / "other-name")
    monkeypatch.setenv("WEBEX_LOCK_DIR", str(tmp_path / "locks"))
    assert FileTokenStore(str(tmp_path / "other-name" / "tokens" / "default.json")).lock_path == store.lock_path


@posix_only
def test_a_token_file_of_two_names_has_one_lock(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    link = FileTokenStore(f"{store.path}.link")
    os.symlink(store.path, link.path)
    with link.lock(), pytest.raises(TokenStoreError), FileTokenStore(store.path, lock_timeout_seconds=0).lock():
        pass


@posix_only
def test_a_lock_folder_that_cannot_be(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", "/proc/no/such/folder" if sys.platform == "linux" else "/dev/null/x")
    started = time.monotonic()
    with pytest.raises(TokenStoreError) as caught, store.lock():
        pass
    assert time.monotonic() - started < 2
    assert "WEBEX_LOCK_DIR" in caught.value.remedy


FLOCK = """
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
int flock(int descriptor, int operation) {
    if (getenv("FLOCK_HANGS")) for (;;) pause();
    errno = atoi(getenv("FLOCK_ERRNO"));
    return -1;
}
"""
TAKE_LOCK = """
import sys, time
from webex_loopback.errors import LoginRequired, TokenStoreError
from webex_loopback.store import FileTokenStore, _within
started = time.monotonic()
try:
    with FileTokenStore(sys.argv[1], lock_timeout_seconds=float(sys.argv[2])).lock():
        print("taken")
except TokenStoreError as error:
    print(error.problem, error.remedy)
print(time.monotonic() - started, file=sys.stderr)
"""


@pytest.fixture(scope="session")
def no_flock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library whose flock() fails or hangs, as on some network file systems."""
    folder = tmp_path_factory.mktemp("flock")
    (folder / "flock.c").write_text(FLOCK)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", str(folder / "flock.so"), str(folder / "flock.c")], check=True, timeout=30
    )
    return str(folder / "flock.so")


@needs_gcc
@pytest.mark.parametrize(
    ("environ", "patience"),
    [
        ({"FLOCK_ERRNO": "37"}, 60),
        ({"FLOCK_ERRNO": "38"}, 60),
        ({"FLOCK_ERRNO": "95"}, 60),
        ({"FLOCK_HANGS": "1"}, 0.2),
    ],
    ids=["ENOLCK", "ENOSYS", "EOPNOTSUPP", "hangs in the kernel"],
)
def test_a_file_system_without_locks_is_named_in_time(
    store: FileTokenStore, no_flock: str, environ: dict[str, str], patience: float
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", TAKE_LOCK, store.path, str(patience)],
        env=dict(os.environ) | environ | {"LD_PRELOAD": no_flock},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stdout.startswith("locked "), run.stdout + run.stderr
    assert "WEBEX_LOCK_DIR" in run.stdout
    assert float(run.stderr) < 4


# Memory


def test_memory_keeps_one_token(make_token: MakeToken) -> None:
    memory = MemoryTokenStore(make_token())
    with memory.lock(), memory.lock():
        memory.save(make_token("access-token-two"))
    kept = memory.load()
    assert kept is not None
    assert kept.access_token.get_secret_value() == "access-token-two"
    assert memory.delete()
    assert not memory.delete()
    assert memory.load() is None


def test_the_lock_of_memory_excludes_the_other_threads() -> None:
    memory = MemoryTokenStore()
    had = threading.Event()

    def take() -> None:
        with memory.lock():
            had.set()

    thread = threading.Thread(target=take)
    with memory.lock():
        thread.start()
        assert not had.wait(0.1)
    thread.join(10)
    assert had.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_memory_is_not_locked_for_ever_by_a_fork(make_token: MakeToken) -> None:
    memory = MemoryTokenStore(make_token())
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with memory.lock():
            held.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(5)
        with memory.lock():
            os._exit(0)
    _, status = os.waitpid(child, 0)
    over.set()
    thread.join()
    assert status == 0


# The keyring


class Ring(keyring.backend.KeyringBackend):
    """A credential store in memory, as strict as Windows': 1,280 characters an entry."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.writes_left = 10**9
        self.pause: threading.Event | None = None

    def _answer(self) -> None:
        if self.pause is not None:
            self.pause.wait(10)

    def get_password(self, service: str, username: str) -> str | None:
        self._answer()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._answer()
        if len(password) > 1_280:
            raise RuntimeError("The stub received bad data")
        if not self.writes_left:
            raise RuntimeError("gone in the middle")
        self.writes_left -= 1
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._answer()
        try:
            del self.entries[service, username]
        except KeyError:
            raise keyring.errors.PasswordDeleteError(username) from None


@pytest.fixture
def ring() -> Iterator[Ring]:
    before = keyring.get_keyring()
    backend = Ring()
    keyring.set_keyring(backend)
    yield backend
    if backend.pause is not None:
        backend.pause.set()
    keyring.set_keyring(before)


@pytest.mark.parametrize("size", [10, 999, 5_000])
def test_the_keyring_keeps_what_windows_would_not_take_in_one(
    ring: Ring, store: FileTokenStore, make_token: MakeToken, size: int
) -> None:
    chain = KeyringTokenStore("default", store)
    assert chain.load() is None
    for n in range(3):
        token = make_token(str(n) * size)
        chain.save(token)
        assert KeyringTokenStore("default", store).load() == token
    assert not os.path.exists(store.path)
    pieces = len(ring.entries)
    assert pieces == 1 + -(-len(token.to_json()) // 1_000), "old pieces are swept"
    assert KeyringTokenStore("other", store).load() is None
    assert chain.delete()
    assert ring.entries == {}
    assert not chain.delete()


def test_an_interrupted_write_leaves_the_old_token(ring: Ring, store: FileTokenStore, make_token: MakeToken) -> None:
    old, new = make_token("old" * 800), make_token("new" * 800)
    KeyringTokenStore("default", store).save(old)
    for writes in range(4):
        ring.writes_left = writes
        with pytest.raises(RuntimeError):
            KeyringTokenStore("default", store)._write(new)
        ring.writes_left = 10**9
        assert KeyringTokenStore("default", store).load() == old


def test_a_keyring_that_fails_costs_a_warning_and_not_the_token(
    ring: Ring, store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    chain = KeyringTokenStore("default", store)
    chain.save(make_token("old"))
    ring.writes_left = 1
    token = make_token("new")
    chain.save(token)
    assert "keyring cannot be used" in caplog.text
    assert FileTokenStore(store.path).load() == token
    assert chain.load() == token, "what the fallback holds is the newer one"
    ring.writes_left = 10**9
    later = KeyringTokenStore("default", store)
    later.save(make_token("newer"))
    assert not os.path.exists(store.path), "back in the keyring"
    loaded = later.load()
    assert loaded is not None
    assert loaded.access_token.get_secret_value() == "newer"


def test_a_keyring_that_hangs_is_asked_once(
    ring: Ring, store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    ring.pause = threading.Event()
    chain = KeyringTokenStore("default", store, limit_seconds=0.3)
    started = time.monotonic()
    with pytest.raises(TokenStoreError, match="keyring cannot be used") as caught:
        chain.load()  # who knows whether somebody is logged in
    assert caught.value.problem == "unreadable"
    token = make_token()
    chain.save(token)
    assert chain.load() == token
    assert chain.delete()
    assert 0.25 < time.monotonic() - started < 1.5
    assert caplog.text.count("cannot be used") == 1
    assert store.path in caplog.text


@pytest.mark.parametrize("left", [None, "\n"])
def test_a_keyring_entry_that_is_spoilt(
    ring: Ring, store: FileTokenStore, make_token: MakeToken, left: str | None
) -> None:
    chain = KeyringTokenStore("default", store)
    chain.save(make_token("x" * 3_000))
    key = next(key for key in ring.entries if key[1].endswith(":1"))
    del ring.entries[key]
    if left is not None:
        ring.entries[key] = left
    with pytest.raises(TokenStoreError) as caught:
        chain.load()
    assert caught.value.problem == "corrupt"
    assert "x" * 50 not in locals_of(caught.value)


def test_a_keyring_and_a_disk_that_both_fail_show_no_secret(ring: Ring, make_token: MakeToken, tmp_path: Path) -> None:
    ring.writes_left = 1
    with pytest.raises(TokenStoreError) as caught:
        KeyringTokenStore("default", FileTokenStore(str(tmp_path / "work"))).save(make_token("x" * 3_000))
    assert caught.value.problem == "unwritable"
    assert "x" * 50 not in locals_of(caught.value)


def locals_of(error: BaseException) -> str:
    """Return a traceback with the locals of all frames but the test's own."""
    kind = traceback.TracebackException
    trace: traceback.TracebackException | None = kind.from_exception(error, capture_locals=True, compact=True)
    text = ""
    while trace is not None:
        trace.stack[:] = [frame for frame in trace.stack if frame.filename != __file__]
        text += "".join(trace.format(chain=False))
        trace = trace.__cause__ or trace.__context__
    return text


def test_a_token_in_the_keyring_is_refreshed(
    ring: Ring, store: FileTokenStore, sandbox: Sandbox, logged_in: StoredToken, make_due: Callable[..., StoredToken]
) -> None:
    due = make_due()
    store.delete()
    chain = KeyringTokenStore("default", store)
    chain.save(due)
    token = TokenSource(store=chain).get_token()
    assert sandbox.count("refresh_token") == 1
    loaded = KeyringTokenStore("default", store).load()
    assert loaded is not None
    assert loaded.access_token.get_secret_value() == token
    assert not os.path.exists(store.path)


def test_stores_show_no_secret(ring: Ring, store: FileTokenStore, make_token: MakeToken) -> None:
    memory = MemoryTokenStore(make_token())
    for each in (store, memory, KeyringTokenStore("default", store)):
        assert "token-one" not in repr(each) + str(each)
    with memory.lock(), pytest.raises(TypeError):
        pickle.dumps(memory)


def test_the_warnings_hold_no_secret(
    store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store.save(make_token())
    if sys.platform != "win32":
        os.chmod(store.path, 0o644)
    store.load()
    with store.lock(), contextlib.suppress(TokenStoreError), file_lock(store.lock_path, 0):
        pass
    assert "token-one" not in caplog.text
    assert "secret-one" not in caplog.text
