import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from webex_loopback import browser
from webex_loopback.browser import Choice, find, open_url, ssh_hint

URL = "http://127.0.0.1:8765/start/x?a=1&b=%3B#'\"$(touch%20boom)`"

Install = Callable[..., str]


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A machine that is neither WSL nor a container."""
    folder = tmp_path / "root"
    (folder / "proc").mkdir(parents=True)
    (folder / "proc/version").write_text("Linux version 6.1.0 (gcc) #1 SMP")
    return str(folder)


@pytest.fixture
def install(bin_folder: Path) -> Install:
    """Put a command on the PATH of `environment`; its body is a shell script."""

    def install(name: str, body: str = "exit 0") -> str:
        path = bin_folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return install


@pytest.fixture
def environment(bin_folder: Path) -> dict[str, str]:
    """A desktop: a display, and an empty PATH."""
    return {"PATH": str(bin_folder), "DISPLAY": ":0"}


# Which


def test_a_desktop_uses_xdg_open_before_any_browser(install: Install, environment: dict[str, str], root: str) -> None:
    assert find(environment, root=root, platform="linux").argv is None
    firefox = install("firefox")
    assert find(environment, root=root, platform="linux").argv == [firefox]
    opener = install("xdg-open")
    assert find(environment, root=root, platform="linux") == Choice([opener], "xdg-open", "found on PATH")


def test_wayland_is_a_display_too(install: Install, environment: dict[str, str], root: str) -> None:
    install("chromium")
    del environment["DISPLAY"]
    environment["WAYLAND_DISPLAY"] = "wayland-0"
    assert find(environment, root=root, platform="linux").name == "chromium"


def test_without_a_display_none_is_opened(install: Install, environment: dict[str, str], root: str) -> None:
    install("xdg-open")
    environment["DISPLAY"] = ""
    choice = find(environment, root=root, platform="linux")
    assert (choice.argv, choice.reason) == (None, "this is a session without a display")


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_without_a_display_is_called_one(
    install: Install, environment: dict[str, str], root: str, mark: str
) -> None:
    install("firefox")
    Path(root, mark).parent.mkdir(exist_ok=True)
    Path(root, mark).touch()
    assert find(environment, root=root, platform="linux").name == "firefox"
    del environment["DISPLAY"]
    assert find(environment, root=root, platform="linux").reason == "this is a container without a display"


@pytest.mark.parametrize("variable", ["SSH_CONNECTION", "SSH_TTY"])
def test_over_ssh_only_an_explicit_command_opens_one(
    install: Install, environment: dict[str, str], root: str, variable: str
) -> None:
    firefox = install("firefox")
    environment |= {variable: "10.0.0.1 50000 10.0.0.2 22", "BROWSER": "firefox"}
    choice = find(environment, root=root)
    assert choice.argv is None
    assert "SSH" in choice.reason
    assert find(environment, root=root, command="firefox").argv == [firefox]


def test_a_remote_vs_code_opens_the_near_browser_over_ssh(
    install: Install, environment: dict[str, str], root: str
) -> None:
    helper = install("browser.sh")
    environment |= {"SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22", "VSCODE_IPC_HOOK_CLI": "/run/vscode.sock"}
    assert find(environment, root=root).argv is None
    environment["BROWSER"] = helper
    assert find(environment, root=root) == Choice([helper], "browser.sh", "$BROWSER")


@pytest.mark.parametrize("variable", ["CODESPACES", "REMOTE_CONTAINERS"])
def test_a_remote_workspace_needs_its_own_browser_command(
    install: Install, environment: dict[str, str], root: str, variable: str
) -> None:
    install("firefox")
    helper = install("browser.sh")
    environment[variable] = "true"
    assert "remote workspace" in find(environment, root=root).reason
    environment["BROWSER"] = helper
    assert find(environment, root=root).argv == [helper]


def test_wsl_prefers_wslview_to_explorer_to_linux_browsers(
    install: Install, environment: dict[str, str], root: str
) -> None:
    environment["WSL_DISTRO_NAME"] = "Ubuntu"
    firefox = install("firefox")
    assert find(environment, root=root, platform="linux").argv == [firefox]
    explorer = Path(root, "mnt/c/Windows/explorer.exe")
    explorer.parent.mkdir(parents=True)
    shutil.copy(firefox, explorer)
    assert find(environment, root=root, platform="linux").argv == [str(explorer)]
    on_path = install("explorer.exe")
    assert find(environment, root=root, platform="linux").argv == [on_path]
    wslview = install("wslview")
    del environment["DISPLAY"]
    assert find(environment, root=root, platform="linux").argv == [wslview]


def test_wsl_is_known_by_its_kernel(install: Install, environment: dict[str, str], root: str) -> None:
    explorer = install("explorer.exe")
    Path(root, "proc/version").write_text("Linux version 5.15.1-microsoft-standard-WSL2")
    assert find(environment, root=root, platform="linux").argv == [explorer]
    Path(root, "proc/version").unlink()
    assert find(environment, root=root, platform="linux").argv is None


def test_macos_and_windows_use_their_own_way(environment: dict[str, str], root: str) -> None:
    assert find(environment, root=root, platform="darwin").argv == ["/usr/bin/open"]
    assert find(environment, root=root, platform="win32").argv
    environment["BROWSER"] = "Safari"
    assert find(environment, root=root, platform="darwin").argv == ["/usr/bin/open", "-a", "Safari"]


def test_this_machine_gets_an_answer() -> None:
    choice = find(os.environ)
    assert (choice.argv is None) == (choice.name == "")
    assert choice.reason


@pytest.mark.parametrize("name", sorted(browser.TEXT_BROWSERS))
def test_text_browsers_are_refused_by_name(install: Install, environment: dict[str, str], root: str, name: str) -> None:
    path = install(name)
    choice = find(environment, root=root, command=f"{path} %s")
    assert choice.argv is None
    assert "text browser" in choice.reason
    environment["BROWSER"] = name
    assert "text browser" in find(environment, root=root, platform="linux").reason
    firefox = install("firefox")
    assert find(environment, root=root, platform="linux").argv == [firefox]


def test_a_link_to_a_text_browser_is_one(
    install: Install, environment: dict[str, str], root: str, bin_folder: Path
) -> None:
    (bin_folder / "x-www-browser").symlink_to(install("lynx"))
    assert find(environment, root=root, platform="linux").argv is None
    assert "text browser" in find(environment, root=root, command="x-www-browser").reason


def test_browser_may_be_a_list_of_command_lines(install: Install, environment: dict[str, str], root: str) -> None:
    install("w3m")
    chrome = install("my chrome")
    environment["BROWSER"] = os.pathsep.join(
        ["", "w3m", "missing", "un'closed", " & ", f"'{chrome}' --new-window %s &", "firefox"]
    )
    assert find(environment, root=root) == Choice([chrome, "--new-window", "%s"], "my chrome", "$BROWSER")


def test_a_path_with_spaces_needs_no_quotes(install: Install, environment: dict[str, str], root: str) -> None:
    chrome = install("my chrome")
    assert find(environment, root=root, command=chrome).argv == [chrome]


def test_backslashes_are_kept_on_windows(environment: dict[str, str], root: str) -> None:
    choice = find(environment, root=root, command=r'"C:\Program Files\x.exe" --new', platform="win32")
    assert choice.reason == r"'C:\\Program Files\\x.exe' (--browser) was not found"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("missing", "'missing' (--browser) was not found"),
        ("un'closed", "--browser has an unclosed quotation mark"),
        ("  ", "--browser names no command"),
    ],
)
def test_an_explicit_command_that_is_of_no_use_is_not_replaced(
    install: Install, environment: dict[str, str], root: str, command: str, reason: str
) -> None:
    install("firefox")
    choice = find(environment, root=root, command=command, platform="linux")
    assert (choice.argv, choice.reason) == (None, reason)


# How


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def test_the_url_arrives_as_one_argument_and_no_shell_sees_it(install: Install, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = install("firefox", f'printf "%s\\n" "$#" "$@" > "{seen}"')
    assert open_url(Choice([fake], "firefox", ""), URL)
    assert seen.read_text().splitlines() == ["1", URL]
    assert open_url(Choice([fake, "--app=%s", "-x"], "firefox", ""), URL)
    assert seen.read_text().splitlines() == ["2", f"--app={URL}", "-x"]
    assert not list(tmp_path.glob("**/boom"))


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "javascript:alert(1)", "HTTP://x", "-http://x", "http://x y", "http://x\n", "http://é"],
)
def test_only_plain_http_addresses_are_opened(install: Install, tmp_path: Path, url: str) -> None:
    fake = install("firefox", f'touch "{tmp_path}/seen"')
    assert not open_url(Choice([fake], "firefox", ""), url)
    assert not (tmp_path / "seen").exists()


def test_no_choice_opens_nothing() -> None:
    assert not open_url(Choice(None, "", "no display"), URL)


@pytest.mark.parametrize(
    ("name", "body", "opened"),
    [
        ("firefox", "exit 0", True),
        ("firefox", "exit 1", False),
        ("xdg-open", "sleep 0.2; exit 3", False),
        ("firefox", "kill -9 $$", False),
        ("explorer.exe", "exit 1", True),
        ("explorer.exe", "exit 2", False),
    ],
)
def test_an_immediate_failure_is_noticed(install: Install, name: str, body: str, opened: bool) -> None:
    assert open_url(Choice([install(name, body)], name, ""), URL) is opened


def test_a_command_that_cannot_run_is_a_failure(install: Install, bin_folder: Path) -> None:
    assert not open_url(Choice([str(bin_folder / "missing")], "missing", ""), URL)
    no_format = bin_folder / "no-format"
    no_format.write_bytes(b"\x00\x01")
    no_format.chmod(0o755)
    assert not open_url(Choice([str(no_format)], "no-format", ""), URL)


def test_a_browser_that_lives_on_is_not_waited_for_and_leaves_no_zombie(install: Install, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    fake = install("firefox", f'echo $$ > "{pid}"; exec sleep 2.5')
    before = time.monotonic()
    assert open_url(Choice([fake], "firefox", ""), URL)
    assert 1.4 < time.monotonic() - before < 2.4
    process = int(wait_for(pid))
    assert os.getsid(process) == process  # a session of its own: Ctrl-C here does not end it
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{process}" if sys.platform == "linux" else "/nowhere"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_has_no_part_of_our_terminal_and_none_of_our_secrets(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("WEBEX_CLIENT_SECRET", "webex_client_secret", "WEBEX_ACCESS_TOKEN", "WEBEX_REFRESH_TOKEN"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("WEBEX_CLIENT_ID", "C123")
    monkeypatch.setenv("BROWSER", "w3m")
    seen = tmp_path / "seen"
    fake = install("firefox", f'echo noise; echo noise >&2; cat >> "{seen}"; env >> "{seen}"')
    assert open_url(Choice([fake], "firefox", ""), URL)
    content = seen.read_text()
    assert "WEBEX_CLIENT_ID=C123" in content
    assert "hush" not in content
    assert "w3m" not in content
    assert capfd.readouterr() == ("", "")


def test_leaving_while_the_browser_runs_is_silent(install: Install, tmp_path: Path) -> None:
    fake = install("firefox", "exec sleep 4")
    program = (
        "import sys, threading; from webex_loopback.browser import Choice, open_url\n"
        "answers = []\n"
        f"thread = threading.Thread(target=lambda: answers.append(open_url(Choice([{fake!r}], '', ''), {URL!r})))\n"
        "thread.start(); thread.join(); print(answers)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[True]\n", "", 0)


def test_importing_it_is_cheap() -> None:
    program = (
        "import sys; before = set(sys.modules); import webex_loopback.browser\n"
        "print(sorted({'subprocess', 'shutil', 'webbrowser', 'shlex', 'socket', 'threading'}"
        " & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# The way from another machine


def test_the_ssh_line_goes_back_the_way_the_session_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "yuki")
    environ = {"SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22"}
    assert ssh_hint(environ, 8765) == "ssh -L 8765:127.0.0.1:8765 yuki@10.0.0.2"
    assert ssh_hint(environ, 443, host="localhost") == "ssh -L 443:localhost:443 yuki@10.0.0.2"
    assert ssh_hint(environ, 8765, host="::1") == 'ssh -L "8765:[::1]:8765" yuki@10.0.0.2'
    assert ssh_hint(environ, 8765, host="[::1]") == 'ssh -L "8765:[::1]:8765" yuki@10.0.0.2'
    assert ssh_hint(environ, 8765, host="127.0.0.5").startswith("ssh -L 127.0.0.5:8765:127.0.0.5:8765 ")
    environ = {"SSH_CONNECTION": "2001:db8::1 50000 2001:db8::2 2222"}
    assert ssh_hint(environ, 8765) == "ssh -L 8765:127.0.0.1:8765 -p 2222 yuki@2001:db8::2"


@pytest.mark.parametrize("connection", ["", "nonsense", "fe80::1%eth0 50000 fe80::2%eth0 22"])
def test_without_a_useful_address_the_ssh_line_names_this_host(
    monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setenv("LOGNAME", "CORP\\yuki")
    hint = ssh_hint({"SSH_CONNECTION": connection}, 8765)
    assert hint == f"ssh -L 8765:127.0.0.1:8765 'CORP\\yuki@{socket.gethostname()}'"


def test_a_user_without_a_name_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert ssh_hint({}, 8765) == f"ssh -L 8765:127.0.0.1:8765 {socket.gethostname()}"
