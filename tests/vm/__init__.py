# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM lab: a real Debian kernel with systemd, udev and a USB device controller, for tests and demo."""
