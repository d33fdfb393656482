"""Where the state lives, and which names a profile may have."""

import os
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webex_loopback.errors import ConfigurationError
from webex_loopback.paths import config_file, profile_name, state_folder, token_file

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="XDG is not Windows' way")


def test_webex_loopback_home_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_folder() == str(tmp_path / "state")


@posix_only
def test_then_xdg_state_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WEBEX_LOOPBACK_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_folder() == str(tmp_path / "xdg" / "webex-loopback")


@posix_only
@pytest.mark.parametrize("xdg", [None, "", "relative/path"])
def test_then_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, xdg: str | None) -> None:
    monkeypatch.delenv("WEBEX_LOOPBACK_HOME")
    if xdg is not None:
        monkeypatch.setenv("XDG_STATE_HOME", xdg)
    assert state_folder() == str(tmp_path / "home" / ".local" / "state" / "webex-loopback")


@pytest.mark.parametrize("home", ["~/webex", "~/webex/../webex"])
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", home)
    assert state_folder() == str(tmp_path / "home" / "webex")


def test_the_folder_is_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", "here")
    assert state_folder() == os.path.abspath("here")


def test_the_profile_is_named_then_set_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile_name() == "default"
    monkeypatch.setenv("WEBEX_PROFILE", "admin")
    assert profile_name() == profile_name("") == "admin"
    assert profile_name("bot") == "bot"
    assert os.path.basename(token_file("bot")) == "bot.json"


@pytest.mark.parametrize("name", ["a", "Team-1", "me@example.com", "x_y.z", "a+b", "con1", "9", "a" * 100])
def test_plain_names_are_profiles(name: str) -> None:
    assert profile_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", ".hidden", "-x", "--help", "a/b", "a\\b", "/etc/passwd", "a b", "a\n", "a\0", "é", "日本"),
        *("a.", "a" * 101, "con", "CON", "Con.txt", "nul", "lpt1", "com9.x", "a:b", "a*", "~", "$x"),
    ],
)
def test_what_is_no_plain_file_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        token_file(name)
    assert caught.value.setting == "WEBEX_PROFILE"
    assert caught.value.remedy


@given(st.text(min_size=1))
def test_no_profile_leaves_its_folder(name: str) -> None:
    try:
        path = token_file(name)
    except ConfigurationError:
        return
    folder = os.path.join(state_folder(), "tokens")
    assert os.path.dirname(os.path.normpath(path)) == folder
    assert set(os.path.basename(path)) <= set(string.ascii_letters + string.digits + "._-@+")


def test_the_settings_file_is_the_named_one_then_here_then_the_state_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert config_file() == ""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "config.env").touch()
    assert config_file() == str(tmp_path / "state" / "config.env")
    (tmp_path / "work" / "config.env").touch()
    assert config_file() == str(tmp_path / "work" / "config.env")
    (tmp_path / "named.env").touch()
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "named.env"))
    assert config_file() == str(tmp_path / "named.env")


def test_a_named_settings_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "absent.env"))
    with pytest.raises(ConfigurationError, match=r"absent\.env") as caught:
        config_file()
    assert caught.value.setting == "WEBEX_CONFIG_FILE"
