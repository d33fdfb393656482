import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webex_loopback.sandbox import pages
from webex_loopback.sandbox.registration import OPENID_SCOPES, REDIRECT_URIS, SCOPES

HOSTILE = "<script>alert('x')</script>\u202eesrever\u2066\x00\x1b[31m\ud800 \"&quot; " + "W" * 5000
VOID = {"meta", "link", "input"}
INLINE = {"b", "bdi", "code", "span"}
ACCOUNTS = (("alex.morgan@example.com", "Alex Morgan"), ("hanako.yamada@example.com", "山田 花子"))
HIDDEN = {"request": "abc", "odd": '"><script>'}
# What a Japanese text may say in Latin letters: names, and what is typed.
LATIN = {"Webex", "webex-loopback", "HTTP", "URI", "ID", "XSI", "MCP", "Contact", "Center"}


def login_page(language: str = "en", login_hint: str = "", error: str = "") -> str:
    return pages.login_page(
        language, action="/v1/login", hidden=HIDDEN, accounts=ACCOUNTS, login_hint=login_hint, error=error
    )


def consent_page(language: str = "en", text: str = "Sandbox Integration", scopes: tuple[str, ...] = SCOPES) -> str:
    return pages.consent_page(
        language,
        action="/v1/consent",
        hidden=HIDDEN,
        integration=text,
        account_name=text,
        account_email=text,
        scopes=scopes,
    )


def every_page(language: str) -> dict[str, str]:
    return {
        "login": login_page(language),
        "login error": login_page(language, HOSTILE, HOSTILE),
        "no accounts": pages.login_page(language, action="/", hidden={}, accounts=()),
        "consent": consent_page(language),
        "no scopes": consent_page(language, scopes=()),
        "hostile consent": consent_page(language, HOSTILE, (HOSTILE,) * 200),
        "error": pages.error_page(language, status=400, title=HOSTILE, detail=HOSTILE, tracking_id=HOSTILE),
        "bare error": pages.error_page(language, status=404, title="Not Found", detail="", tracking_id=""),
        "device": pages.device_page(language, action="/", hidden=HIDDEN),
        "device error": pages.device_page(language, action="/", hidden=HIDDEN, user_code=HOSTILE, error=HOSTILE),
        "device allowed": pages.device_done_page(language, allowed=True),
        "device declined": pages.device_done_page(language, allowed=False),
        "home": pages.home_page(
            language,
            base_url="http://127.0.0.1:8780/v1",
            client_id="C" + "0" * 64,
            redirect_uris=REDIRECT_URIS,
            scopes=SCOPES,
        ),
        "empty home": pages.home_page(language, base_url=HOSTILE, client_id="", redirect_uris=(), scopes=()),
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

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_both_languages_say_the_same_things() -> None:
    for key, (english, japanese) in {**pages.TEXTS, **pages.SCOPE_WORDS}.items():
        assert english.strip(), key
        assert japanese.strip(), key
        for markup in (r"\{\w+\}", r"<[^>]+>"):
            assert sorted(re.findall(markup, english)) == sorted(re.findall(markup, japanese)), key


def test_no_language_is_left_over_in_the_other() -> None:
    for key, (english, japanese) in {**pages.TEXTS, **pages.SCOPE_WORDS}.items():
        prose = re.sub(r"<[^>]+>|\{\w+\}", "", japanese)
        assert set(re.findall(r"[A-Za-z][A-Za-z-]*", prose)) <= LATIN, key
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", prose), key
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", english), key


def test_every_scope_of_the_sandbox_has_words() -> None:
    assert pages.SCOPE_WORDS.keys() >= {*SCOPES, *OPENID_SCOPES}


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("name", every_page("en"))
def test_every_page_is_one_whole_document(name: str, language: str) -> None:
    html = every_page(language)[name]
    document = Document(html)
    html.encode()
    assert html.startswith("<!doctype html>\n")
    assert document.all("html") == [{"lang": language}]
    assert [len(document.all(tag)) for tag in ("title", "header", "main", "h1", "style")] == [1] * 5
    assert ("This is not Webex" if language == "en" else "本物の Webex ではありません") in document.text
    assert not re.search(r"\{\w*\}", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    identifiers = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert [attributes.get("for") for attributes in document.all("label")] == identifiers
    assert len(html) < 100_000


@pytest.mark.parametrize("name", every_page("en"))
def test_no_page_fetches_anything_or_runs_anything(name: str) -> None:
    html = every_page("en")[name]
    for tag, attributes in Document(html).elements:
        assert tag not in {"script", "img", "iframe", "object", "embed", "base", "a"}
        assert not {"src", "style"} & attributes.keys()
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert "href" not in attributes or (attributes["href"] or "").startswith("data:image/svg+xml,")
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)


@pytest.mark.parametrize("name", every_page("en"))
def test_policy_allows_this_style(name: str) -> None:
    style = every_page("ja")[name].partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = pages.HEADERS["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "form-action" not in policy  # it would stop the redirect to the client


def test_headers_keep_the_page_to_itself() -> None:
    assert pages.HEADERS["Content-Type"] == "text/html; charset=utf-8"
    assert pages.HEADERS["Cache-Control"] == "no-store"
    assert pages.HEADERS["Referrer-Policy"] == "no-referrer"
    assert pages.HEADERS["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["login error", "hostile consent", "error", "device error", "empty home"])
def test_hostile_text_is_shown_as_text(name: str) -> None:
    html = every_page("ja")[name]
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", html)
    assert "W" * 1001 not in html


@given(st.text(max_size=200))
def test_any_text_can_be_shown(text: str) -> None:
    for html in (
        consent_page("ja", text, (text,)),
        login_page("en", text, text),
        pages.error_page("en", status=400, title=text, detail=text, tracking_id=text),
        pages.device_page("en", action="/", hidden={}, user_code=text, error=text),
    ):
        html.encode()
        Document(html)


def test_login_posts_the_address_of_the_button() -> None:
    document = Document(login_page())
    assert document.all("form") == [{"method": "post", "action": "/v1/login"}] * 2
    buttons = [button for button in document.all("button") if "name" in button]
    assert [(button["name"], button["value"]) for button in buttons] == [("email", email) for email, _ in ACCOUNTS]
    hidden = [(field["name"], field["value"]) for field in document.all("input") if field["type"] == "hidden"]
    assert hidden == [*HIDDEN.items()] * 2


@pytest.mark.parametrize("hint", ["hanako.yamada@example.com", " Hanako.Yamada@Example.COM "])
def test_login_hint_focuses_the_account(hint: str) -> None:
    document = Document(login_page(login_hint=hint))
    assert ["autofocus" in button for button in document.all("button")] == [False, True, False]
    assert document.all("input")[-1]["value"] == ""


def test_login_hint_of_somebody_else_fills_the_field() -> None:
    document = Document(login_page(login_hint="someone@example.org"))
    assert not any("autofocus" in button for button in document.all("button"))
    assert document.all("input")[-1]["value"] == "someone@example.org"


def test_login_shows_initials_and_names() -> None:
    text = Document(login_page()).text
    assert "Alex Morgan" in text
    assert "山 山田 花子".replace(" ", "") in text.replace(" ", "")


def test_an_error_is_announced() -> None:
    assert '<p class="alert" role="alert">No.</p>' in login_page(error="No.")
    assert "alert" not in re.sub(r"<style>.*?</style>", "", login_page(), flags=re.DOTALL)


@pytest.mark.parametrize(("language", "words"), [("en", "See your spaces"), ("ja", "参加しているスペースの閲覧")])
def test_consent_lists_scopes_in_words_and_as_they_are(language: str, words: str) -> None:
    document = Document(consent_page(language, scopes=("spark:rooms_read", "some:new_scope")))
    assert f"{words} spark:rooms_read" in document.text
    assert "some:new_scope" in document.text
    assert [(button["name"], button["value"]) for button in document.all("button")] == [
        ("decision", "allow"),
        ("decision", "decline"),
    ]


def test_consent_shows_every_scope_up_to_a_hundred() -> None:
    text = Document(consent_page(scopes=tuple(f"scope:{n}" for n in range(103)))).text
    assert "Permissions (103)" in text
    assert "scope:99" in text
    assert "scope:100" not in text
    assert "and 3 more" in text


def test_error_page_quotes_webex_in_english() -> None:
    html = pages.error_page("ja", status=400, title="invalid_request", detail="It is wrong.", tracking_id="ROUTER_1")
    assert '<blockquote lang="en"><p>It is wrong.</p></blockquote>' in html
    assert "HTTP ステータス 400" in Document(html).text
    assert "トラッキング ID ROUTER_1" in Document(html).text


def test_home_page_shows_the_lines_to_set() -> None:
    html = every_page("en")["home"]
    for line in (
        "WEBEX_API_BASE_URL=http://127.0.0.1:8780/v1\n",
        f"WEBEX_CLIENT_ID=C{'0' * 64}\n",
        f"WEBEX_REDIRECT_URI={REDIRECT_URIS[0]}<",
    ):
        assert line in html
