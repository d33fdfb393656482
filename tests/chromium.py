"""Debian's Chromium, driven by Playwright; skipped where it is missing, but in CI."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without the last three it looks up, at every start, hosts that cannot be reached from a closed network.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium_running() -> "Iterator[Browser]":
    """Run Chromium for as long as the context lasts."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        missing("Chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield running
        running.close()


def missing(what: str) -> NoReturn:
    """Skip on a developer's machine; fail in CI, where a browser belongs to the machine."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and in CI it has to be.")
    pytest.skip(f"{what}; these tests need it.")
