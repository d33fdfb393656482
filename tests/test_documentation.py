"""The documentation says what is: settings, commands, exit codes, links, code. UPDATE_DOCS=1 renews the help texts."""

import ast
import configparser
import importlib
import json
import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import webex_loopback
from webex_loopback.cli import cli
from webex_loopback.doctor import ENVIRONMENT_ONLY
from webex_loopback.errors import WebexLoopbackError
from webex_loopback.sandbox.__main__ import _parser
from webex_loopback.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
READMES = [page for page in PAGES if page.name.startswith("README")]
HELP = re.compile(r"(?<=<!-- help: )([a-z ]*?) ?-->\n(.*?)(?=<!-- /help -->)", re.DOTALL)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)

WIDTH = 88
UPDATE = bool(os.environ.get("UPDATE_DOCS"))  # read here: each test has a clean environment


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def in_each(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=name_of)


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(language: str, pages: list[Path] = PAGES) -> list[Any]:
    """Return the code blocks of a language, as parameters of a test."""
    found = []
    for page in pages:
        text = read(page)
        for match in FENCE.finditer(text):
            if match[2] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[3], id=f"{name_of(page)}:{line}"))
    return found


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the tables in a section, without the head and the line below it."""
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    body = next(part for part in section if part.startswith(heading + "\n"))
    tables = re.findall(r"(?:^\|.*\|\n)+", body.partition("\n### ")[0], re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# Settings


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    stated = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(read(README), "Settings") if len(cells) == 3}
    actual = {}
    for field, info in Settings.model_fields.items():
        default = info.default
        actual[PREFIX + field.upper()] = str(getattr(default, "get_secret_value", lambda value=default: value)())
    assert stated == actual


def test_every_variable_of_the_environment_is_in_the_readme() -> None:
    stated = {cells[0].strip("`") for cells in rows(read(README), "Settings") if len(cells) == 2}
    assert stated == set(ENVIRONMENT_ONLY)


def test_every_setting_is_in_the_example_with_its_default() -> None:
    text = read(ROOT / "config.example.env")
    stated = {name: value.strip("'") for name, value in re.findall(r"^#?(WEBEX_\w+)=(.*)$", text, re.MULTILINE)}
    defaults = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(read(README), "Settings") if len(cells) == 3}
    assert stated == defaults
    assert all(name in text for name in ENVIRONMENT_ONLY)


@in_each(PAGES)
def test_no_page_names_a_setting_that_is_none(page: Path) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields} | set(ENVIRONMENT_ONLY)
    assert set(re.findall(r"\bWEBEX_[A-Z][A-Z_]*[A-Z]\b", read(page))) <= known


# Commands


def commands(group: click.Group = cli, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield each command with its full name, as it is typed; the whole one is ""."""
    yield above, group
    for name, command in group.commands.items():
        full = f"{above} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, full)
        else:
            yield full, command


COMMANDS = dict(commands())


def help_of(command: str) -> str:
    """Return what a command prints for --help, at one width whatever the terminal."""
    if command == "sandbox":
        return _parser().format_help()
    arguments = [*command.split(), "--help"]
    result = CliRunner().invoke(cli, arguments, prog_name="webex-loopback", terminal_width=WIDTH)
    assert result.exit_code == 0
    return result.output


@in_each(READMES)
def test_the_help_of_every_command_is_in_the_readme(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH + 2))
    monkeypatch.setenv("NO_COLOR", "1")
    text = read(page)
    if UPDATE:
        text = HELP.sub(lambda match: f"{match[1]} -->\n```text\n{help_of(match[1]).rstrip()}\n```\n", text)
        text = text.replace("<!-- help:  -->", "<!-- help: -->")
        page.write_text(text, encoding="utf-8")
    shown = {match[1]: match[2] for match in HELP.finditer(text)}
    assert set(shown) == set(COMMANDS)
    for command, block in shown.items():
        # Not to the space: click and argparse fold lines a little differently from version to version.
        words = block.replace("```text\n", "").replace("```\n", "").split()
        assert words == help_of(command).split(), f"{command}: run UPDATE_DOCS=1 pytest {Path(__file__).name}"


@in_each(READMES)
def test_every_command_has_a_section(page: Path) -> None:
    sections = set(re.findall(r"^### ([\w-]+)$", read(page), re.MULTILINE))
    assert {name.split()[0] for name in COMMANDS if name} <= sections


def options_of(words: list[str]) -> tuple[set[str], list[str]]:
    """Return the options of the command that the words begin with, and the words behind it."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    if command.name == "sandbox":
        return {option for action in _parser()._actions for option in action.option_strings}, words
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return known | {"-h", "--help", "--version", "--debug"}, words


def uses(text: str) -> list[str]:
    """Return what stands behind `webex-loopback` wherever it is typed, up to the end of that command."""
    found = []
    code = [match[3] for match in FENCE.finditer(text) if match[2] not in ("text", "python")]
    typed = [line.partition("$ ")[2] for block in code for line in block.splitlines() if line.startswith("$ ")]
    typed += re.findall(r"`([^`\n]*)`", FENCE.sub("", text))
    for line in typed:
        found += re.findall(r"(?<![\w/.-])webex-loopback ((?:[^)|\"#`>]|<(?!/))+)", line)
    return found


@in_each(PAGES)
def test_every_command_line_is_one(page: Path) -> None:
    for use in uses(read(page)):
        words = shlex.split(use.partition(" -- ")[0].replace("...", ""))
        options, rest = options_of(words)
        assert len(rest) < len(words) or words[0].startswith("-"), f"no command: {use}"
        given = {word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        assert given <= options, f"no option of it: {use}"


@in_each(PAGES)
def test_every_make_target_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", read(ROOT / "Makefile"), re.MULTILINE))
    text = read(page)
    typed = [match[3] for match in FENCE.finditer(text)] + re.findall(r"`([^`\n]*)`", FENCE.sub("", text))
    assert {name for code in typed for name in re.findall(r"(?:^|\$ )make ([a-z-]+)", code, re.MULTILINE)} <= targets


@in_each(READMES)
def test_the_first_two_commands_are_demo_and_test(page: Path) -> None:
    typed = [line for block in FENCE.finditer(read(page)) for line in block[3].splitlines() if line.startswith("$ ")]
    assert [line.split("#")[0].split() for line in typed[:2]] == [["$", "make", "demo"], ["$", "make", "test"]]


# Errors


def errors(root: type[WebexLoopbackError] = WebexLoopbackError) -> Iterator[type[WebexLoopbackError]]:
    yield root
    for error in root.__subclasses__():
        if error.__module__ == "webex_loopback.errors":
            yield from errors(error)


def test_every_error_is_in_the_readme_with_its_exit_code() -> None:
    stated = {
        name: int(cells[0]) for cells in rows(read(README), "Exit codes") for name in re.findall(r"`(\w+)`", cells[1])
    }
    assert stated == {error.__name__: error.exit_code for error in errors()}


# Links


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = "".join(c for c in text if c.isalnum() or c in " -_").replace(" ", "-")
        number, unique = 0, slug
        while unique in found:
            number += 1
            unique = f"{slug}-{number}"
        found.add(unique)
    return found


@in_each(PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


@in_each(PAGES)
def test_every_picture_says_what_it_shows(page: Path) -> None:
    assert all(len(words) > 10 for words in re.findall(r"!\[([^\]]*)\]", FENCE.sub("", read(page))))


# Code


@pytest.mark.parametrize("code", blocks("python"))
def test_python_compiles_and_imports_what_there_is(code: str) -> None:
    tree = ast.parse(code)
    compile(tree, "<documentation>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "webex_loopback":
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("code", blocks("json"))
def test_json_parses(code: str) -> None:
    json.loads(code)


@pytest.mark.parametrize("code", blocks("ini"))
def test_settings_files_parse(code: str) -> None:
    from io import StringIO

    from dotenv.parser import parse_stream

    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert all(not binding.error and binding.key in known for binding in parse_stream(StringIO(code)))


@pytest.mark.parametrize("code", blocks("xml"))
def test_the_launchd_job_parses(code: str) -> None:
    job = plistlib.loads(code.encode())
    assert job["ProgramArguments"][1:] == ["refresh", "--if-needed"]
    assert set(job["StartCalendarInterval"]) == {"Hour", "Minute"}


UNITS = blocks("systemd", [ROOT / "docs" / "keepalive.md"])


@pytest.mark.parametrize("code", UNITS)
def test_a_systemd_unit_parses(code: str) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(code)
    assert {"Unit", "Service"} <= set(unit) or {"Unit", "Timer", "Install"} <= set(unit)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit, ending in zip(UNITS, ("service", "timer"), strict=True):
        # A command that is there, in place of one in the reader's home.
        text = unit.values[0].replace("%h/.local/bin/webex-loopback", sys.executable)
        (tmp_path / f"webex-loopback.{ending}").write_text(text, encoding="utf-8")
    result = subprocess.run(
        ["systemd-analyze", "verify", "--user", "webex-loopback.service", "webex-loopback.timer"],
        cwd=tmp_path,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    # Keys that it does not know are but told, and other units of the machine may have their own faults.
    assert [line for line in result.stderr.splitlines() if "webex-loopback" in line] == []
    assert result.returncode == 0


def test_every_public_name_is_described() -> None:
    text = read(README) + read(ROOT / "docs" / "python.md")
    public: list[str] = webex_loopback.__all__  # type: ignore[assignment]
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []


# The changelog, and the other language


def test_the_changelog_knows_this_version() -> None:
    versions = re.findall(r"^## \[(.*?)\]", read(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert webex_loopback.__version__ in versions


@pytest.mark.parametrize("name", ["README", "docs/from-postman"])
def test_the_japanese_page_has_all_that_the_english_one_has(name: str) -> None:
    # Each shows the pictures of its own language.
    english, japanese = (read(ROOT / f"{name}{end}").replace("-ja.png", "-light.png") for end in (".md", ".ja.md"))
    for pattern in (
        r"^(#+) ",  # sections, and their depth
        r"`(WEBEX_\w+)`",
        r"^\| `?([\w-]+)`? \|.*$(?!\n\|-)",  # rows, but not the head
        r"!\[[^\]]*\]\(([^)]*)\)",
    ):
        wanted, found = (re.findall(pattern, FENCE.sub("", text), re.MULTILINE) for text in (english, japanese))
        if pattern.startswith("^(#"):
            assert found == wanted
        else:
            assert set(wanted) <= set(found)
    languages = [[match[2] for match in FENCE.finditer(text)] for text in (english, japanese)]
    assert languages[0] == languages[1]
