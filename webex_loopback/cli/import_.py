"""`import`: import tokens that another tool has obtained."""

import sys
import time

import click

from webex_loopback.login.adopt import adopt
from webex_loopback.login.paste import terminal
from webex_loopback.oauth.token_response import MalformedToken
from webex_loopback.paths import profile_name
from webex_loopback.tokens.move import move_login
from webex_loopback.wording import printable

from .app import profile_option, say
from .formats import read
from .interview import ask_lines
from .login import describe
from .request import read_file

_LARGEST = 1 << 20


@click.command("import")
@profile_option
@click.argument("file", required=False)
@click.option("--from-store", metavar="STORE", help="Move the login from this store to the configured one.")
@click.option("--force", is_flag=True, help="Replace the profile's login, if it has one.")
def import_(profile: str | None, file: str | None, from_store: str | None, force: bool) -> None:
    """Import tokens that you already have.

    FILE (default: standard input) is a token response in JSON, as Postman shows it, a Postman environment, or the yml
    file of wxc_sdk. Client ID and secret, which a renewal needs, are taken from FILE or from the settings. The tokens
    are checked with Webex before anything is replaced.

    With --from-store, STORE is file, keyring or a postgresql:// URL, and the login moves from there into the store that
    WEBEX_TOKEN_STORE names. It is removed from the old store once the new one has it.
    """
    if from_store is not None:
        if file is not None or not from_store:
            raise click.UsageError("--from-store STORE cannot be combined with FILE.")
        token, old, new = move_login(profile, from_store, force=force)
        describe(profile, token, "moved")
        say(f"  Moved from {printable(str(old), 4096)} to {printable(str(new), 4096)}.")
        return
    file, name = file or "-", profile_name(profile)
    if file == "-" and terminal(sys.stdin) is not None:
        say(f"Paste the tokens, press Enter, then {'Ctrl-Z and Enter' if sys.platform == 'win32' else 'Ctrl-D'}.")
        data = ask_lines().encode(errors="replace")
    else:
        data = read_file(file, _LARGEST)
    try:
        imported = read(data, time.time())
    except MalformedToken as error:
        raise click.UsageError(f"{'Standard input' if file == '-' else printable(file)} {error}.") from None
    say(f"Found {imported.kind}.")
    describe(name, adopt(name, imported, force=force), "imported")
