"""Where the state lives. A few lines of standard library: platformdirs would cost the cached path 19 ms."""

import os
import sys

from .errors import ConfigurationError

_PROFILE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+")
# Windows opens the device, not the file, under these names, whatever the ending.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)


def state_folder() -> str:
    """Return the absolute path of the folder that holds tokens, certificate and `config.env`."""
    environ = os.environ
    if home := environ.get("WEBEX_LOOPBACK_HOME"):
        return os.path.abspath(os.path.expanduser(home))
    if sys.platform == "win32":  # pragma: no cover - needs Windows
        base = environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
    else:
        # The XDG specification has relative paths ignored.
        base = environ.get("XDG_STATE_HOME", "")
        if not os.path.isabs(base):
            base = os.path.expanduser("~/.local/state")
    return os.path.join(base, "webex-loopback")


def profile_name(profile: str | None = None) -> str:
    """Return the profile asked for, else `$WEBEX_PROFILE`, else `default`; refuse what is no plain file name."""
    name = profile or os.environ.get("WEBEX_PROFILE") or "default"
    if (
        not _PROFILE_CHARACTERS.issuperset(name)
        or name[0] in ".-"
        or name[-1] == "."
        or len(name) > 100
        or name.split(".")[0].lower() in _DEVICES
    ):
        raise ConfigurationError(
            f"{name!r} is not a usable profile name.",
            setting="WEBEX_PROFILE",
            remedy="Use letters, digits and . _ - @ +, not starting with . or -, at most 100 characters.",
        )
    return name


def token_file(profile: str | None = None) -> str:
    """Return the path of a profile's token file, whether it exists or not."""
    return os.path.join(state_folder(), "tokens", f"{profile_name(profile)}.json")


def login_command(profile: str) -> str:
    """Return the command line that logs a profile in, for remedies."""
    return "webex-loopback login" + ("" if profile == "default" else f" --profile {profile}")


def config_file() -> str:
    """Return the path of the settings file in force, or "" if there is none.

    Raises:
        ConfigurationError: `$WEBEX_CONFIG_FILE` names a file that is not there.
    """
    if named := os.environ.get("WEBEX_CONFIG_FILE"):
        path = os.path.abspath(os.path.expanduser(named))
        if not os.path.isfile(path):
            raise ConfigurationError(
                f"WEBEX_CONFIG_FILE names {path}, and there is no such file.",
                setting="WEBEX_CONFIG_FILE",
                remedy="Correct or unset WEBEX_CONFIG_FILE.",
            )
        return path
    for path in ("config.env", os.path.join(state_folder(), "config.env")):
        if os.path.isfile(path):
            return os.path.abspath(path)  # not before: the working directory may have been removed
    return ""
