# Caffe for today's GPUs, with Relay Backpropagation. `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.built
SOURCES := $(wildcard python/caffe/kernels/native/* layers/native/*)
MODEL  ?= resnet50_relay
GPU    ?= auto
BUILD  ?= build

# With CAFFE_ROOT (an original BVLC Caffe) the driver runs under that Caffe's own Python.
PY := PYTHONPATH=python:. $(if $(CAFFE_ROOT),$(PYTHON),$(VENV)/bin/python)
PROGRAMS := $(addprefix tools/,caffe classification compute_image_mean convert_imageset \
  convert_leveldb extract_features upgrade_net_proto_binary upgrade_net_proto_text \
  upgrade_solver_proto_text) $(addprefix examples/,cifar10/convert_cifar_data \
  cpp_classification/classification mnist/convert_mnist_data siamese/convert_mnist_siamese_data)
ARRAY_TESTS := $(patsubst %,tests/test_%.py,arrays backward catalogue changing_shapes \
  frozen_and_in_place keep_blobs pycaffe python_layer random_cases solver)
GPU_TESTS := arrays backward catalogue changing_shapes device flow_plan frozen_and_in_place \
  keep_blobs kernels not_finite optimisations probe pycaffe relay_golden replay scene_data schedules \
  solver training_curves forks_definitions fork_nets
NEEDS := $(if $(CAFFE_ROOT),,$(READY))
# Under CI no test of compiled code may be skipped.
JOBS ?= auto
PYTEST := $(VENV)/bin/python -m pytest $(if $(CI),--require-native)

# What a command needs and was not given is one line, with the command that is right.
newest_run = $(patsubst %/run.json,%,$(firstword $(shell ls -td runs/*/run.json 2>/dev/null) runs/...))
named_run = $(if $(strip $(RUN)),"$(RUN)",$(error name the folder of a run: make $@ RUN=$(newest_run)))
named_image = $(if $(strip $(IMAGE)),"$(IMAGE)",$(error name a photo or a folder: make $@ RUN=$(RUN) IMAGE=photo.jpg))

# A mistyped variable would train something else than what was meant.
VARIABLES := ARGS BUILD CAFFE_ROOT DATA FEED GPU IMAGE JOBS MODEL ORACLE_RUN OUT PRECISION PROFILE \
  PYTHON RESUME RUN SCENE SET VENV WEIGHTS
others := $(strip $(foreach name,$(filter-out $(VARIABLES),$(.VARIABLES)),$(if $(findstring \
  command line,$(origin $(name))),$(name))))
mistyped := $(if $(others),$(shell $(PYTHON) -c 'import sys; from difflib import get_close_matches; \
  found = [(name, get_close_matches(name.upper(), "$(VARIABLES)".split(), 1, 0.75)) for name in sys.argv[1:]]; \
  print(*("no variable %r: did you mean %r?" % (name, *match) for name, match in found if match))' $(others)))
$(if $(mistyped),$(error $(mistyped)))

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: MODEL=resnet50_relay DATA=folder GPU=auto|none|0 PROFILE=short|full"
	@echo "           RUN=folder IMAGE=photo.jpg WEIGHTS=a.caffemodel RESUME=auto|b.solverstate"
	@echo "           SET='base_lr=0.1' PRECISION=fp32|tf32|bf16 CAFFE_ROOT=/opt/caffe"
	@echo "           FEED=scene|data SCENE='class_aware=false color_file='"

setup: $(READY) ## make .venv with the pinned packages, and compile the kernels

$(VENV)/.ready: requirements.txt requirements-dev.txt pyproject.toml
	@.ci/environment $(PYTHON) $(VENV)
	@$(MAKE) --silent programs
	@touch $@

programs: ## put Caffe's programs where its shell scripts look for them (BUILD=/path/to/caffe/build)
	@mkdir -p $(sort $(dir $(PROGRAMS:%=$(BUILD)/%)))
	@for program in $(PROGRAMS); do for link in $(BUILD)/$$program.bin $(BUILD)/$$program; do \
	  if [ -L $$link ]; then rm $$link; fi; \
	  ln -s $(abspath $(VENV))/bin/$${program##*/} $$link || exit; done; done

# Kernels are for speed alone: where they cannot be compiled, PyTorch and OpenCV do the same work.
$(READY): $(VENV)/.ready $(filter %.c %.cpp %.h %.py,$(SOURCES))
	@PYTHONPATH=python:. $(VENV)/bin/python -m caffe.kernels.native.build
	@PYTHONPATH=python:. $(VENV)/bin/python -m relaybp.layers.native.build
	@touch $@

build: $(NEEDS) ## compile what is not yet; say which devices and libraries the engine sees
	@$(PY) tools/build_info.py

train: $(NEEDS) ## train MODEL (DATA=, FEED=, SCENE=, GPU=, PRECISION=, PROFILE=, WEIGHTS=, RESUME=, RUN=, SET=)
	@$(PY) tools/train.py --model "$(MODEL)" --gpu "$(GPU)" \
	  $(if $(DATA),--data "$(DATA)") $(if $(PROFILE),--profile $(PROFILE)) \
	  $(if $(FEED),--feed $(FEED)) $(foreach field,$(SCENE),--scene $(field)) \
	  $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(RESUME),--snapshot "$(RESUME)") \
	  $(if $(PRECISION),--precision $(PRECISION)) \
	  $(if $(RUN),--out "$(RUN)") $(foreach setting,$(SET),--set $(setting)) $(ARGS)

evaluate: $(NEEDS) ## test RUN's newest snapshot (ARGS='--protocol vgg' for more than a crop; RUN="a@vgg b": ensembles)
	@$(PY) tools/evaluate.py $(named_run) --gpu "$(GPU)" $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(ARGS)

classify: $(NEEDS) ## say what is on IMAGE, a photo or a folder of them, by the newest net of RUN
	@$(PY) tools/classify.py $(named_run) $(named_image) --gpu "$(GPU)" \
	  $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(ARGS)

onnx: $(NEEDS) ## write the newest net of RUN as RUN/net.onnx
	@$(PY) tools/export_onnx.py $(named_run) $(ARGS)

smoke: $(READY) ## run every script of tools/tables/ and tools/figures/ on drawn scenes (OUT=runs/smoke), and the first screen of README.md
	$(PYTEST) -m heavy tests/test_strangers_hour.py
	@for script in tools/tables/*.sh tools/figures/*.sh; do SCALE=smoke OUT=$(or $(OUT),runs/smoke) bash $$script || exit 1; done

plot: $(READY) ## plot the curves and probes of RUN="runs/... [runs/...]"
	@$(VENV)/bin/python tools/plot.py $(named_run) $(ARGS)

report: $(NEEDS) ## write all that is known of RUN="runs/... [runs/...]" as one HTML file (ARGS=--watch)
	@$(PY) tools/report.py $(named_run) $(ARGS)

plan: $(NEEDS) ## print and draw what each loss of MODEL trains (ARGS='--auto K' proposes losses)
	@$(PY) tools/plan.py "$(MODEL)" $(ARGS)

models: $(NEEDS) ## list the models that MODEL= can name
	@$(PY) tools/list_models.py

demo: $(NEEDS) ## draw the demo scenes into data/demo
	@$(PY) data_prep/demo_scenes.py data/demo

prototxts: $(READY) ## write prototxt/*/ from their generators
	@$(PY) -m relaybp.prototxt.generate

test: $(READY) ## run the test suite, a process a core (ARGS= JOBS=0: in one process)
	$(PYTEST) -n $(JOBS) --dist loadfile $(ARGS)

test-heavy: $(READY) ## run what the suite leaves out: every network, each schedule
	$(PYTEST) -m heavy

test-arrays: $(READY) ## run what compares with BVLC Caffe with all arrays held, and layer by layer
	$(VENV)/bin/python -m pytest --arrays held $(ARRAY_TESTS) tests/test_replay.py
	$(VENV)/bin/python -m pytest --arrays read $(ARRAY_TESTS)

test-replay: $(READY) ## run what compares with BVLC Caffe with every pass recorded and replayed, as on a GPU
	$(VENV)/bin/python -m pytest --replay $(addprefix tests/test_,$(addsuffix .py, arrays changing_shapes \
	  pycaffe probe frozen_and_in_place keep_blobs catalogue random_cases backward flows flow_plan schedules \
	  relay_golden solver scene_data optimisations python_layer odd_values forks_definitions fork_nets))

gpu-test: $(READY) ## run what compares with BVLC Caffe and autograd on a GPU (GPU=0)
	$(VENV)/bin/python -m pytest --gpu $(patsubst auto,0,$(GPU)) $(GPU_TESTS:%=tests/test_%.py)

gpu-check: $(READY) ## all that a GPU must show, in 15 minutes, into a file (GPU=none: try it on the CPU)
	$(VENV)/bin/python benchmarks/gpu_check.py --gpu $(patsubst auto,0,$(GPU)) \
	  --tests $(if $(filter none,$(GPU)),device not_finite,$(GPU_TESTS)) $(ARGS)

wheel-test: $(READY) ## build the wheel, install it into an environment of its own, and use it
	.ci/wheel

coverage: $(READY) ## run the test suite and print which lines it reaches
	$(PYTEST) --cov --cov-report=term

lint: $(READY) ## run the linter, check the format and the types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

oracle-test: $(READY) ## compare with a live BVLC Caffe: ORACLE_RUN="command prefix that runs in it"
	$(VENV)/bin/python tests/oracle/live.py
	$(VENV)/bin/python -m pytest tests/oracle -m oracle

clean: ## delete caches; keep runs/, .venv and data/
	rm -rf .mypy_cache .pytest_cache .ruff_cache

TARGETS := help setup programs build train evaluate classify onnx smoke plot report plan models demo \
  prototxts test test-heavy test-arrays test-replay gpu-test gpu-check wheel-test coverage lint \
  oracle-test clean
.PHONY: $(TARGETS)

.DEFAULT:
	@$(PYTHON) -c 'import sys; sys.path.insert(0, "python"); from caffe_plain.errors import nearest; \
	  sys.exit("no target %r: %s; make help says what each does" % (sys.argv[1], nearest(sys.argv[1], sys.argv[2:])))' \
	  '$@' $(TARGETS)
