"""`get_token()` and `TokenSource`: return a valid access token.

Nothing heavy is imported at the top: with a valid token on disk, this module, `quick_look`, `paths` and `errors`
are all that `get_token()` loads. Everything else is decided in `decision` and done in `renewal`.
"""

import os
from time import time

from webex_loopback import paths
from webex_loopback.errors import LoginRequired, TokenStoreError

from .quick_look import all_settings, environment_token, quick_look, scanned, signature, store_kind, warned

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import httpx

    from .record import StoredToken
    from .renewal import Renewal
    from .stores import TokenStore

LOOK_SECONDS = 1.0  # how long to answer from memory without checking the file and the environment

_NOTHING = (0.0, 0.0, "")
_SUSPENDS = 0x2A0  # code flags of generators, coroutines, and asynchronous generators, as in `inspect`


def get_token(profile: "str | None" = None, *, interactive: bool = False) -> str:
    """Return a valid access token for `Authorization: Bearer ...`.

    1. A stored access token that is not due for renewal is returned: from memory, or from the file. No lock, no
       network.
    2. If it is due but still valid, one caller renews it; everybody else gets the current token at once. If the
       renewal fails, the current token is returned, a warning is logged, and the renewal is retried later.
    3. If it has expired, one caller renews it and everybody waits for the result, for 30 seconds at most.
    4. `LoginRequired` is raised if no token is stored, it cannot be renewed, or Webex has rejected the refresh token. A
       browser is opened only with `interactive=True`.

    If `WEBEX_ACCESS_TOKEN` is set (a bot's or a personal access token), that is returned, unless a profile is named.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        interactive: Log in with the browser if that is the only option.

    Raises:
        LoginRequired: Run `webex-loopback login`.
        TokenEndpointError: Webex answered the renewal with an error, and the access token has expired.
        ServerUnreachable: No usable answer, and the access token has expired.
        TokenStoreError: The stored token cannot be read, trusted or locked.
        ConfigurationError: A setting is wrong, for example the profile's name.
    """
    source = _sources.get(profile) or _sources.setdefault(profile, TokenSource(profile))
    hot = source._hot
    if hot[0] <= time() < hot[1]:
        return hot[2]
    del hot  # an error's traceback may be printed with its local variables
    return source._find(interactive)


async def aget_token(profile: "str | None" = None) -> str:
    """Return a valid access token, like `get_token()`, without blocking the asyncio event loop.

    Under trio, use `anyio.to_thread.run_sync(get_token)`.

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
    """Returns one profile's access token; safe to use from any thread, task or forked process.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        store: Where the tokens are; default: the store that WEBEX_TOKEN_STORE names. If given, the profile and the
            environment are ignored.
        refresh_margin_seconds: How long before its expiry a token is renewed; default: a tenth of the lifetime, at
            least a minute, at most a day. Takes effect with the next token response.
        clock: Returns epoch seconds.
        http_client: An `httpx.Client` to renew with; you are then responsible for its proxies and certificates.
        on_refresh: Called with the new `StoredToken` after each renewal that this source made.
        on_login_needed: Called once with the `StoredToken` when the refresh token will expire within
            `login_needed_seconds` and renewing does not extend it, or has been rejected while the access token is
            still valid.
    """

    def __init__(
        self,
        profile: "str | None" = None,
        *,
        store: "TokenStore | None" = None,
        refresh_margin_seconds: "float | None" = None,
        clock: "Callable[[], float]" = time,
        http_client: "httpx.Client | None" = None,
        on_refresh: "Callable[[StoredToken], object] | None" = None,
        on_login_needed: "Callable[[StoredToken], object] | None" = None,
        login_needed_seconds: float = 14 * 86_400.0,
    ) -> None:
        self.profile = profile
        self._given_store = store
        self._clock = clock
        self._options = {
            "margin": refresh_margin_seconds,
            "http_client": http_client,
            "on_refresh": on_refresh,
            "on_login_needed": on_login_needed,
            "login_needed_seconds": login_needed_seconds,
        }
        self._plain = store is None and clock is time and set(self._options.values()) == {None, 14 * 86_400.0}
        # What to answer from memory, from when and until when. One tuple, so that a reader in another thread sees the
        # old one or the new one and needs no lock. "From when", because a clock may be set back.
        self._hot = _NOTHING
        self._last_look: tuple[tuple[str, tuple[int, ...]], float, float, str] | None = None  # see quick_look
        # One per process: after a fork, a lock that some thread of the parent held stays locked.
        self._renewals: dict[tuple[int, str], Renewal] = {}
        self._flights: dict[int, Future[str]] = {}

    def __reduce__(self) -> "tuple[object, ...]":
        # Tokens in memory stay out of the pickle: they are secrets, and belong to this process.
        if not self._plain:
            raise TypeError("a TokenSource with a store, clock, client or callback of its own cannot be pickled")
        return TokenSource, (self.profile,)

    def get_token(self, *, interactive: bool = False) -> str:
        """Return a valid access token, as the function `get_token` does."""
        hot = self._hot
        if hot[0] <= self._clock() < hot[1]:
            return hot[2]
        del hot
        return self._find(interactive)

    async def aget_token(self) -> str:
        """Return a valid access token, as the function `aget_token` does."""
        hot = self._hot
        if hot[0] <= self._clock() < hot[1]:
            return hot[2]
        del hot
        return await self._join()

    def refresh(self, *, rejected: "str | None" = None) -> str:
        """Renew now, due or not, and return the new access token.

        Args:
            rejected: An access token that an API answered with 401. If another one is stored by now, that is
                returned without a renewal. So is the same one if it is younger than five minutes: its renewal did not
                help. Soon after a renewal that failed, its error is raised again.

        Raises:
            WebexLoopbackError: As `get_token()`, but also while the current token is still valid.
        """
        from webex_loopback.secret import Secret

        given = Secret(rejected) if rejected else None
        rejected = None  # an error's traceback may be printed with its local variables
        if token := self._environment_token():
            if given:
                return token
            raise LoginRequired(
                "WEBEX_ACCESS_TOKEN is set, and a token given there cannot be renewed.",
                remedy="Put a new token there (personal access tokens last 12 hours), or unset it to use the login.",
            )
        try:
            with hidden_locals:
                return self._renewal().token(forced=True, rejected=given)[0]
        finally:
            self._hot = _NOTHING  # last: meanwhile another thread may have been given the old token

    def stored(self) -> "StoredToken | None":
        """Return the stored record as it is, without renewing it.

        Raises:
            TokenStoreError: It cannot be read or trusted.
        """
        with hidden_locals:
            return self.store.load()

    @property
    def store(self) -> "TokenStore":
        return self._renewal().store

    def from_environment(self) -> str:
        """Return where WEBEX_ACCESS_TOKEN comes from, or "" if it is not used."""
        if not self._environment_token():
            return ""
        named = paths.variable("WEBEX_ACCESS_TOKEN").strip()
        return "environment" if named else all_settings().origins["WEBEX_ACCESS_TOKEN"]

    def _find(self, interactive: bool = False) -> str:
        with hidden_locals:
            return self._search(interactive)

    def _search(self, interactive: bool) -> str:
        now = self._clock()
        if token := self._environment_token():
            self._hot = (now, now + LOOK_SECONDS, token)
            return token
        found, look_seconds = self._from_file(now), LOOK_SECONDS
        if found is None:
            renewal = self._renewal()
            look_seconds = getattr(renewal.store, "look_seconds", LOOK_SECONDS)
            try:
                found = renewal.token()
            except (LoginRequired, TokenStoreError) as error:
                helps = isinstance(error, LoginRequired) or error.problem == "corrupt"
                is_service_app = renewal.last is not None and renewal.last.service_app is not None
                if not (interactive and helps) or self._given_store is not None or is_service_app:
                    raise
                from webex_loopback import log_in

                log_in(self.profile)
                found = renewal.token()
        token, end = found
        now = self._clock()
        self._hot = (now, min(end, now + look_seconds), token)
        return token

    async def _join(self) -> str:
        """Wait for `_find`, which runs once, in a worker, for all waiting tasks."""
        from asyncio import wrap_future

        from webex_loopback.webex.worker import start

        process = os.getpid()
        flight = self._flights.get(process)
        if flight is None or flight.done():
            flight = self._flights[process] = start(self._find)
        return await wrap_future(flight)

    def _environment_token(self) -> str:
        """Return WEBEX_ACCESS_TOKEN, unless a profile or a store was given."""
        if self.profile is not None or self._given_store is not None:
            return ""
        return environment_token()

    def _from_file(self, now: float) -> "tuple[str, float] | None":
        """Return the file's token and its `refresh_at` if it is not due (rule 1); the rest is for `Renewal`."""
        watched = self._options["on_login_needed"] is not None  # `Renewal` must then see the whole record
        if watched or self._given_store is not None or store_kind() != "file":
            return None
        renewal = self._renewals.get(self._key())
        if renewal is not None and renewal.retrying.holds:
            return None
        path, last = paths.token_file(self.profile), self._last_look
        try:
            if last is None or last[0] != (path, signature(os.stat(path))):
                last = self._last_look = quick_look(path)
        except OSError as error:
            # A disk that fails: what was read before is good until it is due.
            if isinstance(error, FileNotFoundError) or last is None or last[0][0] != path:
                last = self._last_look = None
        if last is None or not last[1] <= now < last[2]:
            return None
        return last[3], last[2]

    def _key(self) -> "tuple[int, str]":
        # The hash, because a database's URL holds a password.
        place = "" if self._given_store is not None else f"{hash(store_kind())} {paths.token_file(self.profile)}"
        return os.getpid(), place

    def _renewal(self) -> "Renewal":
        """Return the `Renewal` of this source's token in this process."""
        key = self._key()
        renewal = self._renewals.get(key)
        if renewal is None:
            from .renewal import Renewal
            from .stores import open_store

            options = dict(self._options)
            if any(process != key[0] for process, _ in list(self._renewals)):
                options["http_client"] = None  # a connection of the parent process
            renewal = Renewal(
                self._given_store or open_store(self.profile, store_kind()),
                profile=paths.profile_name(self.profile),
                clock=self._clock,
                source_of=TokenSource,
                **options,  # type: ignore[arg-type]
            )
            renewal = self._renewals.setdefault(key, renewal)
        return renewal


class _HiddenLocals:
    """A context that clears the variables of the functions called in it if one raises: they may hold secrets."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: "BaseException | None", _traceback: object) -> None:
        step = error and error.__traceback__
        while step and (step := step.tb_next):
            if step.tb_frame.f_code.co_flags & _SUSPENDS:  # before Python 3.13, clear() closes suspended generators
                continue
            try:
                step.tb_frame.clear()
            except RuntimeError:  # it is not finished
                continue


hidden_locals = _HiddenLocals()

_sources: "dict[str | None, TokenSource]" = {}


def forget() -> None:
    """Forget the tokens that `get_token()` has in memory: after a login or logout, and in tests."""
    _sources.clear()
    scanned.clear()
    warned.clear()
