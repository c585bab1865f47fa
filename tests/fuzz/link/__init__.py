# SPDX-License-Identifier: MIT
"""Seeded fuzzing of everything that reads what a module sends: ``python -m tests.fuzz.link --seconds 600``."""
