# `make demo` and `make test` set up .venv on first use, then run. Needs Python 3.11 to 3.13 only.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile
DONE := $(VENV)/.done
UNFINISHED := $(VENV)/.unfinished

.PHONY: demo test lint setup clean

setup: $(DONE)

# LOLViT-X on real handwritten digits: train, then test the last checkpoint.
demo: $(DONE)
	$(BIN)/python tools/train.py configs/cls/lolvit_x_digits.py --work-dir work_dirs/demo
	$(BIN)/python tools/test.py configs/cls/lolvit_x_digits.py \
	  "$$(cat work_dirs/demo/last_checkpoint)" --work-dir work_dirs/demo

# Every test, the slow ones too.
test: $(DONE)
	$(BIN)/python -m pytest -m ''

lint: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A set-up that was cut short leaves .unfinished (or no working pip) and starts over.
# The pure stack goes in before torch and past pip's cache, which may hold an mmcv
# compiled for another torch; a compiled mmcv that is already installed stays.
$(DONE): setup.py $(wildcard requirements/*.txt)
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	    echo "mmlolvit needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	    echo "Name another one: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }; \
	  echo "Creating $(VENV) with $$($(PYTHON) --version)"; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV); \
	fi
	@rm -f $(DONE) && touch $(UNFINISHED)
	@echo 'Installing the OpenMMLab libraries (1/3, about a minute)'
	@$(PIP) --no-cache-dir --no-deps -r requirements/openmmlab.txt
	@echo 'Installing PyTorch and the tools (2/3, about two minutes)'
	@$(PIP) -r requirements/torch.txt -r requirements/benchmark.txt -r requirements/dev.txt
	@echo 'Installing mmlolvit (3/3)'
	@$(PIP) --no-deps --editable .
	@$(BIN)/python -m mmlolvit.doctor
	@mv $(UNFINISHED) $(DONE)
