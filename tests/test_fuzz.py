"""Bytes from outside, made up by Hypothesis: a few hundred in a normal run, `FUZZ_EXAMPLES` of each kind on demand.

What must hold: a login is settled if and only if it should be, only the documented errors come out of a parser, and
no message holds what was read.
"""

import contextlib
import gc
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
import pytest
from attack import Answer, Running, connect, read, request, running, send
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from webex_loopback import loopback, pages
from webex_loopback.authorization import (
    AuthorizationResponse,
    NotThisLogin,
    RedirectURI,
    printable,
    read_pasted,
    read_response,
)
from webex_loopback.errors import ConfigurationError, ServerUnreachable, TokenEndpointError
from webex_loopback.oauth import Webex, error_words, retry_after
from webex_loopback.pages import FailurePage
from webex_loopback.token import MalformedToken, StoredToken, TokenResponse, read_object

MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))

# Registered here and not in conftest.py: only this file changes with the variable.
fuzz = settings(
    max_examples=MANY or 200,
    deadline=None,
    derandomize=not MANY,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(3600 if MANY else 60)

STATE = "s7jSVUQhd9ZZrSaXDzq0TDpuZn2lZNwIMcH1nLsk0xM"
URI = RedirectURI.parse("http://127.0.0.1:8765/callback")
SECRET = "SECRET-" + "s" * 50


# The redirect's query


def vschar(value: str) -> bool:
    """Whether a value is what RFC 6749 appendix A calls 1*VSCHAR; written apart from the code under test."""
    return bool(value) and all(0x20 <= ord(character) <= 0x7E for character in value)


def is_settling(fields: list[tuple[str, str]], state: str) -> bool:
    states = [value for name, value in fields if name == "state"]
    outcomes = [value for name, value in fields if name in ("code", "error")]
    return states == [state] and len(outcomes) == 1 and vschar(outcomes[0])


names = st.one_of(
    st.sampled_from(["state", "code", "error", "error_description"]),
    st.sampled_from(["state[]", "State", " code", "code ", "error_uri", "iss", ""]),
    st.text(max_size=8),
)
values = st.one_of(
    st.sampled_from(["STATE", "STATE", "STATE ", "\x00STATE", "STATE\x00", "STATESTATE", ""]),
    st.text(st.characters(codec="ascii"), max_size=20),
    st.text(max_size=20),
    st.text("\x00\x1b\r\n<>&=#?+%\u202e\u2028", max_size=8),
    st.integers(1, 3000).map(lambda length: "c" * length),
)
fields = st.lists(st.tuples(names, values), max_size=8)


def shuffled(pairs: list[tuple[str, str]], order: Sequence[int]) -> list[tuple[str, str]]:
    return [pair for _, pair in sorted(zip(order, pairs, strict=False))]


# The usual case, bent a little: else chance alone would hardly ever hit the right state.
near = st.tuples(
    st.sampled_from([("code", "abc"), ("error", "access_denied"), ("code", ""), ("code", "\x7f"), ("error", "é")]),
    fields,
    st.permutations(range(10)),
).map(lambda parts: shuffled([("state", "STATE"), parts[0], *parts[1]], parts[2]))


def encode(pairs: list[tuple[str, str]], safe: str) -> str:
    return "&".join(f"{quote(name, safe=safe)}={quote(value, safe=safe)}" for name, value in pairs)


def with_state(pairs: list[tuple[str, str]], state: str) -> list[tuple[str, str]]:
    return [(name, value.replace("STATE", state)) for name, value in pairs]


@fuzz
@given(st.one_of(fields, near, near), st.sampled_from(["", "/:-._~", "!$'()*,;@"]))
def test_a_query_settles_if_and_only_if_it_should(pairs: list[tuple[str, str]], safe: str) -> None:
    pairs = with_state(pairs, STATE)
    query = encode(pairs, safe)
    try:
        response = read_response(query, STATE)
    except NotThisLogin as reason:
        assert not is_settling(pairs, STATE)
        assert_is_told_well(str(reason))
    else:
        event("settles")
        assert is_settling(pairs, STATE)
        assert bool(response.code) is not bool(response.error)
        outcome = next(value for name, value in pairs if name in ("code", "error"))
        assert response.code == outcome or response.error == printable(outcome, 60)
        assert response.error_description.isprintable()


@fuzz
@given(st.one_of(st.text(max_size=200), st.text(f"{STATE}&=%+;#?[]codestaterror\x00\udcff", max_size=300)))
@example("&" * 5000)
@example("%" * 5000)
@example("state=" * 5000)
def test_a_raw_query_settles_nothing_without_the_state(query: str) -> None:
    with contextlib.suppress(NotThisLogin):
        read_response(query, "another" + STATE)
        raise AssertionError(query)


def assert_is_told_well(message: str) -> None:
    assert STATE not in message
    assert SECRET not in message
    assert message.isprintable()
    assert len(message) < 200


def assert_holds_no_secret(error: Exception) -> None:
    assert SECRET not in f"{error}{error!r}{vars(error)}"
    assert str(error).isprintable()
    assert len(str(error)) < 5000
    assert isinstance(error, MalformedToken) or vars(error)["remedy"]


pasted = st.one_of(
    st.text(max_size=200),
    st.tuples(
        st.sampled_from(["", "http://", "https://", "://", "http://[", "http://[::1]", "HTTP://x", "file://"]),
        st.text("/callback?#[]@:%", max_size=20),
        st.one_of(fields, near).map(lambda pairs: "?" + encode(with_state(pairs, STATE), "")),
    ).map("".join),
)


@fuzz
@given(pasted)
def test_what_is_pasted_is_an_answer_or_is_none(text: str) -> None:
    try:
        response = read_pasted(text, URI, STATE)
    except NotThisLogin as reason:
        assert_is_told_well(str(reason))
    else:
        assert STATE in text
        assert vschar(response.code or response.error.removesuffix("…"))


@fuzz
@given(
    st.one_of(
        st.text(max_size=60),
        st.tuples(
            st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", ""]),
            st.sampled_from(["127.0.0.1", "localhost", "[::1]", "127.0.0.9", "[::", "0.0.0.0", "x", "[::ffff:7f00:1]"]),
            st.sampled_from(["", ":", ":80", ":0", ":65535", ":65536", ":-1", ":x", ":8_0", "@x", "x", ".", "\\"]),
            st.text("/abc.%2e?#@:\\[]<>\x00 é", max_size=12),
        ).map("".join),
    )
)
def test_a_redirect_uri_is_a_loopback_one_or_is_refused(text: str) -> None:
    try:
        uri = RedirectURI.parse(text)
    except ConfigurationError as error:
        assert_holds_no_secret(error)
    else:
        assert uri.text == text
        assert all(host == "::1" or host.startswith("127.") for host in uri.hosts)
        assert 1 <= uri.port <= 65535
        assert uri.path.startswith("/")
        assert httpx.URL(text).raw_path.decode().partition("?")[0] == uri.path  # another library reads it so too


# The socket


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    patched = pytest.MonkeyPatch()
    patched.setattr(loopback, "FAREWELL_SECONDS", 0.0)
    with running(f"http://127.0.0.1:{port}/callback") as one:
        yield one
    patched.undo()


def assert_is_ours(answer: Answer) -> None:
    """See that an answer has the headers of the house, and nothing of the request."""
    assert answer.headers["server"] == "webex-loopback"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] == pages.HEADERS["Content-Security-Policy"]
    assert answer.body in ("", *PLAIN) or "<title>" in answer.body


PLAIN = (
    "There is nothing here.",
    "Only GET is answered here.",
    "This host name is not served here.",
    "This request cannot be answered.",
)
pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"/callback?", b"/start/", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n"),
            *(b"Host: 127.0.0.1:PORT\r\n", b"Host: ", b"\r\n", b"\r\n\r\n", b"\n", b"code=a&", b"state=", b"error=a"),
            *(b"http://", b"[", b"*", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"0\r\n\r\n", b": "),
            *(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"\x16\x03\x01\x00\x05"),
            *(b"Content-Encoding: gzip\r\n", b"Accept-Language: ja;q=2,*;q=nan\r\n", b"x" * 9000, b"\x00", b"\xff\xfe"),
        ]
    ),
)


@fuzz
@given(st.lists(pieces, max_size=12))
def test_raw_bytes_settle_nothing_and_get_an_answer_of_ours(server: Running, parts: list[bytes]) -> None:
    with connect(server.port) as connection:
        with contextlib.suppress(OSError):  # cut off already
            for part in parts:
                connection.sendall(part.replace(b"PORT", b"%d" % server.port))
            connection.shutdown(socket.SHUT_WR)
        answer = read(connection)
    if MANY:
        gc.collect(0)  # so that what asyncio has to tell comes with the example that it is about
    if answer.status:
        assert answer.status in (400, 404, 405, 421)
        assert_is_ours(answer)
    assert not server.settled
    assert not server.trouble, "\n".join(server.trouble)


@settings(fuzz, max_examples=MANY or 150)
@given(
    st.one_of(fields, near, near),
    st.sampled_from(["", "/:-._~", "!$'()*,;@"]),
    st.one_of(st.just("en"), st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30)),
)
def test_the_server_settles_if_and_only_if_it_should(
    server: Running, pairs: list[tuple[str, str]], safe: str, language: str
) -> None:
    server.events.clear()
    pairs = with_state(pairs, server.request.state)
    raw = request(f"/callback?{encode(pairs, safe)}", server.port, headers=(f"Accept-Language: {language}",))
    with fresh(server) as one:
        if is_settling(pairs, server.request.state):
            event("settles")
            with connect(server.port) as connection:
                connection.sendall(raw)
                response = server.response()
                server.conclude(FailurePage("cancelled"))
                answer = read(connection)
            assert response in {
                AuthorizationResponse(code=next((value for name, value in pairs if name == "code"), "")),
                response if response.error else None,
            }
            assert answer.status == 303
            assert [kind for kind, _ in server.events] == ["received"]
        else:
            answer = send(server.port, raw)
            assert answer.status == 400
            assert [kind for kind, _ in server.events] in (["ignored"], [])
            assert not one.done()
    assert_is_ours(answer)
    assert not server.trouble, "\n".join(server.trouble)


@contextlib.contextmanager
def fresh(server: Running) -> Iterator[Any]:
    """Let one running server serve example after example: a login each, on the same sockets."""

    async def renew() -> Any:
        loop = server.loop
        server.server._settled, server.server._page = loop.create_future(), loop.create_future()
        return server.server._settled

    yield server.call(renew())
    server.call(renew())
    server.events.clear()


# What Webex, or what answers in its place, may send

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 1e308, -1e308, math.nan, math.inf, 0.5, "", "3600", "-1"]),
        st.floats(),
        st.text(max_size=20),
        st.just(SECRET),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=8,
)


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the known keys, whose values are of any kind."""
    known = dict.fromkeys(keys, json_values)
    return st.tuples(st.fixed_dictionaries({}, optional=known), st.dictionaries(st.text(max_size=5), json_values)).map(
        lambda both: both[1] | both[0]
    )


def bodies(plain: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Bytes: JSON in several encodings, with a name twice, cut off; HTML; anything."""

    def dump(parts: tuple[dict[str, Any], str, int]) -> bytes:
        values, how, at = parts
        text = json.dumps(values, ensure_ascii=at % 2 == 0)
        if how == "twice" and values:
            text = text[:-1] + f", {json.dumps(next(iter(values)))}: 1}}"
        body = text.encode("utf-16" if how == "utf-16" else "utf-8", "surrogatepass")
        return {"cut": body[:at], "bom": b"\xef\xbb\xbf" + body, "more": body + b"x"}.get(how, body)

    whole = st.tuples(
        plain, st.sampled_from(["plain"] * 6 + ["twice", "utf-16", "cut", "bom", "more"]), st.integers(0, 200)
    )
    odd = st.sampled_from([b"", b"null", b"[]", b"1", b'"x"', b"<!doctype html><p>" + SECRET.encode(), b"[" * 100_000])
    return st.one_of(whole.map(dump), whole.map(dump), odd, st.binary(max_size=60))


responses = bodies(
    st.tuples(
        objects("access_token", "token_type", "expires_in", "refresh_token", "refresh_token_expires_in", "scope"),
        st.sampled_from([{}, {"access_token": SECRET}, {"access_token": SECRET, "refresh_token": SECRET}]),
    ).map(lambda both: both[0] | both[1])
)
good_file = {"version": 1, "refresh_at": 1, "access_token": SECRET, "issued_at": 1}
files = bodies(
    st.tuples(
        st.sampled_from([{}, good_file]),
        objects(*StoredToken.model_fields),
        st.sampled_from([{}, {"version": 2}, {"account": {"name": 1}}, {"client_secret": SECRET}]),
    ).map(lambda three: three[0] | three[1] | three[2])
)


@fuzz
@given(responses)
def test_a_token_response_is_one_or_is_malformed(body: bytes) -> None:
    try:
        response = TokenResponse.from_json(body)
    except MalformedToken as error:
        assert_is_told_well(str(error))
        return
    assert response.access_token.get_secret_value().isascii()
    assert all(
        end is None or (type(end) is int and 1 <= end < 10**10)
        for end in (response.expires_in, response.refresh_token_expires_in)
    )
    response = response.model_copy(update={"scope": None})  # which may hold whatever was sent
    assert SECRET not in repr(response) + str(response)
    # What was taken can be stored, and read again.
    stored = StoredToken.from_response(response, now=time.time(), client_secret=SecretStr(SECRET))
    assert StoredToken.from_json(stored.to_json()) == stored
    assert stored.renewed(response, now=time.time() + 9).refresh_at >= stored.issued_at
    assert SECRET not in repr(stored)


@fuzz
@given(files)
def test_a_token_file_is_one_or_is_malformed(body: bytes) -> None:
    try:
        stored = StoredToken.from_json(body)
    except MalformedToken as error:  # FutureVersion is one
        assert_holds_no_secret(error)
    else:
        assert StoredToken.from_json(stored.to_json()) == stored
        assert SECRET not in repr(stored.access_token)
        assert isinstance(stored.expired(time.time()), bool)


@fuzz
@given(bodies(objects("error", "error_description", "message", "errors", "trackingId", "trackingID")))
def test_the_words_of_an_error_are_short_and_hold_no_token(body: bytes) -> None:
    for word in error_words(body):
        assert len(word) <= 500
        assert word.isprintable()
        assert SECRET not in word


@fuzz
@given(st.one_of(st.text(max_size=30), st.integers().map(str), st.sampled_from(["rand(30),add(30)", "9" * 5000])))
@example("²")
@example("-1")
@example("Tue, 24 Nov 2026 11:00:00 GMT")
@example("Tue, 24 Nov 99999 11:00:00 GMT")
@example("Tue, 24 Nov 0001 11:00:00 +2359")
def test_retry_after_is_a_bearable_wait_or_none(text: str) -> None:
    wait = retry_after(text, time.time())
    assert wait is None or 0 <= wait <= 3600


@fuzz
@given(st.one_of(responses, bodies(objects("error", "message", "errors"))), st.integers(200, 599), st.text(max_size=20))
def test_an_answer_of_the_token_endpoint_is_a_grant_or_a_documented_error(body: bytes, status: int, kind: str) -> None:
    answer = httpx.Response(
        status, content=body, headers={"Content-Type": quote(kind), "Retry-After": quote_from_bytes(body[:9])}
    )
    with (
        httpx.Client(transport=httpx.MockTransport(lambda request: answer)) as client,
        Webex(api_base_url="http://127.0.0.1:9/v1", token_url="http://127.0.0.1:9/t", http_client=client) as webex,
    ):
        try:
            response = webex.exchange_code(
                client_id="C0",
                client_secret=SecretStr(SECRET),
                code=SecretStr(SECRET),
                code_verifier=SecretStr(SECRET),
                redirect_uri=URI.text,
            )
        except (TokenEndpointError, ServerUnreachable) as error:
            assert_holds_no_secret(error)
        else:
            assert status == 200
            assert response.token_type == "Bearer"


# The page


@fuzz
@given(st.text(max_size=200), st.text(max_size=100), st.sampled_from([*pages.FAILURES]), st.text(max_size=60))
@example("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "authorization_error", "ja")
def test_no_text_from_outside_becomes_markup(detail: str, tracking_id: str, kind: str, language: str) -> None:
    chosen = pages.choose_language(language)
    plain = pages.render(FailurePage(kind, detail="x", tracking_id="x"), chosen)
    page = pages.render(FailurePage(kind, detail=f"x{detail}", tracking_id=f"x{tracking_id}"), chosen)
    assert page.count("<") <= plain.count("<")
    page.encode()


def test_a_nested_answer_is_no_object() -> None:
    with pytest.raises(MalformedToken):
        read_object(b'{"a":' * 100_000)
