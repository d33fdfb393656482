"""`make pictures`: takes the screenshots in docs/images, of real pages in Chromium and a real terminal (tmux)."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.journeys.browsers import chromium_running
from webex_loopback.login.pages import FailurePage, render
from webex_loopback.sandbox import Sandbox

IMAGES = Path(__file__).parent.parent / "docs" / "images"
COLOURS = [(24, 26, 31), (224, 108, 117), (126, 200, 120), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194)]  # fmt: skip  # noqa: E501
THEME = TerminalTheme(
    (24, 26, 31), (215, 218, 224), [*COLOURS, (215, 218, 224)], [(92, 99, 112), *COLOURS[1:], (255, 255, 255)]
)


@contextmanager
def page_of(browser: Browser, *, language: str = "en-US", dark: bool = False, width: int = 860) -> Iterator[Page]:
    """Open a page in a browser profile of its own."""
    with browser.new_context(
        locale=language,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 640},
        device_scale_factor=2,
    ) as context:
        yield context.new_page()


class Terminal:
    """A tmux window whose screen can be taken as a picture."""

    def __init__(self, browser: Browser, environ: dict[str, str]) -> None:
        self.browser = browser
        # Not by tmux's -e: the window's shell may be a login shell, which sets PATH again.
        shell = shlex.join(["env", *(f"{name}={value}" for name, value in environ.items()), "bash", "--norc"])
        self.tmux("new-session", "-d", "-x", "92", "-y", "34", shell)
        self.type("PS1='$ '; clear")

    def tmux(self, *command: str) -> str:
        # A server of its own, which ends with the only window.
        done = subprocess.run(["tmux", "-L", f"pictures-{os.getpid()}", *command], check=True, stdout=-1, text=True)
        return done.stdout.rstrip("\n")

    def type(self, line: str) -> None:
        self.tmux("send-keys", line, "Enter")
        time.sleep(0.5)

    def screen(self, *options: str) -> str:
        return self.tmux("capture-pane", *options, "-p")

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + 40
        while text not in self.screen("-J"):
            if time.monotonic() > until:
                raise TimeoutError(f"{text!r} did not appear:\n{self.screen()}")
            time.sleep(0.1)

    def picture(self, name: str, title: str) -> None:
        with open(os.devnull, "w") as nowhere:
            console = Console(record=True, width=92, file=nowhere, force_terminal=True)
            console.print(Text.from_ansi(self.screen("-e")))
        svg = console.export_svg(title=title, theme=THEME)
        with page_of(self.browser, width=1000) as page:
            page.set_content(f"<style>body{{margin:0}}svg{{width:1000px;display:block}}</style>{svg}")
            page.locator("svg").first.screenshot(path=IMAGES / f"{name}.png", omit_background=True)

    def log_in(self, options: str, name: str, language: str = "en-US", dark: bool = False) -> None:
        """Log in as a person does, and take pictures of the pages."""
        self.type(f"clear; webex-loopback login {options}")
        self.wait_for("/start/")
        url = next(line.strip() for line in self.screen("-J").splitlines() if "/start/" in line)
        with page_of(self.browser, language=language, dark=dark) as page:
            page.goto(url)
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
        home = Path(folder) / "home" / "alex"
        home.mkdir(parents=True)
        opener = Path(folder) / "firefox"
        opener.write_text("#!/bin/sh\nexit 0\n")
        opener.chmod(0o755)
        environ = {
            "HOME": str(home),
            "WEBEX_LOOPBACK_HOME": str(home / ".local/state/webex-loopback"),
            "BROWSER": str(opener),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
        }
        terminal = Terminal(browser, sandbox.environment() | environ)
        try:
            terminal.log_in("", "light")
            terminal.picture("terminal-login", "webex-loopback login")
            terminal.type("clear; webex-loopback status")
            terminal.wait_for("spark:kms")
            terminal.picture("terminal-status", "webex-loopback status")
            terminal.log_in("--force", "dark", dark=True)
            terminal.log_in("--force", "ja", "ja-JP")
            failure = FailurePage("invalid_scope", detail="invalid_scope: The requested scope is invalid.")
            for language, name in (("en-US", "light"), ("ja-JP", "ja")):
                with page_of(browser, language=language) as page:
                    page.set_content(render(failure, language[:2]))
                    page.screenshot(path=IMAGES / f"failure-{name}.png", full_page=True)
            terminal.type("clear; webex-loopback login --device --force")
            terminal.wait_for("approval")
            terminal.picture("terminal-device", "webex-loopback login --device")
        finally:
            terminal.tmux("kill-server")


if __name__ == "__main__":
    main()
