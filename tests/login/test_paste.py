import contextlib
import getpass
import io
import os
import select
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webex_loopback.login.paste import Keyboard, split_lines
from webex_loopback.tokens import worker

pytest.importorskip("pty", reason="terminals as POSIX has them")

from tests.login.terminals import Terminal

SECRET = "http://127.0.0.1:8765/callback?code=s3cr3t&state=abc"


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


# Keys


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (b"abc\n", ["abc"]),
        (b"abc\r", ["abc"]),
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
        (b"o\n", ["o"]),
        (b"x" * 70_000 + b"\nnext\n", ["x" * 65_536, "next"]),
    ],
)
def test_keys_become_lines(keys: bytes, lines: list[str]) -> None:
    assert split_lines(b"", keys) == (lines, b"")


def test_a_lone_o_is_a_line_at_once_but_not_within_one() -> None:
    assert split_lines(b"", b"o") == (["o"], b"")
    assert split_lines(b"", b"O") == (["o"], b"")
    assert split_lines(b"f", b"o") == ([], b"fo")
    assert split_lines(b"\x1b", b"O") == ([], b"\x1bO")


@given(st.lists(st.binary(max_size=20).map(lambda keys: keys.replace(b"o", b"").replace(b"O", b""))))
def test_how_the_keys_are_split_makes_no_difference(chunks: list[bytes]) -> None:
    lines, unread = [], b""
    for chunk in chunks:
        more, unread = split_lines(unread, chunk)
        lines += more
    assert (lines, unread) == split_lines(b"", b"".join(chunks))
    assert all(line and line == line.strip() and "\x1b" not in line for line in lines)


# The terminal


class Login:
    """A login to wait for, and what was pasted meanwhile; `act` plays the user, in a thread."""

    def __init__(self, terminal: Terminal, act: Callable[["Login"], object] = lambda login: None) -> None:
        self.terminal = terminal
        self.future: Future[None] = Future()
        self.lines: list[str] = []
        self._act = act

    def watch(self) -> list[str]:
        """Wait; the login ends when the user's part does."""
        before = self.terminal.attributes()
        acting = worker.start(self._play)
        try:
            Keyboard(self.terminal.stream).watch(self.future, self._on_line)
        finally:
            assert self.terminal.attributes() == before
        acting.result(5)
        return self.lines

    def _play(self) -> None:
        try:
            self._act(self)
        finally:
            self.future.set_result(None)

    def _on_line(self, line: str) -> bool:
        self.lines.append(line)
        return False

    def ready(self) -> None:
        until(lambda: not self.terminal.echoes())

    def press(self, keys: str | bytes, lines: int) -> None:
        self.ready()
        self.terminal.press(keys)
        until(lambda: len(self.lines) == lines)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pasted_lines_are_read_and_not_echoed(terminal: Terminal) -> None:
    login = Login(terminal, lambda login: login.press(f"o\r{SECRET}\rlast\n", 3))
    assert login.watch() == ["o", SECRET, "last"]
    assert "s3cr3t" not in terminal.text()


def test_a_line_longer_than_a_terminals_own_arrives_whole(terminal: Terminal) -> None:
    line = "http://127.0.0.1:8765/callback?code=" + "x" * 20_000
    assert Login(terminal, lambda login: login.press(line + "\n", 1)).watch() == [line]


def test_what_is_pasted_too_late_does_not_reach_the_shell(terminal: Terminal) -> None:
    class Late(Login):
        def _on_line(self, line: str) -> bool:
            terminal.press(SECRET + "\n")
            time.sleep(0.1)
            self.future.set_result(None)
            return True

        def _play(self) -> None:
            self.ready()
            terminal.press("first\n")

    Late(terminal).watch()
    assert select.select([terminal.descriptor], [], [], 0.1)[0] == []


def test_the_end_of_the_terminal_does_not_end_the_login(terminal: Terminal) -> None:
    def hang_up(login: Login) -> None:
        login.ready()
        os.dup2(os.open(os.devnull, os.O_RDWR), terminal.descriptor)
        time.sleep(0.3)

    with contextlib.suppress(Exception):  # there is no mode any more to compare
        Login(terminal, hang_up).watch()
    keyboard = Keyboard(terminal.stream)
    assert not keyboard.can_paste


def test_a_shells_mode_is_replaced_again_when_the_job_continues(terminal: Terminal) -> None:
    import termios

    before = terminal.attributes()

    def set_back(login: Login) -> None:
        login.ready()
        termios.tcsetattr(terminal.descriptor, termios.TCSANOW, before)  # type: ignore[arg-type]
        login.press(SECRET + "\n", 1)

    assert Login(terminal, set_back).watch() == [SECRET]
    assert "s3cr3t" not in terminal.text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_exception_from_a_signal_handler_restores_the_terminal(terminal: Terminal, number: signal.Signals) -> None:
    class Stop(BaseException):
        pass

    def handler(*_: object) -> None:
        raise Stop

    def send(login: Login) -> None:
        login.ready()
        os.kill(os.getpid(), number)
        time.sleep(0.5)

    previous = signal.signal(number, handler)
    try:
        with pytest.raises(Stop):
            Login(terminal, send).watch()
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, previous)


def test_handlers_are_only_installed_while_it_waits(terminal: Terminal) -> None:
    seen: list[object] = []

    def look(login: Login) -> None:
        login.ready()
        seen.extend(signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGQUIT))

    Login(terminal, look).watch()
    assert all(callable(handler) for handler in seen)
    assert {signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGQUIT)} == {signal.SIG_DFL}


def test_without_a_terminal_it_only_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("line\n")
    with path.open() as file:
        for stream in (file, io.StringIO("line\n"), None):
            monkeypatch.setattr(sys, "stdin", None)
            keyboard = Keyboard(stream)
            assert not keyboard.can_paste
            keyboard.watch(worker.start(lambda: time.sleep(0.1)), lambda line: pytest.fail("A line was read."))


# A notebook


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], None]:
    """Be a notebook's kernel, which puts its own `getpass` in place; there is no terminal."""

    def be(ask: Callable[[str], str]) -> None:
        ipython: Any = types.ModuleType("IPython")
        ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setattr(getpass, "getpass", ask)
        monkeypatch.setattr(sys, "stdin", None)

    return be


def test_a_notebook_asks_in_its_input_box_until_the_right_line_comes(notebook: Any) -> None:
    answers = iter(["", "nonsense", SECRET])
    asked: list[str] = []
    login: Future[None] = Future()

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    def on_line(line: str) -> bool:
        if line == SECRET:
            threading.Timer(0.3, login.set_result, (None,)).start()
        return line == SECRET

    notebook(ask)
    keyboard = Keyboard(prompt="URL: ")
    assert keyboard.can_paste
    keyboard.watch(login, on_line)
    assert asked == ["URL: "] * 3


def test_a_notebook_that_cannot_ask_only_waits(notebook: Any) -> None:
    def ask(prompt: str) -> str:
        raise NotImplementedError("raw_input was called, but this frontend does not support input requests.")

    notebook(ask)
    keyboard = Keyboard(prompt="URL: ")
    keyboard.watch(worker.start(lambda: time.sleep(0.1)), lambda line: pytest.fail("A line was read."))
    assert not keyboard.can_paste


def test_a_notebook_is_not_asked_if_a_browser_was_opened(notebook: Any) -> None:
    notebook(lambda prompt: pytest.fail("It asked."))
    assert not Keyboard().can_paste
