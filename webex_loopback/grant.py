"""What every way to log in shares: the plan, the client, and the saving of what was granted."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .authorization import RedirectURI
from .errors import ServerUnreachable, TokenEndpointError
from .oauth import Webex
from .settings import Settings
from .store import FileTokenStore
from .token import Account, StoredToken, TokenResponse


@dataclass(frozen=True, slots=True)
class LoginResult:
    """How a login ended.

    Attributes:
        token: What is stored now.
        path: Of the token file.
        how: `browser`, `pasted`, `device`, `already` (it was logged in), or `other` (another process did it).
    """

    token: "StoredToken"
    path: str
    how: str


@dataclass(slots=True)
class Plan:
    """What one login is to do; `log_in` makes it from its arguments and the settings."""

    profile: str
    settings: Settings
    redirect_uris: list[RedirectURI]
    store: "FileTokenStore"
    open_browser: bool | Callable[[str], object] = True
    browser: str = ""
    force: bool = False
    login_hint: str = ""
    prompt: str = ""
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


def webex_of(settings: Settings) -> "Webex":
    """Return a client of the Webex that the settings name."""
    from .oauth import Webex

    return Webex(api_base_url=settings.api_base_url, token_url=settings.token_url, ca_bundle=settings.ca_bundle)


def webex_of_token(token: "StoredToken") -> "Webex":
    """Return a client of the Webex that a token comes from."""
    from .oauth import Webex

    return Webex(api_base_url=token.api_base_url, token_url=token.token_url, ca_bundle=token.ca_bundle)


def save_grant(plan: Plan, response: "TokenResponse", webex: "Webex") -> "StoredToken":
    """Look up whose tokens these are, and save them.

    Raises:
        TokenStoreError: The disk refused.
    """
    from .token import StoredToken

    settings = plan.settings
    token = StoredToken.from_response(
        response,
        now=time.time(),
        scopes_requested=settings.scope_list,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        token_url=settings.token_url,
        api_base_url=settings.api_base_url,
        ca_bundle=settings.ca_bundle,
    )
    # On disk first: whoever it is can wait, and must not cost the tokens.
    with plan.store.lock():
        plan.store.save(token)
    account = _account(webex, response)
    if account is None:
        return token
    known = token.model_copy(update={"account": account})
    with plan.store.lock():
        if plan.store.load() == token:
            plan.store.save(known)
    return known


def _account(webex: "Webex", response: "TokenResponse") -> "Account | None":
    """Return whose token it is; None where that cannot be had, for instance without `spark:people_read`."""
    try:
        return webex.people_me(response.access_token)
    except (TokenEndpointError, ServerUnreachable):
        return None
