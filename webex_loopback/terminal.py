"""The terminal while a login waits: what has happened, how much time is left, and what a person pastes."""

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO, cast

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

State = Literal["todo", "doing", "done", "failed"]

# No mark is of ambiguous width: Japanese terminals may draw those in two columns.
_MARKS: Mapping[State, str] = {"todo": "◦", "doing": "❯", "done": "✓", "failed": "✗"}
_ASCII_MARKS: Mapping[State, str] = {"todo": "[ ]", "doing": "[>]", "done": "[x]", "failed": "[!]"}
_STYLES: Mapping[State, str] = {"todo": "dim", "doing": "bold", "done": "none", "failed": "bold red"}
_MARK_STYLES: Mapping[State, str] = {"todo": "dim", "doing": "bold cyan", "done": "green", "failed": "bold red"}

_LONGEST_LINE = 65_536  # bytes
_BACKGROUND_PAUSE = 0.5  # seconds between looks at whether the terminal is ours again


class Display:
    """The steps of one login, ticked off as they happen, on the screen or as lines of a log.

    A terminal gets a few lines that are redrawn each second with the time that is left, below the address and the
    notes; a file, a pipe, a dumb terminal and a background job get each step once. May be used from any thread.
    Trouble with the stream is no trouble of the login, and is passed over.
    """

    def __init__(self, *, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._file = sys.stderr if stream is None else stream
        self._environ = os.environ if environ is None else environ
        self._stream = _Stream(self._file)
        self._drawn = self._stream.is_own_terminal() and self._environ.get("TERM") not in ("dumb", "unknown")
        self._colour = not self._environ.get("NO_COLOR")
        self._marks = _MARKS if self._stream.can_write("".join(_MARKS.values())) else _ASCII_MARKS
        self._steps: dict[str, tuple[str, State]] = {}
        self._lock = threading.Lock()  # for changing the steps only: rich has a lock of its own
        self._deadline: float | None = None
        self._pasted = 0
        self._live: Live | None = None
        self._ticker: threading.Thread | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def step(self, name: str, text: str, state: State) -> None:
        """Add a step, or change the text and state of the one with this name."""
        entry = (_printable(text), state)
        with self._lock:
            if self._steps.get(name) == entry:
                return
            self._steps = {**self._steps, name: entry}  # replaced, never changed: the ticker may be drawing it
        if not self._drawn or self._stopped.is_set():
            self._print_step(*entry)
        self._refresh()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._print(f"{self._style('!', '1;33')} {_printable(text)}")

    def address(
        self, url: str, *, hints: Sequence[str] = (), heading: str = "Log in to Webex at this address:"
    ) -> None:
        """Print the address on a line that can be copied whole, and below it the hints.

        A hint that begins with two spaces is a command to be copied.
        """
        url, gap = _printable(url), [""] if self._drawn else []
        lines = [*gap, _printable(heading), *gap, f"  {self._style(url, '1;36', link=url)}", *gap]
        for hint in map(_printable, hints):
            lines.append(f"  {self._style(hint[2:].rstrip(), '1')}" if hint.startswith("  ") else hint)
        self._print("\n".join([*lines, *gap] if hints else lines))

    def start(self, deadline: float) -> None:
        """Begin to count down to `deadline` (epoch seconds)."""
        self._deadline = deadline
        if not self._drawn:
            until = time.strftime("%H:%M:%S", time.localtime(deadline))
            self._print(f"Waiting until {until} ({_clock(deadline - time.time())}).")
        elif self._live is None:
            self._live = self._new_live()
            self._live.start(refresh=True)
            self._ticker = threading.Thread(target=self._tick, name="countdown", daemon=True)
            self._ticker.start()

    def stop(self) -> None:
        """End the countdown; the steps stay on the screen as they are."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._live is not None and self._ticker is not None:
            try:
                self._ticker.join()
            finally:
                self._deadline, self._pasted = None, 0
                self._live.stop()
                self._live = None
        elif self._drawn:
            for text, state in self._steps.values():
                self._print_step(text, state)

    def pasted(self, count: int) -> None:
        """Say how many characters wait for the Enter key; what they are is a secret."""
        if not self._drawn and count and not self._pasted:
            self._print(_pasted_text(count))
        self._pasted = count
        self._refresh()

    def _print_step(self, text: str, state: State) -> None:
        if state in ("done", "failed"):
            mark = self._style(self._marks[state], "32" if state == "done" else "1;31")
            self._print(f"{mark} {text}")

    def _print(self, line: str) -> None:
        live = self._live
        if live is None:
            self._stream.write(f"{line}\n")
        else:
            from rich.text import Text

            # soft_wrap: the terminal breaks a long line, which leaves it whole for whoever copies it.
            live.console.print(Text.from_ansi(line), soft_wrap=True)

    def _style(self, text: str, codes: str, *, link: str = "") -> str:
        """Dress text in SGR codes; rich is not loaded for what is printed before the browser opens."""
        if not self._drawn or sys.platform == "win32":
            return text
        if not self._colour:
            codes = "1"
        text = f"\x1b[{codes}m{text}\x1b[0m"
        return f"\x1b]8;;{link}\x1b\\{text}\x1b]8;;\x1b\\" if link else text

    def _new_live(self) -> "Live":
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=cast("IO[str]", self._stream),
            force_terminal=True,
            force_interactive=True,
            no_color=not self._colour,
            highlight=False,
            _environ=self._environ,
        )
        return Live(
            console=console,
            get_renderable=self.render,
            auto_refresh=False,
            redirect_stdout=False,  # the token goes there
            redirect_stderr=self._file is sys.stderr,  # a warning then appears above the steps, not among them
        )

    def render(self) -> "Text":
        """The steps as they are now, for rich to draw."""
        from rich.text import Text

        # Bare lines, not a table: its padding would be folded, and the screen spoilt, when the window gets narrower.
        lines = []
        left = Text() if self._deadline is None else _time_left(self._deadline - time.time())
        for text, state in self._steps.values():
            line = Text.assemble((self._marks[state], _MARK_STYLES[state]), " ", (text, _STYLES[state]))
            if state == "doing" and left:
                line, left = Text.assemble(line, "  ", left), Text()
            lines.append(line)
        if left:
            lines.append(left)
        if self._pasted:
            lines.append(Text(_pasted_text(self._pasted), "yellow"))
        return Text("\n").join(lines)

    def _refresh(self) -> None:
        live = self._live
        if live is not None and self._stream.is_own_terminal():
            live.refresh()

    def _tick(self) -> None:
        # Until the number of seconds changes, so that none is skipped and none is drawn twice.
        while not self._stopped.wait((cast("float", self._deadline) - time.time()) % 1 + 0.001):
            self._refresh()


_PIPE_BYTES = 4096  # POSIX: a blocking pipe takes so many at once, whole


class _Stream:
    """A text stream that outlives its reader, and takes characters that its encoding lacks."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # broken pipe, closed, None (pythonw.exe)
            try:
                self._write(text)
            except UnicodeEncodeError:
                self._write(text.encode(self.encoding, "replace").decode(self.encoding))
        return len(text)

    def _write(self, text: str) -> None:
        stream = cast("TextIO", self._stream)
        if not stream.isatty():
            with contextlib.suppress(io.UnsupportedOperation):
                descriptor = stream.fileno()
                stream.flush()
                # What a stream could not write stays in its buffer, and the interpreter, failing to write it at its
                # end, would exit with 120.
                for start in range(0, len(data := text.encode(self.encoding, "replace")), _PIPE_BYTES):
                    os.write(descriptor, data[start : start + _PIPE_BYTES])
                return
        stream.write(text)
        stream.flush()

    def flush(self) -> None:
        """Everything is flushed as it is written."""

    def fileno(self) -> int:  # pragma: no cover - needs an old Windows console, which rich drives by calls
        return cast("TextIO", self._stream).fileno()

    def is_own_terminal(self) -> bool:
        """Whether this is a terminal, and no shell is talking on it while we are in the background."""
        descriptor = _terminal(self._stream)
        return descriptor is not None and _is_foreground(descriptor)

    def can_write(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True


def _printable(text: str) -> str:
    """Leave out what would steer the terminal; some of the texts shown here come over the network."""
    return "".join(" " if character.isspace() else character for character in text if _is_text(character))


def _is_text(character: str) -> bool:
    return character.isprintable() or character.isspace()


def _clock(seconds: float) -> str:
    # Rounded up: "0:00" is only shown when the time is over.
    whole = max(0, -int(-seconds // 1))
    return f"{whole // 60}:{whole % 60:02}"


def _time_left(seconds: float) -> "Text":
    from rich.text import Text

    return Text(f"{_clock(seconds)} left", "dim" if seconds > 60 else "yellow")


def _pasted_text(count: int) -> str:
    return f"Pasted {count:,} character{'s' * (count != 1)}: press Enter."


# What is pasted


def can_paste(stream: TextIO | None = None) -> bool:
    """Whether there is somebody who could paste something."""
    stream = sys.stdin if stream is None else stream
    return stream is not None and not stream.closed and stream.isatty()


def paste_hints(*, reopen: bool) -> list[str]:
    """Return what to tell of pasting; `reopen`: and of opening the browser again."""
    if not can_paste():
        return []
    hints = ["If the browser ends on a page that does not load, paste its address here."]
    return [*hints, "Press o to open the browser again."] if reopen else hints


async def pasted_lines(
    stream: TextIO | None = None, *, on_progress: Callable[[int], None] | None = None
) -> AsyncGenerator[str, None]:
    """Yield each line typed or pasted into a terminal, stripped and not empty; nothing where there is none.

    Nothing is echoed, for the line holds the code: `on_progress` is told how many characters it has so far. A
    lone `o` before anything else counts as a line at once. The terminal's mode is as before once this is closed
    (`contextlib.aclosing`) or cancelled, and what was typed but not read is thrown away: a late paste would
    otherwise be run by the shell. Lines are put together here because a terminal's own stop at 1,024 bytes (macOS)
    or 4,096 (Linux). A background job leaves the terminal alone until it is in the foreground.
    """
    descriptor = _terminal(sys.stdin if stream is None else stream)
    if descriptor is None:
        return
    editor, count = LineEditor(), 0
    async with contextlib.aclosing(_chunks(descriptor)) as chunks:
        async for chunk in chunks:
            lines = editor.feed(chunk)
            if on_progress is not None and editor.length != count:
                count = editor.length
                on_progress(count)
            for line in lines:
                yield line


class LineEditor:
    """Lines from the keys of a terminal that edits none itself; at most 64 KB each, the rest is dropped."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._sequence = ""  # the kind of escape sequence that we are in

    @property
    def length(self) -> int:
        """How many characters of the next line there are."""
        return len(self._line.decode("utf-8", "ignore"))

    def feed(self, keys: bytes) -> list[str]:
        """Take in some keys, return the lines that they complete."""
        if keys in (b"o", b"O") and not self._line and not self._sequence:
            return ["o"]
        lines = []
        for key in keys:
            if self._sequence and self._skips(key):
                continue
            if key in b"\r\n":
                if line := self._line.decode("utf-8", "replace").strip():
                    lines.append(line)
                self._line.clear()
            elif key == 0x1B:
                self._sequence = "escape"
            elif key in b"\b\x7f":  # Backspace, one character of UTF-8
                while self._line and self._line.pop() & 0xC0 == 0x80:
                    pass
            elif key == 0x15:  # Ctrl-U
                self._line.clear()
            elif key >= 0x20 and len(self._line) < _LONGEST_LINE:
                self._line.append(key)
        return lines

    def _skips(self, key: int) -> bool:
        """Whether a key is part of the escape sequence (ECMA-48), which bracketed paste marks its ends with, too."""
        sequence, self._sequence = self._sequence, ""
        if key in b"\r\n":
            return False
        match sequence:
            case "escape":  # alone, it was the Escape key
                kinds = {"[": "control", "O": "one", "]": "string", "P": "string", "_": "string", "^": "string"}
                self._sequence = kinds.get(chr(key), "")
                return bool(self._sequence)
            case "control":  # "[[" begins the function keys of the Linux console
                if key < 0x20 or key > 0x7E:
                    return False
                self._sequence = "one" if key == 0x5B else "control" if key < 0x40 else ""
            case "string":  # ends with BEL or ESC \\
                self._sequence = "" if key == 0x07 else "string end" if key == 0x1B else "string"
            case "string end" if key != 0x5C:
                self._sequence = "string"
        return True


if sys.platform == "win32":  # pragma: no cover - needs Windows

    async def _chunks(descriptor: int) -> AsyncGenerator[bytes, None]:
        """Yield what is typed into the console, which has no event to wait for."""
        import asyncio
        import msvcrt

        while True:
            keys = ""
            while msvcrt.kbhit():
                key = msvcrt.getwch()
                if key == "\x03":
                    raise KeyboardInterrupt
                if key in "\x00\xe0":  # a function key: a second code follows
                    msvcrt.getwch()
                else:
                    keys += key
            if keys:
                yield keys.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
            await asyncio.sleep(0.05)

    def _is_foreground(descriptor: int) -> bool:
        return True

else:

    async def _chunks(descriptor: int) -> AsyncGenerator[bytes, None]:
        """Yield what is typed, as it comes, while the terminal is ours; end when it is gone."""
        import asyncio
        import signal
        import termios

        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        before: list[Any] | None = None
        timer: asyncio.TimerHandle | None = None
        ended = False

        def listen() -> None:
            nonlocal before, timer
            if ended:  # a signal that was on its way
                return
            if timer is not None:
                timer.cancel()
                timer = None
            if not _is_foreground(descriptor):
                loop.remove_reader(descriptor)
                timer = loop.call_later(_BACKGROUND_PAUSE, listen)
                return
            try:
                mode = termios.tcgetattr(descriptor)
                if mode[3] & (termios.ICANON | termios.ECHO):
                    before = termios.tcgetattr(descriptor)
                    # ISIG stays: Ctrl-C and Ctrl-Z work. Without IEXTEN, Ctrl-V and macOS' Ctrl-O mean nothing.
                    mode[3] &= ~(termios.ICANON | termios.ECHO | termios.ECHONL | termios.IEXTEN)
                    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
                    termios.tcsetattr(descriptor, termios.TCSANOW, mode)
            except termios.error:
                arrived.put_nowait(b"")
            else:
                loop.add_reader(descriptor, read)

        def read() -> None:
            if not _is_foreground(descriptor):
                listen()  # reading would stop us: SIGTTIN
                return
            try:
                # Not set to non-blocking: the shell shares the open file.
                keys = os.read(descriptor, 4096)
            except OSError:
                keys = b""
            if not keys:
                loop.remove_reader(descriptor)
            arrived.put_nowait(keys)

        # After Ctrl-Z and fg the shell has put its own mode back. Signals reach the main thread only.
        with contextlib.suppress(RuntimeError):
            loop.add_signal_handler(signal.SIGCONT, listen)
        try:
            listen()
            while keys := await arrived.get():
                yield keys
        finally:
            ended = True
            loop.remove_signal_handler(signal.SIGCONT)
            if timer is not None:
                timer.cancel()
            loop.remove_reader(descriptor)
            # From the background this would stop us (SIGTTOU), and the shell has restored it anyway.
            if before is not None and _is_foreground(descriptor):
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)

    def _is_foreground(descriptor: int) -> bool:
        try:
            return os.tcgetpgrp(descriptor) == os.getpgrp()
        except OSError:  # not our controlling terminal, which has no say over us
            return True


def _terminal(stream: TextIO | None) -> int | None:
    """The file descriptor, where this is a terminal."""
    try:
        descriptor = cast("TextIO", stream).fileno()
        return descriptor if os.isatty(descriptor) else None
    except (OSError, ValueError, AttributeError):  # no file, closed, None
        return None
