"""The token file, encrypted; its key is in the operating system's keyring (extra `keyring`).

The keyring holds only the key: Windows Credential Manager entries hold 2,560 bytes at most, and some keyrings are slow.
"""

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken

from webex_loopback.errors import ConfigurationError, TokenStoreError
from webex_loopback.oauth.token_response import MalformedToken
from webex_loopback.paths import login_command, profile_name, token_file
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken
from webex_loopback.webex.worker import Late, run
from webex_loopback.wording import printable

from .file import FileTokenStore

if TYPE_CHECKING:
    from types import ModuleType

SERVICE = "webex-loopback"
ANSWER_SECONDS = 4.0  # a locked keyring or a D-Bus that hangs can block for minutes


class KeyringTokenStore(FileTokenStore):
    """One profile's token file (`NAME.json.encrypted`), readable only with the key in the keyring.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
    """

    def __init__(self, profile: str | None = None) -> None:
        super().__init__(f"{token_file(profile)}.encrypted")
        self._profile = profile_name(profile)
        self._key = Secret()
        self._guard = threading.Lock()

    def __str__(self) -> str:
        return f"{self.path} (encrypted, key in the keyring)"

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self._profile

    def reserve(self) -> None:
        """Make sure that the next `save()` has room and a key.

        Raises:
            TokenStoreError: It would fail. Nothing has been changed.
        """
        self._fernet(create=True)
        super().reserve()

    def delete(self) -> bool:
        """Remove the file and its key; return whether there was a token."""
        there = super().delete()
        with contextlib.suppress(TokenStoreError):  # the key alone reveals nothing
            _ask(_delete_key, self._entry)
        self._key = Secret()
        return there

    @property
    def _entry(self) -> str:
        # The key belongs to the file: another data directory may have a profile of the same name.
        return os.path.realpath(self.path)

    def _encode(self, token: StoredToken) -> bytes:
        return self._fernet(create=True).encrypt(super()._encode(token)) + b"\n"

    def _decode(self, data: bytes) -> StoredToken:
        fernet = self._fernet(create=False)
        try:
            plain = fernet.decrypt(data.strip())
        except InvalidToken:
            raise MalformedToken("cannot be decrypted with the key in the keyring") from None
        try:
            return super()._decode(plain)
        finally:
            del plain  # an error's traceback may be printed with its local variables

    def _fernet(self, *, create: bool) -> Fernet:
        with self._guard:
            if not self._key:
                self._key = _ask(_read_key, self._entry)
            if not self._key and create:
                self._key = Secret(Fernet.generate_key().decode())
                _ask(_write_key, self._entry, self._key)
                # Some keyrings silently lose entries (a session collection): find out before a token depends on it.
                if _ask(_read_key, self._entry) != self._key:
                    self._key = Secret()
                    raise _unavailable("The keyring does not keep the entries stored in it")
            if not self._key:
                raise TokenStoreError(
                    f"The key of '{printable(self.path)}' is not in the keyring.",
                    problem="corrupt",
                    remedy=f"Log in again: `{login_command(self._profile, '--force')}`.",
                )
            try:
                return Fernet(self._key.get_secret_value())
            except ValueError:
                raise _unavailable("The keyring's entry for webex-loopback is not a key") from None


def _keyring() -> "ModuleType":
    try:
        import keyring
    except ImportError:
        raise ConfigurationError(
            "WEBEX_TOKEN_STORE is keyring, but the keyring package is not installed.",
            setting="WEBEX_TOKEN_STORE",
            remedy=f"Run `{sys.executable} -m pip install keyring`.",
        ) from None
    return keyring


def _ask(action: Any, *arguments: Any) -> Any:
    """Call the keyring, which may hang in D-Bus; its backends may raise any exception."""
    keyring = _keyring()

    def ask() -> Any:
        try:
            return action(keyring, *arguments)
        except Exception as error:
            what = type(error).__name__
            if what == "NoKeyringError":
                raise _unavailable("No keyring was found on this machine") from None
            raise _unavailable(f"The keyring could not be used ({what})") from None

    try:
        return run(ask, ANSWER_SECONDS)
    except Late:
        raise _unavailable(f"The keyring did not answer within {ANSWER_SECONDS:g} seconds") from None


def _read_key(keyring: Any, entry: str) -> Secret:
    return Secret(keyring.get_password(SERVICE, entry) or "")


def _write_key(keyring: Any, entry: str, key: Secret) -> None:
    keyring.set_password(SERVICE, entry, key.get_secret_value())


def _delete_key(keyring: Any, entry: str) -> None:
    if keyring.get_password(SERVICE, entry) is not None:
        keyring.delete_password(SERVICE, entry)


def _unavailable(what: str) -> TokenStoreError:
    return TokenStoreError(
        f"{what}.",
        problem="unavailable",
        remedy="Unlock or start the keyring and try again, or unset WEBEX_TOKEN_STORE to keep tokens in a file.",
    )
