import io
import os
import re
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.conftest import Patch
from webex_loopback.login.progress import Progress

pytest.importorskip("pty", reason="terminals as POSIX has them")

from tests.login.terminals import ENVIRON, Terminal

URL = "https://webexapis.example/v1/authorize?" + "&".join(f"parameter{n}=value%20{n}" for n in range(30))


def log_in(display: Progress) -> None:
    """The steps of a login, as far as the wait."""
    display.step("listening", "Listening on http://127.0.0.1:8765", "done")
    display.step("redirect", "Waiting for the browser", "doing")
    display.start(time.time() + 271)


def test_done_steps_stay_and_the_current_one_is_the_last_line(terminal: Terminal) -> None:
    with Progress(terminal.stream, ENVIRON) as display:
        log_in(display)
        waiting = ["✓ Listening on http://127.0.0.1:8765", "❯ Waiting for the browser  4:31 left"]
        assert terminal.screen() == waiting
        display.step("redirect", "Redirect received", "done")
        display.step("save", "Saving", "doing")
        display.start(None)
        assert terminal.screen() == [waiting[0], "✓ Redirect received", "❯ Saving"]
        display.step("save", "The disk is full", "failed")
        assert terminal.screen()[-2:] == ["✗ The disk is full", ""]


def test_the_countdown_shows_every_second_once_and_ends_at_zero(terminal: Terminal) -> None:
    with Progress(terminal.stream, ENVIRON) as display:
        display.step("redirect", "Waiting", "doing")
        display.start(time.time() + 2.5)
        time.sleep(3.3)
        shown = re.findall(r"(\d+:\d\d) left", terminal.text())
    assert shown[:4] == ["0:03", "0:02", "0:01", "0:00"]


@pytest.mark.parametrize("waiting", [False, True])
def test_the_url_is_whole_and_a_link(terminal: Terminal, waiting: bool) -> None:
    with Progress(terminal.stream, ENVIRON) as display:
        if waiting:
            log_in(display)
        display.show_url(URL, "Go to:", ["On your machine:", "  ssh -L 8765:127.0.0.1:8765 yuki@host"])
        at = terminal.screen().index("Go to:")
        hint = ["On your machine:", "  ssh -L 8765:127.0.0.1:8765 yuki@host", ""]
        assert terminal.screen()[at - 1 : at + 7] == ["", "Go to:", "", f"  {URL}", "", *hint]
        assert f";{URL}\x1b\\" in terminal.text()  # the hyperlink


@pytest.mark.parametrize(("variable", "escapes"), [({"NO_COLOR": "1"}, r"\x1b\[[\d;]*m"), ({"TERM": "dumb"}, r"\x1b")])
def test_no_escape_sequences_where_unwanted(terminal: Terminal, variable: dict[str, str], escapes: str) -> None:
    """NO_COLOR is about colours only; a dumb terminal understands none at all."""
    with Progress(terminal.stream, ENVIRON | variable) as display:
        display.show_url("http://127.0.0.1:1/", "Go to:", ["Hint", "  command"])
        log_in(display)
        display.step("save", "The disk is full", "failed")
        assert "✓ Listening on http://127.0.0.1:8765" in terminal.screen()
    assert not re.search(escapes, terminal.text())


def test_sentences_wrap_at_the_width_of_the_terminal_and_the_url_does_not() -> None:
    with closing(Terminal(columns=60)) as terminal, Progress(terminal.stream, ENVIRON) as display:
        display.show_url(URL, "Open this " * 10, ["and paste " * 10])
        display.step("save", "The disk is full. " * 10, "failed")
        assert [line for line in terminal.screen() if len(line) > 60] == [f"  {URL}"]


def test_a_terminal_without_unicode_gets_ascii_marks_and_no_error() -> None:
    with closing(Terminal("ascii")) as terminal, Progress(terminal.stream, ENVIRON) as display:
        log_in(display)
        display.step("save", "Saved for 田中", "done")
        assert terminal.screen() == [
            "[x] Listening on http://127.0.0.1:8765",
            "[x] Saved for ??",
            "[>] Waiting for the browser  4:31 left",
        ]


def test_texts_cannot_control_the_terminal(terminal: Terminal) -> None:
    with Progress(terminal.stream, {**ENVIRON, "NO_COLOR": "1"}) as display:
        display.note("a\x1b]0;title\x07b\r\nc\u202ed [bold]e[/]")
        display.step("x", "h\x1b[1A\ni", "doing")
        display.start(time.time() + 100)
        display.show_url("http://x/\x1b[2J", "Go to:")
        assert terminal.screen()[0] == "! a]0;titleb cd [bold]e[/]"
        assert terminal.screen()[-1].startswith("❯ h[1A i")
    assert "\x1b[2J" not in terminal.text()
    assert "\x1b[1A" not in terminal.text()


def test_a_log_gets_each_step_once_and_no_countdown() -> None:
    with io.StringIO() as stream, Progress(stream, ENVIRON) as display:
        display.show_url("http://127.0.0.1:8765/start/x", "Go to:", ["On your machine:", "  ssh -L 1:h:1 u@h"])
        log_in(display)
        time.sleep(1.2)
        display.note("Ignored.")
        display.step("redirect", "Redirect received", "done")
        display.step("save", "The disk is full", "failed")
        content = stream.getvalue()
    assert re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", content).splitlines() == [
        "Go to:",
        "  http://127.0.0.1:8765/start/x",
        "On your machine:",
        "  ssh -L 1:h:1 u@h",
        "✓ Listening on http://127.0.0.1:8765",
        "Waiting until HH:MM:SS (4 min 31 s).",
        "! Ignored.",
        "✓ Redirect received",
        "✗ The disk is full",
    ]


def test_a_broken_pipe_costs_neither_the_login_nor_the_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        "from webex_loopback.login.progress import Progress\n"
        "with Progress() as display: display.note('a'); display.start(0); display.step('b', 'c', 'done')\n"
        "print('token')"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=True)
    assert done.stdout == b"token\n"
    os.close(writer)


def test_a_stream_that_is_closed_or_missing_is_ignored(monkeypatch: Patch) -> None:
    closed = io.StringIO()
    closed.close()
    log_in(Progress(closed, ENVIRON))
    monkeypatch.setattr(sys, "stderr", None)
    with Progress() as display:
        log_in(display)
