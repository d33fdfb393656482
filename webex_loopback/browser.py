"""Which browser to open, whether to open one at all, and how: an argument list, never a shell."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# They would take the terminal over, or end at once without one.
TEXT_BROWSERS = frozenset(["browsh", "carbonyl", "elinks", "links", "links2", "lynx", "retawq", "w3m", "www-browser"])
GRAPHICAL_BROWSERS = (
    "xdg-open",
    "x-www-browser",
    "firefox",
    "firefox-esr",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "brave-browser",
    "vivaldi",
    "opera",
    "konqueror",
    "epiphany",
)

_STARTFILE = "os.startfile"  # Windows' own way, which is no command
_SECRET_ENDINGS = ("SECRET", "TOKEN", "PASSWORD")
_FAILS_WITHIN = 1.5  # seconds; a browser that lives longer has opened


@dataclass(frozen=True, slots=True)
class Choice:
    """How a browser would be opened, or why none is.

    Attributes:
        argv: The command, its URL still missing or standing as `%s`; None where no browser is to be opened.
        name: What to call it, for instance `firefox`; "" where there is none.
        reason: Where the choice comes from, or why there is none; a clause to put after a colon.
    """

    argv: list[str] | None
    name: str
    reason: str


def find(environ: Mapping[str, str], *, command: str = "", platform: str = sys.platform, root: str = "/") -> Choice:
    """Choose a browser; the first rule that applies decides.

    1. `command` (`--browser`): that one, or none.
    2. Over SSH: none, the screen is elsewhere. A remote VS Code is the exception: its `$BROWSER` opens the near one.
    3. `$BROWSER`, a list like PATH: the first that is installed and no text browser.
    4. Codespaces, dev container: none, for without `$BROWSER` nothing leads out of it.
    5. WSL: `wslview`, else Windows' `explorer.exe`.
    6. macOS `open`, Windows' own way, elsewhere a known graphical browser where there is a display.

    Args:
        environ: The environment to judge by.
        command: A command line; `%s` stands for the URL, which otherwise comes last.
        platform: As `sys.platform`.
        root: Where `proc/version` and the marks of containers are looked for.
    """
    search = environ.get("PATH", os.defpath)
    if command:
        return _named(command, "--browser", search, platform)
    remote = environ.get("SSH_CONNECTION") or environ.get("SSH_TTY")
    if remote and not environ.get("VSCODE_IPC_HOOK_CLI"):
        return Choice(None, "", "this is an SSH session, whose screen is elsewhere")
    refused: Choice | None = None
    for entry in environ.get("BROWSER", "").split(os.pathsep):
        if entry.strip():
            choice = _named(entry, "$BROWSER", search, platform)
            if choice.argv:
                return choice
            refused = refused or choice
    if remote or environ.get("CODESPACES") or environ.get("REMOTE_CONTAINERS"):
        return refused or Choice(None, "", "this is a remote workspace without $BROWSER")
    if platform == "darwin":
        return Choice(["/usr/bin/open"], "the default browser", "macOS")
    if platform == "win32":
        return Choice([_STARTFILE], "the default browser", "Windows")
    if _is_wsl(environ, root):
        explorer = os.path.join(root, "mnt/c/Windows/explorer.exe")
        for candidate in ("wslview", "explorer.exe", explorer):
            if path := _which(candidate, search):
                return Choice([path], "the default browser of Windows", "WSL")
    if not environ.get("DISPLAY") and not environ.get("WAYLAND_DISPLAY"):
        marks = (".dockerenv", "run/.containerenv")
        place = "a container" if any(os.path.exists(os.path.join(root, mark)) for mark in marks) else "a session"
        return refused or Choice(None, "", f"this is {place} without a display")
    for candidate in GRAPHICAL_BROWSERS:
        path = _which(candidate, search)
        if path and not _is_text_browser(path):
            return Choice([path], _display_name(path), "found on PATH")
    return refused or Choice(None, "", "no graphical browser was found on PATH")


def open_url(choice: Choice, url: str, *, started: Callable[[], object] = lambda: None) -> bool:
    """Open an http or https URL; False where that visibly failed, or where `choice` says not to.

    Blocks for up to 1.5 seconds, to see whether the command fails at once; call it in a daemon thread. The
    browser outlives this process, has no part of its terminal, and gets none of its secrets. `started` is called
    as soon as the command runs.
    """
    if choice.argv is None or not _is_safe(url):
        return False
    if choice.argv == [_STARTFILE]:  # pragma: no cover - needs Windows
        return _start_file(url)
    import subprocess
    import threading

    argv = [argument.replace("%s", url) for argument in choice.argv]
    if argv == choice.argv:
        argv.append(url)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not _is_withheld(name)},
        )
    except OSError:
        return False
    started()
    try:
        code = process.wait(_FAILS_WITHIN)
    except subprocess.TimeoutExpired:
        # Someone must wait for it: a Popen forgotten while it runs is a ResourceWarning, then a zombie.
        threading.Thread(target=process.wait, name="browser", daemon=True).start()
        return True
    # explorer.exe exits with 1 when it has done what it was asked (AzureAD msal-python#332).
    return code == 0 or (code == 1 and os.path.basename(argv[0]).lower() == "explorer.exe")


def ssh_hint(environ: Mapping[str, str], port: int, *, host: str = "127.0.0.1") -> str:
    """Return the command that, run where the browser is, brings `host`:`port` of this machine there."""
    import getpass
    import shlex
    import socket

    if ":" in host:
        forward = f'"{port}:[{host.strip("[]")}]:{port}"'  # unquoted brackets are a pattern to zsh
    elif host in ("127.0.0.1", "localhost"):
        forward = f"{port}:{host}:{port}"
    else:
        forward = f"{host}:{port}:{host}:{port}"  # 127.0.0.2 and the like, which ssh does not listen on unasked
    # SSH_CONNECTION: client address, client port, server address, server port.
    connection = environ.get("SSH_CONNECTION", "").split()
    server, server_port = connection[2:] if len(connection) == 4 else ("", "22")
    if not server or server.lower().startswith("fe80:"):  # a link-local address means nothing elsewhere
        server = socket.gethostname()
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name
        user = ""
    target = shlex.quote(f"{user}@{server}" if user else server)
    at_port = "" if server_port == "22" else f"-p {shlex.quote(server_port)} "
    return f"ssh -L {forward} {at_port}{target}"


def _named(command: str, origin: str, search: str, platform: str) -> Choice:
    """A browser that somebody named: `command` is one command line."""
    import shlex

    argv = [command] if _which(command, search) else []
    if not argv:  # not one path with spaces in it, then
        try:
            # Backslashes are what Windows' paths are made of.
            argv = [part.strip('"') for part in shlex.split(command, posix=platform != "win32")]
        except ValueError:
            return Choice(None, "", f"{origin} has an unclosed quotation mark")
        if argv[-1:] == ["&"]:  # webbrowser's mark for "do not wait", which is how it is here anyway
            argv.pop()
    if not argv:
        return Choice(None, "", f"{origin} names no command")
    path = _which(argv[0], search)
    if path is None:
        if platform == "darwin" and "/" not in argv[0] and len(argv) == 1:
            return Choice(["/usr/bin/open", "-a", argv[0]], argv[0], origin)
        return Choice(None, "", f"{_display_name(argv[0])!r} ({origin}) was not found")
    if _is_text_browser(argv[0]) or _is_text_browser(path):
        return Choice(None, "", f"{_display_name(argv[0])!r} ({origin}) is a text browser")
    return Choice([path, *argv[1:]], _display_name(argv[0]), origin)


def _which(command: str, search: str) -> str | None:
    import shutil

    path = shutil.which(command, path=search)
    return os.path.abspath(path) if path else None


def _display_name(path: str) -> str:
    return os.path.basename(path)


def _is_text_browser(path: str) -> bool:
    # Debian's `x-www-browser` may be a link to one.
    names = (os.path.basename(path), os.path.basename(os.path.realpath(path)))
    return any(name.lower().removesuffix(".exe") in TEXT_BROWSERS for name in names)


def _is_wsl(environ: Mapping[str, str], root: str) -> bool:
    if environ.get("WSL_DISTRO_NAME"):
        return True
    try:
        with open(os.path.join(root, "proc/version"), encoding="utf-8", errors="replace") as file:
            return "microsoft" in file.read().lower()
    except OSError:
        return False


def _is_safe(url: str) -> bool:
    return url.startswith(("http://", "https://")) and url.isascii() and url.isprintable() and " " not in url


def _is_withheld(name: str) -> bool:
    # Settings are read without regard to case. And $BROWSER was judged above: xdg-open would run it all the same.
    name = name.upper()
    return name == "BROWSER" or (name.startswith("WEBEX") and name.endswith(_SECRET_ENDINGS))


def _start_file(url: str) -> bool:  # pragma: no cover - needs Windows
    if sys.platform != "win32":
        return False
    try:
        os.startfile(url)  # noqa: S606 - there is no shell in it, and the URL was looked at
    except OSError:
        return False
    return True
