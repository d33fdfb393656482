"""Texts of `init`, in one file per language, and the findings of `doctor`, in English."""

import functools
import json
from importlib import resources
from typing import Any

from webex_loopback.errors import ConfigurationError
from webex_loopback.texts import translated
from webex_loopback.wording import language, printable


@functools.cache
def catalogue(name: str) -> dict[str, Any]:
    """Return the content of a file: a language (`init` and `errors` by key, `scopes` of the menu), or `doctor`."""
    return dict(json.loads((resources.files(__package__) / f"{name}.json").read_text(encoding="utf-8")))


def words(key: str, **values: object) -> str:
    """Return a text of `init` in the user's language."""
    return str(catalogue(language())["init"][key]).format(**{n: printable(str(v)) for n, v in values.items()})


def refusal(key: str, setting: str, **values: object) -> ConfigurationError:
    """Return an error of `init` in the user's language."""
    shown = {n: translated(printable(str(v)), language()) for n, v in values.items()}
    message, remedy = (text.format(**shown) for text in catalogue(language())["errors"][key])
    return ConfigurationError(message, setting=setting, remedy=remedy)
