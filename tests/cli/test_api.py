"""`api` and `whoami`: what they send, what they print and where, and where the token never goes."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Make, Output, Patch, Store, Token, posix
from webex_loopback import log_in
from webex_loopback.cli.app import main
from webex_loopback.cli.request import Request, read_options
from webex_loopback.cli.session import explain_403, needed_scope
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens.record import ServiceApp

from .conftest import Run, on_terminal

EMAIL = "hanako.yamada@example.com"
TO = ("-f", f"toPersonEmail={EMAIL}")
# fmt: off
BAD = [
    "-f novalue", "-f =x", "-H novalue", "-f a=1 -F a=2", "-F files=@nowhere", "-F files=@.", "--input nowhere",
    "-F files=@a -X GET", "-X G-ET", "-X POST --paginate", "-i --paginate", "-H Host:x", "-H X-Y:\x1b[31mü",
    *(["--input /dev/zero"] if os.name == "posix" else []),
]
# fmt: on


@pytest.fixture
def login(sandbox: Sandbox, redirect_uri: str) -> Token:
    """The default profile, with the scopes of the usual tutorial."""
    return log_in(scopes="spark:people_read spark:messages_write spark:rooms_read", open_browser=Person().visit).token


@pytest.fixture
def run(run: Run, login: Token) -> Run:
    """Run a command as a logged-in user."""
    return run


@pytest.fixture
def elsewhere() -> Iterator[Sandbox]:
    """Another server, which no token may reach."""
    with Sandbox() as other:
        yield other
    assert other.requests == []


def options(path: str = "messages", **given: object) -> Request:
    values = {"method": "", "raw": (), "typed": (), "body": None, "headers": ()} | given
    return read_options(path, **values)  # type: ignore[arg-type]


def test_the_usual_tutorial(run: Run) -> None:
    assert json.loads(run("api", "people/me").out)["displayName"] == "Alex Morgan"
    message = json.loads(run("api", "messages", *TO, "-f", "text=こんにちは").out)
    assert message["text"] == "こんにちは"
    assert run("api", f"messages/{message['id']}", "-X", "delete").out == ""
    Path("見積.txt").write_text("42")
    assert "/contents/" in json.loads(run("api", "messages", *TO, "-F", "files=@見積.txt").out)["files"][0]


TYPED = {"typed": ["a=1", "b=true", "c=null", 'd=["x"]', "e=x", "f=NaN", "g="]}
TYPED_JSON = {"a": 1, "b": True, "c": None, "d": ["x"], "e": "x", "f": "NaN", "g": ""}


@pytest.mark.parametrize(
    ("given", "method", "path", "content"),
    [
        ({}, "GET", "messages", None),
        ({"raw": ["a=1", "b=x=y"]}, "POST", "messages", {"a": "1", "b": "x=y"}),
        (TYPED, "POST", "messages", TYPED_JSON),
        ({"raw": ["a=1 2&ü"], "typed": ["b=true"], "method": "get"}, "GET", "messages?a=1%202%26%C3%BC&b=true", None),
        ({"raw": ["a=1"], "path": "rooms?b=2", "method": "GET"}, "GET", "rooms?b=2&a=1", None),
        ({"raw": ["\udcff=\udcff"], "method": "GET"}, "GET", "messages?%3F=%3F", None),
    ],
)
def test_options_become_a_request(given: dict[str, object], method: str, path: str, content: object) -> None:
    request = options(**given)  # type: ignore[arg-type]
    assert (request.method, request.path) == (method, path)
    assert json.loads(request.parts.get("content", "null")) == content
    assert request.parts["headers"].get("content-type", "application/json") == "application/json"


def test_fields_beside_files_and_input() -> None:
    Path("a.pdf").write_bytes(b"%PDF")
    parts = options(typed=["files=@a.pdf", "n=1"], raw=["text=x"], headers=["X-Y: z"]).parts
    assert (parts["files"], parts["data"]) == ([("files", ("a.pdf", b"%PDF"))], {"text": "x", "n": "1"})
    assert "multipart/form-data" in httpx.Request("POST", "http://x", **parts).headers["content-type"]
    request = options(body="a.pdf", raw=["a=1"], headers=["content-type:application/pdf"])
    assert (request.method, request.path, request.parts["content"]) == ("POST", "messages?a=1", b"%PDF")
    assert request.parts["headers"]["content-type"] == "application/pdf"


@pytest.mark.parametrize("arguments", BAD)
def test_bad_options_exit_with_2_and_nothing_is_sent(save: Make, capsys: Output, arguments: str) -> None:
    save()  # a login at a port where nobody listens: a request would exit with 5
    Path("a").touch()
    assert main(["api", "messages", *arguments.split()]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert not re.search("Traceback|\x1b.31mü", told.err)


def test_a_redirect_is_not_followed(run: Run, sandbox: Sandbox, elsewhere: Sandbox) -> None:
    sandbox.switches.api_faults = [f"redirect:{elsewhere.base_url}/people/me?secret=x"]
    told = run("api", "people/me", "-i", code=1)
    assert told.out.startswith("HTTP/1.1 307\n")
    assert f"location: {elsewhere.base_url}/people/me?secret=x" in told.out
    sandbox.answer("/v1/people/me", 304)
    run("api", "people/me", code=1)


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ('{"x": [1], "total": 3}', '{"x": [2, 3], "more": 1}', {"x": [1, 2, 3], "total": 3, "more": 1}),
        ("[1]", "[2]", [1, 2]),
    ],
)
def test_pages_of_any_shape_are_joined(run: Run, sandbox: Sandbox, first: str, second: str, whole: object) -> None:
    following = '</v1/numbers?start=1>;rel="prev", </v1/numbers?start=2>; title="x"; rel="last next"'
    sandbox.answer("/v1/numbers", body=first, headers={"Link": following})
    sandbox.answer("/v1/numbers", body=second)
    assert json.loads(run("api", "numbers", "--paginate").out) == whole


@pytest.mark.parametrize(
    ("link", "then", "code", "said"),
    [
        ("ELSEWHERE/v1/x", (200, "[]"), 2, "sent nowhere else"),
        ("/v1/x", (200, "[]"), 1, "loop"),
        ("?page=2", (200, "{}"), 1, "JSON list"),
        ("?page=2", (500, "[]"), 1, "answered 500"),
    ],
)
def test_pages_that_cannot_be_joined_print_nothing(
    run: Run, sandbox: Sandbox, elsewhere: Sandbox, link: str, then: tuple[int, str], code: int, said: str
) -> None:
    link = link.replace("ELSEWHERE", elsewhere.origin)
    sandbox.answer("/v1/x", body="[]", headers={"Link": f"<{link}>; rel=next"})
    sandbox.answer("/v1/x", *then)
    told = run("api", "x", "--paginate", code=code)
    assert said in told.err
    assert told.out == ""


def test_an_error_is_told_once_with_its_tracking_id(run: Run, login: Token, sandbox: Sandbox) -> None:
    told = run("api", "messages", "-f", "text=x", code=1)
    assert (told.out, told.err.count("Provide only one destination"), told.err.count("tracking ID")) == ("", 1, 1)
    assert '"trackingId"' in run("api", "messages", "-f", "text=x", "-i", code=1).err
    sandbox.answer("/v1/x", 418, f"\x1b[31mNo tea for {login.access_token.get_secret_value()}")
    told = run("api", "x", code=1)
    assert "No tea for [...]" in told.err
    assert "\x1b[31mNo" not in told.err
    sandbox.answer("/v1/x", 404, "<p>Nothing here")
    assert "Nothing here" in run("api", "x", code=1).err  # what cannot be put into a sentence
    sandbox.answer("/v1/x", 405, times=2)
    assert ["-X GET" in run("api", "x", *field, code=1).err for field in ([], ["-f", "max=2"])] == [False, True]


def revoke(store: Store, age: int) -> None:
    stored = store.load()
    assert stored is not None
    issued_at = int(time.time()) - age
    with store.lock():
        store.save(dataclasses.replace(stored, access_token=Secret("revoked"), issued_at=issued_at))


@pytest.mark.parametrize("arguments", [["api", "people/me"], ["whoami"]])
def test_a_rejected_token_is_renewed_once(run: Run, store: Store, sandbox: Sandbox, arguments: list[str]) -> None:
    revoke(store, 3600)
    assert "Alex Morgan" in run(*arguments).out
    assert (sandbox.count("/v1/people/me", status=401), sandbox.count("refresh_token")) == (1, 1)
    revoke(store, 0)  # too young to be renewed, and not sent again
    assert "`webex-loopback login --force`" in run(*arguments, code=3).err
    assert (sandbox.count("/v1/people/me", status=401), sandbox.count("refresh_token")) == (2, 1)
    revoke(store, 3600)
    sandbox.switches.dead_refresh_token = "invalid_grant"
    run(*arguments, code=3)
    assert "`webex-loopback login -p work`" in run(*arguments, "-p", "work", code=3).err


def test_a_new_token_that_is_rejected_is_not_renewed_again(run: Run, store: Store, sandbox: Sandbox) -> None:
    revoke(store, 3600)
    sandbox.switches.expires_in = 1
    sandbox.switches.api_faults = ["gateway401", "429:2", "gateway401"]
    run("api", "people/me", code=3)
    assert sandbox.count("refresh_token") == 1


def test_whoami_prints_the_account(run: Run, sandbox: Sandbox) -> None:
    person = {"displayName": "山田 花子", "emails": [EMAIL], "id": "1"}
    sandbox.answer("/v1/people/me", body=person, times=2)
    assert run("whoami").out == f"山田 花子 <{EMAIL}>\n"
    out = run("whoami", "--json").out
    assert (json.loads(out), out.isascii()) == ({"name": "山田 花子", "email": EMAIL, "id": "1"}, True)
    sandbox.answer("/v1/people/me", 403)
    assert "spark:people_read" in run("whoami", code=5).err


@pytest.mark.parametrize(
    ("faults", "code", "requests"),
    [(["429:rand(30),add(30)", "503:0"], 0, 3), (["429:0"] * 3, 1, 3), (["503:3600"], 1, 1), (["502"], 1, 1)],
)
def test_a_busy_server_is_asked_three_times(
    run: Run, sandbox: Sandbox, faults: list[str], code: int, requests: int, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("webex_loopback.cli.api._USUAL_WAIT", 0.1)
    before = sandbox.count("/v1/people/me")
    sandbox.switches.api_faults = faults
    run("api", "people/me", code=code)
    assert sandbox.count("/v1/people/me") == before + requests


@posix
@pytest.mark.usefixtures("login")
def test_on_a_terminal(sandbox: Sandbox) -> None:
    sandbox.switches.api_faults = ["429:1"]
    sandbox.answer("/v1/x", body={"name": "\x1b[31m山田\u3000花子\u202e\x9b", "n": 1})
    sandbox.answer("/v1/x", body=b"\x89PNG\0\0")
    said = on_terminal("api people/me")
    assert "Trying again in 1 s." in said
    assert '\n  "displayName": "Alex Morgan",\n' in said
    assert on_terminal("api x") == '{\n  "name": "\\u001b[31m山田\u3000花子\\u202e\\u009b",\n  "n": 1\n}\n'
    assert "6 bytes that are not text" in on_terminal("api x")


def test_the_token_of_the_environment(run: Run, login: Token, sandbox: Sandbox, monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", login.access_token.get_secret_value())
    run("api", f"{sandbox.base_url}/people/me?x=http://y")
    assert "the scope spark:messages_read. Set WEBEX_ACCESS_TOKEN" in run("api", "messages/x", code=1).err
    assert "Alex Morgan" in run("whoami").out
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "expired")
    for arguments, code in ((["api", "people/me"], 1), (["whoami"], 5)):
        assert "Set WEBEX_ACCESS_TOKEN to another token" in run(*arguments, code=code).err
    assert sandbox.count("refresh_token") == 0
    monkeypatch.delenv("WEBEX_API_BASE_URL")
    before = len(sandbox.requests)
    Path("config.env").write_text(f"WEBEX_API_BASE_URL={sandbox.base_url}\n")
    Path("config.env").chmod(0o600)
    for arguments in (["api", "people/me"], ["whoami"]):
        assert "config.env" in run(*arguments, code=2).err
    assert len(sandbox.requests) == before


def test_a_403_names_the_scope_and_the_command_that_adds_it(run: Run) -> None:
    wanted = '"spark:people_read spark:messages_write spark:rooms_read spark:messages_read"'
    assert f"`webex-loopback login --scopes {wanted} --force`" in run("api", "messages/x", code=1).err


def test_other_reasons_for_a_403(make_token: Make) -> None:
    token = make_token(scopes_requested=["spark:all", "bad$scope"], scope=None)
    assert "a role or a license" in explain_403("POST", "/messages", token, "work")
    assert '"spark:all meeting:schedules_write"' in explain_403("POST", "meetings", token, "work")
    app = dataclasses.replace(token, service_app=ServiceApp(org_id="ORG", app_id="A", using="admin"))
    command = "`webex-loopback login -p work --service-app ORG --using admin --force`"
    assert command in explain_403("GET", "locations", app, "work")
    assert explain_403("GET", "unknown/messages", token, "work") == ""


def test_the_scope_of_a_request() -> None:
    assert needed_scope("POST", "/people") == "spark-admin:people_write"
    assert needed_scope("PUT", "rooms/ID?x=/messages") == "spark:rooms_write"
    assert needed_scope("POST", "xapi/command/a.b") == "spark:xapi_commands"
    assert needed_scope("HEAD", "contents/ID") == "spark:messages_read"
    assert needed_scope("GET", "roomsx") == ""
