"""A login in the browser (RFC 6749 §4.1): wait for the response, exchange the code, save the tokens, tell the browser.

It runs on an event loop in a worker, both in a notebook and in a terminal, while the calling thread reads the keyboard.
An exception from a signal handler there, Ctrl-C included, cancels the worker's task. But once the code has been sent,
it waits for the answer, so that it can tell the user whether tokens were saved.
"""

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from webex_loopback import errors
from webex_loopback.oauth.authorization import AuthorizationRequest, AuthorizationResponse, NotThisLogin, read_pasted
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.transaction import Transaction
from webex_loopback.webex import worker
from webex_loopback.webex.client import Webex
from webex_loopback.wording import duration

from .attempt import Attempt
from .browser import Opener
from .listener import Listener
from .loopback_server import Event, LoopbackServer
from .pages import FailurePage, SuccessPage
from .paste import Keyboard

ANSWER_SECONDS = 30.0  # how long Webex may take to answer once the code has been sent
MOST_LINES = 3  # about each kind of request, so that harmless ones cannot hide a stranger's
_REMEMBERED_LINES = 5  # of what was pasted: a URL may arrive wrapped
_DENIALS = ("access_denied", "invalid_scope", "login_required", "server_error")
_PAGES = {errors.ServerUnreachable: "unreachable", errors.TokenStoreError: "store", errors.LoginTimeout: "timeout"}


@dataclass
class CodeGrant:
    """One login, whose browser is starting; `opened` says whether it started, and is None if none is opened."""

    attempt: Attempt
    webex: Webex
    request: AuthorizationRequest
    listener: Listener  # without sockets, the redirect URL can only be pasted
    context: ssl.SSLContext | None
    keyboard: Keyboard
    opener: Opener
    opened: "Future[bool] | None"
    _task: "asyncio.Task[StoredToken] | None" = None
    _cancelled: bool = False
    _lines: tuple[str, ...] = ()
    _problem: errors.WebexLoopbackError | None = None
    _came: bool = False
    _how: str = ""  # how the response arrived: `browser` or `pasted`
    _saved: StoredToken | None = None
    _reported: "Counter[str]" = field(default_factory=Counter)

    def run(self) -> tuple[StoredToken, str]:
        """Return the stored token, and `browser` or `pasted`."""
        login: worker.Work[StoredToken] | None = None
        try:
            login = worker.start(self._work)
            self.keyboard.watch(login, self._typed)
        except BaseException:
            self._cancelled = True
            self._call(self._cancel)
            ends = (asyncio.CancelledError, errors.WebexLoopbackError, TimeoutError)
            with self.keyboard.unused(), contextlib.suppress(*ends):
                if login is not None:
                    worker.finish(login, ANSWER_SECONDS + 20)
            raise
        return login.result(), self._how

    def _work(self) -> StoredToken:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            self._loop = runner.get_loop()
            return runner.run(self._log_in())

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the event loop, which may not exist yet, or may just have been closed."""
        with contextlib.suppress(RuntimeError, AttributeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _typed(self, line: str) -> bool:
        if line == "o":
            self._call(self._open_again)
            return False
        self._lines = (*self._lines, line)[-_REMEMBERED_LINES:]
        for text in ("\n".join(self._lines), line):
            try:
                self._call(self._pasted, read_pasted(text, self.listener.redirect_uri, self.request.state))
            except NotThisLogin as error:
                reason = error
            else:
                return True
        self.attempt.note("not_pasted", what=reason, uri=self.listener.redirect_uri.text)
        return False

    def _pasted(self, response: AuthorizationResponse) -> None:
        self._how = self._how or "pasted"
        self._server.settle(response)

    async def _log_in(self) -> StoredToken:
        self._task = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        self._server = LoopbackServer(
            self.listener,
            self.request,
            context=self.context,
            on_event=self._happened,
            network_problem=self._find_network_problem(),
            profile=self.attempt.profile,
            options=self.attempt.options,
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
            await self._server.conclude(page)
            await self._server.close()
        return token

    async def _wait(self) -> AuthorizationResponse:
        timeout = self.attempt.settings.login_timeout
        await self._server.start()
        if self.listener.sockets:
            self.attempt.step("listening", "listening", "done", origin=self.listener.redirect_uri.origin)
        self.attempt.step("redirect", "waiting_for_browser" if self.opened else "waiting_for_you", "doing")
        if self.opened is not None:
            self._check(self.opened)
        self.attempt.display.start(time.time() + timeout)
        try:
            async with asyncio.timeout(timeout) as self._patience:
                return await self._server.response()
        except TimeoutError:
            raise self._problem or self._timed_out(timeout) from None
        finally:
            self.attempt.display.start(None)

    async def _find_network_problem(self) -> FailurePage | None:
        """Look for a network problem that would make the exchange fail; the server shows it in the browser."""
        try:
            await asyncio.wrap_future(worker.start(self.webex.probe))
        except errors.WebexLoopbackError as error:
            self._problem = error
            if not self._how:
                self.attempt.display.note(f"{error} {error.remedy}")
            return FailurePage("network", detail=str(error))
        return None

    def _check(self, opened: "Future[bool]") -> None:
        """Report it if a browser does not open."""

        def report() -> None:
            if (opened.exception() or not opened.result()) and not self._came and not self._how:
                self.attempt.step("redirect", "not_opened", "failed", browser=self.opener.choice.name)
                self.attempt.step("redirect", "waiting_for_you", "doing")

        opened.add_done_callback(lambda _: self._call(report))

    def _open_again(self) -> None:
        if self.opened is None:
            self.attempt.note("no_browser", reason=self.opener.choice.reason)
        else:
            url = self._server.renew_browser_url() if self.listener.sockets else self.request.url
            self._check(self.opener.open(url))

    def _happened(self, kind: Event, text: str) -> None:
        if kind == "opened" and not self._came:
            self._came = True
            self.attempt.step("redirect", "came", "done")
            self.attempt.step("redirect", "waiting_for_webex", "doing")
        elif kind == "received":
            self._how = self._how or "browser"
            self.attempt.step("redirect", "received", "done")
        elif kind == "network":
            with contextlib.suppress(RuntimeError):  # the time has just run out
                self._patience.reschedule(self._loop.time() + 0.5)  # for the page to arrive
        elif text:
            self._reported[kind] += 1
            if self._reported[kind] <= MOST_LINES:
                self.attempt.display.note(text)

    async def _exchange(self, response: AuthorizationResponse) -> StoredToken:
        settings, code = self.attempt.settings, response.code
        if code is None:
            raise self._denial(response)
        self.attempt.step("exchange", "exchanging", "doing")

        def make() -> StoredToken:
            response = self.webex.exchange_code(
                client_id=settings.client_id,
                client_secret=settings.client_secret,
                code=code,
                code_verifier=self.request.code_verifier,
                redirect_uri=self.listener.redirect_uri.text,
                seconds=ANSWER_SECONDS,
            )
            return self.attempt.token(response)

        transaction = Transaction(self.attempt.store, self.attempt.replacing(make))
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
        self.attempt.note("cancelled_saved" if self._saved else "cancelled_unsaved")

    def _timed_out(self, timeout: float) -> errors.LoginTimeout:
        say, key = self.attempt.say, "timeout_webex" if self._came or not self.listener.sockets else "timeout_browser"
        what = say(key, time=duration(timeout, self.attempt.display.words.language))
        if ignored := self._reported["ignored"] + self._reported["stranger"]:
            what += " " + say("timeout_ignored", count=ignored)
        remedy = say(f"{key}.remedy", uri=self.listener.redirect_uri.text)
        return errors.LoginTimeout(what, ignored=ignored, remedy=remedy)

    def _denial(self, response: AuthorizationResponse) -> errors.AuthorizationDenied:
        """Return the exception for an error response (RFC 6749 §4.1.2.1)."""
        key = f"denied_{response.error}" if response.error in _DENIALS else "denied"
        return errors.AuthorizationDenied(
            self.attempt.say(key, detail=_told(response)),
            error=response.error,
            error_description=response.error_description,
            remedy=self.attempt.say(f"{key}.remedy", scopes=" ".join(self.attempt.settings.scope_list)),
        )

    def _success(self, token: StoredToken) -> SuccessPage:
        account, scopes = token.account, (tuple(token.granted), tuple(token.missing))
        ends = (token.expires_at, token.refresh_token_expires_at)
        return SuccessPage(self.attempt.profile, account.name, account.email, *scopes, *ends, token.can_renew)


def _failure(error: errors.WebexLoopbackError) -> FailurePage:
    if isinstance(error, errors.AuthorizationDenied):
        known = error.error in ("access_denied", "invalid_scope")
        return FailurePage(error.error if known else "authorization_error", _told(error))
    if isinstance(error, errors.TokenEndpointError):
        return FailurePage("exchange_rejected", str(error), error.remedy)
    return FailurePage(
        next((page for kind, page in _PAGES.items() if isinstance(error, kind)), "unexpected"), str(error)
    )


def _told(denial: AuthorizationResponse | errors.AuthorizationDenied) -> str:
    return ": ".join(filter(None, (denial.error, denial.error_description))).rstrip(".")
