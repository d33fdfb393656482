"""`log_in()` and `log_out()`: from a profile's name to tokens on disk, and back."""

import asyncio
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from .authorization import RedirectURI
from .errors import TokenEndpointError, TokenStoreError, WebexLoopbackError
from .paths import profile_name, token_file
from .store import FileTokenStore, file_lock, make_private_folder
from .terminal import Display, paste_hints

if TYPE_CHECKING:
    from .grant import LoginResult, Plan
    from .headstart import HeadStart
    from .settings import Settings
    from .token import StoredToken

_T = TypeVar("_T")

GRACE_SECONDS = 60  # that another login may take beyond its time limit, to exchange the code and save


def log_in(
    profile: str | None = None,
    *,
    scopes: str | None = None,
    redirect_uri: str | None = None,
    timeout_seconds: float | None = None,
    open_browser: bool | Callable[[str], object] = True,
    browser: str = "",
    device: bool = False,
    force: bool = False,
    login_hint: str = "",
    prompt: str = "",
    display: Display | None = None,
) -> "LoginResult":
    """Log in and save the tokens; blocks until the person has approved, declined, or the time is up.

    What happens is shown on stderr. Where the profile is logged in already with the same Integration and
    scopes, and Webex accepts its token, nothing is opened.

    Args:
        profile: Default: `$WEBEX_PROFILE`, else `default`.
        scopes: Space- or comma-separated, in place of `WEBEX_SCOPES`.
        redirect_uri: In place of `WEBEX_REDIRECT_URI`.
        timeout_seconds: In place of `WEBEX_LOGIN_TIMEOUT`.
        open_browser: False: only print the address. A function is called with the address instead, in a thread.
        browser: A command to open the address with; `%s` in it stands for the address.
        device: Use the device grant (RFC 8628): approve on another device, no redirect to this machine.
        force: Log in anew though the profile is logged in; set an unreadable token file aside.
        login_hint: The e-mail to put into Webex's form.
        prompt: `select_account` to be asked for the account, `none` never to be asked.
        display: Where to show it; default: on stderr.

    Raises:
        ConfigurationError: A setting is missing or wrong; nothing has been opened.
        LoginFailed: `AuthorizationDenied` and `LoginTimeout` tell more.
        TokenEndpointError, ServerUnreachable: The code was not exchanged.
        TokenStoreError: The token file is in the way, or could not be written.
    """
    if display is None:
        display = Display()
    store = FileTokenStore(token_file(profile))
    overrides = {"scopes": scopes, "redirect_uri": redirect_uri, "login_timeout": timeout_seconds}
    with contextlib.ExitStack() as stack:
        ahead = None
        if open_browser is True and not device:
            ahead = stack.enter_context(_head_start(store, overrides, browser, force, display))
        from .grant import LoginResult, Plan
        from .settings import load, require

        settings = load(**overrides)
        require(settings)
        _check_certificates(settings)
        plan = Plan(
            profile=profile_name(profile),
            settings=settings,
            redirect_uris=[RedirectURI.parse(text) for text in settings.redirect_uris],
            store=store,
            open_browser=open_browser,
            browser=browser,
            force=force,
            login_hint=login_hint,
            prompt=prompt,
        )
        if ahead is None:
            before = _take_stock(plan, display)
            if before is not None and not (force or login_hint or prompt) and _still_good(plan, before):
                return LoginResult(before, plan.store.path, "already")
            before = _take_stock(plan, display)  # looking whether it is good may have refreshed it
            waited = stack.enter_context(_alone(plan, display))
            now_stored = _take_stock(plan, display)
            if waited and now_stored is not None and now_stored != before and _is_for(plan, now_stored):
                return LoginResult(now_stored, plan.store.path, "other")
            _check_writable(plan.store)
        elif force:
            _take_stock(plan, display)
        if device:
            from .device import log_in_by_device

            return LoginResult(log_in_by_device(plan, display), plan.store.path, "device")
        from .browser_login import log_in_by_browser

        return _run(log_in_by_browser(plan, display, ahead))


def log_out(profile: str | None = None) -> tuple["StoredToken | None", str]:
    """Remove a profile's token file; return what it held (None if nothing), and where a corrupt one is kept.

    The tokens stay valid at Webex until they end; see `revoke` of the command line's `logout`.

    Raises:
        TokenStoreError: The file is another user's, or of a future version.
    """
    store = FileTokenStore(token_file(profile))
    with store.lock():  # a refresh under way would write the file again
        try:
            held = store.load()
        except TokenStoreError as error:
            if error.problem != "corrupt":
                raise
            return None, store.set_aside("corrupt")
        store.delete()
        return held, ""


def _take_stock(plan: "Plan", display: Display) -> "StoredToken | None":
    """Read the token file; set a corrupt one aside, with `force` also one that is not ours to judge."""
    try:
        return plan.store.load()
    except TokenStoreError as error:
        if error.problem != "corrupt" and not (plan.force and error.problem in ("foreign", "future")):
            raise
        aside = plan.store.set_aside(error.problem)
        display.note(f"{error} It is kept as {aside}.")
        return None


def _check_certificates(settings: "Settings") -> None:
    """Find out before anything is opened whether the certificates that were named can be used."""
    if settings.ca_bundle or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        from .network import ssl_context

        ssl_context(settings.ca_bundle)


def _check_writable(store: FileTokenStore) -> None:
    """Find out before anything is opened whether the tokens could be saved."""
    with store.lock():
        pass
    folder = os.path.dirname(store.real_path)
    try:
        make_private_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise TokenStoreError(
            f"The folder {folder} cannot be written to: {error.strerror}.",
            problem="unwritable",
            remedy="See to its owner and mode, or set WEBEX_LOOPBACK_HOME to another folder.",
        ) from error


def _is_for(plan: "Plan", token: "StoredToken") -> bool:
    """Whether a token is what this login would give: of the same Integration, scopes, and person if one is named."""
    settings = plan.settings
    return (
        (token.client_id, token.token_url) == (settings.client_id, settings.token_url)
        and set(token.scopes_requested) == set(settings.scope_list)
        and plan.login_hint in ("", token.account.email)
    )


def _still_good(plan: "Plan", token: "StoredToken") -> bool:
    """Whether this very login has been made before, and Webex still takes its token."""
    if not _is_for(plan, token):
        return False
    from pydantic import SecretStr

    from .grant import webex_of
    from .renewal import Renewal

    try:
        access_token = SecretStr(Renewal(plan.store).token()[0])
    except WebexLoopbackError:
        return False
    try:
        with webex_of(plan.settings) as webex:
            webex.people_me(access_token)
    except TokenEndpointError as error:
        # 403 is a good token without spark:people_read; a fault of Webex's says nothing against the token.
        return error.status_code == 403 or error.status_code == 429 or error.status_code >= 500
    except WebexLoopbackError:
        return False
    return True


@contextlib.contextmanager
def _head_start(
    store: FileTokenStore, overrides: Mapping[str, object], browser: str, force: bool, display: Display
) -> Iterator["HeadStart | None"]:
    """Open the browser at once, where nothing can be against it; the lock and the port are then held."""
    from .headstart import plain_case, take

    def announce(url: str) -> None:
        display.address(url, hints=paste_hints(reopen=True))

    with contextlib.ExitStack() as held:
        ahead = None
        case = plain_case(overrides, browser) if _nothing_to_keep(store, force) else None
        if case is not None:
            with contextlib.suppress(TokenStoreError), contextlib.ExitStack() as stack:
                stack.enter_context(_claim(store, 0))
                _check_writable(store)
                ahead = take(*case, announce) if _nothing_to_keep(store, force) else None
                if ahead is not None:
                    stack.callback(ahead.listener.close)
                    held.enter_context(stack.pop_all())
        yield ahead


def _nothing_to_keep(store: FileTokenStore, force: bool) -> bool:
    """Whether a login may begin without a look into the token file; with `force`, whatever is in it gives way."""
    if not os.path.lexists(store.path):
        return True
    return force and os.path.isfile(store.path) and os.access(store.path, os.R_OK)


@contextlib.contextmanager
def _alone(plan: "Plan", display: Display) -> Iterator[bool]:
    """Be the only login of this profile, since two would open two browsers; yield whether another was waited for."""
    with contextlib.ExitStack() as stack:
        waited = False
        try:
            stack.enter_context(_claim(plan.store, 0))
        except TokenStoreError as error:
            if error.problem != "locked":
                raise
            holder = _holder(f"{plan.store.real_path}.login")
            display.note(f"Another login of profile {plan.profile} is under way{holder}; waiting for it.")
            stack.enter_context(_claim(plan.store, plan.settings.login_timeout + GRACE_SECONDS))
            waited = True
        yield waited


@contextlib.contextmanager
def _claim(store: FileTokenStore, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock of this profile's logins, and say who does."""
    path = f"{store.real_path}.login"
    with file_lock(FileTokenStore(path).lock_path, timeout_seconds, poll_seconds=0.1):  # a person is waited for
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _holder(path: str) -> str:
    # The pid is written just after the lock is taken, so there may be nothing for a moment.
    for _ in range(20):
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            if pid := file.read(20).strip():
                return f" (process {pid})"
        time.sleep(0.01)
    return ""


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, also where this thread has an event loop running (Jupyter)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    future: Future[_T] = Future()
    cancel: list[Callable[[], object]] = []

    async def watched() -> _T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None  # noqa: S101 - for the type checker
        cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
        return await work

    def run() -> None:
        try:
            future.set_result(asyncio.run(watched()))
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="webex-loopback")
    thread.start()
    try:
        return future.result()
    except KeyboardInterrupt:  # of this thread: the other one does not get it
        for action in cancel:
            action()
        raise
    finally:
        thread.join()
