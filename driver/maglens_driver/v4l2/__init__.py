# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 source: any capture device by linuxpy (GPL-3.0-or-later, optional)."""
