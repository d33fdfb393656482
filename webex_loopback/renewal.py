"""Rules two to four of `get_token()`: what happens once the access token is due for a refresh."""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import ConfigurationError, LoginRequired, TokenEndpointError, TokenStoreError, WebexLoopbackError
from .oauth import Rejected, is_in_doubt, is_passing, webex_of_token
from .store import FileTokenStore, TokenStore
from .token import DAY, MINUTE, StoredToken, fingerprint

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 900.0  # between tries, while the access token lives
EXPIRED_PAUSE_SECONDS = 5.0  # and at most, once it has ended
YOUNG_SECONDS = 5.0 * MINUTE  # a token of this age is not refreshed because of a 401: a refresh has just not helped

# Where the disk refused a renewed token: what it still holds, and what it should hold. By the file, since a program
# may have several sources of it (and a forked child has what its parent could not save).
_unsaved: "dict[str | Renewal, tuple[StoredToken, StoredToken]]" = {}


class Renewal:
    """Refreshes one stored token, once for all who ask, in whatever thread, task or process.

    Args:
        login_command: What a person has to run when only a login helps.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        clock: Callable[[], float] = time.time,
        margin: float | None = None,
        http_client: "httpx.Client | None" = None,
        on_refresh: Callable[[StoredToken], object] | None = None,
        login_command: str = "webex-loopback login",
    ) -> None:
        self.store = store
        self._clock = clock
        self._margin = margin
        self._http_client = http_client
        self._on_refresh = on_refresh
        self._login_command = login_command
        self._lock = threading.Lock()
        self._holder = 0  # the thread that has it
        self._failures = 0
        self._tried_at = 0.0
        self._try_again_at = 0.0
        self._failure: WebexLoopbackError | None = None
        self._dead: StoredToken | None = None
        self._place = store.real_path if isinstance(store, FileTokenStore) else self

    def token(self, *, forced: bool = False, rejected: str = "") -> tuple[str, float]:
        """Return an access token and until when it may be handed out without asking here again.

        Args:
            forced: Refresh though it is not due; a failure is then raised though the old token still works.
            rejected: With `forced`: a token's fingerprint; only if that is still the stored one, and not young.

        Raises:
            LoginRequired, TokenEndpointError, ServerUnreachable, TokenStoreError
        """
        if self._holder == threading.get_ident() and self._lock.locked():
            return self._from_within()
        with self._lock:
            try:
                self._holder = threading.get_ident()
                found = self._kept_or_renewed(forced, rejected)
            finally:
                self._holder = 0
        if not isinstance(found, StoredToken):
            return found
        if self._on_refresh is not None:
            try:
                self._on_refresh(found)
            except Exception:
                log.exception("on_refresh failed; the refreshed token is saved all the same.")
        return found.access_token.get_secret_value(), found.refresh_at

    @property
    def unsaved(self) -> bool:
        """Whether a renewed token waits to be written, the disk having refused it."""
        return self._place in _unsaved

    def _from_within(self) -> tuple[str, float]:
        """Answer what a refresh has itself called: a signal handler, or a logging handler that posts to Webex."""
        stored, now = self._load(), self._clock()
        if stored.expired(now):
            raise TokenStoreError(
                "get_token() was called from within its own refresh, and the old token has ended.",
                problem="locked",
                remedy="Let the logging or signal handler hand its work to another thread.",
            )
        return stored.access_token.get_secret_value(), now

    def _kept_or_renewed(self, forced: bool, rejected: str) -> "tuple[str, float] | StoredToken":
        self._save_again()
        stored = self._load()
        kept = self._kept(stored, forced, rejected)
        if kept is not None:
            return kept
        try:
            with self.store.lock():
                # Another process may have refreshed it while this one waited for the lock.
                stored = self._load()
                kept = self._kept(stored, forced, rejected)
                if kept is not None:
                    return kept
                renewed = self._refresh(stored)
        except WebexLoopbackError as error:
            return self._in_spite_of(error, stored, forced)
        self._failures, self._failure = 0, None
        return renewed

    def _load(self) -> StoredToken:
        if (unsaved := _unsaved.get(self._place)) is not None:
            return unsaved[1]
        stored = self.store.load()
        if stored is None:
            where = f": there is no {self.store.path}" if isinstance(self.store, FileTokenStore) else ""
            raise LoginRequired(f"Nobody is logged in here{where}.", remedy=f"Run `{self._login_command}`.")
        return stored

    def _save_again(self) -> None:
        """Try once more to write what the disk refused; a login or logout that happened meanwhile wins."""
        if not self.unsaved:
            return
        with contextlib.suppress(TokenStoreError), self.store.lock():
            # Read under the lock: another source of this file may have saved it, or refreshed once more.
            if (unsaved := _unsaved.get(self._place)) is None:
                return
            on_disk, renewed = unsaved
            if self.store.load() == on_disk:
                self.store.save(renewed)
                log.warning("The refreshed token is saved now.")
            del _unsaved[self._place]

    def _kept(self, stored: StoredToken, forced: bool, rejected: str) -> tuple[str, float] | None:
        """Return what is good as it stands, or must do for now; None where a refresh is due."""
        now = self._clock()
        if forced:
            same = not rejected or fingerprint(stored.access_token.get_secret_value()) == rejected
            young = bool(rejected) and 0 <= now - stored.issued_at < YOUNG_SECONDS
            if (young or not same) and not stored.expired(now):
                return stored.access_token.get_secret_value(), now
            # A person who asks by hand is not made to wait; a program whose every request is answered 401 is.
            if rejected and (failure := self._failure_of_late(stored, now)):
                raise failure.with_traceback(None)
            return None
        if now < stored.refresh_at:
            if stored.issued_at >= int(self._tried_at):  # another process has succeeded
                self._failures, self._failure = 0, None
            return stored.access_token.get_secret_value(), stored.refresh_at
        failure = self._failure_of_late(stored, now)
        if failure is None:
            return None
        if stored.expired(now) or not _may_pass(failure):
            # Each raise adds to the traceback, and a traceback keeps its callers' variables alive.
            raise failure.with_traceback(None)
        return stored.access_token.get_secret_value(), self._hand_out_until(stored)

    def _failure_of_late(self, stored: StoredToken, now: float) -> WebexLoopbackError | None:
        """Return how the last try failed, while the pause after it lasts."""
        end = self._try_again_at
        if stored.expired(now):
            wanted = getattr(self._failure, "retry_after", None) or 0.0
            end = min(end, self._tried_at + max(EXPIRED_PAUSE_SECONDS, wanted))
        return self._failure if self._tried_at <= now < end else None

    def _hand_out_until(self, stored: StoredToken) -> float:
        return self._try_again_at if stored.expires_at is None else min(self._try_again_at, stored.expires_at)

    def _refresh(self, stored: StoredToken) -> StoredToken:
        try:
            return self._refresh_once(stored)
        except LoginRequired:
            # Not a rejection if a newer token has been saved meanwhile, by whoever does not use our lock.
            newer = None if self.unsaved else self.store.load()
            if newer is None or newer.same_refresh_token(stored):
                raise
            return newer if self._clock() < newer.refresh_at else self._refresh_once(newer)

    def _refresh_once(self, stored: StoredToken) -> StoredToken:
        now = self._clock()
        if stored.refresh_token is None:
            raise self._login_required("The access token has ended, and there is no refresh token to renew it with.")
        if stored.refresh_token_expired(now):
            raise self._login_required("The refresh token has run out, unused for too long.")
        # Not compared by the refresh token alone: a new login may be given the same one, alive again.
        if self._dead == stored:
            raise self._login_required("Webex has refused this refresh token before.")
        journal = _Journal(self.store, stored.refresh_token.get_secret_value())
        lost = journal.unfinished()
        with webex_of_token(stored, self._http_client) as webex:
            if not lost:
                journal.begin()
            try:
                response = webex.refresh(
                    client_id=stored.client_id,
                    client_secret=stored.client_secret,
                    refresh_token=stored.refresh_token,
                )
            except WebexLoopbackError as error:
                if not lost and not is_in_doubt(error):
                    journal.end()
                if not isinstance(error, Rejected):
                    raise
                self._dead = stored
                message = f"Webex refused the refresh token. {error}"
                if lost:
                    message += (
                        f" An earlier refresh ({lost}) was cut off: if it replaced the refresh token, "
                        "the new one was lost with the answer."
                    )
                raise self._login_required(message) from error
        renewed = stored.renewed(response, now=self._clock(), margin=self._margin)
        self._save(stored, renewed)
        journal.end()
        self._warn_of_horizon(stored, renewed)
        return renewed

    def _save(self, stored: StoredToken, renewed: StoredToken) -> None:
        """Save before use; where the disk refuses, keep the token in memory and say so."""
        on_disk, _ = _unsaved.get(self._place, (stored, renewed))
        try:
            self.store.save(renewed)
        except TokenStoreError as error:
            _unsaved[self._place] = on_disk, renewed
            log.warning("%s It works in this process; saving is tried again at the next call. %s", error, error.remedy)
        else:
            _unsaved.pop(self._place, None)

    def _in_spite_of(self, error: WebexLoopbackError, stored: StoredToken, forced: bool) -> tuple[str, float]:
        """After a failed refresh, return the old token where it still lives and the failure may pass; else raise."""
        if not (_may_pass(error) or isinstance(error, TokenEndpointError)):
            raise error
        now = self._clock()
        pause = min(FIRST_PAUSE_SECONDS * 2**self._failures, LONGEST_PAUSE_SECONDS)
        wanted = getattr(error, "retry_after", None) or 0.0
        self._failures = min(self._failures + 1, 10)
        self._tried_at = now
        # Jitter: the processes of one machine should not come back all at the same moment.
        self._try_again_at = now + max(pause * random.uniform(0.8, 1.2), wanted)  # noqa: S311 - no secret
        self._failure = error
        if forced or stored.expired(now) or not _may_pass(error):
            raise error
        left = "of unknown end" if stored.expires_at is None else f"good for {_span(stored.expires_at - now)} yet"
        log.warning("The access token could not be refreshed and is %s. %s", left, error)
        return stored.access_token.get_secret_value(), self._hand_out_until(stored)

    def _warn_of_horizon(self, before: StoredToken, after: StoredToken) -> None:
        end, old_end = after.refresh_token_expires_at, before.refresh_token_expires_at
        if end is None or end - after.issued_at >= 14 * DAY or old_end is None or end > old_end + 3600:
            return
        log.warning(
            "The refresh token ends in %s, and this refresh did not renew it. Run `%s --force` before then.",
            _span(end - after.issued_at),
            self._login_command,
        )

    def _login_required(self, message: str) -> LoginRequired:
        return LoginRequired(message, remedy=f"Run `{self._login_command}`. Nothing has been deleted.")


class _Journal:
    """A file beside the token file while a refresh is under way, so that a lost answer can be told later."""

    def __init__(self, store: TokenStore, refresh_token: str) -> None:
        self._path = f"{store.real_path}.refreshing" if isinstance(store, FileTokenStore) else ""
        self._of = fingerprint(refresh_token)

    def unfinished(self) -> str:
        """Return when and by whom a refresh with this very token was begun that never ended, or ""."""
        with contextlib.suppress(OSError), open(self._path, encoding="ascii", errors="replace") as file:
            of, _, begun = file.read(100).partition(" ")
            return begun.strip() if of == self._of else ""
        return ""

    def begin(self) -> None:
        with contextlib.suppress(OSError), open(self._path, "w", encoding="ascii", opener=_private) as file:
            file.write(f"{self._of} {time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()}")

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _may_pass(error: Exception) -> bool:
    # A configuration error too, of a certificate file that is gone for instance: the old token needs none.
    return is_passing(error) or isinstance(error, TokenStoreError | ConfigurationError)


def _span(seconds: float) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.0f} days"
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    return f"{max(seconds, 0) / 60:.0f} minutes"
