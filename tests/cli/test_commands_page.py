"""docs/commands.md shows the help of every command as it is; `python -m tests.cli.test_commands_page` rewrites it."""

from pathlib import Path

from webex_loopback.cli.app import COMMANDS, cli
from webex_loopback.sandbox.__main__ import parser

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
INTRODUCTION = """\
# Commands

stdout carries the answer only; messages for people go to stderr. Without a terminal, nothing prompts. Every command
works in any directory. `--debug` shows each step and the traceback of an error.

See also [python.md](python.md) for tokens in Python, [keepalive.md](keepalive.md) for timers, and
[settings.md](settings.md). The [sandbox](sandbox.md#switches) has switches and faults as well.
"""


def page() -> str:
    """Return what the page should contain."""
    parts = [INTRODUCTION]
    root = cli.make_context("webex-loopback", [], terminal_width=90, resilient_parsing=True)
    for name in ("", *COMMANDS):
        command = cli.get_command(root, name) if name else cli
        assert command is not None
        context = command.make_context(name, [], root, resilient_parsing=True) if name else root
        title = " ".join(filter(None, ("webex-loopback", name)))
        text = command.get_help(context)
        if name == "sandbox":  # docs/sandbox.md has its switches and faults
            text = parser(88).format_help().partition("\n\nSwitches")[0]
        parts.append(f"## {title}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
