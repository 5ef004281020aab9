# Each target is a small script in scripts/. Needs Python 3.11 or newer with pip and venv.
.DEFAULT_GOAL := help
.PHONY: docs help venv demo test test-all chaos fuzz bench lock clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv:  ## Create .venv with qw and everything its tests need (PYTHON=... selects the interpreter)
	@scripts/venv

demo: venv  ## Run qw demo: a private PostgreSQL, a daemon and the sample invoice workflow
	@.venv/bin/qw demo

test: venv  ## Run ruff, mypy, import-linter and the tests
	@scripts/test

test-all: venv  ## Run the same with the slow fault and stress tests
	@scripts/test -m ''

chaos: venv  ## Kill, freeze and cut off daemons at random for three minutes
	@.venv/bin/pytest -m '' tests/e2e/test_chaos.py tests/e2e/test_chaos_events.py

fuzz: venv  ## Throw made-up input at all parsers for ten minutes
	@scripts/fuzz

bench: venv  ## Measure the figures of benchmarks/NOTES.md on this machine
	@.venv/bin/python -m benchmarks

docs: venv  ## Build the documentation into build/site, strictly
	@scripts/docs

lock:  ## Update requirements.lock from pyproject.toml
	@scripts/lock

clean:  ## Remove build and cache files (.venv stays)
	@scripts/clean
