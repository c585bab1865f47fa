# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of driver/kernel on real kernels: User Mode Linux with sanitizers, and Debian's headers."""
