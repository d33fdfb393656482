"""The real command in real processes: what is said and saved, two at a time, and ended at any moment."""

import ctypes
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and browsers as POSIX has them"),
]

CAP_DAC_OVERRIDE = 1  # linux/capability.h
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
def browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Be `$BROWSER`: a person, in a process; return the file that gets what it was given, and where it ended."""

    def install(person: str = "") -> Path:
        path = tmp_path / "browser"
        path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys\n"
            "from webex_loopback.sandbox import Person\n"
            f"visit = Person({person}).visit(sys.argv[1])\n"
            "seen = {'argv': sys.argv, 'environ': dict(os.environ), 'url': visit.url, 'body': visit.body}\n"
            f"open({str(path)!r} + '.new', 'w').write(json.dumps(seen))\n"
            f"os.replace({str(path)!r} + '.new', {str(path)!r} + '.json')\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv("BROWSER", str(path))
        return Path(f"{path}.json")

    return install


def read_when_there(path: Path) -> dict[str, Any]:
    until = time.monotonic() + 15
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def assert_no_secrets(text: str, sandbox: Sandbox) -> None:
    assert [secret for secret in sandbox.secrets if secret in text] == []


# A login


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_the_first_login(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    monkeypatch: pytest.MonkeyPatch,
    debug: tuple[str, ...],
) -> None:
    seen_file = browser()
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN_OLD_SECRET", "of-another-program")
    told = start("login", *debug).end()
    assert ("httpcore" in told or "asyncio" in told) is bool(debug)
    assert "✓ Listening on http://127.0.0.1:" in told
    assert "Logged in as Alex Morgan <alex.morgan@example.com>." in told
    token = subprocess.run([*COMMAND, "token"], capture_output=True, text=True, timeout=30, check=True).stdout
    stored = store.load()
    assert stored is not None
    assert token == f"{stored.access_token.get_secret_value()}\n"
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600
    assert_no_secrets(told, sandbox)
    # Nothing of it is for the browser, nor for those who read the machine's process list.
    seen = read_when_there(seen_file)
    assert seen["argv"][1].startswith(redirect_uri.removesuffix("/callback") + "/start/")
    assert seen["argv"][1] not in told  # the URL that is printed is another one
    assert_no_secrets(json.dumps([seen["argv"], seen["environ"], seen["url"]]), sandbox)
    assert [name for name in seen["environ"] if "SECRET" in name] == []
    assert "You are logged in" in seen["body"]


def test_every_option_has_its_effect(
    start: Callable[..., Running], sandbox: Sandbox, free_port: Callable[[], int], tmp_path: Path
) -> None:
    uri = f"http://localhost:{free_port()}/there"
    sandbox.redirect_uris.append(uri)
    person = tmp_path / "person.py"
    person.write_text(
        "import sys\nfrom webex_loopback.sandbox import Person\n"
        "Person(email='hanako.yamada@example.com').visit(sys.argv[2])\n"
    )
    login = start(
        "login",
        *("--profile", "work"),
        *("--scopes", "spark:people_read,spark:rooms_read"),
        *("--redirect-uri", uri),
        *("--timeout", "20"),
        *("--browser", f"{sys.executable} {person} here %s"),
        *("--login-hint", "hanako.yamada@example.com"),
        *("--prompt", "select_account"),
        "--force",
    )
    told = login.end()
    assert "(20 s)" in told
    assert "Logged in as 山田 花子 <hanako.yamada@example.com>." in told
    stored = FileTokenStore(str(tmp_path / "data" / "tokens" / "work.json")).load()
    assert stored is not None
    assert stored.granted == ["spark:people_read", "spark:rooms_read"]
    authorize = next(request for request in sandbox.requests if request.path == "/v1/authorize")
    assert {"login_hint", "prompt"} < set(authorize.fields)


def test_without_a_browser_the_url_can_be_opened_by_hand(
    start: Callable[..., Running], redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = start("login", "--no-browser")
    url = login.wait_for(r"  (http://\S+/start/\S+)\n")[1]
    login.wait_for("ssh -L")
    Person().visit(url)
    assert "Logged in as" in login.end()


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.usefixtures("redirect_uri")
def test_streams_that_are_closed(closed: str) -> None:
    """As a program without a console has them (pythonw.exe, some daemons)."""
    command = [*COMMAND, "login", "--no-browser", "--timeout", "0.3"]
    done = subprocess.run(["/bin/sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, timeout=30)
    assert done.returncode == 4
    assert b"Traceback" not in done.stderr


# How it fails


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "told"),
    [
        ((), {"WEBEX_CLIENT_ID": ""}, 2, "WEBEX_CLIENT_ID"),
        (("--timeout", "0"), {}, 2, "timeout"),
        (("--redirect-uri", "http://192.0.2.1/callback"), {}, 2, "not on this machine"),
        ((), {"WEBEX_CA_BUNDLE": "/nowhere.pem"}, 2, "WEBEX_CA_BUNDLE"),
        ((), {"WEBEX_LOOPBACK_HOME": "/dev/null"}, 6, "/dev/null"),
    ],
)
def test_what_is_wrong_from_the_start(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    redirect_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    changes: dict[str, str],
    code: int,
    told: str,
) -> None:
    seen = browser()
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert told.lower() in start("login", *arguments).end(code).lower()
    assert not seen.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="drops a privilege of root's, as Linux divides them")
def test_a_directory_that_is_read_only(
    start: Callable[..., Running], browser: Callable[..., Path], redirect_uri: str, tmp_path: Path
) -> None:
    def drop() -> None:
        pr_capbset_drop = 24
        if os.geteuid() == 0:
            assert ctypes.CDLL(None).prctl(pr_capbset_drop, CAP_DAC_OVERRIDE, 0, 0, 0) == 0

    tokens = tmp_path / "data" / "tokens"
    tokens.mkdir(parents=True, mode=0o700)
    for name in ("default.json.lock", "default.json.login.lock"):  # from better days
        (tokens / name).touch(0o600)
    tokens.chmod(0o500)
    seen = browser()
    told = start("login", preexec=drop).end(6)
    tokens.chmod(0o700)
    assert "Permission denied" in told
    assert not seen.exists()


# Two at a time


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_second_login_goes_on_if_the_first_one_is_ended(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    end: signal.Signals,
) -> None:
    browser()
    first = start("login", "--no-browser")
    first.wait_for("/start/")
    second = start("login")
    second.wait_for("to finish")
    first.process.send_signal(end)
    assert "\nLogged in as" in second.end()
    assert first.process.wait(5) == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert sandbox.count("authorization_code") == 1


# Ended by a signal


@pytest.mark.parametrize("seed", range(8))
def test_a_signal_at_any_moment_leaves_the_truth(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    seed: int,
) -> None:
    """Tokens are saved and the login says so, or none are saved and it does not claim otherwise."""
    chance = random.Random(seed)
    number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    browser()
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
    assert port_is_free(urlsplit(redirect_uri).port or 0)
    left = {path.name for path in Path(store.path).parent.iterdir() if path.suffix != ".lock"}
    assert left == ({"default.json"} if stored else set())
    if stored is not None:
        token = subprocess.run([*COMMAND, "token"], capture_output=True, text=True, timeout=30, check=True).stdout
        assert token.strip() == stored.access_token.get_secret_value()


# A notebook


def test_a_notebook_shows_the_login(
    browser: Callable[..., Path], redirect_uri: str, store: FileTokenStore, tmp_path: Path
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    browser()
    cell = "from webex_loopback import log_in\nprint(log_in().how)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0]["outputs"]
    shown = "".join(output["text"] for output in outputs if output["name"] == "stderr")
    assert "Log in to Webex at this URL:" in shown
    assert "Saved the tokens" in shown
    assert "browser\n" in [output["text"] for output in outputs if output["name"] == "stdout"]
    assert store.load() is not None


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
