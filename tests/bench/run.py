"""Our speed beside that of the peers: the same work in the same run, in one table. `make bench` runs it.

    python tests/bench/run.py [--quick] [--no-peers]

Everything stays on this machine: the endpoints are the sandbox's, with a certificate made for the run. The peers
are installed into a virtual environment of their own, together with this project, so that one interpreter runs
them all. What each peer does and does not do stands at the top of its file.

What is measured is interleaved, and medians are compared. The exit code is 1 where a limit is missed.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import certifi
import trustme
from table import Row, Section, Target, interleaved

from webex_loopback.sandbox import Person, Sandbox, Visit
from webex_loopback.store import FileTokenStore

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PEERS = {
    "google-auth-oauthlib": "peer_google",
    "wxc-sdk": "peer_wxc_sdk",
    "httpx-auth": "peer_httpx_auth",
    "Authlib": "peer_authlib",
    "requests-oauth2client": "peer_requests_oauth2client",
    "msal": "peer_msal",
}
OURS = "webex-loopback"
GOOGLE = "google-auth-oauthlib"
LOGINS = ("ours", "peer_google", "peer_wxc_sdk", "peer_httpx_auth")  # they also keep the token file by themselves
ASYNCHRONOUS = ("ours", "peer_authlib")
NANOSECOND, MILLISECOND = 1e-9, 1e-3

# The moment at which a browser is opened is when this starts; the person then comes from the bench itself.
BROWSER = """#!/bin/sh
now=$(date +%s.%N)
printf '%s\\n%s\\n' "$now" "$1" > "$BENCH_OPENED.part"
mv "$BENCH_OPENED.part" "$BENCH_OPENED"
"""


class Visitor(Person):
    """A person, and the moment at which their browser sent the request that ends a login."""

    def __init__(self, redirect_uri: str) -> None:
        super().__init__()
        self.redirect_uri = redirect_uri
        self.sent_at = 0.0

    def _fetch(self, url: str, form: Mapping[str, str] | None) -> tuple[int, dict[str, str], str]:
        if url.startswith(self.redirect_uri) and "code=" in url:
            self.sent_at = time.time()
        return super()._fetch(url, form)


class Bench:
    """The place where all of it runs: a folder, a sandbox with TLS, an interpreter, an environment."""

    def __init__(self, folder: str, sandbox: Sandbox, authority: str, python: str, peers: dict[str, str]) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.python = python
        self.peers = peers
        self.libraries = {OURS: "ours"} | peers
        self.token_file = os.path.join(folder, "state", "tokens", "default.json")
        for name in ("home", "work"):
            os.mkdir(os.path.join(folder, name))
        browser = os.path.join(folder, "browser")
        with open(browser, "w") as script:
            script.write(BROWSER)
        os.chmod(browser, 0o700)
        self.opened = os.path.join(folder, "opened")
        # No PYTHONDONTWRITEBYTECODE among it: nobody compiles everything anew at each start.
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": os.path.join(folder, "home"),
            "LANG": "C.UTF-8",
            "BROWSER": browser,
            "BENCH_OPENED": self.opened,
            "WEBEX_LOOPBACK_HOME": os.path.join(folder, "state"),
            # As a company's users have it: its root in a file for us, which adds it to the system's, and a whole
            # bundle with the root in it for those who take a bundle in place of their own.
            "WEBEX_CA_BUNDLE": authority,
        }
        bundle = os.path.join(folder, "bundle.pem")
        shutil.copyfile(certifi.where(), bundle)
        with open(authority, "rb") as root, open(bundle, "ab") as file:
            file.write(root.read())
        self.of_peers = {
            "PYTHONPATH": HERE,
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
        }
        with open(os.path.join(folder, "work", "config.env"), "w") as file:
            for name, value in sandbox.environment(self.register("http://127.0.0.1:{}/callback")[0]).items():
                file.write(f"{name}={value}\n")
                if name == "WEBEX_REDIRECT_URI":
                    self.redirect_uri = value

    def register(self, form: str, port: int | None = None) -> tuple[str, int]:
        """Register a redirect URI with the sandbox, on a free port."""
        if port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
        uri = form.format(port)
        if uri not in self.sandbox.redirect_uris:
            self.sandbox.redirect_uris.append(uri)
        return uri, port

    def file_of(self, library: str) -> str:
        return self.token_file if library == "ours" else os.path.join(self.folder, f"{library}.token")

    def environ_of(self, library: str, **more: str) -> dict[str, str]:
        base = self.sandbox.base_url
        settings = {
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
            "scopes": ["spark:people_read", "spark:kms"],
            "authorize_url": f"{base}/authorize",
            "token_url": f"{base}/access_token",
            "port": more.pop("port", "0"),
        }
        environ = self.environ | ({"PYTHONPATH": HERE} if library == "ours" else self.of_peers)
        return environ | {"BENCH_FILE": self.file_of(library), "BENCH_SETTINGS": json.dumps(settings)} | more

    def run(self, command: list[str], environ: Mapping[str, str]) -> str:
        """Run a command to its end; return what it printed."""
        done = subprocess.run(
            command,
            env=environ,
            cwd=os.path.join(self.folder, "work"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command} exited with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def work(self, library: str, code: str, **more: str) -> Any:
        """Run a function of `work` in a process of its own; return what it tells."""
        return json.loads(self.run([self.python, "-c", f"import work; {code}"], self.environ_of(library, **more)))

    def own_command(self, *arguments: str) -> list[str]:
        return [os.path.join(os.path.dirname(self.python), "webex-loopback"), *arguments]

    def prepare(self, *, expired: bool) -> dict[str, bytes]:
        """Write every library's token file, of the tokens that a login has left; return what is in them."""
        store = FileTokenStore(self.token_file)
        stored = store.load()
        assert stored is not None
        assert stored.refresh_token is not None
        now = int(time.time())
        left = -10 if expired else 1_000_000
        issued = now - 1_000_000 if expired else now
        store.save(stored.model_copy(update={"issued_at": issued, "refresh_at": now + left, "expires_at": now + left}))
        response = {
            "access_token": stored.access_token.get_secret_value(),
            "refresh_token": stored.refresh_token.get_secret_value(),
            "expires_in": left,
            "expires_at": now + left,
            "token_type": "Bearer",
        }
        held = {}
        for name, library in [*self.libraries.items()]:
            if library != "ours":
                code = f"import {library}; {library}.prepare()"
                environ = self.environ_of(library, BENCH_RESPONSE=json.dumps(response))
                try:
                    self.run([self.python, "-c", code], environ)
                except RuntimeError as error:
                    _say(f"{name} is left out, it does not do what it did: {error}")
                    del self.libraries[name], self.peers[name]
                    continue
            with open(self.file_of(library), "rb") as file:
                held[library] = file.read()
        return held

    def log_in(self, library: str, thinking_seconds: float) -> tuple[float, float]:
        """Log in; return the seconds from start to browser, and from the redirect to tokens in the file."""
        if library == "ours":
            command, environ, redirect_uri = self.own_command("login"), self.environ, self.redirect_uri
        else:
            form, fixed = (
                ("http://localhost:{}/redirect", 6001) if library == "peer_wxc_sdk" else ("http://127.0.0.1:{}/", None)
            )
            redirect_uri, port = self.register(form, fixed)
            command = [self.python, "-c", f"import {library}; {library}.login()"]
            environ = self.environ_of(library, port=str(port))
        token_file = self.file_of(library)
        for path in (token_file, self.opened):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        errors = os.path.join(self.folder, "errors")
        with open(errors, "w") as told:
            begin = time.time()
            process = subprocess.Popen(
                command,
                env=environ,
                cwd=os.path.join(self.folder, "work"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=told,
            )
        try:
            with open(_there(self.opened)) as file:
                opened_at, url = file.read().split()
            # A person signs in and approves, which takes no less; the one of the bench is faster.
            time.sleep(thinking_seconds)
            visitor = Visitor(redirect_uri)
            visits: list[Visit] = []
            thread = threading.Thread(target=lambda: visits.append(visitor.visit(url)), daemon=True)
            thread.start()
            _there(token_file)
            saved_at = time.time()
            thread.join(20)
            if process.wait(20):
                raise TimeoutError
        except TimeoutError:
            with open(errors) as file:
                raise RuntimeError(f"{library}: the login did not come to a good end:\n{file.read()[-2000:]}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return float(opened_at) - begin, saved_at - visitor.sent_at


def _there(path: str) -> str:
    """Wait until a file is there and not empty."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size:
                return path
        time.sleep(0.0003)
    raise TimeoutError(path)


def cached_token(bench: Bench, rounds: int) -> Section:
    """A fresh process that ends with a valid token in hand, from the file."""
    python, environ = bench.python, bench.environ
    get_token = "from webex_loopback import get_token; get_token()"
    commands: dict[str, tuple[list[str], Mapping[str, str]]] = {
        "get_token()": ([python, "-c", get_token], environ),
        "webex-loopback token": (bench.own_command("token"), environ),
        "python -c pass": ([python, "-c", "pass"], environ),
    }
    gh = shutil.which("gh")
    if gh:
        folder = os.path.join(bench.folder, "gh")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "hosts.yml"), "w") as file:
            file.write("github.com:\n    user: alex\n    oauth_token: gho_0\n    git_protocol: https\n")
        commands["gh auth token"] = ([gh, "auth", "token"], environ | {"GH_CONFIG_DIR": folder})
    for name, library in bench.peers.items():
        code = f"import {library}; {library}.ready()()"
        commands[name] = ([python, "-c", code], bench.environ_of(library))

    def spend(command: list[str], environ: Mapping[str, str]) -> float:
        begin = time.perf_counter()
        bench.run(command, environ)
        return time.perf_counter() - begin

    results = interleaved(rounds, {name: partial(spend, *command) for name, command in commands.items()})
    section = Section("Cached token, fresh process", "ms", MILLISECOND, [Row(*item) for item in results.items()])
    if not gh:
        section.rows.append(Row("gh auth token", note="skipped: gh is not installed"))
    rows = {row.name: row.median for row in section.rows if row.values}
    bare = rows["python -c pass"]
    section.targets.append(Target("get_token() / python -c pass", rows["get_token()"] / bare, 2.3, 1.5))
    section.targets.append(Target("webex-loopback token / python -c pass", rows["webex-loopback token"] / bare, 2.5))
    if gh:
        ratio = rows["webex-loopback token"] / rows["gh auth token"]
        section.targets.append(Target("webex-loopback token / gh auth token", ratio, 0.55))
    loaded = bench.work("ours", "work.modules()")["modules"]
    section.notes.append(f"modules loaded for a cached token: {', '.join(loaded)}")
    return section


def hot_call(bench: Bench, rounds: int, calls: int, seconds: float) -> Section:
    """A call in a process that holds a good token already."""
    measures: dict[str, list[float]] = {}
    counts: dict[str, float] = {"leaves": 0, "stats": 0, "environment": 0}
    names = {
        "one": "get_token()",
        "eight": "get_token(), 8 threads asking",
        "async": "await aget_token()",
        "bare": "time.time() < expiry",
    }
    peers: dict[str, list[float]] = {name: [] for name in bench.peers}
    for _ in range(rounds):
        told = bench.work("ours", f"work.hot_ours(5, {calls}, {seconds})")
        for key, name in names.items():
            measures.setdefault(name, []).extend(told[key])
        counts = {key: max(count, told[key]) for key, count in counts.items()}
        for name, library in bench.peers.items():
            peers[name].extend(bench.work(library, f"work.hot({library!r}, 5)")["seconds"])
    section = Section("Hot call, token in memory", "ns", NANOSECOND)
    section.rows = [Row(name, values) for name, values in (measures | peers).items()]
    one, eight, asynchronous, bare = (section.rows[number].median for number in range(4))
    section.targets = [
        Target("get_token() / time.time() < expiry", one / bare, 2.5),
        Target("get_token() with 8 threads / with one", eight / one, 1.3),
        Target("aget_token() / get_token()", asynchronous / one, 2),
        Target("calls of aget_token() that left the loop", counts["leaves"], 0),
        # One a second: that many seconds hold the beginnings of one more.
        Target(f"os.stat calls in {seconds:g} s of calls", counts["stats"], seconds + 1),
        Target(f"looks at the environment in {seconds:g} s of calls", counts["environment"], seconds + 1),
    ]
    return section


def login(bench: Bench, rounds: int, thinking_seconds: float) -> list[Section]:
    """From the command to the browser, and from the redirect to the tokens on disk."""
    able = {name: library for name, library in bench.libraries.items() if library in LOGINS}
    moments: dict[str, list[tuple[float, float]]] = {name: [] for name in able}
    for number in range(-1, rounds):
        for name, library in [*able.items()]:
            try:
                moment = bench.log_in(library, thinking_seconds)
            except RuntimeError as error:
                if library == "ours":
                    raise
                _say(str(error))
                del able[name]
                continue
            if number >= 0:
                moments[name].append(moment)
    sections = []
    for part, (title, limit, aim) in enumerate(
        [
            ("Login: process start to browser opened", 1.0, 0.7),
            ("Login: redirect's arrival to tokens on disk, TLS", 1.0, 0.25),
        ]
    ):
        section = Section(title, "ms", MILLISECOND)
        section.rows = [Row(name, [moment[part] for moment in moments[name]]) for name in able]
        section.rows += [Row(name, note="has no login that works here") for name in bench.peers if name not in able]
        medians = {row.name: row.median for row in section.rows if row.values}
        if GOOGLE in medians:
            section.targets.append(Target(f"ours / {GOOGLE}", medians[OURS] / medians[GOOGLE], limit, aim))
        sections.append(section)
    return sections


def stampede(bench: Bench, rounds: int, *, threads: int, tasks: int, processes: int) -> list[Section]:
    """Many ask at once, and the token has expired: from the process's start to the last one's token."""
    # msal would refresh at Microsoft only.
    able = {name: library for name, library in bench.libraries.items() if library != "peer_msal"}
    kinds: dict[str, tuple[dict[str, str], Callable[[str], list[list[str]]]]] = {
        f"{threads} threads": (able, lambda library: [_code(bench, f"work.threads({library!r}, {threads})")]),
        f"{tasks} tasks": (
            {name: library for name, library in able.items() if library in ASYNCHRONOUS},
            lambda library: [_code(bench, f"work.tasks({library!r}, {tasks})")],
        ),
        f"{processes} processes": (
            {name: library for name, library in able.items() if library in LOGINS},
            lambda library: [_code(bench, f"work.alone({library!r})")] * processes,
        ),
    }
    held = bench.prepare(expired=True)
    sections = []
    bench.sandbox.switches.latency = 0.05
    for title, (libraries, commands) in kinds.items():
        section = Section(f"Stampede, expired token, {title}", "ms", MILLISECOND)
        seconds: dict[str, list[float]] = {name: [] for name in libraries}
        refreshes: dict[str, list[int]] = {name: [] for name in libraries}
        failures = dict.fromkeys(libraries, 0)
        for _ in range(rounds):
            for name, library in libraries.items():
                with _restored(bench.file_of(library), held[library]):
                    before = bench.sandbox.count("refresh_token")
                    spent, failed = _all_at_once(bench, library, commands(library))
                if spent:
                    seconds[name].append(spent)
                refreshes[name].append(bench.sandbox.count("refresh_token") - before)
                failures[name] += failed
        for name in libraries:
            most = max(refreshes[name])
            note = f"{most} refresh{'es' if most != 1 else ''}"
            if failures[name]:
                note += f", {failures[name]} calls failed in {rounds} rounds"
            section.rows.append(Row(name, seconds[name], note))
        section.targets.append(Target("refreshes made by ours", max(refreshes[OURS]), 1))
        section.targets.append(Target("calls of ours that failed", failures[OURS], 0))
        sections.append(section)
    bench.sandbox.switches.latency = 0
    return sections


def _code(bench: Bench, code: str) -> list[str]:
    return [bench.python, "-c", f"import work; {code}"]


@contextlib.contextmanager
def _restored(path: str, data: bytes) -> Iterator[None]:
    """Have a token file as it was, with its mode."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    yield


def _all_at_once(bench: Bench, library: str, commands: list[list[str]]) -> tuple[float, int]:
    begin = time.time()
    started = [
        subprocess.Popen(
            command,
            env=bench.environ_of(library),
            cwd=os.path.join(bench.folder, "work"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for command in commands
    ]
    failed, last = 0, begin
    for process in started:
        out, _ = process.communicate(timeout=60)
        if process.returncode:
            failed += 1
            continue
        told = json.loads(out)
        failed += told["errors"]
        last = max(last, told["at"])
    return last - begin, failed


def with_peers() -> tuple[str, dict[str, str], list[str]]:
    """Install the peers and this project; return the interpreter, those that are there, and what to tell."""
    folder = os.path.join(ROOT, ".venv", "bench-peers")
    python = os.path.join(folder, "Scripts" if sys.platform == "win32" else "bin", "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wanted = [OURS, *PEERS]
    if not os.path.exists(python):
        _say(f"Installing the peers into {folder} ...")
        venv.create(folder, with_pip=True)
        # An old pip writes launchers that import `re`, which would slow the command down.
        subprocess.run([*pip, "install", "--upgrade", "pip"], check=False)
    missing = {name for name, version in _versions(python, wanted).items() if not version}
    for name in wanted:
        if name in missing:
            subprocess.run([*pip, "install", *(["--editable", ROOT] if name == OURS else [name])], check=False)
    versions = _versions(python, wanted)
    if not versions[OURS]:
        raise RuntimeError(f"this project could not be installed into {folder}")
    there = {name: module for name, module in PEERS.items() if versions[name]}
    told = ["Peers: " + ", ".join(f"{name} {versions[name]}" for name in there)]
    told += [f"{name}: could not be installed, and is left out" for name in PEERS if name not in there]
    return python, there, told


def _versions(python: str, names: list[str]) -> dict[str, str]:
    code = (
        "import importlib.metadata, json, sys\n"
        "def version(name):\n"
        "    try: return importlib.metadata.version(name)\n"
        "    except importlib.metadata.PackageNotFoundError: return ''\n"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *names], stdout=subprocess.PIPE, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


@contextlib.contextmanager
def prepared(python: str, peers: dict[str, str]) -> Iterator[Bench]:
    """Give the place to run in, with a sandbox, a certificate that is trusted there, and a login made."""
    with tempfile.TemporaryDirectory(prefix="webex-loopback-bench-") as folder:
        authority = trustme.CA()
        ca_file, server_file = os.path.join(folder, "ca.pem"), os.path.join(folder, "server.pem")
        authority.cert_pem.write_to_path(ca_file)
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(server_file)
        with Sandbox(tls=(server_file, server_file)) as sandbox:
            yield Bench(folder, sandbox, ca_file, python, peers)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure our speed beside that of the peers.")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it runs, not how fast")
    parser.add_argument("--no-peers", action="store_true", help="install and measure nothing but this project")
    options = parser.parse_args()
    quick = options.quick
    python, peers, told = (sys.executable, {}, []) if options.no_peers else with_peers()
    begin = time.monotonic()
    with prepared(python, peers) as bench:
        _say("logins ...")
        logins = login(bench, 1 if quick else 9, 0.3 if quick else 0.8)
        bench.prepare(expired=False)
        _say("cached tokens ...")
        sections = [cached_token(bench, 2 if quick else 11)]
        _say("hot calls ...")
        sections.append(hot_call(bench, 1 if quick else 3, 2_000 if quick else 20_000, 0.2 if quick else 2))
        _say("stampedes ...")
        stampedes = stampede(bench, 1 if quick else 3, threads=50, tasks=200, processes=2 if quick else 8)
        sections += [*logins, *stampedes]
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"CPython {version}, {os.cpu_count()} processors, {time.monotonic() - begin:.0f} s")
    print("\n".join(told))
    for section in sections:
        print("\n".join(section.lines()))
    targets = [target for section in sections for target in section.targets]
    missed = [target for target in targets if not target.met]
    print(f"\n{len(targets) - len(missed)} of {len(targets)} limits met.")
    return 1 if missed and not quick else 0


if __name__ == "__main__":
    sys.exit(main())
