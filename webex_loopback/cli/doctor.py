"""`doctor`: checks what logins and renewals depend on, and explains how to fix problems."""

import contextlib
import difflib
import os
import re
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from webex_loopback import __version__
from webex_loopback.errors import ConfigurationError, LoginFailed, TokenEndpointError, WebexLoopbackError
from webex_loopback.login import browser
from webex_loopback.login.certificate import HOSTS, describe
from webex_loopback.login.listener import bind
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.paths import data_directory, login_command, profile_name
from webex_loopback.private_file import is_ours, readable_by_others
from webex_loopback.secret import Secret
from webex_loopback.settings import ENVIRONMENT_ONLY, Settings, load, require
from webex_loopback.tokens.record import DAY, StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores import open_store, reserve
from webex_loopback.tokens.token_request import client_for
from webex_loopback.webex import transport
from webex_loopback.webex.client import Webex
from webex_loopback.wording import columns, duration, moment, printable, wrap

from .app import json_option, print_json, profile_option
from .status import name_and_email, outlook
from .texts import catalogue

LOCK_SECONDS = 5.0
_COLUMN = 23  # where texts start: after a mark and the longest name, WEBEX_CLIENT_SECRET
_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red"), "skipped": ("-", None)}
_LEFTOVER = re.compile(r"\.(new|tmp)$|\.(corrupt|foreign|future)-")


class Check(NamedTuple):
    """One finding; `exit_code` is that of a command that hits this error."""

    name: str
    level: str  # "ok", "warning", "error" or "skipped"
    text: str
    remedy: str = ""
    exit_code: int = 0


@dataclass(slots=True)
class _Case:
    """What to check; `settings` is set once they have been read."""

    profile: str | None
    online: bool
    settings: Settings | None = None


@click.command()
@profile_option
@json_option
@click.option("--offline", is_flag=True, help="Make no network requests.")
def doctor(profile: str | None, as_json: bool, offline: bool) -> int:
    """Check settings, network, browser, files and tokens.

    Explains how to fix each problem; changes no settings or tokens. The exit code is that of the first error.
    """
    checks: list[Check] = []
    for check in examine(profile, online=not offline):
        checks.append(check)
        if not as_json:
            click.echo(as_lines(check, columns(sys.stdout)))
    code = next((check.exit_code for check in checks if check.level == "error"), 0)
    if as_json:
        print_json({"exit_code": code, "checks": [check._asdict() for check in checks]})
    else:
        errors, warnings = (sum(check.level == level for check in checks) for level in ("error", "warning"))
        found = f"Errors: {errors}. Warnings: {warnings}.{' Fix the first error first.' * bool(errors)}"
        click.echo(f"\n{found}" if errors or warnings else "\nNo problems found.")
    return code


def examine(profile: str | None, *, online: bool) -> Iterator[Check]:
    """Yield the findings in the order in which to fix them.

    The ports, the lock and the space for a token file are actually acquired, then released. The only secret that is
    sent is the stored access token, to the API that it is for.
    """
    case, version = _Case(profile, online), sys.version.split()[0]
    yield _find("python", own=__version__, python=version, platform=sys.platform, executable=sys.executable)
    for look in (_settings, _redirect_uri, _browser, _connection, _data_directory, _token_store):
        try:
            yield from look(case)
        except (WebexLoopbackError, OSError) as error:
            name = look.__name__[1:].replace("_", " ").replace("uri", "URI")
            # Without the advice to run `doctor`.
            remedy = re.sub(r"[,;.]?[^,;.`]*`webex-loopback doctor`[^.;]*", "", getattr(error, "remedy", ""))
            found = _find("failed", name=name, text=error, remedy=remedy.lstrip(". "))
            yield found._replace(exit_code=getattr(error, "exit_code", 1))


def as_lines(check: Check, width: int) -> str:
    """Return a finding as lines: mark and name, then text and remedy in a column of their own."""
    mark, colour = _MARKS[check.level]
    if mark.encode(sys.stdout.encoding or "utf-8", "replace") == b"?":
        mark = "+" if check.level == "ok" else "x"  # code page 1252, for instance, lacks it
    remedy = f"\n{'':{_COLUMN}}-> {check.remedy}" if check.remedy else ""
    text = f"{mark} {check.name:<{_COLUMN - 3}} {check.text}{remedy}"
    return click.style(mark, fg=colour) + wrap(text, max(width, _COLUMN + 30), _COLUMN)[1:]


def _find(key: str, /, **values: object) -> Check:
    """Return a finding from `texts/doctor.json`; the values are made safe for the terminal, without passwords."""
    found, shown = catalogue("doctor")[key], {}
    for name, value in values.items():
        text = re.sub(r"(://)\S*@", r"\1[...]@", printable(str(value), 2000))
        shown[name] = re.sub(r"([?&](?:ssl)?password=)[^&\s]*", r"\1[...]", text)
    name, text, remedy = (found.get(part, "").format(**shown) for part in ("check", "text", "remedy"))
    return Check(name, found.get("level", "ok"), text, remedy, found.get("exit", 0))


def _settings(case: _Case) -> Iterator[Check]:
    settings = case.settings = load()
    yield _find("file" if settings.config_file else "no_file", path=settings.config_file, directory=data_directory())
    yield from (_find("note", text=warning) for warning in settings.warnings)
    known = [*ENVIRONMENT_ONLY, *settings.origins]
    for name, value in os.environ.items():
        if name in ENVIRONMENT_ONLY and value:
            yield _find("value", name=name, value=value, origin="environment")
        elif name.upper() not in known and (meant := difflib.get_close_matches(name.upper(), known, 1, 0.88)):
            yield _find("misspelled", name=name, meant=meant[0])
    for name, origin in settings.origins.items():
        if origin != "default":
            value = getattr(settings, name.removeprefix("WEBEX_").lower())
            shown = "set" if isinstance(value, Secret) else duration(value) if isinstance(value, float) else value
            yield _find("value", name=name, value=shown, origin=origin)
    try:
        require(settings)
    except ConfigurationError as error:
        with contextlib.suppress(WebexLoopbackError):
            if TokenSource(case.profile).from_environment() or TokenSource(case.profile).stored():
                yield _find("next_login", text=error, remedy=error.remedy)
                return
        raise


def _redirect_uri(case: _Case) -> Iterator[Check]:
    if case.settings is None:
        yield _find("unchecked", name="redirect URI")
        return
    uris = [RedirectURI.parse(text) for text in case.settings.redirect_uris]
    checks, usable = [], False
    for uri in uris:
        listener, refusals = bind([uri])
        if listener is not None:
            listener.close()
        key, why = (refusals[0].why, refusals[0].text) if refusals else ("available", "")
        usable |= key in ("available", "privileges")  # without privileges the redirect can be pasted
        checks.append(_find(key, uri=uri.text, why=why))
    yield from checks if usable else (c._replace(level="error", exit_code=LoginFailed.exit_code) for c in checks)
    if hosts := [uri.host for uri in uris if uri.secure]:
        cert, key = case.settings.tls_cert, case.settings.tls_key
        found = describe(folder=data_directory(), cert=cert, key=key, hosts=hosts if cert or key else HOSTS)
        kind = "problem" if found["problem"] else "valid" if found["private"] else "exposed"
        end, names = moment(found["not_after"] or time.time()), ", ".join(found["names"])
        told = {"path": found["path"], "problem": found["problem"], "key": key, "quoted": shlex.quote(key)}
        yield _find("self_signed" if found["self_signed"] else f"certificate_{kind}", end=end, names=names, **told)


def _browser(case: _Case) -> Iterator[Check]:
    choice = browser.find(os.environ, case.settings.browser if case.settings else "", origin="WEBEX_BROWSER")
    yield _find("browser" if choice.argv is not None else "no_browser", name=choice.name, reason=choice.reason)
    if choice.skipped:
        yield _find("skipped_browser", why=choice.skipped)


def _connection(case: _Case) -> Iterator[Check]:
    if case.settings is None:
        yield _find("unchecked", name="connection")
        return
    url, ca_bundle = case.settings.token_url, case.settings.ca_bundle
    host, proxy = urlsplit(url).netloc, transport.proxy_for(url)
    yield _find("proxy" if proxy else "no_proxy", proxy=proxy, host=host)
    transport.ssl_context(ca_bundle)  # reads all of these
    named = {"WEBEX_CA_BUNDLE": ca_bundle} | {name: os.environ.get(name, "") for name in transport.TRUST}
    yield _find("trust", more="".join(f", {path} ({name})" for name, path in named.items() if path))
    if not case.online:
        yield _find("offline")
        return
    with Webex.of(case.settings) as webex:
        began = time.monotonic()
        status = webex.probe()
        portal = status == 511 or 300 <= status < 400
        key = "portal" if portal else "failing" if status >= 500 else "connection"
        yield _find(key, host=host, status=status, milliseconds=round(1000 * (time.monotonic() - began)))
    if issuer := transport.issuer_seen(url) if url.startswith("https") else "":
        yield _find("issuer", issuer=issuer)  # a company's name means a proxy that decrypts the traffic
    skew = webex.clock_skew
    key = "no_clock" if skew is None else "clock" if abs(skew) <= 300 else "behind" if skew > 0 else "ahead"
    yield _find(key, host=host, skew=duration(abs(skew or 0)))


def _data_directory(_: _Case) -> Iterator[Check]:
    directory = os.path.realpath(data_directory())
    missing = "not_directory" if os.path.exists(directory) else "no_directory"
    yield _find("directory" if os.path.isdir(directory) else missing, path=directory)
    found: dict[str, list[str]] = {"foreign": [], "exposed": [], "leftovers": []}
    for above, _below, names in os.walk(directory):
        for path in (above, *(os.path.join(above, name) for name in names)):
            with contextlib.suppress(FileNotFoundError):  # a save that has just ended
                status = os.lstat(path)
                found["foreign"] += [path] * (not is_ours(status))
                found["exposed"] += [path] * (readable_by_others(status) and not stat.S_ISLNK(status.st_mode))
                found["leftovers"] += [path] * bool(_LEFTOVER.search(os.path.basename(path)))
    for key, paths in found.items():
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield _find(key, paths=paths[0] + more, quoted=shlex.quote(directory))


def _token_store(case: _Case) -> Iterator[Check]:
    store = open_store(case.profile)
    with store.lock(LOCK_SECONDS):
        reserve(store)  # room, permissions, and a key in the keyring
    token = store.load()
    yield _find("store", store=store)
    yield from _login(case, token)


def _login(case: _Case, token: StoredToken | None) -> Iterator[Check]:
    name, now = profile_name(case.profile), time.time()
    told = {"profile": name, "login": login_command(name, "--force")}
    if origin := TokenSource(case.profile).from_environment():
        yield _find("environment_token_wins" if token else "environment_token", origin=origin, **told)
    if token is None:
        yield _find("not_needed" if origin else "not_logged_in", profile=name, login=login_command(name))
        return
    yield _find("login", account=name_and_email(token.account) or "account unknown", **told)
    app, end = token.service_app, token.refresh_token_expires_at
    soon = app is None and (token.refresh_token is None or (end is not None and end < now + 7 * DAY))
    dead = token.expired(now) and (not token.can_renew or (app is None and token.refresh_token_expired(now)))
    yield _find("ended" if dead else "ends_soon" if soon else "lasts", outlook=outlook(token, now), **told)
    if case.online and not token.expired(now):
        yield from _answer(token, told)
    yield _find("not_granted" if token.missing else "scopes", scopes=" ".join(token.missing or token.granted), **told)
    if app is not None:
        yield _find("service_app", org=app.org_id, using=app.using)
    elif case.settings and case.settings.client_id:
        new = [scope for scope in case.settings.scope_list if scope not in token.scopes_requested]
        if token.client_id != case.settings.client_id:
            yield _find("other_integration", **told)
        elif new:
            yield _find("new_scopes", scopes=" ".join(new), **told)


def _answer(token: StoredToken, told: dict[str, str]) -> Iterator[Check]:
    """Ask Webex whether it accepts the access token; network failures have already been reported."""
    with contextlib.suppress(WebexLoopbackError), client_for(token) as webex:
        try:
            webex.people_me(token.access_token)
        except TokenEndpointError as error:
            if error.status_code == 401:
                yield _find("rejected", **told)
            if error.status_code != 403:  # which only means that a scope is missing
                return
        yield _find("accepted")
