# Everything happens in .venv, made on first use from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
FOR ?=
BROKER ?=
FULL ?=
ONLY ?=
PARTS ?=
N ?= 5000
SCENARIO ?= simulators/scenarios/demo.yaml
OUT ?= var/golden.jsonl
NODE_OPCUA := tests/counterparts/node_opcua

.PHONY: demo test cases golden random-shifts bench check lint types counterparts lock clean

demo: .venv/ready
	$(BIN)/gateway demo $(if $(FOR),--for $(FOR)) $(if $(BROKER),--broker $(BROKER))

test: lint types
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Any scenario in the simulators' format, in process and as fast as it goes; the capture as JSON lines.
golden: .venv/ready
	$(BIN)/python -m tests.golden $(SCENARIO) $(OUT)

# More random shifts than the suite plays, of other seeds each time: make random-shifts N=20000
random-shifts: .venv/ready
	SHIFTS=$(N) $(BIN)/python -m pytest tests/golden/test_random_shifts.py --timeout 0 --hypothesis-seed=$$(date +%s)

# The acceptance lists, one line per case: make cases, make cases FULL=1, make cases ONLY="R08 S05"
cases: .venv/ready
	$(if $(FULL),FULL=$(FULL)) $(BIN)/python -m tests.cases $(ONLY)

# How fast it is, in one run; PARTS="core modbus commands backlog opcua --rates 1000,10000 --seconds 5" chooses. Needs a mosquitto.
bench: .venv/ready
	$(BIN)/python -m bench $(PARTS)

check: .venv/ready
	$(BIN)/gateway check -c config/

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

# The second OPC UA server, of node-opcua, for tests/counterparts (needs node 20 or newer and npm).
counterparts: $(NODE_OPCUA)/node_modules/.package-lock.json

$(NODE_OPCUA)/node_modules/.package-lock.json: $(NODE_OPCUA)/package-lock.json
	cd $(NODE_OPCUA) && npm ci --no-progress
	touch $@

.venv/ready: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv/ready

# After a change of the dependencies in pyproject.toml (needs uv).
lock:
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev --no-emit-package shopfloor-gateway \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis var $(NODE_OPCUA)/node_modules
