"""What a 401 or a 403 of the Webex API means, and which scope a request needs."""

import re

from webex_loopback.errors import LoginRequired, TokenEndpointError
from webex_loopback.paths import login_command
from webex_loopback.tokens.record import StoredToken

# Start of the path, and the scope for GET; for other methods with `_write` instead of `_read`, if it ends so.
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
    wanted = " ".join(dict.fromkeys([*filter(re.compile(r"[\w:.-]+").fullmatch, stored.scopes_requested), scope]))
    command = login_command(profile, "--scopes", f'"{wanted}"', "--force")
    return f"The token does not have the scope {scope}. Select it on the Integration, then run `{command}`."


def explained(
    error: TokenEndpointError, method: str, path: str, stored: StoredToken | None, profile: str
) -> TokenEndpointError | LoginRequired:
    """Return the error of a request with what to do about a 401 or 403; `stored` is None for WEBEX_ACCESS_TOKEN."""
    if error.status_code == 401 and stored is not None:
        command = stored.login_command(profile, "--force")
        return LoginRequired(f"Webex rejected the access token. {error}", remedy=f"Run `{command}`.")
    if error.status_code == 401:
        error.remedy = "Set WEBEX_ACCESS_TOKEN to another token, or unset it."
    elif error.status_code == 403:
        error.remedy = explain_403(method, path, stored, profile) or error.remedy
    return error
