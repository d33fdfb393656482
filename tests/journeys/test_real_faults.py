"""Real file systems, mounts and users: what a login survives, and what is said."""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import webex_loopback
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux has them"),
    pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="only root can mount and give files away"),
]

ANOTHER = 12345  # a user without an entry in the user database
COMMAND = [sys.executable, "-m", "webex_loopback"]

Make = Callable[..., StoredToken]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Mount = Callable[..., None]


@pytest.fixture(autouse=True)
def rotating(sandbox: Sandbox) -> None:
    sandbox.switches.rotation = True


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


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


def run(*arguments: str, command: Sequence[str] = COMMAND, **options: Any) -> "subprocess.CompletedProcess[str]":
    done = [*command, *arguments]
    return subprocess.run(done, stdin=-3, capture_output=True, text=True, timeout=30, check=False, **options)


@pytest.fixture
def run_as_another(world: Path, mount: Mount) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run the command as another user, who may not be able to reach the interpreter and this checkout otherwise."""
    packages = sysconfig.get_path("purelib")
    places = {"python": sys.base_prefix, "packages": packages, "checkout": os.path.dirname(webex_loopback.__path__[0])}
    for name, path in places.items():
        (world / name).mkdir()
        mount("--bind", path, str(world / name))
    python = str(world / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    environ = os.environ | {"PYTHONPATH": f"{world}/checkout:{world}/packages", "HOME": str(world / "home")}
    environ["LD_LIBRARY_PATH"] = f"{world}/python/lib"
    del environ["WEBEX_LOOPBACK_HOME"]

    def run_as_another(*arguments: str, **changes: str | None) -> "subprocess.CompletedProcess[str]":
        env = {name: value for name, value in (environ | changes).items() if value is not None}
        others = {"user": ANOTHER, "group": ANOTHER, "extra_groups": [], "cwd": world / "home"}
        return run(*arguments, command=[python, "-m", "webex_loopback"], env=env, **others)

    return run_as_another


def refresh_token(store: FileTokenStore) -> str:
    stored = store.load()
    assert stored is not None
    assert stored.refresh_token is not None
    return stored.refresh_token.get_secret_value()


def read_only(mount: Mount, data: Path) -> None:
    mount("--bind", str(data), str(data))
    subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], timeout=20, check=True)


def full(mount: Mount, data: Path) -> None:
    kept = shutil.copytree(data, data.with_name("kept"))
    mount("-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(data))
    shutil.copytree(kept, data, dirs_exist_ok=True)
    with open(data / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(("fault", "reason"), [(full, "No space left"), (read_only, "Read-only file system")])
def test_a_refresh_token_is_not_spent_if_its_successor_could_not_be_stored(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, data: Path,
    fault: Callable[[Mount, Path], None], reason: str,
) -> None:  # fmt: skip
    valid = make_due(left=60)
    fault(mount, data)
    token = run("token")  # due and valid: handed out
    assert (token.returncode, token.stdout.strip()) == (0, valid.access_token.get_secret_value())
    assert token.stderr.count(reason) == 1
    forced = run("token", "--refresh")
    assert (forced.returncode, forced.stdout) == (6, "")
    assert reason in forced.stderr
    assert "Refreshed" not in forced.stderr
    assert sandbox.count("refresh_token") == 0
    assert sandbox.is_alive(refresh_token(store))
    assert {path.name for path in (data / "tokens").iterdir()} <= {
        "default.json",
        "default.json.lock",
        "default.json.login.lock",
    }
    assert run("login", "--force", "--no-browser").returncode == 6  # before anyone is sent to sign in
    if fault is full:
        os.unlink(data / "filler")
        assert run("token", "--refresh").returncode == 0
        assert sandbox.is_alive(refresh_token(store))


@pytest.mark.usefixtures("logged_in")
def test_a_token_file_that_is_a_mount_point_is_renewed_in_place_and_emptied_by_logout(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, tmp_path: Path
) -> None:
    """As `docker run -v token.json:...` has it: it can be neither renamed over nor removed."""
    outside = tmp_path / "outside.json"
    outside.touch(0o600)
    make_due()
    shutil.copy(store.path, outside)
    mount("--bind", str(outside), store.path)
    inode = os.stat(store.path).st_ino
    done = run("token")
    assert (done.returncode, done.stderr) == (0, "")
    assert os.stat(outside).st_ino == inode
    assert done.stdout.strip() in outside.read_text()
    assert sandbox.is_alive(refresh_token(store))
    assert run("logout").returncode == 0
    assert outside.read_bytes() == b""
    assert run("token").returncode == 3


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    ("what", "commands"),
    [
        ("data", ["token --refresh", "status", "login", "logout"]),
        ("data/tokens", ["token --refresh", "status", "login", "logout"]),
        ("data/tokens/default.json", ["token --refresh", "status", "login"]),
        ("data/config.env", ["login --force"]),
    ],
)
def test_what_belongs_to_another_user_is_not_used(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, commands: list[str]
) -> None:
    (tmp_path / "data" / "config.env").write_text("WEBEX_SCOPES=spark:kms\n")
    os.chown(tmp_path / what, ANOTHER, ANOTHER)
    for command in commands:
        done = run(*command.split())
        assert done.returncode in ((2, 6) if "login" in command else (6,)), done.stderr
        assert "another user" in done.stderr
        assert str(tmp_path / what) in done.stderr
    assert sandbox.count("refresh_token") == 0
    assert sandbox.count("/v1/authorize") == 1


@pytest.mark.usefixtures("logged_in")
def test_root_leaves_no_files_in_a_users_directory(
    run_as_another: Run, make_due: Make, data: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo webex-loopback ...` with the user's HOME: the user's next command could not open what root left there."""
    make_due()
    theirs = world / "home" / ".local" / "state" / "webex-loopback"
    shutil.copytree(data, theirs)
    for path in [*(world / "home").rglob("*")]:
        os.chown(path, ANOTHER, ANOTHER)
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(theirs))
    for command in ("token", "status", "login", "logout"):
        done = run(command)
        assert done.returncode == 6
        assert "without sudo" in done.stderr
    assert {path.stat().st_uid for path in theirs.rglob("*")} == {ANOTHER}
    assert run_as_another("token").returncode == 0
    os.chown(theirs / "tokens" / "default.json", 0, 0)  # as version 1 would have left it
    done = run_as_another("token")
    assert done.returncode == 6
    assert str(theirs / "tokens" / "default.json") in done.stderr
    assert "belongs to another user (uid 0)" in done.stderr
    assert "webex-loopback login --force" in done.stderr


@pytest.mark.parametrize("command", ["token", "status", "login", "doctor"])
def test_without_a_home_no_directory_named_tilde_appears(run_as_another: Run, world: Path, command: str) -> None:
    done = run_as_another(command, HOME=None)
    assert done.returncode == 2
    assert "WEBEX_LOOPBACK_HOME" in done.stdout + done.stderr
    assert os.listdir(world / "home") == []


@pytest.mark.usefixtures("logged_in")
def test_a_file_system_without_modes(
    mount: Mount, sandbox: Sandbox, make_due: Make, store: FileTokenStore, data: Path, tmp_path: Path
) -> None:
    make_due()
    kept = data.rename(tmp_path / "kept")
    data.mkdir()
    without_modes(mount, data, tmp_path)
    shutil.copytree(kept, data, dirs_exist_ok=True, copy_function=shutil.copyfile)
    assert stat.S_IMODE(os.stat(store.path).st_mode) & 0o077
    saved = run("token")
    assert (saved.returncode, len(saved.stderr.splitlines())) == (0, 1), saved.stderr
    for command in ("token", "status"):
        read = run(command)
        assert (read.returncode, read.stderr) == (0, "")
    assert sandbox.is_alive(refresh_token(store))
    assert run("logout").returncode == 0
    assert not os.path.exists(store.path)


def without_modes(mount: Mount, data: Path, tmp_path: Path) -> None:
    """Mount a file system without modes: FAT, else what bindfs makes of any directory."""
    if shutil.which("mkfs.vfat") and "vfat" in Path("/proc/filesystems").read_text():
        image = tmp_path / "image"
        subprocess.run(["mkfs.vfat", "-C", str(image), "1024"], capture_output=True, timeout=20, check=True)
        mount("-o", "loop", str(image), str(data))
    elif shutil.which("bindfs"):
        (tmp_path / "behind").mkdir()
        mount("-t", "fuse.bindfs", "-o", "perms=0777,chmod-ignore", str(tmp_path / "behind"), str(data))
    else:
        pytest.skip("needs mkfs.vfat with a kernel that knows FAT, or bindfs")
