# SPDX-License-Identifier: GPL-2.0-or-later
"""Contract: the power that a port has promised a module, in USB PD's terms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contract:
    """What is promised: mV, operating and maximum mA. ``mismatch``: the module said that it wants more.

    ``least_ma`` is what a module with GiveBack can live on when it is squeezed (its RDO's second current); without
    GiveBack it is the operating current. ``burst_mw``: so much more is kept ready while motors move; 0 where the
    port's offer does not reach the module's peak, which then must do with the contract.
    """

    mv: int
    operating_ma: int
    maximum_ma: int
    mismatch: bool = False
    least_ma: int = 0
    burst_mw: int = 0

    @property
    def mw(self) -> int:
        """Power that the port must keep ready, mW."""
        return self.mv * self.maximum_ma // 1000

    @property
    def operating_mw(self) -> int:
        """Power that modes may draw, mW."""
        return self.mv * self.operating_ma // 1000

    @property
    def least_mw(self) -> int:
        """Power that it can be squeezed to, mW."""
        return self.mv * self.least_ma // 1000
