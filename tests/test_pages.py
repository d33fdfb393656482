import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webex_loopback import pages
from webex_loopback.pages import FailurePage, SuccessPage

NOW = 1_795_517_280.0  # 2026-11-24 10:48 UTC
HOSTILE = "<script>alert('x')</script>\u202eesrever\u2066\x00\x1b[31m\ud800 \"&quot; " + "W" * 5000
VOID = {"meta", "link", "path", "br", "input"}
INLINE = {"a", "b", "bdi", "code", "small", "span", "time"}
# What a Japanese text may say in Latin letters: names, and what is typed.
LATIN = {"Webex", "webex-loopback", "Python", "API", "ID", "Ctrl-C", "UTC"}


def success(**changes: object) -> SuccessPage:
    values: dict[str, object] = {
        "profile": "default",
        "account_name": "山田 花子",
        "account_email": "hanako.yamada@example.com",
        "granted": ("spark:people_read", "spark:kms"),
        "missing": (),
        "access_token_until": NOW + 1_209_599,
        "refresh_token_until": NOW + 7_775_999,
    }
    return SuccessPage(**{**values, **changes})  # type: ignore[arg-type]


EVERY_PAGE: dict[str, SuccessPage | FailurePage] = {
    "success": success(),
    "forty scopes": success(granted=tuple(f"spark:scope_{n}" for n in range(40)), profile="work"),
    "missing scopes": success(missing=("spark:rooms_read",), access_token_until=None),
    "bare": success(account_name="", account_email="", granted=(), refresh_token_until=None),
    "hostile": success(
        profile=HOSTILE, account_name=HOSTILE, account_email=HOSTILE, granted=(HOSTILE,) * 500, missing=(HOSTILE,)
    ),
    **{kind: FailurePage(kind, "The requested scope is invalid.", "ROUTER_1") for kind in pages.FAILURES},
    "hostile failure": FailurePage("authorization_error", HOSTILE, HOSTILE),
}


class Document(HTMLParser):
    """A document read strictly: every element closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in INLINE:
            self.words.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture
def time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    if not hasattr(time, "tzset"):
        pytest.skip("The time zone of a process cannot be set on Windows.")

    def set_time_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_time_zone
    monkeypatch.undo()
    time.tzset()


def shown(page: SuccessPage | FailurePage, language: str = "en") -> str:
    return Document(pages.render(page, language, now=NOW)).text


def template_texts(column: int) -> Iterator[tuple[str, str]]:
    for key, texts in pages.TEXTS.items():
        yield key, texts[column]
    for kind, failures in pages.FAILURES.items():
        failure = failures[column]
        yield from ((f"{kind}.{n}", text) for n, text in enumerate((failure.title, failure.why, *failure.steps)))


# Languages


def test_both_languages_say_the_same_things() -> None:
    english, japanese = dict(template_texts(0)), dict(template_texts(1))
    assert english.keys() == japanese.keys()
    for key, text in english.items():
        assert text.strip(), key
        assert japanese[key].strip(), key
        for markup in (r"\{\w+\}", r"<[^>]+>", r"<code>[^<]*</code>"):
            values = set(re.findall(markup, text)), set(re.findall(markup, japanese[key]))
            assert values[0] == values[1] or key == "date", key


def test_no_english_is_left_over_in_japanese() -> None:
    for key, text in template_texts(1):
        prose = re.sub(r"<(code|a)\b[^>]*>.*?</\1>|<[^>]+>|\{\w+\}", "", text)
        assert set(re.findall(r"[A-Za-z][A-Za-z-]*", prose)) <= LATIN, key
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", prose), key


def test_no_japanese_is_left_over_in_english() -> None:
    for key, text in template_texts(0):
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("ja", "ja"),
        ("ja-JP", "ja"),
        ("JA-jp", "ja"),
        ("ja-JP,ja;q=0.9,en-US;q=0.8,en;q=0.7", "ja"),
        ("en-US,en;q=0.9,ja;q=0.8", "en"),
        ("en;q=0.5, ja;q=0.6", "ja"),
        ("fr,de;q=0.9", "en"),
        ("fr,ja;q=0.1", "ja"),
        ("*", "en"),
        ("ja,*;q=0.5", "ja"),
        ("ja, *", "ja"),
        ("*;q=0.5,ja;q=0.1", "en"),
        ("en;q=0,*", "ja"),
        ("ja;q=0", "en"),
        ("ja;q=0,*", "en"),
        ("ja;q=0,en;q=0", "en"),
        ("ja ; q = 0.9 , en ; q = 0.8", "ja"),
        ("ja;level=1;q=0.9,en;q=0.2", "ja"),
        ("ja;q=NaN,en;q=0.1", "en"),
        ("ja;q=7,en;q=0.1", "en"),
        ("ja;q=,en;q=0.1", "en"),
        ("jam,jargon", "en"),
        (";;;,,,=q;;ja", "en"),
        ("en," * 10_000 + "ja", "en"),
    ],
)
def test_language_is_what_the_browser_prefers(header: str | None, language: str) -> None:
    assert pages.choose_language(header) == language


@given(st.text())
def test_any_header_chooses_a_language(header: str) -> None:
    assert pages.choose_language(header) in pages.LANGUAGES


def test_an_unknown_language_reads_english() -> None:
    assert pages.render(success(), "fr", now=NOW) == pages.render(success(), "en", now=NOW)


# The document


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("name", EVERY_PAGE)
def test_every_page_is_one_whole_document(name: str, language: str) -> None:
    html = pages.render(EVERY_PAGE[name], language, now=NOW)
    document = Document(html)
    assert html.startswith("<!doctype html>\n")
    assert ("html", {"lang": language}) in document.elements
    assert [document.count(tag) for tag in ("title", "main", "h1", "style")] == [1, 1, 1, 1]
    assert not re.search(r"\{\w*\}", re.sub(r"<(style|pre)>.*?</\1>", "", html, flags=re.DOTALL))
    assert len(html.encode()) < 100_000


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_no_page_fetches_anything_or_runs_anything(name: str) -> None:
    html = pages.render(EVERY_PAGE[name], "en", now=NOW)
    for tag, attributes in Document(html).elements:
        assert tag not in {"script", "img", "iframe", "object", "embed", "form", "base"}
        assert "src" not in attributes
        assert "style" not in attributes  # the policy would drop it
        assert not any(attribute.startswith("on") for attribute in attributes)
        if tag == "link":
            assert attributes["rel"] == "icon"
            assert (attributes["href"] or "").startswith("data:image/svg+xml,")
        elif tag == "a":
            assert attributes["href"] == "https://developer.webex.com/my-apps"
            assert attributes["rel"] == "noreferrer"
        else:
            assert "href" not in attributes
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_policy_allows_this_style_and_nothing_else(name: str) -> None:
    html = pages.render(EVERY_PAGE[name], "ja", now=NOW)
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = dict(part.strip().partition(" ")[::2] for part in pages.HEADERS["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_headers_keep_the_page_to_itself() -> None:
    assert pages.HEADERS["Content-Type"] == "text/html; charset=utf-8"
    assert pages.HEADERS["Cache-Control"] == "no-store"
    assert pages.HEADERS["Referrer-Policy"] == "no-referrer"
    assert pages.HEADERS["X-Content-Type-Options"] == "nosniff"


# What comes from outside


@pytest.mark.parametrize("name", ["hostile", "hostile failure"])
def test_hostile_text_is_shown_as_text(name: str) -> None:
    html = pages.render(EVERY_PAGE[name], "en", now=NOW)
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", html)
    assert "W" * 1001 not in html
    assert "W…" in html


@given(st.text(st.characters(), max_size=200))
def test_any_text_can_be_shown(text: str) -> None:
    page = success(profile=text, account_name=text, account_email=text, granted=(text,), missing=(text,))
    for html in (pages.render(page, "ja", now=NOW), pages.render(FailurePage(text, text, text), "en", now=NOW)):
        html.encode()
        Document(html)


def test_more_scopes_than_a_page_holds_are_counted() -> None:
    text = shown(success(granted=tuple(f"scope:{n}" for n in range(250))))
    assert "Granted scopes 250" in text
    assert "scope:199" in text
    assert "scope:200" not in text
    assert "and 50 more" in text


def test_up_to_twelve_scopes_are_not_folded() -> None:
    few = pages.render(success(granted=tuple(f"scope:{n}" for n in range(12))), "en", now=NOW)
    many = pages.render(success(granted=tuple(f"scope:{n}" for n in range(13))), "en", now=NOW)
    assert "<details>" not in few
    assert "<summary>Show 1 more</summary>" in many


# The content


def test_success_says_who_what_until_when_and_what_next() -> None:
    text = shown(success(profile="work", missing=("spark:rooms_read",)))
    for part in (
        "You are logged in",
        "山田 花子",
        "hanako.yamada@example.com",
        "Profile work",
        "Granted scopes 2",
        "spark:people_read",
        "Asked for, but not granted 1",
        "spark:rooms_read",
        "in 14 days",
        "in 90 days",
        'get_token("work")',
        "webex-loopback status --profile work",
    ):
        assert part in text, part


def test_the_default_profile_needs_no_name() -> None:
    text = shown(success())
    assert 'f"Bearer {get_token()}"' in text
    assert "--profile" not in text


def test_nothing_missing_is_not_mentioned() -> None:
    assert "not granted" not in shown(success())


@pytest.mark.parametrize(
    ("name", "email", "expected"),
    [
        ("", "a@example.com", "Account a@example.com Profile"),
        ("A", "", "Account A Profile"),
        ("", "", "Account Unknown"),
        ("\u200e\u202e", "", "Account Unknown"),
    ],
)
def test_account_is_named_by_what_is_known(name: str, email: str, expected: str) -> None:
    assert expected in shown(success(account_name=name, account_email=email))


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("kind", pages.FAILURES)
def test_failure_says_why_and_what_to_do(kind: str, language: str) -> None:
    text = shown(FailurePage(kind, "Its very words.", "ROUTER_62E068B0"), language)
    assert "Its very words." in text
    assert "ROUTER_62E068B0" in text
    assert "webex-loopback login" in text
    assert ("You can close this tab." if language == "en" else "このタブは閉じてかまいません。") in text


def test_foreign_words_are_marked_as_english() -> None:
    html = pages.render(FailurePage("access_denied", "The user declined."), "ja", now=NOW)
    assert '<blockquote lang="en">The user declined.</blockquote>' in html
    assert "トラッキング" not in html


def test_an_unknown_kind_is_unexpected() -> None:
    assert pages.FAILURES["unexpected"][0].title in shown(FailurePage("no such kind"))


# Dates


@pytest.mark.parametrize(
    ("zone", "english", "japanese", "machine"),
    [
        ("UTC", "Tue 8 Dec 2026, 10:48 (UTC+00:00)", "2026年12月8日（火）10:48 (UTC+00:00)", "T10:48:00+00:00"),
        ("Asia/Tokyo", "Tue 8 Dec 2026, 19:48 (UTC+09:00)", "2026年12月8日（火）19:48 (UTC+09:00)", "T19:48:00+09:00"),
        (
            "America/St_Johns",
            "Tue 8 Dec 2026, 07:18 (UTC−03:30)",
            "2026年12月8日（火）07:18 (UTC−03:30)",
            "T07:18:00-03:30",
        ),
    ],
)
def test_dates_are_local_and_name_their_zone(
    time_zone: Callable[[str], None], zone: str, english: str, japanese: str, machine: str
) -> None:
    time_zone(zone)
    page = success(access_token_until=NOW + 1_209_600)
    assert english in shown(page)
    assert japanese in shown(page, "ja")
    html = pages.render(page, "en", now=NOW)
    moments = re.findall(r'<time datetime="([^"]+)">', html)
    assert moments[0] == f"2026-12-08{machine}"
    assert datetime.fromisoformat(moments[0]).timestamp() == NOW + 1_209_600


@pytest.mark.parametrize(
    ("seconds", "english", "japanese"),
    [
        (7_775_999, "in 90 days", "あと 90 日"),
        (1_209_599, "in 14 days", "あと 14 日"),
        (2 * 86_400 - 1, "in 2 days", "あと 2 日"),
        (129_600, "in 36 hours", "あと 36 時間"),
        (64_799, "in 18 hours", "あと 18 時間"),
        (3_600, "in 60 minutes", "あと 60 分"),
        (119.5, "in 2 minutes", "あと 2 分"),
        (5, "in 1 minute", "あと 1 分"),
        (0, "already passed", "期限切れ"),
        (-9_999, "already passed", "期限切れ"),
    ],
)
def test_time_left_is_rounded_to_one_unit(seconds: float, english: str, japanese: str) -> None:
    page = success(access_token_until=NOW + seconds)
    assert f"Access token expires {english}" in shown(page)
    assert japanese in shown(page, "ja")


@pytest.mark.parametrize("moment", [None, float("nan"), float("inf"), 1e30, -1e30])
def test_a_moment_that_is_no_date_is_unknown(moment: float | None) -> None:
    page = success(access_token_until=moment, refresh_token_until=moment)
    assert shown(page).count("Webex named no date.") == 2


def test_now_is_the_clock_where_none_is_given() -> None:
    assert "in 14 days" in pages.render(success(access_token_until=time.time() + 1_209_599), "en")
