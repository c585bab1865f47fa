# SPDX-License-Identifier: GPL-2.0-or-later
"""States: which request is legal when, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from maglens_driver.automatics import SWITCHES
from maglens_driver.conform.check import Group, expect
from maglens_driver.conform.in_hand import ends, in_hand, present, put, writable
from maglens_driver.conform.specimen import Reply, Specimen
from maglens_driver.link.wire import Epoch, ModuleState, Op, Status

STATES: Final = Group("state")
_S = ModuleState

Ask = Callable[[Specimen], Reply]


def _configure(s: Specimen) -> Reply:
    return s.configure(s.small())


def _start(s: Specimen) -> Reply:
    return s.put(Op.START, Epoch(s.epoch + 1).pack())


def _flush(s: Specimen) -> Reply:
    return s.flush()


def _plain(op: Op) -> Ask:
    return lambda s: s.put(op)


_ASK: Final[dict[str, Ask]] = {
    "configure": _configure,
    "start": _start,
    "flush": _flush,
    "stop": _plain(Op.STOP),
    "standby": _plain(Op.STANDBY),
    "controls": lambda s: s.get(Op.CONTROLS),
    "info": lambda s: s.get(Op.INFO),
    "clock": lambda s: s.get(Op.CLOCK),
    "descriptor": lambda s: s.get(Op.DESCRIPTOR),
}


def _be_configured(s: Specimen) -> None:
    s.configured(s.small())


def _be_streaming(s: Specimen) -> None:
    s.started(s.small())


_BE: Final[dict[ModuleState, Callable[[Specimen], None]]] = {
    _S.IDLE: lambda s: s.idle(),
    _S.CONFIGURED: _be_configured,
    _S.STREAMING: _be_streaming,
    _S.STANDBY: lambda s: s.standing_by(),
}

# From a state, what is asked, whether it is legal there, and the state afterwards.
_TABLE: Final[tuple[tuple[ModuleState, str, bool, ModuleState], ...]] = (
    (_S.IDLE, "start", False, _S.IDLE),
    (_S.IDLE, "flush", False, _S.IDLE),
    (_S.IDLE, "stop", True, _S.IDLE),
    (_S.IDLE, "controls", True, _S.IDLE),
    (_S.IDLE, "standby", True, _S.STANDBY),
    (_S.STANDBY, "start", False, _S.STANDBY),
    (_S.STANDBY, "flush", False, _S.STANDBY),
    (_S.STANDBY, "stop", True, _S.STANDBY),
    (_S.STANDBY, "standby", True, _S.STANDBY),
    (_S.STANDBY, "controls", True, _S.STANDBY),
    (_S.STANDBY, "info", True, _S.STANDBY),
    (_S.STANDBY, "clock", True, _S.STANDBY),
    (_S.STANDBY, "descriptor", True, _S.STANDBY),
    (_S.STANDBY, "configure", True, _S.CONFIGURED),
    (_S.CONFIGURED, "configure", True, _S.CONFIGURED),
    (_S.CONFIGURED, "flush", False, _S.CONFIGURED),
    (_S.CONFIGURED, "stop", True, _S.CONFIGURED),
    (_S.CONFIGURED, "standby", True, _S.STANDBY),
    (_S.CONFIGURED, "start", True, _S.STREAMING),
    (_S.STREAMING, "start", False, _S.STREAMING),
    (_S.STREAMING, "configure", False, _S.STREAMING),
    (_S.STREAMING, "standby", False, _S.STREAMING),
    (_S.STREAMING, "info", True, _S.STREAMING),
    (_S.STREAMING, "clock", True, _S.STREAMING),
    (_S.STREAMING, "descriptor", True, _S.STREAMING),
    (_S.STREAMING, "controls", True, _S.STREAMING),
    (_S.STREAMING, "flush", True, _S.STREAMING),
    (_S.STREAMING, "stop", True, _S.CONFIGURED),
)
_NEED_MODES: Final = frozenset(("configure", "start", "flush"))


def _make(state: ModuleState, asked: str, legal: bool, after: ModuleState) -> Callable[[Specimen], None]:
    def body(s: Specimen) -> None:
        s.powered()
        if asked in _NEED_MODES or state in (_S.CONFIGURED, _S.STREAMING):
            s.playable()
        _BE[state](s)
        if state is _S.IDLE:
            s.powered()
        reply = _ASK[asked](s)
        want = Status.OK if legal else Status.WRONG_STATE
        expect(reply.status == want, f"{asked.upper()} in {state.name} is answered {reply.name}, not {want.name}")
        now = s.state()
        s.stop()
        expect(now is after, f"it is {now.name} afterwards, not {after.name}")

    return body


for _state, _asked, _legal, _after in _TABLE:
    _word = "leads to" if _after is not _state else "is done in" if _legal else "is WRONG_STATE in"
    STATES.add(
        f"{_state.name.lower()}_{_asked}",
        f"{_asked.upper()} {_word} {(_after if _after is not _state else _state).name}"
        + (f" from {_state.name}" if _after is not _state else ""),
        _make(_state, _asked, _legal, _after),
    )


@STATES.check("standby_forgets_mode", "standby loses the configuration: START behind it is WRONG_STATE")
def _forgets(s: Specimen) -> None:
    s.configured(s.small())
    s.standing_by()
    expect((reply := _start(s)).status == Status.WRONG_STATE, f"it is {reply.name}")


@STATES.check("stop_keeps_mode", "STOP keeps the configuration: START behind it is done")
def _keeps(s: Specimen) -> None:
    s.started(s.small())
    s.stop()
    reply = _start(s)
    s.stop()
    expect(reply.status == Status.OK, f"it is {reply.name}")


@STATES.check("standby_keeps_controls", "controls keep their values through standby")
def _controls(s: Specimen) -> None:
    controls = writable(s)
    with in_hand(s, *controls):
        kept = {c.id: ends(c)[0] for c in controls if c.id not in SWITCHES}  # mostly not the default
        put(s, *kept.items())
        s.standing_by()
        now = present(s)
        put(s, *((c.id, c.clamp(c.default)) for c in controls if c.id in kept))
    lost = [c for c in controls if c.id in kept and now.get(c.id) != kept[c.id]]
    expect(not lost, "; ".join(f"{c.name} was {kept[c.id]} and is {now.get(c.id)}" for c in lost))
