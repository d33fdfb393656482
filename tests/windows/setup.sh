#!/usr/bin/env bash
# Build a Windows CPython 3.11 that runs under Wine, with the project's dependencies, from Debian packages and PyPI:
#   bash tests/windows/setup.sh
# Idempotent. The result is kept in $WEBEX_LOOPBACK_WINE, by default .venv/windows (800 MB). On a bare Debian 12,
# Wine and the cross compiler are another 1.3 GB and need root.
# Exit code 75: Wine, the compiler or a Python 3.11 is missing and cannot be installed here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${WEBEX_LOOPBACK_WINE:-.venv/windows}
mkdir -p "$target"/{download,wheels,build,python/DLLs,python/Lib/site-packages}
target=$(cd "$target" && pwd)

unavailable() { echo "tests/windows: $1" >&2; exit 75; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Of this machine's Pythons, one whose standard library and version of pip's tags match python311.dll.
for python in .venv/bin/python python3.11 python3 ""; do
  [ -n "$python" ] || unavailable "needs a Python 3.11 with pip on PATH or in .venv."
  "$python" -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && break
done

# 1. Wine without its 32-bit and X11 parts, and a compiler for three small files.
if [ ! -x /usr/lib/wine/wine64 ] || ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
  command -v apt-get >/dev/null || unavailable "needs Debian's wine64 and gcc-mingw-w64-x86-64."
  if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends wine64 gcc-mingw-w64-x86-64; } >"$target/apt.log" 2>&1; then
    tail -3 "$target/apt.log" >&2
    unavailable "could not install wine64 and gcc-mingw-w64-x86-64."
  fi
fi

# 2. python311.dll, its extension modules and OpenSSL: PyPI has them only as parts of panda3d's Windows wheel.
if [ ! -e "$target/python/python311.dll" ]; then
  "$python" -m pip download -qq --no-deps --platform win_amd64 --python-version 311 --only-binary=:all: \
    -d "$target/download" panda3d==1.10.15
  "$python" - "$target" <<'PY'
import pathlib, sys, zipfile

target = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next((target / "download").glob("panda3d-*.whl")))
for name in wheel.namelist():
    folder, _, base = name.rpartition("/")
    if folder == "deploy_libs" and (base.endswith(".pyd") or base.endswith(".dll") and base.startswith(("lib", "sqlite3"))):
        (target / "python/DLLs" / base).write_bytes(wheel.read(name))
    elif folder == "deploy_libs" and base in ("python311.dll", "VCRUNTIME140.dll"):
        (target / "python" / base).write_bytes(wheel.read(name))
PY
  rm -rf "$target/download"
fi

# 3. The standard library: the Python files of any 3.11 include those for Windows (ntpath, asyncio.windows_events, ...).
if [ ! -e "$target/python/Lib/os.py" ]; then
  stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  tar -C "$stdlib" --exclude=__pycache__ --exclude=./test --exclude=./site-packages --exclude=./dist-packages \
    --exclude=./lib-dynload --exclude='./config-*' --exclude=./idlelib --exclude=./turtledemo --exclude=./lib2to3 \
    -cf - . | tar -C "$target/python/Lib" -xf -
fi

# 4. python.exe; python3.dll, the stable ABI, which cryptography needs; bcryptprimitives.dll, from which Rust takes its
#    random numbers and which Wine 8 does not have.
if [ ! -e "$target/python/bcryptprimitives.dll" ]; then
  cat >"$target/build/python.c" <<'C'
#include <windows.h>
typedef int (*main_t)(int, wchar_t **);
int wmain(int argc, wchar_t **argv) {
    HMODULE dll = LoadLibraryW(L"python311.dll");
    main_t run = dll ? (main_t)(void *)GetProcAddress(dll, "Py_Main") : 0;
    return run ? run(argc, argv) : 101;
}
C
  cat >"$target/build/random.c" <<'C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
    while (size) {
        ULONG n = size > 0x10000000 ? 0x10000000 : (ULONG)size;
        if (!RtlGenRandom(data, n)) return FALSE;
        data += n; size -= n;
    }
    return TRUE;
}
C
  {
    printf 'LIBRARY python3.dll\nEXPORTS\n'
    x86_64-w64-mingw32-objdump -p "$target/python/python311.dll" |
      awk '/\[Ordinal\/Name Pointer\] Table/ {on=1; next} on && NF==0 {on=0} on {print "  " $NF "=python311." $NF}'
  } >"$target/build/python3.def"
  gcc() { x86_64-w64-mingw32-gcc -O1 -s "$@"; }
  gcc -municode -mconsole -o "$target/python/python.exe" "$target/build/python.c"
  gcc -shared -nostdlib -Wl,--entry=0 -o "$target/python/python3.dll" "$target/build/python3.def"
  gcc -shared -o "$target/python/bcryptprimitives.dll" "$target/build/random.c" -ladvapi32
fi

# 5. The dependencies, and those of the tests that are run here. pip evaluates the markers of this machine, so what only
#    Windows needs is named. The project itself gets its metadata (the pytest plugin is an entry point); run.sh puts its
#    code on the path.
"$python" - "$target/build" <<'PY'
import pathlib, re, sys, tomllib

build = pathlib.Path(sys.argv[1])
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
tests = {"hypothesis", "keyring", "pytest", "pytest-timeout", "pyyaml", "requests", "trio", "trustme"}
lines = project["project"]["dependencies"] + [
    line for line in project["dependency-groups"]["test"] if isinstance(line, str) and re.match(r"[\w-]+", line)[0] in tests
]
(build / "requirements.txt").write_text("\n".join([*lines, "colorama", "tzdata", "pywin32-ctypes", "cffi"]) + "\n")
info = build.parent / "python/Lib/site-packages/webex_loopback-0.dist-info"
info.mkdir(exist_ok=True)
(info / "METADATA").write_text("Metadata-Version: 2.1\nName: webex-loopback\nVersion: 0\n")
groups = project["project"]["entry-points"].items()
(info / "entry_points.txt").write_text(
    "".join(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items()) for group, names in groups)
)
PY
if ! cmp -s "$target/build/requirements.txt" "$target/requirements.txt"; then
  rm -rf "$target/wheels" && mkdir "$target/wheels"
  "$python" -m pip download -qq --platform win_amd64 --python-version 311 --implementation cp --only-binary=:all: \
    -d "$target/wheels" -r "$target/build/requirements.txt"
  rm -f "$target"/wheels/{jeepney,secretstorage,webex_loopback}-* # of Linux
  for wheel in "$target"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$target/python/Lib/site-packages"
  done
  "$python" -m compileall -q "$target/python/Lib" || true # any 3.11's bytecode will do; test data may not compile
  mv "$target/build/requirements.txt" "$target/requirements.txt"
fi

# 6. Wine's own directory, the prefix; without menu entries, Mono and Gecko.
if [ ! -e "$target/prefix/ready" ]; then
  rm -rf "$target/prefix"
  WINEPREFIX="$target/prefix" WINEARCH=win64 WINEDEBUG=-all WINEDLLOVERRIDES="winemenubuilder.exe,mscoree,mshtml=" \
    timeout 200 /usr/lib/wine/wine64 wineboot -u </dev/null 2>&1 | cat >/dev/null
  touch "$target/prefix/ready"
fi
