# Everything a contributor runs. Needs make and a Python of 3.11 or newer; the rest goes into .venv.
# `make demo PYTHON=python3.13` picks the interpreter, `make test ARGS="-k codec"` passes arguments on.

# The first interpreter that is new enough; else python3, so that the bootstrap can say what is wrong with it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; exit; fi; done; echo python3)
ARGS ?=
# Most tests wait for processes and disks. `make test PARALLEL=` runs them one after the other, for a debugger.
PARALLEL ?= -n auto --maxprocesses 8

BIN := .venv/bin
READY := .venv/.ready
# Folders that are still to be written are left out rather than reported as missing.
TYPED := $(wildcard src tests examples benchmarks scripts)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check lint types guard lab docs tour bench bench-peers format lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## Kill a real workflow in the middle, resume it, compare the reports
	@$(BIN)/python -m examples.demo $(ARGS)

test: $(READY)  ## Run all tests
	@$(BIN)/python -m pytest -q $(PARALLEL) $(ARGS)

# `make test-all PYTHONS="python3.12 /opt/python3.13/bin/python3"` names others, or some of them only.
test-all:  ## Run all tests on each Python from 3.11 to 3.14 that can be found
	@'$(PYTHON)' scripts/test_all.py $(PYTHONS) -- $(PARALLEL) $(ARGS)

# In this order, so that what fails soonest is told first.
STAGES := lint types guard test docs

check: $(READY)  ## Format, lint, types, guard, tests, documentation: what has to pass before a commit
	@for stage in $(STAGES); do \
		begin=$$(date +%s); $(MAKE) --no-print-directory $$stage || exit; \
		took="$$took$$(printf '\n  %-8s %5d s' $$stage $$(($$(date +%s) - begin)))"; \
	done; printf 'What each stage took:%s\n' "$$took"

lint: $(READY)  ## Format and lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(READY)  ## mypy --strict over everything
	@$(BIN)/mypy $(TYPED)

guard: $(READY)  ## Count the instructions of a superstep, compare them with the recorded ones
	@$(BIN)/python -m benchmarks.guard $(ARGS)

lab: $(READY)  ## Try to lose data: the whole reliability lab, about half an hour
	@$(BIN)/python -m tests.reliability $(ARGS)

docs: $(READY)  ## Build the documentation into site/
	@$(BIN)/mkdocs build --quiet --strict --site-dir site

tour: $(READY)  ## Record docs/tour.md again
	@$(BIN)/python -m scripts.record_tour

bench: $(READY)  ## Measure speed, memory and bytes, beside floors measured in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(READY)  ## Measure the same work by other libraries, installed beside
	@$(BIN)/python -m benchmarks.peers $(ARGS)

format: $(READY)  ## Rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)  ## Pin the newest versions of all dependencies in constraints.txt
	@$(BIN)/python -m venv .venv/lock
	@.venv/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command 'make lock' --group dev --output-file constraints.txt pyproject.toml

clean:  ## Remove .venv, caches and build products
	rm -rf .venv .venvs benchmarks/peers/.envs build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests examples benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Made once, and again when a dependency or the project's metadata changes.
$(READY): pyproject.toml constraints.txt scripts/bootstrap.py
	@python='$(PYTHON)'; command -v "$$python" >/dev/null || { \
	echo "supersteps needs Python 3.11 or newer, and there is no $$python: install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python)" >&2; \
	exit 1; }; "$$python" scripts/bootstrap.py
	@touch $@
