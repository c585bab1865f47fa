# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/writing-a-module.md: what the kit is asked behind each step needs nothing of a later one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from maglens_driver.conform import event_checks
from maglens_driver.conform.run import Run, failed
from maglens_driver.conform.specimen import Specimen
from maglens_driver.conform.suite import GROUPS, chosen
from maglens_driver.errors import BadModule
from maglens_driver.gadget.responder import Responder
from maglens_driver.link import wire
from maglens_driver.link.wire import Op, Status
from tests.unit.test_conform import FACTS, INTERVAL, as_jpeg, quick
from tests.unit.usb_rig import DESCRIPTOR, FakeRig

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "writing-a-module.md"
MADE: Final[tuple[set[Op], ...]] = (
    set(),
    {Op.INFO},
    {Op.DESCRIPTOR},
    {Op.RESULT, Op.STOP, Op.STANDBY, Op.CLOCK},
    {Op.POWER_SEND, Op.POWER_RECEIVE},
    {Op.CONFIGURE},
    {Op.START},
    {Op.FLUSH},
    {Op.CONTROLS, Op.SET_CONTROLS},
    set(),
)
"""What each step brings; the last one of the document, coming and going, is a hand's."""


def steps() -> list[list[str]]:
    """The patterns of each row."""
    rows = re.findall(r"^\| \d+ \| .* \| `(.*)` \|$", DOCUMENT.read_text(), re.MULTILINE)
    return [re.findall(r"--only '?([^ ']+)'?", row) for row in rows]


class Unfinished:
    """Makes of a responder one that knows some requests only: the others it stalls while it has no RESULT, and then
    answers UNSUPPORTED."""

    def __init__(self, responder: Responder, known: set[Op], patch: pytest.MonkeyPatch) -> None:
        self._known = known
        self._read, self._write = responder.read, responder.write
        self._refused: bytes | None = None
        patch.setattr(responder, "read", self.read)
        patch.setattr(responder, "write", self.write)

    def _refuses(self, request: int, tag: int) -> bytes | None:
        if request in self._known or request not in set(Op):
            return None
        if Op.RESULT not in self._known:
            raise BadModule("control_stall", "the module stalled")
        return wire.pack_reply(Status.UNSUPPORTED, tag)

    def read(self, request: int, value: int) -> bytes:
        if request == Op.RESULT and self._refused is not None:
            return self._refused
        return self._refuses(request, 0) or self._read(request, value)

    def write(self, request: int, payload: bytes) -> None:
        self._refused = self._refuses(request, wire.Header.unpack(payload).tag if len(payload) >= 8 else 0)
        if self._refused is None:
            self._write(request, payload)


@pytest.mark.parametrize("step", range(len(MADE)), ids=lambda step: str(step + 1))
def test_the_kit_needs_nothing_of_what_comes_later(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_checks, "_LISTEN_S", 0.05)
    rig = FakeRig(descriptor=quick(DESCRIPTOR), interval_s=float(INTERVAL), frame=as_jpeg)
    Unfinished(rig.module.responder, set[Op]().union(*MADE[: step + 1], wire.RESERVED_OPS), monkeypatch)
    specimen = Specimen(FACTS, rig.device, rig.transport)
    results = Run(specimen).make(chosen(steps()[step]))
    specimen.close()
    assert results
    assert failed(results) == [], [r.why for r in results]


def test_every_check_has_its_step() -> None:
    assert len(steps()) == len(MADE) + 1
    asked = {check.name for patterns in steps() for check in chosen(patterns)}
    assert asked == {check.name for group in GROUPS for check in group.checks}
