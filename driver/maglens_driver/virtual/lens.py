# SPDX-License-Identifier: MIT
"""Lens: the facts about a virtual module, read from ``lenses/NAME.toml``. No code knows a lens by name.

More files may lie in the directories of ``$MAGLENS_LENS_PATH`` (separated by ':'); they come before the package's
own.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import BadModule, MaglensError
from maglens_driver.link.descriptor import Calibration, ColorMatrix, Descriptor, Lens, PowerNeeds, Profile, Sensor
from maglens_driver.link.wire import Leader, Trailer
from maglens_driver.mode import MJPG, Mode, fourcc, make_mode
from maglens_driver.names import ENV_LENS_PATH
from maglens_driver.source import Identity

JPEG_BITS_PER_PIXEL: Final = 4  # the most that one JPEG frame takes
FASTEST_MBIT: Final = 10_000  # claimed where a file does not say it: the bus decides
_OPTICS: Final = Path(__file__).with_name("optics")
_CDPT_MM: Final = 100_000  # hundredths of a dioptre times millimetres
_UDPT_MM: Final = 1_000_000_000  # millionths
_CENTISTOPS_PER_OCTAVE: Final = 200  # of f-number: a stop is a factor of the square root of two


class LensError(MaglensError):
    """A lens file is missing or wrong."""


class NoLens(LensError):
    """There is no such lens."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a mode draws where a file does not say it for each: ``streaming_mw``, and more by the Mbit/s it sends."""

    streaming_mw: int = 0
    mw_per_mbit_s: float = 0.0

    def of(self, mbit_s: int) -> int:
        """mW of a mode."""
        return round(self.streaming_mw + self.mw_per_mbit_s * mbit_s)


@dataclass(frozen=True, slots=True)
class LensData:
    """One module's file: its ``descriptor`` (serial to be replaced), the ``mark`` source number of virtual pictures,
    and the rate in Mbit/s of the link it claims. A file for optics only, or for a board whose camera tells the modes
    (``price`` is for these), has none."""

    name: str
    mark: int
    link_mbit_s: int
    descriptor: Descriptor
    price: Price = Price()

    def with_serial(self, serial: str) -> LensData:
        """The same module with another serial number."""
        identity = replace(self.descriptor.identity, serial=serial)
        return replace(self, descriptor=replace(self.descriptor, identity=identity))


def _directories() -> Iterator[Path]:
    for entry in os.environ.get(ENV_LENS_PATH, "").split(os.pathsep):
        if entry:
            yield Path(entry)
    yield Path(__file__).with_name("lenses")
    yield _OPTICS


def optics_names() -> tuple[str, ...]:
    """Names of the modules that are optics only: a lens and no sensor."""
    return tuple(sorted(path.stem for path in _OPTICS.glob("*.toml")))


def lens_names() -> tuple[str, ...]:
    """Names of the lenses with a sensor, sorted by leading number, then by name."""
    names = {path.stem for directory in _directories() for path in directory.glob("*.toml") if directory != _OPTICS}

    def order(name: str) -> tuple[int, str]:
        digits = name[: len(name) - len(name.lstrip("0123456789"))]
        return int(digits or 0), name

    return tuple(sorted(names, key=order))


def load_lens(name: str) -> LensData:
    """Read one lens. :class:`LensError` names the file and the field, or the lenses there are."""
    for directory in _directories():
        path = directory / f"{name}.toml"
        if path.parent == directory and path.is_file():
            break
    else:
        raise NoLens(f"there is no lens {name!r}", hint=f"use one of {', '.join((*lens_names(), *optics_names()))}")
    return read_lens(path)


def read_lens(path: Path) -> LensData:
    """Read a file. :class:`LensError` names it and the field."""
    try:
        with path.open("rb") as file:
            return _lens(path.stem, tomllib.load(file))
    except FileNotFoundError as error:
        raise NoLens(f"there is no file {path}", hint="maglens module list") from error
    except OSError as error:
        raise LensError(f"{path}: {error.strerror}", hint=f"ls -l {path}") from error
    except KeyError as error:
        raise LensError(f"{path}: {error.args[0]} is missing", hint=f"compare it with {_example()}") from error
    except (ValueError, TypeError, AttributeError, BadModule) as error:
        raise LensError(f"{path}: {error}", hint=f"compare it with {_example()}") from error


def _example() -> str:
    return str(Path(__file__).with_name("lenses") / "35mm.toml")


def _pair(values: Any, scale: int) -> tuple[int, int]:
    low, high = values
    return round(low * scale), round(high * scale)


def _lens(name: str, top: Mapping[str, Any]) -> LensData:
    optics = top["lens"]
    lens = Lens(
        optics["name"],
        _pair(optics["focal_mm"], 1000),
        _pair(optics["fnumber"], 1000),
        optics["near_mm"],
        tuple(optics["rings"]),
    )
    power = dict(top["power"])
    price = Price(power.pop("streaming_mw", 0), power.pop("mw_per_mbit_s", 0.0))
    descriptor = Descriptor(
        Identity(top["maker"], top["model"], "0"),
        top["firmware"],
        lens,
        _sensor(top.get("sensor")),
        tuple(mode for entry in top.get("modes", ()) for mode in _modes(entry)),
        tuple(_controls(lens, top.get("controls", {}))),
        PowerNeeds(**power),
        _calibration(top.get("calibration", {})),
        _profile(top.get("profile")),
    )
    mark, link = top.get("mark", 0), top.get("link_mbit_s", FASTEST_MBIT)
    if not 0 <= mark <= 0xFF:
        raise ValueError(f"mark is {mark}, not 0 to 255")
    if descriptor.modes or descriptor.sensor is None:  # else it is for a board, and a camera's modes come to it
        descriptor = Descriptor.unpack(descriptor.pack())
    return LensData(name, mark, link, descriptor, price)


def _sensor(table: Mapping[str, Any] | None) -> Sensor | None:
    if table is None:
        return None
    facts = dict(table)
    matrices = tuple(ColorMatrix(m["illuminant"], tuple(m["values"])) for m in facts.pop("matrices", ()))
    return Sensor(**facts, matrices=matrices)


def _calibration(table: Mapping[str, Any]) -> Calibration:
    return Calibration(**{key: tuple(round(value * 1_000_000) for value in table[key]) for key in table})


def _profile(table: Mapping[str, Any] | None) -> Profile | None:
    if table is None:
        return None
    return Profile(round(table["crop"] * 1_000_000), tuple(table["flip"]))


def link_mbit(nbytes: int, interval: Fraction) -> int:
    """Link rate in Mbit/s, rounded up, of frames of ``nbytes`` with their leader and trailer."""
    return math.ceil((nbytes + Leader.SIZE + Trailer.SIZE) * 8 / interval / 1_000_000)


def _modes(entry: Mapping[str, Any]) -> Iterator[Mode]:
    width, height = entry["size"]
    for text in entry["formats"]:
        for rate, mw in zip(entry["rates"], entry["mw"], strict=True):
            interval = Fraction(1, rate)
            mode = make_mode(fourcc(text), width, height, interval, mw=mw)
            if mode.fourcc == MJPG:
                mode = replace(mode, nbytes=width * height * JPEG_BITS_PER_PIXEL // 8)
            yield replace(mode, mbit_s=link_mbit(mode.nbytes, interval))


def _controls(lens: Lens, table: Mapping[str, Mapping[str, int]]) -> Iterator[ControlInfo]:
    """Ranges of focus, iris and zoom follow from the optics; a lens without the entry has no such control."""
    ring = {name: ControlFlag.RING if name in lens.rings else ControlFlag.NONE for name in ("focus", "iris", "zoom")}
    stops = round(_CENTISTOPS_PER_OCTAVE * math.log2(lens.fnumber_milli[1] / lens.fnumber_milli[0]))
    optical = {
        "focus": (Cid.FOCUS_ABSOLUTE, "Focus, Absolute", 0, _CDPT_MM // max(1, lens.near_mm)),
        "focus_fine": (Cid.FOCUS_FINE, "Focus, Fine", 0, _UDPT_MM // max(1, lens.near_mm)),
        "iris": (Cid.IRIS_ABSOLUTE, "Iris, Absolute", 0, stops),
        "zoom": (Cid.ZOOM_ABSOLUTE, "Zoom, Absolute", lens.focal_um[0] // 100, lens.focal_um[1] // 100),
    }
    plain = {
        "exposure": (Cid.EXPOSURE_ABSOLUTE, "Exposure Time, Absolute"),
        "gain": (Cid.GAIN, "Gain"),
        "white_balance": (Cid.WHITE_BALANCE_TEMPERATURE, "White Balance Temperature"),
    }
    for key, entry in table.items():
        if key in optical:
            cid, title, low, high = optical[key]
            step, flags = entry.get("step", 1), ring.get(key, ControlFlag.NONE)
            yield ControlInfo(cid, title, ControlType.INTEGER, low, high, step, entry["default"], flags)
        elif key in plain:
            cid, title = plain[key]
            step = entry.get("step", 1)
            yield ControlInfo(
                cid, title, ControlType.INTEGER, entry["minimum"], entry["maximum"], step, entry["default"]
            )
        else:
            raise ValueError(f"controls.{key} is not one of {', '.join((*plain, *optical))}")
