"""Settings: their sources, and which values are trusted, cleaned up or refused; docs/settings.md has the rules."""

import io
import ipaddress
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from logging import getLogger
from typing import Annotated, Any, NamedTuple

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from . import paths
from .errors import ConfigurationError
from .private_file import is_ours, read_small_file, readable_by_others, writable_by_others
from .secret import Secret
from .wording import is_loopback, language, parse_duration, place, printable, split_list, unquoted

_log = getLogger(__name__)
ENVIRONMENT_ONLY = ("WEBEX_CONFIG_FILE", "WEBEX_PROFILE", "WEBEX_LOOPBACK_HOME", "WEBEX_LOCK_DIR")
# They decide where secrets are sent: a file that was only found must not set them for secrets from elsewhere.
_ENDPOINTS = ("api_base_url", "authorize_url", "token_url", "ca_bundle")
# A command to run, and where all tokens are kept: never taken from a file that was only found.
_NOT_FROM_FOUND = ("browser", "token_store", "token_store_key", "token_store_key_file")
FORMS = {"client_id": r"(?i)(?<!\w)C[0-9a-f]{64}(?!\w)", "client_secret": r"(?i)(?<!\w)[0-9a-f]{64}(?!\w)"}
_UNUSUAL = (
    "WEBEX_{} is not in Webex's usual format: 64 hexadecimal digits, preceded by a C in a Client ID. "
    "If a login fails, copy it again from the app's page."
)
_SECRETS = ("client_secret", "access_token", "token_store_key")


class _Value(NamedTuple):
    """The text of a setting and its origin; a `Secret`, so that no traceback with local variables shows it."""

    text: Secret
    origin: str


def _matches(pattern: str, otherwise: str) -> BeforeValidator:
    # Messages follow the setting's name and never contain the value: it may be a secret entered in the wrong place.
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(otherwise)
        return text

    return BeforeValidator(check)


def _url(text: str) -> str:
    name = r"[A-Za-z0-9_-]{1,63}"  # longer ones make the resolver raise UnicodeError
    pattern = rf"(https?)://({name}(?:\.{name})*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?(?:/[^?#\\]*)?"
    parts = re.fullmatch(pattern, text) if re.fullmatch(r"[\x21-\x7e]*", text) else None
    if parts is None or not 0 < int(parts[3] or 443) < 65_536:
        raise ValueError("must be https://HOST/PATH or https://HOST:PORT/PATH: no user name, query, or port over 65535")
    host = parts[2].strip("[]").lower()
    if ":" in host:
        ipaddress.ip_address(host)
    if parts[1] == "http" and not is_loopback(host):
        raise ValueError("must start with https://, because secrets are sent there; http is only for this machine")
    return text


def _path(text: str) -> str:
    try:
        return paths.absolute(text, "")
    except ConfigurationError:
        raise ValueError("must be an absolute path: there is no home or current directory") from None


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := parse_duration(text)) <= 86_400:
            return seconds
    raise ValueError("must be a number of seconds or a duration such as 5m, above 0 and at most one day")


_HEADER = _matches(r"[\x21-\x7e]*", "contains white space or a character that cannot be sent in an HTTP header")
_STORE = _matches(r"file|keyring|postgres(ql)?://[\x21-\x7e]+", "must be file, keyring, or a postgresql:// URL")
_BEARER = BeforeValidator(lambda text: unquoted(re.sub(r"(?i)^(authorization:\s*)?bearer(\s+|$)", "", text)))
_SCOPES = BeforeValidator(lambda text: " ".join(split_list(text, "scope")))
_URIS = BeforeValidator(lambda text: " ".join(split_list(text, "redirect_uri")))
_TO_SECRET = BeforeValidator(Secret)
_Path = Annotated[str, BeforeValidator(_path)]
_URL = Annotated[str, BeforeValidator(_url)]


def _values(texts: Mapping[str, Secret], origin: str) -> dict[str, _Value]:
    """Return the values of one source, without empty ones, and with the content of files named by `*_file`."""
    bare = {name: Secret(unquoted(text.get_secret_value())) for name, text in texts.items()}
    values = {name: _Value(text, origin) for name, text in bare.items() if text}
    for name in _SECRETS:
        if f"{name}_file" in values:
            if name in values:
                raise _error(f"{name}_file", f"and WEBEX_{name.upper()} are both set.", f"Remove one {place(origin)}.")
            path = paths.absolute(values[f"{name}_file"].text.get_secret_value(), f"WEBEX_{name.upper()}_FILE")
            # The origin is that file; otherwise a found file could have other files sent to its own endpoints.
            values[name] = _Value(Secret(unquoted(_read_text(f"{name}_file", path))), path)
            if not values[name].text:
                raise _error(f"{name}_file", f"({printable(path)}) is empty.", "Write the secret to it.")
    return values


class Settings(BaseSettings):
    """All settings; `load()` reads them."""

    model_config = SettingsConfigDict(
        env_prefix="WEBEX_", extra="forbid", frozen=True, validate_default=False, arbitrary_types_allowed=True
    )

    client_id: Annotated[str, _HEADER] = ""
    client_secret: Annotated[Secret, _TO_SECRET, _HEADER] = Secret()
    client_secret_file: _Path = ""
    scopes: Annotated[str, _SCOPES] = "spark:people_read spark:kms"
    redirect_uri: Annotated[str, _URIS] = "http://127.0.0.1:8765/callback"
    api_base_url: _URL = "https://webexapis.com/v1"
    authorize_url: _URL = ""
    token_url: _URL = ""
    login_timeout: Annotated[float, BeforeValidator(_seconds)] = 300
    browser: str = ""
    lang: Annotated[str, BeforeValidator(lambda text: language({"WEBEX_LANG": text}))] = ""
    tls_cert: _Path = ""
    tls_key: _Path = ""
    ca_bundle: _Path = ""
    access_token: Annotated[Secret, _TO_SECRET, _HEADER, _BEARER] = Secret()
    access_token_file: _Path = ""
    token_store: Annotated[str, Field(repr=False), _STORE] = "file"  # a URL may hold a password
    token_store_key: Annotated[Secret, _TO_SECRET, _matches(r"[\s\x21-\x7e]*", "is not ASCII text")] = Secret()
    token_store_key_file: _Path = ""

    _file: paths.ConfigFile | None = PrivateAttr(None)
    _warnings: tuple[str, ...] = PrivateAttr(())
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, *_: Any, **sources: Any) -> tuple[Any, ...]:
        return (sources["init_settings"],)  # `load()` reads the others: it must know the origin of each value

    def __reduce__(self) -> Any:
        raise TypeError("Settings hold secrets and cannot be pickled; call load() again instead")

    @property
    def scope_list(self) -> list[str]:
        """The scopes to request, each once, in the given order."""
        return self.scopes.split()

    @property
    def redirect_uris(self) -> list[str]:
        """The registered redirect URIs, in order of preference."""
        return self.redirect_uri.split()

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each setting (`WEBEX_...`) comes from: "environment", "command line", "default", or a file's path."""
        return {setting: self._origins[name] for setting, name in _NAMES.items()}

    @property
    def config_file(self) -> str:
        """The active configuration file, or ""."""
        return self._file.path if self._file else ""

    @property
    def found_file(self) -> str:
        """The active configuration file if it was only found in the current directory, or ""."""
        return self._file.path if self._file and self._file.found else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user: a skipped file, lines and names without effect, a secret that others can read."""
        return self._warnings

    def check_destinations(self, secret_origin: str, what: str) -> None:
        """Raise `ConfigurationError` if a found file chooses an endpoint for a secret from elsewhere.

        `secret_origin` is a value of `origins` or another path; `what` names the secret ("the client secret").
        """
        for name in _ENDPOINTS:
            if self.found_file and self._origins[name] == self.found_file != secret_origin:
                why = f"must not be used for {what}, which is {place(secret_origin)}"
                raise _not_from_found(name, self.found_file, why)

    def warn_of_found_token(self) -> None:
        """Log that the access token of a file that was only found is used."""
        text = "WEBEX_ACCESS_TOKEN in %s, found in the current directory, is used instead of a stored token."
        _log.warning(text, printable(self.found_file))


_NAMES = {f"WEBEX_{name.upper()}": name for name in Settings.model_fields}


def load(**overrides: Any) -> Settings:
    """Read the settings; overrides, by field name, take precedence, but None and "" count as not given.

    Raises `ConfigurationError` if a value or a file cannot be used; `require` reports what is missing.
    """
    given = {n: v if isinstance(v, Secret) else Secret(str(v)) for n, v in overrides.items() if v is not None}
    texts = {name: Secret(text) for name, text in EnvSettingsSource(Settings)().items()}
    environment = _values(texts, "environment")
    file, warnings, values = _read_config_file(paths.config_file())
    values |= environment | _values(given, "command line")
    for name in _NOT_FROM_FOUND:
        if file and file.found and name in values and values[name].origin == file.path:
            raise _not_from_found(name, file.path, "is never taken from such a file")
    base = values.get("api_base_url", _Value(Secret(Settings.model_fields["api_base_url"].default), "default"))
    root = base.text.get_secret_value().rstrip("/")
    values["api_base_url"] = _Value(Secret(root), base.origin)
    values.setdefault("authorize_url", _Value(Secret(f"{root}/authorize"), base.origin))
    values.setdefault("token_url", _Value(Secret(f"{root}/access_token"), base.origin))
    try:
        settings = Settings(**{name: value.text.get_secret_value() for name, value in values.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name, why = str(problem["loc"][0]), str(problem.get("ctx", {}).get("error", problem["msg"]))
    else:
        odd = [n for n in values if n in FORMS and not re.fullmatch(FORMS[n], values[n].text.get_secret_value())]
        settings._file, settings._warnings = file, (*warnings, *(_UNUSUAL.format(name.upper()) for name in odd))
        settings._origins = {n: values[n].origin if n in values else "default" for n in _NAMES.values()}
        return settings
    # Outside the except clause: the ValidationError, which holds the refused value, must not be chained.
    raise _error(name, f"{why}.", f"Correct it {place(values[name].origin)}.")


def require(settings: Settings) -> None:
    """Raise `ConfigurationError` unless all settings that a login needs are set and may be used together."""
    for name in ("client_id", "client_secret"):
        if not getattr(settings, name):
            told = [f"Configuration file: {printable(settings.config_file)}."] if settings.config_file else []
            names = [name for name in os.environ if name.upper() not in ENVIRONMENT_ONLY]
            told += [*settings.warnings, *_unknown(names, "the environment")]
            remedy = "Run `webex-loopback init`, or set it in the environment. Your Integration's page shows it: "
            raise _error(name, " ".join(["is not set.", *told]), remedy + "https://developer.webex.com/my-apps")
    wrong = [scope for scope in settings.scope_list if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope)]
    if wrong or not settings.scope_list:  # RFC 6749 §3.3; Webex refuses a login without scopes
        why = f"contains {printable(wrong[0], 60)!r}, which is not a valid scope." if wrong else "is empty."
        example = "WEBEX_SCOPES='spark:people_read spark:kms'"
        raise _error("scopes", why, f"List scopes that are selected on the Integration, for example {example}.")
    if not settings.redirect_uris:
        example = "WEBEX_REDIRECT_URI=http://127.0.0.1:8765/callback"
        raise _error("redirect_uri", "is empty.", f"Set it as registered on the Integration, for example {example}")
    settings.check_destinations(settings._origins["client_secret"], "the client secret")


def _read_config_file(
    file: paths.ConfigFile | None, *warnings: str
) -> tuple[paths.ConfigFile | None, list[str], dict[str, _Value]]:
    """Return the configuration file that is used, warnings, and the values by field name."""
    if file is None:
        return None, [*warnings], {}
    shown, status = printable(file.path), os.stat(file.path)
    in_data_directory = not file.found and not paths.environment_path("WEBEX_CONFIG_FILE")
    if unsafe := _unsafe(file.path, status, ours_only=in_data_directory):
        if not file.found:
            raise _error("config_file", f"({shown}) is not safe to use, because {unsafe[0]}.", unsafe[1])
        path = os.path.join(paths.data_directory(), "config.env")
        other = paths.ConfigFile(path, found=False) if os.path.exists(path) else None
        return _read_config_file(other, f"Ignored {shown}, because {unsafe[0]}. {unsafe[1]}")
    texts, broken = _parse(_read_text("config_file", file.path, status))
    invalid = [f"{shown}:{line}: ignored, because it is not NAME=value." for line in broken[:10]]
    told = [*warnings, *invalid, *_unknown(texts, shown)]
    values = _values({_NAMES[name]: text for name, text in texts.items() if name in _NAMES}, file.path)
    secrets = [values[name].origin for name in _SECRETS if name in values]
    store = texts.get("WEBEX_TOKEN_STORE", Secret()).get_secret_value()  # its URL may hold a password
    if (file.path in secrets or "@" in store) and readable_by_others(status):
        told.append(f"{shown} holds a secret that other users can read. Run `chmod 600 {shlex.quote(shown)}`.")
    return file, told, values


def _parse(text: str) -> tuple[dict[str, Secret], list[int]]:
    """Return the values of a configuration file by name in upper case, and the numbers of invalid lines."""
    values, broken = {}, []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            blank_lines = binding.original.string.partition(binding.original.string.strip())[0].count("\n")
            broken.append(binding.original.line + blank_lines)
        values[(binding.key or "").upper()] = Secret(binding.value or "")
    return values, broken


def _unsafe(path: str, file: os.stat_result, *, ours_only: bool) -> tuple[str, str] | None:
    """Return why another user could have written a file, and a remedy; None if that is not possible."""
    real = os.path.realpath(path)
    above = {directory: os.stat(directory) for directory in (os.path.dirname(path), os.path.dirname(real))}
    for name, status in [(real, file), *(above.items() if ours_only else ())]:
        shown = shlex.quote(printable(name))
        if not is_ours(status) and (ours_only or status.st_uid != 0):
            return f"{shown} belongs to another user", f'If you trust it, run `sudo chown "$(id -un)" {shown}`.'
    if writable_by_others(file) and stat.S_ISREG(file.st_mode):  # /dev/zero is refused when it is read
        return "other users can write to it", f"Check it, then run `chmod go-w {shlex.quote(printable(real))}`."
    for name, status in above.items():
        if writable_by_others(status) and status.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return "other users can replace it", f"Run `chmod o-w {shlex.quote(printable(name))}`, or move the file."
    return None


def _read_text(name: str, path: str, checked: os.stat_result | None = None) -> str:
    try:
        data = read_small_file(path, 1 << 16, checked)
    except OSError as error:
        what = f"({printable(path)}) could not be read: {error.strerror}."
        raise _error(name, what, "Correct the path, or the file's type and permissions.") from None
    utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = data.decode("utf-16" if utf_16 else "utf-8-sig", "replace")  # an exception would hold the file's content
    del data  # as would a traceback with local variables
    if "\0" in text or "\ufffd" in text:
        del text
        remedy = "Save it as UTF-8 in your editor. To convert UTF-16 without a byte order mark in PowerShell: "
        command = "`(gc {0} -Encoding Unicode) | Set-Content {0} -Encoding utf8`".format(powershell_quoted(path))
        raise _error(name, f"({printable(path)}) is not UTF-8 text.", remedy + command)
    return text


def _unknown(names: Iterable[str], where: str) -> list[str]:
    odd = sorted(name for name in names if "WEBEX_" in name.upper() and name.upper() not in _NAMES)
    return [f"{printable(name, 60)} in {where} has no effect there; is it misspelled?" for name in odd[:5]]


def powershell_quoted(path: str) -> str:
    """Quote a path for a command to paste into PowerShell, which doubles apostrophes."""
    return "'{}'".format(printable(path, 4096).replace("'", "''"))


def _not_from_found(name: str, path: str, why: str) -> ConfigurationError:
    what = f"is set in {printable(path)}, a file that was only found in the current directory, and {why}."
    powershell = f"$env:WEBEX_CONFIG_FILE={powershell_quoted(path)}"
    command = powershell if os.name == "nt" else f"export WEBEX_CONFIG_FILE={shlex.quote(printable(path))}"
    trust = f"If you trust that file, run `{command}`. "
    return _error(name, what, trust + f"Otherwise, set WEBEX_{name.upper()} in the environment.")


def _error(name: str, what: str, remedy: str) -> ConfigurationError:
    setting = f"WEBEX_{name.upper()}"
    subject = "The configuration file" if name == "config_file" else setting
    return ConfigurationError(f"{subject} {what}", setting=setting, remedy=remedy)
