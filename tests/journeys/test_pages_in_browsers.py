"""Every page of a login in real browsers, with its real headers: no complaint, nothing cut off, accessible."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.journeys.chromium import chromium_running, missing
from tests.journeys.firefox import firefox_running
from tests.login.test_pages import EVERY_PAGE
from webex_loopback.login import pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where a server has all pages, at /LANGUAGE/NAME; it notes what it is asked for."""
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    with chromium_running() as running:
        yield running


def axe() -> str:
    """Return JavaScript that defines axe."""
    try:
        return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    except ImportError:
        missing("axe-playwright-python is not installed")


# What axe finds, as JSON.
RUN_AXE = """
    axe.run().then(found => JSON.stringify(found.violations.map(
        one => [one.id, one.nodes.map(node => [node.html.slice(0, 200), node.failureSummary])])))
"""
WIDTH = "document.documentElement.scrollWidth"
HAS_STYLE = "getComputedStyle(document.querySelector('main')).borderRadius"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("ja", "dark")])
def test_in_chromium_every_page_fits_and_is_accessible(
    chromium: "Browser", origin: str, language: str, scheme: Literal["light", "dark"]
) -> None:
    Handler.asked.clear()
    wrong: list[object] = []
    paths = [f"/{language}/{name}" for name in EVERY_PAGE]
    look: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce", "locale": language}
    with chromium.new_context(**look) as context:
        page = context.new_page()
        page.on("console", lambda message: wrong.append((page.url, message.text)))
        page.on("pageerror", lambda error: wrong.append((page.url, str(error))))
        for path in paths:
            page.goto(origin + path)
            for width in (1280, 320):
                page.set_viewport_size({"width": width, "height": 800})
                if page.evaluate(WIDTH) > width:
                    wrong.append((path, f"is wider than {width} pixels"))
            if page.evaluate(HAS_STYLE) != "16px":
                wrong.append((path, "has no style"))
    with chromium.new_context(bypass_csp=True, viewport={"width": 320, "height": 800}, **look) as context:
        page = context.new_page()  # that lets axe in
        for name in FOR_AXE:
            page.goto(f"{origin}/{language}/{name}")
            page.evaluate(axe())
            wrong += [(name, violation) for violation in json.loads(page.evaluate(RUN_AXE))]
    assert wrong == []
    assert sorted(set(Handler.asked)) == sorted(paths)  # no favicon, nothing else


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("language", "scheme"), [("en", "dark"), ("ja", "light")])
def test_in_firefox_pages_fit_and_are_accessible(origin: str, tmp_path: Path, language: str, scheme: str) -> None:
    wrong: list[object] = []
    with firefox_running(tmp_path / "profile", dark=scheme == "dark") as firefox:
        firefox.resize(320, 800)
        for name in ("hostile", *FOR_AXE):
            firefox.goto(f"{origin}/{language}/{name}")
            if firefox.evaluate(WIDTH) > 320:
                wrong.append((name, "is wider than the window"))
            if firefox.evaluate(HAS_STYLE) != "16px":
                wrong.append((name, "has no style"))
            firefox.evaluate(axe())
            wrong += [(name, violation) for violation in json.loads(firefox.evaluate(RUN_AXE))]
        assert firefox.console == []
    assert wrong == []
