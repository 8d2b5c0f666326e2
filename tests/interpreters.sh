#!/usr/bin/env bash
# Tests on every supported Python that is installed here, but for the one of .venv, which `make test` is for.
# Each gets an environment of its own, .venv-3.12 and so on. The kit runs against one server: the others differ in
# what they answer, and not in what Python does with it.
set -euo pipefail
cd "$(dirname "$0")/.."

# The mutants prove the kit, which is the same on every Python, as the site and its words are.
TESTS="tests/unit tests/plugins tests/contract --ignore=tests/contract/test_mutants.py"
TESTS="$TESTS --ignore=tests/contract/test_generated_mutants.py --ignore=tests/contract/test_in_place_mutants.py"
TESTS="$TESTS --ignore=tests/unit/test_site.py --ignore=tests/unit/test_words.py"
TESTS="$TESTS tests/server/test_running.py tests/server/test_embedded.py"

main=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# The path of a Python of this version that works: a shim of pyenv may be there for one that is not.
find_python() {
  for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import venv, ssl, sqlite3' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

for version in $(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml); do
  if [ "$version" = "$main" ]; then
    continue
  fi
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    echo "Python $version is not installed here: not tested"
    continue
  fi
  echo "Python $version: $python"
  PROMOTER_SERVERS=valkey-9.1 make --no-print-directory test \
    PYTHON="$python" VENV=".venv-$version" REDIS_PY= PYTEST_ARGS="-q $TESTS $*"
done
