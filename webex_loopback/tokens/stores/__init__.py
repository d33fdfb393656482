"""Where tokens are kept: a file (the default), an encrypted file, a PostgreSQL database, or memory.

Every store has a lock that belongs to the stored token, not to the caller: a renewal acquires it and reads the token
again, so that several processes make only one renewal.
"""

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from webex_loopback.paths import profile_name, profiles, token_file
from webex_loopback.secret import Secret
from webex_loopback.tokens.quick_look import all_settings, store_kind

if TYPE_CHECKING:
    from webex_loopback.tokens.record import StoredToken

LOCK_SECONDS = 30.0


@runtime_checkable
class TokenStore(Protocol):
    """What `TokenSource` needs from a store. Each method may raise `TokenStoreError`.

    A store may also have `reserve()`: called under the lock before the refresh token is used, it makes sure that
    the next `save()` has room, or raises `TokenStoreError`. And `look_seconds`: how long a token in memory may be used
    without checking the store again (default: 1).
    """

    def load(self) -> "StoredToken | None":
        """Return what is stored, or None."""

    def save(self, token: "StoredToken") -> None:
        """Store the token; once this returns, it survives the process."""

    def delete(self) -> bool:
        """Forget the token; return whether there was one."""

    def lock(self, wait_seconds: float = LOCK_SECONDS) -> AbstractContextManager[None]:
        """Exclude every other process and thread that would renew this token; wait at most `wait_seconds`."""


def reserve(store: object) -> None:
    """Call the store's `reserve()`, if it has one."""
    getattr(store, "reserve", lambda: None)()


def open_store(profile: str | None = None, kind: str = "") -> TokenStore:
    """Return the profile's store: of this kind, else the one that WEBEX_TOKEN_STORE names, else its token file.

    Each kind is imported on first use: keyring and postgres are optional extras.

    Raises:
        ConfigurationError: The store is not one of these, or its extra is not installed.
    """
    name, kind = profile_name(profile), kind or store_kind()
    if kind == "file":
        from .file import FileTokenStore

        return FileTokenStore(token_file(name))
    given = None if kind == store_kind() else Secret(kind)
    kind = ""  # a URL with a password; an error's traceback may be printed with its local variables
    settings = all_settings(given)  # removes quotes, refuses other kinds
    if settings.token_store == "file":
        return open_store(name, "file")
    if settings.token_store == "keyring":
        from .keyring import KeyringTokenStore

        return KeyringTokenStore(name)
    from .postgres import PostgresTokenStore

    return PostgresTokenStore(settings.token_store, name, keys=settings.token_store_key)


def stored_profiles() -> list[str]:
    """Return the names of the profiles that are logged in, or at least have a file."""
    store = open_store()
    if find := getattr(store, "profiles", None):
        return list(find())
    return [name for name in profiles() if os.path.lexists(getattr(open_store(name), "path", ""))]
