# Everything that a developer or a CI machine starts. `make help` lists it.
#
# Needs Python 3.11 to 3.13 (PYTHON=python3.12 chooses) and make; tools/setup.sh makes the rest.
.DEFAULT_GOAL := help
.PHONY: help setup programs demo test check bench soak docs lock clean

BIN := .venv/bin
DATA ?= .demo
ARGS ?=
MINUTES ?= 5
export PYTHON  # only if the caller set it
# Material for MkDocs announces the future of MkDocs at every start.
export NO_MKDOCS_2_WARNING := 1

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup:  ## make .venv from requirements.lock (the others do it themselves)
	@tools/setup.sh

programs:
	@tools/setup.sh --programs

demo: setup  ## three devices follow an operator over mutual TLS (STAY=1 stays up, DATA=dir)
	@$(BIN)/gnomon demo --data "$(DATA)" $(if $(filter 1,$(STAY)),--stay) $(ARGS)

test: setup programs  ## run the tests (ARGS="tests/shadow -x" for some)
	@$(BIN)/python -m pytest $(ARGS)

check: setup  ## format, lint, types, walls between rooms, sizes, lock, generated files
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/check_file_sizes.py
	$(BIN)/python tools/check_lock.py
	$(BIN)/python tools/generate_docs.py --check

bench: setup  ## measure (ARGS go to benchmarks/run.py)
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: setup programs  ## long property runs, endurance tests, then fuzzing (MINUTES=5 for each target)
	@$(BIN)/python -m pytest -m "hypothesis or soak" --hypothesis-profile=soak --timeout=3600 $(ARGS)
	@for target in codec stream connection; do \
	    $(BIN)/python tests/fuzz/guided.py $$target --minutes $(MINUTES) || exit; \
	done

docs: setup  ## build the documentation into build/site
	@$(BIN)/python tools/generate_docs.py
	@$(BIN)/mkdocs build --strict --quiet
	@echo "docs: build/site/index.html"

lock: setup  ## resolve requirements.lock anew (ARGS="--upgrade" for newer versions)
	@$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --all-extras \
	    --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --output-file requirements.lock $(ARGS)
	@$(BIN)/python tools/check_lock.py

clean:  ## remove what was made, except .venv
	@rm -rf build .demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
