"""The rules of `authorization_header`, for httpx, requests and aiohttp alike, against a real server."""

import asyncio
import contextlib
import importlib
import io
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import anyio.to_thread
import httpx
import pytest
import requests
import trio

from tests.conftest import Make, Patch, raised, with_locals
from tests.windows import UNDER_WINE
from webex_loopback import ConfigurationError, LoginRequired, MemoryTokenStore, ServerUnreachable, TokenSource
from webex_loopback.clients.aiohttp_middleware import aiohttp_middleware
from webex_loopback.clients.httpx_auth import WebexAuth
from webex_loopback.clients.requests_auth import RequestsAuth
from webex_loopback.tokens.record import StoredToken

OLD, NEW = "access-token-one", "access-token-two"


class Seen(NamedTuple):
    method: str
    path: str
    token: str
    body: bytes
    cookie: str


class Api(ThreadingHTTPServer):
    """A server that accepts one token; `/302?URL` redirects, `/eager` answers 401 before it has read the body."""

    def __init__(self, accepts: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.accepts, self.seen = accepts, list[Seen]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None: ...  # a client that aborts an upload

    @property
    def tokens(self) -> list[str]:
        return [seen.token for seen in self.seen]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Api

    def answer(self) -> None:
        api, token = self.server, self.headers.get("Authorization", "").removeprefix("Bearer ")
        if eager := token != api.accepts and self.path == "/eager":
            self.reply(401)
            time.sleep(0.2)
        body = b"".join(self.chunks())
        api.seen.append(Seen(self.command, self.path, token, body, self.headers.get("Cookie", "")))
        status, _, target = self.path.partition("?")
        if status in ("/302", "/303"):
            self.reply(int(status[1:]), ("Location", target))
        elif not eager:
            self.reply(200 if token == api.accepts else 401, ("Set-Cookie", f"n{len(api.seen)}=v"))

    do_GET = do_POST = answer  # noqa: N815 - the names that the base class calls

    def reply(self, status: int, *headers: tuple[str, str]) -> None:
        body = b"refused" if status == 401 else b"fine"
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def chunks(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def running(accepts: str) -> Iterator[Api]:
    with Api(accepts) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.02)
        yield server
        server.shutdown()


class World:
    """An API that accepts `NEW`, another server, a token endpoint, and a source with `OLD`, which is an hour old."""

    gives: str | Exception = NEW
    renewals = 0

    def __init__(self, token: StoredToken, api: Api, elsewhere: Api) -> None:
        self.api, self.elsewhere, self.url = api, elsewhere, api.url
        self.client = httpx.Client(transport=httpx.MockTransport(self.answer))
        self.source = TokenSource(store=MemoryTokenStore(token), http_client=self.client)

    def answer(self, _: httpx.Request) -> httpx.Response:
        self.renewals += 1
        if isinstance(self.gives, Exception):
            raise self.gives
        time.sleep(0.05)
        return httpx.Response(200, json={"access_token": self.gives, "expires_in": 1_209_599})


@pytest.fixture
def world(make_token: Make) -> Iterator[World]:
    with running(NEW) as api, running("nobody's") as elsewhere:
        world = World(make_token(OLD, age=3600), api, elsewhere)
        with world.client:
            yield world


Answer = tuple[int, str]
Ask = Callable[..., Answer]


def httpx_ask(source: TokenSource, method: str, url: str, **content: Any) -> Answer:
    with httpx.Client(auth=WebexAuth(source), follow_redirects=True) as client:
        response = client.request(method, url, **content)
    return response.status_code, response.text


async def httpx_async(content: dict[str, Any], source: TokenSource, method: str, url: str) -> Answer:
    async with httpx.AsyncClient(auth=WebexAuth(source), follow_redirects=True) as client:
        response = await client.request(method, url, **content)
    return response.status_code, response.text


def httpx_asyncio_ask(*asked: Any, **content: Any) -> Answer:
    return asyncio.run(httpx_async(content, *asked))


def httpx_trio_ask(*asked: Any, **content: Any) -> Answer:
    return trio.run(httpx_async, content, *asked)


def requests_ask(source: TokenSource, method: str, url: str, content: Any = None, **others: Any) -> Answer:
    response = requests.request(method, url, auth=RequestsAuth(source), timeout=9, **{"data": content} | others)
    return response.status_code, response.text


def aiohttp_ask(source: TokenSource, method: str, url: str, content: Any = None, **others: Any) -> Answer:
    middlewares = [others.pop("middleware", None) or aiohttp_middleware(source)]

    async def ask() -> Answer:
        async with (
            aiohttp.ClientSession(middlewares=middlewares) as session,
            session.request(method, url, **{"data": content} | others) as response,
        ):
            return response.status, await response.text()

    return asyncio.run(ask())


no_trio = pytest.mark.skipif(UNDER_WINE, reason="trio needs SIO_BASE_HANDLE, which Wine 8 lacks")
with_trio = pytest.param(httpx_trio_ask, marks=no_trio)


@pytest.fixture(params=[httpx_ask, httpx_asyncio_ask, with_trio, requests_ask, aiohttp_ask])
def ask(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


# The same for all


def test_a_request_carries_the_token_and_a_redirect_within_the_origin_keeps_it(ask: Ask, world: World) -> None:
    world.api.accepts = OLD
    assert ask(world.source, "GET", f"{world.url}/302?/v1/people/me") == (200, "fine")
    assert [(seen.path, seen.token) for seen in world.api.seen] == [("/302?/v1/people/me", OLD), ("/v1/people/me", OLD)]
    assert world.renewals == 0


def test_after_a_401_the_token_is_renewed_and_the_same_request_repeated(ask: Ask, world: World) -> None:
    assert ask(world.source, "POST", f"{world.url}/v1/messages", json={"text": "hello"}) == (200, "fine")
    first, second = world.api.seen
    assert (first.token, second.token) == (OLD, NEW)
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert b"hello" in first.body
    assert ask(world.source, "GET", world.url) == (200, "fine")
    assert world.api.tokens == [OLD, NEW, NEW]
    assert world.renewals == 1


def test_a_401_that_a_new_token_does_not_change_is_returned(ask: Ask, world: World) -> None:
    world.api.accepts = "another's"
    assert ask(world.source, "GET", world.url) == (401, "refused")
    assert (world.api.tokens, world.renewals) == ([OLD, NEW], 1)


def test_the_same_token_is_not_sent_twice(ask: Ask, world: World) -> None:
    world.gives = OLD
    assert ask(world.source, "GET", world.url) == (401, "refused")
    assert (world.api.tokens, world.renewals) == ([OLD], 1)


def test_after_a_redirect_only_the_last_request_is_repeated(ask: Ask, world: World) -> None:
    assert ask(world.source, "POST", f"{world.url}/303?/done", content=b"once") == (200, "fine")
    requests = [("POST", "/303?/done", OLD), ("GET", "/done", OLD), ("GET", "/done", NEW)]
    assert [seen[:3] for seen in world.api.seen] == requests


def test_the_token_does_not_follow_a_redirect_to_another_origin(ask: Ask, world: World) -> None:
    assert ask(world.source, "GET", f"{world.url}/302?{world.elsewhere.url}/download") == (401, "refused")
    assert world.elsewhere.tokens == [""]
    assert world.renewals == 0


def test_the_token_is_not_sent_unencrypted_to_another_machine(ask: Ask, world: World) -> None:
    with pytest.raises(ConfigurationError, match="was not sent"):
        ask(world.source, "GET", "HTTP://10.0.0.7:8080/")


def test_the_errors_of_get_token_are_raised(ask: Ask, world: World, make_token: Make) -> None:
    store = MemoryTokenStore()
    with pytest.raises(LoginRequired):
        ask(TokenSource(store=store), "GET", world.url)
    assert world.api.seen == []
    store.save(make_token(OLD, refresh_token=None, age=3600))
    with pytest.raises(LoginRequired):
        ask(TokenSource(store=store), "GET", world.url)
    assert world.api.tokens == [OLD]


def test_a_traceback_with_local_variables_shows_no_token(ask: Ask, world: World) -> None:
    world.gives = httpx.ReadTimeout("no answer")
    shown = with_locals(raised(ServerUnreachable, ask, world.source, "GET", world.url))
    assert "webex_loopback/clients/" in shown.replace(os.sep, "/")
    assert OLD not in shown
    assert "refresh-token-one" not in shown


async def later() -> AsyncIterator[bytes]:
    yield b"once"


def one_shot(ask: Ask) -> Any:
    return iter([b"once"]) if ask in (httpx_ask, requests_ask) else later()


def test_a_used_up_body_is_not_repeated_but_the_next_request_has_the_new_token(ask: Ask, world: World) -> None:
    assert ask(world.source, "POST", world.url, content=one_shot(ask)) == (401, "refused")
    assert [(seen.token, seen.body) for seen in world.api.seen] == [(OLD, b"once")]
    assert ask(world.source, "POST", world.url, content=one_shot(ask)) == (200, "fine")
    assert (world.api.tokens, world.renewals) == ([OLD, NEW], 1)


def test_a_form_with_a_file_is_repeated(ask: Ask, world: World) -> None:
    file = io.BytesIO(b"minutes" * 20_000)
    form: dict[str, Any] = {"data": {"title": "notes"}, "files": {"file": ("notes.txt", file)}}
    if ask is aiohttp_ask:
        form = {"data": {"title": "notes", "file": file}}
    assert ask(world.source, "POST", world.url, **form) == (200, "fine")
    first, second = world.api.seen
    assert first.body == second.body
    assert b"minutes" * 20_000 in first.body


# httpx


@pytest.mark.parametrize("ask", [httpx_ask, httpx_asyncio_ask])
def test_a_form_with_a_pipe_is_not_repeated(ask: Ask, world: World) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, "rb") as pipe:
        assert ask(world.source, "POST", world.url, files={"file": ("notes.txt", pipe)}) == (401, "refused")
    assert len(world.api.seen) == 1


def test_httpx_keeps_the_first_answer_in_the_history(world: World) -> None:
    with httpx.Client(auth=WebexAuth(world.source)) as client:
        response = client.post(world.url, data={"a": "b"}, files={"file": b"minutes"})
        assert [earlier.status_code for earlier in response.history] == [401]
        assert dict(client.cookies) == {"n1": "v", "n2": "v"}


# requests


def test_requests_keeps_history_cookies_and_the_position_of_a_file(world: World, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"skipped minutes")
    with requests.Session() as session, (tmp_path / "notes.txt").open("rb") as file:
        file.seek(8)
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True))  # a leak would block
        response = session.post(world.url, data=file, auth=RequestsAuth(world.source))
        assert [earlier.status_code for earlier in response.history] == [401]
        assert response.request.headers["Authorization"] == f"Bearer {NEW}"
        assert response.history[0].request.headers["Authorization"] == f"Bearer {OLD}"
        assert session.cookies.get_dict() == {"n1": "v", "n2": "v"}
    assert [(seen.body, seen.cookie) for seen in world.api.seen] == [(b"minutes", ""), (b"minutes", "n1=v")]


# aiohttp


def test_an_upload_that_the_401_overtakes_is_repeated_whole(world: World) -> None:
    minutes = os.urandom(16 << 20)

    async def upload() -> int:
        async with (
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(world.source)]) as session,
            session.post(f"{world.url}/eager", data=io.BytesIO(minutes)) as response,
        ):
            while len(world.api.seen) < 2:  # noqa: ASYNC110 - until the first upload has ended as well
                await asyncio.sleep(0.01)
            return response.status

    assert asyncio.run(upload()) == 200
    assert [seen.body == minutes for seen in world.api.seen if seen.token == NEW] == [True]


def statuses(source: TokenSource, *urls: str) -> list[int]:
    middleware = aiohttp_middleware(source)
    return [aiohttp_ask(source, "GET", url, middleware=middleware)[0] for url in urls]


def test_an_origin_that_only_a_redirect_named_never_gets_the_token(world: World) -> None:
    world.api.accepts = OLD
    here, there = world.url, world.elsewhere.url
    urls = [f"{here}/302?{there}/a", f"{here}/302?{there}/302?/b", f"{there}/302?{here}/c", f"{there}/d"]
    assert statuses(world.source, *urls) == [401, 401, 200, 401]
    assert set(world.elsewhere.tokens) == {""}


def test_an_origin_that_the_program_has_requested_gets_it_after_a_redirect_too(world: World) -> None:
    world.api.accepts = world.elsewhere.accepts = OLD
    assert statuses(world.source, world.elsewhere.url, f"{world.url}/302?{world.elsewhere.url}/") == [200, 200]


@pytest.mark.parametrize("target", ["mailto:alex.morgan@example.com", "http://["])
def test_a_redirect_to_nowhere_is_left_to_aiohttp(world: World, target: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        aiohttp_ask(world.source, "GET", f"{world.url}/302?{target}")


# Many at once


def test_tasks_share_one_renewal_and_the_event_loop_runs_on(world: World) -> None:
    async def ask() -> tuple[list[Any], int]:
        async with (
            httpx.AsyncClient(auth=WebexAuth(world.source)) as client,
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(world.source)]) as session,
        ):

            async def status() -> int:
                async with session.get(world.url) as response:
                    return response.status

            ticks, httpx_answers = 0, [client.get(world.url) for _ in range(8)]
            asked: asyncio.Future[list[Any]] = asyncio.gather(*httpx_answers, *(status() for _ in range(8)))
            while not asked.done():
                await asyncio.sleep(0.005)
                ticks += world.renewals == 1
            return await asked, ticks

    answers, ticks = asyncio.run(ask())
    assert [getattr(one, "status_code", one) for one in answers] == [200] * 16
    assert world.renewals == 1
    assert ticks > 3


def test_full_thread_pools_do_not_hold_up_a_renewal(world: World) -> None:
    async def ask() -> int:
        done = threading.Event()
        async with httpx.AsyncClient(auth=WebexAuth(world.source)) as client, asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(asyncio.to_thread(done.wait, 9))
                group.create_task(anyio.to_thread.run_sync(done.wait, 9))
            try:
                return (await asyncio.wait_for(client.get(world.url), 5)).status_code
            finally:
                done.set()

    assert asyncio.run(ask()) == 200


def test_without_requests_the_remedy_is_to_install_it(monkeypatch: Patch) -> None:
    monkeypatch.delitem(sys.modules, RequestsAuth.__module__)
    monkeypatch.setitem(sys.modules, "requests", None)
    error = raised(ConfigurationError, importlib.import_module, RequestsAuth.__module__)
    assert error.remedy == "Run `pip install requests`."


@pytest.mark.parametrize("auth", [WebexAuth, RequestsAuth, aiohttp_middleware])
def test_a_source_and_a_profile_exclude_each_other(auth: Callable[..., object], world: World) -> None:
    with pytest.raises(TypeError, match="either"):
        auth(world.source, profile="work")
