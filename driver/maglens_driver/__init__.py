# SPDX-License-Identifier: GPL-2.0-or-later
"""What talks to hardware: the link protocol, the sources, and the module's own side (gadget)."""
