"""`doctor`: looks at all that a login and a refresh depend on, and says what to do about what it finds."""

import contextlib
import difflib
import json
import os
import re
import socket
import stat
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from . import __version__
from .authorization import RedirectURI, printable
from .errors import (
    ConfigurationError,
    LoginFailed,
    LoginRequired,
    ServerUnreachable,
    TokenStoreError,
    WebexLoopbackError,
)
from .paths import config_file, profile_name, state_folder, token_file
from .report import span
from .settings import Settings, broken_lines, load, origins, unknown_names
from .store import FileTokenStore, file_lock
from .token import DAY, StoredToken

Level = Literal["ok", "warning", "error", "skipped"]

PACKAGES = ("aiohttp", "httpx", "pydantic-settings", "filelock", "truststore", "cryptography", "click", "rich", "segno")
ENVIRONMENT_ONLY = ("WEBEX_CONFIG_FILE", "WEBEX_PROFILE", "WEBEX_LOOPBACK_HOME", "WEBEX_LOCK_DIR")

_SECRETS = ("WEBEX_CLIENT_SECRET", "WEBEX_ACCESS_TOKEN")
_LOCK_SECONDS = 5.0
_SKEW_SECONDS = 300
_SOON = 7 * DAY
_NAME_WIDTH = 20  # of the longest name, WEBEX_AUTHORIZE_URL, and a space
_MARKS: Mapping[Level, str] = {"ok": "✓", "warning": "!", "error": "✗", "skipped": "◦"}
_ASCII_MARKS: Mapping[Level, str] = {"ok": "[ok]", "warning": "[!!]", "error": "[XX]", "skipped": "[--]"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        remedy: What to do; "" where nothing needs to be done.
        exit_code: That of the error which this would lead to, 0 below `error`.
    """

    name: str
    level: Level
    text: str
    remedy: str = ""
    exit_code: int = 0


@dataclass(slots=True)
class _Patient:
    """What the checks have found so far, for those that come after."""

    profile: str | None
    online: bool
    environ: Mapping[str, str]
    settings: Settings | None = None
    redirect_uris: tuple[RedirectURI, ...] = ()


def examine(
    profile: str | None = None, *, online: bool = True, environ: Mapping[str, str] = os.environ
) -> Iterator[Check]:
    """Yield one check after the other, in the order in which to mend things; nothing is repaired.

    The lock is really taken, and the redirect URIs' ports are really bound, for a moment. Without `online`
    no other machine is asked anything.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        online: Whether to connect to Webex; no secret is sent there.
        environ: The environment to choose the browser by.
    """
    patient = _Patient(profile, online, environ)
    for name, look in _CHECKS:
        try:
            yield from look(patient)
        except WebexLoopbackError as error:
            yield _failed(name, error)


def exit_code(checks: Iterable[Check]) -> int:
    """Return the exit code of the first error, 0 where there is none: what stands first is to be mended first.

    2 a setting, 4 no redirect URI can be listened on, 5 the network or Webex, 6 the token file or its folder,
    3 a login is required. Warnings do not count.
    """
    return next((check.exit_code for check in checks if check.level == "error"), 0)


def as_json(checks: Iterable[Check]) -> str:
    """Return one object: `exit_code`, and `checks` with `name`, `level`, `text` and `remedy` each."""
    found = list(checks)
    listed = [{"name": c.name, "level": c.level, "text": c.text, "remedy": c.remedy} for c in found]
    return json.dumps({"exit_code": exit_code(found), "checks": listed}, indent=2, ensure_ascii=False)


def lines(checks: Iterable[Check], *, plain: bool = False, width: int = 100) -> Iterator[str]:
    """Yield the lines to print, each check's as soon as it is made, and a summary.

    Args:
        checks: From `examine`.
        plain: ASCII marks, for a stream whose encoding has no others.
        width: Columns of the terminal.
    """
    marks = _ASCII_MARKS if plain else _MARKS
    counts = dict.fromkeys(marks, 0)
    for check in checks:
        counts[check.level] += 1
        head = f"{marks[check.level]} {check.name:<{_NAME_WIDTH}}"
        yield from _wrapped(check.text, head, width)
        if check.remedy:
            yield from _wrapped(check.remedy, " " * (len(head) - 3) + ("-> " if plain else "→  "), width)
    yield ""
    yield _summary(counts["error"], counts["warning"])


def _wrapped(text: str, head: str, width: int) -> list[str]:
    # An address or a path must stay whole, to be copied.
    wrap = textwrap.TextWrapper(
        max(width, 40), initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
    )
    wrap.break_long_words = False
    return wrap.wrap(text)


def _summary(errors: int, warnings: int) -> str:
    counts = [f"{n} {what}{'s' if n > 1 else ''}" for n, what in ((errors, "error"), (warnings, "warning")) if n]
    if not counts:
        return "All is well."
    return f"{' and '.join(counts)}. {'What stands first is to be mended first.' if errors else 'Nothing is broken.'}"


def _failed(name: str, error: WebexLoopbackError) -> Check:
    # The rest of such a remedy sends the reader here.
    remedy, doctor, _ = error.remedy.partition("; `webex-loopback doctor`")
    return Check(name, "error", str(error), f"{remedy}." if doctor else remedy, error.exit_code)


# Python and the settings


def _python(_: _Patient) -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_implementation, python_version

    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    where = f"{python_implementation()} {python_version()} on {sys.platform}, {sys.executable}"
    yield Check("python", "ok", f"webex-loopback {__version__}, {where}")
    if missing:
        yield Check(
            "packages",
            "error",
            f"Not installed: {', '.join(missing)}.",
            "Install webex-loopback again, with its dependencies: `pip install --force-reinstall webex-loopback`.",
            1,
        )
    else:
        yield Check("packages", "ok", ", ".join(found))


def _settings(patient: _Patient) -> Iterator[Check]:
    patient.settings = settings = load()
    yield from _settings_file(config_file())
    came_from = origins()
    for name, origin in came_from.items():
        if origin != "default" and name not in ("WEBEX_CLIENT_ID", *_SECRETS):
            yield Check(name, "ok", f"{getattr(settings, name[6:].lower())}  ({origin})")
    for name in ENVIRONMENT_ONLY:
        if value := os.environ.get(name):
            yield Check(name, "ok", f"{value}  (environment)")
    yield from _misspelt(patient.environ)
    client_id, client_secret = settings.client_id, settings.client_secret.get_secret_value()
    yield _credential(
        patient, "WEBEX_CLIENT_ID", client_id, client_id, came_from, r"C[0-9a-f]{64}", "C and 64 hexadecimal digits"
    )
    yield _credential(
        patient, "WEBEX_CLIENT_SECRET", client_secret, "set", came_from, r"[0-9a-f]{64}", "64 hexadecimal digits"
    )


def _settings_file(path: str) -> Iterator[Check]:
    if not path:
        yield Check("settings file", "ok", f"none: no config.env here or in {state_folder()}")
        return
    problem = remedy = ""
    if (lines_ := broken_lines()) != []:
        problem = f" has lines that are not NAME=value: {', '.join(map(str, lines_))}."
        remedy = "Correct them; such a line, and its value, is not used."
    elif _open_to_others(path) and _holds_secret():
        problem = f" holds a secret, and others may read it (mode {_mode(os.stat(path)):04o})."
        remedy = f"Run `chmod 600 {path}`."
    yield Check("settings file", "warning" if problem else "ok", f"{path}{problem}", remedy)


def _holds_secret() -> bool:
    path = config_file()
    return any(origins()[name] == path for name in _SECRETS)


def _misspelt(environ: Mapping[str, str]) -> Iterator[Check]:
    known = list(origins())
    for name in unknown_names():
        if name.upper() in ENVIRONMENT_ONLY:
            text, remedy = "is read from the environment, not from the settings file.", "Export it in the shell."
        else:
            text = "in the settings file is no setting."
            remedy = _meant(name, known) or "config.example.env describes them all."
        yield Check(name, "warning", f"{name} {text}", remedy)
    for name in environ:
        # Other tools have variables of this prefix, so only what nearly is one of ours.
        upper = name.upper()
        ours = [*known, *ENVIRONMENT_ONLY]
        if upper.startswith("WEBEX_") and upper not in ours and (meant := _meant(upper, ours)):
            yield Check(name, "warning", f"{name} in the environment is no setting.", meant)


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, 1, 0.88)
    return f"Did you mean {close[0]}?" if close else ""


def _credential(
    patient: _Patient, name: str, value: str, shown: str, came_from: Mapping[str, str], form: str, words: str
) -> Check:
    if not value:
        text, remedy = "not set", "Run `webex-loopback init`, which asks for what is missing."
        if _has_token(patient):
            return Check(name, "warning", f"{text}; the stored login needs it no more, a new one does", remedy)
        return Check(name, "error", text, remedy, ConfigurationError.exit_code)
    text = f"{shown}  ({came_from[name]})"
    if not re.fullmatch(form, value, re.IGNORECASE):
        remedy = "If Webex refuses it, copy it from the Integration's page again."
        return Check(name, "warning", f"{text}; Webex's are {words}, and this is not", remedy)
    return Check(name, "ok", text)


def _has_token(patient: _Patient) -> bool:
    from .source import TokenSource

    source = TokenSource(patient.profile)
    with contextlib.suppress(WebexLoopbackError):
        return bool(source.from_environment() or source.stored())
    return False


# This machine: redirect URIs, browser, certificate


def _redirects(patient: _Patient) -> Iterator[Check]:
    if patient.settings is None:
        yield _skipped("redirect URI")
        return
    texts = patient.settings.redirect_uris
    if not texts:
        yield Check(
            "redirect URI",
            "error",
            "WEBEX_REDIRECT_URI is empty.",
            "Set it to what is registered on the Integration.",
            ConfigurationError.exit_code,
        )
    # A wrong one stops a login, whichever is used.
    patient.redirect_uris = tuple(RedirectURI.parse(text) for text in texts)
    refused: list[Check] = []
    usable = False
    for redirect_uri in patient.redirect_uris:
        check, paste = _bindable(redirect_uri)
        usable = usable or check.level == "ok" or paste
        refused.append(check)
    for check in refused:
        if check.level == "warning" and not usable:
            check = Check(check.name, "error", check.text, check.remedy, LoginFailed.exit_code)
        yield check
    if any(redirect_uri.host == "localhost" for redirect_uri in patient.redirect_uris):
        yield _localhost()


def _bindable(redirect_uri: RedirectURI) -> tuple[Check, bool]:
    """Bind a redirect URI and let go of it; return what came of it, and whether one can log in by pasting."""
    from .loopback import bind

    listener, refusals = bind([redirect_uri])
    if listener is not None:
        places = ", ".join(_place(bound) for bound in listener.sockets)
        listener.close()
        return Check("redirect URI", "ok", f"{redirect_uri.text} can be listened on ({places})"), False
    refusal = refusals[0]
    if refusal.why == "privileges":
        remedy = (
            "A login then asks to paste the address that the browser ends on. To be spared that, register a redirect "
            "URI with a port above 1023, for instance http://127.0.0.1:8765/callback."
        )
    elif refusal.why == "in_use":
        remedy = (
            "End that program, or register a second redirect URI with another port on the Integration and name both "
            "in WEBEX_REDIRECT_URI: the first that is free is used."
        )
    else:
        remedy = "Use http://127.0.0.1:8765/callback, which works wherever there is a network stack."
    return Check("redirect URI", "warning", f"{redirect_uri.text}: {refusal.text}", remedy), refusal.why == "privileges"


def _place(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _localhost() -> Check:
    remedy = "Mend it in the hosts file (127.0.0.1 localhost, ::1 localhost), or register 127.0.0.1 in its place."
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return Check("localhost", "warning", f"This name cannot be resolved: {error.strerror}.", remedy)
    listed = ", ".join(sorted(found))
    if all(address == "::1" or address.startswith("127.") for address in found):
        return Check("localhost", "ok", f"resolves to {listed}")
    return Check("localhost", "warning", f"resolves to {listed}, which is not only this machine", remedy)


def _browser(patient: _Patient) -> Iterator[Check]:
    from .browser import find

    choice = find(patient.environ)
    if choice.argv is not None:
        yield Check("browser", "ok", f"{choice.name}  ({choice.reason})")
    else:
        yield Check(
            "browser",
            "warning",
            f"None will be opened: {choice.reason}.",
            "`webex-loopback login` prints the address to open elsewhere; --browser CMD names a command, --device "
            "logs in with a code on another device.",
        )


def _certificate(patient: _Patient) -> Iterator[Check]:
    secure = [redirect_uri for redirect_uri in patient.redirect_uris if redirect_uri.secure]
    if not secure or patient.settings is None:
        return
    from .certificate import HOSTS, describe

    cert, key = patient.settings.tls_cert, patient.settings.tls_key
    own = bool(cert or key)
    hosts = [redirect_uri.host for redirect_uri in secure] if own else HOSTS
    found = describe(folder=state_folder(), cert=cert, key=key, hosts=hosts)
    path, end = found["path"], found["not_after"]
    until = f"until {_date(end)}" if end is not None else ""
    if own and found["problem"]:
        yield Check(
            "certificate",
            "error",
            found["problem"],
            "Make a pair with `mkcert localhost 127.0.0.1 ::1` and set WEBEX_TLS_CERT and WEBEX_TLS_KEY to it.",
            ConfigurationError.exit_code,
        )
    elif own and not found["private"]:
        key = os.path.expanduser(key)
        yield Check("certificate", "warning", f"Others may read the key {key}.", f"Run `chmod 600 {key}`.")
    elif own and end is not None and end - time.time() < 30 * DAY:
        remedy = "Make a new pair with `mkcert` in time."
        yield Check("certificate", "warning", f"{path}, {until}, that is for {span(end - time.time())}", remedy)
    elif own:
        yield Check("certificate", "ok", f"{path}, {until}, for {', '.join(found['names'])}")
    elif end is None or found["problem"]:
        yield Check("certificate", "ok", f"self-signed; the next login makes a new one, {path}")
    else:
        yield Check("certificate", "ok", f"self-signed, {until}, {path}; the browser asks once whether to trust it")


# The network


def _network(patient: _Patient) -> Iterator[Check]:
    settings = patient.settings
    if settings is None:
        yield _skipped("network")
        return
    from .network import proxy_for, ssl_context

    proxy = proxy_for(settings.token_url)
    host = urlsplit(settings.token_url).hostname or ""
    yield Check("proxy", "ok", f"{_without_password(proxy)} for {host}" if proxy else f"none for {host}")
    named = (
        ("WEBEX_CA_BUNDLE", settings.ca_bundle),
        ("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE")),
        ("SSL_CERT_DIR", os.environ.get("SSL_CERT_DIR")),
    )
    ssl_context(settings.ca_bundle)
    more = "".join(f", and {path} ({name})" for name, path in named if path)
    yield Check("trusted CAs", "ok", f"the operating system's trust store{more}")


def _without_password(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" + (" with a password" if "@" in parts.netloc else "")


def _connection(patient: _Patient) -> Iterator[Check]:
    settings = patient.settings
    if settings is None or not patient.online:
        yield _skipped("connection", "not asked for (offline)" if settings else "")
        return
    from .grant import webex_of
    from .network import issuer_seen

    host = urlsplit(settings.token_url).netloc
    with webex_of(settings) as webex:
        began = time.monotonic()
        status = webex.reach()
        took = f"{1000 * (time.monotonic() - began):.0f} ms"
        skew = webex.clock_skew
    if 300 <= status < 400 or status == 511:
        yield Check(
            "connection",
            "error",
            f"{host} answers with a redirect ({status}), which the token endpoint never does.",
            "You may have to sign in to the network first: open any page in the browser.",
            ServerUnreachable.exit_code,
        )
    elif status >= 500:
        yield Check(
            "connection",
            "warning",
            f"{host} has a fault of its own ({status}).",
            "Try again in a few minutes; https://status.webex.com tells of outages.",
        )
    else:
        yield Check("connection", "ok", f"{host} answers, in {took}")
    if settings.token_url.startswith("https://"):
        issuer = printable(issuer_seen(settings.token_url), 200)
        # Shown where it is trusted, too: a company's name here is the proxy that reads along.
        yield Check("issued by", "ok" if issuer else "skipped", issuer or "The certificate's issuer was not seen.")
    yield _clock(skew)


def _clock(skew: float | None) -> Check:
    if skew is None:
        return Check("clock", "skipped", "The server did not tell the time.")
    if abs(skew) <= _SKEW_SECONDS:
        return Check("clock", "ok", "agrees with the server's" + (f" to {abs(skew):.0f} s" if abs(skew) >= 2 else ""))
    text = f"This machine's clock is {span(abs(skew))} {'behind' if skew > 0 else 'ahead'}."
    return Check("clock", "warning", text, "Set it: a token counts as expired too early or too late otherwise.")


# The state folder and what is in it


def _state(_: _Patient) -> Iterator[Check]:
    folder = state_folder()
    real = os.path.realpath(folder)
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        yield Check("state folder", "ok", f"{real}, which is made when it is first needed")
        return
    except OSError as error:
        raise TokenStoreError(
            f"{folder} cannot be looked at: {error.strerror}.",
            problem="unreadable",
            remedy="See to the modes of the folders above it.",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise TokenStoreError(f"{real} is not a folder.", problem="unwritable", remedy="Move away what is there.")
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise TokenStoreError(
            f"{real} belongs to another user (uid {status.st_uid}).",
            problem="foreign",
            remedy="Set WEBEX_LOOPBACK_HOME to a folder of your own.",
        )
    if _open_to_others(folder):
        mode = f"{_mode(status):04o}"
        yield Check("state folder", "warning", f"{real} is open to others (mode {mode}).", f"Run `chmod 700 {real}`.")
    else:
        yield Check("state folder", "ok", real)


def _locking(patient: _Patient) -> Iterator[Check]:
    path = token_file(patient.profile)
    store = FileTokenStore(path, lock_timeout_seconds=_LOCK_SECONDS)
    with store.lock():
        try:
            with file_lock(store.lock_path, 0):
                exclusive = False
        except TokenStoreError:
            exclusive = True
    if exclusive:
        yield Check("locking", "ok", f"works ({store.lock_path})")
    else:
        yield Check(
            "locking",
            "warning",
            f"The file system of {store.lock_path} grants a lock to two at once.",
            "Set WEBEX_LOCK_DIR to a folder on a local disk: two refreshes at once may cost the login.",
        )


def _token(patient: _Patient) -> Iterator[Check]:
    from .source import TokenSource

    name, path = profile_name(patient.profile), token_file(patient.profile)
    source = TokenSource(patient.profile)
    origin = source.from_environment()
    if origin:
        yield Check(
            "WEBEX_ACCESS_TOKEN",
            "warning" if os.path.exists(path) else "ok",
            f"set ({origin}): get_token() returns it as it is, whoever's it is, and nothing is refreshed",
            f"The login of profile {name} is not used meanwhile; unset WEBEX_ACCESS_TOKEN, or name the profile."
            if os.path.exists(path)
            else "",
        )
    token = source.stored()
    option = "" if name == "default" else f" --profile {name}"
    command = f"Run `webex-loopback login{option}`."
    if token is None:
        text = f"Profile {name} is not logged in: there is no {os.path.realpath(path)}."
        if origin:
            yield Check("login", "skipped", text)
        else:
            yield Check("login", "error", text, command, LoginRequired.exit_code)
        return
    yield _login(name, token)
    yield from _lifetimes(token, command, time.time())
    yield from _scopes(token, patient.settings, f"Run `webex-loopback login --force{option}`.")


def _login(name: str, token: StoredToken) -> Check:
    who = " ".join(filter(None, (token.account.name, token.account.email and f"<{token.account.email}>")))
    return Check("login", "ok", f"profile {name}: {who or 'an account that the token may not name'}")


def _lifetimes(token: StoredToken, command: str, now: float) -> Iterator[Check]:
    can_refresh = token.refresh_token is not None and not token.refresh_token_expired(now)
    text = "of unknown end" if token.expires_at is None else f"until {_date(token.expires_at)}"
    if not token.expired(now):
        due = "; a refresh is due, at the next use" if can_refresh and now >= token.refresh_at else ""
        left = f", {span(token.expires_at - now)} left" if token.expires_at is not None else ""
        yield Check("access token", "ok", f"{text}{left}{due}")
    elif can_refresh:
        yield Check("access token", "ok", "has ended; it is refreshed at the next use")
    else:
        yield Check("access token", "error", f"{text}: it has ended", command, LoginRequired.exit_code)
    end = token.refresh_token_expires_at
    if token.refresh_token is None:
        yield Check("refresh token", "warning", "none: when the access token ends, a login is required", command)
    elif end is None:
        yield Check("refresh token", "ok", "of unknown end")
    elif now >= end:
        text = f"ended {span(now - end)} ago"
        # Where the access token has ended as well, that is the error, and this why.
        yield Check("refresh token", "warning", text, command)
    elif end - now < _SOON:
        remedy = "If a refresh does not renew it, a login is required then; `webex-loopback login --force` makes sure."
        yield Check("refresh token", "warning", f"until {_date(end)}, {span(end - now)} left", remedy)
    else:
        yield Check("refresh token", "ok", f"until {_date(end)}, {span(end - now)} left")


def _scopes(token: StoredToken, settings: Settings | None, again: str) -> Iterator[Check]:
    if token.missing:
        yield Check(
            "scopes",
            "warning",
            f"Asked for, but not granted: {' '.join(token.missing)}.",
            "Tick them on the Integration's page, then log in again. Some are for administrators only.",
        )
    else:
        yield Check("scopes", "ok", " ".join(token.granted) or "Webex did not say which were granted")
    if settings is None or not settings.client_id:
        return
    if token.client_id != settings.client_id:
        text = "The login was made with another Integration than WEBEX_CLIENT_ID names."
        yield Check("integration", "warning", text, again)
    elif wanted := [scope for scope in settings.scope_list if scope not in token.scopes_requested]:
        yield Check("scopes", "warning", f"In WEBEX_SCOPES only since the login: {' '.join(wanted)}.", again)


def _skipped(name: str, why: str = "") -> Check:
    return Check(name, "skipped", why or "not looked at, since the settings are not usable")


def _open_to_others(path: str) -> bool:
    return sys.platform != "win32" and bool(_mode(os.stat(path)) & 0o077)


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode)


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


_CHECKS: tuple[tuple[str, Callable[[_Patient], Iterator[Check]]], ...] = (
    ("python", _python),
    ("settings", _settings),
    ("redirect URI", _redirects),
    ("browser", _browser),
    ("certificate", _certificate),
    ("trusted CAs", _network),
    ("connection", _connection),
    ("state folder", _state),
    ("locking", _locking),
    ("login", _token),
)
