# SPDX-License-Identifier: GPL-2.0-or-later
"""Config: what an administrator may choose, read strictly from TOML with drop-ins.

``/etc/maglens/maglens.toml`` first, then ``/etc/maglens/maglens.toml.d/*.toml`` by name; later values win, table by
table, and a later list replaces an earlier one. Nothing has to be there. An unknown key or a value that is not
allowed is an error that names file and line; nothing of a broken configuration is used.

The dataclasses below are the schema: each field holds its check, its unit and its meaning, and the manual's table is
tested against them.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from maglens_daemon import coherence
from maglens_daemon.board.failures import Code
from maglens_daemon.board.hall import SWITCHES
from maglens_daemon.config_files import config_files
from maglens_daemon.errors import ConfigError
from maglens_daemon.link_health import LinkRules
from maglens_daemon.pattern import fits
from maglens_daemon.power_policy import PowerRules
from maglens_daemon.toml_lines import KeyPath, Lines
from maglens_driver import names
from maglens_driver.link import limits
from maglens_driver.mode import NV12, YUYV, Mode, make_mode
from maglens_v4l2 import canonical
from maglens_v4l2.node_kind import NodeKind
from maglens_v4l2.orientation import QUARTERS, UPRIGHT, Orientation

T = TypeVar("T")
Table = dict[str, Any]

LARGEST: Final = {"1080p": canonical.FULL_HD, "4K": 3840 * 2160}  # pixels
MEMORY_FOR_4K: Final = 5 << 30
NODE_FORMATS: Final = {"NV12": NV12, "YUYV": YUYV}
NODE_KINDS: Final = tuple(kind.value for kind in NodeKind)
SOURCE_KINDS: Final = ("module", "v4l2", "libcamera")
RETRY_CODES: Final = tuple(code.value for code in Code)
RULE_ACTIONS: Final = ("prefer", "never", "pin")
MAX_CARD_NAME: Final = 31  # bytes of struct v4l2_capability's card, without the final zero
MAX_NODE_PIXELS: Final = 128_000_000  # four pictures of YUYV, the least a kernel node needs, fit its ring of 1 GiB
MAX_DWELL_MS: Final = 10_000
FOCUS_ZONE: Final = (0.3125, 0.3125, 0.375, 0.375)  # the default of maglens_v4l2.measurement.Window
LEVELS: Final = ("high", "low")
_USB_PATH: Final = re.compile(r"\d+-\d+(\.\d+)*")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,23}")  # with the card's name before it, at most MAX_CARD_NAME
LONGEST_QUIET: Final = 32  # times quiet_s: the longest wait before a climb that has failed before


class _Unfit(ValueError):
    """What a check says of a value."""


def _key(check: Callable[[Any], T], default: T, doc: str) -> Any:
    return field(default=default, metadata={"check": check, "doc": doc})


def _number(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Unfit(f"a whole number from {low} to {high}")
        return value

    return check


def _optional(check: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return check


def _even(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high or value % 2:
            raise _Unfit(f"an even number from {low} to {high}")
        return value

    return check


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _Unfit("a number above 0, at most 1")
    return float(value)


def _choice(choices: Sequence[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            near = difflib.get_close_matches(str(value), choices, 1)
            raise _Unfit(f"one of {', '.join(choices)}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        return str(value)

    return check


def _text(most: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.encode()) <= most:
            raise _Unfit(f"printable text of 1 to {most} bytes")
        return value

    return check


def _rate(value: Any) -> Fraction:
    """Frames per second; ``"30000/1001"`` for what is no decimal number."""
    try:
        rate = Fraction(str(value))  # by way of text, so that 29.97 is 2997/100 and not its binary neighbour
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1) <= rate <= limits.MAX_RATE_FPS:
        raise _Unfit(f'frames per second from 1 to {limits.MAX_RATE_FPS}, as 30, 29.97 or "30000/1001"')
    return rate.limit_denominator(1_000_000)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/") and value.isprintable()


def _paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(_is_path(v) for v in value):
        raise _Unfit("a list of absolute paths")
    return tuple(value)


def _device(value: Any) -> str:
    if not _is_path(value) or ".." in value.split("/"):
        raise _Unfit("an absolute path")
    return str(value)


def _usb_paths(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and _USB_PATH.fullmatch(v) for v in value):
        raise _Unfit('a list of USB paths, as ["2-1", "2-1.3"]')
    return tuple(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v.isprintable() for v in value):
        raise _Unfit("a list of texts")
    return tuple(value)


def _quarter(value: Any) -> int:
    if isinstance(value, bool) or value not in QUARTERS:
        raise _Unfit("0, 90, 180 or 270")
    return int(value)


def _zone(value: Any) -> tuple[float, float, float, float]:
    fit = isinstance(value, list) and len(value) == 4
    if fit and all(isinstance(n, int | float) and not isinstance(n, bool) for n in value):
        left, top, width, height = value
        if left >= 0 and top >= 0 and width > 0 and height > 0 and left + width <= 1 and top + height <= 1:
            return float(left), float(top), float(width), float(height)
    raise _Unfit("[left, top, width, height] inside the picture, in shares of it")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit("true or false")
    return value


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """``[node]``: the video device that apps open."""

    name: str = _key(_text(MAX_CARD_NAME), names.NODE_CARD_NAME, "name under which apps list the camera")
    kind: str = _key(
        _choice(NODE_KINDS), "auto", f"which kind of device: {', '.join(NODE_KINDS)}; auto takes the best there is"
    )
    format: str = _key(_choice(tuple(NODE_FORMATS)), "NV12", "pixel format: NV12 or YUYV")
    width: int = _key(_even(16, limits.MAX_WIDTH), 1280, "pixels, even; 128 million at most, times height")
    height: int = _key(_even(16, limits.MAX_HEIGHT), 720, "pixels, even")
    rate: Fraction = _key(_rate, Fraction(30), "frames per second")  # noqa: RUF009 a field
    focus_zone: tuple[float, float, float, float] = _key(
        _zone, FOCUS_ZONE, "where a raw module focuses: left, top, width and height as shares of the sensor's picture"
    )
    largest: str = _key(
        _choice(("auto", *LARGEST)),
        "auto",
        "largest size that apps may choose: 1080p or 4K, whose pictures take 125 MB more memory; auto: 4K where there"
        " are over 5 GB; [node] width and height may be larger still",
    )
    mjpeg: bool = _key(
        _flag, False, "offer MJPEG as well, passed on from modules that make it; an app that takes it sees no other"
    )

    @property
    def mode(self) -> Mode:
        """The format as the node wants it."""
        return make_mode(NODE_FORMATS[self.format], self.width, self.height, 1 / self.rate)

    @property
    def formats(self) -> tuple[Mode, ...]:
        """What apps may choose, the first choice first."""
        largest = self.largest
        if largest == "auto":
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            largest = "4K" if memory >= MEMORY_FOR_4K else "1080p"
        return canonical.formats(self.mode, self.mjpeg, LARGEST[largest])


@dataclass(frozen=True, slots=True)
class PowerConfig:
    """``[power]``: how much may be promised to modules."""

    budget_mw: int | None = _key(
        _optional(_number(0, 1_000_000)), None, "mW for all ports together; not set: what the ports allow"
    )
    usb2_ma: int = _key(_number(0, 5000), 500, "mA at 5 V on a port that trained at 480 Mbit/s or less")
    usb3_ma: int = _key(_number(0, 5000), 900, "mA at 5 V on a faster port")
    battery_budget_mw: int | None = _key(
        _optional(_number(0, 1_000_000)), None, "mW for all ports while only a battery feeds the board"
    )
    battery_low: int = _key(_number(0, 100), 20, "percent of the battery below which modules are squeezed; 0: never")
    battery_critical: int = _key(_number(0, 100), 5, "percent below which modules get standby power only; 0: never")
    thermal_zones: tuple[str, ...] = _key(
        _texts, cast(tuple[str, ...], ("*",)), "patterns for the types of the thermal zones that count; []: none"
    )
    warm_c: int = _key(_number(0, 200), 85, "degrees Celsius above which modules are squeezed")
    hot_c: int = _key(_number(0, 200), 100, "degrees Celsius above which modules get standby power only")

    @property
    def rules(self) -> PowerRules:
        """For :func:`power_policy.assess`."""
        return PowerRules(
            budget_mw=self.budget_mw,
            battery_budget_mw=self.battery_budget_mw,
            low_percent=self.battery_low or None,
            critical_percent=self.battery_critical or None,
            warm_c=self.warm_c,
            hot_c=self.hot_c,
        )


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """``[link]``: what a link is trusted to carry."""

    derating: float = _key(_share, 0.75, "share of the trained rate that modes may fill")
    bad_percent: int = _key(
        _number(1, 100), 2, "percent of damaged frames within five seconds above which a smaller mode is used"
    )
    left_out_percent: int = _key(
        _number(1, 100), 50, "percent of frames left out for five seconds above which a module gets less to do"
    )
    quiet_s: int = _key(_number(1, 3600), 30, "seconds without trouble before a larger mode is tried again")

    @property
    def rules(self) -> LinkRules:
        """For :class:`link_health.LinkHealth`."""
        return LinkRules(
            damaged_share=self.bad_percent / 100,
            left_out_share=self.left_out_percent / 100,
            quiet_s=float(self.quiet_s),
            longest_quiet_s=float(self.quiet_s * LONGEST_QUIET),
        )


@dataclass(frozen=True, slots=True)
class PortConfig:
    """``[port."PATH"]``: one place where a module can snap on, by the kernel's name for it (``1-2.3``)."""

    name: str = _key(_text(64), "", "what people call it; not set: the path")
    max_mw: int | None = _key(_optional(_number(0, limits.MAX_POWER_MW)), None, "mW; not set: by [power]")
    max_mbit_s: int | None = _key(
        _optional(_number(1, limits.MAX_MODE_MBIT_S)), None, "Mbit/s used at most; not set: as trained"
    )
    priority: int = _key(_number(-100, 100), 0, "who is served first when power is short; larger first")
    enabled: bool = _key(_flag, True, "false: what snaps on here is left alone")
    usb: tuple[str, ...] = _key(
        _usb_paths, tuple[str, ...](), "other kernel names of the same place, as that of its USB 2 side"
    )
    detect: str | None = _key(
        _optional(_text(64)), None, "GPIO line that says that a module is seated: CHIP:LINE or a line's name"
    )
    detect_active: str = _key(_choice(LEVELS), "low", "its level then")
    hall: str | None = _key(
        _optional(_device), None, "input device of a Hall sensor, as /dev/input/by-path/...; with detect: both count"
    )
    hall_switch: str = _key(_choice(tuple(SWITCHES)), "SW_MACHINE_COVER", "which switch of that device")
    hall_inverted: bool = _key(_flag, False, "true: the switch is off while a module is seated")
    power: str | None = _key(_optional(_text(64)), None, "GPIO line of the power switch")
    power_active: str = _key(_choice(LEVELS), "high", "its level for on")
    fault: str | None = _key(_optional(_text(64)), None, "GPIO line on which the power switch reports over-current")
    fault_active: str = _key(_choice(LEVELS), "low", "its level then")
    meter: str | None = _key(
        _optional(_device), None, "current meter (hwmon) by its device, as /sys/bus/i2c/devices/1-0040"
    )
    meter_tolerance: float = _key(
        _share, 0.05, "the meter's error as a share; so much over the contract is no offence"
    )
    attach_ms: int = _key(_number(1, 10_000), 100, "ms the detect line rests before a module counts as seated")
    removal_ms: int = _key(_number(1, 10_000), 50, "ms it rests before the module counts as lifted off")
    bounce_ms: int = _key(_number(100, 60_000), 5000, "ms without such a rest that are a failure")
    short_test_ms: int = _key(
        _number(0, 1000), 10, "ms of power for the short test, longer than the switch's fault filter; 0: no test"
    )
    settle_ms: int = _key(_number(1, 1000), 20, "ms after switching on in which the detect line is not believed")
    enumerate_ms: int = _key(_number(100, 60_000), 5000, "ms from power to USB")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """``[retry.CODE]``: how often one kind of failure is tried again; the codes are those of ``board.failures``."""

    tries: int | None = _key(_optional(_number(1, 100)), None, "failures after which the port stays off")
    window_s: int | None = _key(_optional(_number(1, 86_400)), None, "seconds in which they count")
    pause_ms: int | None = _key(_optional(_number(0, 60_000)), None, "ms of rest before another try")


@dataclass(frozen=True, slots=True)
class Rule:
    """``[[policy.rule]]``: the first rule that matches a source decides. Patterns may hold ``*`` and ``?``."""

    kind: str | None = _key(_optional(_choice(SOURCE_KINDS)), None, "module, v4l2 or libcamera")
    identity: str | None = _key(_optional(_text(256)), None, "pattern for maker/model/serial")
    port: str | None = _key(_optional(_text(64)), None, "pattern for the port's path or name")
    by_id: str | None = _key(_optional(_text(256)), None, "pattern for its name under /dev/v4l/by-id")
    node: str | None = _key(_optional(_text(64)), None, "NAME of the [node.NAME] it is for; not set: for all")
    use: str = _key(
        _choice(RULE_ACTIONS), "prefer", "prefer (in the order of the rules), pin (before all, at once) or never"
    )


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """``[source."PATTERN"]``: how a camera was mounted, by a pattern for its identity, port or by-id name."""

    rotate: int = _key(_quarter, 0, "degrees by which its picture is turned clockwise: 0, 90, 180 or 270")
    mirror: bool = _key(_flag, False, "true: left and right are swapped, after turning")


@dataclass(frozen=True, slots=True)
class CamerasConfig:
    """``[cameras]``: capture devices of this machine that may play beside modules."""

    auto: bool = _key(_flag, True, "use every webcam, also those plugged in later; needs linuxpy")
    device: tuple[str, ...] = _key(
        _paths, tuple[str, ...](), "paths of other capture devices to use, as /dev/v4l/by-path/...; needs linuxpy"
    )
    libcamera: bool = _key(_flag, True, "use the cameras behind libcamera, where its Python bindings are installed")


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """``[policy]``: which source plays."""

    dwell_ms: int = _key(
        _number(0, MAX_DWELL_MS), 300, "a source must have been there so long before it displaces a playing one"
    )
    hotplug: bool = _key(
        _flag, True, "a webcam that is plugged in later, or sits on a configured port, is preferred as modules are"
    )
    rule: tuple[Rule, ...] = field(default=(), metadata={"tables": Rule})


@dataclass(frozen=True, slots=True)
class Config:
    """Everything, with defaults where nothing is said. ``files`` are those read."""

    node: NodeConfig = field(default_factory=NodeConfig)
    power: PowerConfig = field(default_factory=PowerConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    cameras: CamerasConfig = field(default_factory=CamerasConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    port: Mapping[str, PortConfig] = field(default_factory=dict)
    retry: Mapping[str, RetryConfig] = field(default_factory=dict)
    source: Mapping[str, SourceConfig] = field(default_factory=dict)
    more: Mapping[str, NodeConfig] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def nodes(self) -> Mapping[str, NodeConfig]:
        """Every video device by name: ``[node]`` itself has none, ``[node.NAME]`` has NAME."""
        return {"": self.node, **self.more}

    def orientation(self, *names: str) -> Orientation:
        """How a camera that has these names was mounted; the first pattern that fits one of them counts."""
        for pattern, settings in self.source.items():
            if any(fits(name, pattern) for name in names):
                return Orientation(settings.rotate, settings.mirror)
        return UPRIGHT

    def port_config(self, path: str) -> PortConfig:
        """What is configured for a port, or the defaults."""
        return self.port.get(self.port_of(path), PortConfig())

    def port_of(self, usb_path: str) -> str:
        """The port that a USB path belongs to: the one that names it, else itself. Every camera of a device with
        several (``1-2:1.2``) is at its port."""
        place = usb_path.partition(":")[0]
        return next((port for port, settings in self.port.items() if place in (port, *settings.usb)), usb_path)


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "node": NodeConfig,
    "power": PowerConfig,
    "link": LinkConfig,
    "cameras": CamerasConfig,
    "policy": PolicyConfig,
}


def schema() -> Iterator[tuple[str, str, Any, str]]:
    """Every key as section, name, default and meaning: for the manual and its test."""
    tables: dict[str, type[Any]] = {
        **SECTIONS,
        'source."PATTERN"': SourceConfig,
        'port."PATH"': PortConfig,
        "retry.CODE": RetryConfig,
        "policy.rule": Rule,
    }
    for section, kind in tables.items():
        for f in fields(kind):
            if "doc" in f.metadata:
                yield section, f.name, f.default, f.metadata["doc"]


@dataclass(frozen=True, slots=True)
class _File:
    """One file while it is checked: knows where its keys stand."""

    path: Path
    lines: Lines

    def error(self, at: KeyPath, what: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{self.path}:{self.lines.find(at)}: {what}", hint=hint)

    def table(self, value: Any, at: KeyPath) -> Table:
        if not isinstance(value, dict):
            pattern = {"source": "PATTERN", "port": "PATH", "retry": "CODE"}.get(str(at[0])) if len(at) == 2 else None
            kinds = {"source": SourceConfig, "port": PortConfig, "retry": RetryConfig}
            if pattern is not None and at[1] in {f.name for f in fields(kinds[str(at[0])])}:
                hint = f'write [{at[0]}."{pattern}"] above it: for which one {at[1]} is'
                raise self.error(at, f"{dotted(at)} is for one {at[0]}, and [{at[0]}] names none", hint)
            raise self.error(at, f"{dotted(at)} is no table", f"write [{dotted(at)}]")
        return value

    def check(self, kind: type[Any], value: Any, at: KeyPath) -> None:
        """Every key of a table against its dataclass."""
        known = {f.name: f.metadata for f in fields(kind)}
        for name, given in self.table(value, at).items():
            here = (*at, name)
            if name not in known:
                raise self.unknown(here, tuple(known))
            if "tables" in known[name]:
                if not isinstance(given, list):
                    raise self.error(here, f"{dotted(here)} is no list of tables", f"write [[{dotted(here)}]]")
                for index, item in enumerate(given):
                    self.check(known[name]["tables"], item, (*here, index))
                continue
            try:
                known[name]["check"](given)
            except _Unfit as unfit:
                raise self.error(here, f"{dotted(here)} = {given!r} is not {unfit}") from None

    def unknown(self, at: KeyPath, known: Sequence[str]) -> ConfigError:
        near = difflib.get_close_matches(str(at[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return self.error(at, f"unknown key {dotted(at)}", hint)


def dotted(at: KeyPath) -> str:
    """A key's path as people write it; indices of lists are left out."""
    return ".".join(str(part) for part in at if isinstance(part, str))


def _read(path: Path) -> tuple[_File, Table]:
    """One file, checked by itself."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint=f"ls -l {path}") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise ConfigError(f"{path}:{line}: not UTF-8", hint=f"file {path}") from error
    file = _File(path, Lines(text))
    try:
        top: Table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line, what = file.lines.of_syntax_error(str(error))
        raise ConfigError(f"{path}:{line}: {what}", hint=f"sed -n {line}p {path}") from None
    for name, value in top.items():
        if name == "port":
            for port, settings in file.table(value, ("port",)).items():
                if isinstance(settings, dict) and not _USB_PATH.fullmatch(port):
                    hint = 'as [port."1-2.3"]; maglens status shows the paths, and name = "..." gives one a name'
                    raise file.error(("port", port), f"{port!r} is no USB path", hint)
                file.check(PortConfig, settings, ("port", port))
        elif name == "source":
            for pattern, settings in file.table(value, ("source",)).items():
                file.check(SourceConfig, settings, ("source", pattern))
        elif name == "node":
            table = file.table(value, ("node",))
            named = _named_nodes(table)
            file.check(NodeConfig, {key: given for key, given in table.items() if key not in named}, ("node",))
            for node, settings in named.items():
                if not _NODE_NAME.fullmatch(node) or node in {f.name for f in fields(NodeConfig)}:
                    hint = '1 to 23 letters a to z, digits, - and _, no key of [node]; name = "..." is what apps list'
                    raise file.error(("node", node), f"{node!r} cannot be a camera's short name", hint)
                file.check(NodeConfig, settings, ("node", node))
        elif name == "retry":
            for code, rule in file.table(value, ("retry",)).items():
                if code not in RETRY_CODES:
                    raise file.unknown(("retry", code), RETRY_CODES)
                file.check(RetryConfig, rule, ("retry", code))
        elif name in SECTIONS:
            file.check(SECTIONS[name], value, (name,))
        else:
            raise file.unknown((name,), (*SECTIONS, "port", "source", "retry"))
    return file, top


def _named_nodes(table: Table) -> dict[str, Table]:
    """The tables ``[node.NAME]`` within ``[node]``."""
    return {name: given for name, given in table.items() if isinstance(given, dict)}


def _merge(below: Table, above: Table) -> Table:
    """Tables are merged key by key; anything else above replaces what is below."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _build(kind: type[T], table: Table) -> T:
    values: Table = {}
    for f in fields(cast(Any, kind)):
        if f.name not in table:
            continue
        if "tables" in f.metadata:
            values[f.name] = tuple(_build(f.metadata["tables"], t) for t in table[f.name])
        else:
            values[f.name] = f.metadata["check"](table[f.name])
    return kind(**values)


def load(files: Sequence[Path] | None = None) -> Config:
    """Read and check; raises :class:`ConfigError`."""
    files = config_files() if files is None else files
    merged: Table = {}
    read = [_read(path) for path in files]
    for _, table in read:
        merged = _merge(merged, table)
    ports = {path: _build(PortConfig, table) for path, table in merged.get("port", {}).items()}
    retry = {code: _build(RetryConfig, table) for code, table in merged.get("retry", {}).items()}
    sources = {pattern: _build(SourceConfig, table) for pattern, table in merged.get("source", {}).items()}
    named = _named_nodes(merged.get("node", {}))
    first = {key: given for key, given in merged.get("node", {}).items() if key not in named}
    more = {
        node: _build(NodeConfig, {**first, "name": f"{names.NODE_CARD_NAME} {node}"[:MAX_CARD_NAME], **table})
        for node, table in named.items()
    }
    merged["node"] = first
    sections = {name: _build(kind, merged.get(name, {})) for name, kind in SECTIONS.items()}
    made = Config(**sections, port=ports, source=sources, more=more, retry=retry, files=tuple(files))
    coherence.check(made, partial(_complain, read), MAX_NODE_PIXELS)
    return made


def _complain(read: Sequence[tuple[_File, Table]], at: KeyPath, what: str, hint: str) -> ConfigError:
    """The error at the last file that has the key, else any key of its table."""
    for depth in range(len(at), 0, -1):
        for file, top in reversed(read):
            if _holds(top, at[:depth]):
                return file.error(at[:depth], what, hint)
    return ConfigError(what, hint=hint)


def _holds(value: Any, at: KeyPath) -> bool:
    try:
        for key in at:
            value = value[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True
