"""`webex-loopback demo`: the whole of it on one screen, against a sandbox; nothing of the person's is touched."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .sandbox import Sandbox
    from .token import StoredToken

PROFILE = "demo"


def show(*, no_browser: bool = False) -> None:
    """Log in at a sandbox, call `people/me`, refresh, show the status, and say how to go on.

    Raises:
        WebexLoopbackError: What a real login would raise.
    """
    from .sandbox import Sandbox

    with Sandbox() as sandbox, _apart(sandbox):
        _show(sandbox, no_browser)


@contextmanager
def _apart(sandbox: "Sandbox") -> Iterator[None]:
    """Put the sandbox's settings and a state folder of its own into the environment, and then what was there back."""
    from .source import forget

    port = _free_port()
    uri = f"http://127.0.0.1:{port}/callback"
    sandbox.redirect_uris.append(uri)
    saved = {name: os.environ[name] for name in _our_names()}
    with tempfile.TemporaryDirectory(prefix="webex-loopback-demo-") as folder:
        for name in saved:
            del os.environ[name]
        # A file that exists, so that no config.env of the person's is looked for.
        config = os.path.join(folder, "config.env")
        with open(config, "w", encoding="utf-8"):
            pass
        os.environ.update(sandbox.environment(uri), WEBEX_LOOPBACK_HOME=folder, WEBEX_CONFIG_FILE=config)
        forget()
        try:
            yield
        finally:
            for name in _our_names():
                del os.environ[name]
            os.environ.update(saved)
            forget()


def _show(sandbox: "Sandbox", no_browser: bool) -> None:
    from .browser import find
    from .login import log_in
    from .sandbox import Person
    from .session import who_is
    from .source import TokenSource

    choice = find(os.environ)
    by_hand = choice.argv is not None and not no_browser
    _head("1. A sandbox: a small Webex on this machine")
    click.echo(f"   {sandbox.base_url}")
    _head("2. webex-loopback login")
    if by_hand:
        click.echo("   Your browser opens on the sandbox's pages: choose anybody, then allow.\n")
    else:
        why = "--no-browser" if no_browser else choice.reason
        click.echo(f"   No browser is opened ({why}).")
        click.echo("   This demo plays the person's part over HTTP: it signs in, and allows.\n")
    result = log_in(PROFILE, open_browser=True if by_hand else Person().visit)
    source = TokenSource(PROFILE)
    account = who_is(source)
    _head("3. GET /people/me, with the token")
    click.echo(f"   {account.name} <{account.email}>")
    _head("4. A forced refresh")
    before = source.get_token()
    after = source.refresh()
    changed = "a new access token" if after != before else "the same access token"
    click.echo(f"   {changed}; the sandbox counted {sandbox.count('refresh_token')} refresh")
    _head("5. webex-loopback status")
    _status(source.stored() or result.token, result.path)
    _head("Go on, in Python")
    click.echo("   from webex_loopback import get_token")
    click.echo('   headers = {"Authorization": f"Bearer {get_token()}"}')
    click.echo('   httpx.get("https://webexapis.com/v1/people/me", headers=headers)')
    command = _command()
    click.echo(f"\n   With your own Integration: {command} init, then {command} login.")
    click.echo("   This demo's tokens were kept in a temporary folder, which is gone now.")


def _status(token: "StoredToken", path: str) -> None:
    from rich.console import Console

    from .report import printed, table

    console = Console(highlight=False, width=None if os.isatty(1) else 120)
    for line in printed(console, table(PROFILE, token, path, time.time())):
        click.echo(f"   {line}")


def _command() -> str:
    """Return how the command is to be typed here: it may be in a virtual environment that is not switched on."""
    import shutil
    import sys

    if shutil.which("webex-loopback"):
        return "webex-loopback"
    return os.path.relpath(os.path.join(os.path.dirname(sys.executable), "webex-loopback"))


def _head(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=not os.environ.get('NO_COLOR'))}")


def _our_names() -> list[str]:
    return [name for name in os.environ if name.upper().startswith("WEBEX_")]  # settings are read without case


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
