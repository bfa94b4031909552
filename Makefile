# Every target makes the environment it needs by itself. `make` alone lists them.
VENV := .venv
READY := $(VENV)/ready
BIN := $(VENV)/bin
SEED ?= 0
DIR ?= runs/demo
N ?= 2000
FIRST ?= 2000

# Without compiled modules every process would compile torch and transformers anew: 7 seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo demo-http test test-deploy kube-tools lint bench study rebirth simulate chaos outages watch-check dashboards images-check real real-vllm real-vllm-whole kafka kafka-jars prometheus chromium report-pictures proto lock clean

help:            ## what there is to make
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(READY)   ## fuse three small models into a fourth (3 minutes), into runs/demo; SEED=, DIR=
	@$(BIN)/bohdi run configs/demo.yaml --dir $(DIR) --seed $(SEED)

demo-http: $(READY)  ## the demo over HTTP: models in other processes, faults in 5% of the calls, into runs/demo-http; SEED=
	@$(BIN)/python -W ignore -m tests.demo_http --seed $(SEED)

# Three at a time on two cores, for a test waits much: for brokers, processes and disks. A file's tests stay together,
# and the files go in the order that tests/conftest.py gives them.
test: $(READY) kafka-jars prometheus  ## lint, then all tests
	@$(MAKE) --no-print-directory -j 3 lint kube-tools chromium
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-deploy: kafka-jars kube-tools  ## the manifests alone: they render, are valid, agree with the code (part of make test)
	$(BIN)/python -m pytest tests/deploy

kube-tools: $(READY)
	@tests/deploy/tools.sh $(VENV)

lint: $(READY)   ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) kafka-jars  ## the table of ratios, into benchmarks/results.json
	$(BIN)/python -m benchmarks

study: $(READY)  ## the comparison of methods over seeds (an hour or two), into docs/study.md
	$(BIN)/python -m benchmarks.study

rebirth: $(READY) ## simulate Introspection-Rebirth (10 seconds), into docs/rebirth.md
	$(BIN)/python -m benchmarks.rebirth_study

simulate: $(READY) ## N schedules of the simulator from number FIRST of SEED on (2,000 others are in make test)
	$(BIN)/python -m tests.simulation --schedules $(N) --seed $(SEED) --first $(FIRST)

chaos: $(READY) kafka-jars  ## kill services and broker under load, account for every record; SEED=
	$(BIN)/python -W ignore -m tests.chaos --seed $(SEED)

outages: $(READY) kafka-jars  ## broker and models away for two minutes, at the start and in the middle (4 minutes)
	$(BIN)/python -m pytest tests/kafka_runs/test_outages.py

watch-check: $(READY) kafka-jars prometheus  ## a run on Kafka under Prometheus: panels, alerts, docs/pictures (8 minutes)
	$(BIN)/python -W ignore -m tests.monitoring

dashboards: $(READY)  ## the files that are made of the metrics' and panels' code, into k8s/monitoring and docs
	$(BIN)/python -m bohdi_monitoring

kafka: $(READY) kafka-jars  ## a Kafka broker on 127.0.0.1:9092, until Ctrl-C
	@$(BIN)/python -m devbroker

kafka-jars: $(READY)
	@devbroker/install.sh
	@$(BIN)/python -m devbroker.prepare

prometheus:
	@requirements/prometheus.sh

chromium:
	@requirements/chromium.sh

report-pictures: $(READY) chromium  ## the report of the demo in DIR= in both colours, into docs/pictures
	@$(BIN)/python -m tests.report $(DIR)

images-check: $(READY) kafka-jars  ## build the images, a run through their containers (podman; 15 minutes); BASE=debian: no registry
	$(BIN)/python -W ignore -m tests.images $(if $(BASE),--base $(BASE)) $(if $(BUILT),--built)

real: $(READY)   ## one round on a real instruct model on this CPU (93 MB, 10 minutes), into runs/real
	@requirements/real.sh $(VENV)
	@$(BIN)/python -W ignore -m tests.real

real-vllm: $(READY) ## two rounds on it behind a real vLLM that is killed on the way (6 GB, 20 minutes), into runs/real-vllm
	@requirements/real.sh $(VENV)
	@requirements/real-vllm.sh $(VENV)
	@$(BIN)/python -W ignore -m tests.real.vllm

real-vllm-whole: $(READY) ## whole weights changed on a real vLLM, which is killed on the way (10 minutes)
	@requirements/real.sh $(VENV)
	@requirements/real-vllm.sh $(VENV)
	@$(BIN)/python -W ignore -m tests.real.vllm_whole

proto: $(READY)  ## generate the events' code from proto/
	PYTHON=$(BIN)/python proto/generate.sh

lock: $(READY)   ## renew the pins in requirements/
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --all-extras \
	    --python-version 3.11 --upgrade pyproject.toml -o requirements/dev.txt
	requirements/images.sh $(VENV)

clean:           ## remove the environment, caches and runs
	rm -rf $(VENV) .kafka .prometheus .chromium .kube-tools .real runs build dist benchmarks/work .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml
	@requirements/environment.sh $(VENV)
