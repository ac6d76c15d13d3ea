# Set-up is `make demo` and `make test`; each works alone on a fresh clone with Python 3.11+ and GNU make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests at a time: many of them wait for processes that they started.
JOBS   ?= 2
# What `make install-all` adds: everything but ray, which is large and which one example uses.
EXTRAS ?= onnx,openvino,int8,demo,backbones,hub,fast-eval,tensorboard,completion,docs
STAMP  := $(VENV)/.installed
ALL    := $(VENV)/.installed-all

.PHONY: install install-all lock demo check format lint types imports test test-slow docs bench gpu clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifdef LOCKED  # exactly the files of requirements/dev.lock, each checked; its head names the platform they are for
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
else
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
endif
	touch $@

# The extras too: with them the tests of exports, OpenVINO, timm, the web page and the documentation run.
install-all: $(ALL)

$(ALL): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,$(EXTRAS)]"
	touch $@

lock: install
	$(BIN)/python requirements/make_lock.py

demo: install
	$(BIN)/python tools/train.py configs/demo.yaml
	$(BIN)/python tools/eval.py --coco --draw 12 --report

check: install lint types imports

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

test: install
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(JOBS)

test-slow: install
	$(BIN)/python -m pytest -m slow

# The site, into site/; a warning is an error, and nothing in the site is fetched from elsewhere.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site: site/index.html (its search needs a server: $(BIN)/python -m mkdocs serve)"

$(VENV)/.installed-docs: $(STAMP)
	test -e $(ALL) || $(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $@

# On a machine with a CUDA device: at most eight minutes, figures in gpu-check/gpu_check.json.
gpu: install
	$(BIN)/python tools/gpu_check.py

bench: install
	$(BIN)/python tools/benchmark.py

clean:
	rm -rf build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -type d -exec rm -rf {} +
