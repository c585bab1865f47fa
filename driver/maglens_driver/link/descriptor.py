# SPDX-License-Identifier: MIT
"""Descriptor: all facts about a module, as data (docs/protocol.md, "Descriptor", with its CDDL)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from maglens_driver.control import ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import BadModule
from maglens_driver.link import cbor, limits
from maglens_driver.link.reader import Reader, bad, check_number
from maglens_driver.mode import MJPG, RAW, RAW10, Mode, fourcc, fourcc_text, frame_bytes, min_stride
from maglens_driver.raw import Illuminant, RawFacts
from maglens_driver.source import Identity

CFA_ORDERS: Final = ("RGGB", "GRBG", "GBRG", "BGGR")
_I32: Final = 0x7FFFFFFF
_U32: Final = 0xFFFFFFFF
_MILLION: Final = 1_000_000

# Correlated colour temperature of EXIF's LightSource numbers, where it is fixed: A, B, C, D55, D65, D75, D50, studio.
KELVIN: Final = {17: 2856, 18: 4874, 19: 6774, 20: 5503, 21: 6504, 22: 7504, 23: 5003, 24: 3200}


@dataclass(frozen=True, slots=True)
class Lens:
    """Focal length in micrometres (least, most: a zoom has two), f-number in thousandths (widest, smallest), nearest
    focus in mm, and the rings a hand can turn: ``focus``, ``iris``, ``zoom``."""

    name: str
    focal_um: tuple[int, int]
    fnumber_milli: tuple[int, int]
    near_mm: int
    rings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColorMatrix:
    """Camera-to-XYZ under one illuminant: EXIF LightSource number, nine values in ten-thousandths, row by row."""

    illuminant: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sensor:
    """Active pixels, pitch in nm, Bayer order, bits per sample, black and white level in samples."""

    width: int
    height: int
    pitch_nm: int
    cfa: str
    bits: int
    black: int
    white: int
    matrices: tuple[ColorMatrix, ...] = ()


@dataclass(frozen=True, slots=True)
class Calibration:
    """In millionths, from centre to corner: gains that undo vignetting, at even steps of the squared distance;
    displacement (distortion), at even steps of the distance."""

    vignetting: tuple[int, ...] = ()
    distortion: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """Optics only: ``crop``, the millionths of the host camera's width and height, around its middle, that hold the
    lens's picture; ``flip``, how that is turned (``horizontal``, ``vertical``)."""

    crop: int = _MILLION
    flip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PowerNeeds:
    """mW: standing by, and the most it ever draws (focus motors and bursts included)."""

    standby_mw: int
    peak_mw: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One module. ``sensor`` None: nothing is told of it; with no ``modes`` either the module is optics only, and

    ``profile`` says what it makes of the picture of the camera behind it.
    """

    identity: Identity
    firmware: str
    lens: Lens
    sensor: Sensor | None
    modes: tuple[Mode, ...]
    controls: tuple[ControlInfo, ...]
    power: PowerNeeds
    calibration: Calibration = Calibration()
    profile: Profile | None = None

    def with_facts(self, mode: Mode) -> Mode:
        """A mode of this module, with what is known of its samples where it is raw."""
        sensor = self.sensor
        if mode.fourcc not in RAW or sensor is None:
            return mode
        bits = 10 if mode.fourcc in RAW10 else 12
        scale = 2.0 ** (bits - sensor.bits)
        known = sorted((KELVIN[m.illuminant], m.values) for m in sensor.matrices if m.illuminant in KELVIN)
        lights = tuple(Illuminant(kelvin, tuple(v / 10_000 for v in values)) for kelvin, values in known)
        falloff = tuple(gain / _MILLION for gain in self.calibration.vignetting)
        black, white = sensor.black * scale, (sensor.white + 1) * scale - 1
        pixel_nm = sensor.pitch_nm * sensor.width // mode.width
        return replace(mode, raw=RawFacts(bits, black, white, lights, falloff, pixel_nm))

    @property
    def is_optics_only(self) -> bool:
        """A lens to be put before the host's own camera."""
        return self.sensor is None and not self.modes

    def pack(self) -> bytes:
        """Deterministic CBOR."""
        ident, lens, power = self.identity, self.lens, self.power
        top: dict[str, cbor.Value] = {
            "maglens": [limits.VERSION_MAJOR, limits.VERSION_MINOR],
            "maker": ident.maker,
            "model": ident.model,
            "serial": ident.serial,
            "firmware": self.firmware,
            "lens": {
                "name": lens.name,
                "focal_um": list(lens.focal_um),
                "fnumber_milli": list(lens.fnumber_milli),
                "near_mm": lens.near_mm,
                "rings": list(lens.rings),
            },
            "modes": [_pack_mode(m) for m in self.modes],
            "controls": [_pack_control(c) for c in self.controls],
            "power": {"standby_mw": power.standby_mw, "peak_mw": power.peak_mw},
        }
        if self.sensor is not None:
            s = self.sensor
            top["sensor"] = {
                "width": s.width,
                "height": s.height,
                "pitch_nm": s.pitch_nm,
                "cfa": s.cfa,
                "bits": s.bits,
                "black": s.black,
                "white": s.white,
                "matrices": [{"illuminant": m.illuminant, "values": list(m.values)} for m in s.matrices],
            }
        if self.calibration != Calibration():
            top["calibration"] = {
                "vignetting": list(self.calibration.vignetting),
                "distortion": list(self.calibration.distortion),
            }
        if self.profile is not None:
            top["profile"] = {"crop": self.profile.crop, "flip": list(self.profile.flip)}
        return cbor.encode(top)

    @classmethod
    def unpack(cls, raw: bytes) -> Descriptor:
        """Causes: those of :func:`cbor.decode`, ``descriptor_version``, ``descriptor_field``."""
        value = cbor.decode(raw)
        top = Reader(value, "")
        version = top.list("maglens", 2, 8, lambda v, _: v)  # a newer minor version may append
        major, minor = (check_number(v, 0, 0xFF, f"maglens[{i}]") for i, v in enumerate(version[:2]))
        if major != limits.VERSION_MAJOR:
            raise BadModule(
                "descriptor_version",
                f"the module speaks protocol {major}.{minor}, this host {limits.VERSION_MAJOR}",
                hint="update maglens on this machine",
            )
        sensor = _sensor(top.map("sensor")) if top.has("sensor") else None
        power = top.map("power")
        return cls(
            Identity(_plain(top, "maker"), top.text("model"), _plain(top, "serial")),
            top.text("firmware"),
            _lens(top.map("lens")),
            sensor,
            top.list("modes", 1 if sensor else 0, limits.MAX_MODES, _mode),
            _controls(top),
            PowerNeeds(
                power.number("standby_mw", 0, limits.MAX_POWER_MW),
                power.number("peak_mw", 0, limits.MAX_POWER_MW),
            ),
            _calibration(top.map("calibration")) if top.has("calibration") else Calibration(),
            _profile(top.map("profile")) if top.has("profile") else None,
        )


def _plain(top: Reader, key: str) -> str:
    """Maker or serial: without '/', so that ``maker/model/serial`` has one reading (models are named "f/1.4")."""
    text = top.text(key)
    if "/" in text:
        raise bad(key, f"is {text!r}; '/' is not allowed there")
    return text


def _pack_mode(m: Mode) -> cbor.Value:
    return {
        "fourcc": fourcc_text(m.fourcc),
        "width": m.width,
        "height": m.height,
        "stride": m.stride,
        "bytes": m.nbytes,
        "interval": [m.interval.numerator, m.interval.denominator],
        "mbit_s": m.mbit_s,
        "mw": m.mw,
    }


def _pack_control(c: ControlInfo) -> cbor.Value:
    packed: dict[str, cbor.Value] = {
        "id": c.id,
        "name": c.name,
        "type": int(c.type),
        "range": [c.minimum, c.maximum, c.step, c.default],
        "flags": int(c.flags),
    }
    if c.menu:
        packed["menu"] = [[value, name] for value, name in c.menu]
    return packed


def _lens(r: Reader) -> Lens:
    focal = r.list("focal_um", 2, 2, lambda v, p: check_number(v, 1, 10_000_000, p))
    stops = r.list("fnumber_milli", 2, 2, lambda v, p: check_number(v, 100, 1_000_000, p))
    if focal[0] > focal[1] or stops[0] > stops[1]:
        raise bad("lens", "has a range whose least is above its most")
    rings = r.list("rings", 0, 3, _ring)
    return Lens(r.text("name"), (focal[0], focal[1]), (stops[0], stops[1]), r.number("near_mm", 0, 1_000_000), rings)


def _ring(value: cbor.Value, path: str) -> str:
    if value not in ("focus", "iris", "zoom"):
        raise bad(path, f"is {value!r}, not focus, iris or zoom")
    return str(value)


def _sensor(r: Reader) -> Sensor:
    bits = r.number("bits", 8, 16)
    black, white = r.number("black", 0, (1 << bits) - 1), r.number("white", 1, (1 << bits) - 1)
    cfa = r.text("cfa")
    if cfa not in CFA_ORDERS:
        raise bad("sensor.cfa", f"is {cfa!r}, not one of {', '.join(CFA_ORDERS)}")
    if black >= white:
        raise bad("sensor.black", f"is {black}, not below the white level {white}")
    return Sensor(
        r.number("width", 2, limits.MAX_WIDTH),
        r.number("height", 2, limits.MAX_HEIGHT),
        r.number("pitch_nm", 100, 100_000),
        cfa,
        bits,
        black,
        white,
        r.list("matrices", 0, 2, _matrix),
    )


def _matrix(value: cbor.Value, path: str) -> ColorMatrix:
    r = Reader(value, path)
    values = r.list("values", 9, 9, lambda v, p: check_number(v, -100_000, 100_000, p))
    return ColorMatrix(r.number("illuminant", 0, 255), values)


def _mode(value: cbor.Value, path: str) -> Mode:
    r = Reader(value, path)
    text = r.text("fourcc")
    if len(text) != 4 or not text.isascii():  # text() has refused what cannot be printed
        raise bad(f"{path}.fourcc", f"is {text!r}, not four ASCII characters")
    code = fourcc(text)
    width, height = r.number("width", 2, limits.MAX_WIDTH), r.number("height", 2, limits.MAX_HEIGHT)
    if width % 2 or height % 2:
        raise bad(path, f"has the odd size {width}x{height}")
    stride = r.number("stride", 0, limits.MAX_WIDTH * 8)
    nbytes = r.number("bytes", 1, limits.MAX_FRAME_BYTES)
    need = min_stride(code, width)
    if code == MJPG:
        if stride:
            raise bad(f"{path}.stride", "is not 0 for MJPG")
        if width * height > limits.MAX_JPEG_PIXELS:
            raise bad(path, f"has {width}x{height} pixels of MJPG, {limits.MAX_JPEG_PIXELS} are allowed")
    elif need and (stride < need or nbytes != frame_bytes(code, stride, height)):
        raise bad(path, f"has stride {stride} and {nbytes} bytes, which do not fit {width}x{height} {text}")
    over, under = r.list("interval", 2, 2, lambda v, p: check_number(v, 1, _U32, p))
    interval = Fraction(over, under)
    if not Fraction(1, limits.MAX_RATE_FPS) <= interval <= limits.MAX_INTERVAL_S:
        raise bad(f"{path}.interval", f"is {over}/{under} s")
    return Mode(
        code,
        width,
        height,
        stride,
        nbytes,
        interval,
        r.number("mbit_s", 0, limits.MAX_MODE_MBIT_S),
        r.number("mw", 0, limits.MAX_POWER_MW),
    )


def _controls(top: Reader) -> tuple[ControlInfo, ...]:
    controls = top.list("controls", 0, limits.MAX_CONTROLS, _control)
    seen: set[int] = set()
    for c in controls:
        if c.id in seen:
            raise bad("controls", f"names control {c.id:#010x} twice")
        seen.add(c.id)
    return controls


def _control(value: cbor.Value, path: str) -> ControlInfo:
    r = Reader(value, path)
    kind = r.number("type", 1, 9)
    if kind not in {int(t) for t in ControlType}:
        raise bad(f"{path}.type", f"is {kind}, which is no known type of control")
    low, high, step, default = r.list("range", 4, 4, lambda v, p: check_number(v, -_I32 - 1, _I32, p))
    if not low <= default <= high or step < (0 if kind == ControlType.BUTTON else 1):
        raise bad(f"{path}.range", f"is {low} to {high} step {step} default {default}")
    flags = r.number("flags", 0, int(ControlFlag.READ_ONLY | ControlFlag.INACTIVE | ControlFlag.RING), 0)
    menu = r.list("menu", 0, limits.MAX_MENU_ITEMS, lambda v, p: _menu_item(v, p, low, high))
    if kind in (ControlType.MENU, ControlType.INTEGER_MENU) and not menu:
        raise bad(f"{path}.menu", "is missing")
    return ControlInfo(
        r.number("id", 1, _U32),
        r.text("name"),
        ControlType(kind),
        low,
        high,
        step,
        default,
        ControlFlag(flags),
        menu,
    )


def _menu_item(value: cbor.Value, path: str, low: int, high: int) -> tuple[int, str]:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
        raise bad(path, "is not a pair of number and name")
    name = value[1]
    if not 0 < len(name.encode()) <= limits.MAX_TEXT_BYTES or not name.isprintable():
        raise bad(path, "has a name that cannot be shown")
    return check_number(value[0], low, high, path), name


def _calibration(r: Reader) -> Calibration:
    return Calibration(
        r.list("vignetting", 0, limits.MAX_CALIBRATION_POINTS, lambda v, p: check_number(v, 0, 64 * _MILLION, p)),
        r.list(
            "distortion",
            0,
            limits.MAX_CALIBRATION_POINTS,
            lambda v, p: check_number(v, -_MILLION, _MILLION, p),
        ),
    )


def _profile(r: Reader) -> Profile:
    return Profile(r.number("crop", 1, _MILLION), r.list("flip", 0, 2, _flip))


def _flip(value: cbor.Value, path: str) -> str:
    if value not in ("horizontal", "vertical"):
        raise bad(path, f"is {value!r}, not horizontal or vertical")
    return str(value)
