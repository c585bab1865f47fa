# SPDX-License-Identifier: MIT
"""Makes the generated parts of docs/protocol.md: ``python -m maglens_driver.link.document docs/protocol.md``.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; a test makes them anew and compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

from crc32c import crc32c

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor, Lens, PowerNeeds, Sensor
from maglens_driver.link.message import Message
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo, source_capabilities
from maglens_driver.link.wire import Op, Status
from maglens_driver.mode import NV12, make_mode
from maglens_driver.source import Identity

_PART: Final = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES: Final = {"B": "u8", "H": "u16", "I": "u32", "i": "i32", "Q": "u64", "q": "i64"}

STRUCTURES: Final[tuple[type[Message], ...]] = (
    wire.Header,
    wire.Info,
    wire.Clock,
    wire.Configure,
    wire.Configured,
    wire.Epoch,
    wire.ControlCount,
    wire.ControlValue,
    wire.Event,
    wire.Leader,
    wire.Trailer,
)

OPS: Final[Mapping[Op, tuple[str, str]]] = {
    Op.INFO: ("empty", "`Info`"),
    Op.DESCRIPTOR: ("`wValue`: block number from 0", "that block's bytes"),
    Op.CLOCK: ("empty", "`Clock`"),
    Op.RESULT: ("`wValue`: tag of the request", "as the request below says"),
    Op.CONTROLS: ("empty", "`ControlCount`, then one `ControlValue` per control"),
    Op.POWER_RECEIVE: ("empty", "one PD message; status NONE and no body when none waits"),
    Op.CONFIGURE: ("`Configure`", "`Configured`"),
    Op.START: ("`Epoch`", "empty"),
    Op.STOP: ("empty", "empty"),
    Op.FLUSH: ("`Epoch`", "empty"),
    Op.SET_CONTROLS: ("`ControlCount`, then `ControlValue`s", "the same list: status and value as clamped"),
    Op.POWER_SEND: ("one PD message", "empty"),
    Op.STANDBY: ("empty", "empty"),
    Op.STILL_CAPTURE: ("reserved", "status UNSUPPORTED"),
    Op.STILL_FETCH: ("reserved", "status UNSUPPORTED"),
    Op.FIRMWARE_BEGIN: ("reserved", "status UNSUPPORTED"),
    Op.FIRMWARE_WRITE: ("reserved", "status UNSUPPORTED"),
    Op.FIRMWARE_COMMIT: ("reserved", "status UNSUPPORTED"),
}

STATUSES: Final[Mapping[Status, str]] = {
    Status.OK: "done",
    Status.ADJUSTED: "done, but not just as asked: the body says how",
    Status.NONE: "POWER_RECEIVE: no message waits",
    Status.BAD_LENGTH: "shorter than the header or the body of this request; or `length` is not what came",
    Status.BAD_MAGIC: "`magic` is another",
    Status.BAD_VERSION: "`major` is not 1",
    Status.UNSUPPORTED: "no such request, a reserved one, one of the other direction, or `code` is not `bRequest`",
    Status.WRONG_STATE: "not legal in the present state",
    Status.NO_CONTRACT: "the power contract does not cover the mode",
    Status.INVALID: "a field has a value that is not allowed; RESULT: no result with this tag",
    Status.BUSY: "cannot now, though the state allows it; the host may ask again",
    Status.FAULT: "the module is broken and stays in FAULT until it loses power",
}

CEILINGS: Final[Mapping[str, str]] = {
    "MAX_CONTROL_BYTES": "bytes of a control payload, header included",
    "DESCRIPTOR_BLOCK_BYTES": "bytes of every descriptor block but the last",
    "MAX_STRUCTURE_BYTES": "bytes of a leader or trailer",
    "MAX_EVENT_BYTES": "bytes of an event",
    "MAX_DESCRIPTOR_BYTES": "bytes of the descriptor",
    "MAX_DESCRIPTOR_DEPTH": "nesting of maps and arrays, the outermost counted",
    "MAX_DESCRIPTOR_ITEMS": "CBOR items in the descriptor, keys counted",
    "MAX_TEXT_BYTES": "bytes of UTF-8 in a text; at least 1",
    "MAX_MODES": "modes",
    "MAX_CONTROLS": "controls, and entries of a list of controls",
    "MAX_CONTROL_VALUE": "value of a control; the least is -2147483648",
    "MAX_MENU_ITEMS": "items of a menu",
    "MAX_CALIBRATION_POINTS": "points of a calibration curve",
    "MAX_WIDTH": "pixels",
    "MAX_HEIGHT": "pixels",
    "MAX_JPEG_PIXELS": "width times height of an MJPG mode",
    "MAX_FRAME_BYTES": "bytes of a payload",
    "MAX_INTERVAL_S": "seconds per frame",
    "MAX_RATE_FPS": "frames per second",
    "MAX_MODE_MBIT_S": "Mbit/s of a mode",
    "MAX_POWER_MW": "mW of a mode, or in `power`",
    "MAX_STANDBY_MW": "mW left to a module that there is no power for",
    "MAX_EVENTS_PER_S": "events a second, and at once after a quiet second",
    "MAX_PD_OBJECTS": "data objects of a power message (USB PD 3.1, 6.2.1.1.2)",
    "MAX_PD_MESSAGES": "power messages of a module in one conversation about its contract",
}

TIMES: Final[Mapping[str, tuple[str, str]]] = {
    "REPLY_S": (
        "any control request, from SETUP to the end of its status stage; a request to the module together with its "
        "RESULT; and from one power message to the answer to it",
        "tSenderResponse 24 to 30 ms",
    ),
    "POWER_TRANSITION_S": (
        "from Accept (or GotoMin) to PS_RDY",
        "tPSTransition 450 to 550 ms, tSrcTransition 25 to 35 ms",
    ),
    "BURST_S": (
        "after the result of a SET_CONTROLS that moves something, during which the module may draw up to peak_mw",
        "none; PDP peak current bits allow 1 to 10 ms",
    ),
    "FIRST_FRAME_S": ("from the result of START to the first leader, besides one frame interval", "none"),
    "STALL_INTERVALS": (
        "frame intervals without an undamaged frame: the stream has stalled; the host sends STOP and START once, "
        "then gives the module up",
        "none",
    ),
    "STALL_MIN_S": ("and at least so many seconds", "none"),
    "FLUSH_S": ("from the cancelling of its transfers to having them all back, at the host", "none"),
    "HARD_RESETS": (
        "times a port is switched off and on before it is given up",
        "nHardResetCount 2; tSrcRecover 0.66 to 1 s off",
    ),
}
NOT_IN_TABLES: Final = frozenset(("VERSION_MAJOR", "VERSION_MINOR", "TIME_FACTOR"))


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |\n"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    return _row(*heads) + _row(*("---" for _ in heads)) + "".join(_row(*r) for r in rows)


def _structure(kind: type[Message]) -> str:
    rows = ((f.offset, f.size, _TYPES[f.code], f"`{f.name}`", f.doc) for f in kind.layout())
    return f"**{kind.__name__}**, {kind.SIZE} bytes\n\n" + _table(
        ("offset", "size", "type", "field", "meaning"), rows
    )


def _ops() -> str:
    def direction(op: Op) -> str:
        return "to the host" if op in wire.IN_OPS else "to the module"

    rows = ((f"{o:#04x}", o.name, direction(o), *OPS[o]) for o in Op)
    return _table(("bRequest", "name", "direction", "what it carries", "reply's or result's body"), rows)


def _statuses() -> str:
    return _table(("value", "name", "meaning"), ((f"{s:#04x}", s.name, STATUSES[s]) for s in Status))


def _ceilings() -> str:
    return _table(
        ("name", "at most", "of what"), ((f"`{n}`", getattr(limits, n), what) for n, what in CEILINGS.items())
    )


def _times() -> str:
    rows = ((f"`{n}`", getattr(limits, n), what, pd) for n, (what, pd) in TIMES.items())
    return _table(("name", "limit", "for what", "USB PD's own, for comparison"), rows)


def hexdump(raw: bytes) -> str:
    """Sixteen bytes a line, with offsets."""
    lines = (f"    {at:04x}  {raw[at : at + 16].hex(' ')}\n" for at in range(0, len(raw), 16))
    return "".join(lines)


def example_descriptor() -> Descriptor:
    """The module of the examples."""
    return Descriptor(
        Identity("Acme", "Lens One", "0001"),
        "1.0",
        Lens("35 mm f/1.4", (35_000, 35_000), (1400, 11_000), 300, ("focus",)),
        Sensor(1280, 720, 3000, "RGGB", 10, 64, 1023),
        (make_mode(NV12, 1280, 720, Fraction(1, 30), mbit_s=332, mw=1500),),
        (ControlInfo(Cid.FOCUS_ABSOLUTE, "Focus", ControlType.INTEGER, 0, 333, 1, 0, ControlFlag.RING),),
        PowerNeeds(100, 2000),
    )


def examples() -> Mapping[str, bytes]:
    """Every worked example, by its name in the document."""
    packed = example_descriptor().pack()
    leader = wire.Leader(
        wire.LEADER_MAGIC, wire.Leader.SIZE, 1, 0, 0, 1, 0, 5_000_000_000, NV12, 1280, 720, 1280, 1_382_400,
        10_000, 1000, 1400, 100, 35_000, 5000,
    )  # fmt: skip
    info = wire.Info(0, wire.ModuleState.IDLE, 0, len(packed), crc32c(packed), 0, 0x0123456789ABCDEF)
    configure = wire.Configure(0, 0, NV12, 1280, 720, 1, 30)
    configured = wire.Configured(0, 0, NV12, 1280, 720, 1, 30, 1280, 1_382_400, 332, 1500)
    offers = source_capabilities([FixedPdo(5000, 900), FixedPdo(9000, 3000)], 0)
    request = PdMessage(PdType.REQUEST, 0, (Rdo(1, 400, 100, give_back=True).pack(),))
    focus = wire.ControlValue(Cid.FOCUS_ABSOLUTE, 0, 400)
    clamped = wire.ControlValue(Cid.FOCUS_ABSOLUTE, Status.ADJUSTED, 333)
    return {
        "descriptor": packed,
        "info": wire.pack_reply(Status.OK, 0, info.pack()),
        "clock": wire.pack_reply(Status.OK, 0, wire.Clock(5_000_000_000, 1).pack()),
        "offers": wire.pack_request(Op.POWER_SEND, 1, offers.pack(source=True)),
        "offers-result": wire.pack_reply(Status.OK, 1),
        "request": wire.pack_reply(Status.OK, 0, request.pack(source=False)),
        "accept": wire.pack_request(Op.POWER_SEND, 2, PdMessage(PdType.ACCEPT, 1).pack(source=True)),
        "ready": wire.pack_request(Op.POWER_SEND, 3, PdMessage(PdType.PS_RDY, 2).pack(source=True)),
        "configure": wire.pack_request(Op.CONFIGURE, 4, configure.pack()),
        "configured": wire.pack_reply(Status.OK, 4, configured.pack()),
        "start": wire.pack_request(Op.START, 5, wire.Epoch(1).pack()),
        "leader": wire.seal(leader),
        "trailer": wire.seal(
            wire.Trailer(wire.TRAILER_MAGIC, wire.Trailer.SIZE, 1, 0, 0, 1, 0, 1_382_400, crc32c(bytes(1_382_400)))
        ),
        "flush": wire.pack_request(Op.FLUSH, 6, wire.Epoch(2).pack()),
        "event": wire.Event(
            wire.EVENT_MAGIC, 1, wire.EventKind.CONTROL, 1, Cid.FOCUS_ABSOLUTE, 120, 6_000_000_000
        ).pack(),
        "set": wire.pack_request(Op.SET_CONTROLS, 7, wire.pack_controls([focus])),
        "set-result": wire.pack_reply(Status.OK, 7, wire.pack_controls([clamped])),
        "refused": wire.pack_reply(Status.WRONG_STATE, 8),
    }


def parts() -> Mapping[str, Callable[[], str]]:
    """Every generated part, by name."""
    made: dict[str, Callable[[], str]] = {
        "requests": _ops,
        "statuses": _statuses,
        "ceilings": _ceilings,
        "times": _times,
    }
    for kind in STRUCTURES:
        made[f"structure-{kind.__name__}"] = partial(_structure, kind)
    for name, raw in examples().items():
        made[f"example-{name}"] = partial(hexdump, raw)
    return made


def regenerate(text: str) -> str:
    """The document with its generated parts made anew. ``KeyError`` for a part that does not exist."""
    made = parts()
    return _PART.sub(lambda m: f"{m[1]}\n{made[m[2]]()}\n{m[3]}", text)


def names_in(text: str) -> list[str]:
    """Names of the generated parts of a document, in order."""
    return [m[2] for m in _PART.finditer(text)]


def main(arguments: list[str]) -> None:
    """Rewrite the files named."""
    for name in arguments:
        path = Path(name)
        path.write_text(regenerate(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
