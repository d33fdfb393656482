"""Signals at random moments of a refresh of 200 ms: no rotating login is lost. `make fuzz` sends 200 of each."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import programs
from webex_loopback import log_in
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fuzz,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
REFRESH_SECONDS = 0.2 if EXAMPLES else 0.1
COMMAND = [sys.executable, "-m", "webex_loopback"]
RINGING = os.path.join(os.path.dirname(programs.__file__), "ringing.py")
SIGNALS = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]

Make = Callable[..., StoredToken]


def count(usually: int) -> int:
    return max(EXAMPLES // 50, usually)


@pytest.fixture(autouse=True)
def rotating(sandbox: Sandbox, logged_in: StoredToken) -> None:
    """A login whose refresh tokens are good for one request; a second one would revoke it."""
    sandbox.switches.rotation = True
    sandbox.switches.latency = sandbox.switches.answer_latency = REFRESH_SECONDS / 2


@pytest.fixture
def is_lost(sandbox: Sandbox, store: FileTokenStore) -> Callable[[], bool]:
    """Whether the login is lost; if so, log in again."""

    def look() -> bool:
        with store.lock():  # a renewal that has outlived its caller ends first
            stored = store.load()
        assert stored is not None
        assert stored.refresh_token is not None
        if sandbox.is_alive(stored.refresh_token.get_secret_value()):
            return False
        log_in(open_browser=Person().visit, force=True)
        return True

    return look


@pytest.fixture
def ringing(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the program, whose tracebacks go into the file `told`; none is left when the test is over."""
    running: list[subprocess.Popen[str]] = []

    def start(how: str, then: str) -> "subprocess.Popen[str]":
        with open(tmp_path / "told", "a") as told:
            command = [sys.executable, RINGING, how, then]
            running.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True)
            )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ask(process: "subprocess.Popen[str]") -> None:
    """Have the program ask for a token."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert read(process) == "asking"


def read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("how", ["get", "aget"])
def test_an_exception_from_a_signal_handler_does_not_lose_the_login(
    ringing: Callable[..., "subprocess.Popen[str]"],
    sandbox: Sandbox,
    make_due: Make,
    is_lost: Callable[[], bool],
    tmp_path: Path,
    number: int,
    how: str,
) -> None:
    chance = random.Random(f"{how} {number}")
    process = ringing(how, "stay")
    rung = lost = 0
    for _ in range(count(12)):
        make_due()
        ask(process)
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.1))
        process.send_signal(number)
        rung += read(process) == "bell"
        lost += is_lost()
    process.communicate(timeout=20)
    print(f"{how}, signal {number}: {rung} of {count(12)} handlers raised, {lost} logins lost")
    assert rung > 0
    assert lost == 0
    told = (tmp_path / "told").read_text()
    assert "Bell" in told
    assert [secret for secret in sandbox.secrets if secret in told] == []


@pytest.mark.parametrize("how", ["get", "aget"])
def test_a_program_that_is_ended_by_the_exception_does_not_lose_the_login(
    ringing: Callable[..., "subprocess.Popen[str]"], make_due: Make, is_lost: Callable[[], bool], how: str
) -> None:
    chance = random.Random(how)
    lost = 0
    for _ in range(count(3)):
        process = ringing(how, "leave")
        make_due()
        ask(process)
        time.sleep(chance.uniform(0, REFRESH_SECONDS))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        lost += is_lost()
    print(f"{how}, left: {lost} of {count(3)} logins lost")
    assert lost == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_command_does_not_lose_the_login(
    sandbox: Sandbox, make_due: Make, store: FileTokenStore, is_lost: Callable[[], bool], number: int
) -> None:
    chance = random.Random(number)
    lost, codes = 0, []
    for _ in range(count(3)):
        before = make_due().refresh_token
        asked = sandbox.count("refresh_token")
        command = subprocess.Popen([*COMMAND, "token", "--refresh"], stdout=-1, stderr=-1, text=True)
        until = time.monotonic() + (chance.uniform(0, 0.5) if chance.random() < 0.25 else 20)
        while sandbox.count("refresh_token") == asked and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.1))
        sent = sandbox.count("refresh_token") > asked
        command.send_signal(number)
        _, told = command.communicate(timeout=20)
        if sent:  # before that, it may be the interpreter that is interrupted as it starts
            codes.append(command.returncode)
            assert (command.returncode in (0, 128 + number), "Traceback" in told) == (True, False), told
        stored = store.load()
        assert stored is not None
        assert "Refreshed" not in told or stored.refresh_token != before
        lost += is_lost()
    print(f"token --refresh, signal {number}: {lost} of {count(3)} logins lost; exit codes {sorted(set(codes))}")
    assert lost == 0
