# SPDX-License-Identifier: GPL-2.0-or-later
"""Module source: discovery by pyudev, control by pyusb, streaming by asynchronous libusb."""
