"""The whole life of a login, with everything logged: no secret is in any output, file or traceback."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from traceback import TracebackException
from typing import Any

import pytest

from tests.conftest import Make, Output, Patch, Store
from webex_loopback.cli import app
from webex_loopback.sandbox import Sandbox
from webex_loopback.tokens import source

REJECTED = '{"access_token": "of-another-integration", "refresh_token": "of-another-integration-too"}'


class WithLocals(logging.Formatter):
    """Shows local variables in tracebacks, as error reporters do."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return "".join(TracebackException(*ei, capture_locals=True).format())


@pytest.mark.slow
@pytest.mark.usefixtures("redirect_uri", "browser")
def test_no_secret_is_in_any_output_file_or_traceback(
    sandbox: Sandbox, make_due: Make, store: Store, caplog: pytest.LogCaptureFixture,
    capfd: Output, monkeypatch: Patch, tmp_path: Path,
) -> None:  # fmt: skip
    told: list[str] = []
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(caplog.handler, "formatter", WithLocals("%(name)s %(message)s"))

    def run(line: str, code: int = 0, *, fault: str = "", answer: bool = False) -> None:
        """Run a command; `answer`: its standard output is a secret."""
        source.forget()
        sandbox.switches.fault = fault
        assert app.main(["--debug", *line.split()]) == code, (line, capfd.readouterr())
        out, err = capfd.readouterr()
        told.extend([err] if answer else [out, err])
        told.extend(written(lambda path: "json" not in path.name))

    def written(where: Callable[[Path], bool]) -> list[str]:
        return [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and where(path)]

    for fault in ("500", "reset_body", "error:400:invalid_grant", "error:401:invalid_client"):
        run("login", 5, fault=fault)
    run("login")
    for line in ("status", "status --json", "status --all", "whoami", "doctor", "api people/me", "login"):
        run(line)
    for line in ("token", "token --refresh", "token --header", "token --json"):
        run(line, answer=True)
    run("api nowhere", 1)
    run("token --format token-response --output other.json")
    run("import other.json -p other")
    Path("other.json").write_text(REJECTED)
    run("import other.json --force", 3)
    for fault in ("500", "reset", "reset_body", "truncated", "html", "429"):
        run("token --refresh", 5, fault=fault)
    make_due()
    run("token", 3, fault="error:400:invalid_grant")
    Path(store.path).write_bytes(Path(store.path).read_bytes()[:-30])
    for line, code in (("token", 6), ("import other.json", 3), ("status", 6)):  # rejected tokens replace nothing
        run(line, code)
    for line in ("login", "logout", "logout -p other"):  # the first one sets the corrupt file aside
        run(line)
    os.unlink("other.json")
    told.extend(written(lambda path: True))
    run("token", 3)
    monkeypatch.setenv("WEBEX_ACCESS_TOKEN", "token-of-the-environment-é")
    run("token", 2)
    whole = "".join([*told, caplog.text])
    assert "Traceback" in caplog.text
    assert "httpcore" in caplog.text
    secrets = {*sandbox.secrets, "of-another-integration", "token-of-the-environment"}
    assert [whole[max(whole.index(secret) - 300, 0) :][:400] for secret in secrets if secret in whole] == []
