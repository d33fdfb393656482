"""SIGKILL at random moments of a refresh: a rotating login is lost only between the server's answer and the file.

`make fuzz` kills 200. The server here does not process the request of a client that is gone; another may.
"""

import random
import sys
import time

import pytest

if sys.platform == "win32":
    pytest.skip("signals and fork servers as POSIX has them", allow_module_level=True)

from tests.conftest import Make, Store
from tests.programs.renewing import REFRESH_SECONDS, Renewing, count, is_lost
from webex_loopback.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.fuzz, pytest.mark.usefixtures("logged_in")]
answered: list[float] = []  # when each request was answered


@pytest.mark.parametrize("sandbox", [lambda _: answered.append(time.monotonic())], indirect=True)
def test_a_kill_loses_only_an_answer_that_is_not_yet_written(sandbox: Sandbox, make_due: Make, store: Store) -> None:
    sandbox.switches.rotation, sandbox.switches.latency = True, REFRESH_SECONDS
    chance, lost = random.Random(200), []
    for _ in range(count(12)):
        make_due()
        process = Renewing(store.path)
        process.ask()
        time.sleep(chance.uniform(0, REFRESH_SECONDS * 1.3))
        sandbox.switches.tokenlimit_reached = True  # for a client that is gone
        killed = time.monotonic()
        process.kill()
        time.sleep(REFRESH_SECONDS * 1.2)
        sandbox.switches.tokenlimit_reached = False
        answer = answered[-1]
        if is_lost(sandbox, store):
            lost.append(round((killed - answer) * 1e6))
    print(f"{len(lost)} of {count(12)} logins lost, killed so many microseconds after the answer: {lost}")
    assert all(microseconds < 100_000 for microseconds in lost)
    assert len(lost) <= 2 + count(12) // 20
