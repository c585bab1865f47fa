# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults: random attach, fault and detach cycles on the bench in fake time, in blocks; a block's seed reproduces it.

``python -m tests.soak.faults --blocks 100`` makes 10 000 cycles; ``--seed N --blocks 1`` plays one block again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from maglens_daemon.board.attach import AttachState
from tests.faults.bench import SICK, Bench, HealthySink, bench
from tests.faults.loop import run
from tests.faults.matrix import MAX_GAP_S, judge_app
from tests.faults.script import SCRIPTS, Script

CYCLES: Final = 100  # in a block
LONG: Final = frozenset(("never-rests", "brown-out-always", "over-draw", "bad-link", "short", "silent"))
RARELY: Final = 0.02  # share of cycles with one of those
EMPTY_WITHIN_S: Final = 30.0
SETTLED_AFTER: Final = 10  # blocks
OBJECTS_GROWN: Final = 0.03  # share by which what lives may grow from there to the end


@dataclass(frozen=True, slots=True)
class Block:
    """What came of one. ``story``: fault and state it met, by cycle."""

    seed: int
    story: tuple[str, ...]
    failures: tuple[str, ...]
    fake_s: float


def block(seed: int, cycles: int = CYCLES) -> Block:
    """Play one."""
    return run(_block(seed, cycles))


async def _block(seed: int, cycles: int) -> Block:
    chance = Random(seed)
    story: list[str] = []
    failures: list[str] = []
    async with bench() as it:
        healthy = await it.begin_healthy()
        settled = held(it)
        for cycle in range(cycles):
            try:
                story.append(await _cycle(it, chance, healthy))
            except (TimeoutError, AssertionError) as why:
                failures.append(f"cycle {cycle}: {why}")
                break
            seen = (*it.overdrawn, *it.missed, *judge_app(it, "empty"))
            failures += [f"cycle {cycle}, {story[-1]}: {text}" for text in seen]
            it.overdrawn.clear()
            it.missed.clear()
            if held(it) != settled:
                failures.append(f"cycle {cycle}, {story[-1]}: {settled} became {held(it)}")
                break
        if healthy.longest_gap() > MAX_GAP_S or healthy.losses:
            failures.append(f"the healthy module was touched: gap {healthy.longest_gap():.2f} s, {healthy.losses}")
        return Block(seed, tuple(story), tuple(failures), asyncio.get_running_loop().time())


def held(it: Bench) -> dict[str, int]:
    """What may not grow from one empty port to the next."""
    ledger, director = it.manager.allotment.ledger, it.manager.directors[0]
    return {
        "tasks": len(asyncio.all_tasks()),
        "sessions": len(it.manager.sessions),
        "promised_mw": ledger.promised_mw,
        "stays": it.manager.allotment.count,
        "records": director.count,
    }


def _pick(chance: Random) -> Script:
    rare = chance.random() < RARELY
    return chance.choice([script for script in SCRIPTS if (script.name in LONG) is rare])


async def _cycle(it: Bench, chance: Random, healthy: HealthySink) -> str:
    """Snap on, a fault after a random while, lift off, and wait for the port to be empty. Raises ``TimeoutError``."""
    sick, script = it.sick, _pick(chance)
    it.watch(chance.random() < 0.8)
    if chance.random() < 0.85:
        sick.snap_on(it.ports[SICK])
        await it.pass_time(chance.choice((0.0, 0.05, 0.12, 0.3, 0.45, 0.6, 1.5)) + 0.01 * chance.random())
    state = it.state()
    if script.sleeps:
        healthy.pause()
    await script.play(it)
    if script.sleeps:
        await it.stream_healthy(healthy)
    await it.pass_time(3 * chance.random())
    if sick.port is not None:
        sick.lift_off()
    sick.well_again()
    it.battery(80)
    it.zone(50)
    it.uevent()
    await it.reach("empty", limit_s=EMPTY_WITHIN_S)
    await it.pass_time(1.0)
    if it.attach_state(SICK) is not AttachState.EMPTY or it.ports[SICK].powered:
        raise AssertionError(f"{script.name} in {state}: the port is {it.attach_state(SICK).value}")
    it.ports[SICK].log.clear()
    return f"{script.name} in {state}"


def main() -> int:
    """Exit status 1 if any block failed or what lives has grown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first block; each next one has the next")
    parser.add_argument("--blocks", type=int, default=100, help=f"of {CYCLES} cycles")
    parser.add_argument("--out", type=Path, default=Path("build/soak/faults.json"))
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    began, blocks, objects = time.monotonic(), [], []
    for number in range(options.blocks):
        made = block(options.seed + number)
        blocks.append(made)
        gc.collect()
        objects.append(len(gc.get_objects()))
        for text in made.failures:
            print(f"soak: FAILED: seed {made.seed}: {text}", flush=True)
        if number % 10 == 9:
            print(f"soak: {(number + 1) * CYCLES} cycles, {objects[-1]} objects", flush=True)
    grown = []
    if len(objects) > SETTLED_AFTER and objects[-1] > objects[SETTLED_AFTER] * (1 + OBJECTS_GROWN):
        grown.append(f"{objects[SETTLED_AFTER]} objects became {objects[-1]}")
    failed = [asdict(made) for made in blocks if made.failures]
    report = {
        "cycles": sum(len(made.story) for made in blocks),
        "fake_s": round(sum(made.fake_s for made in blocks)),
        "took_s": round(time.monotonic() - began),
        "failed": failed,
        "objects": objects,
        "grown": grown,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    for text in grown:
        print(f"soak: FAILED: {text}")
    ended = "FAILED" if failed or grown else "passed"
    print(f"soak: {report['cycles']} cycles in {report['took_s']} s ({report['fake_s']} s played): {ended}")
    return 1 if failed or grown else 0


if __name__ == "__main__":
    sys.exit(main())
