"""A string that is not shown in a repr, a log, a traceback printed with local variables, or a pickle."""


class Secret:
    """Holds a token, client secret or code; `get_secret_value()` is the only way to read it."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({'**********' if self._value else ''!r})"

    def __str__(self) -> str:
        return "**********" if self._value else ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce__(self) -> "tuple[object, ...]":
        # A pickle would put the secret into a cache, a job queue, or another user's /tmp.
        raise TypeError("a Secret cannot be pickled; pass the profile's name instead")
