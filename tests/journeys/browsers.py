"""Debian's browsers: Chromium driven by Playwright, Firefox by WebDriver BiDi.

Playwright speaks BiDi too, but begins with a command that Firefox 153 ESR does not know.
"""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import pytest

from .attack import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
# Without these, Chromium looks up hosts at every start that a closed network does not have.
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# Without these, Firefox takes twice as long to start, and looks for hosts that a closed network does not have.
PREFERENCES: dict[str, object] = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
}


def missing(what: str) -> NoReturn:
    """Skip the test on a developer's machine; fail it in CI, which has browsers."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, but CI must have it.")
    pytest.skip(f"{what} is not installed.")


@contextmanager
def chromium_running() -> "Iterator[Browser]":
    """Run Chromium for as long as the context lasts."""
    executable = next(filter(None, map(shutil.which, CHROMIUM)), None) or missing("Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield running
        running.close()


class Firefox:
    """The window of a running Firefox."""

    def __init__(self, runner: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._runner, self._socket, self._numbers = runner, socket, itertools.count()
        self.console: list[str] = []
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self._context = self.command("browsingContext.getTree")["contexts"][0]["context"]

    def command(self, method: str, **parameters: Any) -> Any:
        return self._runner.run(asyncio.wait_for(self._command(method, parameters), 30))

    async def _command(self, method: str, parameters: dict[str, Any]) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._socket.receive_json()).get("id") != number:
            if message["method"] == "log.entryAdded":
                self.console.append(str(message["params"]["text"]))
        assert message["type"] == "success", message
        return message["result"]

    def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        self.command("browsingContext.setViewport", context=self._context, viewport=viewport)

    def goto(self, url: str) -> None:
        self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; return the result if it is a string, a number or a boolean."""
        target = {"context": self._context}
        answer = self.command("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click an element as soon as it is there."""
        element = f"document.querySelector({json.dumps(selector)})"
        wait_until(lambda: self.evaluate(f"!!{element}"))
        self.evaluate(f"{element}.click()")


@contextmanager
def firefox_running(profile: Path, *, dark: bool = False) -> Iterator[Firefox]:
    """Run Firefox with a new profile for as long as the context lasts; Chromium must not be running in this thread."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox") or missing("Firefox")
    preferences = {**PREFERENCES, "layout.css.prefers-color-scheme.content-override": 0 if dark else 1}
    profile.mkdir()
    lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [executable, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with (
        asyncio.Runner() as runner,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if "WebDriver BiDi listening on" in line)
            session, socket = runner.run(_connect(address))
            yield Firefox(runner, socket)
            runner.run(session.close())
        finally:
            process.terminate()
            process.communicate(timeout=20)


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    return session, await session.ws_connect(f"{address}/session", max_msg_size=0)


def violations(page: "Page | Firefox") -> list[object]:
    """Return what axe finds in the page that is shown."""
    try:
        axe = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    except ImportError:
        missing("axe-playwright-python")
    page.evaluate(axe)
    ran = "axe.run().then(found => JSON.stringify(found.violations.map("
    ran += "one => [one.id, one.nodes.map(node => [node.html.slice(0, 200), node.failureSummary])])))"
    found: list[object] = json.loads(page.evaluate(ran))
    return found
