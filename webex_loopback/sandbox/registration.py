"""The registrations in the sandbox: an Integration, a Service App, an organization, a few people. All are fake."""

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from .switches import Switches

_DATA = json.loads(files(__package__).joinpath("registration.json").read_text(encoding="utf-8"))

PORT = 8780
INTEGRATION: str = _DATA["integration"]
CLIENT_ID = "C" + "0123456789abcdef" * 4
CLIENT_SECRET = "fedcba9876543210" * 4
# Compared character by character, as Webex does: no wildcards, no other port, and localhost is not 127.0.0.1.
REDIRECT_URIS: tuple[str, ...] = tuple(_DATA["redirect_uris"])
SCOPES: tuple[str, ...] = tuple(_DATA["scopes"])
# Can be requested without registration. The sandbox grants them but issues no id_token.
OPENID_SCOPES: frozenset[str] = frozenset(_DATA["openid_scopes"])
ROOMS: list[dict[str, Any]] = _DATA["rooms"]
ORGANIZATION = "a1b2c3d4-5e6f-4a0b-8c1d-0123456789ab"


def webex_id(kind: str, identifier: str) -> str:
    """Return the ID that Webex's API shows for an object: unpadded base64url."""
    return base64.urlsafe_b64encode(f"ciscospark://us/{kind}/{identifier}".encode()).decode().rstrip("=")


ORG_ID = webex_id("ORGANIZATION", ORGANIZATION)


@dataclass(frozen=True, slots=True)
class Account:
    """A user, or the machine account of the Service App."""

    email: str
    name: str
    kind: str = "person"

    @property
    def person_id(self) -> str:
        return webex_id("PEOPLE", str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{self.email}")))

    def as_person(self) -> dict[str, object]:
        """Return the answer of `GET /people/me`; as in Webex's specification, some booleans are strings."""
        first, _, last = self.name.partition(" ")
        names = {"displayName": self.name, "nickName": first, "firstName": first, "lastName": last}
        identity: dict[str, object] = {
            "id": self.person_id,
            "emails": [self.email],
            "userName": self.email,
            "orgId": ORG_ID,
        }
        return {**identity, **names, **_DATA["person"], "type": self.kind}


ACCOUNTS = tuple(Account(**person) for person in _DATA["people"])
MACHINE_ACCOUNT = Account(**_DATA["machine_account"])


def find_account(email: str) -> Account | None:
    """Return the user with this email address; every well-formed address belongs to one."""
    email = email.strip().lower()
    for account in ACCOUNTS:
        if account.email == email:
            return account
    local, at, domain = email.partition("@")
    if not (local and at and "." in domain) or any(c.isspace() or c == "@" for c in local + domain):
        return None
    return Account(email, local.replace(".", " ").title())


@dataclass(slots=True, eq=False)
class Client:
    """An OAuth client: the Integration or the Service App."""

    client_id: str
    client_secret: str = field(repr=False)
    scopes: list[str]
    redirect_uris: list[str] = field(default_factory=list)

    @property
    def application_id(self) -> str:
        return webex_id("APPLICATION", self.client_id)

    def registered(self, *scopes: str) -> list[str]:
        """Return those of the scopes that are registered, or all registered scopes if none of them is."""
        return [scope for scope in scopes if scope in self.scopes] or list(self.scopes)

    def authorization_url(self, base_url: str) -> str:
        """Return the URL that the developer portal would show for this Integration."""
        scopes = self.registered("spark:people_read", "spark:rooms_read", "spark:messages_write", "spark:kms")
        query = {
            "client_id": self.client_id,
            "response_type": "code",
            "redirect_uri": self.redirect_uris[0] if self.redirect_uris else "",
            "scope": " ".join(scopes),
            "state": "set_state_here",
        }
        return f"{base_url}/authorize?{urlencode(query, quote_via=quote, safe='')}"


def new_service_app() -> Client:
    return Client("C" + "89abcdef01234567" * 4, "76543210fedcba98" * 4, list(_DATA["service_app_scopes"]))


@dataclass(slots=True, eq=False)
class Tenant:
    """State that all parts of one sandbox share."""

    integration: Client
    service_app: Client
    switches: Switches
    clock: Callable[[], float]
    secrets: set[str] = field(default_factory=set, repr=False)  # issued or received so far
    base_url: str = ""  # known when the port is bound
    cookie: str = ""  # cookies are shared between ports, so every sandbox on this host needs its own name

    def find_client(self, client_id: str) -> Client | None:
        return next((c for c in (self.integration, self.service_app) if c.client_id == client_id), None)
