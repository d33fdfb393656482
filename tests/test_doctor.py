"""What `doctor` finds, what it advises, and how it exits."""

import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from webex_loopback import doctor
from webex_loopback.doctor import Check, as_json, examine, exit_code, lines
from webex_loopback.sandbox import Sandbox
from webex_loopback.store import FileTokenStore, file_lock
from webex_loopback.token import DAY, StoredToken

CLIENT_ID = "C" + "0a" * 32
SECRET = "1b" * 32

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are those of POSIX")
unprivileged = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")


def found(name: str, **options: Any) -> list[Check]:
    """The checks of a name; offline unless told otherwise."""
    return [check for check in examine(**{"online": False, "environ": {}, **options}) if check.name == name]


def only(name: str, **options: Any) -> Check:
    checks = found(name, **options)
    assert len(checks) == 1, checks
    return checks[0]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> str:
    """An Integration in the environment; returns the redirect URI."""
    uri = f"http://127.0.0.1:{free_port()}/callback"
    monkeypatch.setenv("WEBEX_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("WEBEX_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
    return uri


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """A token endpoint that answers HEAD with one status and no date."""
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(statuses[-1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("WEBEX_API_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        yield statuses.append
        server.shutdown()
        thread.join()


# The whole


def test_all_is_well_after_a_login(logged_in: StoredToken, sandbox: Sandbox) -> None:
    checks = list(examine(environ={"DISPLAY": ":0", "PATH": os.environ["PATH"], "BROWSER": sys.executable}))
    assert [check for check in checks if check.level in ("warning", "error")] == []
    assert exit_code(checks) == 0
    names = [check.name for check in checks]
    expected = (
        "python packages WEBEX_CLIENT_ID browser proxy connection clock state locking login access refresh scopes"
    )
    positions = [next(n for n, name in enumerate(names) if name.startswith(start)) for start in expected.split()]
    assert positions == sorted(positions)
    text = "\n".join(lines(checks))
    assert text.endswith("All is well.")
    assert logged_in.account.email in text
    for secret in sandbox.secrets:
        assert secret not in text + as_json(checks)


def test_nothing_set_and_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_API_BASE_URL", "https://127.0.0.1:9/v1")  # nothing listens there
    checks = list(examine(environ={}))
    errors = {check.name: check.exit_code for check in checks if check.level == "error"}
    assert errors == {"WEBEX_CLIENT_ID": 2, "WEBEX_CLIENT_SECRET": 2, "connection": 5, "login": 3}
    assert exit_code(checks) == 2
    assert checks[-1].name == "login"  # the rest is looked at all the same
    assert all(check.remedy for check in checks if check.level in ("warning", "error"))


def test_offline_nobody_is_asked(sandbox: Sandbox) -> None:
    before = len(sandbox.requests)
    assert only("connection").level == "skipped"
    assert len(sandbox.requests) == before


def test_settings_that_cannot_be_read_end_only_what_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_LOGIN_TIMEOUT", "soon")
    checks = list(examine(environ={}))
    levels = {check.name: check.level for check in checks}
    assert levels["settings"] == "error"
    assert levels["redirect URI"] == levels["network"] == levels["connection"] == "skipped"
    assert levels["locking"] == "ok"
    assert exit_code(checks) == 2


def test_a_profile_that_cannot_be_is_a_settings_problem() -> None:
    check = only("locking", profile="../x")
    assert (check.level, check.exit_code) == ("error", 2)


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("aiohttp", "no-such-package"))
    check = only("packages")
    assert (check.level, check.exit_code) == ("error", 1)
    assert "no-such-package" in check.text


# The settings


def test_each_setting_is_shown_with_its_place_and_secrets_are_not(
    configured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "work" / "config.env"
    path.write_text(f"WEBEX_SCOPES=a:b\nWEBEX_ACCESS_TOKEN={SECRET[::-1]}\n")
    path.chmod(0o600)
    monkeypatch.setenv("WEBEX_PROFILE", "work")
    text = as_json(examine(online=False, environ={}))
    shown = {check["name"]: check["text"] for check in json.loads(text)["checks"]}
    assert shown["settings file"] == str(path)
    assert shown["WEBEX_SCOPES"] == f"a:b  ({path})"
    assert shown["WEBEX_CLIENT_ID"] == f"{CLIENT_ID}  (environment)"
    assert shown["WEBEX_CLIENT_SECRET"] == "set  (environment)"
    assert shown["WEBEX_PROFILE"] == "work  (environment)"
    assert SECRET not in text
    assert SECRET[::-1] not in text


@posix
def test_a_settings_file_with_a_secret_is_to_be_private(tmp_path: Path) -> None:
    path = tmp_path / "work" / "config.env"
    path.write_text("WEBEX_SCOPES=a:b\n")
    path.chmod(0o644)
    assert only("settings file").level == "ok"
    path.write_text(f"WEBEX_CLIENT_SECRET={SECRET}\n")
    check = only("settings file")
    assert (check.level, check.remedy) == ("warning", f"Run `chmod 600 {path}`.")
    assert "0644" in check.text


def test_lines_that_are_not_understood_are_told(tmp_path: Path) -> None:
    (tmp_path / "work" / "config.env").write_text("WEBEX_SCOPES=a:b\nWEBEX_CLIENT_ID='x\n")
    check = only("settings file")
    assert check.level == "warning"
    assert check.text.endswith("NAME=value: 2.")


def test_misspelt_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "work" / "config.env").write_text("WEBEX_CLIENTID=x\nWEBEX_PROFILE=x\nWEBEX_QQ=x\n")
    environ = {"WEBEX_SCOPE": "x", "WEBEX_TEAMS_ACCESS_TOKEN": "x", "WEBEX_PROFILE": "x"}
    remedies = {
        check.name: check.remedy for check in examine(online=False, environ=environ) if check.level == "warning"
    }
    assert remedies["WEBEX_CLIENTID"] == "Did you mean WEBEX_CLIENT_ID?"
    assert remedies["WEBEX_SCOPE"] == "Did you mean WEBEX_SCOPES?"
    assert remedies["WEBEX_PROFILE"] == "Export it in the shell."
    assert "config.example.env" in remedies["WEBEX_QQ"]
    assert "WEBEX_TEAMS_ACCESS_TOKEN" not in remedies


@pytest.mark.parametrize(
    ("name", "value"), [("WEBEX_CLIENT_ID", SECRET), ("WEBEX_CLIENT_ID", "C12"), ("WEBEX_CLIENT_SECRET", CLIENT_ID)]
)
def test_an_odd_client_is_no_error(configured: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    check = only(name)
    assert (check.level, check.exit_code) == ("warning", 0)


def test_what_is_missing_is_no_error_while_a_token_is_stored(
    store: FileTokenStore, make_token: Callable[..., StoredToken]
) -> None:
    assert only("WEBEX_CLIENT_ID").level == "error"
    store.save(make_token())
    assert only("WEBEX_CLIENT_ID").level == "warning"
    assert exit_code(examine(online=False, environ={})) == 0


# This machine


def test_a_redirect_uri_is_bound_and_let_go(configured: str) -> None:
    for _ in range(2):
        check = only("redirect URI")
        assert check.level == "ok"
        assert configured in check.text


def test_a_port_in_use_is_an_error_only_where_no_other_is_free(
    configured: str, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}/callback"
        monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
        check = only("redirect URI")
        assert (check.level, check.exit_code) == ("error", 4)
        assert "in use" in check.text
        monkeypatch.setenv("WEBEX_REDIRECT_URI", f"{uri} {configured}")
        assert [check.level for check in found("redirect URI")] == ["warning", "ok"]


@unprivileged
def test_a_privileged_port_leaves_pasting(monkeypatch: pytest.MonkeyPatch) -> None:  # pragma: no cover
    monkeypatch.setenv("WEBEX_REDIRECT_URI", "https://127.0.0.1/")
    check = only("redirect URI")
    assert (check.level, "paste" in check.remedy) == ("warning", True)


@pytest.mark.parametrize("uri", ["http://example.com/callback", "ftp://127.0.0.1/", "http://127.0.0.1:0/", ","])
def test_a_redirect_uri_that_cannot_be(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_REDIRECT_URI", uri)
    check = only("redirect URI")
    assert (check.level, check.exit_code) == ("error", 2)


def test_an_address_that_this_machine_lacks(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    from webex_loopback import loopback
    from webex_loopback.authorization import RedirectURI

    def refuse(redirect_uris: list[RedirectURI]) -> tuple[None, list[loopback.Refusal]]:
        return None, [loopback.Refusal(redirect_uris[0], why, "Told so.")]

    monkeypatch.setattr(loopback, "bind", refuse)
    why = "unavailable"
    assert only("redirect URI").level == "error"
    why = "privileges"
    assert only("redirect URI").level == "warning"


def test_localhost_is_looked_up_where_it_is_used(
    configured: str, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    assert found("localhost") == []
    monkeypatch.setenv("WEBEX_REDIRECT_URI", f"http://localhost:{free_port()}/callback")
    assert only("localhost").level == "ok"

    def elsewhere(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0))]

    def nowhere(*_: object, **__: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    assert "192.0.2.1" in only("localhost").text
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    assert only("localhost").level == "warning"


def test_the_browser_or_why_there_is_none() -> None:
    assert only("browser", environ={"BROWSER": sys.executable}).level == "ok"
    check = only("browser", environ={"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"})
    assert check.level == "warning"
    assert "SSH" in check.text


# The certificate of an https redirect URI


@pytest.fixture
def https(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    monkeypatch.setenv("WEBEX_REDIRECT_URI", f"https://127.0.0.1:{free_port()}/")


def own_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Path:
    pair = trustme.CA().issue_cert(*names)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    pair.cert_chain_pems[0].write_to_path(cert)
    pair.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    monkeypatch.setenv("WEBEX_TLS_CERT", str(cert))
    monkeypatch.setenv("WEBEX_TLS_KEY", str(key))
    return key


def test_no_certificate_is_looked_at_for_http(configured: str) -> None:
    assert found("certificate") == []


@pytest.mark.usefixtures("https")
def test_the_self_signed_certificate(tmp_path: Path) -> None:
    from webex_loopback.certificate import server_context

    assert "the next login makes a new one" in only("certificate").text
    server_context(folder=str(tmp_path / "state"))
    assert "until" in only("certificate").text
    (tmp_path / "state" / "loopback.pem").write_text("nonsense")
    assert only("certificate").level == "ok"


@posix
@pytest.mark.usefixtures("https")
def test_an_own_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = own_pair(tmp_path, monkeypatch, "127.0.0.1")
    assert only("certificate").level == "ok"
    key.chmod(0o644)
    assert only("certificate").remedy == f"Run `chmod 600 {key}`."
    own_pair(tmp_path, monkeypatch, "example.com")
    check = only("certificate")
    assert (check.level, check.exit_code) == ("error", 2)
    monkeypatch.delenv("WEBEX_TLS_KEY")
    assert only("certificate").level == "error"


@pytest.mark.usefixtures("https")
def test_an_own_certificate_that_soon_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=9, minutes=1)
    pair = trustme.CA().issue_cert("127.0.0.1", not_after=soon)
    pair.private_key_and_cert_chain_pem.write_to_path(tmp_path / "pair.pem")
    (tmp_path / "pair.pem").chmod(0o600)
    monkeypatch.setenv("WEBEX_TLS_CERT", str(tmp_path / "pair.pem"))
    monkeypatch.setenv("WEBEX_TLS_KEY", str(tmp_path / "pair.pem"))
    check = only("certificate")
    assert check.level == "warning"
    assert "9 days" in check.text


# The network


def test_the_proxy_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only("proxy").text == "none for webexapis.com"
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    check = only("proxy")
    assert check.text == "http://proxy.example:3128 with a password for webexapis.com"


def test_the_sources_of_trust(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(bundle)
    assert only("trusted CAs").text == "the operating system's trust store"
    monkeypatch.setenv("WEBEX_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert only("trusted CAs").text.count(str(bundle)) == 2
    bundle.write_text("nonsense")
    check = only("trusted CAs")
    assert (check.level, check.exit_code) == ("error", 2)


def test_a_proxy_that_cannot_be_used_is_a_settings_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://proxy.example")
    check = only("connection", online=True)
    assert (check.level, check.exit_code) == ("error", 2)


@pytest.mark.parametrize(
    ("status", "level", "code"),
    [(200, "ok", 0), (405, "ok", 0), (302, "error", 5), (511, "error", 5), (503, "warning", 0)],
)
def test_what_answers_in_the_token_endpoints_place(
    status: int, level: str, code: int, answering: Callable[[int], None]
) -> None:
    answering(status)
    check = only("connection", online=True)
    assert (check.level, check.exit_code) == (level, code)
    assert only("clock", online=True).level == "skipped"


def test_a_server_that_is_not_there_is_one_error(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    monkeypatch.setenv("WEBEX_API_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    began = time.monotonic()
    check = only("connection", online=True)
    assert (check.level, check.exit_code) == ("error", 5)
    assert "doctor" not in check.remedy
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("offset", "words"), [(7200, "2 hours behind"), (-7200, "hours ahead")])
def test_a_wrong_clock(sandbox: Sandbox, offset: float, words: str) -> None:
    sandbox.switches.date_offset = offset
    check = only("clock", online=True)
    assert check.level == "warning"
    assert words.partition(" ")[2] in check.text


def test_the_issuer_is_shown_trusted_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA(organization_name="Example Corp. Inspection")
    pair = authority.issue_cert("127.0.0.1")
    cert, key, bundle = tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"
    pair.cert_chain_pems[0].write_to_path(cert)
    pair.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(bundle)
    with Sandbox(tls=(str(cert), str(key))) as sandbox:
        monkeypatch.setenv("WEBEX_API_BASE_URL", sandbox.base_url)
        check = only("connection", online=True)
        assert (check.level, check.exit_code) == ("error", 5)
        assert "Example Corp. Inspection" in check.text
        assert "WEBEX_CA_BUNDLE" in check.remedy
        monkeypatch.setenv("WEBEX_CA_BUNDLE", str(bundle))
        assert only("connection", online=True).level == "ok"
        assert "Example Corp. Inspection" in only("issued by", online=True).text


# The state folder


def test_a_state_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert "made when it is first needed" in only("state folder").text


@posix
def test_the_state_folder_is_to_be_private(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    assert only("state folder").text == os.path.realpath(folder)
    folder.chmod(0o755)
    check = only("state folder")
    assert (check.level, check.remedy) == ("warning", f"Run `chmod 700 {os.path.realpath(folder)}`.")


def test_the_real_path_of_the_state_folder_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "link"))
    assert only("state folder").text == os.path.realpath(tmp_path / "real")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_state_folder_of_somebody_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    check = only("state folder")
    assert (check.level, check.exit_code) == ("error", 6)
    assert "12345" in check.text


def test_a_file_in_the_state_folders_place(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    checks = list(examine(online=False, environ={}))
    errors = {check.name: check.exit_code for check in checks if check.level == "error"}
    assert errors["state folder"] == errors["locking"] == 6


def test_a_state_folder_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WEBEX_LOOPBACK_HOME", str(tmp_path / "file" / "state"))
    assert only("state folder").exit_code == 6


def test_the_lock_is_really_taken(store: FileTokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LOCK_SECONDS", 0.05)
    assert only("locking").level == "ok"
    assert os.path.exists(store.lock_path)
    with store.lock():
        check = only("locking")
    assert (check.level, check.exit_code) == ("error", 6)


def test_a_file_system_that_grants_a_lock_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    check = only("locking")
    assert check.level == "warning"
    assert "WEBEX_LOCK_DIR" in check.remedy


# The token


def kinds(**options: Any) -> dict[str, str]:
    """Level by name, of what is about the token."""
    wanted = ("login", "access token", "refresh token", "scopes", "integration", "WEBEX_ACCESS_TOKEN")
    return {c.name: c.level for c in examine(online=False, environ={}, **options) if c.name in wanted}


def test_not_logged_in() -> None:
    check = only("login", profile="work")
    assert (check.level, check.exit_code) == ("error", 3)
    assert check.remedy == "Run `webex-loopback login --profile work`."


def test_a_good_token(store: FileTokenStore, make_token: Callable[..., StoredToken]) -> None:
    store.save(make_token())
    assert kinds() == {"login": "ok", "access token": "ok", "refresh token": "ok", "scopes": "ok"}
    assert only("login").text == "profile default: Alex Morgan <alex.morgan@example.com>"
    assert "14 days left" in only("access token").text


@pytest.mark.parametrize(
    ("options", "access", "refresh", "words"),
    [
        ({"age": 13 * DAY}, "ok", "ok", "a refresh is due"),
        ({"age": 15 * DAY}, "ok", "ok", "has ended; it is refreshed"),
        ({"age": 85 * DAY}, "ok", "warning", "5 days left"),
        ({"age": 91 * DAY}, "error", "warning", "it has ended"),
        ({"age": DAY, "refresh_token_expires_in": 3600}, "ok", "warning", "ended 23 hours ago"),
        ({"refresh_token": None}, "ok", "warning", "a login is required"),
        ({"age": 15 * DAY, "refresh_token": None}, "error", "warning", "it has ended"),
        ({"expires_in": None}, "ok", "ok", "of unknown end"),
        ({"refresh_token_expires_in": None}, "ok", "ok", "of unknown end"),
    ],
)
def test_where_the_tokens_are_in_their_lives(
    options: dict[str, Any],
    access: str,
    refresh: str,
    words: str,
    store: FileTokenStore,
    make_token: Callable[..., StoredToken],
) -> None:
    store.save(make_token(**options))
    levels = kinds()
    assert (levels["access token"], levels["refresh token"]) == (access, refresh)
    checks = list(examine(online=False, environ={}))
    assert any(words in check.text for check in checks)
    assert exit_code(checks) == (3 if access == "error" else 0)


def test_a_token_file_that_is_corrupt(store: FileTokenStore, make_token: Callable[..., StoredToken]) -> None:
    store.save(make_token())
    Path(store.path).write_text("{")
    check = only("login")
    assert (check.level, check.exit_code) == ("error", 6)
    assert Path(store.path).read_text() == "{"  # it is doctor, not surgeon


def test_scopes_that_were_not_granted(store: FileTokenStore, make_token: Callable[..., StoredToken]) -> None:
    store.save(make_token(scopes_requested=["a:b", "c:d"]).model_copy(update={"scopes_granted": ["a:b"]}))
    check = only("scopes")
    assert check.level == "warning"
    assert "c:d" in check.text
    assert "a:b" not in check.text


@pytest.mark.parametrize(
    ("profile", "command"),
    [(None, "webex-loopback login --force"), ("work", "webex-loopback login --force --profile work")],
)
def test_settings_that_are_newer_than_the_login(
    profile: str | None,
    command: str,
    configured: str,
    store: FileTokenStore,
    make_token: Callable[..., StoredToken],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = FileTokenStore(os.path.join(os.path.dirname(store.path), f"{profile or 'default'}.json"))
    store.save(make_token(client_id=CLIENT_ID))
    monkeypatch.setenv("WEBEX_SCOPES", "spark:people_read spark:rooms_read")
    ok, warning = found("scopes", profile=profile)
    assert (ok.level, warning.level) == ("ok", "warning")
    assert warning.text == "In WEBEX_SCOPES only since the login: spark:rooms_read."
    assert warning.remedy == f"Run `{command}`."
    store.save(make_token(client_id="C" + "f" * 64))
    assert only("integration", profile=profile).remedy == f"Run `{command}`."


def test_a_token_in_the_environment(
    store: FileTokenStore, make_token: Callable[..., StoredToken], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", SECRET)
    assert kinds() == {"WEBEX_ACCESS_TOKEN": "ok", "login": "skipped"}
    assert only("WEBEX_CLIENT_ID").level == "warning"
    assert SECRET not in as_json(examine(online=False, environ={}))
    store.save(make_token())
    assert only("WEBEX_ACCESS_TOKEN").level == "warning"  # it is in the way of a login
    assert found("WEBEX_ACCESS_TOKEN", profile="default") == []  # a profile that is named wins


# The exit code and the forms


def test_the_first_error_decides() -> None:
    ok, warning = Check("a", "ok", ""), Check("b", "warning", "", "x")
    five, three = Check("c", "error", "", "x", 5), Check("d", "error", "", "x", 3)
    assert exit_code([]) == exit_code([ok, warning]) == 0
    assert exit_code([ok, five, three]) == 5
    assert exit_code([three, warning, five]) == 3


def test_json_is_one_object() -> None:
    value = json.loads(as_json([Check("é", "error", "日本", "x", 5)]))
    assert value == {
        "exit_code": 5,
        "checks": [{"name": "é", "level": "error", "text": "日本", "remedy": "x"}],
    }


def test_lines_are_aligned_and_wrapped() -> None:
    checks = [
        Check("browser", "ok", "word " * 20),
        Check("WEBEX_AUTHORIZE_URL", "error", "https://" + "x" * 90, "mend " * 20, 2),
        Check("clock", "skipped", "no"),
        Check("scopes", "warning", "some", "do"),
    ]
    for plain in (False, True):
        printed = list(lines(checks, plain=plain, width=60))
        assert printed[-1] == "1 error and 1 warning. What stands first is to be mended first."
        column = printed[0].index("word")
        assert all(len(line) <= 60 or "https://" in line for line in printed[:-1])
        assert {line.index("word") for line in printed if "word" in line} == {column}
        assert any("https://" + "x" * 90 in line for line in printed)
        assert not plain or "".join(printed).isascii()


def test_lines_come_as_they_are_found() -> None:
    def endless() -> Iterator[Check]:
        while True:
            yield Check("a", "ok", "b")

    printed = lines(endless())
    assert next(printed) == next(printed)


def test_warnings_alone_break_nothing() -> None:
    assert list(lines([Check("a", "warning", "b", "c")]))[-1] == "1 warning. Nothing is broken."
    assert list(lines([Check("a", "error", "b", "c", 2)] * 2))[-1].startswith("2 errors. ")


def test_the_folders_mode_is_as_it_was(tmp_path: Path) -> None:
    list(examine(online=False, environ={}))
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700  # made for the lock, for us alone
    with file_lock(str(tmp_path / "state" / "tokens" / "default.json.lock"), 0):
        pass  # let go of
