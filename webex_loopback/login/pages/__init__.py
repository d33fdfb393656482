"""The pages that a login shows in the browser.

Texts and layout are data: a `.json` per language, `page.html` (in parts) and `page.css`. A page is plain HTML with one
inline style, without scripts or anything to fetch. Untrusted text is made printable, shortened and escaped.
"""

import base64
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template
from typing import Any
from urllib.parse import quote

from webex_loopback.paths import login_command
from webex_loopback.texts import translated
from webex_loopback.wording import duration, moment, printable

LANGUAGES = ("en", "ja")

_ICON_COLORS = {"ok": "#0b6e63", "note": "#9a6100", "bad": "#a3232f"}
_STILL_WAITING = frozenset(["already_opened", "not_this_login", "other_browser", "other_user"])
_HARMLESS = _STILL_WAITING | {"access_denied", "cancelled", "timeout"}
_FROM_WEBEX = frozenset(["access_denied", "invalid_scope", "authorization_error", "exchange_rejected"])
_MOST_SCOPES = 200  # listed; all are counted


@dataclass(frozen=True, slots=True)
class SuccessPage:
    """A login that ended with saved tokens; times are epoch seconds, None if the token response has none."""

    profile: str
    account_name: str  # "" if unknown
    account_email: str
    granted: tuple[str, ...]
    missing: tuple[str, ...]  # requested but not granted
    access_token_until: float | None
    refresh_token_until: float | None
    renewable: bool = True  # there is a refresh token


@dataclass(frozen=True, slots=True)
class FailurePage:
    """A login that ended without tokens, or a request that is not part of it."""

    kind: str  # a key of `failures` in the language files
    detail: str = ""  # Webex's response or an error message, in English
    remedy: str = ""  # in English; takes the place of the page's own steps


class _HTML(str):
    """Text that needs no escaping."""

    __slots__ = ()


def _file(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


_STYLE = _file("page.css")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_, *_pieces = re.split(r"<!-- part: (\S+) -->\n", _file("page.html"))
_PARTS = {name: Template(html.strip()) for name, html in zip(_pieces[::2], _pieces[1::2], strict=True)}

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    # `img-src data:` is for the icon: without an icon in the page, browsers ask for /favicon.ico.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def choose_language(accept_language: str | None) -> str:
    """Return the first of our languages in an Accept-Language header, else `en`; browsers send the preferred first."""
    for entry in (accept_language or "")[:1000].lower().split(","):
        if (language := entry.partition(";")[0].strip().partition("-")[0]) in LANGUAGES:
            return language
    return "en"


def render(
    page: SuccessPage | FailurePage,
    language: str,
    profile: str = "default",
    options: Sequence[str] = (),
    now: float | None = None,
) -> str:
    """Return a page as an HTML document, to be sent with `HEADERS`.

    Args:
        profile: Named in the commands on a `FailurePage`; a `SuccessPage` has its own.
        options: Options of the command to log in again.
        now: Epoch seconds from which "in 14 days" is counted; default: the clock.
    """
    if isinstance(page, SuccessPage):
        return _Renderer(language, page.profile).success(page, time.time() if now is None else now)
    return _Renderer(language, profile, options).failure(page)


@functools.cache
def _texts(language: str) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads(_file(f"{language if language in LANGUAGES else 'en'}.json"))
    return texts


def _escaped(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value if isinstance(value, _HTML) else escape(value) for name, value in values.items()}


class _Renderer:
    """Fills the parts of the page with one language's texts and one profile's commands."""

    def __init__(self, language: str, profile: str, options: Sequence[str] = ()) -> None:
        self.texts, self.profile = _texts(language), printable(profile, 100)
        self.option = login_command(self.profile).removeprefix("webex-loopback login")
        self.values = {
            "login": login_command(self.profile, *options),
            "login_again": login_command(self.profile, "--force"),
            "login_device": login_command(self.profile, "--device", *options),
            "doctor": f"webex-loopback doctor{self.option}",
            "my_apps": _HTML(_PARTS["my_apps"].template),
        }
        self.labels = {key: self.text(text) for key, text in self.texts["labels"].items()}

    def text(self, text: str, **values: str) -> _HTML:
        """Turn a text of the language file into HTML: `{name}` becomes a value or command, backticks code."""
        marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
        return _HTML(marked.format_map(_escaped(self.values | values)))

    def part(self, part: str, /, **values: str) -> _HTML:
        """Fill a part of the page; `$name` without a value is a label of the language file."""
        return _HTML(_PARTS[part].substitute({**self.labels, **_escaped(values)}))

    def items(self, texts: Iterable[str]) -> _HTML:
        return _HTML("".join(self.part("item", text=text) for text in texts))

    def document(self, tone: str, title: str, lead: str, body: str) -> str:
        sign, language = self.part(f"sign-{tone}"), self.texts["language"]
        icon = quote(self.part("icon", color=_ICON_COLORS[tone], sign=sign))
        values = {"tone": tone, "title": title, "lead": lead, "body": body, "language": language}
        return self.part("document", **values, sign=sign, style=_HTML(_STYLE), icon=icon)

    def success(self, page: SuccessPage, now: float) -> str:
        labels = self.labels
        name, email = printable(page.account_name, 120), printable(page.account_email, 254)
        expiries = self.expiry("access_token", page.access_token_until, now, "note" if page.renewable else "final")
        if page.renewable:
            expiries = _HTML(expiries + self.expiry("refresh_token", page.refresh_token_until, now, "note"))
        body = self.part(
            "success",
            name=name or email or labels["account_unknown"],
            email=email if name else "",
            profile_name=self.profile,
            expiries=expiries,
            missing_box=self.scopes("missing-scopes", page.missing) if page.missing else "",
            granted_box=self.scopes("granted-scopes", page.granted) if page.granted else self.part("no-scopes"),
            argument=f"'{self.profile}'" if self.option else "",
            option=self.option,
        )
        return self.document("ok", labels["success_title"], labels["success_lead"], body)

    def expiry(self, token: str, until: float | None, now: float, note: str) -> _HTML:
        label, language = self.labels[token], self.texts["language"]
        if until is None:
            values = {"left": self.labels["unknown"], "moment": "", "note": self.labels["unknown_note"]}
        else:
            left = self.text(self.texts["left"], duration=duration(until - now, language))
            left = left if until > now else self.labels["expired"]
            values = {"left": left, "moment": moment(until, language), "note": self.labels[f"{token}_{note}"]}
        return self.part("expiry", label=label, **values)

    def scopes(self, part: str, scopes: tuple[str, ...]) -> _HTML:
        items = self.items(printable(scope, 100) for scope in scopes[:_MOST_SCOPES])
        return self.part(part, count=str(len(scopes)), items=items)

    def failure(self, page: FailurePage) -> str:
        kind = page.kind if page.kind in self.texts["failures"] else "unexpected"
        texts = self.texts["failures"][kind]
        detail = printable(page.detail, 1000)
        remedy = translated(printable(page.remedy), self.texts["language"]).replace("{", "{{").replace("}", "}}")
        steps = [remedy] if remedy else texts["steps"]
        source = self.labels["said_webex" if kind in _FROM_WEBEX else "said_error"]
        body = self.part(
            "failure",
            quotation=self.part("quotation", source=source, text=detail) if detail else "",
            steps=self.items(self.text(step) for step in steps),
            closing="" if kind in _STILL_WAITING else self.part("closing"),
        )
        tone = "note" if kind in _HARMLESS else "bad"
        return self.document(tone, self.text(texts["title"]), self.text(texts["why"]), body)
