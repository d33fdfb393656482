"""Which scope a request to the Webex API needs, for what a 403 means."""

import re

from webex_loopback.paths import login_command
from webex_loopback.tokens.record import StoredToken

# Start of the path, and the scope for GET; for other methods with `_write` instead of `_read`, if it ends so.
_SCOPES = {
    "applications/": "spark:applications_token",
    "authorizations": "identity:tokens_read",
    "contents/": "spark:messages_read",
    "devices": "spark:devices_read",
    "locations": "spark-admin:locations_read",
    "meetingInvitees": "meeting:schedules_read",
    "meetingParticipants": "meeting:participants_read",
    "meetingPreferences": "meeting:preferences_read",
    "meetingTranscripts": "meeting:transcripts_read",
    "meetings/controls": "meeting:controls_read",
    "meetings": "meeting:schedules_read",
    "memberships": "spark:memberships_read",
    "messages": "spark:messages_read",
    "organizations": "spark-admin:organizations_read",
    "people": "spark:people_read",
    "recordings": "meeting:recordings_read",
    "rooms": "spark:rooms_read",
    "team/memberships": "spark:team_memberships_read",
    "teams": "spark:teams_read",
    "telephony/config": "spark-admin:telephony_config_read",
    "telephony/calls": "spark:calls_read",
    "xapi/command": "spark:xapi_commands",
    "xapi/status": "spark:xapi_statuses",
}


def needed_scope(method: str, path: str) -> str:
    """Return the scope that a request needs, or "" if it is not known; `path` is relative to the API base URL."""
    path = path.lstrip("/").partition("?")[0]
    found = next((start for start in _SCOPES if f"{path}/".startswith(f"{start.rstrip('/')}/")), "")
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
        return f"The token probably lacks the scope {scope}. Put one that has it into WEBEX_ACCESS_TOKEN."
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
