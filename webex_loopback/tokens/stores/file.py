"""The default store: one JSON file per profile, mode 0600, in a directory of the user's own.

A save is prepared in `.NAME.new` beside the file: space is reserved before the refresh token is used, then it is filled
and renamed over the file. If a process is killed before renaming, whoever takes the lock next completes the save.
"""

import contextlib
import errno
import logging
import os
import re
import time
from collections.abc import Iterator

from webex_loopback.errors import TokenStoreError
from webex_loopback.oauth.token_response import MalformedToken
from webex_loopback.paths import environment_path, login_command
from webex_loopback.private_file import (
    Replacement,
    check_owner,
    is_ours,
    make_private_directory,
    patiently,
    read_small_file,
    readable_by_others,
    write_private_file,
)
from webex_loopback.tokens.record import FutureVersion, StoredToken
from webex_loopback.wording import printable

from . import LOCK_SECONDS
from .lock import hold_lock

log = logging.getLogger(__name__)

_RESERVED_BYTES = 32_768  # a long token is 2 kB; the file holds two, encrypted ones a third more
_LARGEST = 1 << 22  # tokens of up to 1 MB are accepted from a server
_warned: set[str] = set()


class FileTokenStore:
    """One profile's token file.

    Attributes:
        path: The token file. If it is a symbolic link, the link stays and its target is replaced.
        real_path: The same with links resolved; the lock and other files are kept beside this one.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._reserved: Replacement | None = None  # only while the lock is held

    def __str__(self) -> str:
        return self.path

    @property
    def real_path(self) -> str:
        return os.path.realpath(self.path)

    @property
    def profile(self) -> str:
        """The profile's name, for remedies."""
        return os.path.basename(self.path).removesuffix(".encrypted").removesuffix(".json")

    @property
    def lock_path(self) -> str:
        """The lock file: beside the token file, or in `$WEBEX_LOCK_DIR` if that is set."""
        directory = environment_path("WEBEX_LOCK_DIR")
        if not directory:
            return f"{self.real_path}.lock"
        from hashlib import sha256  # OpenSSL takes 5 ms, and most renewals do not need it

        # Several data directories may share the lock directory, and one may have two names.
        place = sha256(os.fsencode(self.real_path)).hexdigest()[:16]
        return os.path.join(directory, f"webex-loopback-{place}.lock")

    def load(self) -> StoredToken | None:
        """Return the stored token, or None if there is none; another user's is an error."""
        if os.path.lexists(self._replacement().pending):
            # Left by a killed process, or a save in progress; in that case the lock is held, and we do not wait.
            with contextlib.suppress(TokenStoreError), self.lock(0):
                pass
        with self._translated("Could not read the token file '{path}': {reason}.", "unreadable"):
            try:
                self._check_directories()
                check_owner(self.real_path)
                data = read_small_file(self.real_path, _LARGEST)
            except FileNotFoundError:
                return None
        if self.readable_by_others():
            with contextlib.suppress(OSError):
                os.chmod(self.real_path, 0o600)
            if not self.readable_by_others():  # otherwise `doctor` and the next save say so, not every command
                self._warn_once("Others could read the token file '%s'. Its mode is now 0600.")
        return self._decoded(data)

    @contextlib.contextmanager
    def lock(self, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Exclude every other renewal and login that writes this file; finishes a killed process's save first."""
        with hold_lock(self.lock_path, wait_seconds):
            self._recover()
            try:
                yield
            finally:
                self._recover()  # clears a reservation that was not used

    def reserve(self) -> None:
        """Make sure that the next `save()` has room."""
        with self._translated("There is no room to save new tokens in '{path}': {reason}."):
            make_private_directory(os.path.dirname(self.real_path))
            self._check_directories()
            size = os.path.getsize(self.real_path) if os.path.exists(self.real_path) else 0
            replacement = self._reserved = self._replacement()
            try:
                replacement.reserve(max(_RESERVED_BYTES, 2 * size))
            except OSError:
                replacement.discard()
                raise

    def save(self, token: StoredToken) -> None:
        """Store the token; call it under the lock. After an error, the file is unchanged."""
        with self._translated("Could not write the tokens to '{path}': {reason}."):
            replacement = self._reserved or self._replacement()
            if not os.path.lexists(replacement.pending):
                make_private_directory(os.path.dirname(self.real_path))
                replacement.reserve(0)
            try:
                replacement.commit(self._encode(token))
            finally:
                replacement.release()
        if self.readable_by_others():
            self._warn_once("Others can read the token file '%s': this file system does not support file modes.")

    def delete(self) -> bool:
        """Remove the file and all files beside it that hold older tokens; return whether there was a token."""
        there = os.path.lexists(self.real_path) and os.path.getsize(self.real_path) > 0
        with self._translated("Could not remove '{path}': {reason}."):
            for path in [self.real_path, *self.leftovers()]:
                try:
                    patiently(os.unlink, path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    os.truncate(path, 0)  # a file that is a mount point cannot be removed
        return there

    def leftovers(self) -> list[str]:
        """Return the files beside the token file that hold tokens: unfinished saves and files set aside."""
        directory, name = os.path.split(self.real_path)
        # Exactly what set_aside() writes: "default.json.corrupt-1" is a profile's name.
        aside = r"(corrupt|foreign|future|unavailable|unreadable)-\d{8}T\d{6}(-\d+)?(\.[0-9a-f]+\.new)?"
        ours = re.compile(rf"\.?{re.escape(name)}\.(new|\d+\.[0-9a-f]+\.tmp|{aside})")
        with contextlib.suppress(OSError):
            return [os.path.join(directory, entry) for entry in os.listdir(directory) if ours.fullmatch(entry)]
        return []

    def set_aside(self, why: str) -> str:
        """Rename the file to keep its content, and return its new path."""
        # Not a link to it: `logout` would remove the link and leave the tokens. Another user's file cannot be renamed.
        path = self.path if why == "foreign" else self.real_path
        first = aside = f"{path}.{why}-{time.strftime('%Y%m%dT%H%M%S')}"
        serial = 1
        while os.path.lexists(aside):
            serial += 1
            aside = f"{first}-{serial}"
        with self._translated("Could not set aside '{path}': {reason}."):
            try:
                patiently(os.rename, path, aside)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                write_private_file(aside, read_small_file(path, _LARGEST))
        return aside

    def readable_by_others(self) -> bool:
        """Whether the file's mode lets others read it."""
        try:
            return readable_by_others(os.stat(self.real_path))
        except OSError:
            return False

    def _encode(self, token: StoredToken) -> bytes:
        return token.to_json()

    def _decode(self, data: bytes) -> StoredToken:
        return StoredToken.from_json(data)

    def _decoded(self, data: bytes) -> StoredToken | None:
        if not data.strip():
            return None  # logged out of a file that cannot be removed, or mounted empty for a first login
        try:
            return self._decode(data)
        except FutureVersion as error:
            problem, what, force = "future", str(error), ["--force"]
            remedy = "Upgrade webex-loopback, or set the file aside and log in again: `{}`."
        except MalformedToken as error:
            problem, what, force = "corrupt", str(error), []
            remedy = "Log in again; the file is kept under another name: `{}`."
        finally:
            del data  # an error's traceback may be printed with its local variables
        remedy = remedy.format(login_command(self.profile, *force))
        raise TokenStoreError(f"The token file '{printable(self.path)}' {what}.", problem=problem, remedy=remedy)

    def _check_directories(self) -> None:
        """Raise PermissionError if the file's directory, or the data directory above it, is another user's."""
        directory = os.path.dirname(self.real_path)
        check_owner(directory)
        if os.path.basename(directory) == "tokens":
            check_owner(os.path.dirname(directory))

    def _warn_once(self, message: str) -> None:
        if self.real_path not in _warned:
            _warned.add(self.real_path)
            log.warning(message, printable(self.path))

    def _replacement(self) -> Replacement:
        path = self.real_path
        return Replacement(path, f".{os.path.basename(path)}.new")

    def _recover(self) -> None:
        """Complete the save of a process that was killed before renaming it, or clear an incomplete one."""
        replacement = self._replacement()
        if self._reserved is not None:
            self._reserved.release()
            self._reserved = None
        if not os.path.lexists(replacement.pending):
            return
        try:
            status, data = os.lstat(replacement.pending), read_small_file(replacement.pending, _LARGEST)
            if is_ours(status) and self._is_complete(data) and not self._is_newer_than(status):
                replacement.adopt(data)
            else:
                replacement.discard()
        except (OSError, TokenStoreError) as error:  # the latter from a keyring that does not answer
            log.warning("Could not recover an interrupted save of '%s': %s.", printable(self.path), error)

    def _is_newer_than(self, status: os.stat_result) -> bool:
        """Whether the file holds a token that was written after a leftover, for example by version 1."""
        try:
            newer = os.stat(self.real_path).st_mtime_ns > status.st_mtime_ns
            return newer and self._is_complete(read_small_file(self.real_path, _LARGEST))
        except OSError:
            return False

    def _is_complete(self, data: bytes) -> bool:
        try:
            self._decode(data)
        except MalformedToken:
            return False
        return True

    @contextlib.contextmanager
    def _translated(self, what: str, problem: str = "unwritable") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = _REMEDIES[problem]
            if error.errno == errno.EPERM and "another user" in str(error.strerror):
                problem, remedy = "foreign", _FOREIGN_REMEDY.format(login_command(self.profile, "--force"))
            raise TokenStoreError(
                what.format(path=printable(self.path), reason=error.strerror or error), problem=problem, remedy=remedy
            ) from error.with_traceback(None)  # whose frames hold the data to be written


_REMEDIES = {
    "unreadable": "Check its owner and mode; `webex-loopback doctor` shows them.",
    "unwritable": "Free some space or check the directory's owner and mode. `webex-loopback doctor` shows them.",
}
_FOREIGN_REMEDY = (
    "Run the command as that user, without sudo, or set WEBEX_LOOPBACK_HOME to a directory of your own. "
    "If the file is yours to replace: `{}`."
)
