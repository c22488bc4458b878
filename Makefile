# On a fresh machine: python3 (3.11 or newer) with pip, make and git. uv is used where it works.
# `run` needs no more than requirements.lock; the others install requirements-dev.lock, which has
# the same pins and more, so that going back and forth installs nothing twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TELL := -c 'import sys; print("%d.%d" % sys.version_info[:2] if sys.version_info >= (3, 11) else "old")'

VERSION := $(shell $(PYTHON) $(TELL) 2>/dev/null)
PRESENT := $(shell $(BIN)/python $(TELL) 2>/dev/null)
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

ifeq ($(VERSION),)
$(error "$(PYTHON)" does not run. AgentIdP needs Python 3.11 or newer: install it, or say PYTHON=/path/to/python3)
endif
ifeq ($(VERSION),old)
$(error "$(PYTHON)" is too old. AgentIdP needs Python 3.11 or newer: install it, or say PYTHON=/path/to/python3)
endif

.PHONY: run test stack lint install lock
.NOTPARALLEL:

run: $(VENV)/.run
	@$(BIN)/python -m gateway.demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 -q

stack: $(VENV)/.dev
	@$(BIN)/python -m tests.servers.stack

lint: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

install: $(VENV)/.dev

# Versions stay as they are unless pyproject.toml asks for others; UPGRADE=--upgrade takes the
# newest. The locks hold hashes and no address, so they serve any index.
LOCK := uv pip compile $(UPGRADE) --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header
lock:
	@test -n "$(UV)" || { echo "make lock needs uv, which is not here: pip install uv" >&2; exit 1; }
	$(LOCK) -o requirements.lock pyproject.toml
	$(LOCK) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

$(VENV)/.run: requirements.lock $(VENV)/.python-$(VERSION)
	@$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.python-$(VERSION)
	@$(call install,requirements-dev.lock)
	@touch $(VENV)/.run $@

# Without pip's own copy (Debian's python3-venv) a virtual environment is made without pip, and the
# interpreter's pip installs into it from outside.
$(VENV)/.python-$(VERSION):
	@test "$(PRESENT)" = "$(VERSION)" || { \
		rm -rf $(VENV); \
		test -n "$(UV)" && uv venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
	} || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)
	@touch $@

# An environment of another Python, or one whose Python has gone, is made anew.
ifneq ($(PRESENT),$(VERSION))
.PHONY: $(VENV)/.python-$(VERSION)
endif

define install
	echo "Installing $(1) into $(VENV) (about a minute, once)"; \
	test -n "$(UV)" && uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) || { \
		$(BIN)/python -m pip --version >/dev/null 2>&1 && pip="$(BIN)/python -m pip" \
			|| pip="$(PYTHON) -m pip --python $(BIN)/python"; \
		$$pip install --quiet --disable-pip-version-check --require-hashes -r $(1); \
	}
endef
