# Every step runs from a fresh clone: what it needs it builds first, and what is there already costs nothing.
# `make test ARGS="-k unsubscribe"` hands ARGS to pytest; `make lock UPGRADE=1` also moves to newer versions.

BIN := .venv/bin
COMPILE := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

SPECS := specs

# Many tests wait for a server or a browser, so that one worker more than two cores is never idle.
WORKERS := 3
PYTEST := $(BIN)/python -m pytest --dist worksteal

# What `make test-fast` runs: the rules and the rooms above them, without pages, commands, imports and connectors.
FAST := tests/domain tests/files tests/ledger tests/people tests/sending tests/store tests/sync \
	tests/test_address_parsing.py tests/test_architecture.py tests/test_config.py tests/test_tokens.py

.DEFAULT_GOAL := help
.PHONY: help install dev run browser test test-fast check format bench contract screenshots messages lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Build .venv/ with what the product needs to run (230 MB, a minute or two)
	@TELL=$(filter install,$(MAKECMDGOALS)) ./mkenv.sh runtime

dev: ## Build .venv/ with the test tools as well
	@TELL=$(filter dev,$(MAKECMDGOALS)) ./mkenv.sh dev

# Ctrl-C reaches everything that runs here; the demo ends with 130 then, which is no error.
run: install ## Start the demo: web, worker and sandbox, with made-up people
	@trap : INT; $(BIN)/python -m sandbox.demo || test $$? -eq 130

browser: # Installs Chromium where that is possible; without it the browser tests are skipped
	@tests/get-browser.sh

test: dev browser ## Run all tests, on SQLite and PostgreSQL, and in a browser
	@$(PYTEST) -n $(WORKERS) $(ARGS)

test-fast: dev ## Run the tests of the rules and of SQLite, without processes or browser, in a minute
	@$(PYTEST) -n 2 -m "not (postgresql or browser or slow)" $(FAST) $(ARGS)

# All three run even if one fails, so that one round shows everything.
check: dev ## Check format, lint and types
	@failed=; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	test -z "$$failed"

format: dev ## Format the code and apply the safe fixes of the linter
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: dev ## Measure the speed of the hot paths
	@$(BIN)/python -m tests.bench $(ARGS)

contract: dev ## Hold our calls against the vendors' own API descriptions in SPECS (needs npm)
	@test -d "$(SPECS)" || { echo "There is no folder $(SPECS) with the descriptions: make contract SPECS=FOLDER" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "make contract needs npm, which comes with Node.js." >&2; exit 1; }
	@cd tests/contract && npm ci --silent --no-audit --no-fund
	@$(BIN)/python -m tests.contract "$(SPECS)"

screenshots: dev browser ## Take pictures of the pages
	@$(BIN)/python -m tests.screenshots $(ARGS)

# A new text is English until its translation is written into preferences/translations/*/LC_MESSAGES/messages.po.
messages: dev ## Bring the catalogues of the languages up to date with the texts
	@texts=$$(mktemp) && trap 'rm -f "$$texts"' EXIT && \
	$(BIN)/pybabel -q extract -F pyproject.toml -k to_translate -c Translators: -s \
		--add-location=file --sort-by-file --omit-header -o "$$texts" . && \
	$(BIN)/pybabel -q update -i "$$texts" -d preferences/translations -w 120 \
		--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date && \
	$(BIN)/pybabel -q compile -d preferences/translations --statistics

lock: ## Pin what the .in files ask for, with hashes (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv; pip can install it." >&2; exit 1; }
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --output-file requirements-dev.txt requirements-dev.in

clean: ## Remove .venv/ and the caches, never the data in instance/
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
