"""A terminal for tests: a pseudo-terminal whose screen can be read and whose keys can be pressed."""

import contextlib
import os
import pty
import re
import termios
import threading
import time
from typing import TextIO

ENVIRON = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


class Terminal:
    """What a program writes to `stream` is drawn; `press` types."""

    def __init__(self, encoding: str = "utf-8", columns: int = 80) -> None:
        self.master, self.descriptor = pty.openpty()
        termios.tcsetwinsize(self.descriptor, (24, columns))
        self.stream: TextIO = open(self.descriptor, "w", encoding=encoding)  # noqa: SIM115 - closed by close()
        self.written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # hung up
            while data := os.read(self.master, 65_536):
                self.written += data

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def text(self) -> str:
        """Return everything written so far, with its control sequences."""
        time.sleep(0.1)
        return self.written.decode("utf-8", "replace")

    def screen(self) -> list[str]:
        """Return the lines as a person sees them now, long ones not wrapped."""
        lines = [""]
        for part in re.split(r"(\x1b\]8;.*?\x1b\\|\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", self.text()):
            if part == "\n":
                lines.append("")
            elif part == "\x1b[2K":
                lines[-1] = ""
            elif part and part != "\r" and part[0] != "\x1b":
                lines[-1] += part
        return [line.rstrip() for line in lines]

    def attributes(self) -> list[object]:
        return termios.tcgetattr(self.descriptor)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.descriptor)[3] & (termios.ECHO | termios.ICANON))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self._reader.join(5)
        with contextlib.suppress(OSError):
            os.close(self.master)
