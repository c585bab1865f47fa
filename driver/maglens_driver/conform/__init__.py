# SPDX-License-Identifier: GPL-2.0-or-later
"""The conformance kit: named checks of the link protocol against whatever module is plugged in."""
