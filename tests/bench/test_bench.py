"""That the bench runs; `make bench` says how fast everything is."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.skipif(sys.platform == "win32", reason="its browser is a shell script")
def test_the_bench_runs_without_the_peers() -> None:
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--quick", "--no-peers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190, check=False)
    assert done.returncode == 0, done.stderr
    # What does not depend on the speed of the machine holds in the shortest run too.
    assert done.stdout.count("refreshes made by ours: 1.00, at most 1: met") == 3
    assert done.stdout.count("calls of ours that failed: 0.00, at most 0: met") == 3
    assert "calls of aget_token() that left the loop: 0.00, at most 0: met" in done.stdout
    for title in ("Cached token", "Hot call", "browser opened", "tokens on disk", "Cold renewal", "by store"):
        assert title in done.stdout
