"""`status`: what it says of a login, to people and programs, from the store alone."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from webex_loopback.cli.status import outlook
from webex_loopback.tokens.record import DAY, ServiceApp
from webex_loopback.tokens.stores.file import FileTokenStore
from webex_loopback.webex.account import Account

from .conftest import Make, Run, on_terminal, posix


def test_everything_is_shown_but_secrets(run: Run, save: Make, store: FileTokenStore) -> None:
    token = save(scopes_requested=["spark:people_read", "spark:kms"], scope=["spark:people_read"])
    out, err = run("status")
    for shown in ("Alex Morgan <alex.morgan@example.com>", "14 days left", "90 days left", store.real_path):
        assert shown in out
    assert re.search(r"Not granted +spark:kms", out)
    for held in (token.access_token, token.refresh_token, token.client_secret):
        assert held is not None
        assert held.get_secret_value() not in out
    assert err == ""
    assert all(line == line.rstrip() for line in out.splitlines())


def test_programs_get_names_and_numbers(run: Run, save: Make, store: FileTokenStore) -> None:
    token = save(account=Account(name="山田 \x1b[31m"), service_app=ServiceApp(org_id="O", app_id="A", using="admin"))
    out = run("status", "--json").out
    assert out.isascii()
    assert "\x1b" not in out
    facts = json.loads(out)
    assert facts["account"] == {"name": "山田 \x1b[31m", "email": "", "id": ""}
    assert (facts["profile"], facts["source"], facts["path"]) == ("default", "file", store.real_path)
    assert facts["store"] == str(store)
    assert facts["service_app"] == {"org_id": "O", "app_id": "A", "using": "admin"}
    assert facts["access_token"]["expires_at_epoch"] == token.expires_at
    assert facts["refresh_token"]["seconds_left"] > 89 * DAY
    assert (facts["scopes_missing"], facts["refresh_due"]) == ([], False)
    assert re.search(r"Organization +O\nFetched with +profile admin\n", run("status").out)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"Refreshed on first use after .*\. If unused until .*, log in again\."),
        ({"age": 13.5 * DAY}, r"Refreshed on first use from now on\. If unused until .*, log in again\."),
        ({"refresh_token_expires_in": None}, r"Refreshed on first use after [-\d]+ [\d:]+\."),
        ({"age": 100 * DAY}, r"The refresh token has probably expired: log in again\."),
        ({"refresh_token": None}, r"There is no refresh token, so .*: log in again before .*\."),
        ({"refresh_token": None, "age": 15 * DAY}, r"There is no refresh token, so .*: log in again now\."),
        ({"refresh_token": None, "expires_in": None}, r"There is no refresh token, so .*: log in again then\."),
        ({"service_app": ServiceApp(org_id="O", app_id="A", using="x"), "age": 100 * DAY}, r"Refreshed on .* now on\."),
    ],
)
def test_the_outlook_says_when_a_login_is_needed(make_token: Make, values: dict[str, object], said: str) -> None:
    assert re.fullmatch(said, outlook(make_token(**values), time.time()))


def test_foreign_text_cannot_harm_the_terminal(run: Run, save: Make) -> None:
    bad = "[/] \x1b]0;x\x07 \u202e name\n\ud800"
    save(account=Account(name=bad, email=bad), scopes_requested=[bad], client_id=bad, api_base_url=bad)
    for arguments in (["status"], ["status", "--all"]):
        out = run(*arguments).out
        assert "[/]" in out
        assert not {"\x1b", "\x07", "\u202e", "\ud800"} & set(out)


@posix
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_table_fits_the_terminal(save: Make, columns: int) -> None:
    save(scopes_requested=[f"spark:some_scope_{n}" for n in range(12)])
    lines = on_terminal("status", columns=columns).splitlines()
    assert len(lines) > 8
    assert all(len(line) <= columns or re.match("    /", line) for line in lines)  # a path stays whole
    lines = on_terminal("status --all", columns=columns).splitlines()
    assert [line.find("Account") for line in lines] == [31, -1]
    assert lines[1].index("alex.morgan@example.com") == 31


def test_a_user_who_is_not_logged_in_is_told_the_command(run: Run) -> None:
    assert "`webex-loopback login -p work`" in run("status", "-p", "work", code=3).err
    assert "`webex-loopback login`" in run("status", "--all").err
    run("status", "--all", "--check", "7d", code=3)
    run("status", "-p", "../x", code=2)


def test_the_token_of_the_environment_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "a-bots-token")
    assert "WEBEX_ACCESS_TOKEN is set (environment)" in run("status").out
    assert json.loads(run("status", "--json").out)["source"] == "WEBEX_ACCESS_TOKEN"


def test_all_lists_one_profile_per_line_whatever_else_is_in_the_directory(run: Run, save: Make, tmp_path: Path) -> None:
    save()
    save("old", age=100 * DAY)
    save("bot", refresh_token=None, expires_in=None)
    for name in ("broken.json", "odd name.json", ".json", *(["CON.json"] if os.name == "posix" else [])):
        (tmp_path / "data" / "tokens" / name).write_text("{")
    (tmp_path / "data" / "tokens" / "folder.json").mkdir()
    lines = run("status", "--all").out.splitlines()
    assert [line.split()[0] for line in lines] == ["bot", "broken", "*", "folder", "old"]
    assert re.fullmatch(r"\* default +90 days left +alex.morgan@example.com", lines[2])
    assert ("no known expiry" in lines[0], "expired" in lines[4]) == (True, True)
    found = json.loads(run("status", "--all", "--json").out)
    assert ["error" in facts for facts in found] == [False, True, False, True, False]
    unknown = {"expires_at": None, "expires_at_epoch": None, "seconds_left": None, "expired": False}
    assert (found[0]["access_token"], found[0]["refresh_token"]) == (unknown, None)
    run("status", "--all", "--check", "1h", code=3)


@pytest.mark.parametrize(
    ("time_left", "code", "named"), [("7d", 0, []), ("91d", 3, ["default"]), ("20w", 3, ["default", "work"])]
)
def test_check_exits_with_3_if_a_login_is_needed_before(
    run: Run, save: Make, time_left: str, code: int, named: list[str]
) -> None:
    save()
    save("work", refresh_token_expires_in=100 * DAY)
    save("bot", refresh_token=None, expires_in=None)
    assert re.findall(r"Profile (\w+):", run("status", "--all", "--check", time_left, code=code).err) == named
    run("status", "--check", time_left, code=code)
    run("status", "-p", "bot", "--check", time_left)
    run("status", "--check", "soon", code=2)
