"""A person with a browser, for tests: goes where they are sent, logs in, decides. Standard library only."""

import http.client
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Literal
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit
from urllib.request import Request

from .registration import ACCOUNTS

_MOST_STEPS = 30
_QUESTIONS = ("decision", "email", "user_code")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """Where a visit ended.

    Attributes:
        status: HTTP status of the last page.
        url: What the address bar shows.
        headers: Of the last page, names in lower case.
        visited: Every address on the way, codes and all, the last one included.
    """

    status: int
    url: str
    body: str
    headers: Mapping[str, str]
    visited: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Visit {self.status} {urlsplit(self.url)._replace(query='', fragment='').geturl()}>"


@dataclass(slots=True)
class Form:
    """One form of a page, to be posted, with what a browser would send without a click on a certain button."""

    action: str
    values: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # of its buttons too


class Person:
    """Somebody with a browser of their own, who keeps cookies, and uses no proxy.

    Args:
        email: Who logs in.
        decision: On the consent page; "abandon" leaves it there.
        language: Sent as `Accept-Language`.
        timeout: Seconds to wait for a page; the loopback server answers when the tokens are saved.
    """

    def __init__(
        self,
        email: str = ACCOUNTS[0].email,
        *,
        decision: Literal["allow", "decline", "abandon"] = "allow",
        language: str = "en",
        timeout: float = 30,
    ) -> None:
        self.email = email
        self.decision = decision
        self.language = language
        self.timeout = timeout
        self.cookies = CookieJar()

    def visit(self, url: str) -> Visit:
        """Open an address and do what the pages ask for, until one asks for nothing.

        Raises:
            OSError: A page cannot be reached; so fails `http.client.HTTPException` where the answer breaks off.
        """
        return self._browse(url, user_code="")

    def approve_device(self, verification_uri: str, user_code: str) -> Visit:
        """Enter the code of a device, log in, decide."""
        return self._browse(verification_uri, user_code=user_code)

    def _browse(self, url: str, *, user_code: str) -> Visit:
        answers = {"email": self.email, "password": "any", "decision": self.decision, "user_code": user_code}
        visited: list[str] = []
        submitted: set[str] = set()
        form: dict[str, str] | None = None
        while True:
            visited.append(url)
            status, headers, body = self._fetch(url, form)
            location = headers.get("location")
            if status in _REDIRECTS and location and len(visited) < _MOST_STEPS:
                url = urljoin(url, location)
                form = form if status in (307, 308) else None
                continue
            # A question that comes again means that the answer did not please.
            question, page_form = _question(body, headers)
            if page_form is None or question in submitted or answers[question] in ("", "abandon"):
                return Visit(status, url, body, headers, tuple(visited))
            submitted.add(question)
            form = page_form.values | {n: v for n, v in answers.items() if n in page_form.names}
            url = urljoin(url, page_form.action)

    def _fetch(self, url: str, form: Mapping[str, str] | None) -> tuple[int, dict[str, str], str]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a person visits http and https addresses")
        request = Request(url, data=None if form is None else urlencode(form).encode())  # noqa: S310
        self.cookies.add_cookie_header(request)
        headers = dict(request.header_items()) | {
            "User-Agent": "Mozilla/5.0 (sandbox)",
            "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
            "Accept-Language": self.language,
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
            "Connection": "close",
        }
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"{parts.scheme}://{parts.netloc}"
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = _tls_context(parts.hostname)
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=self.timeout, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)
        try:
            target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
            connection.request(request.get_method(), target, body=request.data, headers=headers)
            response = connection.getresponse()
            self.cookies.extract_cookies(response, request)
            body = response.read().decode("utf-8", "replace")
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body
        finally:
            connection.close()


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(given.get("action", ""))
            self.forms.append(self._open)
        name = given.get("name")
        if self._open is None or not name or tag not in ("input", "button", "select", "textarea"):
            return
        self._open.names.add(name)
        kind = given.get("type", "text" if tag == "input" else "submit").lower()
        chosen = "checked" in given if kind in ("radio", "checkbox") else tag == "input" and kind != "submit"
        if chosen:
            self._open.values[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None


def _question(body: str, headers: Mapping[str, str]) -> tuple[str, Form | None]:
    """Return what a page asks for, and the form to answer it with."""
    if headers.get("content-type", "").startswith("text/html"):
        reader = _FormReader()
        reader.feed(body)
        asked = ((name, form) for form in reader.forms for name in form.names.intersection(_QUESTIONS))
        return next(asked, ("", None))
    return "", None


def _tls_context(host: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if loopback:  # what a person does when the browser warns of the self-signed certificate
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
