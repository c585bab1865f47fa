# SPDX-License-Identifier: GPL-2.0-or-later
"""Pattern: how the configuration names what it does not want to spell out."""

from __future__ import annotations

from fnmatch import fnmatchcase


def fits(name: str, pattern: str) -> bool:
    """``*`` stands for any letters, ``?`` for one, and all else for itself: makers put brackets into names."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
