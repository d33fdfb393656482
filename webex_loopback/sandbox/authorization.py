"""Authorization requests, device requests, and the users' consent. Uses no network and never waits."""

import hmac
import re
import secrets
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from .answers import Refused, blank, named, require
from .registration import OPENID_SCOPES, Account, Tenant
from .tokens import VERIFIER, Code, Grant, Tokens

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_REQUEST_SECONDS = 600
_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class ErrorRedirect(Exception):
    """An authorization request that is answered with an error at its redirect URI (RFC 6749 §4.1.2.1)."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self.location = location


@dataclass(slots=True, eq=False)
class Device:
    """One device grant (RFC 8628)."""

    device_code: str = field(repr=False)
    user_code: str
    hashed_code: str
    scopes: tuple[str, ...]
    expires_at: float
    interval: float
    polled_at: float | None = None
    outcome: "Grant | str | None" = None  # a grant, "access_denied", "used", or None before the decision


@dataclass(slots=True, eq=False)
class AuthorizationRequest:
    """A request that a user has to decide on. `device` is set if it came from a device."""

    browser: str = field(repr=False)  # cookie of the browser that sent it; no other browser may decide
    scopes: tuple[str, ...]
    created_at: float
    redirect_uri: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    device: Device | None = None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    decision: str = ""
    location: str = ""  # where the decision has sent the browser; "" for a device


class Authorizations:
    """Requests, sessions and devices. Methods raise `Refused` with Webex's answer."""

    def __init__(self, tenant: Tenant, tokens: Tokens) -> None:
        self._tenant = tenant
        self._tokens = tokens
        self._integration = tenant.integration
        self.sessions: dict[str, Account] = {}  # by the browser's cookie
        self._consents: dict[str, set[str]] = {}  # by email address: what prompt=none may grant again
        self._requests: dict[str, AuthorizationRequest] = {}
        self._devices: dict[str, Device] = {}

    def begin(self, query: Mapping[str, str], browser: str) -> AuthorizationRequest:
        """Check an authorization request and keep it for the decision.

        Raises:
            Refused: The client or the redirect URI is wrong; to be shown on a page, never redirected.
            ErrorRedirect: Anything else is wrong.
        """
        require(query, "client_id")
        if query["client_id"] != self._integration.client_id:
            raise Refused(400, "invalid_client", "Client Id is invalid")
        registered = self._integration.redirect_uris
        redirect_uri = query.get("redirect_uri") or (registered[0] if len(registered) == 1 else "")
        if not redirect_uri:
            raise blank("redirect_uri")
        if redirect_uri not in registered:
            unregistered = f"The redirect_uri {redirect_uri} is not registered for this Integration."
            raise Refused(400, "invalid_request", unregistered)
        scopes = tuple(query.get("scope", "").split())
        request = AuthorizationRequest(browser, scopes, self._tenant.clock(), redirect_uri, query)
        if query.get("response_type") != "code":
            raise self.error(request, "unsupported_response_type", "The response_type must be code.")
        if not request.scopes or not OPENID_SCOPES.union(self._integration.scopes).issuperset(request.scopes):
            raise self.error(request, "invalid_scope")
        if problem := _pkce_problem(query):
            raise self.error(request, "invalid_request", problem)
        return self._keep(request)

    def begin_device(self, device: Device, browser: str) -> AuthorizationRequest:
        return self._keep(AuthorizationRequest(browser, device.scopes, self._tenant.clock(), device=device))

    def find(self, request_id: str, browser: str) -> AuthorizationRequest:
        """Return a request of this browser, decided or not, for ten minutes."""
        request = self._requests.get(request_id)
        expired = request is None or self._tenant.clock() - request.created_at > _REQUEST_SECONDS
        if request is None or expired or not hmac.compare_digest(request.browser.encode(), browser.encode()):
            raise page_expired()
        return request

    def has_consented(self, request: AuthorizationRequest, account: Account) -> bool:
        return self._consents.get(account.email, set()).issuperset(request.scopes)

    def decide(self, request: AuthorizationRequest, account: Account, decision: str) -> str:
        """Allow or decline a request; return the URL to redirect the browser to, "" for a device.

        The same decision posted again (a double-click) gets the same answer, so the code is not lost.
        """
        if decision not in ("allow", "decline"):
            raise blank("decision")
        if not request.decision:
            request.decision = decision
            request.location = self._allow(request, account) if decision == "allow" else self._decline(request)
        elif request.decision != decision:
            raise page_expired()
        return request.location

    def error(self, request: AuthorizationRequest, error: str, description: str = "") -> ErrorRedirect:
        fields = {"error": error, "error_description": Refused(400, error, description).description}
        return ErrorRedirect(self._location(request, fields, with_state=self._tenant.switches.state_with_errors))

    def _location(self, request: AuthorizationRequest, fields: dict[str, str], *, with_state: bool) -> str:
        if with_state and "state" in request.query:
            fields["state"] = request.query["state"]
        in_fragment = self._tenant.switches.response_mode == "fragment"
        separator = "#" if in_fragment else "&" if "?" in request.redirect_uri else "?"
        return f"{request.redirect_uri}{separator}{urlencode(fields, quote_via=quote, safe='')}"

    def _allow(self, request: AuthorizationRequest, account: Account) -> str:
        self._consents.setdefault(account.email, set()).update(request.scopes)
        scopes = tuple(scope for scope in request.scopes if scope not in self._tenant.switches.withhold)
        grant = Grant(account, scopes, self._integration)
        if request.device is not None:
            request.device.outcome = grant
            return ""
        expires_at = self._tenant.clock() + self._tenant.switches.code_expires_in
        code = self._tokens.new_code(Code(grant, request.redirect_uri, request.query, expires_at))
        return self._location(request, {"code": code}, with_state=True)

    def _decline(self, request: AuthorizationRequest) -> str:
        if request.device is not None:
            request.device.outcome = "access_denied"
            return ""
        return self.error(request, "access_denied").location

    def _keep(self, request: AuthorizationRequest) -> AuthorizationRequest:
        now = self._tenant.clock()
        self._requests = {k: r for k, r in self._requests.items() if now - r.created_at <= _REQUEST_SECONDS}
        self._requests[request.id] = request
        return request

    # Device grant (RFC 8628)

    def answer_device_request(self, form: Mapping[str, str]) -> Device:
        """Answer `POST /device/authorize`."""
        if form.get("client_id") != self._integration.client_id:
            raise Refused(400, gateway_description="Client Id is invalid")
        scopes = tuple(form.get("scope", "").split())
        if not scopes or not set(self._integration.scopes).issuperset(scopes):
            raise named("invalid_scope")
        device = Device(
            device_code=str(uuid.uuid4()),
            user_code="".join(secrets.choice(string.digits) for _ in range(6)),
            hashed_code=secrets.token_hex(32),
            scopes=scopes,
            expires_at=self._tenant.clock() + self._tenant.switches.device_expires_in,
            interval=self._tenant.switches.device_interval,
        )
        self._tenant.secrets.add(device.device_code)
        self._devices[device.device_code] = device
        return device

    def find_device(self, user_code: str) -> Device | None:
        """Return the undecided device with this user code or its hash."""
        for device in self._devices.values():
            if user_code in (device.user_code, device.hashed_code):
                return device if device.outcome is None and device.expires_at > self._tenant.clock() else None
        return None

    def answer_device_poll(self, form: Mapping[str, str], basic: tuple[str, str] | None) -> dict[str, object]:
        """Answer `POST /device/token`; with 428 before the decision."""
        self._tokens.check_client(*(basic or ("?", "")))  # a secret in the form is not accepted here
        now = self._tenant.clock()
        if form.get("grant_type") != DEVICE_GRANT:
            raise named("unsupported_grant_type")
        device = self._devices.get(form.get("device_code", ""))
        if device is None or device.outcome == "used" or form.get("client_id") != self._integration.client_id:
            raise named("invalid_grant", "The device code is invalid.")
        too_soon = device.polled_at is not None and now - device.polled_at < device.interval * 0.9
        device.polled_at = now
        if too_soon:
            device.interval += 5  # RFC 8628 §3.5
            raise named("slow_down")
        if isinstance(device.outcome, Grant):
            response = self._tokens.issue(device.outcome)
            device.outcome = "used"
            return response
        if device.outcome is not None:
            raise named(device.outcome)
        if device.expires_at <= now:
            raise named("expired_token")
        raise Refused(self._tenant.switches.pending_status, gateway_description="authorization_pending")


def page_expired() -> Refused:
    return Refused(400, "invalid_request", "This page has expired. Start the login again.")


def _pkce_problem(query: Mapping[str, str]) -> str:
    challenge, method = query.get("code_challenge", ""), query.get("code_challenge_method", "plain")
    if "code_challenge_method" in query and not challenge:
        return "Parameter:code_challenge is blank"
    if method not in ("S256", "plain"):
        return "The code_challenge_method is unknown."
    pattern = _S256_CHALLENGE if method == "S256" else VERIFIER
    return "The code_challenge is malformed." if challenge and not pattern.fullmatch(challenge) else ""
