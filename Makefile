# Everything that a checkout needs happens in a virtual environment inside it: .venv, or what VENV names.
# PYTHON says which Python makes it; without it, the first Python 3.10 or newer on PATH does.
#
#   make demo    install, and run the bridge against a NATS server of its own
#   make test    install, and run the test suite
#   make unit    the part of it that needs no NATS server
#   make lint    ruff and mypy
#   make docs    the documentation, into docs/_build/html
#   make clean   remove all of the above

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10 python
ifndef PYTHON
PYTHON := $(shell for p in $(CANDIDATES); do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Changing one of these means installing again.
METADATA := setup.py pyproject.toml pynats_twisted/_version.py

# What `make test` runs: test modules, packages, or options of trial.
TESTS ?= tests

# What needs no NATS server.
UNIT := tests.test_imports tests.test_suite tests.behaviour tests.blocking tests.bridge tests.client tests.protocol tests.testing

.PHONY: demo test unit lint docs clean FORCE
.DELETE_ON_ERROR:

test: $(VENV)/.installed-test
	$(BIN)/trial $(TESTS)

unit: $(VENV)/.installed-test
	$(BIN)/trial $(UNIT)

demo: $(VENV)/.installed-demo
	$(BIN)/twist nats-bridge --demo

lint: $(VENV)/.installed-lint
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/mypy || status=1; exit $$status

docs: $(VENV)/.installed-docs
	rm -rf docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html"

clean:
	rm -rf $(VENV) .ci/build build dist docs/_build _trial_temp* *.egg-info .mypy_cache .ruff_cache .hypothesis .coverage*

EXTRAS_demo := all,server
EXTRAS_test := test
EXTRAS_lint := test,lint
EXTRAS_docs := all,docs

$(VENV)/.installed-%: $(VENV)/.made-by $(METADATA)
	$(PIP) install --quiet --editable '.[$(EXTRAS_$*)]'
	@touch $@

# Holds the name of the Python that made the environment: another PYTHON makes it anew.
$(VENV)/.made-by: FORCE
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv was found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@if [ "$$(cat $@ 2>/dev/null)" != "$(PYTHON)" ]; then \
		"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)' || exit 1; \
		echo "Making $(VENV) with $(PYTHON)"; \
		rm -rf "$(VENV)" && "$(PYTHON)" -m venv "$(VENV)" && printf '%s\n' "$(PYTHON)" > $@; \
	fi

FORCE:
