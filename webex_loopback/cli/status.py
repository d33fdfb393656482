"""`status`: account, lifetimes and scopes of a login, read from the store; no network, no secret."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from webex_loopback.errors import LoginRequired, TokenStoreError
from webex_loopback.paths import login_command, profile_name
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores import stored_profiles
from webex_loopback.webex.account import Account
from webex_loopback.wording import columns, duration, moment, printable, wrap

from .app import json_option, print_json, profile_option, say, span
from .formats import iso

_LABEL = 15  # columns


@click.command()
@profile_option
@click.option("--all", "every", is_flag=True, help="List all profiles, one per line.")
@json_option
@click.option(
    "--check", type=span, metavar="TIME", default="0", help="Exit with 3 if a login is needed within this time."
)
def status(profile: str | None, every: bool, as_json: bool, check: float) -> int:
    """Show the account, lifetimes and scopes of a login.

    Reads the token store; makes no network requests. `whoami` asks Webex, `doctor` checks everything else.
    """
    now, name, source = time.time(), profile_name(profile), TokenSource(profile)
    if every:
        found = [_facts_or_error(name, now) for name in stored_profiles()]
        print_json(found) if as_json else _print_list(found)
        return _check(found, check)
    if origin := source.from_environment():
        if as_json:
            print_json({"profile": None, "source": "WEBEX_ACCESS_TOKEN", "origin": origin})
        else:
            click.echo(f"WEBEX_ACCESS_TOKEN is set ({printable(origin)}). It is used unchanged and never renewed.")
        return 0
    if (token := source.stored()) is None:
        what = f"Profile {name} is not logged in: nothing is stored in {printable(str(source.store), 4096)}."
        raise LoginRequired(what, remedy=f"Run `{login_command(name)}`.")
    facts = _facts(name, token, source.store, now)
    if as_json:
        print_json(facts)
    else:
        for label, text in _rows(token, facts, now):
            click.echo(wrap(label.ljust(_LABEL) + printable(text, 4096), columns(sys.stdout), _LABEL))
    return _check([facts], check)


def _facts(profile: str, token: StoredToken, store: object, now: float) -> dict[str, Any]:
    """Return the state of a login for programs: names and numbers; moments in ISO 8601 and epoch seconds."""
    return {
        "profile": profile,
        "source": type(store).__name__.removesuffix("TokenStore").lower(),  # file, keyring or postgres
        "path": getattr(store, "real_path", None),
        "store": str(store),
        "account": asdict(token.account),
        "service_app": token.service_app and asdict(token.service_app),
        "client_id": token.client_id,
        "api_base_url": token.api_base_url,
        "scopes_requested": token.scopes_requested,
        "scopes_granted": token.granted,
        "scopes_missing": token.missing,
        "issued_at": iso(token.issued_at),
        "refresh_due": now >= token.refresh_at,
        "access_token": _end(token.expires_at, now),
        "refresh_token": _end(token.refresh_token_expires_at, now) if token.refresh_token else None,
    }


def _end(end: int | None, now: float) -> dict[str, Any]:
    left = None if end is None else max(int(end - now), 0)
    return {"expires_at": iso(end), "expires_at_epoch": end, "seconds_left": left, "expired": left == 0}


def _facts_or_error(profile: str, now: float) -> dict[str, Any]:
    source, error = TokenSource(profile), "Not logged in."  # removed since the profiles were listed
    try:
        if token := source.stored():
            return _facts(profile, token, source.store, now)
    except TokenStoreError as caught:
        error = str(caught)
    return {"profile": profile, "store": str(source.store), "error": error}


def _left(facts: dict[str, Any]) -> float:
    """Return the seconds until a login is needed; infinite if that is unknown or never."""
    if "error" in facts:
        return 0
    app = facts["service_app"]
    end = facts["refresh_token"] or ({"seconds_left": 0} if app else facts["access_token"])
    left: float = math.inf if end["seconds_left"] is None else end["seconds_left"]
    if app:
        other = _facts_or_error(app["using"], time.time())  # which can fetch its tokens again
        left = left if other.get("service_app") else max(left, _left(other))
    return left


def _check(found: list[dict[str, Any]], least: float) -> int:
    code = LoginRequired.exit_code if least and not found else 0
    for facts in found:
        if _left(facts) < least:
            code, app = LoginRequired.exit_code, facts.get("service_app")
            why = printable(facts.get("error", ""), 4096) or f"less than {duration(least)} left."
            command = login_command(app["using"] if app else facts["profile"], "--force")
            say(f"Profile {facts['profile']}: {why} Run `{command}`.", "red")
    return code


def _print_list(found: list[dict[str, Any]]) -> None:
    if not found:
        say("No profile is logged in. Run `webex-loopback login`.")
    wide = max((len(facts["profile"]) for facts in found), default=0)
    if found and sys.stdout.isatty():
        wide = max(wide, len("Profile"))
        click.echo(f"  {'Profile':<{wide}}  {'Until next login':<18}  Account (* = default)")
    for facts in found:
        left, text = _left(facts), printable(facts.get("error", ""), 4096)
        if not text:
            account = facts["account"]["email"] or facts["account"]["name"] or "unknown account"
            if app := facts["service_app"]:
                account += f" (through {app['using']})"
            until_login = "no known expiry" if left == math.inf else f"{duration(left)} left" if left else "expired"
            text = f"{until_login:<18}  {printable(account)}"
        line = f"{'*' if facts['profile'] == profile_name() else ' '} {facts['profile']:<{wide}}  {text}"
        click.echo(wrap(line, columns(sys.stdout), wide + 4))


def name_and_email(account: Account) -> str:
    """Return "Alex Morgan <alex.morgan@example.com>", or as much of it as is known."""
    return f"{account.name} <{account.email}>" if account.name and account.email else account.name or account.email


def _rows(token: StoredToken, facts: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    yield "Profile", facts["profile"]
    yield "Account", name_and_email(token.account) or "unknown (the token does not have spark:people_read)"
    if app := token.service_app:
        yield "Organization", app.org_id
        yield "Fetched with", f"profile {app.using}"
    yield "Access token", _lifetime(token.expires_at, now)
    if token.refresh_token is not None:
        yield "Refresh token", _lifetime(token.refresh_token_expires_at, now)
    yield "", outlook(token, now)
    yield "Scopes", " ".join(token.granted) or "unknown"
    if token.missing:
        yield "Not granted", " ".join(token.missing)
    yield "Webex", token.api_base_url
    yield "Stored in", facts["path"] or facts["store"]


def _lifetime(end: int | None, now: float) -> str:
    if end is None:
        return "no known expiry"
    passed = f"expired {duration(now - end)} ago, on {moment(end)}"
    return passed if now >= end else f"{duration(end - now)} left, until {moment(end)}"


def outlook(token: StoredToken, now: float) -> str:
    """Say when the login is renewed, and when the user has to log in again."""
    end = token.refresh_token_expires_at
    if not token.can_renew:
        when = "now" if token.expired(now) else f"before {moment(token.expires_at)}" if token.expires_at else "then"
        return f"There is no refresh token, so it cannot be renewed: log in again {when}."
    if token.service_app is None and token.refresh_token_expired(now):
        return "The refresh token has probably expired: log in again."
    due = f"after {moment(token.refresh_at)}" if now < token.refresh_at else "from now on"
    until = "" if end is None or token.service_app else f" If unused until {moment(end)}, log in again."
    return f"Refreshed on first use {due}.{until}"
