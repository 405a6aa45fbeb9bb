# The habits: setup, demo, test, lint, bench. Every target installs what it needs: `setup` and `demo`
# the package and what it runs with, the others also what tests and tools need.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV ?= $(shell command -v uv)
BIN := .venv/bin
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev
JOB ?= jobs/demo.yaml

# uv where it is on the path: it downloads in parallel, and keeps what it has (`make UV=`: pip). All
# modules are compiled: Ray's processes import many at once, and have to answer within 30 seconds.
COMPILE := $(BIN)/python -m compileall -q
ifneq ($(UV),)
NEW_VENV := $(UV) venv --clear --python $(PYTHON) .venv
INSTALL := $(UV) pip install --python $(BIN)/python --no-deps --compile-bytecode
else
NEW_VENV := $(PYTHON) -m venv --clear .venv
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-deps
endif

.PHONY: setup demo test lint format bench bench-peers bench-tpu tpu chaos long-row scale simulate fuzz docs lock clean

setup: $(RUNTIME)

$(RUNTIME): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed; make PYTHON=/path/to/python3.11")'
	$(NEW_VENV)
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-build-isolation --editable .
	$(COMPILE) rgpipeline
	touch $@

$(DEV): $(RUNTIME) requirements-dev.txt
	$(INSTALL) --require-hashes -r requirements-dev.txt
	touch $@

demo: $(RUNTIME)
	$(BIN)/rgpipeline run $(JOB) --samples 3

# Two processes for two cores, and one for the tests on Ray, which mostly wait; tests/conftest.py
# gives each its files. They have room in 24 GB. `pytest` alone runs in one.
PROCESSES ?= 3
test: $(DEV)
	$(COMPILE) rgpipeline tests
	$(BIN)/python -m pytest -n $(PROCESSES)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Our engine, its peers and the limit, side by side in one run.
bench: $(DEV)
	$(BIN)/python -m bench $(ARGS)

# Adds Hugging Face and MLX to the bench, in environments of their own.
bench-peers: $(DEV)
	$(BIN)/python -m bench.environments

# Tokens per second on this machine's TPU, beside the compiler's bounds; needs one.
bench-tpu: $(DEV)
	$(BIN)/python -m bench.tpu $(ARGS)

# Everything that is compiled for TPUs, long ones too; `make test` has a short set of it.
tpu: $(DEV)
	$(BIN)/python -m pytest tests/fit tests/kernels -m 'tpu or not tpu' $(ARGS)

# Kills, hangs and failing stores against one job, bounded in time.
chaos: $(DEV)
	$(BIN)/python -m tests.chaos $(ARGS)

# One row of a million tokens on S3, its worker killed five times, against an uninterrupted run.
long-row: $(DEV)
	$(BIN)/python -m tests.chaos.long_row $(ARGS)

# A million rows planned and committed, ten thousand files planned: the time and memory it takes.
scale: $(DEV)
	$(BIN)/python -m tests.scale --store $(ARGS)

# The driver against simulated clusters, in virtual time.
SEEDS ?= 2000
simulate: $(DEV)
	$(BIN)/python -m tests.simulator --seeds $(SEEDS) $(ARGS)

# Whatever may stand in a file that a person gives us, further than the tests go; and examples of
# everything else that they haven't seen.
EXAMPLES ?= 5000
fuzz: $(DEV)
	RGP_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/cli/test_fuzz.py tests/fuzz --timeout 7200
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile others --timeout 3600

# The documentation, into site/; anything that points nowhere is an error.
docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Locks every dependency with its hashes; needs uv on the path. The second lock is a part of the first.
LOCK := uv pip compile pyproject.toml --python-version 3.11 --extra build --extra s3 --extra gcs --extra hf \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet
lock:
	$(LOCK) --extra dev --extra eval --extra ray-data --output-file requirements-dev.txt
	$(LOCK) --constraint requirements-dev.txt --output-file requirements.txt

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
