"""`make pictures`: takes the screenshots in docs/images, of real pages in Chromium and a real terminal (tmux)."""

import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import Browser, Page, ViewportSize
from rich.terminal_theme import TerminalTheme

from tests.journeys.attack import wait_until
from tests.journeys.browsers import chromium_running
from tests.recording import animated
from webex_loopback.login.pages import FailurePage, render
from webex_loopback.sandbox import Person, Sandbox

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = [(24, 26, 31), (224, 108, 117), (126, 200, 120), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194)]  # fmt: skip  # noqa: E501
THEME = TerminalTheme(
    (24, 26, 31), (215, 218, 224), [*COLOURS, (215, 218, 224)], [(92, 99, 112), *COLOURS[1:], (255, 255, 255)]
)


@contextmanager
def page_of(browser: Browser, language: str = "en-US") -> Iterator[Page]:
    """Open a page in a browser profile of its own."""
    size: ViewportSize = {"width": 860, "height": 640}
    with browser.new_context(locale=language, viewport=size, device_scale_factor=2) as context:
        yield context.new_page()


class Terminal:
    """A tmux window whose screen can be taken as a picture."""

    def __init__(self, browser: Browser, environ: dict[str, str], folder: str) -> None:
        self.browser, self.folder = browser, folder  # the folder above the home directory is not shown
        # Not by tmux's -e: the window's shell may be a login shell, which sets PATH again.
        shell = shlex.join(["env", *(f"{name}={value}" for name, value in environ.items()), "bash", "--norc"])
        self.tmux("new-session", "-d", "-x", "80", "-y", "40", shell)
        self.type("PS1='$ '; clear")

    def tmux(self, *command: str) -> str:
        # A server of its own, which ends with the only window.
        done = subprocess.run(["tmux", "-L", f"pictures-{os.getpid()}", *command], check=True, stdout=-1, text=True)
        return done.stdout.rstrip("\n")

    def type(self, line: str, seconds: float = 0) -> None:
        for key in (*line, "Enter") if seconds else (line, "Enter"):
            self.tmux("send-keys", *(["-l"] if key != "Enter" else []), key)
            time.sleep(seconds)
        time.sleep(0.5)

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", *options, "-p")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.screen("-J"), 40)

    def start_url(self) -> str:
        self.wait_for("/start/")
        return next(line.strip() for line in self.screen("-J").splitlines() if "/start/" in line)

    def save(self, name: str, screens: Sequence[tuple[float, str]], title: str) -> None:
        shown = [(at, screen.replace(self.folder, "")) for at, screen in screens]
        svg = animated(shown, columns=80, title=title, theme=THEME)
        (IMAGES / f"{name}.svg").write_text(svg)

    def record(self, sandbox: Sandbox) -> list[tuple[float, str]]:
        """Log in and ask who that was, as somebody who types; return the screens and when they appeared."""
        screens: list[tuple[float, str]] = []
        began, ended = time.monotonic(), threading.Event()

        def watch() -> None:
            while not ended.wait(0.04):
                if not screens or screens[-1][1] != self.screen("-e"):
                    screens.append((time.monotonic() - began, self.screen("-e")))

        watching = threading.Thread(target=watch)
        watching.start()
        time.sleep(0.6)
        self.type("webex-loopback login", 0.06)
        url, sandbox.switches.latency = self.start_url(), 0.6  # so that the steps can be seen
        time.sleep(2)
        Person().visit(url)
        self.wait_for("Logged in as")
        sandbox.switches.latency = 0
        time.sleep(1.5)
        self.type("webex-loopback whoami", 0.06)
        time.sleep(2)
        ended.set()
        watching.join()
        return screens

    def log_in(self, name: str, language: str = "en-US") -> None:
        """Log in as a person does, and take pictures of the pages."""
        self.type("clear; webex-loopback login --force")
        with page_of(self.browser, language) as page:
            page.goto(self.start_url())
            page.get_by_role("button", name="Alex Morgan").click()
            page.wait_for_url("**/consent**")
            page.screenshot(path=IMAGES / f"consent-{name}.png", full_page=True)
            page.locator("button[value=allow]").click()
            page.wait_for_url("**/done/**")
            page.screenshot(path=IMAGES / f"result-{name}.png", full_page=True)
        self.wait_for("Logged in as")


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox, chromium_running() as browser:
        home = Path(folder, "home/alex")
        home.mkdir(parents=True)
        opener = Path(folder) / "firefox"
        opener.write_text("#!/bin/sh\nexit 0\n")
        opener.chmod(0o755)
        environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        environ |= {"HOME": str(home), "WEBEX_LOOPBACK_HOME": f"{home}/.local/state/webex-loopback"}
        environ |= {"BROWSER": str(opener)}
        terminal = Terminal(browser, sandbox.environment() | environ, folder)
        try:
            terminal.save("login", terminal.record(sandbox), "A login in the terminal, and `webex-loopback whoami`")
            terminal.log_in("light")
            terminal.log_in("ja", "ja-JP")
            failure = FailurePage("invalid_scope", detail="invalid_scope: The requested scope is invalid.")
            with page_of(browser) as page:
                page.set_content(render(failure, "en"))
                page.screenshot(path=IMAGES / "failure.png", full_page=True)
            terminal.type("clear; webex-loopback login --device --force")
            terminal.wait_for("approval")
            terminal.save("device", [(0, terminal.screen("-e"))], "webex-loopback login --device")
        finally:
            terminal.tmux("kill-server")


if __name__ == "__main__":
    main()
