# make install | demo | test | bench | clean. Everything lives in .venv; see README.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export QT_FONT_DPI := 96

.PHONY: install demo test lint bench clean
install: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml scripts/install.sh
	sh scripts/install.sh "$(PYTHON)" "$(VENV)"
	touch $(STAMP)

demo: install
	$(BIN)/iceball demo $(DEMO_ARGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install lint
	sh scripts/system_packages.sh test
	$(BIN)/pytest $(PYTEST_ARGS)

bench: install
	$(BIN)/python scripts/bench_latency.py

clean:
	rm -rf $(VENV) out build *.egg-info
