"""Where settings come from, what is refused, and that no secret leaves them unasked."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values

from webex_loopback.errors import ConfigurationError
from webex_loopback.settings import Settings, broken_lines, is_loopback, load, origins, require, unknown_names

ROOT = Path(__file__).parent.parent
NAMES = [f"WEBEX_{field.upper()}" for field in Settings.model_fields]
SECRET = "0123456789abcdef" * 4


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a settings file: by default ./config.env."""

    def make(content: str | bytes, path: Path | None = None) -> Path:
        path = path or Path.cwd() / "config.env"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


# config.example.env


def example() -> dict[str, str | None]:
    """The settings of the example with the "#" removed."""
    text = (ROOT / "config.example.env").read_text(encoding="utf-8")
    return dotenv_values(stream=io.StringIO(re.sub(r"^#(?=WEBEX_)", "", text, flags=re.MULTILINE)))


def test_the_example_shows_every_setting_and_no_other() -> None:
    assert set(example()) == set(NAMES)


def test_the_example_as_it_stands_sets_nothing(write: Callable[..., Path]) -> None:
    assert dotenv_values(ROOT / "config.example.env") == {}


def test_the_example_shows_the_defaults(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load()
    write((ROOT / "config.example.env").read_text(encoding="utf-8").replace("\n#WEBEX_", "\nWEBEX_"))
    assert load() == expected
    assert unknown_names() == []
    defaults = {f"WEBEX_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    shown = {name: value for name, value in example().items() if value}
    assert {name: str(defaults[name]) for name in shown} == shown
    left_out = {name for name in NAMES if name not in shown}
    assert all(not getattr(defaults[name], "get_secret_value", lambda n=name: defaults[n])() for name in left_out)


def test_the_example_names_what_is_read_from_the_environment_only() -> None:
    from webex_loopback.doctor import ENVIRONMENT_ONLY

    text = (ROOT / "config.example.env").read_text(encoding="utf-8")
    assert all(f"\n# {name} " in text for name in ENVIRONMENT_ONLY)


# Where a value comes from


def test_the_first_place_that_has_a_settings_file_counts(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_state = write("WEBEX_CLIENT_ID=state\nWEBEX_SCOPES=of:state", tmp_path / "state" / "config.env")
    assert load().client_id == "state"
    assert origins()["WEBEX_CLIENT_ID"] == str(in_state)
    write("WEBEX_CLIENT_ID=here")
    assert load().client_id == "here"
    assert load().scopes == Settings.model_fields["scopes"].default  # one file, not a merge of two
    named = write("WEBEX_CLIENT_ID=named", tmp_path / "named.env")
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(named))
    assert load().client_id == "named"
    monkeypatch.setenv("WEBEX_CLIENT_ID", "environment")
    assert load().client_id == "environment"
    assert load(client_id="argument").client_id == "argument"
    assert origins()["WEBEX_CLIENT_ID"] == "environment"
    assert origins({"client_id": "argument"})["WEBEX_CLIENT_ID"] == "command line"
    assert origins()["WEBEX_SCOPES"] == "default"


def test_a_settings_file_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "nowhere.env"))
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert caught.value.setting == "WEBEX_CONFIG_FILE"


def test_names_are_read_without_regard_to_case(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write("webex_client_id=one\n")
    monkeypatch.setenv("webex_scopes", "a:b")
    assert (load().client_id, load().scope_list) == ("one", ["a:b"])
    assert origins()["WEBEX_CLIENT_ID"].endswith("config.env")
    assert origins()["WEBEX_SCOPES"] == "environment"


def test_an_override_that_is_none_or_empty_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_SCOPES", "a:b")
    assert load(scopes=None, redirect_uri="").scopes == "a:b"


def test_an_empty_value_counts_as_not_set(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write("WEBEX_LOGIN_TIMEOUT=\nWEBEX_CLIENT_ID\nWEBEX_SCOPES=''\n")
    monkeypatch.setenv("WEBEX_REDIRECT_URI", "")
    assert load().login_timeout == 300
    assert load().redirect_uris == ["http://127.0.0.1:8765/callback"]
    assert set(origins().values()) == {"default"}


# How a file may be written


def test_notepad_may_have_written_the_file(write: Callable[..., Path]) -> None:
    write(f"\ufeffWEBEX_CLIENT_ID=one\r\nWEBEX_CLIENT_SECRET={SECRET}\r\nWEBEX_SCOPES='a:b c:d'\r\n")
    settings = load()
    assert (settings.client_id, settings.scope_list) == ("one", ["a:b", "c:d"])
    assert settings.client_secret.get_secret_value() == SECRET
    assert origins()["WEBEX_CLIENT_ID"].endswith("config.env")
    assert unknown_names() == []


def test_blanks_and_line_ends_around_a_value_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET", "WEBEX_ACCESS_TOKEN"):
        monkeypatch.setenv(name, " value\r\n")
    settings = load()
    assert settings.client_id == "value"
    assert settings.client_secret.get_secret_value() == settings.access_token.get_secret_value() == "value"


def test_a_file_that_is_not_text_is_named(write: Callable[..., Path]) -> None:
    write("WEBEX_CLIENT_ID=日本".encode("shift-jis"))
    with pytest.raises(ConfigurationError, match=r"config\.env cannot be read: it is not UTF-8"):
        load()


def test_a_folder_in_the_files_place_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "work" / "config.env").mkdir()
    assert load().client_id == ""


@pytest.mark.parametrize("text", ["a:b c:d", "a:b,c:d", " a:b , c:d, ", "a:b\tc:d a:b", ",a:b,,c:d"])
def test_scopes_are_separated_by_spaces_or_commas(text: str) -> None:
    assert load(scopes=text).scope_list == ["a:b", "c:d"]


@pytest.mark.parametrize("text", [" ", ",", " , "])
def test_scopes_may_come_to_nothing(text: str) -> None:
    settings = load(scopes=text, client_id="one", client_secret="two")
    with pytest.raises(ConfigurationError) as caught:
        require(settings)
    assert caught.value.setting == "WEBEX_SCOPES"


@pytest.mark.parametrize("text", ["http://a/ http://b/", "http://a/,http://b/", " http://a/ ,\thttp://b/ "])
def test_redirect_uris_are_separated_by_spaces_or_commas(text: str) -> None:
    assert load(redirect_uri=text).redirect_uris == ["http://a/", "http://b/"]


# What is refused


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", "1e99", "\x1b[31m"])
def test_a_bad_value_is_named_and_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_LOGIN_TIMEOUT", value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    error = caught.value
    assert error.setting == "WEBEX_LOGIN_TIMEOUT"
    assert "WEBEX_LOGIN_TIMEOUT" in str(error)
    assert error.remedy == "Correct WEBEX_LOGIN_TIMEOUT in the environment."
    if len(value) > 2:
        assert value not in f"{error} {error.remedy} {error!r}"
    assert error.__suppress_context__


def test_the_remedy_names_the_place_to_mend(write: Callable[..., Path]) -> None:
    path = write("WEBEX_LOGIN_TIMEOUT=soon\n")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert caught.value.remedy == f"Correct WEBEX_LOGIN_TIMEOUT in {path}."
    with pytest.raises(ConfigurationError) as caught:
        load(login_timeout=-1)
    assert caught.value.remedy == "Correct WEBEX_LOGIN_TIMEOUT on the command line."


@pytest.mark.parametrize("field", ["api_base_url", "authorize_url", "token_url"])
@pytest.mark.parametrize(
    "url",
    [
        "http://webexapis.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://localhost.example.com/v1",
        "http://10.0.0.1/v1",
        "http://[::2]/v1",
        "http://[::1/v1",
        "https://user:pass@webexapis.com/v1",
        "http://127.0.0.1@example.com/v1",
        "https://webexapis.com:port/v1",
        "https://",
        "ftp://webexapis.com/v1",
        "webexapis.com/v1",
        "file:///etc/passwd",
    ],
)
def test_a_url_to_which_the_secret_must_not_go_is_refused(field: str, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(**{field: url})
    assert caught.value.setting == f"WEBEX_{field.upper()}"
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "http://127.9.9.9/v1", "http://[::1]:1/v1", "http://localhost/v1"]
)
def test_plain_http_is_for_this_machine(url: str) -> None:
    assert load(api_base_url=url).token_url == f"{url}/access_token"


@pytest.mark.parametrize(("host", "answer"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("", False)])
def test_is_loopback(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer


def test_the_endpoints_follow_from_the_base_url() -> None:
    settings = load(api_base_url="https://api-usgov.webex.com/v1/")
    assert settings.api_base_url == "https://api-usgov.webex.com/v1"
    assert settings.authorize_url == "https://api-usgov.webex.com/v1/authorize"
    assert settings.token_url == "https://api-usgov.webex.com/v1/access_token"
    other = load(api_base_url="https://api-usgov.webex.com/v1", token_url="https://idbroker.webex.com/token")
    assert other.token_url == "https://idbroker.webex.com/token"
    assert other.authorize_url == "https://api-usgov.webex.com/v1/authorize"


def test_paths_are_made_absolute(tmp_path: Path) -> None:
    settings = load(ca_bundle="~/ca.pem", tls_cert="cert.pem", tls_key="/etc/key.pem")
    assert settings.ca_bundle == str(tmp_path / "home" / "ca.pem")
    assert settings.tls_cert == str(tmp_path / "work" / "cert.pem")
    assert settings.tls_key == "/etc/key.pem"


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"client_secret": "two"}, "WEBEX_CLIENT_ID"),
        ({"client_id": "one"}, "WEBEX_CLIENT_SECRET"),
        ({"client_id": "one", "client_secret": "two", "redirect_uri": " , "}, "WEBEX_REDIRECT_URI"),
        ({"client_id": "one", "client_secret": "two", "scopes": 'a:b "c:d"'}, "WEBEX_SCOPES"),
        ({"client_id": "one", "client_secret": "two", "scopes": "a:b c\\d"}, "WEBEX_SCOPES"),
        ({"client_id": "one", "client_secret": "two", "scopes": "スコープ"}, "WEBEX_SCOPES"),
    ],
)
def test_what_a_login_cannot_do_without_is_named(given: dict[str, str], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        require(load(**given))
    assert caught.value.setting == setting
    assert caught.value.exit_code == 2


def test_what_is_enough_for_a_login() -> None:
    require(load(client_id="one", client_secret="two"))


def test_names_that_are_no_settings_are_told(write: Callable[..., Path]) -> None:
    assert unknown_names() == []
    write("WEBEX_CLIENTID=one\nWEBEX_SCOPES=a:b\nPATH=/bin\nwebex_secret=x\nexport WEBEX_REDIRECT=x\n")
    assert unknown_names() == ["WEBEX_CLIENTID", "WEBEX_REDIRECT", "webex_secret"]


def test_lines_that_are_not_understood_are_numbered(write: Callable[..., Path]) -> None:
    assert broken_lines() == []
    write("# fine\nWEBEX_CLIENT_ID=one\nWEBEX_SCOPES='a:b\nWEBEX_REDIRECT_URI=\"x\n")
    assert broken_lines() == [3, 4]
    assert load().client_id == "one"


# Secrets


def test_secrets_do_not_leave_the_settings_unasked() -> None:
    settings = load(client_id="one", client_secret=SECRET, access_token=SECRET[::-1])
    everything = [
        repr(settings),
        str(settings),
        f"{settings}",
        str(settings.model_dump()),
        settings.model_dump_json(),
        str(dict(settings)),
        repr(settings.client_secret),
        repr(copy.deepcopy(settings)),
    ]
    for text in everything:
        assert SECRET not in text
        assert SECRET[::-1] not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().client_id = "other"  # type: ignore[misc]


def test_a_refused_secret_is_not_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("WEBEX_LOGIN_TIMEOUT", SECRET)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert SECRET not in f"{caught.value!r} {caught.value.remedy}"
