"""Japanese translations of messages for the terminal. Python programs, log files and stdout get the English ones."""

import functools
import json
import os
import re

from webex_loopback.wording import duration, parse_duration

# Fields without spaces; the others are part of one sentence.
_ONE_WORD = ("host", "profile", "setting", "status", "uri")
_MOST_SENTENCES, _DEEPEST = 12, 4  # limits for hostile text: sentences, and fields nested in fields
_LONG = ("account", "detail")  # fields that may contain several sentences


def translated(text: str, language: str) -> str:
    """Return a message in Japanese if that is the language, but unchanged if one of its sentences is not in the table.

    The table, `ja.json`, has English messages with `{fields}`, such as "Profile {profile} is not logged in.", and also
    texts that a field may contain.
    """
    return text if language != "ja" else re.sub(r"\S.*", lambda line: _sentences(line[0]) or line[0], text)


@functools.cache
def _table() -> list[tuple[list[str], str]]:
    """Return the messages, split into literals and fields, those with the longest beginning first."""
    with open(os.path.join(os.path.dirname(__file__), "ja.json"), encoding="utf-8") as file:
        split = [(re.split(r"{(\w+)}", english), japanese) for english, japanese in json.load(file).items()]
    return sorted(split, key=lambda message: (-len(message[0][0]), -len("".join(message[0][::2]))))


@functools.lru_cache(4096)  # the same remainder of a text is looked up repeatedly
def _sentences(text: str, depth: int = 0) -> str:
    """Return sentences, or the content of a field, in Japanese; "" if one of them is not in the table."""
    ends = list(re.finditer(r"(?<=[.?。]) +|$", text))
    possible = len(ends) <= _MOST_SENTENCES and depth <= _DEEPEST
    for end in ends if possible else ():  # a message of the table may consist of several sentences
        found, rest = _message(text[: end.start()], depth), text[end.end() :]
        following = _sentences(rest, depth) if found and rest else ""
        if found and (following or not rest):
            return found + following
    return ""


@functools.lru_cache(4096)
def _message(text: str, depth: int) -> str:
    if re.fullmatch(r".*。|[\u3041-\uff9f].*[^.]", text):
        return text  # already in Japanese
    for parts, japanese in _table():
        likely = text.startswith(parts[0]) and text.endswith(parts[-1]) and all(part in text for part in parts[::2])
        if likely and (match := _pattern(*parts).fullmatch(text)):
            values = match.groupdict().items()
            return japanese.format(
                **{n: value if n in _ONE_WORD else _field_value(value, depth + 1) for n, value in values}
            )
    return ""


@functools.cache
def _pattern(*parts: str) -> re.Pattern[str]:
    """Return the pattern of a message; its atomic groups prevent backtracking, which hostile text could exploit."""
    pattern = re.escape(parts[0])
    for at in range(1, len(parts), 2):
        field = _field(parts[at - 1], parts[at]) + re.escape(parts[at + 1])
        pattern += f"(?>{field})" if at + 2 < len(parts) else field
    return re.compile(pattern)


def _field(before: str, name: str) -> str:
    one = f"[^{before[-1]}]" if before[-1:] in ("'", "`") else r"\S" if name in _ONE_WORD else "."
    return f"(?P<{name}>(?:{'' if name in _LONG else r'(?![.](?: |$))'}{one})+?)"


def _field_value(text: str, depth: int) -> str:
    if re.fullmatch(r"(?a)\d{1,6} (?:days?|h|min|s)(?: \d\d? (?:h|min|s))?", text):
        return duration(sum(parse_duration("".join(part)) for part in re.findall(r"(\d+) ([dhms])", text)), "ja")
    if re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", text):
        return "{}年{}月{}日 {}:{:02}".format(*map(int, re.findall(r"\d+", text)))
    return _sentences(text, depth) or text
