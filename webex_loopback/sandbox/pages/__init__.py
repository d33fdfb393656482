"""Renders the sandbox's web pages: templates and one style sheet, with texts in English and Japanese.

A template has Mustache's `{{value}}` (escaped), `{{&value}}` (HTML) and `{{#list}}...{{/list}}` (also for a condition),
and `{{t:key}}` for a text of `en.json` or `ja.json`. Pages contain no scripts and fetch nothing.
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from types import MappingProxyType
from typing import Any

LANGUAGES = ("en", "ja")
_LONGEST = 1000
_TAG = re.compile(r"\{\{#(\w+)\}\}(.*?)\{\{/\1\}\}|\{\{(t:|&|)(\w+)\}\}", re.DOTALL)


def render(page: str, language: str, **values: Any) -> str:
    """Return a whole page; its title is the value `title` or the text `<page>_title`."""
    words = texts(language)
    content = _fill(_read(f"{page}.html"), values, words)
    frame = {"language": language, "page": page, "style": _read("page.css"), "content": content}
    title = escape(clean(values["title"])) if "title" in values else _fill(words[f"{page}_title"], values, words)
    return _fill(_read("page.html"), frame | {"title": title}, words)


def headers() -> Mapping[str, str]:
    """Return the headers of every page."""
    digest = base64.b64encode(hashlib.sha256(_read("page.css").encode()).digest()).decode()
    # No form-action: Chromium applies it to the redirect after the form too, which goes to the client's redirect URI.
    # Referrer-Policy makes browsers send `Origin: null` with forms, so the Origin header cannot be checked.
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    return MappingProxyType(
        {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
        }
    )


def describe_scope(scope: str, language: str) -> str:
    """Return what a scope allows, "" if the sandbox has no text for it."""
    return str(texts(language)["scopes"].get(scope, ""))


@cache
def texts(language: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_read(f"{language}.json"))
    return loaded


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _fill(template: str, values: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    def replacement(match: re.Match[str]) -> str:
        section, inner, kind, name = match.groups()
        if section:
            value = values.get(section)
            repeated = value if isinstance(value, list) else [{}] if value else []
            return "".join(_fill(inner, {**values, **item}, words) for item in repeated)
        if kind == "t:":
            return _fill(words[name], values, words)
        return values[name] if kind == "&" else escape(clean(str(values[name])))

    return _TAG.sub(replacement, template)


def clean(text: str) -> str:
    """Return text on one line, shortened, without control characters and characters that hide or reverse text."""
    line = " ".join(text[: _LONGEST * 4].split())
    # Zero-width joiners are letters in Persian and in emoji.
    shown = "".join(c for c in line if c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1].rstrip()}…"
