# Every target makes the environment it needs: `make demo` and `make test` work on a machine with Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SPREAD := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# One file stays with one process, as its models are made once a file; tests/conftest.py sends the longest first.
ROOM ?=

.PHONY: demo figures test test-fast test-room test-seconds test-slow check format bench wheel clean

demo: $(READY)
	$(BIN)/mas-hooks demo

# Everything but the studies of minutes.
test: $(READY)
	$(BIN)/pytest $(SPREAD) --durations=20

# Before each commit: the shortest files of every room.
test-fast: $(READY)
	$(BIN)/pytest $(SPREAD) --durations=20 --fast

# One room: `make test-room ROOM=hooks`.
test-room: $(READY)
	@test -n "$(ROOM)" -a -d "tests/$(ROOM)" || { echo "name a folder of tests, as in: make test-room ROOM=hooks"; exit 2; }
	$(BIN)/pytest $(SPREAD) --durations=20 tests/$(ROOM)

# The same as `test`, and what each file took goes to tests/seconds.json. On a quiet machine, when tests were added.
test-seconds: $(READY)
	$(BIN)/pytest $(SPREAD) --durations=20 --write-seconds

test-slow: $(READY)
	$(BIN)/pytest -m slow --durations=20

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright -p pyproject.toml --pythonpath $(BIN)/python
	$(BIN)/pytest -q -n 0 tests/package/test_house.py tests/package/test_api.py

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
	rm -rf .venv dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
