"""The endpoints over HTTP: reads requests, asks `Authority`, words the answers."""

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from weakref import WeakKeyDictionary

from aiohttp import web

from . import pages
from .answers import Refused, blank, tracking_id, wrong_client
from .authority import AccessToken, Authority, AuthorizationRequest, ErrorRedirect
from .faults import misbehave, pause
from .registration import ACCOUNTS, INTEGRATION, Account, find_account

_SECRET_FIELDS = ("client_secret", "code", "code_verifier", "refresh_token", "device_code", "token")
_SECRET_LENGTH = 16  # shorter ones are typing errors of a test, and would be found in any text
_PAGES = frozenset(["/v1/authorize", "/v1/login", "/v1/consent", "/v1/device/verify"])
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LOOPBACK_NAMES = frozenset(["127.0.0.1", "::1", "localhost"])
_WORDS = {
    "no_person": ("Enter an e-mail address.", "メールアドレスを入力してください。"),
    "no_device": (
        "This code is not known, or it has expired.",
        "このコードは無効か、有効期限が切れています。",
    ),
}


@dataclass(slots=True, eq=False)
class Request:
    """What the sandbox remembers of a request: no values, only which fields there were."""

    method: str
    path: str
    at: float  # by the sandbox's clock
    fields: tuple[str, ...] = ()
    grant_type: str = ""
    client_auth: str = ""  # where the client's credentials were: "body", "basic", "" for nowhere
    status: int = 0  # 0: not answered, or not yet


class Endpoints:
    """All that is served; made anew for every start, because it belongs to one event loop."""

    def __init__(
        self,
        authority: Authority,
        requests: list[Request],
        on_request: Callable[[Request], None] | None,
        stopping: asyncio.Event,
    ) -> None:
        self.base_url = ""  # known once the socket is bound
        self.cookie = ""
        self.authority = authority
        self.switches = authority.switches
        self.requests = requests
        self.on_request = on_request
        self.stopping = stopping
        self._idle: WeakKeyDictionary[asyncio.BaseTransport, asyncio.TimerHandle] = WeakKeyDictionary()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._observe])
        application.on_response_prepare.append(self._stamp)

        def get(path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
            application.router.add_get(path, handler, allow_head=False)

        post = application.router.add_post
        get("/", self._home)
        get("/v1/authorize", self._authorize)
        get("/v1/login", self._show_login)
        post("/v1/login", self._login)
        get("/v1/consent", self._show_consent)
        post("/v1/consent", self._consent)
        post("/v1/access_token", self._access_token)
        post("/v1/device/authorize", self._device_authorize)
        post("/v1/device/token", self._device_token)
        get("/v1/device/verify", self._device_verify)
        post("/v1/device/verify", self._device_verify)
        get("/v1/people/me", self._people_me)
        post("/v1/messages", self._messages)
        get("/v1/authorizations/tokenExpiry", self._token_expiry)
        post("/idb/oauth2/v1/revoke", self._revoke)
        get("/_sandbox/switches", self._control)
        application.router.add_patch("/_sandbox/switches", self._control)
        return application

    # Around every request

    @web.middleware
    async def _observe(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Record the request, turn what was raised into Webex's words, look after the idle connection."""
        transport = request.transport
        if transport is not None and (timer := self._idle.pop(transport, None)):
            timer.cancel()
        if request.method == "HEAD":
            return web.Response(status=405)
        record = Request(request.method, request.rel_url.raw_path, self.authority.clock())
        try:
            self._note(record, request, await _fields(request))
            self.requests.append(record)
            response = await handler(request)
        except ErrorRedirect as error:
            response = _redirect(error.location)
        except Refused as refused:
            response = self._refusal(request, refused)
        except web.HTTPException as error:
            response = _routing_error(request, error)
        if transport is not None and not transport.is_closing():
            record.status = response.status
            if self.switches.close_idle_after:
                later = asyncio.get_running_loop().call_later
                self._idle[transport] = later(self.switches.close_idle_after, transport.close)
        if self.on_request is not None:
            self.on_request(record)
        return response

    async def _stamp(self, request: web.Request, response: web.StreamResponse) -> None:
        now = self.authority.clock() + self.switches.date_offset
        response.headers["Date"] = formatdate(now, usegmt=True)
        response.headers["Server"] = "webex-sandbox"
        response.headers.setdefault("trackingId", tracking_id())

    def _note(self, record: Request, request: web.Request, form: Mapping[str, object]) -> None:
        record.fields = tuple(dict.fromkeys([*request.query, *form]))
        record.grant_type = str(form.get("grant_type", ""))
        received = [str(form.get(name, "")) for name in _SECRET_FIELDS]
        if basic := _basic(request):
            record.client_auth = "basic"
            received.append(basic[1])
        elif "client_secret" in form:
            record.client_auth = "body"
        received.append(_bearer(request))
        self.authority.secrets.update(value for value in received if len(value) >= _SECRET_LENGTH)

    def _refusal(self, request: web.Request, refused: Refused, shape: int = 1) -> web.Response:
        tracking = tracking_id()
        if request.path in _PAGES:
            return self._page(
                pages.error_page(
                    _language(request),
                    status=refused.status,
                    title=refused.error or refused.message,
                    detail=refused.description,
                    tracking_id=tracking,
                ),
                status=refused.status,
                tracking=tracking,
            )
        headers = _NO_STORE | {"trackingId": tracking}
        return web.json_response(refused.body(tracking, shape), status=refused.status, headers=headers)

    def _page(self, text: str, *, status: int = 200, tracking: str = "") -> web.Response:
        response = web.Response(body=text.encode(), status=status, headers=pages.HEADERS)
        response.headers["trackingId"] = tracking or tracking_id()
        return response

    # Pages

    async def _home(self, request: web.Request) -> web.Response:
        return self._page(
            pages.home_page(
                _language(request),
                base_url=self.base_url,
                client_id=self.authority.client_id,
                redirect_uris=self.authority.redirect_uris,
                scopes=self.authority.scopes,
            )
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        query = _single(request.query)
        browser = self._browser(request)
        waiting = self.authority.begin_authorization(query, browser)
        account = self.authority.sessions.get(browser)
        if query.get("prompt") == "none":
            if account is None:
                raise self.authority.error_redirect(waiting, "login_required", "The user is not logged in.")
            if not self.authority.has_consented(waiting, account):
                raise self.authority.error_redirect(waiting, "consent_required", "The user has to consent.")
            return _redirect(self.authority.allow(waiting, account))
        if account is not None and query.get("prompt") != "select_account":
            response = self._consent_page(request, waiting, account)
        else:
            hint = waiting.login_hint or (account.email if account else "")
            response = self._login_page(request, waiting, hint)
        return self._with_cookie(response, browser)

    async def _show_login(self, request: web.Request) -> web.Response:
        return self._login_page(request, self._waiting(request, request.query), "")

    async def _login(self, request: web.Request) -> web.Response:
        form = await _form(request)
        waiting = self._waiting(request, form)
        email = form.get("email", "")
        account = find_account(email)
        if account is None:
            return self._login_page(request, waiting, email, error=_words("no_person", request))
        self.authority.sessions[waiting.browser] = account
        return _redirect(f"/v1/consent?request={waiting.id}", status=303)

    async def _show_consent(self, request: web.Request) -> web.Response:
        waiting = self._waiting(request, request.query)
        return self._consent_page(request, waiting, self._account(waiting))

    async def _consent(self, request: web.Request) -> web.Response:
        form = await _form(request)
        waiting = self._waiting(request, form)
        account = self._account(waiting)
        match form.get("decision"):
            case "allow":
                location = self.authority.allow(waiting, account)
            case "decline":
                location = self.authority.decline(waiting)
            case _:
                raise blank("decision")
        if location:
            return _redirect(location)
        return self._page(pages.device_done_page(_language(request), allowed=form["decision"] == "allow"))

    async def _device_verify(self, request: web.Request) -> web.Response:
        browser = self._browser(request)
        form = await _form(request)
        # The second is the hash in `verification_uri_complete`.
        user_code = "".join(form.get("user_code", "").split()) or request.query.get("userCode", "")
        device = self.authority.find_device(user_code) if user_code else None
        if device is None:
            response = self._page(
                pages.device_page(
                    _language(request),
                    action="/v1/device/verify",
                    hidden={},
                    user_code=form.get("user_code", ""),
                    error=_words("no_device", request) if user_code else "",
                )
            )
            return self._with_cookie(response, browser)
        waiting = self.authority.begin_device(device, browser)
        page = "consent" if browser in self.authority.sessions else "login"
        response = _redirect(f"/v1/{page}?request={waiting.id}", status=303)
        return self._with_cookie(response, browser)

    def _login_page(
        self, request: web.Request, waiting: AuthorizationRequest, hint: str, error: str = ""
    ) -> web.Response:
        return self._page(
            pages.login_page(
                _language(request),
                action="/v1/login",
                hidden={"request": waiting.id},
                accounts=[(account.email, account.name) for account in ACCOUNTS],
                login_hint=hint,
                error=error,
            )
        )

    def _consent_page(self, request: web.Request, waiting: AuthorizationRequest, account: Account) -> web.Response:
        return self._page(
            pages.consent_page(
                _language(request),
                action="/v1/consent",
                hidden={"request": waiting.id},
                integration=INTEGRATION,
                account_name=account.name,
                account_email=account.email,
                scopes=waiting.scopes,
            )
        )

    def _waiting(self, request: web.Request, fields: Mapping[str, str]) -> AuthorizationRequest:
        return self.authority.undecided(fields.get("request", ""), self._browser(request))

    def _account(self, waiting: AuthorizationRequest) -> Account:
        account = self.authority.sessions.get(waiting.browser)
        if account is None:
            raise Refused(400, "invalid_request", "The user is not logged in.")
        return account

    def _browser(self, request: web.Request) -> str:
        return request.cookies.get(self.cookie) or secrets.token_urlsafe(24)

    def _with_cookie(self, response: web.Response, browser: str) -> web.Response:
        secure = self.base_url.startswith("https:")
        response.set_cookie(self.cookie, browser, path="/", httponly=True, samesite="Lax", secure=secure)
        return response

    # Tokens

    async def _access_token(self, request: web.Request) -> web.StreamResponse:
        def answer() -> dict[str, object]:
            return self.authority.token_response(_single(form), _basic(request))

        form = await _required_form(request)
        fault = self.switches.faults.pop(0) if self.switches.faults else self.switches.fault
        await pause(self.switches.latency, self.stopping)
        return await self._answer(request, answer, fault, self.switches.error_shape)

    async def _device_authorize(self, request: web.Request) -> web.StreamResponse:
        device = self.authority.new_device(_single(await _required_form(request)))
        verification_uri = f"{self.base_url}/device/verify"
        return _json(
            {
                "device_code": device.device_code,
                "expires_in": round(device.expires_at - self.authority.clock()),
                "user_code": device.user_code,
                "verification_uri": verification_uri,
                "verification_uri_complete": f"{verification_uri}?userCode={device.hashed_code}",
                "interval": device.interval,
            }
        )

    async def _device_token(self, request: web.Request) -> web.StreamResponse:
        def answer() -> dict[str, object]:
            basic = _basic(request)
            if basic is None:
                raise wrong_client(401)  # the secret in the body does not do here
            self.authority.check_client(*basic)
            return self.authority.device_token_response(_single(form))

        form = await _required_form(request)
        fault = self.switches.device_faults.pop(0) if self.switches.device_faults else ""
        return await self._answer(request, answer, fault, self.switches.error_shape)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        def answer() -> dict[str, object]:
            basic = _basic(request)
            if basic is None:
                raise wrong_client(401)
            self.authority.check_client(*basic)
            if not form.get("token"):
                raise blank("token")
            self.authority.revoke(form["token"])  # RFC 7009 §2.2: 200 for an unknown one too
            return {}

        form = _single(await _required_form(request))
        return await self._answer(request, answer, "", 2)

    # The API

    async def _people_me(self, request: web.Request) -> web.StreamResponse:
        return await self._api(request, "spark:people_read", lambda token: token.grant.account.as_person())

    async def _token_expiry(self, request: web.Request) -> web.StreamResponse:
        return await self._api(request, "", lambda token: {"exp": int(token.expires_at * 1000)})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        def answer(token: AccessToken) -> dict[str, object]:
            account = token.grant.account
            target = next((n for n in ("roomId", "toPersonEmail", "toPersonId") if message.get(n)), None)
            if target is None or not (message.get("text") or message.get("markdown")):
                raise Refused(400, description="A target and a text are required.")
            return {
                "id": base64.urlsafe_b64encode(f"ciscospark://us/MESSAGE/{uuid.uuid4()}".encode()).decode(),
                "roomType": "group" if target == "roomId" else "direct",
                target: message[target],
                **{name: message[name] for name in ("text", "markdown") if message.get(name)},
                "personId": account.person_id,
                "personEmail": account.email,
                "created": datetime.fromtimestamp(self.authority.clock(), UTC).isoformat("T", "milliseconds"),
            }

        message: Mapping[str, object] = await _form(request)
        if request.content_type == "application/json":
            message = await _json_object(request)
        return await self._api(request, "spark:messages_write", answer)

    async def _api(
        self, request: web.Request, scope: str, answer: Callable[[AccessToken], dict[str, object]]
    ) -> web.StreamResponse:
        def authorized() -> dict[str, object]:
            token = self.authority.find_access_token(_bearer(request))
            granted = token.grant.scopes
            if scope and scope not in granted and "spark:all" not in granted:
                raise Refused(403)
            return answer(token)

        fault = self.switches.api_faults.pop(0) if self.switches.api_faults else ""
        return await self._answer(request, authorized, fault, 1)

    async def _answer(
        self, request: web.Request, answer: Callable[[], dict[str, object]], fault: str, shape: int
    ) -> web.StreamResponse:
        def respond() -> web.Response:
            try:
                return _json(answer())
            except Refused as refused:
                return self._refusal(request, refused, shape)

        if not fault:
            return respond()
        retry_after = self.switches.retry_after
        return await misbehave(request, fault, respond, retry_after=retry_after, stopping=self.stopping)

    # The switches, from another process

    async def _control(self, request: web.Request) -> web.StreamResponse:
        # A page of another site may not turn them: its name is not loopback, and JSON needs its preflight.
        if request.url.host not in _LOOPBACK_NAMES:
            return web.Response(status=421, text="Only by a loopback name.")
        if request.method == "PATCH":
            if request.content_type != "application/json":
                raise Refused(415)
            changes = await _json_object(request)
            try:
                self.switches.update(changes)
            except ValueError as error:
                raise Refused(400, description=str(error)) from None
        return _json(self.switches.as_dict())


def _json(content: Mapping[str, object]) -> web.Response:
    return web.json_response(content, headers=_NO_STORE)


def _redirect(location: str, status: int = 302) -> web.Response:
    # Not `HTTPFound`: it would quote the URL once more, and this one is to arrive as it was registered.
    return web.Response(status=302, headers=_NO_STORE | {"Location": location, "Referrer-Policy": "no-referrer"})


def _routing_error(request: web.Request, error: web.HTTPException) -> web.Response:
    headers = dict(_NO_STORE)
    if "Allow" in error.headers:
        headers["Allow"] = error.headers["Allow"]
    if request.path.startswith(("/v1/", "/_sandbox/", "/idb/", "/favicon.ico")) or request.path == "/":
        headers["trackingId"] = tracking_id()
        refused = Refused(error.status, message=error.reason)
        return web.json_response(refused.body(headers["trackingId"], 1), status=refused.status, headers=headers)
    # Without the version the gateway does not know the service, and asks for a token.
    headers = _NO_STORE | {"trackingId": tracking_id("ROUTERGW")}
    body = {"message": Refused(401).message, "trackingId": headers["trackingId"]}
    return web.json_response(body, status=401, headers=headers)


def _single(fields: Mapping[str, object]) -> dict[str, str]:
    """Return the fields as a dict of strings.

    Raises:
        Refused: One is there twice (RFC 6749 §3.1), or is a file.
    """
    single: dict[str, str] = {}
    for name, value in fields.items():
        if name in single or not isinstance(value, str):
            raise Refused(400, "invalid_request", f"Parameter:{name} is repeated or no text")
        single[name] = value
    return single


async def _fields(request: web.Request) -> Mapping[str, object]:
    try:
        return await request.post() if request.method == "POST" else {}
    except (LookupError, ValueError):  # a charset that is none, or that the bytes are not in
        raise Refused(400) from None


async def _form(request: web.Request) -> dict[str, str]:
    return _single(await _fields(request))


async def _required_form(request: web.Request) -> Mapping[str, object]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refused(415)
    return await _fields(request)


async def _json_object(request: web.Request) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        content = json.loads(await request.read())
        if isinstance(content, dict):
            return content
    raise Refused(400)


def _basic(request: web.Request) -> tuple[str, str] | None:
    """Return id and secret of HTTP Basic, None without it; what cannot be read is a wrong pair."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, client_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "?", ""
    return client_id, client_secret


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _language(request: web.Request) -> str:
    """Return "ja" where the browser prefers Japanese to English, else "en"."""
    best, best_weight = "en", 0.0
    for item in request.headers.get("Accept-Language", "").split(","):
        tag, _, weight_text = item.partition(";q=")
        try:
            weight = float(weight_text or 1)
        except ValueError:
            continue
        language = tag.strip().lower().partition("-")[0]
        if language in ("en", "ja") and weight > best_weight:
            best, best_weight = language, weight
    return best


def _words(key: str, request: web.Request) -> str:
    english, japanese = _WORDS[key]
    return japanese if _language(request) == "ja" else english
