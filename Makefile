# `make demo` and `make test` do all set-up on a fresh machine with Python ≥ 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Old and new versions of redis-py that PROMOTER_SERVERS=all runs against, beside the one in the environment.
REDIS_PY := 5.0.8 8.1.0
# The tests wait more than they work. tests/spread.py says which stay together on one worker and share its servers.
WORKERS := 8

# The tests start many processes, which then find their modules compiled.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-interpreters test-redis-py test-lowest coverage lint docs audit lock sbom changelog dist release bench soak flaky mutants setup clean

demo: $(VENV)/.ready
	$(BIN)/promoter demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(PYTEST_ARGS)

# On the other supported versions of Python that are installed here.
test-interpreters: $(VENV)/.ready
	tests/interpreters.sh

# With one version of redis-py in the environment, as CI does for each: REDIS_PY_VERSION=5.0.8
test-redis-py: $(VENV)/.ready
	$(BIN)/python -m pip install -q --no-deps --upgrade --target $(VENV)/redis-py/$(REDIS_PY_VERSION) redis==$(REDIS_PY_VERSION)
	PYTHONPATH=$(abspath $(VENV))/redis-py/$(REDIS_PY_VERSION) $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(PYTEST_ARGS) tests/unit tests/contract tests/plugins

# With the lowest versions that pyproject.toml allows of the extras' packages and of the group test: each bound is a
# version that was run.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/unit tests/plugins tests/contract --ignore=tests/unit/test_architecture.py --ignore=tests/contract/test_mutants.py \
	--ignore=tests/contract/test_generated_mutants.py --ignore=tests/contract/test_in_place_mutants.py \
	--ignore=tests/unit/test_site.py --ignore=tests/unit/test_words.py
test-lowest: $(LOWEST)/.ready
	PROMOTER_LOWEST=1 PROMOTER_SERVERS=valkey-9.1 PROMOTER_REQUIRE=valkey-9.1 \
		$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist loadscope $(LOWEST_TESTS) $(PYTEST_ARGS)

$(LOWEST)/.ready: pyproject.toml Makefile
	@$(PYTHON) -m venv --clear $(LOWEST)
	@echo "Installing into $(LOWEST) …"
	@$(LOWEST)/bin/python -m pip install -q 'uv>=0.8'
	@$(LOWEST)/bin/uv pip compile -q --python $(LOWEST)/bin/python --resolution lowest-direct --all-extras --group test --no-header --no-annotate pyproject.toml -o $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install -q --python $(LOWEST)/bin/python -r $(LOWEST)/lowest.txt -e .
	@touch $@

# The suite with its coverage, which has a floor in pyproject.toml.
coverage: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tests/check_file_length.py
	$(BIN)/codespell
	$(BIN)/zizmor --quiet --offline .

# The site, in build/site: a broken link, a page that is not listed or a public name without a docstring fails it.
docs: $(VENV)/.ready
	$(BIN)/python docs/reference/render_spi.py --check
	$(BIN)/python docs/reference/render_api.py --check
	$(BIN)/python docs/reference/render_configuration.py --check
	$(BIN)/python -m sphinx -q -n -W --keep-going -d build/doctrees docs build/site
	@echo "open build/site/index.html"

# Known weaknesses of what the lock files name. A package that the advisory service does not answer for fails it.
AUDIT := $(BIN)/pip-audit --strict --progress-spinner off --disable-pip --require-hashes
audit: $(VENV)/.ready
	$(BIN)/python -m pip install -q --group release
	$(AUDIT) -r docs/examples/deploy/requirements.lock
	$(AUDIT) -r locks/development.txt

# Both lock files anew, from the ranges of pyproject.toml; LOCK_ARGS='--upgrade' takes the newest versions.
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header $(LOCK_ARGS)
lock:
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q 'uv>=0.8'
	$(LOCK) --all-extras --group dev --group docs pyproject.toml -o locks/development.txt
	$(LOCK) --extra redis --extra cli --extra http --extra prometheus --extra uvloop pyproject.toml -o docs/examples/deploy/requirements.lock

# What a release makes, a step each; `make release` makes all of it, and the workflow `release` publishes it.
changelog: $(VENV)/.ready
	$(BIN)/towncrier build --yes --version $$($(BIN)/python -c 'import promoter_core; print(promoter_core.__version__)')

dist: $(VENV)/.ready
	rm -rf dist
	$(BIN)/python -m pip install -q --group release
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

# Of the image's lock file, in CycloneDX.
sbom: $(VENV)/.ready
	$(BIN)/python -m pip install -q --group release
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements docs/examples/deploy/requirements.lock --pyproject pyproject.toml --of JSON -o build/promoter-core.cdx.json

release: lint docs audit changelog dist sbom
	@echo "Look at CHANGELOG.md and dist/, commit, and push a tag v$$($(BIN)/python -c 'import promoter_core; print(promoter_core.__version__)'): CI publishes it."

# Half an hour; BENCH_ARGS='--quick' for a first look, '--write' keeps the figures in docs/explanation/performance.
# The first two measure with the redis-py that users install today; the lock file has the one that all frameworks accept.
NEWEST := PYTHONPATH=$(abspath $(VENV))/redis-py/$(lastword $(REDIS_PY))
bench: $(VENV)/.ready
	$(NEWEST) $(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(NEWEST) $(BIN)/python -m benchmarks.fleet
	$(BIN)/python -m benchmarks.layouts $(filter --quick --write,$(BENCH_ARGS))

# Properties with new examples, then ten minutes of 50 queues, 5 processes (fleets and single queues) and faults; SOAK_ARGS='--seconds 60' for less.
soak: $(VENV)/.ready
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -q -n $(WORKERS) -m hypothesis tests/unit
	$(BIN)/python -m tests.soak --seconds 600 $(SOAK_ARGS)

# The suite RUNS times beside a load on every core (stress-ng), to find flaky tests.
RUNS := 5
flaky: $(VENV)/.ready
	RUNS=$(RUNS) WORKERS=$(WORKERS) tests/flaky.sh $(PYTEST_ARGS)

# The kit on every small change of the memory backend's code: some minutes. It keeps which test killed each, in killers.json.
mutants: $(VENV)/.ready
	$(BIN)/python -m tests.contract.mutants.generated

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml Makefile locks/development.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Promoter needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install -q --require-hashes -r locks/development.txt
	@$(BIN)/python -m pip install -q --no-deps -e .
	@for v in $(REDIS_PY); do $(BIN)/python -m pip install -q --no-deps --upgrade --target $(VENV)/redis-py/$$v redis==$$v || exit 1; done
	@touch $@

clean:
	rm -rf $(VENV) .venv-* dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
