"""Browsers for logins in tests: functions to pass as `open_browser`."""

import http.client
import queue
import socket
from urllib.parse import parse_qs, urlsplit

import pytest

from webex_loopback.sandbox import Person, Visit


class Visitor:
    """A person whose visits can be inspected afterwards."""

    def __init__(self, **person: str) -> None:
        self.person = Person(**person)  # type: ignore[arg-type]
        self.visits: queue.Queue[Visit] = queue.Queue()

    def __call__(self, url: str) -> None:
        self.visits.put(self.person.visit(url))

    @property
    def visit(self) -> Visit:
        return self.visits.get(timeout=10)


class Elsewhere(Person):
    """A person whose browser cannot reach this machine: it shows the URL that fails."""

    def _fetch(self, url: str, form: dict[str, str] | None, visited: list[str]) -> tuple[int, dict[str, str], str]:
        try:
            return super()._fetch(url, form, visited)
        except OSError:
            return 0, {}, ""


def nobody(url: str) -> None:
    """A browser that must not be opened."""
    pytest.fail("A browser was opened.")


def start(url: str) -> tuple[dict[str, str], str]:
    """Open a start URL; return the fields of the authorization request that it leads to, and the cookie."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request("GET", parts.path)
    with connection.getresponse() as response:
        location, cookie = response.headers["Location"], response.headers["Set-Cookie"].partition(";")[0]
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}, cookie


def can_bind(uri: str) -> bool:
    """Whether a redirect URI's port is free again; connections in TIME_WAIT do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", urlsplit(uri).port or 0)) != 0
