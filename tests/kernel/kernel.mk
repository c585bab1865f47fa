# SPDX-License-Identifier: GPL-2.0-or-later
# Included by the top Makefile.

.PHONY: kernel-test
kernel-test: prepare ## the kernel module under sanitizers in User Mode Linux (KERNEL_SRC=path: your own tree; LONG=1: all of it)
	@$(PY) -m tests.kernel $(if $(KERNEL_SRC),--kernel-src '$(KERNEL_SRC)') $(if $(LONG),--long --plain-too)
