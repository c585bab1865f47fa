# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job as a film: one app's recording while modules come and go, judged by the marks in its pictures."""
