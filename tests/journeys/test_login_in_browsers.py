"""A login in real browsers: Chromium by Playwright, Firefox by WebDriver BiDi."""

import queue
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.attack import wait_until
from tests.journeys.chromium import chromium_running
from tests.journeys.firefox import firefox_running
from webex_loopback.login.login import LoginResult, log_in
from webex_loopback.sandbox import Sandbox
from webex_loopback.webex import worker

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

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
    """Begin a login; return it, and the URL that the browser is to open."""

    def begin(**options: Any) -> Login:
        urls: queue.Queue[str] = queue.Queue()
        login = worker.start(lambda: log_in(open_browser=urls.put, **options))
        return login, urls.get(timeout=10)

    return begin


def sign_in(page: "Page", url: str, decision: str = "Allow") -> None:
    page.goto(url)
    page.get_by_role("button", name="Alex Morgan").click()
    page.get_by_role("button", name=decision).click()
    page.wait_for_url("**/done/**")


def test_chromium_signs_in_and_approves(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    login, url = begin()
    page = context.new_page()
    troubles: list[str] = []
    referrers: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: referrers.append(request.headers.get("referer", "")))
    sign_in(page, url)
    assert page.get_by_role("heading", level=1).inner_text() == "You are logged in"
    assert "Alex Morgan" in page.locator("main").inner_text()
    assert login.result(10).how == "browser"
    # The code is not to be seen any more.
    assert re.fullmatch(re.escape(redirect_uri.removesuffix("/callback")) + "/done/[A-Za-z0-9_-]+", page.url)
    assert page.evaluate("[history.state, document.referrer]") == [None, ""]
    assert [secret for secret in sandbox.secrets if secret in page.content()] == []
    assert [referrer for referrer in referrers if "code=" in referrer or "state=" in referrer] == []
    assert troubles == []


def test_firefox_signs_in_and_approves(begin: Callable[..., Login], redirect_uri: str, tmp_path: Path) -> None:
    login, url = begin()
    with firefox_running(tmp_path / "firefox") as firefox:
        firefox.goto(url)
        for selector in ("button[value='alex.morgan@example.com']", "button[value=allow]"):
            button = f'document.querySelector("{selector}")'
            wait_until(lambda there=f"String(!!{button})": bool(firefox.evaluate(there) == "true"))  # type: ignore[misc]
            firefox.evaluate(f'{button}.click(), ""')
        wait_until(lambda: str(firefox.evaluate("location.pathname")).startswith("/done/"))
        wait_until(lambda: firefox.evaluate("document.readyState") == "complete")
        assert login.result(10).how == "browser"
        assert firefox.evaluate("document.querySelector('h1').innerText") == "You are logged in"
        assert firefox.evaluate("document.referrer") == ""
        assert "code=" not in str(firefox.evaluate("location.href"))
