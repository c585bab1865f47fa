# SPDX-License-Identifier: GPL-2.0-or-later
"""Sleep: the real logind and the kernel's own suspend path, as far as its devices (power/pm_test)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from maglens_driver import names
from maglens_driver.mode import NV12, make_mode
from tests.demo import judge, recording
from tests.demo.guest import hold, hold_until, node_status, streaming
from tests.vm.conftest import JournalOf, Record, Sim
from tests.vm.guest.devices import succeed
from tests.vm.guest.journal import Entry

PM_TEST = Path("/sys/power/pm_test")
SLEEP_S = 60.0
FRAMES = 8
MODE = make_mode(NV12, 640, 480, Fraction(1, 5))  # few pictures: all are looked at, by an emulated processor
OPTIONS = ("-input_format", "nv12", "-video_size", "640x480", "-framerate", "5")


def module_status() -> dict[str, Any]:
    """The one module's."""
    (module,) = json.loads(succeed("maglens", "status", "--json"))["modules"]
    return dict(module)


def at_ns(entry: Entry) -> int:
    """CLOCK_MONOTONIC when it was logged."""
    return int(entry.fields["__MONOTONIC_TIMESTAMP"]) * 1000


@pytest.fixture
def devices_only() -> Iterator[None]:
    """Suspend goes as far as the devices, waits for five seconds, and comes back."""
    if not PM_TEST.exists():
        pytest.skip("this kernel has no CONFIG_PM_DEBUG, so that a suspend cannot be rehearsed")
    PM_TEST.write_text("devices")
    yield
    PM_TEST.write_text("none")


@pytest.mark.long
def test_a_suspend_parks_the_stream_and_the_app_reads_on(
    devices_only: None, sim: Sim, journal: JournalOf, ffmpeg_recorder: Record, out: Path
) -> None:
    """ffmpeg is never told of it: one file, no error, the same module before and after. dummy_hcd loses what it had,
    so that the device is reset as the system wakes."""
    module = sim("35mm")
    log = journal(names.SERVICE_UNIT)
    assert "camera streams are parked" in succeed("systemd-inhibit", "--list")
    with ffmpeg_recorder(node_status()["path"], options=OPTIONS) as app:
        module.attach()
        hold_until(app, lambda: streaming(module, FRAMES))
        contract = module_status()["contract"]
        subprocess.run(["systemctl", "suspend"], check=True, timeout=SLEEP_S)
        asleep = at_ns(log.wait_for("the system goes to sleep: streams are parked", SLEEP_S))
        awake = at_ns(log.wait_for("the system is awake", SLEEP_S))
        sent = int(module.status()["stays"][-1]["frames_sent"])
        hold_until(app, lambda: streaming(module, sent + FRAMES))
        after, inside = module_status(), module.status()
        hold(app, FRAMES)
    assert app.errors() == []
    assert (after["state"], after["contract"]) == ("streaming", contract)
    assert inside["power_state"] == "contract", "the module knows of it as well"
    seen = recording.read(app.path)
    app.path.unlink()  # 460 kB a frame
    (stay,) = judge.stays(seen.shots)
    gaps = judge.gaps(seen.shots, MODE.interval_ns)
    figures = {"frames": len(seen.shots), "asleep_ns": asleep, "awake_ns": awake, "widest_gap_intervals": max(gaps)}
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    assert (stay.source, stay.rising) == (int(inside["mark"]), True)
    assert stay.first.time_ns < asleep and stay.last.time_ns > awake, figures
    assert sum(shot.mixed for shot in seen.shots) == 0
    assert any(shot.mark is None for shot in seen.shots[stay.first.index : stay.last.index]), "a card meanwhile"
