# Each target does all of its own set-up: only Python >= 3.11 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOOK := $(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

.PHONY: demo test test-all test-gpu bench references check-references catalogue verification lint format clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("lossdsl needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)  ## check, compile and train with focal loss on real data
	$(BIN)/python examples/demo.py

test: $(STAMP)  ## style, types and every test but the long sweeps
	$(LOOK)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not gpu" --durations=15

test-all: $(STAMP) check-references  ## the long sweeps too, and the libraries again
	$(LOOK)
	$(BIN)/python -m pytest -n auto -m "not gpu"

test-gpu: $(STAMP)  ## every loss of the catalogue on a CUDA device
	$(BIN)/python -m pytest -n auto -m gpu

bench: $(STAMP)  ## ratios against eager and torch.compile, in one process
	$(BIN)/python benchmarks/peers.py

REFERENCES := .venv-references/.installed

$(REFERENCES): tests/libraries/requirements.txt
	$(PYTHON) -m venv .venv-references
	.venv-references/bin/pip install --quiet torch==2.13.0
	.venv-references/bin/pip install --quiet jax==0.10.2 optax==0.2.8 scipy scikit-learn tqdm packaging "numpy<2.4"
	.venv-references/bin/pip install --quiet --no-deps lightning-utilities kornia_rs -r tests/libraries/requirements.txt
	.venv-references/bin/pip install --quiet cvxpy==1.9.3
	touch $@

references: $(REFERENCES)  ## what other libraries give: tests/libraries
	.venv-references/bin/python tests/libraries/run.py
	.venv-references/bin/python tests/libraries/statements.py
	.venv-references/bin/python tests/libraries/convexity.py

check-references: $(REFERENCES)  ## whether they still give what is kept
	.venv-references/bin/python tests/libraries/run.py --check

catalogue: $(STAMP)  ## the generated pages of docs/catalogue
	$(BIN)/python docs/make_catalogue.py

verification: $(STAMP)  ## what is decided of the catalogue: docs/verification.md
	$(BIN)/python docs/make_verification.py

lint: $(STAMP)
	$(LOOK)

format: $(STAMP)
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-references build dist .pytest_cache .mypy_cache .ruff_cache
