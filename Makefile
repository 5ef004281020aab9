# Everything a checkout needs; each target is a small script in scripts/. Wants Python 3.11 or newer with pip and venv.
.PHONY: help venv demo test test-all chaos bench lock clean

help:
	@echo 'make venv      .venv with qw and everything its tests need (PYTHON=… names the Python)'
	@echo 'make demo      qw demo: a database, a daemon and some work, on this machine'
	@echo 'make test      style, types, layers, tests'
	@echo 'make test-all  the same with the slow fault and stress tests'
	@echo 'make chaos     daemons killed, frozen and cut off at random, for 90 s'
	@echo 'make bench     our figures'
	@echo 'make lock      requirements.lock from pyproject.toml'
	@echo 'make clean     remove what builds and checks leave behind (not .venv)'

venv:
	@scripts/venv

demo: venv
	@.venv/bin/qw demo

test: venv
	@scripts/test

test-all: venv
	@scripts/test -m ''

chaos: venv
	@.venv/bin/pytest -m '' tests/e2e/test_chaos.py

bench: venv
	@.venv/bin/python -m benchmarks

lock:
	@scripts/lock

clean:
	@scripts/clean
