"""The real command in a real terminal: what is shown and typed there, and how the terminal is left."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.login.visitors import Elsewhere
from webex_loopback.sandbox import Person, Sandbox

pexpect = pytest.importorskip("pexpect")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="terminals and signals as POSIX has them"),
]

CAP_NET_BIND_SERVICE = 10  # linux/capability.h
COMMAND = [sys.executable, "-m", "webex_loopback"]


def without_privileged_ports() -> None:
    """Be root without that privilege, from the next exec on; nothing changes for other users."""
    pr_capbset_drop = 24
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, CAP_NET_BIND_SERVICE, 0, 0, 0) == 0


def privileged(port: int) -> bool:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return first.exists() and int(first.read_text()) > port


needs_privileged_ports = pytest.mark.skipif(not privileged(443), reason="Here anybody may open port 443.")


class Terminal:
    """The command in a terminal of its own, run by a shell that prints the terminal's mode before and after."""

    def __init__(self, *arguments: str, columns: int = 80, preexec: Callable[[], None] | None = None) -> None:
        # `trap :` keeps the shell alive at Ctrl-C and Ctrl-\, and is not handed down.
        script = 'trap : INT QUIT; stty -g; "$@"; echo "code=$?"; stty -g'
        self.child: Any = pexpect.spawn(
            "/bin/sh",
            ["-c", script, "sh", *COMMAND, *arguments],
            dimensions=(40, columns),
            encoding="utf-8",
            timeout=30,
            env=os.environ | {"TERM": "xterm-256color"},
            preexec_fn=preexec,
        )
        self.child.expect(r"([0-9a-f:]+)\r\n")
        self.mode = self.child.match[1]
        self.text = ""

    def expect(self, pattern: str) -> "re.Match[str]":
        self.child.expect(pattern)
        self.text += self.child.before + self.child.after
        match: re.Match[str] = self.child.match
        return match

    def url(self, path: str) -> str:
        """Return the URL that is shown."""
        return self.expect(rf"  (?:\x1b\S*m)?(http[^\s\x1b]*{path}[^\s\x1b]*)")[1]

    def ready(self) -> None:
        """Wait until it reads the keyboard."""
        self.expect("left")
        time.sleep(0.3)

    def end(self, code: int) -> str:
        """Wait for the end; return all that was shown. The terminal must be as it was."""
        shown = self.expect(r"code=(\d+)\r\n([0-9a-f:]+)\r\n")
        assert int(shown[1]) == code, self.text
        assert shown[2] == self.mode
        self.child.expect(pexpect.EOF)
        assert "Traceback" not in self.text
        # No status line is left: whatever waits has been erased.
        last = [line.split("\x1b[2K")[-1] for line in self.text.split("\r\n")]
        assert [line for line in last if " left" in line] == []
        return self.text


@pytest.fixture
def terminal(sandbox: Sandbox, redirect_uri: str) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*arguments: str, **options: Any) -> Terminal:
        terminals.append(Terminal(*arguments, **options))
        return terminals[-1]

    yield start
    for one in terminals:
        one.child.close(force=True)


def assert_no_secrets(text: str, sandbox: Sandbox) -> None:
    assert [secret for secret in sandbox.secrets if secret in text] == []


# Keys


def test_pasting_the_url(
    terminal: Callable[..., Terminal], sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over SSH: no browser here; the whole URL and the tunnel are shown, other things pasted are answered."""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = terminal("login")
    login.expect("No browser was opened: this is an SSH session")
    login.url("/start/")
    login.expect(rf"ssh -L {urlsplit(redirect_uri).port}:127.0.0.1:")
    url = login.url("/v1/authorize")
    login.ready()
    final = Person().visit(url).url  # refused here, because this browser did not open the start URL
    code, state = (parse_qs(urlsplit(final).query)[name][0] for name in ("code", "state"))

    login.child.send("what is this\r")
    login.expect("text without")
    login.child.send(f"{redirect_uri}?code={code}&state={'f' * 43}\r")
    login.expect("the wrong state")
    login.child.send(f"\x1b[200~{final}&more={'x' * 6000}\x1b[201~\r")
    shown = login.end(0)
    assert "Received the response from Webex" in shown
    assert "Logged in as Alex Morgan" in shown
    assert_no_secrets(shown, sandbox)
    assert code not in shown
    assert shown.count(state) == 1  # in the URL that was shown


def test_o_opens_a_new_link(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """The URL in a browser's command line works once, so that a second one is needed."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\ntest "$(wc -l < {opened})" -ne 2\n')
    browser.chmod(0o755)
    login = terminal("login", "--browser", str(browser))
    login.ready()
    login.child.send("o")
    login.expect("Could not open browser. Open the URL yourself.")
    login.child.send("O")
    deadline = time.monotonic() + 10
    while len(opened.read_text().split()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    urls = opened.read_text().split()
    assert len(set(urls)) == 3
    assert Person().visit(urls[0]).status == 410
    login.expect("opened a second time")
    Person().visit(urls[2])
    assert "Logged in as" in login.end(0)


@needs_privileged_ports
def test_a_privileged_port(terminal: Callable[..., Terminal]) -> None:
    """The usual tutorial's https://127.0.0.1/: nobody listens, and the URL is pasted."""
    arguments = ("--redirect-uri", "https://127.0.0.1/", "--no-browser")
    login = terminal("login", *arguments, preexec=without_privileged_ports)
    login.expect("Only privileged programs can listen on port 443")
    url = login.url("/v1/authorize")
    final = Elsewhere().visit(url).url
    assert final.startswith("https://127.0.0.1/?code=")
    login.ready()
    login.child.send("o")
    login.expect("No browser was opened")
    login.child.send(f"{final}\r")
    assert "Logged in as" in login.end(0)


# How it ends


@pytest.mark.parametrize("arguments", [("--no-browser",), ("--device",)])
def test_ctrl_c_while_it_waits(terminal: Callable[..., Terminal], arguments: tuple[str, ...]) -> None:
    login = terminal("login", *arguments)
    login.ready()
    begun = time.monotonic()
    login.child.sendintr()
    assert "Cancelled." in login.end(130)
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGQUIT, 131), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_every_signal_restores_the_terminal(
    terminal: Callable[..., Terminal], number: signal.Signals, code: int, redirect_uri: str
) -> None:
    login = terminal("login", "--no-browser")
    login.ready()
    port = urlsplit(redirect_uri).port or 0
    listening = subprocess.run(
        [sys.executable, "-c", f"from webex_loopback.login.listener import port_owner; print(port_owner({port}))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    os.kill(int(listening.rpartition("(pid ")[2].strip(")\n")), number)
    login.end(code)


# Job control, with a real shell

JOB = """
import time
from concurrent.futures import Future
from webex_loopback.login.paste import Keyboard
from webex_loopback.login.progress import Progress
login = Future()
def on_line(line):
    print("GOT", len(line), flush=True)
    if len(line) > 10:
        login.set_result(None)
    return False
with Progress() as display:
    display.step("a", "Waiting", "doing")
    display.start(time.time() + 100)
    print("READY", flush=True)
    Keyboard(on_stop=display.erase).watch(login, on_line)
print("END")
"""
SECRET = "http://127.0.0.1:8765/callback?code=s3cr3t&state=abc"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Any]:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    environ = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", "PS1": "ready> ", "JOB": str(job)}
    shell = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environ, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    yield shell
    shell.close(force=True)


def test_stopped_and_continued_it_reads_on_unseen(shell: Any) -> None:
    shell.sendline(f"{sys.executable} $JOB")
    shell.expect("READY")
    shell.expect("left")
    shell.send("o")
    shell.expect("GOT 1")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.sendline("stty -a | grep -c '[^-]icanon.*[^-]echo '")
    shell.expect(r"[\r\n]1\r\n")
    shell.sendline("fg")
    shell.expect("left")
    time.sleep(0.5)
    shell.send(SECRET + "\r")
    shell.expect(f"GOT {len(SECRET)}")
    assert "s3cr3t" not in (shell.before or "")
    shell.expect("END")
    shell.sendline("stty -a | grep -c '[^-]icanon.*[^-]echo '")
    shell.expect(r"[\r\n]1\r\n")


def test_a_background_job_leaves_the_terminal_to_the_shell(shell: Any) -> None:
    shell.sendline(f"{sys.executable} $JOB &")
    shell.expect("READY")
    shell.sendline("echo typed-$((40 + 2)); jobs")
    shell.expect("typed-42")
    shell.expect("Running")
    shell.sendline("fg")
    time.sleep(1)
    shell.send(SECRET + "\r")
    shell.expect(f"GOT {len(SECRET)}")
    assert "s3cr3t" not in (shell.before or "")
    shell.expect("END")
