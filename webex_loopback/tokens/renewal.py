"""Carries out what `decision` decides: renews a token once for all callers, in any thread, task or process."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from webex_loopback.errors import LoginRequired, ServerUnreachable, TokenStoreError, WebexLoopbackError
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.webex.worker import Late, finish, start
from webex_loopback.wording import duration

from .decision import Decision, Fail, Failure, Renew, Use, decide, failure_of, means_login, rejection
from .record import StoredToken
from .stores import TokenStore
from .transaction import Cancelled, Keeper, Transaction

if TYPE_CHECKING:
    import httpx

    from webex_loopback.oauth.token_response import TokenResponse

    from .source import TokenSource

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 30.0  # for waiting and the request together
OPTIONAL_SECONDS = 4.0  # that a caller waits for a renewal while the current token is valid
_LOOK_AGAIN_SECONDS = 1.0  # while another process or thread renews

# The stores whose tokens the current thread, or the one that started it, is renewing.
_renewing: ContextVar[tuple[str, ...]] = ContextVar("renewing", default=())


class _Call(NamedTuple):
    """One call of `Renewal.token()`, which must end at `until` on the monotonic clock."""

    forced: bool
    rejected: Secret | None
    until: float


class Renewal:
    """Renews one stored token in this process.

    Args:
        profile: For remedies.
        on_refresh: Called with the new record after each renewal made here.
        on_login_needed: Called once with the record when the user has to log in soon.
        login_needed_seconds: How long before the refresh token expires `on_login_needed` is called.
        source_of: Returns the `TokenSource` of the profile with which a Service App's tokens are fetched.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        profile: str = "default",
        clock: Callable[[], float] = time.time,
        margin: float | None = None,
        http_client: "httpx.Client | None" = None,
        on_refresh: Callable[[StoredToken], object] | None = None,
        on_login_needed: Callable[[StoredToken], object] | None = None,
        login_needed_seconds: float = 14 * 86_400.0,
        source_of: "Callable[[str], TokenSource] | None" = None,
    ) -> None:
        self.store = store
        self._profile = profile
        self._clock = clock
        self._margin = margin
        self._http_client = http_client
        self._source_of = source_of
        self._on_refresh = on_refresh
        self._on_login_needed = on_login_needed
        self._login_needed_seconds = login_needed_seconds
        self._announced: object = None
        self._last: StoredToken | None = None
        self._complaint = ""
        self._failure: Failure | None = None
        self._guard = threading.RLock()  # re-entrant: a signal handler may ask for a token, too
        self._flight: Future[StoredToken] | None = None
        self._keeper = Keeper(store)

    @property
    def unsaved(self) -> bool:
        """Whether a renewed token still has to be stored, because the store failed."""
        return self._keeper.holds

    @property
    def is_service_app(self) -> bool:
        """Whether the token is a Service App's, which a login in the browser cannot replace."""
        return self._last is not None and self._last.service_app is not None

    def token(self, *, forced: bool = False, rejected: Secret | None = None) -> tuple[str, float]:
        """Return an access token, and the time until which it may be used without calling this again.

        Args:
            forced: Renew although it is not due; a failure is then raised even if the current token is valid.
            rejected: With `forced`: the token that an API has rejected.

        Raises:
            LoginRequired, TokenEndpointError, ServerUnreachable, TokenStoreError, ConfigurationError
        """
        call = _Call(forced, rejected, time.monotonic() + DEADLINE_SECONDS)
        self._keeper.save_again()
        while True:
            seen = self._load()
            if seen is not None and self._ends_soon(seen):
                self._announce_login(seen)
            decision = self._decision(seen, call)
            if isinstance(decision, Use):
                return decision.token.get_secret_value(), decision.until
            if seen is None or not isinstance(decision, Renew):
                raise self._refusal(decision, seen)
            if self._keeper.place in _renewing.get():
                return self._from_within(seen)
            if found := self._renewed(seen, decision.required, call):
                return found

    def _decision(self, record: StoredToken | None, call: _Call) -> Decision:
        return decide(record, self._clock(), self._failure, forced=call.forced, rejected=call.rejected)

    def _refusal(self, decision: Decision, seen: StoredToken | None) -> WebexLoopbackError:
        if isinstance(decision, Fail):
            # Each raise adds to the traceback, and a traceback keeps its callers' variables alive.
            return decision.error.with_traceback(None)
        if seen is None:
            what = f"Profile {self._profile} is not logged in: nothing is stored in {self.store}."
            return LoginRequired(what, remedy=f"Run `{login_command(self._profile)}`.")
        return LoginRequired(str(decision[0]), remedy=f"Run `{seen.login_command(self._profile)}`.")

    def _from_within(self, seen: StoredToken) -> tuple[str, float]:
        """Answer a call from within the renewal, for example from a logging handler that posts to Webex."""
        now = self._clock()
        if seen.expired(now):
            raise TokenStoreError(
                "get_token() was called from within its own renewal, and the access token has expired.",
                problem="locked",
                remedy="Have the logging handler do its work in another thread.",
            )
        return seen.access_token.get_secret_value(), now

    def _renewed(self, seen: StoredToken, required: bool, call: _Call) -> tuple[str, float] | None:
        """Join the renewal in progress or start one; None means look again."""
        transaction: Transaction | None = None
        with self._guard:
            flight = self._flight
            if flight is None or flight.done():
                keeper = Keeper(self.store)
                transaction = Transaction(
                    keeper,
                    lambda current: self._make(keeper, current, seen, call),
                    wait_seconds=call.until - time.monotonic() if required else 0,
                )
                flight = self._flight = start(lambda: self._fly(transaction, seen))
        seconds = max(call.until - time.monotonic(), 0)
        try:
            record = finish(
                flight,
                seconds if required else min(seconds, OPTIONAL_SECONDS),
                cancel=transaction.cancel if transaction else lambda: True,
            )
        except Late:
            if transaction is not None:
                flight.add_done_callback(lambda late: self._tell(late, seen))
            if not required:
                return self._current(seen)
            raise ServerUnreachable(f"The renewal was not completed within {DEADLINE_SECONDS:g} seconds.") from None
        except Cancelled:
            return None
        except WebexLoopbackError as error:
            if transaction is None:  # another caller's attempt, perhaps one that did not wait for the lock
                return None if required else self._current(seen)
            return self._in_spite_of(error, seen, required, call)
        if transaction is not None:
            self._tell(flight, seen)
        return record.access_token.get_secret_value(), record.refresh_at

    def _fly(self, transaction: Transaction, seen: StoredToken) -> StoredToken:
        """Run the transaction in the worker, and remember how it ended."""
        _renewing.set((*_renewing.get(), self._keeper.place))
        try:
            record = transaction.run()
        except TokenStoreError as error:
            if error.problem != "locked":
                self._failure = failure_of(error, seen, self._clock(), self._failure)
            raise
        self._failure = None
        return record

    def _make(self, keeper: Keeper, current: StoredToken | None, seen: StoredToken, call: _Call) -> StoredToken:
        """Return the renewed record; `current` was read under the lock, and another process may have renewed it."""
        current = current or keeper.load()  # again, because it raises why it cannot be read
        decision = self._decision(current, call._replace(forced=call.forced and current == seen))
        if isinstance(decision, Use) and current is not None:
            return current
        if current is None or not isinstance(decision, Renew):
            raise self._refusal(decision, current)
        try:
            response = self._request(current, call)
        except WebexLoopbackError as error:
            if rest := getattr(error, "refresh_token", None):  # nothing else was usable; the old one may be used up
                current = dataclasses.replace(current, refresh_token=rest)
                keeper.save(current)
            newer = self._superseded(current, error)
            if newer is None:
                self._failure = failure_of(error, current, self._clock(), self._failure)
                raise
            if isinstance(decide(newer, self._clock()), Use):
                return newer
            current, response = newer, self._request(newer, call)
        renewed = current.renewed(response, now=self._clock(), margin=self._margin)
        if self._ends_soon(renewed):
            left = duration((renewed.refresh_token_expires_at or 0) - self._clock())
            text = "The refresh token expires in %s, and renewing does not extend it. Run `%s` before then."
            log.warning(text, left, login_command(self._profile, "--force"))
            self._announce_login(renewed)
        return renewed

    def _request(self, record: StoredToken, call: _Call) -> "TokenResponse":
        # Imported here, so that a process that only waits for another's renewal imports no HTTP client.
        from .service_app import request_tokens

        seconds = max(call.until - time.monotonic(), 1.0)
        return request_tokens(record, seconds, self._profile, self._http_client, self._source_of)

    def _superseded(self, sent: StoredToken, error: WebexLoopbackError) -> StoredToken | None:
        """After a rejection, return a newer record that something has stored without using our lock."""
        if not means_login(error, sent, self._clock()) or self.unsaved:
            return None
        with contextlib.suppress(TokenStoreError):
            stored = self.store.load()
            return None if stored is None or stored.refresh_token == sent.refresh_token else stored
        return None

    def _in_spite_of(
        self, error: WebexLoopbackError, seen: StoredToken, required: bool, call: _Call
    ) -> tuple[str, float]:
        """After a failed renewal: return the current token if it is valid and nothing was forced, else raise."""
        now = self._clock()
        login = means_login(error, seen, now) or isinstance(error, LoginRequired)
        if not required:
            if getattr(error, "problem", "") != "locked":
                self._warn(error, seen, login)
            return self._current(seen)
        asked = call.rejected or not call.forced or seen.expired(now)
        if login and asked and seen.service_app is None and not isinstance(error, LoginRequired):
            command = login_command(self._profile)
            raise LoginRequired(rejection(error), remedy=f"Run `{command}`. Nothing has been deleted.") from error
        raise error

    def _current(self, seen: StoredToken) -> tuple[str, float]:
        """Return the current token, which is valid, and when to look again."""
        decision = decide(seen, self._clock(), self._failure)
        until = decision.until if isinstance(decision, Use) else self._clock() + _LOOK_AGAIN_SECONDS
        return seen.access_token.get_secret_value(), until

    def _warn(self, error: WebexLoopbackError, seen: StoredToken, login: bool) -> None:
        now = self._clock()
        left = "has no known expiry" if seen.expires_at is None else f"is valid for {duration(seen.expires_at - now)}"
        if login and seen.service_app is None:
            command = login_command(self._profile)
            log.warning("Webex rejected the refresh token. The access token %s; then run `%s`.", left, command)
        else:  # the remedy for a Service App's may be a login to another profile
            log.warning("Could not renew the access token, which %s. %s%s", left, error, f" {error.remedy}" * login)
        if login:
            self._announce_login(seen)

    def _ends_soon(self, record: StoredToken) -> bool:
        # Not for a short lifetime that each renewal extends, nor for a Service App, which needs no user.
        if record.refresh_token_issued_at == record.issued_at or record.service_app is not None:
            return False
        end = record.refresh_token_expires_at
        return end is not None and end - self._clock() < self._login_needed_seconds

    def _announce_login(self, record: StoredToken) -> None:
        key = record.refresh_token, record.refresh_token_issued_at
        if self._announced != key:
            self._announced = key
            self._tell_program(self._on_login_needed, record)

    def _tell(self, flight: "Future[StoredToken]", seen: StoredToken) -> None:
        if flight.exception() is None and (record := flight.result()) != seen:
            self._tell_program(self._on_refresh, record)

    def _tell_program(self, callback: Callable[[StoredToken], object] | None, record: StoredToken) -> None:
        try:
            if callback is not None:
                callback(record)
        except Exception:
            log.exception("A callback failed. The token has been stored.")

    def _load(self) -> StoredToken | None:
        try:
            self._last = self._keeper.load()
        except TokenStoreError as error:
            # If a database is down or a disk fails, the token in memory can be used until it expires.
            passing = error.problem in ("unavailable", "unreadable")
            if not passing or self._last is None or self._last.expired(self._clock()):
                raise
            if self._complaint != str(error):
                log.warning("%s The access token in memory is used.", error)
            self._complaint = str(error)
        else:
            self._complaint = ""
        return self._last
