# Everything runs in .venv, made from requirements.txt by a Python 3.11.
PYTHON ?= python3.11
PORT ?= 8080
BIN := .venv/bin
# trials start `python` from PATH
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup quickstart test check mutants format clean

setup: .venv/complete  ## the environment

.venv/complete: requirements.txt requirements-demo.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or say make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@# Gradio asks for Pillow below 13; its other packages stand in the file
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-demo.txt
	@# NNI writes a cache of torch's layers when it is first imported; once, here, before processes race for it
	$(BIN)/python -W ignore -c "import nni.nas.nn.pytorch"
	touch $@

quickstart: setup  ## the whole tour on procedural images, under nnictl: about 5 minutes on 2 cores
	@echo "NNI's web server asks for no password: whoever reaches its port can start commands here. It is kept on this"
	@echo "machine, at http://127.0.0.1:$(PORT); nnictl without NODE_OPTIONS (README, Under NNI) opens it to the network."
	NODE_OPTIONS='--require "$(CURDIR)/experiments/loopback.js" --require "$(CURDIR)/experiments/patience.js"' \
	    nnictl create --config experiments/quickstart.yml --foreground --port $(PORT)
	$(BIN)/ganc report runs/quickstart

test: setup  ## the whole test suite, two files at a time: three of them are no faster on two cores
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy ganc_nni benchmarks
	$(BIN)/lint-imports

mutants: setup  ## plant errors and see that tests find them: SAMPLE=150 SEED=1, MODULE=ganc_nni/losses/adversarial.py, AGAIN=1; goes on
	$(BIN)/python tests/mutants.py $(MODULE) $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) \
	    $(if $(AGAIN),--again)

format: setup  ## put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment; runs/ stays
	rm -rf .venv *.egg-info .mypy_cache .pytest_cache .ruff_cache
