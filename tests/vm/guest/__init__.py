# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's side of the scenarios: helpers that wait for events of the real system and record what apps see."""
