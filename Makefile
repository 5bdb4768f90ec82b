# `make audit` and `make test` do all the set-up on a machine that has Python 3.11, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# Worker processes share the cores; threads inside them would only fight (measured 6 to 28 times slower).
export OMP_NUM_THREADS ?= 1
export LEAKGAUGE_DATA ?= $(abspath ../shared/data)

.PHONY: audit test slow lint types install clean

audit: $(STAMP)
	$(BIN)/leakgauge run quickstart

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile

slow: $(STAMP)
	$(BIN)/pytest -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The root folder is the package, whatever its name: a link gives mypy the name `leakgauge`.
types: $(STAMP)
	@mkdir -p .mypy_cache/link && ln -sfn "$(CURDIR)" .mypy_cache/link/leakgauge
	MYPYPATH=.mypy_cache/link $(BIN)/mypy -p leakgauge.audit -p leakgauge.trainers -p leakgauge.attacks \
	  -p leakgauge.benchmarks -p leakgauge.reports

install: $(STAMP)

PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("LeakGauge needs Python 3.11 or newer, found %s; set PYTHON=" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a minute or two, about 3 GB with a CPU build of torch"
	@$(PIP) --upgrade "pip>=24" "setuptools>=77"
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt -e ".[dev,mechanisms,ray,flower,peft,pretrained,scrub]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info runs .pytest_cache .mypy_cache .ruff_cache
