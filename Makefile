# Each target does its whole set-up: it needs python3 (3.11 or later) with venv, make and, for the C
# core, a C compiler with Python's headers. Everything it installs goes into VENV, nothing elsewhere.
#
#   make test PYTHON=python3.12        another interpreter: the environment is made anew
#   make test MUXCORE_BUILD=pure       without the C core
#   make test PYTEST_ARGS='-k relay'   some of the tests
#   make test WORKERS=0                one after the other, as for a debugger

PYTHON ?= python3
VENV ?= .venv
CC ?= cc
PYTEST_ARGS ?=
# Four processes are for two cores: half of the tests' time is waiting.
WORKERS ?= 4

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

export MUXCORE_BUILD ?=
# Where it is set each start of Python compiles all it imports, and the tests start a thousand.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

python := $(VENV)/bin/python
pip := $(python) -m pip install --quiet
units := $(filter-out csrc/_core.c,$(wildcard csrc/*.c csrc/load/*.c))
core := csrc/builder.py $(units) $(wildcard csrc/*.h csrc/load/*.h csrc/*.cdef csrc/load/*.cdef)

# A stamp holds what a step was made for; its file changes only when that does, so that a change of
# interpreter or of MUXCORE_BUILD makes everything that follows anew, and nothing else does.
stamps := $(VENV)/stamps
remember = mkdir -p $(@D); cmp -s <(printf '%s\n' $(1)) $@ || printf '%s\n' $(1) > $@

.PHONY: help demo test test-deep test-real soak lint docs sanitize simulate simulate-faults simulate-python fuzz wheels bench clean FORCE

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

# --- environment ------------------------------------------------------------------------------------

$(stamps)/python: FORCE
	@command -v $(PYTHON) >/dev/null || { echo "muxcore: $(PYTHON) is not installed: install python3 (3.11 or later), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "muxcore: $(PYTHON) is $$($(PYTHON) -V 2>&1), muxcore needs 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "muxcore: $(PYTHON) has no venv: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	now=$$($(PYTHON) -c 'import sys; print(sys.version.split()[0], sys.prefix)')
	if [ ! -x $(python) ] || [ "$$(cat $@ 2>/dev/null)" != "$$now" ]; then
	  echo "making $(VENV) with Python $$now"
	  rm -rf $(VENV)
	  $(PYTHON) -m venv $(VENV)
	  mkdir -p $(@D)
	  echo "$$now" > $@
	fi

# What the build is made of is installed beside it, so that a rebuild needs no network.
$(stamps)/build-requires: $(stamps)/python pyproject.toml
	@$(pip) 'setuptools>=77' 'cffi>=1.16'
	touch $@

$(stamps)/mode: $(stamps)/python FORCE
	@$(call remember,"$(MUXCORE_BUILD)")

# The package, editable; the core is compiled into the tree. A core of another mode must not stay there.
$(stamps)/package: $(stamps)/build-requires $(stamps)/mode pyproject.toml setup.py $(core)
	@why=$$($(python) -c 'import setup; print(setup.problem() or "")')
	[ -z "$$why" ] || { echo "muxcore: $$why: $$($(python) -c 'import setup; print(setup.INSTRUCTION)')" >&2; exit 1; }
	rm -rf build muxcore/native/_core*.so
	echo "installing muxcore into $(VENV)$${MUXCORE_BUILD:+ (MUXCORE_BUILD=$$MUXCORE_BUILD)}"
	$(pip) --no-build-isolation --editable . || { rm -rf build; exit 1; }
	rm -rf build
	touch $@

# muxcore is installed already, so pip adds only what the extra names.
$(stamps)/extra-%: $(stamps)/package
	@echo "installing what '$*' needs into $(VENV)"
	$(pip) 'muxcore[$*]'
	touch $@

# An engine's yardstick and no dependency: taken where its authors have a wheel, never compiled.
$(stamps)/uvloop: $(stamps)/extra-test
	@$(pip) --only-binary uvloop 'muxcore[uvloop]' 2>/dev/null || echo "uvloop has no wheel for this Python: its engine is left out"
	touch $@

# --- what it does -------------------------------------------------------------------------------------

demo: $(stamps)/build-requires ## every engine on real files over TCP, and one table that compares them
	@mode="$$MUXCORE_BUILD"
	if [ -z "$$mode" ] && why=$$($(python) -c 'import setup; print(setup.problem() or "")') && [ -n "$$why" ]; then
	  echo "muxcore: $$why; going on without the C core (MUXCORE_BUILD=pure)"
	  mode=pure
	fi
	$(MAKE) --no-print-directory $(stamps)/package MUXCORE_BUILD="$$mode"
	$(python) -m muxcore demo

test: $(stamps)/uvloop ## the tests, with the C core as it is in the tree now (under 4 minutes)
	@$(python) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-deep: $(stamps)/uvloop $(stamps)/extra-deep $(stamps)/extra-wheel ## the tests that take minutes: fault matrix, fuzzing
	@$(python) -m pytest -m deep -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-real: $(stamps)/extra-dev ## against servers, clients and a browser from the operating system's packages
	@$(python) -m pytest -m real -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

soak: $(stamps)/uvloop ## random lives on every engine, each byte compared: make soak MINUTES=60 (default: 6)
	@$(python) tests/soak/soak.py --minutes $(or $(MINUTES),6) $(SOAK_ARGS)

# The units are compiled one by one: warnings are errors here and nowhere else, since the compilers of
# distributions differ, and the glue that cffi generates is not ours to mend.
warnings := -std=c11 -O2 -Wall -Wextra -Wshadow -Wconversion -Werror

lint: $(stamps)/extra-dev ## ruff, mypy --strict, the C core with warnings as errors, cppcheck if present
	@$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy
	object=$$(mktemp)
	trap 'rm -f "$$object"' EXIT
	for unit in $(units); do
	  $(CC) $(warnings) -Icsrc -Icsrc/load -c "$$unit" -o "$$object"
	done
	if command -v cppcheck >/dev/null; then
	  cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 -Icsrc -Icsrc/load $(units)
	else
	  echo "cppcheck is not installed: left out"
	fi

docs: $(stamps)/extra-docs ## these pages and the reference as a site, in build/docs; warnings are errors
	@$(python) -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --fresh-env docs build/docs
	$(python) -m pytest -m docs tests/docs

sanitize: $(stamps)/uvloop ## the C core under address, undefined-behaviour and thread sanitizers, and valgrind
	@PYTHON=$(abspath $(python)) tests/native/sanitize.sh

# Two processes; each seed is a script of a hundred operations. Twenty seconds, if SEEDS does not say how many:
#
#   make simulate SEEDS=1..1000000            these; the first that fails is printed
#   make simulate SIMULATE_ARGS='--shrink 7'  a short script that fails as seed 7 does
#   make simulate SANITIZE=                   without sanitizers: ten times as many
SANITIZE ?= address,undefined
SEEDS ?=
SIMULATE_ARGS ?= --jobs 2 --seeds $(or $(SEEDS),1..1000000000) $(if $(SEEDS),,--seconds 20)
simulation := tests/native/simulation

simulate: ## the C core on a simulated kernel, with faults; SEEDS=1..100000 instead of 20 s
	@program=$$($(PYTHON) $(simulation)/build.py build/simulation --sanitize "$(SANITIZE)")
	UBSAN_OPTIONS=print_stacktrace=1 "$$program" $(SIMULATE_ARGS)

simulate-python: $(stamps)/package ## the Python engines on a simulated kernel, with faults; SEEDS=1..100000 instead of 20 s
	@$(python) -m tests.simulated $(SIMULATE_ARGS)

simulate-faults: $(stamps)/extra-test ## faults planted in the C core and the Python engines: which seed finds each
	@$(python) -m pytest -q -m deep -k every_planted_fault $(simulation) tests/simulated

fuzz: ## the same scripts, drawn by libFuzzer: needs clang
	@command -v clang >/dev/null || { echo "muxcore: clang is not installed: 'make simulate' draws scripts without it" >&2; exit 1; }
	program=$$(CC=clang $(PYTHON) $(simulation)/build.py build/simulation --sanitize address,undefined,fuzzer-no-link --fuzz)
	mkdir -p .cache/corpus
	"$$program" -max_len=2048 $(FUZZ_ARGS) .cache/corpus

# Without Docker: what this machine's compiler makes, tagged by what auditwheel finds in it.
wheels: $(stamps)/extra-wheel ## build sdist and wheel into dist/ and put them through every gate
	@rm -rf dist build
	export PATH="$(abspath $(VENV))/bin:$$PATH" CFLAGS="$${CFLAGS:--g0}"
	export SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || stat -c %Y pyproject.toml)}"
	MUXCORE_BUILD=native $(python) -m build --outdir dist . >dist.log 2>&1 || { cat dist.log; rm -f dist.log; exit 1; }
	rm -f dist.log
	for wheel in dist/*-linux_*.whl; do
	  $(python) -m auditwheel repair --wheel-dir dist "$$wheel"
	  rm "$$wheel"
	done
	ls -l dist
	MUXCORE_DIST="$(abspath dist)" $(python) -m pytest -m 'wheel and not deep' --durations=10 $(PYTEST_ARGS) tests/packaging

bench: $(stamps)/extra-bench ## the benchmarks, side by side (see benchmarks/README.md)
	@$(python) benchmarks/run.py $(BENCH_ARGS)

clean: ## remove what the targets made
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info csrc/_core.c
	rm -f muxcore/native/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
