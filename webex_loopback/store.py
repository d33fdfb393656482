"""Where tokens are kept: a file (the default), the operating system's keyring, or memory.

Every store has a lock that belongs to the stored token, not to whoever asks for it: a refresh is made under
it, after reading again, so that several processes make one refresh between them.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, runtime_checkable

from .errors import TokenStoreError

if TYPE_CHECKING:
    from .token import StoredToken

_P = ParamSpec("_P")
_T = TypeVar("_T")

log = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.003
_SLICE_SECONDS = 0.2
_LARGEST = 1 << 20


@runtime_checkable
class TokenStore(Protocol):
    """What `TokenSource` needs of a store; each method may raise `TokenStoreError`."""

    def load(self) -> "StoredToken | None":
        """Return what is stored, or None."""
        ...

    def save(self, token: "StoredToken") -> None:
        """Store the token; once this returns, it survives the process."""
        ...

    def delete(self) -> bool:
        """Forget the token; return whether there was one."""
        ...

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Exclude every other process and thread that would refresh this token."""
        ...


class FileTokenStore:
    """One JSON file, 0600 from birth in a 0700 folder, replaced as a whole.

    Attributes:
        path: Of the token file. A symbolic link there is followed, so that the link stays.
        real_path: With links followed; what belongs to the file, such as its lock, is beside this one.
    """

    def __init__(self, path: str, *, lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
        self.path = os.path.abspath(path)
        self.lock_timeout_seconds = lock_timeout_seconds

    @property
    def real_path(self) -> str:
        """The token file's path, with links followed."""
        return os.path.realpath(self.path)

    def load(self) -> "StoredToken | None":
        """Return the stored token, or None where there is no file.

        A file that others can read is mended, with a warning.

        Raises:
            TokenStoreError: It cannot be read, belongs to another user, is corrupt or of a future version.
        """
        data = self._read()
        if data is None:
            return None
        # Not at the top: a login takes its locks before pydantic is loaded.
        from .token import FutureVersion, MalformedToken, StoredToken

        try:
            return StoredToken.from_json(data)
        except FutureVersion as error:
            raise TokenStoreError(
                f"The token file {self.path} {error}.",
                problem="future",
                remedy="Upgrade webex-loopback. `webex-loopback login --force` sets the file aside and starts anew.",
            ) from None
        except MalformedToken as error:
            raise TokenStoreError(
                f"The token file {self.path} {error}.",
                problem="corrupt",
                remedy="Run `webex-loopback login`: it keeps the file under another name and starts anew.",
            ) from None
        finally:
            del data  # an error's traceback may be printed with its locals

    def _read(self) -> bytes | None:
        try:
            flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = _patiently(os.open, self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._judge(os.fstat(descriptor), descriptor)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(_LARGEST)
        except OSError as error:  # pragma: no cover - a disk that fails in the middle
            raise self._unreadable(error) from error
        finally:
            os.close(descriptor)

    def _judge(self, status: os.stat_result, descriptor: int) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise TokenStoreError(
                f"{self.path} is not a regular file.", problem="unreadable", remedy="Move away what is there."
            )
        if sys.platform == "win32":  # pragma: no cover - the profile folder's ACL does this on Windows
            return
        if status.st_uid != os.geteuid():
            raise TokenStoreError(
                f"The token file {self.path} belongs to another user (uid {status.st_uid}).",
                problem="foreign",
                remedy="Run as that user, or set WEBEX_LOOPBACK_HOME to a folder of your own. "
                "`webex-loopback login --force` sets the file aside and starts anew.",
            )
        if status.st_mode & 0o077:
            try:
                os.fchmod(descriptor, 0o600)
                now = "it is 0600 now"
            except OSError as error:  # a read-only mount
                now = f"that cannot be changed: {error.strerror}"
            log.warning("Others could read the token file %s (mode %o); %s.", self.path, status.st_mode & 0o777, now)

    def _unreadable(self, error: OSError) -> TokenStoreError:
        return TokenStoreError(
            f"The token file {self.path} cannot be read: {error.strerror or error}.",
            problem="unreadable",
            remedy="See to its owner and mode; `webex-loopback doctor` shows them.",
        )

    def save(self, token: "StoredToken") -> None:
        """Put the token on disk: the file is the old one or the new one, whole, whatever happens meanwhile.

        Raises:
            TokenStoreError: The disk refused; the file is as it was.
        """
        try:
            target = self.real_path
            make_private_folder(os.path.dirname(target))
            replace_file(target, token.to_json())
        except OSError as error:
            raise TokenStoreError(
                f"The tokens could not be written to {self.path}: {error.strerror or error}.",
                problem="unwritable",
                remedy="Make room or see to the folder's owner and mode, or set WEBEX_LOOPBACK_HOME to another folder.",
            ) from error.with_traceback(None)  # its frames hold what was to be written

    def delete(self) -> bool:
        """Remove the file; return whether there was one."""
        try:
            _patiently(os.unlink, self.real_path)  # where it is a link, the secrets are not in that
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TokenStoreError(
                f"{self.path} could not be removed: {error.strerror or error}.", problem="unwritable"
            ) from error
        return True

    def set_aside(self, why: str) -> str:
        """Rename the file, so that nothing of it is lost, and return its new path."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        aside = f"{self.path}.{why}-{stamp}"
        serial = 1
        while os.path.lexists(aside):
            serial += 1
            aside = f"{self.path}.{why}-{stamp}-{serial}"
        try:
            _patiently(os.rename, self.path, aside)
        except OSError as error:
            raise TokenStoreError(
                f"{self.path} could not be set aside: {error.strerror or error}.", problem="unwritable"
            ) from error
        return aside

    @property
    def lock_path(self) -> str:
        """The lock file's path: beside the token file, or in `$WEBEX_LOCK_DIR` where that is set."""
        folder = os.environ.get("WEBEX_LOCK_DIR")
        if not folder:
            return f"{self.real_path}.lock"
        # The folder may be shared by several state folders; one that has two names must have one lock.
        place = hashlib.sha256(os.fsencode(self.real_path)).hexdigest()[:16]
        return os.path.join(os.path.abspath(os.path.expanduser(folder)), f"webex-loopback-{place}.lock")

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Exclude every other refresh of this file, of any process; waits a minute at most."""
        return file_lock(self.lock_path, self.lock_timeout_seconds)


class MemoryTokenStore:
    """Keeps one token in this process only."""

    def __init__(self, token: "StoredToken | None" = None) -> None:
        self._token = token
        self._locks: dict[int, threading.RLock] = {}  # a process its own: one held during a fork stays locked

    def load(self) -> "StoredToken | None":
        """Return what was saved last, or None."""
        return self._token

    def save(self, token: "StoredToken") -> None:
        """Keep the token for as long as the process lives."""
        self._token = token

    def delete(self) -> bool:
        """Forget the token; return whether there was one."""
        had = self._token is not None
        self._token = None
        return had

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude the other threads."""
        with self._locks.setdefault(os.getpid(), threading.RLock()):
            yield


class KeyringTokenStore:
    """Keeps the token in the operating system's credential store (extra `keyring`), in pieces.

    Windows takes 2,560 bytes an entry, of UTF-16: pieces of 1,000 characters fit everywhere. The head entry
    names the pieces and is written last, so that it always names whole ones. Where the credential store does
    not answer in `limit_seconds` or is absent, `fallback` takes over, with a warning.
    """

    service = "webex-loopback"
    _piece = 1_000

    def __init__(self, profile: str, fallback: FileTokenStore, *, limit_seconds: float = 3.0) -> None:
        self.profile = profile
        self.fallback = fallback
        self.limit_seconds = limit_seconds
        self._broken = False

    def load(self) -> "StoredToken | None":
        """Return the stored token; what the fallback holds, if anything, is the newer one."""
        kept = self.fallback.load()
        if kept is not None:
            return kept
        text = self._ask(self._read)
        if text is None:
            if self._broken:
                raise TokenStoreError(
                    f"The keyring cannot be used, and there is no {self.fallback.path} in its place.",
                    problem="unreadable",
                    remedy="Unlock the keyring, then start the program again; a token saved now goes to that file.",
                )
            return None
        from .token import MalformedToken, StoredToken

        try:
            return StoredToken.from_json(text.encode())
        except MalformedToken as error:
            raise TokenStoreError(
                f"The keyring's entry for profile {self.profile} {error}.",
                problem="corrupt",
                remedy="Run `webex-loopback login`.",
            ) from None
        finally:
            del text

    def save(self, token: "StoredToken") -> None:
        """Store the token in the keyring, or in the fallback file where the keyring fails."""
        if self._ask(lambda: self._write(token)):
            self.fallback.delete()
        else:
            self.fallback.save(token)

    def delete(self) -> bool:
        """Remove the token from both places; return whether there was one."""
        in_file = self.fallback.delete()
        return bool(self._ask(self._remove)) or in_file

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Exclude every other refresh of this profile, by the fallback file's lock."""
        return self.fallback.lock()

    def _ask(self, action: Callable[[], _T]) -> _T | None:
        if self._broken:
            return None
        try:
            return _within(self.limit_seconds, action)
        except Exception as error:  # keyring's backends raise what they like: D-Bus, win32, ctypes errors
            # Once is enough: a locked keyring would cost every call its three seconds.
            self._broken = True
            log.warning(
                "The keyring cannot be used (%s); the token file %s is used instead.",
                type(error).__name__,
                self.fallback.path,
            )
            return None

    def _entries(self, head: str | None) -> list[str]:
        generation, _, count = (head or "").partition(":")
        return [f"{self.profile}:{generation}:{n}" for n in range(int(count))] if count.isdecimal() else []

    def _read(self) -> str | None:
        import keyring

        for _ in range(3):
            head = keyring.get_password(self.service, self.profile)
            if head is None:
                return None
            pieces = [keyring.get_password(self.service, name) for name in self._entries(head)]
            if None not in pieces:
                return "".join(map(str, pieces))
            # Another process has just replaced them; the next head names the new ones.
        return ""

    def _write(self, token: "StoredToken") -> bool:
        import keyring

        text = token.to_json().decode()
        old = keyring.get_password(self.service, self.profile)
        pieces = [text[n : n + self._piece] for n in range(0, len(text), self._piece)]
        head = f"{secrets.token_hex(4)}:{len(pieces)}"
        for name, piece in zip(self._entries(head), pieces, strict=True):
            keyring.set_password(self.service, name, piece)
        keyring.set_password(self.service, self.profile, head)
        self._forget(self._entries(old))
        return True

    def _remove(self) -> bool:
        import keyring

        head = keyring.get_password(self.service, self.profile)
        if head is None:
            return False
        self._forget([self.profile, *self._entries(head)])
        return True

    def _forget(self, names: list[str]) -> None:
        import keyring.errors

        for name in names:
            with contextlib.suppress(keyring.errors.PasswordDeleteError):
                keyring.delete_password(self.service, name)


def make_private_folder(folder: str) -> None:
    """Make a folder, and those above it that are missing, for this user alone, whatever the umask."""
    if os.path.isdir(folder):
        return
    if (above := os.path.dirname(folder)) != folder:  # else a drive that is not there
        make_private_folder(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        os.chmod(folder, 0o700)  # a umask of 0777 would have left nothing


def replace_file(target: str, data: bytes) -> None:
    """Write a file, 0600 from birth, whole or not at all: temporary file, fsync, `os.replace`.

    Raises:
        OSError: The file is as it was.
    """
    folder, name = os.path.split(target)
    _sweep(folder, name)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with open(descriptor, "wb") as file:
            if sys.platform != "win32":  # pragma: no branch - Windows has no modes
                os.fchmod(descriptor, 0o600)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _patiently(os.replace, temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _patiently(action: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Do it; on Windows again and again for half a second, since it fails there while another has the file open."""
    tries = 50 if sys.platform == "win32" else 1
    while True:
        tries -= 1
        try:
            return action(*arguments, **named)
        except PermissionError:
            if not tries:
                raise
            time.sleep(0.01)


def _sync_folder(folder: str) -> None:
    """Put the renaming itself on disk, where the system can."""
    if sys.platform == "win32":  # pragma: no cover - a folder cannot be opened there
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(folder: str, name: str) -> None:
    """Remove what a killed process left: temporary files of a process that is no more, or an hour old.

    In a container, every process has the number of the one that was killed.
    """
    pattern = re.compile(rf"\.{re.escape(name)}\.(\d+)\.[0-9a-f]+\.tmp")
    for entry in os.listdir(folder):
        if match := pattern.fullmatch(entry):
            path = os.path.join(folder, entry)
            with contextlib.suppress(OSError):
                if not process_lives(int(match[1])) or time.time() - os.stat(path).st_mtime > 3600:
                    os.unlink(path)


def process_lives(pid: int) -> bool:
    """Whether a process of this number runs; on Windows, where asking would end it, always yes."""
    if sys.platform == "win32":  # pragma: no cover - os.kill(pid, 0) would kill it there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@contextlib.contextmanager
def file_lock(path: str, timeout_seconds: float, *, poll_seconds: float = _POLL_SECONDS) -> Iterator[None]:
    """Hold a lock file, which is never unlinked: unlinking would split the waiters over two files.

    Raises:
        TokenStoreError: Held by another process for too long, or the folder does not support locks.
    """
    from filelock import FileLock, Timeout

    elsewhere = "Set WEBEX_LOCK_DIR to a folder on a local disk to keep the locks there."
    try:
        make_private_folder(os.path.dirname(path))
        lock = FileLock(
            path,
            mode=0o600,
            thread_local=False,  # it is taken in a thread of its own, see _within
            poll_interval=poll_seconds,
            fallback_to_soft=False,
            preserve_lock_file=True,
        )
        # In a thread, with a limit: flock() on a network file system may hang in the kernel whatever one asks.
        _within(timeout_seconds + 2, lambda: lock.acquire(timeout=timeout_seconds), undo=lock.release)
    except (Timeout, TimeoutError) as error:
        raise TokenStoreError(
            f"The lock {path} was not to be had in {timeout_seconds:g} seconds.",
            problem="locked",
            remedy=f"Another process holds it, or the file system does not support locks. {elsewhere}",
        ) from error
    except (OSError, NotImplementedError) as error:
        supported = getattr(error, "errno", None) not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, None)
        why = getattr(error, "strerror", None) or str(error)
        raise TokenStoreError(
            f"The lock {path} cannot be taken: {why}.",
            problem="unwritable" if supported else "locked",
            remedy=f"See to the folder's owner and mode. {elsewhere}" if supported else elsewhere,
        ) from error
    try:
        yield
    finally:
        lock.release()


def _within(seconds: float, action: Callable[[], _T], undo: Callable[[], object] | None = None) -> _T:
    """Run an action in a thread of its own; raise TimeoutError if it takes longer, and undo it if it then succeeds."""
    results: list[_T] = []
    errors: list[BaseException] = []
    guard = threading.Lock()
    abandoned = False

    def run() -> None:
        try:
            result = action()
        except BaseException as error:  # handed to the caller
            errors.append(error)
            return
        with guard:
            if not abandoned:
                results.append(result)
                return
        if undo is not None:
            undo()

    thread = threading.Thread(target=run, daemon=True, name="webex-loopback")
    until = time.monotonic() + seconds
    try:
        thread.start()
        # In slices: on Windows, Ctrl-C does not wake a thread that waits.
        while thread.is_alive() and (left := until - time.monotonic()) > 0:
            thread.join(min(left, _SLICE_SECONDS))
    except RuntimeError:  # none can be started any more: the interpreter is shutting down
        return action()
    except BaseException:  # Ctrl-C; what was had a moment before must not be kept
        with guard:
            abandoned = True
        if results and undo is not None:
            undo()
        raise
    with guard:
        abandoned = not results
    if errors:
        raise errors[0]
    if abandoned:
        raise TimeoutError(f"no answer in {seconds:g} seconds")
    return results[0]
