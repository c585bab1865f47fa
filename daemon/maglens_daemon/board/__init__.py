# SPDX-License-Identifier: GPL-2.0-or-later
"""What a board has at a port beside USB, and the sequence by which a module is let in there."""
