# SPDX-License-Identifier: GPL-2.0-or-later
"""Status: what is, as plain data. The D-Bus service and the command line show nothing that is not in here.

The keys are an interface: docs/operations.md lists them, and a test compares.
"""

from __future__ import annotations

from typing import TypedDict

from maglens_daemon.bare_lens import bare_lens
from maglens_daemon.board.failures import FAILURES
from maglens_daemon.board.report import Report
from maglens_daemon.contract import Contract
from maglens_daemon.manager import Manager
from maglens_daemon.reach import unavailable
from maglens_daemon.session import Session
from maglens_daemon.stage import Stage
from maglens_daemon.version import VERSION
from maglens_driver.mode import Mode
from maglens_driver.source import Source
from maglens_driver.ycbcr import TOLD


class ModeStatus(TypedDict):
    """One mode. ``fps`` frames per second, ``mbit_s`` Mbit/s, ``mw`` mW."""

    text: str
    fourcc: str
    width: int
    height: int
    fps: float
    mbit_s: int
    mw: int


class ContractStatus(TypedDict):
    """A power contract in USB PD's terms: millivolt, milliampere (``least_ma``: what GotoMin leads to), and whether
    the module wants more. ``burst_mw``: on top while motors move."""

    mv: int
    operating_ma: int
    maximum_ma: int
    least_ma: int
    capability_mismatch: bool
    burst_mw: int


class SupplyStatus(TypedDict):
    """The port as a PD source: where the agreement is, what it lets through now in mW, and its offers in the shape of
    /sys/class/usb_power_delivery: ``1:fixed_supply`` with millivolt and milliampere."""

    state: str
    limit_mw: int
    source_capabilities: dict[str, dict[str, int]]


class UnavailableStatus(TypedDict):
    """A control that apps do not see on the video device, and why; ``maglens control`` reaches it."""

    id: int
    name: str
    reason: str


class ModuleStatus(TypedDict):
    """One stay on a port. ``attach_to_frame_ms``: from the uevent to its first frame shown, null before."""

    port: str
    port_name: str
    kind: str
    state: str
    reason: str
    cause: str
    hint: str
    identity: str
    maker: str
    model: str
    serial: str
    firmware: str
    lens: str
    speed_mbit_s: int
    usable_mbit_s: int
    contract: ContractStatus | None
    supply: SupplyStatus | None
    notes: list[str]
    mode: ModeStatus | None
    modes: list[ModeStatus]
    playing: bool
    obstacle: str
    counters: dict[str, int]
    unavailable_controls: list[UnavailableStatus]
    attach_to_frame_ms: float | None


class NodeStatus(TypedDict):
    """A video device; ``path`` empty and ``problem`` filled while there is none. ``group`` is NAME of [node.NAME],
    ``playing`` and ``choice`` an identity key each, the first empty for the card, the second "auto" for the rules."""

    group: str
    playing: str
    choice: str
    path: str
    name: str
    format: ModeStatus | None
    streamers: int
    openers: int | None
    controls: bool
    outlives_daemon: bool
    problem: str
    hint: str
    counters: dict[str, int]


class PowerStatus(TypedDict):
    """mW: the budget as it is now (null: only the ports limit) and what is promised. ``level`` normal, low or
    critical, and why; the battery in percent and the hottest thermal zone in degrees Celsius, null without one."""

    budget_mw: int | None
    granted_mw: int
    level: str
    reason: str
    on_battery: bool
    battery_percent: int | None
    zone: str
    celsius: float | None


class OpticsStatus(TypedDict):
    """A bare lens through which a built-in camera plays: mm and f-numbers, least and most."""

    identity: str
    lens: str
    focal_mm: tuple[float, float]
    fnumber: tuple[float, float]


class DrawStatus(TypedDict):
    """What a module draws: mV, mA, mW."""

    mv: int
    ma: int
    mw: int


class PortStatus(TypedDict):
    """A port that a board watches. ``cause`` and ``message``: its last failure since the module was seated;
    ``seated`` null without a detect line, ``draw`` null while nothing is metered, ``limit_mw`` what may be
    drawn now."""

    port: str
    port_name: str
    state: str
    cause: str
    message: str
    failures: int
    seated: bool | None
    powered: bool
    limit_mw: int
    draw: DrawStatus | None
    counters: dict[str, int]


class Status(TypedDict):
    """Everything."""

    version: str
    state: str
    playing: str
    choice: str
    optics: OpticsStatus | None
    power: PowerStatus
    node: NodeStatus
    nodes: list[NodeStatus]
    ports: list[PortStatus]
    modules: list[ModuleStatus]


def mode_status(mode: Mode) -> ModeStatus:
    """A mode as data."""
    text = mode.describe()
    return ModeStatus(
        text=text,
        fourcc=text.split()[1],
        width=mode.width,
        height=mode.height,
        fps=round(float(1 / mode.interval), 3),
        mbit_s=mode.mbit_s,
        mw=mode.mw,
    )


def _contract_status(contract: Contract) -> ContractStatus:
    return ContractStatus(
        mv=contract.mv,
        operating_ma=contract.operating_ma,
        maximum_ma=contract.maximum_ma,
        least_ma=contract.least_ma,
        capability_mismatch=contract.mismatch,
        burst_mw=contract.burst_mw,
    )


def _supply_status(manager: Manager, session: Session) -> SupplyStatus | None:
    if session.feed is None:
        return None
    supply = session.feed.supply
    return SupplyStatus(
        state=supply.state.value,
        limit_mw=manager.allotment.limit_mw(session),
        source_capabilities={
            f"{position}:fixed_supply": {"voltage": offer.mv, "maximum_current": offer.ma}
            for position, offer in enumerate(supply.offered, 1)
        },
    )


def _power_status(manager: Manager) -> PowerStatus:
    condition, readings = manager.conditions.now, manager.conditions.readings
    return PowerStatus(
        budget_mw=condition.budget_mw,
        granted_mw=manager.allotment.granted_mw,
        level=condition.level.name.lower(),
        reason=condition.reason,
        on_battery=readings.on_battery,
        battery_percent=readings.percent,
        zone=readings.zone,
        celsius=readings.celsius,
    )


def module_status(manager: Manager, session: Session) -> ModuleStatus:
    """One session as data."""
    who, source = session.identity, session.source
    descriptor = getattr(source, "descriptor", None)
    return ModuleStatus(
        port=session.port.path,
        port_name=session.port.name,
        kind=session.visitor.kind,
        state=session.state.value,
        reason=session.reason,
        cause=session.cause,
        hint=session.hint,
        identity=who.key if who else "",
        maker=who.maker if who else "",
        model=who.model if who else "",
        serial=who.serial if who else "",
        firmware=descriptor.firmware if descriptor else "",
        lens=descriptor.lens.name if descriptor else "",
        speed_mbit_s=session.port.speed_mbit_s,
        usable_mbit_s=session.port.usable_mbit_s,
        contract=_contract_status(session.contract) if session.contract else None,
        supply=_supply_status(manager, session),
        notes=[*session.restraint.notes(session.port, source.modes if source else ()), *_colours(session.mode)],
        mode=mode_status(session.mode) if session.mode else None,
        modes=[mode_status(mode) for mode in source.modes] if source else [],
        playing=manager.stage_of(session) is not None,
        obstacle=manager.obstacle(session),
        counters=dict(getattr(source, "counters", {})),
        unavailable_controls=_unavailable(manager.stage_of(session) or manager.stage, source),
        attach_to_frame_ms=manager.attach_to_frame_ms(session),
    )


def _colours(mode: Mode | None) -> list[str]:
    if mode is None or mode.ycbcr is None:
        return []
    return [f"its pictures are {mode.ycbcr.describe()}, and the processor makes {TOLD.describe()} of each"]


def _unavailable(stage: Stage, source: Source | None) -> list[UnavailableStatus]:
    controls = source.controls if source is not None else ()
    reasons = unavailable(stage.node, controls)
    return [UnavailableStatus(id=c.id, name=c.name, reason=reasons[c.id]) for c in controls if c.id in reasons]


def port_status(report: Report) -> PortStatus:
    """A board's port as data."""
    code, draw = report.code, report.draw
    return PortStatus(
        port=report.path,
        port_name=report.name,
        state=report.state.value,
        cause=code.value if code else "",
        message=FAILURES[code].message if code else "",
        failures=report.failures,
        seated=report.seated,
        powered=report.powered,
        limit_mw=report.limit_mw,
        draw=DrawStatus(mv=draw.mv, ma=draw.ma, mw=draw.mw) if draw else None,
        counters=report.counters,
    )


def node_status(manager: Manager, stage: Stage) -> NodeStatus:
    """A stage's node as data."""
    node, pipeline, problem = stage.node, stage.pipeline, stage.node_problem
    state = node.state() if node else None
    counters: dict[str, int] = {}
    if pipeline is not None:
        stats = pipeline.stats()
        counters = {
            "frames_in": stats.frames_in,
            "submitted": stats.submitted,
            "repeated": stats.repeated,
            "cards": stats.cards,
            "filled": stats.filled,
            **{f"dropped_{cause}": count for cause, count in stats.dropped.items()},
        }
    playing = stage.playing.session.identity if stage.playing else None
    return NodeStatus(
        group=stage.name,
        playing=playing.key if playing else "",
        choice=manager.choices[stage.name],
        path=node.path if node else "",
        name=stage.settings().name,
        format=mode_status(state.format) if state else None,
        streamers=state.streamers if state else 0,
        openers=state.openers if state else None,
        controls=node.caps.controls if node else False,
        outlives_daemon=node.caps.outlives_daemon if node else False,
        problem=str(problem) if problem else "",
        hint=problem.hint if problem else "",
        counters=counters,
    )


def state_line(manager: Manager) -> str:
    """One line for people."""
    problem, playing = manager.stage.node_problem, manager.stage.playing
    if problem is not None:
        return f"no video device: {problem}"
    if playing is not None:
        return f"{playing.session.identity} plays {playing.mode.describe()}"
    ready = [s for s in manager.sessions if s.is_playable and not manager.obstacle(s)]
    if ready:
        return f"{ready[-1].identity} is ready, nobody watches"
    refused = [s for s in manager.sessions if s.reason]
    if refused:
        return f"port {refused[-1].port.label}: {refused[-1].reason}"
    return "no module"


def optics_status(manager: Manager) -> OpticsStatus | None:
    """The lens before what plays, if it is a bare one."""
    playing = manager.stage.playing
    lens = bare_lens(playing.session, manager.sessions) if playing is not None and playing.optics else None
    if playing is None or playing.optics is None or lens is None or lens.identity is None:
        return None
    facts = playing.optics.lens
    focal, stops = facts.focal_um, facts.fnumber_milli
    return OpticsStatus(
        identity=lens.identity.key,
        lens=facts.name,
        focal_mm=(focal[0] / 1000, focal[1] / 1000),
        fnumber=(stops[0] / 1000, stops[1] / 1000),
    )


def status(manager: Manager) -> Status:
    """Everything as data."""
    playing = manager.stage.playing.session.identity if manager.stage.playing else None
    return Status(
        version=VERSION,
        state=state_line(manager),
        playing=playing.key if playing else "",
        choice=manager.pinned,
        optics=optics_status(manager),
        power=_power_status(manager),
        node=node_status(manager, manager.stage),
        nodes=[node_status(manager, stage) for stage in manager.stages],
        ports=[port_status(report) for report in manager.reports()],
        modules=[module_status(manager, session) for session in manager.sessions],
    )
