"""Every page of a login in real browsers, with its real headers: no complaint, nothing cut off, accessible."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import pytest

from tests.journeys.browsers import Firefox, chromium_running, firefox_running, violations
from tests.login.test_pages import EVERY_PAGE
from webex_loopback.login import pages

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# One of each structure and colour; axe takes half a second for each.
FOR_AXE = ("success", "forty-scopes", "bare", "access_denied", "exchange_rejected")


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        language, _, name = self.path[1:].partition("/")
        if name not in EVERY_PAGE:
            self.send_error(404)
            return
        body = pages.render(EVERY_PAGE[name], language, "work").encode()
        self.send_response(200)
        for header, value in {**pages.HEADERS, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[str]:
    """Where a server has all pages, at /LANGUAGE/NAME; it notes what it is asked for."""
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def flaws(page: Union["Page", Firefox], width: int) -> list[str]:
    """Return what is wrong in a window of that width."""
    seen = page.evaluate("document.documentElement.scrollWidth")
    radius = page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius")
    return [f"is wider than {width} pixels"] * (seen > width) + ["has no style"] * (radius != "16px")


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("ja", "dark")])
def test_in_chromium_every_page_fits_and_is_accessible(
    origin: str, language: str, scheme: Literal["light", "dark"]
) -> None:
    wrong: list[object] = []
    paths = [f"/{language}/{name}" for name in EVERY_PAGE]
    look: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce", "locale": language}
    with chromium_running() as chromium:
        page = chromium.new_page(**look)
        page.on("console", lambda message: wrong.append((page.url, message.text)))
        page.on("pageerror", lambda error: wrong.append((page.url, str(error))))
        for path in paths:
            page.goto(origin + path)
            for width in (1280, 320):
                page.set_viewport_size({"width": width, "height": 800})
                wrong += [(path, flaw) for flaw in flaws(page, width)]
        page = chromium.new_page(bypass_csp=True, viewport={"width": 320, "height": 800}, **look)  # lets axe in
        for name in FOR_AXE:
            page.goto(f"{origin}/{language}/{name}")
            wrong += [(name, violation) for violation in violations(page)]
    assert wrong == []
    assert sorted(set(Handler.asked)) == sorted(paths)  # no favicon, nothing else


@pytest.mark.parametrize(("language", "scheme"), [("en", "dark"), ("ja", "light")])
def test_in_firefox_pages_fit_and_are_accessible(origin: str, tmp_path: Path, language: str, scheme: str) -> None:
    wrong: list[object] = []
    with firefox_running(tmp_path / "profile", dark=scheme == "dark") as firefox:
        firefox.resize(320, 800)
        for name in ("hostile", *FOR_AXE):
            firefox.goto(f"{origin}/{language}/{name}")
            wrong += [(name, flaw) for flaw in [*flaws(firefox, 320), *violations(firefox)]]
        assert firefox.console == []
    assert wrong == []
