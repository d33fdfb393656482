"""The command line: each command parses, calls one use case, and prints.

Standard output carries the answer alone; what is said to people besides goes to standard error.
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__
from .errors import LoginRequired, TokenStoreError, WebexLoopbackError
from .paths import login_command, profile_name, state_folder, token_file
from .source import TokenSource

if TYPE_CHECKING:
    from .doctor import Check
    from .token import StoredToken

_F = TypeVar("_F", bound=Callable[..., Any])


def run(arguments: list[str]) -> int:
    """Run a command line; return its exit code. The one place where errors become text."""
    for stream in (sys.stdout, sys.stderr):
        # A bar or a name that the terminal's encoding lacks must not end a login.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    # What stands behind `exec` is the other command's own.
    end = min((arguments.index(mark) for mark in ("--", "exec") if mark in arguments), default=len(arguments))
    debug = "--debug" in arguments[:end]
    arguments = [a for a in arguments[:end] if a != "--debug"] + arguments[end:]
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)7d ms %(name)s: %(message)s")
    else:
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        result = cli.main(arguments, prog_name="webex-loopback", standalone_mode=False)
    except WebexLoopbackError as error:
        return report(error, debug=debug)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("Cancelled.")
        return 130
    return result if isinstance(result, int) else 0


def report(error: WebexLoopbackError, *, debug: bool = False) -> int:
    """Say on stderr what happened and what to do; return the exit code."""
    if debug:
        logging.getLogger(__name__).error("Traceback of the error below:", exc_info=error)
    width = min(shutil.get_terminal_size().columns, 100) if sys.stderr is not None and sys.stderr.isatty() else 10_000
    for text, indent, colour in [(str(error), "", "red"), *((line, "  ", None) for line in error.remedy.splitlines())]:
        # An address, a path, a command must stay whole, to be copied.
        wrapper = textwrap.TextWrapper(
            width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        _say(wrapper.fill(text), colour)
    return error.exit_code


def _say(text: str, colour: str | None = None) -> None:
    click.secho(text, err=True, fg=None if os.environ.get("NO_COLOR") else colour)


def _profiles(_context: object, _parameter: object, incomplete: str) -> list[str]:
    return [name for name in profile_names() if name.startswith(incomplete)]


def profile_names() -> list[str]:
    """Return the names of the profiles that have a token file."""
    try:
        entries = os.listdir(os.path.join(state_folder(), "tokens"))
    except OSError:
        return []
    return sorted(entry[:-5] for entry in entries if entry.endswith(".json") and not entry.startswith("."))


def _profile_option(function: _F) -> _F:
    return click.option(
        "--profile",
        "-p",
        metavar="NAME",
        help="Which login; default: $WEBEX_PROFILE, else 'default'.",
        shell_complete=_profiles,
    )(function)


class _InOrder(click.Group):
    """Lists its commands in the order in which a person comes to need them."""

    # fmt: off
    order = (
        "init", "login", "token", "status", "whoami", "refresh", "exec", "logout", "profile", "import", "export",
        "doctor", "sandbox", "demo", "completion",
    )
    # fmt: on

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return sorted(self.commands, key=self.order.index)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", "-V", message="webex-loopback %(version)s")
@click.option("--debug", is_flag=True, help="Log each step to stderr, and tracebacks of errors; no secret is in it.")
def cli(debug: bool) -> None:
    """OAuth tokens for a Webex Integration: log in once, in the browser; then every program has a fresh one.

    \b
    Once:    webex-loopback init      write config.env: client id, secret, scopes, redirect URI
             webex-loopback login     approve in the browser
    Always:  from webex_loopback import get_token
             curl -H "$(webex-loopback token --header)" https://webexapis.com/v1/people/me
    To try it without an account:     webex-loopback demo

    \b
    Exit codes: 0 done, 1 other, 2 a setting or option, 3 a login is required, 4 the login failed,
    5 Webex's answer or the network, 6 the token file, 130 Ctrl-C.
    """


@cli.command()
@_profile_option
@click.option("--scopes", metavar="SCOPES", help="In place of WEBEX_SCOPES; separated by spaces or commas.")
@click.option("--redirect-uri", metavar="URI", help="In place of WEBEX_REDIRECT_URI; exactly as registered.")
@click.option("--timeout", metavar="SECONDS", type=float, help="In place of WEBEX_LOGIN_TIMEOUT.")
@click.option("--no-browser", is_flag=True, help="Print the address, open nothing.")
@click.option("--browser", metavar="CMD", default="", help="Open the address with this command; %s stands for it.")
@click.option("--device", is_flag=True, help="Approve on another device, with a code; for machines without a browser.")
@click.option("--login-hint", metavar="EMAIL", default="", help="Fill this address into Webex's form.")
@click.option(
    "--prompt",
    type=click.Choice(["select_account", "none"]),
    help="Ask which account; or never ask, and fail where nobody is signed in.",
)
@click.option("--force", is_flag=True, help="Log in though the profile is; set an unreadable token file aside.")
def login(
    profile: str | None,
    scopes: str | None,
    redirect_uri: str | None,
    timeout: float | None,
    no_browser: bool,
    browser: str,
    device: bool,
    login_hint: str,
    prompt: str | None,
    force: bool,
) -> int:
    """Log in at Webex and save the tokens.

    Opens the browser at Webex, catches the redirect on this machine, exchanges the code, and saves the tokens
    for this profile. Where the profile is logged in already, nothing is opened; --force logs in anew.
    """
    terminated = _end_at_sigterm()
    from .login import log_in

    try:
        result = log_in(
            profile,
            scopes=scopes,
            redirect_uri=redirect_uri,
            timeout_seconds=timeout,
            open_browser=not no_browser,
            browser=browser,
            device=device,
            force=force,
            login_hint=login_hint,
            prompt=prompt or "",
        )
    except KeyboardInterrupt:
        if terminated:
            return 128 + signal.SIGTERM
        raise
    except WebexLoopbackError as error:
        if profile is not None:
            error.remedy = error.remedy.replace("webex-loopback login", f"webex-loopback login --profile {profile}")
        raise
    _logged_in(profile, result.token, result.how)
    return 0


def _end_at_sigterm() -> list[int]:
    """Have SIGTERM end the login as Ctrl-C does; return a list that gets the signal's number when it comes.

    So all is seen to: the page in the browser, the terminal's mode, the port, the lock.
    """
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        as_ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio's, while an event loop runs
        (as_ctrl_c if callable(as_ctrl_c) else signal.default_int_handler)(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, end)
    return came


def _logged_in(profile: str | None, token: "StoredToken", how: str) -> None:
    from .report import span

    who = token.account.name or token.account.email or "an account that the token may not name"
    email = f" <{token.account.email}>" if token.account.email and token.account.name else ""
    start = {
        "already": "Already logged in as",
        "other": "The other login is done: logged in as",
        "imported": "Took over the tokens of",
    }
    _say(f"{start.get(how, 'Logged in as')} {who}{email}.", "green")
    now = time.time()
    parts = [
        f"{name} {'of unknown end' if end is None else f'for {span(end - now)}'}"
        for name, end in (("access token", token.expires_at), ("refresh token", token.refresh_token_expires_at))
    ]
    _say(f"  {', '.join(parts)}; profile {profile_name(profile)}.")
    if token.missing:
        _say(f"  Asked for, but not granted: {' '.join(token.missing)}", "yellow")
    if how == "already":
        _say("  `webex-loopback login --force` logs in anew.")
    if profile is None and (origin := TokenSource().from_environment()):
        _say(f"  WEBEX_ACCESS_TOKEN is set ({origin}): get_token() returns that, until it is unset.", "yellow")


@cli.command()
@_profile_option
@click.option("--json", "form", flag_value="json", help="An object: access_token, token_type, expires_at.")
@click.option("--header", "form", flag_value="header", help="A header line, for curl -H.")
@click.option("--env", "form", flag_value="env", help="WEBEX_ACCESS_TOKEN=..., for a .env file or `export`.")
def token(profile: str | None, form: str | None) -> None:
    """Print an access token that works.

    Nothing else goes to standard output. It is refreshed first where it is due. Works from any folder, and
    without settings.
    """
    source = TokenSource(profile)
    access_token = source.get_token()
    if form == "header":
        click.echo(f"Authorization: Bearer {access_token}")
    elif form == "env":
        click.echo(f"WEBEX_ACCESS_TOKEN={access_token}")
    elif form == "json":
        stored = None if source.from_environment() else source.stored()
        end = stored.expires_at if stored else None
        click.echo(json.dumps({"access_token": access_token, "token_type": "Bearer", "expires_at": end}))
    else:
        click.echo(access_token)


@cli.command()
@_profile_option
@click.option("--all", "every", is_flag=True, help="All profiles, a line each.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--check", metavar="TIME", help="Exit with 3 if the refresh token has less than this left: 7d, 12h.")
def status(profile: str | None, every: bool, as_json: bool, check: str | None) -> int:
    """Show whose token it is, for how long, and for what.

    Asks nobody: it is read from the token file. `whoami` asks Webex, `doctor` looks at everything else.
    """
    from .report import duration, facts

    least = 0.0
    if check is not None:
        try:
            least = duration(check)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--check") from None
    if every:
        return _status_of_all(as_json)
    now = time.time()
    source = TokenSource(profile)
    if origin := source.from_environment():
        known: dict[str, Any] = {"profile": None, "source": "WEBEX_ACCESS_TOKEN", "origin": origin}
        text = f"WEBEX_ACCESS_TOKEN is set ({origin}): it is used as it is, and not refreshed."
        click.echo(json.dumps(known, indent=2) if as_json else text)
        return 0
    stored = source.stored()
    name, path = profile_name(profile), token_file(profile)
    if stored is None:
        raise LoginRequired(
            f"Profile {name} is not logged in: there is no {path}.",
            remedy=f"Run `{login_command(name)}`.",
        )
    if as_json:
        click.echo(json.dumps(facts(name, stored, path, now), indent=2, ensure_ascii=False))
    else:
        _print_table(name, stored, path, now)
    end = stored.refresh_token_expires_at if stored.refresh_token else stored.expires_at
    if check is not None and end is not None and end - now < least:
        _say(f"Less than {check} left: run `webex-loopback login --force`.", "red")
        return LoginRequired.exit_code
    return 0


def _status_of_all(as_json: bool) -> int:
    from .report import facts, span

    now = time.time()
    found: list[dict[str, Any]] = []
    for name in profile_names():
        path = token_file(name)
        try:
            stored = TokenSource(name).stored()
        except TokenStoreError as error:
            found.append({"profile": name, "path": path, "error": str(error)})
            continue
        if stored is not None:  # pragma: no branch - removed in this very moment
            found.append(facts(name, stored, path, now))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    current = profile_name()
    for entry in found:
        mark = "*" if entry["profile"] == current else " "
        if "error" in entry:
            click.echo(f"{mark} {entry['profile']:<16} {entry['error']}")
            continue
        end = entry["refresh_token"] or entry["access_token"]
        left = "ended" if end["expired"] else "?" if end["expires_at"] is None else f"{span(end['seconds_left'])} left"
        who = entry["account"]["email"] or entry["account"]["name"] or "unknown account"
        click.echo(f"{mark} {entry['profile']:<16} {who:<32} {left:<14} {entry['client_id'][:9]}")
    if not found:
        _say("No profile is logged in: run `webex-loopback login`.")
    return 0


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16")


def _print_table(name: str, stored: "StoredToken", path: str, now: float) -> None:
    from rich.console import Console

    from .report import printed, table

    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for line in printed(console, table(name, stored, path, now, plain=not _speaks_unicode())):
        click.echo(line)


@cli.command()
@_profile_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def whoami(profile: str | None, as_json: bool) -> None:
    """Ask Webex whose token it is (GET /people/me)."""
    from .session import who_is

    account = who_is(TokenSource(profile))
    if as_json:
        click.echo(account.model_dump_json(indent=2))
    else:
        click.echo(f"{account.name} <{account.email}>")


@cli.command()
@_profile_option
@click.option("--if-needed", is_flag=True, help="Only where it is due; for timers that keep the tokens alive.")
def refresh(profile: str | None, if_needed: bool) -> None:
    """Refresh the access token now.

    Programs do not need it: get_token() refreshes when it is due. A timer that runs `refresh --if-needed` once a
    day keeps a profile alive that nothing else uses.
    """
    from .report import span

    source = TokenSource(profile)
    before = source.stored() if if_needed and not source.from_environment() else None
    if if_needed:
        source.get_token()
    else:
        source.refresh()
    stored = None if source.from_environment() else source.stored()
    if stored is None or stored == before:
        failed = stored is not None and time.time() >= stored.refresh_at
        _say("It is due, and could not be refreshed now; the old one still works." if failed else "Not due.")
        return
    end = stored.expires_at
    _say(f"Refreshed; it works for {span(end - time.time())}." if end is not None else "Refreshed.", "green")


@cli.command()
@_profile_option
@click.option("--revoke", is_flag=True, help="Also ask Webex to revoke the tokens; says what it could not.")
def logout(profile: str | None, revoke: bool) -> None:
    """Remove the profile's tokens from this machine."""
    from .login import log_out
    from .session import REVOKE_PAGE, revoke_grant

    name = profile_name(profile)
    told = ""
    if revoke:
        with contextlib.suppress(TokenStoreError):  # what cannot be read is told of below
            stored = TokenSource(name).stored()
            told = revoke_grant(stored) if stored is not None else ""
    held, aside = log_out(profile)
    if aside:
        _say(f"The token file was corrupt; it is kept as {aside}.", "yellow")
    elif held is None:
        _say(f"Profile {name} was not logged in.")
        return
    else:
        _say(f"The tokens of profile {name} are removed from this machine.", "green")
    if told:
        _say(told)
    elif not revoke:
        _say(f"  At Webex they stay valid until they end. To revoke them now: {REVOKE_PAGE}")


@cli.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[--profile NAME]",
)
@_profile_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARGS]...")
def execute(profile: str | None, command: tuple[str, ...]) -> int:
    """Run a command with WEBEX_ACCESS_TOKEN set.

    \b
    webex-loopback exec -- python my_bot.py

    Signals and the exit code pass through.
    """
    environ = os.environ | {"WEBEX_ACCESS_TOKEN": TokenSource(profile).get_token()}
    try:
        if sys.platform == "win32":  # pragma: no cover - there exec would end the parent at once
            import subprocess

            return subprocess.run(command, env=environ, check=False).returncode
        os.execvpe(command[0], command, environ)  # noqa: S606 - it is what was asked for, and there is no shell in it
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126


@cli.command()
@click.option("--url", "authorization_url", metavar="URL", default="", help="The portal's 'OAuth Authorization URL'.")
@click.option("--client-id", metavar="ID", default="", help="Of the Integration.")
@click.option("--client-secret-stdin", is_flag=True, help="Read the client secret from standard input.")
@click.option("--scopes", metavar="SCOPES", default="", help="Separated by spaces or commas.")
@click.option("--redirect-uri", metavar="URI", default="", help="Exactly as registered.")
@click.option("--api-base-url", metavar="URL", default="", help="For Webex for Government.")
@click.option("--here", is_flag=True, help="Write ./config.env; default: the one in force, else in the state folder.")
@click.option("--output", "path", metavar="FILE", default="", help="Write this file.")
@click.option("--force", is_flag=True, help="Replace other values without asking.")
@click.option("--login/--no-login", default=None, help="Log in afterwards; default: ask.")
@_profile_option
def init(
    profile: str | None,
    authorization_url: str,
    client_id: str,
    client_secret_stdin: bool,
    scopes: str,
    redirect_uri: str,
    api_base_url: str,
    here: bool,
    path: str,
    force: bool,
    login: bool | None,
) -> None:
    """Write config.env: asks for what is missing.

    Says what to type into which field of Webex's "Create an Integration" page, takes the address that the page
    shows at the end, and asks for the secret without showing it. Without a terminal the options must say it all.
    """
    from .setup import Answers, read_secret, run, terminal_asker

    outcome = run(
        answers=Answers(
            client_id=client_id,
            client_secret=read_secret(sys.stdin) if client_secret_stdin else "",
            scopes=scopes,
            redirect_uri=redirect_uri,
            api_base_url=api_base_url,
            authorization_url=authorization_url,
            path=path,
            here=here,
            force=force,
            log_in=login,
        ),
        ask=None if client_secret_stdin else terminal_asker(),
    )
    if outcome.log_in:
        from .login import log_in

        os.environ["WEBEX_CONFIG_FILE"] = outcome.path
        result = log_in(profile)
        _logged_in(profile, result.token, result.how)


@cli.command("import")
@_profile_option
@click.argument("file", type=click.File("r", encoding="utf-8-sig"), default="-")
@click.option("--force", is_flag=True, help="Replace the profile's tokens where it is logged in.")
def import_tokens(profile: str | None, file: Any, force: bool) -> None:
    """Take over tokens that you already have.

    FILE (or standard input) holds a token response in JSON, as Postman shows and saves it, a Postman
    environment, or the yml file of wxc_sdk. What a refresh needs besides, client id and secret, comes from FILE
    or from the settings.
    """
    from .formats import read
    from .grant import adopt

    try:
        imported = read(file.read(), time.time())
    except ValueError as error:
        raise click.UsageError(f"{file.name} {error}.") from None
    name = profile_name(profile)
    stored = adopt(name, imported, force=force)
    if not (stored.account.name or stored.account.email):
        _check_imported(TokenSource(name))
    _logged_in(profile, stored, "imported")
    if stored.refresh_token is not None and not (stored.client_id and stored.client_secret.get_secret_value()):
        _say("  It cannot be refreshed: set WEBEX_CLIENT_ID and WEBEX_CLIENT_SECRET, and import it again.", "yellow")


def _check_imported(source: TokenSource) -> None:
    """Find out whether Webex takes tokens that it named no account for; raise `LoginRequired` if it does not."""
    from .errors import TokenEndpointError
    from .session import who_is

    try:
        who_is(source)
    except TokenEndpointError as error:
        if error.status_code == 401:
            source.refresh()
        elif error.status_code != 403:  # a good token without spark:people_read
            raise


@cli.command("export")
@_profile_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "wxc-sdk", "postman", "env"]),
    default="json",
    show_default=True,
    help="A token response; wxc_sdk's yml; a Postman environment; WEBEX_ACCESS_TOKEN=...",
)
@click.option("--output", "-o", metavar="FILE", help="Write a file that only you can read, not standard output.")
def export_tokens(profile: str | None, form: Any, output: str | None) -> None:
    """Write the tokens in a form that other tools read; they are secrets."""
    from .formats import write

    source = TokenSource(profile_name(profile))
    source.get_token()  # what is written out should be good for a while
    stored = source.stored()
    assert stored is not None  # noqa: S101 - or get_token() had raised
    text = write(stored, form, time.time())
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        _say("This output holds secrets: keep it out of chats, tickets and repositories.", "yellow")
        return
    from .store import replace_file

    if os.path.lexists(output) and not os.path.isfile(output):
        raise click.UsageError(f"{output} is no regular file.")
    try:
        replace_file(os.path.abspath(output), text.encode())
    except OSError as error:
        raise click.UsageError(f"{output} could not be written: {error.strerror}.") from None
    _say(f"Written to {output}, which only you can read. It holds secrets.", "yellow")


@cli.command()
@_profile_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--offline", is_flag=True, help="Ask no other machine.")
def doctor(profile: str | None, as_json: bool, offline: bool) -> int:
    """Look at settings, ports, browser, proxy, certificates, files, tokens.

    Says for each what is right, or what to do. Repairs nothing. The exit code is that of the first error.
    """
    from .doctor import as_json as to_json
    from .doctor import examine, exit_code, lines

    checks: list[Check] = []
    if as_json:
        checks = list(examine(profile, online=not offline))
        click.echo(to_json(checks))
        return exit_code(checks)

    def noted() -> Iterator["Check"]:
        for check in examine(profile, online=not offline):
            checks.append(check)
            yield check

    for line in lines(noted(), plain=not _speaks_unicode(), width=min(shutil.get_terminal_size().columns, 110)):
        click.echo(line)
    return exit_code(checks)


@cli.group("profile")
def profile_group() -> None:
    """List, copy, remove the logins kept on this machine."""


@profile_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def profile_list(as_json: bool) -> int:
    """List the profiles; as `status --all`."""
    return _status_of_all(as_json)


@profile_group.command("copy")
@click.argument("source", shell_complete=_profiles)
@click.argument("target")
@click.option("--force", is_flag=True, help="Replace TARGET where it exists.")
def profile_copy(source: str, target: str, force: bool) -> None:
    """Copy the login SOURCE to TARGET.

    Both then hold the same tokens. Where Webex replaces the refresh token at a refresh, only the one that
    refreshed first goes on working: log in to TARGET to make it independent.
    """
    from .store import FileTokenStore

    held = TokenSource(profile_name(source)).stored()
    if held is None:
        raise LoginRequired(f"Profile {source} is not logged in.", remedy="See `webex-loopback profile list`.")
    store = FileTokenStore(token_file(target))
    with store.lock():
        if store.load() is not None and not force:
            raise click.UsageError(f"Profile {target} exists; --force replaces it.")
        store.save(held)
    _say(f"Copied {source} to {target}.", "green")


@profile_group.command("remove")
@click.argument("names", nargs=-1, required=True, shell_complete=_profiles)
def profile_remove(names: Iterable[str]) -> None:
    """Remove the tokens of these profiles from this machine; as `logout`."""
    from .login import log_out

    if not all(names):
        raise click.UsageError("A profile's name is empty: is a variable not set?")
    for name in names:
        held, aside = log_out(name)
        _say(f"Removed {name}." if held else f"Kept the corrupt file as {aside}." if aside else f"There is no {name}.")


@cli.command(
    "sandbox", context_settings={"ignore_unknown_options": True, "help_option_names": []}, options_metavar="[OPTIONS]"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def sandbox(arguments: tuple[str, ...]) -> int:
    """Run a small Webex on this machine, for trying and tests.

    It prints the settings to use, and stops at Ctrl-C. `webex-loopback sandbox --help` lists its switches.
    """
    from .sandbox.__main__ import main

    try:
        return main(list(arguments))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2


@cli.command()
@click.option("--no-browser", is_flag=True, help="Play the person's part over HTTP, whatever there is.")
def demo(no_browser: bool) -> None:
    """See the whole of it without an account.

    A login, a call, a refresh, against a sandbox. Your own tokens and settings are left alone.
    """
    from .demo import show

    show(no_browser=no_browser)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  webex-loopback completion bash >> ~/.bashrc
    zsh:   webex-loopback completion zsh >> ~/.zshrc
    fish:  webex-loopback completion fish > ~/.config/fish/completions/webex-loopback.fish
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None  # noqa: S101 - click.Choice has seen to it
    click.echo(maker(cli, {}, "webex-loopback", "_WEBEX_LOOPBACK_COMPLETE").source())
