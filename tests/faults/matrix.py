# SPDX-License-Identifier: GPL-2.0-or-later
"""Matrix: every fault in every state of a session, generated; one record per case."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from maglens_daemon.session_state import SessionState
from tests.faults.bench import BUDGET_MW, SICK, Bench, HealthySink, bench
from tests.faults.loop import run
from tests.faults.module import INTERVAL
from tests.faults.script import SCRIPTS, End, Script

EMPTY: Final = "empty"
STATES: Final = (EMPTY, *(s.value for s in SessionState if s not in (SessionState.DETECTED, SessionState.GONE)))
"""``detected`` lasts no time on a port with pins, ``gone`` is the end; ``empty`` is the port before either."""

MAX_GAP_S: Final = 2.5 * float(INTERVAL)  # of the healthy module, and of the app
WATCHED: Final = frozenset(STATES) - {"ready", "standby"}


@dataclass(frozen=True, slots=True)
class Record:
    """One case. ``recovery_s``: from the fault's end until the last change of state; ``app_gap_s``: the longest time
    between two pictures of whoever watched (0: nobody did); ``failures``: what was wrong."""

    fault: str
    state: str
    end_state: str
    recovery_s: float
    app_gap_s: float
    powered: bool
    message: str
    failures: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


async def bring_to(it: Bench, state: str) -> None:
    """The sick module into a state. Raises ``TimeoutError``."""
    sick, port = it.sick, it.ports[SICK]
    it.watch(state in WATCHED)
    held = {"identify": ("open",), "contract": ("agree",)}.get(state, ())
    sick.held = held
    if state == EMPTY:
        return
    if state == "quarantined":
        sick.broken = True
    sick.snap_on(port)
    if state == "attach":
        await it.reach("attach")
        await it.pass_time(0.15)  # the rail is up, USB is not
    else:
        await it.reach(state)
    sick.held, sick.broken = (), False


def _release(it: Bench) -> None:
    """What was held at a step goes on: a fault met it there."""
    visitor = it.sick.visitor
    if visitor is not None:
        visitor.steps.free_all()


async def case(script: Script, state: str) -> Record:
    """Play one fault in one state, wait for the end, and judge."""
    async with bench() as it:
        healthy = await it.begin_healthy()
        await bring_to(it, state)
        before = it.counters(SICK)
        if script.sleeps:
            healthy.pause()
        play = asyncio.create_task(script.play(it))
        await it.pass_time(0.05)
        _release(it)
        await play
        if script.sleeps:
            await it.stream_healthy(healthy)
        end_state, recovery_s = await it.steady()
        failures = judge(it, script, state, before, end_state, healthy)
        return Record(
            script.name,
            state,
            end_state,
            round(recovery_s, 2),
            round(it.app.waits_s(), 3) if it.app is not None else 0.0,
            it.ports[SICK].powered,
            it.message(),
            tuple(failures),
        )


def expected(script: Script, state: str) -> tuple[str, ...]:
    """The end states that are right."""
    end = script.end
    if state == EMPTY and script.from_empty is not None:
        end = script.from_empty
    if state not in WATCHED and script.unwatched is not None:
        end = script.unwatched
    if end is End.GONE:
        return ("empty",)
    if end is End.REFUSED or (state == "quarantined" and not script.lifts):
        return ("quarantined",)
    return ("streaming",) if state in WATCHED else ("ready", "standby")


def judge(
    it: Bench, script: Script, state: str, before: dict[str, int], end_state: str, healthy: HealthySink
) -> Iterator[str]:
    """Everything that is not as it has to be."""
    right = expected(script, state)
    if end_state not in right:
        yield f"ended {end_state}, not {' or '.join(right)}: {it.message()}"
    powered, seated = it.ports[SICK].powered, it.sick.port is not None
    if powered is not (end_state not in ("quarantined", "empty")):
        yield f"power is {'on' if powered else 'off'} in {end_state}"
    if seated is (end_state == "empty"):
        yield f"{'seated' if seated else 'lifted'}, but {end_state}"
    new = end_state == "quarantined" and state != "quarantined"
    if script.message and new and script.message not in it.message():
        yield f"says {it.message()!r}, not {script.message!r}"
    if end_state == "quarantined" and not it.hint():
        yield "no hint says what to do"
    risen = {name for name, count in it.counters(SICK).items() if count > before.get(name, 0)}
    told = state != "quarantined" and not (state not in WATCHED and script.unwatched is End.WELL)
    if script.counter and told and not risen.intersection(script.counter.split("|")):
        yield f"counter {script.counter} did not rise, only {', '.join(sorted(risen)) or 'none'}"
    yield from it.missed
    yield from it.overdrawn
    ledger = it.manager.allotment.ledger
    if ledger.promised_mw > BUDGET_MW:
        yield f"{ledger.promised_mw} mW promised"
    if healthy.longest_gap() > MAX_GAP_S or healthy.losses:
        yield f"the healthy module was touched: gap {healthy.longest_gap():.2f} s, {healthy.losses}"
    yield from judge_app(it, end_state)
    if it.healthy.visitor is None or it.healthy.visitor.steps.passed["start"] != 1 + script.sleeps:
        yield "the healthy module was started again"


def judge_app(it: Bench, end_state: str) -> Iterator[str]:
    """What whoever watches has seen: pictures without a gap all the while, and now the module or the card."""
    app, plays = it.app, end_state == "streaming"
    if app is None:
        return
    yield from app.wrong
    if app.waits_s() > MAX_GAP_S:
        yield f"the app waited {app.waits_s():.2f} s for a picture"
    if it.pipeline.shows_card is plays:
        yield f"the app sees {'the card' if it.pipeline.shows_card else 'a frame'} in {end_state}"


def cases() -> list[tuple[Script, str]]:
    """All of them."""
    return [(script, state) for script in SCRIPTS for state in STATES]


def play(script: Script, state: str) -> Record:
    """One, in fake time."""
    return run(case(script, state))
