# SPDX-License-Identifier: MIT
"""A virtual camera module: lens, sensor, scene and the marks that tests read."""
