# SPDX-License-Identifier: GPL-2.0-or-later
"""RAW10 from a module in memory to an app's buffer: no large piece of memory per frame, no growth, and in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from maglens_v4l2.feed import STAGING
from tests.tools import allocations
from tests.tools.raw_path import pss_kib

INTERVAL_MS = 1000 / 30
ON_TOP_MS = 10.0
RUNS = 3


def raw_path(environment: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.tools.raw_path", *arguments]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return allocations.environment(allocations.build(tmp_path_factory.mktemp("allocations")))


def test_no_large_piece_of_memory_per_frame(counting: Mapping[str, str]) -> None:
    found = raw_path(counting, "--frames", "300", "--rate", "200", "--count")
    assert found["measured"]
    assert found["tuned"]
    assert found["submitted"] > 300 / 2
    # Staging buffers are made when first needed, and containers grow now and then; per frame there is nothing.
    assert found["large_allocations"] < STAGING + 2, found


def test_to_tune_the_largest_asks_for_no_large_piece(counting: Mapping[str, str]) -> None:
    """As exposure and white balance do it while they settle, frame by frame."""
    code = (
        "from tests.bench.pixel_raw_reference import Tuning; from tests.tools import allocations as a\n"
        "from maglens_v4l2._pixels import Developer\n"
        "developer = Developer('pRCC', 11648, 8736, 0, 'NV12', 640, 480, 0)\n"
        "t = Tuning(64, 4095); t = t.black, t.white, t.gains, t.matrix, t.curve\n"
        "developer.tune(*t); a.arm(); [developer.tune(*t) for _ in range(9)]; print(a.disarm())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(counting), capture_output=True, text=True, check=True
    )
    assert eval(done.stdout)[0] == 0


def test_the_counter_counts(counting: Mapping[str, str]) -> None:
    code = (
        "from tests.tools import allocations as a; import mmap\n"
        "a.arm(); b = bytearray(5000); c = bytearray(100); m = mmap.mmap(-1, 8192); print(a.disarm())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(counting), capture_output=True, text=True, check=True
    )
    count, largest = eval(done.stdout)
    assert 2 <= count <= 3
    assert largest == 8192


def test_a_picture_is_there_in_time() -> None:
    """All but one of 101: what the machine is busy with besides may hold up that one. It may hold up a whole run, but
    makes none early: one in time is enough. `make bench ONLY=latency` has larger pictures."""
    late = []
    for _ in range(RUNS):
        found = raw_path(os.environ, "--frames", "101", "--rate", "30")
        assert found["submitted"] > 101, found
        late.append(found["late_ms"]["p99"])
        if late[-1] < INTERVAL_MS + ON_TOP_MS:
            return
    raise AssertionError(late)


def test_memory_does_not_grow() -> None:
    found = raw_path(os.environ, "--frames", "2000", "--settle", "2000", "--rate", "500")
    assert found["pss_grown_kib"] < 3 * found["pss_noise_kib"] + 64, found


def test_memory_is_not_said_to_grow_where_another_process_ends() -> None:
    """Libraries that it had mapped as well: this process holds them by itself then."""
    again = [sys.executable, "-c", "import numpy; print(flush=True); input()"]
    with subprocess.Popen(again, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as beside:
        assert beside.stdout is not None
        beside.stdout.readline()
        before = pss_kib()
        beside.communicate(b"\n")
    assert abs(pss_kib() - before) < 512
