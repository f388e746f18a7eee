# Every target sets up what it needs: a fresh machine needs only Python 3.11 or later with pip, make and git.
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
COCKPIT := .venv-cockpit
PIP_INSTALL := install --disable-pip-version-check

# What `make test` installs includes what `make demo` needs.
DEVELOPMENT := $(VENV)/development.stamp
DEMONSTRATION := $(if $(wildcard $(DEVELOPMENT)),$(DEVELOPMENT),$(VENV)/demonstration.stamp)
REFERENCE := $(COCKPIT)/reference.stamp
SITE_PACKAGES := import sysconfig; print(sysconfig.get_path("purelib"))

.PHONY: help demo test lint types tests matrix benchmark diagnosis advice rates format clean

help:
	@echo "make demo       train three small networks under the panel and show the live page (ARGS=--no-serve ends by itself)"
	@echo "make test       lint, types and tests"
	@echo "make lint       check the format and the style"
	@echo "make types      check the types"
	@echo "make tests      run the tests (ARGS=\"-k store\" runs some)"
	@echo "make format     put the code into its format"
	@echo "make matrix     measure how exact every instrument is on every model, and write docs/matrix.md"
	@echo "make benchmark  measure what watching costs, beside Cockpit, and write docs/price.md (hours; less with ARGS=--quick)"
	@echo "make diagnosis  train faults and healthy runs, and write docs/faults.md on what the diagnosis finds (hours of one core; less with ARGS=--short)"
	@echo "make advice     train from learning rates that are far off, follow the findings, and write docs/advice.md (a quarter of an hour on two cores; ARGS=\"--seeds 1\" is less)"
	@echo "make rates      train small problems at twelve learning rates each, and write docs/rates.md on what the diagnosis says of them (hours of one core; less with ARGS=--quick)"
	@echo "make clean      delete everything that was made"

demo: $(DEMONSTRATION)
	@$(BIN)/cockpitlite demo $(ARGS)

test: lint types tests

lint: $(DEVELOPMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEVELOPMENT)
	$(BIN)/mypy

tests: $(DEVELOPMENT) $(REFERENCE)
	$(BIN)/pytest -q -n auto --dist worksteal $(ARGS)

matrix: $(DEVELOPMENT)
	$(BIN)/python benchmarks/exactness.py --write docs/matrix.md

benchmark: $(DEVELOPMENT) $(REFERENCE)
	$(BIN)/python benchmarks/price.py --json docs/price.json --write docs/price.md $(ARGS)

diagnosis: $(DEVELOPMENT)
	$(BIN)/python benchmarks/diagnosis/run.py --write docs/faults.md $(ARGS)

advice: $(DEVELOPMENT)
	$(BIN)/python benchmarks/advice.py --write docs/advice.md $(ARGS)

rates: $(DEVELOPMENT)
	$(BIN)/python benchmarks/rates/run.py --write docs/rates.md $(ARGS)

format: $(DEVELOPMENT)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(COCKPIT) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/demonstration.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP_INSTALL) -c constraints.txt -e ".[demo]"
	@touch $@

$(VENV)/development.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP_INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@

# Cockpit needs an old setuptools, so it has an environment of its own; torch and the rest it shares with $(VENV).
$(REFERENCE): tests/oracle/requirements.txt $(DEVELOPMENT)
	rm -rf $(COCKPIT)
	$(BIN)/python -m venv --without-pip $(COCKPIT)
	$(BIN)/pip --python $(COCKPIT) $(PIP_INSTALL) --no-deps -r tests/oracle/requirements.txt
	$(BIN)/python -c '$(SITE_PACKAGES)' > "$$($(COCKPIT)/bin/python -c '$(SITE_PACKAGES)')/shared.pth"
	@touch $@
