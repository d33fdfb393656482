"""`init`: what is asked, what is taken from where, and that nothing that was there is lost."""

import io
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from webex_loopback import setup
from webex_loopback.errors import ConfigurationError
from webex_loopback.settings import load, require
from webex_loopback.setup import (
    API_BASE_URLS,
    CREATE_PAGE,
    PORTS,
    SCOPES,
    Answers,
    Outcome,
    free_redirect_uri,
    parse_authorization_url,
    read_scopes,
    read_secret,
    run,
)

CLIENT_ID = "C" + "0a" * 32
OTHER_ID = "C" + "0b" * 32
SECRET = "1c" * 32
OTHER_SECRET = "2d" * 32
URI = "http://127.0.0.1:8765/callback"

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and terminals are those of POSIX")


def portal_url(client_id: str = CLIENT_ID, scopes: str = "spark:kms spark:rooms_read", uri: str = URI) -> str:
    return (
        f"https://webexapis.com/v1/authorize?client_id={client_id}&response_type=code"
        f"&redirect_uri={quote(uri, safe='')}&scope={quote(scopes, safe='')}&state=set_state_here"
    )


class Person:
    """Answers in turn; a function is called with the question. Left without an answer, it is Ctrl-C."""

    def __init__(self, *answers: str | bool) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []
        self.seen: list[str] = []

    def say(self, text: str = "", style: str = "") -> None:
        self.seen.append(text)

    def text(self, question: str, default: str = "") -> str:
        return str(self._answer(f"{question} [{default}]" if default else question)) or default

    def secret(self, question: str) -> str:
        return str(self._answer(question))

    def yes(self, question: str, *, default: bool) -> bool:
        answer = self._answer(question)
        return default if answer == "" else bool(answer)

    def _answer(self, question: str) -> str | bool:
        self.questions.append(question)
        if not self.answers:
            raise KeyboardInterrupt
        return self.answers.pop(0)

    @property
    def shown(self) -> str:
        return "\n".join(self.seen)


@pytest.fixture
def in_state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "config.env"


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been opened."""
    opened: list[str] = []

    def note(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(setup, "_open_page", note)
    return opened


def by_options(**others: object) -> Answers:
    return Answers(**{"client_id": CLIENT_ID, "client_secret": SECRET, **others})  # type: ignore[arg-type]


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


# In a terminal


def test_somebody_without_an_integration_is_led_to_one(in_state: Path, no_browser: list[str]) -> None:
    person = Person("", "1 2 5", "", True, portal_url(scopes="spark:kms spark:people_read"), SECRET, False)
    outcome = run(answers=Answers(), ask=person)
    assert no_browser == [CREATE_PAGE]
    assert outcome == Outcome(
        str(in_state),
        ("WEBEX_CLIENT_ID", "WEBEX_CLIENT_SECRET", "WEBEX_SCOPES", "WEBEX_REDIRECT_URI"),
        backup="",
        log_in=False,
    )
    settings = load()
    require(settings)
    assert settings.client_id == CLIENT_ID
    assert settings.client_secret.get_secret_value() == SECRET
    assert settings.scope_list == ["spark:kms", "spark:people_read"]  # what is registered wins over what was meant
    assert settings.redirect_uris == [URI]
    guide = person.shown[person.shown.index("Create the Integration") :]
    for label in ("Integration name", "Contact email", "Icon", "Description", "Redirect URI(s)", "Scopes", "once"):
        assert label in guide
    assert "tick spark:people_read, spark:kms, spark:messages_read" in guide
    assert person.questions[-1] == "Log in now?"


def test_the_authorization_url_answers_three_questions(in_state: Path) -> None:
    person = Person(portal_url(), SECRET, True)
    assert run(answers=Answers(), ask=person).log_in
    assert [question.partition(" (")[0] for question in person.questions] == [
        "Client ID or URL",
        "Client Secret",
        "Log in now?",
    ]
    assert load().scope_list == ["spark:kms", "spark:rooms_read"]


def test_a_client_id_alone_leaves_the_other_questions() -> None:
    person = Person(CLIENT_ID, "spark:all", "http://localhost:8080/oauth", SECRET, False)
    run(answers=Answers(), ask=person)
    assert load().redirect_uris == ["http://localhost:8080/oauth"]
    assert load().scope_list == ["spark:all"]
    assert "Create the Integration" not in person.shown


def test_what_the_options_give_is_not_asked_for() -> None:
    person = Person(SECRET)
    answers = Answers(client_id=CLIENT_ID, scopes="a:b,c:d", redirect_uri=URI, log_in=False)
    run(answers=answers, ask=person)
    assert len(person.questions) == 1


def test_wrong_answers_are_asked_for_again() -> None:
    person = Person(
        *("https://example.com/v1/authorize?client_id=x", "C123", False, CLIENT_ID),
        *("99", "nonsense", "spark:all"),
        *("http://example.com/", "http://127.0.0.1:9000/"),
        *(CLIENT_ID, "", "secret", False, "abc", True),
        False,
    )
    run(answers=Answers(), ask=person)
    assert person.answers == []
    settings = load()
    assert (settings.client_id, settings.client_secret.get_secret_value()) == (CLIENT_ID, "abc")
    assert settings.redirect_uris == ["http://127.0.0.1:9000/"]
    for words in ("not Webex", "no scope", "1 to 20", "loopback", "Client ID again", "64 hexadecimal"):
        assert words in person.shown


def test_a_redirect_uri_elsewhere_is_asked_for_anew() -> None:
    person = Person(portal_url(uri="https://example.com/callback"), URI, SECRET, False)
    run(answers=Answers(), ask=person)
    assert load().redirect_uris == [URI]
    person = Person(SECRET, False)
    with pytest.raises(KeyboardInterrupt):  # the third question has no answer
        run(answers=by_options(client_secret="", redirect_uri="https://example.com/"), ask=person)


def test_after_the_form_there_must_be_a_client_id(no_browser: list[str]) -> None:
    person = Person("", "", "", False, "", CLIENT_ID, SECRET, False)
    run(answers=Answers(), ask=person)
    assert no_browser == []
    assert "on the page that came after" in person.shown


def test_no_browser_is_no_trouble() -> None:
    person = Person("", "", "", True, CLIENT_ID, SECRET, False)
    run(answers=Answers(), ask=person, open_page=lambda url: False)
    assert "Open the address above yourself" in person.shown


def test_the_browser_that_is_found_opens_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("SSH_TTY", "/dev/pts/1")
    assert setup._open_page(CREATE_PAGE) is False


@pytest.mark.parametrize("answers_given", range(6))
def test_whoever_leaves_leaves_all_as_it_was(answers_given: int, in_state: Path) -> None:
    whole = ("", "1", URI, False, CLIENT_ID, SECRET)
    with pytest.raises(KeyboardInterrupt):
        run(answers=Answers(), ask=Person(*whole[:answers_given]))
    assert not in_state.exists()


def test_to_leave_at_the_last_question_is_to_say_no(in_state: Path) -> None:
    outcome = run(answers=Answers(), ask=Person("", "1", URI, False, CLIENT_ID, SECRET))
    assert not outcome.log_in
    assert in_state.exists()


def test_what_the_file_holds_is_proposed(in_state: Path) -> None:
    run(answers=by_options(scopes="a:b", redirect_uri="http://localhost:1/"), say=lambda _: None)
    before = in_state.read_text()
    person = Person("", "", "", "", False)
    outcome = run(answers=Answers(), ask=person)
    assert (outcome.changed, outcome.backup, in_state.read_text()) == ((), "", before)
    assert person.questions[:3] == [
        f"Client ID or URL [{CLIENT_ID}]",
        "Scopes [a:b]",
        "Redirect URI [http://localhost:1/]",
    ]
    assert "Enter keeps" in person.questions[3]
    assert SECRET not in person.shown + str(person.questions)


def test_another_integration_needs_its_own_secret(in_state: Path) -> None:
    run(answers=by_options(), say=lambda _: None)
    person = Person(portal_url(OTHER_ID), "", OTHER_SECRET, True, False)
    outcome = run(answers=Answers(), ask=person)
    assert "Enter keeps" not in person.questions[1]
    assert load().client_secret.get_secret_value() == OTHER_SECRET
    assert SECRET in Path(outcome.backup).read_text()


def test_values_are_replaced_only_after_a_yes(in_state: Path) -> None:
    run(answers=by_options(), say=lambda _: None)
    before = in_state.read_bytes()
    person = Person(False)
    outcome = run(answers=by_options(client_id=OTHER_ID, scopes="a:b", redirect_uri=URI, log_in=True), ask=person)
    assert (outcome.changed, outcome.log_in) == ((), False)
    assert "WEBEX_CLIENT_ID. Replace" in person.questions[0]
    assert in_state.read_bytes() == before
    assert list(in_state.parent.iterdir()) == [in_state]


# Without a terminal


def test_options_are_enough(in_state: Path) -> None:
    told: list[str] = []
    outcome = run(answers=by_options(authorization_url=portal_url(OTHER_ID), scopes="a:b"), say=told.append)
    assert outcome.path == str(in_state)
    assert load().client_id == CLIENT_ID  # an option wins over the URL
    assert load().scope_list == ["a:b"]
    assert load().redirect_uris == [URI]
    assert told[0].startswith(f"Written to {in_state}")
    assert told[-1] == "Next: `webex-loopback login`."


def test_a_login_may_be_wished_for_by_option() -> None:
    assert run(answers=by_options(log_in=True), say=lambda _: None).log_in


@pytest.mark.parametrize(
    ("given", "setting", "option"),
    [
        ({"client_secret": SECRET}, "WEBEX_CLIENT_ID", "--client-id"),
        ({"client_id": CLIENT_ID}, "WEBEX_CLIENT_SECRET", "--client-secret-stdin"),
    ],
)
def test_what_is_missing_is_named(given: dict[str, str], setting: str, option: str, in_state: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run(answers=Answers(**given))  # type: ignore[arg-type]
    assert caught.value.setting == setting
    assert option in caught.value.remedy
    assert not in_state.exists()


@pytest.mark.parametrize(
    "given",
    [
        {"redirect_uri": "http://example.com/"},
        {"redirect_uri": f"{URI} http://127.0.0.1:0/"},
        {"scopes": 'a:"b'},
        {"authorization_url": "https://example.com/v1/authorize?client_id=x"},
        {"client_id": "a\nb"},
        {"client_secret": "a${HOME}b"},
        {"client_secret": "a b"},
    ],
)
def test_what_cannot_work_is_not_written(given: dict[str, str], in_state: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run(answers=by_options(**given))
    assert not in_state.exists()
    assert "a${HOME}b" not in f"{caught.value} {caught.value.remedy}"


def test_other_values_need_force(in_state: Path) -> None:
    run(answers=by_options(), say=lambda _: None)
    before = in_state.read_bytes()
    with pytest.raises(ConfigurationError, match="WEBEX_CLIENT_ID"):
        run(answers=by_options(client_id=OTHER_ID))
    assert in_state.read_bytes() == before
    outcome = run(answers=by_options(client_id=OTHER_ID, force=True), say=lambda _: None)
    assert outcome.changed == ("WEBEX_CLIENT_ID",)
    assert Path(outcome.backup).read_bytes() == before
    assert load().client_id == OTHER_ID


def test_one_value_can_be_added_to_a_file(in_state: Path) -> None:
    run(answers=by_options(), say=lambda _: None)
    outcome = run(answers=Answers(scopes="a:b"), say=lambda _: None)
    assert outcome.changed == ("WEBEX_SCOPES",)


def test_by_default_it_speaks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    run(answers=by_options())
    out, err = capsys.readouterr()
    assert out == ""
    assert "Written to" in err


def test_the_secret_may_come_from_standard_input() -> None:
    assert read_secret(io.StringIO(f" {SECRET}\r\nmore\n")) == SECRET
    for nothing in (io.StringIO(""), io.StringIO("\n"), None):
        with pytest.raises(ConfigurationError) as caught:
            read_secret(nothing)
        assert caught.value.setting == "WEBEX_CLIENT_SECRET"


def test_answers_do_not_show_the_secret() -> None:
    assert SECRET not in repr(by_options())


# The authorization URL


def test_the_portals_url_is_read() -> None:
    assert parse_authorization_url(portal_url()) == {
        "client_id": CLIENT_ID,
        "scopes": "spark:kms spark:rooms_read",
        "redirect_uri": URI,
        "api_base_url": "https://webexapis.com/v1",
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("%20", "+"),
        lambda url: f"  <{url}>\n",
        lambda url: f'"{url}"',
        lambda url: url.replace("&", "&amp;"),
        lambda url: url.replace("&scope", "\n  &scope"),
        lambda url: url.replace("https://webexapis.com", "HTTPS://WebexAPIs.com:443"),
        lambda url: url.replace("webexapis.com", "api.ciscospark.com"),
    ],
)
def test_the_url_may_have_suffered_from_copying(change: Callable[[str], str]) -> None:
    assert parse_authorization_url(change(portal_url())) == parse_authorization_url(portal_url())


def test_fedramp_is_recognised() -> None:
    url = portal_url().replace("webexapis.com", "api-usgov.webex.com")
    run(answers=Answers(authorization_url=url, client_secret=SECRET), say=lambda _: None)
    assert load().token_url == "https://api-usgov.webex.com/v1/access_token"
    run(answers=Answers(authorization_url=portal_url(), client_secret=SECRET, force=True), say=lambda _: None)
    assert load().token_url == "https://webexapis.com/v1/access_token"


def test_the_sandbox_is_recognised() -> None:
    url = portal_url().replace("https://webexapis.com", "http://127.0.0.1:8080")
    assert parse_authorization_url(url)["api_base_url"] == "http://127.0.0.1:8080/v1"


def test_what_is_not_in_the_url_is_left_open() -> None:
    found = parse_authorization_url(f"https://webexapis.com/v1/authorize?client_id={CLIENT_ID}")
    assert (found["scopes"], found["redirect_uri"]) == ("", "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "https://webexapis.com/v1/authorize",
        "https://webexapis.com/v1/authorize?client_id=",
        "https://webexapis.com/v1/people/me?client_id=x",
        "http://webexapis.com/v1/authorize?client_id=x",
        "https://webexapis.com.example.com/v1/authorize?client_id=x",
        "https://webexapis.com@example.com/v1/authorize?client_id=x",
        "https://example.com@webexapis.com/v1/authorize?client_id=x",
        "https://idbroker.webex.com/idb/oauth2/v1/authorize?client_id=x",
        "ftp://127.0.0.1/v1/authorize?client_id=x",
        "https://[::1/v1/authorize?client_id=x",
        "https://webexapis.com/v1/authorize?" + "a=b&" * 200 + "client_id=x",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_authorization_url(url)
    assert caught.value.setting == "WEBEX_CLIENT_ID"


@given(st.text(max_size=300))
@example("https://webexapis.com/v1/authorize?client_id=x&scope=\ud800")
def test_no_text_breaks_the_reading_of_a_url(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://webexapis.com/v1/authorize?{text}"):
        try:
            found = parse_authorization_url(candidate)
        except ConfigurationError:
            continue
        assert found["api_base_url"] in API_BASE_URLS.values() or "127." in found["api_base_url"] or found["client_id"]


# Scopes and redirect URIs


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("1", ["spark:people_read"]),
        ("1 2", ["spark:people_read", "spark:kms"]),
        ("2,1;2", ["spark:kms", "spark:people_read"]),
        ("1-3", ["spark:people_read", "spark:kms", "spark:rooms_read"]),
        ("spark-admin:wholesale_billing_read 2", ["spark-admin:wholesale_billing_read", "spark:kms"]),
        ("openid, email", ["openid", "email"]),
        (" ALL ", list(SCOPES)),
    ],
)
def test_scopes_by_number_or_name(text: str, chosen: list[str]) -> None:
    assert read_scopes(text) == chosen


@pytest.mark.parametrize(
    "text", ["", " , ", "0", "21", "3-1", "1-21", "people_read", 'a:"b', "spark:kms nonsense", "１"]
)
def test_other_choices_of_scopes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"scope|numbers"):
        read_scopes(text)


def test_the_scopes_fit_on_one_screen() -> None:
    assert len(SCOPES) <= 20  # of 24 lines
    assert all(len(f"  20  {'':<{max(map(len, SCOPES))}}  {words}") <= 80 for words in SCOPES.values())


def test_a_free_port_is_proposed(monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    assert PORTS[0] == 8765
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = free_port()
        monkeypatch.setattr(setup, "PORTS", (taken.getsockname()[1], free))
        assert free_redirect_uri() == f"http://127.0.0.1:{free}/callback"
        monkeypatch.setattr(setup, "PORTS", (taken.getsockname()[1],))
        assert free_redirect_uri() == f"http://127.0.0.1:{taken.getsockname()[1]}/callback"


# The file


@posix
def test_the_file_is_private_from_birth(in_state: Path) -> None:
    before = os.umask(0)
    try:
        run(answers=by_options(), say=lambda _: None)
        in_state.chmod(0o644)
        backup = run(answers=by_options(client_id=OTHER_ID, force=True), say=lambda _: None).backup
    finally:
        os.umask(before)
    assert stat.S_IMODE(in_state.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(in_state.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(backup).stat().st_mode) == 0o600


def test_which_file_is_written(in_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "work" / "config.env"

    def target(**others: object) -> str:
        return run(answers=by_options(force=True, **others), say=lambda _: None).path

    assert target() == str(in_state)
    assert target(path="~/elsewhere/my.env") == str(tmp_path / "home" / "elsewhere" / "my.env")
    assert target(here=True) == str(here)
    assert target() == str(here)  # the one that is in force from here
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "named.env"))
    assert target() == str(tmp_path / "named.env")  # not there before
    assert target(here=True) == str(here)


EXISTING = """\
# mine
export WEBEX_CLIENT_ID = "old"   # from Kim
OTHER='x # y'

  webex_client_secret=old
# WEBEX_SCOPES=a:b
MULTI="one
two"
no equals sign
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_what_else_is_in_the_file_stays(newline: str, end: bool, bom: str, in_state: Path) -> None:
    existing = EXISTING.replace("\n", newline)
    existing = bom + (existing if end else existing.removesuffix(newline))
    in_state.parent.mkdir()
    in_state.write_bytes(existing.encode())
    outcome = run(answers=by_options(scopes="c:d e:f", redirect_uri=URI, force=True), say=lambda _: None)
    expected = f"""\
# mine
export WEBEX_CLIENT_ID={CLIENT_ID}   # from Kim
OTHER='x # y'

  webex_client_secret={SECRET}
# WEBEX_SCOPES=a:b
WEBEX_SCOPES='c:d e:f'
MULTI="one
two"
no equals sign
WEBEX_REDIRECT_URI={URI}
"""
    assert in_state.read_bytes().decode() == expected.replace("\n", newline)
    assert Path(outcome.backup).read_bytes() == existing.encode()


def test_the_example_can_be_filled_in(in_state: Path) -> None:
    text = (Path(__file__).parent.parent / "config.example.env").read_text(encoding="utf-8")
    in_state.parent.mkdir()
    in_state.write_text(text, encoding="utf-8")
    run(answers=by_options(scopes="a:b", redirect_uri=URI), say=lambda _: None)
    added = [line for line in in_state.read_text(encoding="utf-8").splitlines() if line not in text.splitlines()]
    assert len(added) == 4
    assert in_state.read_text(encoding="utf-8").index("#WEBEX_SCOPES") < in_state.read_text().index("\nWEBEX_SCOPES")
    assert load().client_id == CLIENT_ID


def test_a_name_that_stands_twice_is_changed_twice(in_state: Path) -> None:
    in_state.parent.mkdir()
    in_state.write_text("WEBEX_CLIENT_ID=one\nWEBEX_CLIENT_ID='two # x' # it's\nWEBEX_CLIENT_SECRET\n")
    run(answers=by_options(force=True), say=lambda _: None)
    lines = f"WEBEX_CLIENT_ID={CLIENT_ID}\nWEBEX_CLIENT_ID={CLIENT_ID}\nWEBEX_CLIENT_SECRET={SECRET}\n"
    assert in_state.read_text() == lines


def test_backups_do_not_replace_each_other(in_state: Path) -> None:
    for client_id in (CLIENT_ID, OTHER_ID, CLIENT_ID):
        run(answers=by_options(client_id=client_id, force=True), say=lambda _: None)
    names = sorted(entry.name for entry in in_state.parent.iterdir())
    assert names == ["config.env", "config.env.bak", "config.env.bak2"]
    assert OTHER_ID in (in_state.parent / "config.env.bak2").read_text()


@posix
def test_a_link_stays_a_link(in_state: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    in_state.parent.mkdir()
    in_state.symlink_to(tmp_path / "dotfiles" / "webex.env")
    run(answers=by_options(), say=lambda _: None)
    assert in_state.is_symlink()
    assert CLIENT_ID in (tmp_path / "dotfiles" / "webex.env").read_text()


@pytest.mark.parametrize("obstacle", ["folder", "file above", "not text"])
def test_a_file_that_cannot_be_written_is_told(obstacle: str, tmp_path: Path) -> None:
    path = tmp_path / "config.env"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "file above":
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "config.env"
    else:
        path.write_bytes("A=日本".encode("shift-jis"))
    with pytest.raises(ConfigurationError, match="cannot be written"):
        run(answers=by_options(path=str(path)))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webex_loopback import store

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "replace_file", refuse)
    with pytest.raises(ConfigurationError, match="No space left"):
        run(answers=by_options())


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.text(min_size=1).map(str.strip).filter(bool),
    before=st.sampled_from(["", "WEBEX_CLIENT_ID='x'\n", EXISTING]),
)
@example(value="a'b\\c\"d#e $f", before="")
@example(value="\\", before="")
@example(value="#x", before="")
def test_a_value_is_read_back_as_it_was_or_refused(value: str, before: str) -> None:
    wanted = {"WEBEX_CLIENT_ID": value}
    try:
        text = setup._updated(before, wanted)
    except ConfigurationError:
        assert re.search(r"\$\{|[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]", value)
        return
    assert {k.upper(): v for k, v in dotenv_values(stream=io.StringIO(text)).items()}["WEBEX_CLIENT_ID"] == value


# git, and what gets in between


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    git("init", "-q", str(folder))
    return folder


def test_git_is_kept_from_the_file(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.pyc")  # without a line end
    person = Person(True, False)
    answers = by_options(here=True, scopes="a:b", redirect_uri=URI)
    run(answers=answers, ask=person)
    assert "git does not ignore config.env" in person.questions[0]
    assert (repository / ".gitignore").read_text() == "*.pyc\nconfig.env\nconfig.env.bak*\n"
    person = Person(True, False)
    run(answers=by_options(here=True, scopes="a:b", redirect_uri=URI, client_id=OTHER_ID), ask=person)
    assert (repository / ".gitignore").read_text() == "*.pyc\nconfig.env\nconfig.env.bak*\n"
    git("-C", str(repository), "add", "-A")
    assert git("-C", str(repository), "ls-files").split() == [".gitignore"]


def test_without_a_terminal_gitignore_is_left_alone(repository: Path) -> None:
    told: list[str] = []
    run(answers=by_options(here=True), say=told.append)
    assert any(".gitignore" in line for line in told)
    assert not (repository / ".gitignore").exists()


def test_a_gitignore_that_cannot_be_written_is_told(repository: Path) -> None:
    (repository / ".gitignore").mkdir()
    person = Person(True, False)
    run(answers=by_options(here=True, scopes="a:b", redirect_uri=URI), ask=person)
    assert "cannot be written" in person.shown


def test_a_file_that_is_in_git_already_is_a_warning(repository: Path) -> None:
    (repository / "config.env").write_text("A=b\n")
    git("-C", str(repository), "add", "-f", "config.env")
    told: list[str] = []
    run(answers=by_options(here=True), say=told.append)
    assert any("git rm --cached config.env" in line for line in told)


def test_without_git_nothing_is_said_of_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setenv("PATH", str(repository))
    run(answers=by_options(here=True), say=told.append)
    assert not any("git does not" in line for line in told)
    (repository / "git").write_text("no program")
    (repository / "git").chmod(0o755)
    run(answers=by_options(here=True), say=told.append)
    assert not any("git does not" in line for line in told)


def test_what_wins_over_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setenv("WEBEX_CLIENT_ID", OTHER_ID)
    (tmp_path / "work" / "config.env").write_text("A=b\n")
    run(answers=by_options(path=str(tmp_path / "state" / "config.env")), say=told.append)
    text = "\n".join(told)
    assert "WEBEX_CLIENT_ID otherwise" in text
    assert f"From this folder {tmp_path / 'work' / 'config.env'} is used, not this file." in text
    assert OTHER_ID not in text


def test_where_the_file_is_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    run(answers=by_options(path=str(tmp_path / "my.env")), say=told.append)
    assert any("where WEBEX_CONFIG_FILE names it" in line for line in told)
    run(answers=by_options(here=True), say=told.append)
    assert any("from this folder only" in line for line in told)
    monkeypatch.setenv("WEBEX_CONFIG_FILE", str(tmp_path / "nowhere.env"))
    run(answers=by_options(path=str(tmp_path / "my.env")), say=told.append)


# On a real terminal

DRIVER = """
import sys
from webex_loopback.setup import Answers, run, terminal_asker
asker = terminal_asker()
if asker is None:
    sys.exit("no terminal")
try:
    outcome = run(answers=Answers(), ask=asker)
except KeyboardInterrupt:
    sys.exit(130)
print("log in:", outcome.log_in)
"""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Start the wizard on a terminal of 80 columns; `redirected` is what a shell would append."""
    pexpect = pytest.importorskip("pexpect")
    monkeypatch.setenv("TERM", "xterm")
    children: list[Any] = []

    def start(redirected: str = "") -> Any:
        command = ["-c", f'exec "$0" -c "$1" {redirected}', sys.executable, DRIVER]
        child = pexpect.spawn("/bin/sh", command, encoding="utf-8", dimensions=(24, 80), timeout=10)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def say(child: Any, question: str, answer: str) -> str:
    """Wait for a question and answer it; return what was shown before."""
    child.expect_exact(question)
    shown = str(child.before)
    if question.startswith("Client Secret"):
        child.waitnoecho()
    child.sendline(answer)
    return shown


@posix
def test_the_interview_on_a_terminal(terminal: Callable[..., Any], in_state: Path) -> None:
    child = terminal()
    shown = say(child, "Client ID or URL: ", "")
    shown += say(child, "Scopes [spark:people_read spark:kms]: ", "1-2")
    shown += say(child, "/callback]: ", URI)
    shown += say(child, "[Y/n] ", "perhaps")
    shown += say(child, "[Y/n] ", "No")
    shown += say(child, "OAuth Authorization URL: ", portal_url())
    shown += say(child, "Client Secret (not shown): ", SECRET)
    shown += say(child, "Log in now? [Y/n] ", "y")
    child.expect_exact("log in: True")
    child.wait()
    shown += str(child.before)
    assert SECRET not in shown
    assert "\x1b[1mYour Integration\x1b[0m" in shown
    assert load().client_id == CLIENT_ID
    assert load().client_secret.get_secret_value() == SECRET


@posix
def test_a_very_long_url_can_be_pasted(terminal: Callable[..., Any]) -> None:
    scopes = " ".join(f"spark-admin:something_of_a_long_name_{n}" for n in range(60))
    url = portal_url(scopes=scopes)
    assert 2048 < len(url) < 4096
    child = terminal()
    say(child, "Client ID or URL: ", url)
    say(child, "Client Secret (not shown): ", SECRET)
    say(child, "Log in now? [Y/n] ", "n")
    child.expect_exact("log in: False")
    child.wait()
    assert load().scopes == scopes


@posix
@pytest.mark.parametrize("key", ["\x03", "\x04"])
@pytest.mark.parametrize("answers", [[], [("Client ID or URL: ", portal_url())]])
def test_ctrl_c_and_ctrl_d_leave(
    key: str, answers: list[tuple[str, str]], terminal: Callable[..., Any], in_state: Path
) -> None:
    child = terminal()
    for question, answer in answers:
        say(child, question, answer)
    child.expect_exact("not shown): " if answers else "URL: ")
    if answers:
        child.waitnoecho()
    child.send(key)
    child.wait()
    assert child.exitstatus == 130
    assert not in_state.exists()


@posix
def test_no_color_is_respected(terminal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    child = terminal()
    assert "\x1b[1m" not in say(child, "Client ID or URL: ", portal_url())
    say(child, "Client Secret (not shown): ", SECRET)
    assert "\x1b[1m" not in say(child, "Log in now? [Y/n] ", "n")
    child.wait()


@posix
def test_standard_output_stays_clean(
    terminal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    child = terminal(f'> "{tmp_path / "out"}"')
    shown = say(child, "Client ID or URL: ", portal_url())
    say(child, "Client Secret (not shown): ", SECRET)
    say(child, "Log in now? [Y/n] ", "n")
    child.wait()
    assert (tmp_path / "out").read_text() == "log in: False\n"
    assert "\x1b[1m" not in shown


@posix
@pytest.mark.parametrize("redirected", ["< /dev/null", "2> /dev/null"])
def test_without_a_terminal_there_is_nobody_to_ask(redirected: str, terminal: Callable[..., Any]) -> None:
    child = terminal(redirected)
    child.wait()
    assert child.exitstatus == 1


def test_streams_that_are_none_are_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert setup.terminal_asker() is None
