# SPDX-License-Identifier: MIT
"""The maglens link protocol, version 1, declared once for both ends."""
