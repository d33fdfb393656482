"""`python -m webex_loopback.sandbox`: runs the sandbox as a server, and prints how to use it."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, TextIO

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
    parser = _parser()
    options = parser.parse_args(argv)
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
        parser.error(str(error))
    with _until_signalled() as stop, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sandbox)
            if options.settings is not None:
                stack.enter_context(settings_file(options.settings, sandbox.environment()))
        except OSError as error:
            what = error.filename or f"{options.host}:{options.port}"
            hint = "another file with --settings" if error.filename else "another port with --port, or 0 for a free one"
            _write(sys.stderr, f"{parser.prog}: cannot use {what}: {error.strerror or error}\nChoose {hint}.\n")
            return 2
        settings = sandbox.environment()
        if not _is_terminal(sys.stdout):
            _write(sys.stdout, "".join(f"{name}={value}\n" for name, value in settings.items()))
        _write(sys.stderr, _guide(sandbox, settings))
        while not stop.wait(1):  # on Windows a wait without a timeout cannot be interrupted
            pass  # pragma: no cover - a second has passed
    return 0


def _guide(sandbox: Sandbox, settings: Mapping[str, str]) -> str:
    export = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in settings.items())
    quoted = {name: "'" + value.replace("'", "''") + "'" for name, value in settings.items()}
    powershell = "\n".join(f"$env:{name} = {value}" for name, value in quoted.items())
    guide = files(__package__).joinpath("guide.txt").read_text(encoding="utf-8")
    return guide.format(origin=sandbox.origin, export=export, powershell=powershell, url=sandbox.authorization_url)


@contextlib.contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    stop = threading.Event()
    previous: dict[int, Any] = {}
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    # Only the main thread can set handlers; other threads receive no signals.
    with contextlib.suppress(ValueError):
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            previous[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    switches = "\n".join(f"  {name} ({default}): {meaning}" for name, default, meaning in Switches.describe())
    faults = "\n".join(f"  {name}: {meaning}" for name, meaning in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="webex-loopback sandbox",
        description="Run a simulated Webex on this machine, to try the login without an account.",
        epilog=f"switches and their defaults:\n{switches}\n\nfaults:\n{faults}\n\n"
        "While the sandbox runs: GET or PATCH /_sandbox/switches, with Content-Type: application/json.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=int, default=PORT, help=f"port to listen on; 0 for a free one (default {PORT})")
    add("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    add("--expires-in", type=float, metavar="SECONDS", help="lifetime of access tokens")
    add("--refresh-token-expires-in", type=float, metavar="SECONDS", help="lifetime of refresh tokens")
    add("--rotate", dest="rotation", action=argparse.BooleanOptionalAction, help="return new refresh tokens")
    add("--latency", type=float, metavar="SECONDS", help="pause before a token request is processed")
    add("--fault", metavar="FAULT", help="fault of every token request; see below")
    add("--redirect-uri", action="append", metavar="URI", help="register only this redirect URI; repeatable")
    add("--scope", action="append", metavar="SCOPE", help="register only this scope; repeatable")
    add("--tls-cert", metavar="FILE", help="PEM certificate, to serve https")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate")
    add("--settings", metavar="FILE", help="also write the settings to a new file, deleted at the end")
    add("--switch", action="append", default=[], metavar="NAME=VALUE", help="set a switch; repeatable")
    return parser


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
