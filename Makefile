# Everything that a checkout needs happens in a virtual environment inside it: .venv, or what VENV names.
# PYTHON says which Python makes it; without it, the first Python 3.10 or newer on PATH does.
#
#   make demo    install, and run the bridge against a NATS server of its own
#   make test    install, and run the test suite: on the compiled twin of the protocol's hot parts, then on the pure one
#   make unit    the part of it that needs no NATS server
#   make lint    ruff and mypy
#   make docs    the documentation, into docs/_build/html
#   make bench   measure this package and other NATS clients side by side; options in BENCH="--rounds 3 ..."
#   make bench-bridge   put the bridge under load and under faults; options in BENCH="--rows kills ..."
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
METADATA := setup.py pyproject.toml pynats_twisted/_version.py $(wildcard pynats_twisted/protocol/*.pyx)

# What `make test` runs: test modules, packages, or options of trial.
TESTS ?= tests
# The twin to run it on, compiled or pure. Without a name it runs on both, or on the pure one where the compiled one could not be built.
TWIN ?= $(if $(filter-out 0,$(PYNATS_TWISTED_PURE)),pure)
# What depends on the twin that runs: all but tests/packaging and tests/benchmarks, which try both twins in environments of their own, and
# tests/browser, which is about pages.
PER_TWIN := $(filter-out tests.packaging tests.benchmarks tests.browser,$(subst /,.,$(patsubst %.py,%,$(wildcard tests/test_*.py)) $(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py))))

# The bridge stands on what the client offers: where there are two twins, it is tested on the first one.
BRIDGE_TESTS := tests.bridge $(subst /,.,$(patsubst %.py,%,$(wildcard tests/integration/test_bridge_*.py)))
PER_SECOND_TWIN := $(filter-out $(BRIDGE_TESTS),$(subst /,.,$(patsubst %.py,%,$(wildcard tests/integration/test_*.py))) $(filter-out tests.integration,$(PER_TWIN)))

# What needs no NATS server.
UNIT := tests.test_imports tests.test_suite tests.behaviour tests.blocking tests.bridge tests.client tests.jetstream tests.keyvalue tests.objectstore tests.protocol tests.services tests.testing

.PHONY: demo test unit lint docs bench bench-bridge clean FORCE
.DELETE_ON_ERROR:

test: $(VENV)/.installed-test
	@$(call on_twins,$(TESTS),$(if $(filter-out tests,$(TESTS)),$(TESTS),$(PER_SECOND_TWIN)))

unit: $(VENV)/.installed-test
	@$(call on_twins,$(UNIT),$(UNIT))

# Runs the first tests on one twin, then the second ones on the other; fails if one of the runs fails, or is not what it should be.
define on_twins
tests='$(1)'; twins='$(TWIN)'; status=0; \
if [ -z "$$twins" ]; then \
	found=$$($(BIN)/python -W ignore -c 'from importlib.util import find_spec; print(find_spec("pynats_twisted.protocol._speedups"))') || exit 1; \
	twins='compiled pure'; \
	[ "$$found" != None ] || { twins=pure; echo 'No compiled twin: it needs a C compiler and the headers of Python, and then `make clean`. Only the pure one is tested.'; }; \
fi; \
for twin in $$twins; do \
	pure=; [ "$$twin" != pure ] || pure=1; \
	runs=$$(PYNATS_TWISTED_PURE=$$pure $(BIN)/python -c 'from pynats_twisted import protocol; print(protocol.implementation)') || runs=none; \
	if [ "$$runs" = "$$twin" ]; then \
		printf '\n=== The %s twin\n' "$$twin"; \
		PYNATS_TWISTED_TWIN=$$twin PYNATS_TWISTED_PURE=$$pure $(BIN)/trial $$tests || status=1; \
	else \
		echo "TWIN=$$twin was asked for, and what runs is: $$runs" >&2; status=1; \
	fi; \
	tests='$(2)'; \
done; \
exit $$status
endef

demo: $(VENV)/.installed-demo
	$(BIN)/twist nats-bridge --demo

lint: $(VENV)/.installed-lint
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/mypy || status=1; exit $$status

docs: $(VENV)/.installed-docs
	rm -rf docs/_build
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html"

# The benchmarks have an environment of their own, on the newest Python that there is: some of the other clients need it.
BENCH_VENV ?= .venv-bench
BENCH_CANDIDATES := python3.13 $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.13*/bin/python) python3.12 $(CANDIDATES)
BENCH_PYTHON = $(if $(filter file,$(origin PYTHON)),$(shell for p in $(BENCH_CANDIDATES); do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo "$$p"; break; }; done),$(PYTHON))

bench:
	@$(MAKE) --no-print-directory VENV="$(BENCH_VENV)" PYTHON="$(BENCH_PYTHON)" "$(BENCH_VENV)/.installed-rivals"
	$(BENCH_VENV)/bin/python -m benchmarks $(BENCH)

bench-bridge:
	@$(MAKE) --no-print-directory VENV="$(BENCH_VENV)" PYTHON="$(BENCH_PYTHON)" "$(BENCH_VENV)/.installed-bench"
	$(BENCH_VENV)/bin/python -m benchmarks.bridge $(BENCH)

$(VENV)/.installed-rivals: $(VENV)/.installed-bench benchmarks/requirements.txt
	$(PIP) install --quiet --requirement benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) .ci/build build dist docs/_build _trial_temp* *.egg-info .mypy_cache .ruff_cache .hypothesis .coverage*
	rm -f $(foreach suffix,so c html,pynats_twisted/protocol/_speedups*.$(suffix))

EXTRAS_demo := all,server
EXTRAS_test := test
EXTRAS_lint := test,lint
EXTRAS_docs := all,docs
EXTRAS_bench := all,server

$(VENV)/.installed-%: $(VENV)/.made-by $(METADATA)
	env -u PYNATS_TWISTED_PURE $(PIP) install --quiet --editable '.[$(EXTRAS_$*)]'
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
