"""`adopt()`: save tokens that another tool has obtained, once Webex has accepted them."""

import time
from dataclasses import replace
from typing import Any

from webex_loopback.errors import LoginRequired, TokenEndpointError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.settings import load
from webex_loopback.tokens.record import DAY, StoredToken
from webex_loopback.tokens.token_request import request_tokens

from .attempt import Attempt
from .progress import Progress

_LIFETIME = 14 * DAY  # of Webex's access tokens


def adopt(profile: str, imported: Any, *, force: bool = False) -> StoredToken:
    """Save imported tokens if Webex accepts them; otherwise the stored tokens stay unchanged.

    Args:
        imported: Has the attributes of `cli.formats.Imported`. The settings supply missing values, but their client
            secret is not combined with another client ID.

    Raises:
        ConfigurationError: The profile is logged in, and `force` was not given.
        LoginRequired: Webex rejected the tokens.
        TokenEndpointError, ServerUnreachable, TokenStoreError: They could not be checked or saved.
    """
    settings = load()
    settings.check_destinations("the import", "the imported token")
    attempt = Attempt(profile, settings, Progress(), force=force)
    token = _completed(attempt, imported)
    with attempt.webex() as webex:

        def checked() -> StoredToken:
            try:
                return replace(token, account=webex.people_me(token.access_token))
            except TokenEndpointError as error:
                if error.status_code == 401 and token.can_renew:
                    return token.renewed(request_tokens(token, 30.0), now=time.time())
                if error.status_code != 403:  # a valid token without spark:people_read
                    raise
                return token

        try:
            return attempt.replace(checked, webex, keep=lambda current: True)
        except TokenEndpointError as error:
            if error.status_code != 401 and error.meaning != "rejected":
                raise
            raise LoginRequired(
                f"Webex rejected the imported tokens. {error} Nothing was replaced.",
                remedy=f"Run `{login_command(profile)}`, or import newer tokens.",
            ) from error


def _completed(attempt: Attempt, imported: Any) -> StoredToken:
    now, fields = int(time.time()), {"scopes_requested": imported.scopes or []}
    if imported.client_id not in ("", attempt.settings.client_id):
        fields |= {"client_id": imported.client_id, "client_secret": Secret()}
    if imported.client_secret:
        fields["client_secret"] = imported.client_secret
    left, refresh_left = (
        None if end is None else end - now for end in (imported.expires_at, imported.refresh_token_expires_at)
    )
    response = TokenResponse(imported.access_token, imported.refresh_token, left, refresh_left, imported.scopes)
    token = StoredToken.from_response(response, now=now, **attempt.fields() | fields)
    # The time of issue is not known. If it were set to now, the time left would be taken for the whole lifetime.
    return replace(token, issued_at=now if left is None else min(now, now + left - _LIFETIME))
