"""`get_token()`: an access token that works, for whoever asks.

Nothing heavy is imported at the top: with a valid token on disk, this module, `paths` and `errors` are all
that `get_token()` loads. What must be thought about is in `renewal`.
"""

import os
from _thread import allocate_lock  # documented, and all that is needed of threading, which is dearer
from time import time

from .errors import LoginRequired, WebexLoopbackError
from .paths import config_file, login_command, profile_name, token_file

TYPE_CHECKING = False  # as typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import httpx

    from .renewal import Renewal
    from .store import TokenStore
    from .token import StoredToken

LOOK_SECONDS = 1.0  # how long memory is trusted without a look at the file and the environment

_NOTHING = (0.0, 0.0, "")
_PLAIN = (None, None, time, None, None)
_HEAD = b'{\n "version": 1,\n "refresh_at": '
_THEN = b',\n "access_token": "'
_AFTER = b'",\n "issued_at": '
_TOKEN_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="  # RFC 6750 §2.1


def get_token(profile: str | None = None, *, interactive: bool = False) -> str:
    """Return an access token for `Authorization: Bearer ...`; it works for at least a minute as a rule.

    1. While it is not due for a refresh, the stored access token is returned: from memory, else from the file.
       No lock, no network.
    2. Otherwise the lock is taken and the file read again: another process may have refreshed it.
    3. If it is still due, it is refreshed, saved, and returned. If that fails for a reason that may pass while
       the old one still works, the old one is returned, a warning logged, and the refresh tried again later.
    4. If there is no token, or the refresh token is refused or has run out: `LoginRequired`. A browser is
       opened only with `interactive=True`.

    Where `WEBEX_ACCESS_TOKEN` is set (a bot's or personal token), that is returned, unless a profile is named.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        interactive: Log in, in the browser, where only that helps.

    Raises:
        LoginRequired: Run `webex-loopback login`.
        TokenEndpointError: Webex's answer to the refresh was an error, and the old token has ended; one that does
            not pass by itself, such as a wrong client secret, is raised before that too.
        ServerUnreachable: No usable answer, and the old token has ended.
        TokenStoreError: The token file cannot be read, trusted or locked.
        ConfigurationError: The profile's name is none; or a refresh could not be made because of a setting (such as
            a certificate file that is gone), and the old token has ended.
    """
    source = _sources.get(profile) or _sources.setdefault(profile, TokenSource(profile))
    hot = source._hot
    if hot[0] <= time() < hot[1]:
        return hot[2]
    del hot  # an error's traceback may be printed with its locals
    return source._find(interactive)


async def aget_token(profile: str | None = None) -> str:
    """Return an access token, like `get_token()`, without ever blocking the event loop.

    From memory it answers on the loop; otherwise the same code runs in one thread for all tasks that wait.
    Under trio use `anyio.to_thread.run_sync(get_token)`.

    Raises:
        WebexLoopbackError: As `get_token()`.
    """
    source = _sources.get(profile) or _sources.setdefault(profile, TokenSource(profile))
    hot = source._hot
    if hot[0] <= time() < hot[1]:
        return hot[2]
    del hot
    return await source._join()


class TokenSource:
    """Hands out one profile's access token; safe to use from any thread, task or forked process.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        store: Where the tokens are; default: the profile's file. With a store neither the profile nor the
            environment counts.
        refresh_margin_seconds: How long before its end a token is refreshed; default: a tenth of the lifetime,
            at least a minute, at most a day. It takes effect with the next token response.
        clock: Returns epoch seconds.
        http_client: An `httpx.Client` to refresh with; its proxies and certificates are then yours to set.
        on_refresh: Called with the new `StoredToken` after each refresh that this source made.
    """

    def __init__(
        self,
        profile: str | None = None,
        *,
        store: "TokenStore | None" = None,
        refresh_margin_seconds: float | None = None,
        clock: "Callable[[], float]" = time,
        http_client: "httpx.Client | None" = None,
        on_refresh: "Callable[[StoredToken], object] | None" = None,
    ) -> None:
        self.profile = profile
        self._given_store = store
        self._margin = refresh_margin_seconds
        self._clock = clock
        self._http_client = http_client
        self._on_refresh = on_refresh
        # From when until when to answer from memory, and what. One tuple, so that a reader in another thread
        # sees the old one or the new one and needs no lock. "From when", since a clock may be set back.
        self._hot = _NOTHING
        self._seen: tuple[tuple[str, object], float, str] | None = None  # file's signature, refresh_at, token
        # One of each a process: after a fork, a lock that some thread of the parent held stays locked for ever.
        self._renewals: dict[tuple[int, str], Renewal] = {}
        self._flights: dict[int, _Flight] = {}

    def __reduce__(self) -> "tuple[object, ...]":
        # What is in memory stays out of the pickle: it is a secret, and belongs to this process.
        if (self._given_store, self._margin, self._clock, self._http_client, self._on_refresh) != _PLAIN:
            raise TypeError("a TokenSource with a store, clock, client or the like of its own is not pickled")
        return TokenSource, (self.profile,)

    def get_token(self, *, interactive: bool = False) -> str:
        """Return an access token, by the four rules of the function `get_token`."""
        hot = self._hot
        if hot[0] <= self._clock() < hot[1]:
            return hot[2]
        del hot
        return self._find(interactive)

    async def aget_token(self) -> str:
        """Return an access token, as the function `aget_token` does."""
        hot = self._hot
        if hot[0] <= self._clock() < hot[1]:
            return hot[2]
        del hot
        return await self._join()

    async def _join(self) -> str:
        import asyncio

        flight = self._flights.get(os.getpid()) or self._flights.setdefault(os.getpid(), _Flight(self._find))
        return await asyncio.wrap_future(flight.join())

    def refresh(self, *, rejected: str | None = None) -> str:
        """Refresh now, due or not, and return the new access token.

        Args:
            rejected: An access token that a server answered with 401. If another is stored by now, that is
                returned without a refresh; so is the same one where it is younger than five minutes, since a
                refresh has just not helped. Soon after a refresh that failed, its error is raised again.

        Raises:
            WebexLoopbackError: As `get_token()`, but also while the old token still works.
        """
        from .token import fingerprint

        given = fingerprint(rejected) if rejected else ""
        rejected = None
        if self._environment_token():
            if given:
                return self._environment_token()
            raise LoginRequired(
                "WEBEX_ACCESS_TOKEN is set, and the token given there cannot be refreshed.",
                remedy="Put a new one there (personal tokens last 12 hours), or unset it to use the logged-in profile.",
            )
        token, _ = self._renewal().token(forced=True, rejected=given)
        self._hot = _NOTHING
        return token

    def stored(self) -> "StoredToken | None":
        """Return the stored record as it is; no refresh.

        Raises:
            TokenStoreError: It cannot be read or trusted.
        """
        return self._renewal().store.load()

    def from_environment(self) -> str:
        """Return where a `WEBEX_ACCESS_TOKEN` in force comes from, or "" where there is none."""
        if not self._environment_token():
            return ""
        return "environment" if os.environ.get("WEBEX_ACCESS_TOKEN", "").strip() else config_file()

    def _find(self, interactive: bool = False) -> str:
        now = self._clock()
        if token := self._environment_token():
            self._hot = (now, now + LOOK_SECONDS, token)
            return token
        try:
            found = self._look(now) or self._renewal().token()
        except LoginRequired:
            if not interactive or self._given_store is not None:
                raise
            from .login import log_in

            log_in(self.profile)
            found = self._renewal().token()
        token, end = found
        now = self._clock()
        self._hot = (now, min(end, now + LOOK_SECONDS), token)
        return token

    def _environment_token(self) -> str:
        """Return `WEBEX_ACCESS_TOKEN`, unless a profile or a store was asked for by name."""
        if self.profile is not None or self._given_store is not None:
            return ""
        # A file with Windows' line ends, read by a shell, leaves a carriage return, which no header can carry.
        return os.environ.get("WEBEX_ACCESS_TOKEN", "").strip() or _configured_token()

    def _look(self, now: float) -> tuple[str, float] | None:
        """Return the file's token and its `refresh_at` if it is good (rule 1); the full path judges all else."""
        if self._given_store is not None:
            return None
        path = token_file(self.profile)
        renewal = self._renewals.get((os.getpid(), path))
        if renewal is not None and renewal.unsaved:
            return None
        seen = self._seen
        try:
            if seen is None or seen[0] != (path, _signature(os.stat(path))):
                seen = self._seen = quick_look(path)
        except OSError:
            seen = self._seen = None
        if seen is None or now >= seen[1]:
            return None
        return seen[2], seen[1]

    def _renewal(self) -> "Renewal":
        """Return what renews this source's token in this process."""
        path = "" if self._given_store is not None else token_file(self.profile)
        key = (os.getpid(), path)
        renewal = self._renewals.get(key)
        if renewal is None:
            from .renewal import Renewal
            from .store import FileTokenStore

            forked = any(pid != key[0] for pid, _ in list(self._renewals))
            renewal = Renewal(
                self._given_store or FileTokenStore(path),
                clock=self._clock,
                margin=self._margin,
                http_client=None if forked else self._http_client,
                on_refresh=self._on_refresh,
                login_command=login_command(profile_name(self.profile)),
            )
            renewal = self._renewals.setdefault(key, renewal)
        return renewal


class _Flight:
    """One run of `TokenSource._find` in a thread, for all tasks that wait, of whatever event loop."""

    def __init__(self, find: "Callable[[], str]") -> None:
        self._find = find
        self._lock = allocate_lock()
        self._future: Future[str] | None = None

    def join(self) -> "Future[str]":
        """Return the future of the run that is under way, or of a new one."""
        from concurrent.futures import Future
        from threading import Thread

        with self._lock:
            if self._future is None or self._future.done():
                future: Future[str] = Future()
                # A running future cannot be cancelled: a task that is leaves the refresh to the others.
                future.set_running_or_notify_cancel()
                # A thread of its own: the loop's executor may be full of code that waits for this very token.
                Thread(target=self._run, args=(future,), daemon=True, name="webex-loopback").start()
                self._future = future  # only now: where no thread can be started, nobody should wait for one
            return self._future

    def _run(self, future: "Future[str]") -> None:
        try:
            future.set_result(self._find())
        except BaseException as error:
            future.set_exception(error)


def quick_look(path: str) -> tuple[tuple[str, object], float, str] | None:
    """Read a token file's signature, `refresh_at` and access token, if it is just as `StoredToken` writes it.

    `json` would double the cost of the whole call (it imports `re`). This reads the very bytes that
    `StoredToken.to_json()` makes and nothing else; None leaves the judgement to `StoredToken.from_json()`.

    Raises:
        OSError
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    if os.name == "posix" and (status.st_mode & 0o77 or status.st_uid != os.geteuid()):
        return None
    if not data.startswith(_HEAD) or not data.endswith(b"}\n") or data.count(_THEN[2:]) != 1:
        return None
    moment, _, rest = data[len(_HEAD) :].partition(_THEN)
    token, after, _ = rest.partition(_AFTER)
    if not after or not token or token.translate(None, _TOKEN_BYTES) or not moment.isdigit() or len(moment) > 12:
        return None
    return (path, _signature(status)), int(moment), token.decode()


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode, status.st_uid


def _configured_token() -> str:
    """Return `WEBEX_ACCESS_TOKEN` of the settings file; the file is looked at once a process and place."""
    key = (os.environ.get("WEBEX_CONFIG_FILE"), os.environ.get("WEBEX_LOOPBACK_HOME"))
    if key not in _configured:
        _configured[key] = _read_configured_token()
    return _configured[key]


def _read_configured_token() -> str:
    try:
        with open(config_file(), "rb") as file:
            lines = [line for line in file if b"WEBEX_ACCESS_TOKEN" in line.upper() and line.lstrip()[:1] != b"#"]
        if lines:
            from .settings import load

            return load().access_token.get_secret_value()
    except (OSError, WebexLoopbackError):
        pass  # a login says what is wrong with the settings; a stored token needs none
    return ""


_sources: dict[str | None, TokenSource] = {}
_configured: dict[tuple[str | None, str | None], str] = {}


def forget() -> None:
    """Forget all tokens in memory, not those on disk; for tests that change the environment."""
    _sources.clear()
    _configured.clear()
