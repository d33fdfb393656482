"""`api` and `whoami`: requests to the Webex API."""

import json
import re
import sys
import time
from dataclasses import asdict
from typing import Any, NoReturn
from urllib.parse import urljoin

import click

from webex_loopback.errors import LoginRequired, TokenEndpointError, WebexLoopbackError
from webex_loopback.webex.account import Account
from webex_loopback.webex.client import Webex
from webex_loopback.webex.error_response import Answer
from webex_loopback.wording import duration, printable

from .app import json_option, print_json, profile_option, say
from .request import Request, read_options
from .session import Session
from .status import name_and_email

_TRIES = 3
_USUAL_WAIT, _LONGEST_WAIT = 5.0, 300.0  # seconds: without a Retry-After, and at most
_POSTED = "Fields are sent with POST. To send them in the query string of a GET, add -X GET."
_REFERENCE = "Compare method, path and fields with the API reference at https://developer.webex.com/docs."


@click.command()
@click.argument("path")
@profile_option
@click.option("--method", "-X", metavar="METHOD", default="", help="Default: GET; POST if there is anything to send.")
@click.option("--raw-field", "-f", "raw", multiple=True, metavar="KEY=VALUE", help="Add a string.")
@click.option("--field", "-F", "typed", multiple=True, metavar="KEY=VALUE", help="Add JSON, or upload @FILE.")
@click.option("--input", "body", metavar="FILE", help="Send this file as the body; - is standard input.")
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME:VALUE", help="Add a header.")
@click.option("--include", "-i", is_flag=True, help="Also print the status and the headers.")
@click.option("--paginate", is_flag=True, help="Get all pages of a list; print one JSON document.")
def api(profile: str | None, include: bool, paginate: bool, **options: Any) -> None:
    """Send a request to the Webex API and print the response.

    PATH is relative to the API base URL, or a URL of the same server.

    \b
    webex-loopback api people/me
    webex-loopback api rooms -X GET -f max=50 --paginate
    webex-loopback api messages -f toPersonEmail=alex@example.com -f text=Hello
    webex-loopback api messages -f roomId=ID -F files=@report.pdf

    Fields are sent as a JSON object, or as multipart with @FILE; for GET, DELETE and --input, in the query string.
    JSON is indented on a terminal; a pipe or file gets the body unchanged. Errors are explained on stderr; with -i, the
    whole body comes first. The exit code is 1, or 3 if a login is required.
    """
    request = read_options(**options)
    if paginate and (include or request.method != "GET"):
        raise click.UsageError("--paginate is for GET, without --include.")
    session = Session(profile)
    with session.webex:
        body = _all_pages(session, request) if paginate else _answer(session, request, include=include).body
    if body and sys.stdout.isatty():
        click.echo(_shown(body))
    else:
        click.echo(body, nl=False)


@click.command()
@profile_option
@json_option
def whoami(profile: str | None, as_json: bool) -> None:
    """Ask Webex which account the token belongs to (GET /people/me)."""
    account = _ask(Session(profile))
    if as_json:
        print_json(asdict(account))
    else:
        click.echo(printable(name_and_email(account)))


def _ask(session: Session) -> Account:
    with session.webex as webex:
        while True:
            try:
                return webex.people_me(session.token)
            except TokenEndpointError as error:
                if error.status_code != 401 or not session.renew():
                    raise session.explained(error, "GET", "people/me") from None


def _answer(session: Session, request: Request, *, include: bool = False) -> Answer:
    """Return a successful answer; renew a rejected token once, and wait if Webex is busy."""
    waits = _TRIES - 1
    while True:
        answer = session.webex.call(request.method, request.path, bearer=session.token, **request.parts)
        if answer.status_code in (429, 503) and waits and _wait(session.webex, answer):
            waits -= 1
        elif answer.status_code != 401 or not session.renew():
            break
    if include:
        lines = [f"HTTP/1.1 {answer.status_code}", *(f"{name}: {value}" for name, value in answer.headers.items())]
        click.echo("".join(f"{printable(line, 10_000)}\n" for line in lines))
    if answer.status_code >= 300:
        _fail(session, request, answer, include=include)
    return answer


def _wait(webex: Webex, answer: Answer) -> bool:
    asked = webex.error(answer).retry_after
    seconds = _USUAL_WAIT if asked is None else asked
    if seconds > _LONGEST_WAIT:
        return False
    if sys.stderr.isatty():
        say(f"Webex is busy (status {answer.status_code}). Trying again in {duration(seconds)}.", "yellow")
    time.sleep(seconds)
    return True


def _fail(session: Session, request: Request, answer: Answer, *, include: bool) -> NoReturn:
    status, error = answer.status_code, session.webex.error(answer)
    body = _shown(answer.body.replace(session.token.get_secret_value().encode(), b"[...]"))
    if body and (include or error.error_description not in body):  # otherwise the error says the same
        click.echo(body, err=True)
    if 300 <= status < 400:
        message = f"{answer.host} answered {status}, a redirect, which is not followed for security reasons."
        raise WebexLoopbackError(message, remedy="Run the command with -i to see the URL.")
    if status not in (401, 403, 408, 423, 429) and status < 500:
        error.remedy = _POSTED if status == 405 and request.method == "POST" else _REFERENCE
    told = session.explained(error, request.method, request.path.removeprefix(session.webex.api_base_url))
    raise told if isinstance(told, LoginRequired) else WebexLoopbackError(str(told), remedy=told.remedy)


def _all_pages(session: Session, request: Request) -> bytes:
    """Follow `Link: rel="next"` (RFC 8288); return the pages as one JSON document, in which their lists are joined."""
    whole, url = None, urljoin(f"{session.webex.api_base_url}/", request.path.removeprefix("/"))
    seen = {url}
    while True:
        answer = _answer(session, request)
        try:
            page = json.loads(answer.body)
            whole = page if whole is None else _joined(whole, page)
        except (ValueError, RecursionError, TypeError, AttributeError):
            message = f"{answer.host} did not return a JSON list."
            raise WebexLoopbackError(message, remedy="Leave out --paginate.") from None
        link = re.search(r'<([^>]*)>[^<]*;\s*rel="?([^";,]*\s)?next[\s";,]', answer.headers.get("link", "") + ";", re.I)
        if link is None:
            return json.dumps(whole).encode() + b"\n"
        url = urljoin(url, link[1])
        if url in seen:
            raise WebexLoopbackError(f"The pages of {answer.host} form a loop.", remedy="Leave out --paginate.")
        seen.add(url)
        request = request._replace(path=url)


def _joined(whole: Any, page: Any) -> Any:
    if isinstance(whole, list):
        return whole + page
    lists = {name for name, value in page.items() if isinstance(value, list) and isinstance(whole.get(name), list)}
    return page | whole | {name: whole[name] + page[name] for name in lists}


def _shown(body: bytes) -> str:
    """Return a body for a terminal: JSON indented, and nothing in it that could harm the terminal."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        if b"\0" in body:
            return f"({len(body)} bytes that are not text; redirect the output to a file)"
        text = body.decode(errors="replace").strip()
    spaces = ("\n", "\u00a0", "\u3000")  # the last is the space of Japanese texts
    return "".join(c if c.isprintable() or c in spaces else json.dumps(c)[1:-1] for c in text)
