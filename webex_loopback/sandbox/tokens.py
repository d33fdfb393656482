"""Codes, tokens, and their rules. Uses no network and never waits."""

import base64
import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from .answers import Refused, blank, dead_refresh_token, named, require, wrong_client
from .registration import MACHINE_ACCOUNT, ORG_ID, ORGANIZATION, Account, Client, Tenant

VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_DEAD_CODE = "The authorization code provided is expired, revoked, malformed, or invalid."


@dataclass(slots=True, eq=False)
class Grant:
    """The result of one decision. Its tokens are revoked together."""

    account: Account
    scopes: tuple[str, ...]
    client: Client
    revoked: bool = False
    access_token: "Token | None" = None  # the latest


@dataclass(slots=True, eq=False)
class Code:
    """An authorization code and what it is bound to."""

    grant: Grant
    redirect_uri: str
    query: Mapping[str, str] = field(repr=False)  # of the authorization request
    expires_at: float
    used: bool = False


@dataclass(slots=True, eq=False)
class Token:
    """An access token, which stays valid after a refresh, or a refresh token."""

    value: str = field(repr=False)
    grant: Grant
    expires_at: float
    superseded: bool = False  # a rotated refresh token, a revoked access token


class Tokens:
    """Everything issued so far. Methods raise `Refused` with Webex's answer."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._codes: dict[str, Code] = {}
        self._access_tokens: dict[str, Token] = {}
        self._refresh_tokens: dict[str, Token] = {}

    def new_code(self, code: Code) -> str:
        value = self._new_value()
        self._codes[value] = code
        return value

    def check_client(self, client_id: str, client_secret: str) -> Client:
        """Return the client with these credentials."""
        if not client_id:
            raise blank("client_id")
        client = self._tenant.find_client(client_id)
        right = client.client_secret if client else secrets.token_hex()
        if not client or not hmac.compare_digest(client_secret.encode(), right.encode()):
            raise wrong_client(self._tenant.switches.wrong_secret)
        return client

    def answer_token_request(self, form: Mapping[str, str], basic: tuple[str, str] | None) -> dict[str, object]:
        """Answer `POST /access_token`; the credentials are in the form or in HTTP Basic."""
        client = self.check_client(*(basic or (form.get("client_id", ""), form.get("client_secret", ""))))
        require(form, "grant_type")
        match form["grant_type"]:
            case "authorization_code":
                return self._exchange(form, client)
            case "refresh_token":
                return self._refresh(form, client)
        raise named("unsupported_grant_type")

    def answer_application_token_request(
        self, application_id: str, fields: Mapping[str, object], bearer: str
    ) -> dict[str, object]:
        """Answer `POST /applications/{id}/token`, which has no `scope` in its response.

        Source: `createServiceAppAccessToken` in public-spec/webex-admin.json of webex/webex-openapi-specs.
        """
        service_app = self._tenant.service_app
        self.authorize(bearer, "spark:applications_token")
        if application_id != service_app.application_id:
            raise Refused(404, gateway_description="Service App not found")
        require(fields, "clientId", "clientSecret", "targetOrgId")
        if self.check_client(str(fields["clientId"]), str(fields["clientSecret"])) is not service_app:
            raise wrong_client(self._tenant.switches.wrong_secret)
        if fields["targetOrgId"] not in (ORG_ID, ORGANIZATION):
            raise Refused(400, gateway_description="The provided targetOrgId is invalid")
        if not self._tenant.switches.service_app_authorized:
            raise Refused(403, gateway_description="Service App not authorized by Full Admin in Control Hub")
        response = self.issue(Grant(MACHINE_ACCOUNT, tuple(service_app.scopes), service_app))
        return {name: value for name, value in response.items() if name != "scope"}

    def issue(self, grant: Grant) -> dict[str, object]:
        """Return a token response with a new access token and a new refresh token."""
        if self._tenant.switches.tokenlimit_reached:
            raise named("tokenlimit_reached")
        refresh = self._new_refresh_token(grant, self._tenant.clock() + self._tenant.switches.refresh_token_expires_in)
        return self._response(self._new_access_token(grant), refresh)

    def authorize(self, bearer: str, *scopes: str) -> Token:
        """Return a valid access token with one of the scopes, or with any if none is named."""
        token = self._access_tokens.get(bearer)
        if token is None or not self.is_alive(bearer):
            raise Refused(401)  # the same text whatever is wrong with it
        if scopes and not set(scopes).intersection(token.grant.scopes):
            raise Refused(403)
        return token

    def is_alive(self, value: str) -> bool:
        token = self._access_tokens.get(value) or self._refresh_tokens.get(value)
        dead = token is None or token.superseded or token.grant.revoked or token.expires_at <= self._tenant.clock()
        return not dead

    def revoke(self, value: str) -> None:
        """Revoke a token: a refresh token with all access tokens of its grant, an access token alone."""
        if refresh_token := self._refresh_tokens.get(value):
            refresh_token.grant.revoked = True
        elif access_token := self._access_tokens.get(value):
            access_token.superseded = True

    def _exchange(self, form: Mapping[str, str], client: Client) -> dict[str, object]:
        require(form, "code", "redirect_uri")
        code = self._codes.get(form["code"])
        if code is None or code.expires_at <= self._tenant.clock() or code.grant.client is not client:
            raise Refused(400, "invalid_grant", _DEAD_CODE)
        if code.used:
            # RFC 6749 §4.1.2: one of the two requests came from an attacker.
            code.grant.revoked = code.grant.revoked or self._tenant.switches.code_reuse_revokes
            raise Refused(400, "invalid_grant", _DEAD_CODE)
        if self._tenant.switches.tokenlimit_reached:
            raise named("tokenlimit_reached")
        code.used = True
        if form["redirect_uri"] != code.redirect_uri:
            raise Refused(400, "invalid_grant", "The redirect_uri does not match the authorization request.")
        if not _verifies(form.get("code_verifier", ""), code):
            raise Refused(400, "invalid_grant", "The code_verifier does not match the code_challenge.")
        return self.issue(code.grant)

    def _refresh(self, form: Mapping[str, str], client: Client) -> dict[str, object]:
        switches, now = self._tenant.switches, self._tenant.clock()
        require(form, "refresh_token")
        if switches.dead_refresh_token:
            raise dead_refresh_token(switches.dead_refresh_token)
        token = self._refresh_tokens.get(form["refresh_token"])
        if token is None or token.grant.revoked or token.expires_at <= now or token.grant.client is not client:
            raise dead_refresh_token(switches.rejection)
        if token.superseded:
            token.grant.revoked = switches.reuse_detection  # RFC 9700 §4.14.2
            raise dead_refresh_token(switches.rejection)
        if switches.tokenlimit_reached:
            raise named("tokenlimit_reached")
        expires_at = now + switches.refresh_token_expires_in if switches.refresh_renews else token.expires_at
        if switches.rotation:
            token.superseded = True
            token = self._new_refresh_token(token.grant, expires_at)
        token.expires_at = expires_at
        access = token.grant.access_token
        if not switches.same_token or access is None or access.superseded or access.expires_at <= now:
            access = self._new_access_token(token.grant)
        return self._response(access, token)

    def _new_access_token(self, grant: Grant) -> Token:
        switches = self._tenant.switches
        token = Token(self._new_value(switches.token_style), grant, self._tenant.clock() + switches.expires_in)
        self._access_tokens[token.value] = grant.access_token = token
        return token

    def _new_refresh_token(self, grant: Grant, expires_at: float) -> Token:
        token = Token(self._new_value(), grant, expires_at)
        self._refresh_tokens[token.value] = token
        return token

    def _response(self, access: Token, refresh: Token) -> dict[str, object]:
        switches, now = self._tenant.switches, self._tenant.clock()
        end = "\n" if switches.token_style == "newline" else ""
        response = {
            "scope": " ".join(access.grant.scopes),
            "expires_in": round(access.expires_at - now),
            "token_type": "Bearer",
            "refresh_token": refresh.value + end,
            "refresh_token_expires_in": round(refresh.expires_at - now),
            "access_token": access.value + end,
        }
        return {name: value for name, value in (response | switches.extra).items() if name not in switches.omit}

    def _new_value(self, style: str = "webex") -> str:
        if style == "jwt":
            claims = {"org": ORGANIZATION, "private": secrets.token_hex(450)}
            parts = [json.dumps({"alg": "none", "typ": "JWT"}), json.dumps(claims), secrets.token_hex(32)]
            value = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
        else:
            # As Webex's: base64 of 48 ASCII characters, the cluster, the organization; 106 characters in all.
            text = str(uuid.uuid4()) + secrets.token_hex(4500 if style == "long" else 6)
            value = f"{base64.b64encode(text.encode()).decode()}_SB01_{ORGANIZATION}"
        self._tenant.secrets.add(value)
        return value


def _verifies(code_verifier: str, code: Code) -> bool:
    challenge = code.query.get("code_challenge", "")
    if not challenge:
        return not code_verifier  # RFC 9700 §2.1.1: a verifier without a challenge indicates a downgrade
    if not VERIFIER.fullmatch(code_verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).decode().rstrip("=")
    expected = digest if code.query.get("code_challenge_method") == "S256" else code_verifier
    return hmac.compare_digest(challenge, expected)
