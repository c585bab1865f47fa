# SPDX-License-Identifier: GPL-2.0-or-later
# Included by the top Makefile.

.PHONY: vm
vm: prepare ## a shell in the virtual machine (KERNEL=bzImage MODULES=dir: on a kernel of your own)
	@$(PY) -m tests.vm shell $(if $(KERNEL),--kernel '$(KERNEL)') $(if $(MODULES),--modules '$(MODULES)')
