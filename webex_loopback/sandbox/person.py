"""A simulated user with a browser, for tests: opens a URL, signs in, decides. Standard library only."""

import http.client
import ipaddress
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any, Literal
from urllib.parse import urlencode, urljoin, urlsplit

from .registration import ACCOUNTS

_QUESTIONS = ("decision", "email", "user_code")  # fields of a page that ask for something


@dataclass(frozen=True, slots=True, repr=False)
class Visit:
    """Where a visit ended.

    Attributes:
        url: What the address bar shows.
        headers: Headers of the last page, with lower-case names.
        visited: All URLs on the way, including the last one; they may contain authorization codes.
    """

    status: int
    url: str
    body: str
    headers: Mapping[str, str]
    visited: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Visit {self.status} {urlsplit(self.url)._replace(query='', fragment='').geturl()}>"


class Person:
    """A simulated user whose browser keeps cookies and uses no proxy.

    Args:
        decision: On the consent page; "abandon" leaves it open.
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
        """Open a URL and fill in the pages until one asks for no input.

        Raises:
            OSError: A page cannot be reached. (`http.client.HTTPException` if the answer is cut off.)
        """
        return self.approve_device(url, "")

    def approve_device(self, verification_uri: str, user_code: str) -> Visit:
        """Open a URL, enter the code of a device, sign in, decide."""
        answers = {"email": self.email, "decision": self.decision, "user_code": user_code}
        url, form = verification_uri, None
        visited: list[str] = []
        answered: set[str] = set()
        while True:
            status, headers, body = self._fetch(url, form, visited)
            question, page = _question(body, headers)
            # A repeated question means that the answer was not accepted.
            if page is None or question in answered or answers[question] in ("", "abandon"):
                return Visit(status, visited[-1], body, headers, tuple(visited))
            answered.add(question)
            url = urljoin(visited[-1], page.action)
            form = page.values | {name: value for name, value in answers.items() if name in page.names}

    def _fetch(self, url: str, form: dict[str, str] | None, visited: list[str]) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body after all redirects, and add every URL to `visited`."""
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError("not an http or https URL")
        visited.append(url)
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies), _Https())
        opener = urllib.request.build_opener(*handlers, _Redirects(visited))
        opener.addheaders = [
            ("User-Agent", "Mozilla/5.0 (sandbox)"),
            ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("Accept-Language", self.language),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ]
        data = None if form is None else urlencode(form).encode()
        try:
            response = opener.open(url, data, self.timeout)
        except urllib.error.HTTPError as error:  # a response with another status than 2xx
            response = error
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else error from None
        with response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, response.read().decode("utf-8", "replace")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, visited: list[str]) -> None:
        self._visited = visited

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        # As the server wrote it: `newurl` has a path even if the URL has none.
        self._visited.append(urljoin(req.full_url, headers["Location"]))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        if _is_loopback(urlsplit(req.full_url).hostname or ""):
            # Like a user who accepts the browser's warning about the self-signed certificate.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return self.do_open(http.client.HTTPSConnection, req, context=context)


@dataclass(slots=True)
class _Form:
    action: str
    values: dict[str, str] = field(default_factory=dict)  # what a browser sends, the clicked button aside
    names: set[str] = field(default_factory=set)  # includes those of buttons


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(given.get("action", "")))
        elif self.forms and given.get("name") and tag in ("input", "button"):
            self.forms[-1].names.add(given["name"])
            if tag == "input":
                self.forms[-1].values[given["name"]] = given.get("value", "")


def _question(body: str, headers: Mapping[str, str]) -> tuple[str, _Form | None]:
    """Return what a page asks for, and the form to answer it with."""
    reader = _FormReader()
    if headers.get("content-type", "").startswith("text/html"):
        reader.feed(body)
    asked = ((name, form) for form in reader.forms for name in _QUESTIONS if name in form.names)
    return next(asked, ("", None))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
