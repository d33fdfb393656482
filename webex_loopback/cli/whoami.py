"""`whoami`: ask Webex whose token it is."""

import click

from webex_loopback.errors import TokenEndpointError
from webex_loopback.paths import profile_name
from webex_loopback.secret import Secret
from webex_loopback.settings import load
from webex_loopback.tokens.service_app import client_for
from webex_loopback.tokens.source import TokenSource
from webex_loopback.webex.account import Account
from webex_loopback.webex.client import Webex
from webex_loopback.wording import printable

from .app import json_option, print_json, profile_option
from .scopes import explained


@click.command()
@profile_option
@json_option
def whoami(profile: str | None, as_json: bool) -> None:
    """Ask Webex which account the token belongs to (GET /people/me)."""
    account = ask(TokenSource(profile))
    if as_json:
        print_json({"name": account.name, "email": account.email, "id": account.id})
    else:
        click.echo(printable(f"{account.name} <{account.email}>"))


def ask(source: TokenSource) -> Account:
    """Return the account of the source's token; a token that Webex rejects is renewed once."""
    origin, token = source.from_environment(), Secret(source.get_token())
    with client_of(source, origin) as webex:
        renewed = bool(origin)  # a token from the environment cannot be renewed
        while True:
            try:
                return webex.people_me(token)
            except TokenEndpointError as error:
                if renewed or error.status_code != 401:
                    stored, profile = None if origin else source.stored(), profile_name(source.profile)
                    raise explained(error, "GET", "people/me", stored, profile) from None
            token, renewed = Secret(source.refresh(rejected=token.get_secret_value())), True


def client_of(source: TokenSource, origin: str) -> Webex:
    """Return a client of the API that the source's token is for; `origin` as from `from_environment()`."""
    if stored := None if origin else source.stored():
        return client_for(stored)
    settings = load()
    settings.check_destinations(origin, "WEBEX_ACCESS_TOKEN")
    return Webex(api_base_url=settings.api_base_url, token_url=settings.token_url, ca_bundle=settings.ca_bundle)
