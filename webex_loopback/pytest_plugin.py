"""Fixtures for the tests of projects that use webex-loopback: no account, no network, no secrets.

    def test_greeting(webex_profile):        # get_token() works, against a sandbox
        assert my_bot.greet() == 200

Nothing is imported, and nothing runs, until a test asks for a fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .sandbox import Sandbox
    from .token import StoredToken


class Clock:
    """A clock to move: the sandbox reads it, and a `TokenSource` that is given it (`clock=webex_clock`)."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def __call__(self) -> float:
        """Return epoch seconds, moved by what has been asked for."""
        import time

        return time.time() + self.offset_seconds

    def move(self, seconds: float) -> None:
        """Move the clock forward, or back where negative."""
        self.offset_seconds += seconds


@pytest.fixture
def webex_clock() -> Clock:
    """A clock that tests can move: `webex_clock.move(14 * 86_400)`."""
    return Clock()


@pytest.fixture
def webex_sandbox(webex_clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: "Path") -> "Iterator[Sandbox]":
    """A running sandbox; the environment names its Integration, and a state folder of the test's own."""
    import os
    import socket

    from .sandbox import Sandbox
    from .source import forget

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        redirect_uri = f"http://127.0.0.1:{probe.getsockname()[1]}/callback"
    for name in [name for name in os.environ if name.upper().startswith("WEBEX_")]:
        monkeypatch.delenv(name)
    # A file that exists, so that no config.env of the developer's, with a real token in it, is looked for.
    config = tmp_path / "webex-loopback.env"
    config.touch()
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(config))
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "webex-loopback"))
    with Sandbox(clock=webex_clock) as sandbox:
        sandbox.redirect_uris.append(redirect_uri)
        for name, value in sandbox.environment(redirect_uri).items():
            monkeypatch.setenv(name, value)
        forget()
        yield sandbox
        forget()


@pytest.fixture
def webex_profile(webex_sandbox: "Sandbox") -> "StoredToken":
    """The default profile, logged in at the sandbox by a person over HTTP: `get_token()` works in the test."""
    from .login import log_in
    from .sandbox import Person

    return log_in(open_browser=Person().visit).token
