"""`token`: print a valid access token, for a shell, curl or another tool."""

import math
import os
import time

import click

from webex_loopback.errors import ConfigurationError, LoginRequired, TokenEndpointError, TokenStoreError
from webex_loopback.paths import profile_name
from webex_loopback.private_file import write_private_file
from webex_loopback.tokens.decision import means_login, rejection
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.wording import duration, moment, printable

from .app import profile_option, say, span
from .formats import FORMATS, WITH_REFRESH_TOKEN, write


@click.command()
@profile_option
@click.option("--format", "form", type=click.Choice(FORMATS), metavar="FORMAT", help="Use one of these formats.")
@click.option("--json", "form", flag_value="json", help="Same as --format json.")
@click.option("--header", "form", flag_value="header", help="Same as --format header.")
@click.option("--env", "form", flag_value="env", help="Same as --format env.")
@click.option("--refresh", is_flag=True, help="Renew the token now, even if it is not due.")
@click.option("--min-validity", type=span, metavar="TIME", help="Renew first if less than this is left: 7d, 12h, 30m.")
@click.option("--output", "-o", metavar="FILE", help="Write to a file that only you can read, not to stdout.")
def token(profile: str | None, form: str | None, refresh: bool, min_validity: float | None, output: str | None) -> None:
    """Print a valid access token.

    Renews it first if it is due. Needs no settings and works in any directory. To keep an unused login alive, run
    `webex-loopback token` daily from a timer.

    \b
    Formats:
      env             WEBEX_ACCESS_TOKEN=..., quoted for a shell
      header          Authorization: Bearer ..., for curl -H
      curl            a configuration file, for curl -K
      json            access_token, token_type, expires_at
      token-response  JSON of RFC 6749, with the refresh token
      postman         an environment, with the refresh token
      wxc-sdk         its yml file, with the refresh token
    """
    source = TokenSource(profile)
    text = access_token = valid_token(source, min_validity, refresh=refresh)
    if form is not None:
        text = write(form, access_token, None if source.from_environment() else source.stored(), time.time())
    if output is None:
        click.echo(text)
    else:
        _save(output, text)
    if form in WITH_REFRESH_TOKEN:
        say("This output contains secrets. Keep it out of chats, tickets and repositories.", "yellow")


def valid_token(source: TokenSource, min_validity: float | None, *, refresh: bool = False) -> str:
    """Return an access token that is valid for `min_validity` seconds, renewed first if necessary or requested."""
    if source.from_environment() and not refresh:
        if min_validity is not None:
            say("The expiry of the token in WEBEX_ACCESS_TOKEN is not known; --min-validity is ignored.", "yellow")
        return source.get_token()
    least, access_token = min_validity or 0, "" if refresh else source.get_token()
    before = None if source.from_environment() else source.stored()
    if refresh or _left(before) < least:
        if before is not None and not refresh:
            _check(_left(before, before.issued_at), least)  # what Webex granted last; a renewal would not help
        try:
            access_token = source.refresh()
        except TokenEndpointError as error:  # while the current token is valid
            if before is None or before.service_app or not means_login(error, before, time.time()):
                raise
            until = f" The access token is valid until {moment(before.expires_at)}." if before.expires_at else ""
            command = before.login_command(profile_name(source.profile), "--force")
            raise LoginRequired(rejection(error) + until, remedy=f"Run `{command}`.") from None
        after = source.stored()
        if after == before:
            what = "The token was renewed, but the new tokens could not be stored."
            raise TokenStoreError(what, problem="unwritable")
        left = _left(after)
        say("Refreshed." if left == math.inf else f"Refreshed. The access token is valid for {duration(left)}.")
        _check(left, least)
    return access_token


def _left(stored: StoredToken | None, since: float | None = None) -> float:
    """Return the seconds from a moment, default: now, until the access token expires; infinite if unknown."""
    end = stored.expires_at if stored else None
    return math.inf if end is None else end - (time.time() if since is None else since)


def _check(seconds: float, least: float) -> None:
    if seconds < least:
        raise ConfigurationError(
            f"Webex grants access tokens for {duration(seconds)}, less than --min-validity requires.",
            setting="--min-validity",
            remedy="Use a shorter --min-validity, or have the program call get_token() whenever it needs a token.",
        )


def _save(path: str, text: str) -> None:
    if os.path.lexists(path) and not os.path.isfile(path):
        raise click.UsageError(f"{printable(path)} is not a regular file.")
    try:
        write_private_file(os.path.realpath(path), f"{text}\n".encode())
    except OSError as error:
        raise click.UsageError(f"Could not write {printable(path)}: {error.strerror}.") from None
