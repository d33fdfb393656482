"""A real PostgreSQL server from Debian's package, for the tests: started once per session, stopped at its end."""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest


class Server:
    """A server on a loopback port, with trust authentication and a superuser `postgres`."""

    def __init__(self, binaries: str, folder: str) -> None:
        self._binaries = binaries
        self._folder = folder
        self._data = os.path.join(folder, "data")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def create(self) -> None:
        """Create the database cluster."""
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", os.path.join(self._folder, "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate`: as a crash would."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """Return what WEBEX_TOKEN_STORE takes."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Execute statements as the superuser; return the rows of the last one."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = None
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor is not None and cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [os.path.join(self._binaries, program), *arguments]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        # Not piped: the server would inherit the pipe, and we would wait for its end.
        with open(os.path.join(self._folder, "commands"), "ab") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd="/", timeout=50)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Run a server for as long as the context lasts; skip where there is none, but fail in CI."""
    if sys.platform == "win32":
        pytest.skip("starts a PostgreSQL server as on Debian")
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
    if not os.path.exists(os.path.join(binaries[-1], "initdb")):
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; CI needs it.")
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql).")
    folder = tempfile.mkdtemp(prefix="webex-loopback-postgres-")
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Server(binaries[-1], folder)
        server.create()
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test has stopped it
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
