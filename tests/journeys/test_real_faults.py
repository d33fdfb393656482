"""Real file systems, mounts and users: what a login survives, and what is said."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

if sys.platform != "linux" or os.geteuid() != 0:
    pytest.skip("only root can mount and give files away; written for Linux", allow_module_level=True)

import webex_loopback
from tests.programs.renewing import is_lost
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = pytest.mark.slow

ANOTHER = 12345  # a user without an entry in the user database

Make = Callable[..., StoredToken]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Mount = Callable[..., None]


@pytest.fixture
def world() -> Iterator[Path]:
    """A directory that every user can search, unlike `tmp_path`."""
    world = Path(tempfile.mkdtemp(prefix="webex-loopback-world-"))
    world.chmod(0o755)
    (world / "home").mkdir()
    os.chown(world / "home", ANOTHER, ANOTHER)
    yield world
    shutil.rmtree(world / "home")
    for path in [*world.iterdir(), world]:
        path.rmdir()  # never a whole tree: these are mount points


@pytest.fixture
def mount(world: Path) -> Iterator[Mount]:
    """Mount something; nothing is mounted when the test is over."""
    mounted: list[str] = []

    def mount(*arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")
        mounted.append(arguments[-1])

    yield mount
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", path], timeout=20, check=True)


def run(*arguments: str, python: str = sys.executable, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [python, "-m", "webex_loopback", *arguments]
    return subprocess.run(command, stdin=-3, capture_output=True, text=True, timeout=30, check=False, **options)


@pytest.fixture
def run_as_another(world: Path, mount: Mount) -> Run:
    """Run the command as another user, who may not be able to reach the interpreter and this checkout otherwise."""
    checkout, packages = (os.path.dirname(package.__path__[0]) for package in (webex_loopback, httpx))
    for name, path in {"python": sys.base_prefix, "packages": packages, "checkout": checkout}.items():
        (world / name).mkdir()
        mount("--bind", path, str(world / name))
    python = str(world / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    environ = os.environ | {"PYTHONPATH": f"{world}/checkout:{world}/packages", "HOME": str(world / "home")}
    environ["LD_LIBRARY_PATH"] = f"{world}/python/lib"
    del environ["WEBEX_LOOPBACK_HOME"]

    def run_as_another(*arguments: str, **changes: str | None) -> "subprocess.CompletedProcess[str]":
        env = {name: value for name, value in (environ | changes).items() if value is not None}
        user: Any = {"user": ANOTHER, "group": ANOTHER, "extra_groups": []}
        return run(*arguments, python=python, env=env, cwd=world / "home", **user)

    return run_as_another


@pytest.fixture
def data(tmp_path: Path, sandbox: Sandbox) -> Path:
    """The data directory; the server makes each refresh token good for one request."""
    sandbox.switches.rotation = True
    return tmp_path / "data"


def full(mount: Mount, data: Path) -> None:
    kept = shutil.copytree(data, data.with_name("kept"))
    mount("-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(data))
    shutil.copytree(kept, data, dirs_exist_ok=True)
    with contextlib.suppress(OSError):
        (data / "filler").write_bytes(bytes(65_536))


def read_only(mount: Mount, data: Path) -> None:
    mount("--bind", str(data), str(data))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], timeout=20, check=True)


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(("fault", "reason"), [(full, "No space left"), (read_only, "Read-only file system")])
def test_a_refresh_token_is_not_used_if_its_successor_could_not_be_stored(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, data: Path, fault: Any, reason: str
) -> None:
    valid = make_due(left=600)
    fault(mount, data)
    done = run("token")  # due and valid: handed out
    assert (done.returncode, done.stdout.strip()) == (0, valid.access_token.get_secret_value())
    assert done.stderr.count(reason) == 1
    done = run("token", "--refresh")
    assert (done.returncode, done.stdout) == (6, "")
    assert (reason in done.stderr, "Refreshed" in done.stderr) == (True, False)
    assert run("login", "--force", "--no-browser").returncode == 6  # before anyone is sent to sign in
    assert sandbox.count("refresh_token") == 0
    assert store.load() == valid
    assert not list((data / "tokens").glob("*.new"))
    if fault is full:
        (data / "filler").unlink()
        assert run("token", "--refresh").returncode == 0
        assert not is_lost(sandbox, store)


@pytest.mark.usefixtures("logged_in")
def test_a_token_file_that_is_a_mount_point_is_renewed_in_place_and_emptied_by_logout(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, data: Path, tmp_path: Path
) -> None:
    """As `docker run -v token.json:...` has it: it can be neither renamed over nor removed."""
    make_due()
    outside = Path(shutil.copy2(store.path, tmp_path / "outside.json"))
    mount("--bind", str(outside), store.path)
    done = run("token")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in outside.read_text()
    assert not is_lost(sandbox, store)
    assert (run("logout").returncode, outside.read_bytes(), run("token").returncode) == (0, b"", 3)


@pytest.mark.usefixtures("logged_in")
def test_a_file_system_without_modes_is_one_warning_at_a_save_and_none_at_a_read(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, data: Path, tmp_path: Path
) -> None:
    if not shutil.which("bindfs"):  # not every kernel has FAT; bindfs ignores modes in any directory
        pytest.skip("needs bindfs")
    make_due()
    behind = data.rename(tmp_path / "behind")
    data.mkdir()
    mount("-t", "fuse.bindfs", "-o", "perms=0777,chmod-ignore", str(behind), str(data))
    assert os.stat(store.path).st_mode & 0o077
    saved = run("token")
    assert (saved.returncode, len(saved.stderr.splitlines())) == (0, 1), saved.stderr
    for command in ("token", "status"):
        read = run(command)
        assert (read.returncode, read.stderr) == (0, "")
    assert not is_lost(sandbox, store)
    assert (run("logout").returncode, os.path.exists(store.path)) == (0, False)


@pytest.mark.usefixtures("logged_in")
def test_root_leaves_no_files_in_a_users_directory(
    run_as_another: Run, make_due: Make, data: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo webex-loopback ...` with the user's HOME: the user's next command could not open what root left there."""
    make_due()
    theirs = world / "home" / ".local" / "state" / "webex-loopback"
    shutil.copytree(data, theirs)
    for path in (world / "home").rglob("*"):
        os.chown(path, ANOTHER, ANOTHER)
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(theirs))
    for command in ("token", "status", "login", "logout"):
        done = run(command)
        assert (done.returncode, "without sudo" in done.stderr) == (6, True)
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {ANOTHER}
    assert run_as_another("token").returncode == 0
    os.chown(theirs / "tokens" / "default.json", 0, 0)  # as version 1 would have left it
    done = run_as_another("token")
    assert done.returncode == 6
    assert f"{theirs}/tokens/default.json': It belongs to another user (uid 0)" in done.stderr
    assert "webex-loopback login --force" in done.stderr


@pytest.mark.parametrize("command", ["token", "login", "doctor"])
def test_without_a_home_directory_none_named_tilde_is_created(run_as_another: Run, world: Path, command: str) -> None:
    done = run_as_another(command, HOME=None)
    assert done.returncode == 2
    assert "WEBEX_LOOPBACK_HOME" in done.stdout + done.stderr
    assert os.listdir(world / "home") == []
