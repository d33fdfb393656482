"""The real command in real processes: what is said and saved, two at a time, and ended at any moment."""

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.login.visitors import can_bind
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and browsers as POSIX has them"),
]

COMMAND = [sys.executable, "-m", "webex_loopback"]


class Running:
    """The command in a process of its own, without a terminal."""

    def __init__(self, *arguments: str, preexec: Callable[[], None] | None = None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=preexec,
        )
        self.told = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until standard error has it."""
        until = time.monotonic() + 20
        while not (match := re.search(pattern, self.told)):
            assert time.monotonic() < until, self.told
            assert self.process.poll() is None, self.told
            time.sleep(0.02)
        return match

    def end(self, *codes: int, within: float = 30) -> str:
        """Wait for the end; return what standard error got."""
        try:
            assert self.process.wait(within) in (codes or (0,)), self.told
        finally:
            self.close()
        if "ignored due to race condition" not in self.told:  # CPython's, for a signal while handlers are restored
            assert "Traceback" not in self.told
        return self.told

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start the command; none is left when the test is over."""
    running: list[Running] = []

    def start(*arguments: str, **options: Any) -> Running:
        running.append(Running(*arguments, **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be `$BROWSER`: a person, in a process; return the file that gets its command line and environment."""
    path, seen = tmp_path / "browser", tmp_path / "seen"
    path.write_text(
        f"#!{sys.executable}\nimport os, pathlib, sys\nfrom webex_loopback.sandbox import Person\n"
        f"pathlib.Path({str(seen)!r}).write_text(repr([sys.argv, dict(os.environ)]))\nPerson().visit(sys.argv[1])\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(path))
    return seen


# A login


def test_the_browsers_command_line_and_environment_have_no_secret_and_no_printed_url(
    start: Callable[..., Running], browser: Path, sandbox: Sandbox, redirect_uri: str
) -> None:
    told = start("login").end()
    assert "Logged in as Alex Morgan" in told
    seen = browser.read_text()
    assert [secret for secret in sandbox.secrets if secret in seen + told] == []
    opened = re.search(re.escape(redirect_uri.removesuffix("/callback")) + r"/start/\w+", seen)
    assert opened is not None
    assert opened[0] not in told  # the URL that is printed is another one


@pytest.mark.usefixtures("redirect_uri")
def test_every_option_has_its_effect(
    start: Callable[..., Running], sandbox: Sandbox, free_port: Callable[[], int], tmp_path: Path
) -> None:
    uri, email = f"http://localhost:{free_port()}/there", "hanako.yamada@example.com"
    sandbox.redirect_uris.append(uri)
    person = tmp_path / "person.py"
    person.write_text(
        f"import sys\nfrom webex_loopback.sandbox import Person\nPerson(email={email!r}).visit(sys.argv[2])\n"
    )
    options = f"-p work --scopes spark:people_read,spark:rooms_read --redirect-uri {uri} --timeout 20"
    options += f" --login-hint {email} --prompt select_account --force --browser"
    told = start("login", *options.split(), f"{sys.executable} {person} here %s").end()
    assert "(20 s)" in told
    assert "Logged in as 山田 花子" in told
    stored = FileTokenStore(str(tmp_path / "data" / "tokens" / "work.json")).load()
    assert stored is not None
    assert stored.granted == ["spark:people_read", "spark:rooms_read"]
    authorize = next(request for request in sandbox.requests if request.path == "/v1/authorize")
    assert {"login_hint", "prompt"} < set(authorize.fields)


# Two at a time


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_second_login_goes_on_if_the_first_one_is_ended(
    start: Callable[..., Running],
    sandbox: Sandbox,
    redirect_uri: str,
    end: signal.Signals,
) -> None:
    first = start("login", "--no-browser")
    first.wait_for("/start/")
    second = start("login")
    second.wait_for("to finish")
    first.process.send_signal(end)
    assert "\nLogged in as" in second.end()
    assert first.process.wait(5) == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert sandbox.count("authorization_code") == 1


# Ended by a signal


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("seed", range(4))
def test_a_signal_at_any_moment_leaves_the_truth(
    start: Callable[..., Running],
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    seed: int,
) -> None:
    """Tokens are saved and the login says so, or none are saved and it does not claim otherwise."""
    chance = random.Random(seed)
    number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    sandbox.switches.latency = 0.3
    login = start("login")
    login.wait_for("/start/")
    time.sleep(chance.random() * 2.5)
    login.process.send_signal(number)
    # Ended by the signal itself: while the interpreter exits, or in an exec() of an import (CPython's doing).
    told = login.end(0, 130, 128 + number, -number, -signal.SIGINT)
    stored, code = store.load(), login.process.returncode
    says_saved = "Saved the tokens" in told or "is logged in." in told
    assert says_saved is (stored is not None), told
    if stored is None:
        assert code != 0
    assert can_bind(redirect_uri)
    left = {path.name for path in Path(store.path).parent.iterdir() if path.suffix != ".lock"}
    assert left == ({"default.json"} if stored else set())
    if stored is not None:
        token = subprocess.run([*COMMAND, "token"], capture_output=True, text=True, timeout=30, check=True).stdout
        assert token.strip() == stored.access_token.get_secret_value()


# A notebook


def test_a_notebook_without_a_browser_can_be_pasted_into(
    redirect_uri: str, sandbox: Sandbox, store: FileTokenStore
) -> None:
    """A remote kernel: the redirect does not reach it, and the input box asks for the URL."""
    manager = pytest.importorskip("jupyter_client.manager")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    told: list[str] = []

    def output(message: dict[str, Any]) -> None:
        told.append(str(message["content"].get("text", "")))

    def stdin(message: dict[str, Any]) -> None:
        assert message["content"]["password"]  # the notebook does not show, nor save, what is pasted
        url = re.search(r"  (http\S+/v1/authorize\S+)", "".join(told))
        assert url is not None
        client.input(Person().visit(url[1]).url)

    try:
        client.execute_interactive(
            "from webex_loopback import log_in\nprint(log_in(open_browser=False).how)",
            allow_stdin=True,
            stdin_hook=stdin,
            output_hook=output,
            timeout=60,
        )
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert "pasted\n" in "".join(told)
    assert store.load() is not None
