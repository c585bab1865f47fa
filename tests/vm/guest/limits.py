# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of the scenarios. They bound a hang; what is slow is for the bench to say."""

import subprocess

EVENT_S = 60.0
"""For an event that follows at once on an idle machine; several emulated ones on two cores are ten times slower."""

TIME_FACTOR = 4
"""So much longer may a module take to answer on an emulated processor that has other work to do."""


def emulated() -> bool:
    """Whether the processor is emulated (TCG), where Python takes ten times as long; neither KVM nor UML is."""
    found = subprocess.run(["systemd-detect-virt"], capture_output=True, text=True, check=False)
    return found.stdout.strip() == "qemu"
