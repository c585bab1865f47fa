# SPDX-License-Identifier: MIT
"""Sim: a virtual module as a service of its own, ``python -m maglens_driver.gadget.sim LENS[:LABEL]``. Runs as root.

It makes a USB gadget, and snaps it on and off a device controller as it is told over its socket,
``/run/maglens-sim/NAME.sock``: JSON objects, one per line, each answered by one. ``{"op": "attach"}`` gives
``{"ok": true, ...}`` or ``{"ok": false, "error": ..., "hint": ...}``. All times are CLOCK_MONOTONIC in ns. The
module needs no daemon, and when this process dies, it is off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from maglens_driver.color import MAX_K, MIN_K
from maglens_driver.control import Cid
from maglens_driver.errors import MaglensError, WrongState
from maglens_driver.gadget import functionfs
from maglens_driver.gadget.assembly import Assembly
from maglens_driver.gadget.faults import Fault, Faults
from maglens_driver.gadget.lifetime import end_of_process, tell_ready
from maglens_driver.gadget.module import Link, Module
from maglens_driver.gadget.stay import MAX_STAYS, Stay
from maglens_driver.link.wire import CapabilityLevel, CapabilityReason, EventKind
from maglens_driver.mode import RAW, fourcc_text
from maglens_driver.names import SIM_RUNTIME_DIR
from maglens_driver.virtual.canvas import Abandoned
from maglens_driver.virtual.lens import load_lens
from maglens_driver.virtual.source import VirtualSource

log = logging.getLogger("maglens.sim")

Request = dict[str, Any]
Reply = dict[str, Any]

MAX_LINE_BYTES: Final = 64 * 1024
MAX_LIGHT: Final = 1000.0
CUT_S: Final = 10.0  # within which a frame comes that can be cut
_STRANGER_NAME: Final = "other"
_RINGS: Final = {"focus": Cid.FOCUS_ABSOLUTE, "iris": Cid.IRIS_ABSOLUTE, "zoom": Cid.ZOOM_ABSOLUTE}


def _stack() -> Path | None:
    """Where light once drawn is kept: what the service manager gave us for that, if anything."""
    given = os.environ.get("STATE_DIRECTORY", "")
    return Path(given) / "light" if given else None


class Simulator:
    """One virtual module: a lens before the scene, a gadget, and its stays. Methods run in the asyncio loop."""

    def __init__(self, name: str, runtime: Path) -> None:
        self.name = name
        lens, _, _label = name.partition(":")
        self.serial = f"SIM-{name}"
        self._lens = load_lens(lens)
        self.source = VirtualSource(self._lens, self.serial, _stack())
        self.faults = Faults()
        self.stays: deque[Stay] = deque(maxlen=MAX_STAYS)
        self._assembly = Assembly(name, runtime)
        self._module: Module | None = None
        self._udc: str | None = None
        self._stranger = False
        self._generation = 0
        self._lock = asyncio.Lock()
        self._working: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Render the pictures, make the gadget, and be ready to be attached."""
        await self.source.prepare()
        await asyncio.to_thread(self._open_gadget)
        self._power_up()

    def _open_gadget(self) -> None:
        self._stranger = self.faults.has(Fault.STRANGER)
        self._assembly.open(self.source.identity, _STRANGER_NAME if self._stranger else functionfs.OUR_INTERFACE)

    def _power_up(self) -> None:
        """A new module on the open function; it waits to be bound."""
        self._generation += 1
        stay = Stay(self._generation)
        link = Link(self._assembly.trained_mbit, self._lens.link_mbit_s)
        self._module = Module(
            self.source,
            self.source.descriptor,
            link,
            self._assembly.files,
            stay=stay,
            faults=self.faults,
            stranger=self._stranger,
        )
        loop = asyncio.get_running_loop()

        def brown_out(seconds: float) -> None:
            loop.call_soon_threadsafe(self._brown_out, seconds)

        self._module.on_brown_out = brown_out
        self._module.begin()

    def _brown_out(self, seconds: float) -> None:
        self._begin(self._without_power(seconds))

    async def _without_power(self, seconds: float) -> None:
        """It resets where it sits: off the bus, a new boot id, and on again."""
        async with self._lock:
            udc = self._udc
            if udc is None:
                return
            await self._off()
            await asyncio.sleep(seconds)
            await self._on(udc)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _heat(self, step_s: float) -> None:
        """Warm, then too hot, then cool again."""
        for level in (CapabilityLevel.REDUCED, CapabilityLevel.DISABLED, CapabilityLevel.FULL):
            if self._module is None or self._udc is None:
                return
            self._module.events.push(EventKind.CAPABILITY, CapabilityReason.TEMPERATURE, level)
            await asyncio.sleep(step_s)

    async def close(self) -> None:
        """Snap off and take everything down."""
        async with self._lock:
            if self._udc is not None:
                await self._off()
            if self._module is not None:
                await self._module.end()
                self._module = None
            await asyncio.to_thread(self._assembly.close)
            await self.source.close()

    # What can be asked for ------------------------------------------------------------------------------------

    async def attach(self, udc: str | None = None) -> Reply:
        """Snap on; contact bounces first, if that fault was asked for."""
        async with self._lock:
            if self._udc is not None:
                raise WrongState(f"{self.name} is attached to {self._udc}", hint=f"maglens sim detach {self.name}")
            if self.faults.has(Fault.STRANGER) != self._stranger:
                await self._remake()
            while (closed_ms := self.faults.take(Fault.BOUNCE, 30)) is not None:
                await self._on(udc)
                await asyncio.sleep(closed_ms / 1000)
                await self._off()
            await self._on(udc)
            return {"udc": self._udc, "stay": self.stays[-1].as_dict()}

    async def _remake(self) -> None:
        """Another identity or interface name means another function."""
        if self._module is not None:
            await self._module.end()
        await asyncio.to_thread(self._assembly.close)
        await asyncio.to_thread(self._open_gadget)
        self._power_up()

    async def _on(self, udc: str | None) -> None:
        assert self._module is not None
        stay = self._module.stay
        stay.attach_ns = time.monotonic_ns()
        touches = "high-speed" if self.faults.has(Fault.HALF_SEATED) else None
        self._udc = await asyncio.to_thread(self._assembly.attach, udc, touches)
        stay.attached_ns = time.monotonic_ns()
        self.stays.append(stay)

    async def detach(self, mid_frame: bool = False) -> Reply:
        """Snap off; if so wished in the middle of a frame, the first piece of whose payload is with the host."""
        async with self._lock:
            if self._udc is None or self._module is None:
                raise WrongState(f"{self.name} is not attached", hint=f"maglens sim attach {self.name}")
            udc = self._udc
            if mid_frame:
                try:
                    await asyncio.to_thread(self._module.streamer.keep_rest, CUT_S)
                except TimeoutError as error:
                    raise WrongState(f"{self.name} sends no frames", hint="let an app open the camera") from error
            await self._off()
            return {"udc": udc, "stay": self.stays[-1].as_dict()}

    async def _off(self) -> None:
        assert self._module is not None
        stay = self._module.stay
        stay.detach_ns = time.monotonic_ns()
        await asyncio.to_thread(self._assembly.detach)
        stay.detached_ns = time.monotonic_ns()
        self._udc = None
        await self._module.end()
        self.source.camera.reset()
        self._power_up()

    async def rename(self, serial: str) -> Reply:
        """Take another serial number, while detached."""
        async with self._lock:
            if self._udc is not None:
                raise WrongState(f"{self.name} is attached", hint=f"maglens sim detach {self.name}")
            self.serial = serial
            await self.source.close()
            if self._module is not None:
                await self._module.end()
            self.source = VirtualSource(self._lens, serial, _stack())
            await self.source.prepare()
            await asyncio.to_thread(self._assembly.close)
            await asyncio.to_thread(self._open_gadget)
            self._power_up()
            return {"serial": serial}

    def ring(self, ring: str, value: int) -> Reply:
        """Turn a ring to a value of its control."""
        if ring not in _RINGS:
            raise MaglensError(f"there is no ring {ring!r}", hint=f"use one of {', '.join(_RINGS)}")
        control = next((c for c in self.source.controls if c.id == _RINGS[ring]), None)
        if control is None:
            has = [name for name, id in _RINGS.items() if any(c.id == id for c in self.source.controls)]
            raise MaglensError(f"{self.name} has no {ring} ring", hint=f"use one of {', '.join(has)}")
        clamped = self.source.camera.set({control.id: value})[control.id]
        if self._module is not None and self._udc is not None:
            self._module.events.push(EventKind.CONTROL, control.id, clamped)
        return {"control": control.id, "value": clamped, "ns": time.monotonic_ns()}

    def shine(self, kelvin: int, level: float) -> Reply:
        """Change the light on the scene."""
        if not MIN_K <= kelvin <= MAX_K or not 0 < level <= MAX_LIGHT:
            what = f"no such light; {MIN_K} to {MAX_K} K, strength above 0, at most {MAX_LIGHT:g}"
            raise MaglensError(what, hint="sudo maglens sim light 5500 1")
        self.source.camera.shine(kelvin, level)
        return {"ns": time.monotonic_ns()}

    async def rehearse(self, text: str, width: int, height: int, position: int | None) -> Reply:
        """Keep a raw mode's frames at one position of focus, so that they are there at once when wanted; None: how
        many positions there are, and how many bytes they take."""
        raw = {f"{fourcc_text(m.fourcc)} {m.width}x{m.height}": m for m in self.source.modes if m.fourcc in RAW}
        wanted = raw.get(f"{text} {width}x{height}")
        if wanted is None:
            hint = f"use one of {', '.join(raw)}" if raw else ""
            raise MaglensError(f"{self.name} has no raw mode {text} {width}x{height}", hint=hint)
        mode, camera = self.source.descriptor.with_facts(wanted), self.source.camera
        if position is None:
            positions, nbytes = await asyncio.to_thread(camera.rehearsal, mode)
            return {"positions": positions, "nbytes": nbytes}
        try:
            await asyncio.to_thread(camera.rehearse, mode, position)
        except IndexError as error:
            raise WrongState(f"{self.name} has no position {position} now", hint="leave its iris alone") from error
        except Abandoned as error:
            raise WrongState(f"{self.name} is ending") from error
        return {"position": position}

    def event(self, kind: EventKind, number: int, value: int) -> Reply:
        """Send any event."""
        if self._module is None or self._udc is None:
            raise WrongState(f"{self.name} is not attached", hint=f"maglens sim attach {self.name}")
        self._module.events.push(kind, number, value)
        return {"ns": time.monotonic_ns()}

    def status(self) -> Reply:
        """All that is known."""
        module = self._module
        identity = self.source.identity
        return {
            "name": self.name,
            "pid": os.getpid(),
            "identity": {"maker": identity.maker, "model": identity.model, "serial": identity.serial},
            "lens": self.source.descriptor.lens.name,
            "mark": self._lens.mark,
            "attached": self._udc is not None,
            "udc": self._udc,
            "speed_mbit": self._assembly.trained_mbit(),
            "state": module.responder.state.name if module else None,
            "power_mw": module.sink.allowed_mw if module else 0,
            "power_state": module.sink.state.value if module else None,
            "boot_id": module.responder.boot_id if module else 0,
            "controls": {str(k): v for k, v in self.source.camera.values().items()},
            "faults": self.faults.active(),
            "committed": dict(self.faults.committed),
            "next_number": self.source.next_seq,
            "stays": [s.as_dict() for s in self.stays],
        }

    def progress(self) -> Reply:
        """How far the last stay is. Little, to be asked for often: :meth:`status` grows with every stay."""
        return {
            "frames_sent": self.stays[-1].frames_sent if self.stays else 0,
            "controls": {str(k): v for k, v in self.source.camera.values().items()},
            "settled": self.source.camera.settled(0),  # the picture shows them
        }

    async def answer(self, request: Request) -> Reply:
        """Carry out one request of the socket."""
        match request:
            case {"op": "attach"}:
                return await self.attach(request.get("udc"))
            case {"op": "detach"}:
                return await self.detach(bool(request.get("mid_frame")))
            case {"op": "status"}:
                return self.status()
            case {"op": "serial", "value": str(serial)}:
                return await self.rename(serial)
            case {"op": "progress"}:
                return self.progress()
            case {"op": "ring", "ring": str(ring), "value": int(value)}:
                return self.ring(ring, value)
            case {"op": "light", "kelvin": int(kelvin), "level": float(level)}:
                return self.shine(kelvin, level)
            case {"op": "rehearse", "fourcc": str(text), "width": int(width), "height": int(height)}:
                position = request.get("position")
                if not isinstance(position, int | None):
                    raise MaglensError(f"this is no position: {position!r}")
                return await self.rehearse(text, width, height, position)
            case {"op": "button", "number": int(number), "pressed": bool(pressed)}:
                return self.event(EventKind.BUTTON, number, int(pressed))
            case {"op": "capability", "reason": str(reason), "level": str(level)}:
                return self.event(
                    EventKind.CAPABILITY, CapabilityReason[reason.upper()], CapabilityLevel[level.upper()]
                )
            case {"op": "fault", "fault": Fault.HEAT.value}:
                self._begin(self._heat((request.get("value") or 1000) / 1000))
                return {"faults": self.faults.active(), "ns": time.monotonic_ns()}
            case {"op": "fault", "fault": str(fault)}:
                self.faults.ask(
                    _fault(fault), request.get("count", 1), request.get("value", 0), request.get("skip", 0)
                )
                return {"faults": self.faults.active(), "ns": time.monotonic_ns()}
            case {"op": "clear"}:
                one = request.get("fault")
                self.faults.clear(_fault(one) if one else None)
                return {"faults": self.faults.active(), "ns": time.monotonic_ns()}
            case _:
                raise MaglensError(f"this is no request: {json.dumps(request)}")


def _fault(name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError as error:
        raise MaglensError(
            f"there is no fault {name!r}", hint=f"use one of {', '.join(f.value for f in Fault)}"
        ) from error


async def serve(simulator: Simulator, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    """Answer one client until it hangs up."""
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise MaglensError("a request is a JSON object")
                reply: Reply = {"ok": True, **await simulator.answer(request)}
            except (MaglensError, OSError, ValueError, KeyError) as error:
                hint = error.hint if isinstance(error, MaglensError) else ""
                reply = {"ok": False, "error": str(error), "hint": hint}
            out.write(json.dumps(reply).encode() + b"\n")
            await out.drain()
    out.close()


async def run(name: str, runtime: Path, ready: Callable[[], None], attach: bool) -> int:
    """The service: until SIGTERM or SIGINT, or until a thread breaks. Its exit status."""
    over = end_of_process()
    simulator = Simulator(name, runtime)
    path = runtime / f"{name}.sock"
    try:
        await simulator.open()
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(partial(serve, simulator), path, limit=MAX_LINE_BYTES)
        path.chmod(0o600)
        if attach:
            await simulator.attach()
        ready()
        log.info("%s is ready: %s", name, simulator.source.identity)
        status = await over
        server.close()
        return status
    finally:
        path.unlink(missing_ok=True)
        await simulator.close()


def main(arguments: list[str] | None = None) -> int:
    """Command line of the service."""
    parser = argparse.ArgumentParser(description="a virtual camera module on a USB gadget")
    parser.add_argument("name", help="LENS or LENS:LABEL, such as 35mm or 35mm:spare")
    parser.add_argument("--runtime", type=Path, default=Path(SIM_RUNTIME_DIR), help="where the socket goes")
    parser.add_argument("--attach", action="store_true", help="snap on at once")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO, format="%(levelname)s: %(message)s")
    try:
        options.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
        return asyncio.run(run(options.name, options.runtime, tell_ready, options.attach))
    except MaglensError as error:
        print(error.explain(), file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"{error}\n  try: sudo", file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main())
