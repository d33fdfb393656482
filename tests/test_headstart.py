"""The head start of a login: in which case it is taken, and that it then does what the long way does."""

import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from webex_loopback import login
from webex_loopback.authorization import RedirectURI
from webex_loopback.browser import Choice
from webex_loopback.errors import LoginFailed
from webex_loopback.headstart import HeadStart, _plain_settings, plain_case, take
from webex_loopback.sandbox import Person, Sandbox
from webex_loopback.settings import PREFIX, load, require
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the browser here is a shell script")

OUTFIT = {"WEBEX_CLIENT_ID": "C0", "WEBEX_CLIENT_SECRET": "s", "BROWSER": "/bin/true"}


@pytest.fixture
def outfit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser, and as much of the settings as a login must have."""
    for name, value in OUTFIT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`$BROWSER`, at which somebody sits; the addresses that it was given."""
    told, script = tmp_path / "told", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {told}\n')
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(script))
    addresses: list[str] = []
    ended = threading.Event()

    def sit() -> None:
        while not ended.wait(0.01):
            lines = told.read_text().splitlines() if told.exists() else []
            for address in lines[len(addresses) :]:
                addresses.append(address)
                Person().visit(address)

    thread = threading.Thread(target=sit)
    thread.start()
    yield addresses
    ended.set()
    thread.join()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[HeadStart | None]:
    """The head starts that were tried."""
    from webex_loopback import headstart

    tried: list[HeadStart | None] = []
    take = headstart.take

    def noted(*case: object) -> HeadStart | None:
        tried.append(take(*case))  # type: ignore[arg-type]
        return tried[-1]

    monkeypatch.setattr(headstart, "take", noted)
    return tried


# When it is taken


@pytest.mark.usefixtures("redirect_uri")
def test_a_first_login_takes_it(
    opened: list[str], taken: list[HeadStart | None], store: FileTokenStore, sandbox: Sandbox
) -> None:
    result = login.log_in()
    assert result.how == "browser"
    assert store.load() == result.token
    (ahead,) = taken
    assert ahead is not None
    assert opened == [ahead.listener.redirect_uri.origin + ahead.start_path]
    assert sandbox.count("authorization_code", status=200) == 1
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o600


@pytest.mark.usefixtures("logged_in")
def test_where_somebody_is_logged_in_it_is_not_taken(opened: list[str], taken: list[HeadStart | None]) -> None:
    assert login.log_in().how == "already"
    assert (opened, taken) == ([], [])


def test_with_force_it_is_taken_all_the_same(
    logged_in: StoredToken, opened: list[str], taken: list[HeadStart | None]
) -> None:
    result = login.log_in(force=True)
    assert result.token.access_token != logged_in.access_token
    assert len(opened) == len(taken) == 1


@pytest.mark.usefixtures("redirect_uri", "opened")
def test_with_force_a_corrupt_file_is_set_aside(store: FileTokenStore, taken: list[HeadStart | None]) -> None:
    folder = Path(store.path).parent
    folder.mkdir(parents=True)
    Path(store.path).write_text("{")
    login.log_in(force=True)
    assert len(taken) == 1
    (aside,) = (path for path in folder.iterdir() if ".corrupt-" in path.name)
    assert aside.read_text() == "{"


@pytest.mark.usefixtures("outfit")
def test_where_the_port_is_taken_nothing_is_opened(
    opened: list[str], taken: list[HeadStart | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("WEBEX_REDIRECT_URI", f"http://127.0.0.1:{other.getsockname()[1]}/callback")
        with pytest.raises(LoginFailed):
            login.log_in()
    assert (opened, taken) == ([], [None])


@pytest.mark.usefixtures("redirect_uri")
def test_it_waits_for_no_other_login(
    opened: list[str], taken: list[HeadStart | None], store: FileTokenStore, capfd: pytest.CaptureFixture[str]
) -> None:
    held, ended = threading.Event(), threading.Event()

    def other() -> None:
        with login._claim(store, 5):
            held.set()
            ended.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(5)
    threading.Timer(0.3, ended.set).start()
    assert login.log_in().how == "browser"
    thread.join()
    assert taken == []
    assert len(opened) == 1
    assert "Another login of profile default is under way" in capfd.readouterr().err


@pytest.mark.usefixtures("outfit")
def test_without_a_browser_it_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_case({}) is not None
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22")
    assert plain_case({}) is None


def test_a_fault_of_the_opening_is_there_to_be_told_of(free_port: Callable[[], int]) -> None:
    ahead = take([RedirectURI.parse(f"http://127.0.0.1:{free_port()}/")], Choice(["a\0b"], "a", "of no use"), print)
    assert ahead is not None
    ahead.listener.close()
    assert isinstance(ahead.opened.exception(5), ValueError)


# What counts as plain


@pytest.mark.usefixtures("outfit")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBEX_CLIENT_ID", " "),
        ("WEBEX_SCOPES", " "),
        ("WEBEX_SCOPES", 'spark:"kms'),
        ("webex_scopes", "spark:kms"),
        ("WEBEX_REDIRECT_URI", "https://127.0.0.1/"),
        ("WEBEX_REDIRECT_URI", "http://example.com/"),
        ("WEBEX_REDIRECT_URI", "http://127.0.0.1:8765/ https://127.0.0.1:8766/"),
        ("WEBEX_LOGIN_TIMEOUT", "0"),
        ("WEBEX_LOGIN_TIMEOUT", "soon"),
        ("WEBEX_LOGIN_TIMEOUT", "99999"),
        ("WEBEX_API_BASE_URL", "http://example.com/v1"),
        ("WEBEX_TOKEN_URL", "https://user@example.com/"),
        ("WEBEX_AUTHORIZE_URL", "ftp://127.0.0.1/"),
        ("WEBEX_CA_BUNDLE", "/nowhere.pem"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("WEBEX_CONFIG_FILE", "/nowhere.env"),
    ],
)
def test_a_setting_that_wants_a_judgement_is_left_to_the_long_way(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert plain_case({}) is None


@pytest.mark.usefixtures("outfit")
def test_what_is_given_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_REDIRECT_URI", "http://127.0.0.1:8001/")
    Path("config.env").write_text("# mine\nWEBEX_REDIRECT_URI='http://127.0.0.1:8002/'\r\n\nWEBEX_SCOPES=a b\n")
    monkeypatch.setenv("SSL_CERT_DIR", "/")

    def ports(**overrides: object) -> list[int]:
        case = plain_case(overrides)
        assert case is not None
        return [redirect_uri.port for redirect_uri in case[0]]

    assert ports(redirect_uri="http://127.0.0.1:8003/,http://localhost:8004/", scopes=None) == [8003, 8004]
    assert ports() == [8001]
    monkeypatch.delenv("WEBEX_REDIRECT_URI")
    assert ports(login_timeout=20.5) == [8002]


_values = st.text("ab1:/.'\"\\$#{}= \t,é%", max_size=12) | st.sampled_from(
    [
        "C0",
        "a b",
        "'a b'",
        "http://127.0.0.1:8001/",
        "'http://localhost:9/x'",
        "300",
        "1e2",
        "https://[::1]/v1",
        "\ufeff",
    ]
)
_names = st.sampled_from(
    [f"{PREFIX}{name}" for name in ("CLIENT_ID", "CLIENT_SECRET", "SCOPES", "REDIRECT_URI", "LOGIN_TIMEOUT")]
    + ["WEBEX_API_BASE_URL", "WEBEX_TOKEN_URL", "webex_scopes", "OTHER", "export WEBEX_SCOPES", "WEBEX_SCOPES "]
)
_lines = st.builds(lambda name, value: f"{name}={value}", _names, _values) | st.sampled_from(["", "# x", "  ", "x"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(_lines, max_size=5), end=st.sampled_from(["\n", "\r\n", "\r"]))
@pytest.mark.usefixtures("outfit")
def test_it_reads_a_settings_file_as_the_long_way_does_or_not_at_all(lines: list[str], end: str) -> None:
    Path("config.env").write_bytes(end.join([*lines, ""]).encode())
    plain = _plain_settings({})
    case = plain_case({})
    if case is None or plain is None:
        return
    loaded = load()
    require(loaded)
    assert [redirect_uri.text for redirect_uri in case[0]] == loaded.redirect_uris
    for field in ("client_id", "scopes", "redirect_uri", "api_base_url"):
        default = type(loaded).model_fields[field].default
        assert plain.get(f"{PREFIX}{field.upper()}", default).rstrip("/") == getattr(loaded, field).rstrip("/"), field
    assert float(plain["WEBEX_LOGIN_TIMEOUT"]) == loaded.login_timeout
