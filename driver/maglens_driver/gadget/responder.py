# SPDX-License-Identifier: MIT
"""Responder: a module's side of the control requests, as a state machine of bytes. It knows nothing of USB.

States and what moves between them (everything else keeps the state)::

    IDLE --configure--> CONFIGURED --start--> STREAMING --stop--> CONFIGURED
    IDLE, CONFIGURED --standby--> STANDBY --configure--> CONFIGURED
    STREAMING --contract shrinks below the mode--> IDLE
    any --fail--> FAULT --power cycle--> IDLE

Preconditions are checked in the order of :class:`maglens_driver.link.wire.Status`; the first that fails answers.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Final, Protocol, TypeVar

from crc32c import crc32c

from maglens_driver.errors import BadModule
from maglens_driver.gadget.power import Sink
from maglens_driver.link import limits, wire
from maglens_driver.link.message import Message
from maglens_driver.link.pd import PdMessage
from maglens_driver.link.wire import ModuleState, Op, Status
from maglens_driver.mode import Mode

T = TypeVar("T")

_S = ModuleState
_ALL = frozenset(ModuleState)
_WELL = _ALL - {_S.FAULT}

LEGAL: Final[Mapping[Op, frozenset[ModuleState]]] = {
    Op.INFO: _ALL,
    Op.DESCRIPTOR: _ALL,
    Op.CLOCK: _ALL,
    Op.RESULT: _ALL,
    Op.CONTROLS: _WELL,
    Op.POWER_RECEIVE: _ALL,
    Op.CONFIGURE: frozenset((_S.IDLE, _S.CONFIGURED, _S.STANDBY)),
    Op.START: frozenset((_S.CONFIGURED,)),
    Op.STOP: _WELL,  # stopping what has stopped is no mistake
    Op.FLUSH: frozenset((_S.STREAMING,)),
    Op.SET_CONTROLS: _WELL,
    Op.POWER_SEND: _ALL,
    Op.STANDBY: frozenset((_S.IDLE, _S.CONFIGURED, _S.STANDBY)),
}
"""In which states a request is carried out; in the others it is answered WRONG_STATE."""

_OUT_OPS: Final = frozenset(LEGAL) - wire.IN_OPS


class Works(Protocol):
    """The rest of a module, as the requests see it. May raise ``Exception``: then the module is in FAULT."""

    def module_time(self) -> int:
        """Module time now, ns."""
        ...

    def configure(self, mode: Mode) -> None: ...

    def start(self, epoch: int) -> None: ...

    def stop(self) -> None:
        """End the stream; no byte of it leaves after the return."""
        ...

    def flush(self, epoch: int) -> None:
        """Drop what was not sent yet; from the return on, all that leaves carries ``epoch``."""
        ...

    def controls(self) -> Mapping[int, int]: ...

    def set_controls(self, values: Mapping[int, int]) -> Mapping[int, int]:
        """Values as clamped; only ids that :meth:`controls` names are asked for."""
        ...


class _Refuse(Exception):
    def __init__(self, status: Status, body: bytes = b"") -> None:
        super().__init__(status.name)
        self.status = status
        self.body = body


class Responder:
    """Answers requests for one power-up. One thread at a time. ``link_mbit_s``: what the link carries as trained."""

    def __init__(
        self, descriptor: bytes, modes: tuple[Mode, ...], sink: Sink, works: Works, *, link_mbit_s: int
    ) -> None:
        self.state = ModuleState.IDLE
        self.boot_id = random.getrandbits(64)
        self.fault: Exception | None = None
        self._descriptor = descriptor
        self._descriptor_crc = crc32c(descriptor)
        self._modes = modes
        self._sink = sink
        self._works = works
        self.link_mbit_s = link_mbit_s
        self._mode: Mode | None = None
        self._result: tuple[int, bytes] | None = None

    def announce(self, descriptor: bytes, crc: int | None = None) -> None:
        """Show other descriptor bytes (and CRC) than those of the module."""
        self._descriptor = descriptor
        self._descriptor_crc = crc32c(descriptor) if crc is None else crc

    def reset(self) -> None:
        """The host has reset or reconfigured the device: no stream, no mode. The contract and boot id stay. Where the
        stream does not end, the module is in FAULT."""
        if self.state not in (ModuleState.IDLE, ModuleState.FAULT):
            was, self.state = self.state, ModuleState.IDLE
            if was is ModuleState.STREAMING:
                with contextlib.suppress(_Refuse):  # there is no request to answer
                    self._done(self._works.stop)
        self._mode = None
        self._result = None

    # Requests to the host -------------------------------------------------------------------------------------

    def read(self, request: int, value: int) -> bytes:
        """Reply to an IN request; the caller cuts it to what the host asked for."""
        op = _known(request)
        if op is Op.RESULT and self._result is not None and self._result[0] == value:
            return self._result[1]
        try:
            if op is None or op not in wire.IN_OPS:
                raise _Refuse(Status.UNSUPPORTED)
            self._check_state(op)
            return wire.pack_reply(Status.OK, 0, self._done(partial(self._read, op, value)))
        except _Refuse as refusal:
            tag = value if op is Op.RESULT else 0
            return wire.pack_reply(refusal.status, tag, refusal.body)

    def _read(self, op: Op, value: int) -> bytes:
        match op:
            case Op.INFO:
                info = wire.Info(
                    limits.VERSION_MINOR,
                    self.state,
                    0,
                    len(self._descriptor),
                    self._descriptor_crc,
                    0,
                    self.boot_id,
                )
                return info.pack()
            case Op.DESCRIPTOR:
                start = value * limits.DESCRIPTOR_BLOCK_BYTES
                if start >= len(self._descriptor):
                    raise _Refuse(Status.INVALID)
                return self._descriptor[start : start + limits.DESCRIPTOR_BLOCK_BYTES]
            case Op.CLOCK:
                return wire.Clock(self._works.module_time(), 1, 0).pack()
            case Op.CONTROLS:
                values = self._works.controls()
                return wire.pack_controls(wire.ControlValue(i, 0, v) for i, v in values.items())
            case Op.POWER_RECEIVE:
                message = self._sink.take()
                if message is None:
                    raise _Refuse(Status.NONE)
                return message.pack(source=False)
            case _:  # RESULT, for a tag that is not there
                raise _Refuse(Status.INVALID)

    # Requests to the module -----------------------------------------------------------------------------------

    def write(self, request: int, payload: bytes) -> None:
        """Carry out an OUT request; its result waits for RESULT."""
        tag = int.from_bytes(payload[6:8], "little") if len(payload) >= wire.Header.SIZE else 0
        try:
            status, body = self._write(request, payload)
        except _Refuse as refusal:
            status, body = refusal.status, refusal.body
        self._result = tag, wire.pack_reply(status, tag, body)

    def _write(self, request: int, payload: bytes) -> tuple[Status, bytes]:
        head, body = _open(payload)
        op = _known(request)
        if op not in _OUT_OPS or op is None or head.code != request:
            raise _Refuse(Status.UNSUPPORTED)
        body_sizes: dict[Op, type[Message]] = {
            Op.CONFIGURE: wire.Configure,
            Op.START: wire.Epoch,
            Op.FLUSH: wire.Epoch,
            Op.SET_CONTROLS: wire.ControlCount,
        }
        if op in body_sizes and len(body) < body_sizes[op].SIZE:
            raise _Refuse(Status.BAD_LENGTH)
        carry_out: dict[Op, Callable[[bytes], tuple[Status, bytes]]] = {
            Op.CONFIGURE: self._configure,
            Op.START: self._start,
            Op.STOP: self._stop,
            Op.FLUSH: self._flush,
            Op.SET_CONTROLS: self._set_controls,
            Op.POWER_SEND: self._power,
            Op.STANDBY: self._standby,
        }
        if op is Op.SET_CONTROLS:
            _open_list(body)  # its length comes before the state
        self._check_state(op)
        return self._done(partial(carry_out[op], body))

    def _done(self, work: Callable[[], T]) -> T:
        """What comes of it. Whatever breaks inside is this module's fault, and the host must be told."""
        try:
            return work()
        except _Refuse:
            raise
        except Exception as error:
            self.fault = error
            self.state = ModuleState.FAULT
            raise _Refuse(Status.FAULT) from error

    def _check_state(self, op: Op) -> None:
        if self.state not in LEGAL[op]:
            raise _Refuse(Status.FAULT if self.state is ModuleState.FAULT else Status.WRONG_STATE)

    def _configure(self, body: bytes) -> tuple[Status, bytes]:
        want = wire.Configure.unpack(body)
        mode = self._modes[want.mode] if want.mode < len(self._modes) else None
        if mode is not None and mode.mw > self._sink.allowed_mw:
            raise _Refuse(Status.NO_CONTRACT)
        unknown = want.flags & ~int(wire.ConfigureFlag.TEST_ONLY)
        if mode is None or unknown or not want.interval_numerator or not want.interval_denominator:
            raise _Refuse(Status.INVALID)
        index = self._choose(mode, want)
        mode = self._modes[index]
        exact = _says(want, mode) and index == want.mode
        if not want.flags & wire.ConfigureFlag.TEST_ONLY:
            self._works.configure(mode)
            self._mode = mode
            self.state = ModuleState.CONFIGURED
        answer = wire.Configured(
            index,
            want.flags,
            mode.fourcc,
            mode.width,
            mode.height,
            mode.interval.numerator,
            mode.interval.denominator,
            mode.stride,
            mode.nbytes,
            mode.mbit_s,
            mode.mw,
        )
        return (Status.OK if exact else Status.ADJUSTED), answer.pack()

    def _choose(self, named: Mode, want: wire.Configure) -> int:
        """The index of the mode to use: the named one, or the nearest to the fields that contract and link carry."""
        possible = [
            i for i, m in enumerate(self._modes) if m.mw <= self._sink.allowed_mw and m.mbit_s <= self.link_mbit_s
        ]
        if not possible:
            raise _Refuse(Status.INVALID)
        if want.mode in possible and _says(want, named):
            return want.mode
        interval = Fraction(want.interval_numerator, want.interval_denominator)

        def distance(index: int) -> tuple[bool, int, Fraction]:
            m = self._modes[index]
            pixels = abs(m.width - want.width) + abs(m.height - want.height)
            return m.fourcc != want.fourcc, pixels, abs(m.interval - interval)

        return min(possible, key=distance)

    def _start(self, body: bytes) -> tuple[Status, bytes]:
        if self._mode is not None and self._mode.mw > self._sink.allowed_mw:
            raise _Refuse(Status.NO_CONTRACT)
        self._works.start(wire.Epoch.unpack(body).epoch)
        self.state = ModuleState.STREAMING
        return Status.OK, b""

    def _stop(self, _body: bytes) -> tuple[Status, bytes]:
        if self.state is ModuleState.STREAMING:
            self._works.stop()
            self.state = ModuleState.CONFIGURED
        return Status.OK, b""

    def _flush(self, body: bytes) -> tuple[Status, bytes]:
        self._works.flush(wire.Epoch.unpack(body).epoch)
        return Status.OK, b""

    def _standby(self, _body: bytes) -> tuple[Status, bytes]:
        self.state = ModuleState.STANDBY
        self._mode = None
        return Status.OK, b""

    def _set_controls(self, body: bytes) -> tuple[Status, bytes]:
        entries = _open_list(body)
        known = self._works.controls()
        clamped = self._works.set_controls({e.id: e.value for e in entries if e.id in known})
        answers = []
        for entry in entries:
            if entry.id not in known:
                answers.append(wire.ControlValue(entry.id, Status.INVALID, entry.value))
            else:
                now = clamped[entry.id]
                answers.append(wire.ControlValue(entry.id, Status.OK if now == entry.value else Status.ADJUSTED, now))
        return Status.OK, wire.pack_controls(answers)

    def _power(self, body: bytes) -> tuple[Status, bytes]:
        try:
            understood = self._sink.receive(PdMessage.unpack(body))
        except BadModule as error:
            raise _Refuse(Status.INVALID) from error
        if not understood:
            raise _Refuse(Status.WRONG_STATE)
        if self.state is ModuleState.STREAMING and self._mode is not None and self._mode.mw > self._sink.allowed_mw:
            self._works.stop()  # a module never draws more than it was promised
            self._mode = None
            self.state = ModuleState.IDLE
        return Status.OK, b""


def _known(request: int) -> Op | None:
    try:
        op = Op(request)
    except ValueError:
        return None
    return None if op in wire.RESERVED_OPS else op


def _says(want: wire.Configure, mode: Mode) -> bool:
    """Whether the request's fields are those of ``mode``."""
    interval = Fraction(want.interval_numerator, want.interval_denominator)
    return (want.fourcc, want.width, want.height, interval) == (mode.fourcc, mode.width, mode.height, mode.interval)


def _open(payload: bytes) -> tuple[wire.Header, bytes]:
    """Header and body, with the status that each defect has."""
    try:
        return wire.open_payload(payload)
    except BadModule as error:
        by_cause = {
            "control_length": Status.BAD_LENGTH,
            "control_magic": Status.BAD_MAGIC,
            "control_version": Status.BAD_VERSION,
        }
        raise _Refuse(by_cause[error.cause]) from error


def _open_list(body: bytes) -> tuple[wire.ControlValue, ...]:
    try:
        return wire.open_controls(body)
    except BadModule as error:
        raise _Refuse(Status.INVALID if error.cause == "controls_count" else Status.BAD_LENGTH) from error
