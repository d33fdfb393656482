"""`demo`: tells its story on one screen, and leaves everything as it was."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Make, Patch, visiting

from .conftest import command

NONSENSE = {
    "CLIENT_ID": "mine",
    "CLIENT_SECRET": "my-own-secret",
    "REDIRECT_URI": "ftp://nowhere",
    "PROFILE": "../mine",
}
NONSENSE |= {"API_BASE_URL": "https://192.0.2.1/v1", "ACCESS_TOKEN": "my-own-token", "TOKEN_STORE": "nowhere"}
NONSENSE |= {"CONFIG_FILE": "/nowhere/config.env"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_tells_its_story_in_forty_lines_and_leaves_everything_as_it_was(
    save: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    save()
    for name, value in NONSENSE.items():
        monkeypatch.setenv(f"WEBEX_{name}", value)
    Path("config.env").write_text("WEBEX_ACCESS_TOKEN=my-own-token\n")
    (tmp_path / "temporary").mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "temporary"))
    monkeypatch.setenv("PATH", os.defpath)  # a virtual environment that is not activated
    before = files(tmp_path)
    done = command("demo", *(["--no-browser"] if os.name == "nt" else []))  # Windows always has a browser
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == before
    story = done.stderr + done.stdout
    parts = ["over HTTP", "Alex Morgan", "Hello from", "Refreshed.", "Refresh token", "import get_token"]
    parts += [" init\n", " sandbox\n", " doctor\n"]
    assert [part for part in parts if part not in story] == []
    assert not re.search("my-own|Traceback|Press o", story)
    assert story.count("\n") <= 40
    for line in done.stdout.splitlines()[-3:]:  # what to try next, which must work here
        assert subprocess.run(f"{line} --help", shell=True, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("person", "options", "code", "said"),
    [
        ("'hanako.yamada@example.com'", [], 0, "<hanako.yamada@example.com>"),
        ("decision='decline'", [], 4, "In the browser"),
        ("decision='decline'", ["--no-browser"], 0, "(--no-browser)"),
    ],
)
def test_the_person_in_the_browser_decides(
    monkeypatch: Patch, person: str, options: list[str], code: int, said: str
) -> None:
    monkeypatch.setenv("BROWSER", visiting(person))
    done = command("demo", *options)
    assert (done.returncode, said in done.stdout) == (code, True)
