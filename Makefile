# Every target makes its own virtual environment and installs what it needs.
#   make demo    the whole way on this machine, with a summary at its end
#   make test    static checks and all tests
#   make check   static checks only: format, lint, types, imports, dead code
#   make faults  every promise of docs/reliability.md with its full numbers, and that page (hours)
#   make fuzz    readers of bundles, configurations and payloads, MINUTES=10 each (x86-64)
#   make docs    the documentation as a site in build/site, strictly, and where its links lead
#   make blocks  type every shell block of the documentation in a house made of software (as root)
#   make recordings  record what commands show in a terminal, as docs/recordings.md (as root)
#   make tutorial  type the tutorial into a fresh Debian and take its times (as root, network)
#   make homeassistant  what a device tells, told to a real Home Assistant (Python 3.11, network)
#   make lock    lock what is installed, with digests, as CycloneDX too, and its licences (network)
#   make audit   ask whether anything that is locked has a known weakness (network)
#   make wheel   the wheel in dist/, the same bytes for the same commit
#   make dist    the wheel and the source archive in dist/, as a package index takes them
#   make deb     the Debian package of the device's half in dist/, and lintian's word on it (as root)
#   make install-test  install, upgrade, go back, take away in a booted Debian (as root); build/install/log
#   make container  the workstation's image, built and used, its base made here (as root, network); BUILD=options
#   make bench   every figure of the documentation, one after the other (long)
#   make vm      the unit in a booted machine (long, needs root); its log: build/vm/log
#   make powercuts  that machine's power cut CUTS times while the daemon works (hours, needs root)
#   make starter train the network that is shipped in the package (long)
#   make sizes   cheaper networks from the best one, for smaller boards (long)
#   make arm64   the device's half on aarch64, emulated, against this machine (as root)
#   make rooms   render SCENES doors and windows as a data set, in build/rooms (long; Python 3.11)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# WORKERS=N tests run side by side, a file each; 0 = one after the other.
WORKERS ?= auto
# TORCH_INDEX=URL takes PyTorch from another index, where the usual one would bring CUDA.
TORCH_INDEX ?=
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := transom train export edge_runtime fleet demo tests benchmarks tools docs

.PHONY: demo test check faults fuzz docs blocks recordings tutorial homeassistant lock audit wheel dist deb install-test container bench vm powercuts starter sizes arm64 rooms clean help
help:
	@sed -n '2,26s/^# *//p' Makefile

$(VENV)/.made:
	@PYTHON=$(PYTHON) sh tools/system-packages.sh venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.made constraints.txt
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) --no-deps torchvision timm
	$(PIP) --editable '.[dev,demo,backbones]'
	@touch $@

demo: $(VENV)/.demo
	@sh tools/system-packages.sh demo
	$(BIN)/transom demo

check: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

test: check
	@sh tools/system-packages.sh test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		--durations 20 --durations-min 5

# FAULTS=20 takes 20 % of the full numbers.
FAULTS ?= full
faults: $(VENV)/.dev
	@sh tools/system-packages.sh test
	OMP_NUM_THREADS=1 $(BIN)/pytest --faults $(FAULTS) --faults-record -p no:randomly

# What reaches new lines is kept in build/fuzz, so that a later run begins where this one ended.
fuzz: MINUTES = 10
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.faults.fuzzing --minutes $(MINUTES)

docs: $(VENV)/.dev
	$(BIN)/python -m tools.reference
	$(BIN)/python -m sphinx -c docs/site -b html -q -n -W --keep-going . build/site
	$(BIN)/python -m tools.links
	@echo "build/site/index.html"

# PAGES="docs/setup.md …" types those of some pages only; what they made: build/blocks/page.
PAGES ?=
blocks: $(VENV)/.dev
	@sh tools/system-packages.sh test
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m tools.run_blocks $(PAGES)

recordings: $(VENV)/.dev
	@sh tools/system-packages.sh test
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m tools.recordings

tutorial: $(VENV)/.dev
	@sh tools/system-packages.sh tutorial
	nice -n 10 $(BIN)/python -m tools.tutorial

# The newest core for Python 3.11, in an environment of its own. HA_PICTURES=FOLDER takes screenshots too.
HA_PICTURES ?=
build/homeassistant/.made: tools/homeassistant/requirements.txt
	python3.11 -m venv build/homeassistant
	build/homeassistant/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

homeassistant: build/homeassistant/.made $(VENV)/.dev
	@sh tools/system-packages.sh test
	$(BIN)/python -m tools.homeassistant build/homeassistant $(if $(HA_PICTURES),--pictures $(HA_PICTURES))

# Its own environment: what locks and audits is no part of what is locked and audited.
build/supply/.made:
	$(PYTHON) -m venv build/supply
	build/supply/bin/pip install --quiet --disable-pip-version-check uv cyclonedx-bom pip-audit
	@touch $@

lock: build/supply/.made $(VENV)/.dev
	build/supply/bin/python tools/lock.py
	$(BIN)/python -m tools.licences

audit: build/supply/.made
	build/supply/bin/python tools/audit.py

wheel: $(VENV)/.dev
	$(BIN)/python tools/wheel.py

dist: $(VENV)/.dev
	$(BIN)/python tools/wheel.py --archive
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

deb: $(VENV)/.dev
	@sh tools/system-packages.sh deb
	$(BIN)/python -m tools.deb

install-test: $(VENV)/.dev
	@sh tools/system-packages.sh install-test
	$(BIN)/python -m tools.install_test

container: $(VENV)/.dev
	@sh tools/system-packages.sh container
	$(BIN)/python -m tools.container --build='$(BUILD)'

bench: $(VENV)/.dev
	@sh tools/system-packages.sh test
	for script in $$(grep -l '^if __name__' benchmarks/*.py | xargs grep -L '^A step of'); do echo "== $$script"; PYTHONPATH=. $(BIN)/python $$script || exit 1; done

vm: $(VENV)/.dev
	@sh tools/system-packages.sh vm
	sh systemd/vm/boot.sh build/vm $(BIN)/python
	$(BIN)/python -m tools.booted build/vm/log

# A cut takes two to four minutes of a quiet core; LANES machines are cut side by side.
# MINUTES=N ends earlier, with fewer cuts; CUT_SEED=1 BESIDE=--beside adds others to those.
CUTS ?= 50
LANES ?= $(shell nproc)
MINUTES ?= 600
CUT_SEED ?= 0
BESIDE ?=
powercuts: $(VENV)/.dev
	@sh tools/system-packages.sh vm
	$(BIN)/python -m tools.power_cuts --work build/vm --cuts $(CUTS) --lanes $(LANES) --minutes $(MINUTES) \
		--seed $(CUT_SEED) --record $(BESIDE)

# The starter: trained on the photographs of DATA, on drawn and on rendered rooms, shipped in the
# package. Its private key is made anew each time and not kept: nothing else is signed with it.
# Hours; what is finished stays in STARTER, and the same command goes on from there. What STARTER_*
# say is not looked at again: other numbers need another folder.
# `make starter STARTER=build/trial STARTER_SCENES=20 STARTER_ROOMS=10 STARTER_TRAIN="--epochs 1
# --size 32" STARTER_SHIP=` goes all the way in minutes and ships nothing.
DATA ?= ../shared/data
STARTER := build/starter
STARTER_SCENES ?= 3000
STARTER_ROOMS ?= 900
STARTER_TRAIN ?=
STARTER_SHIP ?= $(BIN)/python tools/ship_starter.py $(STARTER)/run
PHOTOGRAPHS = $(DATA)/doors $(DATA)/kinds $(STARTER)/eye $(STARTER)/opened
TRAIN = rm -rf $(@D) && $(BIN)/transom train --out $(@D) $(1) $(STARTER_TRAIN)
TEACHERS := $(patsubst %,$(STARTER)/teacher-%,128-0 128-1 112-0 96-0 128-2)
starter: $(STARTER)/run/metrics.json
	$(STARTER_SHIP)

$(STARTER)/eye/labels.csv: tools/labelled_by_eye.csv tools/labelled_by_eye.py | $(VENV)/.dev
	rm -rf $(@D)
	$(BIN)/python -m tools.labelled_by_eye $(DATA)/kinds $(@D)

$(STARTER)/opened/labels.csv: $(STARTER)/eye/labels.csv $(wildcard tools/opened/*.py)
	rm -rf $(@D)
	$(BIN)/python -m tools.opened $(@D) --doors $(DATA)/doors --kinds $(DATA)/kinds \
	  --eye $(STARTER)/eye

$(STARTER)/beside/labels.csv: $(STARTER)/eye/labels.csv tools/beside.py
	$(BIN)/python -m tools.beside $(@D) --kinds $(DATA)/kinds --eye $(STARTER)/eye

$(STARTER)/scenes/labels.csv: | $(VENV)/.dev
	rm -rf $(@D) && mkdir -p $(STARTER)
	$(BIN)/transom data generate $(@D) --groups $(STARTER_SCENES) --pictures 3 --seed 9001

$(STARTER)/rooms/.made: build/blender/.made
	mkdir -p $(STARTER)
	build/blender/bin/python -m tools.render_rooms $(@D) --seed 1 --scenes $(STARTER_ROOMS) \
	  --windows 0.3
	@touch $@

# teacher-SIZE-SEED
$(STARTER)/teacher-%/metrics.json: train/starter_teacher.toml $(STARTER)/opened/labels.csv
	$(call TRAIN,$(PHOTOGRAPHS) --start none --recipe $< \
	  --size $(word 1,$(subst -, ,$*)) --seed $(word 2,$(subst -, ,$*)))

$(STARTER)/run/metrics.json: train/starter_student.toml $(STARTER)/scenes/labels.csv \
    $(STARTER)/rooms/.made $(STARTER)/beside/labels.csv $(TEACHERS:=/metrics.json)
	$(call TRAIN,$(PHOTOGRAPHS) $(STARTER)/beside $(STARTER)/scenes $(STARTER)/rooms \
	  --recipe $< --start $(STARTER)/teacher-96-0 $(addprefix --teacher ,$(TEACHERS)))

# Three sizes: BEST, a run, and what is distilled from it on smaller crops of what the starter saw:
# for fewer epochs and at a lower rate, for it begins with BEST, which is heard on every data set.
BEST ?= train/starter
sizes: $(STARTER)/opened/labels.csv $(STARTER)/beside/labels.csv $(STARTER)/scenes/labels.csv \
    $(STARTER)/rooms/.made
	mkdir -p build/sizes
	test -f build/sizes/home.pem || $(BIN)/transom keys new build/sizes/home.pem
	for size in 96 64; do \
	  $(BIN)/transom train $(PHOTOGRAPHS) $(STARTER)/beside $(STARTER)/scenes $(STARTER)/rooms \
	    --start $(BEST) --teacher $(BEST) --recipe train/starter_student.toml --epochs 3 \
	    --set learning_rate=0.0005 --set 'distill.datasets=[]' --size $$size \
	    --out build/sizes/run-$$size || exit 1; \
	done
	for size in pi5=$(BEST) pi4=build/sizes/run-96 pi-zero-2=build/sizes/run-64; do \
	  $(BIN)/transom export $${size#*=} --out build/sizes/$${size%%=*}.bundle --name $${size%%=*} \
	    --key build/sizes/home.pem $(foreach set,$(DATA)/doors $(DATA)/kinds $(STARTER)/eye,--data $(set)) \
	    || exit 1; \
	done
	$(BIN)/python benchmarks/sizes.py build/sizes/*.bundle

# The wheels a Pi installs, on an emulated Cortex-A72 and A76: same bits, same transitions. Some
# minutes, and root; not part of `make test`.
arm64: $(VENV)/.dev
	@sh tools/system-packages.sh arm64
	$(BIN)/python -m tools.arm64 --root build/arm64

# Blender as a module has an environment of its own, and needs exactly this Python.
PYTHON_OF_BLENDER ?= python3.11
SCENES ?= 500
SEED ?= 1
build/blender/.made: tools/render_rooms/requirements.txt
	$(PYTHON_OF_BLENDER) -m venv build/blender
	build/blender/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

rooms: build/blender/.made
	build/blender/bin/python -m tools.render_rooms build/rooms --scenes $(SCENES) --seed $(SEED)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
