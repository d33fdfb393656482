"""The Integration that is registered here, and the people who can log in. All of it is public and fake."""

import base64
import uuid
from dataclasses import dataclass

PORT = 8780
CLIENT_ID = "C" + "0123456789abcdef" * 4
CLIENT_SECRET = "fedcba9876543210" * 4
INTEGRATION = "Sandbox Integration"

# Compared character for character, as Webex does: no wildcard, no other port, localhost is not 127.0.0.1.
REDIRECT_URIS = (
    "http://127.0.0.1:8765/callback",
    "http://localhost:8765/callback",
    "http://127.0.0.1:8766/callback",
    "http://localhost:8766/callback",
    "https://127.0.0.1:8443/callback",
    "https://localhost:8443/callback",
    "https://127.0.0.1/",
    "https://localhost/",
    "http://127.0.0.1",
    "https://oauth-helper-a.wbx2.com/helperservice/v1/actions/device/callback",
    "https://oauth-helper-r.wbx2.com/helperservice/v1/actions/device/callback",
    "https://oauth-helper-k.wbx2.com/helperservice/v1/actions/device/callback",
    "https://oauth-helper-d.wbx2.com/helperservice/v1/actions/device/callback",
)

SCOPES = (
    "spark:all",
    "spark:kms",
    "spark:people_read",
    "spark:people_write",
    "spark:rooms_read",
    "spark:rooms_write",
    "spark:messages_read",
    "spark:messages_write",
    "spark:memberships_read",
    "spark:memberships_write",
    "spark:teams_read",
    "spark:calls_read",
    "spark:devices_read",
    "spark:xapi_statuses",
    "spark:xapi_commands",
    "meeting:schedules_read",
    "meeting:schedules_write",
    "meeting:participants_read",
    "meeting:recordings_read",
    "meeting:transcripts_read",
    "spark-admin:people_read",
    "spark-admin:people_write",
    "spark-admin:locations_read",
    "spark-admin:organizations_read",
    "spark-admin:telephony_config_read",
    "spark-admin:telephony_config_write",
)

# Asked for without being registered. The sandbox grants them but issues no id_token.
OPENID_SCOPES = frozenset(["openid", "email", "profile", "phone", "address"])

ORGANIZATION = "a1b2c3d4-5e6f-4a0b-8c1d-0123456789ab"


@dataclass(frozen=True, slots=True)
class Account:
    """A person of this Webex."""

    email: str
    name: str

    @property
    def person_id(self) -> str:
        return _webex_id("PEOPLE", str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{self.email}")))

    def as_person(self) -> dict[str, object]:
        """Answer of `GET /people/me`, keys as in Webex's specification; some values are strings there too."""
        first, _, last = self.name.partition(" ")
        return {
            "id": self.person_id,
            "emails": [self.email],
            "phoneNumbers": [{"type": "work", "value": "+1 408 555 0100"}],
            "displayName": self.name,
            "nickName": first,
            "firstName": first,
            "lastName": last,
            "userName": self.email,
            "orgId": _webex_id("ORGANIZATION", ORGANIZATION),
            "created": "2026-01-05T09:00:00.000Z",
            "lastModified": "2026-11-02T09:00:00.000Z",
            "timezone": "Asia/Tokyo",
            "status": "active",
            "invitePending": "false",
            "loginEnabled": "true",
            "type": "person",
        }


ACCOUNTS = (
    Account("alex.morgan@example.com", "Alex Morgan"),
    Account("hanako.yamada@example.com", "山田 花子"),
)


def find_account(email: str) -> Account | None:
    """Return the person with this address; any address makes a person, None is for what is none."""
    email = email.strip().lower()
    for account in ACCOUNTS:
        if account.email == email:
            return account
    local, at, domain = email.partition("@")
    if not (local and at and "." in domain) or any(c.isspace() or c == "@" for c in local + domain):
        return None
    return Account(email, local.replace(".", " ").title())


def _webex_id(kind: str, identifier: str) -> str:
    return base64.urlsafe_b64encode(f"ciscospark://us/{kind}/{identifier}".encode()).decode().rstrip("=")
