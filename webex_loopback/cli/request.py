"""The request that the options of `api` describe."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import click

from webex_loopback.wording import printable

_LARGEST_FILE = 100 << 20  # Webex's own limit


class Request(NamedTuple):
    method: str
    path: str
    parts: dict[str, Any]  # those of `Webex.call()`


def read_options(
    path: str, method: str, raw: Iterable[str], typed: Iterable[str], body: str | None, headers: Iterable[str]
) -> Request:
    """Return the request that the options of `api` describe."""
    if path != _utf8(path):
        raise click.UsageError(f"{printable(path, 60)!r} is not text in the encoding of this terminal.")
    fields: list[tuple[str, Any]] = [_split(text, "=") for text in raw]
    files = []
    for key, value in (_split(text, "=") for text in typed):
        if value.startswith("@"):
            files.append(
                (key, (_utf8(os.path.basename(value)).lstrip("@") or "file", read_file(value[1:], _LARGEST_FILE)))
            )
        else:
            with suppress(ValueError, RecursionError):  # anything but JSON is a string
                value = json.loads(value, parse_constant=int)  # NaN is not JSON
            fields.append((key, value))
    method = method.upper() or ("POST" if fields or files or body is not None else "GET")
    parts: dict[str, Any] = {
        "headers": {"accept": "application/json, */*;q=0.5"} | dict(_split(h, ":") for h in headers)
    }
    in_query = method in ("GET", "HEAD", "DELETE") or body is not None
    if not method.isascii() or not method.isalpha():
        raise click.UsageError(f"{printable(method, 40)!r} is not a method.")
    if files and in_query:
        raise click.UsageError("A file is uploaded with POST, PUT or PATCH, and without --input.")
    if files:
        parts |= {"files": files, "data": {key: _text(value) for key, value in fields}}
    elif in_query and fields:
        query = urlencode([(key, _text(value)) for key, value in fields], quote_via=quote)
        path = f"{path}{'&' if '?' in path else '?'}{query}"
    if body is not None or (fields and not in_query and not files):
        parts["content"] = json.dumps(dict(fields)).encode() if body is None else read_file(body, _LARGEST_FILE)
        parts["headers"] = {"content-type": "application/json"} | {n.lower(): v for n, v in parts["headers"].items()}
    if not in_query and len(dict(fields)) < len(fields):
        raise click.UsageError('A field is given twice. Write a list as -F \'KEY=["one", "two"]\'.')
    return Request(method, path, parts)


def _split(text: str, separator: str) -> tuple[str, str]:
    key, found, value = text.partition(separator)
    if not found or not key.strip():
        raise click.UsageError(f"{printable(text, 60)!r} does not have the form KEY{separator}VALUE.")
    return _utf8(key.strip()), value.strip() if separator == ":" else value


def _text(value: Any) -> str:
    return _utf8(value if isinstance(value, str) else json.dumps(value))


def _utf8(text: str) -> str:
    return text.encode(errors="replace").decode()  # an argument may contain bytes that are not text


def read_file(path: str, limit: int) -> bytes:
    """Read a file, or standard input for "-", of at most `limit` bytes: /dev/zero has no end."""
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise click.UsageError(f"Could not read {printable(path)}: {error.strerror}.") from None
    if len(data) > limit:
        raise click.UsageError(f"{printable(path)} is too large: more than {limit >> 20} MB.")
    return data
