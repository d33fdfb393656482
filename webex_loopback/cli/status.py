"""`status`: account, lifetimes and scopes of a login, read from the store; no network, no secret."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from webex_loopback.errors import LoginRequired, TokenStoreError
from webex_loopback.paths import login_command, profile_name
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores import stored_profiles
from webex_loopback.wording import columns, duration, moment, printable, wrap

from .app import Duration, json_option, print_json, profile_option, say
from .formats import iso

_LABEL = 15  # columns


@click.command()
@profile_option
@click.option("--all", "every", is_flag=True, help="List all profiles, one per line.")
@json_option
@click.option("--check", type=Duration(), default="0", help="Exit with 3 if a login is needed within this time.")
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
            # \0 is a space at which no line breaks: a long path stays beside its label.
            line = label.ljust(_LABEL).replace(" ", "\0") + printable(text, 4096)
            click.echo(wrap(line, columns(sys.stdout), _LABEL))
    return _check([facts], check)


def _facts(profile: str, token: StoredToken, store: object, now: float) -> dict[str, Any]:
    """Return the state of a login for programs: names and numbers; moments in ISO 8601 and epoch seconds."""
    path, app = getattr(store, "real_path", None), token.service_app
    return {
        "profile": profile,
        "source": type(store).__name__.removesuffix("TokenStore").lower(),  # file, keyring or postgres
        "path": path,
        "store": str(store),
        "account": {"name": token.account.name, "email": token.account.email, "id": token.account.id},
        "service_app": app and {"org_id": app.org_id, "app_id": app.app_id, "using": app.using},
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


def _left(facts: dict[str, Any]) -> float | None:
    """Return the seconds until a login is needed; None if unknown or never."""
    if "error" in facts:
        return 0
    app = facts["service_app"]
    end = facts["refresh_token"] or (None if app else facts["access_token"])
    own: float | None = end["seconds_left"] if end else 0
    if app is None:
        return own
    through = _facts_or_error(app["using"], time.time())  # the profile that can fetch its tokens again
    other = 0 if through.get("service_app") else _left(through)
    return None if own is None or other is None else max(own, other)


def _check(found: list[dict[str, Any]], least: float) -> int:
    if least and not found:
        return LoginRequired.exit_code
    code = 0
    for facts in found:
        left, app = _left(facts), facts.get("service_app")
        if left is not None and left < least:
            code, command = LoginRequired.exit_code, login_command(app["using"] if app else facts["profile"], "--force")
            why = printable(facts.get("error", ""), 4096) or f"less than {duration(least)} left."
            say(f"Profile {facts['profile']}: {why} Run `{command}`.", "red")
    return code


def _print_list(found: list[dict[str, Any]]) -> None:
    if not found:
        say("No profile is logged in. Run `webex-loopback login`.")
    wide = max((len(facts["profile"]) for facts in found), default=0)
    for facts in found:
        left, text = _left(facts), printable(facts.get("error", ""), 4096)
        if not text:
            account = facts["account"]["email"] or facts["account"]["name"] or "unknown account"
            if app := facts["service_app"]:
                account += f" (Service App, through profile {app['using']})"
            until_login = "no known expiry" if left is None else f"{duration(left)} left" if left else "expired"
            text = f"{until_login:<18}  {printable(account)}"
        click.echo(f"{'*' if facts['profile'] == profile_name() else ' '} {facts['profile']:<{wide}}  {text}")


def _rows(token: StoredToken, facts: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    account = f"{token.account.name} <{token.account.email}>" if token.account.email else token.account.name
    yield "Profile", facts["profile"]
    yield "Account", account or "unknown (the token does not have spark:people_read)"
    if app := token.service_app:
        yield "Service App", f"of organization {app.org_id}, through profile {app.using}"
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
