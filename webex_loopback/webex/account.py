"""Whose token it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from webex_loopback.wording import printable


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a machine account; any part may be empty."""

    name: str = ""
    email: str = ""
    id: str = ""

    @classmethod
    def from_person(cls, person: Mapping[str, object]) -> Self:
        """Read the answer of `GET /people/me`, made safe to print."""
        emails = person.get("emails")
        values = (person.get("displayName"), emails[0] if isinstance(emails, list) and emails else "", person.get("id"))
        return cls(*(printable(value) if isinstance(value, str) else "" for value in values))
