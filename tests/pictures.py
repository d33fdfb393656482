"""`make pictures`: takes the screenshots of docs/images, of the real thing in a real browser and a real terminal."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chromium import chromium_running
from playwright.sync_api import Browser, Page
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from webex_loopback import pages
from webex_loopback.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
COMMAND = str(Path(sys.executable).with_name("webex-loopback"))
THEME = TerminalTheme(
    (24, 26, 31), (215, 218, 224),
    [(24, 26, 31), (224, 108, 117), (126, 200, 120), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194),
     (215, 218, 224)],
    [(92, 99, 112), (224, 108, 117), (126, 200, 120), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194),
     (255, 255, 255)],
)  # fmt: skip


@contextmanager
def page_of(browser: Browser, *, language: str = "en-US", dark: bool = False, width: int = 860) -> Iterator[Page]:
    context = browser.new_context(
        locale=language,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 640},
        device_scale_factor=2,
    )
    yield context.new_page()
    context.close()


def sign_in(page: Page, address: str, picture: str = "") -> None:
    page.goto(address)
    page.get_by_role("button", name="Alex Morgan").click()
    page.wait_for_url("**/consent**")
    if picture:
        page.screenshot(path=IMAGES / f"{picture}.png", full_page=True)
    page.locator("button[value=allow]").click()
    page.wait_for_url("**/done/**")


class Terminal:
    """A tmux window whose screen can be taken as a picture."""

    def __init__(self, browser: Browser, environ: dict[str, str], columns: int = 92, rows: int = 34) -> None:
        self.browser = browser
        self.columns = columns
        self.name = f"pictures-{os.getpid()}"
        # Not by tmux's -e: the window's shell may be a login shell, which sets PATH anew.
        shell = shlex.join(["env", *(f"{name}={value}" for name, value in environ.items()), "bash", "--norc"])
        size = ["-x", str(columns), "-y", str(rows)]
        subprocess.run(["tmux", "new-session", "-d", "-s", self.name, *size, shell], check=True)
        self.type("PS1='$ '; clear")

    def type(self, line: str) -> None:
        subprocess.run(["tmux", "send-keys", "-t", self.name, line, "Enter"], check=True)
        time.sleep(0.3)

    def screen(self, *, colours: bool = False) -> str:
        options = ["-e"] if colours else []
        done = subprocess.run(
            ["tmux", "capture-pane", *options, "-p", "-t", self.name], check=True, capture_output=True, text=True
        )
        return done.stdout.rstrip("\n")

    def wait_for(self, text: str, seconds: float = 30) -> None:
        until = time.monotonic() + seconds
        while text not in self.screen().replace("\n", ""):
            if time.monotonic() > until:
                raise TimeoutError(f"{text!r} did not appear:\n{self.screen()}")
            time.sleep(0.1)

    def picture(self, name: str, title: str) -> None:
        console = Console(record=True, width=self.columns, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
        console.print(Text.from_ansi(self.screen(colours=True)))
        svg = console.export_svg(title=title, theme=THEME)
        with page_of(self.browser, width=1000) as page:
            page.set_content(f"<style>body{{margin:0}}svg{{width:1000px;display:block}}</style>{svg}")
            page.locator("svg").first.screenshot(path=IMAGES / f"{name}.png", omit_background=True)

    def close(self) -> None:
        subprocess.run(["tmux", "kill-session", "-t", self.name], check=False)


def address_on(terminal: Terminal) -> str:
    lines = terminal.screen().splitlines()
    return next(line.strip() for line in lines if "/start/" in line)


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox, chromium_running() as browser:
        home = Path(folder) / "home" / "alex"
        home.mkdir(parents=True)
        opener = Path(folder) / "firefox"
        opener.write_text("#!/bin/sh\nexit 0\n")
        opener.chmod(0o755)
        environ = sandbox.environment() | {
            "HOME": str(home),
            "WEBEX_LOOPBACK_HOME": str(home / ".local/state/webex-loopback"),
            "BROWSER": str(opener),
            "PATH": f"{Path(COMMAND).parent}:/usr/bin:/bin",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        terminal = Terminal(browser, environ)
        try:
            take(browser, terminal)
        finally:
            terminal.close()
    for image in sorted(IMAGES.glob("*.png")):
        print(f"{image.relative_to(ROOT)}  {image.stat().st_size // 1024} kB")


def take(browser: Browser, terminal: Terminal) -> None:
    terminal.type("webex-loopback login")
    terminal.wait_for("left")
    time.sleep(2.2)
    terminal.picture("terminal-login", "webex-loopback login")
    with page_of(browser) as page:
        sign_in(page, address_on(terminal), "consent-light")
        page.screenshot(path=IMAGES / "result-light.png", full_page=True)
    terminal.wait_for("Logged in as")
    terminal.type("clear; webex-loopback status")
    terminal.wait_for("Kept in")
    terminal.picture("terminal-status", "webex-loopback status")
    for name, language, dark in (("result-dark", "en-US", True), ("result-ja", "ja-JP", False)):
        terminal.type("clear; webex-loopback login --force")
        terminal.wait_for("left")
        with page_of(browser, language=language, dark=dark) as page:
            sign_in(page, address_on(terminal), f"consent-{name.split('-')[1]}")
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
        terminal.wait_for("Logged in as")
    failure = pages.FailurePage("invalid_scope", detail="invalid_scope: The requested scope is invalid.")
    for name, language in (("failure-light", "en-US"), ("failure-ja", "ja-JP")):
        with page_of(browser, language=language) as page:
            page.set_content(pages.render(failure, language[:2]))
            page.screenshot(path=IMAGES / f"{name}.png", full_page=True)
    terminal.type("clear; webex-loopback login --device --force")
    terminal.wait_for("approval")
    terminal.picture("terminal-device", "webex-loopback login --device")


if __name__ == "__main__":
    main()
