"""The token file, encrypted; its key is in the operating system's keyring (extra `keyring`).

The keyring holds only the key: Windows Credential Manager entries hold 2,560 bytes at most, and some keyrings are slow.
"""

import contextlib
import sys

from cryptography.fernet import Fernet, InvalidToken

from webex_loopback.errors import ConfigurationError, TokenStoreError
from webex_loopback.oauth.token_response import MalformedToken
from webex_loopback.paths import login_command, token_file
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken
from webex_loopback.webex.worker import Late, run
from webex_loopback.wording import printable

from .file import FileTokenStore

SERVICE = "webex-loopback"
ANSWER_SECONDS = 4.0  # a locked keyring or a D-Bus that hangs can block for minutes


class KeyringTokenStore(FileTokenStore):
    """One profile's token file (`NAME.json.encrypted`), readable only with the key in the keyring.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
    """

    def __init__(self, profile: str | None = None) -> None:
        super().__init__(f"{token_file(profile)}.encrypted")
        self._key = Secret()

    def __str__(self) -> str:
        return f"{self.path} (encrypted, key in the keyring)"

    def reserve(self) -> None:
        """Make sure that the next `save()` has room and a key."""
        self._fernet(create=True)
        super().reserve()

    def delete(self) -> bool:
        """Remove the file and its key; return whether there was a token."""
        there = super().delete()
        with contextlib.suppress(TokenStoreError):  # the key alone reveals nothing
            _ask("delete_password", self.real_path)
        self._key = Secret()
        return there

    def _encode(self, token: StoredToken) -> bytes:
        return self._fernet(create=True).encrypt(super()._encode(token)) + b"\n"

    def _decode(self, data: bytes) -> StoredToken:
        for _ in range(2 if data.startswith(b"gAAAA") else 0):  # as all Fernet tokens do; a reservation does not
            try:
                return super()._decode(self._fernet(create=False).decrypt(data.strip()))
            except InvalidToken:
                self._key = Secret()  # ask again: since a logout in another process there is a new one
        raise MalformedToken("cannot be decrypted with the key in the keyring")

    def _fernet(self, *, create: bool) -> Fernet:
        entry = self.real_path  # not the profile: another data directory may have one of the same name
        key = self._key or _ask("get_password", entry)
        if not key and create:
            _ask("set_password", entry, new := Secret(Fernet.generate_key().decode()))
            # Some keyrings silently lose entries (a session collection): find out before a token depends on it.
            key = _ask("get_password", entry)
            if key != new:
                raise _unavailable("The keyring does not keep the entries stored in it")
        if not key:
            raise TokenStoreError(
                f"The key of '{printable(self.path)}' is not in the keyring.",
                problem="corrupt",
                remedy=f"Log in again: `{login_command(self.profile, '--force')}`.",
            )
        try:
            fernet = Fernet(key.get_secret_value())
        except ValueError:
            raise _unavailable("The keyring's entry for webex-loopback is not a key") from None
        self._key = key
        return fernet


def _ask(method: str, *arguments: str | Secret) -> Secret:
    """Call the keyring, which may hang in D-Bus; its backends may raise any exception."""
    try:
        import keyring
    except ImportError:
        raise ConfigurationError(
            "WEBEX_TOKEN_STORE is keyring, but the keyring package is not installed.",
            setting="WEBEX_TOKEN_STORE",
            remedy=f"Run `{sys.executable} -m pip install keyring`.",
        ) from None

    def ask() -> Secret:
        try:
            plain = (text.get_secret_value() if isinstance(text, Secret) else text for text in arguments)
            return Secret(getattr(keyring, method)(SERVICE, *plain) or "")
        except Exception as error:
            kind = type(error).__name__
            missing = "No keyring was found on this machine" if kind == "NoKeyringError" else ""
            raise _unavailable(missing or f"The keyring could not be used ({kind})") from None

    try:
        return run(ask, ANSWER_SECONDS)
    except Late:
        raise _unavailable(f"The keyring did not answer within {ANSWER_SECONDS:g} seconds") from None


def _unavailable(what: str) -> TokenStoreError:
    return TokenStoreError(
        f"{what}.",
        problem="unavailable",
        remedy="Unlock or start the keyring and try again, or unset WEBEX_TOKEN_STORE to keep tokens in a file.",
    )
