import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from webex_loopback.login.paste import Keyboard, split_lines
from webex_loopback.webex import worker

pytest.importorskip("pty", reason="terminals as POSIX has them")

from tests.conftest import Patch
from tests.journeys.attack import wait_until
from tests.login.conftest import Interrupt
from tests.login.terminals import Terminal

SECRET = "http://127.0.0.1:8765/callback?code=s3cr3t&state=abc"


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (b"  abc \r\n\r\n\n def\n", ["abc", "def"]),
        ("日本語\n".encode(), ["日本語"]),
        (b"wrong\x15right\n", ["right"]),
        (b"\x1b[200~pasted\x1b[201~\n", ["pasted"]),
        (b"a\x1b[Ab\x1b[1;5Cc\x1bOPd\x1b[[Ae\n", ["abcde"]),
        (b"a\x1b]11;rgb:00/00/00\x07b\x1b]0;x\x1b\\c\x1bP1+r\x1bx\x1b\\d\n", ["abcd"]),
        (b"\x1bhttp\n", ["http"]),
        (b"a\x1b\x1b[Ab\n", ["ab"]),
        (b"a\x1b[1\nb\x1b]\n\x1b[\x1b[Ac\n", ["a", "b", "c"]),
        (b"a\x00\x04\tb\n", ["ab"]),
        (b"x" * 70_000 + b"\nnext\n", ["x" * 65_536, "next"]),
    ],
)
def test_keys_become_lines(keys: bytes, lines: list[str]) -> None:
    assert split_lines(b"", keys) == (lines, b"")


def test_a_lone_o_is_a_line_at_once_but_not_within_one() -> None:
    assert split_lines(b"", b"O") == (["o"], b"")
    assert split_lines(b"f", b"o") == ([], b"fo")
    assert split_lines(b"\x1b", b"O") == ([], b"\x1bO")


def watch(terminal: Terminal, act: Callable[[list[str]], object]) -> list[str]:
    """Wait for a login, which ends when the user's part does; return what was pasted meanwhile."""
    lines: list[str] = []
    before = terminal.attributes()

    def play() -> None:
        wait_until(lambda: not terminal.echoes())
        act(lines)

    try:
        Keyboard(terminal.stream).watch(worker.start(play), lambda line: bool(lines.append(line)))  # type: ignore[func-returns-value]
    finally:
        assert terminal.attributes() == before
    return lines


def test_pasted_lines_are_read_and_not_echoed(terminal: Terminal) -> None:
    def paste(lines: list[str]) -> None:
        terminal.press(f"o\r{SECRET}\rlast\n")
        wait_until(lambda: len(lines) == 3)

    assert watch(terminal, paste) == ["o", SECRET, "last"]
    assert "s3cr3t" not in terminal.text()


def test_the_end_of_the_terminal_does_not_end_the_login(terminal: Terminal) -> None:
    def hang_up(_: object) -> None:
        os.dup2(os.open(os.devnull, os.O_RDWR), terminal.descriptor)
        time.sleep(0.3)

    with contextlib.suppress(Exception):  # there is no mode any more to compare
        watch(terminal, hang_up)
    assert not Keyboard(terminal.stream).can_paste


def test_an_exception_from_a_handler_restores_the_terminal(terminal: Terminal, interrupt: Callable[[], None]) -> None:
    def send(_: object) -> None:
        interrupt()
        time.sleep(0.5)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupt):
        watch(terminal, send)
    assert signal.getsignal(signal.SIGTERM) is handler


START = """
import signal, sys, tty
from webex_loopback.webex.worker import Work
from webex_loopback.login.paste import Keyboard, asking
signal.signal(int(sys.argv[1]), signal.SIG_DFL)
"""
WATCH = "Keyboard().watch(Work(), lambda line: True)"
ASK = "with asking(): tty.setcbreak(0); signal.pause()"


@pytest.mark.parametrize("what", [WATCH, ASK])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_without_a_handler_ends_the_process_and_restores_the_terminal(
    terminal: Terminal, name: str, what: str
) -> None:
    number, before = signal.Signals[name], terminal.attributes()
    command = [sys.executable, "-c", START + what, str(int(number))]
    with subprocess.Popen(command, stdin=terminal.descriptor) as program:
        wait_until(lambda: not terminal.echoes())
        program.send_signal(number)
        assert program.wait(10) == -number
    assert terminal.attributes() == before


def test_without_a_terminal_it_only_waits(monkeypatch: Patch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("line\n")
    with open(tmp_path / "file") as file:
        for stream in (file, io.StringIO("line\n"), None):
            monkeypatch.setattr(sys, "stdin", None)
            keyboard = Keyboard(stream)
            assert not keyboard.can_paste
            keyboard.watch(worker.start(lambda: time.sleep(0.1)), lambda line: pytest.fail("A line was read."))
