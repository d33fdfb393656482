"""The texts of the login, its pages, `init` and the sandbox: the same in both languages, and each of them used."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import webex_loopback

ROOT = Path(webex_loopback.__file__).parent
FOLDERS = ["login/texts", "login/pages", "sandbox/pages", "cli/texts"]
# What a Japanese text of a login may say in Latin letters: names, and what people type.
LATIN = set(re.findall(r"\S+", "Webex webex-loopback Python API ID URL URI QR HSTS localhost Ctrl-C Enter o uid state"))


def texts(folder: str, language: str) -> dict[str, str]:
    """Return the texts of a language file by their path in it."""
    return dict(_leaves(json.loads((ROOT / folder / f"{language}.json").read_text(encoding="utf-8"))))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path[1:], value
    else:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{path}.{key}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_both_languages_have_the_same_texts_with_the_same_values_and_commands(folder: str) -> None:
    english, japanese = texts(folder, "en"), texts(folder, "ja")
    assert list(english) == list(japanese)
    for path, text in english.items():
        for markup in (r"\{\w+\}", r"`[^`]+`", r"<[^>]+>"):
            missing = set(re.findall(markup, text)) ^ set(re.findall(markup, japanese[path]))
            assert {one.strip("`") for one in missing} <= {"{what}", "--prompt none"}, path  # `what` is in English


@pytest.mark.parametrize("folder", FOLDERS[:3])
def test_each_text_is_in_its_own_language(folder: str) -> None:
    for path, text in texts(folder, "en").items():
        assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text), path
    for path, text in texts(folder, "ja").items():
        assert re.search(r"[ぁ-んァ-ヶ一-龠]", text) or path == "language", path
        if folder.startswith("login"):
            prose = re.sub(r"`[^`]*`|\{\w+\}|https?://|[\d.]+|WEBEX_\w+|--device", "", text)
            assert set(re.findall(r"[A-Za-z][A-Za-z-]*", prose)) <= LATIN or path == "language", path
            assert not re.search(r"[A-Za-z0-9] [ぁ-んァ-ヶ一-龠]|[ぁ-んァ-ヶ一-龠] [A-Za-z0-9]", text), path


def test_every_text_of_the_terminal_is_used() -> None:
    used = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "login").glob("*.py")).replace("'", '"')
    unused = [key for key in texts("login/texts", "en") if f'"{key.removesuffix(".remedy")}"' not in used]
    assert [key for key in unused if not key.startswith("denied_")] == []
