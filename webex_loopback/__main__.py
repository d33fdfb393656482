"""Entry point of the command line; prints a valid stored token without importing the rest of the package."""

import os
import sys
from time import time

from webex_loopback.errors import WebexLoopbackError
from webex_loopback.tokens.quick_look import config_mentions_us
from webex_loopback.tokens.source import TokenSource

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing
if TYPE_CHECKING:
    from types import ModuleType


def main() -> int:
    """Run the command line; return the exit code."""
    # Closed (`>&-`) or absent (pythonw.exe): every write would fail on None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if sys.platform == "win32":  # "\r" would become part of $(webex-loopback token)
        getattr(sys.stdout, "reconfigure", lambda **_: None)(newline="\n")
    try:
        if token := _stored_token(sys.argv[1:]):
            sys.stdout.write(f"{token}\n")
            sys.stdout.flush()
            return 0
        return int(_app().main(sys.argv[1:]))
    except OSError as error:
        return int(_app().output_failed(error))
    except KeyboardInterrupt:
        return 130


def _stored_token(arguments: list[str]) -> str:
    """Return the token that `token [--profile NAME]` prints if it is stored and not due for renewal, otherwise ""."""
    named = len(arguments) == 3 and arguments[1] in ("--profile", "-p") and arguments[2] != ""
    if arguments[:1] != ["token"] or not (named or len(arguments) == 1):
        return ""
    try:
        if config_mentions_us():
            return ""  # the full command warns in the user's language
        source = TokenSource(arguments[2] if named else None)
        found = source._from_file(time())
        return source._environment_token() or (found[0] if found else "")
    except WebexLoopbackError:
        return ""  # the full command reports it


def _app() -> "ModuleType":
    from webex_loopback.cli import app

    return app


if __name__ == "__main__":
    sys.exit(main())
