"""Processes, pipes and files as only Windows has them."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Make
from webex_loopback import log_in
from webex_loopback.login.certificate import FILE, HOSTS, server_context
from webex_loopback.sandbox import Person
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

CLI = [sys.executable, "-m", "webex_loopback"]
NAME = "山田 花子"


def run(*arguments: str, **options: Any) -> Any:
    return subprocess.run([*CLI, *arguments], **{"capture_output": True, "timeout": 40} | options)


@pytest.fixture
def hanako(redirect_uri: str, store: FileTokenStore) -> FileTokenStore:
    """The default profile, logged in by someone whose name is not in code page 1252."""
    log_in(open_browser=Person("hanako.yamada@example.com").visit)
    return store


# The command line


@pytest.mark.parametrize("arguments", [["status"], ["status", "--all"], ["whoami"]])
def test_json_is_the_same_whatever_the_code_page(hanako: FileTokenStore, arguments: list[str]) -> None:
    done = run(*arguments, "--json", env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr
    assert NAME in json.dumps(json.loads(done.stdout.decode("ascii")), ensure_ascii=False)


@pytest.mark.parametrize("options", [[], ["--min-validity", "1h"], ["--format", "env"]])
def test_a_shell_gets_a_token_without_carriage_return(logged_in: StoredToken, options: list[str]) -> None:
    assert run("token", *options).stdout.endswith(logged_in.access_token.get_secret_value().encode() + b"\n")


def test_messages_survive_a_code_page_without_the_users_name(hanako: FileTokenStore) -> None:
    done = run("status", env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"hanako.yamada@example.com" in done.stdout
    done = run("doctor", "--offline", env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert (done.stdout[:8], b"\n?" in done.stdout) == (b"+ Python", False)


@pytest.mark.parametrize("arguments", [["token"], ["status"], ["status", "--json"], ["--help"], ["completion", "zsh"]])
def test_a_closed_pipe_ends_a_command_without_a_traceback(logged_in: StoredToken, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, stdout=writer, stderr=subprocess.PIPE, capture_output=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_login_ends_all_lines_alike_and_knows_that_nul_is_not_a_terminal(redirect_uri: str, browser: None) -> None:
    done = run("login", stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert b"Logged in as Alex Morgan" in done.stderr
    assert done.stderr.count(b"\n") == done.stderr.count(b"\r\n") > 5
    assert b"paste" not in done.stderr


def test_an_interrupt_ends_a_waiting_login_without_a_console(redirect_uri: str) -> None:
    program = (
        "import _thread, threading, time\n"
        "from webex_loopback import log_in\n"
        "def interrupt():\n"
        "    time.sleep(1); print(time.time(), flush=True); _thread.interrupt_main()  # as ipykernel does\n"
        "def opened(url):\n"
        "    threading.Thread(target=interrupt, daemon=True).start()\n"
        "try: log_in(open_browser=opened)\n"
        "except KeyboardInterrupt: print(time.time(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=40, stdin=subprocess.DEVNULL)
    sent, ended = map(float, done.stdout.split())
    assert ended - sent < 3, done.stderr


# exec


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged_in: StoredToken) -> Path:
    """A batch file on PATH that passes its arguments on, as npm.cmd does; also under the name python."""
    (tmp_path / "bin").mkdir()
    show = tmp_path / "bin" / "show.py"
    show.write_text("import os, sys; print([*sys.argv[1:], os.environ['WEBEX_ACCESS_TOKEN']]); sys.exit(7)")
    for name in ("npm.cmd", "python.bat"):
        (tmp_path / "bin" / name).write_text(f'@"{sys.executable}" "%~dp0show.py" %*\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'};{os.environ['PATH']}")
    return show


@pytest.mark.parametrize("name", ["npm", "NPM.CMD", "python"])
def test_exec_finds_commands_by_path_and_pathext(npm: Path, logged_in: StoredToken, name: str) -> None:
    given = ["a b", "c&calc", 'say "hi"', "^x|y>z", "ends\\", ""]
    done = run("exec", "--", name, *given)
    assert done.stdout.decode().strip() == str([*given, logged_in.access_token.get_secret_value()])
    assert done.returncode == 7


def test_exec_does_not_run_what_is_in_the_current_directory(npm: Path) -> None:
    Path("tool.bat").write_text("@exit /b 0\n")
    assert run("exec", "--", "tool").returncode == 127
    assert run("exec", "--", ".\\tool.bat").returncode == 0


def test_exec_returns_the_exit_code_of_a_crash(logged_in: StoredToken) -> None:
    done = run("exec", "--", sys.executable, "-c", "import os; os._exit(0xC0000005 - (1 << 32))")
    assert done.returncode & 0xFFFFFFFF == 0xC0000005


# Files that other programs hold open


def hold(path: str) -> None:
    """Keep a file open for a second, as a virus scanner does."""
    opened = threading.Event()

    def scan() -> None:
        with open(path, "rb"):
            opened.set()
            time.sleep(1)

    threading.Thread(target=scan).start()
    assert opened.wait(5)


def test_a_save_waits_for_a_program_that_holds_the_file(store: FileTokenStore, save: Make) -> None:
    save("first")
    hold(store.path)
    began = time.monotonic()
    second = save("second")
    assert 0.5 < time.monotonic() - began < 5
    assert store.load() == second


def test_deleting_and_setting_aside_wait_too(store: FileTokenStore, save: Make) -> None:
    for action in (store.delete, lambda: store.set_aside("corrupt")):
        save()
        hold(store.path)
        assert action()
        assert not os.path.exists(store.path)


def test_a_new_certificate_waits_too(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    server_context(folder=folder, hosts=HOSTS)
    path = tmp_path / "data" / FILE
    path.write_text("not a certificate")
    hold(str(path))
    server_context(folder=folder, hosts=HOSTS)
    assert path.read_text().startswith("-----BEGIN")
