"""Where settings come from, what they may be used with, what is refused, and that no secret leaves them."""

import io
import logging
import os
import pickle
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from tests.conftest import Log, Patch, as_root, posix, raised, with_locals
from webex_loopback import paths
from webex_loopback.errors import ConfigurationError
from webex_loopback.secret import Secret
from webex_loopback.settings import ENVIRONMENT_ONLY, Settings, load, powershell_quoted, require

ROOT = Path(__file__).parent.parent
NAMES = {f"WEBEX_{field.upper()}": field for field in Settings.model_fields}
SECRETS = ["WEBEX_CLIENT_SECRET", "WEBEX_ACCESS_TOKEN", "WEBEX_TOKEN_STORE_KEY"]
ENDPOINTS = ["WEBEX_API_BASE_URL", "WEBEX_AUTHORIZE_URL", "WEBEX_TOKEN_URL", "WEBEX_CA_BUNDLE"]
SECRET = "0123456789abcdef" * 4
EVIL = "https://evil.example/v1"
ANOTHER_USER = 12345
refusal = partial(raised, ConfigurationError)


def write(content: str | bytes, name: str = "work/config.env", *, mode: int = 0o600) -> Path:
    """Write a file; "work" is the working directory, "data" the data directory, "home" the home directory."""
    path = Path.cwd().parent / name
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def warnings() -> list[str]:
    """Return all but those about client IDs and secrets such as "one"."""
    return [text for text in load().warnings if "usual form" not in text]


def plain(settings: Settings, name: str) -> str:
    value = getattr(settings, NAMES[name])
    return str(value.get_secret_value() if isinstance(value, Secret) else value)


def test_the_example_shows_every_setting_with_its_default() -> None:
    text = (ROOT / "config.example.env").read_text(encoding="utf-8")
    assert dotenv_values(stream=io.StringIO(text)) == {}
    shown = dotenv_values(stream=io.StringIO(re.sub(r"^#(?=WEBEX_)", "", text, flags=re.MULTILINE)))
    assert shown == {name: plain(Settings.model_construct(), name) for name in NAMES}
    assert all(f"\n# {name} " in text for name in ENVIRONMENT_ONLY)


def test_the_documentation_has_a_row_for_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(WEBEX_\w+)` \| (.*?) \|", text, flags=re.MULTILINE))
    assert set(rows) == {*NAMES, *ENVIRONMENT_ONLY}
    defaults = {name: plain(Settings.model_construct(), name) for name in NAMES}
    assert all(f"`{default}`" in rows[name] for name, default in defaults.items() if default)


def test_the_first_source_that_has_a_value_wins(monkeypatch: Patch) -> None:
    in_data = write("WEBEX_CLIENT_ID=data\nWEBEX_SCOPES=of:data", "data/config.env")
    assert (load().client_id, load().origins["WEBEX_CLIENT_ID"]) == ("data", str(in_data))
    assert (load().config_file, load().found_file) == (str(in_data), "")
    here = write("WEBEX_CLIENT_ID=here")
    assert (load().client_id, load().found_file) == ("here", str(here))
    assert load().origins["WEBEX_SCOPES"] == "default"  # one file, not two merged
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(write("WEBEX_CLIENT_ID=named", "named.env")))
    assert (load().client_id, load().found_file) == ("named", "")
    monkeypatch.setenv("WEBEX_CLIENT_ID", "environment")
    assert (load().client_id, load().origins["WEBEX_CLIENT_ID"]) == ("environment", "environment")
    settings = load(client_id="argument", scopes=None, redirect_uri="")
    assert (settings.client_id, settings.origins["WEBEX_CLIENT_ID"]) == ("argument", "command line")
    assert settings.origins["WEBEX_REDIRECT_URI"] == settings.origins["WEBEX_SCOPES"] == "default"


def test_names_are_not_case_sensitive(monkeypatch: Patch) -> None:
    write("webex_client_id=one\nexport Webex_Lang=ja_JP.UTF-8\n")
    monkeypatch.setenv("webex_scopes", "a:b")
    monkeypatch.setenv("webex_profile", "work")
    assert paths.profile_name() == "work"
    assert (load().client_id, load().lang, load().scope_list) == ("one", "ja", ["a:b"])
    assert warnings() == []


@pytest.mark.parametrize("value", ['"{}"', "'{}'", " {} "])
def test_quotes_around_a_path_in_the_environment_are_not_part_of_it(
    value: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    file = write("WEBEX_CLIENT_ID=one", mode=0o600)
    monkeypatch.setenv("WEBEX_CONFIG_FILE", value.format(file))
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", value.format(tmp_path))
    assert (load().config_file, load().found_file) == (str(file), "")
    assert paths.data_directory() == str(tmp_path)


@posix
@pytest.mark.parametrize(("state_home", "above"), [("/var/state", "/var/state"), ("here", "/me/.local/state")])
def test_the_data_directory_is_in_the_state_directory_of_xdg(state_home: str, above: str, monkeypatch: Patch) -> None:
    monkeypatch.delenv("WEBEX_LOOPBACK_HOME")
    monkeypatch.setenv("HOME", "/me")
    monkeypatch.setenv("XDG_STATE_HOME", state_home)  # a relative one is to be ignored
    assert paths.data_directory() == f"{above}/webex-loopback"


@posix
@pytest.mark.parametrize("name", ["WEBEX_LOOPBACK_HOME", "WEBEX_LOCK_DIR", "WEBEX_CONFIG_FILE", "WEBEX_CA_BUNDLE"])
def test_an_unknown_home_directory_is_an_error(name: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv(name, "~nobody-of-this-name/x")
    error = refusal(paths.environment_path, name)
    assert ("home directory" in str(error), error.setting) == (True, name)


@posix
@pytest.mark.parametrize(
    "name", ["WEBEX_LOOPBACK_HOME", "WEBEX_CONFIG_FILE", "WEBEX_CA_BUNDLE", "WEBEX_ACCESS_TOKEN_FILE"]
)
def test_a_relative_path_in_a_directory_that_has_been_removed_is_an_error(name: str, monkeypatch: Patch) -> None:
    Path().absolute().rmdir()
    assert load().client_id == ""
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigurationError, match=r"current directory") as caught:
        load()
    assert caught.value.setting == name


@pytest.mark.parametrize("empty", ["", " ", "''", '""', "' '"])
def test_an_empty_value_counts_as_not_set(empty: str, monkeypatch: Patch) -> None:
    write("WEBEX_CLIENT_ID=one\nWEBEX_LOGIN_TIMEOUT=\nWEBEX_CLIENT_SECRET\n")
    for name in ("WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET_FILE", "WEBEX_SCOPES"):
        monkeypatch.setenv(name, empty)
    settings = load(client_id=empty)
    assert (settings.client_id, settings.login_timeout) == ("one", 300)
    assert settings.scopes == Settings.model_fields["scopes"].default


def test_the_endpoints_follow_from_the_base_url(monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_API_BASE_URL", "https://api-usgov.webex.com/v1/")
    settings = load(token_url="https://idbroker.webex.com/token")
    assert settings.api_base_url == "https://api-usgov.webex.com/v1"
    assert settings.authorize_url == "https://api-usgov.webex.com/v1/authorize"
    assert settings.token_url == "https://idbroker.webex.com/token"
    origins = [settings.origins[f"WEBEX_{name}_URL"] for name in ("AUTHORIZE", "TOKEN")]
    assert origins == ["environment", "command line"]  # the derived one has the origin of the base URL


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_editors_and_powershell_may_have_written_the_file(encoding: str, end: str) -> None:
    lines = ["# é", "WEBEX_CLIENT_ID=one", f'WEBEX_CLIENT_SECRET="{SECRET}"', "WEBEX_SCOPES='a:b ${HOME}'", ""]
    write(end.join(lines).encode(encoding))
    assert (load().client_id, load().client_secret, warnings()) == ("one", Secret(SECRET), [])
    assert load().scope_list == ["a:b", "${HOME}"]  # not expanded


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "shift-jis"])
def test_a_file_in_another_encoding_gets_an_error_that_says_how_to_fix_it(encoding: str) -> None:
    path = write(f"WEBEX_CLIENT_SECRET={SECRET} # 日本\n".encode(encoding))
    assert str(path) in str(refusal(load))
    assert "UTF-8" in refusal(load).remedy


def test_lines_that_are_not_settings_are_numbered_and_not_logged(caplog: Log) -> None:
    path = write("# fine\n\n\nWEBEX_CLIENT_ID one\n\nWEBEX_CLIENT_ID=two\nWEBEX_SCOPES='a:b\nWEBEX_LANG=\"x\n")
    with caplog.at_level(logging.DEBUG):
        settings = load()
    assert [text.partition(": ")[0] for text in warnings()] == [f"{path}:{n}" for n in (4, 7, 8)]
    assert settings.client_id == "two"
    assert caplog.records == []


def test_names_that_are_not_settings_are_reported(monkeypatch: Patch) -> None:
    path = write("WEBEX_CLIENTID=x\n$env:WEBEX_SCOPES=a\nWEBEX_PROFILE=work\nPATH=/bin\n'WEBEX_\x1b[2J'=x\n")
    told = " ".join(warnings())
    assert all(name in told for name in ("WEBEX_CLIENTID", "$ENV:WEBEX_SCOPES", "WEBEX_PROFILE", str(path)))
    assert "PATH" not in told
    assert told.isprintable()
    monkeypatch.setenv("WEBEX_CLIENT_IDD", "x")
    missing = str(refusal(require, load()))
    assert all(name in missing for name in ("WEBEX_CLIENT_ID ", "WEBEX_CLIENTID", "WEBEX_CLIENT_IDD", str(path)))
    assert "WEBEX_LOOPBACK_HOME" not in missing


@pytest.mark.timeout(5)
@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "huge", "missing", "link to nothing"])
@pytest.mark.parametrize("setting", ["WEBEX_CONFIG_FILE", "WEBEX_CLIENT_SECRET_FILE"])
def test_a_named_file_must_be_a_small_regular_file(kind: str, setting: str, monkeypatch: Patch) -> None:
    if sys.platform == "win32" and kind in ("fifo", "device", "link to nothing"):
        pytest.skip("Windows has neither FIFOs nor device nodes, and links need a privilege")
    path = write(b"A=1\n" * 100_000, "odd.env")
    if kind != "huge":
        path.unlink()
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(0o700)
    elif kind in ("device", "link to nothing"):
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    monkeypatch.setenv(setting, str(path))
    error = refusal(load)
    assert error.setting == setting
    assert "odd.env" in str(error)
    assert "chmod" not in error.remedy


@posix
def test_a_fifo_in_the_working_directory_is_not_a_configuration_file() -> None:
    os.mkfifo("config.env")
    assert load().config_file == ""


def expose(kind: str, path: Path) -> None:
    """Let other users change what is read from a file."""
    if kind == "owner":
        os.chown(path, ANOTHER_USER, -1)
    elif kind in ("group", "world"):
        path.chmod(0o620 if kind == "group" else 0o602)
    else:
        if kind == "link":
            target = path.rename(write("", "open/target.env"))
            path.symlink_to(target)
            path = target
        path.parent.chmod(0o777)


EXPOSED = [pytest.param("owner", marks=as_root), "group", "world", "directory", "link"]


@posix
@pytest.mark.parametrize("kind", EXPOSED)
def test_a_found_file_that_others_can_change_is_skipped_with_one_warning(kind: str) -> None:
    path = write(f"WEBEX_API_BASE_URL={EVIL}\nWEBEX_ODD=1\nbroken line\n")
    expose(kind, path)
    in_data = write("WEBEX_CLIENT_ID=data", "data/config.env")
    assert (load().config_file, load().client_id, load().found_file) == (str(in_data), "data", "")
    assert load().origins["WEBEX_API_BASE_URL"] == "default"
    (warning,) = warnings()
    assert str(path) in warning


@posix
@pytest.mark.parametrize("kind", EXPOSED[:3])
def test_a_found_file_that_is_replaced_after_it_was_checked_is_refused(kind: str, monkeypatch: Patch) -> None:
    path, evil, opening = write("WEBEX_CLIENT_ID=one\n"), write(f"WEBEX_API_BASE_URL={EVIL}\n", "work/evil"), os.open
    expose(kind, evil)

    def replace_first(opened: str, *arguments: Any) -> int:
        if opened == str(path) and evil.exists():
            evil.replace(path)
        return opening(opened, *arguments)

    monkeypatch.setattr(os, "open", replace_first)
    assert "replaced after it was checked" in str(refusal(load))


@posix
@pytest.mark.parametrize("kind", EXPOSED)
@pytest.mark.parametrize("where", ["named", "data"])
def test_another_file_that_others_can_change_is_an_error(kind: str, where: str, monkeypatch: Patch) -> None:
    path = write(f"WEBEX_CLIENT_SECRET={SECRET}", f"{where}/config.env")
    if where == "named":
        monkeypatch.setenv("WEBEX_CONFIG_FILE", str(path))
    assert load().client_secret
    expose(kind, path)
    error = refusal(load)
    assert (error.exit_code, error.setting) == (2, "WEBEX_CONFIG_FILE")
    assert str(path) in str(error)


@posix
def test_a_directory_with_the_sticky_bit_is_safe() -> None:
    write("WEBEX_CLIENT_ID=one")
    Path.cwd().chmod(0o1777)
    assert load().client_id == "one"


@posix
@as_root
def test_a_data_directory_of_another_user_is_an_error() -> None:
    path = write("WEBEX_CLIENT_ID=one", "data/config.env")
    os.chown(path.parent, ANOTHER_USER, -1)
    assert str(path.parent) in str(refusal(load))


@posix
@as_root
def test_files_of_root_are_trusted_except_in_the_data_directory(tmp_path: Path, monkeypatch: Patch) -> None:
    for above in (tmp_path, *tmp_path.parents[:3]):  # one more with pytest-xdist
        above.chmod(0o755)
    path = write("WEBEX_CLIENT_ID=root", mode=0o644)
    os.seteuid(ANOTHER_USER)
    try:
        assert (load().client_id, load().found_file) == ("root", str(path))
        monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(Path.cwd()))
        assert "belongs to another user" in str(refusal(load))
        monkeypatch.setenv("WEBEX_CONFIG_FILE", str(path))
        assert (load().client_id, load().found_file) == ("root", "")
    finally:
        os.seteuid(0)


@posix
@pytest.mark.parametrize("content", [f"{name}=x" for name in SECRETS] + ["WEBEX_TOKEN_STORE=postgres://u:p@h/d"])
def test_a_secret_that_others_can_read_is_a_warning(content: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_CONFIG_FILE", "config.env")
    write(content, mode=0o600)
    assert warnings() == []
    path = write(content, mode=0o640)
    (warning,) = warnings()
    assert f"chmod 600 {path}" in warning
    write("WEBEX_CLIENT_ID=x\nWEBEX_CLIENT_SECRET=\nWEBEX_TOKEN_STORE=keyring\n", mode=0o644)
    assert warnings() == []


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("origin", ["environment", "command line", "/data/tokens/work.json", "default", ""])
def test_a_found_file_cannot_choose_an_endpoint_for_a_secret_from_elsewhere(
    name: str, origin: str, monkeypatch: Patch
) -> None:
    path = write(f"{name}={EVIL}\n")
    error = refusal(load().check_destinations, origin, "the token")
    assert error.setting == name
    assert str(path) in str(error)
    assert "for the token, which is" in str(error)
    export = "$env:" if os.name == "nt" else "export "
    assert f"{export}WEBEX_CONFIG_FILE={shlex.quote(str(path))}`" in error.remedy
    load().check_destinations(str(path), "the token")
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(path))
    load().check_destinations(origin, "the token")  # who names the file trusts it
    monkeypatch.delenv("WEBEX_CONFIG_FILE")
    monkeypatch.setenv(name, "https://webexapis.com/v1")
    load().check_destinations(origin, "the token")


@pytest.mark.parametrize("name", ENDPOINTS)
@pytest.mark.parametrize("origin", ["environment", "command line", "file"])
def test_a_login_checks_where_the_client_secret_goes(name: str, origin: str, monkeypatch: Patch) -> None:
    write(SECRET, "secret")
    named = "WEBEX_CLIENT_SECRET_FILE=../secret\n" if origin == "file" else ""
    write(f"{name}={EVIL}\nWEBEX_CLIENT_ID=x\n{named}")
    if origin == "environment":
        monkeypatch.setenv("WEBEX_CLIENT_SECRET", SECRET)
    settings = load(client_secret=Secret(SECRET) if origin == "command line" else None)
    assert refusal(require, settings).setting == name
    write(f"{name}={EVIL}\nWEBEX_CLIENT_ID=x\nWEBEX_CLIENT_SECRET=own")
    monkeypatch.delenv("WEBEX_CLIENT_SECRET", raising=False)
    require(load())  # everything comes from the same file


@pytest.mark.parametrize("name", ["BROWSER", "TOKEN_STORE", "TOKEN_STORE_KEY", "TOKEN_STORE_KEY_FILE"])
def test_a_found_file_never_chooses_the_browser_or_the_store(name: str, monkeypatch: Patch) -> None:
    path = write(f"WEBEX_{name}=keyring\n")
    write("x", "work/keyring")
    error = refusal(load)
    assert error.setting == f"WEBEX_{name}"
    assert str(path) in str(error)
    with monkeypatch.context() as patch:
        patch.setenv("WEBEX_CONFIG_FILE", str(path))
        assert load().origins[f"WEBEX_{name}"] == str(path)
    monkeypatch.setenv(f"WEBEX_{name}", "keyring")
    assert load().origins[f"WEBEX_{name}"] == "environment"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file_of_its_own(name: str, monkeypatch: Patch) -> None:
    path = write(f"\ufeff {SECRET}\r\n", "home/secret", mode=0o644)
    monkeypatch.setenv(f"{name}_FILE", "~/secret")
    assert (plain(load(), name), load().origins[name]) == (SECRET, str(path))
    monkeypatch.setenv(name, "other")
    assert refusal(load).setting == f"{name}_FILE"
    monkeypatch.delenv(f"{name}_FILE")
    write(f"{name}_FILE={path}\n", "data/config.env")
    assert plain(load(), name) == "other"  # the environment wins over the file
    monkeypatch.delenv(name)
    assert plain(load(), name) == SECRET
    write(" \n", "home/secret")
    assert "is empty" in str(refusal(load))


@pytest.mark.parametrize("name", ["WEBEX_CLIENT_ID", *SECRETS])
@pytest.mark.parametrize("written", ['"{}"', "'{}'", " {}\r\n", '" {} "'])
def test_quotes_and_white_space_are_not_part_of_a_value(name: str, written: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv(name, written.format(SECRET))
    assert plain(load(), name) == SECRET


BAD_URLS = r"""
http://webexapis.com/v1 http://127.0.0.1.example.com/v1 http://localhost.example.com/v1 http://10.0.0.1/v1 http://127.1/
http://[::2]/v1 http://[::1/v1 https://[:::]/v1 https://user:pass@webexapis.com/v1 http://127.0.0.1@example.com/v1
https://example.com\@webexapis.com https://a.com%2f.example.com/v1 https://a.com:port https://a.com:65536 https://a.com:0
https://a.com/v1?x=1 https://a.com/v1#x https://ｗebexapis.com/v1 https://webexapis..com https:///v1 https://
ftp://a.com a.com/v1 file:///a"""
URLS = [*BAD_URLS.split(), "https://webex\napis.com/v1", f"https://{'a' * 64}.com"]
TIMEOUTS = ["soon", "0", "-1", "nan", "inf", "1e99", "86401", "2d", 0, -0.5, float("nan")]
STORES = ["memory", "postgresql+psycopg://h/d", "postgresql://h\nx", "postgres://"]
REFUSED: list[tuple[str, Any]] = [
    *((field, url) for field in ("api_base_url", "authorize_url", "token_url") for url in URLS),
    *((f, f"{SECRET}{c}x") for f in ("client_id", "client_secret", "access_token") for c in "\né\x1b \u200b\udcff"),
    *(("login_timeout", timeout) for timeout in TIMEOUTS),
    *(("token_store", store) for store in STORES),
    ("client_identifier", "x"),
]


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_a_value_that_cannot_be_used_is_refused_and_not_shown(field: str, value: object) -> None:
    error = refusal(load, **{field: Secret(value) if isinstance(value, str) else value})
    assert error.setting == f"WEBEX_{field.upper()}"
    assert "command line" in error.remedy
    assert not re.search(f"pass@|{SECRET}", f"{error!r}{error.remedy}")


PASTED = ["Bearer {}", "bearer  {}", "'Bearer {}'", 'Bearer "{}"', "Authorization: Bearer {}"]


@pytest.mark.parametrize(
    ("field", "given", "read"),
    [
        *(("access_token", written.format(SECRET), Secret(SECRET)) for written in PASTED),
        ("access_token", "Bearer ", Secret()),
        *(("api_base_url", url, url) for url in ("http://127.9.9.9/v1", "http://[::1]:65535", "http://localhost:80/a")),
        *(("login_timeout", given, read) for given, read in ((60, 60), (0.5, 0.5), ("90", 90), ("5m", 300))),
        *(("token_store", s, s) for s in ("file", "keyring", "postgresql://u:p@h:1,h2/d?ssl=x", "postgres:///d")),
        ("scopes", "spark%3Akms%20a:b", "spark:kms a:b"),
        ("redirect_uri", " http://a/,http://b/%20 ", "http://a/ http://b/%20"),
    ],
)
def test_a_value_is_read_however_it_was_pasted(field: str, given: object, read: object) -> None:
    assert getattr(load(**{field: given}), field) == read


def test_paths_are_made_absolute(tmp_path: Path) -> None:
    settings = load(ca_bundle="~/ca.pem", tls_cert="'cert.pem'", tls_key=tmp_path / "key.pem")
    expected = [tmp_path / "home" / "ca.pem", tmp_path / "work" / "cert.pem", tmp_path / "key.pem"]
    assert [settings.ca_bundle, settings.tls_cert, settings.tls_key] == [str(path) for path in expected]


LACKS = [("client_id", None), ("client_secret", None), ("redirect_uri", ","), ("scopes", ","), ("scopes", 'a:b c"d')]


@pytest.mark.parametrize(("field", "value"), [*LACKS, ("scopes", "a:b c\\d"), ("scopes", "スコープ")])
def test_a_login_says_which_setting_it_needs(field: str, value: str | None) -> None:
    enough = {"client_id": "one", "client_secret": "two"}
    require(load(**enough))
    error = refusal(require, load(**(enough | {field: value})))
    assert error.setting == f"WEBEX_{field.upper()}"
    assert error.setting in str(error)


@pytest.mark.parametrize(
    ("client_id", "client_secret", "odd"),
    [
        (f"C{SECRET}", SECRET, []),
        (f"c{SECRET.upper()}", SECRET.upper(), []),
        (SECRET, f"C{SECRET}", ["WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET"]),
        ("abc", "", ["WEBEX_CLIENT_ID"]),
    ],
)
def test_credentials_in_an_unusual_format_are_a_warning(client_id: str, client_secret: str, odd: list[str]) -> None:
    told = load(client_id=client_id, client_secret=client_secret).warnings
    assert sorted(text.split()[0] for text in told) == odd
    assert not [text for text in told if SECRET in text]


def test_settings_show_no_secrets_and_cannot_be_pickled() -> None:
    store = f"postgresql://u:{SECRET}@h/d"
    settings = load(client_secret=SECRET, access_token=SECRET, token_store_key=SECRET, token_store=store)
    shown = [repr(settings), str(settings), f"{settings}", str(settings.model_dump(exclude={"token_store"}))]
    assert not any(SECRET in text for text in shown)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.client_id = "other"  # type: ignore[misc]


BROKEN = "CLIENT_SECRET_FILE=key ACCESS_TOKEN_FILE=nowhere BROWSER=x TOKEN_URL=http://x LOGIN_TIMEOUT=" + SECRET


@pytest.mark.parametrize("content", [*BROKEN.split(), f"CLIENT_SECRET={SECRET}é", f"{SECRET}\0"])
def test_a_traceback_with_local_variables_shows_no_secret(content: str, monkeypatch: Patch) -> None:
    write(SECRET, "work/key")
    write(f"WEBEX_CLIENT_SECRET={SECRET}\nWEBEX_{content}\n")
    monkeypatch.setenv("WEBEX_TOKEN_STORE_KEY", SECRET)
    error = refusal(load)
    shown = with_locals(error)
    assert "overrides = {}" in shown  # local variables are there
    assert SECRET not in shown
    assert error.__context__ is None or isinstance(error.__context__, OSError)


def test_a_path_is_quoted_as_powershell_reads_it() -> None:
    assert powershell_quoted(r"C:\Users\O'Neil\config.env") == r"'C:\Users\O''Neil\config.env'"
