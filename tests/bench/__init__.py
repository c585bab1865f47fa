# SPDX-License-Identifier: GPL-2.0-or-later
"""Every number we claim, as a ratio against a peer or a floor measured in the same run."""
