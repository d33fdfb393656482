"""What the sandbox does differently from a quiet day at Webex: lifetimes, variants, faults."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

FAULTS: Mapping[str, str] = {
    "429": "too many requests, an HTML body; the argument is the Retry-After, empty for none",
    "500": "Webex's JSON of an unexpected condition",
    "502": "plain text of a gateway",
    "503": "plain text of a gateway",
    "504": "plain text of a gateway",
    "empty400": "status 400 with an empty body",
    "html": "a captive portal's page with status 200",
    "huge": "10 MB of JSON that hold no token",
    "hang": "the request is read and never answered",
    "reset": "TCP reset before the answer; nothing was processed",
    "lost_answer": "the request is processed (a refresh token rotates), then TCP reset instead of the answer",
    "reset_body": "the request is processed, half of the body is sent, then TCP reset",
    "truncated": "the request is processed, the JSON stops half way, and the length says so",
    "slow": "the request is processed, the body comes in drops; the argument is the seconds it takes (5)",
}

_DeadRefreshToken = Literal["invalid_request", "invalid_grant", "401"]


@dataclass(slots=True)
class Switches:
    """The switches of one sandbox; set them at any time, the next request sees them.

    Names and values are checked on assignment (`AttributeError`, `ValueError`). A fault is a name of
    `FAULTS`, optionally with an argument: `"429:rand(30),add(30)"`, `"slow:2"`.
    """

    expires_in: Annotated[float, "lifetime of an access token, seconds"] = 1209599
    refresh_token_expires_in: Annotated[float, "lifetime of a refresh token, seconds"] = 7775999
    code_expires_in: Annotated[float, "lifetime of an authorization code, seconds"] = 120
    device_expires_in: Annotated[float, "lifetime of a device code, seconds"] = 300
    device_interval: Annotated[float, "least pause between two polls of a device, seconds"] = 2

    rotation: Annotated[bool, "a refresh gives a new refresh token and ends the old one"] = False
    reuse_detection: Annotated[bool, "a refresh token that was rotated away ends its whole family"] = True
    code_reuse_revokes: Annotated[bool, "a code sent twice ends the tokens it gave"] = True
    same_token: Annotated[bool, "a refresh gives the same access token with the time that is left"] = False
    refresh_renews: Annotated[bool, "a refresh starts the refresh token's lifetime anew"] = True
    token_style: Annotated[Literal["webex", "jwt"], "webex: 106 characters; jwt: over 1 kB"] = "webex"

    omit: Annotated[list[str], "fields left out of a token response"] = field(default_factory=list)
    extra: Annotated[dict[str, Any], "fields added to one, or put in place of its own"] = field(default_factory=dict)
    withhold: Annotated[list[str], "scopes that are asked for but not granted"] = field(default_factory=list)

    error_shape: Annotated[Literal[1, 2], "body of a token endpoint's error: 1 the gateway's, 2 RFC 6749's"] = 2
    rejection: Annotated[_DeadRefreshToken, "how a refresh token that is dead is answered"] = "invalid_request"
    dead_refresh_token: Annotated[
        Literal[""] | _DeadRefreshToken, "every refresh token counts as dead, in this way"
    ] = ""
    wrong_secret: Annotated[Literal[401, 400], "status for a wrong client secret"] = 401
    tokenlimit_reached: Annotated[bool, "the account has too many tokens: none is issued"] = False
    pending_status: Annotated[Literal[428, 400], "status of a device poll before the decision"] = 428
    state_with_errors: Annotated[bool, "an error redirect carries the state"] = True

    latency: Annotated[float, "pause before a token request is processed, seconds"] = 0
    fault: Annotated[str, "what happens to every token request"] = ""
    faults: Annotated[list[str], "what happens to the next token requests, one each"] = field(default_factory=list)
    device_faults: Annotated[list[str], "the same for the next polls of a device"] = field(default_factory=list)
    api_faults: Annotated[list[str], "the same for the next requests to the API"] = field(default_factory=list)
    retry_after: Annotated[str, "Retry-After of a 429 without an argument, any text"] = "30"
    date_offset: Annotated[float, "added to the Date header, seconds"] = 0
    close_idle_after: Annotated[float, "seconds until an idle connection is closed, 0.05 at least; 0 never"] = 0

    if not TYPE_CHECKING:  # pragma: no branch - a type checker that sees it would take any name

        def __setattr__(self, name: str, value: object) -> None:
            if name not in _KINDS:
                raise AttributeError(f"there is no switch {name!r}")
            object.__setattr__(self, name, _checked(name, value))

    def update(self, changes: Mapping[str, object]) -> None:
        """Set several switches, all or none.

        Raises:
            ValueError: A name is unknown or a value is of no use; nothing has changed.
        """
        if unknown := sorted(set(changes) - set(_KINDS)):
            raise ValueError(f"there is no switch {unknown[0]!r}")
        replace(self, **changes)  # type: ignore[arg-type]  # only to have the values checked
        for name, value in changes.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def parse(assignment: str) -> tuple[str, object]:
        """Read `name=value` as written on a command line; a list is separated by commas or is JSON.

        Raises:
            ValueError: The name is unknown, or the value cannot be read.
        """
        name, separator, text = assignment.partition("=")
        kind, _ = _KINDS.get(name, (None, ""))
        if kind is None or not separator:
            raise ValueError(f"{assignment!r} is not <switch>=<value> of a known switch")
        value: object = text
        if kind is bool:
            value = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}.get(text)
        elif choices := _choices(kind):
            value = next((choice for choice in choices if str(choice) == text), text)
        elif kind == list[str] and not text.startswith("["):
            value = [part for part in text.split(",") if part]
        elif kind is not str:
            try:
                value = json.loads(text)
            except ValueError:
                raise ValueError(f"{text!r} is no value for {name}") from None
        return name, _checked(name, value)

    @classmethod
    def describe(cls) -> list[tuple[str, str, str]]:
        """Return name, default and meaning of every switch, in their order."""
        default = cls()
        described = []
        for name, (kind, meaning) in _KINDS.items():
            choices = " | ".join(json.dumps(choice) for choice in _choices(kind))
            meaning += f" ({choices})" if choices else ""
            described.append((name, json.dumps(getattr(default, name)), meaning))
        return described


_KINDS: Mapping[str, tuple[object, str]] = {
    name: get_args(hint) for name, hint in get_type_hints(Switches, include_extras=True).items()
}


def parse_fault(fault: str) -> tuple[str, str | None]:
    """Split a fault into its name and its argument, None where it has none.

    Raises:
        ValueError: No such fault, or an argument that it cannot have.
    """
    name, colon, argument = fault.partition(":")
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    if name == "slow" and argument:
        float(argument)
    return name, argument if colon else None


def _choices(kind: object) -> tuple[object, ...]:
    """Return the values of a `Literal`, also of a union of them; () for another kind."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(choice for part in get_args(kind) for choice in _choices(part))


def _checked(name: str, value: object) -> object:
    kind, _ = _KINDS[name]
    if choices := _choices(kind):
        right = not isinstance(value, bool) and value in choices
    elif kind is float:
        right = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind == list[str]:
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
    else:
        right = isinstance(value, kind if isinstance(kind, type) else dict)
    if not right:
        wanted = f"; it takes {', '.join(map(repr, choices))}" if choices else ""
        raise ValueError(f"{value!r} is no value for {name}{wanted}")
    if name == "fault" and value:
        parse_fault(str(value))
    if name.endswith("faults") and isinstance(value, list):
        for item in value:
            parse_fault(item)
    # A copy, because the queues are consumed.
    return value.copy() if isinstance(value, list | dict) else value
