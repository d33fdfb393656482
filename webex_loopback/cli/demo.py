"""`demo`: a complete login against the sandbox; the user's own tokens and settings are not touched."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

import click
import httpx

from webex_loopback.login.browser import find
from webex_loopback.login.login import log_in
from webex_loopback.login.progress import Progress
from webex_loopback.private_file import write_private_file
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.source import TokenSource
from webex_loopback.wording import columns, printable, wrap

from .status import status
from .token import valid_token

_PYTHON = """\
import httpx
from webex_loopback import get_token
headers = {"Authorization": f"Bearer {get_token()}"}
print(httpx.get("https://webexapis.com/v1/people/me", headers=headers).json())"""


class _WithoutURL(Progress):
    """The display of a login that needs no action by the user."""

    def show_url(self, *_: object, **__: object) -> None: ...


@click.command()
@click.option("--no-browser", is_flag=True, help="Do not open a browser; simulate the user over HTTP.")
@click.pass_context
def demo(ctx: click.Context, no_browser: bool) -> None:
    """Show a complete login against the sandbox.

    Needs no account. Your own tokens and settings are not touched.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}/callback"
    # Windows cannot remove a lock file that is still open.
    folder = tempfile.TemporaryDirectory(prefix="webex-loopback-demo-", ignore_cleanup_errors=True)
    with Sandbox(redirect_uris=[uri]) as sandbox, folder as directory:
        for name in [name for name in os.environ if name.upper().startswith("WEBEX_")]:
            del os.environ[name]
        config = os.path.join(directory, "config.env")  # empty, so that the user's own file is not read
        write_private_file(config, b"")
        settings = {"WEBEX_LOOPBACK_HOME": directory, "WEBEX_CONFIG_FILE": config}
        # In English, as the demo itself is.
        settings |= {"WEBEX_SCOPES": "spark:people_read spark:messages_write", "WEBEX_LANG": "en"}
        os.environ |= sandbox.environment() | settings
        choice = find(os.environ)
        _head("1. Log in: webex-loopback login")
        if choice.argv is None or no_browser:
            reason = "--no-browser" if no_browser else printable(choice.reason)
            _tell(f"No browser ({reason}): the demo signs in over HTTP. Simulated Webex: {sandbox.origin}")
            log_in(open_browser=Person().visit, display=_WithoutURL())
        else:
            _tell(f"In the browser, choose an account and allow access. Simulated Webex: {sandbox.origin}")
            log_in()
        _head("2. Use the token: webex-loopback token")
        source = TokenSource()
        token = source.get_token()
        _tell(f"Token: {token[:24]}...")
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=sandbox.base_url, headers=headers, trust_env=False) as api:
            person = api.get("/people/me").raise_for_status().json()
            _tell(f"GET /people/me: {person['displayName']} <{person['emails'][0]}>")
            note = {"toPersonEmail": person["emails"][0], "text": "Hello from webex-loopback"}
            _tell(f"POST /messages: {api.post('/messages', json=note).raise_for_status().json()['text']}")
        _head("3. Renew it: webex-loopback token --refresh")
        valid_token(source, None, refresh=True)
        _head("4. Check it: webex-loopback status")
        ctx.invoke(status)
    _head("In Python:")
    click.echo(_PYTHON)
    _head("Try next:")
    click.echo("\n".join(f"{_command()} {name}" for name in ("init", "sandbox", "doctor")))


def _command() -> str:
    """Return how to type the command here: its virtual environment may not be activated."""
    quote = shlex.quote if os.name == "posix" else lambda text: subprocess.list2cmdline([text])
    return "webex-loopback" if shutil.which("webex-loopback") else f"{quote(sys.executable)} -m webex_loopback"


def _tell(text: str) -> None:
    click.echo(wrap(text, columns(sys.stdout)))


def _head(text: str) -> None:
    click.secho(f"\n{text}", bold=not os.environ.get("NO_COLOR"))
