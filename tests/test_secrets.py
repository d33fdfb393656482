"""Only the token file holds a secret: not a log, a page, a process list, another file, a traceback with locals."""

import io
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.traceback import Traceback

from webex_loopback import source
from webex_loopback.auth import RequestsAuth, WebexAuth
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.login import log_in
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.settings import load
from webex_loopback.source import TokenSource
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

BROWSER = """
import os, sys
from webex_loopback.sandbox import Person
record = open(os.environ["RECORD"], "a")
for entry in ("cmdline", "environ"):
    record.write(open(f"/proc/self/{entry}").read().replace("\\0", "\\n"))
visit = Person(decision=os.environ.get("DECISION", "allow")).visit(sys.argv[1])
record.write(visit.body + repr(visit) + str(dict(visit.headers)) + visit.url)
"""

REFRESH_FAULTS = ["500", "503", "429:rand(30),add(30)", "html", "reset", "reset_body", "truncated", "empty400", "huge"]


class Watch:
    """Notes the command line of every process, and the environment of ours, many times a second."""

    def __init__(self) -> None:
        self.text: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.text.add(entry.read_bytes().decode(errors="replace"))
                except OSError:
                    continue


@pytest.fixture
def environ(tmp_path: Path, redirect_uri: str) -> dict[str, str]:
    browser = tmp_path / "browser.py"
    browser.write_text(BROWSER)
    return os.environ | {
        "PYTHONDEVMODE": "1",
        "PYTHONASYNCIODEBUG": "1",
        "BROWSER": f"{sys.executable} {browser} %s",
        "RECORD": str(tmp_path / "record"),
    }


def leaks(sandbox: Sandbox, text: str) -> list[str]:
    return [f"a secret of {len(secret)} characters" for secret in sandbox.secrets if secret and secret in text]


def test_a_whole_life_at_the_most_verbose_level_leaks_nothing(
    sandbox: Sandbox, environ: dict[str, str], tmp_path: Path, store: FileTokenStore
) -> None:
    said: list[str] = []

    def command(*arguments: str, answer: bool = False, **others: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "webex_loopback", "--debug", *arguments],
            env=environ | others,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said.append(done.stderr + ("" if answer else done.stdout))
        return done.returncode

    with Watch() as watch:
        assert command("login", DECISION="decline") == 4
        for fault in ("500", "html", "truncated", "empty400", "reset"):
            sandbox.switches.faults = [fault] * 3
            assert command("login") == 5
        sandbox.switches.faults = []
        assert command("login", WEBEX_CLIENT_SECRET="f" * 64) == 5
        assert command("login") == 0
        assert command("token", answer=True) == 0
        for arguments in (["status"], ["status", "--json"], ["status", "--all"], ["whoami"], ["doctor"], ["refresh"]):
            assert command(*arguments) == 0, arguments
        assert command("login") == 0
        sandbox.switches.dead_refresh_token = "invalid_request"
        assert command("refresh") == 3
        sandbox.switches.dead_refresh_token = ""
        assert command("exec", "--", "true") == 0
        files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
        said.extend(path.read_bytes().decode(errors="replace") for path in files if str(path) != store.path)
        assert command("logout", "--revoke") == 0
    said.append((tmp_path / "record").read_text())
    said.extend(watch.text)
    assert len(sandbox.secrets) > 20
    # The client secret is in the environment of these processes because this test puts it there.
    assert [found for text in said for found in leaks(sandbox, text)] == []


@pytest.fixture
def failures(
    sandbox: Sandbox,
    logged_in: StoredToken,
    make_due: Callable[..., StoredToken],
    store: FileTokenStore,
    tmp_path: Path,
) -> list[Callable[[], object]]:
    """Everything that can fail with a token in hand, each to be called."""

    def refresh_with(fault: str) -> Callable[[], object]:
        def call() -> object:
            sandbox.switches.faults = [fault] * 3
            make_due()
            return TokenSource().get_token()

        return call

    def dead() -> object:
        sandbox.switches.faults = []
        sandbox.switches.dead_refresh_token = "401"
        make_due()
        return source.get_token()

    def rejected() -> object:
        token = make_due(left=3600).access_token.get_secret_value()
        source.forget()
        return TokenSource().refresh(rejected=token)

    def login() -> object:
        sandbox.switches.faults = ["500"]
        return log_in(force=True, open_browser=Person().visit)

    def by_httpx() -> object:
        import httpx

        make_due()
        with httpx.Client(auth=WebexAuth(), trust_env=False) as client:
            return client.get(f"{sandbox.base_url}/people/me")

    def by_requests() -> object:
        import requests

        make_due()
        return requests.get(f"{sandbox.base_url}/people/me", auth=RequestsAuth(), timeout=5)

    def load_with(spoilt: bytes) -> Callable[[], object]:
        def call() -> object:
            other = FileTokenStore(str(tmp_path / "other.json"))
            Path(other.path).write_bytes(spoilt)
            os.chmod(other.path, 0o600)
            return other.load()

        return call

    def save() -> object:
        FileTokenStore(str(tmp_path / "state")).save(logged_in)  # no file can be put in a folder's place
        return None

    whole = logged_in.to_json()
    spoilt = [whole[:-3], whole.replace(b'"version": 1', b'"version": 2'), whole.replace(b'"issued_at"', b'"issued"')]
    calls = [*map(refresh_with, REFRESH_FAULTS), login, dead, rejected, by_httpx, by_requests]
    return [*map(load_with, spoilt), save, *calls]


def test_a_traceback_with_locals_shows_no_secret(sandbox: Sandbox, failures: list[Callable[[], object]]) -> None:
    seen = set()
    for fail in failures:
        try:
            fail()
        except WebexLoopbackError as error:
            seen.add(type(error).__name__)
            out = io.StringIO()
            here = Path(__file__).name
            whole = {"show_locals": True, "locals_max_length": 500, "locals_max_string": 100_000}
            frames = Traceback.from_exception(type(error), error, error.__traceback__, **whole)  # type: ignore[arg-type]
            for stack in frames.trace.stacks:  # this file's own frames may hold what they like
                stack.frames = [frame for frame in stack.frames if here not in frame.filename]
            Console(file=out, width=4000).print(frames)
            assert "locals" in out.getvalue()
            assert leaks(sandbox, re.sub(r"\s+", "", out.getvalue())) == [], fail
        else:
            pytest.fail(f"{fail} did not fail")
    assert {"LoginRequired", "ServerUnreachable", "TokenEndpointError", "TokenStoreError"} <= seen


def test_reprs_dumps_and_pickles_hold_no_secret(sandbox: Sandbox, logged_in: StoredToken) -> None:
    things = [logged_in, load(), TokenSource()]
    text = "".join(f"{thing!r} {thing}" for thing in things)
    text += (
        str(logged_in.model_dump()) + logged_in.model_dump_json() + str(load().model_dump()) + load().model_dump_json()
    )
    assert leaks(sandbox, text) == []
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(logged_in)


def test_a_warning_about_a_failed_refresh_names_no_secret(
    sandbox: Sandbox, logged_in: StoredToken, make_due: Callable[..., StoredToken], caplog: pytest.LogCaptureFixture
) -> None:
    make_due(left=600)
    sandbox.switches.fault = "503"
    began = time.monotonic()
    assert source.get_token() == logged_in.access_token.get_secret_value()
    assert time.monotonic() - began < 30
    assert "could not be refreshed" in caplog.text
    assert leaks(sandbox, caplog.text) == []
