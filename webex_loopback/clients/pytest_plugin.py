"""Fixtures for the tests of projects that use webex-loopback: no account, no network, no secrets.

pytest loads this file wherever webex-loopback is installed, so the rest of the package is imported by the fixtures.
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from webex_loopback.sandbox import Sandbox
    from webex_loopback.tokens.record import StoredToken


class Clock:
    """A clock in epoch seconds that tests can move forward or back. For the sandbox and `TokenSource(clock=...)`."""

    offset_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_seconds

    def move(self, seconds: float) -> None:
        self.offset_seconds += seconds


@pytest.fixture
def webex_clock() -> Clock:
    """A clock that tests can move: `webex_clock.move(14 * 86_400)`."""
    return Clock()


@pytest.fixture
def webex_sandbox(webex_clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Iterator[Sandbox]":
    """A running sandbox. The environment holds its settings and an empty data directory for this test."""
    from webex_loopback.sandbox import Sandbox
    from webex_loopback.tokens.source import forget

    with socket.create_server(("127.0.0.1", 0)) as probe:
        redirect_uri = f"http://127.0.0.1:{probe.getsockname()[1]}/callback"
    for name in [name for name in os.environ if name.upper().startswith("WEBEX_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "webex-loopback.env"  # empty; without it, the developer's config.env would be read
    config.touch(mode=0o600)
    settings = {"WEBEX_CONFIG_FILE": str(config), "WEBEX_LOOPBACK_HOME": str(tmp_path / "webex-loopback")}
    with Sandbox(clock=webex_clock) as sandbox:
        sandbox.redirect_uris.append(redirect_uri)
        for name, value in (sandbox.environment(redirect_uri) | settings).items():
            monkeypatch.setenv(name, value)
        forget()
        yield sandbox
        forget()


@pytest.fixture
def webex_profile(webex_sandbox: "Sandbox") -> "StoredToken":
    """The default profile, logged in to the sandbox: `get_token()` works in the test."""
    from webex_loopback.login.login import log_in
    from webex_loopback.sandbox import Person

    return log_in(open_browser=Person().visit).token
