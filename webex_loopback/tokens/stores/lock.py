"""A lock file, held by `flock` (POSIX) or `msvcrt.locking` (Windows) and released by the system if the process dies."""

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator

from webex_loopback.errors import TokenStoreError
from webex_loopback.private_file import is_ours, make_private_directory, open_private
from webex_loopback.wording import printable

_POLL_SECONDS = 0.003
_ELSEWHERE = "Set WEBEX_LOCK_DIR to a directory of your own on a local disk to keep the locks there."

if sys.platform == "win32":
    import msvcrt

    _LOCK, _UNLOCK = msvcrt.LK_NBLCK, msvcrt.LK_UNLCK

    def _apply(descriptor: int, operation: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, operation, 1)

    def _is_held(error: OSError) -> bool:
        # Windows reports EACCES or EDEADLK. Wine 8 sets no errno, so it is 0 or that of an earlier failure.
        return error.errno not in (errno.EBADF, errno.EINVAL)

else:
    from fcntl import LOCK_EX, LOCK_NB
    from fcntl import LOCK_UN as _UNLOCK
    from fcntl import flock as _apply

    _LOCK = LOCK_EX | LOCK_NB

    def _is_held(error: OSError) -> bool:
        return error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


@contextlib.contextmanager
def hold_lock(path: str, wait_seconds: float, *, poll_seconds: float = _POLL_SECONDS) -> Iterator[None]:
    """Hold a lock file. It is never unlinked: waiting processes would then lock different files (filelock, `_unix.py`).

    Raises:
        TokenStoreError: `locked` if another process holds it for longer than `wait_seconds` or the file system has no
            locks; `unwritable` or `foreign` if the file cannot be opened.
    """
    try:
        make_private_directory(os.path.dirname(path))
        descriptor = _open(path)
    except OSError as error:
        foreign = error.errno == errno.EPERM
        check = "Run the command as that user, without sudo." if foreign else "Check its directory's owner and mode."
        raise TokenStoreError(
            f"Could not open the lock '{printable(path)}': {error.strerror or error}.",
            problem="foreign" if foreign else "unwritable",
            remedy=f"{check} {_ELSEWHERE}",
        ) from error
    try:
        _wait(path, descriptor, wait_seconds, poll_seconds)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # closing releases it, too
                _apply(descriptor, _UNLOCK)
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    # A lock directory may be shared: through a link planted there, we would create or lock someone else's file.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = open_private(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not is_ours(status):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "It is not a regular file of this user", path)
    return descriptor


def _wait(path: str, descriptor: int, wait_seconds: float, poll_seconds: float) -> None:
    until = time.monotonic() + wait_seconds
    while True:
        try:
            return _apply(descriptor, _LOCK)
        except OSError as error:
            if not _is_held(error):
                raise TokenStoreError(
                    f"Could not lock '{printable(path)}': {error.strerror or error}.",
                    problem="locked",
                    remedy=_ELSEWHERE,
                ) from error
        if time.monotonic() >= until:
            raise TokenStoreError(
                f"Could not acquire the lock '{printable(path)}' within {wait_seconds:g} seconds.",
                problem="locked",
                remedy=f"Another process holds it: wait for it to finish, or end it. {_ELSEWHERE}",
            )
        time.sleep(min(poll_seconds, max(until - time.monotonic(), 0)))
