"""The command line as a whole: help, errors, exit codes, streams, signals."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from webex_loopback.cli.app import COMMANDS, RETIRED
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex.account import Account

from .conftest import Make, Run, command, posix


@pytest.mark.parametrize(
    ("argument", "shown"), [("--help", r"  init .*\n  login .*\n  token "), ("status", "Alex Morgan")]
)
def test_help_and_status_need_no_settings_and_no_http_client(save: Make, argument: str, shown: str) -> None:
    save()
    heavy = "{'httpx', 'aiohttp', 'pydantic', 'asyncio', 'webex_loopback.cli.login'} & set(sys.modules)"
    code = f"import sys; from webex_loopback.cli.app import main; main([{argument!r}]); print({heavy}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr, bool(re.search(shown, done.stdout, re.DOTALL))) == ("set()\n", True)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["login", "--nonsense"], ["token", "-p", ""], ["completion"]])
def test_wrong_usage_exits_with_2_and_names_the_help_command(run: Run, arguments: list[str]) -> None:
    out, err = run(*arguments, code=2)
    assert (out, "--help" in err) == ("", True)


@pytest.mark.parametrize("old", [[name] for name in RETIRED] + [["profile", "list"], ["logout", "--revoke"]])
def test_a_removed_command_names_its_replacement_in_one_line(run: Run, old: list[str]) -> None:
    told = run(*old, code=2).err
    assert (told.count("\n"), "webex-loopback " in told) == (1, True)


def test_an_error_has_a_remedy_and_a_traceback_only_with_debug(run: Run) -> None:
    told = run("token", "--refresh", "-p", "work", code=3).err
    assert ("`webex-loopback login -p work`" in told, "Traceback" in told) == (True, False)
    done = command("token", "--refresh", "--debug")
    assert (done.returncode, "Traceback" in done.stderr) == (3, True)
    assert "Traceback" not in command("status", "-p", "work").stderr


def test_a_bug_is_reported_like_any_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "broken", ("app.\x1b[31m", ""))
    told = run("broken", code=1).err
    assert ("Unexpected error: AttributeError" in told, "--debug" in told, "\x1b" in told) == (True, True, False)


@posix
@pytest.mark.parametrize("arguments", [["token"], ["token", "--json"], ["--help"]])
def test_a_stdout_that_cannot_be_written_ends_without_a_traceback(save: Make, arguments: list[str]) -> None:
    save()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed_pipe, open("/dev/full", "wb") as full:
        for stdout, said in ((closed_pipe, ""), (full, "No space left on device")):
            done = command(*arguments, stdout=stdout, stderr=subprocess.PIPE, capture_output=False)
            assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False)


@posix
@pytest.mark.parametrize(("redirection", "code"), [(">&-", 0), ("2>&-", 0), ("-p x 2>&-", 3), ("-p x 2>/dev/full", 3)])
def test_a_closed_or_full_stream_changes_no_exit_code(save: Make, redirection: str, code: int) -> None:
    save()
    script = f"{sys.executable} -m webex_loopback token {redirection}"
    assert subprocess.run(["sh", "-c", script], stdout=subprocess.DEVNULL).returncode == code


@posix
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_names_beyond_the_locale_and_broken_arguments_end_without_a_traceback(save: Make, encoding: str) -> None:
    save(account=Account(name="山田 花子", email="hanako@example.com"))
    environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    for arguments, code in ((["status"], 0), (["token", "-p", "\udcff"], 2), (["\udcff\x1b[31m"], 2)):
        done = command(*arguments, env=environ, encoding="utf-8", errors="replace")
        assert (done.returncode, "Traceback" in done.stderr, "\x1b" in done.stderr) == (code, False, False)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", 1)])
def test_a_signal_waits_for_the_new_tokens_to_be_stored(
    logged_in: StoredToken, make_due: Make, sandbox: Sandbox, store: FileTokenStore, number: int
) -> None:
    make_due()
    sandbox.switches.rotation, sandbox.switches.answer_latency = True, 1.0
    child = subprocess.Popen([sys.executable, "-m", "webex_loopback", "token"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while sandbox.count("refresh_token") == 0 and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(number)
    _, told = child.communicate(timeout=20)
    assert (child.returncode, "Traceback" in told) == (128 + number, False)
    assert told == "Waiting for the renewal to finish, at most 30 s, so that the login is not lost.\n\nCancelled.\n"
    renewed = store.load()
    assert renewed is not None
    assert renewed.refresh_token != logged_in.refresh_token


@pytest.mark.parametrize(
    ("words", "offered"), [("webex-loopback lo", "login"), ("webex-loopback status --profile w", "work")]
)
def test_completion_knows_commands_and_profiles(run: Run, save: Make, words: str, offered: str) -> None:
    save("work")
    for shell in ("bash", "zsh", "fish"):
        assert "_WEBEX_LOOPBACK_COMPLETE" in run("completion", shell).out
    environ = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = command(env=os.environ | environ | {"_WEBEX_LOOPBACK_COMPLETE": "bash_complete"})
    assert f"plain,{offered}" in done.stdout


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_the_completion_of_zsh_loads_without_compinit(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text(f"{run('completion', 'zsh').out}\nprint $_comps[webex-loopback]\n")
    environ = os.environ | {"ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    done = subprocess.run(
        ["zsh", "-dic", "true"], env=environ, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.stdout, done.stderr) == ("_webex_loopback_completion\n", "")


def test_the_sandbox_command_passes_everything_on(run: Run, tmp_path: Path) -> None:
    assert "Usage: webex-loopback sandbox" in run("sandbox", "--help").out
    run("sandbox", "--port", "70000", code=2)
