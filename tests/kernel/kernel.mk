# SPDX-License-Identifier: GPL-2.0-or-later
# Included by the top Makefile.

.PHONY: kernel-test board-test test-uml
kernel-test: prepare ## the kernel module under sanitizers in User Mode Linux (KERNEL_SRC=path: your own tree; LONG=1: all of it)
	@$(PY) -m tests.kernel $(if $(KERNEL_SRC),--kernel-src '$(KERNEL_SRC)') $(if $(LONG),--long --plain-too)

test-uml: prepare ## the scenarios that want native speed: the automatics of a raw module, 4K focus sweeps, the whole conformance kit; in User Mode Linux
	@$(PY) -m tests.kernel.uml_guest --name autopilot --deadline 300 -- python3 -m pytest -v tests/vm/scenarios/test_autopilot.py
	@$(PY) -m tests.kernel.uml_guest --name rehearsal --deadline 900 --large -- python3 -m pytest -v tests/vm/scenarios/test_rehearsal.py
	@$(PY) -m tests.kernel.uml_guest --name conform --deadline 1800 -- python3 -m pytest -v $(addprefix tests/vm/scenarios/test_, \
		conform.py conform_faults.py board_module.py::test_the_examples_conform board_module.py::test_a_camera_on_a_board_conforms)

board-test: prepare ## ports with pins on the kernel's own GPIO, hwmon and input interfaces, in User Mode Linux
	@$(PY) -m tests.kernel.uml_guest --name board --deadline 240 -- python3 -m pytest -v tests/kernel/scenarios/test_board.py
