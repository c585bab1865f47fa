# SPDX-License-Identifier: GPL-2.0-or-later
"""A UVC camera with a bulk endpoint, made of software: USB/IP emulated over vhci-hcd. See docs/emulated-uvc.md."""
