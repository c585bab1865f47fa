# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests: the control requests of the link protocol, blocking, with every check on what the module answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TypeVar

from crc32c import crc32c

from maglens_driver.errors import BadModule, MaglensError, Refused, WrongState
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.message import Message
from maglens_driver.link.pd import PdMessage
from maglens_driver.link.wire import Op, Status
from maglens_driver.usb.transport import ControlPipe

B = TypeVar("B", bound=Message)

_HINTS = {
    Status.NO_CONTRACT: "choose a smaller mode, or raise the power budget of the port in the configuration",
    Status.FAULT: "unplug the module and plug it in again",
}

# The same module comes back again and again; decoding and checking its descriptor is the longest step of an attach.
_unpack_descriptor = functools.lru_cache(maxsize=16)(Descriptor.unpack)


def refused(op: Op, status: Status) -> MaglensError:
    """The error for a request that the module understood and refused."""
    if status is Status.WRONG_STATE:
        return WrongState(f"the module refused {op.name}: wrong state")
    return Refused(status.name, f"the module refused {op.name}: {status.name}", hint=_HINTS.get(status, ""))


def _body(kind: type[B], body: bytes, op: Op) -> B:
    if len(body) < kind.SIZE:
        raise BadModule("control_length", f"reply to {op.name} holds {len(body)} bytes, {kind.SIZE} expected")
    return kind.unpack(body)


class Requests:
    """One module's requests. Blocking, one thread at a time; each method raises what ``ControlPipe`` raises, and

    ``BadModule`` (``control_length|magic|version|tag|status`` and those of the body), ``Refused``, ``WrongState``.
    """

    def __init__(self, pipe: ControlPipe) -> None:
        self._pipe = pipe
        self._tag = 0

    def _read(self, op: Op, value: int, tag: int, timeout_s: float) -> tuple[Status, bytes]:
        head, body = wire.open_payload(self._pipe.read(op, value, timeout_s))
        if head.tag != tag:
            raise BadModule("control_tag", f"reply to {op.name} has tag {head.tag}, {tag} expected")
        try:
            return Status(head.code), body
        except ValueError as error:
            raise BadModule("control_status", f"reply to {op.name} has unknown status {head.code}") from error

    def _fetch(self, op: Op, value: int = 0) -> bytes:
        """Body of a plain read that must succeed."""
        status, body = self._read(op, value, 0, limits.REPLY_S)
        if status is not Status.OK:
            raise refused(op, status)
        return body

    def _send(self, op: Op, body: bytes = b"") -> tuple[Status, bytes]:
        """Send a request and fetch its result; both within the one time limit."""
        self._tag = self._tag % 0xFFFF + 1
        until = time.monotonic() + limits.REPLY_S
        self._pipe.write(op, 0, wire.pack_request(op, self._tag, body), limits.REPLY_S)
        status, result = self._read(Op.RESULT, self._tag, self._tag, max(0.001, until - time.monotonic()))
        if status not in (Status.OK, Status.ADJUSTED):
            raise refused(op, status)
        return status, result

    def info(self) -> wire.Info:
        """State, boot id, and length and CRC of the descriptor; cause ``info_state``, ``descriptor_length``."""
        info = _body(wire.Info, self._fetch(Op.INFO), Op.INFO)
        if info.state not in {int(s) for s in wire.ModuleState}:
            raise BadModule("info_state", f"the module says it is in the unknown state {info.state}")
        if not 0 < info.descriptor_bytes <= limits.MAX_DESCRIPTOR_BYTES:
            raise BadModule(
                "descriptor_length",
                f"descriptor of {info.descriptor_bytes} bytes, 1 to {limits.MAX_DESCRIPTOR_BYTES} are allowed",
            )
        return info

    def descriptor(self, info: wire.Info) -> Descriptor:
        """All blocks of the descriptor that ``info`` announces, checked; causes ``descriptor_*``."""
        raw = bytearray()
        while len(raw) < info.descriptor_bytes:
            block = self._fetch(Op.DESCRIPTOR, len(raw) // limits.DESCRIPTOR_BLOCK_BYTES)
            want = min(limits.DESCRIPTOR_BLOCK_BYTES, info.descriptor_bytes - len(raw))
            if len(block) != want:
                cause = "descriptor_truncated" if len(block) < want else "descriptor_length"
                raise BadModule(cause, f"descriptor block of {len(block)} bytes, {want} expected")
            raw += block
        whole = bytes(raw)
        if crc32c(whole) != info.descriptor_crc32c:
            raise BadModule("descriptor_crc", "descriptor fails the CRC that the module gave for it")
        return _unpack_descriptor(whole)

    def clock_sample(self) -> tuple[int, int, int]:
        """Host CLOCK_MONOTONIC before, module time, host after; ns."""
        before = time.monotonic_ns()
        body = self._fetch(Op.CLOCK)
        after = time.monotonic_ns()
        return before, int(_body(wire.Clock, body, Op.CLOCK).time_ns), after

    def configure(self, want: wire.Configure) -> tuple[Status, wire.Configured]:
        """Status is OK or ADJUSTED; the answer's values are not checked here."""
        status, body = self._send(Op.CONFIGURE, want.pack())
        return status, _body(wire.Configured, body, Op.CONFIGURE)

    def start(self, epoch: int) -> None:
        """Begin to send frames that carry ``epoch``."""
        self._send(Op.START, wire.Epoch(epoch).pack())

    def stop(self) -> None:
        """End the stream; what was not sent yet is dropped."""
        self._send(Op.STOP)

    def flush(self, epoch: int) -> None:
        """Drop what was not sent yet; go on with ``epoch``."""
        self._send(Op.FLUSH, wire.Epoch(epoch).pack())

    def restart(self, epoch: int) -> None:
        """STOP and START."""
        self.stop()
        self.start(epoch)

    def standby(self) -> None:
        """Sensor off, link up."""
        self._send(Op.STANDBY)

    def controls(self) -> dict[int, int]:
        """Present value of every control."""
        return {e.id: e.value for e in wire.open_control_values(self._fetch(Op.CONTROLS))}

    def set_controls(self, values: Mapping[int, int]) -> dict[int, int]:
        """Write controls; the values as clamped. The first entry that the module refused is raised."""
        body = wire.pack_controls(wire.ControlValue(i, 0, v) for i, v in values.items())
        _, result = self._send(Op.SET_CONTROLS, body)
        entries = wire.open_control_values(result)
        if {e.id for e in entries} != set(values):
            raise BadModule("controls_ids", "the result of SET_CONTROLS names other controls than were written")
        for entry in entries:
            if entry.status not in (Status.OK, Status.ADJUSTED):
                known = entry.status in {int(s) for s in Status}
                name = Status(entry.status).name if known else str(entry.status)
                raise Refused(name, f"the module refused to set control {entry.id:#010x}: {name}")
        return {e.id: e.value for e in entries}

    def power_send(self, message: PdMessage) -> None:
        """Hand a power message to the module."""
        self._send(Op.POWER_SEND, message.pack(source=True))

    def power_receive(self) -> PdMessage | None:
        """The module's waiting power message, if any; causes ``pd_*``."""
        status, body = self._read(Op.POWER_RECEIVE, 0, 0, limits.REPLY_S)
        if status is Status.NONE:
            return None
        if status is not Status.OK:
            raise refused(Op.POWER_RECEIVE, status)
        return PdMessage.unpack(body)

    def close(self) -> None:
        """Give the pipe back."""
        self._pipe.close()
