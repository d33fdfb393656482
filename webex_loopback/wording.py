"""Text for people and from people: makes untrusted text printable; durations, dates, lists, the user's language."""

import ipaddress
import os
import re
import time
from collections.abc import Mapping
from typing import IO
from urllib.parse import unquote_plus

# `str.isprintable` accepts these; a terminal or browser shows them as nothing, or as a blank.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"

# Patterns are compiled on first use: importing this must cost `get_token()` nothing.
# Tokens, codes, and client secrets of Webex have at least 64 characters; JWTs have more.
_OPAQUE = r"[A-Za-z0-9+/=_.~%-]{40,}"
_NAMED = (
    r"""(?i)\b((?:(?:access|refresh|id)_)?token|client_secret|code|code_verifier|device_code|password)"""
    r"""(=|["']\s*:\s*["'])[^\s"'&;,]+"""
)
_AUTHORIZATION = r"(?i)\b(bearer|basic) [^\s\"',]{12,}"
_USER_INFO = r"://[^/\s@:]*:[^/\s]*@"

_WIDE = "\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\U0001f300-\U0003fffd"
_CLOSING = "、。，．：；？！」』）】ぁぃぅぇぉっゃゅょァィゥェォッャュョー～々"
# What `wrap` keeps together: a word with its `code`, or one wide character, and the punctuation that belongs to it.
_UNIT = rf" *[「『（【]*(?:(?:`[^`]*`|[^ {_WIDE}])+|[{_WIDE}])[{_CLOSING}]*"
_ASCII_UNIT = r" *(?:`[^`]*`|[^ ])+"  # compiles in 0.2 ms, not 8: a login wraps text before it opens the browser

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {
    "en": {86_400: " days", 3600: " h", 60: " min", 1: " s"},
    "ja": {86_400: "日", 3600: "時間", 60: "分", 1: "秒"},
}


def printable(text: str, limit: int = 500) -> str:
    """Return untrusted text as one line that cannot move the cursor, or hide or reorder the text around it.

    Removes surrogates and control, bidirectional, zero-width and unassigned characters, and collapses white space. The
    result has at most `limit` characters, the last of which is "…" if something was cut off.
    """
    visible = filter(lambda c: c.isprintable() and c not in _INVISIBLE, " ".join(text.split()))
    clean = " ".join("".join(visible).split())
    return clean if len(clean) <= limit else clean[: max(limit - 1, 0)].rstrip() + "…"


def without_tokens(text: str, limit: int = 500) -> str:
    """Return untrusted text as `printable` does, with "[...]" in place of anything that could be a token or a password.

    For error texts: servers and libraries quote what they were sent.
    """
    clean = printable(text, len(text))
    clean = re.sub(_NAMED, r"\1\2[...]", re.sub(_USER_INFO, "://[...]@", clean))
    clean = re.sub(_OPAQUE, "[...]", re.sub(_AUTHORIZATION, r"\1 [...]", clean))
    return printable(clean, limit)  # only now: a token cut in half no longer looks like one


def wrap(text: str, width: int, hanging: int = 0) -> str:
    """Wrap each line, keeping its indentation, at spaces and beside East Asian characters, which are two columns wide.

    Text in backticks is not broken, so that it can be copied. If too long for a line, it is indented by 4 at most.
    """
    lines = []
    for line in text.splitlines():
        indent, whole, used = hanging or len(line) - len(line.lstrip()), "", 0
        for unit in re.findall(_ASCII_UNIT if line.isascii() else _UNIT, line):
            size = len(unit) + (0 if line.isascii() else len(re.findall(f"[{_WIDE}]", unit)))
            if whole and used + size > width:
                lines.append(whole)
                size, unit = size - len(unit) + len(unit.lstrip()), unit.lstrip()
                used = indent if indent + size <= width else min(indent, 4)
                whole = " " * used
            whole, used = whole + unit, used + size
        lines.append(whole)
    return "\n".join(lines)


def columns(stream: IO[str] | None) -> int:
    """Return the width to use on a terminal, 100 at most; no limit for a file or pipe."""
    try:
        if stream is None or not stream.isatty():
            return 10_000
        return min(os.get_terminal_size(stream.fileno()).columns or 80, 100)
    except (OSError, ValueError):
        return 80


def duration(seconds: float, language: str = "en") -> str:
    """Return a length of time in two units at most, rounded to nearest: "13 days 23 h", "2時間5分", "45 s"."""
    names = _UNITS[language]
    for size, smaller in ((86_400, 3600), (3600, 60), (60, 1)):
        rounded = round(max(seconds, 0) / smaller) * smaller
        if rounded >= size:
            count, rest = divmod(rounded, size)
            unit = names[size].removesuffix("s") if count == 1 else names[size]
            second = f"{rest // smaller}{names[smaller]}" if rest else ""
            return f"{count}{unit}{' ' if second and language == 'en' else ''}{second}"
    return f"{round(max(seconds, 0))}{names[1]}"


def moment(epoch: float, language: str = "en") -> str:
    """Return a date and time in the local time zone: "2026-11-26 14:05"."""
    try:
        local = time.localtime(epoch)
    except (OverflowError, OSError, ValueError):  # beyond what the platform can convert; before 1970 on Windows
        return "不明" if language == "ja" else "an unknown time"
    if language == "ja":
        return f"{local.tm_year}年{local.tm_mon}月{local.tm_mday}日 {local.tm_hour}:{local.tm_min:02}"
    return time.strftime("%Y-%m-%d %H:%M", local)


def parse_duration(text: str) -> float:
    """Read "45s", "30m", "12h", "7d", "2w", or a number of seconds; return seconds.

    Raises:
        ValueError: The text is none of these.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"{printable(text, 40)!r} is not a duration such as 45s, 30m, 12h, or 7d")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def place(origin: str) -> str:
    """Return the origin of a setting as a phrase: "in the environment", "in /home/me/config.env"."""
    known = {"environment": "in the environment", "command line": "on the command line"}
    return known.get(origin, f"in {printable(origin)}")


def is_loopback(host: str) -> bool:
    """Whether a URL's host can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unquoted(text: str) -> str:
    """Remove white space and a pair of quotes around a value; `docker --env-file` keeps the quotes as part of it."""
    text = text.strip()
    quoted = len(text) > 1 and text[0] in "\"'" and text.find(text[0], 1) == len(text) - 1
    return text[1:-1].strip() if quoted else text


def split_list(text: str, parameter: str = "") -> list[str]:
    """Split a list of scopes or URIs at white space and commas; each part once, in the given order.

    Quotes around a part are removed. A part that is not a URL is form-decoded first, because Webex's portal shows
    scopes as `spark%3Akms%20spark%3Apeople_read`; a redirect URI must stay exactly as registered. From a whole URL with
    the named query parameter (`scope`, for an authorization URL of the portal), that parameter is read.
    """
    if parameter and (pasted := re.search(rf"(?:^|[?&;]){parameter}=([^&#]*)", text)):
        text = pasted[1]
    decoded = [part if "://" in part else unquote_plus(part) for part in _split(text)]
    return list(dict.fromkeys(_split(" ".join(decoded))))


def _split(text: str) -> list[str]:
    parts = re.split("[ ,\u3001\uff0c]+", printable(text, len(text)))
    return [bare for part in parts if (bare := part.strip(_QUOTES))]


def language(environ: Mapping[str, str] | None = None) -> str:
    """Return "ja" if `WEBEX_LANG`, else the locale (`LC_ALL`, `LC_MESSAGES`, `LANG`), is Japanese, otherwise "en"."""
    environ = os.environ if environ is None else environ
    names = ("WEBEX_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((value for name in names if (value := environ.get(name, "").strip())), "")
    return "ja" if re.split(r"[_.@-]", locale.lower())[0] in ("ja", "japanese") else "en"
