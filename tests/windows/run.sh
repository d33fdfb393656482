#!/usr/bin/env bash
# Run a Windows Python under Wine with this checkout on its path; set it up if needed (see setup.sh).
#   bash tests/windows/run.sh                       the tests that matter on Windows
#   bash tests/windows/run.sh -m webex_loopback demo
#   bash tests/windows/run.sh -m pytest tests/tokens -q -p no:cacheprovider
# RUN_LIMIT: seconds after which it is ended (420 by default).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bash tests/windows/setup.sh
target=$(cd "${WEBEX_LOOPBACK_WINE:-.venv/windows}" && pwd)
export WINEPREFIX="$target/prefix" WINEDEBUG="${WINEDEBUG:--all}"

# Not by PYTHONPATH, which some tests remove from the environment.
printf 'Z:%s\n' "${PWD//\//\\}" >"$target/python/Lib/site-packages/checkout.pth"
unset SSL_CERT_FILE SSL_CERT_DIR # paths of this machine, meaningless to a Windows program
if [ $# -eq 0 ]; then
  set -- -m pytest -q -p no:cacheprovider -m "not slow and not fuzz" tests/windows
fi
python=(timeout -k 5 "${RUN_LIMIT:-420}" /usr/lib/wine/wine64 "$target/python/python.exe" "$@")
# A regular file as a standard stream fails under Wine ("Invalid handle"); pipes and terminals work.
if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then exec "${python[@]}"; fi
if [ -f /dev/stdin ]; then exec < <(cat); fi
{ "${python[@]}" 2>&3 | cat; exit "${PIPESTATUS[0]}"; } 3> >(cat >&2)
