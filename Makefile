# `make demo` and `make test` set up .venv on first use, then run. Needs Python 3.11 to 3.13 only.

PYTHON ?= python3
PYTHONS := 3.11 3.12 3.13
VENV := .venv
# What is installed, by its hashes: the OpenMMLab libraries, then all the rest.
LIBRARIES := --no-deps --require-hashes -r requirements/lock-openmmlab.txt
TOOLS := --no-deps --require-hashes -r requirements/lock.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile
DONE := $(VENV)/.done
UNFINISHED := $(VENV)/.unfinished

.PHONY: demo test test-upstream lint docs setup lock audit licences clean

setup: $(DONE)

# LOLViT-X on real handwritten digits: train, then test the last checkpoint.
demo: $(DONE)
	$(BIN)/python tools/train.py configs/cls/lolvit_x_digits.py --work-dir work_dirs/demo
	$(BIN)/python tools/test.py configs/cls/lolvit_x_digits.py \
	  "$$(cat work_dirs/demo/last_checkpoint)" --work-dir work_dirs/demo

# Every test, the slow ones too, a file at a time on each core.
test: $(DONE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '' -n auto --dist loadfile

# Every test over the upstream libraries, in an environment of its own.
test-upstream:
	$(MAKE) test VENV=.venv-upstream PYTHONS=3.11 \
	  LIBRARIES='--no-deps -r requirements/upstream.txt' \
	  TOOLS='$(addprefix -r requirements/,upstream-torch.txt benchmark.txt dev.txt)'

lint: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The documentation, in site/index.html; a broken link is an error.
docs: $(DONE)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Write the lock files from the pins, with the hashes of every platform's files; needs `uv`.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --custom-compile-command 'make lock'
lock:
	grep '^onedl' requirements/openmmlab.txt | $(COMPILE) --no-deps - -o requirements/lock-openmmlab.txt
	$(COMPILE) $(addprefix --override requirements/,common.txt demo.txt overrides.txt) \
	  $(patsubst %,--no-emit-package onedl-%,mmcv mmdetection mmengine mmpretrain mmsegmentation) \
	  $(addprefix requirements/,openmmlab.txt torch.txt benchmark.txt dev.txt demo.txt) \
	  -o requirements/lock.txt

# Known weaknesses of what is locked; needs `pip-audit`, and to reach pypi.org.
audit:
	pip-audit --no-deps --disable-pip -r requirements/lock-openmmlab.txt -r requirements/lock.txt
# The licences of what is installed.
licences: $(DONE)
	$(BIN)/python requirements/licences.py > docs/licences.md

clean:
	rm -rf .venv .venv-upstream build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A set-up that was cut short leaves .unfinished (or no working pip) and starts over.
# The pure stack goes in before torch and past pip's cache, which may hold an mmcv
# compiled for another torch; a compiled mmcv that is already installed stays.
$(DONE): setup.py $(wildcard requirements/*.txt)
	@if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $(PYTHONS) 2>/dev/null || { \
	    echo "$(VENV) needs Python $(PYTHONS); $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	    echo "Name another one: make PYTHON=python3.11 ..." >&2; exit 1; }; \
	  echo "Creating $(VENV) with $$($(PYTHON) --version)"; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && $(PYTHON) -m venv $(VENV); \
	fi
	@rm -f $(DONE) && touch $(UNFINISHED)
	@echo 'Installing the OpenMMLab libraries (1/3, about a minute)'
	@$(PIP) --no-cache-dir $(LIBRARIES)
	@echo 'Installing PyTorch and the tools (2/3, about two minutes)'
	@$(PIP) $(TOOLS)
	@$(PIP) --no-deps -r requirements/demo.txt
	@echo 'Installing mmlolvit (3/3)'
	@$(PIP) --no-deps --editable .
	@$(BIN)/python -m mmlolvit.doctor
	@mv $(UNFINISHED) $(DONE)
