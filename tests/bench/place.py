"""Where the bench runs: a directory, a sandbox with TLS, an interpreter, an environment. Nothing leaves the machine."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator, Mapping
from typing import Any

import certifi
import trustme

from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.tokens.stores.file import FileTokenStore

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = "webex-loopback"
# The moment this starts is the moment the browser is opened. The bench itself then signs in.
BROWSER = """#!/bin/sh
now=$(date +%s.%N)
printf '%s\\n%s\\n' "$now" "$1" > "$BENCH_OPENED.part"
mv "$BENCH_OPENED.part" "$BENCH_OPENED"
"""


class Visitor(Person):
    """A person, and the moment when their browser was redirected to the loopback server."""

    redirected_at = 0.0

    def _fetch(self, url: str, form: Any, visited: list[str]) -> tuple[int, dict[str, str], str]:
        class Visited(list[str]):
            def append(_, url: str) -> None:  # noqa: N805
                self.redirected_at = time.time() if "code=" in url else self.redirected_at
                visited.append(url)

        return super()._fetch(url, form, Visited())


class Place:
    """Runs commands and functions of `work` for one library or another."""

    def __init__(self, folder: str, sandbox: Sandbox, python: str, peers: list[str]) -> None:
        self.folder, self.sandbox, self.python = folder, sandbox, python
        self.command = os.path.join(os.path.dirname(python), OURS)
        self.libraries = [OURS, *peers]
        os.mkdir(self.path("work"))
        self.write("browser", BROWSER.encode(), mode=0o700)
        with open(self.path("ca.pem"), "rb") as root, open(certifi.where(), "rb") as roots:
            self.write("bundle.pem", roots.read() + root.read())
        # Without PYTHONDONTWRITEBYTECODE: nobody compiles everything at each start.
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "LANG": "C.UTF-8",
            "BROWSER": self.path("browser"),
            "BENCH_OPENED": self.path("opened"),
            "WEBEX_LOOPBACK_HOME": self.path("state"),
            "WEBEX_CA_BUNDLE": self.path("ca.pem"),
            **sandbox.environment(self.register("http://127.0.0.1:{}/callback")),
        }

    def path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    def write(self, name: str, content: bytes, mode: int = 0o600) -> None:
        with open(self.path(name), "wb", opener=lambda path, flags: os.open(path, flags, mode)) as file:
            file.write(content)

    def register(self, form: str) -> str:
        """Register a redirect URI with the sandbox, on a free port if there is a place for one."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            uri = form.format(probe.getsockname()[1])
        self.sandbox.redirect_uris.append(uri)
        return uri

    def file_of(self, library: str) -> str:
        return self.path("state", "tokens", "default.json") if library == OURS else self.path(f"{library}.token")

    def environ_of(self, library: str, port: int = 0) -> dict[str, str]:
        environ = {"PYTHONPATH": ROOT, "BENCH_FILE": self.file_of(library), "BENCH_PORT": str(port)}
        if library != OURS:  # we add the root certificate to the system's; the others need a bundle that has it
            environ |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), self.path("bundle.pem"))
        return self.environ | environ

    def code(self, code: str) -> list[str]:
        return [self.python, "-c", code]

    def uses(self, library: str, code: str) -> list[str]:
        """Return the command that calls a method of a library, for instance `ready()()`."""
        return self.code(f"from tests.bench.libraries import LIBRARIES; LIBRARIES[{library!r}]().{code}")

    def start(self, command: list[str], environ: Mapping[str, str], stderr: Any = subprocess.DEVNULL) -> Any:
        options: dict[str, Any] = {"cwd": self.path("work"), "stdin": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=stderr, **options)

    def run(self, command: list[str], environ: Mapping[str, str]) -> str:
        """Run a command to its end; return what it printed."""
        process = self.start(command, environ, subprocess.PIPE)
        output, errors = process.communicate(timeout=60)
        if process.returncode:
            raise RuntimeError(f"{command} exited with {process.returncode}:\n{errors[-2000:]}")
        return str(output)

    def prepare(self, *, expired: bool) -> dict[str, bytes]:
        """Write every library's token file, with the tokens of the last login; return the contents."""
        store, left = FileTokenStore(self.file_of(OURS)), -10 if expired else 1_000_000
        stored, end = store.load(), int(time.time()) + left
        assert stored is not None
        assert stored.refresh_token is not None
        store.save(dataclasses.replace(stored, issued_at=end - 1_100_000, refresh_at=end, expires_at=end))
        response = {"access_token": stored.access_token.get_secret_value(), "expires_in": left, "expires_at": end}
        response |= {"refresh_token": stored.refresh_token.get_secret_value(), "token_type": "Bearer"}
        contents = {}
        for library in self.libraries:
            if library != OURS:
                self.run(self.uses(library, f"prepare({response!r})"), self.environ_of(library))
            with open(self.file_of(library), "rb") as file:
                contents[library] = file.read()
        return contents

    def log_in(self, library: str, thinking_seconds: float) -> tuple[float, float]:
        """Log in; return the seconds from start to browser, and from the redirect to tokens in the file."""
        for path in (self.file_of(library), self.path("opened")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        command, environ = [self.command, "login"], self.environ
        if library != OURS:
            uri = self.register("http://localhost:6001/redirect" if library == "wxc_sdk" else "http://127.0.0.1:{}/")
            port = int(uri.split(":")[2].partition("/")[0])
            command, environ = self.uses(library, "login()"), self.environ_of(library, port)
        visitor, begin = Visitor(), time.time()
        process = self.start(command, environ, subprocess.PIPE)
        try:
            with open(_wait_for(self.path("opened"))) as file:
                opened_at, url = file.read().split()
            time.sleep(thinking_seconds)  # a person needs longer to sign in and approve
            thread = threading.Thread(target=visitor.visit, args=(url,), daemon=True)
            thread.start()
            _wait_for(self.file_of(library))
            saved_at = time.time()
            thread.join(20)
            errors = process.communicate(timeout=20)[1]
        except (TimeoutError, subprocess.TimeoutExpired):
            process.kill()
            errors = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(f"{library}: the login failed:\n{errors[-2000:]}")
        return float(opened_at) - begin, saved_at - visitor.redirected_at


def _wait_for(path: str) -> str:
    """Wait until a file exists and is not empty."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size:
                return path
        time.sleep(0.0003)
    raise TimeoutError(path)


@contextlib.contextmanager
def prepared(python: str, peers: list[str]) -> Iterator[Place]:
    """Start a sandbox whose certificate all commands trust."""
    with tempfile.TemporaryDirectory(prefix="webex-loopback-bench-") as folder:
        authority, server = trustme.CA(), os.path.join(folder, "server.pem")
        authority.cert_pem.write_to_path(os.path.join(folder, "ca.pem"))
        authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(server)
        with Sandbox(tls=(server, server)) as sandbox:
            yield Place(folder, sandbox, python, peers)


def install(peers: list[str]) -> tuple[str, list[str], str]:
    """Install this project and the peers without development tools; return the interpreter, the peers, and a note."""
    folder = os.path.join(ROOT, ".venv", "bench-peers")
    python = os.path.join(folder, "bin", "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    if not os.path.exists(python):
        venv.create(folder, with_pip=True)
    say(f"Installing the peers into {folder} ...")
    # An old pip writes launchers that import `re`, which would slow the command down.
    for what in (["--upgrade", "pip"], ["--editable", f"{ROOT}[keyring,postgres]"], *([peer] for peer in peers)):
        subprocess.run([*pip, "install", "--quiet", *what], check=False)
    listed = subprocess.run([*pip, "list", "--format", "json"], stdout=subprocess.PIPE, check=True)
    versions = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    note = "Peers: " + ", ".join(f"{peer} {versions.get(peer, '(could not be installed)')}" for peer in peers)
    return python, [peer for peer in peers if peer in versions], note


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
