"""What `get_token()` answers without a renewal: from the environment, from memory, from the file."""

import asyncio
import errno
import itertools
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from unittest.mock import Mock

import httpx
import pytest

from tests.conftest import Log, Make, Patch, python, raised, with_locals
from webex_loopback import ConfigurationError, LoginRequired, TokenSource, TokenStoreError, aget_token, get_token
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens import source as module
from webex_loopback.tokens.quick_look import quick_look
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.tokens.stores.memory import MemoryTokenStore

from .conftest import ask_again, failing

URL = "postgresql://u:hunter2%zz@127.0.0.1:9/db"


@pytest.fixture
def saved(save: Make) -> StoredToken:
    return save()


def test_a_valid_token_is_read_from_the_file(saved: StoredToken) -> None:
    assert get_token() == "access-token-one"
    assert asyncio.run(aget_token()) == "access-token-one"
    assert asyncio.run(TokenSource().aget_token()) == "access-token-one"


@pytest.mark.parametrize(
    ("name", "value"),
    [("WEBEX_ACCESS_TOKEN", "hunter2\u00e9"), ("WEBEX_TOKEN_STORE", URL), ("WEBEX_TOKEN_STORE", f"x{URL}")],
)
def test_no_secret_of_the_environment_is_in_a_traceback_with_local_variables(
    name: str, value: str, monkeypatch: Patch
) -> None:
    monkeypatch.setenv(name, value)
    assert "hunter2" not in with_locals(raised(ConfigurationError, get_token))


@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_the_environment_is_read_as_a_login_reads_it(
    saved: StoredToken, change: Callable[[str], str], monkeypatch: Patch
) -> None:
    monkeypatch.setenv(change("WEBEX_TOKEN_STORE"), "keyring")
    assert type(TokenSource("default").store).__name__ == "KeyringTokenStore"
    monkeypatch.setenv(change("WEBEX_ACCESS_TOKEN"), "bot-token")
    assert (get_token(), TokenSource().from_environment()) == ("bot-token", "environment")


def test_bearer_alone_is_not_a_token(saved: StoredToken, monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "Bearer")  # "Bearer $TOKEN", without the variable
    assert get_token() == saved.access_token.get_secret_value()


def test_a_token_that_was_read_before_survives_a_failing_disk(saved: StoredToken) -> None:
    source = TokenSource()
    token = source.get_token()
    with failing("stat", errno.EIO):
        assert ask_again(source) == token
    source.store.delete()
    with pytest.raises(LoginRequired):  # a logout is not a failure
        ask_again(source)


def test_without_a_login_the_error_names_the_command_to_run(monkeypatch: Patch) -> None:
    if sys.platform != "win32":  # where file names contain no control characters
        monkeypatch.setenv("WEBEX_LOOPBACK_HOME", "a\x1b]0;directory\a")
    error = raised(LoginRequired, get_token, "work")
    assert "webex-loopback login -p work" in error.remedy
    assert str(error).isprintable()


def test_profiles_are_separate(saved: StoredToken, save: Make, monkeypatch: Patch) -> None:
    save("work-token", into=TokenSource("work").store)
    assert get_token("work") == "work-token"
    assert get_token() == "access-token-one"
    monkeypatch.setenv("WEBEX_PROFILE", "work")
    module.forget()
    assert get_token() == "work-token"
    assert get_token("default") == "access-token-one"


def test_memory_answers_for_a_second_and_then_the_file_is_checked(store: FileTokenStore, save: Make) -> None:
    save("first")
    now = time.time()
    source = TokenSource(clock=lambda: now)
    assert source.get_token() == "first"
    save("second")
    assert source.get_token() == "first"
    now += 1.1
    assert source.get_token() == "second"
    now -= 5  # a clock that is set back does not make old answers good again
    os.unlink(store.path)
    with pytest.raises(LoginRequired):
        source.get_token()


CHANGES = [("shape", b",\n ", b", "), ("version", b'"version": 1', b'"version": 2'), ("mode", b"", b"")]


@pytest.mark.parametrize(("what", "old", "new"), CHANGES[: 3 if os.name == "posix" else 2])
def test_the_quick_look_leaves_anything_unusual_to_the_full_reader(
    store: FileTokenStore, saved: StoredToken, what: str, old: bytes, new: bytes
) -> None:
    path = Path(store.path)
    assert quick_look(store.path) is not None
    path.write_bytes(path.read_bytes().replace(old, new))
    path.chmod(0o644 if what == "mode" else 0o600)
    assert quick_look(store.path) is None
    with pytest.raises(TokenStoreError) if what == "version" else nullcontext():
        assert get_token() == "access-token-one"


def test_the_environments_token_is_returned_unless_a_profile_or_store_is_named(
    saved: StoredToken, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "bot-token")
    assert get_token() == "bot-token"
    assert get_token("default") == "access-token-one"
    with pytest.raises(LoginRequired):
        TokenSource(store=MemoryTokenStore()).get_token()
    assert [source.from_environment() for source in (TokenSource(), TokenSource("default"))] == ["environment", ""]
    assert TokenSource().refresh(rejected="bot-token") == "bot-token"  # it cannot be renewed
    with pytest.raises(LoginRequired):
        TokenSource().refresh()


@pytest.mark.parametrize("value", ["Bearer bot-token", "  'bot-token'\r\n", "b\u00f8t", "two words"])
def test_the_environments_token_is_cleaned_or_refused_as_a_setting_is(value: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", value)
    if "bot-token" in value:
        assert get_token() == "bot-token"
    else:
        assert value not in str(raised(ConfigurationError, get_token))


@pytest.mark.parametrize("name", ["WEBEX_ACCESS_TOKEN", "WEBEX_ACCESS_TOKEN_FILE"])
def test_a_token_of_a_file_that_was_only_found_is_used_with_one_warning(
    name: str, monkeypatch: Patch, caplog: Log
) -> None:
    Path("config.env").write_text(f"{name}=token\n")
    Path("config.env").chmod(0o600)
    Path("token").write_text("token")
    assert [get_token(), ask_again(TokenSource()), TokenSource().from_environment()][:2] == ["token", "token"]
    assert caplog.text.count("found in the current directory") == 1
    module.forget()
    caplog.clear()
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "'another'")
    assert get_token() == "another"
    module.forget()
    monkeypatch.delenv("WEBEX_ACCESS_TOKEN")
    monkeypatch.setenv("WEBEX_CONFIG_FILE", "config.env")
    assert get_token() == "token"
    assert not caplog.text


@pytest.mark.parametrize("content", ["", "WEBEX_LOGIN_TIMEOUT=soon\n", "WEBEX_ACCESS_TOKEN=from-file\n"])
def test_the_configuration_files_token_is_used_and_the_stored_one_if_that_file_is_broken(
    saved: StoredToken, content: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    config = tmp_path / "named.env"
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(config))
    if content:  # otherwise it is missing
        config.write_text(content)
        config.chmod(0o600)
    named = "TOKEN" in content
    assert get_token() == ("from-file" if named else "access-token-one")
    assert TokenSource().from_environment() == (str(config) if named else "")


def test_a_found_file_does_not_choose_where_the_refresh_token_goes(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make
) -> None:
    make_due()
    nowhere = "http://127.0.0.1:9/v1"
    Path("config.env").touch(mode=0o600)
    Path("config.env").write_text(f"WEBEX_API_BASE_URL={nowhere}\nWEBEX_TOKEN_URL={nowhere}\nWEBEX_CA_BUNDLE=x\n")
    assert get_token() != logged_in.access_token.get_secret_value()
    assert sandbox.count("refresh_token") == 1


def test_after_a_requested_renewal_nobody_is_given_the_old_token(saved: StoredToken) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        assert source.get_token() == "access-token-one"
        return httpx.Response(200, json={"access_token": "access-token-two", "expires_in": 3600})

    source = TokenSource(http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    assert source.refresh() == source.get_token() == "access-token-two"


def test_tasks_make_one_renewal_even_if_the_first_is_cancelled_and_the_event_loop_is_never_blocked(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Make
) -> None:
    sandbox.switches.update({"rotation": True, "latency": 0.4})
    make_due()

    async def ask() -> tuple[set[str], float]:
        first, tasks = asyncio.create_task(aget_token()), asyncio.gather(*[aget_token() for _ in range(50)])
        longest = 0.0
        while not tasks.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            first.cancel()
            longest = max(longest, time.monotonic() - before)
        return set(await tasks), longest

    tokens, longest = asyncio.run(ask())
    assert len(tokens - {logged_in.access_token.get_secret_value()}) == len(tokens) == 1
    assert longest < 0.3
    assert sandbox.count("refresh_token") == 1


@pytest.mark.parametrize("content", [None, "{"])
def test_interactive_logs_in_if_that_is_the_only_option(
    browser: None, redirect_uri: str, sandbox: Sandbox, store: FileTokenStore, content: str | None
) -> None:
    if content:  # a corrupt file
        os.makedirs(os.path.dirname(store.path))
        Path(store.path).write_text(content)
    token = get_token(interactive=True)
    assert token in sandbox.secrets
    assert get_token() == token


def test_sources_pickle_without_what_is_in_memory(saved: StoredToken) -> None:
    source = TokenSource("default")
    source.get_token()
    data = pickle.dumps(source)
    assert b"access-token-one" not in data
    assert pickle.loads(data).get_token() == "access-token-one"
    with pytest.raises(TypeError):
        pickle.dumps(TokenSource(store=MemoryTokenStore()))
    with pytest.raises(TypeError):
        pickle.dumps(TokenSource(on_login_needed=print))


LOADED = """
import sys
before = set(sys.modules)
from webex_loopback import get_token
get_token()
print(" ".join(sorted(name for name in set(sys.modules) - before)))
"""


def test_a_valid_token_loads_only_what_it_needs(saved: StoredToken) -> None:
    names = ("", ".errors", ".paths", ".tokens", ".tokens.source", ".tokens.quick_look")
    assert set(python(LOADED).stdout.split()) == {f"webex_loopback{name}" for name in names}


WAITING = """
import sys
from webex_loopback import get_token
get_token()
print("httpx" in sys.modules, "pydantic" in sys.modules)
"""


def test_a_process_that_only_waits_for_anothers_renewal_imports_no_http_client(
    store: FileTokenStore, saved: StoredToken, make_due: Make, make_token: Make
) -> None:
    make_due()
    with ThreadPoolExecutor(1) as pool, store.lock():
        waiting = pool.submit(python, WAITING)
        time.sleep(0.7)
        store.save(make_token("renewed-elsewhere"))
    assert waiting.result().stdout.split() == ["False", "False"]


def test_a_renewal_imports_no_pydantic(sandbox: Sandbox, logged_in: StoredToken, make_due: Make) -> None:
    make_due()
    assert python(WAITING).stdout.split() == ["True", "False"]


def interrupted_at(number: int, ask: Callable[[TokenSource], object]) -> str:
    """Raise after one of our calls, as a signal handler does; return the traceback with local variables."""

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "c_return" and frame.f_globals["__name__"].startswith("webex_loopback.") and next(calls) == number:
            raise KeyboardInterrupt

    calls = itertools.count()
    source = TokenSource()
    sys.setprofile(interrupt)
    try:
        ask(source)
    except KeyboardInterrupt as error:
        sys.setprofile(None)
        return with_locals(error)
    finally:
        sys.setprofile(None)
    return ""


ASK: list[Callable[[TokenSource], object]] = [
    TokenSource.get_token,
    lambda source: source.refresh(rejected="another"),
    TokenSource.stored,
]


@pytest.mark.parametrize(("indent", "ask"), [(2, ASK[0]), *((1, ask) for ask in ASK)])
def test_an_exception_of_a_signal_handler_shows_no_secret(
    indent: int, ask: Callable[[TokenSource], object], saved: StoredToken, store: FileTokenStore
) -> None:
    path = Path(store.path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=indent) + "\n")
    tracebacks = list(itertools.takewhile(bool, (interrupted_at(number, ask) for number in range(1000))))
    assert len(tracebacks) > 30
    assert [text for text in tracebacks if "-token-one" in text] == []


def test_an_error_that_is_raised_again_ends_no_generator_that_has_caught_it(monkeypatch: Patch) -> None:
    error = TokenStoreError("It is down.", problem="unavailable")
    source = TokenSource(store=MemoryTokenStore())
    monkeypatch.setattr(source.store, "load", Mock(side_effect=error))

    def errors() -> Iterator[WebexLoopbackError]:
        while True:
            try:
                source.get_token()
            except WebexLoopbackError as caught:
                yield caught

    one, other = errors(), errors()
    assert [next(one), next(other), next(one)] == [error] * 3
