# SPDX-License-Identifier: GPL-2.0-or-later
"""The descriptor: its bytes, its shape, its schema, and whether it is plausible."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from crc32c import crc32c

from maglens_driver.conform.cbor_walk import ARRAY, KINDS, MAP, SIMPLE, TAG, TEXT, CborWalk, Item
from maglens_driver.conform.check import Failed, Group, Skipped, expect
from maglens_driver.conform.specimen import Specimen
from maglens_driver.control import Cid, ControlFlag, ControlType
from maglens_driver.errors import BadModule
from maglens_driver.link import cbor, limits
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.wire import Leader, Op, Status, Trailer

DESCRIPTOR: Final = Group("descriptor")
_ALLOWED_SIMPLE: Final = (20, 21, 22)  # false, true, null
_DIAGONAL_MM: Final = (1.0, 120.0)  # of sensors that exist, from endoscopes to large format


def _walk(s: Specimen) -> tuple[CborWalk, list[Item]]:
    walk = CborWalk(s.raw_descriptor())
    try:
        return walk, list(walk.items())
    except Failed as why:
        raise Skipped(f"its items cannot be read: {why}") from why


@DESCRIPTOR.check(
    "blocks", f"every block but the last holds {limits.DESCRIPTOR_BLOCK_BYTES} bytes, and all are there"
)
def _blocks(s: Specimen) -> None:
    info = s.info()
    have = len(s.raw_descriptor())
    expect(have == info.descriptor_bytes, f"INFO says {info.descriptor_bytes} bytes, {have} came")


@DESCRIPTOR.check("block_beyond", "a block beyond the end is INVALID")
def _beyond(s: Specimen) -> None:
    blocks = -(-len(s.raw_descriptor()) // limits.DESCRIPTOR_BLOCK_BYTES)
    for number in (blocks, 0xFFFF):
        reply = s.get(Op.DESCRIPTOR, number)
        expect(reply.status == Status.INVALID, f"block {number} of {blocks} is answered {reply.name}")


@DESCRIPTOR.check("crc", "the bytes have the CRC-32C that INFO gives")
def _crc(s: Specimen) -> None:
    info, made = s.info(), crc32c(s.raw_descriptor())
    expect(made == info.descriptor_crc32c, f"INFO says {info.descriptor_crc32c:#010x}, they have {made:#010x}")


@DESCRIPTOR.check("stays", "the same bytes come a second time")
def _stays(s: Specimen) -> None:
    before = s.raw_descriptor()
    first = s.get(Op.DESCRIPTOR, 0)
    expect(first.body == before[: limits.DESCRIPTOR_BLOCK_BYTES], "block 0 has changed")


@DESCRIPTOR.check("whole", "it is one whole CBOR item")
def _whole(s: Specimen) -> None:
    for _ in CborWalk(s.raw_descriptor()).items():
        pass


@DESCRIPTOR.check("nothing_behind", "nothing is behind that item")
def _behind(s: Specimen) -> None:
    walk, _ = _walk(s)
    expect(walk.end == len(walk.raw), f"{len(walk.raw) - walk.end} bytes are")


@DESCRIPTOR.check("depth", f"it is nested at most {limits.MAX_DESCRIPTOR_DEPTH} deep")
def _depth(s: Specimen) -> None:
    deepest = max(i.depth + (i.major in (ARRAY, MAP)) - 1 for i in _walk(s)[1])
    expect(deepest <= limits.MAX_DESCRIPTOR_DEPTH, f"it is nested {deepest} deep")


@DESCRIPTOR.check("items", f"it has at most {limits.MAX_DESCRIPTOR_ITEMS} items, none of them absurd")
def _items(s: Specimen) -> None:
    expect(len(list(CborWalk(s.raw_descriptor()).items())) <= limits.MAX_DESCRIPTOR_ITEMS, "too many")


@DESCRIPTOR.check("definite", "no item is of indefinite length")
def _definite(s: Specimen) -> None:
    wrong = [i.at for i in _walk(s)[1] if not i.definite]
    expect(not wrong, f"those at bytes {wrong[:5]} are")


@DESCRIPTOR.check("shortest", "every number and length is in its shortest form")
def _shortest(s: Specimen) -> None:
    wrong = [i.at for i in _walk(s)[1] if not i.shortest and i.major != SIMPLE]
    expect(not wrong, f"those at bytes {wrong[:5]} are not")


@DESCRIPTOR.check("types", "only integers, text, byte strings, arrays, maps, true, false and null occur")
def _types(s: Specimen) -> None:
    wrong = [i for i in _walk(s)[1] if i.major == TAG or (i.major == SIMPLE and i.argument not in _ALLOWED_SIMPLE)]
    expect(not wrong, f"there is a {KINDS[wrong[0].major] if wrong else ''} at byte {wrong[0].at if wrong else 0}")


@DESCRIPTOR.check("unique_keys", "no map has a key twice")
def _unique(s: Specimen) -> None:
    walk, _ = _walk(s)
    expect(not walk.twice, f"these come twice: {', '.join(walk.twice)}")


@DESCRIPTOR.check("key_order", "keys are in the order of their encoded bytes")
def _order(s: Specimen) -> None:
    walk, _ = _walk(s)
    expect(not walk.misplaced, f"these are out of order: {', '.join(walk.misplaced[:5])}")


@DESCRIPTOR.check("texts", "every text is UTF-8")
def _texts(s: Specimen) -> None:
    walk, items = _walk(s)
    for item in items:
        if item.major == TEXT:
            start = item.at + (len(item.key) - item.argument if item.key else _head_bytes(item.argument))
            try:
                walk.raw[start : start + item.argument].decode()
            except UnicodeDecodeError as error:
                raise Failed(f"the one at byte {item.at}: {error}") from error


def _head_bytes(argument: int) -> int:
    return 1 if argument < 24 else 2 if argument < 1 << 8 else 3 if argument < 1 << 16 else 5


@DESCRIPTOR.check("deterministic", "decoded and encoded again it is the same (RFC 8949 section 4.2.1)")
def _deterministic(s: Specimen) -> None:
    raw = s.raw_descriptor()
    try:
        again = cbor.encode(cbor.decode(raw))
    except BadModule as error:
        raise Failed(str(error)) from error
    expect(again == raw, "it is not")


def _top(s: Specimen) -> dict[str, cbor.Value]:
    try:
        value = cbor.decode(s.raw_descriptor())
    except BadModule as error:
        raise Skipped(f"it cannot be decoded: {error}") from error
    expect(isinstance(value, dict), "it is no map")
    assert isinstance(value, dict)
    return value


@DESCRIPTOR.check("version", f"its own version is {limits.VERSION_MAJOR}, and INFO's minor version the same as its")
def _version(s: Specimen) -> None:
    version = _top(s).get("maglens")
    expect(isinstance(version, list) and len(version) >= 2, f"it is {version!r}")
    assert isinstance(version, list)
    expect(version[0] == limits.VERSION_MAJOR, f"it is of protocol {version[0]!r}")
    expect(version[1] == s.info().minor, f"it says {version[1]!r}, INFO {s.info().minor}")


_KEYS: Final = {
    "maker": str, "model": str, "serial": str, "firmware": str, "lens": dict, "modes": list, "controls": list,
    "power": dict,
}  # fmt: skip


@DESCRIPTOR.check("keys", "every key that must be there is, with the right kind of value")
def _keys(s: Specimen) -> None:
    top = _top(s)
    wrong = [key for key, kind in _KEYS.items() if not isinstance(top.get(key), kind)]
    expect(not wrong, f"missing or of another kind: {', '.join(wrong)}")


@DESCRIPTOR.check("schema", "every field is of its kind and in its range: the service itself takes the descriptor")
def _schema(s: Specimen) -> None:
    if s.info().descriptor_bytes > limits.MAX_DESCRIPTOR_BYTES:
        raise Skipped("it is too long to be read")
    s.requests.descriptor(s.info())


@DESCRIPTOR.check("sizes", f"every mode is 2 to {limits.MAX_WIDTH} pixels wide and high, and even")
def _sizes(s: Specimen) -> None:
    modes = _top(s).get("modes")
    for index, mode in enumerate(modes if isinstance(modes, list) else []):
        size = (mode.get("width"), mode.get("height")) if isinstance(mode, dict) else (None, None)
        for side in size:
            legal = isinstance(side, int) and 2 <= side <= limits.MAX_WIDTH and side % 2 == 0
            expect(legal, f"mode {index} is {size[0]!r}x{size[1]!r}")


def _modes(d: Descriptor) -> Iterator[str]:
    seen = set()
    for index, m in enumerate(d.modes):
        key = (m.fourcc, m.width, m.height, m.interval)
        if key in seen:
            yield f"mode {index} is there twice"
        seen.add(key)


@DESCRIPTOR.check("modes_differ", "no mode is there twice")
def _differ(s: Specimen) -> None:
    expect(not (wrong := list(_modes(s.descriptor))), "; ".join(wrong))


@DESCRIPTOR.check("rates_add_up", "a mode of fixed length needs at least the Mbit/s that its bytes and rate make")
def _rates(s: Specimen) -> None:
    for index, m in enumerate(s.descriptor.modes):
        if m.stride:
            need = Fraction((m.nbytes + Leader.SIZE + Trailer.SIZE) * 8) / m.interval / 1_000_000
            expect(m.mbit_s >= int(need), f"mode {index} says {m.mbit_s} Mbit/s and sends {float(need):.1f}")


@DESCRIPTOR.check("modes_fit_sensor", "no mode is larger than the sensor")
def _fit(s: Specimen) -> None:
    sensor = s.descriptor.sensor
    if sensor is None:
        raise Skipped("optics only")
    for index, m in enumerate(s.descriptor.modes):
        fits = m.width <= sensor.width and m.height <= sensor.height
        expect(fits, f"mode {index} is {m.width}x{m.height}, the sensor {sensor.width}x{sensor.height}")


@DESCRIPTOR.check("sensor_exists", "the sensor is of a size that exists", should=True)
def _sensor(s: Specimen) -> None:
    sensor = s.descriptor.sensor
    if sensor is None:
        raise Skipped("optics only")
    diagonal = (sensor.width**2 + sensor.height**2) ** 0.5 * sensor.pitch_nm / 1_000_000
    low, high = _DIAGONAL_MM
    expect(low <= diagonal <= high, f"its diagonal would be {diagonal:.2f} mm")


@DESCRIPTOR.check("power_adds_up", "no mode draws more than the peak, and standing by draws no more than any mode")
def _power(s: Specimen) -> None:
    d = s.descriptor
    for index, m in enumerate(d.modes):
        expect(m.mw <= d.power.peak_mw, f"mode {index} draws {m.mw} mW, the peak is {d.power.peak_mw}")
        expect(m.mw >= d.power.standby_mw, f"mode {index} draws {m.mw} mW, standing by {d.power.standby_mw}")


@DESCRIPTOR.check(
    "rings_have_controls", "every ring has its control, and that says that a hand can move it", should=True
)
def _rings(s: Specimen) -> None:
    ids = {"focus": Cid.FOCUS_ABSOLUTE, "iris": Cid.IRIS_ABSOLUTE, "zoom": Cid.ZOOM_ABSOLUTE}
    moved = {c.id for c in s.descriptor.controls if c.flags & ControlFlag.RING}
    for ring in s.descriptor.lens.rings:
        expect(ids[ring] in moved, f"the {ring} ring has none")


@DESCRIPTOR.check("defaults_on_grid", "every control's default is a value that it can have")
def _defaults(s: Specimen) -> None:
    for c in s.descriptor.controls:
        if c.type in (ControlType.MENU, ControlType.INTEGER_MENU):
            expect(c.default in {value for value, _ in c.menu}, f"{c.name} defaults to {c.default}, not in its menu")
        else:
            expect(c.clamp(c.default) == c.default, f"{c.name} defaults to {c.default}, off its steps")


@DESCRIPTOR.check("zoom_range", "a zoom has a zoom control of its range, a prime has none", should=True)
def _zoom(s: Specimen) -> None:
    low, high = s.descriptor.lens.focal_um
    zooms = [c for c in s.descriptor.controls if c.id == Cid.ZOOM_ABSOLUTE]
    expect(bool(zooms) == (low < high), f"{low / 1000:g} to {high / 1000:g} mm, and {len(zooms)} zoom controls")
