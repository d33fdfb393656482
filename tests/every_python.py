"""`make test-all`: the suite under every CPython from 3.11 on that this machine has."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def find(version: str) -> str | None:
    """Return the interpreter of a version: on PATH, or installed by pyenv."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (shutil.which(f"python{version}"), *map(str, reversed(kept))):
        # pyenv has shims on PATH for versions that are not active; they only print an error.
        if candidate and subprocess.run([candidate, "-c", "pass"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def test(python: str, version: str) -> str:
    """Run the suite in a venv of its own; return how it ended."""
    print(f"== CPython {version}: {python}", flush=True)
    venv = ROOT / ".venv" / f"python{version}"
    if not venv.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
    its_own = str(venv / "bin" / "python")
    subprocess.run([its_own, "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True)
    # `bridges` is left out: not every SDK supports every Python; its tests are skipped, and say so.
    subprocess.run([its_own, "-m", "pip", "install", "-q", "-e", ".", "--group", "test"], check=True, cwd=ROOT)
    done = subprocess.run([its_own, "-m", "pytest", "-q", *sys.argv[1:]], cwd=ROOT, check=False)
    return "passed" if done.returncode == 0 else f"failed ({done.returncode})"


if __name__ == "__main__":
    pythons = {version: find(version) for version in ("3.11", "3.12", "3.13", "3.14")}
    results = {version: test(python, version) if python else "not found" for version, python in pythons.items()}
    print("", *(f"CPython {version}: {result}" for version, result in results.items()), sep="\n")
    sys.exit(not {"passed"} <= {*results.values()} <= {"passed", "not found"})
