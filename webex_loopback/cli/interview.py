"""The questions of `init`, and how it reads what people paste as answers."""

import contextlib
import getpass
import html
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from webex_loopback.errors import ConfigurationError
from webex_loopback.login import browser
from webex_loopback.login.paste import asking
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.secret import Secret
from webex_loopback.settings import FORMS, Settings
from webex_loopback.wording import columns, is_loopback, language, printable, split_list, wrap

from .app import say
from .texts import catalogue, refusal, words

with contextlib.suppress(ImportError):  # without it macOS cuts a pasted line at 1,024 characters, Linux at 4,096
    import readline

    readline.parse_and_bind("set enable-bracketed-paste on")  # a wrapped URL is one answer

ID, SECRET, SCOPES = "WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET", "WEBEX_SCOPES"
REDIRECT_URI, API_BASE_URL = "WEBEX_REDIRECT_URI", "WEBEX_API_BASE_URL"
DEFAULTS = {name: str(Settings.model_fields[name[6:].lower()].default) for name in (SCOPES, REDIRECT_URI, API_BASE_URL)}
APPS_PAGE = "https://developer.webex.com/my-apps/new"
_FORMS = {f"WEBEX_{name.upper()}": pattern for name, pattern in FORMS.items()}
_SCOPE = re.compile(r"[\w.-]+:[\w.:-]+|openid|email|profile|phone|address", re.ASCII)
_BASE_URL = re.compile(r"(https://[^\s/?#@]+|http://(127(\.\d+){3}|localhost|\[::1\])(:\d+)?)(/[^\s?#]*)?")
_HOSTS = ("webexapis.com", "api-usgov.webex.com")  # of the portal's URL; the second is Webex for Government (FedRAMP)


class Values(dict[str, str]):
    """Settings by their environment names; shows no value in a traceback."""

    def __repr__(self) -> str:
        return f"Values({', '.join(self)})"


def read_answer(setting: str, answer: Secret) -> Values:
    """Return the settings in an answer, or raise ConfigurationError.

    Args:
        setting: The one that was asked for; "" for an authorization URL, which is accepted for the client ID, too.
    """
    # Japanese input methods leave full-width characters, web pages zero-width ones.
    text = unicodedata.normalize("NFKC", answer.get_secret_value())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf").strip(" \t\r\n\"'`<>“”‘’「」")
    if setting == SCOPES:
        return Values({SCOPES: " ".join(_read_scopes(text))})
    if setting == REDIRECT_URI:
        uris = [RedirectURI.parse(uri).text for uri in split_list(text, "redirect_uri") or [""]]
        return Values({REDIRECT_URI: " ".join(uris)})
    if setting == API_BASE_URL:
        if not _BASE_URL.fullmatch(text):
            raise refusal("bad_base_url", setting, url=text)
        return Values({API_BASE_URL: text.rstrip("/")})
    if not setting or (setting == ID and re.search("://|%3a%2f%2f", text, re.IGNORECASE)):
        # Mails wrap it, quote it with ">", and escape it for HTML; some programs encode it once more.
        text = html.unescape(re.sub(r"\s+(>\s*)*", "", text))
        return _read_authorization_url(text if "://" in text else unquote(text))
    if not text:
        raise refusal("empty", setting)
    if found := re.search(_FORMS[setting], text):
        return Values({setting: found[0]})
    is_the_other = re.search(_FORMS[SECRET if setting == ID else ID], text) is not None
    if not is_the_other and re.fullmatch(r"[\x21-\x7e]+", text):
        return Values({setting: text})
    del text
    raise refusal(f"not_{setting[6:].lower()}" if is_the_other else "bad_id", setting)


def _read_authorization_url(text: str) -> Values:
    """Read an "OAuth Authorization URL"; its host must be Webex's or this machine (the sandbox)."""
    base, host, values = "", "", {}
    with contextlib.suppress(ValueError):
        parts = urlsplit(text[max(text.lower().find("http"), 0) :])
        host = parts.hostname or ""
        values = dict(parse_qsl(parts.query, max_num_fields=100))
        if parts.path.endswith("/authorize") and is_loopback(host):
            base = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/authorize')}"
        elif (parts.scheme, parts.path, parts.username) == ("https", "/v1/authorize", None) and host in _HOSTS:
            base = f"https://{host}/v1"
    if not _BASE_URL.fullmatch(base) or not values.get("client_id"):
        portal = host == "developer.webex.com"
        raise refusal("portal" if portal else "bad_host" if host and not base else "bad_url", ID, host=host)
    found = read_answer(ID, Secret(values["client_id"]))
    found[API_BASE_URL] = base
    if scopes := split_list(values.get("scope", "")):
        found[SCOPES] = " ".join(scopes)
    if uri := values.get("redirect_uri", ""):
        try:
            found.update(read_answer(REDIRECT_URI, Secret(uri)))
        except ConfigurationError as error:  # it leads elsewhere; the Integration may have another
            say(str(error), "yellow")
    return found


def _read_scopes(text: str) -> list[str]:
    """Return the scopes that a text names, or numbers as in the menu, each once; else raise ConfigurationError."""
    numbered = {str(number): scope for number, scope in enumerate(catalogue("en")["scopes"], 1)}
    chosen = [numbered.get(part, part) for part in split_list(text.replace(";", " "), "scope")]
    for part in chosen or [""]:
        if not _SCOPE.fullmatch(part):
            raise refusal("bad_scope", SCOPES, part=part, last=len(numbered))
    return list(dict.fromkeys(chosen))


def hold_interview(given: Values, known: Mapping[str, str], *, service_app: bool = False) -> Values:
    """Ask for what is missing; what Webex's form needs comes before the form.

    Args:
        known: What the file contains, as defaults.
    """
    values = Values(given)
    for step, name in enumerate([ID, SECRET] if service_app else [ID, SCOPES, REDIRECT_URI, ID, SECRET]):
        if name in values:
            continue
        kind = "service_app_" if service_app and name == ID else ""
        say("\n" + words("form" if step == 3 else f"{kind}{name[6:].lower()}", url=APPS_PAGE))
        if step == 3:
            _show_form(values)
        values.update(_answer(values, known, name, kind, optional=step == 0 and not service_app))
    return values


def ask(question: str, *, hidden: bool = False) -> Secret:
    """Ask on the terminal; Ctrl-D quits, like Ctrl-C."""
    prompt = wrap(question, columns(sys.stdout)) + " "
    with asking():
        return Secret((getpass.getpass(prompt) if hidden else input(prompt)).strip())


def ask_lines() -> str:
    """Read lines until Ctrl-D."""
    lines = []
    with asking(), contextlib.suppress(EOFError):
        while True:
            lines.append(input())
    return "\n".join(lines)


def confirm(question: str, *, default: bool = True) -> bool:
    """Ask a yes-or-no question until it is answered."""
    while True:
        answer = ask(f"{question} [{'Y/n' if default else 'y/N'}]:").get_secret_value()
        answer = unicodedata.normalize("NFKC", answer).lower()
        if answer in ("", "y", "yes", "n", "no"):
            return answer.startswith("y") if answer else default
        say(words("yes_or_no"), "yellow")


def _answer(values: Values, known: Mapping[str, str], name: str, kind: str, *, optional: bool) -> Values:
    """Ask for a setting until the answer is usable, or empty where `optional` allows it."""
    key, default = name[6:].lower(), known.get(name) or DEFAULTS.get(name, "")
    if name == SECRET:
        optional, default = bool(default) and values[ID] == known.get(ID), ""
    for number, (scope, text) in enumerate(catalogue(language())["scopes"].items() if name == SCOPES else (), 1):
        say(f"  {number:2}  {scope:<34}  {text}")
    question = words(f"ask_{kind}{key}{'_keep' * (name == SECRET and optional)}") + f" [{default}]" * bool(default)
    while True:
        answer = ask(f"{question}:", hidden=name == SECRET) or Secret(default)
        if not answer and optional:
            return Values()
        try:
            found = read_answer(name, answer)
        except ConfigurationError as error:
            say(f"{error} {error.remedy}", "yellow")
            continue
        odd = name in _FORMS and not re.fullmatch(_FORMS[name], found[name])
        if odd and not confirm(words(f"odd_{key}", length=len(found[name])), default=False):
            continue
        if name == SCOPES and not {"spark:people_read", "spark:all"}.intersection(found[name].split()):
            say(words("no_people_read"), "yellow")
        for setting in found if len(found) > 1 else ():
            say(f"  {setting}: {printable(found[setting], 200)}")
        return found


def _show_form(values: Values) -> None:
    """Say what to enter in which field of the portal's form, and open it."""
    for label, text in catalogue(language())["init"]["form_fields"].items():
        say(f"  {label:<29}{text.format(redirect_uri=values[REDIRECT_URI], scopes=values[SCOPES])}")
    say(words("form_end"))
    if confirm(words("form_open")):
        opened = browser.open_url(browser.find(os.environ), f"{APPS_PAGE}/integration")
        say("" if opened else words("form_closed"))
