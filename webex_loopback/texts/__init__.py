"""What the terminal says in Japanese. Python programs, log files and stdout get the English messages."""

import functools
import json
import os
import re

from webex_loopback.wording import duration, parse_duration

_WORDS = ("host", "profile", "setting", "status", "uri")  # fields without spaces; the others are part of one sentence
_TEXTS = ("account", "detail")  # fields that may contain several sentences


def translated(text: str, language: str) -> str:
    """Return a message in Japanese if that is the language, but unchanged if one of its sentences is not in the table.

    The table, `ja.json`, has English messages with `{fields}`, and also what fields may contain.
    """
    return text if language != "ja" else re.sub(r"\S.*", lambda line: _japanese(line[0]) or line[0], text)


@functools.cache
def _table() -> list[tuple[list[str], str]]:
    """Return the messages, split into literals and fields, those with the longest beginning first."""
    with open(os.path.join(os.path.dirname(__file__), "ja.json"), encoding="utf-8") as file:
        split = [(re.split(r"{(\w+)}", english), japanese) for english, japanese in json.load(file).items()]
    return sorted(split, key=lambda message: (-len(message[0][0]), -len("".join(message[0][::2]))))


@functools.lru_cache(1000)  # without it, the time doubles with each sentence, and texts come from the network, too
def _japanese(text: str) -> str:
    """Return sentences, or the content of a field, in Japanese; "" if one of them is not in the table."""
    for end in re.finditer(r"(?<=[.?。]) +|$", text):  # a message of the table may consist of several sentences
        found, rest = _entry(text[: end.start()]), text[end.end() :]
        following = _japanese(rest) if found and rest else ""
        if found and (following or not rest):
            return found + following
    return ""


def _entry(text: str) -> str:
    if re.fullmatch(r".*。|[\u3041-\uff9f].*[^.]", text):
        return text  # it is in Japanese
    for parts, japanese in _table():
        if all(literal in text for literal in parts[::2]):
            fields = (_field(parts[at - 1], part) if at % 2 else re.escape(part) for at, part in enumerate(parts))
            if match := re.fullmatch("".join(fields), text):
                values = match.groupdict().items()
                return japanese.format(**{name: value if name in _WORDS else _value(value) for name, value in values})
    return ""


def _field(before: str, name: str) -> str:
    one = f"[^{before[-1]}]" if before[-1:] in ("'", "`") else r"\S" if name in _WORDS else "."
    return f"(?P<{name}>(?:{'' if name in _TEXTS else r'(?![.](?: |$))'}{one})+?)"


def _value(text: str) -> str:
    if re.fullmatch(r"\d+ (?:days?|h|min|s)(?: \d+ (?:h|min|s))?", text):
        return duration(sum(parse_duration("".join(part)) for part in re.findall(r"(\d+) ([dhms])", text)), "ja")
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", text):
        return "{}年{}月{}日 {}:{:02}".format(*map(int, re.findall(r"\d+", text)))
    return _japanese(text) or text
