# SPDX-License-Identifier: GPL-2.0-or-later
"""Several cameras: two modules play at once, each for an app of its own, and no app sees anything of the other's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.demo import judge, recording
from tests.demo.guest import hold
from tests.demo.recording import Shot
from tests.vm.conftest import Record
from tests.vm.guest.acts import hold_until_sent
from tests.vm.guest.devices import daemon_kept_away
from tests.vm.guest.limits import emulated
from tests.vm.guest.recorder import Recording
from tests.vm.guest.stall import Stall
from tests.vm.guest.troupe import LENS, Troupe, virtual_module

OTHER = "73mm"
RATE = 10
INTERVAL_NS = 1_000_000_000 // RATE
FRAMES = 20  # of each module, together
CARD_AFTER = 10  # pictures: the last one stays for half a second
CONFIG = f"""
[node]
width = 640
height = 480
rate = {RATE}
[node.front]
[node.back]
[[policy.rule]]
node = "front"
identity = "*/SIM-{LENS}"
[[policy.rule]]
node = "back"
identity = "*/SIM-{OTHER}"
"""


def judged(app: Recording, source: int, slack: float) -> tuple[Sequence[Shot], judge.Stay]:
    """Nothing but cards and one stay of that module, at the format's rate throughout."""
    assert app.errors() == []
    shots = recording.read(app.path).shots
    assert not any(shot.mixed for shot in shots)
    (stay,) = judge.stays(shots)
    assert stay.source == source
    assert stay.rising
    widest = max(judge.gaps(shots, INTERVAL_NS))
    print(f"{len(shots)} pictures, {len(stay.numbers)} of {stay.span} frames; widest gap {widest:.2f} intervals")
    assert widest <= (4 if emulated() else 2) + slack
    return shots, stay


@pytest.mark.long
def test_two_modules_play_on_two_nodes(ffmpeg_recorder: Record) -> None:
    with daemon_kept_away(), Troupe(CONFIG, built_in=False) as troupe, virtual_module(troupe.folder, OTHER) as back:
        front = troupe.sim
        paths = {node["group"]: node["path"] for node in troupe.status()["nodes"]}
        assert len(set(paths.values())) == 3, "one each, and the one of [node]"
        with (
            Stall() as stall,
            ffmpeg_recorder(paths["front"], "front") as on_front,
            ffmpeg_recorder(paths["back"], "back") as on_back,
        ):
            on_front.wait_frames(1)
            on_back.wait_frames(1)
            front.attach()
            troupe.plays(f"SIM-{LENS}")
            back.attach()
            troupe.plays(f"SIM-{OTHER}")
            hold_until_sent(front, FRAMES, lambda count: hold(on_front, count))
            hold_until_sent(back, FRAMES, lambda count: hold(on_back, count))
            playing = {node["group"]: node["playing"] for node in troupe.status()["nodes"]}
            front.detach()
            troupe.log.wait_for(f"SIM-{LENS}.*: removed")
            on_front.wait_more(CARD_AFTER)
            on_back.wait_more(CARD_AFTER)
            back.detach()
            troupe.log.wait_for(f"SIM-{OTHER}.*: removed")
            on_back.wait_more(CARD_AFTER)
        marks = [int(sim.status()["mark"]) for sim in (front, back)]
    assert playing[""] == ""
    assert playing["front"].endswith(f"/SIM-{LENS}")
    assert playing["back"].endswith(f"/SIM-{OTHER}")
    slack = 2 * stall.worst_ns / INTERVAL_NS
    _, first = judged(on_front, marks[0], slack)
    shots, second = judged(on_back, marks[1], slack)
    assert second.first.time_ns < first.last.time_ns < second.last.time_ns, "both played at once"
    while_alone = [shot for shot in shots if first.last.time_ns < shot.time_ns <= second.last.time_ns]
    assert all(shot.mark for shot in while_alone), "the other's leaving was seen here"
    numbers = [shot.mark.number for shot in while_alone if shot.mark]
    assert any(a < b for a, b in itertools.pairwise(numbers)), "it moved on"
