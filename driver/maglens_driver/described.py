# SPDX-License-Identifier: MIT
"""Described: what a source that has a module's descriptor says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from maglens_driver.control import ControlInfo
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.mode import Mode
from maglens_driver.source import Identity


class Described(ABC):
    """The facts of a :class:`~maglens_driver.source.Source`, as in its descriptor."""

    @property
    @abstractmethod
    def descriptor(self) -> Descriptor:
        """All facts about the module."""

    @property
    def identity(self) -> Identity:
        """Maker, model and serial."""
        return self.descriptor.identity

    @property
    def modes(self) -> Sequence[Mode]:
        """Empty for one that has no sensor."""
        return self.descriptor.modes

    @property
    def controls(self) -> Sequence[ControlInfo]:
        """All that it has."""
        return self.descriptor.controls
