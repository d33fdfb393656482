"""`python -m webex_loopback.sandbox`: runs the sandbox as a server, and prints how to use it."""

import argparse
import contextlib
import functools
import os
import queue
import shlex
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NoReturn, TextIO

from .registration import PORT, REDIRECT_URIS, SCOPES
from .request import Request
from .server import Sandbox
from .settings_file import settings_file
from .switches import FAULTS, Switches

_FLAGS = ("expires_in", "refresh_token_expires_in", "rotation", "latency", "fault")  # options named like the switch


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return 0 then, 2 if the sandbox cannot start.

    stdout gets the settings in the form of `config.env`; if it is a terminal, the guide on stderr shows them instead.
    stderr also gets a line per request, without values.
    """
    command = parser()
    options = command.parse_args(argv)
    try:
        sandbox = Sandbox(
            switches=_switches(options),
            port=options.port,
            host=options.host,
            tls=_tls(options),
            redirect_uris=options.redirect_uri or REDIRECT_URIS,
            scopes=options.scope or SCOPES,
            on_request=_log,
        )
    except ValueError as error:
        command.error(str(error))
    with _until_signalled() as stop, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sandbox)
            if options.settings is not None:
                stack.enter_context(settings_file(options.settings, sandbox.environment()))
        except OSError as error:
            what = error.filename or f"{options.host}:{options.port}"
            why = str(error.strerror or error).rpartition("): ")[2]  # without the socket's address once more
            hint = "another file with --settings" if error.filename else "another port with --port, or 0 for a free one"
            _write(sys.stderr, f"{command.prog}: cannot use {what}: {why}\n  Choose {hint}.\n")
            return 2
        settings = sandbox.environment()
        if not _is_terminal(sys.stdout):
            _write(sys.stdout, "".join(f"{name}={value}\n" for name, value in settings.items()))
        _write(sys.stderr, _guide(sandbox, settings))
        while True:
            with contextlib.suppress(queue.Empty):
                stop.get(timeout=1)  # on Windows a wait without a timeout cannot be interrupted
                break
    _write(sys.stderr, "\nStopped.\n")  # the terminal has echoed ^C
    return 0


def _guide(sandbox: Sandbox, settings: Mapping[str, str]) -> str:
    export = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in settings.items())
    quoted = {name: "'" + value.replace("'", "''") + "'" for name, value in settings.items()}
    powershell = "\n".join(f"$env:{name} = {value}" for name, value in quoted.items())
    guide = files(__package__).joinpath("guide.txt").read_text(encoding="utf-8")
    return guide.format(origin=sandbox.origin, export=export, powershell=powershell, url=sandbox.authorization_url)


@contextlib.contextmanager
def _until_signalled() -> Iterator["queue.SimpleQueue[int]"]:
    stop: queue.SimpleQueue[int] = queue.SimpleQueue()  # Event.set() in a handler deadlocks with the Event.wait() below
    previous: dict[int, Any] = {}
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    # Only the main thread can set handlers; other threads receive no signals.
    with contextlib.suppress(ValueError):
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGINT:
                continue  # nohup's stays ignored; a script's background job may still be ended with `kill -INT`
            previous[number] = signal.signal(number, lambda number, _: stop.put(number))
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    """Reports errors as the other commands do: without the usage, with the command that shows it."""

    def error(self, message: str) -> NoReturn:
        text = textwrap.fill(f"{self.prog}: {message}", _width(), break_on_hyphens=False)
        self.exit(2, f"{text}\n  Run `{self.prog} --help` for usage.\n")


class _Help(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: str | None, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


def parser(width: int | None = None) -> argparse.ArgumentParser:
    """Return the parser of the options; its help has lines of at most `width` characters, by default the terminal's."""
    width = width or _width()
    switches = [f"  {name} ({default}): {meaning}" for name, default, meaning in Switches.describe()]
    faults = [f"  {name}: {meaning}" for name, meaning in FAULTS.items()]
    over_http = ["While the sandbox runs: GET or PATCH /_sandbox/switches", "(Content-Type: application/json)."]
    epilog = ["Switches and their defaults:", *switches, "", "Faults:", *faults, "", *over_http]
    fill = functools.partial(textwrap.fill, width=width, subsequent_indent="      ", break_on_hyphens=False)
    new = _Parser(
        prog="webex-loopback sandbox",
        usage="%(prog)s [OPTIONS]",
        description="  Run a simulated Webex on this machine, to try the login without an account.",
        epilog="\n".join(map(fill, epilog)),
        formatter_class=functools.partial(_Help, width=width, max_help_position=26),
        allow_abbrev=False,
        add_help=False,
    )
    add = new.add_argument_group("Options").add_argument
    add("--port", type=int, default=PORT, help=f"Port to listen on; 0 for a free one. Default: {PORT}.")
    add("--host", default="127.0.0.1", help="Loopback address to listen on. Default: 127.0.0.1.")
    add("--expires-in", type=float, metavar="SECONDS", help="Lifetime of access tokens.")
    add("--refresh-token-expires-in", type=float, metavar="SECONDS", help="Lifetime of refresh tokens.")
    add("--rotate", dest="rotation", action=argparse.BooleanOptionalAction, help="Return new refresh tokens.")
    add("--latency", type=float, metavar="SECONDS", help="Pause before a token request is processed.")
    add("--fault", metavar="FAULT", help="Make every token request fail like this; see below.")
    add("--redirect-uri", action="append", metavar="URI", help="Register only this redirect URI; repeatable.")
    add("--scope", action="append", metavar="SCOPE", help="Register only this scope; repeatable.")
    add("--tls-cert", metavar="FILE", help="PEM certificate, to serve https.")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate.")
    add("--settings", metavar="FILE", help="Also write the settings to a new file, deleted at the end.")
    add("--switch", action="append", default=[], metavar="NAME=VALUE", help="Set a switch; see below. Repeatable.")
    add("-h", "--help", action="help", help="Show this message and exit.")
    return new


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100) - 2


def _switches(options: argparse.Namespace) -> Switches:
    switches = Switches()
    flags = {name: getattr(options, name) for name in _FLAGS if getattr(options, name) is not None}
    switches.update(flags | dict(Switches.parse(assignment) for assignment in options.switch))
    return switches


def _tls(options: argparse.Namespace) -> tuple[str, str] | None:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ValueError("--tls-cert and --tls-key must be used together")
    for path in filter(None, (options.tls_cert, options.tls_key)):
        if not os.path.isfile(path):
            raise ValueError(f"{path} is not a file")
    return (options.tls_cert, options.tls_key) if options.tls_cert else None


def _log(request: Request) -> None:
    moment = time.strftime("%H:%M:%S", time.localtime(request.at))
    grant = f" {request.grant_type}" if request.grant_type.isidentifier() else ""
    _write(sys.stderr, f"{moment} {request.method} {request.path}{grant} {request.status or 'dropped'}\n")


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _write(stream: TextIO | None, text: str) -> None:
    """Write at once; a closed pipe or terminal does not stop the sandbox."""
    with contextlib.suppress(OSError, ValueError):
        if stream is not None:
            stream.write(text)
            stream.flush()


if __name__ == "__main__":
    sys.exit(main())
