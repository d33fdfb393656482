"""`exec`: run a command with the access token in its environment."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import click

from webex_loopback.tokens.source import TokenSource
from webex_loopback.wording import printable

from .app import profile_option, say, span
from .token import valid_token


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@profile_option
@click.option("--min-validity", type=span, metavar="TIME", help="Renew first if less than this is left: 7d, 12h, 30m.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARGS]...")
def execute(profile: str | None, min_validity: float | None, command: tuple[str, ...]) -> int:
    """Run a command with WEBEX_ACCESS_TOKEN set.

    \b
    webex-loopback exec -- python my_bot.py

    Signals and the exit code are passed on.
    """
    if not command[0]:
        raise click.UsageError("The command is empty. Is a variable unset?")
    source = TokenSource(profile)
    environ = os.environ | {"WEBEX_ACCESS_TOKEN": valid_token(source, min_validity)}
    environ.pop("WEBEX_ACCESS_TOKEN_FILE", None)  # the command would refuse to choose between the two
    stored = None if source.from_environment() else source.stored()
    if stored is not None and stored.api_base_url:
        environ["WEBEX_API_BASE_URL"] = stored.api_base_url  # the token is sent nowhere else
    try:
        if sys.platform == "win32":
            return run_and_wait(command, environ)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], command, environ)  # noqa: S606 - no shell
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "command not found" if missing and not shutil.which(command[0]) else error.strerror
        say(f"{printable(command[0])}: {why}", "red")
        return 127 if missing else 126


def run_and_wait(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command as on Windows: found by PATH and PATHEXT, and left to handle Ctrl-C. Return its exit code."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "command not found")
    if os.path.dirname(program) == os.curdir and not os.path.dirname(command[0]):
        # Windows looks there before PATH, and a cloned repository may hold a python.bat.
        raise FileNotFoundError(errno.ENOENT, f"not run from the current directory; to do that, type {program}")
    line: str | list[str] = [program, *command[1:]]
    executable = None
    if program.lower().endswith((".bat", ".cmd")):
        line = batch_line(program, command[1:])
        executable = os.path.join(environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "cmd.exe")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = subprocess.run(line, executable=executable, env=environ, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code - (1 << 32) if code >= 1 << 31 else code  # sys.exit(0xC0000005) would exit with 0xFFFFFFFF


def batch_line(program: str, arguments: Sequence[str]) -> str:
    """Return a command line with which cmd.exe runs a batch file with exactly these arguments.

    Left to CreateProcess, `&` or `%` in an argument would run or expand something (CVE-2024-24576). The quoting is
    that of Rust's standard library: all in quotes, `"` doubled, and an empty expansion before each `%`.
    """
    if any(set(argument) & set("\r\n\0") for argument in arguments):
        raise click.UsageError("An argument of a batch file cannot contain a line break.")
    quoted = (re.sub(r'(\\*)("|$)', r"\1\1\2\2", text).replace("%", "%%cd:~,%") for text in (program, *arguments))
    return f"""cmd.exe /e:ON /v:OFF /d /c "{" ".join(f'"{text}"' for text in quoted)}\""""
