"""What a console is needed for: the keyboard, Ctrl-C, the status line."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .console import CTRL_C, Console

CLI = "from webex_loopback.__main__ import main\nsys.exit(main())\n"
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


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("à la carte\r", r"'\xe0 la carte'"),
        ("a\x1b[Ab\x1b[3~c\r", "'abc'"),
        ("日本\r", r"'\u65e5\u672c'"),
    ],
)
def test_letters_are_not_taken_for_function_keys_nor_these_for_letters(keys: str, line: str) -> None:
    with Console(WATCH) as console:
        console.wait_for(b"ready")
        console.type(keys)
        console.wait_for(line.encode())
        assert console.exit_code() == 0


def test_a_login_in_a_console(redirect_uri: str, store: FileTokenStore) -> None:
    with Console(CLI, "login", "--no-browser") as console:
        console.wait_for(b" left")
        started = re.search(rb"http://127\.0\.0\.1:\d+/start/\w+", console.shown)
        assert started is not None, console.shown
        Person().visit(started[0].decode())
        assert console.exit_code() == 0
        console.wait_for(b"Logged in as")
    assert store.load() is not None


def test_ctrl_c_ends_a_waiting_login_at_once(redirect_uri: str) -> None:
    driver = (
        CTRL_C + "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-m', 'webex_loopback', 'login', '--no-browser'])\n"
        "input(); press_ctrl_c(); sys.exit(child.wait(3))\n"
    )
    with Console(driver) as console:
        console.wait_for(b"/start/")
        console.wait_for(b"Listening")
        console.type("\r")
        assert console.exit_code() == 130
        console.wait_for(b"Cancelled")


def test_nul_is_no_terminal_to_ask_questions_on() -> None:
    driver = (
        "import subprocess\n"
        "command = [sys.executable, '-m', 'webex_loopback', 'init', '--client-id', 'C' + '0a' * 32]\n"
        "sys.exit(subprocess.run(command, stdin=subprocess.DEVNULL).returncode)\n"
    )
    with Console(driver) as console:
        assert console.exit_code() == 2
        console.wait_for(b"WEBEX_CLIENT_SECRET")


def test_ctrl_c_waits_for_the_new_tokens_to_be_stored(
    logged_in: StoredToken, make_due: Callable[..., StoredToken], sandbox: Sandbox, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.rotation, sandbox.switches.answer_latency = True, 2.0
    driver = (
        CTRL_C + "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-m', 'webex_loopback', 'token'])\n"
        "input(); press_ctrl_c(); sys.exit(child.wait(10))\n"
    )
    with Console(driver) as console:
        until = time.monotonic() + 20
        while sandbox.count("refresh_token") == 0 and time.monotonic() < until:
            time.sleep(0.02)
        console.type("\r")
        assert console.exit_code() == 130
        assert b"Traceback" not in console.shown
    renewed = store.load()
    assert renewed is not None
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
    driver = (
        CTRL_C + "import subprocess\n"
        f"command = [sys.executable, '-m', 'webex_loopback', 'exec', '--', sys.executable, '-c', {child!r}]\n"
        "exec_process = subprocess.Popen(command)\n"
        "input(); press_ctrl_c(); code = exec_process.wait(5)\n"
        "sys.exit(code - (1 << 32) if code >= 1 << 31 else code)\n"
    )
    with Console(driver) as console:
        console.wait_for(b"running")
        console.type("\r")
        assert console.exit_code() == code
        assert b"Cancelled" not in console.shown
