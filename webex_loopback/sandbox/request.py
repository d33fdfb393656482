"""Requests: the input of the handlers, and the records that the sandbox keeps."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from .answers import Refused

_SECRET_FIELDS = ("client_secret", "code", "code_verifier", "refresh_token", "device_code", "token", "clientSecret")
_SECRET_LENGTH = 16  # shorter values are typos in a test, and could occur in any text


@dataclass(slots=True, eq=False)
class Request:
    """The record of a request: the names of its fields, no values."""

    method: str
    path: str
    at: float  # by the sandbox's clock
    fields: tuple[str, ...] = ()
    grant_type: str = ""
    client_auth: str = ""  # where the client's credentials were: "body", "basic", "" for nowhere
    status: int = 0  # 0: not answered, or not yet


@dataclass(slots=True, eq=False)
class Call:
    """A request that has been read completely."""

    http: web.Request
    form: Mapping[str, object]  # of a POST; files too
    body: Mapping[str, object]  # JSON object, {} for another content type

    @property
    def basic(self) -> tuple[str, str] | None:
        """ID and secret from HTTP Basic, None without it; unreadable credentials count as wrong ones."""
        scheme, _, encoded = self.http.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            client_id, _, client_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "?", ""
        return client_id, client_secret

    @property
    def bearer(self) -> str:
        scheme, _, token = self.http.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    @property
    def language(self) -> str:
        """`ja` if the browser prefers Japanese to English, otherwise `en`."""
        best, best_weight = "en", 0.0
        for item in self.http.headers.get("Accept-Language", "").split(","):
            tag, _, weight_text = item.partition(";q=")
            try:
                weight = float(weight_text or 1)
            except ValueError:
                continue
            language = tag.strip().lower().partition("-")[0]
            if language in ("en", "ja") and weight > best_weight:
                best, best_weight = language, weight
        return best

    def record(self, now: float) -> Request:
        fields = dict.fromkeys([*self.http.query, *self.form, *self.body])
        grant_type = str(self.form.get("grant_type", ""))
        auth = "basic" if self.basic else "body" if {"client_secret", "clientSecret"}.intersection(fields) else ""
        return Request(self.http.method, self.http.rel_url.raw_path, now, tuple(fields), grant_type, auth)

    def secrets(self) -> set[str]:
        """The secrets in the request."""
        values = [str(part.get(name, "")) for part in (self.form, self.body) for name in _SECRET_FIELDS]
        values += [self.bearer, (self.basic or ("", ""))[1]]
        return {value for value in values if len(value) >= _SECRET_LENGTH}


async def read(request: web.Request) -> Call:
    """Read a request; refuse a form that cannot be decoded, and JSON that is not an object."""
    call = Call(request, {}, {})
    if request.content_type == "application/json" and request.can_read_body:
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused(400)
        call.body = body
    elif request.method == "POST":
        try:
            call.form = await request.post()
        except (LookupError, ValueError):  # an unknown charset, or bytes that are not in it
            raise Refused(400) from None
    return call


def single(fields: Mapping[str, object]) -> dict[str, str]:
    """Return fields as strings; refuse repeated ones (RFC 6749 §3.1) and files."""
    strings: dict[str, str] = {}
    for name, value in fields.items():
        if name in strings or not isinstance(value, str):
            raise Refused(400, "invalid_request", f"Parameter:{name} is repeated or not text")
        strings[name] = value
    return strings
