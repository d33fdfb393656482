"""`init`: writes config.env, asking for what is missing."""

import io
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from dotenv.parser import parse_stream

from webex_loopback.login.login import log_in
from webex_loopback.login.paste import terminal
from webex_loopback.paths import data_directory, environment_path, login_command, profile_name
from webex_loopback.private_file import make_private_directory, read_small_file, write_private_file
from webex_loopback.secret import Secret
from webex_loopback.settings import powershell_quoted
from webex_loopback.wording import without_tokens

from .app import profile_option, say
from .interview import API_BASE_URL, DEFAULTS, ID, SECRET, Values, ask, confirm, hold_interview, read_answer
from .login import describe
from .texts import refusal, words

_HEADER = """\
# Settings of webex-loopback, written by `webex-loopback init`. config.example.env describes all of them.
# This file contains a secret: do not share or commit it.

"""
# These decide where secrets are sent, or which program is run.
_TRUSTED = [f"WEBEX_{n}" for n in ("API_BASE_URL", "AUTHORIZE_URL", "TOKEN_URL", "CA_BUNDLE", "TOKEN_STORE", "BROWSER")]


@click.command()
@click.option("--url", metavar="URL", default="", help="The portal's 'OAuth Authorization URL'.")
@click.option("--client-id", metavar="ID", default="", help="Client ID.")
@click.option("--client-secret-stdin", is_flag=True, help="Read the client secret from standard input; ask nothing.")
@click.option("--scopes", metavar="SCOPES", default="", help="Separated by spaces or commas.")
@click.option("--redirect-uri", metavar="URI", default="", help="Exactly as registered.")
@click.option("--api-base-url", metavar="URL", default="", help="For Webex for Government.")
@click.option("--service-app", is_flag=True, help="Set up a Service App instead of an Integration.")
@click.option(
    "--output", metavar="FILE", default="", help="Write this file. Default: config.env in the data directory."
)
@click.option("--force", is_flag=True, help="Change an existing file without asking.")
@click.option("--login/--no-login", "log_in_now", default=None, help="Log in afterwards. Default: ask.")
@profile_option
def init(
    profile: str | None, url: str, output: str, service_app: bool, force: bool, log_in_now: bool | None, **options: Any
) -> None:
    """Create config.env: client ID, secret, scopes, redirect URI.

    Asks for what is missing, explains how to fill in Webex's form "Create an Integration", and reads the URL that
    the portal shows afterwards. Without a terminal the options must provide everything.
    """
    from_stdin = options.pop("client_secret_stdin")
    given = read_answer("", Secret(url)) if url else Values()
    for name, text in options.items():
        given.update(read_answer(f"WEBEX_{name.upper()}", Secret(text)) if text.strip() else {})
    if from_stdin:
        if terminal(sys.stdin) is None:
            answer = Secret(sys.stdin.readline().strip() if sys.stdin else "")
        else:
            answer = ask(words("ask_client_secret") + ":", hidden=True)
        if not answer:
            raise refusal("no_stdin", SECRET)
        given.update(read_answer(SECRET, answer))
    interactive = not from_stdin and all(terminal(s) is not None for s in (sys.stdin, sys.stdout, sys.stderr))
    profile = profile or ("service-app" if service_app else None)
    own = os.path.join(data_directory(), f"{profile_name(profile)}.env" if service_app else "config.env")
    # Never a file that was only found in the current directory: its endpoints would receive the secret.
    file = _File(output or ("" if service_app else environment_path("WEBEX_CONFIG_FILE")) or own, interactive, force)
    if interactive or service_app:
        say(words("service_app" if service_app else "title"), "cyan")
    if not file.set_up(given, service_app=service_app):
        return
    assignment = f"WEBEX_CONFIG_FILE={shlex.quote(file.path)} "
    if sys.platform == "win32":
        assignment = f"$env:WEBEX_CONFIG_FILE = {powershell_quoted(file.path)}; "
    if service_app:
        command = login_command(profile_name(profile), "--service-app", "ORG_ID", "--using", profile_name())
        say(words("next_service_app"))
        # Not with say(), which would wrap what is to be pasted.
        click.echo(f"  {login_command(profile_name())}\n  {assignment}{command}", err=True)
    elif log_in_now or (log_in_now is None and interactive and confirm(words("log_in"))):
        if file.path != os.path.abspath("config.env"):  # that file is found without a name, and trusted less
            os.environ["WEBEX_CONFIG_FILE"] = file.path
        result = log_in(profile)
        describe(profile, result.token, result.how)
    else:
        here = os.path.abspath("config.env") if os.path.isfile("config.env") else own
        found = file.path == (environment_path("WEBEX_CONFIG_FILE") or here)
        say(words("next", command=("" if found else assignment) + login_command(profile_name(profile))))


class _File:
    """The configuration file to write; `known` is what it contains."""

    def __init__(self, path: str, interactive: bool, force: bool) -> None:
        self.path, self.interactive, self.force = os.path.abspath(os.path.expanduser(path)), interactive, force
        self.text = Secret(_read(self.path))
        self.known = _values(self.text.get_secret_value())

    def set_up(self, given: Values, *, service_app: bool) -> bool:
        """Ask for what is missing and write the file; return False if the user declines."""
        wanted = hold_interview(given, self.known, service_app=service_app) if self.interactive else given
        if wanted.get(API_BASE_URL) == DEFAULTS[API_BASE_URL] and API_BASE_URL not in self.known:
            del wanted[API_BASE_URL]
        for name, option in ((ID, "--client-id or --url"), (SECRET, "--client-secret-stdin")):
            if not self.known.get(name) and not wanted.get(name):
                raise refusal("missing", name, name=name, option=option)
        changed = Values({name: value for name, value in wanted.items() if self.known.get(name) != value})
        if not changed:
            say(words("unchanged", path=self.path))
        elif not self._may_change(changed):
            say(words("declined"))
            return False
        else:
            self._write(changed)
        return True

    def _may_change(self, changed: Values) -> bool:
        if trusted := [name for name in _TRUSTED if name in self.known and name not in changed]:
            shown = ", ".join(f"{name}={without_tokens(self.known[name])}" for name in trusted)
            say(words("trusted", path=self.path, settings=shown), "yellow")
        if self.force or not self.text:
            return True
        names = ", ".join(changed)
        if not self.interactive:
            raise refusal("other_values", "WEBEX_CONFIG_FILE", path=self.path, names=names)
        return confirm(words("change", path=self.path, names=names))

    def _write(self, changed: Values) -> None:
        text = Secret(_updated(self.text.get_secret_value() or _HEADER, changed))
        names = (f"{self.path}.bak{number}" for number in ("", *range(2, 10_000)))
        backup = next(name for name in names if not os.path.lexists(name)) if self.text else ""
        try:
            if not os.path.isdir(os.path.dirname(self.path)):
                make_private_directory(os.path.dirname(self.path))
            if backup:
                write_private_file(backup, self.text.get_secret_value().encode())
            write_private_file(self.path, text.get_secret_value().encode())
        except OSError as error:
            raise refusal("unwritable", "WEBEX_CONFIG_FILE", path=self.path, why=error.strerror) from None
        say(words("written", path=self.path), "green")
        if backup:
            say(words("backup", path=backup))
        if any((above / ".git").exists() for above in Path(self.path).parents):
            say(words("git", name=os.path.basename(self.path)), "yellow")


def _read(path: str) -> str:
    """Return the text, "" if the file does not exist; raise ConfigurationError if it is not a regular text file."""
    if os.path.islink(path):
        raise refusal("link", "WEBEX_CONFIG_FILE", path=path, target=os.path.realpath(path))
    try:
        return read_small_file(path).decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else words("not_text")
        raise refusal("unreadable", "WEBEX_CONFIG_FILE", path=path, why=why) from None


def _values(text: str) -> Values:
    bindings = parse_stream(io.StringIO(text, newline=None))
    return Values({binding.key.upper(): binding.value for binding in bindings if binding.key and binding.value})


def _updated(text: str, values: Values) -> str:
    """Return the text of a file with these settings: in place of the old lines, else at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    escaped = {name: value.replace("\\", r"\\").replace("'", r"\'") for name, value in values.items()}
    lines = Values({name: f"{name}='{value}'{newline}" for name, value in escaped.items()})
    parts, missing = [], dict(lines)
    for binding in parse_stream(io.StringIO(text + ("" if text.endswith("\n") else newline), newline="")):
        part, name = binding.original.string, (binding.key or "").upper()
        if name in lines:
            part = part[: len(part) - len(part.lstrip())] + lines[name]  # after blank lines, which belong to it
            missing.pop(name, None)
        parts.append(part)
    text = "".join([*parts, *missing.values()])
    if wrong := [name for name, value in values.items() if _values(text).get(name) != value]:
        raise refusal("bad_value", wrong[0], name=wrong[0])
    return text
