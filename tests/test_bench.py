"""That the bench runs; what it measures is for `make bench` to say."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "bench" / "run.py"


@pytest.mark.skipif(sys.platform == "win32", reason="its browser is a shell script")
def test_the_bench_runs_without_the_peers() -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--no-peers"], capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr
    for title in (
        "Cached token, fresh process",
        "Hot call, token in memory",
        "Login: process start to browser opened",
        "Login: redirect's arrival to tokens on disk, TLS",
        "Stampede, expired token, 50 threads",
        "Stampede, expired token, 200 tasks",
        "Stampede, expired token, 2 processes",
    ):
        assert title in done.stdout
    # What does not depend on the machine's speed holds in the shortest run too.
    assert done.stdout.count("refreshes made by ours: 1.00, at most 1: met") == 3
    assert "calls of aget_token() that left the loop: 0.00, at most 0: met" in done.stdout
