"""What `status` says, for people and for programs."""

import time
from collections.abc import Callable

import pytest
from rich.console import Console

from webex_loopback.report import duration, facts, span, table
from webex_loopback.token import StoredToken


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1_209_599, "14 days"),
        (86_400, "1 day"),
        (86_369, "23 hours"),
        (7_200, "2 hours"),
        (90, "2 minutes"),
        (60, "1 minute"),
        (30, "30 seconds"),
        (-5, "0 seconds"),
    ],
)
def test_spans_are_told_in_their_largest_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "soon", "-1d", "1.5d", "1y", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


def test_an_unknown_end_is_null_for_programs(make_token: Callable[..., StoredToken]) -> None:
    known = facts("default", make_token(expires_in=None, refresh_token=None), "/x.json", time.time())
    assert known["access_token"] == {
        "expires_at": None,
        "expires_at_epoch": None,
        "seconds_left": None,
        "expired": False,
    }
    assert known["refresh_token"] is None


def test_the_bars_show_what_is_left_in_unicode_and_in_ascii(make_token: Callable[..., StoredToken]) -> None:
    half = make_token(expires_in=1_000, age=500)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(table("default", half, "/x.json", time.time(), plain=True))
    (line,) = [line for line in capture.get().splitlines() if line.startswith("Access token")]
    assert line.count("#") == line.count("-", 0, line.index("left")) == 15
    with console.capture() as capture:
        console.print(table("default", half, "/x.json", time.time()))
    assert "━" * 30 in capture.get()
