import getpass
import os
import socket
import stat
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import pytest

from webex_loopback.login.browser import Choice, Opener, find, open_url, ssh_hint

URL = "http://127.0.0.1:8765/start/x?a=1&b=%3B#'\"$(touch%20boom)`"

posix = pytest.mark.skipif(sys.platform == "win32", reason="browsers are shell scripts here")


class Machine:
    """A desktop that is neither WSL nor a container, with a display and nothing on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.root = folder / "bin", folder / "root"
        self.bin.mkdir()
        (self.root / "proc").mkdir(parents=True)
        (self.root / "proc/version").write_text("Linux version 6.1.0 (gcc) #1 SMP")

    def install(self, name: str, body: str = "exit 0") -> str:
        """Put a shell script on the PATH, or elsewhere."""
        if sys.platform == "win32":
            pytest.skip("browsers are shell scripts here")
        path = self.root / name[1:] if name[0] == "/" else self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def choose(self, command: str = "", *, platform: str = "linux", **environ: str) -> Choice:
        environ = {"PATH": str(self.bin), "DISPLAY": ":0"} | environ
        return find(environ, command, platform=platform, root=str(self.root))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# Which

SSH, TTY, CODE = {"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, {"SSH_TTY": "/dev/pts/0"}, {"VSCODE_IPC_HOOK_CLI": "x"}
SPACES, CONTAINER, NOWHERE = {"CODESPACES": "x"}, {"REMOTE_CONTAINERS": "x"}, {"DISPLAY": ""}
WSL, FIREFOX, LYNX, GONE = ({"WSL_DISTRO_NAME": "Ubuntu"}, *({"BROWSER": name} for name in ("firefox", "lynx", "gone")))
EXPLORER = "/mnt/c/Windows/explorer.exe"


@pytest.mark.parametrize(
    ("installed", "environ", "command", "chosen", "why"),
    [
        # The system's default before any browser; a display of either kind.
        ("", {}, "", None, "no graphical browser was found on PATH"),
        ("firefox", {}, "", "firefox", "found on PATH"),
        ("firefox xdg-open", {}, "", "xdg-open", "found on PATH"),
        ("firefox", NOWHERE | {"WAYLAND_DISPLAY": "wayland-0"}, "", "firefox", "found on PATH"),
        ("firefox", NOWHERE, "", None, "this session has no display"),
        ("firefox /.dockerenv", NOWHERE, "", None, "this container has no display"),
        ("firefox /run/.containerenv", NOWHERE, "", None, "this container has no display"),
        # Over SSH, only a command that names one.
        ("firefox", SSH | FIREFOX, "", None, "this is an SSH session"),
        ("firefox", TTY | FIREFOX, "", None, "this is an SSH session"),
        ("firefox", SSH, "firefox", "firefox", "--browser"),
        # A remote workspace opens the local browser by its own command.
        *(("firefox", place, "", None, "a remote workspace") for place in (SSH | CODE, SPACES, CONTAINER)),
        *(("firefox gone", place | GONE, "", "gone", "$BROWSER") for place in (SSH | CODE, SPACES, CONTAINER)),
        # WSL: wslview, then explorer, then a Linux browser.
        ("firefox", WSL, "", "firefox", "found on PATH"),
        (f"firefox {EXPLORER}", WSL, "", EXPLORER, "WSL"),
        (f"firefox {EXPLORER} explorer.exe", WSL, "", "explorer.exe", "WSL"),
        (f"firefox {EXPLORER} explorer.exe wslview", WSL | NOWHERE, "", "wslview", "WSL"),
        # $BROWSER is a list; what it names in vain is passed over, but not in silence.
        ("lynx", LYNX, "", None, "'lynx' ($BROWSER) is a text browser"),
        ("lynx firefox", LYNX, "", "firefox", "found on PATH"),
        ("", {"BROWSER": "/nowhere/x\x1b[2J"}, "", None, "'/nowhere/x[2J' ($BROWSER) was not found"),
        # A command is not replaced.
        ("lynx firefox", {}, "lynx %s", None, "'lynx' (--browser) is a text browser"),
        ("firefox", {}, "gone -x", None, "'gone' (--browser) was not found"),
        ("firefox", {}, "un'closed", None, "was not found"),
        ("firefox", {}, "  ", None, "'' (--browser) was not found"),
        ("firefox", {}, "&", None, "'&' (--browser) was not found"),
    ],
)
def test_which_browser_is_opened(
    machine: Machine, installed: str, environ: dict[str, str], command: str, chosen: str | None, why: str
) -> None:
    paths = {name: machine.install(name) for name in installed.split()}
    choice = machine.choose(command, **environ)
    assert choice.argv == (None if chosen is None else [paths[chosen]])
    assert why in choice.reason
    assert bool(choice.skipped) == (environ.get("BROWSER") == "lynx" and chosen is not None)


def test_macos_passes_the_url_in_a_file(machine: Machine) -> None:
    default = Choice(["/usr/bin/open"], "the default browser", "macOS", by_file=True)
    assert machine.choose(platform="darwin") == default
    assert machine.choose(platform="darwin", BROWSER="Safari").argv == ["/usr/bin/open", "-a", "Safari"]
    assert machine.choose(machine.install("firefox"), platform="darwin").by_file


def test_a_text_browser_is_known_by_a_link_too(machine: Machine) -> None:
    os.symlink(machine.install("w3m"), machine.bin / "x-www-browser")
    assert machine.choose().argv is None
    assert "text browser" in machine.choose("x-www-browser").reason


def test_a_browser_in_the_current_directory_is_not_run(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.install("firefox")
    monkeypatch.chdir(machine.bin)
    for command in ("firefox", ""):  # Windows always looks there
        assert machine.choose(command, PATH=os.curdir).argv is None


def test_browser_may_be_a_list_of_command_lines(machine: Machine) -> None:
    chrome = machine.install("my chrome")
    entries = ["", "w3m", "missing", "un'closed", " & ", f"'{chrome}' --new-window %s &", "firefox"]
    choice = machine.choose(BROWSER=os.pathsep.join(entries))
    assert (choice.argv, choice.name) == ([chrome, "--new-window", "%s"], "my chrome")
    assert machine.choose(chrome).argv == [chrome]  # a path with spaces needs no quotes


# How


@posix
def test_the_url_arrives_as_one_argument_and_no_shell_sees_it(machine: Machine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = machine.install("firefox", f'printf "%s\\n" "$#" "$@" > "{seen}"')
    assert open_url(Choice([fake], "firefox", ""), URL)
    assert seen.read_text().splitlines() == ["1", URL]
    assert open_url(Choice([fake, "--app=%s", "-x"], "firefox", ""), URL)
    assert seen.read_text().splitlines() == ["2", f"--app={URL}", "-x"]
    assert not list(tmp_path.glob("**/boom"))


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "javascript:alert(1)", "HTTP://x", "-http://x", "http://x y", "http://x\n", "http://é"],
)
def test_only_plain_http_urls_are_opened(machine: Machine, tmp_path: Path, url: str) -> None:
    fake = machine.install("firefox", f'touch "{tmp_path}/seen"')
    assert not open_url(Choice([fake], "firefox", ""), url)
    with closing(Opener(Choice([fake], "firefox", "", by_file=True))) as opener:
        assert not opener.open(url).result(5)
    assert not open_url(Choice(None, "", "no display"), URL)
    assert not (tmp_path / "seen").exists()


@posix
@pytest.mark.parametrize(
    ("name", "body", "opened"),
    [
        ("firefox", "exit 0", True),
        ("xdg-open", "sleep 0.2; exit 3", False),
        ("firefox", "kill -9 $$", False),
        ("explorer.exe", "exit 1", True),
        ("explorer.exe", "exit 2", False),
    ],
)
def test_an_immediate_failure_is_noticed(machine: Machine, name: str, body: str, opened: bool) -> None:
    assert Opener(Choice([machine.install(name, body)], name, "")).open(URL).result(5) is opened


@posix
def test_a_browser_that_keeps_running_is_not_waited_for_and_leaves_no_zombie(machine: Machine, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    fake = machine.install("firefox", f'echo $$ > "{pid}"; exec sleep 2.5')
    before = time.monotonic()
    assert open_url(Choice([fake], "firefox", ""), URL)
    assert 1.4 < time.monotonic() - before < 2.4
    process = int(pid.read_text())
    assert os.getsid(process) == process  # a session of its own: Ctrl-C here does not end it
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{process}" if sys.platform == "linux" else "/nowhere"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@posix
def test_the_browser_does_not_use_our_terminal_and_gets_none_of_our_secrets(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = ["WEBEX_CLIENT_SECRET", "webex_client_secret", "WEBEX_ACCESS_TOKEN", "WEBEX_REFRESH_TOKEN"]
    for name in [*secret, "WEBEX_TOKEN_STORE_KEY", "WEBEX_TOKEN_STORE", "WEBEX_PROXY_PASSWORD", "BROWSER"]:
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("WEBEX_CLIENT_ID", "C123")
    seen = tmp_path / "seen"
    fake = machine.install("firefox", f'echo noise; echo noise >&2; cat >> "{seen}"; env >> "{seen}"')
    assert open_url(Choice([fake], "firefox", ""), URL)
    assert "WEBEX_CLIENT_ID=C123" in seen.read_text()
    assert "hush" not in seen.read_text()
    assert capfd.readouterr() == ("", "")


@posix
def test_a_url_in_a_file_is_in_no_command_line_and_is_removed_afterwards(machine: Machine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = machine.install("open", f'printf "%s\\n" "$@" > "{seen}"')
    with closing(Opener(Choice([fake], "open", "", by_file=True))) as opener:
        assert opener.open(URL).result(5)
        path = Path(unquote(seen.read_text().strip().removeprefix("file://")))
        assert path.parent == tmp_path / "data"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "url=http://127.0.0.1:8765/start/x?a=1&amp;b=%3B#&#x27;&quot;$(touch%20boom)`" in path.read_text()
        path.unlink()  # gone already: no trouble
        assert opener.open("http://127.0.0.1/").result(5)
    assert list((tmp_path / "data").iterdir()) == []


# The way from another machine


@pytest.mark.parametrize(
    ("connection", "host", "line"),
    [
        ("10.0.0.1 50000 10.0.0.2 22", "127.0.0.1", "ssh -L 8765:127.0.0.1:8765 yuki@10.0.0.2"),
        ("10.0.0.1 50000 10.0.0.2 22", "localhost", "ssh -L 8765:localhost:8765 yuki@10.0.0.2"),
        ("10.0.0.1 50000 10.0.0.2 22", "::1", "ssh -L '[::1]:8765:[::1]:8765' yuki@10.0.0.2"),
        ("10.0.0.1 50000 10.0.0.2 22", "127.0.0.5", "ssh -L 127.0.0.5:8765:127.0.0.5:8765 yuki@10.0.0.2"),
        ("2001:db8::1 5 2001:db8::2 2222", "localhost", "ssh -L 8765:localhost:8765 -p 2222 yuki@2001:db8::2"),
        ("a b $(boom)\x1b[2J 22;x", "localhost", "ssh -L 8765:localhost:8765 -p '22;x' 'yuki@$(boom)[2J'"),
        ("", "localhost", f"ssh -L 8765:localhost:8765 yuki@{socket.gethostname()}"),
        ("fe80::1%eth0 5 fe80::2%eth0 22", "localhost", f"ssh -L 8765:localhost:8765 yuki@{socket.gethostname()}"),
    ],
)
def test_the_ssh_command(monkeypatch: pytest.MonkeyPatch, connection: str, host: str, line: str) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "yuki")
    assert ssh_hint({"SSH_CONNECTION": connection}, 8765, host=host) == line
