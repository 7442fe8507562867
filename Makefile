# `make` alone lists what there is. Every recipe is one command of the project.
PYTHON ?= python3
STEPS ?=
ONLY ?=
MODEL ?=
ARGS ?=
# test processes side by side; JOBS=0 runs the tests in one process, as a debugger wants
JOBS ?= auto
# of the default tests one more than processors: one often waits for a sandbox
ONE_MORE = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# processes that the tests start would compile the packages anew each time
export PYTHONDONTWRITEBYTECODE :=
DEFAULT = not slow and not gpu and not models and not containers and not unsloth and not wheel
SLOW = slow and not gpu and not models
PROPERTIES = hypothesis and $(DEFAULT)
# where training and evaluation run: auto (the containers where both images are there), host, container
IN ?= auto
ONLINE ?=
WHEELS ?=
BASE_IMAGE ?=
EXTRAS ?=
PACKAGES ?=
VENV := .venv
BENCH := $(VENV)/bin/sdpo-bench
MODEL_OPTION = $(if $(MODEL),--model_name_or_path $(MODEL))
LAUNCH = $(PYTHON) scripts/launch.py --in $(IN) $(if $(ONLINE),--online)
STEPS_OPTION = $(if $(STEPS),--max_steps $(STEPS))

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Set up

# of the scripts that start containers; they need no packages
.PHONY: python
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9) and "Python must be 3.9 or newer, got " + sys.version.split()[0] + "; set PYTHON=")'

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python must be 3.11 or newer, got " + sys.version.split()[0] + "; set PYTHON=")'
	@echo "making $(VENV), then fetching and installing the packages of requirements.lock; minutes, as pip shows below"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --requirement requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

.PHONY: setup
setup: $(VENV)/.installed  ## make .venv with the locked packages

.PHONY: setup-gpu
setup-gpu: setup  ## add Unsloth to .venv, for the GPU configurations, without moving a locked package
	$(VENV)/bin/python -m pip install --constraint requirements.lock --editable ".[gpu]"

.PHONY: sandbox
sandbox: setup  ## build the sandbox image (PACKAGES="numpy": with packages that programs may import)
	$(BENCH) sandbox build $(if $(PACKAGES),--packages "$(PACKAGES)")

.PHONY: train-image
train-image: python  ## build the training container (WHEELS=DIR without a network, BASE_IMAGE=NAME, EXTRAS=gpu)
	$(PYTHON) scripts/train_image.py $(if $(WHEELS),--wheels $(WHEELS)) $(if $(BASE_IMAGE),--base-image $(BASE_IMAGE)) $(if $(EXTRAS),--extras $(EXTRAS)) $(ARGS)

.PHONY: wheels
wheels: setup  ## fetch a wheel of every locked package into build/wheels (EXTRAS=gpu: of what that needs, too)
	$(VENV)/bin/python -m pip download --dest build/wheels --requirement requirements.lock $(if $(EXTRAS),".[$(EXTRAS)]")

##@ See it work

.PHONY: demo
demo: setup  ## train a tiny policy with GRPO, SDPO and both, and compare them on held-out problems (ARGS=--short: for CI)
	$(BENCH) sandbox build --if-docker
	$(BENCH) demo $(ARGS)

.PHONY: demo-control
demo-control: setup  ## the same with a policy that cannot use a solution in its prompt, so that SDPO has nothing to learn from
	$(BENCH) sandbox build --if-docker
	$(BENCH) demo control $(ARGS)

##@ Train, evaluate, look

.PHONY: train-sdpo
train-sdpo: python  ## train with SDPO (CONFIG=FILE MODEL=DIR STEPS=N ARGS="--key value")
	$(LAUNCH) train sdpo --config $(or $(CONFIG),configs/sdpo.yaml) $(MODEL_OPTION) $(STEPS_OPTION) $(ARGS)

.PHONY: train-grpo
train-grpo: python  ## train with GRPO (the same variables)
	$(LAUNCH) train grpo --config $(or $(CONFIG),configs/grpo.yaml) $(MODEL_OPTION) $(STEPS_OPTION) $(ARGS)

.PHONY: train-hybrid
train-hybrid: python  ## train with both mixed (the same variables)
	$(LAUNCH) train hybrid --config $(or $(CONFIG),configs/hybrid.yaml) $(MODEL_OPTION) $(STEPS_OPTION) $(ARGS)

.PHONY: train-audit
train-audit: python  ## compute every stage of an SDPO run a second time and compare (the same variables)
	$(LAUNCH) train audit --config $(or $(CONFIG),configs/audit.yaml) $(MODEL_OPTION) $(STEPS_OPTION) $(ARGS)

.PHONY: eval
eval: python  ## measure pass@1 (MODEL=DIR ARGS="--adapter DIR --label L")
	$(LAUNCH) eval --model $(or $(MODEL),Qwen/Qwen2.5-0.5B-Instruct) $(ARGS)

.PHONY: reproduce
reproduce: python  ## the whole benchmark, resumable (MODEL=DIR ARGS="--plan", ARGS="--seeds 42,43")
	$(LAUNCH) reproduce $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: plots
plots: setup  ## draw the charts of all runs
	$(BENCH) plots $(ARGS)

##@ Check the code

.PHONY: check
check: setup  ## lint, types, import rules
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# the files of the default tests: in memory where it has 4 GB for them, since a disk takes its time to delete thousands
TEST_FILES ?= $(shell awk '$$2 == "/dev/shm" && $$4 !~ /noexec/' /proc/mounts 2>/dev/null | grep -q . && [ -w /dev/shm ] && \
	df -kP /dev/shm | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}')

.PHONY: test
test: export PYTEST_DEBUG_TEMPROOT = $(TEST_FILES)
# bitsandbytes imports torch's compiler, 1.5 s a process; the slow tests leave it on
test: export TORCHDYNAMO_DISABLE = 1
test: setup  ## run the tests; those of the Docker sandbox if an engine answers
	$(BENCH) sandbox build --if-docker
	$(VENV)/bin/python -m pytest -q -n $(JOBS:auto=$(ONE_MORE)) --maxprocesses 4 --dist worksteal $(ARGS)

.PHONY: test-slow
test-slow: setup  ## run the slow tests: kills at random moments, deliberate bugs, all references
	$(BENCH) sandbox build --if-docker
	@# the lines of the docs need each other and stay in one process
	$(VENV)/bin/python -m pytest -q -n $(JOBS) --maxprocesses 4 --dist loadscope -m "$(SLOW)" --hypothesis-profile=long $(ARGS)
	@# the property tests of `make test` again, with every example; status 5: none is among the chosen ones
	$(VENV)/bin/python -m pytest -q -n $(JOBS) --maxprocesses 4 --dist worksteal -m "$(PROPERTIES)" --hypothesis-profile=long $(ARGS) || [ $$? -eq 5 ]

$(VENV)-unsloth/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)-unsloth
	$(VENV)-unsloth/bin/python -m pip install --requirement requirements.lock --editable ".[gpu]"
	$(VENV)-unsloth/bin/python -m pip uninstall --quiet --yes torchvision  # it fits torch's CUDA builds only
	touch $@

.PHONY: test-unsloth
test-unsloth: $(VENV)-unsloth/.installed  ## compare Unsloth's patched stack with stock transformers, on a CPU, in an environment of its own
	$(VENV)-unsloth/bin/python -m pytest -q -m unsloth tests/unsloth $(ARGS)

build/vllm/.installed: requirements-vllm.lock
	$(PYTHON) -m venv build/vllm
	build/vllm/bin/python -m pip install --no-deps --requirement requirements-vllm.lock
	touch $@

.PHONY: test-vllm
test-vllm: build/vllm/.installed  ## compare verdicts through vLLM and through transformers, on a CPU, in an environment of its own
	build/vllm/bin/python -m pytest -q -m slow tests/vllm $(ARGS)

build/adapters-%/.installed: requirements-adapters.txt pyproject.toml
	$(PYTHON) -m venv build/adapters-$*
	sed -n 's/^$*: //p' requirements-adapters.txt | xargs build/adapters-$*/bin/python -m pip install --quiet --editable . pytest pytest-timeout
	touch $@

# verl asks for other versions of torch's and transformers' neighbours: beside the locked ones it is imported as it is
build/adapters-verl/.installed: requirements-adapters.txt $(VENV)/.installed
	sed -n 's/^verl: //p' requirements-adapters.txt | xargs $(VENV)/bin/python -m pip install --quiet --no-deps --upgrade --target build/adapters-verl
	touch $@

.PHONY: test-adapters
test-adapters: setup build/adapters-inspect/.installed build/adapters-verifiers/.installed build/adapters-verl/.installed  ## our rewards and scorers in verl, Inspect and verifiers, each in an environment of its own
	build/adapters-inspect/bin/python -m pytest -q tests/integrations/test_inspect_ai.py $(ARGS)
	build/adapters-verifiers/bin/python -m pytest -q tests/integrations/test_verifiers.py $(ARGS)
	PYTHONPATH=build/adapters-verl $(VENV)/bin/python -m pytest -q tests/integrations/test_verl.py $(ARGS)

build/uv/bin/uv: | setup
	$(VENV)/bin/python -m pip install --quiet --target build/uv --upgrade uv

.PHONY: test-wheel
test-wheel: setup build/uv/bin/uv  ## the wheel alone: in bare environments of pip and uv, on each Python that is here
	$(VENV)/bin/python -m pytest -q -m wheel tests/wheel $(ARGS)

.PHONY: test-hub
test-hub: setup  ## load data and model from a stand-in of the hub, then offline, then without a network
	$(VENV)/bin/python -m pytest -q -m slow tests/hub $(ARGS)

.PHONY: test-containers
test-containers: setup  ## train across the two containers, and try from inside to get out
	$(VENV)/bin/python -m pytest -q -m containers tests/containers $(ARGS)

.PHONY: mutate
mutate: setup  ## plant small bugs one at a time and list those that the tests miss (ONLY="losses sql", ARGS=--again)
	$(VENV)/bin/python -m scripts.mutation $(ONLY) $(ARGS)

.PHONY: check-extra
check-extra: setup build/uv/bin/uv  ## check that the extra `gpu` fits the locked packages on each Python; install nothing
	$(VENV)/bin/python scripts/check_extra.py --uv build/uv/bin/uv
	$(VENV)/bin/python -m pip install --quiet --dry-run --constraint requirements.lock --editable ".[gpu]"

.PHONY: docs
docs: setup  ## write docs/api.md, and build the documentation's site into build/site, links checked
	$(VENV)/bin/python scripts/api_page.py
	$(VENV)/bin/python -m pip install --quiet --target build/mkdocs --upgrade --requirement requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=build/mkdocs $(VENV)/bin/python -m mkdocs build --strict --quiet

.PHONY: lock
lock: setup  ## print the versions in .venv, for requirements.lock
	$(VENV)/bin/python -m pip freeze --exclude-editable

##@ Measure

.PHONY: gpu-check
gpu-check: setup  ## check and measure this project on a CUDA machine (MODEL=DIR, or ARGS="--device cpu --tiny")
	$(VENV)/bin/python scripts/gpu_check.py $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: soak
soak: setup  ## run 100,000 programs in a row and check that nothing grows
	$(BENCH) sandbox soak --executions 100000 --max-seconds 900

.PHONY: bench-loss
bench-loss: setup  ## measure the loss's memory and time: plain, ours, TRL's (minutes)
	$(VENV)/bin/python -m benchmarks.loss $(ARGS)

.PHONY: bench-step
bench-step: setup  ## measure the time of a training step: ours, ours with every row computed whole, TRL's (MODEL=DIR; tens of minutes)
	$(VENV)/bin/python -m benchmarks.step $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: bench-analysis
bench-analysis: setup  ## measure journal, ingest, views and report at 10^4, 10^5 and 10^6 rollouts (ARGS="--size N")
	$(VENV)/bin/python -m benchmarks.warehouse --chart-dir results/bench --json results/bench/bench.json $(ARGS)

.PHONY: simulate
simulate: setup  ## simulate how often a verdict is wrong: false positives, coverage and power (minutes)
	$(VENV)/bin/python -m benchmarks.verdict $(ARGS)
