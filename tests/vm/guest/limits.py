# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits of the scenarios. They bound a hang; what is slow is for the bench to say."""

EVENT_S = 60.0
"""For an event that follows at once on an idle machine; several emulated ones on two cores are ten times slower."""
