"""`exec`: the token in the environment, signals and exit codes, on POSIX and as on Windows."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.conftest import Make, Output, Patch, Token, posix
from webex_loopback.cli.execute import batch_line, run_and_wait

from .conftest import command


@pytest.fixture(autouse=True)
def token(save: Make) -> Token:
    return save()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_command_gets_the_token_and_the_api_that_it_is_for_and_its_exit_code_is_returned(
    token: Token, tmp_path: Path, monkeypatch: Patch
) -> None:
    (tmp_path / "token").write_text("another")
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN_FILE", str(tmp_path / "token"))
    names = ["WEBEX_ACCESS_TOKEN", "WEBEX_API_BASE_URL", "WEBEX_ACCESS_TOKEN_FILE"]
    code = f"import os; print(*map(os.environ.get, {names})); raise SystemExit(7)"
    done = command("exec", "-p", "default", "--", *python(code))
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"access-token-one {token.api_base_url} None\n"


@pytest.mark.parametrize(
    ("name", "code"),
    [("no-such-command-here", 127), pytest.param(os.path.dirname(__file__), 126, marks=posix), ("", 2)],
)
def test_a_command_that_cannot_be_run(name: str, code: int) -> None:
    done = command("exec", "--", name)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert ("command not found" in done.stderr) == (code == 127)


@pytest.mark.parametrize("separator", [["--"], []])
def test_the_command_keeps_its_own_options(separator: list[str]) -> None:
    done = command("exec", *separator, *python("import sys; print(sys.argv[1:])"), "--debug", "-p", "x", "--help")
    assert done.stdout == "['--debug', '-p', 'x', '--help']\n"


def test_without_a_token_nothing_is_run(tmp_path: Path) -> None:
    done = command("exec", "-p", "nobody", "--", *python(f"open({str(tmp_path / 'ran')!r}, 'w')"))
    assert (done.returncode, (tmp_path / "ran").exists()) == (3, False)


@posix
def test_signals_reach_the_command() -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(42)); print(flush=True); time.sleep(20)"
    arguments = [sys.executable, "-m", "webex_loopback", "exec", "--", *python(code)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 42


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells which signals are ignored")
def test_ignored_signals_are_inherited_except_those_that_python_ignores() -> None:
    arguments = [sys.executable, "-m", "webex_loopback", "exec", "--", "grep", "SigIgn", "/proc/self/status"]
    done = subprocess.run(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *arguments], capture_output=True, text=True)
    ignored = int(done.stdout.split()[1], 16)
    assert [bool(ignored & 1 << number - 1) for number in (signal.SIGHUP, signal.SIGPIPE)] == [True, False]


def test_as_on_windows_the_command_is_found_by_path(capfd: Output) -> None:
    code = "import os, sys; print(os.environ['WEBEX_ACCESS_TOKEN'], flush=True); sys.exit(3)"
    assert run_and_wait(python(code), os.environ | {"WEBEX_ACCESS_TOKEN": "AT"}) == 3
    assert capfd.readouterr().out.split() == ["AT"]
    with pytest.raises(FileNotFoundError):
        run_and_wait(["no-such-command-here"], os.environ)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "work" / "npm.CMD").touch(0o755)
    return tmp_path / "work" / "npm.CMD"


def test_as_on_windows_the_current_directory_is_not_searched(script: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("PATH", os.curdir)
    with pytest.raises(FileNotFoundError, match="current directory"):
        run_and_wait([script.name], os.environ)


@posix
def test_as_on_windows_a_crash_keeps_its_code_and_cmd_runs_a_batch_file(script: Path, monkeypatch: Patch) -> None:
    calls = []

    def windows(line: str, executable: str, **_: object) -> subprocess.CompletedProcess[str]:
        calls.append((line, executable.replace("/", "\\")))
        return subprocess.CompletedProcess([], 0xC0000005)

    monkeypatch.setattr(subprocess, "run", windows)
    code = run_and_wait([str(script), "a&b"], {"SYSTEMROOT": r"C:\Windows"})
    assert (code < 0, code & 0xFFFFFFFF) == (True, 0xC0000005)
    assert calls == [(f'cmd.exe /e:ON /v:OFF /d /c ""{script}" "a&b""', r"C:\Windows\System32\cmd.exe")]


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [("", '""'), ("%PATH%", '"%%cd:~,%PATH%%cd:~,%"'), ('say "hi"', '"say ""hi"""'), ('\\"', '"\\\\"""')],
)
def test_arguments_of_a_batch_file_are_protected_from_cmd(argument: str, quoted: str) -> None:
    assert batch_line("x.cmd", [argument]) == f'cmd.exe /e:ON /v:OFF /d /c ""x.cmd" {quoted}"'
    with pytest.raises(click.UsageError):
        batch_line("x.cmd", [argument, "a\nb"])
