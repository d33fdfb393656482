"""Shared by all kinds of login: one profile's login, its place in the queue, and saving the tokens."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from webex_loopback.errors import ConfigurationError, TokenStoreError, WebexLoopbackError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.paths import login_command, token_file
from webex_loopback.private_file import open_private
from webex_loopback.settings import Settings
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.source import forget
from webex_loopback.tokens.stores import open_store, reserve
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.lock import hold_lock
from webex_loopback.tokens.transaction import Transaction, replace_token
from webex_loopback.wording import printable

from .progress import Progress, State
from .texts import Words

if TYPE_CHECKING:
    from webex_loopback.webex.client import Webex

REPLACE_SECONDS = 60.0  # for everything: two locks, a renewal, a request

_Make = Callable[[], StoredToken]
_Keep = Callable[[StoredToken], bool]


@dataclass(frozen=True, slots=True)
class LoginResult:
    """How a login ended.

    Attributes:
        token: What is stored now.
        path: Where: the token file, or a description of another store.
        how: `browser`, `pasted`, `device`, `service_app`, `already` (it was logged in), or `other` (another process
            logged in).
    """

    token: StoredToken
    path: str
    how: str


class Attempt:
    """One login of one profile; `force` lets it replace a record that it cannot read."""

    def __init__(self, profile: str, settings: Settings, display: Progress, *, force: bool) -> None:
        self.profile, self.settings, self.display, self.force = profile, settings, display, force
        # For the command in a remedy, which would otherwise only report that the profile is logged in.
        self.options = ["--force"] if force else []
        self.store = open_store(profile, settings.token_store)
        self._holder_file = f"{os.path.realpath(token_file(profile))}.login"
        if settings.lang:
            display.words = Words(settings.lang)
        for warning in settings.warnings:
            display.note(warning)

    def say(self, key: str, **values: object) -> str:
        """Return a text of `texts/`; `{profile}` and `{login}`, the command, need not be given."""
        known = {"profile": self.profile, "login": login_command(self.profile, *self.options)}
        return self.display.words(key, **known | values)

    def note(self, key: str, **values: object) -> None:
        self.display.note(self.say(key, **values))

    def step(self, step: str, key: str, state: State, **values: object) -> None:
        self.display.step(step, self.say(key, **values), state)

    def result(self, token: StoredToken, how: str) -> LoginResult:
        forget()  # get_token() must not return the former account's token
        return LoginResult(token, str(getattr(self.store, "path", self.store)), how)

    def webex(self) -> "Webex":
        from webex_loopback.webex.client import Webex

        return Webex.of(self.settings, profile=self.profile)

    def stored(self) -> StoredToken | None:
        """Return the stored token; None also for a record that will be set aside."""
        try:
            return self.store.load()
        except TokenStoreError as error:
            if error.problem == "corrupt" or (self.force and error.problem in ("foreign", "future")):
                return None
            raise

    def matches(self, token: StoredToken, login_hint: str = "") -> bool:
        """Whether a token is what this login would obtain."""
        fields = self.fields()
        return (
            all(getattr(token, name) == fields[name] for name in ("client_id", "token_url", "api_base_url"))
            and set(token.scopes_requested) == set(fields["scopes_requested"])
            and login_hint in ("", token.account.email)
        )

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `StoredToken` that come from the settings."""
        names = ("client_id", "client_secret", "token_url", "api_base_url", "ca_bundle")
        return {name: getattr(self.settings, name) for name in names} | {"scopes_requested": self.settings.scope_list}

    def check_writable(self) -> None:
        """Raise `TokenStoreError` now, before anything is opened, if new tokens could not be saved."""
        with self.store.lock():
            reserve(self.store)

    def token(self, response: TokenResponse, **fields: object) -> StoredToken:
        """Return the record of a token response; `fields` take precedence over those from the settings."""
        return StoredToken.from_response(response, now=time.time(), **self.fields() | fields)

    def replace(self, make: _Make, webex: "Webex", keep: _Keep) -> StoredToken:
        """Store what `make` returns, unless there is a login to keep, and look up whose tokens these are."""
        self.stored()  # raises if what is stored must not be replaced
        token = replace_token(self.store, self.replacing(make, keep), seconds=REPLACE_SECONDS)
        return token if token.account.id else self.with_account(token, webex)

    def replacing(
        self, make: _Make, keep: _Keep = lambda current: False
    ) -> Callable[[StoredToken | None], StoredToken]:
        """Return the function for a transaction: `force` overrides `keep`."""

        def replacement(current: StoredToken | None) -> StoredToken:
            if current and keep(current) and not self.force:
                raise ConfigurationError(
                    f"Profile {self.profile} is already logged in.",
                    remedy="Use --force to replace its tokens, or choose another profile with -p.",
                )
            token = make()
            self._set_aside()
            return token

        return replacement

    def _set_aside(self) -> None:
        """Rename a record that cannot be read, just before it is replaced, to keep its content."""
        try:
            self.store.load()
        except TokenStoreError as error:
            move = getattr(self.store, "set_aside", None)
            if move and error.problem in ("corrupt", "foreign", "future"):
                self.display.note(f"{error} {self.say('set_aside', path=move(error.problem))}")

    def with_account(self, token: StoredToken, webex: "Webex") -> StoredToken:
        """Look up and save whose tokens these are; return the token unchanged if that fails."""
        with contextlib.suppress(WebexLoopbackError):  # for example without spark:people_read
            known = replace(token, account=webex.people_me(token.access_token))
            # A renewal, login or logout in the meantime takes precedence.
            make: Any = lambda current: known if current == token else current  # noqa: E731
            Transaction(self.store, make).run()
            return known
        return token

    @contextlib.contextmanager
    def queue(self) -> Iterator[bool]:
        """Exclude other logins of this profile: two would open two browsers. Yield whether this one had to wait."""
        lock, waited = FileTokenStore(self._holder_file).lock_path, False
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(hold_lock(lock, 0))
            except TokenStoreError as error:
                if error.problem != "locked":
                    raise
                self.note("waiting", place=read_holder(self._holder_file) or self.say("unknown_place"))
                stack.enter_context(hold_lock(lock, self.settings.login_timeout, poll_seconds=0.1))
                waited = True
            try:
                self.announce("")
                yield waited
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(self._holder_file)

    def announce(self, place: str) -> None:
        """Write to a file where this login waits, so that other logins can report it."""
        with contextlib.suppress(OSError), open(self._holder_file, "w", encoding="utf-8", opener=open_private) as file:
            file.write(place + f" (pid {os.getpid()})")


def read_holder(path: str) -> str:
    """Return where another login waits: "on port 8765 (pid 4711)"; "" if it is not known."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return printable(file.read(100))
    return ""
