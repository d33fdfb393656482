"""Browsers for logins in tests: functions to pass as `open_browser`."""

import contextlib
import http.client
import queue
import socket
from concurrent.futures import Future
from urllib.parse import parse_qsl, urlsplit

import pytest

from webex_loopback.login.login import LoginResult, log_in
from webex_loopback.sandbox import Person, Visit
from webex_loopback.webex import worker


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


def begin(profile: str = "") -> "tuple[Future[LoginResult], str]":
    """Begin a login; return it, and the URL that the browser is to open."""
    urls: queue.Queue[str] = queue.Queue()
    login = worker.start(lambda: log_in(profile or None, open_browser=urls.put))
    return login, urls.get(timeout=10)


def nobody(url: str) -> None:
    """A browser that must not be opened."""
    pytest.fail("A browser was opened.")


def start(url: str) -> dict[str, str]:
    """Open a start URL; return the fields of the authorization request that it leads to."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("GET", urlsplit(url).path)
    with connection.getresponse() as response:
        return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def can_listen(uri: str, host: str = "127.0.0.1") -> bool:
    """Whether a redirect URI's port is free at an address; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, urlsplit(uri).port or 0))
        return True
    return False
