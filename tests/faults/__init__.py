# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault bench: the daemon's own code over a board, a battery and modules that are played, in fake time.

Nouns: a **pipeline** that only counts, a **module** of flesh and contacts, a **fault** (a script of what happens at
pins, link and power), a **bench** (the manager with two ports on one budget).
"""
