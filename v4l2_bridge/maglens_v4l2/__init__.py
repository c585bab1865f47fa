# SPDX-License-Identifier: GPL-2.0-or-later
"""From a source's frames to an app's V4L2 buffers: nodes, the pipeline and the pixel kernel."""
