"""Moves a login from one store to another."""

from webex_loopback.errors import ConfigurationError, LoginRequired, TokenStoreError
from webex_loopback.paths import login_command, profile_name
from webex_loopback.webex.worker import Late, finish, start

from .record import StoredToken
from .stores import TokenStore, open_store

_SECONDS, _LOCK_SECONDS = 60.0, 10.0


def move_login(profile: str | None, kind: str, *, force: bool = False) -> tuple[StoredToken, TokenStore, TokenStore]:
    """Move a profile's login into the store that WEBEX_TOKEN_STORE names; return it, and the old and the new store.

    Both stores are locked, so the token is not renewed in either. The old login is removed once the new one has been
    read back; an error before that leaves it unchanged.

    Args:
        kind: The old store, written like WEBEX_TOKEN_STORE.
        force: Replace a login that the new store already has.

    Raises:
        ConfigurationError: Both stores are the same, or the new one has a login.
        LoginRequired: The old store has none.
        TokenStoreError
    """
    name = profile_name(profile)
    old, new = open_store(name, kind), open_store(name)
    if str(old) == str(new):
        raise ConfigurationError(
            f"{old} is the store that WEBEX_TOKEN_STORE names; there is nothing to move.",
            setting="WEBEX_TOKEN_STORE",
            remedy="Set WEBEX_TOKEN_STORE to the new store; --from-store names the old one.",
        )
    try:
        return finish(start(lambda: _move(name, old, new, force)), _SECONDS), old, new
    except Late:
        what = f"The login was not moved within {_SECONDS:g} seconds."
        raise TokenStoreError(what, problem="locked", remedy="Check which of the two stores has it.") from None


def _move(name: str, old: TokenStore, new: TokenStore, force: bool) -> StoredToken:
    # The same database under two names has only one lock, so this fails before anything is written or removed.
    with old.lock(), new.lock(_LOCK_SECONDS):
        token = old.load()
        if token is None:
            raise LoginRequired(
                f"Profile {name} is not logged in: nothing is stored in {old}.",
                remedy=f"Name the store that has the login, or run `{login_command(name)}`.",
            )
        if not force and new.load() not in (None, token):
            raise ConfigurationError(
                f"{new} has another login for profile {name}.",
                remedy="Use --force to replace it. Check both first: the one that is still being renewed is newer.",
            )
        new.save(token)
        if new.load() != token:
            raise TokenStoreError(f"{new} did not keep the login.", problem="unwritable")
        try:
            old.delete()
        except TokenStoreError as error:
            raise TokenStoreError(
                f"The login is in {new} now, but it could not be removed from {old}. {error}",
                problem=error.problem,
                remedy="Remove it there before it is used again. Only one store may renew a login.",
            ) from error
        return token
