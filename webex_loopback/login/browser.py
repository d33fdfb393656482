"""Which browser to open, whether to open one at all, and how: with an argument list, never through a shell."""

import contextlib
import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from html import escape
from secrets import token_hex
from urllib.parse import quote

from webex_loopback.paths import data_directory
from webex_loopback.private_file import make_private_directory, write_private_file
from webex_loopback.webex import worker
from webex_loopback.wording import printable

# They would use the terminal, or exit at once without one.
TEXT_BROWSERS = frozenset(["browsh", "carbonyl", "elinks", "links", "links2", "lynx", "retawq", "w3m", "www-browser"])
_GRAPHICAL_BROWSERS = (
    *("xdg-open", "x-www-browser", "firefox", "firefox-esr", "chromium", "chromium-browser", "google-chrome"),
    *("google-chrome-stable", "microsoft-edge", "brave-browser", "vivaldi", "opera", "konqueror", "epiphany"),
)
# WEBEX_TOKEN_STORE may contain a database password.
_SECRET_ENDINGS = ("SECRET", "TOKEN", "PASSWORD", "KEY", "TOKEN_STORE")
_FAILS_WITHIN_SECONDS = 1.5  # a command that runs longer than this has opened a browser


@dataclass(frozen=True, slots=True)
class Choice:
    """How a browser would be opened, or why none is."""

    argv: list[str] | None  # `%s` stands for the URL, which otherwise comes last; None: open no browser
    name: str
    reason: str  # a clause to put after a colon: where the choice comes from, or why there is none
    skipped: str = ""  # what is wrong with $BROWSER, if another browser was chosen in its place
    by_file: bool = False  # pass the URL in a private file, because others can read the command line


def find(
    environ: Mapping[str, str],
    command: str = "",
    *,
    origin: str = "--browser",
    platform: str = sys.platform,
    root: str = "/",
) -> Choice:
    """Choose a browser; the first rule that applies decides.

    1. `command`, which comes from `origin`: that one, or none. 2. Over SSH: none, because the screen is elsewhere;
    but the $BROWSER of a remote VS Code opens the local one. 3. $BROWSER, a list like PATH: the first that is installed
    and not a text browser. 4. Codespaces, dev container: none. 5. WSL: Windows' browser. 6. The system's default, or a
    known graphical browser if there is a display.
    """
    search, skipped = environ.get("PATH", os.defpath), ""
    if command:
        return _named(command, origin, search, platform)
    remote = environ.get("SSH_CONNECTION") or environ.get("SSH_TTY")
    if remote and not environ.get("VSCODE_IPC_HOOK_CLI"):
        return Choice(None, "", "this is an SSH session")
    for entry in filter(str.strip, environ.get("BROWSER", "").split(os.pathsep)):
        choice = _named(entry, "$BROWSER", search, platform)
        if choice.argv:
            return choice
        skipped = skipped or choice.reason
    if remote or environ.get("CODESPACES") or environ.get("REMOTE_CONTAINERS"):
        return Choice(None, "", skipped or "this is a remote workspace without $BROWSER")
    if platform == "darwin":
        return Choice(["/usr/bin/open"], "the default browser", "macOS", skipped, by_file=True)
    if platform == "win32":
        # Not os.startfile(), which passes on the whole environment.
        handler = os.path.join(environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "rundll32.exe")
        return Choice([handler, "url.dll,FileProtocolHandler"], "the default browser", "Windows", skipped)
    if _is_wsl(environ, root):
        for candidate in ("wslview", "explorer.exe", os.path.join(root, "mnt/c/Windows/explorer.exe")):
            if path := _which(candidate, search):
                return Choice([path], "the default browser of Windows", "WSL", skipped)
    if not environ.get("DISPLAY") and not environ.get("WAYLAND_DISPLAY"):
        marks = (".dockerenv", "run/.containerenv")
        place = "container" if any(os.path.exists(os.path.join(root, mark)) for mark in marks) else "session"
        return Choice(None, "", skipped or f"this {place} has no display")
    for candidate in _GRAPHICAL_BROWSERS:
        if (path := _which(candidate, search)) and not _is_text_browser(path):
            return Choice([path], candidate, "found on PATH", skipped)
    return Choice(None, "", skipped or "no graphical browser was found on PATH")


def _named(command: str, origin: str, search: str, platform: str) -> Choice:
    argv = [command]
    if _which(command, search) is None:  # it is not a path with spaces in it
        with contextlib.suppress(ValueError):  # an unclosed quotation mark
            # On Windows, paths contain backslashes.
            argv = [part.strip('"') for part in shlex.split(command, posix=platform != "win32")] or argv
        if argv[-1] == "&" and len(argv) > 1:  # tells the standard library's `webbrowser` not to wait
            argv.pop()
    mac, name, path = platform == "darwin", printable(os.path.basename(argv[0]), 40), _which(argv[0], search)
    if path is None:
        if mac and "/" not in argv[0] and len(argv) == 1:
            return Choice(["/usr/bin/open", "-a", argv[0]], name, origin, by_file=True)
        return Choice(None, "", f"{printable(argv[0], 200)!r} ({origin}) was not found")
    if _is_text_browser(argv[0]) or _is_text_browser(path):
        return Choice(None, "", f"{name!r} ({origin}) is a text browser")
    return Choice([path, *argv[1:]], name, origin, by_file=mac)


def _which(command: str, search: str) -> str | None:
    path = shutil.which(command, path=search)
    # Windows looks in the current directory before PATH, and a cloned repository may hold a firefox.bat.
    found_here = path is not None and os.path.dirname(path) == os.curdir and not os.path.dirname(command)
    return os.path.abspath(path) if path and not found_here else None


def _is_text_browser(path: str) -> bool:
    # Debian's `x-www-browser` may be a link to one.
    names = (os.path.basename(path), os.path.basename(os.path.realpath(path)))
    return any(name.lower().removesuffix(".exe") in TEXT_BROWSERS for name in names)


def _is_wsl(environ: Mapping[str, str], root: str) -> bool:
    if environ.get("WSL_DISTRO_NAME"):
        return True
    with contextlib.suppress(OSError), open(os.path.join(root, "proc/version"), encoding="utf-8") as file:
        return "microsoft" in file.read().lower()
    return False


class Opener:
    """Opens the URLs of a login in the chosen browser, or passes them to a function; `close` removes its file."""

    def __init__(self, choice: Choice, function: Callable[[str], object] | None = None) -> None:
        self.choice = choice
        self._function = function
        self._file = os.path.join(data_directory(), f"redirect-{token_hex(8)}.html")

    def open(self, url: str) -> "Future[bool]":
        """Start the browser; the future returns within 1.5 seconds whether it has opened.

        The browser outlives this process, does not use its terminal, and gets none of its secrets.
        """
        if (function := self._function) is not None:
            return worker.start(lambda: function(url) is not False)
        process = _start(self.choice, url, self._file if self.choice.by_file else "")
        return worker.start(lambda: _has_opened(process))

    def close(self) -> None:
        if self.choice.by_file:
            with contextlib.suppress(OSError):
                os.unlink(self._file)


def open_url(choice: Choice, url: str) -> bool:
    """Open a URL; return False if that visibly failed, or if `choice` opens none. Blocks for up to 1.5 seconds.

    The URL becomes part of a command line, which every user of the machine can read.
    """
    return _has_opened(_start(choice, url))


def _start(choice: Choice, url: str, file: str = "") -> "subprocess.Popen[bytes] | None":
    """Start the browser; with `file`, write that, mode 0600, to redirect to the URL (Jupyter does the same)."""
    # A browser would treat anything else as an option, a file, or a script.
    is_url = url.startswith(("http://", "https://")) and url.isascii() and url.isprintable() and " " not in url
    if choice.argv is None or not is_url:
        return None
    if file:
        page = (
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Webex</title>'
            f'<meta http-equiv="refresh" content="0;url={escape(url)}"><a href="{escape(url)}">Log in to Webex</a>\n'
        )
        make_private_directory(os.path.dirname(file))
        write_private_file(file, page.encode())
        url = "file://" + quote(file)
    argv = [argument.replace("%s", url) for argument in choice.argv]
    argv += [url] if argv == choice.argv else []
    environ = {name: value for name, value in os.environ.items() if not _is_withheld(name.upper())}
    none = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        return subprocess.Popen(argv, stdin=none, stdout=none, stderr=none, start_new_session=True, env=environ)
    return None


def _has_opened(process: "subprocess.Popen[bytes] | None") -> bool:
    if process is None:
        return False
    try:
        code = process.wait(_FAILS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        worker.start(process.wait)  # a Popen dropped while it runs is a ResourceWarning, then a zombie
        return True
    # explorer.exe exits with 1 after success (AzureAD msal-python#332).
    name = os.path.basename(process.args[0]).lower()  # type: ignore[index, arg-type]
    return code == 0 or (code == 1 and name == "explorer.exe")


def _is_withheld(name: str) -> bool:
    # $BROWSER was already considered, but xdg-open would run it anyway.
    return name == "BROWSER" or (name.startswith("WEBEX") and name.endswith(_SECRET_ENDINGS))


def ssh_hint(environ: Mapping[str, str], port: int, *, host: str = "127.0.0.1") -> str:
    """Return the command that, run on the browser's machine, forwards `host`:`port` of this machine to it."""
    # SSH_CONNECTION: client address, client port, server address, server port.
    connection = environ.get("SSH_CONNECTION", "").split()
    server, server_port = connection[2:] if len(connection) == 4 else ("", "22")
    if not server or server.lower().startswith("fe80:"):  # a link-local address is not valid on another machine
        server = socket.gethostname()
    user = ""
    with contextlib.suppress(OSError, KeyError, ImportError):  # a user id without a name
        user = getpass.getuser() + "@"
    host = f"[{host}]" if ":" in host else host
    # For any address but localhost, ssh needs an explicit listen address.
    forward = f"{port}:{host}:{port}" if host in ("127.0.0.1", "localhost") else f"{host}:{port}:{host}:{port}"
    parts = ["ssh", "-L", forward, *(["-p", server_port] if server_port != "22" else []), user + server]
    return " ".join(shlex.quote(printable(part)) for part in parts)
