# The targets people type; continuous integration (.ci/run) types the same ones.
#   PYTHON=python3.12     the interpreter that makes the virtual environment (3.11, 3.12 or 3.13)
#   TORCH_INDEX=URL       a package index for torch alone: its CPU build or that of another CUDA version
#   WORKERS=N             processes that test at once (one per core, eight at most)
#   PYTEST_ARGS='-x'      more arguments for pytest

PYTHON      ?= python3
TORCH_INDEX ?=
PYTEST_ARGS ?=
WORKERS     ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n > 8 ? 8 : n)))

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
PIP   := $(BIN)/python -m pip --quiet --disable-pip-version-check

# Some machines ask Python to keep no bytecode: every process that tests start would compile its imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install venv example demo test test-more test-again test-slow test-calibration test-mutations test-slurm test-browser test-all test-planted check format lint types docs fix bench gpu wheel release clean

help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@sed -n '2,/^$$/s/^# \{1,3\}/  /p' Makefile

install: $(STAMP) ## bluestab with everything to work on it, in .venv (skipped when up to date)
venv: install

# With TORCH_INDEX the versions of what torch itself needs are that index's own; the next line sets them right.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"bluestab needs Python 3.11, 3.12 or 3.13; $(PYTHON) is {v[0]}.{v[1]}. Try: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@echo "bluestab: installing into $(VENV), once; about two minutes and 2 GB (more where a CUDA build is fetched)"
	@test -x $(BIN)/pip || { echo "  1/3 a virtual environment"; $(PYTHON) -m venv $(VENV); }
	@echo "  2/3 $(TORCH)$(if $(TORCH_INDEX), from $(TORCH_INDEX))"
	@$(PIP) install '$(TORCH)' $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)',-c constraints.txt)
	@echo "  3/3 bluestab and its other dependencies"
	@$(PIP) install -c constraints.txt -e '.[embedded,dev,docs]'
	@touch $(STAMP)
	@echo "bluestab: installed; try $(BIN)/bluestab"

# notebooks/example.html.gz and notebooks/example.png from a finished sweep: make example STORE=runs SWEEP=name
STORE ?= runs
SWEEP ?=
example: install ## the example page and its screenshot, of STORE and SWEEP; needs what test-browser needs
	$(BIN)/bluestab report $(STORE) $(if $(SWEEP),--sweep $(SWEEP)) --out build/example
	gzip -9 --stdout --no-name build/example/report.html > notebooks/example.html.gz
	@test -d tests/browser/node_modules || npm install --prefix tests/browser --no-package-lock --no-audit --no-fund
	node tests/browser/screenshot.mjs build/example/report.html notebooks/example.png
	@ls -l notebooks/example.html.gz notebooks/example.png

demo: install ## the quickstart: a small sweep on this machine, its table and its report
	@echo "bluestab run -m +sweeps=quickstart"
	@$(BIN)/bluestab run -m +sweeps=quickstart

# worksteal: neighbours stay together, so that what a file's tests share is made once, and no worker
# waits for another's long file at the end
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

QUICK := not slow and not more and not slurm and not browser

test: install ## the quick tests
	$(PYTEST) -m "$(QUICK)" $(PYTEST_ARGS)

# what a test may not lean on: the tests before it, the order of sets, the time zone, process numbers
TIMES ?= 20
test-again: install ## the quick tests in 20 random orders (TIMES=N); stops at the first that fails
	@for i in $$(seq $(TIMES)); do echo "order $$i of $(TIMES)"; \
	{ echo $$((i * 1231)) > /proc/sys/kernel/ns_last_pid; } 2>/dev/null; \
	PYTHONHASHSEED=$$i TZ=UTC$$((i % 24 - 12)) $(PYTEST) -q -m "$(QUICK)" --shuffle $$i $(PYTEST_ARGS) || exit 1; done

test-more: install ## the tests of tests/more.txt, for which quicker ones of their kind stand in `make test`
	$(PYTEST) -m "more and not slow" $(PYTEST_ARGS)

# -n 0: the tests share one cluster, one after another
test-slurm: install ## a SLURM of its own on this machine (Debian, root), and sweeps on it
	@tests/slurm/cluster.sh install || { echo "test-slurm: skipped, SLURM's packages cannot be had here"; exit 0; }; \
	$(BIN)/python -m pytest -m "slurm and not slow" tests/slurm $(PYTEST_ARGS) -n 0

test-slow: install ## the tests that train or build for longer
	$(PYTEST) -m "slow and not slurm" $(PYTEST_ARGS)

# -s: each prints its figure beside the one before; -n 0: in order
test-calibration: install ## simulations: how often intervals cover and tests err; half an hour
	$(BIN)/python -m pytest -m slow -s tests/stats/test_simulations.py tests/stats/test_verdict_calibration.py tests/stats/test_changes.py \
		tests/stats/test_failing.py tests/stats/test_calibration.py $(PYTEST_ARGS)

MUTATIONS ?= 20000
test-mutations: install ## mutated files of every reader, 20,000 of them (MUTATIONS=N); part of test-slow
	BLUESTAB_MUTATIONS=$(MUTATIONS) $(BIN)/python -m pytest -m slow -s tests/data/test_mutations.py $(PYTEST_ARGS)

test-browser: install ## the page in headless Chromium; needs chromium, node and npm
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install nodejs npm"; exit 1; }
	@test -d tests/browser/node_modules || npm install --prefix tests/browser --no-package-lock --no-audit --no-fund
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

test-all: test test-more test-again test-slow test-slurm test-browser ## every test there is

test-planted: install ## bugs, planted one by one: do the quick tests find them?
	$(BIN)/python tests/planted_bugs.py

check: format lint types docs ## format, lint, types, documentation; changes nothing

format: install ## is the code formatted? (ruff)
	$(BIN)/ruff format --check .

lint: install ## what does the linter say? (ruff)
	$(BIN)/ruff check .

types: install ## do the types agree? (mypy)
	$(BIN)/mypy bluestab

# -W -n: a dead link, a missing anchor, a name that cannot be resolved and any other warning are errors
docs: install ## the documentation, in docs/_build/html; without any network
	@rm -rf docs/_build
	$(BIN)/python -m sphinx -W -n --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

fix: install ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## every script in benchmarks/
	@for script in $(wildcard benchmarks/*.py); do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

gpu: ## does the GPU do what it should, and how fast? eight minutes at most, installs nothing
	$(BIN)/python benchmarks/gpu.py

wheel: install ## the wheel, in dist/
	$(BIN)/python -m build --wheel --no-isolation

SEEDS ?= 1
release: install ## sdist and wheel, checked; fresh environments of Python 3.11 to 3.13, quickstart; uploads nothing
	$(BIN)/python tests/release.py $(SEEDS)

clean: ## remove build products and caches (.venv, runs/ and report/ stay)
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
