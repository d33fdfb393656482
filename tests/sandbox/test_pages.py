"""The pages: the same texts in both languages, whole documents, hostile text shown as text."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from webex_loopback.sandbox import SCOPES, pages
from webex_loopback.sandbox.registration import OPENID_SCOPES

from .conftest import Client

HOSTILE = "<script>alert('x')</script>{{&style}}\u202eesrever\u2066\x00\x1b[31m\ud800 \"&quot; " + "W" * 5000
TEMPLATES = {file.stem: file.read_text() for file in Path(pages.__file__).parent.glob("*.html")}
PAGES = sorted(TEMPLATES.keys() - {"page"})


def test_every_scope_is_described() -> None:
    assert pages.texts("en")["scopes"].keys() >= {*SCOPES, *OPENID_SCOPES}


def page_with(text: str, page: str, language: str) -> str:
    fields: dict[str, Any] = dict.fromkeys(re.findall(r"\{\{[#&]?(\w+)\}\}", " ".join(TEMPLATES.values())), text)
    fields |= {"title": text, "integration": text, "count": text}
    lists = {name: [fields, fields] for name in ("accounts", "scopes", "redirect_uris")}
    del fields["page"], fields["language"]
    return pages.render(page, language, **fields | lists)


@pytest.mark.parametrize("language", pages.LANGUAGES)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_one_whole_document_that_shows_hostile_text_as_text(page: str, language: str) -> None:
    html = page_with(HOSTILE, page, language)
    style = html.partition("<style>")[2].partition("</style>")[0]
    body = html.encode().decode().replace(style, "")
    opened, closed = (re.findall(pattern, body) for pattern in (r"<(\w+)", r"</(\w+)>"))
    assert sorted(tag for tag in opened if tag not in ("meta", "link", "input")) == sorted(closed)
    assert [opened.count(tag) for tag in ("title", "header", "main", "h1", "style")] == [1] * 5
    assert not {"script", "img", "iframe", "object", "embed", "base", "a"}.intersection(opened)
    assert not re.search("\\son\\w+=|\\s(src|style)=|\\{\\{t:|[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", body)
    assert ("W" * 1001 in html, f'<html lang="{language}">' in html) == (False, True)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = pages.headers()["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "form-action" not in policy  # it would stop the redirect to the client


def test_pages_are_in_the_language_of_the_browser_and_know_the_login_hint(client: Client) -> None:
    for accepted, language in (("ja,en;q=0.8", "ja"), ("de, en;q=0.5, ja;q=0.4", "en"), ("x;q=y", "en")):
        response = client.http.get(client.sandbox.origin, headers={"Accept-Language": accepted})
        assert f'<html lang="{language}">' in response.text
    known = client.http.get(client.authorize_url(login_hint=" Hanako.Yamada@Example.COM ")).text
    assert re.findall(r'value="([^"]+)" autofocus', known) == ["hanako.yamada@example.com"]
    assert 'value="kim@example.com"' in client.http.get(client.authorize_url(login_hint="kim@example.com")).text
