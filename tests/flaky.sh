#!/usr/bin/env bash
# The suite RUNS times (5) beside a load on every core: what fails in any run is flaky. Prints each run's closing line
# and what failed; the logs stay in build/flaky. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v stress-ng >/dev/null; then
  echo "stress-ng is not installed: on Debian, apt-get install stress-ng" >&2
  exit 2
fi

mkdir -p build/flaky
stress-ng --quiet --cpu "$(getconf _NPROCESSORS_ONLN)" &
trap 'kill %1 2>/dev/null || true' EXIT

failed=0
for run in $(seq "${RUNS:-5}"); do
  log="build/flaky/$run.log"
  .venv/bin/python -m pytest -n "${WORKERS:-8}" --dist loadscope -q "$@" >"$log" 2>&1 || failed=1
  echo "run $run: $(tail -n 1 "$log")"
  grep -E '^(FAILED|ERROR) ' "$log" || true
done
exit "$failed"
