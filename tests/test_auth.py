"""Authentication for httpx, requests and aiohttp: the same rules for all, against a real server."""

import asyncio
import io
import os
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
import pytest
import requests

from webex_loopback import ConfigurationError, LoginRequired, ServerUnreachable, TokenSource
from webex_loopback.auth import RequestsAuth, WebexAuth, aiohttp_middleware
from webex_loopback.sandbox import Sandbox
from webex_loopback.store import FileTokenStore, MemoryTokenStore
from webex_loopback.token import StoredToken

OLD, NEW = "access-token-one", "access-token-two"


class Seen(NamedTuple):
    method: str
    path: str
    token: str
    body: bytes
    cookie: str


class Api:
    """A server that takes one token; `/to?URL` redirects, `/eager` answers 401 before it has read the body."""

    def __init__(self, takes: str) -> None:
        self.takes = takes
        self.seen: list[Seen] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                refused = token != api.takes
                if refused and self.path == "/eager":
                    self.reply(401)
                    time.sleep(0.2)
                body = b"".join(self.chunks())
                api.seen.append(Seen(self.command, self.path, token, body, self.headers.get("Cookie", "")))
                status, _, target = self.path.partition("?")
                if status in ("/302", "/303", "/307"):
                    self.reply(int(status[1:]), ("Location", target))
                elif not (refused and self.path == "/eager"):
                    self.reply(401 if refused else 200, ("Set-Cookie", f"n{len(api.seen)}=v"))

            do_GET = do_POST = answer  # noqa: N815 - as the base class calls them

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

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that breaks an upload off

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def has_seen(self, count: int) -> bool:
        until = time.monotonic() + 5
        while len(self.seen) < count and time.monotonic() < until:
            time.sleep(0.01)
        return len(self.seen) == count

    @property
    def tokens(self) -> list[str]:
        return [seen.token for seen in self.seen]


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api(NEW)
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Api]:
    server = Api("nobody's")
    yield server
    server.close()


class Endpoint:
    """A token endpoint, as a transport of httpx."""

    def __init__(self) -> None:
        self.gives = NEW
        self.fails = False
        self.count = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        if self.fails:
            raise httpx.ReadTimeout("no answer", request=request)
        time.sleep(0.05)
        return httpx.Response(200, json={"access_token": self.gives, "expires_in": 1_209_599})


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def source(make_token: Callable[..., StoredToken], endpoint: Endpoint) -> Iterator[TokenSource]:
    """A source with `OLD`, an hour old, whose refresh gives `NEW`."""
    with httpx.Client(transport=httpx.MockTransport(endpoint)) as client:
        yield TokenSource(store=MemoryTokenStore(make_token(OLD, age=3600)), http_client=client)


class Answer(NamedTuple):
    status: int
    text: str


Ask = Callable[..., Answer]


def httpx_ask(source: TokenSource, method: str, url: str, **content: Any) -> Answer:
    with httpx.Client(auth=WebexAuth(source), follow_redirects=True) as client:
        response = client.request(method, url, **content)
    return Answer(response.status_code, response.text)


def httpx_async_ask(source: TokenSource, method: str, url: str, **content: Any) -> Answer:
    async def ask() -> Answer:
        async with httpx.AsyncClient(auth=WebexAuth(source), follow_redirects=True) as client:
            response = await client.request(method, url, **content)
        return Answer(response.status_code, response.text)

    return asyncio.run(ask())


def requests_ask(source: TokenSource, method: str, url: str, **content: Any) -> Answer:
    with requests.Session() as session:
        session.auth = RequestsAuth(source)
        if "content" in content:
            content["data"] = content.pop("content")
        response = session.request(method, url, **content)
    return Answer(response.status_code, response.text)


def aiohttp_ask(source: TokenSource, method: str, url: str, **content: Any) -> Answer:
    async def ask() -> Answer:
        if "content" in content:
            content["data"] = content.pop("content")
        async with (
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(source)]) as session,
            session.request(method, url, **content) as response,
        ):
            return Answer(response.status, await response.text())

    return asyncio.run(ask())


ASKS: list[Ask] = [httpx_ask, httpx_async_ask, requests_ask, aiohttp_ask]


@pytest.fixture(params=ASKS, ids=lambda ask: ask.__name__)
def ask(request: pytest.FixtureRequest) -> Ask:
    made: Ask = request.param
    return made


# What is the same for all


def test_a_request_carries_the_token(ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    api.takes = OLD
    assert ask(source, "GET", f"{api.url}/v1/people/me") == (200, "fine")
    assert api.tokens == [OLD]
    assert endpoint.count == 0


def test_a_401_is_answered_with_a_refresh_and_the_same_request(
    ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint
) -> None:
    assert ask(source, "POST", f"{api.url}/v1/messages", json={"text": "hello"}) == (200, "fine")
    assert api.tokens == [OLD, NEW]
    assert endpoint.count == 1
    first, second = api.seen
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert b"hello" in first.body
    assert ask(source, "GET", f"{api.url}/v1/people/me").status == 200
    assert api.tokens == [OLD, NEW, NEW]


def test_what_stays_401_is_the_callers(ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    api.takes = "another's"
    assert ask(source, "GET", api.url) == (401, "refused")
    assert api.tokens == [OLD, NEW]
    # Nor does it go on so: a refresh has just not helped.
    assert ask(source, "GET", api.url) == (401, "refused")
    assert api.tokens == [OLD, NEW, NEW]
    assert endpoint.count == 1


def test_the_same_token_again_is_not_sent_again(ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    endpoint.gives = OLD
    assert ask(source, "GET", api.url) == (401, "refused")
    assert api.tokens == [OLD]
    assert endpoint.count == 1


def test_another_status_is_none_of_its_business(ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    api.takes = OLD
    assert ask(source, "GET", f"{api.url}/302?/v1/people/me") == (200, "fine")
    assert [seen.path for seen in api.seen] == ["/302?/v1/people/me", "/v1/people/me"]
    assert api.tokens == [OLD, OLD]
    assert endpoint.count == 0


def test_after_a_redirect_only_the_last_request_is_sent_again(ask: Ask, source: TokenSource, api: Api) -> None:
    assert ask(source, "POST", f"{api.url}/303?/done", content=b"once").status == 200
    assert [(seen.method, seen.path, seen.token) for seen in api.seen] == [
        ("POST", "/303?/done", OLD),
        ("GET", "/done", OLD),
        ("GET", "/done", NEW),
    ]


def test_the_token_does_not_follow_a_redirect_to_another_host(
    ask: Ask, source: TokenSource, api: Api, elsewhere: Api, endpoint: Endpoint
) -> None:
    assert ask(source, "GET", f"{api.url}/302?{elsewhere.url}/download") == (401, "refused")
    assert elsewhere.tokens == [""]
    assert endpoint.count == 0


@pytest.mark.parametrize("url", ["http://webexapis.com/v1/people/me", "http://10.0.0.7:8080/"])
def test_the_token_is_not_sent_in_the_clear(ask: Ask, source: TokenSource, url: str) -> None:
    with pytest.raises(ConfigurationError, match="in the clear; it was not sent"):
        ask(source, "GET", url)


def test_what_helps_only_a_person_is_raised(ask: Ask, make_token: Callable[..., StoredToken], api: Api) -> None:
    store = MemoryTokenStore()
    with pytest.raises(LoginRequired):
        ask(TokenSource(store=store), "GET", api.url)
    assert api.seen == []
    store.save(make_token(OLD, age=3600).model_copy(update={"refresh_token": None}))
    with pytest.raises(LoginRequired, match="no refresh token"):
        ask(TokenSource(store=store), "GET", api.url)
    assert api.tokens == [OLD]


def test_a_traceback_with_locals_shows_no_token(ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    endpoint.fails = True
    with pytest.raises(ServerUnreachable) as caught:
        ask(source, "GET", api.url)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "webex_loopback/auth.py" in shown.replace(os.sep, "/")
    assert OLD not in shown
    assert "refresh-token-one" not in shown


def one_shot(ask: Ask) -> Any:
    async def later() -> AsyncIterator[bytes]:
        yield b"once"

    return later() if ask in (httpx_async_ask, aiohttp_ask) else iter([b"once"])


def test_a_body_that_is_gone_is_not_sent_again_but_the_next_request_works(
    ask: Ask, source: TokenSource, api: Api, endpoint: Endpoint
) -> None:
    assert ask(source, "POST", api.url, content=one_shot(ask)) == (401, "refused")
    assert [(seen.token, seen.body) for seen in api.seen] == [(OLD, b"once")]
    assert endpoint.count == 1
    assert ask(source, "POST", api.url, content=one_shot(ask)) == (200, "fine")
    assert (api.tokens, endpoint.count) == ([OLD, NEW], 1)


def form(ask: Ask, file: Any) -> dict[str, Any]:
    if ask is aiohttp_ask:
        return {"data": {"title": "notes", "file": file}}
    return {"data": {"title": "notes"}, "files": {"file": ("notes.txt", file)}}


def test_a_form_with_a_file_is_sent_again(ask: Ask, source: TokenSource, api: Api, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"minutes" * 20_000)
    with path.open("rb") as file:
        assert ask(source, "POST", api.url, **form(ask, file)).status == 200
    first, second = api.seen
    assert first.body == second.body
    assert path.read_bytes() in first.body


# httpx


class Pipe(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self) -> None:
        self._left = b"minutes"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@pytest.mark.parametrize("ask", [httpx_ask, httpx_async_ask])
def test_a_form_with_a_pipe_is_not(ask: Ask, source: TokenSource, api: Api) -> None:
    assert ask(source, "POST", api.url, files={"file": ("notes.txt", Pipe())}).status == 401
    assert len(api.seen) == 1


def test_a_form_of_strings_is(source: TokenSource, api: Api) -> None:
    assert httpx_ask(source, "POST", api.url, data={"a": "b"}, files={"file": b"minutes"}).status == 200
    assert api.seen[0].body == api.seen[1].body


def test_httpx_keeps_the_first_answer_in_the_history(source: TokenSource, api: Api) -> None:
    with httpx.Client(auth=WebexAuth(source)) as client:
        response = client.get(api.url)
        assert [earlier.status_code for earlier in response.history] == [401]
        assert dict(client.cookies) == {"n1": "v", "n2": "v"}


def test_https_goes_to_whatever_host_the_client_is_for(source: TokenSource) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.headers["Authorization"])

    with httpx.Client(auth=WebexAuth(source), transport=httpx.MockTransport(answer)) as client:
        assert client.get("https://api-usgov.webex.com/v1/people/me").text == f"Bearer {OLD}"


def test_off_asyncio_the_token_is_found_in_a_thread(
    source: TokenSource, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_asyncio() -> None:
        raise RuntimeError("no running event loop")

    flow = WebexAuth(source).async_auth_flow(httpx.Request("GET", api.url))

    async def first() -> httpx.Request:
        with monkeypatch.context() as trio:
            trio.setattr("webex_loopback.auth.asyncio.get_running_loop", no_asyncio)
            trio.setattr("webex_loopback.auth._in_thread", asyncio.to_thread)
            request = await anext(flow)
        await flow.aclose()
        return request

    assert asyncio.run(first()).headers["Authorization"] == f"Bearer {OLD}"


# requests


def test_requests_keeps_history_and_cookies_and_the_files_position(
    source: TokenSource, api: Api, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"skipped minutes")
    with requests.Session() as session, path.open("rb") as file:
        file.seek(8)
        response = session.post(api.url, data=file, auth=RequestsAuth(source))
        assert response.status_code == 200
        assert [earlier.status_code for earlier in response.history] == [401]
        assert response.request.headers["Authorization"] == f"Bearer {NEW}"
        assert response.history[0].request.headers["Authorization"] == f"Bearer {OLD}"
        assert session.cookies.get_dict() == {"n1": "v", "n2": "v"}
    assert [seen.body for seen in api.seen] == [b"minutes", b"minutes"]
    assert [seen.cookie for seen in api.seen] == ["", "n1=v"]


def test_requests_reads_a_stream_lazily_all_the_same(source: TokenSource, api: Api) -> None:
    with requests.get(api.url, auth=RequestsAuth(source), stream=True, timeout=5) as response:
        assert response.raw.read() == b"fine"


# aiohttp


def test_an_upload_that_the_401_overtakes_is_sent_whole(source: TokenSource, api: Api) -> None:
    minutes = os.urandom(16 << 20)

    async def upload() -> int:
        async with (
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(source)]) as session,
            session.post(f"{api.url}/eager", data=io.BytesIO(minutes)) as response,
        ):
            assert await asyncio.to_thread(api.has_seen, 2)  # the one that was broken off has come to its end
            return response.status

    assert asyncio.run(upload()) == 200
    bodies = {seen.token: seen.body for seen in api.seen}
    assert bodies[NEW] == minutes
    assert len(bodies[OLD]) < len(minutes)


async def status(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


def test_a_host_that_only_a_redirect_named_never_gets_the_token(
    source: TokenSource, api: Api, elsewhere: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "webex_loopback.auth")
    api.takes = OLD

    async def ask() -> list[int]:
        async with aiohttp.ClientSession(middlewares=[aiohttp_middleware(source)]) as session:
            urls = [
                f"{api.url}/302?{elsewhere.url}/a",
                f"{api.url}/302?{elsewhere.url}/302?/b",  # and there from one page to the other
                f"{elsewhere.url}/302?{api.url}/c",  # back where it belongs
                f"{elsewhere.url}/d",
            ]
            return [await status(session, url) for url in urls]

    assert asyncio.run(ask()) == [401, 401, 200, 401]
    assert set(elsewhere.tokens) == {""}
    assert caplog.text.count("gets no token") == 1
    assert OLD not in caplog.text


def test_a_host_that_the_program_asks_itself_gets_it_after_a_redirect_too(
    source: TokenSource, api: Api, elsewhere: Api
) -> None:
    api.takes = elsewhere.takes = OLD

    async def ask() -> list[int]:
        async with aiohttp.ClientSession(middlewares=[aiohttp_middleware(source)]) as session:
            return [await status(session, url) for url in (elsewhere.url, f"{api.url}/302?{elsewhere.url}/")]

    assert asyncio.run(ask()) == [200, 200]


def test_a_redirect_to_nowhere_is_aiohttps_to_judge(source: TokenSource, api: Api) -> None:
    with pytest.raises(aiohttp.NonHttpUrlClientError):
        aiohttp_ask(source, "GET", f"{api.url}/302?mailto:alex.morgan@example.com")


# Many at once


def test_threads_share_one_refresh(source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    with (
        httpx.Client(auth=WebexAuth(source)) as client,
        requests.Session() as session,
        ThreadPoolExecutor(8) as pool,
    ):
        auth = RequestsAuth(source)
        asked = [
            pool.submit(client.get, api.url) if n % 2 else pool.submit(session.get, api.url, auth=auth)
            for n in range(16)
        ]
        assert {done.result().status_code for done in asked} == {200}
    assert endpoint.count == 1


def test_tasks_share_one_refresh(source: TokenSource, api: Api, endpoint: Endpoint) -> None:
    async def ask() -> set[int]:
        async with (
            httpx.AsyncClient(auth=WebexAuth(source)) as client,
            aiohttp.ClientSession(middlewares=[aiohttp_middleware(source)]) as session,
        ):

            async def by_httpx() -> int:
                return (await client.get(api.url)).status_code

            return set(await asyncio.gather(*(by_httpx() if n % 2 else status(session, api.url) for n in range(16))))

    assert asyncio.run(ask()) == {200}
    assert endpoint.count == 1


def test_the_event_loop_goes_on_while_a_refresh_is_made(
    source: TokenSource, api: Api, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, go_on = threading.Event(), threading.Event()
    refresh = source.refresh

    def slow(*, rejected: str | None = None) -> str:
        under_way.set()
        assert go_on.wait(5)
        return refresh(rejected=rejected)

    monkeypatch.setattr(source, "refresh", slow)

    async def ask() -> int:
        async with httpx.AsyncClient(auth=WebexAuth(source)) as client:
            asked = asyncio.create_task(client.get(api.url))
            assert await asyncio.to_thread(under_way.wait, 5)
            go_on.set()  # reached only if the loop is free
            return (await asked).status_code

    assert asyncio.run(ask()) == 200


# Of a profile


def aged(store: FileTokenStore) -> None:
    """Make the stored token older than the minute in which a 401 brings no refresh."""
    stored = store.load()
    assert stored is not None
    store.save(stored.model_copy(update={"issued_at": int(time.time()) - 1000}))


def test_the_profile_is_used_where_no_source_is_given(
    logged_in: StoredToken, sandbox: Sandbox, store: FileTokenStore
) -> None:
    aged(store)
    token = logged_in.access_token.get_secret_value()
    with httpx.Client(base_url=sandbox.base_url, auth=WebexAuth()) as client:
        assert client.get("/people/me").json()["displayName"] == "Alex Morgan"
        assert sandbox.count("refresh_token") == 0
        revoked = client.post(
            f"{sandbox.origin}/idb/oauth2/v1/revoke",
            data={"token": token},
            auth=(sandbox.client_id, sandbox.client_secret),
        )
        assert revoked.status_code == 200
        assert client.get("/people/me").status_code == 200
    assert sandbox.count("refresh_token") == 1
    assert sandbox.count("/v1/people/me", status=401) == 1
    assert requests.get(f"{sandbox.base_url}/people/me", auth=RequestsAuth(), timeout=5).status_code == 200


def test_the_token_of_the_environment_is_not_refreshed(ask: Ask, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    assert ask(None, "GET", api.url) == (401, "refused")
    assert api.tokens == ["a-bots-token"]


@pytest.mark.parametrize("auth", [WebexAuth, RequestsAuth, aiohttp_middleware])
def test_a_source_has_its_profile(auth: Callable[..., object], source: TokenSource) -> None:
    with pytest.raises(TypeError, match="not both"):
        auth(source, profile="work")
