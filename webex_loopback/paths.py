"""Paths: the data directory, the token file of a profile, the active configuration file.

Imports only a few light standard modules, because `get_token()` imports this even if its token is valid.
"""

import os
import sys

from .errors import ConfigurationError

_PROFILE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+")
# Windows opens the device, not the file, for these names, whatever the extension.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)


class ConfigFile:
    """The active configuration file; `found` if it was not named but only found in the current directory."""

    __slots__ = ("found", "path")

    def __init__(self, path: str, *, found: bool) -> None:
        self.path = path
        self.found = found


def data_directory() -> str:
    """Return the absolute path of the directory that holds tokens, certificate and `config.env`.

    Raises:
        ConfigurationError: The home directory cannot be determined.
    """
    if named := environment_path("WEBEX_LOOPBACK_HOME"):
        return named
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or _expanded(r"~\AppData\Local")
    else:
        base = os.environ.get("XDG_STATE_HOME", "")
        if not os.path.isabs(base):  # the XDG specification says to ignore relative paths
            base = _expanded("~/.local/state")
    return os.path.join(base, "webex-loopback")


def variable(name: str) -> str:
    """Return an environment variable, or ""; also in lower case, as pydantic reads the settings."""
    return os.environ.get(name) or os.environ.get(name.lower(), "")


def environment_path(name: str) -> str:
    """Return the absolute path that an environment variable names, or "" if it is not set.

    Removes the quotes that `docker --env-file` keeps as part of a value; they would end up in a directory's name.

    Raises:
        ConfigurationError: As `absolute`.
    """
    path = variable(name).strip()
    if len(path) > 1 and path[0] in "\"'" and path[-1] == path[0]:
        path = path[1:-1].strip()
    return absolute(path, name) if path else ""


def absolute(path: str, setting: str) -> str:
    """Return the absolute path that a setting names.

    Raises:
        ConfigurationError: There is no home directory for its `~`, or no current directory.
    """
    try:
        return os.path.abspath(_expanded(path, setting))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path!a} is relative to the current directory, which has been removed.",
            setting=setting,
            remedy=f"Change to another directory, or set {setting} to an absolute path.",
        ) from None


def _expanded(path: str, setting: str = "WEBEX_LOOPBACK_HOME") -> str:
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):  # no HOME and no entry in the user database: would create a directory "~"
        raise ConfigurationError(
            f"Could not determine the home directory that {path!r} refers to.",
            setting=setting,
            remedy=f"Set HOME, or set {setting} to an absolute path.",
        )
    return expanded


def profile_name(profile: "str | None" = None) -> str:
    """Return the given profile, else `$WEBEX_PROFILE`, else `default`.

    Raises:
        ConfigurationError: It is not a plain file name.
    """
    name = profile or variable("WEBEX_PROFILE") or "default"
    if not _is_profile_name(name):
        raise ConfigurationError(
            f"{name!a} is not a valid profile name.",
            setting="WEBEX_PROFILE",
            remedy="Use at most 100 letters, digits and . _ - @ + and do not start with . or -.",
        )
    return name


def _is_profile_name(name: str) -> bool:
    return (
        0 < len(name) <= 100
        and _PROFILE_CHARACTERS.issuperset(name)
        and name == name.lstrip(".-").rstrip(".")
        and name.partition(".")[0].lower() not in _DEVICES
    )


def token_file(profile: "str | None" = None) -> str:
    """Return the path of a profile's token file, whether or not it exists."""
    return os.path.join(data_directory(), "tokens", f"{profile_name(profile)}.json")


def profiles() -> "list[str]":
    """Return the names of the profiles that have a token file; files with other names are ignored."""
    try:
        entries = os.listdir(os.path.join(data_directory(), "tokens"))
    except OSError:
        return []
    # KeyringTokenStore's files end in ".encrypted".
    names = {entry.removesuffix(".encrypted") for entry in entries}
    return sorted(name[:-5] for name in names if name.endswith(".json") and _is_profile_name(name[:-5]))


def login_command(profile: str, *options: str) -> str:
    """Return the command that logs in to a profile, for remedies."""
    named = [] if profile == "default" else ["-p", profile]
    return " ".join(["webex-loopback login", *named, *options])


def config_file() -> "ConfigFile | None":
    """Return the active configuration file, or None if there is none.

    Raises:
        ConfigurationError: `$WEBEX_CONFIG_FILE` names a file that does not exist.
    """
    if path := environment_path("WEBEX_CONFIG_FILE"):
        if not os.path.exists(path):
            raise ConfigurationError(
                f"WEBEX_CONFIG_FILE names {path!a}, which does not exist.",
                setting="WEBEX_CONFIG_FILE",
                remedy="Correct or unset WEBEX_CONFIG_FILE.",
            )
        return ConfigFile(path, found=False)
    in_data_directory = os.path.join(data_directory(), "config.env")
    if os.path.isfile("config.env"):  # relative first: the current directory may have been removed
        path = os.path.abspath("config.env")
        return ConfigFile(path, found=os.path.realpath(path) != os.path.realpath(in_data_directory))
    return ConfigFile(in_data_directory, found=False) if os.path.exists(in_data_directory) else None
