"""A simulated Webex on this machine: for a first try without an account, for the demo, and for tests.

It is strict where Webex is strict, uses Webex's error texts, and misbehaves on request (`Switches`). It shares no code
with the rest of the package, so the same mistake cannot be on both sides.

    with Sandbox(switches=Switches(rotation=True)) as sandbox:
        os.environ.update(sandbox.environment())
        ...
        assert sandbox.count("refresh_token") == 1
"""

from .person import Person, Visit
from .registration import CLIENT_ID, CLIENT_SECRET, PORT, REDIRECT_URIS, SCOPES
from .request import Request
from .server import Sandbox
from .switches import FAULTS, Switches

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "FAULTS",
    "PORT",
    "REDIRECT_URIS",
    "SCOPES",
    "Person",
    "Request",
    "Sandbox",
    "Switches",
    "Visit",
]
