#!/usr/bin/env bash
# Run a Windows Python under Wine with this checkout on its path; set it up first if needed (see setup.sh).
#   bash tests/windows/run.sh                      run the tests for which the system matters
#   bash tests/windows/run.sh -m webex_loopback demo --no-browser
#   bash tests/windows/run.sh -m pytest tests/tokens -q -p no:cacheprovider
# RUN_LIMIT: seconds after which it is stopped, 420 by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash tests/windows/setup.sh
target=$(cd "${WEBEX_LOOPBACK_WINE:-.venv/windows}" && pwd)
export WINEPREFIX="$target/prefix" WINEDEBUG="${WINEDEBUG:--all}"
# pytest would leave bytecode with Windows paths in the checkout.
export PYTHONDONTWRITEBYTECODE=1
# Paths of this machine, and a name that `doctor` would take for a misspelled setting.
unset SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE WEBEX_LOOPBACK_WINE
# Not by PYTHONPATH, which the tests remove from the environment.
printf 'Z:%s\n' "${PWD//\//\\}" >"$target/python/Lib/site-packages/checkout.pth"

if [ $# -eq 0 ]; then
  # Not the tests of pure functions, nor those of pages and texts, which are the same everywhere.
  set -- -m pytest -q -p no:cacheprovider -m "not slow and not fuzz" --ignore tests/login/test_pages.py \
    --ignore tests/cli/test_japanese.py \
    tests/windows tests/tokens tests/login tests/cli tests/webex/test_transport.py tests/test_settings.py
fi
python=(/usr/lib/wine/wine64 "$target/python/python.exe" "$@")
code=0
if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then
  timeout --foreground -k 5 "${RUN_LIMIT:-420}" "${python[@]}" || code=$?
else
  # Wine fails on a regular file as a standard stream ("Invalid handle"). Pipes work.
  if [ -f /dev/stdin ]; then exec < <(cat); fi
  (
    timeout -k 5 "${RUN_LIMIT:-420}" "${python[@]}" 2>&3 | cat
    exit "${PIPESTATUS[0]}"
  ) 3> >(cat >&2) || code=$?
fi
if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
  echo "tests/windows: stopped after ${RUN_LIMIT:-420} seconds." >&2
  /usr/lib/wine/wineserver64 -k || true # ends everything that runs in this prefix
fi
exit "$code"
