"""Kill savers of one token file, at random moments or at each step of the saving code, and look at the file.

Arguments: the token file, `random` or `steps`, and for `random` the number of kills.
Prints a JSON object: how many were killed, how often the file was the old and the new one.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from webex_loopback import store as store_module
from webex_loopback.source import quick_look
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

PATH = sys.argv[1]


def token(serial: int) -> StoredToken:
    """Make a token whose length tells it from its neighbour, so that a mixture of both would show."""
    return StoredToken(
        refresh_at=4_000_000_000 + serial,
        access_token=f"{serial}-" + "x" * (50 if serial % 2 else 9_000),
        issued_at=serial,
        refresh_token=f"refresh-{serial}",
    )


def serial_on_disk() -> int:
    """Return the serial of the token on disk; fail if the file is not whole, in either way of reading it."""
    stored = FileTokenStore(PATH).load()
    assert stored is not None
    assert stored == token(stored.issued_at)
    looked = quick_look(PATH)
    assert looked is not None
    assert looked[2] == stored.access_token.get_secret_value()
    assert os.stat(PATH).st_mode & 0o777 == 0o600
    return stored.issued_at


def child(work: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def at_random(number: int) -> dict[str, int]:
    """Let two processes save by turns, under the lock, and kill each at any moment."""
    store = FileTokenStore(PATH)

    def save_for_ever() -> None:
        while True:
            with store.lock():
                stored = store.load()
                assert stored is not None
                store.save(token(stored.issued_at + 1))

    kills = advanced = 0
    last = serial_on_disk()
    chance = random.Random(8)
    while kills < number:
        pids = [child(save_for_ever) for _ in range(2)]
        for pid in pids:
            time.sleep(chance.uniform(0, 0.012))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills += 1
        now = serial_on_disk()
        assert now >= last
        advanced += now > last
        last = now
    return {"kills": kills, "advanced": advanced, "saves": last}


def at_each_step() -> dict[str, int]:
    """Kill a saver at its first bytecode instruction in `store.py`, another at its second, and so on to the end."""
    counts = {"kills": 0, "old": 0, "new": 0}
    step = 0
    while True:
        step += 1
        for left in Path(PATH).parent.glob(".*.tmp"):
            left.unlink()  # sweeping up takes steps, and they are to be the same for each
        before = serial_on_disk()
        pid = child(lambda before=before, step=step: save_and_die(before + 1, step))
        _, status = os.waitpid(pid, 0)
        after = serial_on_disk()
        assert after in (before, before + 1)
        if not os.WIFSIGNALED(status):
            assert (status, after) == (0, before + 1)
            return counts
        counts["kills"] += 1
        counts["new" if after > before else "old"] += 1


def save_and_die(serial: int, step: int) -> None:
    left = step

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != store_module.__file__:
            return None
        frame.f_trace_opcodes = True
        if event in ("line", "opcode"):  # CPython 3.12.1 tells of no opcodes here
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    store = FileTokenStore(PATH)
    sys.settrace(trace)
    store.save(token(serial))
    sys.settrace(None)


def main() -> None:
    store = FileTokenStore(PATH)
    store.save(token(1))
    with store.lock():
        pass  # what it imports is imported before the forks
    counts = at_random(int(sys.argv[3])) if sys.argv[2] == "random" else at_each_step()
    # A living saver sweeps up after the dead.
    store.save(token(serial_on_disk() + 1))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(store.lock_path)
    counts["left over"] = len(os.listdir(os.path.dirname(PATH))) - 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
