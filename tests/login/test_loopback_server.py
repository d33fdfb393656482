"""Each row of the table in DESIGN §5, over real sockets: what the server answers, and what settles a login."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.journeys import attack
from tests.journeys.attack import MARK, SUCCESS, Running, connect, in_thread, read, request, running, send, wait_until
from webex_loopback.login import connections, loopback_server
from webex_loopback.login.certificate import server_context
from webex_loopback.login.pages import FailurePage
from webex_loopback.oauth.authorization import AuthorizationResponse
from webex_loopback.secret import Secret


@pytest.fixture
def uri(free_port: Callable[[], int]) -> str:
    return f"http://127.0.0.1:{free_port()}/callback"


@pytest.fixture
def server(uri: str) -> Iterator[Running]:
    with running(uri) as one:
        yield one


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return server_context(folder=str(tmp_path))


def still_works(server: Running, code: str = "genuine") -> None:
    """Assert that the genuine response still settles the login."""
    answer = server.hold(server.callback(code=code))
    assert server.response() == AuthorizationResponse(code=Secret(code))
    assert server.finish(answer).status == 200


# /start


def test_a_start_url_sets_the_cookie_and_leads_to_webex(server: Running) -> None:
    for path in (server.browser_path, server.printed_path, server.printed_path):
        answer = server.get(path)
        assert (answer.status, answer.headers["location"], answer.body) == (302, server.request.url, "")
        name = rf"webex_loopback_{server.port}=[\w-]{{43}}"
        assert re.fullmatch(rf"{name}; Path=/; HttpOnly; SameSite=Lax", answer.headers["set-cookie"])
    assert server.events == [("opened", "")] * 3
    server.events.clear()
    still_works(server)


def test_the_url_of_the_browsers_command_line_works_once(server: Running) -> None:
    first = server.browser_path
    assert server.get(first).status == 302
    for _ in range(2):
        again = server.get(first)
        assert again.status == 410
        assert "press <code>o</code> in the terminal" in again.body
    assert server.kinds == ["opened", "opened_again", "opened_again"]
    assert "press o" in server.events[1][1]
    new = urlsplit(server.server.renew_browser_url()).path
    assert [server.get(path).status for path in (new, first, new)] == [302, 410, 410]
    unused = urlsplit(server.server.renew_browser_url()).path
    server.server.renew_browser_url()
    assert server.get(unused).status == 410
    server.events.clear()
    still_works(server)


def test_a_start_url_is_not_found_after_the_response(server: Running) -> None:
    answer = server.hold(server.callback(code="abc"))
    for path in (server.browser_path, server.printed_path):
        late = server.get(path)
        assert (late.status, "location" in late.headers) == (404, False)
    assert server.kinds == ["received"]
    assert server.finish(answer).status == 200


def test_a_network_problem_is_shown_instead_of_the_sign_in_page(uri: str) -> None:
    async def problem() -> FailurePage:
        await asyncio.sleep(0.2)
        return FailurePage("network", detail=f"The proxy asks for a password {MARK}.")

    with running(uri, network_problem=problem) as server:
        for path in (server.browser_path, server.printed_path):
            answer = server.get(path)
            assert (answer.status, "location" in answer.headers) == (503, False)
            assert "The proxy asks for a password &lt;mark" in answer.body


def test_the_network_check_delays_the_browser_two_seconds_at_most(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loopback_server.NETWORK_PROBLEM_SECONDS == 2
    monkeypatch.setattr(loopback_server, "NETWORK_PROBLEM_SECONDS", 0.3)
    checks: list[asyncio.Future[None]] = []

    def never() -> "asyncio.Future[None]":
        checks.append(asyncio.get_running_loop().create_future())
        return checks[0]

    with running(uri, network_problem=never) as server:
        began = time.monotonic()
        assert server.get(server.browser_path).status == 302
        assert 0.25 < time.monotonic() - began < 1
        assert not checks[0].cancelled()  # the login may still need it


# Another path, method, host


def test_another_path_is_not_found(server: Running) -> None:
    paths = [
        "/",
        "/favicon.ico",
        "/callback/",
        "//callback",
        "/Callback",
        "/done/",
        "/done/x",
        "/start",
        "/start/",
        "/start/x",
    ]
    for start in (server.browser_path, server.printed_path):
        paths += [start[:-1], f"{start}x", f"{start}/", f"{start};", start.upper()]
    for path in paths:
        answer = server.get(f"{path}?code=abc&state={server.request.state}", headers=(server.open(),))
        assert (answer.status, answer.body) == (404, "There is nothing here."), path
    assert server.events == []


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "POST", "PROPFIND"])
def test_another_method_is_not_allowed(server: Running, method: str) -> None:
    for target in (server.callback(code="abc"), server.browser_path, server.printed_path):
        answer = server.get(target, method=method, headers=(server.open(),))
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
        assert method != "HEAD" or answer.body == ""
    # A response sent as a form (response_mode=form_post) would otherwise leave the terminal silent.
    assert [kind for kind, _ in server.events] == ["ignored"] * (method == "POST")
    assert server.get(server.browser_path).status == 302  # not used up


FOREIGN_HOSTS = ["", "example.com", "example.com:{port}", "127.0.0.1.nip.io:{port}", "127.0.0.1", "127.0.0.1:1"]
FOREIGN_HOSTS += ["127.0.0.1:{port}.example.com", "user@127.0.0.1:{port}", "127.0.0.2:{port}", "0.0.0.0:{port}"]


@pytest.mark.parametrize("host", [None, *FOREIGN_HOSTS])
def test_a_foreign_host_is_misdirected(server: Running, host: str | None) -> None:
    named = () if host is None else (f"Host: {host.format(port=server.port)}",)
    for target in (server.callback(code="abc"), server.browser_path, server.printed_path, "/"):
        answer = server.get(target, host=None, headers=(server.open(), *named))
        assert (answer.status, "location" in answer.headers) == (400 if host is None else 421, False)
    assert server.events == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_every_loopback_name_is_served(server: Running, host: str) -> None:
    assert server.get(server.printed_path, host=None, headers=(f"Host: {host}:{server.port}",)).status == 302


# The callback, with something wrong


NOT_THIS_LOGIN = """
    code=abc code=abc&state=wrong code=abc&state={state}&state={state} code=abc&state={state}&state=wrong
    error=access_denied error=access_denied&state=wrong state={state} code=&state={state} code=a&code=b&state={state}
    code=a&error=b&state={state} code=%00&state={state}
"""


@pytest.mark.parametrize("query", NOT_THIS_LOGIN.split())
def test_a_request_that_is_not_this_login_changes_nothing(server: Running, query: str) -> None:
    answer = server.get("/callback?" + query.format(state=server.request.state), headers=(server.open(),))
    assert answer.status == 400
    assert "not part of the current login" in answer.body
    assert server.kinds == ["ignored"]
    assert server.request.state not in server.events[0][1]
    still_works(server)


@pytest.mark.parametrize("fields", [{"code": "stolen"}, {"error": "access_denied"}])
@pytest.mark.parametrize("cookie", ["x=", "{name}=", "{name}={value}x", "other={value}", '{name}="{value}"'])
def test_the_right_state_without_the_cookie_changes_nothing(
    server: Running, fields: dict[str, str], cookie: str
) -> None:
    name, _, value = server.open().removeprefix("Cookie: ").partition("=")
    answer = server.get(server.callback(**fields), headers=(f"Cookie: {cookie.format(name=name, value=value)}",))
    assert answer.status == 400
    assert "did not start the login" in answer.body
    assert server.kinds == ["stranger"]
    still_works(server)


def test_the_cookie_is_found_among_those_of_other_servers(server: Running) -> None:
    ours = server.open().removeprefix("Cookie: ")
    headers = (f"Cookie: {'c' * 60_000}={{[,]}}; {ours};x", "Cookie: webex_loopback=1; =; ;")
    answer = in_thread(lambda: server.get(server.callback(code="abc"), headers=headers))
    assert server.response().code == Secret("abc")
    assert server.finish(answer).status == 200


def test_a_pasted_response_needs_no_cookie(server: Running) -> None:
    response = AuthorizationResponse(code=Secret("pasted"))
    server.loop.call_soon_threadsafe(server.server.settle, response)
    assert server.response() == response
    assert server.get(server.callback(code="pasted")).status == 400  # the browser's own, too late
    assert server.kinds == ["received"]


VISIT = """
    import os, socket, sys
    os.setgroups([])
    os.setuid(int(sys.argv[1]))
    for raw in sys.argv[3:]:
        with socket.socket() as one:
            one.connect(("127.0.0.1", int(sys.argv[2])))
            one.sendall(raw.encode())
            print(one.recv(100)[9:12].decode())
"""


def visit_as(uid: int, server: Running, *targets: str) -> list[int]:
    """Send requests, with the cookie, from a process of another user; return the statuses."""
    raw = [request(target, server.port, headers=(server.open(),)).decode() for target in targets]
    command = [sys.executable, "-c", textwrap.dedent(VISIT), str(uid), str(server.port), *raw]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True, env=environ)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_is_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = (server.browser_path, server.printed_path, server.callback(code="stolen"))
    assert visit_as(65534, server, *targets) == [403, 403, 403]
    assert server.kinds == ["stranger"] * 3
    assert "uid 65534" in server.events[0][1]
    assert visit_as(0, server, targets[0]) == [302]  # not used up
    monkeypatch.setenv("SUDO_UID", "65534")
    assert visit_as(65534, server, targets[1]) == [302]
    server.events.clear()
    still_works(server)


# The callback, settling


def test_a_code_is_held_until_the_end_and_then_shown_on_a_page_without_it(server: Running) -> None:
    answer = server.hold(server.callback(code="the-code"))
    with pytest.raises(TimeoutError):
        answer.result(0.3)
    assert server.get(server.server._done_path).status == 404  # there is no outcome yet
    conclusion = server.begin(server.server.conclude(SUCCESS))
    told = answer.result(10)
    assert told.status == 303
    assert re.search("/done/[0-9a-f]{32}$", told.headers["location"])
    for secret in ("the-code", server.request.state):
        assert secret not in told.raw.decode()
    assert not conclusion.done()  # until the browser has fetched the page
    page = server.follow(told)
    conclusion.result(1)
    assert "alex.morgan@example.com" in page.body
    assert server.follow(told).body == page.body  # reloaded


def test_an_error_with_the_right_state_settles_and_is_shown_escaped(server: Running) -> None:
    answer = server.hold(server.callback(error="access_denied", error_description=MARK))
    assert server.response() == AuthorizationResponse(error="access_denied", error_description=MARK)
    page = server.finish(answer, FailurePage("access_denied", detail=f"access_denied: {MARK}", tracking_id="T_1"))
    assert page.status == 200
    assert "&lt;mark-of-the-attacker&gt;" in page.body
    assert MARK not in page.body
    assert "webex-loopback login -p work" in page.body


def test_the_page_is_in_the_browsers_language_and_the_terminal_in_its_own(uri: str) -> None:
    with running(uri, language="ja") as server:
        assert '<html lang="ja"' in server.get("/callback", headers=("Accept-Language: ja,en;q=0.5",)).body
        assert '<html lang="en"' in server.get("/callback").body
        assert all(re.search("[ぁ-ん]", text) for _, text in server.events)


def test_two_callbacks_settle_once_and_both_tabs_see_the_outcome(server: Running) -> None:
    answers = [server.hold(server.callback(code="first")), server.hold(server.callback(error="access_denied"))]
    assert server.response().code == Secret("first")
    conclusion = server.begin(server.server.conclude(SUCCESS))
    bodies = set()
    for answer in answers:
        assert not conclusion.done()  # until the last of them has its page
        bodies.add(server.follow(answer.result(10)).body)
    conclusion.result(1)
    assert len(bodies) == 1
    again = server.get(server.callback(code="first"), headers=(server.open(),))
    assert (again.status, again.headers["location"]) == (303, answers[0].result().headers["location"])
    assert server.kinds == ["received"]


def test_a_closed_tab_is_not_waited_for_but_a_reloaded_one_is(server: Running) -> None:
    target, cookie = server.callback(code="abc"), server.open()
    with connect(server.port) as tab:
        tab.sendall(request(target, server.port, headers=(cookie,)))
        server.response()
    wait_until(lambda: server.held() == 0)
    reloaded = server.hold(target)
    conclusion = server.begin(server.server.conclude(SUCCESS))
    told = reloaded.result(10)
    with pytest.raises(TimeoutError):
        conclusion.result(0.2)
    assert server.follow(told).status == 200
    conclusion.result(1)
    began = time.monotonic()
    server.conclude()
    assert time.monotonic() - began < 0.5


# Headers


def test_every_answer_has_our_headers(server: Running) -> None:
    long = b"GET /callback HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"
    raw = (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", long)
    answers = [
        server.get("/"),
        server.get("/", method="HEAD"),
        server.get("/callback", method="POST"),
        server.get("/callback", host="example.com"),
        server.get("/callback"),
        server.get(server.callback(code="abc")),
        server.get(server.browser_path),
        server.get(server.browser_path),
        *(send(server.port, one) for one in raw),
    ]
    held = server.hold(server.callback(code="abc"))
    answers += [server.finish(held), held.result()]
    for answer in answers:
        answer.check()
        assert not re.search(r"aiohttp|python", str(answer.headers), re.IGNORECASE)
    # aiohttp's parser without C closes the last two of `raw` without an answer.
    statuses = [404, 404, 405, 421, 400, 400, 302, 410, 400, 400, 400, 400, 200, 303]
    assert [answer.status for answer in answers] in (statuses, [*statuses[:10], 0, 0, *statuses[12:]])


# https


def test_https_serves_the_same(free_port: Callable[[], int], context: ssl.SSLContext) -> None:
    with running(f"https://localhost:{free_port()}/", context) as server:
        for host in ("127.0.0.1", "::1"):
            raw = request("/?code=abc", server.port, host="localhost")
            assert send(server.port, raw, host, tls=attack.ANY_CERTIFICATE).status == 400
        assert server.get(server.browser_path).headers["set-cookie"].endswith("; SameSite=Lax; Secure")
        assert server.kinds == ["ignored", "ignored", "opened"]
        server.events.clear()
        still_works(server)


def test_tls_at_the_http_port_is_reported_once(server: Running) -> None:
    for _ in range(3):
        with pytest.raises(OSError, match=r"(?i)ssl|reset"):
            connect(server.port, tls=attack.ANY_CERTIFICATE)
    assert server.kinds == ["https"]
    assert "HSTS" in server.events[0][1]
    still_works(server)


# Limits and the end


def test_a_connection_has_limited_time_unless_it_waits_for_the_outcome(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LONGEST_SECONDS", 0.4)
    held = server.hold(server.callback(code="abc"))
    with connect(server.port) as idle, connect(server.port) as slow:
        slow.sendall(b"GET /callback HTTP/1.1\r\nHost: ")
        began = time.monotonic()
        assert read(idle).raw == read(slow).raw == b""
        assert 0.2 < time.monotonic() - began < 2
    assert server.finish(held).status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_connections_in_any_state_do_not_delay_the_end(uri: str, scheme: str, context: ssl.SSLContext) -> None:
    unfinished = (b"", b"GET /callback HTTP/1.1\r\nHost: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    with contextlib.ExitStack() as clients:
        with running(uri.replace("http", scheme), context if scheme == "https" else None) as server:
            held = server.hold(server.callback(code="abc"))
            for raw in unfinished:
                clients.enter_context(connect(server.port)).sendall(raw)
                clients.enter_context(connect(server.port, tls=server.tls)).sendall(raw)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert held.result(5).status == 0
    with pytest.raises(ConnectionRefusedError):
        connect(server.port)


def test_accepting_survives_every_exception(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    accept, errors = server.loop.sock_accept, [RuntimeError("x"), MemoryError(), OSError("y"), ValueError("z")]

    async def failing(bound: socket.socket) -> object:
        accepted = await accept(bound)
        if errors:
            accepted[0].close()
            raise errors.pop()
        return accepted

    monkeypatch.setattr(server.loop, "sock_accept", failing)
    for _ in range(8):
        with contextlib.suppress(OSError):
            server.get("/")
    assert not errors
    still_works(server)
