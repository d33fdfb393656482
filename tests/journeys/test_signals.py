"""Signals at random moments of a refresh of 200 ms: no rotating login is lost. `make fuzz` sends 200 of each."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("Windows has no such signals", allow_module_level=True)

from tests.programs.renewing import REFRESH_SECONDS, count, is_lost
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [pytest.mark.slow, pytest.mark.fuzz]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
RINGING = str(Path(__file__).parents[1] / "programs" / "ringing.py")

Make = Callable[..., StoredToken]


@pytest.fixture(autouse=True)
def rotating(sandbox: Sandbox, logged_in: StoredToken) -> None:
    """A login whose refresh tokens are good for one request; a second one would revoke it."""
    sandbox.switches.rotation = True
    sandbox.switches.latency = sandbox.switches.answer_latency = REFRESH_SECONDS / 2


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
    sandbox: Sandbox, make_due: Make, store: FileTokenStore, tmp_path: Path, number: int, how: str, end: str
) -> None:
    """Neither if the program goes on, nor if the exception ends it."""
    chance, told = random.Random(f"{how} {number} {end}"), tmp_path / "told"
    processes, asks = (1, count(12)) if end == "stay" else (count(2), 1)
    rung = lost = 0
    for _ in range(processes):
        with (
            open(told, "a") as file,
            subprocess.Popen(
                [sys.executable, RINGING, how, end], stdin=-1, stdout=-1, stderr=file, text=True
            ) as process,
        ):
            for _ in range(asks):
                make_due()
                rung += ask_and_ring(process, number, chance) != "token"
                if end == "leave":
                    process.wait(20)
                lost += is_lost(sandbox, store)
    print(f"{how}, signal {number}, {end}: {rung} of {processes * asks} handlers raised, {lost} logins lost")
    assert (lost, rung > 0, "Bell" in told.read_text()) == (0, True, True)
    assert [secret for secret in sandbox.secrets if secret in told.read_text()] == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_the_command_does_not_lose_the_login(
    sandbox: Sandbox, make_due: Make, store: FileTokenStore, number: int
) -> None:
    chance, lost, codes = random.Random(number), 0, []
    for _ in range(count(2)):
        before, asked = make_due().refresh_token, sandbox.count("refresh_token")
        command = [sys.executable, "-m", "webex_loopback", "token", "--refresh"]
        process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True)
        until = time.monotonic() + (chance.uniform(0, 0.5) if chance.random() < 0.25 else 20)
        while sandbox.count("refresh_token") == asked and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.1))
        sent = sandbox.count("refresh_token") > asked
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
        if sent and "Refreshed" not in told:  # it may also interrupt the interpreter as it starts or exits
            codes.append(process.returncode)
            assert (process.returncode in (0, 128 + number), "Traceback" in told) == (True, False), told
        stored = store.load()
        assert stored is not None
        assert "Refreshed" not in told or stored.refresh_token != before
        lost += is_lost(sandbox, store)
    print(f"token --refresh, signal {number}: {lost} of {count(2)} logins lost; exit codes {sorted(set(codes))}")
    assert lost == 0
