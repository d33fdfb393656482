"""How the sandbox differs from normal operation: lifetimes, variants, faults. `switches.json` describes them."""

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

_TEXTS = json.loads(files(__package__).joinpath("switches.json").read_text(encoding="utf-8"))
FAULTS: Mapping[str, str] = _TEXTS["faults"]

_DeadRefreshToken = Literal["invalid_request", "invalid_grant", "401"]
_ANSWER_FIELDS = {"path": str, "status": int, "headers": dict, "body": object, "times": int, "process": bool}


@dataclass(slots=True)
class Switches:
    """The switches of one sandbox. Set them at any time; the next request uses the new values.

    Names and values are checked on assignment (`AttributeError`, `ValueError`). A fault is a key of `FAULTS`, with
    or without an argument: `"429:rand(30),add(30)"`, `"slow:2"`.
    """

    expires_in: float = 1209599
    refresh_token_expires_in: float = 7775999
    code_expires_in: float = 120
    device_expires_in: float = 300
    device_interval: float = 2
    rotation: bool = False
    reuse_detection: bool = True
    code_reuse_revokes: bool = True
    same_token: bool = False
    refresh_renews: bool = True
    service_app_authorized: bool = True
    token_style: Literal["webex", "jwt", "long", "newline"] = "webex"
    token_status: int = 200
    omit: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    withhold: list[str] = field(default_factory=list)
    error_shape: Literal[1, 2] = 2
    rejection: _DeadRefreshToken = "invalid_request"
    dead_refresh_token: Literal[""] | _DeadRefreshToken = ""
    wrong_secret: Literal[401, 400] = 401
    tokenlimit_reached: bool = False
    pending_status: Literal[428, 400] = 428
    state_with_errors: bool = True
    response_mode: Literal["query", "fragment"] = "query"
    latency: float = 0
    answer_latency: float = 0
    fault: str = ""
    faults: list[str] = field(default_factory=list)
    device_faults: list[str] = field(default_factory=list)
    api_faults: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    retry_after: str = "30"
    date_offset: float = 0
    date: str = ""
    close_idle_after: float = 0
    mute: bool = False

    if not TYPE_CHECKING:  # pragma: no branch - a type checker that sees it would accept any name

        def __setattr__(self, name: str, value: object) -> None:
            if name not in _KINDS:
                raise AttributeError(f"unknown switch: {name!r}")
            object.__setattr__(self, name, _checked(name, value))

    def update(self, changes: Mapping[str, object]) -> None:
        """Set several switches, all or none.

        Raises:
            ValueError: A name is unknown or a value is invalid; nothing has changed.
        """
        if unknown := sorted(set(changes) - set(_KINDS)):
            raise ValueError(f"unknown switch: {unknown[0]!r}")
        replace(self, **changes)  # type: ignore[arg-type]  # checks the values, on a copy
        for name, value in changes.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def parse(assignment: str) -> tuple[str, object]:
        """Read `name=value` from a command line, a list separated by commas or as JSON; `ValueError` if invalid."""
        name, separator, text = assignment.partition("=")
        kind = _KINDS.get(name)
        if kind is None or not separator:
            raise ValueError(f"{assignment!r} is not NAME=VALUE with the name of a switch")
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
                raise ValueError(f"invalid value for {name}: {text!r}") from None
        return name, _checked(name, value)

    @classmethod
    def describe(cls) -> list[tuple[str, str, str]]:
        """Return name, default and meaning of every switch."""
        default = cls()
        choices = {name: " | ".join(json.dumps(choice) for choice in _choices(kind)) for name, kind in _KINDS.items()}
        meanings = {name: _TEXTS["switches"][name] + (f" ({text})" if text else "") for name, text in choices.items()}
        return [(name, json.dumps(getattr(default, name)), meaning) for name, meaning in meanings.items()]


_KINDS: Mapping[str, object] = get_type_hints(Switches)


def parse_fault(fault: str) -> tuple[str, str | None]:
    """Split a fault into its name and its argument, None if it has none; `ValueError` if it is invalid."""
    name, colon, argument = fault.partition(":")
    if name not in FAULTS:
        raise ValueError(f"unknown fault: {name!r}; known are {', '.join(FAULTS)}")
    if argument and name in ("slow", "drip"):
        float(argument)
    if argument and name in ("reset_body", "html", "error"):
        int(argument.partition(":")[0])
    return name, argument if colon else None


def _choices(kind: object) -> tuple[object, ...]:
    """Return the values of a `Literal` or of a union of them; () for any other kind."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(choice for part in get_args(kind) for choice in _choices(part))


def _checked(name: str, value: object) -> object:
    """Return a copy of a value, because queues are consumed."""
    kind = _KINDS[name]
    choices = _choices(kind)
    if not _fits(kind, choices, value):
        expected = f"; expected {', '.join(map(repr, choices))}" if choices else ""
        raise ValueError(f"invalid value for {name}: {value!r}{expected}")
    if name.endswith(("fault", "faults")):
        for fault in value if isinstance(value, list) else [value] if value else []:
            parse_fault(str(fault))
    return deepcopy(value)


def _fits(kind: object, choices: tuple[object, ...], value: object) -> bool:
    if choices:
        return not isinstance(value, bool) and value in choices
    if kind in (float, int):
        return type(value) in (int, kind) and math.isfinite(value)  # type: ignore[arg-type]  # a number
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == list[dict[str, Any]]:
        return isinstance(value, list) and all(_is_answer(item) for item in value)
    return isinstance(value, kind if isinstance(kind, type) else dict)


def _is_answer(item: object) -> bool:
    if not isinstance(item, dict) or "path" not in item or not item.keys() <= _ANSWER_FIELDS.keys():
        return False
    return all(isinstance(value, _ANSWER_FIELDS[name]) for name, value in item.items())
