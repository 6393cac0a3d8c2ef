# Every target makes the environment it needs: `make demo` and `make test` work on a machine with Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo figures test test-slow check format bench wheel clean

demo: $(READY)
	$(BIN)/mas-hooks demo

test: $(READY)
	$(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=20

test-slow: $(READY)
	$(BIN)/pytest -m slow --durations=20

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -q tests/test_layers.py tests/test_api.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/mas-hooks bench toy-step --json benchmarks/results/toy_step.json
	$(BIN)/mas-hooks bench llm-step --json benchmarks/results/llm_step.json
	$(BIN)/mas-hooks bench activation-store --json benchmarks/results/activation_store.json
	$(BIN)/mas-hooks bench cka --json benchmarks/results/cka.json
	$(BIN)/mas-hooks bench time-to-iia --json benchmarks/results/time_to_iia.json

figures: $(READY)
	$(BIN)/mas-hooks run figures --quick --jobs 2

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
