# The habits: setup, demo, test, lint, bench. Every target sets up what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
JOB ?= jobs/demo.yaml

.PHONY: setup demo test lint format bench bench-hf bench-tpu tpu chaos long-row scale simulate fuzz docs lock clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed; make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/rgpipeline run $(JOB) --samples 3

# In as many processes as tests have room for in 24 GB; `pytest` alone runs in one.
PROCESSES ?= 2
test: $(STAMP)
	$(BIN)/python -m pytest -n $(PROCESSES)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Our engine, the official sampler and the limit, side by side in one run.
bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

# Adds Hugging Face to the bench, in an environment of its own.
bench-hf: $(STAMP)
	$(BIN)/python -m bench.hf_environment

# Tokens per second on this machine's TPU, beside the compiler's bounds; needs one.
bench-tpu: $(STAMP)
	$(BIN)/python -m bench.tpu $(ARGS)

# Everything that is compiled for TPUs, long ones too; `make test` has a short set of it.
tpu: $(STAMP)
	$(BIN)/python -m pytest tests/fit tests/kernels -m 'tpu or not tpu' $(ARGS)

# Kills, hangs and failing stores against one job, bounded in time.
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(ARGS)

# One row of a million tokens on S3, its worker killed five times, against an uninterrupted run.
long-row: $(STAMP)
	$(BIN)/python -m tests.chaos.long_row $(ARGS)

# A million rows planned and committed, ten thousand files planned: the time and memory it takes.
scale: $(STAMP)
	$(BIN)/python -m tests.scale --store $(ARGS)

# The driver against simulated clusters, in virtual time.
SEEDS ?= 2000
simulate: $(STAMP)
	$(BIN)/python -m tests.simulator --seeds $(SEEDS) $(ARGS)

# Whatever may stand in a file that a person gives us, further than the tests go; and examples of
# everything else that they haven't seen.
EXAMPLES ?= 5000
fuzz: $(STAMP)
	RGP_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/cli/test_fuzz.py tests/fuzz --timeout 7200
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile others --timeout 3600

# The documentation, into site/; anything that points nowhere is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Locks every dependency with its hashes; needs uv on the path.
lock:
	uv pip compile pyproject.toml --python-version 3.11 --extra dev --extra s3 --extra gcs --extra hf --extra eval \
		--extra ray-data \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
		--quiet --output-file requirements.txt

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
