"""What our other stores need: a PostgreSQL server, and a keyring in a D-Bus session of its own."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.tokens.postgres import running_server

KEYRING = (
    "printf password | gnome-keyring-daemon --unlock --components=secrets; echo $DBUS_SESSION_BUS_ADDRESS; exec cat"
)


@contextlib.contextmanager
def available(folder: str) -> Iterator[dict[str, dict[str, str]]]:
    """Give the environment for each store; the command fails, with a reason, if a store is not available."""
    with contextlib.ExitStack() as stack:
        kinds = {"file": {"WEBEX_TOKEN_STORE": "file"}, "keyring": {"WEBEX_TOKEN_STORE": "keyring"}}
        with contextlib.suppress(FileNotFoundError):
            kinds["keyring"] |= stack.enter_context(_keyring(folder))
        try:
            url = stack.enter_context(running_server()).url()
        except (pytest.skip.Exception, pytest.fail.Exception):
            url = "postgresql://127.0.0.1:9/none"
        yield kinds | {"postgresql": {"WEBEX_TOKEN_STORE": url}}


@contextlib.contextmanager
def _keyring(folder: str) -> Iterator[dict[str, str]]:
    places = {"XDG_RUNTIME_DIR": folder, "XDG_DATA_HOME": folder}
    command = ["dbus-run-session", "--", "sh", "-c", KEYRING]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=os.environ | places, text=True) as session:
        assert session.stdout is not None
        yield places | {"DBUS_SESSION_BUS_ADDRESS": session.stdout.readline().strip()}
        session.communicate()  # ends cat, and with it the session
