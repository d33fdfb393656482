"""Redirect URLs pasted into the terminal while a login waits. They contain the code, so nothing is echoed.

All of this runs in the thread that waits for the login, normally the main thread; the login itself runs in a worker.
Signals, and the exceptions that their handlers raise, therefore arrive where the terminal can be restored.
"""

import atexit
import contextlib
import getpass
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from webex_loopback.webex.worker import Work

if sys.platform == "win32":  # pragma: no cover - needs Windows
    import ctypes
    import msvcrt
    import struct

    _GONE: tuple[type[Exception], ...] = (OSError,)
    _KEY_EVENT = struct.Struct("<H2xiHH2xH4x")  # INPUT_RECORD: its type, is the key down, repeats, key, character
else:
    import select
    import termios
    import tty

    _GONE = (OSError, termios.error)

_LONGEST_LINE = 65_536  # bytes
_PAUSE_SECONDS = 0.05
# ECMA-48: control sequences (bracketed paste marks its ends with them), function keys, strings, a lone Escape.
_ESCAPES = re.compile(r"\x1b(\[\[.?|\[[0-?]*[ -/]*[@-~]?|O.?|[]PX^_].*?(\x07|\x1b\\|$)|)", re.DOTALL)


def terminal(stream: TextIO | None) -> int | None:
    """Return the file descriptor of a terminal; None if the stream is anything else, or closed."""
    try:
        descriptor = stream.fileno()  # type: ignore[union-attr]
        if sys.platform == "win32":  # pragma: no cover - isatty() is true of NUL, too
            handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
            return descriptor if ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(ctypes.c_ulong())) else None
        return descriptor if os.isatty(descriptor) else None
    except (OSError, ValueError, AttributeError):
        return None


def is_foreground(descriptor: int) -> bool:
    """Whether we are in the foreground: a background job that uses the terminal is stopped, or disturbs the shell."""
    if sys.platform == "win32":  # pragma: no cover - needs Windows
        return True
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # not our controlling terminal, so there is no job control
        return True


class Keyboard:
    """The terminal, or a notebook's input box, as the place to paste a redirect URL.

    Args:
        prompt: If there is no terminal but a notebook, ask in its input box, with this prompt.
        on_stop: Called at the end, and before a signal stops or ends this process.
    """

    def __init__(
        self, stream: TextIO | None = None, *, prompt: str = "", on_stop: Callable[[], object] = lambda: None
    ) -> None:
        self._terminal = terminal(sys.stdin if stream is None else stream)
        self._prompt = prompt if self._terminal is None and _is_notebook() else ""
        self._on_stop = on_stop
        self._unread = b""
        self._mode: list[Any] | None = None  # of the terminal, from before it was changed

    @property
    def can_paste(self) -> bool:
        """Whether there is a terminal or a notebook to paste into."""
        return self._terminal is not None or bool(self._prompt)

    def watch(self, login: "Work[Any]", on_line: Callable[[str], bool]) -> None:
        """Pass on each line that is pasted, and a lone `o` at once, until the login ends.

        `on_line` returns whether it was the right one; a notebook then stops asking. A background job leaves the
        terminal alone until it is in the foreground.
        """
        with restoring(self._restore):
            while not login.done():
                lines, self._unread = split_lines(self._unread, self._keys(login))
                if any(on_line(line) for line in lines):
                    self._prompt = ""

    def _keys(self, login: "Work[Any]") -> bytes:
        """Wait a moment; return what was typed."""
        if self._prompt:
            with contextlib.suppress(NotImplementedError, EOFError):
                return getpass.getpass(self._prompt).encode() + b"\n"
            self._prompt = ""  # `nbconvert --execute`: no user can answer
        if self._terminal is not None and is_foreground(self._terminal):
            with contextlib.suppress(*_GONE):
                self._hide()
                return _typed(self._terminal)
            self._terminal = None
        login.join(4 * _PAUSE_SECONDS)
        return b""

    @contextlib.contextmanager
    def unused(self) -> Iterator[None]:
        """Hide what is typed: an Enter would leave a second status line."""
        with restoring(self._restore, self._hide):
            self._hide()
            yield

    def _hide(self) -> None:
        """Turn off echo and line editing. Called often: after Ctrl-Z and fg the shell has set its own mode."""
        # msvcrt does neither.
        if sys.platform != "win32" and self._terminal is not None and is_foreground(self._terminal):
            with contextlib.suppress(*_GONE):
                mode = termios.tcgetattr(self._terminal)
                if mode[3] & (termios.ICANON | termios.ECHO):
                    self._mode = mode
                    tty.setcbreak(self._terminal, termios.TCSANOW)

    def _restore(self) -> None:
        self._on_stop()
        # From the background it would stop us (SIGTTOU), and the shell has set its own mode anyway.
        if sys.platform != "win32" and self._mode and self._terminal is not None and is_foreground(self._terminal):
            with contextlib.suppress(*_GONE):
                # Flushed, because the shell would run text that was pasted too late.
                termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._mode)
        self._mode = None


@contextlib.contextmanager
def restoring(restore: Callable[[], object], resume: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Restore the terminal at the end, and before a signal without a handler stops or ends the process.

    `resume` is called when it continues after Ctrl-Z.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")
    main = threading.current_thread() is threading.main_thread()
    ours = [one for one in signal.Signals if main and one.name in names and signal.getsignal(one) is signal.SIG_DFL]

    def stopped(number: int, _frame: object) -> None:
        restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, stopped)
        resume()

    atexit.register(restore)  # in case a second Ctrl-C interrupts the one below
    try:
        for number in ours:
            signal.signal(number, stopped)
        yield
    finally:
        restore()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        atexit.unregister(restore)


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Restore the terminal if a signal stops or ends the process at a question; hide the answer again after `fg`."""
    descriptor = terminal(sys.stdin)
    if sys.platform == "win32" or descriptor is None:
        yield
        return
    mode = termios.tcgetattr(descriptor)

    def swap() -> None:
        nonlocal mode
        current = termios.tcgetattr(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
        mode = current

    with restoring(swap, swap):
        yield


def _typed(descriptor: int) -> bytes:
    """Wait a moment for keys; raise OSError if the terminal has hung up."""
    if sys.platform == "win32":  # pragma: no cover - needs Windows
        # Not msvcrt.getwch(), which returns U+00E0 for the letter "à" and for the first half of a function key.
        handle, count = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor)), ctypes.c_ulong()
        if not ctypes.windll.kernel32.GetNumberOfConsoleInputEvents(handle, ctypes.byref(count)):
            raise OSError
        if not count.value:
            threading.Event().wait(_PAUSE_SECONDS)
            return b""
        events = ctypes.create_string_buffer(_KEY_EVENT.size * 256)
        ctypes.windll.kernel32.ReadConsoleInputW(handle, events, 256, ctypes.byref(count))
        keys = ""
        for kind, down, repeated, key, character in _KEY_EVENT.iter_unpack(events.raw[: _KEY_EVENT.size * count.value]):
            if kind == 1 and character and (down or key == 0x12):  # Alt is released after digits on the keypad
                keys += chr(character) * repeated
        if "\x03" in keys:
            raise KeyboardInterrupt
        return keys.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    if not select.select([descriptor], [], [], _PAUSE_SECONDS)[0] or not is_foreground(descriptor):
        return b""
    if not (typed := os.read(descriptor, 4096)):
        raise OSError
    return typed


def split_lines(unread: bytes, keys: bytes) -> tuple[list[str], bytes]:
    """Return the lines that the keys complete, without control characters, and what is left; a lone `o` is a line."""
    if keys in (b"o", b"O") and not unread:
        return ["o"], b""
    *complete, rest = re.split(rb"[\r\n]", unread + keys)
    texts = (_ESCAPES.sub("", part[:_LONGEST_LINE].decode("utf-8", "ignore")) for part in complete)
    lines = ("".join(filter(str.isprintable, text.rpartition("\x15")[2])).strip() for text in texts)  # \x15: Ctrl-U
    return [line for line in lines if line], rest[:_LONGEST_LINE]


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
