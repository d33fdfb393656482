"""`get_token()`: its four rules, walked; what it loads; what it notices."""

import asyncio
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from webex_loopback import TokenSource, aget_token, get_token, oauth, source
from webex_loopback.errors import (
    ConfigurationError,
    LoginRequired,
    ServerUnreachable,
    TokenEndpointError,
    TokenStoreError,
    WebexLoopbackError,
)
from webex_loopback.login import log_in, log_out
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.source import quick_look
from webex_loopback.store import FileTokenStore, MemoryTokenStore
from webex_loopback.token import StoredToken

MakeToken = Callable[..., StoredToken]
DAY = 86_400


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def python(program: str, *arguments: str, **environ: str) -> str:
    """Run a program in a fresh interpreter; return what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=dict(os.environ) | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(autouse=True)
def no_pause_between_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "_PAUSES", (0.0, 0.0))


# The four rules


def test_rule_1_a_token_that_is_not_due_is_read_from_the_file(
    sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore
) -> None:
    requests = len(sandbox.requests)
    os.unlink(store.lock_path)
    with FileTokenStore(f"{store.path}x").lock():
        assert get_token() == get_token() == logged_in.access_token.get_secret_value()
    assert not os.path.exists(store.lock_path), "no lock is taken"
    assert len(sandbox.requests) == requests


def test_rule_1_holds_while_somebody_has_the_lock(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    with store.lock():
        assert get_token() == "access-token-one"


def test_rule_2_the_file_is_read_again_under_the_lock(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore, make_token: MakeToken
) -> None:
    make_due()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(get_token()))
    with store.lock():
        thread.start()
        time.sleep(0.2)
        assert not found
        store.save(make_token("of-another-process"))
    thread.join(10)
    assert found == ["of-another-process"]
    assert sandbox.count("refresh_token") == 0


def test_rule_3_it_is_refreshed_saved_and_returned(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    token = get_token()
    saved = store.load()
    assert saved is not None
    assert token == saved.access_token.get_secret_value() != logged_in.access_token.get_secret_value()
    assert sandbox.count("refresh_token") == 1
    assert saved.account == logged_in.account
    with FileTokenStore(store.path, lock_timeout_seconds=0).lock():
        pass  # it was released


@pytest.mark.parametrize("fault", ["503", "429:30", "reset", "html", "truncated"])
def test_rule_3_a_failure_that_may_pass_does_not_cost_a_token_that_works(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: MakeToken,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    due = make_due(left=3_600)
    sandbox.switches.fault = fault
    assert get_token() == due.access_token.get_secret_value()
    assert "could not be refreshed" in caplog.text
    assert "60 minutes" in caplog.text


def test_rule_3_without_time_left_the_failure_is_raised(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken
) -> None:
    make_due()
    sandbox.switches.fault = "503"
    with pytest.raises(TokenEndpointError, match="503"):
        get_token()
    sandbox.stop()
    source.forget()
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        get_token()


def test_rule_4_nobody_is_logged_in(store: FileTokenStore) -> None:
    with pytest.raises(LoginRequired, match="Nobody is logged in") as caught:
        get_token()
    assert store.path in str(caught.value)
    assert "`webex-loopback login`" in caught.value.remedy
    with pytest.raises(LoginRequired) as caught:
        get_token("admin")
    assert "`webex-loopback login --profile admin`" in caught.value.remedy


def test_rule_4_the_refresh_token_is_refused(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    make_due()
    before = Path(store.path).read_bytes()
    sandbox.switches.dead_refresh_token = "invalid_request"
    for _ in range(2):
        with pytest.raises(LoginRequired, match="refused") as caught:
            get_token()
        assert "webex-loopback login" in caught.value.remedy
    assert Path(store.path).read_bytes() == before
    assert sandbox.count("refresh_token") == 1, "the same refresh token is not tried twice"


def test_rule_4_the_refresh_token_has_run_out(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    store.save(make_due().model_copy(update={"refresh_token_expires_at": int(time.time()) - 1}))
    with pytest.raises(LoginRequired, match="run out"):
        get_token()
    assert sandbox.count("refresh_token") == 0


def test_rule_4_there_is_no_refresh_token(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token(refresh_token=None, age=100, expires_in=101))
    assert get_token() == "access-token-one", "used to its end"
    store.save(make_token(refresh_token=None, age=100, expires_in=99))
    source.forget()
    with pytest.raises(LoginRequired, match="no refresh token"):
        get_token()


def test_rule_4_a_browser_is_opened_only_when_asked_for(
    sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    came = tmp_path / "came"
    visitor = tmp_path / "visitor"
    visitor.write_text(
        f"#!{sys.executable}\nimport sys\nfrom webex_loopback.sandbox import Person\n"
        f"open({str(came)!r}, 'w').close()\nPerson().visit(sys.argv[1])\n"
    )
    visitor.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(visitor))
    with pytest.raises(LoginRequired):
        get_token()
    with pytest.raises(LoginRequired):
        asyncio.run(aget_token())
    with pytest.raises(LoginRequired):
        TokenSource(store=MemoryTokenStore()).get_token(interactive=True)  # a login would not reach that store
    assert not came.exists()
    token = get_token(interactive=True)
    assert came.exists()
    assert get_token() == token


# WEBEX_ACCESS_TOKEN


def test_a_token_in_the_environment_comes_first(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make_token())
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "of-a-bot\r\n")
    assert get_token() == "of-a-bot"
    assert TokenSource().from_environment() == "environment"
    assert get_token("default") == "access-token-one", "a profile that is named wins"
    assert TokenSource(store=store).get_token() == "access-token-one"


def test_a_token_in_the_settings_file_comes_first(
    store: FileTokenStore, make_token: MakeToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make_token())
    settings = tmp_path / "state" / "config.env"
    settings.write_text("# WEBEX_ACCESS_TOKEN=no\nWEBEX_CLIENT_ID=x\nwebex_access_token = 'of-a-bot'\n")
    assert get_token() == "of-a-bot"
    assert TokenSource().from_environment() == str(settings)
    assert get_token("default") == "access-token-one"
    settings.write_text("WEBEX_ACCESS_TOKEN=of-a-bot\n")
    source.forget()
    assert get_token() == "of-a-bot"
    settings.write_text("# WEBEX_ACCESS_TOKEN=no\n")
    source.forget()
    assert get_token() == "access-token-one"
    assert TokenSource().from_environment() == ""


@pytest.mark.parametrize("content", [b"\xff\xfe WEBEX_ACCESS_TOKEN", b"WEBEX_ACCESS_TOKEN=\nWEBEX_LOGIN_TIMEOUT=soon"])
def test_settings_that_are_wrong_do_not_stop_a_stored_token(
    store: FileTokenStore, make_token: MakeToken, tmp_path: Path, content: bytes
) -> None:
    store.save(make_token())
    (tmp_path / "work" / "config.env").write_bytes(content)
    assert get_token() == "access-token-one"


def test_a_token_in_the_environment_cannot_be_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "of-a-bot")
    with pytest.raises(LoginRequired, match="WEBEX_ACCESS_TOKEN"):
        TokenSource().refresh()
    assert TokenSource().refresh(rejected="of-a-bot") == "of-a-bot"


def test_a_profile_name_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError):
        get_token("../etc/passwd")
    monkeypatch.setenv("WEBEX_PROFILE", "a/b")
    with pytest.raises(ConfigurationError):
        get_token()


# What the cached path costs

MODULES = "import sys; print(*sorted(sys.modules))"
TAKE = "from webex_loopback import get_token; token = get_token(); assert token == 'access-token-one'; "


@pytest.mark.parametrize("settings", ["", "WEBEX_CLIENT_ID=x\n# WEBEX_ACCESS_TOKEN=\n  #WEBEX_ACCESS_TOKEN=x\n"])
def test_a_valid_token_loads_four_modules(
    store: FileTokenStore, make_token: MakeToken, tmp_path: Path, settings: str
) -> None:
    store.save(make_token())
    (tmp_path / "state" / "config.env").write_text(settings)
    bare = set(python(MODULES).split())
    loaded = set(python(TAKE + MODULES).split()) - bare
    assert loaded == {"webex_loopback", "webex_loopback.source", "webex_loopback.paths", "webex_loopback.errors"}


def test_so_does_one_in_the_environment() -> None:
    bare = set(python(MODULES).split())
    loaded = set(python(TAKE + MODULES, WEBEX_ACCESS_TOKEN="access-token-one").split()) - bare
    assert loaded == {"webex_loopback", "webex_loopback.source", "webex_loopback.paths", "webex_loopback.errors"}


def test_the_package_alone_loads_itself() -> None:
    loaded = set(python("import webex_loopback; " + MODULES).split()) - set(python(MODULES).split())
    assert loaded == {"webex_loopback"}


HOT = """
import os
from webex_loopback import get_token
get_token()
os.write(1, b"begin")
for _ in range(1000):
    get_token()
os.write(1, b"ended")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_thousand_calls_in_a_second_make_no_system_call(
    store: FileTokenStore, make_token: MakeToken, tmp_path: Path
) -> None:
    store.save(make_token())
    trace = tmp_path / "trace"
    run = subprocess.run(
        ["strace", "-o", str(trace), sys.executable, "-c", HOT], capture_output=True, timeout=30, check=False
    )
    if run.returncode:
        pytest.skip("strace is not permitted")
    lines = trace.read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if '"begin"' in line)
    assert '"ended"' in lines[begin + 1], lines[begin + 1 : begin + 5]


def test_within_a_second_neither_file_nor_environment_is_looked_at(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    store.save(make_token())
    one = TokenSource(clock=clock)
    one.get_token()
    looks: list[str] = []
    real_stat, real_open = os.stat, os.open

    def stat(*arguments: Any, **others: Any) -> os.stat_result:
        looks.append("stat")
        return real_stat(*arguments, **others)

    def opened(*arguments: Any, **others: Any) -> int:
        looks.append("open")
        return real_open(*arguments, **others)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "of-a-bot")
    clock.now += 0.99
    assert one.get_token() == "access-token-one"
    assert looks == []
    clock.now += 0.02
    assert one.get_token() == "of-a-bot"
    monkeypatch.delenv("WEBEX_ACCESS_TOKEN")
    clock.now += 0.99
    assert one.get_token() == "of-a-bot"
    clock.now += 0.02
    assert one.get_token() == "access-token-one"
    assert looks == ["stat"], "an unchanged file is not read again"


# What the quick look takes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version": 1,', b'"version": 2,'),
        (b"}\n", b""),
        (b"}\n", b"}"),
        (b'"refresh_at": ', b'"refresh_at": -'),
        (b'"refresh_at": ', b'"refresh_at": 1.'),
        (b'"refresh_at": ', b'"refresh_at": 100'),
        (b'"access_token": "', b'"access_token": "" , "access_token": "'),
        (b"\n}\n", b', "access_token": "another"\n}\n'),
        (b'"issued_at"', b'"client_id": "x", "issued_at"'),
        (b"access-token-one", b""),
        (b"access-token-one", b"access token"),
        (b"access-token-one", b"access\\u002dtoken"),
        (b"access-token-one", b"access\xc3\xa9"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_not_taken_at_a_glance(
    store: FileTokenStore, make_token: MakeToken, old: bytes, new: bytes
) -> None:
    store.save(make_token())
    file = Path(store.path)
    assert quick_look(store.path) is not None
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    assert quick_look(store.path) is None


def test_a_moment_of_twelve_digits_is_one(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token().model_copy(update={"refresh_at": 999_999_999_999}))
    looked = quick_look(store.path)
    assert looked is not None
    assert looked[1:] == (999_999_999_999, "access-token-one")


def test_the_quick_look_leaves_no_descriptor_behind(store: FileTokenStore, make_token: MakeToken) -> None:
    def next_descriptor() -> int:
        descriptor = os.open(store.path, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    store.save(make_token())
    before = next_descriptor()
    assert quick_look(store.path) is not None
    assert next_descriptor() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601])
def test_a_file_that_others_can_read_is_mended_first(
    store: FileTokenStore, make_token: MakeToken, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(make_token())
    os.chmod(store.path, mode)
    assert quick_look(store.path) is None
    assert get_token() == "access-token-one"
    assert os.stat(store.path).st_mode & 0o777 == 0o600
    assert "Others could read" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no user numbers")
def test_another_users_file_is_not_taken(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(make_token())
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert quick_look(store.path) is None
    with pytest.raises(TokenStoreError, match="another user"):
        get_token()


# What is noticed


def test_a_login_and_a_logout_elsewhere_are_noticed_after_a_second(
    store: FileTokenStore, make_token: MakeToken, clock: Clock
) -> None:
    store.save(make_token())
    one = TokenSource(clock=clock)
    assert one.get_token() == "access-token-one"
    store.save(make_token("of-another-login"))
    assert one.get_token() == "access-token-one"
    clock.now += 1.01
    assert one.get_token() == "of-another-login"
    store.delete()
    clock.now += 1.01
    with pytest.raises(LoginRequired):
        one.get_token()
    store.save(make_token())
    assert one.get_token() == "access-token-one", "after a failure it is looked at once more"


def test_a_task_gets_what_is_stored_by_then(store: FileTokenStore, make_token: MakeToken, clock: Clock) -> None:
    one = TokenSource(clock=clock)
    for token in ("access-token-one", "of-another-login"):
        store.save(make_token(token))
        clock.now += 1.01
        assert asyncio.run(one.aget_token()) == token


def test_another_profile_and_folder_are_noticed(
    store: FileTokenStore, make_token: MakeToken, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.save(make_token())
    FileTokenStore(str(tmp_path / "state" / "tokens" / "admin.json")).save(make_token("of-admin"))
    FileTokenStore(str(tmp_path / "other" / "tokens" / "admin.json")).save(make_token("of-the-other-folder"))
    one = TokenSource(clock=clock)
    assert one.get_token() == "access-token-one"
    for name, value, token in (
        ("WEBEX_PROFILE", "admin", "of-admin"),
        ("WEBEX_LOOPBACK_HOME", str(tmp_path / "other"), "of-the-other-folder"),
    ):
        monkeypatch.setenv(name, value)
        clock.now += 1.01
        assert one.get_token() == token


def test_a_clock_that_is_set_back_and_forth(store: FileTokenStore, make_token: MakeToken, clock: Clock) -> None:
    store.save(make_token())
    one = TokenSource(clock=clock)
    for step in (0, -10 * DAY, 5 * DAY, -3_600, 0.5, -0.5, 7_200):
        clock.now += step
        assert one.get_token() == "access-token-one"
    # Set back, memory is not good for as long as the clock takes to come again.
    clock.now -= 1_000
    store.save(make_token("of-another-login"))
    assert one.get_token() == "of-another-login"


def test_a_sleep_over_the_expiry(sandbox: Sandbox, logged_in: StoredToken, clock: Clock, store: FileTokenStore) -> None:
    one = TokenSource(clock=clock)
    assert one.get_token() == logged_in.access_token.get_secret_value()
    clock.now += 20 * DAY
    fresh = one.get_token()
    assert fresh != logged_in.access_token.get_secret_value()
    clock.now += 13 * DAY + 3_600
    assert one.get_token() != fresh
    assert sandbox.count("refresh_token") == 2


def test_memory_ends_with_the_token(store: FileTokenStore, make_token: MakeToken) -> None:
    """Half a second before it is due, memory is not trusted for a whole one."""
    clock = Clock()
    clock.now = float(int(clock.now))
    token = make_token(expires_in=3_600)
    store.save(token)
    one = TokenSource(clock=clock)
    clock.now = token.refresh_at - 0.5
    assert one.get_token() == "access-token-one"
    store.save(make_token("of-another-process"))
    clock.now = float(token.refresh_at)
    assert one.get_token() == "of-another-process"


# A refresh that is asked for


def test_a_forced_refresh_and_a_rejected_token(sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore) -> None:
    one = TokenSource()
    first = one.get_token()
    second = one.refresh()
    assert second != first
    assert one.get_token() == second
    assert sandbox.count("refresh_token") == 1
    assert one.refresh(rejected=first) == second, "another is stored by now"
    assert one.refresh(rejected=second) == second, "it is too young for a refresh to help"
    assert sandbox.count("refresh_token") == 1
    saved = store.load()
    assert saved is not None
    store.save(saved.model_copy(update={"issued_at": saved.issued_at - 290}))
    assert one.refresh(rejected=second) == second, "five minutes are not over"
    store.save(saved.model_copy(update={"issued_at": saved.issued_at - 301}))
    third = one.refresh(rejected=second)
    assert third != second
    assert sandbox.count("refresh_token") == 2


def test_a_rejected_token_is_not_answered_by_one_that_has_ended(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken
) -> None:
    due = make_due()
    assert TokenSource().refresh(rejected="an-older-one") != due.access_token.get_secret_value()
    assert sandbox.count("refresh_token") == 1


def test_a_forced_refresh_tells_of_its_failure(sandbox: Sandbox, logged_in: StoredToken) -> None:
    sandbox.switches.fault = "503"
    one = TokenSource()
    with pytest.raises(TokenEndpointError):
        one.refresh()
    assert one.get_token() == logged_in.access_token.get_secret_value()


def test_a_margin_of_ones_own(sandbox: Sandbox, logged_in: StoredToken, store: FileTokenStore) -> None:
    TokenSource(refresh_margin_seconds=3_600).refresh()
    saved = store.load()
    assert saved is not None
    assert saved.expires_at is not None
    assert saved.expires_at - saved.refresh_at == 3_600


def test_on_refresh_is_told_and_cannot_spoil_it(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def remember(token: StoredToken) -> None:
        told.append(token.access_token.get_secret_value())
        assert TokenSource().get_token() == told[0], "it is saved by now"
        assert one.get_token() == told[0], "and no lock is held"
        raise ZeroDivisionError

    make_due()
    one = TokenSource(on_refresh=remember)
    assert [one.get_token()] == told
    assert "on_refresh failed" in caplog.text
    assert not [secret for secret in sandbox.secrets if secret in caplog.text]


def test_an_http_client_of_ones_own(sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken) -> None:
    make_due()
    with httpx.Client(headers={"X-Mine": "1"}, trust_env=False) as client:
        TokenSource(http_client=client).get_token()
        assert not client.is_closed
    assert sandbox.count("refresh_token") == 1


def test_the_http_client_stays_when_the_profile_changes(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = make_token()
    store.save(token)
    FileTokenStore(str(tmp_path / "state" / "tokens" / "admin.json")).save(token)
    asked: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.content)
        return httpx.Response(200, json={"access_token": f"fresh-{len(asked)}", "expires_in": 3_600})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        one = TokenSource(http_client=client, clock=lambda: float(token.refresh_at))
        assert one.get_token() == "fresh-1", "it is due at this very moment"
        monkeypatch.setenv("WEBEX_PROFILE", "admin")
        one._hot = (0.0, 0.0, "")
        assert one.get_token() == "fresh-2"


def test_what_the_disk_refused_comes_before_what_it_holds(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store.save(make_token())
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"access_token": "fresh"}))
    with httpx.Client(transport=answer) as client, monkeypatch.context() as patch:
        patch.setattr(os, "replace", refused)
        one = TokenSource(http_client=client)
        assert one.refresh() == "fresh"
        assert one.get_token() == "fresh"
    one._hot = (0.0, 0.0, "")
    assert one.get_token() == TokenSource().get_token() == "fresh", "it is saved now"


def test_stored_is_the_record_as_it_is(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, store: FileTokenStore
) -> None:
    due = make_due()
    assert TokenSource().stored() == due
    assert sandbox.count("refresh_token") == 0
    log_out()
    assert TokenSource().stored() is None


def test_two_profiles_do_not_meet(sandbox: Sandbox, redirect_uri: str) -> None:
    tokens = {name: log_in(name, open_browser=Person().visit).token for name in ("one", "two")}
    for name, token in tokens.items():
        assert get_token(name) == token.access_token.get_secret_value()
    log_out("one")
    assert TokenSource("two").get_token()
    with pytest.raises(LoginRequired):
        TokenSource("one").get_token()


def test_a_source_travels_to_another_process_without_its_memory(store: FileTokenStore, make_token: MakeToken) -> None:
    store.save(make_token())
    one = TokenSource("default")
    one.get_token()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        travelled = pickle.dumps(one, protocol)
        assert b"token-one" not in travelled
        assert pickle.loads(travelled).get_token() == "access-token-one"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(TokenSource(store=store))
    assert "token-one" not in repr(one) + str(one)


def test_errors_show_no_secret_in_a_traceback_with_locals(
    sandbox: Sandbox, logged_in: StoredToken, make_due: MakeToken, caplog: pytest.LogCaptureFixture
) -> None:
    import traceback

    caplog.set_level(logging.DEBUG)
    make_due()
    for fault in ("reset", "hang", "503", "truncated", "html"):
        sandbox.switches.fault = fault
        one = TokenSource()
        if fault == "hang":
            sandbox.stop()
        with pytest.raises(WebexLoopbackError) as caught:
            one.refresh(rejected=logged_in.access_token.get_secret_value())
        if fault == "hang":
            sandbox.start()
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        # The frame of this very test holds the token as a record, whose repr does not show it.
        assert not [secret for secret in sandbox.secrets if secret in shown + caplog.text]


def test_memory_answers_from_its_beginning_until_its_end_and_no_error_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import traceback

    monkeypatch.setattr(source, "time", lambda: 100.0)
    one, default = TokenSource(clock=lambda: 100.0), source._sources.setdefault(None, TokenSource())
    calls: list[Callable[[], str]] = [get_token, one.get_token]
    calls += [lambda: asyncio.run(aget_token()), lambda: asyncio.run(one.aget_token())]
    for call in calls:
        one._hot = default._hot = (100.0, 101.0, "in-memory")
        assert call() == "in-memory"
        for begin in (99.0, 101.0):
            one._hot = default._hot = (begin, begin + 1, "in-memory")
            with pytest.raises(LoginRequired) as caught:
                call()
            one._hot = default._hot = (0.0, 0.0, "")
            shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
            assert "in-memory" not in shown


def test_a_store_that_fails_to_lock_does_not_cost_a_token_that_works(
    store: FileTokenStore, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEBEX_LOCK_DIR", "/dev/null/locks")
    store.save(make_token(expires_in=3_600, age=3_500))
    assert get_token() == "access-token-one"
    assert "could not be refreshed" in caplog.text
    store.save(make_token(expires_in=3_600, age=3_601))
    source.forget()
    with pytest.raises(TokenStoreError) as caught:
        get_token()
    assert "WEBEX_LOCK_DIR" in caught.value.remedy
