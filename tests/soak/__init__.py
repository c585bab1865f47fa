# SPDX-License-Identifier: GPL-2.0-or-later
"""The long runs: the same thing very often, and nothing may grow."""
