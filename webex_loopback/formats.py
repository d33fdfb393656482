"""Tokens from and for other tools: Postman, wxc_sdk, a shell.

What can be read:
- a token response (RFC 6749 §5.1), as Postman shows it and as `curl` gets it;
- the same with `expires_at` and `refresh_token_expires_at` (ISO 8601 with a zone, or epoch seconds or milliseconds);
- a Postman environment (or globals), exported as JSON;
- wxc_sdk's yml file.

An absolute time wins over `expires_in`, which counts from when the token was issued. In a bare token response it is
counted from now, since nothing better is known; if that was too late, the first 401 brings the refresh.
"""

import json
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from .token import MalformedToken, StoredToken, TokenResponse, read_object, refresh_time

Form = Literal["json", "wxc-sdk", "postman", "env"]
FORMS: tuple[Form, ...] = ("json", "wxc-sdk", "postman", "env")

_LARGEST = 1 << 20
_MILLISECONDS_FROM = 1e11  # as seconds that would be the year 5138
# What is looked for; other tools write the names in other ways (`accessToken`, `WEBEX_ACCESS_TOKEN`).
_NAMES = (
    "access_token",
    "token_type",
    "expires_in",
    "expires_at",
    "refresh_token",
    "refresh_token_expires_in",
    "refresh_token_expires_at",
    "scope",
    "client_id",
    "client_secret",
)
_BY_SPELLING = {name.replace("_", ""): name for name in _NAMES} | {"scopes": "scope"}


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read; repr shows no secret.

    Attributes:
        expires_at: End of the access token, epoch seconds, None where unknown; it may have passed.
        refresh_token_expires_at: End of the refresh token, likewise.
        scopes: None where it is not said.
        client_id: Of the Integration, or "".
    """

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    expires_at: int | None = None
    refresh_token_expires_at: int | None = None
    scopes: list[str] | None = None
    client_id: str = ""
    client_secret: SecretStr | None = None

    def to_stored(
        self,
        *,
        now: float,
        token_url: str,
        api_base_url: str,
        client_id: str = "",
        client_secret: SecretStr | None = None,
        **others: Any,
    ) -> StoredToken:
        """Make a record of it; the settings' client is taken where none came along.

        The client secret of the settings is not taken for another Integration's client id. `others` are further
        fields of `StoredToken`, for instance `scopes_requested`.
        """
        if self.client_id not in ("", client_id):
            client_id, client_secret = self.client_id, None
        issued_at = int(now)
        return StoredToken(
            refresh_at=refresh_time(
                issued_at,
                self.expires_at,
                self.refresh_token_expires_at,
                can_refresh=self.refresh_token is not None,
            ),
            access_token=self.access_token,
            issued_at=issued_at,
            expires_at=self.expires_at,
            refresh_token=self.refresh_token,
            refresh_token_issued_at=issued_at if self.refresh_token else None,
            refresh_token_expires_at=self.refresh_token_expires_at,
            scopes_granted=self.scopes,
            client_id=client_id,
            client_secret=self.client_secret or client_secret or SecretStr(""),
            token_url=token_url,
            api_base_url=api_base_url,
            **{"scopes_requested": self.scopes or [], **others},
        )


def read(text: str, now: float) -> Imported:
    """Read tokens in any of the forms above.

    Raises:
        MalformedToken: It is none of them, or there is no usable access token in it; nothing of it is quoted.
    """
    text = text.removeprefix("\ufeff").strip(" \t\r\n")
    if len(text) > _LARGEST:
        raise MalformedToken("is too large to hold tokens")
    if not text.startswith("{"):
        return _imported(_known(_flat_yaml(text)), now)
    values = read_object(text)
    if not isinstance(values.get("values"), list):
        return _imported(_known(list(values.items())), now)
    known = _known(_postman_values(values["values"]))
    if not known.get("access_token"):
        # Postman keeps what it calls current values to itself.
        raise MalformedToken("is a Postman environment in which access_token has no value (that is, no initial value)")
    # When they were counted from is not said.
    return _imported(known | {"expires_in": None, "refresh_token_expires_in": None}, now)


def write(token: StoredToken, form: Form, now: float) -> str:
    """Return the tokens in a form for others; lifetimes are what is left of them.

    - `json`: a token response, with the absolute times beside the lifetimes.
    - `wxc-sdk`: the yml file of `wxc_sdk.integration`.
    - `postman`: an environment to import. It holds the refresh token and the client secret.
    - `env`: `WEBEX_ACCESS_TOKEN=...`, quoted for a shell.
    """
    access_token = token.access_token.get_secret_value()
    if form == "env":
        return f"WEBEX_ACCESS_TOKEN={shlex.quote(access_token)}\n"
    refresh_token = token.refresh_token.get_secret_value() if token.refresh_token else None
    values: dict[str, str | int | None] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": _left(token.expires_at, now),
        "refresh_token": refresh_token,
        "refresh_token_expires_in": _left(token.refresh_token_expires_at, now),
        "scope": " ".join(token.granted) or None,
        "expires_at": _iso(token.expires_at),
        "refresh_token_expires_at": _iso(token.refresh_token_expires_at),
    }
    if form == "wxc-sdk":
        return "".join(f"{name}: {_yaml_scalar(value)}\n" for name, value in sorted(values.items()))
    given = {name: value for name, value in values.items() if value is not None}
    if form == "json":
        return json.dumps(given, indent=2) + "\n"
    for name in ("token_type", "expires_in", "refresh_token_expires_in"):
        given.pop(name, None)
    given |= {
        "client_id": token.client_id,
        "client_secret": token.client_secret.get_secret_value(),
        "token_url": token.token_url,
        "api_base_url": token.api_base_url,
    }
    secret = ("access_token", "refresh_token", "client_secret")
    environment = {
        "name": f"Webex ({token.account.email})" if token.account.email else "Webex",
        "values": [
            {"key": name, "value": value, "type": "secret" if name in secret else "default", "enabled": True}
            for name, value in given.items()
            if value
        ],
        "_postman_variable_scope": "environment",
        "_postman_exported_at": _iso(int(now)),
        "_postman_exported_using": "webex-loopback",
    }
    return json.dumps(environment, indent=2) + "\n"


def _imported(values: dict[str, Any], now: float) -> Imported:
    for name in ("access_token", "refresh_token"):
        if isinstance(values.get(name), str) and values[name].startswith("{{"):
            raise MalformedToken(f"has the name of a Postman variable in place of {name}")
    # The rules of what a token and a lifetime are, are those of a token response.
    response = TokenResponse.from_json(json.dumps(values).encode())
    if response.refresh_token is None and values.get("refresh_token"):
        raise MalformedToken("holds a refresh_token that cannot be one")  # a login's answer may; this can be mended
    end = _end(values.get("refresh_token_expires_at"), response.refresh_token_expires_in, now)
    client_secret = _word(values.get("client_secret"))
    return Imported(
        access_token=response.access_token,
        refresh_token=response.refresh_token,
        expires_at=_end(values.get("expires_at"), response.expires_in, now),
        refresh_token_expires_at=end if response.refresh_token else None,
        scopes=response.scope,
        client_id=_word(values.get("client_id")),
        client_secret=SecretStr(client_secret) if client_secret else None,
    )


def _known(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what is looked for, by its name in a token response; everything else is left out."""
    found: dict[str, Any] = {}
    for spelling, value in pairs:
        name = _BY_SPELLING.get(re.sub(r"[_-]", "", spelling.lower()).removeprefix("webex"))
        if name is None:
            continue
        if name in found and found[name] != value:
            raise MalformedToken(f"holds {name} twice, and not the same")
        found[name] = value
    return found


def _end(moment: Any, lifetime: int | None, now: float) -> int | None:
    if moment is not None:
        return _epoch(moment)  # unknown rather than a guess, where it makes no sense
    return None if lifetime is None else int(now) + lifetime


def _epoch(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,17}(\.\d{1,9})?", value, re.ASCII):
        value = float(value)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        value = None if moment.tzinfo is None else moment.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MILLISECONDS_FROM * 1000:
        return None
    return int(value / 1000 if value >= _MILLISECONDS_FROM else value)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,512}", value) else ""


def _postman_values(entries: list[Any]) -> list[tuple[str, Any]]:
    return [
        (entry["key"], entry["value"])
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("key"), str)
        and entry.get("value") not in (None, "")
        and entry.get("enabled") is not False
    ]


_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*):(?: +(.*))?")
_QUOTED = re.compile(r"'((?:[\x20-\x26\x28-\x7e]|'')*)'")
# A plain scalar: no indicator at its start, and nothing in it that YAML reads as more than text.
_PLAIN = re.compile(r"""(?![,\[\]{}#&*!|>%@`"']|[-?:](?: |$))(?!.*(?:: | #|:$))[\x20-\x7e]*""")


def _flat_yaml(text: str) -> list[tuple[str, Any]]:
    """Read the little of YAML that wxc_sdk's file is: `name: text`, where a long text goes on in the next line.

    Everything else (nesting, lists, tags, anchors, double quotes, comments within a line) is refused rather than
    read otherwise than YAML would.
    """
    pairs: list[tuple[str, str]] = []
    goes_on = False
    for line in text.replace("\r\n", "\n").removeprefix("---\n").split("\n"):
        if not line.strip(" ") or line.startswith("#"):
            goes_on = False
        elif goes_on and line.startswith(" "):
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {line.strip(' ')}")
        elif match := _KEY.fullmatch(line):
            pairs.append((match[1], (match[2] or "").rstrip(" ")))
            goes_on = bool(pairs[-1][1])
        else:
            raise _neither()
    if len({name for name, _ in pairs}) != len(pairs):
        raise MalformedToken("holds a name twice")
    return [(name, _scalar(value)) for name, value in pairs]


def _scalar(value: str) -> str | None:
    if match := _QUOTED.fullmatch(value):
        return match[1].replace("''", "'")
    if value in ("", "~", "null"):
        return None
    if not _PLAIN.fullmatch(value):
        raise _neither()
    return value


def _neither() -> MalformedToken:
    return MalformedToken("is neither JSON nor a token file of wxc_sdk")


def _yaml_scalar(value: str | int | None) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "null" if value is None else str(value)


def _left(end: int | None, now: float) -> int | None:
    return None if end is None else max(0, end - int(now))


def _iso(moment: int | None) -> str | None:
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None
