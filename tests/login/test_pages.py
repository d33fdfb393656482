"""The pages of a login: the same in both languages, foreign text as text, nothing fetched or executed."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from webex_loopback.login import pages
from webex_loopback.login.pages import FailurePage, SuccessPage

NOW = 1_795_517_280.0  # 2026-11-24 10:48 UTC
HOSTILE = "<script>alert('x')</script>\u202eesrever\u2066\x00\x1b[31m\ud800 {login} `code` $title &quot; " + "W" * 5000
VOID = {"meta", "link", "path", "circle"}
INLINE = {"a", "b", "bdi", "code", "small"}
KINDS = json.loads(resources.files(pages).joinpath("en.json").read_text(encoding="utf-8"))["failures"]
STILL_WAITING = ("already_opened", "not_this_login", "other_browser", "other_user", "response_mode")


def success(**changes: Any) -> SuccessPage:
    fields = {"account_name": "山田 花子", "account_email": "hanako.yamada@example.com", "granted": ("spark:kms",)}
    times = {"access_token_until": NOW + 1_209_599, "refresh_token_until": NOW + 7_775_999}
    return SuccessPage(**{"profile": "default", "missing": (), **fields, **times, **changes})


SCOPES = tuple(f"spark-admin:telephony_config_read_{n}" for n in range(250))
EVERY_PAGE: dict[str, SuccessPage | FailurePage] = {
    "success": success(),
    "forty-scopes": success(granted=SCOPES[:40], missing=SCOPES[:1], profile="work"),
    "bare": success(account_name="", account_email="", granted=(), access_token_until=None, renewable=False),
    "hostile": success(
        profile=HOSTILE, account_name=HOSTILE, account_email=HOSTILE, granted=(HOSTILE,) * 500, missing=(HOSTILE,)
    ),
    **{kind: FailurePage(kind, "The requested scope is invalid.", "ROUTER_1") for kind in KINDS},
    "hostile-failure": FailurePage("authorization_error", HOSTILE, HOSTILE),
}


class Document(HTMLParser):
    """A document, read strictly: every element is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.words += [] if tag in INLINE else [" "]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += [data] if self.open and self.open[-1] != "style" else []


def shown(page: SuccessPage | FailurePage, language: str = "en", profile: str = "default") -> str:
    return Document(pages.render(page, language, profile, now=NOW)).text


# Languages


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("JA-jp", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("fr,  ja ; q=0.1", "ja"),
        ("jam,jargon;;;,,,=q", "en"),
        ("fr," * 10_000 + "ja", "en"),
    ],
)
def test_the_language_is_the_one_the_browser_prefers(header: str | None, language: str) -> None:
    assert pages.choose_language(header) == language


# The document


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_every_page_is_a_complete_document_that_fetches_and_runs_nothing(name: str, language: str) -> None:
    html = pages.render(EVERY_PAGE[name], language, now=NOW)
    elements = Document(html).elements
    assert html.startswith(f'<!doctype html>\n<html lang="{language}">')
    assert len(html.encode()) < 100_000
    if "hostile" not in name:
        assert not re.search(r"\{\w+\}|`|\$[a-z]", re.sub(r"<(style|pre)>.*?</\1>", "", html, flags=re.DOTALL))
    for one in ("title", "main", "h1", "style"):
        assert [tag for tag, _ in elements].count(one) == 1
    for tag, attributes in elements:
        assert tag not in {"script", "img", "iframe", "object", "embed", "form", "base"}
        assert not {"src", "style"} & attributes.keys()
        assert not any(attribute.startswith("on") for attribute in attributes)
        if tag == "link":
            assert (attributes["rel"], (attributes["href"] or "")[:19]) == ("icon", "data:image/svg+xml,")
        elif tag == "a":
            assert attributes == {"href": "https://developer.webex.com/my-apps", "rel": "noreferrer"}
        else:
            assert "href" not in attributes


def test_the_headers_allow_the_style_of_the_page_and_nothing_else() -> None:
    style = pages.render(success(), "ja", now=NOW).partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
    assert pages.HEADERS["Content-Security-Policy"] == f"{policy}frame-ancestors 'none'"
    strict = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
    strict |= {"Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY"}
    assert strict.items() <= pages.HEADERS.items()


# Foreign text


@pytest.mark.parametrize("name", ["hostile", "hostile-failure"])
def test_hostile_text_is_shown_as_text(name: str) -> None:
    html = pages.render(EVERY_PAGE[name], "en", now=NOW)
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert "{login} `code` $title" in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", html)
    assert "W" * 1001 not in html


# Content


def test_success_shows_who_what_until_when_and_what_next() -> None:
    text = shown(success(profile="work", missing=("spark:rooms_read",)))
    for part in (
        "You are logged in",
        "Account 山田 花子",
        "hanako.yamada@example.com",
        "Profile work",
        "Access token expires in 14 days",
        "Refresh token expires in 90 days",
        "not granted 1 spark:rooms_read",
        "webex-loopback login -p work --force",
        "Granted scopes 1 spark:kms",
        "Bearer {get_token('work')}\"",  # inside an f-string: other quotes, until Python 3.12
        "webex-loopback api -p work people/me",
        "webex-loopback status -p work",
    ):
        assert part in text, part
    assert "あと14日" in shown(success(), "ja")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"account_name": ""}, "Account hanako.yamada@example.com Profile"),
        ({"account_email": ""}, "Account 山田 花子 Profile"),
        ({"account_email": "", "account_name": "\u200e\u202e"}, "Account Unknown"),
        ({"access_token_until": NOW + 5}, "Access token expires in 5 s 20"),
        ({"access_token_until": NOW}, "Access token expires expired 20"),
        ({"access_token_until": None}, "Access token expires unknown The token response"),
        ({"access_token_until": 1e30}, "an unknown time"),
        ({"renewable": False}, "no refresh token, so it cannot be renewed. Log in again when it expires."),
        ({"granted": ()}, "Granted scopes The token response does not list them."),
        ({"granted": SCOPES}, "Granted scopes 250 "),
    ],
)
def test_the_page_says_what_is_unknown_or_unusual(changes: dict[str, Any], expected: str) -> None:
    assert expected in shown(success(**changes))


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_says_what_happened_and_what_to_do(kind: str, language: str) -> None:
    text = shown(FailurePage(kind, "The exact words.", "ROUTER_62E068B0"), language, "work")
    assert "The exact words." in text
    assert "ROUTER_62E068B0" in text
    assert "webex-loopback login -p work" in text or kind in STILL_WAITING
    # While the login waits, the page may be needed.
    close = "You can close this tab." if language == "en" else "このタブは閉じてかまいません。"
    assert (close in text) == (kind not in STILL_WAITING)
