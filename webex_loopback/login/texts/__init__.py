"""What a login says in the terminal: a `.json` per language, with the same keys."""

import json
import os

from webex_loopback.texts import translated
from webex_loopback.wording import printable

_LONGEST = 8192  # characters of a value


class Words:
    """The texts in English ("en") or Japanese ("ja")."""

    def __init__(self, language: str) -> None:
        self.language = language
        # Not by importlib.resources: importing that takes longer than everything else up to the browser's start.
        with open(os.path.join(os.path.dirname(__file__), f"{language}.json"), encoding="utf-8") as file:
            self._texts: dict[str, str] = json.load(file)

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with these values, made printable and translated, in place of its `{names}`."""
        shown = {name: translated(printable(str(value), _LONGEST), self.language) for name, value in values.items()}
        return self._texts[key].format_map(shown)
