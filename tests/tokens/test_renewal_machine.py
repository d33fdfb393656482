"""Renewal as a state machine: several sources and processes, one login, a server that punishes mistakes, and faults.

The server rotates refresh tokens and revokes the whole login if one is used twice. Whatever happens, the login must
still be alive at the end, and a valid access token must be handed out within five seconds.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

if sys.platform == "win32":
    pytest.skip("signals and fork servers as POSIX has them", allow_module_level=True)

from tests.conftest import Log, Patch
from tests.programs.renewing import PAUSES, Renewing
from tests.sandbox.conftest import Client
from webex_loopback import TokenSource
from webex_loopback.errors import LoginRequired, WebexLoopbackError
from webex_loopback.oauth.token_response import TokenResponse
from webex_loopback.sandbox import CLIENT_ID, CLIENT_SECRET, Sandbox
from webex_loopback.secret import Secret
from webex_loopback.tokens import decision, renewal, transaction
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .conftest import ask_again, failing

pytestmark = pytest.mark.fuzz
STEPS = int(os.environ.get("FUZZ_EXAMPLES", "150"))
DAY = 86_400

FAULTS = [
    "error:400:temporarily_unavailable", "error:401:server_error", "error:400:invalid_scope", "error:400:slow_down",
    "error:401:invalid_client", "error:404:unsupported_grant_type", "error:500:invalid_grant", "gateway401",
    "empty400", "429", "500", "502", "503:0", "504", "html", "html:407", "reset", "redirect:http://127.0.0.1:9/",
    "slow:0.2",
]  # fmt: skip
AGES = st.sampled_from([0, 3301, 3601])  # how much older the token gets first: not at all, due, expired
WHO = st.integers(0, 1)  # of two
DISK_CALLS = st.sampled_from(["fsync", "replace", "unlink", "open"])
DISK_ERRORS = st.sampled_from([errno.ENOSPC, errno.EBUSY, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])

seen: Counter[str] = Counter()


class World(RuleBasedStateMachine):
    """One login, used by two sources of this process and two other processes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="webex-loopback-machine-")
        self.servers_time = self.our_time = 0.0
        self.sandbox = Sandbox(clock=lambda: time.time() + self.servers_time)
        self.sandbox.start()
        self.sandbox.switches.update({"rotation": True, "expires_in": 3600, "latency": 0.02})
        self.store = FileTokenStore(os.path.join(self.folder, "tokens", "default.json"))
        self.sources = [TokenSource(store=FileTokenStore(self.store.path), clock=self.now) for _ in range(2)]
        self.processes: list[Renewing | None] = [None, None]
        self.doubtful: set[str] = set()  # issued before the clock was set

    def now(self) -> float:
        return time.time() + self.our_time

    @initialize()
    def log_in(self) -> None:
        """Get tokens from the sandbox as a login does, and store them."""
        self.repair_server()
        with (client := Client(self.sandbox)).http:
            response = TokenResponse.from_json(json.dumps(client.login()).encode())
        base = self.sandbox.base_url
        fields: Any = {"client_id": CLIENT_ID, "token_url": f"{base}/access_token", "api_base_url": base}
        secret = Secret(CLIENT_SECRET)
        with self.store.lock():
            self.store.save(StoredToken.from_response(response, now=self.now(), client_secret=secret, **fields))

    @rule(who=WHO, age=AGES)
    def ask_here(self, who: int, age: float = 0) -> None:
        """Ask a source of this process."""
        self.pass_time(age)
        before, began = self.store.load(), time.monotonic()
        try:
            answer = "token", ask_again(self.sources[who])
        except WebexLoopbackError as error:
            answer = type(error).__name__, str(error)
        self.judge(before, began, *answer)

    @rule(who=WHO, age=AGES, ring=st.booleans(), after=st.floats(0, 0.05))
    def ask_elsewhere(self, who: int, age: float, ring: bool, after: float) -> None:
        """Ask another process, and perhaps interrupt it by a signal whose handler raises."""
        self.pass_time(age)
        process, before, began = self.process(who), self.store.load(), time.monotonic()
        process.ask(self.our_time)
        if ring:
            time.sleep(after)
            process.ring()
        self.judge(before, began, *process.answer())

    @rule(age=AGES)
    def ask_everywhere(self, age: float) -> None:
        """Ask both processes and this one at the same time."""
        self.pass_time(age)
        before, began = self.store.load(), time.monotonic()
        asked = [self.process(who) for who in (0, 1)]
        for process in asked:
            process.ask(self.our_time)
        self.ask_here(0)
        for process in asked:
            self.judge(before, began, *process.answer())

    @rule(who=WHO, age=AGES, after=st.floats(0, 0.05))
    def kill(self, who: int, age: float, after: float) -> None:
        """Kill a process while it may be renewing."""
        self.pass_time(age)
        process = self.process(who)
        process.ask(self.our_time)
        time.sleep(after)
        process.kill()
        self.processes[who] = None
        time.sleep(0.05)  # the sandbox may still be processing its request
        if not self.is_stored():
            seen["killed between request and file"] += 1  # nothing can hold that
            self.log_in()

    @rule(who=WHO)
    def end(self, who: int) -> None:
        """End a process in the ordinary way."""
        process, self.processes[who] = self.processes[who], None
        if process is not None:
            process.end()

    @rule(who=WHO, age=AGES, call=DISK_CALLS, number=DISK_ERRORS, after=st.integers(0, 3))
    def ask_with_a_failing_disk(self, who: int, age: float, call: str, number: int, after: int) -> None:
        """Ask while the file system of this process refuses."""
        with failing(call, number, after=after, folder=self.folder):
            self.ask_here(who, age)

    @rule(fault=st.sampled_from(FAULTS))
    def break_server(self, fault: str) -> None:
        self.sandbox.switches.fault = fault

    @rule(who=WHO, chance=st.integers(0, 7))
    def ask_a_mute_server(self, who: int, chance: int) -> None:
        if chance == 0:  # it takes a second
            self.sandbox.switches.fault = "hang"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(renewal, "DEADLINE_SECONDS", 0.5)
                self.ask_here(who, 3601)
            self.repair_server()

    @rule()
    def repair_server(self) -> None:
        self.sandbox.switches.fault = ""

    @rule(seconds=st.sampled_from([1, 61.7, DAY]))
    def pass_time(self, seconds: float) -> None:
        self.our_time += seconds
        self.servers_time += seconds
        self.sandbox.switches.date_offset = -self.servers_time  # or each renewal would warn of a wrong clock

    @rule(seconds=st.sampled_from([-30, -7200, 7200, -400 * DAY, 400 * DAY]))
    def set_clock(self, seconds: float) -> None:
        """Set this machine's clock."""
        self.our_time += seconds
        self.doubtful = self.sandbox.secrets

    @rule()
    def check_alive(self) -> None:
        """Without faults, the login works: it has not been lost."""
        self.repair_server()
        self.pass_time(3601)
        source = TokenSource(store=FileTokenStore(self.store.path), clock=self.now)
        self.judge(self.store.load(), time.monotonic(), "token", source.get_token())
        assert self.sandbox.is_alive(source.refresh())

    @invariant()
    def the_current_refresh_token_is_stored_or_in_memory(self) -> None:
        assert self.is_stored() or transaction.unsaved

    def teardown(self) -> None:
        try:
            for who in (0, 1):
                self.end(who)
            for source in self.sources:  # what a failing disk has refused is saved by whoever asks next
                with contextlib.suppress(WebexLoopbackError):
                    ask_again(source)
            if self.store.load() is not None:
                self.check_alive()
            self.check_files()
            seen["renewals"] += self.sandbox.count("refresh_token", status=200)
            seen["requests"] += self.sandbox.count("refresh_token")
        finally:
            self.sandbox.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
            transaction.unsaved.clear()

    def judge(self, before: StoredToken | None, began: float, kind: str, value: str) -> None:
        """Check an answer: a good token in time if there is one, and LoginRequired only after a rejection."""
        seen[kind] += 1
        valid = before is not None and not before.expired(self.now())
        assert time.monotonic() - began < (5 if valid else 30)
        if kind == "token":
            assert value in self.sandbox.secrets
            assert value in self.doubtful or self.sandbox.is_alive(value)
        elif kind != "bell":
            assert not valid, value
            if kind == LoginRequired.__name__:  # an empty 400 is ambiguous, once the access token has expired
                assert self.sandbox.switches.fault == "empty400", value

    def check_files(self) -> None:
        """No secret is outside the token file."""
        directory = os.path.dirname(self.store.path)
        for name in os.listdir(directory):
            if name != "default.json":
                with open(os.path.join(directory, name), errors="replace") as file:
                    content = file.read()
                assert not any(secret in content for secret in self.sandbox.secrets)

    def is_stored(self) -> bool:
        with self.store.lock():  # a renewal that has outlived its caller ends first
            stored = self.store.load()
        token = None if stored is None else stored.refresh_token
        return token is not None and self.sandbox.is_alive(token.get_secret_value())

    def process(self, who: int) -> Renewing:
        process = self.processes[who]
        if process is None:
            process = self.processes[who] = Renewing(self.store.path)
        return process


def test_a_live_login_is_never_lost(monkeypatch: Patch, caplog: Log) -> None:
    monkeypatch.setattr(renewal, "OPTIONAL_SECONDS", 0.3)
    for pause in PAUSES:
        monkeypatch.setattr(decision, pause, 0.0)
    secrets: set[str] = set()

    class Watched(World):
        def teardown(self) -> None:
            super().teardown()
            secrets.update(self.sandbox.secrets)

    run_state_machine_as_test(
        Watched,
        settings=settings(
            max_examples=max(STEPS // 30, 5),
            stateful_step_count=30,
            deadline=None,
            derandomize=STEPS <= 150,
            phases=[Phase.generate],  # what depends on time does not shrink
            verbosity=Verbosity.verbose,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    print(dict(seen))
    assert seen["renewals"] > STEPS // 10
    assert not any(secret in caplog.text for secret in secrets)
