"""The real command in real processes and terminals: what a person sees, what is left when it is over."""

import ctypes
import json
import os
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
from urllib.parse import parse_qs, urlsplit

import pexpect
import pytest
from test_login import Elsewhere

from webex_loopback.sandbox import Person, Sandbox, Visit
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals and signals as POSIX has them")

CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE = 1, 10  # linux/capability.h
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
        until = time.monotonic() + 15
        while not (match := re.search(pattern, self.told)):
            assert time.monotonic() < until, self.told
            assert self.process.poll() is None, self.told
            time.sleep(0.02)
        return match

    def end(self, code: int = 0, *, within: float = 15) -> str:
        """Wait for the end; return what standard error got."""
        try:
            assert self.process.wait(within) == code, self.told
        finally:
            self.process.kill()
            self._reader.join(5)
        assert self.process.stdout is not None
        with self.process.stdout, self.process.stderr:  # type: ignore[union-attr]
            assert self.process.stdout.read() == ""
        assert "Traceback" not in self.told
        return self.told


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start the command; none is left when the test is over."""
    running: list[Running] = []

    def start(*arguments: str, **options: Any) -> Running:
        running.append(Running(*arguments, **options))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdout, one.process.stderr):
            assert stream is not None
            one._reader.join(5)
            stream.close()


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
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def without(capability: int) -> Callable[[], None]:
    """Be root without one of its privileges, from the next exec on; nothing is changed for other users."""

    def drop() -> None:
        if os.geteuid() == 0:
            pr_capbset_drop = 24
            assert ctypes.CDLL(None).prctl(pr_capbset_drop, capability, 0, 0, 0) == 0

    return drop


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def assert_no_secrets(text: str, sandbox: Sandbox) -> None:
    assert [secret for secret in sandbox.secrets if secret in text] == []


# A login


def test_the_first_login(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    store: FileTokenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen_file = browser()
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN_OLD_SECRET", "of-another-program")
    told = start("login").end()
    assert "✓ Listening on http://127.0.0.1:" in told
    assert "Logged in as Alex Morgan <alex.morgan@example.com>." in told
    assert "access token for 14 days, refresh token for 90 days; profile default." in told
    token = subprocess.run([*COMMAND, "token"], capture_output=True, text=True, timeout=20, check=True).stdout
    stored = store.load()
    assert stored is not None
    assert token == f"{stored.access_token.get_secret_value()}\n"
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600
    assert_no_secrets(told, sandbox)
    # Nothing of it is for the browser, nor for those who read the machine's process list.
    seen = read_when_there(seen_file)
    assert seen["argv"][1].startswith(redirect_uri.removesuffix("/callback") + "/start/")
    assert_no_secrets(json.dumps([seen["argv"], seen["environ"], seen["url"]]), sandbox)
    assert [name for name in seen["environ"] if "SECRET" in name] == []
    assert "You are logged in" in seen["body"]


def test_debug_tells_every_step_and_no_secret(
    start: Callable[..., Running], browser: Callable[..., Path], sandbox: Sandbox, redirect_uri: str
) -> None:
    browser()
    told = start("login", "--debug").end()
    assert "webex_loopback" in told or "httpx" in told
    assert_no_secrets(told, sandbox)


def test_every_option_is_heard(
    start: Callable[..., Running],
    sandbox: Sandbox,
    free_port: Callable[[], int],
    tmp_path: Path,
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
    assert "(0:20)" in told
    assert "Logged in as 山田 花子 <hanako.yamada@example.com>." in told
    assert "profile work." in told
    stored = FileTokenStore(str(tmp_path / "state" / "tokens" / "work.json")).load()
    assert stored is not None
    assert stored.granted == ["spark:people_read", "spark:rooms_read"]
    authorize = next(request for request in sandbox.requests if request.path == "/v1/authorize")
    assert {"login_hint", "prompt"} < set(authorize.fields)


def test_a_second_login_opens_nothing_and_says_so(
    start: Callable[..., Running], sandbox: Sandbox, logged_in: StoredToken
) -> None:
    told = start("login", "--browser", "/bin/false").end()
    assert told.startswith("Already logged in as Alex Morgan <alex.morgan@example.com>.\n")
    assert "--force` logs in anew." in told
    assert sandbox.count("/v1/authorize") == 1


def test_scopes_that_were_not_granted_are_told(
    start: Callable[..., Running], browser: Callable[..., Path], sandbox: Sandbox, redirect_uri: str
) -> None:
    browser()
    sandbox.switches.withhold = ["spark:kms"]
    assert "Asked for, but not granted: spark:kms" in start("login").end()


def test_without_a_browser_the_address_can_be_opened_by_hand(
    start: Callable[..., Running], redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = start("login", "--no-browser")
    address = login.wait_for(r"  (http://\S+/v1/authorize\?\S+)\n")[1]
    login.wait_for("ssh -L")
    Person().visit(address)
    told = login.end()
    assert "Logged in as" in told
    assert "No browser is opened" not in told  # whoever asked for that knows


def test_a_browser_that_fails_is_told(
    start: Callable[..., Running], redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = start("login")
    login.wait_for("✗ false could not be opened. Open the address yourself")
    Person().visit(login.wait_for(r"  (http://\S+/start/\S+)\n")[1])
    assert "Logged in as" in login.end()


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(sandbox: Sandbox, redirect_uri: str, closed: str) -> None:
    """As a program without a console has them (pythonw.exe, some daemons)."""
    command = [*COMMAND, "login", "--no-browser", "--timeout", "0.3"]
    done = subprocess.run(["/bin/sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, timeout=20)
    assert done.returncode == 4
    assert b"Traceback" not in done.stderr


# How it fails


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "told"),
    [
        ((), {"WEBEX_CLIENT_ID": ""}, 2, "WEBEX_CLIENT_ID"),
        (("--redirect-uri", "http://192.0.2.1/callback"), {}, 2, "only 127.0.0.1"),
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
    assert told in start("login", *arguments).end(code)
    assert not seen.exists()


@pytest.mark.parametrize(
    ("switches", "person", "code", "words", "page"),
    [
        ({}, "decision='decline'", 4, "declined in the browser (access_denied", "Access was declined"),
        ({"fault": "500"}, "", 5, "has a fault of its own (500)", "did not exchange"),
        ({"fault": "reset"}, "", 5, "gave no usable answer", "could not be reached"),
    ],
)
def test_what_goes_wrong_under_way(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    tmp_path: Path,
    switches: dict[str, Any],
    person: str,
    code: int,
    words: str,
    page: str,
) -> None:
    sandbox.switches.update(switches)
    seen = browser(person)
    told = start("login").end(code)
    assert words in told
    assert_no_secrets(told, sandbox)
    body = read_when_there(seen)["body"]
    assert page in body
    assert_no_secrets(body, sandbox)
    assert not list((tmp_path / "state" / "tokens").glob("*.json"))


def test_an_unregistered_redirect_uri(
    start: Callable[..., Running], browser: Callable[..., Path], sandbox: Sandbox, redirect_uri: str
) -> None:
    sandbox.redirect_uris.remove(redirect_uri)
    browser()
    told = start("login", "--timeout", "2").end(4)
    assert "Webex did not send the browser back within 2 seconds." in told
    assert f"exactly this redirect URI is registered on the Integration: {redirect_uri}." in " ".join(told.split())


@pytest.mark.skipif(sys.platform != "linux", reason="drops a privilege of root's, as Linux divides them")
def test_a_folder_that_is_read_only(
    start: Callable[..., Running], browser: Callable[..., Path], redirect_uri: str, tmp_path: Path
) -> None:
    tokens = tmp_path / "state" / "tokens"
    tokens.mkdir(parents=True)
    for name in ("default.json.lock", "default.json.login.lock"):  # of better days
        (tokens / name).touch()
    tokens.chmod(0o500)
    seen = browser()
    told = start("login", preexec=without(CAP_DAC_OVERRIDE)).end(6)
    tokens.chmod(0o700)
    assert "cannot be written to: Permission denied" in told
    assert not seen.exists()


def privileged(port: int) -> bool:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return first.exists() and int(first.read_text()) > port


needs_privileged_ports = pytest.mark.skipif(not privileged(443), reason="Here anybody may open port 443.")


@needs_privileged_ports
def test_a_privileged_port_without_a_terminal(
    start: Callable[..., Running], browser: Callable[..., Path], sandbox: Sandbox
) -> None:
    seen = browser()
    login = start("login", "--redirect-uri", "https://127.0.0.1/", preexec=without(CAP_NET_BIND_SERVICE))
    told = login.end(4)
    assert "Port 443 may be opened by privileged programs only." in told
    assert "register a further redirect URI" in told
    assert not seen.exists()


def test_a_port_that_is_taken(start: Callable[..., Running], browser: Callable[..., Path], redirect_uri: str) -> None:
    seen = browser()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", urlsplit(redirect_uri).port or 0))
        taken.listen()
        told = start("login").end(4)
    assert re.search(rf"Port \d+ is in use by \S+ \(process {os.getpid()}\)", told)
    assert "add it to WEBEX_REDIRECT_URI" in told
    assert not seen.exists()


# Two at a time


def test_a_second_login_takes_what_the_first_one_got(
    start: Callable[..., Running], sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start("login", "--no-browser")
    address = first.wait_for(r"  (http://\S+/v1/authorize\?\S+)\n")[1]
    monkeypatch.setenv("BROWSER", "/bin/false")
    second = start("login")
    second.wait_for(rf"is under way \(process {first.process.pid}\); waiting for it")
    Person().visit(address)
    assert "\nLogged in as" in first.end()
    told = second.end()
    assert "The other login is done: logged in as Alex Morgan" in told
    assert "could not be opened" not in told
    assert sandbox.count("authorization_code") == 1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_second_login_goes_on_where_the_first_one_is_ended(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    end: signal.Signals,
) -> None:
    browser()
    first = start("login", "--no-browser")
    first.wait_for("/v1/authorize")
    second = start("login")
    second.wait_for("waiting for it")
    first.process.send_signal(end)
    assert "\nLogged in as" in second.end()
    assert first.process.wait(5) == (130 if end == signal.SIGINT else -signal.SIGKILL)
    assert sandbox.count("authorization_code") == 1


# Ended by a signal


@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [
        ("waiting", signal.SIGTERM, 143),
        ("exchange", signal.SIGTERM, 143),
        ("exchange", signal.SIGINT, 130),
        ("looking up", signal.SIGINT, 130),
        ("other", signal.SIGINT, 130),
    ],
)
def test_a_signal_ends_it_at_once(
    start: Callable[..., Running],
    browser: Callable[..., Path],
    sandbox: Sandbox,
    redirect_uri: str,
    tmp_path: Path,
    stage: str,
    number: signal.Signals,
    code: int,
) -> None:
    seen = browser()
    if stage == "exchange":
        sandbox.switches.fault = "hang"
    if stage == "looking up":
        sandbox.switches.api_faults = ["hang"]
    if stage == "other":
        start("login", "--no-browser").wait_for("/v1/authorize")
    login = start("login", *(["--no-browser"] if stage == "waiting" else []))
    until = time.monotonic() + 10
    if stage == "waiting":
        login.wait_for("/v1/authorize")
    elif stage == "other":
        login.wait_for("waiting for it")
    else:
        while not sandbox.count("authorization_code" if stage == "exchange" else "/v1/people/me"):
            assert time.monotonic() < until
            time.sleep(0.02)
    begun = time.monotonic()
    login.process.send_signal(number)
    told = login.end(code)
    assert time.monotonic() - begun < 2
    assert told.endswith("Cancelled.\n" if number == signal.SIGINT else "\n")
    if stage != "other":
        assert port_is_free(urlsplit(redirect_uri).port or 0)
    # What was saved stays saved, and the page says which it is.
    left = sorted(path.name for path in (tmp_path / "state" / "tokens").iterdir() if path.suffix != ".lock")
    if stage == "looking up":
        assert left == ["default.json"]
        assert "You are logged in" in read_when_there(seen)["body"]
    elif stage == "exchange":
        assert left == []
        assert "The login was cancelled" in read_when_there(seen)["body"]
    else:
        assert left == (["default.json.login"] if stage == "other" else [])


# In a terminal


class Terminal:
    """The command in a terminal of 80 columns, run by a shell that tells of the terminal's mode."""

    def __init__(self, *arguments: str, preexec: Callable[[], None] | None = None) -> None:
        # `trap :` keeps the shell alive at Ctrl-C, and is not handed down.
        script = 'trap : INT; stty -g; "$@"; echo "code=$?"; stty -g'
        spawn: Any = pexpect.spawn  # its types make every match a riddle
        self.child = spawn(
            "/bin/sh",
            ["-c", script, "sh", *COMMAND, *arguments],
            dimensions=(24, 80),
            encoding="utf-8",
            timeout=15,
            env=os.environ | {"TERM": "xterm-256color"},
            preexec_fn=preexec,
        )
        self.child.expect(r"([0-9a-f:]+)\r\n")
        self.mode = self.child.match[1]
        self.text = ""

    def expect(self, pattern: str) -> "re.Match[str]":
        self.child.expect(pattern)
        self.text += self.child.before + self.child.after
        match: re.Match[str] = self.child.match
        return match

    def address(self, path: str) -> str:
        """Return the address that is shown: the link that the terminal is told, as it is whole."""
        return self.expect(rf"\x1b\]8;;(http[^\x1b]*{path}[^\x1b]*)\x1b")[1]

    def end(self, code: int) -> str:
        """Wait for the end; return all that was shown."""
        shown = self.expect(r"code=(\d+)\r\n([0-9a-f:]+)\r\n")
        assert int(shown[1]) == code, self.text
        assert shown[2] == self.mode
        self.child.expect(pexpect.EOF)
        assert "Traceback" not in self.text
        return self.text

    def close(self) -> None:
        self.child.close(force=True)


@pytest.fixture
def terminal(sandbox: Sandbox, redirect_uri: str) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def start(*arguments: str, **options: Any) -> Terminal:
        terminals.append(Terminal(*arguments, **options))
        return terminals[-1]

    yield start
    for one in terminals:
        one.close()


def test_a_login_in_a_terminal(terminal: Callable[..., Terminal], browser: Callable[..., Path]) -> None:
    browser()
    shown = terminal("login").end(0)
    assert "Logged in as Alex Morgan" in shown
    assert "Press o to open the browser again." in shown


@pytest.mark.parametrize("hang", [False, True])
def test_ctrl_c_in_a_terminal(
    terminal: Callable[..., Terminal], browser: Callable[..., Path], sandbox: Sandbox, hang: bool
) -> None:
    browser()
    if hang:
        sandbox.switches.fault = "hang"
        login = terminal("login")
        login.expect("Exchanging the code")
    else:
        login = terminal("login", "--no-browser")
        login.expect("left")
    begun = time.monotonic()
    login.child.sendintr()
    assert "Cancelled." in login.end(130)
    assert time.monotonic() - begun < 2


def test_pasting_the_address(
    terminal: Callable[..., Terminal], sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over SSH: no browser here, the whole address and the tunnel shown; other things pasted are answered."""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22")
    monkeypatch.setenv("BROWSER", "/bin/false")
    login = terminal("login")
    login.expect("No browser is opened: this is an SSH session")
    address = login.address("/v1/authorize")
    login.expect(rf"ssh -L {urlsplit(redirect_uri).port}:127.0.0.1:")
    login.expect("Waiting for you to open the address")
    final = Elsewhere().visit(address).url
    code = parse_qs(urlsplit(final).query)["code"][0]
    state = parse_qs(urlsplit(final).query)["state"][0]

    login.child.send("what is this\r")
    login.expect("not the whole address")
    login.child.send(f"{final.replace('/callback', '/elsewhere')}\r")
    login.expect("the address of another page")
    login.child.send(f"{redirect_uri}?code={code}&state={'f' * 43}\r")
    login.expect("a request with a foreign state")
    login.child.send(final)  # and no Enter yet
    login.expect(f"Pasted {len(final)} characters: press Enter")
    login.child.send("\r")
    shown = login.end(0)
    assert "The address was pasted" in shown
    assert "Logged in as Alex Morgan" in shown
    assert_no_secrets(shown, sandbox)
    assert code not in shown
    assert shown.count(state) == 2  # in the address that was shown, and the link that it is


def test_pasting_a_long_line_in_brackets(terminal: Callable[..., Terminal]) -> None:
    login = terminal("login", "--no-browser")
    final = Elsewhere().visit(login.address("/v1/authorize")).url
    login.expect("left")
    login.child.send(f"\x1b[200~{final}&more={'x' * 6000}\x1b[201~\r")
    assert "The address was pasted" in login.end(0)


def test_pasting_that_it_was_declined(terminal: Callable[..., Terminal]) -> None:
    login = terminal("login", "--no-browser")
    final = Elsewhere(decision="decline").visit(login.address("/v1/authorize")).url
    login.expect("left")
    login.child.send(f"{final}\r")
    assert "declined in the browser" in login.end(4)


def test_o_opens_the_browser_again(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\ntest "$(wc -l < {opened})" -ne 2\n')
    browser.chmod(0o755)
    login = terminal("login", "--browser", str(browser))
    login.expect("Opened browser")
    login.child.send("o")
    login.expect("browser could not be opened. Open the address yourself")
    login.child.send("O")
    login.expect("Opened browser")
    addresses = opened.read_text().split()
    assert len(addresses) == 3
    assert len(set(addresses)) == 1
    Person().visit(addresses[0])
    assert "Logged in as" in login.end(0)


def test_o_where_there_is_no_browser(terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/nowhere/firefox")
    login = terminal("login", "--timeout", "3")
    login.expect("left")
    login.child.send("o")
    login.expect("No browser can be opened: 'firefox' .* was not found")
    assert "Webex did not send the browser back within 3 seconds." in login.end(4)


@needs_privileged_ports
def test_a_privileged_port_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    """The usual tutorial's https://127.0.0.1/: nobody listens, and the address is pasted."""
    login = terminal(
        "login", "--redirect-uri", "https://127.0.0.1/", "--no-browser", preexec=without(CAP_NET_BIND_SERVICE)
    )
    address = login.address("/v1/authorize")
    login.expect("Not listening on https://127.0.0.1; paste the address")
    final = Elsewhere().visit(address).url
    assert final.startswith("https://127.0.0.1/?code=")
    login.child.send(f"{final}\r")
    shown = login.end(0)
    assert "Port 443 may be opened by privileged programs only." in shown
    assert "Logged in as" in shown


def test_a_port_that_is_taken_is_not_for_pasting(terminal: Callable[..., Terminal], redirect_uri: str) -> None:
    """Whoever listens there would get the code."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", urlsplit(redirect_uri).port or 0))
        taken.listen()
        assert "is in use by" in terminal("login", "--no-browser").end(4)


@needs_privileged_ports
def test_a_privileged_port_that_is_taken_is_not_for_pasting_either(terminal: Callable[..., Terminal]) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.2", 443))
        except OSError as error:
            pytest.skip(f"port 443 cannot be opened here: {error}")
        taken.listen()
        options = ("--redirect-uri", "https://127.0.0.2/", "--no-browser")
        login = terminal("login", *options, preexec=without(CAP_NET_BIND_SERVICE))
        assert "Port 443 is in use" in login.end(4)


def test_a_device_login_in_a_terminal(terminal: Callable[..., Terminal], sandbox: Sandbox) -> None:
    sandbox.switches.device_interval = 0.2
    login = terminal("login", "--device")
    address = login.address("/device/verify")
    code = login.expect(r"  (?:\x1b\[1m)?(\d{6})(?:\x1b\[0m)?\r\n")[1]
    visit: Visit = Person().approve_device(address, code)
    assert visit.status == 200
    shown = login.end(0)
    assert "Logged in as Alex Morgan" in shown
    assert_no_secrets(shown, sandbox)
    # The digits stand one below the other, whatever they begin with.
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in login.text.split("\r\n")]
    top = next(n for n, row in enumerate(rows) if re.fullmatch(r" {4}[▄▀█ ]+", row) and len(row.strip()) < 40)
    assert all(row.startswith("    ") for row in rows[top : top + 3])


def test_ctrl_c_while_a_device_is_waited_for(terminal: Callable[..., Terminal]) -> None:
    login = terminal("login", "--device")
    login.expect("left")
    begun = time.monotonic()
    login.child.sendintr()
    assert "Cancelled." in login.end(130)
    assert time.monotonic() - begun < 2
