"""`init`: writes config.env, asking for what is missing."""

import codecs
import contextlib
import io
import os
import re
import shlex
import stat
import sys
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

import click
from dotenv.parser import parse_stream

from webex_loopback.login.login import log_in
from webex_loopback.paths import config_file, data_directory, login_command, profile_name
from webex_loopback.private_file import make_private_directory, read_small_file, readable_by_others, write_private_file
from webex_loopback.secret import Secret
from webex_loopback.wording import split_list

from .app import profile_option, say
from .interview import API_BASE_URL, DEFAULTS, ID, NAMES, SCOPES, SECRET, Values, ask, hold_interview, read_answer
from .login import describe
from .texts import refusal, words

_MARK = "written by `webex-loopback init`"
_HEADER = f"""\
# Settings of webex-loopback, {_MARK}. config.example.env describes all of them.
# This file contains a secret: do not share or commit it.

"""
# Whoever wrote them into a file chooses where secrets are sent, or a program to run.
_TRUSTED = tuple(
    f"WEBEX_{name}" for name in ("API_BASE_URL", "AUTHORIZE_URL", "TOKEN_URL", "CA_BUNDLE", "TOKEN_STORE", "BROWSER")
)
_FETCHING_SCOPE = "spark:applications_token"


@click.command()
@click.option("--url", metavar="URL", default="", help="The portal's 'OAuth Authorization URL'.")
@click.option("--client-id", metavar="ID", default="", help="Client ID.")
@click.option("--client-secret-stdin", is_flag=True, help="Read the client secret from standard input; ask nothing.")
@click.option("--scopes", metavar="SCOPES", default="", help="Separated by spaces or commas.")
@click.option("--redirect-uri", metavar="URI", default="", help="Exactly as registered.")
@click.option("--api-base-url", metavar="URL", default="", help="For Webex for Government.")
@click.option("--service-app", is_flag=True, help="Set up a Service App and the Integration that fetches its tokens.")
@click.option(
    "--output", metavar="FILE", default="", help="Write this file. Default: config.env in the data directory."
)
@click.option("--here", is_flag=True, help="Write ./config.env.")
@click.option("--force", is_flag=True, help="Change an existing file without asking.")
@click.option("--login/--no-login", "log_in_now", default=None, help="Log in afterwards. Default: ask.")
@profile_option
def init(profile: str | None, url: str, service_app: bool, log_in_now: bool | None, **options: Any) -> None:
    """Create config.env: client ID, secret, scopes, redirect URI.

    Asks for what is missing, explains how to fill in Webex's form "Create an Integration", and reads the URL that
    the portal shows afterwards. Without a terminal the options must provide everything.
    """
    here, output, force = options.pop("here"), options.pop("output"), options.pop("force")
    from_stdin = options.pop("client_secret_stdin")
    given = read_answer("", Secret(url)) if url else Values()
    for name, text in options.items():
        given.update(read_answer(f"WEBEX_{name.upper()}", Secret(text)) if text.strip() else {})
    if from_stdin:
        answer = Secret(sys.stdin.readline().strip() if sys.stdin else "")
        if not answer:
            raise refusal("no_stdin", SECRET)
        given.update(read_answer(SECRET, answer))
    interactive = not from_stdin and all(s and s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr))
    # Never a file that is merely found in the working directory: its endpoints would receive the secret.
    default = os.environ.get("WEBEX_CONFIG_FILE") or os.path.join(data_directory(), "config.env")
    named = output or ("config.env" if here else "")
    if service_app:
        _set_up_service_app(_File(default, interactive, force), named, given, profile or "service-app")
        return
    file = _File(named or default, interactive, force)
    if interactive:
        say(words("title"), "cyan")
    if file.set_up(given):
        if log_in_now is None:
            log_in_now = interactive and click.confirm(words("log_in"), default=True, err=True)
        if log_in_now:
            if file.path != os.path.abspath("config.env"):  # that one is found, and trusted less than a named one
                os.environ["WEBEX_CONFIG_FILE"] = file.path
            result = log_in(profile)
            describe(profile, result.token, result.how)
        else:
            say(words("next", command=login_command(profile_name(profile))))


def _set_up_service_app(integration: "_File", named: str, given: Values, profile: str) -> None:
    """Set up the Integration that fetches the tokens, if somebody can be asked, then the Service App."""
    say(words("service_app"), "cyan")
    scopes = split_list(integration.known.get(SCOPES) or DEFAULTS[SCOPES])
    if not integration.interactive:
        say(words("other_registration"))
    elif _FETCHING_SCOPE in scopes and integration.known.get(SECRET):
        say(words("has_scope", path=integration.path))
    elif integration.set_up(Values({SCOPES: " ".join([*scopes, _FETCHING_SCOPE])})):
        say(words("tick_scope"))
    path = named or os.path.join(data_directory(), f"{profile_name(profile)}.env")
    file = _File(path, integration.interactive, integration.force)
    if file.set_up(given, service_app=True):
        organization = (ask(words("ask_org_id")) if file.interactive else "") or "ORG_ID"
        using = profile_name()
        command = login_command(profile, "--service-app", shlex.quote(organization), "--using", using)
        assignment = f"$env:WEBEX_CONFIG_FILE = '{file.path}';" if sys.platform == "win32" else ""
        assignment = assignment or f"WEBEX_CONFIG_FILE={shlex.quote(file.path)}"
        say(words("next_service_app", login=login_command(using), command=f"{assignment} {command}"))


class _File:
    """The configuration file to write; `known` is what it contains."""

    def __init__(self, path: str, interactive: bool, force: bool) -> None:
        self.path, self.interactive, self.force = os.path.abspath(os.path.expanduser(path)), interactive, force
        self.text = Secret(_read(self.path))
        self.known = _values(self.text.get_secret_value())

    def set_up(self, given: Values, *, service_app: bool = False) -> bool:
        """Ask for what is missing and write the file; return False if the user declines."""
        wanted = hold_interview(given, self.known, service_app=service_app) if self.interactive else given
        if wanted.get(API_BASE_URL) == DEFAULTS[API_BASE_URL] and API_BASE_URL not in self.known:
            del wanted[API_BASE_URL]
        for name, option in ((ID, "--client-id or --url"), (SECRET, "--client-secret-stdin")):
            if not self.known.get(name) and not wanted.get(name):
                raise refusal("missing", name, name=name, option=option)
        changed = Values({n: wanted[n] for n in NAMES if n in wanted and self.known.get(n) != wanted[n]})
        if not changed:
            say(words("unchanged", path=self.path))
        elif not self._may_change(changed):
            say(words("declined"))
            return False
        else:
            self._write(changed)
        _keep_out_of_git(Path(self.path).resolve(), self.interactive)
        if names := [name for name, value in wanted.items() if os.environ.get(name, value) != value]:
            say(words("overridden", names=", ".join(names)), "yellow")
        in_force = config_file()
        if in_force and os.path.realpath(in_force.path) != os.path.realpath(self.path):
            say(words("not_in_force", path=in_force.path), "yellow")
        return True

    def _may_change(self, changed: Values) -> bool:
        replaced = [name for name in changed if self.known.get(name)]
        if trusted := [name for name in _TRUSTED if name in self.known and name not in changed]:
            say(words("trusted", path=self.path, names=", ".join(trusted)), "yellow")
        ours = _MARK in self.text.get_secret_value() and not trusted
        if self.force or not self.text or (ours and not replaced):
            return True
        names = ", ".join(replaced or changed)
        if not self.interactive:
            raise refusal("other_values", "WEBEX_CONFIG_FILE", path=self.path, names=names)
        question = words("replace" if replaced else "extend", path=self.path, names=names)
        return click.confirm(question, default=True, err=True)

    def _write(self, changed: Values) -> None:
        text = Secret(_updated(self.text.get_secret_value(), changed))
        names = (f"{self.path}.bak{n if n > 1 else ''}" for n in range(1, 10_000))
        backup = next(name for name in names if not os.path.lexists(name)) if self.text else ""
        try:
            if not os.path.isdir(os.path.dirname(self.path)):
                make_private_directory(os.path.dirname(self.path))
            if backup:
                write_private_file(backup, self.text.get_secret_value().encode())
            write_private_file(self.path, text.get_secret_value().encode())
            status = os.stat(self.path)
        except OSError as error:
            raise refusal("unwritable", "WEBEX_CONFIG_FILE", path=self.path, why=error.strerror) from None
        key = "written_open" if readable_by_others(status) else "written"
        mode = "" if sys.platform == "win32" else f"{stat.S_IMODE(status.st_mode):04o}"
        say(words("written_windows" if not mode else key, path=self.path, mode=mode), "green")
        if backup:
            say(words("backup", path=backup))


def _read(path: str) -> str:
    """Return the text, "" if the file does not exist; raise ConfigurationError if it is not a regular text file."""
    if os.path.islink(path):
        raise refusal("link", "WEBEX_CONFIG_FILE", path=path, target=os.path.realpath(path))
    try:
        data = read_small_file(path)
        utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # PowerShell's `>`
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else words("not_text")
        raise refusal("unreadable", "WEBEX_CONFIG_FILE", path=path, why=why) from None


def _values(text: str) -> Values:
    bindings = parse_stream(io.StringIO(text, newline=None))
    return Values({binding.key.upper(): binding.value for binding in bindings if binding.key and binding.value})


def _updated(text: str, values: Values) -> str:
    text, newline = text or _HEADER, "\r\n" if "\r\n" in text else "\n"
    text += "" if text.endswith("\n") else newline
    for name, value in values.items():
        text = _with_setting(text, name, value, newline)
    read_back = _values(text)
    if wrong := [name for name, value in values.items() if read_back.get(name) != value]:
        raise refusal("bad_value", wrong[0], name=wrong[0])
    return text


def _with_setting(text: str, name: str, value: str, newline: str) -> str:
    """Set a name where it is set, else below the line that has it as a comment, else at the end."""
    plain = re.fullmatch(r"[\w.:/@%+,?&=~-]+", value, re.ASCII)
    line = f"{name}={value}" if plain else "{}='{}'".format(name, value.replace("\\", r"\\").replace("'", r"\'"))
    active = rf"(?im)^([^\S\n]*(?:export\s+)?){name}[^\S\n]*=[^\r\n]*?([^\S\r\n]+#[^'\"\r\n]*)?(?=\r?$)"
    result, count = re.subn(active, lambda m: m[1] + line + (m[2] or ""), text)
    if not count:
        commented = rf"(?im)^#[^\S\n]*{name}=[^\r\n]*(?=\r?$)"
        result, count = re.subn(commented, lambda m: m[0] + newline + line, text, count=1)
    return result if count else text + line + newline


def _keep_out_of_git(file: Path, interactive: bool) -> None:
    """Offer to have Git ignore the file and its backups. Git itself is not run: its configuration names programs."""
    root = next((above for above in file.parents if os.path.lexists(above / ".git")), None)
    if root is None:
        return
    name = os.fsencode(file.relative_to(root).as_posix())
    if len(name).to_bytes(2) + name + b"\0" in _bytes(root / ".git" / "index"):  # of version 2 or 3
        say(words("git_tracked", path=file, name=file.name), "yellow")
    exclude = root / ".git" / "info" / "exclude"
    sources = [exclude, *(above / ".gitignore" for above in file.parents if above.is_relative_to(root))]
    patterns = [line.strip() for source in sources for line in os.fsdecode(_bytes(source)).splitlines()]
    wanted = [file.name, f"{file.name}.bak*"]
    exposed = [line for line in wanted if not _is_ignored(file.with_name(line).relative_to(root), patterns)]
    target = exclude if exclude.parent.is_dir() else root / ".gitignore"  # in a worktree .git is a file
    lines = ", ".join(exposed)
    question = words("git_ask", lines=lines, path=target)
    added = exposed and interactive and click.confirm(question, default=True, err=True) and _append(target, exposed)
    if exposed and not added:
        say(words("git_add", lines=lines, path=target), "yellow")


def _is_ignored(file: PurePath, patterns: list[str]) -> bool:
    """Whether a line names the file, as far as plain text tells; one with `!` counts against it."""
    kept = any(p.startswith("!") and fnmatchcase(file.name, p[1:].rpartition("/")[2]) for p in patterns)
    return not kept and any(p == f"/{file.as_posix()}" or fnmatchcase(file.name, p) for p in patterns)


def _append(path: Path, lines: list[str]) -> bool:
    """Append lines, unless the path leads through a link, which whoever made the repository may have planted."""
    with contextlib.suppress(OSError):
        if path.resolve() == path and (path.is_file() or not path.exists()):
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(f"\n{line}" for line in lines) + "\n")
            return True
    return False


def _bytes(path: Path) -> bytes:
    try:
        return read_small_file(str(path), 1 << 28)
    except OSError:
        return b""
