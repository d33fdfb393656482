"""The wheel and the sdist: what is in them, and that what is installed from them runs on its own."""

import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import webex_loopback

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(next(n for n in names if n.endswith("METADATA"))).decode())
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"webex_loopback", f"webex_loopback-{webex_loopback.__version__}.dist-info"}
    assert "webex_loopback/py.typed" in names
    assert "webex_loopback/sandbox/pages.py" in names
    assert metadata["Version"] == webex_loopback.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert "webex-loopback = webex_loopback.__main__:main" in entry_points
    assert "webex_loopback = webex_loopback.pytest_plugin" in entry_points


def test_the_sdist_holds_what_a_packager_needs_and_no_secret(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "config.example.env"} <= names
    assert {"tests/conftest.py", "webex_loopback/py.typed"} <= names
    assert not any(name.endswith((".env", ".pem")) and "example" not in name for name in names)


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_what_is_installed_runs_apart_from_the_sources(dist: Path, kind: str, tmp_path: Path) -> None:
    (package,) = dist.glob(kind)
    site = tmp_path / "site"
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(package)], check=True)
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from webex_loopback.__main__ import main; sys.exit(main())"
    )

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert command("--version").stdout == f"webex-loopback {webex_loopback.__version__}\n"
    assert "login" in command("--help").stdout
    done = command("demo", "--no-browser")
    assert done.returncode == 0, done.stderr
    assert "Alex Morgan" in done.stdout
