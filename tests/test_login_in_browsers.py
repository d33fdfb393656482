"""A login in real browsers: Chromium by Playwright, Firefox by WebDriver BiDi."""

import asyncio
import json
import queue
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from attack import connect, in_thread, request
from chromium import chromium_running
from test_login import Elsewhere

from webex_loopback import loopback
from webex_loopback.errors import AuthorizationDenied
from webex_loopback.grant import LoginResult
from webex_loopback.login import log_in
from webex_loopback.loopback import LoopbackServer
from webex_loopback.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.timeout(120)

Login = tuple["Future[LoginResult]", str]


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    with chromium_running() as running:
        yield running


@pytest.fixture
def context(chromium: "Browser") -> Iterator["BrowserContext"]:
    with chromium.new_context(locale="en-GB", ignore_https_errors=True) as one:
        one.set_default_timeout(15_000)
        yield one


@pytest.fixture
def begin() -> Callable[..., Login]:
    """Begin a login; return it, and the address that the browser is to open."""

    def begin(**options: Any) -> Login:
        addresses: queue.Queue[str] = queue.Queue()
        login = in_thread(lambda: log_in(open_browser=addresses.put, **options))
        return login, addresses.get(timeout=10)

    return begin


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Path and Referer of every request that reaches the loopback server."""
    seen: list[tuple[str, str]] = []
    handle = LoopbackServer._handle

    async def note(server: LoopbackServer, request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.raw_path, request.headers.get("Referer", "")))
        return await handle(server, request)

    monkeypatch.setattr(LoopbackServer, "_handle", note)
    return seen


def sign_in(page: "Page", address: str, decision: str = "Allow") -> None:
    page.goto(address)
    page.get_by_role("button", name="Alex Morgan").click()
    page.get_by_role("button", name=decision).click()
    page.wait_for_url("**/done/**")


def test_chromium_signs_in_and_approves(
    context: "BrowserContext",
    begin: Callable[..., Login],
    requests: list[tuple[str, str]],
    sandbox: Sandbox,
    redirect_uri: str,
) -> None:
    login, address = begin()
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    sign_in(page, address)
    assert page.get_by_role("heading", level=1).inner_text() == "You are logged in"
    assert "Alex Morgan" in page.locator("main").inner_text()
    assert login.result(10).how == "browser"
    # The code is nowhere to be seen any more.
    assert re.fullmatch(re.escape(redirect_uri.removesuffix("/callback")) + "/done/[A-Za-z0-9_-]+", page.url)
    assert page.evaluate("[history.state, document.referrer]") == [None, ""]
    assert [secret for secret in sandbox.secrets if secret in page.content()] == []
    assert [path.partition("?")[0].rpartition("/")[0] for path, _ in requests] == ["/start", "", "/done"]
    assert [referer for _, referer in requests if "code=" in referer or "state=" in referer] == []
    assert troubles == []


def test_going_back_and_forth_does_no_harm(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    login, address = begin()
    page = context.new_page()
    sign_in(page, address)
    token = login.result(10).token
    for _ in range(3):
        page.go_back()
        assert "code=" not in page.url
    assert sandbox.count("authorization_code") == 1
    assert sandbox.count("/v1/people/me") == 1
    assert log_in(open_browser=pytest.fail).token == token


def test_two_tabs_are_told_the_same(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    sandbox.switches.latency = 1  # so that both are held
    login, address = begin()
    first, second = context.new_page(), context.new_page()
    first.goto(address)
    first.get_by_role("button", name="Alex Morgan").click()
    second.goto(address)  # is signed in by now
    for page in (first, second):
        page.get_by_role("button", name="Allow").click(no_wait_after=True)
    for page in (first, second):
        page.wait_for_url("**/done/**")
        assert page.title().startswith("You are logged in")
    assert login.result(10).how == "browser"
    assert sandbox.count("authorization_code") == 1


def test_the_result_can_be_loaded_again(
    context: "BrowserContext",
    begin: Callable[..., Login],
    sandbox: Sandbox,
    redirect_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loopback, "FAREWELL_SECONDS", 15)
    sandbox.switches.latency = 1
    login, address = begin()
    other = urlsplit(Elsewhere().visit(address).url)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Alex Morgan").click()
    page.get_by_role("button", name="Allow").click(no_wait_after=True)
    # Somebody who never comes for the result: so long the server stays.
    with connect(other.port or 0) as connection:
        connection.sendall(request(f"{other.path}?{other.query}", other.port or 0))
        page.wait_for_url("**/done/**")
        assert not login.done()
        page.reload()
        assert page.title().startswith("You are logged in")
        assert login.result(5).how == "browser"
    assert sandbox.count("authorization_code") == 1


def test_declining_is_told_in_the_browser(
    context: "BrowserContext", begin: Callable[..., Login], redirect_uri: str
) -> None:
    login, address = begin()
    page = context.new_page()
    sign_in(page, address, "Decline")
    assert page.get_by_role("heading", level=1).inner_text() == "Access was declined"
    assert "error=" not in page.url
    with pytest.raises(AuthorizationDenied):
        login.result(10)


def test_a_self_signed_certificate(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, free_port: Callable[[], int]
) -> None:
    """The click through the warning is `ignore_https_errors`."""
    uri = f"https://127.0.0.1:{free_port()}/"
    sandbox.redirect_uris.append(uri)
    login, address = begin(redirect_uri=uri)
    page = context.new_page()
    sign_in(page, address)
    assert page.url.startswith(f"{uri}done/")
    assert page.title().startswith("You are logged in")
    assert login.result(10).how == "browser"


def test_a_japanese_browser(chromium: "Browser", begin: Callable[..., Login], redirect_uri: str) -> None:
    login, address = begin(login_hint="hanako.yamada@example.com")
    with chromium.new_context(locale="ja-JP") as context:
        page = context.new_page()
        page.goto(address)
        assert page.locator("html").get_attribute("lang") == "ja"
        page.get_by_role("button", name="山田 花子").click()
        page.locator("button[value=allow]").click()
        page.wait_for_url("**/done/**")
        assert page.locator("html").get_attribute("lang") == "ja"
        assert page.get_by_role("heading", level=1).inner_text() == "ログインしました"
        assert "山田 花子" in page.locator("main").inner_text()
    assert login.result(10).token.account.name == "山田 花子"


def test_a_tab_that_is_closed_while_the_login_is_exchanged(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    sandbox.switches.latency = 1
    login, address = begin()
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Alex Morgan").click()
    page.get_by_role("button", name="Allow").click(no_wait_after=True)
    while not sandbox.count("authorization_code"):
        page.wait_for_timeout(20)
    page.close()
    begun = time.monotonic()
    assert login.result(10).how == "browser"
    assert time.monotonic() - begun < 3


# Firefox


class Firefox:
    """A tab of Firefox, by WebDriver BiDi (W3C); Playwright drives only a Firefox of its own making."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._serial = 0
        self._tab = ""

    async def open(self) -> None:
        await self.send("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        tree = await self.send("browsingContext.getTree")
        self._tab = tree["contexts"][0]["context"]

    async def send(self, method: str, **params: object) -> dict[str, Any]:
        self._serial += 1
        await self._socket.send_str(json.dumps({"id": self._serial, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.receive_str(timeout=30))
            if answer.get("id") == self._serial:
                assert answer["type"] == "success", answer
                result: dict[str, Any] = answer["result"]
                return result

    async def go(self, url: str) -> None:
        await self.send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def ask(self, expression: str) -> Any:
        answer = await self.send(
            "script.evaluate", expression=expression, target={"context": self._tab}, awaitPromise=False
        )
        return answer.get("result", {}).get("value")

    async def wait_for(self, expression: str) -> None:
        until = time.monotonic() + 20
        while await self.ask(f"Boolean({expression})") is not True:
            assert time.monotonic() < until, await self.ask("location.href")
            await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        button = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(f"document.readyState === 'complete' && {button}")
        await self.ask(f"{button}.click()")


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[str]:
    """A running Firefox: the address of its BiDi socket."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("Firefox is not installed; this test needs it.")
    profile = tmp_path / "firefox"
    profile.mkdir()
    # No word to the outside: neither to see whether there is a network, nor for news.
    quiet = ["network.captive-portal-service.enabled", "network.connectivity-service.enabled", "app.normandy.enabled"]
    profile.joinpath("user.js").write_text("".join(f'user_pref("{name}", false);\n' for name in quiet))
    command = [executable, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if match := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                    in_thread(process.stderr.read)  # or a full pipe would stop it
                    yield f"{match[1]}/session"
                    break
            else:
                pytest.fail("Firefox has ended without a word.")
        finally:
            process.kill()


def test_firefox_signs_in_and_approves(
    firefox: str,
    begin: Callable[..., Login],
    requests: list[tuple[str, str]],
    sandbox: Sandbox,
    redirect_uri: str,
) -> None:
    login, address = begin()

    async def drive() -> list[object]:
        async with aiohttp.ClientSession() as session, session.ws_connect(firefox, max_msg_size=0) as socket:
            browser = Firefox(socket)
            await browser.open()
            await browser.go(address)
            await browser.click("button[value='alex.morgan@example.com']")
            await browser.click("button[value=allow]")
            await browser.wait_for("location.pathname.startsWith('/done/') && document.readyState === 'complete'")
            await asyncio.sleep(0.5)  # the favicon, if it wants one
            shown = ("document.querySelector('h1').innerText", "document.referrer", "location.href")
            return [await browser.ask(expression) for expression in shown]

    # In a thread: Playwright has an event loop in this one.
    heading, referrer, url = in_thread(lambda: asyncio.run(drive())).result(60)
    assert login.result(10).how == "browser"
    assert heading == "You are logged in"
    assert referrer == ""
    assert "code=" not in str(url)
    assert [path for path, _ in requests if path.startswith("/callback?")] != []
    # Firefox sends a favicon's Referer whole, unless the page forbids it.
    assert [referer for _, referer in requests if "code=" in referer or "state=" in referer] == []
