"""`init`: asks for what a login needs, says what to enter at Webex, and writes `config.env`."""

import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TextIO
from urllib.parse import parse_qsl, urlsplit

from .authorization import RedirectURI
from .errors import ConfigurationError
from .paths import config_file, state_folder
from .settings import PREFIX, Settings, is_loopback, require

CREATE_PAGE = "https://developer.webex.com/my-apps/new/integration"
PORTS = range(8765, 8770)

# Where a portal's "OAuth Authorization URL" leads, and the base URL to use.
API_BASE_URLS: Mapping[str, str] = MappingProxyType(
    {
        "webexapis.com": "https://webexapis.com/v1",
        "api.ciscospark.com": "https://webexapis.com/v1",  # the former name
        "api-usgov.webex.com": "https://api-usgov.webex.com/v1",  # Webex for Government (FedRAMP)
    }
)

# The common ones; Webex adds to them all the time, and any other may be typed by name.
SCOPES: Mapping[str, str] = MappingProxyType(
    {
        "spark:people_read": "see people, and whose login this is",
        "spark:kms": "read encrypted content, with its keys",
        "spark:rooms_read": "see your spaces",
        "spark:rooms_write": "create, change and delete spaces",
        "spark:messages_read": "read the messages in your spaces",
        "spark:messages_write": "send and delete messages as you",
        "spark:memberships_read": "see who is in your spaces",
        "spark:calls_read": "see your calls and their history",
        "spark:calls_write": "make and control calls as you",
        "spark:xapi_statuses": "read the status of your devices",
        "spark:xapi_commands": "send commands to your devices",
        "spark:mcp": "use Webex's MCP servers",
        "spark:all": "all that you can do in the Webex app",
        "meeting:schedules_read": "see your meetings",
        "meeting:schedules_write": "schedule, change, cancel meetings",
        "meeting:recordings_read": "see and download your recordings",
        "meeting:transcripts_read": "read your meetings' transcripts",
        "spark-admin:people_read": "admins: see all users",
        "spark-admin:telephony_config_read": "admins: see the calling settings",
        "spark-admin:telephony_config_write": "admins: change them",
    }
)

_OPENID_SCOPES = ("openid", "email", "profile", "phone", "address")
_DEFAULTS = {name: str(Settings.model_fields[name].default) for name in ("scopes", "redirect_uri", "api_base_url")}
_OPTIONS = {
    "WEBEX_CLIENT_ID": "--client-id (or --url)",
    "WEBEX_CLIENT_SECRET": "--client-secret-stdin",
}
_HEADER = """\
# Settings of webex-loopback, written by `webex-loopback init`; config.example.env describes all that there are.
# There is a secret in it: keep this file to yourself, and out of git.

"""


@dataclass(slots=True)
class Answers:
    """What was given on the command line; the rest is asked for, where there is somebody to ask.

    Attributes:
        authorization_url: The portal's "OAuth Authorization URL"; the other fields win over what it says.
        path: Of the settings file to write. Default: with `here` ./config.env, else the one in force, else the
            state folder's.
        force: Replace other values without asking.
        log_in: Whether to log in afterwards; None: ask.
    """

    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scopes: str = ""
    redirect_uri: str = ""
    api_base_url: str = ""
    authorization_url: str = field(default="", repr=False)
    path: str = ""
    here: bool = False
    force: bool = False
    log_in: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        path: Of the settings file.
        changed: The names of the settings that were written.
        backup: Where the file as it was is kept, "" where it was new or is unchanged.
        log_in: Whether a login is wished for now.
    """

    path: str
    changed: tuple[str, ...]
    backup: str
    log_in: bool


class Asker(Protocol):
    """Somebody to ask."""

    def say(self, text: str = "", style: str = "") -> None:
        """Show a line; `style` is "", `title`, `dim`, `copy` or `warning`."""
        ...

    def text(self, question: str, default: str = "") -> str:
        """Return a line, stripped; `default` where it is empty."""
        ...

    def secret(self, question: str) -> str:
        """Return a line that is not echoed, stripped."""
        ...

    def yes(self, question: str, *, default: bool) -> bool:
        """Return whether the answer is yes."""
        ...


def run(
    *,
    answers: Answers,
    ask: Asker | None = None,
    say: Callable[[str], object] | None = None,
    open_page: Callable[[str], bool] | None = None,
) -> Outcome:
    """Write the settings file from the answers, and from what is asked for besides.

    What else the file holds, comments too, stays as it is; where values change, the file as it was is kept
    beside it. Nothing is written before all answers are there.

    Args:
        answers: From the command line.
        ask: Who is asked; None where there is no terminal.
        say: Called with what to tell people; default: `ask.say`, else stderr.
        open_page: Opens Webex's page; default: in the browser.

    Raises:
        ConfigurationError: Something is missing, and nobody to ask, or not usable; nothing was written.
        KeyboardInterrupt: The person left.
    """
    tell = say or (ask.say if ask else _to_stderr)
    wanted = _given(answers)
    path = _target(answers)
    text = _read(path)
    known = _values(text)
    if ask is not None:
        wanted = _Interview(ask, wanted, known, open_page or _open_page).hold()
    # The default need not be written, but has to replace what is there.
    if wanted.get("WEBEX_API_BASE_URL") == _DEFAULTS["api_base_url"] and "WEBEX_API_BASE_URL" not in known:
        del wanted["WEBEX_API_BASE_URL"]
    _check(known | wanted)
    names = [PREFIX + name.upper() for name in Settings.model_fields]
    changed = {name: wanted[name] for name in names if name in wanted and known.get(name) != wanted[name]}
    backup = ""
    if not changed:
        tell(f"{path} holds all this already.")
    elif not _may_replace(path, [name for name in changed if known.get(name)], answers.force, ask):
        tell("Nothing was changed.")
        return Outcome(path, (), "", False)
    else:
        backup = _write(path, text, _updated(text, changed))
        tell(f"Written to {path}, which only you can read.")
        if backup:
            tell(f"As it was before, it is kept as {os.path.basename(backup)} beside it.")
    _mind_git(path, ask, tell)
    _mind_others(path, wanted, tell)
    log_in = bool(answers.log_in)
    if ask is not None and answers.log_in is None:
        ask.say()
        log_in = _would(ask, "Log in now?")
    if not log_in:
        tell("Next: `webex-loopback login`.")
    return Outcome(path, tuple(changed), backup, log_in)


def read_secret(stream: TextIO | None) -> str:
    """Read the client secret for `--client-secret-stdin`: the first line.

    Raises:
        ConfigurationError: There is none.
    """
    secret = stream.readline().strip() if stream is not None else ""
    if not secret:
        raise ConfigurationError(
            "Standard input holds no client secret.",
            setting="WEBEX_CLIENT_SECRET",
            remedy="Pass it there, for instance: `pass show webex | webex-loopback init --client-secret-stdin ...`.",
        )
    return secret


def parse_authorization_url(text: str) -> dict[str, str]:
    """Read the "OAuth Authorization URL" of an Integration's page.

    Returns:
        `client_id`, `scopes` (separated by spaces), `redirect_uri`, `api_base_url`; "" for what is not in it.

    Raises:
        ConfigurationError: It is none, or one of a host that is not Webex's.
    """
    text = "".join(text.split()).strip("<>\"'").replace("&amp;", "&")
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").rstrip(".")
        values = dict(parse_qsl(parts.query, max_num_fields=100))
        base = _base_url(parts.scheme, host, parts.netloc, parts.path)
    except ValueError:
        base, host, values = "", "", {}
    if not base:
        raise _no_authorization_url(f"leads to {host}, which is not Webex" if host else "is no address")
    if not values.get("client_id"):
        raise _no_authorization_url("holds no client_id")
    return {
        "client_id": values["client_id"],
        "scopes": " ".join(values.get("scope", "").split()),
        "redirect_uri": values.get("redirect_uri", ""),
        "api_base_url": base,
    }


def _base_url(scheme: str, host: str, netloc: str, path: str) -> str:
    """Return the API's base URL, "" unless the address is Webex's, or of this machine (the sandbox)."""
    if not path.endswith("/authorize") or "@" in netloc:
        return ""
    if is_loopback(host) and scheme in ("http", "https"):
        return f"{scheme}://{netloc}{path.removesuffix('/authorize')}"
    return API_BASE_URLS.get(host, "") if scheme == "https" and path == "/v1/authorize" else ""


def _no_authorization_url(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"This OAuth Authorization URL {why}.",
        setting="WEBEX_CLIENT_ID",
        remedy="Copy it whole from the Integration's page; it begins with https://webexapis.com/v1/authorize?client_id=",
    )


def read_scopes(text: str) -> list[str]:
    """Read a choice of scopes: numbers and ranges of `SCOPES`, `all` of them, names; each once, in that order.

    Raises:
        ValueError: A part is none of these; says which.
    """
    listed, chosen = list(SCOPES), []
    for part in re.split(r"[\s,;]+", text.strip(" \t\r\n,;")):
        if match := re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part, re.ASCII):
            first, last = int(match[1]), int(match[2] or match[1])
            if not 1 <= first <= last <= len(listed):
                raise ValueError(f"{part}: the numbers go from 1 to {len(listed)}")
            chosen += listed[first - 1 : last]
        elif part.lower() == "all":
            chosen += listed
        elif re.fullmatch(r"[\w.-]+:[\w.:-]+", part, re.ASCII) or part in _OPENID_SCOPES:
            chosen.append(part)
        elif part:
            raise ValueError(f"{part!r} is no scope: they look like spark:people_read")
    if not chosen:
        raise ValueError("at least one scope is needed")
    return list(dict.fromkeys(chosen))


def free_redirect_uri() -> str:
    """Return the redirect URI to propose: `http://127.0.0.1:8765/callback`, or with a later port that is free."""
    from .loopback import bind

    texts = [f"http://127.0.0.1:{port}/callback" for port in PORTS]
    listener, _ = bind([RedirectURI.parse(text) for text in texts])
    if listener is None:
        return texts[0]
    listener.close()
    return listener.redirect_uri.text


class _Interview:
    """The questions, in an order in which one can answer them: what Webex's form wants is settled before it."""

    def __init__(
        self, ask: Asker, wanted: dict[str, str], known: Mapping[str, str], open_page: Callable[[str], bool]
    ) -> None:
        self.ask = ask
        self.wanted = dict(wanted)
        self.known = known
        self.open_page = open_page

    def hold(self) -> dict[str, str]:
        """Return the settings, whole."""
        ask = self.ask
        ask.say()
        ask.say("Set up webex-loopback", "title")
        ask.say("Ctrl-C leaves everything as it is.", "dim")
        self._drop_foreign_redirect()
        guided = "WEBEX_CLIENT_ID" not in self.wanted and not self._integration()
        if "WEBEX_SCOPES" not in self.wanted:
            self._scopes()
        if "WEBEX_REDIRECT_URI" not in self.wanted:
            self._redirect_uri(registered=not guided)
        if guided:
            self._guide()
            while not self._identify("Client ID, or OAuth Authorization URL", ""):
                ask.say("It is on the page that came after “Add Integration”.", "warning")
        if "WEBEX_CLIENT_SECRET" not in self.wanted:
            self._secret()
        ask.say()
        return self.wanted

    def _integration(self) -> bool:
        """Ask which Integration; return whether there is one."""
        ask, known = self.ask, self.known.get("WEBEX_CLIENT_ID", "")
        ask.say()
        ask.say("Your Integration", "title")
        _wrapped(
            ask,
            "Paste its Client ID, or the whole “OAuth Authorization URL” of its page: that one also tells the scopes "
            "and the redirect URI." + ("" if known else " If you have none yet, press Enter."),
        )
        return self._identify("Client ID or URL", known)

    def _identify(self, question: str, default: str) -> bool:
        while True:
            answer = self.ask.text(question, default)
            if not answer:
                return False
            if "://" not in answer:
                if self._plausible("Client ID", answer, r"C[0-9a-f]{64}", "C and 64 hexadecimal digits"):
                    self.wanted["WEBEX_CLIENT_ID"] = answer
                    return True
                continue
            try:
                found = parse_authorization_url(answer)
            except ConfigurationError as error:
                _wrapped(self.ask, f"{error} {error.remedy}", style="warning")
                continue
            self.wanted |= {PREFIX + name.upper(): value for name, value in found.items() if value}
            self._drop_foreign_redirect()
            for name in ("WEBEX_CLIENT_ID", "WEBEX_SCOPES", "WEBEX_REDIRECT_URI"):
                if value := self.wanted.get(name):
                    self.ask.say(f"  {name:<18}  {value if len(value) < 200 else value[:199] + '…'}", "dim")
            return True

    def _drop_foreign_redirect(self) -> None:
        """Forget a redirect URI that leads elsewhere; one for this machine is asked for then."""
        if text := self.wanted.get("WEBEX_REDIRECT_URI"):
            try:
                _redirect_uris(text)
            except ConfigurationError as error:
                _wrapped(self.ask, f"{error} A login needs one on this machine.", style="warning")
                del self.wanted["WEBEX_REDIRECT_URI"]

    def _scopes(self) -> None:
        ask = self.ask
        ask.say()
        ask.say("Scopes: what the tokens will be good for", "title")
        width = max(map(len, SCOPES))
        for number, (name, words) in enumerate(SCOPES.items(), 1):
            ask.say(f"  {number:2}  {name:<{width}}  {words}")
        ask.say("Numbers (1 2 5-8), names, or both; any other scope by its name.", "dim")
        while True:
            answer = ask.text("Scopes", self.known.get("WEBEX_SCOPES") or _DEFAULTS["scopes"])
            try:
                self.wanted["WEBEX_SCOPES"] = " ".join(read_scopes(answer))
            except ValueError as error:
                ask.say(f"{error}.", "warning")
            else:
                return

    def _redirect_uri(self, *, registered: bool) -> None:
        ask = self.ask
        ask.say()
        ask.say("Redirect URI: where Webex sends the browser back to, on this machine", "title")
        if registered:
            ask.say("Exactly as it is registered on the Integration.", "dim")
        while True:
            answer = ask.text("Redirect URI", self.known.get("WEBEX_REDIRECT_URI") or free_redirect_uri())
            try:
                _redirect_uris(answer)
            except ConfigurationError as error:
                _wrapped(ask, f"{error} {error.remedy}", style="warning")
            else:
                self.wanted["WEBEX_REDIRECT_URI"] = answer
                return

    def _guide(self) -> None:
        ask = self.ask
        ask.say()
        ask.say("Create the Integration", "title")
        ask.say(f"  {CREATE_PAGE}", "copy")
        ask.say()
        uris = re.split(r"[\s,]+", self.wanted["WEBEX_REDIRECT_URI"])
        fields: list[tuple[str, str]] = [
            ("Integration name", "what you will know it by, for instance: My token helper"),
            ("Contact email", "yours"),
            ("Icon", "any of those offered"),
            ("Description", "for instance: Tokens for the scripts on my own machine"),
            *(("Redirect URI(s)", uri) for uri in uris),
            ("Scopes", "tick " + ", ".join(self.wanted["WEBEX_SCOPES"].split())),
        ]
        for label, words in fields:
            _wrapped(ask, words, f"  {label:<18}")
        ask.say()
        _wrapped(
            ask,
            "Then press “Add Integration”. The page that follows shows the Client Secret once, and never again: leave "
            "it open until you are done here.",
        )
        if ask.yes("Open the page in the browser?", default=True) and not self.open_page(CREATE_PAGE):
            ask.say("No browser could be opened here. Open the address above yourself.", "warning")
        ask.say()

    def _secret(self) -> None:
        known = bool(self.known.get("WEBEX_CLIENT_SECRET"))
        same = self.wanted.get("WEBEX_CLIENT_ID") == self.known.get("WEBEX_CLIENT_ID")
        hint = "; Enter keeps the one in the file" if known and same else ""
        while True:
            answer = self.ask.secret(f"Client Secret (not shown{hint})")
            if not answer and hint:
                return
            if answer == self.wanted.get("WEBEX_CLIENT_ID"):
                self.ask.say("That was the Client ID again; the Client Secret stands below it on the page.", "warning")
            elif answer and self._plausible("Client Secret", answer, r"[0-9a-f]{64}", "64 hexadecimal digits"):
                self.wanted["WEBEX_CLIENT_SECRET"] = answer
                return

    def _plausible(self, what: str, answer: str, form: str, words: str) -> bool:
        if re.fullmatch(form, answer, re.IGNORECASE):
            return True
        self.ask.say(f"Webex's {what}s are {words}; this one ({len(answer)} characters) is not.", "warning")
        return self.ask.yes("Use it all the same?", default=False)


class TerminalAsker:
    """Asks on the terminal; standard output is left alone where it leads elsewhere."""

    _STYLES: Mapping[str, str] = MappingProxyType({"title": "1", "dim": "2", "copy": "1;36", "warning": "33"})

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._coloured = not os.environ.get("NO_COLOR") and sys.platform != "win32"
        self._edits = False
        # Without it macOS cuts a pasted line at 1,024 characters.
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401

            self._edits = True

    def say(self, text: str = "", style: str = "") -> None:
        """Show a line."""
        codes = self._STYLES.get(style, "") if self._coloured else ""
        self._stream.write(f"\x1b[{codes}m{text}\x1b[0m\n" if codes else f"{text}\n")
        self._stream.flush()

    def text(self, question: str, default: str = "") -> str:
        """Ask for a line."""
        return self._line(f"{question} [{default}]: " if default else f"{question}: ") or default

    def secret(self, question: str) -> str:
        """Ask for a line without showing it."""
        import getpass

        try:
            return getpass.getpass(f"{question}: ", self._stream).strip()
        except EOFError:
            raise KeyboardInterrupt from None

    def yes(self, question: str, *, default: bool) -> bool:
        """Ask for a yes or no."""
        while True:
            answer = self._line(f"{question} [{'Y/n' if default else 'y/N'}] ").lower()
            if answer in ("", "y", "yes", "n", "no"):
                return answer.startswith("y") if answer else default

    def _line(self, prompt: str) -> str:
        own = sys.stdout is not None and sys.stdout.isatty()
        if own and self._edits and self._coloured:
            # The marks tell readline that these take no room.
            prompt = f"\x01\x1b[1m\x02{prompt}\x01\x1b[0m\x02"
        elif not own:
            self._stream.write(prompt)
            self._stream.flush()
            prompt = ""
        try:
            return input(prompt).strip()
        except EOFError:  # Ctrl-D
            raise KeyboardInterrupt from None


def terminal_asker() -> TerminalAsker | None:
    """Return who can be asked: the person at the terminal, or None where stdin or stderr is none."""
    streams = (sys.stdin, sys.stderr)
    return TerminalAsker() if all(stream is not None and stream.isatty() for stream in streams) else None


def _wrapped(ask: Asker, text: str, head: str = "", *, style: str = "") -> None:
    width = min(shutil.get_terminal_size((80, 24)).columns - 1, 88)
    for line in textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ):
        ask.say(line, style)


def _would(ask: Asker, question: str) -> bool:
    """Ask something once the file is written: to leave is to say no."""
    try:
        return ask.yes(question, default=True)
    except KeyboardInterrupt:
        ask.say()
        return False


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _open_page(url: str) -> bool:
    from .browser import find, open_url

    return open_url(find(os.environ), url)


# The settings


def _given(answers: Answers) -> dict[str, str]:
    """Return the settings that the command line gives, by their names."""
    found = parse_authorization_url(answers.authorization_url) if answers.authorization_url else {}
    for name in ("client_id", "client_secret", "scopes", "redirect_uri", "api_base_url"):
        if value := getattr(answers, name).strip():
            found[name] = value
    return {PREFIX + name.upper(): value for name, value in found.items() if value}


def _check(values: Mapping[str, str]) -> None:
    for name, options in _OPTIONS.items():
        if not values.get(name):
            raise ConfigurationError(
                f"{name} is missing, and there is no terminal to ask for it on.",
                setting=name,
                remedy=f"Give it by {options}, or run `webex-loopback init` in a terminal.",
            )
        if re.search(r"[^\x21-\x7e]", values[name]):
            raise ConfigurationError(
                f"{name} holds a blank, or a character beyond ASCII.",
                setting=name,
                remedy="Copy it from the Integration's page again.",
            )
    from pydantic import SecretStr

    scopes, redirect_uri = (values.get(PREFIX + name.upper()) or _DEFAULTS[name] for name in ("scopes", "redirect_uri"))
    require(
        Settings.model_construct(
            client_id=values["WEBEX_CLIENT_ID"],
            client_secret=SecretStr(values["WEBEX_CLIENT_SECRET"]),
            scopes=scopes,
            redirect_uri=redirect_uri,
        )
    )
    _redirect_uris(redirect_uri)


def _redirect_uris(text: str) -> None:
    """Raise `ConfigurationError` unless each of these redirect URIs is one to listen on."""
    for part in re.split(r"[\s,]+", text.strip(" ,")):
        RedirectURI.parse(part)


# The file


def _target(answers: Answers) -> str:
    # The one in force: values in another would not be used, from this folder at least.
    path = answers.path or ("config.env" if answers.here else "") or os.environ.get("WEBEX_CONFIG_FILE")
    path = path or config_file() or os.path.join(state_folder(), "config.env")
    return os.path.abspath(os.path.expanduser(path))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritable(path, error.strerror if isinstance(error, OSError) else "it is not UTF-8") from None


def _values(text: str) -> dict[str, str]:
    from dotenv import dotenv_values

    return {name.upper(): value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}


def _updated(text: str, values: Mapping[str, str]) -> str:
    """Return the file's text with these settings in it: where they were, else below their comment, else at the end.

    Raises:
        ConfigurationError: A value cannot be written so that it is read back as it is.
    """
    from dotenv.parser import parse_stream

    newline = "\r\n" if "\r\n" in text else "\n"
    if text and not text.endswith("\n"):
        text += newline
    pieces, missing = [], dict(values)
    bindings = list(parse_stream(io.StringIO(text, newline="")))
    present = {(binding.key or "").upper() for binding in bindings}
    for binding in bindings:
        original, name = binding.original.string, (binding.key or "").upper()
        if name in values:
            original = _replaced(original, values[name], newline)
            missing.pop(name, None)
        pieces.append(original)
        # config.example.env shows each setting as a comment.
        if match := re.fullmatch(r"\s*#\s*(\w+)=.*\s*", original, re.ASCII):
            name = match[1].upper()
            if name in missing and name not in present:
                pieces.append(f"{name}={_quoted(missing.pop(name))}{newline}")
    result = "".join(pieces) or _HEADER
    result += "".join(f"{name}={_quoted(value)}{newline}" for name, value in missing.items())
    read_back = _values(result)
    for name, value in values.items():
        if read_back.get(name) != value:
            raise ConfigurationError(
                f"{name} has a value that a settings file cannot hold as it is (a line break, or ${{...}}).",
                setting=name,
                remedy=f"Set {name} in the environment.",
            )
    return result


def _replaced(original: str, value: str, newline: str) -> str:
    """Return a `NAME=value` line with another value; what stands before it and a comment after it stay."""
    head, _, rest = original.partition("=")
    comment = re.search(r"[^\S\r\n]+#[^'\"\r\n]*(?=[\r\n]*$)", rest)
    return f"{head.rstrip()}={_quoted(value)}{comment[0] if comment else ''}{newline}"


def _quoted(value: str) -> str:
    if re.fullmatch(r"[\w.:/@%+,?&=~-]+", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _may_replace(path: str, names: list[str], force: bool, ask: Asker | None) -> bool:
    if not names or force:
        return True
    listed = ", ".join(names)
    if ask is None:
        raise ConfigurationError(
            f"{path} holds other values of {listed}.",
            setting=names[0],
            remedy="--force replaces them; the file as it is now is then kept beside it.",
        )
    return ask.yes(f"{path} holds other values of {listed}. Replace them?", default=True)


def _write(path: str, before: str, text: str) -> str:
    """Write the file; return where the one that was there is kept."""
    from .store import make_private_folder, replace_file

    target = os.path.realpath(path)
    try:
        make_private_folder(os.path.dirname(target))
        backup = _backup_path(path) if before else ""
        if before:
            with open(target, "rb") as file:
                replace_file(backup, file.read())
        replace_file(target, text.encode())
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    return backup


def _backup_path(path: str) -> str:
    backup, number = f"{path}.bak", 1
    while os.path.lexists(backup):
        number += 1
        backup = f"{path}.bak{number}"
    return backup


def _unwritable(path: str, why: str | None) -> ConfigurationError:
    return ConfigurationError(
        f"The settings file {path} cannot be written: {why}.",
        setting="WEBEX_CONFIG_FILE",
        remedy="See to its folder, or name another file with --output.",
    )


# What may come in between


def _mind_git(path: str, ask: Asker | None, tell: Callable[[str], object]) -> None:
    """Keep the file, and its backups, out of a git repository."""
    folder, name = os.path.split(path)
    exposed = [entry for entry in (name, f"{name}.bak") if _git(folder, "check-ignore", "--no-index", entry) == 1]
    if _git(folder, "ls-files", "--error-unmatch", name) == 0:
        tell(f"WARNING: {name} is in git. Run `git rm --cached {name}`, and if it was pushed make a new Client Secret.")
    if not exposed:
        return
    lines = [entry + "*" * entry.endswith(".bak") for entry in exposed]
    ignore = os.path.join(folder, ".gitignore")
    if ask is None or not _would(ask, f"git does not ignore {name}. Add it to {ignore}?"):
        tell(f"git does not ignore {name}: add {' and '.join(lines)} to {ignore}.")
        return
    try:
        _append(ignore, lines)
    except OSError as error:
        tell(f"{ignore} cannot be written ({error.strerror}): add {' and '.join(lines)} to it.")


def _append(path: str, lines: Iterable[str]) -> None:
    with open(path, "a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        gap = b"" if file.read(1) in (b"", b"\n") else b"\n"
        file.write(gap + "".join(f"{line}\n" for line in lines).encode())


def _git(folder: str, *arguments: str) -> int | None:
    """Run a git command in a folder; return its exit code, None where there is no git or no such folder."""
    import subprocess

    git = shutil.which("git")
    if git is None:
        return None
    quiet = subprocess.DEVNULL
    try:
        return subprocess.run(
            [git, "-C", folder, *arguments], stdin=quiet, stdout=quiet, stderr=quiet, timeout=10, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return None


def _mind_others(path: str, wanted: Mapping[str, str], tell: Callable[[str], object]) -> None:
    """Say where something else than this file will be used."""
    environ = {name.upper(): value for name, value in os.environ.items()}
    if names := [name for name, value in wanted.items() if environ.get(name, value) != value]:
        tell(f"The environment sets {' and '.join(names)} otherwise, and wins over the file.")
    with contextlib.suppress(ConfigurationError):
        if (in_force := config_file()) and not os.path.samefile(in_force, path):
            tell(f"From this folder {in_force} is used, not this file.")
            return
    if path not in (os.path.join(state_folder(), "config.env"), os.environ.get("WEBEX_CONFIG_FILE")):
        where = "from this folder only" if os.path.dirname(path) == os.getcwd() else "where WEBEX_CONFIG_FILE names it"
        tell(f"It is used {where}; tokens, once there, work from anywhere.")
