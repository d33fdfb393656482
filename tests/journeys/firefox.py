"""Debian's Firefox, driven by WebDriver BiDi; tests that need it are skipped if it is missing, except in CI."""

import asyncio
import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from .chromium import missing

# Without these it takes twice as long to start, and looks for hosts that a closed network does not have.
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


class Firefox:
    """One window of a running Firefox."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._loop, self._socket, self._numbers = loop, socket, itertools.count()
        self.console: list[str] = []
        self.command("session.new", capabilities={})
        self.command("session.subscribe", events=["log.entryAdded"])
        self._context = self.command("browsingContext.getTree")["contexts"][0]["context"]

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        work = asyncio.wait_for(self._command(method, parameters), 30)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _command(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json()
            if message.get("method") == "log.entryAdded":
                self.console.append(str(message["params"]["text"]))
            elif message.get("id") == number:
                assert message["type"] == "success", message
                result: dict[str, Any] = message["result"]
                return result

    def resize(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        self.command("browsingContext.setViewport", context=self._context, viewport=viewport)

    def goto(self, url: str) -> None:
        self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page; return what it gives, if that is a string or a number."""
        target = {"context": self._context}
        answer = self.command("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")


@contextmanager
def firefox_running(profile: Path, *, dark: bool = False) -> Iterator[Firefox]:
    """Run Firefox with a new profile for as long as the context lasts."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        missing("Firefox is not installed")
    preferences = {**PREFERENCES, "layout.css.prefers-color-scheme.content-override": 0 if dark else 1}
    profile.mkdir()
    lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = [executable, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # In a thread of its own: Playwright's loop may be running in this one.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert process.stderr is not None
        address = next(line.split()[-1] for line in process.stderr if "WebDriver BiDi listening on" in line)
        session, socket = asyncio.run_coroutine_threadsafe(_connect(address), loop).result(20)
        try:
            yield Firefox(loop, socket)
        finally:
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(20)
    finally:
        process.terminate()
        process.communicate(timeout=20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    return session, await session.ws_connect(f"{address}/session", max_msg_size=0)
