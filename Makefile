# make install | demo | test | test-all | bench | audit | clean. Everything lives in .venv; see README.md.
# What only the tests need is installed by the first `make test`, so that the demo starts sooner.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TOOLS  := $(VENV)/.installed-dev
export QT_FONT_DPI := 96

.PHONY: install demo test test-all lint compiled bench audit clean
install: $(STAMP)

$(STAMP): requirements/run.txt pyproject.toml scripts/install.sh
	sh scripts/install.sh "$(PYTHON)" "$(VENV)" requirements/run.txt
	touch $(STAMP)

$(TOOLS): $(STAMP) requirements/dev.txt
	sh scripts/install.sh "$(PYTHON)" "$(VENV)" requirements/dev.txt
	touch $(TOOLS)

demo: install
	$(BIN)/iceball demo $(DEMO_ARGS)

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The engine's kernels, 20 s of one core: once, while the linters run, and not in each of the tests' processes.
compiled: $(TOOLS)
	$(BIN)/python -c "from gpu_kernels.select import open_engine, warm_up; warm_up(open_engine('cpu'))"

# Three files at a time, also on two cores: many tests wait for a process or a clock.
# All but those marked "long", so that it stays within a quarter of an hour; test-all has them too.
test: override PYTEST_ARGS += -m "not long"
test test-all: $(TOOLS)
	sh scripts/system_packages.sh test
	$(MAKE) --no-print-directory -j 2 lint compiled
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bench: install
	$(BIN)/python scripts/bench_latency.py

# Asks the package index for known weaknesses of what is pinned, from an environment of its own.
AUDIT := $(VENV)-audit
audit:
	sh scripts/audit.sh "$(PYTHON)" $(AUDIT) requirements/run.txt requirements/dev.txt

clean:
	rm -rf $(VENV) $(AUDIT) out build *.egg-info
