"""A login's head start: the browser is opened before pydantic is loaded, which takes longer than all the rest.

It is for the plain case, and `plain_case()` returns None for any other: then the long way judges and reports. So a
mistake in the settings is told of before a browser is opened, as ever.
"""

import os
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from .authorization import RedirectURI
from .browser import Choice, find, open_url
from .errors import ConfigurationError
from .loopback import Listener, Refusal, bind, new_start_path
from .paths import config_file

# A line that every reader of settings files takes the same way: no escape, no comment behind it, no ${...}.
_LINE = re.compile(r"(?:(?P<name>\w+)=(?:'(?P<quoted>[^'\\$]*)'|(?P<bare>[^'\"\\$#`]*))|#.*)?[ \t]*", re.ASCII)
_URL = re.compile(
    r"(https://[\w.-]+|http://(127\.0\.0\.1|localhost))(:[1-5]?\d{1,4})?(/[\w./~-]*)?", re.ASCII
)  # of those that settings.load() takes
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_DEFAULTS = {  # as in `settings.Settings`; a test compares them
    "WEBEX_SCOPES": "spark:people_read spark:kms",
    "WEBEX_REDIRECT_URI": "http://127.0.0.1:8765/callback",
    "WEBEX_LOGIN_TIMEOUT": "300",
    "WEBEX_API_BASE_URL": "https://webexapis.com/v1",
}


@dataclass(frozen=True, slots=True)
class HeadStart:
    """A browser on its way to a port that is bound already.

    Attributes:
        refusals: Why the redirect URIs before the listener's could not be bound.
        start_path: Where the browser was sent.
        opened: What `open_url` will have returned.
    """

    listener: Listener
    refusals: list[Refusal]
    start_path: str
    choice: Choice
    opened: "Future[bool]"


def plain_case(overrides: Mapping[str, object], browser: str = "") -> tuple[list[RedirectURI], Choice] | None:
    """Return where to listen and what to open, if the settings are plain, and right, and there is a browser.

    Args:
        overrides: Settings by their field names, as for `settings.load()`.
        browser: As for `browser.find()`.
    """
    redirect_uris = _redirect_uris(overrides)
    if not redirect_uris:
        return None
    choice = find(os.environ, command=browser)
    return None if choice.argv is None else (redirect_uris, choice)


def take(redirect_uris: list[RedirectURI], choice: Choice, announce: Callable[[str], object]) -> HeadStart | None:
    """Bind a port, announce the address, and open the browser; None where no redirect URI can be bound."""
    listener, refusals = bind(redirect_uris)
    if listener is None:
        return None
    start_path = new_start_path()
    announce(listener.redirect_uri.origin + start_path)
    opened: Future[bool] = Future()
    opened.set_running_or_notify_cancel()
    begun = threading.Event()

    def run() -> None:
        try:
            opened.set_result(open_url(choice, listener.redirect_uri.origin + start_path, started=begun.set))
        except BaseException as error:
            opened.set_exception(error)
        finally:
            begun.set()

    threading.Thread(target=run, daemon=True, name="webex-loopback").start()
    # The imports that come next would keep the thread from its work.
    begun.wait(1)
    return HeadStart(listener, refusals, start_path, choice, opened)


def _redirect_uris(overrides: Mapping[str, object]) -> list[RedirectURI] | None:
    """Return the redirect URIs to try, if all settings are there and right; https ones need their certificate first."""
    try:
        settings = _plain_settings(overrides)
        if settings is None or not _are_right(settings):
            return None
        _load_certificates(settings)
        redirect_uris = [RedirectURI.parse(text) for text in _words(settings["WEBEX_REDIRECT_URI"])]
    except (ConfigurationError, OSError, ValueError):
        return None
    return None if any(redirect_uri.secure for redirect_uri in redirect_uris) else redirect_uris


def _plain_settings(overrides: Mapping[str, object]) -> dict[str, str] | None:
    """Return the settings in force, by their environment names; None where they are not plain to read."""
    in_file: dict[str, str] = {}
    if path := config_file():
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = re.split(r"\r\n|\n|\r", file.read())
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None or match["name"] in in_file:
                return None
            if match["name"]:
                in_file[match["name"]] = match["bare"] if match["quoted"] is None else match["quoted"]
    given = {f"WEBEX_{name.upper()}": str(value) for name, value in overrides.items() if value is not None}
    if "" in given.values():
        return None
    found = dict(_DEFAULTS)
    for name, value in [*in_file.items(), *os.environ.items(), *given.items()]:
        if value and name.upper().startswith("WEBEX_"):
            found[name] = value.strip()
    # Settings are read without regard to case, and which one of several counts is not plain.
    return found if all(name == name.upper() for name in found) else None


def _are_right(settings: Mapping[str, str]) -> bool:
    scopes = _words(settings["WEBEX_SCOPES"])
    urls = [settings.get(f"WEBEX_{name}_URL", _DEFAULTS["WEBEX_API_BASE_URL"]) for name in ("AUTHORIZE", "TOKEN")]
    return (
        all(settings.get(name) for name in ("WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET"))
        and bool(scopes)
        and all(map(_SCOPE.fullmatch, scopes))
        and all(map(_URL.fullmatch, [settings["WEBEX_API_BASE_URL"], *urls]))
        and re.fullmatch(r"\d{1,5}(\.\d+)?", settings["WEBEX_LOGIN_TIMEOUT"], re.ASCII) is not None
        and 0 < float(settings["WEBEX_LOGIN_TIMEOUT"]) <= 86_400
    )


def _load_certificates(settings: Mapping[str, str]) -> None:
    """Raise OSError where a file of certificates cannot be used, of those that `network.ssl_context()` reads."""
    bundle = settings.get("WEBEX_CA_BUNDLE", "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for cafile in (os.path.expanduser(bundle), os.environ.get("SSL_CERT_FILE")):
        if cafile:
            context.load_verify_locations(cafile)
    if capath := os.environ.get("SSL_CERT_DIR"):
        context.load_verify_locations(capath=capath)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]
