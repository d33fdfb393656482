"""What a console is needed for: the keyboard, Ctrl-C, the status line."""

import re
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Make
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .console import DRIVER, Console

CLI = (sys.executable, "-m", "webex_loopback")
WATCH = """
from concurrent.futures import Future
from webex_loopback.login.paste import Keyboard
login = Future()
def take(line):
    print(ascii(line))
    login.set_result(None)
    return True
keyboard = Keyboard()
print(keyboard.can_paste and "ready")
keyboard.watch(login, take)
"""


LINES = [("à la carte\r", r"'\xe0 la carte'"), ("a\x1b[Ab\x1b[3~c\r", "'abc'"), ("日本\r", r"'\u65e5\u672c'")]


@pytest.mark.parametrize(("keys", "line"), LINES)
def test_letters_and_function_keys_are_told_apart(keys: str, line: str) -> None:
    with Console(WATCH) as console:
        console.wait_for(b"ready")
        console.type(keys)
        console.wait_for(line.encode())
        assert console.exit_code() == 0


def test_a_login_in_a_console(redirect_uri: str, store: FileTokenStore) -> None:
    with Console("from webex_loopback.__main__ import main\nsys.exit(main())\n", "login", "--no-browser") as console:
        console.wait_for(b" left")
        started = re.search(rb"http://127\.0\.0\.1:\d+/start/\w+", console.shown)
        assert started is not None, console.shown
        Person().visit(started[0].decode())
        assert console.exit_code() == 0
        console.wait_for(b"Logged in as")
    assert store.load() is not None


def test_ctrl_c_ends_a_waiting_login_at_once(redirect_uri: str) -> None:
    with Console(DRIVER, *CLI, "login", "--no-browser") as console:
        console.wait_for(b"/start/")
        console.wait_for(b"Listening")
        console.type("\r")
        assert console.exit_code(5) == 130
        console.wait_for(b"Cancelled")


def test_nul_is_not_a_terminal_to_ask_questions_on() -> None:
    driver = (
        "import subprocess\n"
        "command = [sys.executable, '-m', 'webex_loopback', 'init', '--client-id', 'C' + '0a' * 32]\n"
        "sys.exit(subprocess.run(command, stdin=subprocess.DEVNULL).returncode)\n"
    )
    with Console(driver) as console:
        assert console.exit_code() == 2
        console.wait_for(b"WEBEX_CLIENT_SECRET")


def test_ctrl_c_waits_for_the_new_tokens_to_be_stored(
    logged_in: StoredToken, make_due: Make, sandbox: Sandbox, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.rotation, sandbox.switches.answer_latency = True, 2.0
    with Console(DRIVER, *CLI, "token") as console:
        until = time.monotonic() + 20
        while sandbox.count("refresh_token") == 0 and time.monotonic() < until:
            time.sleep(0.02)
        console.type("\r")
        assert console.exit_code() == 130
        assert b"Traceback" not in console.shown
    assert (renewed := store.load()) is not None
    assert renewed.refresh_token != logged_in.refresh_token


@pytest.mark.parametrize(
    ("on_ctrl_c", "code"),
    [("sys.exit(9)", 9), ("os._exit(0xC000013A - (1 << 32))", 0xC000013A), ("print('ignored')", 7)],
)
def test_exec_leaves_ctrl_c_to_the_command(on_ctrl_c: str, code: int, logged_in: StoredToken, tmp_path: Path) -> None:
    child = (
        "import os, signal, sys, time; received = []\n"
        f"signal.signal(2, lambda *_: (received.append(1), {on_ctrl_c}))\n"
        "print('running', flush=True)\n"
        "while not received: time.sleep(0.05)\n"
        "sys.exit(7)\n"
    )
    with Console(DRIVER, *CLI, "exec", "--", sys.executable, "-c", child) as console:
        console.wait_for(b"running")
        console.type("\r")
        assert console.exit_code() == code
        assert b"Cancelled" not in console.shown
