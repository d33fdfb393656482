"""A login in real browsers: Chromium by Playwright, Firefox by WebDriver BiDi."""

import queue
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.journeys.chromium import chromium_running
from tests.journeys.firefox import firefox_running
from webex_loopback.errors import LoginTimeout
from webex_loopback.login.browser import Choice, Opener
from webex_loopback.login.login import LoginResult, log_in
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens import worker

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


def test_going_back_and_forth_does_no_harm(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    login, url = begin()
    page = context.new_page()
    sign_in(page, url)
    token = login.result(10).token
    for _ in range(3):
        page.go_back()
        assert "code=" not in page.url
    assert sandbox.count("authorization_code") == 1
    assert log_in(open_browser=pytest.fail).token == token


@pytest.mark.parametrize("leave", ["back", "close"])
def test_leaving_webex_is_what_the_timeout_speaks_of(
    context: "BrowserContext", begin: Callable[..., Login], redirect_uri: str, leave: str
) -> None:
    login, url = begin(timeout_seconds=8)
    page = context.new_page()
    page.goto("about:blank")
    page.goto(url)
    page.get_by_role("button", name="Alex Morgan").wait_for()
    if leave == "back":
        page.go_back()
    else:
        page.close()
    with pytest.raises(LoginTimeout, match="did not send it back") as caught:
        login.result(20)
    assert "tab was closed" in caught.value.remedy


def test_opening_the_link_again_does_not_disturb_the_first_tab(
    context: "BrowserContext", begin: Callable[..., Login], redirect_uri: str
) -> None:
    login, url = begin()
    first, second = context.new_page(), context.new_page()
    first.goto(url)
    second.goto(url)
    assert "already been opened" in second.get_by_role("heading", level=1).inner_text()
    first.get_by_role("button", name="Alex Morgan").click()
    first.get_by_role("button", name="Allow").click()
    first.wait_for_url("**/done/**")
    assert login.result(10).how == "browser"


def test_another_browser_cannot_finish_the_login(
    context: "BrowserContext", chromium: "Browser", begin: Callable[..., Login], sandbox: Sandbox, redirect_uri: str
) -> None:
    login, url = begin(timeout_seconds=30)
    page = context.new_page()
    page.goto(url)
    authorize = page.url
    with chromium.new_context(locale="en-GB") as other:
        attacker = other.new_page()
        attacker.goto(authorize)
        attacker.locator("button[value='hanako.yamada@example.com']").click()
        attacker.get_by_role("button", name="Allow").click()
        attacker.wait_for_url("**/callback?**")
        assert "did not start the login" in attacker.get_by_role("heading", level=1).inner_text()
    assert sandbox.count("authorization_code") == 0
    page.get_by_role("button", name="Alex Morgan").click()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url("**/done/**")
    assert login.result(10).token.account.name == "Alex Morgan"


def test_a_self_signed_certificate(
    context: "BrowserContext", begin: Callable[..., Login], sandbox: Sandbox, free_port: Callable[[], int]
) -> None:
    """The click through the warning is `ignore_https_errors`."""
    uri = f"https://127.0.0.1:{free_port()}/"
    sandbox.redirect_uris.append(uri)
    login, url = begin(redirect_uri=uri)
    page = context.new_page()
    sign_in(page, url)
    assert page.url.startswith(f"{uri}done/")
    assert page.title().startswith("You are logged in")
    assert login.result(10).how == "browser"


def test_a_japanese_browser(chromium: "Browser", begin: Callable[..., Login], redirect_uri: str) -> None:
    login, url = begin(login_hint="hanako.yamada@example.com")
    with chromium.new_context(locale="ja-JP") as context:
        page = context.new_page()
        page.goto(url)
        page.get_by_role("button", name="山田 花子").click()
        page.locator("button[value=allow]").click()
        page.wait_for_url("**/done/**")
        assert page.locator("html").get_attribute("lang") == "ja"
        assert page.get_by_role("heading", level=1).inner_text() == "ログインしました"
    assert login.result(10).token.account.name == "山田 花子"


def test_a_redirect_file_leads_to_the_login(
    context: "BrowserContext", begin: Callable[..., Login], redirect_uri: str, tmp_path: Path
) -> None:
    """As on macOS, where the command line of `open` holds a file's name only."""
    seen = tmp_path / "seen"
    fake = tmp_path / "open"
    fake.write_text(f'#!/bin/sh\nprintf %s "$1" > "{seen}"\n')
    fake.chmod(0o755)
    login, url = begin()
    with Opener(Choice([str(fake)], "open", "", by_file=True)) as opener:
        assert opener.open(url).result(5)
        page = context.new_page()
        page.goto(seen.read_text())
        page.get_by_role("button", name="Alex Morgan").click()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url("**/done/**")
    assert login.result(10).how == "browser"


def test_firefox_signs_in_and_approves(begin: Callable[..., Login], redirect_uri: str, tmp_path: Path) -> None:
    login, url = begin()
    with firefox_running(tmp_path / "firefox") as firefox:
        firefox.goto(url)
        for selector in ("button[value='alex.morgan@example.com']", "button[value=allow]"):
            button = f'document.querySelector("{selector}")'
            wait_for(lambda there=f"String(!!{button})": bool(firefox.evaluate(there) == "true"))  # type: ignore[misc]
            firefox.evaluate(f'{button}.click(), ""')
        wait_for(lambda: str(firefox.evaluate("location.pathname")).startswith("/done/"))
        wait_for(lambda: firefox.evaluate("document.readyState") == "complete")
        assert login.result(10).how == "browser"
        assert firefox.evaluate("document.querySelector('h1').innerText") == "You are logged in"
        assert firefox.evaluate("document.referrer") == ""
        assert "code=" not in str(firefox.evaluate("location.href"))


def wait_for(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.05)
