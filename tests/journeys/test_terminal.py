"""The real command in a real terminal: what is shown and typed there, and how the terminal is left."""

import contextlib
import ctypes
import io
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.journeys.attack import wait_until
from tests.login.visitors import Elsewhere
from webex_loopback.sandbox import Person, Sandbox

pexpect = pytest.importorskip("pexpect", reason="pexpect is for POSIX, as the terminals and signals are")

pytestmark = pytest.mark.slow

CAP_NET_BIND_SERVICE = 10  # linux/capability.h
COMMAND = [sys.executable, "-m", "webex_loopback"]


def without_privileged_ports() -> None:
    """Be root without that privilege, from the next exec on; nothing changes for other users."""
    pr_capbset_drop, cap_net_bind_service = 24, 10  # linux/prctl.h, linux/capability.h
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, cap_net_bind_service, 0, 0, 0) == 0


def privileged(port: int) -> bool:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return first.exists() and int(first.read_text()) > port


def url(child: Any, path: str) -> str:
    """Return the URL that is shown."""
    child.expect(rf"  (?:\x1b\S*m)?(http[^\s\x1b]*{path}[^\s\x1b]*)")
    shown: str = child.match[1]
    return shown


class Terminal:
    """The command in a terminal of its own, run by a shell that prints the terminal's mode before and after."""

    def __init__(self, *arguments: str, preexec: Callable[[], None] | None = None) -> None:
        # `trap :` keeps the shell alive, and is not handed down.
        script = 'trap : INT QUIT TERM HUP; stty -g; "$@"; echo "code=$?"; stty -g'
        self.child: Any = pexpect.spawn(
            "/bin/sh",
            ["-c", script, "sh", *COMMAND, *arguments],
            dimensions=(40, 80),
            encoding="utf-8",
            timeout=30,
            env=os.environ | {"TERM": "xterm-256color"},
            preexec_fn=preexec,
        )
        self.child.logfile_read = io.StringIO()
        self.expect, self.send = self.child.expect, self.child.send
        self.expect(r"([0-9a-f:]+)\r\n")
        self.mode = self.child.match[1]

    def ready(self) -> None:
        """Wait until it reads the keyboard."""
        self.expect("left")
        time.sleep(0.3)

    def end(self, code: int) -> str:
        """Wait for the end; return all that was shown. The terminal must be as it was."""
        self.expect(r"code=(\d+)\r\n([0-9a-f:]+)\r\n")
        text: str = self.child.logfile_read.getvalue()
        assert (int(self.child.match[1]), self.child.match[2]) == (code, self.mode), text
        self.expect(pexpect.EOF)
        assert "Traceback" not in text
        # No status line is left: whatever waits has been erased.
        last = [line.split("\x1b[2K")[-1] for line in text.split("\r\n")]
        assert [line for line in last if " left" in line] == []
        return text


@pytest.fixture
def terminal(sandbox: Sandbox, redirect_uri: str) -> Iterator[Callable[..., Terminal]]:
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options: Any) -> Terminal:
            terminal = Terminal(*arguments, **options)
            stack.callback(terminal.child.close, force=True)
            return terminal

        yield start


# Keys


def test_pasting_the_url(
    terminal: Callable[..., Terminal], sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over SSH: no browser here; the whole URL and the tunnel are shown, other things pasted are answered."""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = terminal("login")
    login.expect("No browser was opened: this is an SSH session")
    url(login.child, "/start/")
    login.expect(rf"ssh -L {urlsplit(redirect_uri).port}:127.0.0.1:")
    authorize_url = url(login.child, "/v1/authorize")
    login.ready()
    final = Person().visit(authorize_url).url  # refused here, because this browser did not open the start URL
    code, state = (parse_qs(urlsplit(final).query)[name][0] for name in ("code", "state"))

    login.send("what is this\r")
    login.expect("text without")
    login.send(f"{redirect_uri}?code={code}&state={'f' * 43}\r")
    login.expect("the wrong state")
    login.send(f"\x1b[200~{final}&more={'x' * 6000}\x1b[201~\r")
    shown = login.end(0)
    assert "Received the response from Webex" in shown
    assert "Logged in as Alex Morgan" in shown
    assert [secret for secret in sandbox.secrets if secret in shown] == []
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
    login.send("o")
    login.expect("Could not open browser. Open the URL yourself.")
    login.send("O")
    wait_until(lambda: len(opened.read_text().split()) == 3)
    urls = opened.read_text().split()
    assert len(set(urls)) == 3
    assert Person().visit(urls[0]).status == 410
    login.expect("opened a second time")
    Person().visit(urls[2])
    assert "Logged in as" in login.end(0)


@pytest.mark.skipif(not privileged(443), reason="Here anybody may open port 443.")
def test_a_privileged_port(terminal: Callable[..., Terminal]) -> None:
    """The usual tutorial's https://127.0.0.1/: nobody listens, and the URL is pasted."""
    arguments = ("--redirect-uri", "https://127.0.0.1/", "--no-browser")
    login = terminal("login", *arguments, preexec=without_privileged_ports)
    login.expect("Only privileged programs can listen on port 443")
    authorize_url = url(login.child, "/v1/authorize")
    final = Elsewhere().visit(authorize_url).url
    assert final.startswith("https://127.0.0.1/?code=")
    login.ready()
    login.send("o")
    login.expect("No browser was opened")
    login.send(f"{final}\r")
    assert "Logged in as" in login.end(0)


# How it ends


@pytest.mark.parametrize(
    ("way", "how", "code"),
    [
        ("--no-browser", "c", 130),
        ("--device", "c", 130),
        ("--no-browser", "\\", 131),
        ("--no-browser", signal.SIGTERM, 143),
        ("--no-browser", signal.SIGHUP, 129),
    ],
)
def test_every_key_and_signal_that_ends_it_while_it_waits_restores_the_terminal(
    terminal: Callable[..., Terminal], way: str, how: Any, code: int
) -> None:
    login = terminal("login", way)
    login.ready()
    begun = time.monotonic()
    if isinstance(how, str):
        login.child.sendcontrol(how)
    else:
        os.killpg(login.child.pid, how)
    shown = login.end(code)
    assert time.monotonic() - begun < 4
    assert how != "c" or "Cancelled." in shown


# Job control, with a real shell


@pytest.fixture
def shell(redirect_uri: str) -> Iterator[Any]:
    """A shell where a login shows the URL that is to be opened elsewhere, as over SSH."""
    environ = {
        **os.environ,
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "PS1": "ready> ",
        "LOGIN": f"{shlex.join(COMMAND)} login",
    }
    environ["SSH_CONNECTION"] = "192.0.2.1 50000 192.0.2.2 22"
    shell = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environ, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    yield shell
    shell.close(force=True)


def paste(shell: Any, url: str) -> None:
    """Paste what a browser ends on; the code must not be seen."""
    pasted = Person().visit(url).url
    shell.send(f"{pasted}\r")
    shell.expect("Logged in as")
    assert parse_qs(urlsplit(pasted).query)["code"][0] not in shell.before


def test_after_ctrl_z_and_fg_it_still_reads_without_echo(shell: Any) -> None:
    shell.sendline("$LOGIN")
    shown = url(shell, "/v1/authorize")
    shell.expect("left")
    shell.send("o")
    shell.expect("No browser was opened")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.sendline("stty -a | grep -c '[^-]icanon.*[^-]echo '")
    shell.expect(r"[\r\n]1\r\n")
    shell.sendline("fg")
    shell.expect("left")
    time.sleep(0.5)
    paste(shell, shown)
    shell.sendline("stty -a | grep -c '[^-]icanon.*[^-]echo '")
    shell.expect(r"[\r\n]1\r\n")


def test_a_background_job_leaves_the_terminal_to_the_shell(shell: Any) -> None:
    shell.sendline("$LOGIN &")
    shown = url(shell, "/v1/authorize")
    shell.expect("Listening")
    shell.sendline("echo typed-$((40 + 2)); jobs")
    shell.expect("typed-42")
    shell.expect("Running")
    shell.sendline("fg")
    time.sleep(1)
    paste(shell, shown)
