"""The real command in real processes: what it says and saves, two logins at a time, signals at any moment."""

import contextlib
import io
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Patch, Port, Store
from tests.journeys.attack import wait_until
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore

popen_spawn = pytest.importorskip("pexpect.popen_spawn", reason="pexpect is for POSIX, as the signals are")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Start the command without a terminal; none is left when the test is over."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Any:
            running = popen_spawn.PopenSpawn(
                [sys.executable, "-m", "webex_loopback", *arguments], timeout=30, encoding="utf-8"
            )
            running.logfile_read = io.StringIO()
            stack.enter_context(running.proc)
            stack.callback(running.proc.kill)
            return running

        yield start


def end(running: Any, code: int = 0) -> str:
    """Wait for the end; return what was printed."""
    running.expect(popen_spawn.EOF)
    told: str = running.logfile_read.getvalue()
    assert (running.proc.wait(10), "Traceback" in told) == (code, False), told
    return told


@pytest.fixture
def browser(monkeypatch: Patch, tmp_path: Path) -> Path:
    """A simulated user as `$BROWSER`, who writes the command line and environment to a file named `seen`."""
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
    start: Callable[..., Any], browser: Path, sandbox: Sandbox, free_port: Port, tmp_path: Path
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


@pytest.mark.usefixtures("browser", "redirect_uri")
def test_a_signal_during_the_exchange_waits_for_its_end_and_says_what_was_saved(
    start: Callable[..., Any], sandbox: Sandbox, store: Store
) -> None:
    sandbox.switches.answer_latency = 1
    login = start("login")
    wait_until(lambda: sandbox.count("authorization_code"), 30)
    login.proc.send_signal(signal.SIGTERM)
    assert "is logged in." in end(login, 128 + signal.SIGTERM)
    assert store.load() is not None


def test_a_remote_notebook_can_be_pasted_into(redirect_uri: str, sandbox: Sandbox, store: Store) -> None:
    """A remote kernel: the redirect does not reach it, and the input box asks for the URL."""
    manager = pytest.importorskip("jupyter_client.manager")
    told: list[str] = []

    def output(message: dict[str, Any]) -> None:
        told.append(str(message["content"].get("text", "")))

    def stdin(message: dict[str, Any]) -> None:
        assert message["content"]["password"]  # the notebook does not show, nor save, what is pasted
        (url,) = re.findall(r"  (http\S+/v1/authorize\S+)", "".join(told))
        client.input(Person().visit(url).url)

    hooks = {"allow_stdin": True, "stdin_hook": stdin, "output_hook": output, "timeout": 60}
    with manager.run_kernel(kernel_name="python3") as client:
        client.execute_interactive("from webex_loopback import log_in\nprint(log_in(open_browser=False).how)", **hooks)
    assert "pasted\n" in "".join(told)
    assert store.load() is not None
