"""Text for people: foreign text, durations, dates, lists, language."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import Patch, raised
from webex_loopback import wording

TOKEN = "NWIzMDBjYTktZDk5ZC00ZGNiLWE5NTAtNTM0NjdlZGE0ZGI5MmU1_PF84_1eb65fdf-9643-417f-9974-ad72cae0e10f"
ANY_TEXT = st.text(st.characters(), max_size=80)  # surrogates included


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\r\nb\tc", "a[2J b c"),
        ("a\u202eb\u2066c\u200f", "abc"),
        ("pay\u200bpal\ufeff\u2060\u00ad", "paypal"),
        ("\ud800x\udfff", "x"),
        ("a\u2028b\u3000 \u00a0c", "a b c"),
        ("x\u3164\u2800y", "xy"),
        ("日本語 é 👍", "日本語 é 👍"),
    ],
)
def test_printable_text_cannot_move_hide_or_reorder(text: str, shown: str) -> None:
    assert wording.printable(text) == shown


def test_printable_text_is_cut_at_the_limit() -> None:
    assert wording.printable("x" * 11, 10) == "x" * 9 + "…"
    assert wording.printable("日本語", 3) == "日本語"
    assert wording.printable("aa bb", 4) == "aa…"


@given(ANY_TEXT, st.integers(1, 90))
@example("a \u200b b", 50)
@example("\u200b" * 5 + "a" * 50 + " b", 52)
def test_printable_changes_nothing_the_second_time(text: str, limit: int) -> None:
    shown = wording.printable(text, limit)
    assert wording.printable(shown, limit) == shown
    assert len(shown) <= limit
    assert shown.isprintable()
    assert shown == shown.strip()
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in shown)


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"The token {TOKEN} has expired; code={TOKEN}&state=x",
        "x " * 240 + TOKEN,
        TOKEN[:30] + "\u200b" + TOKEN[30:],
        TOKEN.replace("_", "%5F"),
        f"Authorization: Bearer {TOKEN[:20]}",
        f'client_secret={TOKEN[:12]} {{"refresh_token": "{TOKEN[:12]}"}}',
        f"{{'access_token': '{TOKEN[:12]}'}}",
        f"connection to postgresql://app:{TOKEN[:12]}@db/x failed",
    ],
)
def test_nothing_that_could_be_a_token_is_left_in_an_error_text(text: str) -> None:
    clean = wording.without_tokens(text)
    assert TOKEN[:12] not in clean
    assert len(clean) <= 500
    assert wording.without_tokens(clean) == clean


@pytest.mark.parametrize("text", ["The refresh token is expired.", "error code: 403", "Bearer token required"])
def test_ordinary_error_texts_stay_as_they_are(text: str) -> None:
    assert wording.without_tokens(text) == text


@pytest.mark.parametrize(
    ("english", "japanese", "seconds"),
    [
        ("14 days", "14日", [1_209_599, 1_209_600]),
        ("13 days 23 h", "13日23時間", [1_206_000, 1_207_000]),
        ("1 day", "1日", [86_399, 86_400]),
        ("2 h 5 min", "2時間5分", [7_500]),
        ("1 min 30 s", "1分30秒", [90]),
        ("1 min", "1分", [59.6]),
        ("59 s", "59秒", [59.4]),
        ("0 s", "0秒", [0.3, 0, -5]),
    ],
)
def test_durations_have_two_units_at_most_and_are_rounded(english: str, japanese: str, seconds: list[float]) -> None:
    assert {(wording.duration(s), wording.duration(s, "ja")) for s in seconds} == {(english, japanese)}


@pytest.mark.usefixtures("tokyo")
def test_moments_are_in_local_time() -> None:
    assert wording.moment(1_795_669_500) == "2026-11-26 14:05"
    assert wording.moment(1_795_669_500, "ja") == "2026年11月26日 14:05"


@pytest.mark.parametrize("epoch", [1e20, float("nan"), float("inf"), -1e20])
def test_a_moment_beyond_the_calendar_does_not_crash(epoch: float) -> None:
    assert (wording.moment(epoch), wording.moment(epoch, "ja")) == ("an unknown time", "不明")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45", 45), ("45s", 45), ("30m", 1_800), ("12H", 43_200), (" 7d ", 604_800), ("2w", 1_209_600), ("1.5h", 5_400)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert wording.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "soon", "-1d", "1y", "٣d", "nan", "inf", "1e9", "9" * 400, "\x1b[2J"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    said = str(raised(ValueError, wording.parse_duration, text))
    assert "is not a duration" in said
    assert "\x1b" not in said


SCOPES = [
    "a:b c:d",
    "a:b,c:d",
    " a:b , c:d, ",
    "a:b\r\nc:d\ta:b",
    ",a:b,,c:d",
    "a:b+c:d",
    "a%3Ab%20c%3Ad",
    "a%3Ab+c%3Ad",
]
PASTED = ["'a:b' \"c:d\"", "a:b、c:d", "a:b\u3000c:d", "\ufeffa:b\u200b c:d"]
PASTED += [
    "scope=a%3Ab%20c%3Ad",
    "x?y=z&amp;scope=a:b c:d",
    "https://a/authorize?client_id=C1&scope=a%3Ab%20c%3Ad&state=x",
]


@pytest.mark.parametrize("text", [*SCOPES, *PASTED])
def test_scopes_are_split_however_they_were_pasted(text: str) -> None:
    assert wording.split_list(text, "scope") == ["a:b", "c:d"]


def test_redirect_uris_stay_as_registered() -> None:
    uri = "http://127.0.0.1:8765/a%20b+c"
    assert wording.split_list(f" {uri} ,\thttp://[::1]:1/, {uri}") == [uri, "http://[::1]:1/"]
    assert wording.split_list("http%3A%2F%2Flocalhost%3A1%2Fcallback") == ["http://localhost:1/callback"]


@pytest.mark.parametrize("text", ["", " ", ",", " , ", "''", "\u200b", "%20", "scope="])
def test_a_list_may_be_empty(text: str) -> None:
    assert wording.split_list(text, "scope") == []


def test_is_loopback() -> None:
    assert [wording.is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "", "::")] == [True] * 3 + [False] * 2


def test_the_place_of_a_setting_is_a_phrase_that_is_safe_to_print() -> None:
    assert [wording.place(o) for o in ("environment", "/a\x1b\n/c.env")] == ["in the environment", "in /a /c.env"]


def test_quotes_around_a_whole_value_are_removed() -> None:
    bare = {" a\r\n": "a", '"a"': "a", "' a '": "a", '"': '"', '""': "", '"a" "b"': '"a" "b"', "\"a'": "\"a'"}
    assert {text: wording.unquoted(text) for text in bare} == bare


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "Japanese_Japan.932"}, "ja"),
        ({"LANG": "jam_JM.UTF-8"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANG": "ja_JP.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "ja", "LANG": "de_DE"}, "ja"),
        ({"WEBEX_LANG": " JA-jp ", "LC_ALL": "en_US"}, "ja"),
        ({"WEBEX_LANG": "fr", "LC_ALL": "ja_JP"}, "en"),
    ],
)
def test_the_first_variable_that_is_set_decides_the_language(
    environ: dict[str, str], expected: str, monkeypatch: Patch
) -> None:
    assert wording.language(environ) == expected
    for name in ("LANG", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wording.language() == expected


def test_text_is_wrapped_but_commands_stay_whole() -> None:
    text = "Not logged in. Run `webex-loopback login -p work --force` now.\n  Indented, and longer than the line is."
    commands = ["Not logged in. Run", "`webex-loopback login -p work --force`", "now."]
    assert wording.wrap(text, 30).split("\n") == [*commands, "  Indented, and longer than", "  the line is."]
    assert wording.wrap("", 9) + wording.wrap("a  b  ", 9) == "a  b"
    with open(__file__) as file:
        assert wording.columns(None) == wording.columns(file) == 10_000


def test_what_is_too_long_for_a_line_gets_its_own_and_less_indentation() -> None:
    path = "/" + "x" * 28
    assert wording.wrap(f"Stored in {path}; and so on", 30, 10) == f"Stored in\n    {path};\n{'':10}and so on"
    assert wording.wrap(f"  ID: {path}\n  b", 31).split("\n") == ["  ID:", f"  {path}", "  b"]


JAPANESE = (
    "  `webex-loopback login -p 開発 --force`を実行し、（「許可」を）クリックしてください。ネットワークとプロキシの"
    "設定を確認してから、もう一度ログインしてください。詳細：https://developer.webex.com/docs/integrations。以上。"
)


@pytest.mark.parametrize("width", [60, 61, 80, 81])
def test_japanese_text_is_wrapped_by_columns_and_by_the_rules_for_punctuation(width: int) -> None:
    lines = wording.wrap(JAPANESE, width).split("\n")
    wide = [sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line) for line in lines]
    assert max(wide) <= width
    assert min(wide[:-1]) > width - 40  # the longest unit is a URL
    assert "".join(line.strip() for line in lines) == JAPANESE.strip()
    assert all(line.startswith("  ") and line[2] not in "、。」）：" and line[-1] not in "（「" for line in lines)
    assert sum("`webex-loopback login -p 開発 --force`" in line for line in lines) == 1


def test_a_long_text_of_a_server_does_not_take_long() -> None:
    began = time.perf_counter()
    assert wording.without_tokens("://" + "a:" * 50_000).endswith("…")
    assert time.perf_counter() - began < 1
