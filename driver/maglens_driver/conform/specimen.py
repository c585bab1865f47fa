# SPDX-License-Identifier: GPL-2.0-or-later
"""Specimen: the module under test, as the checks see it. Blocking, in one thread.

It speaks through the same :class:`Transport` and :class:`Requests` as the service does, and beside them says things
that the service never would.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from maglens_driver.conform.check import Failed, Skipped, expect, fail
from maglens_driver.conform.receiver import Receiver
from maglens_driver.conform.recording import Recording
from maglens_driver.conform.usb_facts import UsbFacts
from maglens_driver.errors import MaglensError
from maglens_driver.link import limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.payload import usable_mbit
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo
from maglens_driver.link.wire import ModuleState, Op, Status
from maglens_driver.mode import MJPG, Mode
from maglens_driver.usb.device import UsbDevice
from maglens_driver.usb.requests import Requests
from maglens_driver.usb.transport import ControlPipe, Transport

log = logging.getLogger(__name__)

BUSY_TRIES: Final = 20
BUSY_PAUSE_S: Final = 0.025  # nobody tells when it could
SUPER_SPEED_MBIT: Final = 5000
_TINY: Final = (FixedPdo(5000, 10),)  # an offer that covers no mode worth the name
_IDS: Final = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply with a sound header. ``status`` may be a number that :class:`Status` lacks."""

    status: int
    tag: int
    body: bytes

    @property
    def name(self) -> str:
        """The status by its name."""
        return Status(self.status).name if self.status in {int(s) for s in Status} else f"{self.status:#04x}"


@dataclass(frozen=True, slots=True)
class Before:
    """A module when it was pulled off. ``bounces``: how often it went again after it was put back; None: not yet."""

    descriptor: bytes
    boot_id: int
    bounces: int | None = None


class Hand(Protocol):
    """Somebody at the module: a person who is asked, or a test's machinery."""

    def pull(self) -> None:
        """Take the module off; returns when it is off."""
        ...

    def plug(self) -> tuple[UsbFacts, UsbDevice, Transport, int]:
        """Put it back. Also how many times it vanished again before it stayed for a second."""
        ...

    def turn(self, ring: str) -> bool:
        """Turn a ring, if that can be done."""
        ...


class Specimen:
    """One module. ``offers``: what its port may promise. Without ``device`` its USB descriptors alone are judged.

    ``fresh``: it has not streamed since it came.
    """

    def __init__(
        self,
        facts: UsbFacts,
        device: UsbDevice | None,
        transport: Transport | None,
        *,
        offers: Sequence[FixedPdo] = (),
        hand: Hand | None = None,
        fresh: bool = True,
    ) -> None:
        self.facts = facts
        self.hand = hand
        self.before: Before | None = None
        self.offers = tuple(offers) or (FixedPdo(5000, 900 if facts.speed_mbit >= SUPER_SPEED_MBIT else 500),)
        self.slowest: dict[str, float] = {}
        self._pd_id = 0
        self._tag = 0x4000
        self._epoch = random.randrange(1 << 16)  # what an earlier program has left is of another one
        self._fresh = True
        self._contracted = self._in_step = False
        self._first_info: bytes | MaglensError | None = None
        self._raw: bytes | None = None
        self._descriptor: Descriptor | None = None
        self._recording: Recording | None = None
        self.device: UsbDevice | None = None
        self._pipe: ControlPipe | None = None
        self._receiver: Receiver | None = None
        if device is not None and transport is not None:
            self.bind(device, transport)
        self._fresh = fresh

    def bind(self, device: UsbDevice, transport: Transport) -> None:
        """Open both pipes of a module that has just come (back): it has nothing of before."""
        self.device = device
        self._pipe = transport.open_control()
        self._receiver = Receiver(transport.open_stream(), device)
        self._fresh, self._contracted, self._in_step = True, False, False
        self._pd_id, self._first_info, self._raw, self._descriptor = 0, None, None, None

    def close(self) -> None:
        """Leave the module stopped, as far as it listens, and give the pipes back."""
        if self._pipe is not None:
            try:
                self.put(Op.STOP)
            except (MaglensError, Failed) as why:
                log.debug("the module was not stopped: %s", why)
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def name(self) -> str:
        """Who it is, as far as it says."""
        try:
            identity = str(self.descriptor.identity)
        except (Skipped, Failed, MaglensError):
            identity = "the device"
        return f"{identity} at port {self.facts.port}"

    # Raw requests ---------------------------------------------------------------------------------------------

    @property
    def pipe(self) -> ControlPipe:
        """Endpoint 0."""
        if self._pipe is None:
            raise Skipped("it is no maglens module, so it is sent no request")
        return self._pipe

    @property
    def receiver(self) -> Receiver:
        """The bulk and the interrupt endpoint."""
        if self._receiver is None:
            raise Skipped("it is no maglens module, so it is sent no request")
        return self._receiver

    @property
    def requests(self) -> Requests:
        """The requests as the service makes them."""
        return Requests(self.pipe)

    def read(self, request: int, value: int = 0) -> bytes:
        """An IN request; the bytes as they came."""
        began = time.monotonic()
        raw = self.pipe.read(request, value, limits.REPLY_S)
        self._note(request, time.monotonic() - began)
        return raw

    def get(self, request: int, value: int = 0) -> Reply:
        """An IN request; the header is checked, the status is not."""
        return _open(self.read(request, value))

    def put(
        self,
        request: int,
        body: bytes = b"",
        *,
        magic: int = wire.CONTROL_MAGIC,
        major: int = limits.VERSION_MAJOR,
        code: int | None = None,
        length: int | None = None,
        cut: int | None = None,
    ) -> Reply:
        """An OUT request and its RESULT, which must carry the tag. BUSY is asked again.

        The header can be made wrong; ``cut``: send only so many bytes.
        """
        for _ in range(BUSY_TRIES):
            self._tag = self._tag % 0xFFFF + 1
            whole = wire.Header.SIZE + len(body) if length is None else length
            head = wire.Header(magic, major, request if code is None else code, whole, self._tag)
            payload = head.pack() + body
            began = time.monotonic()
            self.pipe.write(request, 0, payload if cut is None else payload[:cut], limits.REPLY_S)
            tagged = cut is None or cut >= wire.Header.SIZE
            reply = _open(self.pipe.read(Op.RESULT, self._tag if tagged else 0, limits.REPLY_S))
            self._note(request, time.monotonic() - began)
            if tagged:
                expect(reply.tag == self._tag, f"RESULT has tag {reply.tag}, the request had {self._tag}")
            if reply.status != Status.BUSY:
                return reply
            time.sleep(BUSY_PAUSE_S)
        fail(f"BUSY {BUSY_TRIES} times in a row")

    @property
    def last_tag(self) -> int:
        """Tag of the last OUT request."""
        return self._tag

    def _note(self, request: int, seconds: float) -> None:
        name = Op(request).name if request in {int(o) for o in Op} else f"{request:#04x}"
        self.slowest[name] = max(self.slowest.get(name, 0.0), seconds)

    # What it says of itself -----------------------------------------------------------------------------------

    def first_info(self) -> bytes:
        """The reply to the very first request, INFO; asked once, and every check looks at the same bytes."""
        if self._first_info is None:
            try:
                self._first_info = self.read(Op.INFO)
            except MaglensError as error:
                self._first_info = error
        if isinstance(self._first_info, MaglensError):
            raise self._first_info
        return self._first_info

    def info(self) -> wire.Info:
        """INFO now."""
        reply = self.get(Op.INFO)
        expect(reply.status == Status.OK, f"INFO is answered {reply.name}")
        expect(len(reply.body) >= wire.Info.SIZE, f"INFO has a body of {len(reply.body)} bytes")
        return wire.Info.unpack(reply.body)

    def state(self) -> ModuleState:
        """As INFO tells it."""
        state = self.info().state
        expect(state in {int(s) for s in ModuleState}, f"INFO tells of the unknown state {state}")
        return ModuleState(state)

    def raw_descriptor(self) -> bytes:
        """All blocks, whatever they hold; bounds are checked before."""
        if self._raw is None:
            info = self.info()
            if not 0 < info.descriptor_bytes <= limits.MAX_DESCRIPTOR_BYTES:
                raise Skipped(f"its length, {info.descriptor_bytes}, is not allowed")
            blocks = -(-info.descriptor_bytes // limits.DESCRIPTOR_BLOCK_BYTES)
            raw = b""
            for number in range(blocks):
                reply = self.get(Op.DESCRIPTOR, number)
                expect(reply.status == Status.OK, f"block {number} is answered {reply.name}")
                raw += reply.body
            self._raw = raw
        return self._raw

    @property
    def descriptor(self) -> Descriptor:
        """As the service understands it."""
        if self._descriptor is None:
            try:
                self._descriptor = Descriptor.unpack(self.raw_descriptor())
            except MaglensError as error:
                raise Skipped(f"its descriptor cannot be used: {error}") from error
        return self._descriptor

    def playable(self) -> list[int]:
        """Modes that link and offers carry, by index; none skips the check."""
        best = max(o.mw for o in self.offers)
        link = usable_mbit(self.facts.speed_mbit)
        found = [i for i, m in enumerate(self.descriptor.modes) if m.mw <= best and m.mbit_s <= link]
        if not found:
            raise Skipped("it has no mode" if not self.descriptor.modes else "no mode fits this port")
        return found

    def small(self) -> int:
        """The mode that most checks use: the fewest bytes, preferably of fixed length and fast."""
        modes = self.descriptor.modes
        return min(self.playable(), key=lambda i: (modes[i].fourcc == MJPG, modes[i].nbytes, modes[i].interval))

    # Power ----------------------------------------------------------------------------------------------------

    def say(self, kind: PdType, *objects: int) -> Reply:
        """One power message of the host. Before the first one a Soft_Reset: what id an earlier program used last is
        not known, and a message that seems to come late is refused."""
        if not self._in_step:
            self._in_step = True
            self.say(PdType.SOFT_RESET)
            self.silence_power()
        message = PdMessage(kind, self.next_pd_id(), objects)
        return self.put(Op.POWER_SEND, message.pack(source=True))

    def lose_step(self) -> None:
        """It is not known any more which ids the module has heard: the next message is a Soft_Reset."""
        self._in_step = self._contracted = False

    def next_pd_id(self) -> int:
        """The message id that is due."""
        number, self._pd_id = self._pd_id, (self._pd_id + 1) % _IDS
        return number

    def hear(self) -> tuple[int, PdMessage] | None:
        """The module's waiting power message with its raw header; None when none waits."""
        reply = self.get(Op.POWER_RECEIVE)
        if reply.status == Status.NONE:
            return None
        expect(reply.status == Status.OK, f"POWER_RECEIVE is answered {reply.name}")
        return int.from_bytes(reply.body[:2], "little"), PdMessage.unpack(reply.body)

    def await_message(self, kind: PdType) -> tuple[int, PdMessage]:
        """The next message, which must be of ``kind``, within the time limit."""
        until = time.monotonic() + limits.REPLY_S
        while (heard := self.hear()) is None:
            expect(time.monotonic() < until, f"no {kind.name} within {limits.REPLY_S} s")
        expect(heard[1].type is kind, f"{heard[1].type.name} came where {kind.name} belongs")
        return heard

    def silence_power(self) -> None:
        """Take whatever messages wait."""
        for _ in range(_IDS * 4):
            if self.hear() is None:
                return
        fail("POWER_RECEIVE never runs out of messages")

    def offer(self, offers: Sequence[FixedPdo]) -> Rdo:
        """Source_Capabilities; the Request to it."""
        self.silence_power()
        reply = self.say(PdType.SOURCE_CAPABILITIES, *(o.pack() for o in offers))
        expect(reply.status == Status.OK, f"Source_Capabilities is answered {reply.name}")
        return Rdo.unpack(self.await_message(PdType.REQUEST)[1].objects[0])

    def grant(self) -> None:
        """Accept and PS_RDY."""
        for kind in (PdType.ACCEPT, PdType.PS_RDY):
            reply = self.say(kind)
            expect(reply.status == Status.OK, f"{kind.name} is answered {reply.name}")

    def contract(self, offers: Sequence[FixedPdo] | None = None) -> Rdo:
        """Agree anew."""
        rdo = self.offer(self.offers if offers is None else offers)
        self.grant()
        self._contracted = offers is None
        return rdo

    def powered(self) -> None:
        """See that the usual contract stands."""
        if not self._contracted:
            self.contract()

    # States ---------------------------------------------------------------------------------------------------

    def configure(self, index: int, *, test_only: bool = False) -> Reply:
        """CONFIGURE a mode of the descriptor as it is."""
        return self.put(Op.CONFIGURE, want(self.descriptor.modes[index], index, test_only=test_only).pack())

    def configured(self, index: int) -> wire.Configured:
        """Be CONFIGURED with it."""
        self.powered()
        self.stop()
        reply = self.configure(index)
        expect(reply.status == Status.OK, f"CONFIGURE of mode {index} is answered {reply.name}")
        expect(len(reply.body) >= wire.Configured.SIZE, f"CONFIGURE has a result of {len(reply.body)} bytes")
        answer = wire.Configured.unpack(reply.body)
        # What is waited for, and how much memory is taken, goes by these.
        over, under, nbytes = answer.interval_numerator, answer.interval_denominator, answer.payload_bytes
        possible = over > 0 and 0 < nbytes <= limits.MAX_FRAME_BYTES and over <= under * limits.MAX_INTERVAL_S
        expect(possible, f"CONFIGURE of mode {index} is answered with {nbytes} bytes every {over}/{under} s")
        return answer

    def started(self, index: int) -> wire.Configured:
        """Be STREAMING it, under an epoch of its own."""
        answer = self.configured(index)
        self._epoch += 1
        reply = self.put(Op.START, wire.Epoch(self._epoch).pack())
        expect(reply.status == Status.OK, f"START is answered {reply.name}")
        self._fresh = False
        return answer

    @property
    def epoch(self) -> int:
        """Of the last START or FLUSH."""
        return self._epoch

    def flush(self) -> Reply:
        """FLUSH with the next epoch."""
        self._epoch += 1
        return self.put(Op.FLUSH, wire.Epoch(self._epoch).pack())

    def stop(self) -> None:
        """Not stream any more."""
        reply = self.put(Op.STOP)
        expect(reply.status == Status.OK, f"STOP is answered {reply.name}")

    def idle(self) -> None:
        """Be IDLE: as it came, or by shrinking the contract of a stream below its mode."""
        if self.state() is ModuleState.IDLE:
            return
        index = self.small()
        if self.descriptor.modes[index].mw <= max(o.mw for o in _TINY):
            raise Skipped("it is not IDLE any more; plug it in anew")
        self.started(index)
        self.contract(_TINY)
        expect(self.state() is ModuleState.IDLE, "a contract below its mode does not lead to IDLE")

    def standing_by(self) -> None:
        """Be in STANDBY."""
        self.stop()
        reply = self.put(Op.STANDBY)
        expect(reply.status == Status.OK, f"STANDBY is answered {reply.name}")

    # Streams --------------------------------------------------------------------------------------------------

    def recording(self) -> Recording:
        """One stream of the small mode, recorded once; every check of the stream looks at the same frames."""
        if self._recording is None:
            self._recording = self.record(self.small())
        return self._recording

    def record(self, index: int, frames: int = 8, span_s: float = 0.0) -> Recording:
        """Configure, start, take so many frames and for so long, stop, listen for what comes all the same."""
        before = self.requests.clock_sample()
        fresh = self._fresh
        answer = self.started(index)
        started_ns = time.monotonic_ns()
        made = self.receiver.frames(answer, self._epoch, frames, fresh=fresh, span_s=span_s)
        after = self.requests.clock_sample()
        self.stop()
        late = self.receiver.leftover(answer)
        return Recording(answer, self._epoch, started_ns, tuple(made), before, after, late)

    def recover(self) -> None:
        """After a check that failed anywhere: stopped, and nothing under way."""
        if self._pipe is not None:
            self._contracted = False
            self.put(Op.STOP)


def want(mode: Mode, index: int, *, test_only: bool = False) -> wire.Configure:
    """The request for a mode of the descriptor."""
    flags = wire.ConfigureFlag.TEST_ONLY if test_only else wire.ConfigureFlag.NONE
    over, under = mode.interval.numerator, mode.interval.denominator
    return wire.Configure(index, flags, mode.fourcc, mode.width, mode.height, over, under)


def _open(raw: bytes) -> Reply:
    head, body = wire.open_payload(raw)
    return Reply(head.code, head.tag, body)
