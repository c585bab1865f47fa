# SPDX-License-Identifier: GPL-2.0-or-later
"""The module's clock: offset and drift out of samples of varying quality."""

from __future__ import annotations

import random

import pytest

from maglens_driver.usb.clock import WINDOW, ClockSample, ModuleClock, fit

SECOND = 1_000_000_000
EPOCH = 0x1234_5678_9ABC  # the module's clock at host time 0


def module_time(host_ns: int, ppm: float) -> int:
    return EPOCH + host_ns + round(host_ns * ppm * 1e-6)


def sample(host_ns: int, ppm: float, there: int, back: int) -> ClockSample:
    return ClockSample(host_ns - there, module_time(host_ns, ppm), host_ns + back)


def test_one_sample_gives_the_offset_within_half_a_round_trip() -> None:
    found = fit([sample(5 * SECOND, 50, 100_000, 300_000)])
    error = found.to_host(module_time(5 * SECOND, 50)) - 5 * SECOND
    assert abs(error) <= found.error_ns == 200_000
    assert found.drift == 0


@pytest.mark.parametrize("ppm", [-50, 0, 50, 200])
@pytest.mark.parametrize("seed", range(5))
def test_drift_is_found_through_noise(ppm: int, seed: int) -> None:
    rng = random.Random(seed)
    clock = ModuleClock()
    for i in range(60):
        busy = rng.random() < 0.3  # now and then the machine does something else: a long, lopsided round trip
        there = rng.randint(50_000, 90_000) + (rng.randint(0, 20_000_000) if busy else 0)
        clock.add(sample(i * SECOND, ppm, there, rng.randint(50_000, 90_000)))
    assert clock.fit is not None
    assert abs(clock.fit.drift * 1e6 + ppm) < 2
    for host in (59 * SECOND, 60 * SECOND):
        assert abs(clock.to_host(module_time(host, ppm)) - host) < 100_000


def test_the_shortest_round_trip_counts_before_there_is_a_baseline() -> None:
    clock = ModuleClock()
    clock.add(sample(0, 50, 5_000_000, 100_000))
    clock.add(sample(10_000_000, 50, 100_000, 100_000))
    clock.add(sample(20_000_000, 50, 100_000, 9_000_000))
    host = 30_000_000
    assert abs(clock.to_host(module_time(host, 50)) - host) < 101_000


def test_the_fit_follows_a_drift_that_changes() -> None:
    clock = ModuleClock()
    host, module = 0, EPOCH
    for ppm in (50, -80):
        for _ in range(WINDOW + 8):
            host += SECOND
            module += SECOND + round(SECOND * ppm * 1e-6)
            clock.add(ClockSample(host - 50_000, module, host + 50_000))
        assert clock.fit is not None
        assert abs(clock.fit.drift * 1e6 + ppm) < 1


def test_a_reboot_forgets_everything_before() -> None:
    clock = ModuleClock()
    for i in range(10):
        clock.add(sample(i * SECOND, 0, 50_000, 50_000))
    clock.add(ClockSample(20 * SECOND, 5, 20 * SECOND + 100))
    assert clock.to_host(5) == 20 * SECOND + 50


def test_an_impossible_drift_is_not_believed() -> None:
    found = fit([sample(i * SECOND, 5000, 50_000, 50_000) for i in range(10)])
    assert found.drift == 0


def test_without_a_sample_there_is_no_time() -> None:
    clock = ModuleClock()
    assert clock.fit is None
    with pytest.raises(ValueError, match="never read"):
        clock.to_host(1)
