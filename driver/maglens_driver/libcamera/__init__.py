# SPDX-License-Identifier: GPL-2.0-or-later
"""Cameras that libcamera drives, as sources. The library itself only ever runs in a child process."""
