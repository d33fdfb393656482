"""Binds the loopback sockets of a redirect URI, and asks Linux which user is at the other end of a connection.

Standard library only and quick to import: a login binds its sockets and opens the browser before it imports anything
else, and the kernel keeps the browser's request until the server runs.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from webex_loopback.oauth.redirect_uri import RedirectURI
from webex_loopback.wording import printable

_IPV4_MAPPED = "0000000000000000FFFF0000"  # an IPv4 address on an IPv6 socket, in /proc/net/tcp6


def new_path(prefix: str) -> str:
    """Return `prefix` and 128 random bits: a path that nobody can guess."""
    return prefix + os.urandom(16).hex()


@dataclass(slots=True)
class Listener:
    """The bound sockets of one redirect URI, and the paths where its login starts."""

    redirect_uri: RedirectURI
    sockets: tuple[socket.socket, ...]
    browser_path: str = field(default_factory=lambda: new_path("/start/"))
    printed_path: str = field(default_factory=lambda: new_path("/start/"))

    @property
    def browser_url(self) -> str:
        """The URL for the browser's command line, which other users of the machine can read: it works once."""
        return self.redirect_uri.origin + self.browser_path

    @property
    def printed_url(self) -> str:
        """The URL for the terminal, which only this user can read: it works in any browser, and repeatedly."""
        return self.redirect_uri.origin + self.printed_path

    def close(self) -> None:
        for bound in self.sockets:
            bound.close()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a redirect URI could not be bound."""

    redirect_uri: RedirectURI
    why: str  # in_use, privileges, or unavailable
    text: str  # the same as a sentence


def bind(redirect_uris: Sequence[RedirectURI]) -> tuple[Listener | None, list[Refusal]]:
    """Bind the first redirect URI that is available; also return why those before it were not."""
    refusals: list[Refusal] = []
    for redirect_uri in redirect_uris:
        try:
            return Listener(redirect_uri, _bind(redirect_uri)), refusals
        except OSError as error:
            refusals.append(_refusal(redirect_uri, error))
    return None, refusals


def _bind(redirect_uri: RedirectURI) -> tuple[socket.socket, ...]:
    """Bind each address of the host; for `localhost`, skip a family that the machine lacks (RFC 8252 §7.3)."""
    missing: OSError | None = None
    with contextlib.ExitStack() as bound_so_far:
        sockets = []
        for host in redirect_uri.hosts:
            try:
                sockets.append(bound_so_far.enter_context(_listen(host, redirect_uri.port)))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing and not sockets:
            raise missing
        bound_so_far.pop_all()
    return tuple(sockets)


def _listen(host: str, port: int) -> socket.socket:
    bound = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        # On Windows, SO_REUSEADDR lets two programs share a port; SO_EXCLUSIVEADDRUSE exists only there. Elsewhere,
        # SO_REUSEADDR only allows binding while connections of the previous login are in TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
        bound.bind((host, port))
        bound.listen(128)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _refusal(redirect_uri: RedirectURI, error: OSError) -> Refusal:
    port, denied = redirect_uri.port, error.errno in (errno.EACCES, errno.EPERM)
    # Windows reports EACCES for a port that another program holds exclusively. Linux checks privileges first, so the
    # port can be in use as well, and the browser would then hand the code to that program.
    if error.errno == errno.EADDRINUSE or (denied and (sys.platform == "win32" or _listening(port))):
        owner = port_owner(port) or "another program"
        return Refusal(redirect_uri, "in_use", f"Port {port} is in use by {owner}.")
    if denied and port < 1024:
        return Refusal(redirect_uri, "privileges", f"Only privileged programs can listen on port {port}.")
    return Refusal(redirect_uri, "unavailable", f"Cannot listen on {redirect_uri.origin}: {error.strerror}.")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def port_owner(port: int) -> str:
    """Return which program listens on a port, for example `python3 (pid 4711)`; "" if that is not known."""
    sockets = _listening(port)
    for pid in filter(str.isdigit, os.listdir("/proc")) if sockets else ():
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in sockets:
                        # Programs choose their names; Linux cuts them at 15 bytes, even within a character.
                        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                            return f"{printable(file.read(), 60)} (pid {pid})"
    return ""


def _listening(port: int) -> set[str]:
    """Return the sockets that listen on a port, as in /proc/PID/fd; none if the system does not report them."""
    rows = [row for row in _rows("tcp", "tcp6") if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    return {f"socket:[{row[9]}]" for row in rows}


def connected_user(server: Sequence[object], client: Sequence[object]) -> int | None:
    """Return the uid of the user who opened a TCP connection on this machine; None if the system does not report it.

    Args:
        server: Our end, as from `getsockname()`.
        client: The other end, as from `getpeername()`.
    """
    ends = [_as_in_proc(str(host), int(str(port))) for host, port in (client[:2], server[:2])]
    for row in _rows("tcp", "tcp6"):
        if ends == [end.removeprefix(_IPV4_MAPPED) for end in row[1:3]]:
            return int(row[7])
    return None


def _as_in_proc(host: str, port: int) -> str:
    """Write an address as 32-bit words in the machine's byte order."""
    raw = socket.inet_pton(_family(host), host)
    words = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4))
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def _rows(*tables: str) -> Iterator[list[str]]:
    """Yield the rows of /proc/net/tcp and tcp6: 1 local address, 2 remote address, 3 state, 7 uid, 9 inode."""
    for table in tables if sys.platform == "linux" else ():  # elsewhere, anyone could have created such a file
        with contextlib.suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            next(file, None)
            for line in file:
                yield line.split()
