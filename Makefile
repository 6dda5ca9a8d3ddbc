PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := accounts alerts bench desk exchange paper project tests trading conftest.py manage.py
PRESENT := $(wildcard $(SOURCES))
# Most of a test of whole programs is waiting for them; 0 runs all in one process.
WORKERS ?= 3

.PHONY: install run test drills check replay bench chaos chaos-long flash-crash one-address audit-round conformance help
.DEFAULT_GOAL := help

help:
	@echo "make run              set up and run the desk with its paper exchange"
	@echo "make test             set up and pass the tests"
	@echo "make drills           kill, cut and lie to whole desks for some minutes; ONLY=files"
	@echo "make check            format, lint, types, import contracts, migrations"
	@echo "make replay DATA=dir  trade recorded candles through the whole desk"
	@echo "make bench            measure the desk beside the physical floor, a line of JSON a figure"
	@echo "make chaos            kill, cut and lie to a whole desk, and compare ledgers; SEED=n, DB=postgres"
	@echo "make chaos-long       the same with 10,000 orders"
	@echo "make flash-crash DATA=dir  recorded days with crashes in them; every stop judged by the exchange's ledger"
	@echo "make one-address      the weight that ACCOUNTS=1000 of one address use, by the exchange's own count"
	@echo "make audit-round      how long ACCOUNTS=1000 of one address wait for their audit, and its weight"
	@echo "make conformance      other clients against the paper exchange, each in an environment of its own"
	@echo "make install          only set up"

install: $(VENV)/.run-installed

# A half-made environment has no stamp and is made again.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run-installed: requirements.txt | $(VENV)/.made
	$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev-installed: requirements-dev.txt | $(VENV)/.made
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.run-installed

run: install
	@exec $(BIN)/python -m project.run

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not drill"

# One after another: each is a whole desk, and two of them would wait for each other.
drills: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m drill $(ONLY)

check: $(VENV)/.dev-installed
	$(BIN)/ruff format --check $(PRESENT)
	$(BIN)/ruff check $(PRESENT)
	$(BIN)/mypy $(PRESENT)
	$(BIN)/lint-imports --no-cache
	place=$$(mktemp -d) && trap 'rm -rf "$$place"' EXIT && \
	  ENV_FILE=/dev/null VAR_DIR=$$place $(BIN)/python manage.py makemigrations --check --dry-run

replay: install
	@test -n "$(DATA)" || { echo "make replay DATA=folder-of-candles"; exit 2; }
	@exec $(BIN)/python manage.py replay --data "$(DATA)" $(ARGS)

bench: install
	@exec $(BIN)/python -m bench $(ARGS)

chaos: install
	@exec $(BIN)/python -m tests.chaos --size $(or $(SIZE),usual) --database $(or $(DB),sqlite) $(if $(SEED),--seed $(SEED))

chaos-long: install
	@exec $(BIN)/python -m tests.chaos --size long --database $(or $(DB),sqlite) $(if $(SEED),--seed $(SEED))

one-address: $(VENV)/.dev-installed
	@ONE_ADDRESS_ACCOUNTS=$(or $(ACCOUNTS),1000) $(BIN)/python -m pytest -q -s trading/tests/services/test_one_address.py

audit-round: $(VENV)/.dev-installed
	@AUDITED_ACCOUNTS=$(or $(ACCOUNTS),1000) $(BIN)/python -m pytest -q -s trading/tests/services/test_audit_round.py

flash-crash: install
	@test -n "$(DATA)" || { echo "make flash-crash DATA=folder-of-candles"; exit 2; }
	@exec $(BIN)/python -m tests.crash --data "$(DATA)" $(ARGS)

conformance: $(VENV)/.dev-installed
	@exec $(BIN)/python -m tests.clients.conformance $(CLIENTS)
