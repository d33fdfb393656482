"""A login in real browsers."""

import re
from pathlib import Path

import pytest

from tests.journeys.attack import wait_until
from tests.journeys.browsers import chromium_running, firefox_running
from tests.login.visitors import begin
from webex_loopback.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_chromium_signs_in_and_approves(sandbox: Sandbox, redirect_uri: str) -> None:
    login, url = begin()
    troubles: list[str] = []
    referrers: list[str] = []
    with chromium_running() as chromium:
        page = chromium.new_page(locale="en-GB")
        page.set_default_timeout(15_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: referrers.append(request.headers.get("referer", "")))
        page.goto(url)
        page.get_by_role("button", name="Alex Morgan").click()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url("**/done/**")
        assert page.get_by_role("heading", level=1).inner_text() == "You are logged in"
        assert "Alex Morgan" in page.locator("main").inner_text()
        assert login.result(10).how == "browser"
        # The code is not to be seen any more.
        assert re.fullmatch(re.escape(redirect_uri.removesuffix("/callback")) + "/done/[A-Za-z0-9_-]+", page.url)
        assert page.evaluate("[history.state, document.referrer]") == [None, ""]
        assert [secret for secret in sandbox.secrets if secret in page.content()] == []
    assert [referrer for referrer in referrers if "code=" in referrer or "state=" in referrer] == []
    assert troubles == []


@pytest.mark.usefixtures("redirect_uri")
def test_firefox_signs_in_and_approves(tmp_path: Path) -> None:
    login, url = begin()
    with firefox_running(tmp_path / "firefox") as firefox:
        firefox.goto(url)
        firefox.click("button[value='alex.morgan@example.com']")
        firefox.click("button[value=allow]")
        wait_until(lambda: firefox.evaluate("location.pathname.startsWith('/done/')"))
        wait_until(lambda: firefox.evaluate("document.readyState == 'complete'"))
        assert login.result(10).how == "browser"
        assert firefox.evaluate("document.querySelector('h1').innerText") == "You are logged in"
        assert firefox.evaluate("document.referrer") == ""
        assert "code=" not in firefox.evaluate("location.href")
