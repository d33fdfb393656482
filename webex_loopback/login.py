"""`log_in()` and `log_out()`: from a profile's name to tokens on disk, and back."""

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from . import pages
from .authorization import AuthorizationRequest, AuthorizationResponse, NotThisLogin, RedirectURI, read_pasted
from .browser import Choice, find, open_url, ssh_hint
from .errors import (
    AuthorizationDenied,
    LoginFailed,
    LoginTimeout,
    ServerUnreachable,
    TokenEndpointError,
    TokenStoreError,
    WebexLoopbackError,
)
from .loopback import LoopbackServer, Refusal, bind
from .paths import profile_name, state_folder, token_file
from .settings import Settings, load, require

if TYPE_CHECKING:
    from .oauth import Webex
    from .store import FileTokenStore
    from .terminal import Display
    from .token import Account, StoredToken, TokenResponse

_T = TypeVar("_T")

MOST_IGNORED_LINES = 3


@dataclass(frozen=True, slots=True)
class LoginResult:
    """How a login ended.

    Attributes:
        token: What is stored now.
        path: Of the token file.
        how: `browser`, `pasted`, `device`, `already` (it was logged in), or `other` (another process did it).
    """

    token: "StoredToken"
    path: str
    how: str


@dataclass(slots=True)
class Plan:
    """What one login is to do; `log_in` makes it from its arguments and the settings."""

    profile: str
    settings: Settings
    redirect_uris: list[RedirectURI]
    store: "FileTokenStore"
    open_browser: bool | Callable[[str], object] = True
    browser: str = ""
    force: bool = False
    login_hint: str = ""
    prompt: str = ""
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


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
    display: "Display | None" = None,
) -> LoginResult:
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
    settings = load(scopes=scopes, redirect_uri=redirect_uri, login_timeout=timeout_seconds)
    require(settings)
    from .store import FileTokenStore

    plan = Plan(
        profile=profile_name(profile),
        settings=settings,
        redirect_uris=[RedirectURI.parse(text) for text in settings.redirect_uris],
        store=FileTokenStore(token_file(profile)),
        open_browser=open_browser,
        browser=browser,
        force=force,
        login_hint=login_hint,
        prompt=prompt,
    )
    if display is None:
        from .terminal import Display

        display = Display()
    before = _take_stock(plan, display)
    if before is not None and not (force or login_hint or prompt) and _still_good(plan, before):
        return LoginResult(before, plan.store.path, "already")
    with _alone(plan, display):
        # Another login of this profile may have ended while this one waited.
        now_stored = _take_stock(plan, display)
        if now_stored is not None and now_stored != before:
            return LoginResult(now_stored, plan.store.path, "other")
        _check_writable(plan.store)
        if device:
            from .device import log_in_by_device

            return LoginResult(log_in_by_device(plan, display), plan.store.path, "device")
        return _run(_log_in_by_browser(plan, display))


def log_out(profile: str | None = None) -> tuple["StoredToken | None", str]:
    """Remove a profile's token file; return what it held (None if nothing), and where a corrupt one is kept.

    The tokens stay valid at Webex until they end; see `revoke` of the command line's `logout`.

    Raises:
        TokenStoreError: The file is another user's, or of a future version.
    """
    from .store import FileTokenStore

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


def save_grant(plan: Plan, response: "TokenResponse", webex: "Webex") -> "StoredToken":
    """Look up whose tokens these are, and save them.

    Raises:
        TokenStoreError: The disk refused.
    """
    from .token import StoredToken

    settings = plan.settings
    token = StoredToken.from_response(
        response,
        now=time.time(),
        scopes_requested=settings.scope_list,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        token_url=settings.token_url,
        api_base_url=settings.api_base_url,
        ca_bundle=settings.ca_bundle,
    )
    # On disk first: whoever it is can wait, and must not cost the tokens.
    with plan.store.lock():
        plan.store.save(token)
    account = _account(webex, response)
    if account is None:
        return token
    known = token.model_copy(update={"account": account})
    with plan.store.lock():
        if plan.store.load() == token:
            plan.store.save(known)
    return known


def _account(webex: "Webex", response: "TokenResponse") -> "Account | None":
    """Return whose token it is; None where that cannot be had, for instance without `spark:people_read`."""
    try:
        return webex.people_me(response.access_token)
    except (TokenEndpointError, ServerUnreachable):
        return None


def webex_of(settings: Settings) -> "Webex":
    """Return a client of the Webex that the settings name."""
    from .oauth import Webex

    return Webex(api_base_url=settings.api_base_url, token_url=settings.token_url, ca_bundle=settings.ca_bundle)


def _take_stock(plan: Plan, display: "Display") -> "StoredToken | None":
    """Read the token file; set a corrupt one aside, with `force` also one that is not ours to judge."""
    try:
        return plan.store.load()
    except TokenStoreError as error:
        if error.problem != "corrupt" and not (plan.force and error.problem in ("foreign", "future")):
            raise
        aside = plan.store.set_aside(error.problem)
        display.note(f"{error} It is kept as {aside}.")
        return None


def _check_writable(store: "FileTokenStore") -> None:
    """Find out before anything is opened whether the tokens could be saved."""
    with store.lock():
        if store.load() is None:
            return
    folder = os.path.dirname(os.path.realpath(store.path))
    if not os.access(folder, os.W_OK):
        raise TokenStoreError(
            f"The folder {folder} cannot be written to.",
            problem="unwritable",
            remedy="See to its owner and mode, or set WEBEX_LOOPBACK_HOME to another folder.",
        )


def _still_good(plan: Plan, token: "StoredToken") -> bool:
    """Whether this very login has been made before, and Webex still takes its token."""
    settings = plan.settings
    if (token.client_id, token.token_url) != (settings.client_id, settings.token_url):
        return False
    if set(token.scopes_requested) != set(settings.scope_list):
        return False
    from .renewal import Renewal

    try:
        access_token = SecretStr(Renewal(plan.store).token()[0])
        with webex_of(settings) as webex:
            webex.people_me(access_token)
    except TokenEndpointError as error:
        return error.status_code == 403  # a good token without spark:people_read
    except WebexLoopbackError:
        return False
    return True


@contextlib.contextmanager
def _alone(plan: Plan, display: "Display") -> Iterator[None]:
    """Be the only login of this profile: two would fight for the port, and open two browsers."""
    from .store import file_lock

    path = f"{plan.store.path}.login"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(f"{path}.lock", 0))
        except TokenStoreError as error:
            if error.problem != "locked":
                raise
            display.note(f"Another login of profile {plan.profile} is under way{_holder(path)}; waiting for it.")
            stack.enter_context(file_lock(f"{path}.lock", plan.settings.login_timeout + 60))
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
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="webex-loopback")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _in_thread(action: Callable[[], _T]) -> "asyncio.Future[_T]":
    """Run something that blocks in a daemon thread: Ctrl-C must not wait for it, as it would for the executor."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: object) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], object]
        try:
            outcome = (future.set_result, action())
        except BaseException as error:
            outcome = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True, name="webex-loopback").start()
    return future


async def _log_in_by_browser(plan: Plan, display: "Display") -> LoginResult:
    listener, refusals = bind(plan.redirect_uris)
    redirect_uri = listener.redirect_uri if listener else _without_listener(refusals)
    request = AuthorizationRequest(
        authorize_url=plan.settings.authorize_url,
        client_id=plan.settings.client_id,
        redirect_uri=redirect_uri.text,
        scopes=plan.settings.scope_list,
        login_hint=plan.login_hint,
        prompt=plan.prompt,
    )
    login = _BrowserLogin(plan, display, request, redirect_uri)
    server = None
    try:
        if listener is not None:
            context = None
            if redirect_uri.secure:
                from .certificate import server_context

                context = server_context(
                    folder=state_folder(),
                    cert=plan.settings.tls_cert,
                    key=plan.settings.tls_key,
                    hosts=(redirect_uri.host,) if plan.settings.tls_cert else ("localhost", "127.0.0.1", "::1"),
                )
            server = LoopbackServer(listener, request, context=context, on_event=login.happened)
        opened = login.open_browser(server)
        # From here on the person is busy, and there is time to import aiohttp, httpx and rich.
        with display:
            for refusal in refusals:
                display.note(refusal.text)
            return await login.run(server, opened)
    finally:
        if server is not None:
            await server.close()
        elif listener is not None:
            listener.close()


def _without_listener(refusals: list[Refusal]) -> RedirectURI:
    """Return the redirect URI to use without listening, the address being pasted; raise where that cannot be."""
    for refusal in refusals:
        # Not where another program listens: the browser would hand the code to that.
        if refusal.why == "privileges" and sys.stdin is not None and sys.stdin.isatty():
            return refusal.redirect_uri
    told = " ".join(refusal.text for refusal in refusals)
    port = next(iter(refusals)).redirect_uri.port
    raise LoginFailed(
        f"No redirect URI can be listened on. {told}",
        remedy="Free the port, or register a further redirect URI on the Integration, for instance "
        f"http://127.0.0.1:{8765 if port != 8765 else 8766}/callback, and add it to WEBEX_REDIRECT_URI.",
    )


class _BrowserLogin:
    """One login by the browser: what is shown, what is waited for, what becomes of the code."""

    def __init__(
        self, plan: Plan, display: "Display", request: AuthorizationRequest, redirect_uri: RedirectURI
    ) -> None:
        self.plan = plan
        self.display = display
        self.request = request
        self.redirect_uri = redirect_uri
        self.came = False
        self.ignored = 0
        self.choice = Choice(None, "", "it was told not to")

    def open_browser(self, server: LoopbackServer | None) -> "asyncio.Future[object] | None":
        """Open the browser in a thread; None where there is none to open."""
        url = server.start_url if server else self.request.url
        opener = self.plan.open_browser
        if callable(opener):
            call = opener
            self.choice = Choice([], "the browser", "given by the caller")
            return _in_thread(lambda: call(url))
        if opener:
            self.choice = find(self.plan.environ, command=self.plan.browser)
        if self.choice.argv is None:
            return None
        return _in_thread(lambda: open_url(self.choice, url))

    def happened(self, kind: str, text: str) -> None:
        """Show what the loopback server tells."""
        display = self.display
        if kind == "came":
            self.came = True
            display.step("browser", "The browser has come; sign in and approve there", "done")
            display.step("redirect", "Waiting for Webex to send it back", "doing")
        elif kind == "received":
            display.step("redirect", "Webex sent the browser back", "done")
        elif kind == "ignored":
            self.ignored += 1
            if self.ignored <= MOST_IGNORED_LINES:
                display.note(text)
        elif kind == "https":
            display.note(
                "A browser came with https:// to the http:// port. If the page does not load, use 127.0.0.1 in place "
                "of localhost in the address bar, or clear the browser's HSTS entry for localhost."
            )

    async def run(self, server: LoopbackServer | None, opened: "asyncio.Future[object] | None") -> LoginResult:
        """Wait for the response, exchange the code, save, and tell the browser how it ended."""
        self._announce(server, opened)
        with webex_of(self.plan.settings) as webex:
            warm = None
            if server is not None:
                await server.start()
            warm = _in_thread(webex.warm_up)
            page: pages.SuccessPage | pages.FailurePage = pages.FailurePage("unexpected")
            try:
                response, how = await self._wait(server, opened)
                token = await self._exchange(webex, response, warm)
            except WebexLoopbackError as error:
                page = _failure_page(error)
                raise
            except (KeyboardInterrupt, asyncio.CancelledError):
                page = pages.FailurePage("cancelled")
                raise
            else:
                page = _success_page(self.plan.profile, token)
            finally:
                if server is not None:
                    await server.conclude(page)
        return LoginResult(token, self.plan.store.path, how)

    def _announce(self, server: LoopbackServer | None, opened: object) -> None:
        display, plan = self.display, self.plan
        hints = []
        if server is not None and opened is not None:
            url = server.start_url
        else:
            # It works on any machine: the way back is the tunnel, or what is pasted.
            url = self.request.url
            if server is not None:
                hints.append(
                    "From another machine, first bring the port there: "
                    + ssh_hint(plan.environ, self.redirect_uri.port, host=self.redirect_uri.host)
                )
        if _can_paste():
            hints.append("If the browser ends on a page that does not load, paste that page's address here.")
        if server is not None:
            display.step("listening", f"Listening on {self.redirect_uri.origin}", "done")
        else:
            display.step("listening", f"Not listening on {self.redirect_uri.origin}; paste the address", "failed")
        display.address(url, hints=hints)
        if opened is None:
            display.step("browser", f"No browser was opened: {self.choice.reason}. Open the address yourself", "doing")
        else:
            display.step("browser", f"Opening {self.choice.name}", "doing")
        display.step("redirect", "Waiting for Webex to send it back", "todo")
        display.step("exchange", "Exchange the code for tokens", "todo")
        display.step("saved", "Save the tokens", "todo")
        display.start(time.time() + plan.settings.login_timeout)

    async def _wait(
        self, server: LoopbackServer | None, opened: "asyncio.Future[object] | None"
    ) -> tuple[AuthorizationResponse, str]:
        """Wait for the first right answer, from the browser or the keyboard."""
        tasks = {asyncio.create_task(self._watch_browser(opened))}
        answers = [asyncio.create_task(self._pasted(server))]
        if server is not None:
            answers.append(asyncio.create_task(server.response()))
        deadline = time.monotonic() + self.plan.settings.login_timeout
        pending: set[asyncio.Task[Any]] = set(answers)
        try:
            while pending and (left := deadline - time.monotonic()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if (response := task.result()) is not None:
                        return response, "pasted" if task is answers[0] else "browser"
            raise self._timeout()
        finally:
            for task in {*tasks, *answers}:
                task.cancel()
            await asyncio.gather(*tasks, *answers, return_exceptions=True)

    async def _watch_browser(self, opened: "asyncio.Future[object] | None") -> None:
        if opened is None:
            return
        try:
            failed = await opened is False
        except Exception as error:
            self.display.note(f"The browser could not be opened: {type(error).__name__}.")
            failed = True
        if self.came:
            return
        if failed:
            self.display.step("browser", f"{self.choice.name} could not be opened. Open the address yourself", "failed")
        else:
            self.display.step("browser", f"Opened {self.choice.name}", "done")

    async def _pasted(self, server: LoopbackServer | None) -> AuthorizationResponse | None:
        from .terminal import pasted_lines

        if not _can_paste():
            return None
        async for line in pasted_lines(on_progress=self.display.pasted):
            if line == "o":
                self.open_browser(server)
                continue
            if not line:
                continue
            try:
                response = read_pasted(line, self.redirect_uri, self.request.state)
            except NotThisLogin as reason:
                self.display.note(f"What was pasted does not end this login: {reason}.")
                continue
            self.display.step("redirect", "The address was pasted", "done")
            if server is not None:
                server.settle(response)
            return response
        return None

    async def _exchange(
        self, webex: "Webex", response: AuthorizationResponse, warm: "asyncio.Future[None]"
    ) -> "StoredToken":
        if not response.code:
            raise denial(response, self.plan.settings.scope_list)
        self.display.step("exchange", "Exchanging the code for tokens", "doing")
        await warm
        settings = self.plan.settings
        grant = await _in_thread(
            lambda: webex.exchange_code(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                code=SecretStr(response.code),
                code_verifier=SecretStr(self.request.code_verifier),
                redirect_uri=self.redirect_uri.text,
            )
        )
        self.display.step("exchange", "Exchanged the code for tokens", "done")
        token = await _in_thread(lambda: save_grant(self.plan, grant, webex))
        self.display.step("saved", f"Saved in {self.plan.store.path}", "done")
        return token

    def _timeout(self) -> LoginTimeout:
        seconds = f"{self.plan.settings.login_timeout:g} seconds"
        if self.came:
            what = f"Webex did not send the browser back within {seconds}."
        else:
            what = f"No browser came within {seconds}."
        if self.ignored:
            what += f" {self.ignored} requests that did not belong to this login were ignored."
        return LoginTimeout(
            what,
            ignored=self.ignored,
            remedy=f"If Webex showed an error page, check that exactly this redirect URI is registered on the "
            f"Integration: {self.redirect_uri.text}. Then run `webex-loopback login` again; --timeout gives more time, "
            "--no-browser and --device are for machines without a browser.",
        )


def _can_paste() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def denial(response: AuthorizationResponse, scopes: list[str]) -> AuthorizationDenied:
    """Return the error for an authorization response that is one (RFC 6749 §4.1.2.1)."""
    remedies = {
        "access_denied": (
            "The login was declined in the browser",
            "Run `webex-loopback login` again to approve. If you did not decline, your organisation may not allow "
            "this Integration: ask your Webex administrator.",
        ),
        "invalid_scope": (
            "Webex does not give this Integration one of the scopes asked for",
            f"Tick each of these on the Integration's page, or take it out of WEBEX_SCOPES: {' '.join(scopes)}",
        ),
        "login_required": (
            "Nobody is signed in to Webex in this browser, and prompt=none forbids asking",
            "Run `webex-loopback login` without --prompt none.",
        ),
        "server_error": ("Webex has a fault of its own", "Try again in a few minutes."),
    }
    what, remedy = remedies.get(response.error, ("Webex refused the authorization request", ""))
    words = f": {response.error_description}" if response.error_description else ""
    return AuthorizationDenied(
        f"{what} ({response.error}{words}).",
        error=response.error,
        error_description=response.error_description,
        remedy=remedy,
    )


def _failure_page(error: WebexLoopbackError) -> pages.FailurePage:
    if isinstance(error, AuthorizationDenied):
        kind = error.error if error.error in ("access_denied", "invalid_scope") else "authorization_error"
        return pages.FailurePage(kind, detail=": ".join(filter(None, (error.error, error.error_description))))
    if isinstance(error, TokenEndpointError):
        return pages.FailurePage("exchange_rejected", detail=str(error), tracking_id=error.tracking_id)
    if isinstance(error, ServerUnreachable):
        return pages.FailurePage("unreachable", detail=str(error))
    if isinstance(error, TokenStoreError):
        return pages.FailurePage("store", detail=str(error))
    return pages.FailurePage("timeout" if isinstance(error, LoginTimeout) else "unexpected", detail=str(error))


def _success_page(profile: str, token: "StoredToken") -> pages.SuccessPage:
    return pages.SuccessPage(
        profile=profile,
        account_name=token.account.name,
        account_email=token.account.email,
        granted=tuple(token.granted),
        missing=tuple(token.missing),
        access_token_until=token.expires_at,
        refresh_token_until=token.refresh_token_expires_at,
    )
