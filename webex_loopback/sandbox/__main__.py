"""`python -m webex_loopback.sandbox`: the sandbox as a server of its own, and the settings to use it."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .endpoints import Request
from .registration import PORT, REDIRECT_URIS, SCOPES
from .server import Sandbox
from .switches import FAULTS, Switches


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return 0 then, 2 where the port cannot be had.

    stdout gets the settings, in the form of `config.env`; stderr gets a line per request, without values.
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
    with _until_signalled() as stop:
        try:
            sandbox.start()
        except OSError as error:
            sys.stderr.write(f"{parser.prog}: cannot serve on {options.host}:{options.port}: {error.strerror}\n")
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                sys.stderr.write("Choose another port with --port, or 0 for any that is free.\n")
            return 2
        try:
            sys.stdout.write(f"# The sandbox is at {sandbox.origin}/ ; these settings use it:\n")
            sys.stdout.writelines(f"{name}={value}\n" for name, value in sandbox.environment().items())
            if options.tls_cert:
                sys.stdout.write("# and WEBEX_CA_BUNDLE=<PEM file of the certificate's authority>, if need be\n")
            sys.stdout.flush()
            if options.settings:
                with open(options.settings, "w", encoding="utf-8") as file:
                    file.writelines(f"{name}={value}\n" for name, value in sandbox.environment().items())
            while not stop.wait(1):  # a wait without an end cannot be interrupted on Windows
                pass  # pragma: no cover - a second has passed
        finally:
            sandbox.stop()
            if options.settings:
                with contextlib.suppress(OSError):
                    os.unlink(options.settings)
    return 0


@contextlib.contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    stop = threading.Event()
    previous: dict[signal.Signals, Any] = {}
    # In a thread that is not the main one Python takes no handlers, and nobody sends it signals.
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
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
        description="A small Webex on this machine: try the login without an account.",
        epilog=f"switches, with their defaults:\n{switches}\n\nfaults:\n{faults}\n\n"
        "While it runs: GET or PATCH /_sandbox/switches, with Content-Type: application/json.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=int, default=PORT, help=f"port to serve on; 0 for any (default {PORT})")
    add("--host", default="127.0.0.1", help="loopback address to serve on (default 127.0.0.1)")
    add("--expires-in", type=float, metavar="SECONDS", help="lifetime of access tokens")
    add("--refresh-token-expires-in", type=float, metavar="SECONDS", help="lifetime of refresh tokens")
    add("--rotate", action=argparse.BooleanOptionalAction, help="a refresh gives a new refresh token")
    add("--latency", type=float, metavar="SECONDS", help="pause before a token request is processed")
    add("--fault", metavar="FAULT", help="what happens to every token request; see below")
    add("--redirect-uri", action="append", metavar="URI", help="register this one only; repeatable")
    add("--scope", action="append", metavar="SCOPE", help="register this one only; repeatable")
    add("--tls-cert", metavar="FILE", help="PEM certificate: serve https")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate")
    add("--settings", metavar="FILE", help="write the settings to a file too, as long as it runs")
    add("--switch", action="append", default=[], metavar="NAME=VALUE", help="set a switch; repeatable")
    return parser


def _switches(options: argparse.Namespace) -> Switches:
    switches = Switches()
    flags = {
        "expires_in": options.expires_in,
        "refresh_token_expires_in": options.refresh_token_expires_in,
        "rotation": options.rotate,
        "latency": options.latency,
        "fault": options.fault,
    }
    switches.update({name: value for name, value in flags.items() if value is not None})
    switches.update(dict(Switches.parse(assignment) for assignment in options.switch))
    return switches


def _tls(options: argparse.Namespace) -> tuple[str, str] | None:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ValueError("--tls-cert and --tls-key go together")
    return (options.tls_cert, options.tls_key) if options.tls_cert else None


def _log(request: Request) -> None:
    moment = time.strftime("%H:%M:%S", time.localtime(request.at))
    grant = f" {request.grant_type}" if request.grant_type.isidentifier() else ""
    outcome = request.status or "dropped"
    sys.stderr.write(f"{moment} {request.method} {request.path}{grant} {outcome}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
