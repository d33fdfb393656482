"""Carries out what `decision` decides: renews a token once for all callers, in any thread, task or process."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from webex_loopback.errors import LoginRequired, ServerUnreachable, TokenStoreError, WebexLoopbackError
from webex_loopback.paths import login_command
from webex_loopback.secret import Secret
from webex_loopback.webex.worker import Late, Work, finish, start
from webex_loopback.wording import duration, printable, without_tokens

from .decision import Decision, Fail, Failure, Renew, Use, decide, failure_of, means_login, rejection
from .record import StoredToken
from .stores import TokenStore
from .transaction import Cancelled, RetryingStore, Transaction

if TYPE_CHECKING:
    import httpx

    from webex_loopback.oauth.token_response import TokenResponse

    from .source import TokenSource

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 30.0  # for waiting and the request together
OPTIONAL_SECONDS = 4.0  # that a caller waits for a renewal while the current token is valid
_LOOK_AGAIN_SECONDS = 1.0  # while another process or thread renews
_UNREADABLE_SECONDS = 15.0  # until a store that could not be read is asked again for a token that is due

# The stores whose tokens the current thread, or the one that started it, is renewing.
_renewing: ContextVar[tuple[str, ...]] = ContextVar("renewing", default=())


class _Attempt(NamedTuple):
    """One renewal of the record `seen`; `until` is on the monotonic clock, the rest is as in `decision`."""

    seen: StoredToken
    required: bool
    forced: bool
    rejected: Secret | None
    until: float


@dataclass(eq=False, repr=False)
class Renewal:
    """Renews one stored token in this process.

    Args:
        profile: For remedies.
        on_refresh: Called with the new record after each renewal made here.
        on_login_needed: Called once with the record when the user has to log in soon.
        login_needed_seconds: How long before the refresh token expires `on_login_needed` is called.
        source_of: Returns the `TokenSource` of the profile with which a Service App's tokens are fetched.

    Attributes:
        last: The record that was loaded last.
    """

    store: TokenStore
    _: KW_ONLY
    profile: str = "default"
    clock: Callable[[], float] = time.time
    margin: float | None = None
    http_client: "httpx.Client | None" = None
    on_refresh: Callable[[StoredToken], object] | None = None
    on_login_needed: Callable[[StoredToken], object] | None = None
    login_needed_seconds: float = 14 * 86_400.0
    source_of: "Callable[[str], TokenSource] | None" = None

    def __post_init__(self) -> None:
        self.retrying = RetryingStore(self.store)
        self.last: StoredToken | None = None
        self._announced: object = None
        self._complaint = ""
        self._failure: Failure | None = None
        self._guard = threading.RLock()  # re-entrant: a signal handler may ask for a token, too
        self._flight: Work[StoredToken] | None = None

    def token(self, *, forced: bool = False, rejected: Secret | None = None) -> tuple[str, float]:
        """Return an access token, and the time until which it may be used without calling this again.

        Args:
            forced: Renew although it is not due; a failure is then raised even if the current token is valid.
            rejected: With `forced`: the token that an API has rejected.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        self.retrying.save_again()
        while True:
            seen = self._load()
            if seen is not None and self._ends_soon(seen):
                self._announce_login(seen)
            decision = decide(seen, self.clock(), self._failure, forced=forced, rejected=rejected)
            if isinstance(decision, Use):
                return decision.token.get_secret_value(), decision.until
            if seen is None or not isinstance(decision, Renew):
                raise self._refusal(decision, seen)
            if self._complaint and not decision.required:  # the new token could not be stored either
                until = min(self.clock() + _UNREADABLE_SECONDS, seen.expires_at or float("inf"))
                return seen.access_token.get_secret_value(), until
            if self.retrying.place in _renewing.get():  # for example a logging handler that posts to Webex
                if not seen.expired(self.clock()):
                    return self._current(seen)
                raise TokenStoreError(
                    "get_token() was called from within its own renewal, and the access token has expired.",
                    problem="locked",
                    remedy="Have the logging handler do its work in another thread.",
                )
            if found := self._join_or_start(_Attempt(seen, decision.required, forced, rejected, deadline)):
                return found

    def _refusal(self, decision: Decision, seen: StoredToken | None) -> WebexLoopbackError:
        if isinstance(decision, Fail):
            # Each raise adds to the traceback, and a traceback keeps its callers' variables alive.
            return decision.error.with_traceback(None)
        if seen is None:
            place = printable(str(self.store), 4096)
            what = f"Profile {self.profile} is not logged in: nothing is stored in {place}."
            return LoginRequired(what, remedy=f"Run `{login_command(self.profile)}`.")
        return LoginRequired(str(decision[0]), remedy=f"Run `{seen.login_command(self.profile)}`.")

    def _join_or_start(self, attempt: _Attempt) -> tuple[str, float] | None:
        """Join the renewal in progress or start one; None means look again."""
        transaction: Transaction | None = None
        seen, required = attempt.seen, attempt.required
        with self._guard:
            flight = self._flight
            if flight is None or flight.done():
                store, left = RetryingStore(self.store), attempt.until - time.monotonic()
                make = partial(self._renew_under_lock, store, attempt)
                transaction = Transaction(store, make, wait_seconds=left if required else 0)
                flight = self._flight = start(lambda: self._run_in_worker(transaction, seen))

        interrupted = transaction.interrupted if transaction else lambda: True
        seconds = max(attempt.until - time.monotonic(), 0)
        try:
            record = finish(flight, seconds if required else min(seconds, OPTIONAL_SECONDS), cancel=interrupted)
        except Late:
            if transaction is not None:
                flight.add_done_callback(lambda late: self._notify(late, seen))
            if not required:
                return self._current(seen)
            raise ServerUnreachable(f"The renewal was not completed within {DEADLINE_SECONDS:g} seconds.") from None
        except Cancelled:
            return None
        except WebexLoopbackError as error:
            if transaction is not None:
                return self._after_failure(error, attempt)
            return None if required else self._current(seen)  # another caller's; it may not have waited for the lock
        if transaction is not None:
            self._notify(flight, seen)
        return record.access_token.get_secret_value(), record.refresh_at

    def _run_in_worker(self, transaction: Transaction, seen: StoredToken) -> StoredToken:
        """Run the transaction in the worker, and remember how it ended."""
        _renewing.set((*_renewing.get(), self.retrying.place))
        try:
            record = transaction.run()
        except TokenStoreError as error:
            if error.problem != "locked":
                self._failure = failure_of(error, seen, self.clock(), self._failure)
            raise
        except (WebexLoopbackError, Cancelled):
            raise
        except Exception as error:  # from a program's own store, or when no file descriptor is left
            failure = WebexLoopbackError(f"Unexpected error: {type(error).__name__}: {without_tokens(str(error))}")
            self._failure = failure_of(failure, seen, self.clock(), self._failure)
            raise failure from error.with_traceback(None)
        self._failure = None
        return record

    def _renew_under_lock(self, store: RetryingStore, attempt: _Attempt, current: StoredToken | None) -> StoredToken:
        """Return the renewed record; `current` was read under the lock, and another process may have renewed it."""
        current = current or store.load()  # raises the reason if the record cannot be read
        forced = attempt.forced and current == attempt.seen
        decision = decide(current, self.clock(), self._failure, forced=forced, rejected=attempt.rejected)
        if current is None or not isinstance(decision, Use | Renew):
            raise self._refusal(decision, current)
        if isinstance(decision, Use):
            return current
        try:
            response = self._request(current, attempt.until)
        except WebexLoopbackError as error:
            if rest := getattr(error, "refresh_token", None):  # nothing else was usable; the old one may be used up
                current = replace(current, refresh_token=rest)
                store.save(current)
            newer = self._superseded(current, error)
            if newer is None:
                self._failure = failure_of(error, current, self.clock(), self._failure)
                raise
            if isinstance(decide(newer, self.clock()), Use):
                return newer
            current, response = newer, self._request(newer, attempt.until)
        renewed = current.renewed(response, now=self.clock(), margin=self.margin)
        if self._ends_soon(renewed):
            left = duration((renewed.refresh_token_expires_at or 0) - self.clock())
            text = "The refresh token expires in %s, and renewing does not extend it. Run `%s` before then."
            log.warning(text, left, login_command(self.profile, "--force"))
            self._announce_login(renewed)
        return renewed

    def _request(self, record: StoredToken, until: float) -> "TokenResponse":
        # Imported here, so that a process that only waits for another's renewal imports no HTTP client.
        from .token_request import request_tokens

        seconds = max(until - time.monotonic(), 1.0)
        return request_tokens(record, seconds, self.profile, self.http_client, self.source_of)

    def _superseded(self, sent: StoredToken, error: WebexLoopbackError) -> StoredToken | None:
        """After a rejection, return a newer record that something has stored without using our lock."""
        if means_login(error, sent, self.clock()) and not self.retrying.holds:
            with contextlib.suppress(TokenStoreError):
                stored = self.store.load()
                return stored if stored and stored.refresh_token != sent.refresh_token else None
        return None

    def _after_failure(self, error: WebexLoopbackError, attempt: _Attempt) -> tuple[str, float]:
        """After a failed renewal: return the current token if it is valid and nothing was forced, else raise."""
        now, seen = self.clock(), attempt.seen
        rejected, command = means_login(error, seen, now), login_command(self.profile)
        if attempt.required:
            asked = attempt.rejected or not attempt.forced or seen.expired(now)
            if rejected and asked and seen.service_app is None:
                raise LoginRequired(rejection(error), remedy=f"Run `{command}`. Nothing has been deleted.") from error
            raise error
        if getattr(error, "problem", "") != "locked":
            end, login = seen.expires_at, rejected or isinstance(error, LoginRequired)
            left = "has no known expiry" if end is None else f"is valid for {duration(end - now)}"
            if login and seen.service_app is None:
                log.warning("Webex rejected the refresh token. The access token %s; then run `%s`.", left, command)
            else:  # for a Service App, the remedy may be a login to another profile
                remedy = f" {error.remedy}" if login else ""
                log.warning("Could not renew the access token, which %s. %s%s", left, error, remedy)
            if login:
                self._announce_login(seen)
        return self._current(seen)

    def _current(self, seen: StoredToken) -> tuple[str, float]:
        """Return the current token, which is valid, and when to look again."""
        decision = decide(seen, self.clock(), self._failure)
        until = decision.until if isinstance(decision, Use) else self.clock() + _LOOK_AGAIN_SECONDS
        return seen.access_token.get_secret_value(), until

    def _ends_soon(self, record: StoredToken) -> bool:
        # Not for a short lifetime that each renewal extends, nor for a Service App, which needs no user.
        if record.refresh_token_issued_at == record.issued_at or record.service_app is not None:
            return False
        end = record.refresh_token_expires_at
        return end is not None and end - self.clock() < self.login_needed_seconds

    def _announce_login(self, record: StoredToken) -> None:
        key = record.refresh_token, record.refresh_token_issued_at
        if self._announced != key:
            self._announced = key
            self._call(self.on_login_needed, record)

    def _notify(self, flight: Future[StoredToken], seen: StoredToken) -> None:
        if flight.exception() is None and (record := flight.result()) != seen:
            self._call(self.on_refresh, record)

    def _call(self, callback: Callable[[StoredToken], object] | None, record: StoredToken) -> None:
        try:
            if callback is not None:
                callback(record)
        except Exception:
            log.exception("A callback failed. The token has been stored.")

    def _load(self) -> StoredToken | None:
        try:
            self.last, self._complaint = self.retrying.load(), ""
        except TokenStoreError as error:
            # If a database is down or a disk fails, the token in memory can be used until it expires.
            passing = error.problem in ("unavailable", "unreadable")
            if not passing or self.last is None or self.last.expired(self.clock()):
                raise
            if self._complaint != str(error):
                log.warning("%s The access token in memory is used.", error)
            self._complaint = str(error)
        return self.last
