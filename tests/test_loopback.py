"""The loopback server: what it binds, what it answers, and what settles a login; all over real sockets."""

import contextlib
import errno
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attack import ANY_CERTIFICATE, SUCCESS, Answer, Running, connect, in_thread, read, request, running, send

from webex_loopback import loopback, pages
from webex_loopback.authorization import AuthorizationResponse, RedirectURI
from webex_loopback.certificate import server_context
from webex_loopback.loopback import bind, port_owner
from webex_loopback.pages import FailurePage, SuccessPage

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or sets Linux's limits")


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Running]:
    with running(f"http://127.0.0.1:{free_port()}/callback") as one:
        yield one


def uris(*texts: str) -> list[RedirectURI]:
    return [RedirectURI.parse(text) for text in texts]


def end(server: Running, answer: Callable[[], Answer], page: SuccessPage | FailurePage = SUCCESS) -> Answer:
    """Conclude as a login does, and be the browser that goes where it is sent to; return the page it sees."""
    conclusion = server.begin(server.server.conclude(page))
    told = answer()
    assert told.status == 303
    seen = server.get(place(told, server))
    conclusion.result(1)
    return seen


def held(server: Running) -> int:
    """Return how many callbacks are held; no event tells that a further one is."""
    return sum(server.server._connections.values())


def holding(server: Running, target: str) -> Callable[[], Answer]:
    """Send a callback that will be held; return what gives its answer in the end."""
    already = held(server)
    answer = in_thread(lambda: server.get(target))
    deadline = time.monotonic() + 10
    while held(server) == already:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert not answer.done()
    return lambda: answer.result(10)


def place(answer: Answer, server: Running) -> str:
    """Return the target that an answer redirects to on this server."""
    location = answer.headers["location"]
    assert location.startswith(f"http://127.0.0.1:{server.port}/")
    return location.removeprefix(f"http://127.0.0.1:{server.port}")


# Binding


def can_listen(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def test_localhost_is_both_families_on_one_port(free_port: Callable[[], int]) -> None:
    port = free_port()
    with running(f"http://localhost:{port}/callback") as server:
        assert not can_listen("127.0.0.1", port)
        assert not can_listen("::1", port)
        for host in ("127.0.0.1", "::1"):
            answer = send(port, request("/", port, host="localhost"), host)
            assert answer.status == 404
        assert server.server.start_url.startswith(f"http://localhost:{port}/start/")


def test_an_address_is_that_address_only(free_port: Callable[[], int]) -> None:
    for host, other in (("127.0.0.1", "::1"), ("[::1]", "127.0.0.1")):
        port = free_port()
        with running(f"http://{host}:{port}/callback"):
            assert not can_listen(host.strip("[]"), port)
            assert can_listen(other, port)


@linux
def test_nothing_listens_on_the_machines_other_addresses(free_port: Callable[[], int]) -> None:
    port = free_port()
    shown = subprocess.run(["/usr/bin/env", "hostname", "-I"], capture_output=True, text=True, check=False).stdout
    addresses = [address for address in shown.split() if not address.startswith("fe80")]
    with running(f"http://localhost:{port}/callback"):
        assert can_listen("127.0.0.2", port)  # 127.0.0.0/8 is not all ours either
        for address in addresses:
            with pytest.raises(OSError, match="refused"):
                connect(port, address, timeout=5)
        with open("/proc/net/tcp") as v4, open("/proc/net/tcp6") as v6:
            rows = [line.split() for line in [*v4, *v6]]
        listening = {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
        assert listening == {"0100007F", "00000000000000000000000001000000"}


def test_the_first_registered_uri_that_can_be_bound_is_taken(free_port: Callable[[], int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        port = free_port()
        listener, refusals = bind(uris(f"http://127.0.0.1:{taken}/a", f"http://127.0.0.1:{port}/b", "http://[::1]/c"))
        assert listener is not None
        listener.close()
    assert listener.redirect_uri.port == port
    assert [(one.redirect_uri.port, one.why) for one in refusals] == [(taken, "in_use")]


@linux
def test_a_port_in_use_is_refused_at_once_and_its_owner_named() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.create_server((host, 0)) as other:
            port = other.getsockname()[1]
            began = time.monotonic()
            listener, refusals = bind(uris(f"http://127.0.0.1:{port}/callback"))
            assert time.monotonic() - began < 1
        assert listener is None
        assert re.fullmatch(rf"Port {port} is in use by .+ \(process {os.getpid()}\)\.", refusals[0].text)


def test_the_owner_is_not_told_where_it_is_not_known(free_port: Callable[[], int]) -> None:
    assert port_owner(free_port()) == ""


@linux
def test_an_owner_whose_name_is_cut_or_hostile_is_named() -> None:
    program = textwrap.dedent(r"""
        import socket
        with open("/proc/self/comm", "wb") as file:
            file.write(b"\x1b[2J" + "プロキシ".encode()[:8])
        other = socket.create_server(("127.0.0.1", 0))
        print(other.getsockname()[1], flush=True)
        input()
    """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert port_owner(int(other.stdout.readline())) == f" [2Jプロ\ufffd (process {other.pid})"
        other.stdin.close()


def test_an_ipv6_port_in_use_counts_for_localhost_only() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        listener, refusals = bind(uris(f"http://localhost:{port}/callback"))
        assert listener is None
        assert refusals[0].why == "in_use"
        assert can_listen("127.0.0.1", port)  # what had been bound is let go
        listener, refusals = bind(uris(f"http://127.0.0.1:{port}/callback"))
        assert listener is not None
        listener.close()
        assert not refusals


def test_two_logins_do_not_share_a_port(free_port: Callable[[], int]) -> None:
    one = uris(f"http://127.0.0.1:{free_port()}/callback")
    first, _ = bind(one)
    second, refusals = bind(one)
    assert first is not None
    first.close()
    assert second is None
    assert refusals[0].why == "in_use"


def test_the_next_login_can_use_the_port_at_once(free_port: Callable[[], int]) -> None:
    port = free_port()
    for _ in range(3):
        with running(f"http://127.0.0.1:{port}/callback") as server:
            assert server.get("/").status == 404  # leaves a connection in TIME_WAIT


def refused_to_another_user(*texts: str) -> str:
    """Bind these as a user without privileges; return what that one prints."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) <= 443:
            pytest.skip("here every user may open port 443 (net.ipv4.ip_unprivileged_port_start)")
    program = textwrap.dedent("""
        import os, re, sys
        from webex_loopback.authorization import RedirectURI
        from webex_loopback.loopback import bind
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        listener, refusals = bind([RedirectURI.parse(text) for text in sys.argv[1:]])
        print(listener, [(one.why, re.sub(r" by .+ .process \\d+.", "", one.text)) for one in refusals])
    """)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program, *texts],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(loopback.__file__).parents[1],
        # It could not write what it covered.
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
    )
    assert not done.stderr
    return done.stdout


@linux
def test_a_privileged_port_is_refused_as_such_to_an_unprivileged_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:  # this process's, which the other user cannot look into
        port = other.getsockname()[1]
        told = refused_to_another_user("https://127.0.0.1/", "https://localhost/", f"http://127.0.0.1:{port}/")
    refusal = ("privileges", "Port 443 may be opened by privileged programs only.")
    assert told == f"None {[refusal, refusal, ('in_use', f'Port {port} is in use.')]}\n"


@linux
def test_a_privileged_port_that_another_program_has_is_in_use() -> None:
    """Linux says EACCES all the same, and where an address is pasted that program would get the code."""
    try:
        other = socket.create_server(("127.0.0.2", 443))
    except OSError as error:
        pytest.skip(f"port 443 cannot be opened here: {error}")
    with other:
        told = refused_to_another_user("https://127.0.0.2/", "https://127.0.0.3/")
    refusals = [
        ("in_use", "Port 443 is in use."),
        ("privileges", "Port 443 may be opened by privileged programs only."),
    ]
    assert told == f"None {refusals}\n"


def test_a_port_that_is_denied_is_in_use_where_somebody_listens(free_port: Callable[[], int]) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    free = uris(f"http://localhost:{free_port()}/")[0]
    assert loopback._refusal(free, denied).why == "unavailable"
    assert loopback._refusal(uris("https://127.0.0.9/")[0], denied).why == "privileges"
    with socket.create_server(("::1", free.port), family=socket.AF_INET6):
        assert loopback._refusal(free, denied).why == "in_use"


@linux
def test_a_port_that_is_denied_is_in_use_where_somebody_is_too_busy_to_accept() -> None:
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(connect(busy.getsockname()[1]))  # fills its queue
        one = uris(f"http://127.0.0.1:{busy.getsockname()[1]}/")[0]
        assert loopback._refusal(one, PermissionError(errno.EACCES, "Permission denied")).why == "in_use"


@pytest.mark.parametrize("port", [443, 8765])
def test_a_port_that_windows_denies_is_in_use(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = uris(f"http://127.0.0.9:{port}/")[0]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        refusal = loopback._refusal(one, PermissionError(errno.EACCES, "Permission denied"))
    assert refusal.why == "in_use"


@linux
def test_without_ipv6_localhost_is_the_other_family() -> None:
    program = textwrap.dedent("""
        import subprocess, sys
        from webex_loopback.authorization import RedirectURI
        from webex_loopback.loopback import bind
        open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w").write("1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for text in ("http://localhost:8765/", "http://[::1]:8765/"):
            listener, refusals = bind([RedirectURI.parse(text)])
            print(listener and [one.getsockname() for one in listener.sockets], [one.why for one in refusals])
    """)
    # Its own network, so that nothing of this machine's is switched off.
    command = ["unshare", "--map-root-user", "--net", sys.executable, "-c", program]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, cwd=Path(loopback.__file__).parents[1]
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode:
        pytest.skip(f"no network namespace can be made here: {done.stderr.strip().splitlines()[-1]}")
    assert done.stdout == "[('127.0.0.1', 8765)] []\nNone ['unavailable']\n"


# Each row of the table


def test_the_start_address_leads_to_webex_and_tells_that_a_browser_came(server: Running) -> None:
    answer = server.get(urlsplit(server.server.start_url).path)
    assert (answer.status, answer.headers["location"]) == (302, server.request.url)
    assert server.events == [("came", "")]
    assert answer.body == ""


def test_the_start_address_cannot_be_guessed(server: Running) -> None:
    start = urlsplit(server.server.start_url).path
    for path in ("/", "/start", "/start/", "/start/x", start[:-1], f"{start}x", f"{start}/", start.swapcase()):
        assert server.get(path).status == 404
    assert server.events == []
    assert len(start.rpartition("/")[2]) >= 43


def test_the_page_of_the_end_is_not_known_to_who_knows_the_start(server: Running) -> None:
    answer = holding(server, server.callback(code="abc"))
    assert server.get(server.server._end_path).status == 404  # there is nothing to tell yet
    server.begin(server.server.conclude(SUCCESS))
    path = place(answer(), server)
    assert path == server.server._end_path
    assert server.get(path).status == 200
    assert path.rpartition("/")[2] != server.server.start_url.rpartition("/")[2]


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/callback/", "//callback", "/Callback", "/done/", "/done/x"])
def test_another_path_is_not_found(server: Running, path: str) -> None:
    answer = server.get(f"{path}?code=abc&state={server.request.state}")
    assert (answer.status, answer.body) == (404, "There is nothing here.")
    assert server.events == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"])
def test_another_method_is_not_allowed(server: Running, method: str) -> None:
    for target in (server.callback(code="abc"), urlsplit(server.server.start_url).path):
        answer = server.get(target, method=method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET"
        assert method != "HEAD" or answer.body == ""
    assert server.events == []


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "example.com",
        "example.com:{port}",
        "127.0.0.1.nip.io:{port}",
        "localhost.example.com:{port}",
        "127.0.0.1",
        "localhost",
        "127.0.0.1:1",
        "127.0.0.1:{port}.example.com",
        "127.0.0.1:{port}@example.com",
        "user@127.0.0.1:{port}",
        "127.0.0.2:{port}",
        "0.0.0.0:{port}",
        "[::]:{port}",
        "192.168.0.1:{port}",
    ],
)
def test_a_foreign_host_is_misdirected(server: Running, host: str | None) -> None:
    named = () if host is None else (f"Host: {host.format(port=server.port)}",)
    for target in (server.callback(code="abc"), urlsplit(server.server.start_url).path, "/"):
        answer = server.get(target, host=None, headers=named)
        assert answer.status == (400 if host is None else 421)
    assert server.events == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_every_name_of_the_loopback_is_served(server: Running, host: str) -> None:
    assert server.get("/callback", host=None, headers=(f"Host: {host}:{server.port}",)).status == 400


NOT_THIS_LOGIN = [
    "",
    "?",
    "?code=abc",
    "?code=abc&state=wrong",
    "?code=abc&state={state}&state={state}",
    "?code=abc&state={state}&state=wrong",
    "?error=access_denied",
    "?error=access_denied&state=wrong",
    "?error=access_denied&state={state}&state={state}",
    "?state={state}",
    "?code=&state={state}",
    "?code=a&code=b&state={state}",
    "?code=a&error=b&state={state}",
    "?code=%00&state={state}",
    "?code=%ff%fe&state={state}",
]


@pytest.mark.parametrize("query", NOT_THIS_LOGIN)
def test_what_is_not_this_login_is_told_so_and_settles_nothing(server: Running, query: str) -> None:
    answer = server.get("/callback" + query.format(state=server.request.state))
    assert answer.status == 400
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "does not belong to" in answer.body
    assert [kind for kind, _ in server.events] == ["ignored"]
    assert server.request.state not in server.events[0][1]
    # and the genuine one still settles it
    answer_of_genuine = holding(server, server.callback(code="genuine"))
    assert server.response() == AuthorizationResponse(code="genuine")
    assert end(server, answer_of_genuine).status == 200


def test_an_error_without_a_state_is_named_in_the_terminal(server: Running) -> None:
    answer = server.get("/callback?error=access_denied%1B[2J&error_description=<b>")
    assert answer.status == 400
    assert "access_denied" not in answer.body
    kind, text = server.events[0]
    assert kind == "ignored"
    assert "access_denied" in text
    assert "If that was you, press Ctrl-C" in text
    assert text.isprintable()


def test_an_error_with_the_right_state_settles_and_is_shown_escaped(server: Running) -> None:
    words = "<script>alert(1)</script>"
    answer = holding(server, server.callback(error="access_denied", error_description=words))
    assert server.response() == AuthorizationResponse(error="access_denied", error_description=words)
    page = end(server, answer, FailurePage("access_denied", detail=f"access_denied: {words}"))
    assert page.status == 200
    assert "&lt;script&gt;" in page.body
    assert "<script" not in page.body


def test_a_callback_is_held_until_the_end_and_then_sent_to_a_page_without_the_code(server: Running) -> None:
    answer = holding(server, server.callback(code="the-code"))
    with pytest.raises(TimeoutError):
        in_thread(answer).result(0.3)
    conclusion = server.begin(server.server.conclude(SUCCESS))
    told = answer()
    assert told.status == 303
    assert "the-code" not in told.raw.decode()
    assert server.request.state not in told.raw.decode()
    assert not conclusion.done()  # it waits for the browser to fetch the page
    page = server.get(place(told, server))
    conclusion.result(1)
    assert page.status == 200
    assert "alex.morgan@example.com" in page.body
    assert "the-code" not in page.body


def test_the_page_tells_the_true_outcome(server: Running) -> None:
    answer = holding(server, server.callback(code="abc"))
    page = end(server, answer, FailurePage("exchange_rejected", detail="code <expired>", tracking_id="T_1"))
    assert "code &lt;expired&gt;" in page.body
    assert "T_1" in page.body
    assert "alex.morgan" not in page.body


def test_the_page_speaks_the_browsers_language(server: Running) -> None:
    japanese = server.get("/callback", headers=("Accept-Language: ja,en;q=0.5",)).body
    assert '<html lang="ja"' in japanese
    assert '<html lang="en"' in server.get("/callback").body


def test_the_same_callback_from_two_tabs_settles_once_and_shows_one_page(server: Running) -> None:
    answers = [holding(server, server.callback(code="abc")), holding(server, server.callback(code="abc"))]
    assert server.events.count(("received", "")) == 1
    conclusion = server.begin(server.server.conclude(SUCCESS))
    bodies = set()
    for answer in answers:
        assert not conclusion.done()  # until the last of them has its page
        bodies.add(server.get(place(answer(), server)).body)
    conclusion.result(1)
    assert len(bodies) == 1


def test_the_first_of_two_different_responses_counts(server: Running) -> None:
    first = holding(server, server.callback(code="first"))
    second = holding(server, server.callback(error="access_denied"))
    assert server.response() == AuthorizationResponse(code="first")
    server.begin(server.server.conclude(SUCCESS))
    assert place(first(), server) == place(second(), server)


def test_a_callback_after_the_end_leads_to_the_same_page(server: Running) -> None:
    answer = holding(server, server.callback(code="abc"))
    server.begin(server.server.conclude(SUCCESS))
    again = server.get(server.callback(code="abc"))
    assert (again.status, place(again, server)) == (303, place(answer(), server))
    assert server.events.count(("received", "")) == 1


def test_a_start_after_the_response_is_no_news(server: Running) -> None:
    answer = holding(server, server.callback(code="abc"))
    assert server.get(urlsplit(server.server.start_url).path).status == 302
    assert ("came", "") not in server.events
    assert end(server, answer).status == 200


def test_a_tab_that_was_closed_is_not_waited_for(server: Running) -> None:
    with connect(server.port) as tab:
        tab.sendall(request(server.callback(code="abc"), server.port))
        server.response()
    time.sleep(0.1)
    began = time.monotonic()
    server.conclude()
    assert time.monotonic() - began < 1


def test_a_browser_that_does_not_follow_is_waited_for_a_moment_only(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback, "FAREWELL_SECONDS", 0.3)
    holding(server, server.callback(code="abc"))
    began = time.monotonic()
    server.conclude()
    assert 0.25 < time.monotonic() - began < 1


def test_nobody_who_waits_is_waited_for(server: Running) -> None:
    began = time.monotonic()
    server.conclude(FailurePage("timeout"))
    assert time.monotonic() - began < 0.2


# Headers


def every_answer(server: Running) -> Iterator[Answer]:
    yield server.get("/")
    yield server.get("/", method="HEAD")
    yield server.get("/callback", method="POST")
    yield server.get("/callback", host="example.com")
    yield server.get("/callback")
    yield server.get(urlsplit(server.server.start_url).path)
    yield send(server.port, b"\x16\x03\x01\x02\x00\x01")
    yield send(server.port, b"GET / HTTP/9.9\r\n\r\n")
    yield send(server.port, b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
    yield send(server.port, b"GET /callback HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n")
    held = holding(server, server.callback(code="abc"))
    server.begin(server.server.conclude(SUCCESS))
    yield held()
    yield server.get(place(held(), server))


def test_every_answer_carries_the_headers_of_the_house(server: Running) -> None:
    seen = []
    for answer in every_answer(server):
        seen.append(answer.status)
        if not answer.status:
            continue  # aiohttp's parser without C ends such a connection without a word
        headers = answer.headers
        for name, value in pages.HEADERS.items():
            assert name == "Content-Type" or headers[name.lower()] == value
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none';")
        assert headers["server"] == "webex-loopback"
        assert not re.search(r"aiohttp|python", str(headers), re.IGNORECASE)
        assert "access-control-allow-origin" not in headers
        assert "set-cookie" not in headers
        assert headers["content-type"] in ("text/html; charset=utf-8", "text/plain; charset=utf-8")
        assert answer.raw.startswith(b"HTTP/1.0") or headers["connection"] == "close"
    assert [status for status in seen if status != 400] in (
        [404, 404, 405, 421, 302, 303, 200],
        [404, 404, 405, 421, 302, 0, 0, 303, 200],
    )


def test_long_cookies_of_other_servers_on_localhost_do_not_matter(server: Running) -> None:
    answer = server.get("/callback", headers=(f"Cookie: {'c' * 60_000}",))
    assert answer.status == 400
    assert "does not belong to" in answer.body


def test_a_code_of_9000_characters_is_taken(server: Running) -> None:
    answer = holding(server, server.callback(code="c" * 9000))
    assert server.response().code == "c" * 9000
    assert end(server, answer).status == 200


# HTTPS


def test_https_serves_the_same(free_port: Callable[[], int], tmp_path: Path) -> None:
    with running(f"https://localhost:{free_port()}/", server_context(folder=str(tmp_path))) as server:
        for host in ("127.0.0.1", "::1"):
            answer = send(server.port, request("/?code=abc", server.port, host="localhost"), host, tls=ANY_CERTIFICATE)
            assert answer.status == 400
            assert "does not belong to" in answer.body
        target, raw = server.callback(code="abc"), b""
        with connect(server.port, tls=ANY_CERTIFICATE) as held:
            held.sendall(request(target, server.port))
            assert server.response().code == "abc"
            conclusion = server.begin(server.server.conclude(SUCCESS))
            raw = read(held).raw
        location = Answer(raw).headers["location"]
        assert location.startswith(f"https://localhost:{server.port}/done/")
        page = send(server.port, request(urlsplit(location).path, server.port), tls=ANY_CERTIFICATE)
        assert page.status == 200
        conclusion.result(1)


def test_the_default_port_needs_no_port_in_the_host(tmp_path: Path) -> None:
    try:
        with running("https://127.0.0.1/", server_context(folder=str(tmp_path))) as server:
            for host in ("127.0.0.1", "127.0.0.1:443", "localhost"):
                named = request("/", 443, host=None, headers=(f"Host: {host}",))
                assert send(443, named, tls=ANY_CERTIFICATE).status == 400
            assert server.server.start_url.startswith("https://127.0.0.1/start/")
    except AssertionError as error:
        if "privileges" in str(error) or "in_use" in str(error):
            pytest.skip("port 443 cannot be opened here")
        raise


# The end


def test_after_the_end_nothing_listens(free_port: Callable[[], int]) -> None:
    with running(f"http://localhost:{free_port()}/callback") as server:
        pass
    for host in ("127.0.0.1", "::1"):
        with pytest.raises(ConnectionRefusedError):
            connect(server.port, host)


def test_connections_in_any_state_do_not_delay_the_end(free_port: Callable[[], int], tmp_path: Path) -> None:
    for scheme in ("http", "https"):
        context = server_context(folder=str(tmp_path)) if scheme == "https" else None
        with contextlib.ExitStack() as clients:
            with running(f"{scheme}://127.0.0.1:{free_port()}/callback", context) as server:
                tls = ANY_CERTIFICATE if context else None
                clients.enter_context(connect(server.port))  # idle, and without a TLS handshake
                clients.enter_context(connect(server.port, tls=tls))
                half = clients.enter_context(connect(server.port, tls=tls))
                half.sendall(b"GET /callback HTTP/1.1\r\nHost: ")
                posted = clients.enter_context(connect(server.port, tls=tls))
                posted.sendall(b"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
                held = clients.enter_context(connect(server.port, tls=tls))
                held.sendall(request(server.callback(code="abc"), server.port))
                server.response()
                began = time.monotonic()
            assert time.monotonic() - began < 1.5
