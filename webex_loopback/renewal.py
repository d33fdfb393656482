"""Rules two to four of `get_token()`: what happens once the access token is due for a refresh."""

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import LoginRequired, TokenEndpointError, TokenStoreError, WebexLoopbackError
from .oauth import Rejected, Webex, is_in_doubt, is_passing
from .store import FileTokenStore, TokenStore
from .token import DAY, StoredToken, fingerprint

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 15.0, 900.0  # between tries, while the access token lives
EXPIRED_PAUSE_SECONDS = 5.0  # and at most, once it has ended
YOUNG_SECONDS = 60.0  # a token of this age is not refreshed because of a 401: a refresh has just not helped


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
        # Where the disk refused a renewed token: what it still holds, and what it should hold.
        self._unsaved: tuple[StoredToken, StoredToken] | None = None

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
        return self._unsaved is not None

    def adopt(self, parent: "Renewal") -> None:
        """Take over what the process that this one was forked from could not save."""
        self._unsaved = parent._unsaved  # pragma: no cover - in a forked child, where coverage does not look

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
        if self._unsaved is not None:
            return self._unsaved[1]
        stored = self.store.load()
        if stored is None:
            where = f": there is no {self.store.path}" if isinstance(self.store, FileTokenStore) else ""
            raise LoginRequired(f"Nobody is logged in here{where}.", remedy=f"Run `{self._login_command}`.")
        return stored

    def _save_again(self) -> None:
        """Try once more to write what the disk refused; a login or logout that happened meanwhile wins."""
        if self._unsaved is None:
            return
        on_disk, renewed = self._unsaved
        with contextlib.suppress(TokenStoreError), self.store.lock():
            if self.store.load() == on_disk:
                self.store.save(renewed)
                log.warning("The refreshed token is saved now.")
            self._unsaved = None

    def _kept(self, stored: StoredToken, forced: bool, rejected: str) -> tuple[str, float] | None:
        """Return what is good as it stands, or must do for now; None where a refresh is due."""
        now = self._clock()
        if forced:
            same = not rejected or fingerprint(stored.access_token.get_secret_value()) == rejected
            young = bool(rejected) and 0 <= now - stored.issued_at < YOUNG_SECONDS
            if (same and not young) or stored.expired(now):
                return None
            return stored.access_token.get_secret_value(), now
        if now < stored.refresh_at:
            self._failures, self._failure = 0, None
            return stored.access_token.get_secret_value(), stored.refresh_at
        if self._failure is None or not self._tried_at <= now < self._pause_end(stored.expired(now)):
            return None
        if stored.expired(now) or not _may_pass(self._failure):
            # Each raise adds to the traceback, and a traceback keeps its callers' variables alive.
            raise self._failure.with_traceback(None)
        return stored.access_token.get_secret_value(), self._hand_out_until(stored)

    def _pause_end(self, expired: bool) -> float:
        if not expired:
            return self._try_again_at
        wanted = getattr(self._failure, "retry_after", None) or 0.0
        return min(self._try_again_at, self._tried_at + max(EXPIRED_PAUSE_SECONDS, wanted))

    def _hand_out_until(self, stored: StoredToken) -> float:
        return self._try_again_at if stored.expires_at is None else min(self._try_again_at, stored.expires_at)

    def _refresh(self, stored: StoredToken) -> StoredToken:
        try:
            return self._refresh_once(stored)
        except LoginRequired:
            # Not a rejection if a newer token has been saved meanwhile, by whoever does not use our lock.
            newer = None if self._unsaved else self.store.load()
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
        with Webex(
            api_base_url=stored.api_base_url,
            token_url=stored.token_url,
            ca_bundle=os.environ.get("WEBEX_CA_BUNDLE") or stored.ca_bundle,
            http_client=self._http_client,
        ) as webex:
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
        on_disk = self._unsaved[0] if self._unsaved else stored
        try:
            self.store.save(renewed)
        except TokenStoreError as error:
            self._unsaved = (on_disk, renewed)
            log.warning("%s It works in this process; saving is tried again at the next call. %s", error, error.remedy)
        else:
            self._unsaved = None

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
        self._path = f"{store.path}.refreshing" if isinstance(store, FileTokenStore) else ""
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
    return is_passing(error) or isinstance(error, TokenStoreError)


def _span(seconds: float) -> str:
    if seconds >= 2 * DAY:
        return f"{seconds / DAY:.0f} days"
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    return f"{max(seconds, 0) / 60:.0f} minutes"
