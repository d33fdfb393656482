"""The pages that a login shows in the browser, and the messages about the browser in the terminal.

Texts and layout are data: a `.json` per language, `page.html` (in parts) and `page.css`. A page is plain HTML with one
inline style, without scripts or anything to fetch. Untrusted text is made printable, shortened and escaped.
"""

import base64
import functools
import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import quote

from webex_loopback.paths import login_command
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
    tracking_id: str = ""


class _HTML(str):
    """Text that needs no escaping."""

    __slots__ = ()


@functools.cache
def _file(name: str) -> _HTML:
    return _HTML(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"))


@functools.cache
def _texts(language: str) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads(_file(f"{language if language in LANGUAGES else 'en'}.json"))
    return texts


@functools.cache
def _parts() -> dict[str, Template]:
    _, *pieces = re.split(r"<!-- part: (\S+) -->\n", _file("page.html"))
    return {name: Template(html.strip()) for name, html in zip(pieces[::2], pieces[1::2], strict=True)}


_STYLE_HASH = base64.b64encode(hashlib.sha256(_file("page.css").encode()).digest()).decode()

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


def say(key: str, language: str, **values: str) -> str:
    """Return a line for the terminal, from `events` in the language files."""
    return _fill(_texts(language)["events"][key], {name: printable(value, 200) for name, value in values.items()})


def render(page: SuccessPage | FailurePage, language: str, profile: str = "default", now: float | None = None) -> str:
    """Return a page as an HTML document, to be sent with `HEADERS`.

    Args:
        profile: Named in the commands on a `FailurePage`; a `SuccessPage` has its own.
        now: Epoch seconds from which "in 14 days" is counted; default: the clock.
    """
    if isinstance(page, SuccessPage):
        return _Renderer(language, page.profile).success(page, time.time() if now is None else now)
    return _Renderer(language, profile).failure(page)


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace `{name}` by its value if there is one; values are not expanded."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def _escaped(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value if isinstance(value, _HTML) else escape(value) for name, value in values.items()}


class _Renderer:
    """Fills the parts of the page with one language's texts and one profile's commands."""

    def __init__(self, language: str, profile: str) -> None:
        self.texts, self.profile = _texts(language), printable(profile, 100)
        self.option = login_command(self.profile).removeprefix("webex-loopback login")
        self.commands = {
            "login": login_command(self.profile),
            "login_again": login_command(self.profile, "--force"),
            "login_device": login_command(self.profile, "--device"),
            "doctor": f"webex-loopback doctor{self.option}",
            "my_apps": _HTML(_parts()["my_apps"].template),
        }
        self.labels = {key: self.text(text) for key, text in self.texts.items() if isinstance(text, str)}

    def text(self, text: str, /, **values: str) -> _HTML:
        """Turn a text of the language file into HTML: `{name}` becomes a value or command, backticks code."""
        marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
        return _HTML(_fill(marked, _escaped({**self.commands, **values})))

    def part(self, part: str, /, **values: str) -> _HTML:
        """Fill a part of the page; `$name` without a value is a text of the language file."""
        return _HTML(_parts()[part].substitute({**self.labels, **_escaped(values)}))

    def items(self, texts: Iterable[str]) -> _HTML:
        return _HTML("".join(self.part("item", text=text) for text in texts))

    def document(self, tone: str, title: str, lead: str, body: str) -> str:
        sign, style = self.part(f"sign-{tone}"), _file("page.css")
        icon = quote(self.part("icon", color=_ICON_COLORS[tone], sign=sign))
        return self.part("document", tone=tone, title=title, lead=lead, body=body, sign=sign, style=style, icon=icon)

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
            argument=f'"{self.profile}"' if self.option else "",
            option=self.option,
        )
        return self.document("ok", labels["success_title"], labels["success_lead"], body)

    def expiry(self, token: str, until: float | None, now: float, note: str) -> _HTML:
        left, date, note = (
            self.labels["unknown"],
            "",
            self.labels["unknown_note" if until is None else f"{token}_{note}"],
        )
        if until is not None:
            date, left = moment(until, self.texts["language"]), self.labels["expired"]
            if until > now:
                left = self.text(self.texts["left"], duration=duration(until - now, self.texts["language"]))
        return self.part("expiry", label=self.labels[token], left=left, moment=date, note=note)

    def scopes(self, part: str, scopes: tuple[str, ...]) -> _HTML:
        items = self.items(printable(scope, 100) for scope in scopes[:_MOST_SCOPES])
        return self.part(part, count=str(len(scopes)), items=items)

    def failure(self, page: FailurePage) -> str:
        kind = page.kind if page.kind in self.texts["failures"] else "unexpected"
        texts = self.texts["failures"][kind]
        detail, tracking_id = printable(page.detail, 1000), printable(page.tracking_id, 120)
        source = self.labels["said_webex" if kind in _FROM_WEBEX else "said_error"]
        body = self.part(
            "failure",
            quotation=self.part("quotation", source=source, text=detail) if detail else "",
            tracking=self.part("tracking", text=tracking_id) if tracking_id else "",
            steps=self.items(self.text(step) for step in texts["steps"]),
            closing="" if kind in _STILL_WAITING else self.part("closing"),
        )
        tone = "note" if kind in _HARMLESS else "bad"
        return self.document(tone, self.text(texts["title"]), self.text(texts["why"]), body)
