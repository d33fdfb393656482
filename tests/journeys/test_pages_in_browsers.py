"""The pages of a login and of the sandbox in real browsers, with their headers: no complaint, whole, accessible."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import pytest

from tests.journeys.browsers import Firefox, chromium_running, firefox_running, violations
from tests.login.test_pages import EVERY_PAGE
from webex_loopback.login import pages
from webex_loopback.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# One of each structure and colour; axe takes half a second for each.
FOR_AXE = ("success", "forty-scopes", "bare", "access_denied", "exchange_rejected")


@pytest.fixture
def urls(sandbox: Sandbox, language: str) -> dict[str, str]:
    """Where the sandbox answers with each page, in the language of the test."""
    for name, page in EVERY_PAGE.items():
        sandbox.answer(f"/{name}", body=pages.render(page, language, "work"), headers=pages.HEADERS, times=9)
    return {name: f"{sandbox.origin}/{name}" for name in EVERY_PAGE}


def flaws(page: Union["Page", Firefox], width: int) -> list[str]:
    """Return what is wrong in a window of that width."""
    seen = page.evaluate("document.documentElement.scrollWidth")
    radius = page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius")
    return [f"is wider than {width} pixels"] * (seen > width) + ["has no style"] * (radius != "16px")


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("ja", "dark")])
def test_in_chromium_every_page_fits_and_is_accessible(
    sandbox: Sandbox, urls: dict[str, str], language: str, scheme: Literal["light", "dark"]
) -> None:
    wrong: list[object] = []
    look: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce", "locale": language}
    with chromium_running() as chromium:
        page = chromium.new_page(**look)
        page.on("console", lambda message: wrong.append((page.url, message.text)))
        page.on("pageerror", lambda error: wrong.append((page.url, str(error))))
        for name, url in urls.items():
            page.goto(url)
            for width in (1280, 320):
                page.set_viewport_size({"width": width, "height": 800})
                wrong += [(name, flaw) for flaw in flaws(page, width)]
        assert {request.path for request in sandbox.requests} == {f"/{name}" for name in urls}  # not even a favicon
        page = chromium.new_page(bypass_csp=True, viewport={"width": 320, "height": 800}, **look)  # lets axe in
        own = (
            "",
            "/v1/device/verify?userCode=1",
            "/v1/authorize",
            sandbox.authorization_url.removeprefix(sandbox.origin),
        )
        for url in (*map(urls.__getitem__, FOR_AXE), *(sandbox.origin + path for path in own)):
            page.goto(url)
            wrong += [(url, violation) for violation in violations(page)]
        page.get_by_role("button", name="Alex Morgan").click()
        page.wait_for_url("**/consent**")
        wrong += violations(page)
    assert wrong == []


@pytest.mark.parametrize(("language", "scheme"), [("en", "dark"), ("ja", "light")])
def test_in_firefox_pages_fit_and_are_accessible(urls: dict[str, str], tmp_path: Path, scheme: str) -> None:
    wrong: list[object] = []
    with firefox_running(tmp_path / "profile", dark=scheme == "dark") as firefox:
        firefox.resize(320, 800)
        for name in ("hostile", *FOR_AXE):
            firefox.goto(urls[name])
            wrong += [(name, flaw) for flaw in [*flaws(firefox, 320), *violations(firefox)]]
        assert firefox.console == []
    assert wrong == []
