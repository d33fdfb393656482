"""Files that only this user can read, written whole or not at all.

All functions raise OSError; callers translate it.
"""

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from io import BufferedWriter
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_WINDOWS_PATIENCE_SECONDS = 10.0
# Errors of rename() if the file itself is a mount point (docker run -v token.json:...) or on another device.
_CANNOT_RENAME = (errno.EBUSY, errno.EXDEV, errno.ETXTBSY)
# Errors of opening a file that can neither be renamed over nor written: immutable, or a read-only mount point.
_CANNOT_REPLACE = (errno.EPERM, errno.EROFS)


def is_ours(status: os.stat_result) -> bool:
    """Whether this user owns a file; on Windows the profile directory's ACL decides instead."""
    return sys.platform == "win32" or status.st_uid == os.geteuid()


def writable_by_others(status: os.stat_result) -> bool:
    """Whether the mode lets anyone but the owner write."""
    return sys.platform != "win32" and bool(status.st_mode & 0o022)


def readable_by_others(status: os.stat_result) -> bool:
    """Whether the mode lets anyone but the owner do anything with it."""
    return sys.platform != "win32" and bool(status.st_mode & 0o077)


def make_private_directory(path: str) -> None:
    """Create a directory and its missing parents for this user only.

    Raises:
        PermissionError: It exists and belongs to another user (after `sudo`, for example).
    """
    if os.path.isdir(path):
        check_owner(path)
        return
    above = os.path.dirname(path)
    if above != path and not os.path.isdir(above):
        make_private_directory(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)  # a umask of 0177 would leave a directory in which nothing can be opened


def open_private(path: str, flags: int) -> int:
    """Open a file, creating it with mode 0600, whatever the umask."""
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    if os.fstat(descriptor).st_mode & 0o600 != 0o600:
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o600)
    return descriptor


def check_owner(path: str) -> None:
    """Raise PermissionError if a file or directory belongs to another user.

    This includes root in another user's directory (`sudo` with HOME kept): root's files would remain there, and the
    user's later commands could not open them.
    """
    status = os.stat(path)
    if not is_ours(status):
        raise PermissionError(errno.EPERM, f"It belongs to another user (uid {status.st_uid})", path)


def read_small_file(path: str, limit: int = 1 << 20, checked: os.stat_result | None = None) -> bytes:
    """Read a regular file of at most `limit` bytes; a device, FIFO or directory is refused at once.

    Args:
        checked: The status that the caller trusts; if the opened file has another owner or mode, it is refused.
    """
    if sys.platform == "win32" and os.path.isdir(path):  # opening one is a PermissionError, which may pass
        raise OSError(errno.EINVAL, "Not a regular file", path)
    descriptor = patiently(os.open, path, _READ)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        trusted = checked is None or (checked.st_uid, checked.st_mode) == (status.st_uid, status.st_mode)
        if not trusted and sys.platform != "win32":  # where stat() of a path derives modes from the extension
            raise OSError(errno.EPERM, "It was replaced after it was checked", path)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "File too large", path)
    return data


def write_private_file(path: str, data: bytes) -> None:
    """Write a file with mode 0600, replacing what is there; it holds the old or the new content at any moment."""
    replacement = Replacement(path, f".{os.path.basename(path)}.{os.urandom(4).hex()}.new")
    try:
        replacement.reserve(len(data))
        replacement.commit(data)
    except BaseException:
        replacement.discard()
        raise


class Replacement:
    """A replacement for a file, prepared beside it as `name`: reserve space, write the content, rename.

    Symbolic links in `path` must have been resolved by the caller.
    """

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self.pending = os.path.join(os.path.dirname(path), name)
        self._file: BufferedWriter | None = None  # open until it is filled: opening it again could fail

    def reserve(self, size: int) -> None:
        """Create the replacement with room for `size` bytes, on disk; an OSError means that nothing has changed."""
        self.release()
        try:
            os.close(os.open(self.path, _WRITE))
        except OSError as error:
            if error.errno in _CANNOT_REPLACE:
                raise
        with contextlib.suppress(FileNotFoundError):
            patiently(os.unlink, self.pending)
        file = open(open_private(self.pending, _WRITE | os.O_EXCL), "wb")  # noqa: SIM115
        self._file = file
        try:
            _write(file, bytes(size))
        except OSError:
            self.release()
            raise

    def commit(self, data: bytes) -> None:
        """Replace the file; once this returns, the content survives a crash.

        After an OSError the file has its old content, unless it could only be written in place.
        """
        self._fill(self.pending, data)
        self.adopt(data)

    def adopt(self, data: bytes) -> None:
        """Rename the replacement, which is complete, over the file."""
        try:
            patiently(os.replace, self.pending, self.path)
        except OSError as error:
            if error.errno not in _CANNOT_RENAME:
                raise
            self._fill(self.path, data)  # the complete replacement stays beside it until this is on disk
            os.unlink(self.pending)
        _sync_directory(os.path.dirname(self.path))

    def release(self) -> None:
        """Close the reserved file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def discard(self) -> None:
        """Remove the replacement, if any."""
        self.release()
        with contextlib.suppress(OSError):
            patiently(os.unlink, self.pending)

    def _fill(self, path: str, data: bytes) -> None:
        reserved, self._file = self._file, None
        with reserved or open(os.open(path, _WRITE), "wb") as file:
            _write(file, data)


def _write(file: BufferedWriter, data: bytes) -> None:
    # Not truncated first: the reserved blocks would be given back, and the disk may be full by now.
    file.seek(0)
    file.write(data)
    file.flush()
    file.truncate()
    os.fsync(file.fileno())


def patiently(action: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Call the action. On Windows, retry for some seconds, because virus scanners and backups hold files open."""
    until = time.monotonic() + (_WINDOWS_PATIENCE_SECONDS if sys.platform == "win32" else 0)
    while True:
        try:
            return action(*arguments, **named)
        except PermissionError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)


def _sync_directory(path: str) -> None:
    """Flush the renaming to disk, if the system supports that; Windows cannot open a directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
