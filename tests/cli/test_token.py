"""`token`: what goes to stdout, when it renews, and what it writes to files."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Make, Patch, Store, Token, posix
from webex_loopback.cli.formats import FORMATS
from webex_loopback.errors import TokenStoreError
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import DAY
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.wording import moment

from .conftest import Run, command


def secret(token: Token | None) -> str:
    assert token is not None
    return token.access_token.get_secret_value()


@pytest.mark.parametrize("options", [[], ["-p", "default"]])
def test_a_valid_token_and_nothing_else_is_printed_without_the_command_line_s_imports(
    save: Make, options: list[str]
) -> None:
    save()
    code = (
        f"import sys; sys.argv = ['webex-loopback', 'token', *{options}];"
        "from webex_loopback.__main__ import main; main();"
        "print({'click', 'signal', 'json', 're', 'httpx'} & set(sys.modules), file=sys.stderr)"
    )
    # -S: what site imports, for editable installs and coverage, is not ours.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environ, cwd=root)
    assert (done.stdout, done.stderr) == ("access-token-one\n", "set()\n")


def test_formats_for_shells_and_curl(run: Run, save: Make) -> None:
    save()
    assert run("token", "--header") == ("Authorization: Bearer access-token-one\n", "")
    assert run("token", "--env") == ("WEBEX_ACCESS_TOKEN=access-token-one\n", "")
    assert run("token", "--format=curl") == ('header = "Authorization: Bearer access-token-one"\n', "")


def test_the_token_of_the_environment_is_printed_as_it_is(run: Run, monkeypatch: Patch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", ' "Bearer a-bots-token"\n')
    assert command("token").stdout == "a-bots-token\n"
    assert all("a-bots-token" in run("token", "--format", form).out for form in FORMATS)
    assert "--min-validity is ignored" in run("token", "--min-validity", "7d").err
    assert "cannot be renewed" in run("token", "--refresh", code=3).err
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a bot")
    assert "WEBEX_ACCESS_TOKEN" in command("token").stderr


def test_refresh_says_so_when_the_new_tokens_are_stored(
    run: Run, logged_in: Token, sandbox: Sandbox, store: Store, monkeypatch: Patch
) -> None:
    out, err = run("token", "--refresh")
    assert (out.strip(), err) == (secret(store.load()), "Refreshed. The access token is valid for 14 days.\n")
    assert secret(store.load()) != secret(logged_in)
    assert sandbox.count("refresh_token") == 1

    def refuse(*_: object) -> None:
        raise TokenStoreError("The disk is full.", problem="unwritable")

    monkeypatch.setattr(FileTokenStore, "save", refuse)
    out, err = run("token", "--refresh", code=6)
    assert (out, "Refreshed" in err) == ("", False)


def test_a_rejected_refresh_token_means_a_login_also_while_the_access_token_is_valid(
    run: Run, logged_in: Token, sandbox: Sandbox
) -> None:
    sandbox.switches.fault = "503"
    run("token", "--refresh", code=5)
    sandbox.switches.fault, sandbox.switches.dead_refresh_token = "", "invalid_request"
    told = run("token", "--refresh", code=3).err
    assert f"The access token is valid until {moment(logged_in.expires_at or 0)}." in told
    assert "`webex-loopback login --force`" in told
    assert run("token").out.strip() == secret(logged_in)


def test_min_validity_renews_a_token_that_expires_sooner(
    run: Run, logged_in: Token, sandbox: Sandbox, store: Store
) -> None:
    run("token", "--min-validity", "13d")
    assert sandbox.count("refresh_token") == 0
    with store.lock():
        now = logged_in.issued_at
        store.save(dataclasses.replace(logged_in, issued_at=now - 13 * DAY, expires_at=now + DAY))
    assert run("token", "--min-validity", "2d").out.strip() == secret(store.load()) != secret(logged_in)
    assert sandbox.count("refresh_token") == 1


def test_min_validity_beyond_what_webex_grants_is_refused_without_a_renewal(
    run: Run, logged_in: Token, save: Make, sandbox: Sandbox
) -> None:
    out, err = run("token", "--min-validity", "30d", code=2)
    assert (out, "14 days" in err, sandbox.count("refresh_token")) == ("", True, 0)
    assert "14 days" in run("token", "--refresh", "--min-validity", "30d", code=2).err
    run("token", "--min-validity", "soon", code=2)
    save(expires_in=None)
    run("token", "--min-validity", "30d")


def test_output_goes_to_a_private_file_and_can_be_imported(run: Run, logged_in: Token, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("old")
    out, err = run("token", "--format", "postman", "-o", str(path))
    assert (out, "secrets" in err) == ("", True)
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    run("import", str(path), "-p", "other")
    assert run("token", "-p", "other").out.strip() == secret(logged_in)


@posix
def test_output_replaces_nothing_but_regular_files(run: Run, save: Make, tmp_path: Path) -> None:
    save()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null", tmp_path / "nowhere" / "file"):
        assert run("token", "-o", str(path), code=2).out == ""
    assert (tmp_path / "pipe").is_fifo()
