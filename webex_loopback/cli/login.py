"""`login` and `logout`."""

import time
from typing import Any

import click

from webex_loopback.errors import ConfigurationError
from webex_loopback.login.login import log_in, log_out
from webex_loopback.paths import login_command, profile_name
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import TokenSource
from webex_loopback.wording import printable

from .app import profile_option, retired, say
from .status import name_and_email, outlook

_REVOKE_PAGE = "https://idbroker.webex.com/idb/profile#/tokens"
_STARTS = {
    "already": "Already logged in as",
    "other": "Logged in by another process as",
    "imported": "Imported tokens for",
    "moved": "Moved the login of",
}


@click.command()
@profile_option
@click.option("--scopes", metavar="SCOPES", help="Instead of WEBEX_SCOPES; separated by spaces or commas.")
@click.option("--redirect-uri", metavar="URI", help="Instead of WEBEX_REDIRECT_URI; exactly as registered.")
@click.option("--timeout", "timeout_seconds", metavar="TIME", help="Instead of WEBEX_LOGIN_TIMEOUT, for example 5m.")
@click.option("--no-browser", is_flag=True, help="Print the URL; do not open a browser.")
@click.option("--browser", metavar="CMD", default="", help="Open the URL with this command; %s stands for the URL.")
@click.option("--device", is_flag=True, help="Approve with a code on another device; needs no browser here.")
@click.option("--login-hint", metavar="EMAIL", default="", help="Fill in this email address on Webex's page.")
@click.option(
    "--prompt",
    type=click.Choice(["select_account", "none"]),
    help="Ask which account to use; or never ask, and fail if nobody is signed in.",
)
@click.option("--force", is_flag=True, help="Log in even if already logged in.")
@click.option("--service-app", metavar="ORG_ID", help="Fetch a Service App's tokens for this organization; no browser.")
@click.option("--using", metavar="PROFILE", help="Fetch them with this login; it needs spark:applications_token.")
@click.option("--app-id", metavar="ID", help="Application ID, if it cannot be derived from the client ID.")
def login(
    profile: str | None,
    no_browser: bool,
    service_app: str | None,
    using: str | None,
    app_id: str | None,
    **options: Any,
) -> None:
    """Log in to Webex and save the tokens.

    Opens Webex in the browser, receives the redirect on this machine, exchanges the code and saves the tokens for the
    profile. Does nothing if the profile is already logged in.
    """
    if any(given is not None and not (service_app and using) for given in (service_app, using, app_id)):
        raise click.UsageError("A Service App's tokens need --service-app ORG_ID and --using PROFILE.")
    try:
        if service_app and using:
            # Here, because it imports httpx, which a login in the browser does later.
            from webex_loopback.login.service_app import log_in_service_app

            result = log_in_service_app(profile, service_app, using, app_id or "", force=options["force"])
        else:
            result = log_in(profile, open_browser=not no_browser, **options | {"prompt": options["prompt"] or ""})
    except ConfigurationError as error:
        if options["timeout_seconds"] is not None:
            error.args = (str(error).replace("WEBEX_LOGIN_TIMEOUT", "--timeout"),)
        raise
    describe(profile, result.token, result.how)


@click.command()
@profile_option
@click.option("--revoke", is_flag=True, hidden=True)
@click.pass_context
def logout(ctx: click.Context, profile: str | None, revoke: bool) -> None:
    """Remove the profile's tokens from this machine.

    They stay valid at Webex until they expire; the command prints the URL where you can revoke them.
    """
    name = profile_name(profile)
    if revoke:
        command = login_command(name).replace("login", "logout", 1)
        retired(ctx, "logout --revoke", f"run `{command}`, then revoke the tokens at {_REVOKE_PAGE}")
    token, unreadable = log_out(profile)
    if token is None and not unreadable:
        say(f"Profile {name} was not logged in.")
        return
    say(f"Removed the tokens of profile {name} from this machine.", "green")
    say(f"  They stay valid at Webex until they expire. To revoke them: {_REVOKE_PAGE}")


def describe(profile: str | None, token: StoredToken, how: str) -> None:
    """Say who is logged in, and until when."""
    name, unknown = profile_name(profile), "an unknown account"
    if "spark:people_read" not in token.granted:
        unknown = "an unknown account (the token does not have spark:people_read)"
    who = printable(name_and_email(token.account)) or unknown
    say(f"{_STARTS.get(how, 'Logged in as')} {who}.", "green")
    say(f"  Profile {name}. {outlook(token, time.time())}")
    if app := token.service_app:
        say(f"  Service App, fetched through profile {printable(app.using)}, for organization {printable(app.org_id)}")
    if token.missing:
        say(f"  Requested but not granted: {printable(' '.join(token.missing))}", "yellow")
    if how == "already":
        say(f"  To log in again: `{login_command(name, '--force')}`")
    if profile is None and (origin := TokenSource().from_environment()):
        say(f"  WEBEX_ACCESS_TOKEN is set ({printable(origin)}); get_token() returns it until it is unset.", "yellow")
