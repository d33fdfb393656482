"""`python -m webex_loopback.sandbox`: its output, its options, the settings file."""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import Output, Patch
from webex_loopback.sandbox import FAULTS, Sandbox, Switches
from webex_loopback.sandbox.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses signals, file modes and FIFOs of POSIX")


@contextmanager
def command(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """Run the sandbox; give its process and the settings on its stdout."""
    argv = [sys.executable, "-m", "webex_loopback.sandbox", "--port", "0", *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, dict(process.stdout.readline().rstrip("\n").split("=", 1) for _ in range(5))
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_settings_and_a_guide_logs_requests_without_secrets_and_exits_with_0(
    number: signal.Signals, certificate: tuple[str, str]
) -> None:
    options = ["--expires-in", "60", "--rotate", "--switch", "omit=scope"]
    with command(*options, "--tls-cert", certificate[0], "--tls-key", certificate[1]) as (process, settings):
        base_url = settings["WEBEX_API_BASE_URL"]
        form = {"client_id": settings["WEBEX_CLIENT_ID"], "client_secret": settings["WEBEX_CLIENT_SECRET"]}
        form |= {"grant_type": "refresh_token", "refresh_token": "some-token-of-no-value"}
        with httpx.Client(trust_env=False, verify=False, base_url=base_url) as client:
            switches = client.get(f"{base_url.removesuffix('/v1')}/_sandbox/switches").json()
            assert (switches["expires_in"], switches["rotation"], switches["omit"]) == (60, True, ["scope"])
            client.post("/access_token", data=form)
            client.post("/access_token", data={"grant_type": "evil\nline"})
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (0, "")
    guide, _, log = stderr.partition("Requests:\n")
    log, _, end = log.partition("\n\n")
    assert all(len(line) <= 60 or re.match(r"export |\$env:|http", line) for line in guide.splitlines())
    exports = [shlex.split(line)[1] for line in guide.splitlines() if line.startswith("export ")]
    assert dict(line.split("=", 1) for line in exports) == settings
    assert f"$env:WEBEX_SCOPES = '{settings['WEBEX_SCOPES']}'" in guide
    assert f"{base_url}/authorize?client_id=" in guide
    paths = [line.split(maxsplit=1)[1] for line in log.splitlines()]
    token_requests = ["POST /v1/access_token refresh_token 400", "POST /v1/access_token 400"]
    assert (paths, end) == (["GET /_sandbox/switches 200", *token_requests], "Stopped.\n")


def test_a_signal_that_was_ignored_before_stays_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by nohup
    try:
        with command() as (process, _):
            process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.5)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_the_settings_file_is_private_and_deleted_at_the_end_unless_somebody_replaced_it(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.env"
    for end in (signal.SIGKILL, signal.SIGTERM):  # the second one finds what the first has left
        with command("--settings", str(path)) as (process, settings):
            mark, *lines = path.read_text().splitlines()
            assert (mark[0], dict(line.split("=", 1) for line in lines)) == ("#", settings)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            process.send_signal(end)
            process.wait(10)
        assert path.exists() is (end == signal.SIGKILL)
    with command("--settings", str(path)) as (process, _):
        path.unlink()
        path.write_text("mine")
        process.terminate()
        process.wait(10)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "make", [os.link, os.symlink, lambda kept, path: os.mkfifo(path)], ids=["file", "link", "fifo"]
)
def test_a_file_that_no_sandbox_created_is_neither_overwritten_nor_deleted(
    tmp_path: Path, make: Callable[[Path, Path], None], capsys: Output
) -> None:
    path, kept = tmp_path / "mine", tmp_path / "kept"
    kept.write_text("mine")
    make(kept, path)
    before = os.lstat(path)
    assert main(["--port", "0", "--settings", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert (os.path.samestat(before, os.lstat(path)), kept.read_text()) == (True, "mine")


@pytest.mark.parametrize(
    "wrong",
    ["--fault=quake", "--switch=rotate=on", "--port=65536", "--host=::", "--tls-cert=c", "--tls-cert=c --tls-key=c"],
)
def test_it_says_what_is_wrong_with_its_options(wrong: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong.split())
    error = capsys.readouterr().err
    assert (ended.value.code, error.startswith("webex-loopback sandbox: "), "sage: " in error) == (2, True, False)
    assert "`webex-loopback sandbox --help`" in error


def test_it_says_that_the_port_is_in_use_and_its_help_lists_all_switches_and_faults(
    capsys: Output, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with Sandbox() as sandbox:
        assert main(["--port", str(sandbox.port)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("127.0.0.1"), "--port" in captured.err) == ("", 1, True)
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert (text.startswith("Usage: "), [line for line in text.splitlines() if len(line) > 80]) == (True, [])
    guide = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    assert all(f"\n  {name}" in text and f"\n| `{name}` |" in guide for name in (*Switches().as_dict(), *FAULTS))
