"""The questions of `init`, and how it reads what people paste as answers."""

import contextlib
import getpass
import os
import re
import select
import sys
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import click

from webex_loopback.errors import ConfigurationError
from webex_loopback.login import browser
from webex_loopback.login.listener import bind
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.secret import Secret
from webex_loopback.settings import Settings, is_loopback
from webex_loopback.wording import language, printable, split_list

from .app import say
from .texts import catalogue, refusal, words

with contextlib.suppress(ImportError):  # without it macOS cuts a pasted line at 1,024 characters
    import readline

    readline.parse_and_bind("set enable-bracketed-paste on")  # a wrapped URL is one answer

ID, SECRET, SCOPES = "WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET", "WEBEX_SCOPES"
REDIRECT_URI, API_BASE_URL = "WEBEX_REDIRECT_URI", "WEBEX_API_BASE_URL"
NAMES = (ID, SECRET, SCOPES, REDIRECT_URI, API_BASE_URL)
DEFAULTS = {name: str(Settings.model_fields[name[6:].lower()].default) for name in (SCOPES, REDIRECT_URI, API_BASE_URL)}
APPS_PAGE = "https://developer.webex.com/my-apps/new"
PORTS = range(8765, 8770)
_FORMS = {ID: r"C[0-9a-f]{64}", SECRET: r"[0-9a-f]{64}"}
_LABEL = re.compile(r"(?i)^(?:webex_)?(?:(?:client|クライアント)[ _-]*(?:id|secret|シークレット)|scopes?)\s*[:=]\s*")
_SCOPE = re.compile(r"[\w.-]+:[\w.:-]+|openid|email|profile|phone|address", re.ASCII)
_BASE_URL = re.compile(r"(https://[^\s/?#@]+|http://(127(\.\d+){3}|localhost|\[::1\])(:\d+)?)(/[^\s?#]*)?")
_HOSTS = {  # of the portal's "OAuth Authorization URL", and the base URL to use
    "webexapis.com": "https://webexapis.com/v1",
    "api.ciscospark.com": "https://webexapis.com/v1",  # the former name
    "api-usgov.webex.com": "https://api-usgov.webex.com/v1",  # Webex for Government (FedRAMP)
}


class Values(dict[str, str]):
    """Settings by their environment names; shows no value in a traceback."""

    def __repr__(self) -> str:
        return f"Values({', '.join(self)})"


def read_answer(setting: str, answer: Secret) -> Values:
    """Return the settings in an answer, or raise ConfigurationError.

    Args:
        setting: The one that was asked for; "" for an authorization URL, which is accepted for the client ID, too.
    """
    text = _cleaned(answer)
    if setting == SCOPES:
        return Values({SCOPES: " ".join(read_scopes(text))})
    if setting == REDIRECT_URI:
        uris = [RedirectURI.parse(uri).text for uri in split_list(text, "redirect_uri") or [""]]
        return Values({REDIRECT_URI: " ".join(uris)})
    if setting == API_BASE_URL:
        if not _BASE_URL.fullmatch(text):
            raise refusal("bad_base_url", setting, url=text)
        return Values({API_BASE_URL: text.rstrip("/")})
    if not setting or (setting == ID and re.search("://|%3a%2f%2f", text, re.IGNORECASE)):
        return parse_authorization_url(answer.get_secret_value())
    for candidate in (text, "".join(text.split())):
        if found := re.search(rf"(?<!\w){_FORMS[setting]}(?!\w)", candidate, re.IGNORECASE):
            return Values({setting: found[0]})
    text = _LABEL.sub("", text).strip("\"'`")
    if re.fullmatch(r"[\x21-\x7e]+", text):
        return Values({setting: text})
    del text, candidate
    raise refusal("bad_id", setting)


def parse_authorization_url(text: str) -> Values:
    """Read an "OAuth Authorization URL", however a mail program or a terminal has wrapped or encoded it.

    Raises:
        ConfigurationError: It is none, or its host is neither Webex's nor this machine (the sandbox).
    """
    if "=3D" in text:  # source of a mail (quoted-printable)
        text = re.sub(r"=\r?\n", "", text).replace("=3D", "=")
    text = re.sub(r"\s+(?:>\s*)*", "", _cleaned(Secret(text))).replace("&amp;", "&")
    text = text if "://" in text else unquote(text)
    base, host, values = "", "", {}
    with contextlib.suppress(ValueError):
        parts = urlsplit(text[max(text.lower().find("http"), 0) :])
        host = (parts.hostname or "").rstrip(".")
        values = dict(parse_qsl(parts.query, max_num_fields=100))
        if urlsplit(values.get("url", "")).hostname in _HOSTS:  # Outlook's "safe links"
            return parse_authorization_url(values["url"])
        if parts.path.endswith("/authorize") and is_loopback(host):
            base = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/authorize')}"
        elif (parts.scheme, parts.path) == ("https", "/v1/authorize") and "@" not in parts.netloc:
            base = _HOSTS.get(host, "")
    if not _BASE_URL.fullmatch(base) or not values.get("client_id"):
        raise refusal("bad_host" if host and not base else "bad_url", ID, host=host)
    others = {API_BASE_URL: base, REDIRECT_URI: values.get("redirect_uri", "")}
    others[SCOPES] = " ".join(split_list(values.get("scope", "")))
    return Values(read_answer(ID, Secret(values["client_id"])) | {n: value for n, value in others.items() if value})


def read_scopes(text: str) -> list[str]:
    """Return the scopes that a text names, or numbers as in the menu, each once; else raise ConfigurationError."""
    listed: list[str] = list(catalogue("en")["scopes"])
    chosen: list[str] = []
    for part in split_list(_LABEL.sub("", text).replace(";", " "), "scope"):
        match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not (1 <= first <= last <= len(listed) or _SCOPE.fullmatch(part)):
            raise refusal("bad_scope", SCOPES, part=part, last=len(listed))
        chosen += listed[first - 1 : last] if match else [part]
    if not chosen:
        raise refusal("no_scope", SCOPES)
    return list(dict.fromkeys(chosen))


def _cleaned(answer: Secret) -> str:
    # Japanese input methods leave full-width characters, web pages zero-width ones.
    text = unicodedata.normalize("NFKC", answer.get_secret_value())
    return "".join(c for c in text if unicodedata.category(c) != "Cf").strip(" \t\r\n\"'`<>“”‘’「」")


def ask(question: str, default: str = "", *, secret: bool = False) -> str:
    """Return one line from the terminal; with `secret` it is not echoed. Ctrl-D raises click.Abort."""
    prompt = f"{question} [{default}]: " if default else f"{question}: "
    try:
        line = getpass.getpass(prompt) if secret else input(prompt)
        while "://" in line and sys.platform != "win32" and select.select([sys.stdin], [], [], 0.05)[0]:
            line += input()  # the rest of a wrapped URL
    except EOFError:
        raise click.Abort from None
    return line.strip() or default


def hold_interview(given: Values, known: Mapping[str, str], *, service_app: bool = False) -> Values:
    """Ask for what is missing; what Webex's form needs comes before the form.

    Args:
        known: What the file contains, as defaults.
    """
    values = Values(given)
    for step, name in enumerate([ID, SECRET] if service_app else [ID, SCOPES, REDIRECT_URI, ID, SECRET]):
        if REDIRECT_URI in values:
            try:
                read_answer(REDIRECT_URI, Secret(values[REDIRECT_URI]))
            except ConfigurationError as error:  # it leads elsewhere: ask for one on this machine
                say(str(error), "yellow")
                del values[REDIRECT_URI]
        if name in values:
            continue
        kind = "service_app_" if service_app and name == ID else ""
        say("\n" + words("form" if step == 3 else f"{kind}{name[6:].lower()}", url=APPS_PAGE))
        if step == 3:
            _show_form(values)
        values.update(_answer(values, known, name, optional=step == 0 and not service_app))
    return values


def _answer(values: Values, known: Mapping[str, str], name: str, *, optional: bool) -> Values:
    """Ask for a setting until the answer is usable, or empty if that is an answer."""
    key, default = name[6:].lower(), known.get(name) or _proposal(name)
    if name == SECRET:
        optional, default = bool(default) and values[ID] == known.get(ID), ""
    for number, (scope, text) in enumerate(catalogue(language())["scopes"].items() if name == SCOPES else (), 1):
        say(f"  {number:2}  {scope:<34}  {text}")
    while True:
        answer = Secret(
            ask(words(f"ask_{key}{'_keep' * (name == SECRET and optional)}"), default, secret=name == SECRET)
        )
        if not answer and optional:
            return Values()
        try:
            found = read_answer(name, answer)
            if found.get(SECRET, "") == values.get(ID):
                raise refusal("same_as_id", SECRET)
        except ConfigurationError as error:
            say(f"{error} {error.remedy}", "yellow")
            continue
        odd = name in _FORMS and not re.fullmatch(_FORMS[name], found[name], re.IGNORECASE)
        if odd and not click.confirm(words(f"odd_{key}", length=len(found[name])), err=True):
            continue
        for setting in found if len(found) > 1 else ():
            say(f"  {setting}={printable(found[setting], 200)}")
        return found


def _show_form(values: Values) -> None:
    """Say what to enter in which field of the portal's form, and open it."""
    for label, text in catalogue(language())["init"]["form_fields"].items():
        say(f"  {label:<18}{text.format(redirect_uri=values[REDIRECT_URI], scopes=values[SCOPES])}")
    say(words("form_end"))
    if click.confirm(words("form_open"), default=True, err=True):
        opened = browser.open_url(browser.find(os.environ), f"{APPS_PAGE}/integration")
        say("" if opened else words("form_closed"))


def _proposal(name: str) -> str:
    """Return the default of a setting; for the redirect URI the first of `PORTS` that is free."""
    listener = None
    if name == REDIRECT_URI:
        listener, _ = bind([RedirectURI.parse(f"http://127.0.0.1:{port}/callback") for port in PORTS])
    if listener is None:
        return DEFAULTS.get(name, "")
    listener.close()
    return listener.redirect_uri.text
