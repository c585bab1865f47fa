# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every unit test."""

import os

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile(
    "search", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=2000, print_blob=True
)
# The same examples every time, so that a change is judged by itself; what `search` finds becomes a test of its own.
settings.register_profile("maglens", settings.get_profile("search"), max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "maglens"))
