"""How the tests of the commands run them, and store tokens for them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.conftest import Make, Output, Token
from webex_loopback.cli.app import main
from webex_loopback.paths import token_file
from webex_loopback.tokens.stores.file import FileTokenStore

Run: TypeAlias = Callable[..., Any]


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    options = {"capture_output": True, "text": True, "timeout": 30} | options
    return subprocess.run([sys.executable, "-m", "webex_loopback", *arguments], **options)


def on_terminal(line: str, *dialogue: str, columns: int = 80, code: int = 0) -> str:
    """Run a command on a terminal: wait for each question, send the answer that follows it; return what is shown."""
    import pexpect

    command, environ = f"exec {sys.executable} -m webex_loopback {line}", os.environ | {"TERM": "xterm"}
    options: dict[str, Any] = {"encoding": "utf-8", "timeout": 30, "dimensions": (24, columns)}
    child, shown = pexpect.spawn("/bin/sh", ["-c", command], env=environ, **options), ""
    with contextlib.closing(child):
        for question, answer in zip(dialogue[::2], dialogue[1::2], strict=True):
            child.expect_exact(question)
            shown += f"{child.before}{question}"
            if "not shown" in question or "Enter keeps" in question:
                child.waitnoecho()
                assert not child.getecho()
            child.send(answer if answer in ("\x03", "\x04") else f"{answer}\n")
        child.expect_exact(pexpect.EOF)
        shown += str(child.before)
    assert child.exitstatus == code, shown
    return shown.replace("\r\n", "\n")


@pytest.fixture
def run(capsys: Output) -> Run:
    """Run a command in this process, check its exit code, and return what it printed."""

    def run(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(list(arguments)) == code, capsys.readouterr().err
        return capsys.readouterr()

    return run


@pytest.fixture
def save(make_token: Make) -> Make:
    """Store a token made with these arguments for a profile."""

    def save(profile: str = "default", **values: Any) -> Token:
        store, token = FileTokenStore(token_file(profile)), make_token(**values)
        with store.lock():
            store.save(token)
        return token

    return save
