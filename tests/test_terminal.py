import asyncio
import contextlib
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webex_loopback.terminal import Display, LineEditor, pasted_lines

URL = "https://webexapis.example/v1/authorize?" + "&".join(f"parameter{n}=value%20{n}" for n in range(12))
SECRET = "http://127.0.0.1:8765/callback?code=s3cr3t&state=abc"


class Terminal:
    """A terminal of 80 columns: what a program writes to `stream` is drawn, `press` types."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.descriptor = slave
        self.stream: TextIO = open(slave, "w", encoding=encoding)  # noqa: SIM115 - closed by the fixture
        self.written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # hung up
            while data := os.read(self.master, 65_536):
                self.written += data

    def press(self, keys: str | bytes) -> None:
        keys = keys.encode() if isinstance(keys, str) else keys
        while keys:
            keys = keys[os.write(self.master, keys) :]

    def text(self) -> str:
        """Everything written so far, with its control sequences."""
        self.stream.flush()
        time.sleep(0.1)
        return self.written.decode("utf-8", "replace")

    def screen(self) -> list[str]:
        """What a person sees now: no more of a terminal than rich makes use of."""
        lines, row = [""], 0
        for part in re.split(r"(\x1b\]8;.*?\x1b\\|\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", self.text()):
            if part == "\n":
                row += 1
                lines += [""] * (row == len(lines))
            elif match := re.fullmatch(r"\x1b\[(\d+)A", part):
                row -= int(match[1])
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part and part != "\r" and part[0] != "\x1b":
                lines[row] += part
        return [line.rstrip() for line in lines]

    def mode(self) -> int:
        return int(termios.tcgetattr(self.descriptor)[3])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self._reader.join(5)
        with contextlib.suppress(OSError):
            os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


ENVIRON = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}


def log_in(display: Display, *, started: bool = True) -> None:
    """The steps of a login, as far as the wait."""
    display.step("listening", "Listening on http://127.0.0.1:8765", "done")
    display.step("redirect", "Waiting for the browser", "doing")
    display.step("save", "Save the tokens", "todo")
    if started:
        display.start(time.time() + 271)


# The screen


def test_the_steps_are_ticked_off_in_place(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display)
        assert terminal.screen() == [
            "✓ Listening on http://127.0.0.1:8765",
            "❯ Waiting for the browser  4:31 left",
            "◦ Save the tokens",
        ]
        display.step("redirect", "Redirect received", "done")
        assert terminal.screen()[1:] == ["✓ Redirect received", "◦ Save the tokens", "4:31 left"]
        display.step("save", "The disk is full", "failed")
    assert terminal.screen() == [
        "✓ Listening on http://127.0.0.1:8765",
        "✓ Redirect received",
        "✗ The disk is full",
        "",
    ]
    assert terminal.text().endswith("\x1b[?25h")  # the cursor is back


def test_the_countdown_shows_every_second_once_and_ends_at_zero(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        display.step("redirect", "Waiting", "doing")
        display.start(time.time() + 2.5)
        time.sleep(3.3)
        shown = re.findall(r"(\d+:\d\d) left", terminal.text())
    assert shown[:4] == ["0:03", "0:02", "0:01", "0:00"]


def test_a_note_stays_above_the_steps(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        display.note("Before.")
        log_in(display)
        display.note("Ignored a request with a foreign state.")
        assert terminal.screen()[:3] == [
            "! Before.",
            "! Ignored a request with a foreign state.",
            "✓ Listening on http://127.0.0.1:8765",
        ]


@pytest.mark.parametrize("started", [False, True])
def test_the_address_is_never_broken(terminal: Terminal, started: bool) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        if started:
            log_in(display)
        display.address(URL, hints=["On your machine:", "  ssh -L 8765:127.0.0.1:8765 yuki@host"])
        log_in(display)
        assert [line.lstrip() for line in terminal.screen()[:8]] == [
            "",
            "Log in to Webex at this address:",
            "",
            URL,
            "",
            "On your machine:",
            "ssh -L 8765:127.0.0.1:8765 yuki@host",
            "",
        ]
        assert f";{URL}\x1b\\" in terminal.text()  # the hyperlink


def test_an_address_alone_is_set_apart(terminal: Terminal) -> None:
    Display(stream=terminal.stream, environ=ENVIRON).address("http://127.0.0.1:1/", heading="Go to:")
    assert terminal.screen() == ["", "Go to:", "", "  http://127.0.0.1:1/", "", ""]


def test_what_was_pasted_is_counted_but_not_kept_on_the_screen(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display)
        display.pasted(1)
        assert terminal.screen()[-1] == "Pasted 1 character: press Enter."
        display.pasted(1312)
        assert terminal.screen()[-1] == "Pasted 1,312 characters: press Enter."
    assert terminal.screen()[-2:] == ["◦ Save the tokens", ""]


def test_no_color_keeps_the_layout(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ={**ENVIRON, "NO_COLOR": "1"}) as display:
        display.address("http://127.0.0.1:1/", hints=[])
        log_in(display)
        display.note("A note.")
        assert "❯ Waiting for the browser  4:31 left" in terminal.screen()
    codes = {code for codes in re.findall(r"\x1b\[([\d;]*)m", terminal.text()) for code in codes.split(";")}
    assert codes <= {"", "0", "1", "2"}


def test_a_terminal_without_unicode_gets_ascii_marks_and_no_error() -> None:
    terminal = Terminal("ascii")
    try:
        with Display(stream=terminal.stream, environ=ENVIRON) as display:
            log_in(display)
            display.step("save", "Saved for 田中", "done")
        assert terminal.screen()[:3] == [
            "[x] Listening on http://127.0.0.1:8765",
            "[>] Waiting for the browser",
            "[x] Saved for ??",
        ]
    finally:
        terminal.close()


def test_texts_cannot_steer_the_terminal(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ={**ENVIRON, "NO_COLOR": "1"}) as display:
        display.note("a\x1b]0;title\x07b\r\nc\u202ed [bold]e[/] :smile:")
        display.start(time.time() + 100)
        display.note("f\x1b[2Jg")
        display.step("x", "h\x1b[1A\ni", "doing")
        assert "! a]0;titleb  cd [bold]e[/] :smile:" in terminal.screen()
        assert "! f[2Jg" in terminal.screen()
        assert any(line.startswith("❯ h[1A i") for line in terminal.screen())


def test_a_login_that_fails_before_the_wait_shows_its_steps_all_the_same(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display, started=False)
        display.step("redirect", "The port is in use", "failed")
        assert terminal.screen() == [""]
    display.stop()
    assert terminal.screen() == ["✓ Listening on http://127.0.0.1:8765", "✗ The port is in use", ""]


def test_steps_after_the_end_are_lines(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display)
        display.start(time.time() + 100)  # moves the deadline
    display.step("save", "Saved", "done")
    assert terminal.screen()[-2:] == ["✓ Saved", ""]


def test_many_threads_may_use_it_at_once(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display)

        def report(name: str) -> None:
            for number in range(10):
                display.step("save", f"{name} {number}", "doing")
                display.note(f"note {name} {number}")

        threads = [threading.Thread(target=report, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        display.step("save", "Saved", "done")
    screen = terminal.screen()
    assert sorted(line for line in screen if line.startswith("!")) == sorted(
        f"! note {name} {number}" for name in "abc" for number in range(10)
    )
    assert screen[-2:] == ["✓ Saved", ""]


# The log


def test_a_log_gets_each_step_once_and_no_countdown(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w+", encoding="utf-8") as stream:
        with Display(stream=stream, environ=ENVIRON) as display:
            display.address("http://127.0.0.1:8765/start/x", hints=["On your machine:", "  ssh -L 1:h:1 u@h"])
            log_in(display)
            time.sleep(1.2)
            display.note("Ignored.")
            display.pasted(3)
            display.pasted(30)
            display.pasted(0)
            display.step("redirect", "Redirect received", "done")
            display.step("redirect", "Redirect received", "done")
            display.step("save", "The disk is full", "failed")
        stream.seek(0)
        content = stream.read()
    assert re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", content).splitlines() == [
        "Log in to Webex at this address:",
        "  http://127.0.0.1:8765/start/x",
        "On your machine:",
        "  ssh -L 1:h:1 u@h",
        "✓ Listening on http://127.0.0.1:8765",
        "Waiting until HH:MM:SS (4:31).",
        "! Ignored.",
        "Pasted 3 characters: press Enter.",
        "✓ Redirect received",
        "✗ The disk is full",
    ]


def test_a_log_in_another_encoding_is_written_all_the_same(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w+", encoding="cp932") as stream:
        display = Display(stream=stream, environ=ENVIRON)
        display.step("save", "Saved for 田中 é", "done")
        stream.seek(0)
        assert stream.read() == "[x] Saved for 田中 ?\n"


def test_a_dumb_terminal_gets_lines(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ={**ENVIRON, "TERM": "dumb"}) as display:
        log_in(display)
    assert "\x1b" not in terminal.text()
    assert terminal.screen()[0] == "✓ Listening on http://127.0.0.1:8765"


def test_a_stream_that_is_gone_is_no_trouble() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        "from webex_loopback.terminal import Display\n"
        "with Display() as display: display.note('a'); display.start(0); display.step('b', 'c', 'done')\n"
        "print('token')"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=True)
    assert done.stdout == b"token\n"
    os.close(writer)
    closed = io.StringIO()
    closed.close()
    log_in(Display(stream=closed, environ=ENVIRON))


def test_a_terminal_that_hangs_up_is_no_trouble(terminal: Terminal) -> None:
    with Display(stream=terminal.stream, environ=ENVIRON) as display:
        log_in(display)
        os.dup2(os.open(os.devnull, os.O_RDONLY), terminal.descriptor)
        display.note("Nobody sees this.")
        display.step("save", "Saved", "done")


def test_without_a_standard_error_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Display() as display:
        log_in(display)


def run(program: str) -> "pexpect.spawn[str]":
    environ = {**os.environ, **ENVIRON, "PYTHONUNBUFFERED": "1"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        environ.pop(name, None)
    arguments = ["-X", "dev", "-W", "error", "-c", program]
    return pexpect.spawn(sys.executable, arguments, env=environ, encoding="utf-8", timeout=30)


def test_warnings_appear_above_the_steps_and_standard_output_is_left_alone(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    child = run(
        "import sys, time; from webex_loopback.terminal import Display\n"
        f"sys.stdout = open({str(answer)!r}, 'w')\n"
        "with Display() as display:\n"
        "    display.step('a', 'Waiting', 'doing'); display.start(time.time() + 60)\n"
        "    print('token'); print('warning', file=sys.stderr)\n"
        "    display.step('a', 'Finished', 'done')\n"
        "sys.stdout.close()\n"
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert answer.read_text() == "token\n"
    assert re.search(r"warning.*✓.*Finished", child.before or "", re.DOTALL)


def test_nothing_heavy_is_loaded_before_the_countdown() -> None:
    program = (
        "import sys; before = set(sys.modules); from webex_loopback.terminal import Display\n"
        "display = Display(); display.address('http://127.0.0.1:1/', hints=['x']); display.step('a', 'b', 'doing')\n"
        "print(sorted({'rich', 'asyncio', 'termios'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Keys


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (b"abc\n", ["abc"]),
        (b"abc\r", ["abc"]),
        (b"  abc \r\n\r\n\n def\n", ["abc", "def"]),
        (b"abcx\x7fd\x08e\n", ["abce"]),
        (b"\x7f\x7fa\n", ["a"]),
        ("日本語\x7f\n".encode(), ["日本"]),
        (b"wrong\x15right\n", ["right"]),
        (b"\x1b[200~pasted\x1b[201~\n", ["pasted"]),
        (b"a\x1b[Ab\x1b[1;5Cc\x1bOPd\x1b[[Ae\n", ["abcde"]),
        (b"a\x1b]11;rgb:00/00/00\x07b\x1b]0;x\x1b\\c\x1bP1+r\x1bx\x1b\\d\n", ["abcd"]),
        (b"\x1bhttp\n", ["http"]),
        (b"a\x1b\x1b[Ab\n", ["ab"]),
        (b"a\x1b[1\nb\x1b]\n\x1b[\x1b[Ac\n", ["a", "b", "c"]),
        (b"a\x00\x04\tb\n", ["ab"]),
        (b"a\xff\n", ["a\ufffd"]),
        (b"o\n", ["o"]),
        (b"x" * 70_000 + b"\nnext\n", ["x" * 65_536, "next"]),
    ],
)
def test_keys_become_lines(keys: bytes, lines: list[str]) -> None:
    assert LineEditor().feed(keys) == lines


def test_a_lone_o_is_a_line_at_once_but_not_within_one() -> None:
    editor = LineEditor()
    assert editor.feed(b"o") == ["o"]
    assert editor.feed(b"O") == ["o"]
    assert editor.feed(b"f") == []
    assert editor.feed(b"o") == []
    assert editor.length == 2
    assert editor.feed(b"\n") == ["fo"]
    assert editor.feed(b"\x1b") == []
    assert editor.feed(b"O") == []


@given(st.lists(st.binary(max_size=20).map(lambda keys: keys.replace(b"o", b"").replace(b"O", b""))))
def test_how_the_keys_are_split_makes_no_difference(chunks: list[bytes]) -> None:
    editor = LineEditor()
    lines = [line for chunk in chunks for line in editor.feed(chunk)]
    assert lines == LineEditor().feed(b"".join(chunks))
    assert all(line and line == line.strip() and "\x1b" not in line for line in lines)


# Pasting


def read_lines(terminal: Terminal, keys: str | bytes, count: int) -> tuple[list[str], list[int]]:
    """Press the keys, once the terminal is ready, and return `count` lines with the progress reported."""
    lines: list[str] = []
    progress: list[int] = []

    async def read() -> None:
        pressing = asyncio.create_task(press())
        async with contextlib.aclosing(pasted_lines(terminal.stream, on_progress=progress.append)) as source:
            async for line in source:
                lines.append(line)
                if len(lines) == count:
                    break
        await pressing

    async def press() -> None:
        await ready(terminal)
        await asyncio.to_thread(terminal.press, keys)

    asyncio.run(read())
    return lines, progress


async def ready(terminal: Terminal) -> None:
    async with asyncio.timeout(10):
        while terminal.mode() & termios.ICANON:  # noqa: ASYNC110 - a terminal tells nobody of its mode
            await asyncio.sleep(0.01)


def test_pasted_lines_are_read_and_not_echoed(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.descriptor)
    lines, progress = read_lines(terminal, f"o\r{SECRET}\rlast\n", 3)
    assert lines == ["o", SECRET, "last"]
    assert "s3cr3t" not in terminal.text()
    assert termios.tcgetattr(terminal.descriptor) == before
    assert progress in ([], [0]) or progress[-1] == 0


def test_a_line_longer_than_a_terminals_own_arrives_whole(terminal: Terminal) -> None:
    line = "http://127.0.0.1:8765/callback?code=" + "x" * 20_000
    lines, progress = read_lines(terminal, line + "\n", 1)
    assert lines == [line]
    assert progress == [*sorted(progress[:-1]), 0]
    assert 0 < progress[0] <= 4096


def test_ctrl_c_still_is_ctrl_c_and_the_mode_comes_back_when_cancelled(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.descriptor)

    async def read() -> None:
        async def consume() -> None:
            async for _ in pasted_lines(terminal.stream):
                pass

        task = asyncio.create_task(consume())
        await ready(terminal)
        assert terminal.mode() & termios.ISIG
        assert not terminal.mode() & (termios.ECHO | termios.IEXTEN)
        terminal.press(SECRET)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(read())
    assert termios.tcgetattr(terminal.descriptor) == before


def test_what_is_pasted_too_late_does_not_reach_the_shell(terminal: Terminal) -> None:
    async def read() -> None:
        async with contextlib.aclosing(pasted_lines(terminal.stream)) as source:
            terminal_ready = asyncio.create_task(ready(terminal))
            first = asyncio.ensure_future(anext(source))
            await terminal_ready
            terminal.press("first\n")
            assert await first == "first"
            terminal.press(SECRET + "\n")
            time.sleep(0.1)  # noqa: ASYNC251 - the loop stands still: in the terminal, and not read

    asyncio.run(read())
    os.set_blocking(terminal.descriptor, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.descriptor, 100)


def test_the_end_of_the_terminal_ends_the_lines() -> None:
    master, slave = pty.openpty()

    async def read(stream: TextIO) -> list[str]:
        asyncio.get_running_loop().call_later(0.1, os.close, master)
        return [line async for line in pasted_lines(stream)]

    with open(slave) as stream:
        assert asyncio.run(read(stream)) == []


def test_a_terminal_that_cannot_be_read_ends_the_lines(terminal: Terminal) -> None:
    async def read() -> list[str]:
        async def break_and_press() -> None:
            await ready(terminal)
            kept_open = os.dup(terminal.descriptor)  # by which the event loop still hears of the key
            os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.descriptor)
            terminal.press("x")
            await asyncio.sleep(0.1)
            os.close(kept_open)

        breaking = asyncio.create_task(break_and_press())
        lines = [line async for line in pasted_lines(terminal.stream)]
        await breaking
        return lines

    assert asyncio.run(read()) == []


def test_a_shells_mode_is_replaced_again_when_the_job_continues(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.descriptor)

    async def read() -> None:
        source = pasted_lines(terminal.stream)
        first = asyncio.ensure_future(anext(source))
        await ready(terminal)
        for mode in (termios.tcgetattr(terminal.descriptor), before):
            termios.tcsetattr(terminal.descriptor, termios.TCSANOW, mode)
            os.kill(os.getpid(), signal.SIGCONT)
            await asyncio.sleep(0.1)
            assert not terminal.mode() & termios.ICANON
        first.cancel()
        await asyncio.wait([first])

    asyncio.run(read())
    assert termios.tcgetattr(terminal.descriptor) == before


def test_a_signal_on_its_way_at_the_end_does_not_change_the_mode(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.descriptor)

    async def read_one() -> None:
        async with contextlib.aclosing(pasted_lines(terminal.stream)) as source:
            await anext(source)

    async def read() -> None:
        reading = asyncio.create_task(read_one())
        await ready(terminal)
        terminal.press("line\n")
        time.sleep(0.1)  # noqa: ASYNC251 - both then arrive at once, the line first
        os.kill(os.getpid(), signal.SIGCONT)
        await reading
        await asyncio.sleep(0.1)

    asyncio.run(read())
    assert termios.tcgetattr(terminal.descriptor) == before


def test_a_terminal_that_is_gone_when_the_job_continues_ends_the_lines(terminal: Terminal) -> None:
    async def read() -> list[str]:
        async def vanish() -> None:
            await ready(terminal)
            os.dup2(os.open(os.devnull, os.O_RDONLY), terminal.descriptor)
            os.kill(os.getpid(), signal.SIGCONT)

        vanishing = asyncio.create_task(vanish())
        lines = [line async for line in pasted_lines(terminal.stream)]
        await vanishing
        return lines

    assert asyncio.run(read()) == []


def test_it_works_outside_the_main_thread(terminal: Terminal) -> None:
    answers: list[tuple[list[str], list[int]]] = []
    thread = threading.Thread(target=lambda: answers.append(read_lines(terminal, "abc\n", 1)))
    thread.start()
    thread.join(20)
    assert answers[0][0] == ["abc"]


def test_where_there_is_no_terminal_there_are_no_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def read(stream: TextIO | None) -> list[str]:
        return [line async for line in pasted_lines(stream)]

    path = tmp_path / "file"
    path.write_text("line\n")
    with path.open() as file:
        assert asyncio.run(read(file)) == []
    assert asyncio.run(read(file)) == []
    assert asyncio.run(read(io.StringIO("line\n"))) == []
    monkeypatch.setattr(sys, "stdin", None)
    assert asyncio.run(read(None)) == []


# Job control, with a real shell

JOB = """
import asyncio, contextlib, sys, time
from webex_loopback.terminal import Display, pasted_lines
async def main():
    with Display() as display:
        display.step("a", "Waiting", "doing")
        display.start(time.time() + 100)
        async with contextlib.aclosing(pasted_lines(on_progress=display.pasted)) as lines:
            print("READY")
            async for line in lines:
                print("GOT", len(line))
                if len(line) > 10:
                    break
asyncio.run(main())
print("END")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator["pexpect.spawn[str]"]:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    environ = {**os.environ, **ENVIRON, "PS1": "ready> ", "JOB": str(job), "PYTHONUNBUFFERED": "1"}
    shell = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environ, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    yield shell
    shell.close(force=True)


def test_stopped_and_continued_it_reads_on_unseen(shell: "pexpect.spawn[str]") -> None:
    shell.sendline(f"{sys.executable} $JOB")
    shell.expect("READY")
    shell.send("o")
    shell.expect("GOT 1")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.sendline("fg")
    shell.expect("left")
    time.sleep(0.3)
    shell.send(SECRET + "\r")
    shell.expect(f"GOT {len(SECRET)}")
    assert "s3cr3t" not in (shell.before or "")
    shell.expect("END")
    shell.sendline("stty -a | grep -c '[^-]icanon.*[^-]echo '")
    shell.expect(r"[\r\n]1\r\n")


def test_a_background_job_leaves_the_terminal_to_the_shell(shell: "pexpect.spawn[str]") -> None:
    shell.sendline(f"{sys.executable} $JOB &")
    shell.expect("READY")
    shell.sendline("echo typed-$((40 + 2)); jobs")
    shell.expect("typed-42")
    shell.expect("Running")
    shell.sendline("fg")
    time.sleep(1)
    shell.send(SECRET + "\r")
    shell.expect(f"GOT {len(SECRET)}")
    assert "s3cr3t" not in (shell.before or "")
    shell.expect("END")


def test_stopped_and_sent_to_the_background_it_is_not_stopped_again(shell: "pexpect.spawn[str]") -> None:
    shell.sendline(f"{sys.executable} $JOB")
    shell.expect("READY")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.sendline("bg")
    time.sleep(1.5)
    shell.sendline("echo typed-$((40 + 2)); jobs")
    shell.expect("typed-42")
    shell.expect("Running")
    shell.sendline("kill -INT %1; wait; echo over-$((40 + 2))")
    shell.expect("over-42")


def test_keys_meant_for_another_job_are_not_read() -> None:
    # As when a wrapper starts something else in the foreground, which tells us nothing by a signal.
    child = run(
        "import asyncio, os, signal, subprocess\n"
        "from webex_loopback.terminal import pasted_lines\n"
        "signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
        "async def take_turns():\n"
        "    other = subprocess.Popen(['sleep', '60'], process_group=0)\n"
        "    await asyncio.sleep(0.2)\n"
        "    os.tcsetpgrp(0, other.pid); print('AWAY'); await asyncio.sleep(1.5)\n"
        "    os.tcsetpgrp(0, os.getpgrp()); print('BACK'); other.kill(); other.wait()\n"
        "async def main():\n"
        "    turns = asyncio.create_task(take_turns())\n"
        "    async for line in pasted_lines():\n"
        "        print('GOT', line); break\n"
        "    await turns\n"
        "asyncio.run(main())\n"
    )
    child.expect("AWAY")
    child.send("typed\n")
    child.expect("BACK")
    assert "GOT" not in (child.before or "")
    child.expect("GOT typed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
