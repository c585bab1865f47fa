# SPDX-License-Identifier: MIT
"""A short run of tests/fuzz/link with fixed seeds; and that the fuzzers would notice something."""

from __future__ import annotations

import random

import cbor2
import pytest

from maglens_driver.link import cbor
from tests.fuzz.link.targets import TARGETS

SEEDS = 150


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name: str) -> None:
    for seed in range(SEEDS):
        TARGETS[name](random.Random(seed))


def test_a_missing_check_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the walk over the bytes before they are decoded, what does not belong in a descriptor comes through."""
    monkeypatch.setattr(cbor, "_scan", lambda raw: None)
    monkeypatch.setattr(cbor2, "CBORError", KeyError)
    with pytest.raises(cbor2.CBORDecodeError):
        for seed in range(SEEDS):
            TARGETS["descriptor_bytes"](random.Random(seed))
