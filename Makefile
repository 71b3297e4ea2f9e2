# Every target sets up what it needs first; see .ci/setup. ARGS adds options: make demo ARGS="--for 60s"

BIN := .venv/bin
ARGS ?=
KILLS ?= 2000
SEED ?= 1

# Compiled kernels outlive a run: a warm start takes seconds less.
export NUMBA_CACHE_DIR := $(CURDIR)/.numba_cache

.PHONY: help setup servers demo test check bench soak clean lock
.NOTPARALLEL:

help:
	@echo "make demo    simulated fleet, pipeline and live page; needs no server (Ctrl-C stops)"
	@echo "make test    check, then all tests (installs the test servers where root and apt-get allow)"
	@echo "make check   lint, format, types"
	@echo "make bench   measure this machine"
	@echo "make soak    crash drill for hours: KILLS=$(KILLS) SEED=$(SEED)"
	@echo "make lock    resolve requirements.lock anew (needs uv)"
	@echo "make clean   remove caches and build files; .venv and data stay"

setup:
	@.ci/setup

servers:
	@.ci/setup servers

demo: setup
	@$(BIN)/chargestream demo $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: servers
	@$(BIN)/python -m tests.compile_kernels & compiling=$$!; $(MAKE) check && wait $$compiling || { kill $$compiling 2>/dev/null; exit 1; }
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not server and not browser and not slow"
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "(server or browser) and not slow"
	$(BIN)/python -m pytest -n 3 --dist loadfile -m slow
else
	$(BIN)/python -m pytest $(ARGS)
endif

bench: setup
	@$(BIN)/chargestream bench $(ARGS)

soak: servers
	@$(BIN)/chargestream drill crash --kills $(KILLS) --seed $(SEED) $(ARGS)

lock:
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .numba_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
