"""Each command as it is typed: what goes to stdout, what to stderr, and the exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from webex_loopback import source
from webex_loopback.cli import run
from webex_loopback.sandbox import Sandbox
from webex_loopback.store import FileTokenStore
from webex_loopback.token import StoredToken

Capture = pytest.CaptureFixture[str]
Due = Callable[..., StoredToken]


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "webex_loopback", *arguments],
        **({"capture_output": True, "text": True, "timeout": 30, "check": False} | options),
    )


def secret(token: StoredToken) -> str:
    return token.access_token.get_secret_value()


def test_token_prints_the_token_and_nothing_else(logged_in: StoredToken) -> None:
    for arguments in (["token"], ["token", "--profile", "default"], ["token", "-p", "default"]):
        done = command(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, secret(logged_in) + "\n", "")


def test_token_has_forms_for_curl_for_shells_and_for_programs(logged_in: StoredToken, capsys: Capture) -> None:
    assert run(["token", "--header"]) == 0
    assert capsys.readouterr().out == f"Authorization: Bearer {secret(logged_in)}\n"
    assert run(["token", "--env"]) == 0
    assert capsys.readouterr().out == f"WEBEX_ACCESS_TOKEN={secret(logged_in)}\n"
    assert run(["token", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "access_token": secret(logged_in),
        "token_type": "Bearer",
        "expires_at": logged_in.expires_at,
    }


def test_token_says_what_to_do_where_nobody_is_logged_in(tmp_path: Path) -> None:
    done = command("token")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Nobody is logged in here" in done.stderr
    assert "webex-loopback login" in done.stderr
    assert "Traceback" not in done.stderr
    other = command("token", "--profile", "work")
    assert "webex-loopback login --profile work" in other.stderr


def test_token_refreshes_where_it_is_due(logged_in: StoredToken, make_due: Due, sandbox: Sandbox) -> None:
    make_due()
    done = command("token")
    assert done.returncode == 0
    assert done.stdout.strip() != secret(logged_in)
    assert sandbox.count("refresh_token") == 1


def test_token_into_a_closed_pipe_makes_no_noise(logged_in: StoredToken) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = command("token", stdout=writer, capture_output=False, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_token_of_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    assert run(["token", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["access_token"] == "a-bots-token"
    assert run(["status"]) == 0
    assert "WEBEX_ACCESS_TOKEN is set (environment)" in capsys.readouterr().out
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "WEBEX_ACCESS_TOKEN"
    assert run(["refresh"]) == 3
    assert "cannot be refreshed" in capsys.readouterr().err
    assert run(["refresh", "--if-needed"]) == 0


def test_status_shows_everything_but_secrets(logged_in: StoredToken, capsys: Capture, store: FileTokenStore) -> None:
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    for shown in ("Alex Morgan", "alex.morgan@example.com", "14 days left", "90 days left", "spark:people_read"):
        assert shown in out
    assert os.path.realpath(store.path) in out.replace("\n", "")
    for held in (logged_in.access_token, logged_in.refresh_token, logged_in.client_secret):
        assert held is not None
        assert held.get_secret_value() not in out


def test_status_for_programs(logged_in: StoredToken, capsys: Capture) -> None:
    assert run(["status", "--json"]) == 0
    out = capsys.readouterr().out
    known = json.loads(out)
    assert known["account"]["email"] == "alex.morgan@example.com"
    assert known["scopes_missing"] == []
    assert known["access_token"]["expires_at_epoch"] == logged_in.expires_at
    assert known["refresh_token"]["seconds_left"] > 89 * 86_400
    assert secret(logged_in) not in out


def test_status_checks_the_refresh_tokens_horizon(logged_in: StoredToken, capsys: Capture) -> None:
    assert run(["status", "--check", "7d"]) == 0
    assert run(["status", "--check", "91d"]) == 3
    assert "Less than 91d left" in capsys.readouterr().err
    assert run(["status", "--check", "soon"]) == 2


def test_status_of_tokens_at_the_end_of_their_days(
    store: FileTokenStore, make_token: Callable[..., StoredToken], capsys: Capture
) -> None:
    store.save(make_token(age=100 * 86_400))
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert out.count("ended") == 2
    assert "webex-loopback login" in out
    store.save(make_token(expires_in=None, refresh_token=None))
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "of unknown end" in out
    assert "log in again" in out
    partly = make_token(refresh_token_expires_in=None, scopes_requested=["a", "b"])
    store.save(partly.model_copy(update={"scopes_granted": ["a"]}))
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "Not granted" in out
    assert "use renews it" in out


def test_all_profiles_side_by_side(
    logged_in: StoredToken, store: FileTokenStore, capsys: Capture, make_token: Callable[..., StoredToken]
) -> None:
    assert run(["profile", "copy", "default", "work"]) == 0
    assert run(["profile", "copy", "default", "work"]) == 2
    assert run(["profile", "copy", "default", "work", "--force"]) == 0
    assert run(["profile", "copy", "nobody", "work"]) == 3
    Path(store.path).with_name("broken.json").write_text("{")
    os.chmod(Path(store.path).with_name("broken.json"), 0o600)
    FileTokenStore(str(Path(store.path).with_name("old.json"))).save(make_token(age=100 * 86_400))
    capsys.readouterr()
    assert run(["status", "--all"]) == 0
    out = capsys.readouterr().out
    assert out.count("alex.morgan@example.com") == 3
    assert "* default" in out
    assert "ended" in out
    assert "is not a JSON object" in out
    assert run(["profile", "list", "--json"]) == 0
    names = [entry["profile"] for entry in json.loads(capsys.readouterr().out)]
    assert names == ["broken", "default", "old", "work"]
    assert run(["profile", "remove", "work", "broken", "nobody"]) == 0
    told = capsys.readouterr().err
    assert "Removed work" in told
    assert "Kept the corrupt file as" in told
    assert "There is no nobody" in told
    assert store.load() == logged_in


def test_no_profile_at_all(capsys: Capture) -> None:
    assert run(["status", "--all"]) == 0
    assert "No profile is logged in" in capsys.readouterr().err
    assert run(["status"]) == 3
    assert run(["status", "--profile", "../x"]) == 2
    assert "not a usable profile name" in capsys.readouterr().err


def test_whoami_asks_webex(logged_in: StoredToken, capsys: Capture, sandbox: Sandbox) -> None:
    before = sandbox.count("/v1/people/me")
    assert run(["whoami"]) == 0
    assert capsys.readouterr().out == "Alex Morgan <alex.morgan@example.com>\n"
    assert run(["whoami", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["email"] == "alex.morgan@example.com"
    assert sandbox.count("/v1/people/me") == before + 2


def test_refresh_now_and_if_needed(
    logged_in: StoredToken, capsys: Capture, sandbox: Sandbox, store: FileTokenStore, make_due: Due
) -> None:
    assert run(["refresh", "--if-needed"]) == 0
    assert "Not due" in capsys.readouterr().err
    assert sandbox.count("refresh_token") == 0
    assert run(["refresh"]) == 0
    assert "works for 14 days" in capsys.readouterr().err
    assert sandbox.count("refresh_token") == 1
    make_due(left=3600)
    assert run(["refresh", "--if-needed"]) == 0
    assert sandbox.count("refresh_token") == 2


def test_logout_removes_what_is_here_and_says_what_is_not(
    logged_in: StoredToken, capsys: Capture, store: FileTokenStore
) -> None:
    assert run(["logout"]) == 0
    told = capsys.readouterr().err
    assert "removed from this machine" in told
    assert "https://idbroker.webex.com/idb/profile#/tokens" in told
    assert store.load() is None
    assert run(["logout"]) == 0
    assert "was not logged in" in capsys.readouterr().err


def test_logout_revokes_where_it_can(logged_in: StoredToken, capsys: Capture, store: FileTokenStore) -> None:
    assert run(["logout", "--revoke"]) == 0
    assert "taken the request to revoke" in capsys.readouterr().err
    assert store.load() is None


def test_logout_sets_a_corrupt_file_aside(store: FileTokenStore, capsys: Capture) -> None:
    path = Path(store.path)
    path.parent.mkdir(parents=True)
    path.write_text("not json")
    path.chmod(0o600)
    assert run(["logout"]) == 0
    assert "it is kept as" in capsys.readouterr().err
    (aside,) = path.parent.glob("default.json.corrupt-*")
    assert aside.read_text() == "not json"


def test_exec_hands_the_token_on_and_the_exit_code_back(logged_in: StoredToken) -> None:
    done = command(
        "exec", "--", sys.executable, "-c", "import os; print(os.environ['WEBEX_ACCESS_TOKEN']); raise SystemExit(7)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, secret(logged_in) + "\n", "")
    assert command("exec", "--", "no-such-command-here").returncode == 127
    assert command("exec", "--", "/").returncode == 126


def test_exec_passes_signals_on(logged_in: StoredToken) -> None:
    code = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(42))\nprint('on', flush=True)\ntime.sleep(20)"
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "webex_loopback", "exec", "--profile", "default", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"on\n"
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 42
    child.stdout.close()


def test_exec_without_a_token_runs_nothing(tmp_path: Path) -> None:
    done = command("exec", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 3
    assert not (tmp_path / "ran").exists()


def test_every_error_is_told_without_a_traceback_and_with_one_under_debug(capsys: Capture) -> None:
    assert run(["login"]) == 2
    told = capsys.readouterr().err
    assert "WEBEX_CLIENT_ID is not set" in told
    assert "webex-loopback init" in told
    assert "Traceback" not in told
    done = command("--debug", "login")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_debug_may_stand_anywhere_before_the_command_that_exec_runs(logged_in: StoredToken) -> None:
    done = command("exec", "--", "echo", "--debug")
    assert done.stdout == "--debug\n"


def test_options_that_do_not_exist(capsys: Capture) -> None:
    assert run(["login", "--nonsense"]) == 2
    assert "No such option" in capsys.readouterr().err
    assert run(["nonsense"]) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["login", "-h"], ["token", "--help"], ["--version"]])
def test_help_and_version(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith(("Usage: webex-loopback", "webex-loopback "))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: Capture) -> None:
    assert run(["completion", shell]) == 0
    assert "_WEBEX_LOOPBACK_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_profiles(logged_in: StoredToken) -> None:
    environ = os.environ | {
        "_WEBEX_LOOPBACK_COMPLETE": "bash_complete",
        "COMP_WORDS": "webex-loopback status --profile d",
        "COMP_CWORD": "3",
    }
    done = command(env=environ)
    assert "default" in done.stdout


def test_the_sandbox_as_a_command(free_port: Callable[[], int], tmp_path: Path) -> None:
    port, settings = free_port(), tmp_path / "sandbox.env"
    child = subprocess.Popen(
        [sys.executable, "-m", "webex_loopback", "sandbox", "--port", str(port), "--settings", str(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(4)]
    assert any(line.startswith("WEBEX_API_BASE_URL=http://127.0.0.1:") for line in lines)
    until = time.monotonic() + 10
    while not (settings.exists() and settings.read_text().count("\n") == 5) and time.monotonic() < until:
        time.sleep(0.01)
    assert f"WEBEX_API_BASE_URL=http://127.0.0.1:{port}/v1\n" in settings.read_text()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=10)
    assert child.returncode == 0
    assert not settings.exists()  # a login would only wait for what is no more
    assert "Traceback" not in err
    assert command("sandbox", "--help").stdout.startswith("usage: webex-loopback sandbox")
    assert command("sandbox", "--nonsense").returncode == 2


def test_no_answer_of_webex_and_no_settings_are_needed_for_a_good_token(
    logged_in: StoredToken, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("WEBEX_") and name != "WEBEX_LOOPBACK_HOME"]:
        monkeypatch.delenv(name)
    sandbox.stop()
    source.forget()
    began = time.monotonic()
    assert run(["token"]) == 0
    assert run(["status"]) == 0
    assert time.monotonic() - began < 20


def test_import_takes_over_what_postman_shows(
    sandbox: Sandbox, store: FileTokenStore, logged_in: StoredToken, tmp_path: Path, capsys: Capture
) -> None:
    assert logged_in.refresh_token is not None
    shown = tmp_path / "postman.json"
    shown.write_text(
        json.dumps(
            {
                "access_token": secret(logged_in),
                "expires_in": 1000,
                "refresh_token": logged_in.refresh_token.get_secret_value(),
                "token_type": "Bearer",
            }
        )
    )
    assert run(["import", str(shown)]) == 2
    assert "is logged in" in capsys.readouterr().err
    assert run(["import", str(shown), "--profile", "from-postman"]) == 0
    assert "Took over the tokens of Alex Morgan" in capsys.readouterr().err
    assert run(["refresh", "--profile", "from-postman"]) == 0
    assert sandbox.count("refresh_token") == 1
    shown.write_text("{}")
    assert run(["import", str(shown), "--force"]) == 2
    assert "access_token" in capsys.readouterr().err


def test_export_and_import_are_inverse(logged_in: StoredToken, tmp_path: Path, capsys: Capture) -> None:
    for form in ("json", "wxc-sdk", "postman"):
        path = tmp_path / form
        assert run(["export", "--format", form, "--output", str(path)]) == 0
        assert "It holds secrets" in capsys.readouterr().err
        assert path.stat().st_mode & 0o777 == 0o600
        assert run(["import", str(path), "--profile", form]) == 0
        assert run(["token", "--profile", form]) == 0
        assert capsys.readouterr().out.strip() == secret(logged_in)
    assert run(["export", "--format", "env"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"WEBEX_ACCESS_TOKEN={secret(logged_in)}\n"
    assert "secrets" in captured.err
    assert run(["export", "--profile", "nobody"]) == 3


def test_init_by_options_alone_then_login(
    sandbox: Sandbox, redirect_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "browser.py"
    browser.write_text("import sys; from webex_loopback.sandbox import Person; Person().visit(sys.argv[1])")
    options = ["--client-id", sandbox.client_id, "--scopes", "spark:people_read", "--redirect-uri", redirect_uri]
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("WEBEX_") or name.endswith("HOME")
    }
    environ["BROWSER"] = f"{sys.executable} {browser} %s"
    missing = command("init", *options, env=environ, stdin=subprocess.DEVNULL)
    assert missing.returncode == 2
    assert "secret" in missing.stderr
    done = command(
        "init", *options, "--api-base-url", sandbox.base_url, "--client-secret-stdin", "--login",
        env=environ, input=f"{sandbox.client_secret}\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Logged in as Alex Morgan" in done.stderr
    config = tmp_path / "state" / "config.env"
    assert config.stat().st_mode & 0o777 == 0o600
    assert sandbox.client_secret not in done.stderr + done.stdout
    assert command("token", env=environ).returncode == 0


def test_doctor_reads_the_whole_machine(logged_in: StoredToken, capsys: Capture) -> None:
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    for looked_at in ("settings file", "redirect URI", "browser", "proxy", "state folder", "locking"):
        assert looked_at in out
    assert run(["doctor", "--json", "--offline"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 0
    assert len(found["checks"]) > 10
    assert secret(logged_in) not in out + json.dumps(found)


def test_an_empty_option_is_an_empty_setting_not_the_default(sandbox: Sandbox, capsys: Capture) -> None:
    assert run(["login", "--scopes", ""]) == 2
    assert "WEBEX_SCOPES is empty" in capsys.readouterr().err
    assert run(["login", "--redirect-uri", ""]) == 2
    assert "WEBEX_REDIRECT_URI is empty" in capsys.readouterr().err


def test_logout_with_revoke_sets_a_corrupt_file_aside_too(store: FileTokenStore, capsys: Capture) -> None:
    path = Path(store.path)
    path.parent.mkdir(parents=True)
    path.write_text("not json")
    path.chmod(0o600)
    assert run(["logout", "--revoke"]) == 0
    assert "it is kept as" in capsys.readouterr().err


def test_init_without_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = command("init", "--client-id", "C" + "0" * 64, "--client-secret-stdin", "--no-login", input="f" * 64 + "\n")
    assert done.returncode == 0
    assert "Next: `webex-loopback login`" in done.stderr
    assert (tmp_path / "state" / "config.env").exists()


def test_the_package_lists_its_public_names() -> None:
    import webex_loopback

    assert {"get_token", "TokenSource", "WebexAuth"} <= set(dir(webex_loopback))


def test_a_failing_token_command_asks_webex_once(logged_in: StoredToken, make_due: Due, sandbox: Sandbox) -> None:
    make_due()
    sandbox.switches.fault = "lost_answer"
    done = command("token")
    assert done.returncode == 5
    assert sandbox.count("refresh_token") == 1


def test_ctrl_c_in_the_token_command_is_no_traceback(logged_in: StoredToken, make_due: Due, sandbox: Sandbox) -> None:
    make_due()
    sandbox.switches.fault = "hang"
    child = subprocess.Popen([sys.executable, "-m", "webex_loopback", "token"], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while sandbox.count("refresh_token") == 0 and time.monotonic() < until:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=10)
    assert (child.returncode, "Traceback" in err) == (130, False)


def test_execs_command_keeps_its_own_debug(logged_in: StoredToken) -> None:
    assert command("exec", "echo", "--debug").stdout == "--debug\n"


def test_an_empty_name_does_not_remove_the_default(logged_in: StoredToken, store: FileTokenStore) -> None:
    assert run(["profile", "remove", ""]) == 2
    assert store.load() == logged_in


def test_export_replaces_no_pipe_and_tells_of_a_folder_that_is_not_there(
    logged_in: StoredToken, tmp_path: Path, capsys: Capture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run(["export", "-o", str(tmp_path / "pipe")]) == 2
    assert (tmp_path / "pipe").is_fifo()
    assert run(["export", "-o", str(tmp_path / "nowhere" / "file")]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_refresh_if_needed_says_when_it_could_not(
    logged_in: StoredToken, make_due: Due, sandbox: Sandbox, capsys: Capture
) -> None:
    make_due(left=3600)
    sandbox.switches.fault = "503"
    assert run(["refresh", "--if-needed"]) == 0
    assert "could not be refreshed now" in capsys.readouterr().err


def test_import_warns_of_tokens_that_cannot_be_refreshed(
    logged_in: StoredToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run(["export", "--output", str(tmp_path / "tokens.json")]) == 0
    monkeypatch.delenv("WEBEX_CLIENT_SECRET")
    assert run(["import", str(tmp_path / "tokens.json"), "--profile", "other"]) == 0
    assert "cannot be refreshed" in capsys.readouterr().err


def test_a_fault_of_webex_or_of_a_proxy_does_not_settle_whether_one_is_logged_in(
    logged_in: StoredToken, make_due: Due, sandbox: Sandbox, capsys: Capture
) -> None:
    sandbox.switches.api_faults = ["503"]
    assert run(["login"]) == 0
    assert "Already logged in" in capsys.readouterr().err
    assert sandbox.count("authorization_code") == 1


def test_import_of_revoked_tokens_says_so(
    logged_in: StoredToken, tmp_path: Path, capsys: Capture, sandbox: Sandbox
) -> None:
    assert run(["export", "--output", str(tmp_path / "tokens.json")]) == 0
    assert run(["logout", "--revoke"]) == 0
    capsys.readouterr()
    assert run(["import", str(tmp_path / "tokens.json"), "--profile", "other"]) == 3
    assert "refused the refresh token" in capsys.readouterr().err


def test_import_of_a_token_that_may_not_name_its_account(
    sandbox: Sandbox, redirect_uri: str, tmp_path: Path, capsys: Capture
) -> None:
    from webex_loopback.login import log_in
    from webex_loopback.sandbox import Person

    log_in(scopes="spark:kms", open_browser=Person().visit)
    assert run(["export", "--output", str(tmp_path / "tokens.json")]) == 0
    assert run(["import", str(tmp_path / "tokens.json"), "--profile", "other"]) == 0
    sandbox.switches.api_faults = ["503"] * 3
    assert run(["import", str(tmp_path / "tokens.json"), "--profile", "third"]) == 5


def test_a_remedy_names_the_profile(sandbox: Sandbox, capsys: Capture, redirect_uri: str) -> None:
    assert run(["login", "--profile", "work", "--no-browser", "--timeout", "0.2"]) == 4
    assert "`webex-loopback login --profile work`" in capsys.readouterr().err


def test_an_error_that_nobody_catches_ends_with_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from webex_loopback import get_token; get_token('nobody')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.rstrip().endswith("Run `webex-loopback login --profile nobody`.")


def test_status_into_a_pipe_has_no_trailing_spaces(logged_in: StoredToken) -> None:
    assert all(line == line.rstrip() for line in command("status").stdout.splitlines())


def test_login_says_that_another_token_is_in_force(
    logged_in: StoredToken, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    assert run(["login"]) == 0
    assert "get_token() returns that" in capsys.readouterr().err
    assert run(["whoami"]) == 5
    assert "WEBEX_ACCESS_TOKEN is not accepted" in capsys.readouterr().err


def test_a_misspelt_setting_is_named_where_the_right_one_is_missing(capsys: Capture) -> None:
    Path("config.env").write_text("WEBEX_CLIENTID=C1\n")
    assert run(["login"]) == 2
    told = capsys.readouterr().err
    assert "WEBEX_CLIENTID is no setting" in told
    assert "config.env" in told


@pytest.mark.parametrize("arguments", [["token"], ["token", "--json"], ["status"]])
def test_a_full_disk_behind_standard_output_is_told(logged_in: StoredToken, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full, capture_output=False, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_check_that_gets_no_answer_ends_in_a_login(
    logged_in: StoredToken, sandbox: Sandbox, redirect_uri: str
) -> None:
    from webex_loopback.login import log_in
    from webex_loopback.sandbox import Person

    sandbox.switches.api_faults = ["reset"]
    assert log_in(open_browser=Person().visit).how == "browser"


def test_the_demo_names_the_command_as_it_is_to_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webex_loopback.demo import _command

    monkeypatch.setenv("PATH", str(tmp_path))
    assert _command().endswith("bin/webex-loopback")
    (tmp_path / "webex-loopback").write_text("#!/bin/sh\n")
    (tmp_path / "webex-loopback").chmod(0o755)
    assert _command() == "webex-loopback"


def test_a_settings_file_that_is_gone_does_not_hide_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from webex_loopback.errors import ConfigurationError
    from webex_loopback.settings import Settings, require

    monkeypatch.setenv("WEBEX_CONFIG_FILE", "/nowhere/config.env")
    with pytest.raises(ConfigurationError, match="WEBEX_CLIENT_ID is not set"):
        require(Settings())


def test_a_proxy_without_a_host_is_no_proxy() -> None:
    import httpx

    from webex_loopback.errors import ConfigurationError
    from webex_loopback.network import proxy_transport, ssl_context

    with pytest.raises(ConfigurationError, match="proxy"):
        proxy_transport("http://", ssl_context(), httpx.Limits())
