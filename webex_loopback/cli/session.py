"""A profile's token, a client of its API, and what a 401 or a 403 from that API means."""

import re

from webex_loopback.errors import LoginRequired, TokenEndpointError
from webex_loopback.paths import profile_name
from webex_loopback.secret import Secret
from webex_loopback.settings import load
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.service_app import login_with_scope
from webex_loopback.tokens.source import TokenSource
from webex_loopback.tokens.token_request import client_for
from webex_loopback.webex.client import Webex

# Start of the path, and the scope for GET; for other methods, a final `_read` becomes `_write`.
_SCOPES = {
    **{name: f"spark:{name}_read" for name in ("devices", "memberships", "messages", "people", "rooms", "teams")},
    "applications": "spark:applications_token",
    "contents": "spark:messages_read",
    "locations": "spark-admin:locations_read",
    "meetingParticipants": "meeting:participants_read",
    "meetingTranscripts": "meeting:transcripts_read",
    "meetings": "meeting:schedules_read",
    "organizations": "spark-admin:organizations_read",
    "recordings": "meeting:recordings_read",
    "team/memberships": "spark:team_memberships_read",
    "telephony/config": "spark-admin:telephony_config_read",
    "telephony/calls": "spark:calls_read",
    "xapi/command": "spark:xapi_commands",
    "xapi/status": "spark:xapi_statuses",
}


class Session:
    """What `api` and `whoami` need; `stored` is None for the token of WEBEX_ACCESS_TOKEN, which cannot be renewed."""

    def __init__(self, profile: str | None) -> None:
        self._source, self.profile = TokenSource(profile), profile_name(profile)
        origin = self._source.from_environment()
        self.token, self._renewed = Secret(self._source.get_token()), bool(origin)
        self.stored = None if origin else self._source.stored()
        if self.stored is not None:
            self.webex = client_for(self.stored, self.profile)
        else:
            settings = load()
            settings.check_destinations(origin, "WEBEX_ACCESS_TOKEN")
            self.webex = Webex.of(settings)

    def renew(self) -> bool:
        """Renew a rejected token, but only once per command; return whether there is another one now."""
        before, renewed, self._renewed = self.token, self._renewed, True
        if not renewed:
            self.token = Secret(self._source.refresh(rejected=before.get_secret_value()))
        return self.token != before

    def explained(self, error: TokenEndpointError, method: str, path: str) -> TokenEndpointError | LoginRequired:
        """Return the error of a request, with what to do about a 401 or 403."""
        if error.status_code == 401 and self.stored is not None:
            command = self.stored.login_command(self.profile, "--force")
            return LoginRequired(f"Webex rejected the access token. {error}", remedy=f"Run `{command}`.")
        if error.status_code == 401:
            error.remedy = "Set WEBEX_ACCESS_TOKEN to another token, or unset it."
        elif error.status_code == 403:
            error.remedy = explain_403(method, path, self.stored, self.profile) or error.remedy
        return error


def needed_scope(method: str, path: str) -> str:
    """Return the scope that a request needs, or "" if it is not known; `path` is relative to the API base URL."""
    path = path.lstrip("/").partition("?")[0]
    found = next((start for start in _SCOPES if f"{path}/".startswith(f"{start}/")), "")
    scope = _SCOPES.get(found, "")
    if method in ("GET", "HEAD"):
        return scope
    if found == "people":
        return "spark-admin:people_write"
    return re.sub("_read$", "_write", scope)


def explain_403(method: str, path: str, stored: StoredToken | None, profile: str) -> str:
    """Say what a 403 means and what to do, or "" if that is not known; `stored` is None for WEBEX_ACCESS_TOKEN."""
    scope = needed_scope(method, path)
    if not scope:
        return ""
    if stored is None:
        return f"The token probably lacks the scope {scope}. Set WEBEX_ACCESS_TOKEN to a token that has it."
    covered = scope.startswith("spark:") and "spark:all" in stored.granted
    if scope in stored.granted or covered:
        return (
            f"The token has the scope {scope}. The user probably lacks a role or a license, or access to this object."
        )
    if stored.service_app is not None:
        again = "have an administrator authorize it again in Control Hub"
        command = stored.login_command(profile, "--force")
        return f"It probably needs the scope {scope}. Select it on the Service App, {again}, then run `{command}`."
    command = login_with_scope(profile, stored.scopes_requested, scope)
    return f"The token does not have the scope {scope}. Select it on the Integration, then run `{command}`."
