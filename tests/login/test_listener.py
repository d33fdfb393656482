"""What is bound for a redirect URI, why something is not, and who is at the other end of a connection."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Port
from tests.login.visitors import can_listen
from webex_loopback.login import listener
from webex_loopback.login.listener import Listener, bind, connected_user
from webex_loopback.oauth.redirect_uri import RedirectURI

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ROOT = Path(listener.__file__).parents[2]


def uris(*texts: str) -> list[RedirectURI]:
    return [RedirectURI.parse(text) for text in texts]


@contextmanager
def bound(*texts: str) -> Iterator[Listener]:
    one, refusals = bind(uris(*texts))
    assert one is not None, refusals
    with contextlib.closing(one):
        yield one


def python(program: str, *arguments: str, before: tuple[str, ...] = ()) -> str:
    """Run a program in a process of its own; return what it prints."""
    # A process of another user could not write its coverage.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [*before, sys.executable, "-X", "dev", "-c", textwrap.dedent(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT, env=environ)
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("host", "taken", "free"),
    [
        ("localhost", ["127.0.0.1", "::1"], ["127.0.0.2"]),
        ("127.0.0.1", ["127.0.0.1"], ["::1", "127.0.0.2"]),
        ("[::1]", ["::1"], ["127.0.0.1"]),
    ],
)
def test_exactly_the_addresses_of_the_host_are_bound(
    free_port: Port, host: str, taken: list[str], free: list[str]
) -> None:
    uri = f"http://{host}:{free_port()}/callback"
    with bound(uri):
        assert [one for one in (*taken, *free) if not can_listen(uri, one)] == taken


def test_two_logins_do_not_share_a_port_but_may_use_it_in_turn(free_port: Port) -> None:
    uri = f"http://127.0.0.1:{free_port()}/callback"
    for _ in range(2):
        with bound(uri) as one:
            second, refusals = bind(uris(uri))
            assert second is None
            assert refusals[0].why == "in_use"
            with socket.create_connection(("127.0.0.1", one.redirect_uri.port)):
                accepted, _ = one.sockets[0].accept()
                accepted.close()  # leaves a connection in TIME_WAIT


def test_a_port_in_use_for_one_family_is_in_use_for_localhost() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        one, refusals = bind(uris(f"http://localhost:{port}/callback"))
        assert one is None
        assert refusals[0].why == "in_use"
        with bound(f"http://127.0.0.1:{port}/callback"):  # what had been bound was given back
            pass


@linux
def test_without_ipv6_localhost_is_the_other_family() -> None:
    program = """
        import pathlib, subprocess
        from tests.login.test_listener import bind, uris
        pathlib.Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for text in ("http://localhost:8765/", "http://[::1]:8765/"):
            listener, refusals = bind(uris(text))
            print(listener and [one.getsockname() for one in listener.sockets], [one.why for one in refusals])
            listener and listener.close()
    """
    try:  # in a network of its own, so that nothing of this machine is switched off
        told = python(program, before=("unshare", "--map-root-user", "--net"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot create a network namespace here: {error}")
    assert told == "[('127.0.0.1', 8765)] []\nNone ['unavailable']\n"


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_refused_at_once_with_its_owner(host: str) -> None:
    with socket.create_server((host, 0)) as other:
        port, began = other.getsockname()[1], time.monotonic()
        one, refusals = bind(uris(f"http://127.0.0.1:{port}/callback"))
        assert time.monotonic() - began < 1
    assert one is None
    assert re.fullmatch(rf"Port {port} is in use by .+ \(pid {os.getpid()}\)\.", refusals[0].text)


AS_NOBODY = """
    import os, re, sys
    from tests.login.test_listener import bind, uris
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    listener, refusals = bind(uris(*sys.argv[1:]))
    print(listener, *[f"{one.why}: {re.sub(' by .+ .pid [0-9]+.', '', one.text)}" for one in refusals], sep="\\n")
"""


@linux
def test_a_privileged_port_is_refused_as_privileged_or_in_use() -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 443:
        pytest.skip("every user may open port 443 here (net.ipv4.ip_unprivileged_port_start)")
    with socket.create_server(("127.0.0.1", 0)) as other:  # of this process, which the other user cannot look into
        port = other.getsockname()[1]
        refused = python(AS_NOBODY, "https://localhost/", f"http://127.0.0.1:{port}/").splitlines()
    privileged = "privileges: Only privileged programs can listen on port 443."
    assert refused == ["None", privileged, f"in_use: Port {port} is in use by another program."]
    try:
        # Linux still says EACCES, but a redirect that is to be pasted would go to this program.
        with socket.create_server(("127.0.0.2", 443)):
            told = python(AS_NOBODY, "https://127.0.0.2/")
    except PermissionError:
        pytest.skip("port 443 cannot be opened here")
    assert "\nin_use: Port 443 is in use by another program.\n" in told


# Who connects

CONNECT = """
    import os, socket, sys
    family, host, port, uid = sys.argv[1:]
    if os.getuid() == 0:
        os.setuid(int(uid))
    with socket.socket(socket.AF_INET6 if family == "6" else socket.AF_INET) as one:
        one.connect((host, int(port)))
        print(os.getuid(), flush=True)
        input()
"""


@linux
@pytest.mark.parametrize(
    ("listens", "family", "connects"),
    [("127.0.0.1", "4", "127.0.0.1"), ("127.0.0.1", "6", "::ffff:127.0.0.1"), ("::1", "6", "::1")],
)
@pytest.mark.parametrize("uid", [0, 65534])
def test_the_user_at_the_other_end_is_known(listens: str, family: str, connects: str, uid: int) -> None:
    with socket.create_server((listens, 0), family=socket.AF_INET6 if ":" in listens else socket.AF_INET) as server:
        arguments = (family, connects, str(server.getsockname()[1]), str(uid))
        command = [sys.executable, "-c", textwrap.dedent(CONNECT), *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            expected = int(other.stdout.readline())
            accepted, client = server.accept()
            with accepted:
                assert connected_user(accepted.getsockname(), client) == expected
                # Another connection with the same ports is not mistaken for it.
                assert connected_user(("127.0.0.9", client[1]), ("127.0.0.9", client[1])) is None
            other.stdin.close()
