# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/faults.md names every fault of the virtual module and every script of the bench, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from maglens_driver.gadget.faults import Fault
from tests.faults.script import SCRIPTS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()


def test_every_fault_and_script_is_told() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| .+ \|$", TEXT, re.MULTILINE)
    assert rows == [*(fault.value for fault in Fault), *(script.name for script in SCRIPTS)]
