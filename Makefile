# `make demo` and `make test` do all set-up on a fresh machine with Python ≥ 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Old and new versions of redis-py that `make test` runs against, beside the one in the environment.
REDIS_PY := 5.0.8 8.1.0
# The tests wait more than they work. A file's tests stay together, and share its servers.
WORKERS := 4

.PHONY: demo test test-interpreters lint bench soak mutants setup clean

demo: $(VENV)/.ready
	$(BIN)/promoter demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# On the other supported versions of Python that are installed here.
test-interpreters: $(VENV)/.ready
	tests/interpreters.sh

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tests/check_file_length.py

# A quarter of an hour; BENCH_ARGS='--quick' for a first look, '--write' keeps the figures in docs/explanation/performance.
bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.fleet

# Properties with new examples, then ten minutes of 50 queues, 5 processes (fleets and single queues) and faults; SOAK_ARGS='--seconds 60' for less.
soak: $(VENV)/.ready
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -q -n $(WORKERS) -m hypothesis tests/unit
	$(BIN)/python -m tests.soak --seconds 600 $(SOAK_ARGS)

# The kit on every small change of the memory backend's code: some minutes.
mutants: $(VENV)/.ready
	$(BIN)/python -m tests.contract.mutants.generated

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Promoter needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q -e '.[all]' --group dev
	@for v in $(REDIS_PY); do $(BIN)/python -m pip install -q --no-deps --upgrade --target $(VENV)/redis-py/$$v redis==$$v || exit 1; done
	@touch $@

clean:
	rm -rf $(VENV) .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
