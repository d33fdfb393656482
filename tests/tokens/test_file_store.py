import contextlib
import errno
import os
import stat
import time
from pathlib import Path

import pytest

from tests.conftest import Log, Make, Patch, as_root, posix, python, raised, with_locals
from webex_loopback import private_file
from webex_loopback.errors import TokenStoreError
from webex_loopback.tokens.stores import TokenStore
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.lock import hold_lock
from webex_loopback.tokens.stores.memory import MemoryTokenStore

from .conftest import failing


def pending(store: FileTokenStore) -> Path:
    path = Path(store.real_path)
    return path.with_name(f".{path.name}.new")


@pytest.fixture
def folder(store: FileTokenStore) -> Path:
    """The store's directory, which exists."""
    directory = Path(store.path).parent
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_store_keeps_one_token(kind: str, store: FileTokenStore, save: Make) -> None:
    kept: TokenStore = store if kind == "file" else MemoryTokenStore()
    assert isinstance(kept, TokenStore)
    assert kept.load() is None
    assert not kept.delete()
    token = save(into=kept)
    assert kept.load() == token
    with kept.lock(), pytest.raises(TokenStoreError, match="lock"), kept.lock(0.05):
        pass
    assert kept.delete()
    if kind == "file":
        Path(store.path).touch()  # an empty file holds no token
    assert kept.load() is None


@posix
@pytest.mark.parametrize("mask", [0, 0o177, 0o777])
def test_file_and_directories_are_private_whatever_the_umask(store: FileTokenStore, save: Make, mask: int) -> None:
    before = os.umask(mask)
    try:
        save()
    finally:
        os.umask(before)
    folder = os.path.dirname(store.path)
    modes = [stat.S_IMODE(os.stat(p).st_mode) for p in (store.path, store.lock_path, folder, os.path.dirname(folder))]
    assert modes == [0o600, 0o600, 0o700, 0o700]


@posix
@pytest.mark.parametrize("able", [True, False])
def test_a_file_that_others_can_read_is_closed_with_one_warning(
    store: FileTokenStore, save: Make, caplog: Log, able: bool
) -> None:
    save()
    for _ in range(3):
        os.chmod(store.path, 0o644)
        # A file system without modes causes a warning at the save, and none at a read.
        with contextlib.nullcontext() if able else failing("chmod", errno.EPERM):
            assert store.load() is not None
        assert stat.S_IMODE(os.stat(store.path).st_mode) == (0o600 if able else 0o644)
    assert len(caplog.records) == able


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=posix)])
def test_a_save_replaces_the_file_and_keeps_a_link_to_it(
    store: FileTokenStore, save: Make, folder: Path, tmp_path: Path, link: bool
) -> None:
    if link:
        os.symlink(tmp_path / "elsewhere.json", store.path)
    save("first")
    second = save("second")
    assert os.path.islink(store.path) is link
    assert store.load() == second
    assert not pending(store).exists()


def test_a_full_disk_is_noticed_before_the_request_and_leaves_nothing(store: FileTokenStore, save: Make) -> None:
    token = save()
    with failing("fsync", errno.ENOSPC), store.lock(), pytest.raises(TokenStoreError) as caught:
        store.reserve()
    assert caught.value.problem == "unwritable"
    assert store.load() == token
    assert not pending(store).exists()


def test_a_reservation_is_large_enough_and_is_cleared_if_it_is_not_used(store: FileTokenStore, save: Make) -> None:
    save("a" * 100_000)
    with store.lock():
        store.reserve()
        assert pending(store).stat().st_size >= 200_000
        assert store.load() is not None
    assert not pending(store).exists()


def test_a_save_opens_nothing_that_could_fail_after_the_request(store: FileTokenStore, make_token: Make) -> None:
    new = make_token("new")
    with store.lock():
        store.reserve()
        with failing("open", errno.EMFILE):
            store.save(new)
    assert store.load() == new


@pytest.mark.parametrize("content", [None, b"", bytes(100), b'{"version": 1,', b"{}"])
def test_a_killed_processs_save_is_adopted_by_the_next_reader_if_it_is_complete(
    store: FileTokenStore, save: Make, make_token: Make, content: bytes | None
) -> None:
    old, new = save("old"), make_token("new")
    pending(store).write_bytes(new.to_json() if content is None else content)
    assert store.load() == (new if content is None else old)
    assert not pending(store).exists()


def test_a_leftover_older_than_the_file_is_not_adopted(store: FileTokenStore, save: Make, make_token: Make) -> None:
    current = save("current")
    pending(store).write_bytes(make_token("stale").to_json())
    os.utime(pending(store), (1, 1))
    assert store.load() == current


def test_a_read_neither_disturbs_nor_waits_for_a_save_in_progress(
    store: FileTokenStore, save: Make, make_token: Make
) -> None:
    old = save("old")
    with hold_lock(store.lock_path, 1):
        pending(store).write_bytes(make_token("new").to_json())
        began = time.monotonic()
        assert store.load() == old
        assert time.monotonic() - began < 1
        assert pending(store).exists()


def test_a_file_that_cannot_be_renamed_over_is_written_in_place(store: FileTokenStore, save: Make) -> None:
    """Like a bind mount of the file, which answers EBUSY; tests/journeys has a real one."""
    save("old" * 5000)
    with failing("replace", errno.EBUSY):
        new = save("new")
    assert store.load() == new
    assert not pending(store).exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS])
def test_a_file_that_can_be_neither_replaced_nor_written_is_noticed_before_the_request(
    store: FileTokenStore, save: Make, number: int
) -> None:
    """An immutable one, or a read-only bind mount of the file."""
    token = save()
    with store.lock(), failing("open", number, folder=store.path), pytest.raises(TokenStoreError):
        store.reserve()
    assert store.load() == token
    assert not pending(store).exists()


def test_an_interrupted_write_in_place_is_completed_from_the_backup(
    store: FileTokenStore, save: Make, make_token: Make, monkeypatch: Patch
) -> None:
    save("old")
    new = make_token("new")

    def fill(self: private_file.Replacement, path: str, data: bytes) -> None:
        original(self, path, data if path.endswith(".new") else data[:20])
        if not path.endswith(".new"):
            raise OSError(errno.EIO, "Input/output error")

    original = private_file.Replacement._fill
    with failing("replace", errno.EBUSY), monkeypatch.context() as patch:
        patch.setattr(private_file.Replacement, "_fill", fill)
        with pytest.raises(TokenStoreError), store.lock():
            store.save(new)
    assert store.load() == new


@pytest.mark.parametrize(
    ("content", "problem"), [(b"{", "corrupt"), (b'{"version": 9}', "future"), (b"\x00" * 9, "corrupt")]
)
def test_the_error_for_an_unusable_file_names_the_command_to_run(folder: Path, content: bytes, problem: str) -> None:
    (folder / "work.json").write_bytes(content)
    error = raised(TokenStoreError, FileTokenStore(str(folder / "work.json")).load)
    assert error.problem == problem
    assert "webex-loopback login -p work" in error.remedy


@posix
@pytest.mark.parametrize("kind", ["directory", "fifo", "device"])
def test_a_file_that_is_not_regular_is_refused_at_once(store: FileTokenStore, folder: Path, kind: str) -> None:
    if kind == "directory":
        os.mkdir(store.path)
    elif kind == "fifo":
        os.mkfifo(store.path)
    else:
        os.symlink("/dev/zero", store.path)
    with pytest.raises(TokenStoreError) as caught:
        store.load()
    assert caught.value.problem in ("unreadable", "foreign")


@as_root
@pytest.mark.parametrize("what", ["data", "data/tokens", "data/tokens/default.json"])
def test_another_users_file_or_directory_is_refused(
    store: FileTokenStore, save: Make, tmp_path: Path, what: str
) -> None:
    save()
    os.chown(tmp_path / what, 12345, 12345)
    error = raised(TokenStoreError, store.load)
    assert error.problem == "foreign"
    assert "12345" in str(error)
    if what != "data/tokens/default.json":
        with pytest.raises(TokenStoreError), store.lock():
            store.reserve()


def test_delete_leaves_nothing_that_holds_a_token(store: FileTokenStore, save: Make) -> None:
    save()
    folder = Path(store.path).parent
    for name in (
        ".default.json.new", ".default.json.4711.ab12.tmp", "default.json.corrupt-20260101T000000",
        "default.json.foreign-20260101T000000-2",
    ):  # fmt: skip
        (folder / name).write_text("refresh-token-one")
    others = [folder / name for name in ("default.json.lock", "default.json.corrupt-1.json", ".work.json.new")]
    for path in others:
        path.touch()
    assert store.delete()
    assert sorted(folder.iterdir()) == sorted(others)


def test_a_file_that_cannot_be_removed_or_renamed_is_emptied_or_copied(
    store: FileTokenStore, save: Make, folder: Path
) -> None:
    save()
    with failing("unlink", errno.EBUSY):
        assert store.delete()
    assert store.load() is None
    Path(store.path).write_bytes(b"x")
    with failing("rename", errno.EBUSY):
        assert Path(store.set_aside("corrupt")).read_bytes() == b"x"


def test_files_set_aside_get_names_of_their_own(store: FileTokenStore, folder: Path) -> None:
    names = set()
    for _ in range(3):
        Path(store.path).touch()
        names.add(store.set_aside("corrupt"))
    assert len(names) == 3
    assert set(store.leftovers()) == names


@posix
def test_setting_aside_and_deleting_leave_nothing_at_the_target_of_a_link(
    store: FileTokenStore, save: Make, folder: Path, tmp_path: Path
) -> None:
    real = tmp_path / "dotfiles" / "token.json"
    real.parent.mkdir()
    real.write_text("half of a refresh-token-one")
    os.symlink(real, store.path)
    store.set_aside("corrupt")
    save()
    assert real.samefile(store.path)
    assert store.delete()
    assert not list(real.parent.glob("*json*[!k]"))


def test_the_lock_excludes_other_processes(store: FileTokenStore) -> None:
    program = "from webex_loopback.tokens.stores.file import FileTokenStore as Store\n"
    program += f"with Store({store.path!r}).lock(0): pass"
    with store.lock():
        assert python(program).returncode == 1
    assert python(program).returncode == 0


@posix
def test_a_planted_link_in_a_shared_lock_directory_is_not_followed(
    store: FileTokenStore, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "locks").mkdir()
    victim = tmp_path / "victim"
    os.symlink(victim, store.lock_path)
    with pytest.raises(TokenStoreError), store.lock():
        pass
    assert not victim.exists()


@posix
def test_one_file_has_one_lock_by_whatever_name_it_is_reached(
    store: FileTokenStore, folder: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    os.symlink(tmp_path / "data", tmp_path / "other")
    alias = FileTokenStore(str(tmp_path / "other" / "tokens" / "default.json"))
    assert alias.lock_path == store.lock_path
    monkeypatch.setenv("WEBEX_LOCK_DIR", f'"{tmp_path / "locks"}"')
    assert alias.lock_path == store.lock_path
    assert os.path.dirname(alias.lock_path) == str(tmp_path / "locks")


def test_no_secret_is_in_an_error_of_a_failed_save(store: FileTokenStore, make_token: Make) -> None:
    with store.lock(), failing("fsync", errno.EIO), pytest.raises(TokenStoreError) as caught:
        store.save(make_token())
    assert "refresh-token-one" not in with_locals(caught.value)
