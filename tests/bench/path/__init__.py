# SPDX-License-Identifier: GPL-2.0-or-later
"""From a module's USB port to an app's buffer, on a real kernel: ours, and what else one could do."""
