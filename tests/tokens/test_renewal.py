"""What `get_token()` does once a token is due, against the sandbox or against answers that no sane server gives."""

import dataclasses
import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

import httpx
import pytest

from tests.conftest import Log, Make, Patch
from webex_loopback import LoginRequired, ServerUnreachable, TokenEndpointError, TokenSource, TokenStoreError
from webex_loopback.clients.pytest_plugin import Clock
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens import renewal
from webex_loopback.tokens.record import DAY, StoredToken
from webex_loopback.tokens.stores import TokenStore
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.lock import hold_lock
from webex_loopback.tokens.stores.memory import MemoryTokenStore

from .conftest import FailingStore, ask_again, failing

GOOD = {"access_token": "new-access", "expires_in": 3600, "refresh_token": "new-refresh"}
REJECTED = (400, {"error": "invalid_grant"})
DUE, EXPIRED = ({"age": 1000, "expires_in": seconds} for seconds in (1050, 900))


class Server:
    """Answers token requests from a list; the last answer repeats."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.client = httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer()
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(status, content=content)


def source_of(token: StoredToken, server: Server, **options: object) -> TokenSource:
    return TokenSource(store=MemoryTokenStore(token), http_client=server.client, **options)  # type: ignore[arg-type]


def stored(store: TokenStore) -> tuple[str, str]:
    """Return the two tokens that are stored."""
    record = store.load()
    assert record is not None
    assert record.refresh_token
    return record.access_token.get_secret_value(), record.refresh_token.get_secret_value()


@pytest.mark.parametrize("made", [DUE, EXPIRED])
def test_a_due_token_is_renewed_and_stored(make_token: Make, made: dict[str, int]) -> None:
    server = Server(GOOD)
    source = source_of(make_token(**made), server)
    assert source.get_token() == "new-access"
    assert source.get_token() == "new-access"
    assert stored(source.store) == ("new-access", "new-refresh")
    assert len(server.requests) == 1


@pytest.mark.parametrize("odd", ["", None, "a b", 5, "t\u00f6k"])
def test_a_new_refresh_token_beside_an_unusable_access_token_is_not_lost(make_token: Make, odd: object) -> None:
    server = Server(GOOD | {"access_token": odd}, GOOD)
    source = source_of(make_token(**EXPIRED), server)
    with pytest.raises(ServerUnreachable, match="access_token"):
        source.get_token()
    assert source.refresh() == "new-access"
    sent = [request.content.decode().partition("refresh_token=")[2] for request in server.requests]
    assert sent[1].endswith("new-refresh")


ANSWERS = {  # one for each meaning of webex/error_response.py, and the answers that have none
    "rejected": (REJECTED, LoginRequired),
    "empty 400": ((400, b""), LoginRequired),
    "misconfigured": ((401, {"error": "invalid_client"}), TokenEndpointError),
    "passing": ((401, {"error": "temporarily_unavailable"}), TokenEndpointError),
    "html at 200": ((200, b"<html>"), ServerUnreachable),
    "no answer": (httpx.ReadTimeout("slow"), ServerUnreachable),
}
each_answer = pytest.mark.parametrize(("answer", "kind"), ANSWERS.values(), ids=ANSWERS)


@each_answer
def test_a_valid_token_is_handed_out_whatever_the_server_answers(
    make_token: Make, answer: object, kind: type[Exception], caplog: Log
) -> None:
    source = source_of(make_token(**DUE), Server(answer))
    assert [source.get_token() for _ in range(3)] == ["access-token-one"] * 3
    (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("webex_loopback.tokens")]
    assert ("webex-loopback login" in warning) is (answer == REJECTED)


@each_answer
def test_only_a_rejection_ends_a_session(
    make_token: Make, answer: object, kind: type[Exception], webex_clock: Clock
) -> None:
    server, before = Server(answer), make_token(**EXPIRED)
    source = source_of(before, server, clock=webex_clock)
    for _ in range(2):  # the second time, its pause is not over
        with pytest.raises(kind):
            source.get_token()
    assert source.stored() == before
    assert len(server.requests) == 1
    server.answers = [GOOD]
    webex_clock.move(61)
    assert source.get_token() == "new-access"  # nothing is remembered forever


def test_all_threads_and_sources_of_a_file_make_one_renewal(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make
) -> None:
    sandbox.switches.update({"rotation": True, "latency": 0.1})
    make_due()
    sources = [TokenSource() for _ in range(8)] * 6
    with ThreadPoolExecutor(48) as pool:
        assert len(set(pool.map(TokenSource.get_token, sources))) == 1
    assert sandbox.count("refresh_token") == 1


def test_a_valid_token_does_not_wait_for_another_processs_lock(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make, store: FileTokenStore, caplog: Log
) -> None:
    token = make_due(left=1000)
    with hold_lock(store.lock_path, 1):
        began = time.monotonic()
        assert TokenSource().get_token() == token.access_token.get_secret_value()
        assert time.monotonic() - began < 1
    assert sandbox.count("refresh_token") == 0
    assert not caplog.records


@pytest.mark.parametrize("made", [DUE, EXPIRED])
def test_no_caller_waits_long_for_a_mute_server_and_its_answer_is_not_lost(
    make_token: Make, made: dict[str, int], monkeypatch: Patch
) -> None:
    monkeypatch.setattr(renewal, "OPTIONAL_SECONDS" if made is DUE else "DEADLINE_SECONDS", 0.2)
    go, told = threading.Event(), threading.Event()
    server = Server(lambda: go.wait(10) and GOOD)
    source = source_of(make_token(**made), server, on_refresh=lambda token: told.set())
    began = time.monotonic()
    if made is DUE:
        assert source.get_token() == "access-token-one"
    else:
        with pytest.raises(ServerUnreachable):
            source.get_token()
    assert time.monotonic() - began < 2
    go.set()
    assert told.wait(5)
    assert stored(source.store) == ("new-access", "new-refresh")


def test_a_forced_renewal_that_fails_says_so_and_leaves_the_valid_token(make_token: Make) -> None:
    source = source_of(make_token(), Server(REJECTED, GOOD))
    with pytest.raises(TokenEndpointError):
        source.refresh()
    assert source.get_token() == "access-token-one"
    assert source.refresh() == "new-access"  # although it is not due
    assert source.get_token() == "new-access"


def test_a_token_that_an_api_rejects_and_cannot_be_renewed_needs_a_login(make_token: Make) -> None:
    source = source_of(make_token(age=1000), Server(REJECTED))
    with pytest.raises(LoginRequired):
        source.refresh(rejected="access-token-one")


def test_a_rejected_token_is_renewed_once_for_all_callers_unless_it_is_young(make_token: Make) -> None:
    server = Server(GOOD)
    source = source_of(make_token(age=1000), server)
    other = TokenSource(store=source.store, http_client=server.client)
    assert other.get_token() == "access-token-one"
    assert source.refresh(rejected="access-token-one") == "new-access"
    assert other.refresh(rejected="access-token-one") == "new-access"
    assert other.refresh(rejected="new-access") == "new-access"
    assert len(server.requests) == 1


def test_after_a_rejection_a_token_stored_meanwhile_is_used(make_token: Make) -> None:
    store = MemoryTokenStore(make_token(**EXPIRED))
    newer = make_token("from-elsewhere", refresh_token="from-elsewhere")

    def reject() -> object:
        store.save(newer)  # by something that does not use our lock
        return REJECTED

    source = TokenSource(store=store, http_client=Server(reject).client)
    assert source.get_token() == "from-elsewhere"


def test_a_forced_renewal_uses_the_token_that_another_process_renewed_while_it_waited(make_token: Make) -> None:
    class Busy(MemoryTokenStore):
        @contextmanager
        def lock(self, wait_seconds: float = 30) -> Iterator[None]:
            self.save(make_token("from-elsewhere"))
            yield

    server = Server(GOOD)
    assert TokenSource(store=Busy(make_token()), http_client=server.client).refresh() == "from-elsewhere"
    assert not server.requests


@pytest.mark.parametrize("made", [EXPIRED, {}])
def test_a_token_that_cannot_be_saved_is_used_and_saved_later(
    store: FileTokenStore, save: Make, made: dict[str, int], caplog: Log
) -> None:
    save(**made)
    source = TokenSource(http_client=Server(GOOD).client)
    with failing("replace", errno.EIO):
        assert source.refresh() == "new-access"
        assert ask_again(source) == "new-access"
        if made:
            assert TokenSource(store=store).get_token() == "new-access"  # any source of this process
    assert ask_again(source) == "new-access"
    assert stored(FileTokenStore(store.path)) == ("new-access", "new-refresh")
    assert "Input/output error" in caplog.text


def test_an_unsaved_token_yields_to_another_processs_renewal(
    store: FileTokenStore, save: Make, make_token: Make
) -> None:
    """Its refresh token is spent by then; to send it again would revoke the login."""
    save(**EXPIRED)
    server, other = Server(GOOD), FileTokenStore(store.path)
    source = TokenSource(store=store, http_client=server.client)
    with failing("replace", errno.EIO):
        assert source.get_token() == "new-access"
    with other.lock():
        other.save(make_token("from-elsewhere", refresh_token="from-elsewhere"))
        assert ask_again(source) == "from-elsewhere"  # though the lock cannot be taken to tidy up
    source.refresh()
    assert b"refresh_token=from-elsewhere" in server.requests[-1].content


def test_a_programs_own_store_may_raise_anything(make_token: Make, caplog: Log) -> None:
    class Broken(MemoryTokenStore):
        def lock(self, wait_seconds: float = 0) -> NoReturn:
            raise ValueError("It is broken.")

    assert TokenSource(store=Broken(make_token(**DUE))).get_token() == "access-token-one"
    assert "It is broken." in caplog.text
    with pytest.raises(WebexLoopbackError, match="ValueError: It is broken"):
        TokenSource(store=Broken(make_token(**EXPIRED))).get_token()


@pytest.mark.parametrize("problem", ["unreadable", "unavailable"])
def test_a_failing_store_does_not_matter_while_the_token_in_memory_is_valid(
    make_token: Make, problem: str, webex_clock: Clock, caplog: Log
) -> None:
    store = FailingStore(make_token(expires_in=1000))
    source = TokenSource(store=store, clock=webex_clock)
    source.get_token()
    store.fails = {"load": problem}
    for seconds in (60, 60, 60, 770):  # then it is due
        webex_clock.move(seconds)
        assert source.get_token() == "access-token-one"
    assert "reserve" not in store.calls  # what cannot be read, perhaps after seconds, is not renewed either
    assert caplog.text.count("It cannot load.") == 1
    with pytest.raises(TokenStoreError):
        source.refresh()  # somebody else may have renewed it: not with what is in memory
    webex_clock.move(51)
    with pytest.raises(TokenStoreError):
        source.get_token()


def test_callbacks_are_told_of_renewals_and_may_fail_and_ask_for_a_token(make_token: Make, caplog: Log) -> None:
    told: list[str] = []

    def on_refresh(token: StoredToken) -> None:
        told.append(source.get_token())
        raise ValueError("a mistake of the program")

    source = source_of(make_token(**EXPIRED), Server(GOOD), on_refresh=on_refresh)
    assert source.get_token() == "new-access"
    assert told == ["new-access"]
    assert "callback failed" in caplog.text


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (REJECTED, 1),
        (GOOD | {"refresh_token": "refresh-token-one", "refresh_token_expires_in": 85_400, "expires_in": 1000}, 1),
        (GOOD | {"refresh_token_expires_in": 86_400}, 0),
        (GOOD, 0),
        ((503, b""), 0),
    ],
)
def test_a_program_is_told_once_that_a_login_will_be_needed(make_token: Make, answer: object, calls: int) -> None:
    told: list[StoredToken] = []
    token = make_token(**DUE, refresh_token_expires_in=DAY)
    source = source_of(token, Server(answer), on_login_needed=told.append)
    for _ in range(3):
        ask_again(source)
    assert len(told) == calls


@pytest.mark.parametrize(("days", "calls"), [(14, 1), (5, 0)])
def test_a_program_is_told_even_if_another_process_renews(save: Make, days: int, calls: int) -> None:
    token = save(refresh_token_expires_in=10 * DAY)
    save(dataclasses.replace(token, refresh_token_issued_at=token.issued_at - 80 * DAY))
    told: list[StoredToken] = []
    source = TokenSource("default", on_login_needed=told.append, login_needed_seconds=days * DAY)
    for _ in range(2):
        assert ask_again(source) == "access-token-one"
    assert len(told) == calls


def test_a_logging_handler_that_asks_for_a_token_does_not_hang(
    make_token: Make, caplog: Log, monkeypatch: Patch
) -> None:
    answers: list[object] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                answers.append(source.get_token())
            except WebexLoopbackError as error:
                answers.append(type(error))

    caplog.set_level(logging.INFO, "httpx")
    monkeypatch.setattr(logging.getLogger("httpx"), "handlers", [Handler()])
    for made in (DUE, EXPIRED):
        source = source_of(make_token(**made), Server(GOOD))
        assert source.get_token() == "new-access"
    assert answers == ["access-token-one", TokenStoreError]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_renews_by_itself(sandbox: Sandbox, logged_in: StoredToken, make_due: Make) -> None:
    source = TokenSource()
    source.get_token()
    make_due()
    source._hot = (0.0, 0.0, "")
    child = os.fork()
    if child == 0:
        os._exit(0 if source.get_token() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sandbox.count("refresh_token") == 1
