"""The display of a login on stderr: lines that stay and, on a terminal, a status line with the time left."""

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from webex_loopback.texts import translated
from webex_loopback.wording import columns, duration, language, printable, wrap

from .paste import is_foreground, terminal
from .texts import Words

State = Literal["doing", "done", "failed"]

# No mark is of ambiguous width: terminals set to Japanese may draw such characters two columns wide.
_MARKS = {"doing": "❯", "done": "✓", "failed": "✗", "note": "!"}
_ASCII_MARKS = {"doing": "[>]", "done": "[x]", "failed": "[!]", "note": "!"}
_STYLES = {"doing": "1;36", "done": "32", "failed": "1;31", "note": "1;33"}
_LONGEST = 8192  # characters of a URL or a line


class Progress:
    """Shows the steps of a login; a context manager that leaves no status line behind.

    A file, pipe, notebook, dumb terminal or background job gets lines only. May be used from any thread. Errors of
    the stream are ignored, because the login does not depend on it.
    """

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.words = Words(language(environ))
        self._stream = sys.stderr if stream is None else stream
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        # The terminal to draw a status line on, or None.
        self._terminal = None if environ.get("TERM") in ("dumb", "unknown") else terminal(self._stream)
        self._colour = self._terminal is not None and not environ.get("NO_COLOR")
        self._marks = _MARKS if self._encoded("❯✓✗") == "❯✓✗" else _ASCII_MARKS
        self._lock = threading.RLock()  # re-entrant: signal handlers print, too
        self._doing: dict[str, str] = {}
        self._deadline: float | None = None
        self._status = False  # whether the status line is on the screen
        self._ticker: threading.Thread | None = None
        self._stopped = threading.Event()
        if self._terminal is not None and sys.platform == "win32":  # pragma: no cover - needs Windows
            import colorama  # a dependency of click there

            colorama.just_fix_windows_console()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self.erase()

    def step(self, name: str, text: str, state: State) -> None:
        """Set text and state of the step with this name: printed if done or failed, else shown in the status line."""
        with self._lock:
            self._doing.pop(name, None)
            if state != "doing":
                return self._print(self._marked(state, text))
            self._doing[name] = printable(text)
            self._draw()

    def note(self, text: str) -> None:
        """Print a line that stays, in the user's language."""
        self._print(self._marked("note", translated(printable(text, _LONGEST), self.words.language)))

    def show_url(self, url: str, heading: str, hints: Sequence[str] = (), above: Sequence[str] = ()) -> None:
        """Print the URL on a line of its own, which can be copied whole, and hints below and above it.

        A hint that begins with two spaces is a command, a URL or a picture: it is printed as it is.
        """
        link = self._styled(url := printable(url, _LONGEST), "1;36")
        lines = ["", self._wrapped(heading), "", f"  {link}", ""]
        if self._terminal is not None:
            lines[3] = f"  \x1b]8;;{url}\x1b\\{link}\x1b]8;;\x1b\\"
        shown = [f"  {self._styled(h[2:], '1')}" if h.startswith("  ") else self._wrapped(h) for h in (*above, *hints)]
        lines = [*shown[: len(above)], *lines, *shown[len(above) :], *([""] if hints else [])]
        self._print("\n".join(filter(None, lines) if self._terminal is None else lines))

    def start(self, deadline: float | None) -> None:
        """Count down to `deadline` (epoch seconds) in the status line; None ends the countdown."""
        with self._lock:
            self._deadline = deadline
            if self._terminal is not None and self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, name="countdown", daemon=True)
                self._ticker.start()
            elif deadline is not None and self._terminal is None:
                until = time.strftime("%H:%M:%S", time.localtime(deadline))
                left = duration(deadline - time.time(), self.words.language)
                self._print(self.words("waiting_until", time=until, left=left))
            self._draw()

    def erase(self) -> None:
        """Remove the status line until something changes."""
        with self._lock:
            shown, self._status = self._status, False
            if shown and self._is_ours():
                self._write("\r\x1b[2K")

    def _print(self, text: str) -> None:
        with self._lock:
            self.erase()
            self._write(f"{text}\n")
            self._draw()

    def _draw(self) -> None:
        """Draw the status line in place of the last one, and without line wrap, so that it stays one line."""
        with self._lock:
            if not self._doing or self._stopped.is_set() or not self._is_ours():
                return self.erase()
            *_, text = self._doing.values()
            seconds = 0 if self._deadline is None else max(0, -int(-(self._deadline - time.time()) // 1))  # rounded up
            left = self.words("left", clock=f"{seconds // 60}:{seconds % 60:02}") if self._deadline else ""
            self._status = True
            self._write(f"\r\x1b[2K\x1b[?7l{self._mark('doing')} {text}  {self._styled(left, '2')}\x1b[?7h")

    def _tick(self) -> None:
        # Wakes when the number of seconds changes, so that none is skipped or drawn twice.
        while not self._stopped.wait(((self._deadline or 0) - time.time()) % 1 + 0.001):
            self._draw()

    def _is_ours(self) -> bool:
        return self._terminal is not None and is_foreground(self._terminal)

    def _encoded(self, text: str) -> str:
        return text.encode(self._encoding, "replace").decode(self._encoding)

    def _write(self, text: str) -> None:
        try:
            # As text: a notebook's stderr has no file descriptor, or one that is not what it shows.
            self._stream.write(self._encoded(text))
            self._stream.flush()
        except OSError as error:
            # On a broken pipe (EINVAL on Windows), the rest of the buffer would fail again at exit: exit code 120.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                if error.errno in (errno.EPIPE, errno.EINVAL):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except (ValueError, AttributeError, RuntimeError):
            pass  # closed; none (pythonw.exe); written to by a signal handler during another write

    def _wrapped(self, text: str, indent: str = "") -> str:
        """Wrap for the terminal; URLs and commands in backticks stay whole, so that they can be copied."""
        return wrap(text, max(columns(self._stream) - len(indent), 20)).replace("\n", f"\n{indent}")

    def _marked(self, kind: str, text: str) -> str:
        return f"{self._mark(kind)} {self._wrapped(printable(text, _LONGEST), '  ')}"

    def _mark(self, kind: str) -> str:
        return self._styled(self._marks[kind], _STYLES[kind])

    def _styled(self, text: str, codes: str) -> str:
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and text else text
