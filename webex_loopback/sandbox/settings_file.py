"""The file of `--settings`: never overwrites or deletes a file that a sandbox did not create."""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping

MARK = "# Created by `webex-loopback sandbox`, which deletes this file when it stops."


@contextlib.contextmanager
def settings_file(path: str, settings: Mapping[str, str]) -> Iterator[None]:
    """Keep a file with the settings, in the form of `config.env` and for this user only.

    Raises:
        FileExistsError: The file exists and was not created by a sandbox.
        OSError: The file cannot be written.
    """
    _remove_leftover(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # never follows a link
    ours = False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            try:
                file.write("\n".join([MARK, *(f"{name}={value}" for name, value in settings.items()), ""]))
                file.flush()
                yield
            finally:
                with contextlib.suppress(OSError):  # while it is open: the inode of a deleted file may be reused
                    ours = os.path.samestat(os.fstat(descriptor), os.lstat(path))
    finally:
        if ours:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _remove_leftover(path: str) -> None:
    """Remove the file of a sandbox that was killed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            if file.readline(len(MARK) + 2).rstrip() == MARK.encode():
                os.unlink(path)
                return
    raise FileExistsError(0, "the file exists and was not created by a sandbox", path)
