"""How requests travel: what is sent again, time limits, proxies, certificates, and what is said of a failure."""

import datetime
import logging
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from tests.conftest import Log, Patch, Port, posix, python, with_locals
from tests.windows import UNDER_WINE
from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from webex_loopback.sandbox import Sandbox
from webex_loopback.secret import Secret
from webex_loopback.webex.transport import Transport, issuer_seen, proxy_for

from .conftest import PROXY_PASSWORD, REFRESH_TOKEN, Asker, answering, bell_after, failure, listening, saying

# What is sent again


@pytest.mark.parametrize(("limit", "least", "most"), [(10, 1.2, 4), (0.1, 0, 1)])
def test_no_connection_is_tried_three_times_within_the_time_limit(
    free_port: Port, limit: float, least: float, most: float
) -> None:
    started = time.monotonic()
    error = failure(Asker(f"http://127.0.0.1:{free_port()}/v1/access_token", seconds=limit).exchange)
    assert "Connection refused by 127.0.0.1" in str(error)
    assert least <= time.monotonic() - started < most


def test_a_code_is_sent_once_the_server_is_there(free_port: Port) -> None:
    late = Sandbox(port=free_port())
    threading.Timer(0.1, late.start).start()
    try:
        asker = Asker(f"http://127.0.0.1:{late.port}/v1/access_token", late.client_id, Secret(late.client_secret))
        assert isinstance(failure(asker.exchange), TokenEndpointError)
        assert late.count("authorization_code") == 1
    finally:
        late.stop()


HTTPX = [k for k in vars(httpx).values() if isinstance(k, type) and issubclass(k, Exception)]


OTHERS = [OSError, ssl.SSLError, TimeoutError, UnicodeError, Exception]  # the last one, for example, of a SOCKS library


@pytest.mark.parametrize("kind", [*HTTPX, *OTHERS], ids=lambda k: k.__name__)
def test_every_exception_is_translated_and_only_connecting_is_tried_again(kind: type[Exception]) -> None:
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise kind.__new__(kind)  # some have arguments of their own

    error = failure(Asker("http://127.0.0.1/v1/access_token", http_client=answering(handler)).refresh)
    assert isinstance(error, ServerUnreachable)
    never_sent = issubclass(kind, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    assert len(calls) == (3 if never_sent else 1)


NO_ANSWERS: dict[str, Callable[[socket.socket], object]] = {
    "nothing": lambda connection: None,
    "silence": lambda connection: time.sleep(1.5),
    "another protocol": saying(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a body": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"),
    "endless headers": saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000),
    "broken gzip": saying(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_a_server_that_gives_no_usable_answer_gets_a_code_once(answer: Callable[[socket.socket], object]) -> None:
    with listening(answer) as (origin, came):
        error = failure(Asker(f"{origin}/v1/access_token", seconds=1).exchange)
        assert isinstance(error, ServerUnreachable)
        assert re.match("(Unusable|No) answer from 127.0.0.1", str(error))
        assert len(came) == 1


@pytest.mark.parametrize("header", ["Content-Length: 200\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n22\r\n"])
def test_a_complete_token_is_kept_although_the_connection_ended_too_early(header: str) -> None:
    answer = f'HTTP/1.1 200 OK\r\n{header}{{"access_token": "new-access-one"}}\r\n'
    with listening(saying(answer.encode())) as (origin, _):
        asker = Asker(f"{origin}/token")
        assert asker.refresh().access_token == Secret("new-access-one")
        with asker.webex() as webex, pytest.raises(ServerUnreachable):
            webex.call("GET", "x", bearer=Secret("x"))  # what an API sent may not be complete


# Time limits


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_server_that_drips_does_not_stretch_the_time_limit(before: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(before or b"HTTP")
        for _ in range(100):
            time.sleep(0.05)
            connection.sendall(b"x")

    with listening(drip) as (origin, _):
        started = time.monotonic()
        error = failure(Asker(f"{origin}/v1/access_token", seconds=0.5).refresh)
        assert "No answer from 127.0.0.1" in str(error)
        assert time.monotonic() - started < 1.5


def test_a_slow_name_lookup_does_not_stretch_the_time_limit(monkeypatch: Patch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: threading.Event().wait(3))
    started = time.monotonic()
    failure(Asker("http://webex.example/v1/access_token", seconds=0.3).refresh)
    assert time.monotonic() - started < 1.5


def test_a_long_body_is_accepted_for_an_api_call_only() -> None:
    body = b"x" * 1_100_000
    transport = Transport((), http_client=answering(lambda request: httpx.Response(200, content=body)))
    assert transport.send("GET", "http://127.0.0.1/", seconds=5, limited=False).body == body
    assert "too long" in str(failure(lambda: transport.send("GET", "http://127.0.0.1/", seconds=5)))


def test_a_connection_is_used_again() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
        if connection.recv(65_536):
            serve(connection)

    with listening(serve) as (origin, came), Asker(f"{origin}/v1/access_token").webex() as webex:
        assert [webex.probe(), webex.probe()] == [405, 405]
        assert len(came) == 1


def test_a_connection_that_the_server_closed_is_not_used_again(sandbox: Sandbox, asker: Asker) -> None:
    sandbox.switches.close_idle_after = 0.1
    with asker.webex() as webex:
        webex.probe()
        time.sleep(0.4)
        assert webex.probe() == 405


# Secrets


@posix
def test_an_exception_of_a_signal_handler_carries_no_secret(sandbox: Sandbox, asker: Asker) -> None:
    sandbox.switches.latency = 2
    with bell_after(0.3), pytest.raises(InterruptedError) as caught:
        asker.refresh()
    shown = with_locals(caught.value)
    assert "transport.py" in shown
    assert REFRESH_TOKEN not in shown
    assert sandbox.client_secret not in shown


def test_nothing_secret_is_logged(sandbox: Sandbox, asker: Asker, caplog: Log) -> None:
    caplog.set_level(logging.DEBUG)
    failure(asker.refresh)
    assert caplog.text
    assert REFRESH_TOKEN not in caplog.text
    assert sandbox.client_secret not in caplog.text


# Clocks


@pytest.mark.parametrize(
    ("offset", "warned"),
    [(0, ""), (200, ""), (-86_400, "1 day ahead of that of 127.0.0.1"), (3_600, "1 h behind that of 127.0.0.1")],
)
def test_a_wrong_clock_is_reported_once(
    sandbox: Sandbox, asker: Asker, caplog: Log, offset: float, warned: str
) -> None:
    sandbox.switches.date_offset = offset
    with asker.webex() as webex:
        assert webex.clock_skew is None
        webex.probe()
        webex.probe()
        assert webex.clock_skew == pytest.approx(offset, abs=3)
    assert caplog.text.count("This machine's clock") == (1 if warned else 0)
    assert warned in caplog.text


@pytest.mark.parametrize("date", ["yesterday", "Thu, 99 Foo 1970", "Thu, 01 Jan 1970 00:00:00 -0000"])
def test_an_odd_date_does_not_cost_the_answer(sandbox: Sandbox, asker: Asker, date: str) -> None:
    sandbox.answer("/v1/access_token", body={"access_token": "a"}, headers={"Date": date})
    assert asker.refresh().access_token.get_secret_value() == "a"


# Certificates


AUTHORITY = trustme.CA(organization_name="Example Proxy Inc.")


@pytest.fixture
def ca_bundle(tmp_path: Path) -> str:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@contextmanager
def tls_sandbox(folder: Path, name: str, **options: Any) -> Iterator[tuple[Sandbox, str]]:
    """Run a sandbox with a certificate for a name; yield it and its token URL with `localhost`."""
    path = str(folder / "server.pem")
    AUTHORITY.issue_cert(name, **options).private_key_and_cert_chain_pem.write_to_path(path)
    with Sandbox(tls=(path, path)) as running:
        base_url = running.base_url.replace("127.0.0.1", "localhost")  # Wine compares no IP addresses
        yield running, f"{base_url}/access_token"


@pytest.mark.skipif(UNDER_WINE, reason="Wine accepts certificates of an unknown issuer")
def test_an_unknown_authority_is_named_with_the_remedy(tmp_path: Path) -> None:
    with tls_sandbox(tmp_path, "localhost") as (sandbox, url):
        error = failure(Asker(url).exchange)
        assert isinstance(error, ServerUnreachable)
        assert "Example Proxy Inc." in str(error)
        assert "WEBEX_CA_BUNDLE" in error.remedy
        assert sandbox.count("authorization_code") == 0
        assert "Example Proxy Inc." in issuer_seen(sandbox.base_url)


@pytest.mark.parametrize("name", ["", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"])
def test_the_usual_variables_are_trusted(ca_bundle: str, tmp_path: Path, monkeypatch: Patch, name: str) -> None:
    if name == "SSL_CERT_DIR":
        (tmp_path / "certs").mkdir()
        AUTHORITY.cert_pem.write_to_path(str(tmp_path / "certs" / "ca.pem"))
        try:
            subprocess.run(["openssl", "rehash", str(tmp_path / "certs")], check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            pytest.skip("needs openssl rehash")
    if name:
        places = {"SSL_CERT_DIR": f"/nowhere{os.pathsep}{tmp_path / 'certs'}"}
        monkeypatch.setenv(name, places.get(name, ca_bundle))
    with tls_sandbox(tmp_path, "localhost") as (_, url):
        asker = Asker(url, ca_bundle="" if name else ca_bundle)
        assert isinstance(failure(asker.exchange), TokenEndpointError), "it was answered"


@pytest.mark.parametrize("name", ["WEBEX_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "not a certificate", ""])
def test_an_unusable_bundle_is_named(monkeypatch: Patch, tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(name, str(path))
    asker = Asker("https://127.0.0.1:9/v1/access_token", ca_bundle=str(path) if name == "WEBEX_CA_BUNDLE" else "")
    error = failure(asker.webex)
    assert isinstance(error, ConfigurationError)
    assert error.setting == name
    assert "bundle.pem" in str(error)


EXPIRED = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("name", "options"), [("webex.example", {}), ("localhost", {"not_after": EXPIRED})])
def test_a_certificate_for_another_host_and_an_expired_one_are_not_trusted(
    name: str, options: dict[str, Any], ca_bundle: str, tmp_path: Path
) -> None:
    with tls_sandbox(tmp_path, name, **options) as (_, url):
        error = failure(Asker(url, ca_bundle=ca_bundle).exchange)
    assert "The certificate of localhost:" in str(error)
    assert ("this machine's clock" in error.remedy) is bool(options)


def test_https_to_a_server_that_speaks_http(sandbox: Sandbox) -> None:
    error = failure(Asker(f"{sandbox.base_url.replace('http', 'https')}/access_token").exchange)
    assert "Could not connect to 127.0.0.1" in str(error)
    assert issuer_seen(sandbox.base_url) == ""


# Names and URLs


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid", "[::1"])
def test_a_host_that_does_not_exist_is_named(host: str) -> None:
    error = failure(Asker(f"http://{host}/v1/access_token").exchange)
    assert isinstance(error, ServerUnreachable)
    assert host in str(error)


# Proxies

PROXY = {"HTTPS_PROXY": "http://p:1"}
WEBEX = "https://webexapis.com/v1"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        *(({}, WEBEX, ""), (PROXY, WEBEX, "http://p:1"), ({"HTTP_PROXY": "http://p:1"}, WEBEX, "")),
        *(({name: "p:1"}, WEBEX, "http://p:1") for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")),
        *(({"ALL_PROXY": f"{scheme}://p:1"}, WEBEX, "socks5://p:1") for scheme in ("socks5", "socks")),
        *((PROXY | {"NO_PROXY": no}, WEBEX, "") for no in ("webexapis.com", ".webexapis.com", "*")),
        (PROXY | {"NO_PROXY": "webexapis.com:444"}, "https://webexapis.com:444/v1", ""),
        (PROXY | {"NO_PROXY": "10.0.0.0/8, ::1,,[x, *.b, (, \\"}, WEBEX, "http://p:1"),
        *((PROXY | {"HTTP_PROXY": "p:1"}, f"http://{host}:1/v1", "") for host in ("127.4.5.6", "localhost", "[::1]")),
        *((PROXY, url, "http://p:1") for url in ("https://127.example.com/v1", "https://10.0.0.1/v1")),
        *((PROXY, url, "") for url in ("https://[::1", "https://a:port/")),
    ],
)
def test_the_proxy_is_chosen_as_usual_but_never_for_this_machine(
    monkeypatch: Patch, environ: dict[str, str], url: str, proxy: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@contextmanager
def proxying(origin: str) -> Iterator[tuple[str, list[bytes]]]:
    """Run a CONNECT proxy that leads every name to `origin`."""
    there = urlsplit(origin)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection((there.hostname, there.port), 5) as upstream:
            back = threading.Thread(target=pump, args=(upstream, connection), daemon=True)
            back.start()
            pump(connection, upstream)
            back.join(5)

    with listening(answer) as serving:
        yield serving


def test_the_proxies_of_the_environment_are_not_left_to_httpx(asker: Asker, monkeypatch: Patch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "http://[x")
    assert isinstance(failure(asker.refresh), TokenEndpointError), "it was answered"


@pytest.mark.skipif(UNDER_WINE, reason="Wine accepts certificates of an unknown issuer")
def test_a_proxy_leads_to_webex(ca_bundle: str, tmp_path: Path, monkeypatch: Patch) -> None:
    with tls_sandbox(tmp_path, "webexapis.example") as (sandbox, _), proxying(sandbox.origin) as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy.replace("http://", "http://me:p%40ss@"))
        asker = Asker("https://webexapis.example:443/v1/access_token")
        assert "Example Proxy Inc." in str(failure(asker.exchange)), "the issuer is looked up through the proxy too"
        asker.ca_bundle = ca_bundle
        assert isinstance(failure(asker.exchange), TokenEndpointError)
        assert sandbox.count("authorization_code") == 1
    # The attempt that is not trusted, which is not repeated; the issuer; the attempt that is trusted.
    assert [line.split(b"\r\n")[0] for line in asked] == [b"CONNECT webexapis.example:443 HTTP/1.1"] * 3
    assert all(b"Proxy-Authorization: Basic bWU6cEBzcw==" in line for line in asked)


@pytest.mark.parametrize(("status", "words"), [(407, "requires authentication"), (403, "HTTPS_PROXY and NO_PROXY")])
def test_a_proxy_that_refuses(monkeypatch: Patch, status: int, words: str) -> None:
    with listening(saying(b"HTTP/1.1 %d Refused\r\n\r\n" % status)) as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy.replace("http://", f"http://me:{PROXY_PASSWORD}@"))
        error = failure(Asker("https://webexapis.example/v1/access_token").exchange)
    assert isinstance(error, ServerUnreachable)
    assert f"Connection to webexapis.example refused by the proxy 127.0.0.1: {status}" in str(error)
    assert words in error.remedy
    assert len(asked) == 1


def test_a_proxy_that_is_not_there_is_named(monkeypatch: Patch, free_port: Port) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PROXY_PASSWORD}@127.0.0.1:{free_port()}")
    error = failure(Asker("https://webexapis.example/v1/access_token").exchange)
    assert "Connection refused by the proxy 127.0.0.1" in str(error)


@pytest.mark.parametrize(
    "proxy",
    [
        *("socks5://me:{}@p:1", "gopher://me:{}@p:1", "http://{}@[bad:1", "http://me:{}@p:port"),
        "http://me:p@{}#x@p:1",  # of which urllib would take the password for the host
    ],
)
def test_an_unusable_proxy_is_a_configuration_error(monkeypatch: Patch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(PROXY_PASSWORD))
    error = failure(Asker("https://webexapis.example/v1/access_token").webex)
    assert isinstance(error, ConfigurationError)
    assert error.setting == "HTTPS_PROXY"
    assert ("socksio" in error.remedy) is proxy.startswith("socks")


# Imports

IMPORTS = """
import sys
import webex_loopback.webex.client
assert not {"rich", "click", "httpx._main", "pydantic", "truststore", "cryptography", "aiohttp"} & set(sys.modules)
import httpx
assert httpx.main.__module__ == "httpx"
httpx.main()
"""


@pytest.mark.skipif(not find_spec("rich"), reason="httpx has no command line without rich")
def test_httpx_is_imported_without_its_command_line_which_still_works() -> None:
    done = python(IMPORTS, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "HTTPX" in done.stdout
