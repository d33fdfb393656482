"""Every page in a real browser, with the real headers: no complaint of the browser, no overflow, accessible."""

import importlib
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

import pytest
from chromium import chromium_running, missing

from webex_loopback import pages
from webex_loopback.pages import FailurePage, SuccessPage
from webex_loopback.sandbox import pages as sandbox_pages
from webex_loopback.sandbox.registration import ACCOUNTS, REDIRECT_URIS, SCOPES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<script>document.title = 'x'</script>\u202eesrever " + "W" * 5000
FORTY_SCOPES = tuple(sandbox_pages.SCOPE_WORDS)[:40]


def product_pages(language: str) -> dict[str, str]:
    now = time.time()

    def success(
        *,
        granted: tuple[str, ...] = ("spark:people_read", "spark:kms"),
        missing: tuple[str, ...] = (),
        until: float | None = now + 1_209_600,
        text: str = "",
    ) -> SuccessPage:
        name, email = (text, text) if text else ("山田 花子", "hanako.yamada@example.com")
        return SuccessPage(text or "default", name, email, granted, missing, until, until)

    every: dict[str, SuccessPage | FailurePage] = {
        "success": success(),
        "forty-scopes": success(granted=FORTY_SCOPES, missing=("spark-admin:telephony_config_write",)),
        "bare": success(granted=(), until=None),
        "hostile": success(text=HOSTILE, granted=(HOSTILE,) * 20, missing=(HOSTILE,)),
        "hostile-failure": FailurePage("authorization_error", HOSTILE, HOSTILE),
        **{kind: FailurePage(kind, "The requested scope is invalid.", "ROUTER_62E0") for kind in pages.FAILURES},
    }
    return {name: pages.render(page, language) for name, page in every.items()}


def pages_of_the_sandbox(language: str) -> dict[str, str]:
    accounts = [(account.email, account.name) for account in ACCOUNTS]

    def login_page(hint: str, error: str) -> str:
        return sandbox_pages.login_page(
            language, action="/", hidden={}, accounts=accounts, login_hint=hint, error=error
        )

    def consent_page(text: str, scopes: tuple[str, ...]) -> str:
        return sandbox_pages.consent_page(
            language, action="/", hidden={}, integration=text, account_name=text, account_email=text, scopes=scopes
        )

    return {
        "login": login_page("", ""),
        "login-error": login_page(HOSTILE, HOSTILE),
        "consent": consent_page("Sandbox Integration", FORTY_SCOPES),
        "hostile-consent": consent_page(HOSTILE, (HOSTILE,)),
        "error": sandbox_pages.error_page(language, status=400, title=HOSTILE, detail=HOSTILE, tracking_id=HOSTILE),
        "device": sandbox_pages.device_page(language, action="/", hidden={}, user_code="123456", error="No."),
        "device-done": sandbox_pages.device_done_page(language, allowed=True),
        "home": sandbox_pages.home_page(
            language,
            base_url="http://127.0.0.1:8780/v1",
            client_id="C" + "0" * 64,
            redirect_uris=REDIRECT_URIS,
            scopes=SCOPES,
        ),
    }


def documents() -> dict[str, tuple[str, Mapping[str, str]]]:
    """Path to HTML and headers, of every page in every language."""
    return {
        f"/{language}/{shop}/{name}": (html, headers)
        for language in pages.LANGUAGES
        for shop, every, headers in (
            ("product", product_pages(language), pages.HEADERS),
            ("sandbox", pages_of_the_sandbox(language), sandbox_pages.HEADERS),
        )
        for name, html in every.items()
    }


DOCUMENTS = documents()


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in DOCUMENTS:
            self.send_error(404)
            return
        html, headers = DOCUMENTS[self.path]
        body = html.encode()
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """A server of all documents: its address, and the paths it was asked for."""
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", Handler.asked
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium_running() as running:
        yield running


def axe_violations(page: "Page") -> list[Any]:
    try:
        # By name: it has no types.
        axe = importlib.import_module("axe_playwright_python.sync_playwright").Axe()
    except ImportError:
        missing("axe-playwright-python is not installed")
    result: dict[str, Any] = axe.run(page).response
    return [
        (violation["id"], [(node["html"][:200], node["failureSummary"]) for node in violation["nodes"]])
        for violation in result["violations"]
    ]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", pages.LANGUAGES)
def test_every_page_is_quiet_fits_and_is_accessible(
    browser: "Browser",
    server: tuple[str, list[str]],
    language: str,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    address, asked = server
    asked.clear()
    wrong: list[object] = []
    paths = [path for path in DOCUMENTS if path.startswith(f"/{language}/")]
    look: dict[str, Any] = {
        "color_scheme": scheme,
        "reduced_motion": "reduce",
        "locale": language,
        "viewport": {"width": width, "height": 800},
    }
    with browser.new_context(**look) as context:
        page = context.new_page()
        page.on("console", lambda message: wrong.append((page.url, message.text)))
        page.on("pageerror", lambda error: wrong.append((page.url, str(error))))
        for path in paths:
            page.goto(address + path)
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wrong.append((path, "is wider than the window"))
            if page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") != "16px":
                wrong.append((path, "has no style"))
    # axe is a script of its own: the policy has to let it in.
    with browser.new_context(bypass_csp=True, **look) as context:
        page = context.new_page()
        for path in paths:
            page.goto(address + path)
            page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            wrong += [(path, violation) for violation in axe_violations(page)]
    assert wrong == []
    assert sorted(set(asked)) == sorted(paths)  # no favicon, nothing else


def test_motion_is_only_for_those_who_want_it(browser: "Browser", server: tuple[str, list[str]]) -> None:
    name = "getComputedStyle(document.querySelector('.mark')).animationName"
    with browser.new_context(reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(f"{server[0]}/en/product/success")
        assert page.evaluate(name) == "none"
        page.emulate_media(reduced_motion="no-preference")
        assert page.evaluate(name) == "settle"


@pytest.mark.parametrize(
    ("path", "stops"), [("/en/product/forty-scopes", ["SUMMARY"]), ("/en/product/invalid_scope", ["A"])]
)
def test_keyboard_focus_is_visible(
    browser: "Browser", server: tuple[str, list[str]], path: str, stops: list[str]
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(server[0] + path)
        for tag in stops:
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.tagName") == tag
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_everything_is_there_without_script(browser: "Browser", server: tuple[str, list[str]]) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{server[0]}/en/product/forty-scopes")
        assert not page.get_by_text(FORTY_SCOPES[-1], exact=True).is_visible()
        page.get_by_text("Show 28 more").click()
        assert page.get_by_text(FORTY_SCOPES[-1], exact=True).is_visible()
        assert page.get_by_role("heading", level=1).inner_text() == "You are logged in"


def test_consent_buttons_stay_in_view_of_a_long_list(browser: "Browser", server: tuple[str, list[str]]) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.goto(f"{server[0]}/en/sandbox/consent")
        box = page.get_by_role("button", name="Allow").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800
