"""Tokens from and for other tools: token responses, Postman environments, wxc_sdk's file, shells and curl.

An absolute time takes precedence over `expires_in`, which counts from when the token was issued. In a bare token
response it is counted from now, because the issue time is not known; if the result is too late, the first 401 causes a
renewal.
"""

import json
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from webex_loopback.oauth.token_response import MalformedToken, TokenResponse, read_object
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import StoredToken

FORMATS = ("env", "header", "json", "curl", "postman", "wxc-sdk", "token-response")
WITH_REFRESH_TOKEN = ("postman", "wxc-sdk", "token-response")

_SECRETS = ("access_token", "refresh_token", "client_secret")
_LIFETIMES = ("expires_in", "refresh_token_expires_in")
_OTHERS = ("token_type", "scope", "client_id", "expires_at", "refresh_token_expires_at")
# Other tools write the names in other ways: `accessToken`, `WEBEX_ACCESS_TOKEN`.
_NAMES = {name.replace("_", ""): name for name in (*_SECRETS, *_LIFETIMES, *_OTHERS)} | {"scopes": "scope"}
_MILLISECONDS_FROM = 1e11  # as seconds that would be the year 5138

# `name: text`, as wxc_sdk writes it. A plain scalar has no indicator at its start, and nothing in it that YAML reads as
# more than text.
_YAML_LINE = re.compile(
    r"""([A-Za-z_][A-Za-z0-9_]*):(?: ++(?:'((?:[ -&(-~]|'')*)'|(?![,\[\]{}#&*!|>%@`"']|[-?:](?: |$))"""
    r"""((?:(?!: | #|: *$)[ -~])*)))? *"""
)


@dataclass(frozen=True, slots=True)
class Imported:
    """Tokens read from another tool's file, which `kind` describes. Moments are epoch seconds, None if unknown."""

    kind: str
    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: int | None = None
    refresh_token_expires_at: int | None = None
    scopes: list[str] | None = None
    client_id: str = ""
    client_secret: Secret | None = None


def read(data: bytes, now: float) -> Imported:
    """Read a token response, a Postman environment or globals, or wxc_sdk's yml file.

    Raises:
        MalformedToken: It is none of them, or has no usable access token; nothing is quoted.
    """
    try:  # PowerShell's `>` writes UTF-16
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if not text.startswith(("{", "[")):
        return _imported("a wxc_sdk token file", _flat_yaml(text), now)
    values = read_object(text)
    if not isinstance(values.get("values"), list):
        return _imported("a token response", values.items(), now)
    pairs = [
        (entry["key"], entry.get("value"))
        for entry in values["values"]
        if isinstance(entry, dict) and isinstance(entry.get("key"), str) and entry.get("enabled") is not False
    ]
    return _imported("a Postman environment", pairs, now)


def write(form: str, access_token: str, token: StoredToken | None, now: float) -> str:
    """Return a token in one of `FORMATS`; lifetimes are the time left.

    Args:
        token: The stored record; None for a token from the environment, of which nothing else is known.
    """
    end, refresh_end = (token.expires_at, token.refresh_token_expires_at) if token else (None, None)
    header = f"Authorization: Bearer {access_token}"
    if form == "header":
        return header
    if form == "env":
        return f"WEBEX_ACCESS_TOKEN={shlex.quote(access_token)}"
    if form == "curl":  # for ASCII, curl's quoting is that of JSON
        return f"header = {json.dumps(header)}"
    if form == "json":
        return json.dumps({"access_token": access_token, "token_type": "Bearer", "expires_at": end})
    values: dict[str, str | int | None] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": None if end is None else max(0, end - int(now)),
        "refresh_token": token.refresh_token.get_secret_value() if token and token.refresh_token else None,
        "refresh_token_expires_in": None if refresh_end is None else max(0, refresh_end - int(now)),
        "scope": " ".join(token.granted) or None if token else None,
        "expires_at": iso(end),
        "refresh_token_expires_at": iso(refresh_end),
    }
    if form == "wxc-sdk":  # a JSON string is valid YAML, but not every reader accepts it
        quoted = {n: "'" + v.replace("'", "''") + "'" if isinstance(v, str) else v for n, v in values.items()}
        return "\n".join(f"{name}: {'null' if value is None else value}" for name, value in sorted(quoted.items()))
    if form == "postman":
        if token is not None:
            values |= {"client_id": token.client_id, "client_secret": token.client_secret.get_secret_value()}
        entries = [
            {"key": name, "value": value, "type": "secret" if name in _SECRETS else "default", "enabled": True}
            for name, value in values.items()
            if value and name not in ("token_type", *_LIFETIMES)
        ]
        return json.dumps({"name": "Webex", "values": entries, "_postman_variable_scope": "environment"}, indent=2)
    return json.dumps({name: value for name, value in values.items() if value is not None}, indent=2)


def iso(moment: float | None) -> str | None:
    """Return a moment in UTC, ISO 8601; None if unknown or beyond the calendar."""
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def _imported(kind: str, pairs: Any, now: float) -> Imported:
    values: dict[str, Any] = {}
    for spelling, value in pairs:
        name = _NAMES.get(re.sub(r"[_-]", "", spelling.lower()).removeprefix("webex"))
        if name is not None and value not in (None, ""):
            values[name] = value
        if name in _SECRETS and isinstance(value, str) and value.startswith("{{"):
            raise MalformedToken(f"has the name of a Postman variable instead of a value in {name}")
    if "Postman" in kind:
        if "access_token" not in values:  # Postman does not export current values
            raise MalformedToken("is a Postman environment in which access_token has no (initial) value")
        for name in _LIFETIMES:  # it does not say when they were issued
            values.pop(name, None)
    response = TokenResponse.from_json(json.dumps(values).encode())
    if response.refresh_token is None and "refresh_token" in values:
        raise MalformedToken("contains an unusable refresh_token")
    end = _end(values.get("refresh_token_expires_at"), response.refresh_token_expires_in, now)
    secret = _word(values.get("client_secret"))
    return Imported(
        kind=kind,
        access_token=response.access_token,
        refresh_token=response.refresh_token,
        expires_at=_end(values.get("expires_at"), response.expires_in, now),
        refresh_token_expires_at=end if response.refresh_token else None,
        scopes=response.scope,
        client_id=_word(values.get("client_id")),
        client_secret=Secret(secret) if secret else None,
    )


def _end(moment: Any, lifetime: int | None, now: float) -> int | None:
    """Return when a token expires; a moment that cannot be read is unknown rather than a guess."""
    if moment is None:
        return None if lifetime is None else int(now) + lifetime
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(moment, str) and not re.fullmatch(r"\d+(\.\d+)?", moment, re.ASCII):
            date = datetime.fromisoformat(moment)
            return int(date.timestamp()) if date.tzinfo else None
        epoch = float(moment)
        if 0 <= epoch < _MILLISECONDS_FROM * 1000:
            return int(epoch / 1000 if epoch >= _MILLISECONDS_FROM else epoch)
    return None


def _word(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,512}", value) else ""


def _flat_yaml(text: str) -> list[tuple[str, str]]:
    """Read the subset of YAML that wxc_sdk writes; anything else is refused rather than misread."""
    text = re.sub("(?m)^#.*", "", text.replace("\r\n", "\n").removeprefix("---\n"))
    lines = [_YAML_LINE.fullmatch(line) for line in re.sub(r" *\n +", " ", text).split("\n") if line]
    if None in lines:
        raise MalformedToken("is neither JSON nor a wxc_sdk token file")
    found = [line.groups("") for line in lines if line]
    return [
        (name, quoted.replace("''", "'") or re.sub("^(~|null)$", "", plain.rstrip())) for name, quoted, plain in found
    ]
