"""docs/python.md and docs/keepalive.md: what they show is run, against the sandbox."""

import ast
import asyncio
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.windows import UNDER_WINE
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens.record import StoredToken
from webex_loopback.tokens.stores.file import FileTokenStore

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"(<!-- not run.*-->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str, wanted: str = "") -> list[Any]:
    """Return the code blocks of a language in which a pattern is found, with their line numbers as test ids."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [match for match in FENCE.finditer(text) if match[2] == language and not match[1]]
    chosen = [match for match in found if re.search(wanted, match[3], re.DOTALL)]
    return [pytest.param(match[3], id=f"line {text.count(chr(10), 0, match.start()) + 1}") for match in chosen]


@pytest.mark.parametrize("code", blocks("python.md", "python", r"\A(?!.*def test_)"))
def test_an_example_runs(
    code: str,
    logged_in: StoredToken,
    sandbox: Sandbox,
    redirect_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if needed := re.search("wxc_sdk|webexpythonsdk|trio", code):
        pytest.importorskip(needed[0], reason=f"{needed[0]} is not installed: not every SDK supports every Python")
        if UNDER_WINE:
            pytest.skip("needs SIO_BASE_HANDLE, which Wine 8 lacks")
    browser = tmp_path / "browser.py"
    browser.write_text("import sys; from webex_loopback.sandbox import Person; Person().visit(sys.argv[1])")
    monkeypatch.setenv("WEBEX_BROWSER", f'"{sys.executable}" "{browser}" %s')
    code = code.replace("https://webexapis.com/v1", sandbox.base_url)
    code = code.replace("Sandbox(", f"Sandbox(redirect_uris=[{redirect_uri!r}], ")  # the default port may be in use
    compiled = compile(code, "example.py", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with warnings.catch_warnings():
        # wxc_sdk derives from aiohttp's session, and gives it attributes of its own.
        warnings.filterwarnings("ignore", "Inheritance class|Setting custom ClientSession", DeprecationWarning)
        waiting = eval(compiled, {"__name__": "example"})
        if waiting is not None:
            asyncio.run(waiting)


@pytest.mark.parametrize("code", blocks("python.md", "python", "def test_"))
def test_the_example_of_a_test_passes(code: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(code)
    done = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=code.count("def test_"))


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")
@pytest.mark.parametrize("state", ["fine", "expires in a day", "logged out"])
def test_the_keepalive_script_reports_what_a_person_has_to_do(
    state: str, logged_in: StoredToken, store: FileTokenStore, sandbox: Sandbox, tmp_path: Path
) -> None:
    with store.lock():
        if state == "expires in a day":
            store.save(dataclasses.replace(logged_in, refresh_token_expires_at=int(time.time()) + 86_400))
        if state == "logged out":
            store.delete()
    (script,) = (str(block.values[0]) for block in blocks("keepalive.md", "sh", "mail"))
    script = script.replace("/home/you/.local/bin", f"{tmp_path}:{Path(sys.executable).parent}")
    mail = f'#!/bin/sh\necho "$@" > {tmp_path}/sent\ncat >> {tmp_path}/sent\n'
    for name, text in {"webex-keepalive": script, "mail": mail}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o700)
    done = subprocess.run([tmp_path / "webex-keepalive"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == (state != "fine")
    if state == "fine":
        assert not (tmp_path / "sent").exists()
    else:
        sent = (tmp_path / "sent").read_text(encoding="utf-8")
        assert "you@example.com" in sent
        assert "`webex-loopback login" in sent
        assert not any(secret in sent for secret in sandbox.secrets)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    service, timer = (str(block.values[0]) for block in blocks("keepalive.md", "ini"))
    (tmp_path / "webex-keepalive.service").write_text(service.replace("%h/.local/bin/webex-keepalive", sys.executable))
    (tmp_path / "webex-keepalive.timer").write_text(timer)
    command = ["systemd-analyze", "--user", "verify", str(tmp_path / "webex-keepalive.timer")]
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
