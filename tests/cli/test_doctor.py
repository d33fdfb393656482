"""`doctor`: each finding, their order, and that nothing it shows is a secret."""

import datetime
import json
import os
import socket
import stat
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.webex.conftest import listening, saying
from tests.windows import UNDER_WINE
from webex_loopback.cli import doctor
from webex_loopback.cli.doctor import Check, examine
from webex_loopback.cli.texts import catalogue
from webex_loopback.login.certificate import server_context
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import DAY, ServiceApp, StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

from .conftest import Make, Run, posix

CLIENT_ID = "C" + "0a" * 32
CLIENT_SECRET = "1b" * 32

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change owners")


def found(name: str, profile: str | None = None, online: bool = False) -> list[Check]:
    return [check for check in examine(profile, online=online) if check.name == name]


def only(name: str, profile: str | None = None, online: bool = False) -> Check:
    checks = found(name, profile, online)
    assert len(checks) == 1, checks
    return checks[0]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> str:
    """An Integration in the environment; returns its redirect URI."""
    uri = f"http://127.0.0.1:{free_port()}/callback"
    for name, value in (("CLIENT_ID", CLIENT_ID), ("CLIENT_SECRET", CLIENT_SECRET), ("REDIRECT_URI", uri)):
        monkeypatch.setenv(f"WEBEX_{name}", value)
    return uri


# The whole


def test_after_a_login_there_are_no_problems(
    run: Run, logged_in: StoredToken, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", sys.executable)
    text = run("doctor").out
    assert text.endswith("\n\nNo problems found.\n")
    assert logged_in.account.email in text
    assert not [secret for secret in sandbox.secrets if secret in text]
    names = "Python,config file,WEBEX_CLIENT_ID,redirect URI,browser,proxy,connection,clock,data directory,token store"
    positions = [f"\n{text}".index(f"\n✓ {name} ") for name in f"{names},login,tokens,Webex,scopes".split(",")]
    assert positions == sorted(positions)


def test_without_settings_every_check_runs_and_the_exit_code_is_that_of_the_first_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("WEBEX_API_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    monkeypatch.setenv("WEBEX_REDIRECT_URI", f"http://127.0.0.1:{free_port()}/callback")
    answer = json.loads(run("doctor", "-p", "work", "--json", code=2).out)
    assert answer["exit_code"] == 2
    errors = {check["name"]: check for check in answer["checks"] if check["level"] == "error"}
    assert list(errors) == ["settings", "connection", "login"]
    assert errors["login"]["remedy"] == "Run `webex-loopback login -p work`."
    for check in answer["checks"]:
        assert check.keys() >= {"name", "level", "text", "remedy"}
        assert bool(check["remedy"]) == (check["level"] in ("warning", "error"))
        assert "doctor" not in check["remedy"]
    assert "Fix the first error first." in run("doctor", "--offline", code=2).out


def test_every_warning_and_error_has_a_remedy_and_every_error_an_exit_code() -> None:
    for key, finding in catalogue("doctor").items():
        needed = finding.get("level") in ("warning", "error") and key != "note"  # settings' warnings contain theirs
        assert bool(finding.get("remedy")) == needed, key
        assert bool(finding.get("exit")) == (finding.get("level") == "error" and key != "failed"), key


@pytest.mark.parametrize(
    ("environ", "name", "level", "code"),
    [
        ({"WEBEX_LOGIN_TIMEOUT": "soon"}, "settings", "error", 2),
        ({"WEBEX_LOGIN_TIMEOUT": "soon"}, "redirect URI", "skipped", 0),
        ({"WEBEX_LOGIN_TIMEOUT": "soon"}, "connection", "skipped", 0),
        ({"WEBEX_LOGIN_TIMEOUT": "soon"}, "data directory", "ok", 0),
        ({"WEBEX_SCOPE": "x"}, "environment", "warning", 0),
        ({"WEBEX_REDIRECT_URI": "http://example.com/callback"}, "redirect URI", "error", 2),
        ({"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"}, "browser", "warning", 0),
        ({"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "WEBEX_BROWSER": sys.executable}, "browser", "ok", 0),
        ({"SSL_CERT_FILE": __file__}, "connection", "error", 2),
        ({"WEBEX_PROFILE": "../x"}, "token store", "error", 2),
        ({"WEBEX_TOKEN_STORE": "postgresql://127.0.0.1:9/x"}, "token store", "error", 6 if find_spec("psycopg") else 2),
    ],
)
def test_findings_that_follow_from_the_environment(
    environ: dict[str, str], name: str, level: str, code: int, configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    check = only(name)
    assert (check.level, check.exit_code) == (level, code)
    assert bool(check.remedy) == (level in ("warning", "error"))


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128", "hunter2"),
        ("HTTPS_PROXY", "http://me:hun/t@er2@proxy.example:3128", "hun/t"),
        ("WEBEX_TOKEN_STORE", "postgresql://me:hunter2@127.0.0.1:9/db?connect_timeout=1", "hunter2"),
        ("WEBEX_TOKEN_STORE", "postgresql://127.0.0.1:9/db?user=me&password=hunter2", "hunter2"),
        ("WEBEX_SCOPES", "a\x1b]0;title\x07:b\u202e", "\x1b"),
        ("WEBEX_LOCK_DIR", "\x1b[31mred\u202e", "\x1b"),
        ("WEBEX_ACCESS_TOKEN", CLIENT_SECRET[::-1], CLIENT_SECRET[::-1]),
    ],
)
def test_foreign_text_is_shown_without_secrets_and_control_characters(
    name: str, value: str, hidden: str, configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    everything = "".join(check.text + check.remedy for check in examine(None, online=False))
    assert not [text for text in (hidden, "\u202e", CLIENT_SECRET) if text in everything]


# Settings


def test_settings_are_shown_with_their_origin(configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("config.env").absolute()
    path.write_text("WEBEX_SCOPES=a:b\nnot a setting\nWEBEX_CLIENTID=x\n")
    monkeypatch.setenv("WEBEX_PROFILE", "work")
    monkeypatch.setenv("WEBEX_LOGIN_TIMEOUT", "90")
    checks = list(examine(None, online=False))
    shown = {check.name: check.text for check in checks if check.level == "ok"}
    assert shown["config file"] == str(path)
    assert shown["WEBEX_SCOPES"] == f"a:b ({path})"
    assert shown["WEBEX_CLIENT_SECRET"] == "set (environment)"
    assert shown["WEBEX_PROFILE"] == "work (environment)"
    assert shown["WEBEX_LOGIN_TIMEOUT"] == "1 min 30 s (environment)"
    warnings = " ".join(check.text for check in checks if check.level == "warning")
    assert f"{path}:2" in warnings
    assert "WEBEX_CLIENTID" in warnings


def test_a_missing_credential_is_an_error_only_without_a_login(save: Make) -> None:
    assert only("settings").exit_code == 2
    save()
    assert only("settings").level == "warning"


# This machine


def test_a_port_in_use_is_an_error_only_if_no_other_is_available(
    configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert only("redirect URI").level == "ok"  # bound, and released
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}/callback"
        monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
        check = only("redirect URI")
        assert (check.level, check.exit_code) == ("error", 4)
        monkeypatch.setenv("WEBEX_REDIRECT_URI", f"{uri} {configured}")
        assert [check.level for check in found("redirect URI")] == ["warning", "ok"]


@posix
def test_the_certificate_of_an_https_redirect_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("WEBEX_REDIRECT_URI", f"https://127.0.0.1:{free_port()}/")
    assert "self-signed" in only("certificate").text
    server_context(folder=str(tmp_path / "data"))
    assert "self-signed" in only("certificate").text
    pair, end = tmp_path / "pair.pem", datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=90)
    for name in ("WEBEX_TLS_CERT", "WEBEX_TLS_KEY"):
        monkeypatch.setenv(name, str(pair))
    for name, mode, level, code in (
        ("127.0.0.1", 0o600, "ok", 0),
        ("127.0.0.1", 0o644, "warning", 0),
        ("example.com", 0o600, "error", 2),
    ):
        trustme.CA().issue_cert(name, not_after=end).private_key_and_cert_chain_pem.write_to_path(pair)
        pair.chmod(mode)
        check = only("certificate")
        assert (check.level, check.exit_code) == (level, code)


# The network


@pytest.mark.parametrize(
    ("status", "level", "code"),
    [(200, "ok", 0), (405, "ok", 0), (302, "error", 5), (511, "error", 5), (503, "warning", 0)],
)
def test_other_answers_at_the_token_endpoint_are_explained(
    status: int, level: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(saying(f"HTTP/1.0 {status} x\r\n\r\n".encode())) as (origin, _):
        monkeypatch.setenv("WEBEX_API_BASE_URL", f"{origin}/v1")
        checks = {check.name: check for check in examine(None, online=True)}
    assert (checks["connection"].level, checks["connection"].exit_code) == (level, code)
    assert checks["clock"].level == "skipped"  # no date was sent


@pytest.mark.parametrize(("offset", "words"), [(7200, "behind"), (-7200, "ahead")])
def test_a_wrong_clock_is_a_warning(sandbox: Sandbox, offset: float, words: str) -> None:
    assert only("clock", online=True).level == "ok"
    sandbox.switches.date_offset = offset
    check = only("clock", online=True)
    assert (check.level, words in check.text, "2 h" in check.text) == ("warning", True, True)


@pytest.mark.skipif(UNDER_WINE, reason="Wine accepts certificates of an unknown issuer, but none for an IP address")
def test_sources_of_trust_and_the_issuer_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA(organization_name="Example Corp. Inspection")
    server, bundle = tmp_path / "server.pem", tmp_path / "ca.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(server)
    authority.cert_pem.write_to_path(bundle)
    with Sandbox(tls=(str(server), str(server))) as sandbox:
        monkeypatch.setenv("WEBEX_API_BASE_URL", sandbox.base_url)
        assert only("connection", online=True).exit_code == 5
        for name in ("WEBEX_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, str(bundle))
        assert only("connection", online=True).level == "ok"
        assert only("trusted CAs").text.count(str(bundle)) == 2
        assert "Example Corp. Inspection" in only("issuer", online=True).text


# The data directory and the token store


@posix
def test_a_data_directory_is_private_and_its_real_path_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "created" in only("data directory").text
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "link"))
    (tmp_path / "link").symlink_to("data")
    assert only("data directory").text == os.path.realpath(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700  # created for the lock
    (tmp_path / "data").chmod(0o755)
    (tmp_path / "data" / "tokens").chmod(0o755)
    check = found("data directory")[1]
    assert check.level == "warning"
    assert f"`chmod -R go= {os.path.realpath(tmp_path / 'data')}`" in check.remedy
    assert "1 more" in check.text


@posix
@as_root
def test_files_of_another_user_are_one_error(save: Make, tmp_path: Path) -> None:
    save()
    for path in (tmp_path / "data" / "tokens").iterdir():
        os.chown(path, 12345, 12345)
    check = found("data directory")[1]
    assert (check.exit_code, "sudo chown" in check.remedy) == (6, True)
    assert only("token store").exit_code == 6


def test_leftovers_of_killed_saves_are_one_warning(save: Make, tmp_path: Path) -> None:
    save()
    tokens = tmp_path / "data" / "tokens"
    for name in (".work.json.new", "default.json.corrupt-20260101T000000", ".config.env.1a2b.new", ".x.json.12.ab.tmp"):
        (tokens / name).write_text("{")
        (tokens / name).chmod(0o600)
    before = sorted(tokens.iterdir())
    check = found("data directory")[1]
    assert (check.level, "3 more" in check.text) == ("warning", True)
    assert sorted(tokens.iterdir()) == before


def test_the_lock_is_really_taken(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOCK_SECONDS", 0.05)
    check = only("token store")
    assert (check.level, store.path in check.text) == ("ok", True)
    assert os.listdir(os.path.dirname(store.path)) == ["default.json.lock"]
    with store.lock():
        assert only("token store").exit_code == 6


# The token


def levels() -> dict[str, str]:
    wanted = ("login", "tokens", "scopes", "Integration", "Service App")
    return {check.name: check.level for check in examine(None, online=False) if check.name in wanted}


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, "ok"),
        ({"age": 15 * DAY}, "ok"),
        ({"expires_in": None, "refresh_token_expires_in": None}, "ok"),
        ({"age": 85 * DAY}, "warning"),
        ({"age": DAY, "refresh_token_expires_in": 3600}, "warning"),
        ({"refresh_token": None}, "warning"),
        ({"age": 91 * DAY}, "error"),
        ({"age": 15 * DAY, "refresh_token": None}, "error"),
    ],
)
def test_tokens_that_end_soon_are_a_warning_and_dead_ones_an_error(
    options: dict[str, Any], level: str, save: Make
) -> None:
    save(**options)
    check = only("tokens")
    assert (check.level, check.exit_code) == (level, 3 if level == "error" else 0)


@pytest.mark.parametrize(
    ("status", "online", "told"),
    [(401, True, [("error", 3)]), (403, True, [("ok", 0)]), (500, True, []), (401, False, [])],
)
def test_webex_is_asked_whether_it_accepts_a_token_that_has_not_expired(
    status: int, online: bool, told: list[tuple[str, int]], save: Make
) -> None:
    with listening(saying(f"HTTP/1.0 {status} x\r\n\r\n".encode())) as (origin, _):
        save(api_base_url=f"{origin}/v1")
        checks = found("Webex", online=online)
        assert [(check.level, check.exit_code) for check in checks] == told
        assert all(check.remedy == "Run `webex-loopback login --force`." for check in checks if check.exit_code)
        save(api_base_url=f"{origin}/v1", age=15 * DAY)
        assert found("Webex", online=online) == []


def test_a_service_app_needs_no_refresh_token(save: Make) -> None:
    save(age=91 * DAY, refresh_token=None, service_app=ServiceApp(org_id="org", app_id="app", using="work"))
    assert levels() == {"login": "ok", "tokens": "ok", "Service App": "ok", "scopes": "ok"}


def test_scopes_and_settings_that_differ_from_the_login_are_reported(
    configured: str, save: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(client_id=CLIENT_ID, scopes_requested=["a:b", "c:d"], scope=["a:b"])
    monkeypatch.setenv("WEBEX_SCOPES", "a:b e:f")
    denied, new = found("scopes")
    assert ("c:d" in denied.text, "a:b" in denied.text) == (True, False)
    assert ("e:f" in new.text, new.remedy) == (True, "Run `webex-loopback login --force`.")
    save()
    assert levels()["Integration"] == "warning"


def test_a_token_in_the_environment_takes_precedence(save: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", CLIENT_SECRET)
    assert levels()["login"] == "skipped"
    assert only("settings").level == "warning"
    save()
    assert found("WEBEX_ACCESS_TOKEN")[1].level == "warning"
    assert found("WEBEX_ACCESS_TOKEN", "default")[1:] == []  # a named profile is used
