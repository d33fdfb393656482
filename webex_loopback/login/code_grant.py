"""A login in the browser (RFC 6749 §4.1): wait for the response, exchange the code, save the tokens, tell the browser.

It runs on an event loop in a worker, both in a notebook and in a terminal, while the calling thread reads the keyboard.
An exception from a signal handler there, Ctrl-C included, cancels the worker's task. But once the code has been sent,
the answer is awaited, so that what the user is told about the tokens is true.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from webex_loopback import errors
from webex_loopback.oauth.authorization import AuthorizationRequest, AuthorizationResponse, NotThisLogin, read_pasted
from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.paths import login_command
from webex_loopback.tokens.record import StoredToken
from webex_loopback.webex import worker
from webex_loopback.webex.client import Webex
from webex_loopback.wording import duration

from .attempt import Attempt
from .browser import Opener
from .listener import Listener
from .loopback_server import NETWORK_PROBLEM_SECONDS, LoopbackServer
from .pages import FailurePage, SuccessPage
from .paste import Keyboard

ANSWER_SECONDS = 30.0  # how long Webex may take to answer once the code has been sent
MOST_IGNORED_LINES = 3
_REMEMBERED_LINES = 5  # of what was pasted: a URL may arrive wrapped
_DENIALS = ("access_denied", "invalid_scope", "login_required", "server_error")
_PAGES = {errors.ServerUnreachable: "unreachable", errors.TokenStoreError: "store", errors.LoginTimeout: "timeout"}


@dataclass
class CodeGrant:
    """One login, whose browser is starting; `opened` tells whether it has, and is None if none is to be opened."""

    attempt: Attempt
    webex: Webex
    request: AuthorizationRequest
    redirect_uri: RedirectURI
    listener: Listener | None
    context: ssl.SSLContext | None
    keyboard: Keyboard
    opener: Opener
    opened: "Future[bool] | None"
    _server: LoopbackServer | None = None
    _tasks: "list[asyncio.Task[None]]" = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)
    _problem: errors.WebexLoopbackError | None = None
    _saved: StoredToken | None = None
    _came_at: float = 0.0
    _ignored: int = 0
    _how: str = ""

    def run(self) -> tuple[StoredToken, str]:
        """Return the stored token, and `browser` or `pasted`."""
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = runner.get_loop()
        self._response: asyncio.Future[AuthorizationResponse] = self._loop.create_future()
        self._network: asyncio.Future[FailurePage | None] = self._loop.create_future()
        self._came = asyncio.Event()
        task = self._loop.create_task(self._log_in())
        login: Future[tuple[StoredToken, str]] | None = None
        try:
            login = worker.start(lambda: _finish(runner, task))
            self.keyboard.watch(login, self._typed)
        except BaseException:
            self._call(task.cancel)
            with contextlib.suppress(asyncio.CancelledError, errors.WebexLoopbackError, TimeoutError):
                if login is not None:
                    worker.finish(login, ANSWER_SECONDS + 20)
            raise
        return login.result()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the event loop, which may just have been closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _typed(self, line: str) -> bool:
        if line == "o":
            self._call(self._open_again)
            return False
        self._lines = [*self._lines, line][-_REMEMBERED_LINES:]
        try:
            response = read_pasted("\n".join(self._lines), self.redirect_uri, self.request.state)
        except NotThisLogin as reason:
            self.attempt.note("not_pasted", what=reason)
            return False
        self._call(self._settle, "pasted", response)
        return True

    async def _log_in(self) -> tuple[StoredToken, str]:
        if self.listener is not None:
            self._server = LoopbackServer(
                self.listener,
                self.request,
                context=self.context,
                on_event=self._happened,
                network_problem=self._network,
                profile=self.attempt.profile,
                language=self.attempt.display.words.language,
            )
        page: SuccessPage | FailurePage = FailurePage("unexpected")
        try:
            token = await self._exchange(await self._wait())
            page = self._success(token)
        except errors.WebexLoopbackError as error:
            page = _failure(error)
            raise
        except asyncio.CancelledError:
            page = self._success(self._saved) if self._saved else FailurePage("cancelled")
            raise
        finally:
            if self._server is not None:
                await self._server.conclude(page)
                await self._server.close()
        return token, self._how

    async def _wait(self) -> AuthorizationResponse:
        """Wait for the authorization response, from a browser or pasted."""
        timeout = self.attempt.settings.login_timeout
        self._watch(self._check_network())
        if self._server is not None:
            await self._server.start()
            self.attempt.step("listening", "listening", "done", origin=self.redirect_uri.origin)
            self._watch(self._receive(self._server))
        self.attempt.step("browser", "waiting_for_browser" if self.opened else "waiting_for_you", "doing")
        if self.opened is not None:
            self._watch(self._check_browser(self.opened))
        self.attempt.display.start(time.time() + timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._response
        except TimeoutError:
            raise self._problem or self._timed_out(timeout) from None
        finally:
            self.attempt.display.start(None)
            for task in self._tasks:
                task.cancel()

    def _watch(self, source: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(source))

    async def _receive(self, server: LoopbackServer) -> None:
        self._settle("browser", await server.response())

    def _settle(self, how: str, response: AuthorizationResponse) -> None:
        if not self._response.done():
            self._how = how
            self._response.set_result(response)
        if self._server is not None:
            self._server.settle(response)

    async def _check_network(self) -> None:
        """Find a network problem that would make the exchange fail; show it in the browser, then end the login."""
        try:
            await asyncio.wrap_future(worker.start(self.webex.probe))
        except errors.WebexLoopbackError as error:
            self._problem = error
        self._network.set_result(FailurePage("network", detail=str(self._problem)) if self._problem else None)
        redirected = self._came_at and time.monotonic() - self._came_at >= NETWORK_PROBLEM_SECONDS
        if self._problem is not None:
            self.attempt.display.note(f"{self._problem} {self._problem.remedy}")
            await self._came.wait()
            await asyncio.sleep(0.5)  # for the page to arrive
            if not redirected and not self._response.done():
                self._response.set_exception(self._problem)

    async def _check_browser(self, opened: "Future[bool]") -> None:
        success = False
        with contextlib.suppress(Exception):  # from a function of the caller
            success = await asyncio.wrap_future(opened)
        if not success and not self._came_at:
            self.attempt.step("browser", "not_opened", "failed", browser=self.opener.choice.name)
            self.attempt.step("browser", "waiting_for_you", "doing")

    def _open_again(self) -> None:
        if self.opened is None:
            self.attempt.note("no_browser", reason=self.opener.choice.reason)
        else:
            url = self._server.renew_browser_url() if self._server is not None else self.request.url
            self._watch(self._check_browser(self.opener.open(url)))

    def _happened(self, kind: str, text: str) -> None:
        """Show what the loopback server reports."""
        if kind == "opened" and not self._came_at:
            self._came_at = time.monotonic()
            self._came.set()
            self.attempt.step("browser", "came", "done")
            self.attempt.step("redirect", "waiting_for_webex", "doing")
        elif kind == "received":
            self.attempt.step("redirect", "received", "done")
        elif text:
            self._ignored += kind in ("ignored", "stranger")
            if self._ignored <= MOST_IGNORED_LINES or kind not in ("ignored", "stranger"):
                self.attempt.display.note(text)

    async def _exchange(self, response: AuthorizationResponse) -> StoredToken:
        settings, code = self.attempt.settings, response.code
        if code is None:
            raise self._denial(response)
        self.attempt.step("exchange", "exchanging", "doing")
        transaction = self.attempt.transaction(
            lambda: self.webex.exchange_code(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                code=code,
                code_verifier=self.request.code_verifier,
                redirect_uri=self.redirect_uri.text,
                seconds=ANSWER_SECONDS,
            )
        )
        exchange = worker.start(transaction.run)
        try:
            token = self._saved = await asyncio.wrap_future(exchange)
        except asyncio.CancelledError:
            if not transaction.cancel():
                await self._await_answer(exchange)
            raise
        self.attempt.step("exchange", "saved", "done", store=self.attempt.store)
        return await asyncio.wrap_future(worker.start(lambda: self.attempt.with_account(token, self.webex)))

    async def _await_answer(self, exchange: "Future[StoredToken]") -> None:
        """After Ctrl-C: the code has been sent, so wait for the answer and report whether tokens were saved."""
        self.attempt.note("awaiting_answer", seconds=f"{ANSWER_SECONDS:g}")
        with contextlib.suppress(errors.WebexLoopbackError, TimeoutError):
            self._saved = await asyncio.wait_for(asyncio.wrap_future(exchange), ANSWER_SECONDS + 10)
        self.attempt.note("cancelled_saved" if self._saved else "cancelled_unsaved", profile=self.attempt.profile)

    def _timed_out(self, timeout: float) -> errors.LoginTimeout:
        key = "timeout_webex" if self._came_at or self._server is None else "timeout_browser"
        what = self.attempt.say(key, time=duration(timeout, self.attempt.display.words.language))
        if self._ignored:
            what += " " + self.attempt.say("timeout_ignored", count=self._ignored)
        login = login_command(self.attempt.profile)
        remedy = self.attempt.say(f"{key}.remedy", uri=self.redirect_uri.text, login=login)
        return errors.LoginTimeout(what, ignored=self._ignored, remedy=remedy)

    def _denial(self, response: AuthorizationResponse) -> errors.AuthorizationDenied:
        """Return the exception for an error response (RFC 6749 §4.1.2.1)."""
        error, description = response.error, response.error_description
        key = f"denied_{error}" if error in _DENIALS else "denied"
        scopes, login = " ".join(self.attempt.settings.scope_list), login_command(self.attempt.profile)
        return errors.AuthorizationDenied(
            self.attempt.say(key, detail=": ".join(filter(None, (error, description)))),
            error=error,
            error_description=description,
            remedy=self.attempt.say(f"{key}.remedy", login=login, scopes=scopes),
        )

    def _success(self, token: StoredToken) -> SuccessPage:
        account, scopes = token.account, (tuple(token.granted), tuple(token.missing))
        ends = (token.expires_at, token.refresh_token_expires_at)
        return SuccessPage(self.attempt.profile, account.name, account.email, *scopes, *ends, token.can_renew)


def _finish(runner: asyncio.Runner, task: "asyncio.Task[tuple[StoredToken, str]]") -> tuple[StoredToken, str]:
    async def wait() -> tuple[StoredToken, str]:
        return await task

    with runner:
        return runner.run(wait())


def _failure(error: errors.WebexLoopbackError) -> FailurePage:
    kind = next((page for kind, page in _PAGES.items() if isinstance(error, kind)), "unexpected")
    if isinstance(error, errors.TokenEndpointError):
        return FailurePage("exchange_rejected", detail=str(error), tracking_id=error.tracking_id)
    if isinstance(error, errors.AuthorizationDenied):
        kind = error.error if error.error in ("access_denied", "invalid_scope") else "authorization_error"
        return FailurePage(kind, detail=": ".join(filter(None, (error.error, error.error_description))))
    return FailurePage(kind, detail=str(error))
