"""Turns the screens of a terminal, taken one after another, into one animated SVG."""

from collections.abc import Sequence
from html import escape

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH, HEIGHT = 8.43, 18.0  # of a character, in pixels at 14 px
PAUSE_SECONDS = 5.0
STYLE = """
text { font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }
.screen { visibility: hidden; animation: %(seconds)gs step-end infinite; }
.last { visibility: visible; }
@media (prefers-reduced-motion: reduce) { .screen { animation: none !important; } }
"""


def animated(screens: Sequence[tuple[float, str]], *, columns: int, title: str, theme: TerminalTheme) -> str:
    """Return the SVG. It shows each screen from its time (seconds) to that of the next, and the last one longer.

    Args:
        screens: Times, and texts with ANSI escape sequences.
    """
    end = screens[-1][0] + PAUSE_SECONDS
    rows = max(screen.count("\n") + 1 for _, screen in screens)
    visible, hidden = (f"{{visibility:{word}}}" for word in ("visible", "hidden"))
    rules, groups = [], []
    for number, (at, screen) in enumerate(screens):
        last = number == len(screens) - 1
        until = end if last else screens[number + 1][0]
        frames = f"0%{hidden}{100 * at / end:.3f}%{visible}{100 * until / end:.3f}%{visible if last else hidden}"
        rules.append(f"@keyframes s{number}{{{frames}}}.s{number}{{animation-name:s{number}}}")
        lines = "".join(_line(row, text, theme) for row, text in enumerate(screen.splitlines()))
        groups.append(f'<g class="screen s{number}{" last" * last}">{lines}</g>')
    wide, high = columns * WIDTH + 32, rows * HEIGHT + 56
    paper = theme.background_color.hex
    dots = "".join(f'<circle cx="{22 + 18 * n}" cy="20" r="6" fill="{c}"/>' for n, c in enumerate(_DOTS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" role="img">'
        f"<title>{escape(title)}</title><style>{STYLE % {'seconds': end}}{''.join(rules)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{paper}"/>{dots}'
        f'<g transform="translate(16 40)">{"".join(groups)}</g></svg>\n'
    )


_CONSOLE = Console()
_DOTS = ("#e06c75", "#e5c07b", "#7ec878")


def _line(row: int, text: str, theme: TerminalTheme) -> str:
    parts, column = [], 0
    for piece, given, _ in Text.from_ansi(text).render(_CONSOLE):
        style = given or Style.null()
        if piece.strip():
            colour = style.color.get_truecolor(theme).hex if style.color else theme.foreground_color.hex
            look = f' fill="{colour}"' + ' font-weight="bold"' * bool(style.bold) + ' opacity=".65"' * bool(style.dim)
            parts.append(f'<tspan x="{column * WIDTH:g}"{look}>{escape(piece)}</tspan>')
        column += len(piece)
    return f'<text y="{row * HEIGHT + 14:g}">{"".join(parts)}</text>' if parts else ""
