# SPDX-License-Identifier: GPL-2.0-or-later
"""INFO: the first request there is. All but the last checks look at one and the same reply."""

from __future__ import annotations

from typing import Final

from maglens_driver.conform.check import Group, Skipped, expect
from maglens_driver.conform.specimen import Specimen
from maglens_driver.errors import MaglensError
from maglens_driver.link import limits, wire
from maglens_driver.link.wire import Info, ModuleState, Op, Status

INFO: Final = Group("info")
_READS: Final = 32


def _raw(s: Specimen) -> bytes:
    try:
        return s.first_info()
    except MaglensError as error:
        raise Skipped("there was no reply") from error


def _head(s: Specimen) -> wire.Header:
    raw = _raw(s)
    if len(raw) < wire.Header.SIZE:
        raise Skipped("the reply has no whole header")
    return wire.Header.unpack(raw)


def _body(s: Specimen) -> Info:
    raw = _raw(s)
    if len(raw) < wire.Header.SIZE + Info.SIZE:
        raise Skipped("the reply has no whole body")
    return Info.unpack(raw, wire.Header.SIZE)


@INFO.check("in_time", f"the first INFO is answered within {limits.REPLY_S:g} s")
def _in_time(s: Specimen) -> None:
    s.first_info()


@INFO.check("length", "the reply is as long as its header says, and holds an Info")
def _length(s: Specimen) -> None:
    raw = _raw(s)
    expect(len(raw) >= wire.Header.SIZE, f"{len(raw)} bytes came")
    said = wire.Header.unpack(raw).length
    expect(said == len(raw), f"the header says {said} bytes, {len(raw)} came")
    expect(len(raw) >= wire.Header.SIZE + Info.SIZE, f"its body has {len(raw) - wire.Header.SIZE} bytes")


@INFO.check("magic", "the reply begins with 0x4C4D")
def _magic(s: Specimen) -> None:
    expect(_head(s).magic == wire.CONTROL_MAGIC, f"it begins with {_head(s).magic:#06x}")


@INFO.check("version", f"the reply is of protocol {limits.VERSION_MAJOR}")
def _version(s: Specimen) -> None:
    expect(_head(s).major == limits.VERSION_MAJOR, f"it is of protocol {_head(s).major}")


@INFO.check("status", "the status is OK")
def _status(s: Specimen) -> None:
    expect(_head(s).code == Status.OK, f"it is {_head(s).code:#04x}")


@INFO.check("tag", "a plain read has tag 0")
def _tag(s: Specimen) -> None:
    expect(_head(s).tag == 0, f"it has tag {_head(s).tag:#06x}")


@INFO.check("state", "the state is one of the five")
def _state(s: Specimen) -> None:
    expect(_body(s).state in {int(v) for v in ModuleState}, f"it is {_body(s).state}")


@INFO.check("descriptor_bytes", f"the descriptor has 1 to {limits.MAX_DESCRIPTOR_BYTES} bytes")
def _descriptor_bytes(s: Specimen) -> None:
    expect(0 < _body(s).descriptor_bytes <= limits.MAX_DESCRIPTOR_BYTES, f"{_body(s).descriptor_bytes} bytes")


@INFO.check("reserved", "flags and reserved are sent as 0")
def _reserved(s: Specimen) -> None:
    expect((_body(s).flags, _body(s).reserved) == (0, 0), f"they are {_body(s).flags} and {_body(s).reserved}")


@INFO.check("boot_id", "the boot id is a random number, not 0")
def _boot_id(s: Specimen) -> None:
    expect(_body(s).boot_id != 0, "it is 0")


@INFO.check("answers_again", "INFO is answered a second time")
def _again(s: Specimen) -> None:
    s.info()


@INFO.check("boot_id_stays", "boot id, length and CRC of the descriptor stay while it has power")
def _stays(s: Specimen) -> None:
    one, other = s.info(), s.info()
    for field in ("boot_id", "descriptor_bytes", "descriptor_crc32c", "minor"):
        expect(getattr(one, field) == getattr(other, field), f"{field} has changed")


@INFO.check("repeated_reads", f"{_READS} plain reads in a row are answered alike")
def _repeated(s: Specimen) -> None:
    first = s.read(Op.INFO)
    for number in range(2, _READS + 1):
        expect(s.read(Op.INFO) == first, f"reply {number} differs")
