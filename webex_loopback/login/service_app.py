"""Logging in as a Service App: its tokens are fetched with the access token of another profile, without a browser."""

import re

from webex_loopback.errors import ConfigurationError
from webex_loopback.paths import profile_name
from webex_loopback.settings import load, require
from webex_loopback.tokens.record import ServiceApp, StoredToken
from webex_loopback.tokens.service_app import application_id, fetch_service_app
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.stores import open_store
from webex_loopback.wording import printable

from .attempt import REPLACE_SECONDS, Attempt, LoginResult
from .progress import Progress


def log_in_service_app(
    profile: str | None, org_id: str, using: str, app_id: str = "", *, force: bool = False
) -> LoginResult:
    """Fetch and save the tokens of the Service App whose client ID and secret are set; needs no user.

    Args:
        org_id: The organization that has authorized it, as Webex's API shows it.
        using: Profile of a user's login with the scope `spark:applications_token`.
        app_id: Default: derived from the client ID.
        force: Replace any other login of the profile.

    Raises:
        ConfigurationError: A setting or an argument is wrong; the stored login is untouched, as with every error.
        LoginRequired: `using` is logged out, or Webex rejects its login.
        TokenEndpointError, ServerUnreachable, TokenStoreError
    """
    name, through, settings = profile_name(profile), profile_name(using), load()
    for option, what, value in (("--service-app", "organization", org_id), ("--app-id", "application", app_id or "-")):
        if not re.fullmatch(r"[\w=-]{1,500}", value, re.ASCII):
            remedy = f"Copy the {what} ID as Webex shows it."
            raise ConfigurationError(f"{printable(value, 60)!r} is not a valid ID.", setting=option, remedy=remedy)
    require(settings)
    attempt = Attempt(name, settings, Progress(), force=force)
    fetching = open_store(through, settings.token_store)
    if name == through:
        raise ConfigurationError(
            f"Profile {name} cannot hold the Service App, because it is used to fetch the Service App's tokens.",
            setting="--using",
            remedy="Choose another name for the Service App with -p.",
        )
    # The access token of that profile is sent to the API, too.
    settings.check_destinations(str(fetching), f"the access token of profile {through}")
    app = ServiceApp(org_id=org_id, app_id=app_id or application_id(settings.client_id), using=through)

    def fetched() -> StoredToken:
        client = settings.client_id, settings.client_secret
        response = fetch_service_app(webex, app, *client, REPLACE_SECONDS / 2, TokenSource(through))
        # Nothing was requested: the scopes are those of the Service App's registration.
        return attempt.token(response, scopes_requested=[], service_app=app)

    def is_other(current: StoredToken) -> bool:
        held = current.service_app and current.service_app.org_id
        return (current.client_id, held) != (settings.client_id, org_id)

    with attempt.webex() as webex:
        token = attempt.replace(fetched, webex, keep=is_other)
    return attempt.result(token, "service_app")
