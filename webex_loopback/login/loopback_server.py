"""The loopback server that receives the authorization response (RFC 8252 §7.3), with aiohttp.

Only a request with this login's `state`, from a browser that has opened one of its start URLs, ends the login. All
other requests are answered and change nothing.
"""

import asyncio
import contextlib
import os
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, cast

from aiohttp import web

from webex_loopback.oauth.authorization import AuthorizationRequest, AuthorizationResponse, NotThisLogin, read_response

from .connections import Connection, Connections, respond
from .listener import Listener, connected_user, new_path
from .pages import FailurePage, SuccessPage, choose_language, render
from .texts import Words

FAREWELL_SECONDS = 3.0
NETWORK_PROBLEM_SECONDS = 2.0

Event = Literal["opened", "opened_again", "received", "ignored", "stranger", "https", "network"]


class LoopbackServer:
    """Serves one login on a listener's sockets.

    Args:
        context: TLS settings, if the redirect URI is https.
        on_event: Called on the event loop with a kind and a line for the terminal: `opened` (a start URL),
            `opened_again` (the browser's start URL, which works once), `received` (the response), `ignored` (not this
            login), `stranger` (another browser or user), `https` (a browser spoke TLS to the http port), `network` (a
            browser has been shown the network problem).
        network_problem: Why the token request would fail, or None. Awaited before a browser is sent to Webex.
        profile, options: For the commands on the pages.
        language: Language of the lines for the terminal; the pages use the browser's.
    """

    def __init__(
        self,
        listener: Listener,
        request: AuthorizationRequest,
        *,
        context: ssl.SSLContext | None = None,
        on_event: Callable[[Event, str], None] = lambda kind, text: None,
        network_problem: Awaitable[FailurePage | None] | None = None,
        profile: str = "default",
        options: Sequence[str] = (),
        language: str = "en",
    ) -> None:
        self.listener = listener
        self.request = request
        self._context, self._on_event = context, on_event
        self._profile, self._options, self._words = profile, options, Words(language)
        self._network_problem = asyncio.ensure_future(network_problem) if network_problem else None
        loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[AuthorizationResponse] = loop.create_future()
        self._outcome: asyncio.Future[SuccessPage | FailurePage] = loop.create_future()
        self._used_paths: set[str] = set()
        self._done_path = new_path("/done/")
        # The name contains the port, because browsers send a host's cookies to all of its ports.
        self._cookie = f"webex_loopback_{listener.redirect_uri.port}={secrets.token_urlsafe(32)}"
        self._waiting = 0  # callbacks whose browser has not seen the outcome
        self._all_seen = asyncio.Event()
        self._connections: Connections | None = None
        self._met_tls = False

    def renew_browser_url(self) -> str:
        """Replace the listener's `browser_url`, whether or not it has been used, and return the new one."""
        self._used_paths.add(self.listener.browser_path)
        self.listener.browser_path = new_path("/start/")
        return self.listener.browser_url

    async def start(self) -> None:
        """Accept connections, including those that arrived since the sockets were bound."""
        self._connections = Connections(self.listener, self._context, self._answer, self._on_tls)

    async def response(self) -> AuthorizationResponse:
        return await asyncio.shield(self._settled)

    def settle(self, response: AuthorizationResponse) -> None:
        """Accept a response, from a browser or pasted; only the first one counts."""
        if not self._settled.done():
            self._settled.set_result(response)
            self._on_event("received", "")

    async def conclude(self, page: SuccessPage | FailurePage) -> None:
        """Show waiting browsers how the login ended; give them a moment to fetch the page."""
        if not self._outcome.done():
            self._outcome.set_result(page)
        if self._waiting > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_seen.wait(), FAREWELL_SECONDS)

    async def close(self) -> None:
        """Stop within two seconds, whatever the state of the connections."""
        self._outcome.cancel()  # callbacks may be waiting for it
        if self._connections is not None:
            await self._connections.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        callback = path == self.listener.redirect_uri.path
        start = path in (self.listener.browser_path, self.listener.printed_path, *self._used_paths)
        if not self._is_for_us(request):
            return respond(421, "This host name is not served here.")
        if not (callback or start or (path == self._done_path and self._outcome.done())):
            return respond(404, "There is nothing here.")
        if request.method != "GET":
            if callback and request.method == "POST":  # response_mode=form_post, which nobody has asked for
                self._report("ignored", "ignored", what="a response sent as a form (POST)")
            return respond(405, "Only GET is allowed.")
        if callback:
            return await self._callback(request, query)
        if start:
            return await self._start(request, path)
        self._outcome_seen()
        return self._page(request, 200, self._outcome.result())

    def _is_for_us(self, request: web.BaseRequest) -> bool:
        """Whether `Host` is a loopback name with our port, and not a DNS name rebound to this machine."""
        redirect_uri = self.listener.redirect_uri
        names = {"localhost", "127.0.0.1", "[::1]", redirect_uri.host}
        hosts = {f"{name}:{redirect_uri.port}" for name in names}
        if redirect_uri.port == (443 if redirect_uri.secure else 80):
            hosts |= names
        given = request.headers.getall("Host", [])
        return len(given) == 1 and given[0].lower() in hosts

    async def _start(self, request: web.BaseRequest, path: str) -> web.Response:
        if refusal := self._refuse_other_user(request):
            return refusal
        if self._settled.done():
            return respond(404, "This login has received its response.")
        if path in self._used_paths:
            return self._refuse(request, 410, "already_opened", "opened_again", "opened_again")
        if path == self.listener.browser_path:
            self._used_paths.add(path)
        self._on_event("opened", "")
        with contextlib.suppress(Exception):  # it takes too long, or fails for another reason
            check = self._network_problem
            if check and (problem := await asyncio.wait_for(asyncio.shield(check), NETWORK_PROBLEM_SECONDS)):
                self._on_event("network", "")
                return self._page(request, 503, problem)
        cookie = f"{self._cookie}; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if self._context else "")
        return respond(302, "", {"Location": self.request.url, "Set-Cookie": cookie})

    async def _callback(self, request: web.BaseRequest, query: str) -> web.Response:
        try:
            response = read_response(query, self.request.state)
        except NotThisLogin as reason:
            line = "ignored_error" if reason.error else "ignored"
            return self._refuse(request, 400, "not_this_login", "ignored", line, what=str(reason), error=reason.error)
        if refusal := self._refuse_other_user(request):
            return refusal
        # Not with a parser: other servers on localhost may set cookies that it rejects.
        cookies = ";".join(request.headers.getall("Cookie", [])).encode(errors="replace").split(b";")
        if not any(secrets.compare_digest(cookie.strip(), self._cookie.encode()) for cookie in cookies):
            return self._refuse(request, 400, "other_browser", "stranger", "other_browser")
        self.settle(response)
        cast("Connection", request.protocol).keep()
        self._waiting += 1
        self._all_seen.clear()
        try:
            await asyncio.shield(self._outcome)
        except asyncio.CancelledError:  # the tab was closed
            self._outcome_seen()
            raise
        # Leave the URL that contains the code.
        return respond(303, "", {"Location": self.listener.redirect_uri.origin + self._done_path})

    def _outcome_seen(self) -> None:
        self._waiting = max(self._waiting - 1, 0)  # a page may be reloaded
        if not self._waiting:
            self._all_seen.set()

    def _refuse_other_user(self, request: web.BaseRequest) -> web.Response | None:
        server, client = request.protocol.sockname, request.protocol.peername
        uid = connected_user(server, client) if server and client else None
        # Root runs port forwarders. With sudo, the browser runs as the user who called it.
        if uid is None or str(uid) in ("0", str(os.getuid()), os.environ.get("SUDO_UID")):
            return None
        return self._refuse(request, 403, "other_user", "stranger", "other_user", uid=str(uid))

    def _on_tls(self) -> None:
        if not self._met_tls:  # browsers try several times
            self._met_tls = True
            self._report("https", "https")

    def _report(self, kind: Event, line: str, **values: str) -> None:
        if not self._settled.done():
            self._on_event(kind, self._words(line, **values))

    def _refuse(
        self, request: web.BaseRequest, status: int, page: str, event: Event, line: str, **values: str
    ) -> web.Response:
        """Report a request in the terminal, and answer it with a page."""
        self._report(event, line, **values)
        return self._page(request, status, FailurePage(page))

    def _page(self, request: web.BaseRequest, status: int, page: SuccessPage | FailurePage) -> web.Response:
        language = choose_language(request.headers.get("Accept-Language"))
        return respond(status, render(page, language, self._profile, self._options), html=True)
