"""A login by the browser: what is shown, what is waited for, and what becomes of the code."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
from .grant import LoginResult, Plan, add_account, save_grant, webex_of
from .loopback import LoopbackServer, Refusal, bind
from .paths import state_folder
from .terminal import can_paste, paste_hints, pasted_lines

if TYPE_CHECKING:
    from .headstart import HeadStart
    from .oauth import Webex
    from .terminal import Display
    from .token import StoredToken

_T = TypeVar("_T")

MOST_IGNORED_LINES = 3


async def log_in_by_browser(plan: Plan, display: "Display", ahead: "HeadStart | None" = None) -> LoginResult:
    """Listen, show the address, open the browser unless `ahead` has, and wait for what comes back; save the tokens.

    Raises:
        LoginFailed: `AuthorizationDenied` and `LoginTimeout` tell more.
        ConfigurationError: The certificate of an https redirect URI is not usable.
        TokenEndpointError, ServerUnreachable: The code was not exchanged.
        TokenStoreError: The tokens, or the self-signed certificate, could not be written.
    """
    listener, refusals = (ahead.listener, ahead.refusals) if ahead else bind(plan.redirect_uris)
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
                from .certificate import HOSTS, server_context

                context = server_context(
                    folder=state_folder(),
                    cert=plan.settings.tls_cert,
                    key=plan.settings.tls_key,
                    hosts=(redirect_uri.host,) if plan.settings.tls_cert else HOSTS,
                )
            server = LoopbackServer(
                listener,
                request,
                context=context,
                start_path=ahead.start_path if ahead else "",
                on_event=login.happened,
            )
        with display:
            for refusal in refusals:
                display.note(refusal.text)
            if ahead is None:
                login.show_address(server)
                opened = login.open_browser(server)
            else:
                opened = login.has_opened(ahead)
            # From here on the person is busy, and there is time to import aiohttp, httpx and rich.
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
    port = refusals[0].redirect_uri.port
    further = f"http://127.0.0.1:{8765 if port != 8765 else 8766}/callback"
    here = ""
    if any(refusal.why == "privileges" for refusal in refusals):
        here = " In a terminal it works as it is: there the address that the browser ends on can be pasted."
    raise LoginFailed(
        f"No redirect URI can be listened on. {' '.join(refusal.text for refusal in refusals)}",
        remedy=f"Free the port, or register a further redirect URI on the Integration, for instance {further}, and "
        f"add it to WEBEX_REDIRECT_URI.{here}",
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
        self.address = request.url
        self.came = 0
        self.ignored = 0
        self.choice = Choice(None, "", "it was told not to")
        self.saved: StoredToken | None = None
        self._watches: set[asyncio.Task[None]] = set()

    def show_address(self, server: LoopbackServer | None) -> None:
        """Print the address, before a browser is opened, and always: it may open nothing, or the wrong one."""
        display, plan = self.display, self.plan
        if callable(plan.open_browser):
            self.choice = Choice([], "the browser", "given by the caller")
        elif plan.open_browser:
            self.choice = find(plan.environ, command=plan.browser)
        opens = self.choice.argv is not None
        hints = []
        if server is not None and opens:
            self.address = server.start_url
        elif server is not None:
            # The address of Webex works on any machine: the way back is the tunnel, or what is pasted.
            hints.append("If the browser is on another machine, run this there first:")
            hints.append("  " + ssh_hint(plan.environ, self.redirect_uri.port, host=self.redirect_uri.host))
        if server is not None and self.redirect_uri.secure and not plan.settings.tls_cert:
            hints.append("The browser will warn of this machine's own certificate: choose to go on.")
        if plan.open_browser and not opens:
            display.note(f"No browser is opened: {self.choice.reason}.")
        display.address(self.address, hints=[*hints, *paste_hints(reopen=opens)])

    def open_browser(self, server: LoopbackServer | None) -> "asyncio.Future[object] | None":
        """Open the chosen browser in a thread; None where there is none to open."""
        url = server.start_url if server else self.request.url
        opener = self.plan.open_browser
        if callable(opener):
            call = opener
            return _in_thread(lambda: call(url))
        if self.choice.argv is None:
            return None
        return _in_thread(lambda: open_url(self.choice, url))

    def has_opened(self, ahead: "HeadStart") -> "asyncio.Future[object]":
        """Take over the browser that has been opened already."""
        self.choice = ahead.choice
        self.address = ahead.listener.redirect_uri.origin + ahead.start_path
        return asyncio.wrap_future(cast("Future[object]", ahead.opened))

    def happened(self, kind: str, text: str) -> None:
        """Show what the loopback server tells."""
        display = self.display
        if kind == "came":
            self.came += 1
            if self.came == 2:
                display.note(
                    "The start address was opened again. If that was not you, somebody else on this machine may have: "
                    "compare the account below."
                )
            display.step("browser", "The browser has come; sign in and approve there", "done")
            display.step("redirect", "Waiting for Webex to send it back", "doing")
        elif kind == "received":
            display.step("redirect", "Webex sent the browser back", "done")
        elif kind == "ignored":
            self.ignored += 1
            if self.ignored <= MOST_IGNORED_LINES:
                display.note(text)
        else:  # https
            display.note(
                "A browser came with https:// to the http:// port. If the page does not load, use 127.0.0.1 in place "
                "of localhost in the address bar, or clear the browser's HSTS entry for localhost."
            )

    async def run(self, server: LoopbackServer | None, opened: "asyncio.Future[object] | None") -> LoginResult:
        """Wait for the response, exchange the code, save, and tell the browser how it ended."""
        self._show_steps(server, opened)
        with webex_of(self.plan.settings) as webex:
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
                page = _success_page(self.plan.profile, self.saved) if self.saved else pages.FailurePage("cancelled")
                raise
            else:
                page = _success_page(self.plan.profile, token)
            finally:
                if server is not None:
                    await server.conclude(page)
                await asyncio.wait([warm], timeout=0.5)  # or its connection would be left open
        return LoginResult(token, self.plan.store.path, how)

    def _show_steps(self, server: LoopbackServer | None, opened: object) -> None:
        display = self.display
        if server is not None:
            display.step("listening", f"Listening on {self.redirect_uri.origin}", "done")
        else:
            display.step("listening", f"Not listening on {self.redirect_uri.origin}; paste the address", "failed")
        waiting = "Waiting for you to open the address" if opened is None else f"Opening {self.choice.name}"
        display.step("browser", waiting, "doing")
        display.step("redirect", "Waiting for Webex to send it back", "todo")
        display.step("exchange", "Exchange the code for tokens", "todo")
        display.step("saved", "Save the tokens", "todo")
        display.start(time.time() + self.plan.settings.login_timeout)

    async def _wait(
        self, server: LoopbackServer | None, opened: "asyncio.Future[object] | None"
    ) -> tuple[AuthorizationResponse, str]:
        """Wait for the first right answer, from the browser or the keyboard."""
        self._watch(opened)
        answers = [asyncio.create_task(self._pasted(server))]
        if server is not None:
            answers.append(asyncio.create_task(server.response()))
        deadline = time.monotonic() + self.plan.settings.login_timeout
        pending: set[asyncio.Task[Any]] = set(answers)
        try:
            while pending and (left := deadline - time.monotonic()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                # What was pasted settles the server too: the order tells which it was.
                for task in filter(done.__contains__, answers):
                    if (response := task.result()) is not None:
                        return response, "pasted" if task is answers[0] else "browser"
            raise self._timeout()
        finally:
            tasks = {*self._watches, *answers}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, opened: "asyncio.Future[object] | None") -> None:
        if opened is not None:
            self._watches.add(asyncio.create_task(self._watch_browser(opened)))

    async def _watch_browser(self, opened: "asyncio.Future[object]") -> None:
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
        self.display.step("redirect", "Waiting for Webex to send it back", "doing")

    async def _pasted(self, server: LoopbackServer | None) -> AuthorizationResponse | None:
        if not can_paste():
            return None
        async with contextlib.aclosing(pasted_lines(on_progress=self.display.pasted)) as lines:
            async for line in lines:
                if line == "o":
                    if (opened := self.open_browser(server)) is None:
                        self.display.note(f"No browser can be opened: {self.choice.reason}.")
                    self._watch(opened)
                    continue
                try:
                    response = read_pasted(line, self.redirect_uri, self.request.state)
                except NotThisLogin as reason:
                    self.display.note(f"What was pasted does not end this login: {reason}.")
                    continue
                if server is not None:
                    server.settle(response)
                self.display.step("redirect", "The address was pasted", "done")
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

        def exchange() -> "StoredToken":
            grant = webex.exchange_code(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                code=SecretStr(response.code),
                code_verifier=SecretStr(self.request.code_verifier),
                redirect_uri=self.redirect_uri.text,
            )
            self.display.step("exchange", "Exchanged the code for tokens", "done")
            return save_grant(self.plan, grant)

        token = self.saved = await _in_thread(exchange)
        self.display.step("saved", f"Saved in {self.plan.store.path}", "done")
        return await _in_thread(lambda: add_account(self.plan.store, token, webex))

    def _timeout(self) -> LoginTimeout:
        seconds = f"{self.plan.settings.login_timeout:g} seconds"
        if self.came or self.address == self.request.url:
            what = f"Webex did not send the browser back within {seconds}."
        else:
            what = f"No browser came within {seconds}."
        if self.ignored:
            what += f" Requests that did not belong to this login and were ignored: {self.ignored}."
        return LoginTimeout(
            what,
            ignored=self.ignored,
            remedy=f"If Webex showed an error page, check that exactly this redirect URI is registered on the "
            f"Integration: {self.redirect_uri.text}. Then run `webex-loopback login` again; --timeout gives more time, "
            "--no-browser and --device are for machines without a browser.",
        )


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
