"""The settings: environment first, then one `config.env`; each is described in `config.example.env`."""

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigurationError
from .paths import config_file

PREFIX = "WEBEX_"


class Settings(BaseSettings):
    """What a login needs; `load()` makes one."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        env_file_encoding="utf-8-sig",  # Windows' Notepad puts a BOM before the first setting's name
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,  # `docker run --env-file` keeps the CR of a CRLF file
    )

    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    scopes: str = "spark:people_read spark:kms"
    redirect_uri: str = "http://127.0.0.1:8765/callback"
    api_base_url: str = "https://webexapis.com/v1"
    authorize_url: str = ""
    token_url: str = ""
    login_timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 300
    tls_cert: str = ""
    tls_key: str = ""
    ca_bundle: str = ""
    access_token: SecretStr = SecretStr("")

    @field_validator("client_secret", "access_token", mode="before")
    @classmethod
    def _strip(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    def __reduce__(self) -> Any:
        raise TypeError("Settings are not pickled: they hold secrets; load() them where they are needed")

    @property
    def scope_list(self) -> list[str]:
        """The scopes to ask for, each once, in the order given."""
        return list(dict.fromkeys(re.split(r"[\s,]+", self.scopes.strip(" \t\r\n,")))) if self.scopes.strip() else []

    @property
    def redirect_uris(self) -> list[str]:
        """The registered redirect URIs, in order of preference."""
        return [part for part in re.split(r"[\s,]+", self.redirect_uri) if part]


def load(**overrides: Any) -> Settings:
    """Read the settings; an override that is None does not count.

    Raises:
        ConfigurationError: A value or the file is unusable. What is merely missing shows in `require`.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    path = config_file()
    try:
        settings = Settings(_env_file=path or None, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigurationError(
            f"{name} is not usable: {first['msg']}.",
            setting=name,
            remedy=f"Correct {name} {_where(name, given)}.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"The settings file {path} cannot be read: {why}.",
            setting="WEBEX_CONFIG_FILE",
            remedy="Mend the file, or name another one in WEBEX_CONFIG_FILE.",
        ) from None
    return _derived(settings, given)


def _derived(settings: Settings, given: Mapping[str, Any]) -> Settings:
    """Fill in the endpoints that follow from the base URL, and check them all."""
    base = settings.api_base_url.rstrip("/")
    urls = {
        "api_base_url": base,
        "authorize_url": settings.authorize_url or f"{base}/authorize",
        "token_url": settings.token_url or f"{base}/access_token",
    }
    for field, url in urls.items():
        _check_url(PREFIX + field.upper(), url, given)
    paths = {
        field: os.path.abspath(os.path.expanduser(value))
        for field in ("ca_bundle", "tls_cert", "tls_key")
        if (value := getattr(settings, field))
    }
    return settings.model_copy(update=urls | paths)


def _check_url(name: str, url: str, given: Mapping[str, Any]) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise ConfigurationError(
            f"{name} is not a web address.", setting=name, remedy=f"Correct it {_where(name, given)}."
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{name} is http://, which would carry the client secret in the clear.",
            setting=name,
            remedy="Use https://; plain http is for a sandbox on this machine only.",
        )


def _what_was_read() -> str:
    """Return a sentence on the settings file, for whoever misses a setting that they have written there."""
    try:
        path, misspelt = config_file(), unknown_names()
    except (ConfigurationError, OSError, UnicodeDecodeError):
        return ""
    told = f" The settings file is {path} ." if path else ""
    return f"{told} In it, {', '.join(misspelt)} is no setting: is it misspelt?" if misspelt else told


def is_loopback(host: str) -> bool:
    """Whether a URL's host can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require(settings: Settings) -> None:
    """Raise `ConfigurationError` for what a login cannot do without."""
    create = "https://developer.webex.com/my-apps/new/integration"
    for name, value in (
        ("WEBEX_CLIENT_ID", settings.client_id),
        ("WEBEX_CLIENT_SECRET", settings.client_secret.get_secret_value()),
    ):
        if not value:
            raise ConfigurationError(
                f"{name} is not set.",
                setting=name,
                remedy=f"Set it in the environment or in config.env; `webex-loopback init` asks for what is missing. "
                f"It is shown when an Integration is created: {create}{_what_was_read()}",
            )
    if not settings.scope_list:
        raise ConfigurationError(
            "WEBEX_SCOPES is empty, and Webex refuses a login without a scope.",
            setting="WEBEX_SCOPES",
            remedy="Name at least one scope that is ticked on the Integration, for instance spark:people_read.",
        )
    for scope in settings.scope_list:
        # RFC 6749 §3.3: a scope-token has no space, quote, backslash or anything beyond ASCII.
        if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", scope):
            raise ConfigurationError(
                f"{scope!r} in WEBEX_SCOPES is not a scope.",
                setting="WEBEX_SCOPES",
                remedy="Separate scopes by spaces or commas, without quotes inside.",
            )
    if not settings.redirect_uris:
        raise ConfigurationError(
            "WEBEX_REDIRECT_URI is empty.",
            setting="WEBEX_REDIRECT_URI",
            remedy="Set it to the redirect URI that is registered on the Integration.",
        )


def origins(overrides: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Tell for each setting's environment name where its value comes from, for people to read."""
    from dotenv import dotenv_values  # comes with pydantic-settings, which reads the file with it

    path = config_file()
    in_file = {k.upper(): v for k, v in dotenv_values(path, encoding="utf-8-sig").items()} if path else {}
    in_environ = {k.upper(): v for k, v in os.environ.items()}
    found = {}
    for field in Settings.model_fields:
        name = PREFIX + field.upper()
        if overrides and overrides.get(field):
            found[name] = "command line"
        elif in_environ.get(name):
            found[name] = "environment"
        elif in_file.get(name):
            found[name] = path
        else:
            found[name] = "default"
    return found


def unknown_names() -> list[str]:
    """Return the `WEBEX_` names of the settings file that are none of ours: most likely misspelt."""
    from dotenv import dotenv_values

    path = config_file()
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    names = dotenv_values(path, encoding="utf-8-sig") if path else {}
    return sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known)


def broken_lines() -> list[int]:
    """Return the numbers of the settings file's lines that are no `NAME=value`; they are passed over."""
    from dotenv.parser import parse_stream

    path = config_file()
    if not path:
        return []
    with open(path, encoding="utf-8-sig") as file:
        return [binding.original.line for binding in parse_stream(file) if binding.error]


def _where(name: str, given: Mapping[str, Any]) -> str:
    origin = origins(given)[name]
    return {"environment": "in the environment", "command line": "on the command line"}.get(origin, f"in {origin}")
