"""The pages people see: sign-in, consent, device login, and the home page."""

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from . import pages
from .answers import Refused, tracking_id
from .authorization import AuthorizationRequest, Authorizations, page_expired
from .registration import ACCOUNTS, INTEGRATION, ORG_ID, Account, Tenant, find_account
from .request import Call, single

PATHS = frozenset(["/v1/authorize", "/v1/login", "/v1/consent", "/v1/device/verify"])


class SignIn:
    """Handlers of the pages."""

    def __init__(self, tenant: Tenant, authorizations: Authorizations) -> None:
        self._tenant = tenant
        self._authorizations = authorizations

    def home(self, call: Call) -> web.Response:
        integration, service_app = self._tenant.integration, self._tenant.service_app
        return self._page(
            call,
            "home",
            base_url=self._tenant.base_url,
            client_id=integration.client_id,
            redirect_uri=integration.redirect_uris[0] if integration.redirect_uris else "",
            authorization_url=integration.authorization_url(self._tenant.base_url),
            redirect_uris=[{"uri": uri} for uri in integration.redirect_uris],
            scopes=[{"scope": scope} for scope in integration.scopes],
            service_app_client_id=service_app.client_id,
            service_app_id=service_app.application_id,
            org_id=ORG_ID,
        )

    def authorize(self, call: Call) -> web.Response:
        query = single(call.http.query)
        browser = self._browser(call)
        request = self._authorizations.begin(query, browser)
        account = self._authorizations.sessions.get(browser)
        if query.get("prompt") == "none":
            if account is None:
                raise self._authorizations.error(request, "login_required", "The user is not logged in.")
            if not self._authorizations.has_consented(request, account):
                raise self._authorizations.error(request, "consent_required", "The user has to consent.")
            return redirect(self._authorizations.decide(request, account, "allow"))
        return self._next_page(call, request, select_account=query.get("prompt") == "select_account")

    def login(self, call: Call) -> web.Response:
        form = single(call.form)
        request = self._request(call, form)
        account = find_account(form.get("email", ""))
        if account is None:
            return self._login_page(call, request, form.get("email", ""), error=True)
        self._authorizations.sessions[request.browser] = account
        return redirect(f"/v1/consent?request={request.id}")

    def show_consent(self, call: Call) -> web.Response:
        request = self._request(call, call.http.query)
        if request.decision:  # the Back button after the decision
            raise page_expired()
        return self._consent_page(call, request, self._account(request))

    def consent(self, call: Call) -> web.Response:
        form = single(call.form)
        request = self._request(call, form)
        location = self._authorizations.decide(request, self._account(request), form.get("decision", ""))
        return redirect(location) if location else self._page(call, request.decision)

    def verify_device(self, call: Call) -> web.Response:
        browser = self._browser(call)
        typed = single(call.form).get("user_code", "")
        # `verification_uri_complete` has a hash of the code in its query.
        user_code = "".join(typed.split()) or call.http.query.get("userCode", "")
        device = self._authorizations.find_device(user_code) if user_code else None
        if device is None:
            return self._with_cookie(self._page(call, "device", typed=typed, error=bool(user_code)), browser)
        return self._next_page(call, self._authorizations.begin_device(device, browser))

    def refuse(self, call: Call, refused: Refused) -> web.Response:
        """Show an error that must not be redirected, in Webex's own (English) words."""
        status, tracking = refused.status, tracking_id()
        texts = {"title": refused.error or refused.message, "detail": refused.description}
        response = self._page(call, "error", **texts, status=status, tracking_id=tracking)
        response.set_status(status)
        response.headers["trackingId"] = tracking
        return response

    def _next_page(self, call: Call, request: AuthorizationRequest, *, select_account: bool = False) -> web.Response:
        account = self._authorizations.sessions.get(request.browser)
        if account is not None and not select_account:
            response = self._consent_page(call, request, account)
        else:
            hint = request.query.get("login_hint") or (account.email if account else "")
            response = self._login_page(call, request, hint)
        return self._with_cookie(response, request.browser)

    def _login_page(self, call: Call, request: AuthorizationRequest, hint: str, *, error: bool = False) -> web.Response:
        hint = hint.strip()
        accounts = [_shown(account) | {"hinted": account.email == hint.lower()} for account in ACCOUNTS]
        typed = "" if any(account["hinted"] for account in accounts) else hint
        return self._page(call, "login", request=request.id, accounts=accounts, typed=typed, error=error)

    def _consent_page(self, call: Call, request: AuthorizationRequest, account: Account) -> web.Response:
        described = [{"scope": s, "words": pages.describe_scope(s, call.language)} for s in request.scopes]
        values = {"integration": INTEGRATION, "scopes": described, "count": len(described), **_shown(account)}
        return self._page(call, "consent", request=request.id, **values)

    def _page(self, call: Call, page: str, **values: Any) -> web.Response:
        return web.Response(body=pages.render(page, call.language, **values).encode(), headers=pages.headers())

    def _request(self, call: Call, fields: Mapping[str, str]) -> AuthorizationRequest:
        return self._authorizations.find(fields.get("request", ""), self._browser(call))

    def _account(self, request: AuthorizationRequest) -> Account:
        account = self._authorizations.sessions.get(request.browser)
        if account is None:
            raise Refused(400, "invalid_request", "The user is not logged in.")
        return account

    def _browser(self, call: Call) -> str:
        return call.http.cookies.get(self._tenant.cookie) or secrets.token_urlsafe(24)

    def _with_cookie(self, response: web.Response, browser: str) -> web.Response:
        secure = self._tenant.base_url.startswith("https:")
        response.set_cookie(self._tenant.cookie, browser, path="/", httponly=True, samesite="Lax", secure=secure)
        return response


def _shown(account: Account) -> dict[str, Any]:
    return {"name": account.name, "email": account.email, "initial": account.name[:1].upper()}


def redirect(location: str) -> web.Response:
    # Not HTTPFound, which would quote the URL again: this one must arrive as it was registered.
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Location": location}
    return web.Response(status=302, headers=headers)
