"""What has been granted: codes, devices, tokens, and the rules they follow. No network in here."""

import base64
import hashlib
import hmac
import json
import re
import secrets
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from .answers import Refused, blank, by_name, dead_refresh_token, wrong_client
from .registration import OPENID_SCOPES, ORGANIZATION, Account
from .switches import Switches

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_UNDECIDED_SECONDS = 600
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class ErrorRedirect(Exception):
    """An authorization request that is answered at its redirect URI, with an error (RFC 6749 §4.1.2.1)."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self.location = location


@dataclass(slots=True, eq=False)
class Device:
    """One device grant (RFC 8628), from its request to its tokens."""

    device_code: str = field(repr=False)
    user_code: str
    hashed_code: str
    scopes: tuple[str, ...]
    expires_at: float
    interval: float
    polled_at: float | None = None
    outcome: "Grant | str | None" = None  # a grant, "access_denied", "used"; None: not decided


@dataclass(slots=True, eq=False)
class AuthorizationRequest:
    """A request that a person has to decide on; `device` is set where it came from a device."""

    id: str
    browser: str = field(repr=False)  # cookie of the browser that began: no other may decide
    scopes: tuple[str, ...]
    created_at: float
    redirect_uri: str = ""
    state: str | None = None
    code_challenge: str = ""
    code_challenge_method: str = ""
    login_hint: str = ""
    device: Device | None = None


@dataclass(slots=True, eq=False)
class Grant:
    """What one decision gave; its tokens live and die together."""

    account: Account
    scopes: tuple[str, ...]
    revoked: bool = False
    access_token: "AccessToken | None" = None  # the latest


@dataclass(slots=True, eq=False)
class Code:
    """An authorization code and what it is bound to."""

    grant: Grant
    redirect_uri: str
    code_challenge: str
    code_challenge_method: str
    expires_at: float
    used: bool = False


@dataclass(slots=True, eq=False)
class AccessToken:
    """An access token; it stays valid when a refresh gives another."""

    value: str = field(repr=False)
    grant: Grant
    expires_at: float
    revoked: bool = False


@dataclass(slots=True, eq=False)
class RefreshToken:
    """A refresh token; `superseded` once it has been rotated away."""

    value: str = field(repr=False)
    grant: Grant
    expires_at: float
    superseded: bool = False


class Authority:
    """The state of the sandbox. Every method runs to its end on the event loop, so nothing can come between."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        redirect_uris: list[str],
        scopes: Sequence[str],
        switches: Switches,
        clock: Callable[[], float],
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.redirect_uris = redirect_uris
        self.scopes = scopes
        self.switches = switches
        self.clock = clock
        self.secrets = {client_secret}
        self.sessions: dict[str, Account] = {}  # by the browser's cookie
        self._consents: dict[str, set[str]] = {}  # by e-mail address: what prompt=none may grant again
        self._undecided: dict[str, AuthorizationRequest] = {}
        self._codes: dict[str, Code] = {}
        self._devices: dict[str, Device] = {}
        self._access_tokens: dict[str, AccessToken] = {}
        self._refresh_tokens: dict[str, RefreshToken] = {}

    # The authorization endpoint

    def begin_authorization(self, query: Mapping[str, str], browser: str) -> AuthorizationRequest:
        """Judge an authorization request and keep it until it is decided.

        Raises:
            Refused: Client or redirect URI cannot be trusted; shown on a page, never redirected.
            ErrorRedirect: Anything else that is wrong.
        """
        if not query.get("client_id"):
            raise blank("client_id")
        if query["client_id"] != self.client_id:
            raise Refused(400, "invalid_client", "Client Id is invalid")
        redirect_uri = query.get("redirect_uri") or ""
        if not redirect_uri and len(self.redirect_uris) == 1:
            redirect_uri = self.redirect_uris[0]
        if not redirect_uri:
            raise blank("redirect_uri")
        if redirect_uri not in self.redirect_uris:
            unregistered = f"The redirect_uri {redirect_uri} is not registered for this Integration."
            raise Refused(400, "invalid_request", unregistered)

        request = AuthorizationRequest(
            id=secrets.token_urlsafe(24),
            browser=browser,
            scopes=tuple(query.get("scope", "").split()),
            created_at=self.clock(),
            redirect_uri=redirect_uri,
            state=query.get("state"),
            code_challenge=query.get("code_challenge", ""),
            code_challenge_method=query.get("code_challenge_method", "plain"),
            login_hint=query.get("login_hint", ""),
        )
        if query.get("response_type") != "code":
            raise self.error_redirect(request, "unsupported_response_type", "The response_type must be code.")
        if not request.scopes or not OPENID_SCOPES.union(self.scopes).issuperset(request.scopes):
            raise self.error_redirect(request, "invalid_scope", "The requested scope is invalid.")
        if "code_challenge_method" in query and not request.code_challenge:
            raise self.error_redirect(request, "invalid_request", "Parameter:code_challenge is blank")
        if request.code_challenge_method not in ("S256", "plain"):
            raise self.error_redirect(request, "invalid_request", "The code_challenge_method is unknown.")
        if request.code_challenge and not _is_challenge(request):
            raise self.error_redirect(request, "invalid_request", "The code_challenge is malformed.")
        return self._keep(request)

    def begin_device(self, device: Device, browser: str) -> AuthorizationRequest:
        return self._keep(
            AuthorizationRequest(
                id=secrets.token_urlsafe(24),
                browser=browser,
                scopes=device.scopes,
                created_at=self.clock(),
                device=device,
            )
        )

    def undecided(self, request_id: str, browser: str) -> AuthorizationRequest:
        """Return a request that waits for a decision in this browser.

        Raises:
            Refused: It is not known, too old, decided, or another browser's.
        """
        request = self._undecided.get(request_id)
        if (
            request is None
            or self.clock() - request.created_at > _UNDECIDED_SECONDS
            or not hmac.compare_digest(request.browser.encode(), browser.encode())
        ):
            raise Refused(400, "invalid_request", "This page has expired. Start the login again.")
        return request

    def has_consented(self, request: AuthorizationRequest, account: Account) -> bool:
        return self._consents.get(account.email, set()).issuperset(request.scopes)

    def allow(self, request: AuthorizationRequest, account: Account) -> str:
        """Grant what was asked for; return where the browser goes now, "" for a device."""
        self._undecided.pop(request.id, None)
        self._consents.setdefault(account.email, set()).update(request.scopes)
        grant = Grant(account, tuple(s for s in request.scopes if s not in self.switches.withhold))
        if request.device is not None:
            request.device.outcome = grant
            return ""
        value = self._new_value()
        self._codes[value] = Code(
            grant,
            request.redirect_uri,
            request.code_challenge,
            request.code_challenge_method,
            self.clock() + self.switches.code_expires_in,
        )
        answer = {"code": value} if request.state is None else {"code": value, "state": request.state}
        return _with_query(request.redirect_uri, answer)

    def decline(self, request: AuthorizationRequest) -> str:
        """Refuse what was asked for; return where the browser goes now, "" for a device."""
        self._undecided.pop(request.id, None)
        if request.device is not None:
            request.device.outcome = "access_denied"
            return ""
        declined = "The resource owner denied the request."
        return self.error_redirect(request, "access_denied", declined).location

    def error_redirect(self, request: AuthorizationRequest, error: str, description: str) -> ErrorRedirect:
        self._undecided.pop(request.id, None)
        answer = {"error": error, "error_description": description}
        if request.state is not None and self.switches.state_with_errors:
            answer["state"] = request.state
        return ErrorRedirect(_with_query(request.redirect_uri, answer))

    # The token endpoint

    def token_response(self, form: Mapping[str, str], basic: tuple[str, str] | None) -> dict[str, object]:
        """Answer `POST /access_token`; credentials in the form, or by HTTP Basic.

        Raises:
            Refused: In Webex's words.
        """
        client_id, client_secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        if not client_id:
            raise blank("client_id")
        self.check_client(client_id, client_secret)
        match form.get("grant_type", ""):
            case "authorization_code":
                return self._exchange(form)
            case "refresh_token":
                return self._refresh(form)
            case "":
                raise blank("grant_type")
            case _:
                raise by_name("unsupported_grant_type", "The grant_type is not supported.")

    def check_client(self, client_id: str, client_secret: str) -> None:
        """Compare the credentials.

        Raises:
            Refused: They are wrong.
        """
        right = f"{self.client_id}:{self.client_secret}"
        if not hmac.compare_digest(f"{client_id}:{client_secret}".encode(), right.encode()):
            raise wrong_client(self.switches.wrong_secret)

    def _exchange(self, form: Mapping[str, str]) -> dict[str, object]:
        for name in ("code", "redirect_uri"):
            if not form.get(name):
                raise blank(name)
        code = self._codes.get(form["code"])
        dead = Refused(
            400, "invalid_grant", "The authorization code provided is expired, revoked, malformed, or invalid."
        )
        if code is None or code.expires_at <= self.clock():
            raise dead
        if code.used:
            # RFC 6749 §4.1.2: whoever sends a code twice, one of the two was a thief.
            code.grant.revoked = code.grant.revoked or self.switches.code_reuse_revokes
            raise dead
        if self.switches.tokenlimit_reached:
            raise by_name("tokenlimit_reached", "The limit of access tokens for this account is reached.")
        code.used = True
        if form["redirect_uri"] != code.redirect_uri:
            mismatch = "The redirect_uri does not match the authorization request."
            raise Refused(400, "invalid_grant", mismatch)
        if not _verifies(form.get("code_verifier", ""), code):
            raise Refused(400, "invalid_grant", "The code_verifier does not match the code_challenge.")
        return self._new_tokens(code.grant)

    def _refresh(self, form: Mapping[str, str]) -> dict[str, object]:
        switches, now = self.switches, self.clock()
        if not form.get("refresh_token"):
            raise blank("refresh_token")
        if switches.dead_refresh_token:
            raise dead_refresh_token(switches.dead_refresh_token)
        token = self._refresh_tokens.get(form["refresh_token"])
        if token is None or token.grant.revoked or token.expires_at <= now:
            raise dead_refresh_token(switches.rejection)
        if token.superseded:
            token.grant.revoked = switches.reuse_detection
            raise dead_refresh_token(switches.rejection)
        if switches.tokenlimit_reached:
            raise by_name("tokenlimit_reached", "The limit of access tokens for this account is reached.")

        until = now + switches.refresh_token_expires_in if switches.refresh_renews else token.expires_at
        if switches.rotation:
            token.superseded = True
            token = self._new_refresh_token(token.grant, until)
        else:
            token.expires_at = until
        access = token.grant.access_token
        if not switches.same_token or access is None or access.revoked or access.expires_at <= now:
            access = self._new_access_token(token.grant)
        return self._response(access, token)

    def revoke(self, value: str) -> None:
        """End a token: a refresh token with all access tokens of its grant, an access token alone."""
        if refresh_token := self._refresh_tokens.get(value):
            refresh_token.grant.revoked = True
        elif access_token := self._access_tokens.get(value):
            access_token.revoked = True

    def find_access_token(self, value: str) -> AccessToken:
        """Return a valid access token.

        Raises:
            Refused: 401, with the same text whatever is wrong with it.
        """
        token = self._access_tokens.get(value)
        if token is None or token.revoked or token.grant.revoked or token.expires_at <= self.clock():
            raise Refused(401)
        return token

    # The device grant (RFC 8628)

    def new_device(self, form: Mapping[str, str]) -> Device:
        """Answer `POST /device/authorize`.

        Raises:
            Refused: In Webex's words.
        """
        if form.get("client_id") != self.client_id:
            raise Refused(400, description="Client Id is invalid")
        scopes = tuple(form.get("scope", "").split())
        if not scopes or not set(self.scopes).issuperset(scopes):
            raise by_name("invalid_scope", "The requested scope is invalid.")
        device = Device(
            device_code=str(uuid.uuid4()),
            user_code="".join(secrets.choice(string.digits) for _ in range(6)),
            hashed_code=secrets.token_hex(32),
            scopes=scopes,
            expires_at=self.clock() + self.switches.device_expires_in,
            interval=self.switches.device_interval,
        )
        self.secrets.add(device.device_code)
        self._devices[device.device_code] = device
        return device

    def find_device(self, user_code: str) -> Device | None:
        """Return the undecided device with this user code, or with this hash of one."""
        for device in self._devices.values():
            if user_code in (device.user_code, device.hashed_code):
                return device if device.outcome is None and device.expires_at > self.clock() else None
        return None

    def device_token_response(self, form: Mapping[str, str]) -> dict[str, object]:
        """Answer `POST /device/token`, the client being known.

        Raises:
            Refused: Among them 428, not decided yet.
        """
        now = self.clock()
        if form.get("grant_type") != DEVICE_GRANT:
            raise by_name("unsupported_grant_type", "The grant_type is not supported.")
        device = self._devices.get(form.get("device_code", ""))
        if device is None or device.outcome == "used" or form.get("client_id") != self.client_id:
            raise by_name("invalid_grant", "The device code is invalid.")
        too_soon = device.polled_at is not None and now - device.polled_at < device.interval * 0.9
        device.polled_at = now
        if too_soon:
            device.interval += 5  # RFC 8628 §3.5
            raise by_name("slow_down", "The client polls too fast.")
        if isinstance(device.outcome, Grant):
            if self.switches.tokenlimit_reached:
                raise by_name("tokenlimit_reached", "The limit of access tokens for this account is reached.")
            grant, device.outcome = device.outcome, "used"
            return self._new_tokens(grant)
        if device.outcome is not None:
            raise by_name(device.outcome, "The resource owner denied the request.")
        if device.expires_at <= now:
            raise by_name("expired_token", "The device code has expired.")
        raise Refused(self.switches.pending_status, gateway_description="authorization_pending")

    def _keep(self, request: AuthorizationRequest) -> AuthorizationRequest:
        now = self.clock()
        for old in [r for r in self._undecided.values() if now - r.created_at > _UNDECIDED_SECONDS]:
            del self._undecided[old.id]
        self._undecided[request.id] = request
        return request

    def _new_tokens(self, grant: Grant) -> dict[str, object]:
        refresh = self._new_refresh_token(grant, self.clock() + self.switches.refresh_token_expires_in)
        return self._response(self._new_access_token(grant), refresh)

    def _new_access_token(self, grant: Grant) -> AccessToken:
        value = self._new_jwt(grant) if self.switches.token_style == "jwt" else self._new_value()
        token = AccessToken(value, grant, self.clock() + self.switches.expires_in)
        self._access_tokens[value] = grant.access_token = token
        return token

    def _new_refresh_token(self, grant: Grant, expires_at: float) -> RefreshToken:
        token = RefreshToken(self._new_value(), grant, expires_at)
        self._refresh_tokens[token.value] = token
        return token

    def _response(self, access: AccessToken, refresh: RefreshToken) -> dict[str, object]:
        now = self.clock()
        response = {
            "scope": " ".join(access.grant.scopes),
            "expires_in": round(access.expires_at - now),
            "token_type": "Bearer",
            "refresh_token": refresh.value,
            "refresh_token_expires_in": round(refresh.expires_at - now),
            "access_token": access.value,
        }
        response |= self.switches.extra
        return {name: value for name, value in response.items() if name not in self.switches.omit}

    def _new_value(self) -> str:
        # 64 characters, the base64 of 48 of ASCII; the cluster; the organization: 106 in all, as Webex's.
        text = str(uuid.uuid4()) + secrets.token_hex(6)
        value = f"{base64.b64encode(text.encode()).decode()}_SB01_{ORGANIZATION}"
        self.secrets.add(value)
        return value

    def _new_jwt(self, grant: Grant) -> str:
        claims = {"sub": grant.account.person_id, "org": ORGANIZATION, "private": secrets.token_hex(450)}
        parts = [json.dumps({"alg": "none", "typ": "JWT"}), json.dumps(claims), secrets.token_hex(32)]
        value = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
        self.secrets.add(value)
        return value


def _is_challenge(request: AuthorizationRequest) -> bool:
    if request.code_challenge_method == "S256":
        return re.fullmatch(r"[A-Za-z0-9_-]{43}", request.code_challenge) is not None
    return _VERIFIER.fullmatch(request.code_challenge) is not None


def _verifies(code_verifier: str, code: Code) -> bool:
    if not code.code_challenge:
        return not code_verifier  # RFC 9700 §2.1.1: a verifier without a challenge is a downgrade
    if not _VERIFIER.fullmatch(code_verifier):
        return False
    challenge = code_verifier
    if code.code_challenge_method == "S256":
        digest = hashlib.sha256(code_verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return hmac.compare_digest(challenge, code.code_challenge)


def _with_query(uri: str, answer: Mapping[str, str]) -> str:
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(answer, quote_via=quote, safe='')}"
