"""What every way to log in shares: the plan, the client, and the saving of what was granted."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .authorization import RedirectURI
from .errors import ConfigurationError, ServerUnreachable, TokenEndpointError, TokenStoreError
from .oauth import Webex, webex_of_token
from .paths import token_file
from .settings import Settings, load
from .store import FileTokenStore
from .token import StoredToken, TokenResponse

if TYPE_CHECKING:
    from .formats import Imported


@dataclass(frozen=True, slots=True)
class LoginResult:
    """How a login ended.

    Attributes:
        token: What is stored now.
        path: Of the token file.
        how: `browser`, `pasted`, `device`, `already` (it was logged in), or `other` (another process did it).
    """

    token: StoredToken
    path: str
    how: str


@dataclass(slots=True)
class Plan:
    """What one login is to do; `log_in` makes it from its arguments and the settings."""

    profile: str
    settings: Settings
    redirect_uris: list[RedirectURI]
    store: FileTokenStore
    open_browser: bool | Callable[[str], object] = True
    browser: str = ""
    force: bool = False
    login_hint: str = ""
    prompt: str = ""
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


def webex_of(settings: Settings) -> Webex:
    """Return a client of the Webex that the settings name."""
    return Webex(api_base_url=settings.api_base_url, token_url=settings.token_url, ca_bundle=settings.ca_bundle)


def save_grant(plan: Plan, response: TokenResponse) -> StoredToken:
    """Save what was granted.

    Raises:
        TokenStoreError: The disk refused.
    """
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
    with plan.store.lock():
        plan.store.save(token)
    return token


def add_account(store: FileTokenStore, token: StoredToken, webex: Webex) -> StoredToken:
    """Look up whose tokens these are, and save that too; the token as it was where that cannot be had.

    It comes after `save_grant`: whoever it is can wait, and must not cost the tokens.
    """
    try:
        known = token.model_copy(update={"account": webex.people_me(token.access_token)})
        with store.lock():
            if store.load() == token:
                store.save(known)
    except (TokenEndpointError, ServerUnreachable, TokenStoreError):
        return token  # for instance without `spark:people_read`
    return known


def adopt(profile: str, imported: "Imported", *, force: bool = False) -> StoredToken:
    """Save tokens that came from elsewhere; client id and secret come with them, else from the settings.

    Raises:
        ConfigurationError: The profile is logged in, and `force` was not given.
        TokenStoreError: The token file is in the way, or could not be written.
    """
    settings = load()
    store = FileTokenStore(token_file(profile))
    token = imported.to_stored(
        now=time.time(),
        token_url=settings.token_url,
        api_base_url=settings.api_base_url,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        ca_bundle=settings.ca_bundle,
    )
    with store.lock():
        if store.load() is not None and not force:
            raise ConfigurationError(
                f"Profile {profile} is logged in.", remedy="Replace its tokens with --force, or name another --profile."
            )
        store.save(token)
    with webex_of_token(token) as webex:
        return add_account(store, token, webex)
