"""The real command in real processes: what is said and saved, two at a time, and ended at any moment."""

import contextlib
import io
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.login.visitors import can_bind
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore

popen_spawn = pytest.importorskip("pexpect.popen_spawn", reason="pexpect is for POSIX, as the signals are")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "webex_loopback"]


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Start the command without a terminal; none is left when the test is over."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Any:
            running = popen_spawn.PopenSpawn([*COMMAND, *arguments], timeout=30, encoding="utf-8")
            running.logfile_read = io.StringIO()
            stack.enter_context(running.proc)
            stack.callback(running.proc.kill)
            return running

        yield start


def end(running: Any, *codes: int) -> str:
    """Wait for the end; return what was printed."""
    running.expect(popen_spawn.EOF)
    told: str = running.logfile_read.getvalue()
    assert running.proc.wait(10) in (codes or (0,)), told
    if "ignored due to race condition" not in told:  # CPython's, for a signal while handlers are restored
        assert "Traceback" not in told
    return told


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be `$BROWSER`: a person, in a process, that leaves its command line and environment in a file named `seen`."""
    path = tmp_path / "browser"
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\nfrom webex_loopback.sandbox import Person\n"
        f"print(sys.argv, dict(os.environ), file=open({str(tmp_path / 'seen')!r}, 'w'))\n"
        "Person(*sys.argv[1:-1]).visit(sys.argv[-1])\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(path))
    return path


def test_every_option_has_its_effect_and_the_browser_is_told_no_secret_and_no_printed_url(
    start: Callable[..., Any], browser: Path, sandbox: Sandbox, free_port: Callable[[], int], tmp_path: Path
) -> None:
    uri, email = f"http://localhost:{free_port()}/there", "hanako.yamada@example.com"
    sandbox.redirect_uris.append(uri)
    options = f"-p work --scopes spark:people_read,spark:rooms_read --redirect-uri {uri} --timeout 20"
    options += f" --login-hint {email} --prompt select_account --force --browser"
    told = end(start("login", *options.split(), f"{browser} {email} %s"))
    assert "(20 s)" in told
    assert "Logged in as 山田 花子" in told
    stored = FileTokenStore(str(tmp_path / "data" / "tokens" / "work.json")).load()
    assert stored is not None
    assert stored.granted == ["spark:people_read", "spark:rooms_read"]
    authorize = next(request for request in sandbox.requests if request.path == "/v1/authorize")
    assert {"login_hint", "prompt"} < set(authorize.fields)
    seen = browser.with_name("seen").read_text()
    assert [secret for secret in sandbox.secrets if secret in seen + told] == []
    opened = re.search(re.escape(uri.removesuffix("/there")) + r"/start/\w+", seen)
    assert opened is not None
    assert opened[0] not in told  # the URL that is printed is another one


# Two at a time


@pytest.mark.usefixtures("browser", "redirect_uri")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_second_login_continues_if_the_first_one_is_killed(
    start: Callable[..., Any], sandbox: Sandbox, number: signal.Signals
) -> None:
    first = start("login", "--no-browser")
    first.expect("/start/")
    second = start("login")
    second.expect("to finish")
    first.proc.send_signal(number)
    assert "\nLogged in as" in end(second)
    end(first, 130 if number == signal.SIGINT else -signal.SIGKILL)
    assert sandbox.count("authorization_code") == 1


# Ended by a signal


@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize("seed", range(4))
def test_after_a_signal_at_any_moment_the_message_is_true(
    start: Callable[..., Any], sandbox: Sandbox, redirect_uri: str, store: FileTokenStore, seed: int
) -> None:
    """Tokens are saved and the login says so, or none are saved and it does not claim otherwise."""
    chance = random.Random(seed)
    number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    sandbox.switches.latency = 0.3
    login = start("login")
    login.expect("/start/")
    time.sleep(chance.random() * 2.5)
    login.proc.send_signal(number)
    # Ended by the signal itself: while the interpreter exits, or in an exec() of an import (CPython's doing).
    told = end(login, 0, 130, 128 + number, -number, -signal.SIGINT)
    stored, code = store.load(), login.proc.returncode
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
