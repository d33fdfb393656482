"""`whoami`: ask Webex whose token it is."""

from dataclasses import asdict

import click

from webex_loopback.errors import TokenEndpointError
from webex_loopback.webex.account import Account
from webex_loopback.wording import printable

from .app import json_option, print_json, profile_option
from .session import Session
from .status import name_and_email


@click.command()
@profile_option
@json_option
def whoami(profile: str | None, as_json: bool) -> None:
    """Ask Webex which account the token belongs to (GET /people/me)."""
    account = _ask(Session(profile))
    if as_json:
        print_json(asdict(account))
    else:
        click.echo(printable(name_and_email(account)))


def _ask(session: Session) -> Account:
    with session.webex as webex:
        while True:
            try:
                return webex.people_me(session.token)
            except TokenEndpointError as error:
                if error.status_code != 401 or not session.renew():
                    raise session.explained(error, "GET", "people/me") from None
