"""The fast path of `get_token()`: reads the token file, the environment and the configuration file without parsers."""

import os

from webex_loopback.errors import ConfigurationError
from webex_loopback.paths import config_file, variable

TYPE_CHECKING = False  # typing.TYPE_CHECKING without importing typing
if TYPE_CHECKING:
    from webex_loopback.secret import Secret
    from webex_loopback.settings import Settings

TOKEN_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="  # RFC 6750 §2.1

_HEAD = b'{\n "version": 1,\n "refresh_at": '
_ACCESS_TOKEN = b',\n "access_token": "'
_ISSUED_AT = b'",\n "issued_at": '
_SETTINGS = (b"WEBEX_ACCESS_TOKEN", b"WEBEX_TOKEN_STORE")

scanned: "dict[tuple[str, str], bool]" = {}
warned: "set[str]" = set()  # found configuration files whose token has been reported


def quick_look(path: str) -> "tuple[tuple[str, tuple[int, ...]], float, float, str] | None":
    """Read a token file: path and signature, `issued_at`, `refresh_at` and access token.

    `json` would double the cost of the whole call (it imports `re`). This reads exactly the bytes that
    `StoredToken.to_json()` writes, and returns None for anything else, which is left to `StoredToken.from_json()`.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        data = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    if os.name == "posix":
        directory = os.path.dirname(path)
        owners = {status.st_uid, os.stat(directory).st_uid, os.stat(os.path.dirname(directory)).st_uid}
        if status.st_mode & 0o77 or owners != {os.geteuid()}:
            return None
    if not data.startswith(_HEAD) or not data.endswith(b"}\n") or data.count(_ACCESS_TOKEN[2:]) != 1:
        return None
    refresh_at, _, rest = data[len(_HEAD) :].partition(_ACCESS_TOKEN)
    token, _, rest = rest.partition(_ISSUED_AT)
    issued_at = rest.partition(b",")[0]
    moments = (refresh_at, issued_at)
    if not token or token.translate(None, TOKEN_BYTES) or not all(m.isdigit() and len(m) <= 12 for m in moments):
        return None
    return (path, signature(status)), int(issued_at), int(refresh_at), token.decode()


def signature(status: os.stat_result) -> "tuple[int, ...]":
    """Return a value that changes when a file is replaced or written to."""
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode, status.st_uid


def all_settings(token_store: "Secret | None" = None) -> "Settings":
    """Read all settings, which loads pydantic."""
    from webex_loopback.settings import load

    return load(token_store=token_store)


def environment_token() -> str:
    """Return WEBEX_ACCESS_TOKEN, or ""."""
    token = variable("WEBEX_ACCESS_TOKEN")
    plain = not token.encode("ascii", "replace").translate(None, TOKEN_BYTES) and token.lower() != "bearer"
    if token and plain:
        return token
    set_here = bool(token or variable("WEBEX_ACCESS_TOKEN_FILE"))
    del token  # an error's traceback may be printed with its local variables
    if not set_here and not config_mentions_us():
        return ""
    settings = all_settings()  # cleans or refuses quotes, "Bearer ", and white space
    found = "" if set_here or not settings.access_token else settings.found_file
    if found and found not in warned:
        warned.add(found)
        settings.warn_of_found_token()
    return settings.access_token.get_secret_value()


def store_kind() -> str:
    """Return WEBEX_TOKEN_STORE: `file`, `keyring`, or a database's URL."""
    kind = variable("WEBEX_TOKEN_STORE")
    return kind or (all_settings().token_store if config_mentions_us() else "") or "file"


def config_mentions_us() -> bool:
    """Whether the configuration file sets what `get_token()` needs; it is scanned once per process and place."""
    key = (variable("WEBEX_CONFIG_FILE"), variable("WEBEX_LOOPBACK_HOME"))
    if key not in scanned:
        scanned[key] = _scan()
    return scanned[key]


def _scan() -> bool:
    try:
        config = config_file()
        if config is None:
            return False
        descriptor = os.open(config.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            data = os.read(descriptor, 1 << 20).replace(b"\0", b"").upper()  # UTF-16, too
        finally:
            os.close(descriptor)
    except (OSError, ConfigurationError):
        return False  # a login reports what is wrong with it; a stored token needs no settings
    return any(name in line and not line.lstrip().startswith(b"#") for line in data.splitlines() for name in _SETTINGS)
