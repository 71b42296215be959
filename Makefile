# Every target has a `##` line; `make help` shows them.
PYTHON ?= python3
VENV := .venv/bin
PYTEST := $(VENV)/python -m pytest
# Tests wait more than they compute; each of these processes has servers of its own.
PARALLEL := -n 3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## install everything that demo and tests need (skips what is there)
	@$(PYTHON) tools/setup.py

.PHONY: lock
lock: setup ## resolve the dependencies anew into requirements/*.txt (hashes, no addresses)
	@$(VENV)/python tools/lock.py

.PHONY: demo
demo: ## see the main job in a minute: real queues, workers scaled from zero, no cluster
	@$(PYTHON) tools/setup.py --only python
	@$(VENV)/toril dev -f examples/zettanote/ --demo

.PHONY: lint
lint: setup ## ruff (rules and format), import layers, twins without an event loop, Lua
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/lint-imports
	$(VENV)/python tools/sync_twins.py --check
	@$(VENV)/python -m tools.lua_lint

.PHONY: types mypy pyright
types: mypy pyright ## mypy strict on everything, pyright on the public API
mypy: setup
	$(VENV)/mypy src operator/src tests tools benchmarks
pyright: setup
	$(VENV)/pyright

.PHONY: unit
unit: setup ## pure tests: no Redis, no cluster
	$(PYTEST) tests/unit tests/contract

.PHONY: integration
integration: setup ## engine, worker and command line on a real Redis
	$(PYTEST) $(PARALLEL) tests/fundamentals tests/integration

.PHONY: peers
peers: setup ## both directions with the real bullmq packages, 5 and 6
	$(PYTEST) $(PARALLEL) tests/peers

.PHONY: compatibility
compatibility: setup ## run what shows that BullMQ and Toril agree, and write docs/bullmq-compatibility.md
	$(PYTEST) $(PARALLEL) -q -m "wire and not soak" --junit-xml build/compatibility.xml tests/unit tests/integration tests/peers
	@$(VENV)/python -m tools.compatibility build/compatibility.xml

.PHONY: kube
kube: setup ## operator on a real Kubernetes API server (built from Go modules, no root needed)
	@PYTHONPATH=tests $(VENV)/python -m support.cluster_build
	$(PYTEST) $(PARALLEL) --dist worksteal tests/kube

.PHONY: test
test: ## everything but the real node
	@$(MAKE) -j2 lint types unit
	@$(MAKE) integration
	@$(MAKE) -j2 peers kube

.PHONY: soak
soak: setup ## long runs of chaos, about half an hour (SOAK_SCALE=0.1 for a tenth)
	$(PYTEST) -m soak -s --timeout=3600 tests

.PHONY: e2e
e2e: setup ## the whole product on a real single-node Kubernetes (root on Linux)
	@$(PYTHON) tools/setup.py --only node
	@PYTHONPATH=tests $(VENV)/python -m support.cluster_build
	@PYTHONPATH=tests $(VENV)/python -m support.cluster_images
	$(PYTEST) -n 2 tests/e2e --timeout=900

.PHONY: cluster
cluster: ## start a real Kubernetes and stay until Ctrl-C (as root on Linux with a node)
	@$(PYTHON) tools/setup.py --only python node
	@PYTHONPATH=tests $(VENV)/python -m support.cluster_command

.PHONY: bench
bench: setup ## side by side with BullMQ 6, about ten minutes; writes the table of docs/performance.md
	@PYTHONPATH=tests:. $(VENV)/python -m benchmarks

.PHONY: bench-versions
bench-versions: setup ## side by side with another checkout: make bench-versions OTHER=../earlier
	@PYTHONPATH=tests:. $(VENV)/python -m benchmarks.versions $(OTHER)

.PHONY: crds
crds: setup ## copy the CRDs from crds/ into the chart, and their fields into docs/
	@$(VENV)/python tools/crds.py
	@$(VENV)/python tools/crd_reference.py

.PHONY: sync
sync: setup ## write src/toril/client/sync/, the classes for code without an event loop
	@$(VENV)/python tools/sync_twins.py

.PHONY: wheels
wheels: setup ## fetch what the images are installed from into build/wheels
	@$(VENV)/python tools/images.py wheels

.PHONY: images
images: wheels ## build the images with buildah or docker (BASE_IMAGE=… for another base)
	@$(VENV)/python tools/images.py build $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE))

.PHONY: clean
clean: ## remove what builds and tests left in this checkout (caches outside it stay)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis tests/peers/node_modules
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
