"""Signals at random moments of a refresh of 200 ms: no rotating login is lost. `make fuzz` sends 200 of each."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import pytest

if sys.platform == "win32":
    pytest.skip("Windows has no such signals", allow_module_level=True)

from tests.conftest import Make, Store, Token
from tests.programs.renewing import REFRESH_SECONDS, count, is_lost
from webex_loopback.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
RINGING = str(Path(__file__).parents[1] / "programs" / "ringing.py")


@pytest.fixture(autouse=True)
def rotating(sandbox: Sandbox, logged_in: Token) -> None:
    """A login whose refresh tokens are good for one request; a second one would revoke it."""
    sandbox.switches.rotation = True
    sandbox.switches.latency = sandbox.switches.answer_latency = REFRESH_SECONDS / 2


def ringing(how: str, end: str, errors: TextIO) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, RINGING, how, end], stdin=-1, stdout=-1, stderr=errors, text=True)


def ask_and_ring(process: "subprocess.Popen[str]", number: int, chance: random.Random) -> str:
    """Have it ask for a token, and send a signal meanwhile; return what came out."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "asking\n"
    time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.1))
    process.send_signal(number)
    return process.stdout.readline().strip()


@pytest.mark.parametrize("how", ["get", "aget"])
@pytest.mark.parametrize(("number", "end"), [*((number, "stay") for number in SIGNALS), (signal.SIGTERM, "leave")])
def test_an_exception_from_a_signal_handler_does_not_lose_the_login(
    sandbox: Sandbox, make_due: Make, store: Store, tmp_path: Path, number: int, how: str, end: str
) -> None:
    """Neither if the program goes on, nor if the exception ends it."""
    chance, told = random.Random(f"{how} {number} {end}"), tmp_path / "told"
    processes, asks = (1, count(12)) if end == "stay" else (count(2), 1)
    rung = lost = 0
    for _ in range(processes):
        with open(told, "a") as file, ringing(how, end, file) as process:
            for _ in range(asks):
                make_due()
                rung += ask_and_ring(process, number, chance) != "token"
                if end == "leave":
                    process.wait(20)
                lost += is_lost(sandbox, store)
    print(f"{how}, signal {number}, {end}: {rung} of {processes * asks} handlers raised, {lost} logins lost")
    assert (lost, rung > 0, "Bell" in told.read_text()) == (0, True, True)
    assert [secret for secret in sandbox.secrets if secret in told.read_text()] == []
