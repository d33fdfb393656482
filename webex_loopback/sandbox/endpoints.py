"""The HTTP server: routes, faults, and what is common to all requests."""

import asyncio
import json
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web

from .answers import Refused, require, tracking_id
from .api import Api
from .authorization import Authorizations, ErrorRedirect
from .faults import gateway_401, misbehave, pause, refusal, reset
from .registration import Tenant
from .request import Call, Request, read, single
from .sign_in import PATHS, SignIn, redirect
from .tokens import Tokens

_CALL = web.RequestKey("call", Call)
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LOOPBACK_NAMES = frozenset(["127.0.0.1", "::1", "localhost"])
_MOST_BYTES = 100 * 1024 * 1024  # Webex's limit for a file

Handler = Callable[[Call], "web.Response | Mapping[str, object]"]


class Endpoints:
    """All endpoints of one sandbox; `stopping` and the URLs are new for every start."""

    def __init__(self, tenant: Tenant, on_request: Callable[[Request], None] | None) -> None:
        self.requests: list[Request] = []
        self._tenant = tenant
        self._switches = tenant.switches
        self._on_request = on_request
        self.tokens = Tokens(tenant)
        self._authorizations = Authorizations(tenant, self.tokens)
        self._pages = SignIn(tenant, self._authorizations)
        self._api = Api(tenant, self.tokens)
        self._stopping = asyncio.Event()
        self._idle: WeakKeyDictionary[asyncio.BaseTransport, asyncio.TimerHandle] = WeakKeyDictionary()

    def application(self, stopping: asyncio.Event) -> web.Application:
        self._stopping = stopping
        application = web.Application(middlewares=[self._observe], client_max_size=_MOST_BYTES)
        application.on_response_prepare.append(self._stamp)

        def add(method: str, path: str, handler: Handler, queue: str = "") -> None:
            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._answer(request[_CALL], handler, queue)

            application.router.add_route(method, path, handle)

        pages, api = self._pages, self._api
        add("GET", "/", pages.home)
        add("GET", "/v1/authorize", pages.authorize)
        add("POST", "/v1/login", pages.login)
        add("GET", "/v1/consent", pages.show_consent)
        add("POST", "/v1/consent", pages.consent)
        add("GET", "/v1/device/verify", pages.verify_device)
        add("POST", "/v1/device/verify", pages.verify_device)
        add("POST", "/v1/access_token", self._access_token, "faults")
        add("POST", "/v1/device/authorize", self._device_authorize)
        add("POST", "/v1/device/token", self._device_token, "device_faults")
        add("POST", "/v1/applications/{id}/token", self._application_token, "api_faults")
        add("POST", "/idb/oauth2/v1/revoke", self._revoke)
        add("GET", "/v1/people/me", api.people_me, "api_faults")
        add("GET", "/v1/authorizations/tokenExpiry", api.token_expiry, "api_faults")
        add("GET", "/v1/rooms", api.list_rooms, "api_faults")
        add("POST", "/v1/messages", api.create_message, "api_faults")
        add("GET", "/v1/messages/{id}", api.get_message, "api_faults")
        add("DELETE", "/v1/messages/{id}", api.delete_message, "api_faults")
        add("GET", "/_sandbox/switches", self._control)
        add("PATCH", "/_sandbox/switches", self._control)
        return application

    # Around every request

    @web.middleware
    async def _observe(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Record the request, turn exceptions into Webex's answers, and apply `close_idle_after`."""
        transport = request.transport
        if transport is not None and (timer := self._idle.pop(transport, None)):
            timer.cancel()
        if request.method == "HEAD" and not self._switches.mute:
            return web.Response(status=405)
        record = Request(request.method, request.rel_url.raw_path, self._tenant.clock())
        response: web.StreamResponse
        call = Call(request, {}, {})
        try:
            call = await read(request)
            request[_CALL] = call
            record = call.record(record.at)
            self.requests.append(record)
            self._tenant.secrets.update(call.secrets())
            if self._switches.mute:
                await self._stopping.wait()
                return reset(request)
            response = await self._canned(request, handler) or await handler(request)
        except ErrorRedirect as error:
            response = redirect(error.location)
        except Refused as refused:
            shape = 2 if request.path.startswith("/idb/") else 1
            response = self._pages.refuse(call, refused) if request.path in PATHS else refusal(refused, shape)
        except web.HTTPException as error:
            response = _routing_error(request, error)
        if transport is not None and not transport.is_closing():
            record.status = response.status
            if self._switches.close_idle_after:
                later = asyncio.get_running_loop().call_later
                self._idle[transport] = later(self._switches.close_idle_after, transport.close)
        if self._on_request is not None:
            self._on_request(record)
        return response

    async def _stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        moment = self._tenant.clock() + self._switches.date_offset
        response.headers["Date"] = self._switches.date or formatdate(moment, usegmt=True)
        response.headers["Server"] = "webex-sandbox"
        response.headers.setdefault("trackingId", tracking_id())

    async def _canned(self, request: web.Request, handler: Any) -> web.Response | None:
        """Return the exact answer that the switch `answers` has for this path."""
        item = next((item for item in self._switches.answers if item["path"] == request.path), None)
        if item is None:
            return None
        item["times"] = item.get("times", 1) - 1
        if item["times"] <= 0:
            self._switches.answers.remove(item)
        if item.get("process"):
            await handler(request)
        body = item.get("body", "")
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {} if isinstance(body, str) else {"Content-Type": "application/json"}
        content = text.encode("utf-8", "surrogateescape")  # so that a body can contain any bytes
        return web.Response(status=item.get("status", 200), body=content, headers=headers | item.get("headers", {}))

    async def _answer(self, call: Call, handler: Handler, queue: str) -> web.StreamResponse:
        """Answer a request, with the next fault of the queue if there is one."""

        def respond() -> web.Response:
            try:
                return processed.pop() if processed else _as_response(handler(call), switches.token_status)
            except Refused as refused:
                if not queue:
                    raise
                return refusal(refused, 1 if queue == "api_faults" else switches.error_shape)

        switches = self._switches
        processed: list[web.Response] = []
        faults: list[str] = getattr(switches, queue) if queue else []
        fault = faults.pop(0) if faults else switches.fault if queue == "faults" else ""
        if queue == "faults" or call.http.path.startswith("/v1/applications/"):
            await pause(switches.latency, self._stopping)
            if switches.answer_latency:
                processed.append(respond())
                await pause(switches.answer_latency, self._stopping)
        return await misbehave(call.http, fault, respond, switches, self._stopping) if fault else respond()

    # Tokens

    def _access_token(self, call: Call) -> Mapping[str, object]:
        return self.tokens.answer_token_request(_form(call), call.basic)

    def _device_authorize(self, call: Call) -> Mapping[str, object]:
        device = self._authorizations.answer_device_request(_form(call))
        verification_uri = f"{self._tenant.base_url}/device/verify"
        return {
            "device_code": device.device_code,
            "expires_in": round(device.expires_at - self._tenant.clock()),
            "user_code": device.user_code,
            "verification_uri": verification_uri,
            "verification_uri_complete": f"{verification_uri}?userCode={device.hashed_code}",
            "interval": device.interval,
        }

    def _device_token(self, call: Call) -> Mapping[str, object]:
        return self._authorizations.answer_device_poll(_form(call), call.basic)

    def _application_token(self, call: Call) -> Mapping[str, object]:
        if call.http.content_type != "application/json":
            raise Refused(415)
        return self.tokens.answer_application_token_request(call.http.match_info["id"], call.body, call.bearer)

    def _revoke(self, call: Call) -> Mapping[str, object]:
        form = _form(call)
        self.tokens.check_client(*(call.basic or ("?", "")))
        require(form, "token")
        self.tokens.revoke(form["token"])  # RFC 7009 §2.2: 200 for an unknown token too
        return {}

    # Switches, for another process

    def _control(self, call: Call) -> web.Response | Mapping[str, object]:
        # Another site's page cannot set them: its host name is not loopback, and JSON needs a CORS preflight.
        if call.http.url.host not in _LOOPBACK_NAMES:
            return web.Response(status=421, text="Use a loopback host name.")
        if call.http.method == "PATCH":
            if call.http.content_type != "application/json":
                raise Refused(415)
            try:
                self._switches.update(call.body)
            except ValueError as error:
                raise Refused(400, description=str(error)) from None
        return self._switches.as_dict()


def _as_response(answer: web.Response | Mapping[str, object], token_status: int) -> web.Response:
    if isinstance(answer, web.Response):
        return answer
    return web.json_response(answer, status=token_status if "access_token" in answer else 200, headers=_NO_STORE)


def _form(call: Call) -> dict[str, str]:
    if call.http.content_type != "application/x-www-form-urlencoded":
        raise Refused(415)
    return single(call.form)


def _routing_error(request: web.Request, error: web.HTTPException) -> web.Response:
    known = request.path.startswith(("/v1/", "/_sandbox/", "/idb/", "/favicon.ico")) or request.path == "/"
    # For a path without /v1, the gateway knows no service and asks for a token.
    response = refusal(Refused(error.status, message=error.reason), 1) if known else gateway_401()
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
