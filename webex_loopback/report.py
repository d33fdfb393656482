"""What `status` and `whoami` say of a stored token; no secret is in it."""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .token import DAY, StoredToken

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

_BAR = 30


def facts(profile: str, token: StoredToken, path: str, now: float) -> dict[str, Any]:
    """Return the state of a token for programs: names and numbers, moments in ISO 8601 and epoch seconds."""
    return {
        "profile": profile,
        "source": "file",
        "path": os.path.realpath(path),
        "account": {"name": token.account.name, "email": token.account.email, "id": token.account.id},
        "client_id": token.client_id,
        "api_base_url": token.api_base_url,
        "scopes_requested": token.scopes_requested,
        "scopes_granted": token.granted,
        "scopes_missing": token.missing,
        "issued_at": _iso(token.issued_at),
        "refresh_due": now >= token.refresh_at,
        "access_token": _end(token.expires_at, now),
        "refresh_token": _end(token.refresh_token_expires_at, now) if token.refresh_token else None,
    }


def _end(end: int | None, now: float) -> dict[str, Any]:
    if end is None:
        return {"expires_at": None, "expires_at_epoch": None, "seconds_left": None, "expired": False}
    return {
        "expires_at": _iso(end),
        "expires_at_epoch": end,
        "seconds_left": max(int(end - now), 0),
        "expired": now >= end,
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().isoformat(timespec="seconds")


def table(profile: str, token: StoredToken, path: str, now: float, *, plain: bool = False) -> "Table":
    """Return what `status` prints, for rich to print; `plain`: the bars in ASCII."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in lines(profile, token, path, now, plain=plain):
        grid.add_row(label, value)
    return grid


def printed(console: "Console", renderable: "RenderableType") -> list[str]:
    """Return the lines that rich would print, without the spaces that it fills its tables up with."""
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]


def lines(
    profile: str, token: StoredToken, path: str, now: float, *, plain: bool = False
) -> Iterator[tuple[str, "RenderableType"]]:
    """Yield label and value of each line that a person is shown."""
    from rich.text import Text

    yield "Profile", profile
    account = " ".join(filter(None, (token.account.name, f"<{token.account.email}>" if token.account.email else "")))
    yield "Account", account or Text("unknown (the token has no spark:people_read)", style="dim")
    yield "Access token", lifetime(token.issued_at, token.expires_at, now, plain)
    if token.refresh_token is None:
        yield "Refresh token", Text("none: when the access token ends, log in again", style="yellow")
    else:
        since = token.refresh_token_issued_at or token.issued_at
        yield "Refresh token", lifetime(since, token.refresh_token_expires_at, now, plain)
        yield "", Text(horizon(token, now), style="dim")
    yield "Granted", " ".join(token.granted) or Text("unknown", style="dim")
    if token.missing:
        yield "Not granted", Text(" ".join(token.missing), style="yellow")
    yield "Webex", token.api_base_url
    yield "Integration", f"{token.client_id[:9]}..." if len(token.client_id) > 12 else token.client_id
    yield "Kept in", os.path.realpath(path)


def horizon(token: StoredToken, now: float) -> str:
    """Say until when nothing needs to be done, and what then."""
    end = token.refresh_token_expires_at
    if token.refresh_token_expired(now):
        return "It has run out: run `webex-loopback login`."
    if end is None:
        return "Its end is not known; use renews it."
    return f"Any use of get_token() after {_date(token.refresh_at)} refreshes; without one, log in after {_date(end)}."


def lifetime(start: int, end: int | None, now: float, plain: bool = False) -> "RenderableType":
    """Return a bar of what is left of a lifetime, with words."""
    from rich.text import Text

    if end is None:
        return Text("of unknown end", style="dim")
    left, gone = ("#", "-") if plain else ("━", "━")
    if now >= end:
        return Text(f"{gone * _BAR}  ended {span(now - end)} ago, {_date(end)}", style="red")
    share = min(max((end - now) / max(end - start, 1), 0.0), 1.0)
    full = max(round(share * _BAR), 1)
    style = "green" if share > 0.25 else "yellow" if share > 0.1 else "red"
    return Text.assemble(
        (left * full, style), (gone * (_BAR - full), "bright_black"), f"  {span(end - now)} left, until {_date(end)}"
    )


def span(seconds: float) -> str:
    """Return a length of time in its largest sensible unit."""
    for size, name in ((DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds > size - 30:  # 1,209,599 seconds are 14 days to a person
            count = int((seconds + 30) // size)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return f"{int(max(seconds, 0))} seconds"


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def duration(text: str) -> float:
    """Read `7d`, `12h`, `30m`, `45s` or a number of seconds.

    Raises:
        ValueError: It is none of these.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    if not number.isascii() or not number.isdigit():
        raise ValueError(f"{text!r} is not a duration such as 7d, 12h or 30m")
    return int(number) * units[unit]
