# SPDX-License-Identifier: GPL-2.0-or-later
# Included by the top Makefile.
#   make test-vm                          the scenarios in a Debian machine
#   make vm                               a shell in it, with the project installed
#   make vm KERNEL=bzImage MODULES=dir    the same on a kernel of your own

VM_PYTHON ?= python3
VM_KERNEL_ARGS = $(if $(KERNEL),--kernel $(KERNEL)) $(if $(MODULES),--modules $(MODULES))

.PHONY: vm test-vm
vm:
	$(VM_PYTHON) -m tests.vm shell $(VM_KERNEL_ARGS) $(VM_ARGS)

test-vm:
	$(VM_PYTHON) -m tests.vm run $(VM_KERNEL_ARGS) $(VM_ARGS)
