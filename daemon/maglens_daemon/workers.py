# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers: the threads for what asyncio hands out (``asyncio.to_thread``), so many as there are from the start."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

# Side by side at most: two that make converters (a late source has another brought beside it), two that end streams,
# the store's file, and one that hangs in what is not ours (a meter's bus, the directory of users). More wait.
# asyncio's own grow with the processors, and by one whenever there was never so much at a time: a service that had
# run for hours then looked as if it leaked.
WORKERS: Final = 6
NAME: Final = "maglens-worker"


def workers() -> ThreadPoolExecutor:
    """All of them are begun."""
    made = ThreadPoolExecutor(WORKERS, thread_name_prefix=NAME)
    all_there = threading.Barrier(WORKERS)
    for begun in [made.submit(all_there.wait) for _ in range(WORKERS)]:
        begun.result()
    return made
