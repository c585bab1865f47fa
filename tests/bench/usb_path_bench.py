# SPDX-License-Identifier: GPL-2.0-or-later
"""From a module's USB port to an app's buffer: see :mod:`tests.bench.path`."""

from tests.bench.path.cases import cases

__all__ = ["cases"]
