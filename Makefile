# make run      start Atoll here; the first time, install it into .venv
# make check    formatting, linters, types, import contracts
# make test     install what the tests need, then run them; ARGS="-k name" goes to pytest
# make sim      run the simulator: SEEDS=400, or SEED=17 for one seed; ARGS="--trace"
# make bench    compare with what a user would pick instead
# make pins     resolve requirements*.in anew and write requirements*.txt
# make clean    remove what the above made, but never the data in .atoll
#
# It keeps to what GNU make 3.81 knows, which is what macOS has. Stamp files make the second
# start immediate; touching a requirements file or pyproject.toml makes them stale.

SHELL = /bin/sh
PYTHON ?=
ARGS ?=
SEED ?=
SEEDS ?= 400

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
VENV_CLOUDFLARE4 = .venv-cloudflare4
NPM_FOLDERS = tests/clients/wrangler-4.86 tests/clients/wrangler-newest tests/clients/axe

# pyright would otherwise take whichever Node the machine has, and look for news of itself.
export PYRIGHT_PYTHON_GLOBAL_NODE = 0
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

.PHONY: run check test test-setup sim clients bench pins clean

run: $(VENV)/.installed
	@exec $(BIN)/atoll dev

# --- installing -------------------------------------------------------------------------------

$(VENV)/.made:
	@python=$$(scripts/find-python) || exit 1; \
	echo "atoll: making a virtual environment in $(VENV)"; \
	"$$python" -m venv $(VENV)
	@touch $@

# The environment is named in the editable install, so pyproject.toml (its scripts) counts too.
$(VENV)/.installed: $(VENV)/.made requirements-build.txt requirements.txt pyproject.toml
	@echo "atoll: installing the pinned dependencies"
	@$(PIP) install -r requirements-build.txt -r requirements.txt
	@echo "atoll: installing atoll itself"
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@echo "atoll: installing the tools of the tests and checks"
	@$(PIP) install --no-build-isolation -r requirements-dev.txt
	@touch $@

$(VENV_CLOUDFLARE4)/.installed: requirements-cloudflare4.txt
	@python=$$(scripts/find-python) || exit 1; \
	echo "atoll: installing the older Cloudflare SDK into $(VENV_CLOUDFLARE4)"; \
	"$$python" -m venv $(VENV_CLOUDFLARE4)
	@$(VENV_CLOUDFLARE4)/bin/python -m pip --disable-pip-version-check --no-input --quiet \
		install -r requirements-cloudflare4.txt
	@touch $@

# npm comes with the Node among the development tools, the same one on every machine.
%/node_modules/.installed: %/package.json %/package-lock.json %/.npmrc
	@echo "atoll: installing $*"
	@scripts/npm-ci $*
	@touch $@

# A client that cannot be installed is no reason to run no test: those that need it say so and are
# skipped, and where CI is set a skipped test has failed.
clients: $(VENV)/.installed-dev
	@for one in $(VENV_CLOUDFLARE4)/.installed $(NPM_FOLDERS:=/node_modules/.installed); do \
		$(MAKE) --no-print-directory --silent "$$one" \
			|| echo "atoll: without $$one; the tests that need it will be skipped"; \
	done

test-setup: $(VENV)/.installed-dev clients

# --- checking ---------------------------------------------------------------------------------

check: $(VENV)/.installed-dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

test: test-setup
	@$(BIN)/python -m pytest $(ARGS)

sim: $(VENV)/.installed
	@$(BIN)/atoll simulate $(if $(SEED),--first-seed $(SEED) --seeds 1,--seeds $(SEEDS)) \
		--processes 2 $(ARGS)

bench: $(VENV)/.installed-dev
	@bench/run $(ARGS)

# --- upkeep -----------------------------------------------------------------------------------

pins: $(VENV)/.made
	@$(PIP) install uv
	@for name in requirements-build requirements requirements-dev requirements-cloudflare4; do \
		echo "atoll: pinning $$name.in"; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-header --no-emit-index-url --upgrade "$$name.in" --output-file "$$name.txt" \
			|| exit 1; \
	done

clean:
	rm -rf $(VENV) $(VENV_CLOUDFLARE4) $(NPM_FOLDERS:=/node_modules) build dist .cache .coverage \
		.hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
