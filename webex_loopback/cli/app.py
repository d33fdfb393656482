"""The command group: imports a command when it is called, prints errors, and returns exit codes.

stdout carries a command's answer only; messages for people go to stderr.
"""

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import textwrap
from importlib import import_module
from typing import IO, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from webex_loopback import __version__
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.paths import profiles
from webex_loopback.texts import translated
from webex_loopback.wording import columns, language, parse_duration, printable, without_tokens, wrap

# In the order in which users need them: module and function, and a help text that needs no import.
COMMANDS = {
    "init": ("init.init", "Create config.env: client ID, secret, scopes, redirect URI."),
    "login": ("login.login", "Log in to Webex and save the tokens."),
    "logout": ("login.logout", "Remove the profile's tokens from this machine."),
    "status": ("status.status", "Show the account, lifetimes and scopes of a login."),
    "token": ("token.token", "Print a valid access token."),
    "api": ("api.api", "Send a request to the Webex API and print the response."),
    "whoami": ("api.whoami", "Ask Webex which account the token belongs to."),
    "exec": ("execute.execute", "Run a command with WEBEX_ACCESS_TOKEN set."),
    "import": ("import_.import_", "Import tokens from Postman, wxc_sdk or a token response."),
    "doctor": ("doctor.doctor", "Check settings, network, browser, files and tokens."),
    "sandbox": ("sandbox.sandbox", "Run a simulated Webex on this machine."),
    "demo": ("demo.demo", "Show a complete login against the sandbox; needs no account."),
    "completion": ("app.completion", "Print a shell completion script."),
}
RETIRED = {
    "profile": "use `webex-loopback status --all` to list the logins, `webex-loopback logout -p NAME` to remove one, "
    "`webex-loopback login -p TARGET` instead of copying one.",
    "refresh": "use `webex-loopback token --refresh`; in a timer, `webex-loopback token` renews the token when due.",
    "export": "use `webex-loopback token --format token-response`, or another --format.",
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is called (click's documentation, "Lazily Loading Subcommands")."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in RETIRED:
            retired(ctx, cmd_name, RETIRED[cmd_name])
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name][0].split(".")
        return getattr(import_module(f"{__package__}.{module}"), function)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def retired(ctx: click.Context, name: str, advice: str) -> None:
    """Name the replacement of a command or option of version 1, and exit with 2."""
    say(f"`{name}` was removed in version 2: {advice}")
    ctx.exit(2)


# click compares a mistyped command with the keys of `commands`.
@click.group(
    cls=_LazyGroup,
    commands=dict.fromkeys(COMMANDS, click.Command(None)),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", "-V", message="webex-loopback %(version)s")
@click.option("--debug", is_flag=True, help="Log each step, and the traceback of an error, to stderr; without secrets.")
def cli(debug: bool) -> None:
    """OAuth tokens for a Webex Integration: log in once in the browser, then use them from any program.

    Exit codes: 0 success, 1 other error, 2 wrong setting or option, 3 login required, 4 login failed, 5 Webex
    or network error, 6 token store error, 130 Ctrl-C.
    """


def _not_empty(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value == "":  # `-p "$NAME"` with NAME unset must not mean the default profile
        raise click.BadParameter("The name is empty. Is a variable unset?")
    return value


profile_option = click.option(
    "--profile",
    "-p",
    metavar="NAME",
    help="Which login to use. Default: $WEBEX_PROFILE, else 'default'.",
    shell_complete=lambda _ctx, _parameter, incomplete: [n for n in profiles() if n.startswith(incomplete)],
    callback=_not_empty,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def span(text: str) -> float:
    """Read the value of an option: a span such as `7d`, `12h`, `30m`, in seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    webex-loopback completion bash >> ~/.bashrc
    webex-loopback completion zsh >> ~/.zshrc
    webex-loopback completion fish > ~/.config/fish/completions/webex-loopback.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click.Choice
    source = script(cli, {}, "webex-loopback", "_WEBEX_LOOPBACK_COMPLETE").source()
    # A .zshrc may end without compinit, which defines compdef. The first line, #compdef, has to stay the first.
    load = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
    click.echo(source.replace("\n", f"\n{load}\n", 1) if shell == "zsh" else source)


def say(text: str, colour: str | None = None) -> None:
    """Print a message in the user's language to stderr, wrapped; a stderr that is closed or broken is ignored."""
    text = translated("".join(c for c in text if c.isprintable() or c == "\n"), language())
    try:
        click.secho(wrap(text, columns(sys.stderr)), err=True, fg=None if os.environ.get("NO_COLOR") else colour)
    except (OSError, ValueError):
        _silence(sys.stderr)


def print_json(value: object) -> None:
    """Print JSON that survives any encoding of stdout: ASCII only."""
    click.echo(json.dumps(value, indent=2))


def main(arguments: list[str]) -> int:
    """Run a command line; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot represent must not end a login.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    # What follows `exec` or `--` belongs to the other command.
    end = min((arguments.index(mark) for mark in ("--", "exec") if mark in arguments), default=len(arguments))
    debug = "--debug" in arguments[:end]
    if debug:
        logging.basicConfig(level="DEBUG", format="%(relativeCreated)7d ms %(name)s: %(message)s")
    else:
        logging.basicConfig(level="WARNING", handlers=[_Warnings()])
    received = _end_like_ctrl_c()
    code = _run([a for a in arguments[:end] if a != "--debug"] + arguments[end:], debug)
    return 128 + received[0] if received else code


def _run(arguments: list[str], debug: bool) -> int:
    try:
        result = cli.main(arguments, prog_name="webex-loopback", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except WebexLoopbackError as error:
        return _report(error, debug)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        command = " ".join(["webex-loopback", *(name for name in arguments[:1] if name in COMMANDS)])
        say(printable(error.format_message()), "red")
        say(f"  Run `{command} --help` for usage.")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("Cancelled.")
        return 130
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None:  # a stream, not a file
            return output_failed(error)
        text = f"Unexpected error: {type(error).__name__}: {without_tokens(str(error))}"
        return _report(WebexLoopbackError(text).with_traceback(error.__traceback__), debug)


def _report(error: WebexLoopbackError, debug: bool) -> int:
    if debug:
        logging.getLogger(__name__).error("Traceback of the error below:", exc_info=error)
    say(str(error), "red")
    say(textwrap.indent(error.remedy, "  "))
    return error.exit_code


def output_failed(error: OSError) -> int:
    """Report that stdout cannot be written; a reader that has closed its pipe (`| head`) is not an error."""
    if error.errno not in (errno.EPIPE, errno.EINVAL):  # Windows reports a closed pipe as EINVAL
        say(f"Could not write to standard output: {error.strerror}.", "red")
    _silence(sys.stdout)
    return 1


def _silence(stream: IO[str]) -> None:
    """Discard what cannot be written: the interpreter flushes again at exit, and would print an error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Warnings(logging.Handler):
    """Prints warnings as messages, without tracebacks."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), "yellow")


def _end_like_ctrl_c() -> list[int]:
    """Have SIGTERM, SIGHUP and Windows' SIGBREAK end the command as Ctrl-C does; return a list of those received.

    Raised as exceptions, they let a token transaction finish, and release the terminal, port and lock.
    """
    received: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        as_ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio's, while an event loop runs
        (as_ctrl_c if callable(as_ctrl_c) else signal.default_int_handler)(signal.SIGINT, frame)

    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup's stays ignored
            signal.signal(number, interrupt)
    return received
