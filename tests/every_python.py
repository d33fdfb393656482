"""`make test-all`: the suite under every CPython from 3.11 on that this machine has."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def find(version: str) -> str | None:
    """Return the interpreter of a version: on PATH, or installed by pyenv."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (shutil.which(f"python{version}"), *(str(path) for path in reversed(kept))):
        # pyenv has shims on PATH for versions that are not active; they only print an error.
        if candidate and subprocess.run([candidate, "-c", "pass"], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


def main() -> int:
    """Run the suite under each; return 1 if one failed or none was found."""
    results = {}
    for version in VERSIONS:
        python = find(version)
        if python is None:
            results[version] = "not found"
            continue
        print(f"== CPython {version}: {python}", flush=True)
        venv = ROOT / ".venv" / f"python{version}"
        if not (venv / "bin" / "python").exists():
            subprocess.run([python, "-m", "venv", str(venv)], check=True)
            subprocess.run([venv / "bin/python", "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True)
        # `bridges` is left out: not every SDK supports every Python; its tests are skipped, and say so.
        subprocess.run(
            [venv / "bin/python", "-m", "pip", "install", "-q", "-e", ROOT, "--group", "test"], check=True, cwd=ROOT
        )
        done = subprocess.run([venv / "bin/python", "-m", "pytest", "-q", *sys.argv[1:]], cwd=ROOT, check=False)
        results[version] = "passed" if done.returncode == 0 else f"failed ({done.returncode})"
    print()
    for version, result in results.items():
        print(f"CPython {version}: {result}")
    return 0 if set(results.values()) <= {"passed", "not found"} and "passed" in results.values() else 1


if __name__ == "__main__":
    sys.exit(main())
