"""What happens once a token is due: the pauses, the doubts, the dead, and what is said of each."""

import io
import json
import logging
import os
import pickle
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from webex_loopback import TokenSource, errors, oauth
from webex_loopback.errors import (
    AuthorizationDenied,
    ConfigurationError,
    LoginRequired,
    LoginTimeout,
    ServerUnreachable,
    TokenEndpointError,
    TokenStoreError,
    WebexLoopbackError,
)
from webex_loopback.login import log_in
from webex_loopback.renewal import YOUNG_SECONDS, Renewal
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.store import FileTokenStore, MemoryTokenStore
from webex_loopback.token import StoredToken

MakeToken = Callable[..., StoredToken]
DAY = 86_400


class Server:
    """A token endpoint in memory: what it is to answer, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda request: httpx.Response(503)
        self.client = httpx.Client(transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return self.answer(request)

    def answers(self, status: int, body: object = None, **headers: str) -> None:
        self.answer = lambda request: httpx.Response(status, json=body, headers=headers)


class World:
    """A token in memory, a server, and a clock: everything that a renewal depends on."""

    def __init__(self, token: StoredToken) -> None:
        self.now = float(token.refresh_at)
        self.token = token
        self.server = Server()
        self.server.answers(429, **{"Retry-After": "10"})
        self.store = MemoryTokenStore(token)
        self.source = TokenSource(store=self.store, clock=lambda: self.now, http_client=self.server.client)

    def pause(self) -> float:
        """Call every second until the server is asked again; return how long that took."""
        asked, since = self.server.asked, self.now
        while self.server.asked == asked:
            self.now += 1
            self.source.get_token()
        return self.now - since


@pytest.fixture
def world(make_token: MakeToken) -> Iterator[World]:
    one = World(make_token(age=0))
    yield one
    one.server.client.close()


@pytest.fixture(autouse=True)
def no_pause_between_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_PAUSES", (0.0, 0.0))


# Pauses


def test_a_thousand_calls_inside_the_margin_make_one_request_a_pause(world: World) -> None:
    for _ in range(1_000):
        assert world.source.get_token() == "access-token-one"
        world.source._hot = (0.0, 0.0, "")
    assert world.server.asked == 1


def test_the_pauses_grow_with_jitter_up_to_a_quarter_of_an_hour(world: World) -> None:
    world.source.get_token()
    pauses = [world.pause() for _ in range(9)]
    for pause, expected in zip(pauses, [15, 30, 60, 120, 240, 480, 900, 900, 900], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected + 1
    assert len({pause / expected for pause, expected in zip(pauses, [15, 30, 60, 120], strict=False)}) > 1


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("120", 120, 122),
        ("3600", 3_600, 3_602),
        ("99999999", 3_600, 3_602),
        ("rand(30),add(30)", 12, 19),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600, 3_602),
        ("5", 12, 19),
        ("", 12, 19),
    ],
)
def test_retry_after_is_honoured(
    world: World, monkeypatch: pytest.MonkeyPatch, retry_after: str, least: float, most: float
) -> None:
    monkeypatch.setattr(oauth, "_PATIENCE", -1)
    world.server.answers(429, **({"Retry-After": retry_after} if retry_after else {}))
    world.source.get_token()
    assert least <= world.pause() <= most


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (2 * DAY, "good for 2 days yet"),
        (2 * DAY - 1, "good for 48 hours yet"),
        (7_200, "good for 2 hours yet"),
        (7_199, "good for 120 minutes yet"),
        (60, "good for 1 minutes yet"),
        (None, "of unknown end"),
    ],
)
def test_a_warning_says_how_long_the_old_token_works(
    world: World, caplog: pytest.LogCaptureFixture, left: int | None, words: str
) -> None:
    end = None if left is None else int(world.now) + left
    world.store.save(world.token.model_copy(update={"expires_at": end}))
    assert world.source.get_token() == "access-token-one"
    assert f"could not be refreshed and is {words}." in caplog.text


def test_a_token_is_handed_out_until_the_next_try_or_its_end(world: World) -> None:
    for left in (None, DAY, 10):
        end = None if left is None else int(world.now) + left
        world.store.save(world.token.model_copy(update={"expires_at": end}))
        token, until = Renewal(world.store, clock=lambda: world.now, http_client=world.server.client).token()
        assert token == "access-token-one"
        assert until == end if left == 10 else 12 <= until - world.now <= 18


def test_at_the_expiry_the_error_is_immediate_and_names_the_cause(world: World) -> None:
    world.source.get_token()
    for _ in range(6):
        world.pause()
    assert world.token.expires_at is not None
    world.now = world.token.expires_at
    asked = world.server.asked
    started = time.monotonic()
    for _ in range(200):
        with pytest.raises(TokenEndpointError, match="slow down"):
            world.source.get_token()
    assert time.monotonic() - started < 2
    assert world.server.asked == asked + 1, "the pause of the days before does not count any more"
    world.now += 9
    with pytest.raises(TokenEndpointError):
        world.source.get_token()
    assert world.server.asked == asked + 1, "the server has asked for ten seconds"
    world.now += 2
    with pytest.raises(TokenEndpointError):
        world.source.get_token()
    assert world.server.asked == asked + 2


def test_once_it_has_ended_a_try_is_made_every_five_seconds(world: World) -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ProxyError("504 Gateway Timeout")

    world.server.answer = unreachable
    assert world.token.expires_at is not None
    world.now = world.token.expires_at + 1
    for _ in range(300):
        with pytest.raises(ServerUnreachable, match="504 Gateway Timeout"):
            world.source.get_token()
        world.now += 0.1
    assert world.server.asked in (6, 7)
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    world.now += 5
    assert world.source.get_token() == "fresh", "the server is back"


def test_after_a_success_the_pauses_begin_anew(world: World) -> None:
    world.source.get_token()
    for _ in range(4):
        world.pause()
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    world.now += 1_000
    assert world.source.get_token() == "fresh"
    world.server.answers(503)
    world.now += 3_300
    world.source.get_token()
    assert 12 <= world.pause() <= 19


def test_after_the_success_of_another_process_as_well(world: World, make_token: MakeToken) -> None:
    world.source.get_token()
    for _ in range(4):
        world.pause()
    now = int(world.now)
    of_another = world.token.model_copy(update={"issued_at": now, "refresh_at": now + 100, "expires_at": now + 7_200})
    world.store.save(of_another)
    world.now += 50
    world.source.get_token()
    world.now += 51
    world.source.get_token()
    assert 12 <= world.pause() <= 19


def test_the_clock_may_be_set_back_during_a_pause(world: World) -> None:
    world.server.answers(429, **{"Retry-After": "3600"})
    world.source.get_token()
    world.now -= 30
    world.store.save(world.token.model_copy(update={"refresh_at": int(world.now) - 10}))
    world.source.get_token()
    assert world.server.asked == 2, "a pause that lies in the future is none"


def test_errors_that_are_raised_again_do_not_pile_up(world: World) -> None:
    assert world.token.expires_at is not None
    world.now = world.token.expires_at
    for _ in range(100):
        with pytest.raises(TokenEndpointError) as caught:
            world.source.get_token()
    assert world.server.asked == 1
    length, link = 0, caught.value.__traceback__
    while link is not None:
        length, link = length + 1, link.tb_next
    assert length < 20


@pytest.mark.parametrize(
    ("age", "asked"),
    [(-1, 1), (0, 0), (0.5, 0), (YOUNG_SECONDS - 0.1, 0), (YOUNG_SECONDS, 1), (YOUNG_SECONDS + 0.9, 1)],
)
def test_a_rejected_token_is_refreshed_unless_it_is_young(world: World, age: float, asked: int) -> None:
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    world.now = world.token.issued_at + age
    assert world.source.refresh(rejected="an-older-one") == "access-token-one"
    assert world.server.asked == 0
    assert world.source.refresh(rejected="access-token-one") == ("fresh" if asked else "access-token-one")
    assert world.server.asked == asked


def test_a_token_that_is_rejected_again_and_again_knows_the_pause_too(world: World) -> None:
    """Each request of a program may be answered 401, while each refresh fails."""
    world.now -= 100  # it is not due
    for _ in range(50):
        assert world.source.get_token() == "access-token-one"
        with pytest.raises(TokenEndpointError, match="slow down"):
            world.source.refresh(rejected="access-token-one")
        world.now += 0.2
    assert world.server.asked == 1
    with pytest.raises(TokenEndpointError):
        world.source.refresh()
    assert world.server.asked == 2, "who asks by hand need not wait"
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    world.now += 40
    assert world.source.refresh(rejected="access-token-one") == "fresh"


@pytest.mark.parametrize("lifetime", [0, 0.001, "0"])
def test_no_time_left_is_an_end_and_no_loop(world: World, lifetime: object) -> None:
    world.server.answers(200, {"access_token": "ended", "expires_in": lifetime})
    for _ in range(100):
        assert world.source.get_token() == "ended"
    assert world.server.asked == 1
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    world.now += 1
    assert world.source.get_token() == "fresh"


# What cannot pass by itself


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": "invalid_client"}, "client secret"),
        (400, {"message": "m", "errors": [{"description": "The provided clientSecret is invalid"}]}, "client secret"),
        (400, {"error": "tokenlimit_reached"}, "limit"),
        (403, {"message": "Forbidden"}, "403"),
    ],
)
def test_what_only_a_person_can_mend_is_told_at_once_and_not_asked_for_again(
    world: World, status: int, body: object, words: str
) -> None:
    world.server.answers(status, body)
    for _ in range(100):
        with pytest.raises(TokenEndpointError, match=words) as caught:
            world.source.get_token()
        assert not isinstance(caught.value, LoginRequired)
        assert caught.value.remedy
    assert world.server.asked == 1
    world.now += 20
    with pytest.raises(TokenEndpointError):
        world.source.get_token()
    assert world.server.asked == 2


@pytest.mark.parametrize("answer", [(403, None), (404, None), (407, None), (408, None)])
def test_what_a_proxy_says_in_webexs_place_may_pass(world: World, answer: tuple[int, None]) -> None:
    world.server.answer = lambda request: httpx.Response(answer[0], html="<h1>Blocked by policy</h1>")
    assert world.source.get_token() == "access-token-one"
    assert world.server.asked == 1


def test_the_ca_bundle_of_the_login_counts_unless_another_is_set(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make_token(age=2_000_000, ca_bundle="/nowhere/of-the-login.pem"))
    with pytest.raises(ConfigurationError, match=r"of-the-login\.pem"):
        TokenSource().get_token()
    monkeypatch.setenv("WEBEX_CA_BUNDLE", "/nowhere/of-today.pem")
    with pytest.raises(ConfigurationError, match=r"of-today\.pem"):
        TokenSource().get_token()


@pytest.mark.parametrize("shape", [1, 2])
@pytest.mark.parametrize("way", ["invalid_request", "invalid_grant", "401"])
def test_a_dead_refresh_token_needs_a_login_and_costs_no_byte(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, shape: int, way: str
) -> None:
    make_due(left=3_600)
    sandbox.switches.update({"error_shape": shape, "dead_refresh_token": way})
    before = Path(store.path).read_bytes()
    one = TokenSource("default")
    for _ in range(5):
        with pytest.raises(LoginRequired, match="refused") as caught:
            one.get_token()
        assert "`webex-loopback login`" in caught.value.remedy
    assert Path(store.path).read_bytes() == before
    assert sandbox.count("refresh_token") == 1
    assert not os.path.exists(f"{store.path}.refreshing")


@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_without_a_word_condemns_no_refresh_token(
    store: FileTokenStore, make_token: MakeToken, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    now = [time.time()]
    server = Server()
    server.answer = lambda request: httpx.Response(status)
    token = make_token(age=1_200_000)
    store.save(token)
    one = TokenSource("default", clock=lambda: now[0], http_client=server.client)
    assert one.get_token() == "access-token-one"
    assert f"answered {status} without a word" in caplog.text
    assert not os.path.exists(f"{store.path}.refreshing")
    assert token.expires_at is not None
    now[0] = token.expires_at
    with pytest.raises(TokenEndpointError) as caught:
        one.get_token()
    assert "`webex-loopback login --force`" in caught.value.remedy
    assert not os.path.exists(f"{store.path}.refreshing")
    server.answers(200, {"access_token": "fresh", "expires_in": 3_600})
    now[0] += 10
    assert one.get_token() == "fresh"
    server.client.close()


def test_a_bundle_that_is_gone_since_the_login_costs_no_living_token(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: MakeToken,
    store: FileTokenStore,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    gone = str(tmp_path / "gone.pem")
    store.save(make_due(left=3_600).model_copy(update={"ca_bundle": gone}))
    assert TokenSource().get_token() == logged_in.access_token.get_secret_value()
    assert f"At login WEBEX_CA_BUNDLE named {gone}" in caplog.text
    make_due()
    with pytest.raises(ConfigurationError) as caught:
        TokenSource().get_token()
    assert "unset" not in caught.value.remedy, "it is not set"
    assert "`webex-loopback login --force`" in caught.value.remedy
    assert not os.path.exists(f"{store.path}.refreshing")
    assert sandbox.count("refresh_token") == 0


def test_a_new_login_may_be_given_the_same_refresh_token(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    due = make_due()
    sandbox.switches.dead_refresh_token = "invalid_request"
    one = TokenSource()
    with pytest.raises(LoginRequired):
        one.get_token()
    sandbox.switches.dead_refresh_token = ""
    store.save(due.model_copy(update={"issued_at": int(time.time())}))
    assert one.get_token()


def test_a_rejection_while_another_has_saved_a_newer_token_is_none(
    store: FileTokenStore, make_token: MakeToken
) -> None:
    """By whoever does not use our lock: another release, another program, another machine."""
    server = Server()

    def rejected(request: httpx.Request) -> httpx.Response:
        store.save(make_token("newer", refresh_token="refresh-token-two"))
        return httpx.Response(400, json={"error": "invalid_grant"})

    server.answer = rejected
    store.save(make_token(age=2_000_000))
    assert TokenSource(http_client=server.client).get_token() == "newer"
    assert server.asked == 1
    server.client.close()


def test_a_newer_token_that_is_due_too_is_refreshed_once(store: FileTokenStore, make_token: MakeToken) -> None:
    server = Server()

    def rejected(request: httpx.Request) -> httpx.Response:
        if b"refresh-token-two" in request.content:
            return httpx.Response(200, json={"access_token": "fresh", "expires_in": 3_600})
        store.save(make_token("newer", refresh_token="refresh-token-two", age=2_000_000))
        return httpx.Response(400, json={"error": "invalid_grant"})

    server.answer = rejected
    store.save(make_token(age=2_000_000))
    assert TokenSource(http_client=server.client).get_token() == "fresh"
    assert server.asked == 2
    server.client.close()


# In doubt


@pytest.mark.parametrize("fault", ["reset", "lost_answer", "reset_body", "truncated", "html", "huge"])
def test_a_refresh_in_doubt_deletes_nothing(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, fault: str
) -> None:
    make_due()
    before = Path(store.path).read_bytes()
    sandbox.switches.faults = [fault]
    one = TokenSource()
    with pytest.raises(ServerUnreachable):
        one.get_token()
    assert Path(store.path).read_bytes() == before
    assert sandbox.count("refresh_token") == 1, "it is sent once"
    assert one.refresh(), "without rotation, the old refresh token is good still"
    assert not os.path.exists(f"{store.path}.refreshing")


def test_a_rotated_token_that_was_lost_is_told(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.rotation = True
    sandbox.switches.faults = ["lost_answer"]
    with pytest.raises(ServerUnreachable):
        TokenSource().get_token()
    if sys.platform != "win32":
        assert stat.S_IMODE(os.stat(f"{store.path}.refreshing").st_mode) == 0o600
    for process in ("this", "the next", "the one after"):
        with pytest.raises(LoginRequired) as caught:
            TokenSource().get_token()
        told = str(caught.value)
        assert "was cut off" in told, process
        assert "lost with the answer" in told
        assert re.search(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, process {os.getpid()}", told)
    # After a new login, that is history.
    log_in(force=True, open_browser=Person().visit)
    make_due()
    sandbox.switches.dead_refresh_token = "invalid_grant"
    with pytest.raises(LoginRequired) as caught:
        TokenSource().get_token()
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize("fault", ["502", "504"])
def test_a_gateway_that_lost_the_answer_leaves_a_doubt(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, fault: str
) -> None:
    make_due()
    sandbox.switches.faults = [fault]
    with pytest.raises(TokenEndpointError):
        TokenSource().get_token()
    assert sandbox.count("refresh_token") == 1
    sandbox.switches.dead_refresh_token = "invalid_grant"
    with pytest.raises(LoginRequired, match="was cut off"):
        TokenSource().get_token()


def test_being_offline_is_no_doubt(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    sandbox.stop()
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        TokenSource().get_token()
    assert not os.path.exists(f"{store.path}.refreshing")
    sandbox.start()
    sandbox.switches.fault = "503"
    with pytest.raises(TokenEndpointError):
        TokenSource().get_token()
    assert not os.path.exists(f"{store.path}.refreshing")


def test_a_doubt_outlives_being_offline(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.rotation = True
    sandbox.switches.faults = ["lost_answer", "503", "503"]
    with pytest.raises(ServerUnreachable):
        TokenSource().get_token()
    journal = Path(f"{store.path}.refreshing")
    first = f"{journal.read_text().split()[0]} 2026-01-02 03:04:05, process 67"
    journal.write_text(first)
    with pytest.raises(TokenEndpointError):
        TokenSource().get_token()
    sandbox.stop()
    with pytest.raises(ServerUnreachable):
        TokenSource().get_token()
    sandbox.start()
    assert journal.read_text() == first
    with pytest.raises(LoginRequired, match="2026-01-02 03:04:05, process 67"):
        TokenSource().get_token()


def test_the_journal_holds_no_secret(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    sandbox.switches.faults = ["reset"]
    with pytest.raises(ServerUnreachable):
        TokenSource().get_token()
    journal = Path(f"{store.path}.refreshing").read_text()
    assert journal
    assert not [secret for secret in sandbox.secrets if secret in journal or journal.split()[0] in secret]


def test_a_journal_of_nonsense_is_no_hindrance(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    journal = Path(f"{store.path}.refreshing")
    journal.write_bytes(b"\xff\xfe\x00 \r\n\xe3\x81")
    assert TokenSource().get_token() != logged_in.access_token.get_secret_value()
    assert not journal.exists()


def test_what_was_refreshed_twice_on_a_full_disk_is_saved_in_the_end(world: World) -> None:
    class Disk(MemoryTokenStore):
        full = True

        def save(self, token: StoredToken) -> None:
            if self.full:
                raise TokenStoreError("No space left on device.", problem="unwritable")
            super().save(token)

    disk = Disk(world.token)
    one = TokenSource(store=disk, clock=lambda: world.now, http_client=world.server.client)
    for token in ("fresh", "fresher"):
        world.server.answers(200, {"access_token": token, "expires_in": 3_600})
        assert one.refresh() == token
    assert disk.load() == world.token
    disk.full = False
    assert one.get_token() == "fresher"
    assert world.server.asked == 2
    saved = disk.load()
    assert saved is not None
    assert saved.access_token.get_secret_value() == "fresher"


# What a response leaves out


@pytest.mark.parametrize(
    "omit",
    [
        ["refresh_token"],
        ["scope"],
        ["token_type"],
        ["expires_in"],
        ["refresh_token_expires_in"],
        ["refresh_token", "refresh_token_expires_in", "expires_in", "scope", "token_type"],
    ],
    ids=",".join,
)
def test_a_response_may_lack_anything_but_the_token(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, omit: list[str]
) -> None:
    make_due()
    sandbox.switches.omit = omit
    one = TokenSource()
    token = one.get_token()
    assert token != logged_in.access_token.get_secret_value()
    for _ in range(20):
        one._hot = (0.0, 0.0, "")
        assert one.get_token() == token
    assert sandbox.count("refresh_token") == 1, "it loops"
    saved = store.load()
    assert saved is not None
    assert saved.refresh_token is not None
    assert saved.granted == logged_in.granted
    assert one.refresh() != token


@pytest.mark.parametrize("lifetime", [-1, "soon", None, True, 1e308, 10**30, [], {}, ""])
def test_lifetimes_of_nonsense_do_not_loop(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, lifetime: object
) -> None:
    make_due()
    sandbox.switches.extra = {"expires_in": lifetime, "refresh_token_expires_in": lifetime}
    one = TokenSource()
    token = one.get_token()
    for _ in range(20):
        one._hot = (0.0, 0.0, "")
        assert one.get_token() == token
    assert sandbox.count("refresh_token") == 1


def test_the_same_token_again_does_not_loop(sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore) -> None:
    """Webex's answer to a refresh within the day; from the margin to the end, that is a handful of requests."""
    sandbox.switches.same_token = True
    assert logged_in.expires_at is not None
    offset = float(logged_in.refresh_at) - time.time()
    sandbox._authority.clock = lambda: time.time() + offset
    one = TokenSource(clock=lambda: time.time() + offset)
    end = logged_in.expires_at
    while time.time() + offset < end - 2:
        assert one.get_token() == logged_in.access_token.get_secret_value()
        offset += 97 if time.time() + offset < end - 600 else 5
    assert 1 <= sandbox.count("refresh_token") <= 6
    offset = end - time.time() + 1
    assert one.get_token() != logged_in.access_token.get_secret_value()


def test_a_refresh_that_does_not_renew_the_refresh_token_warns_of_its_end(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: MakeToken,
    store: FileTokenStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    due = make_due()
    store.save(due.model_copy(update={"refresh_token_expires_at": int(time.time()) + 10 * DAY}))
    sandbox.switches.extra = {"refresh_token_expires_in": 10 * DAY - 5}
    TokenSource("default").get_token()
    assert "ends in 10 days" in caplog.text
    assert "login --force" in caplog.text


@pytest.mark.parametrize(
    ("left", "left_before", "warns"),
    [
        (14 * DAY - 1, 14 * DAY - 1, True),
        (14 * DAY, 14 * DAY, False),
        (10 * DAY, 10 * DAY - 3_600, True),
        (10 * DAY, 10 * DAY - 3_601, False),  # it was renewed, if not by much
        (10 * DAY, None, False),
    ],
)
def test_of_an_end_that_is_near_and_was_not_put_off(
    world: World, caplog: pytest.LogCaptureFixture, left: int, left_before: int | None, warns: bool
) -> None:
    now = int(world.now)
    ends_at = None if left_before is None else now + left_before
    world.store.save(world.token.model_copy(update={"refresh_token_expires_at": ends_at}))
    world.server.answers(200, {"access_token": "fresh", "expires_in": 3_600, "refresh_token_expires_in": left})
    assert world.source.get_token() == "fresh"
    assert ("did not renew it" in caplog.text) is warns


# Called from within


@pytest.mark.timeout(20)
@pytest.mark.parametrize("left", [3_600, 0])
def test_a_logging_handler_may_ask_for_a_token(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, left: float
) -> None:
    """One that posts what is logged to Webex, for instance; httpx logs in the middle of the refresh."""
    due = make_due(left=left)
    one = TokenSource()
    got: list[str] = []

    class Poster(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                got.append(one.get_token())
            except TokenStoreError as error:
                got.append(error.problem)

    handler = Poster()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        token = one.get_token()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert got
    assert set(got) <= {due.access_token.get_secret_value() if left else "locked", token}
    assert sandbox.count("refresh_token") == 1


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="needs a timer signal")
@pytest.mark.timeout(20)
def test_a_signal_handler_may_ask_for_a_token(sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken) -> None:
    import signal

    make_due(left=3_600)
    sandbox.switches.latency = 0.4
    one = TokenSource()
    got: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda *_: got.append(one.get_token()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        one.get_token()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(got) == 1
    assert sandbox.count("refresh_token") == 1


# Errors


def every_error() -> list[WebexLoopbackError]:
    return [
        ConfigurationError("m", setting="WEBEX_CLIENT_ID"),
        LoginRequired("m", remedy="r"),
        AuthorizationDenied("m", error="access_denied", error_description="d"),
        LoginTimeout("m", ignored=3),
        TokenEndpointError("m", status_code=400, error="e", tracking_id="t", retry_after=3.0),
        oauth.Rejected("m", status_code=400),
        oauth.NotSent("m"),
        ServerUnreachable("m"),
        TokenStoreError("m", problem="corrupt"),
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_errors_come_back_from_another_process(error: WebexLoopbackError) -> None:
    """One that cannot be unpickled hangs `multiprocessing.Pool`."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(error, protocol))
        assert type(back) is type(error)
        assert (str(back), back.__dict__, back.exit_code) == (str(error), error.__dict__, error.exit_code)


def test_every_error_is_tried() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WebexLoopbackError)}
    assert kinds - {type(error) for error in every_error()} == {WebexLoopbackError, errors.LoginFailed}


# A store of one's own


def test_a_store_needs_four_methods_only(sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken) -> None:
    class InText:
        """Keeps the file's bytes in a text stream, as a database might."""

        def __init__(self, token: StoredToken) -> None:
            self.text = io.StringIO(token.to_json().decode())
            self.mutex = threading.Lock()

        def load(self) -> StoredToken | None:
            return StoredToken.from_json(self.text.getvalue().encode())

        def save(self, token: StoredToken) -> None:
            self.text = io.StringIO(token.to_json().decode())

        def delete(self) -> bool:
            return False

        def lock(self) -> threading.Lock:
            return self.mutex

    mine = InText(make_due())
    token = Renewal(mine).token()[0]  # type: ignore[arg-type]  # a lock is a context manager, of another return
    assert json.loads(mine.text.getvalue())["access_token"] == token
