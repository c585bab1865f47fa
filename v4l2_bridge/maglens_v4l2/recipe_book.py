# SPDX-License-Identifier: GPL-2.0-or-later
"""Recipe book: which recipe raw frames are developed with from now on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they need numpy, 12 MB of a service that may never see a raw frame
    from maglens_v4l2.recipe import Recipe
    from maglens_v4l2.statistics import Statistics

Measured = Callable[["Statistics"], None]


class RecipeBook:
    """The recipe that frames are developed with from the next one on; None: by the temperature that each frame
    names (a white balance that somebody has set on the module), daylight where it names none. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recipe: Recipe | None = None

    def tune(self, recipe: Recipe | None) -> None:
        with self._lock:
            self._recipe = recipe

    @property
    def recipe(self) -> Recipe | None:
        with self._lock:
            return self._recipe
