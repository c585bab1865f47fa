# SPDX-License-Identifier: MIT
"""The module's side of the link: a USB gadget on FunctionFS."""
