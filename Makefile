# SPDX-License-Identifier: GPL-2.0-or-later
# maglens: `make help` lists what can be done here.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
UNIT_JOBS ?= auto
VERSION := $(shell sed -n 's/^version = //p' setup.cfg)

# The development environment: a venv in the cache, outside the tree. Asked for once, and only by targets that need it.
PREPARE := $(PYTHON) daemon/system/prepare.py
VENV = $(eval VENV := $$(shell $(PREPARE) --where))$(VENV)
PY = $(VENV)/bin/python

.PHONY: help demo demo-faults test unit test-vm test-long test-obs soak soak-switches bench fuzz lint install install-dkms uninstall uninstall-dkms clean prepare prepare-test describe

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | sort -u | expand -t 16

demo: prepare ## an app keeps its picture while modules come and go (HOST=1: without the VM)
	@$(PY) -m tests.demo $(if $(HOST),--host)

demo-faults: prepare ## one picture of power, link, state and an app's frames through bounce, sag, over-current and recovery
	@$(PY) -c 'import matplotlib' 2>/dev/null || $(PY) -m pip install -q --disable-pip-version-check 'matplotlib>=3.6'
	@$(PY) -m tests.demo.faults

test: prepare-test ## linters, unit tests, then the scenarios in a virtual machine
	@mkdir -p build; $(PY) -m tests.vm image >build/vm-image.log 2>&1 & image=$$!; \
	$(MAKE) --no-print-directory unit || { kill $$image; exit 1; }; \
	wait $$image || cat build/vm-image.log; \
	$(MAKE) --no-print-directory test-vm

unit: prepare-test ## linters and unit tests, without kernel or root
	@$(PY) -m pytest tests/unit -q -n $(UNIT_JOBS) --dist loadfile

test-vm: prepare ## the scenarios on a real kernel in a virtual machine
	@$(PY) -m tests.vm run

test-long: prepare ## the scenarios that take over a minute each on an emulated machine
	@$(PY) -m tests.vm run --long --out build/vm-long --deadline 3600

test-obs: prepare ## the real OBS Studio records through attach, swap, detach and the daemon's death (VM=1: on the stock kernel)
	@$(PY) -m $(if $(VM),tests.vm run --extra obs --scenario tests/vm/apps --out build/obs,tests.kernel.uml_guest \
		--extra obs --name obs --deadline 600 -- python3 -m pytest -v tests/vm/apps)

soak: prepare ## 10 000 random faults in fake time; 200 cycles and 500 faults in the virtual machine, 500 faults and 300 switches in UML; nothing may leak
	@$(PY) -m tests.soak.faults
	@$(PY) -m tests.soak

soak-switches: prepare ## of these the 300 random switches between cameras of every kind alone
	@$(PY) -m tests.soak --part switches

bench: ## measure, into build/bench (QUICK=1: fewer repeats; ONLY=pixel: one part)
	@$(PREPARE) --bench
	@$(PY) -m tests.bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

fuzz: prepare ## the pixel extension and the link's parsers, for some minutes (COUNT=cases; FIRST=seed)
	@$(PY) -m tests.fuzz.pixels $(if $(COUNT),--count $(COUNT)) $(if $(FIRST),--first $(FIRST))
	@$(PY) -m tests.fuzz.link $(if $(FIRST),--seed $(FIRST))

lint: prepare ## ruff and mypy alone
	@$(PY) -m pytest tests/unit/test_lint.py -q

describe: prepare ## renew what is written from the configuration's schema
	@$(PY) daemon/system/describe.py

prepare: ## the development environment (a venv in the cache), as the other targets do it
	@$(PREPARE)

prepare-test:
	@$(PREPARE) --test

install: ## into PREFIX (/usr/local) under DESTDIR; without DESTDIR also enables and starts the service
	@$(PYTHON) daemon/system/install.py install --prefix '$(PREFIX)' --sysconfdir '$(SYSCONFDIR)' --destdir '$(DESTDIR)'

uninstall: ## remove exactly what install has put there
	@$(PYTHON) daemon/system/install.py uninstall --prefix '$(PREFIX)' --sysconfdir '$(SYSCONFDIR)' --destdir '$(DESTDIR)'

install-dkms: ## the kernel module's source, built now and for every later kernel by DKMS
	@$(PYTHON) daemon/system/install.py install-dkms --destdir '$(DESTDIR)'

uninstall-dkms: ## remove the kernel module and its source
	@$(PYTHON) daemon/system/install.py uninstall-dkms --destdir '$(DESTDIR)'

clean: ## remove what was built in the tree; the cache stays
	@rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis v4l2_bridge/maglens_v4l2/_pixels*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

-include tests/vm/vm.mk
-include tests/kernel/kernel.mk
