"""Debian's Chromium, driven by Playwright; tests that need it are skipped if it is missing, except in CI."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Without these, Chromium looks up hosts at every start that a closed network does not have.
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
    """Skip the test on a developer's machine; fail it in CI, which has browsers."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, but CI must have it.")
    pytest.skip(f"{what}.")
