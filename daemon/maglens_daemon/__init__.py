# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: ports, sessions, power, choice of source, D-Bus and the command line."""
