# SPDX-License-Identifier: MIT
"""What is fuzzed. A target takes a random generator and raises nothing: whatever a module sends may only ever be a

``BadModule`` (or another of our own errors), with a cause, quickly, and without memory beyond the input's size.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import cbor2

from maglens_driver.errors import BadModule, MaglensError
from maglens_driver.link import wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.document import examples
from maglens_driver.link.pd import FixedPdo, PdMessage, PdType, Rdo
from maglens_driver.usb import checks
from maglens_driver.usb.fake import FakeControl, FakeModule
from maglens_driver.usb.requests import Requests
from tests.fuzz.link.mutate import mutate, mutate_document
from tests.unit.usb_rig import DESCRIPTOR

_RAW: Final = DESCRIPTOR.pack()
_DOCUMENT: Final = cbor2.loads(_RAW)
_EXAMPLES: Final = examples()


def _expect_bad_module(work: Callable[[], object]) -> None:
    try:
        work()
    except BadModule as error:
        assert error.cause and str(error)


def descriptor_bytes(rng: random.Random) -> None:
    """The descriptor's bytes, bent."""
    raw = mutate(rng, _RAW)
    _expect_bad_module(lambda: _check_round_trip(raw))


def descriptor_document(rng: random.Random) -> None:
    """The decoded descriptor, bent and properly encoded again."""
    document: Any = copy.deepcopy(_DOCUMENT)
    for _ in range(rng.randint(1, 3)):
        document = mutate_document(rng, document)
    raw = cbor2.dumps(document, canonical=True)
    _expect_bad_module(lambda: _check_round_trip(raw))


def _check_round_trip(raw: bytes) -> None:
    descriptor = Descriptor.unpack(raw)
    assert Descriptor.unpack(descriptor.pack()) == descriptor


def structures(rng: random.Random) -> None:
    """Every structure, event, list and payload, bent."""
    raw = mutate(rng, rng.choice(list(_EXAMPLES.values())))
    for read in (
        wire.open_leader,
        wire.open_trailer,
        wire.open_payload,
        wire.open_controls,
        wire.open_control_values,
        wire.open_event,
    ):
        _expect_bad_module(lambda read=read: read(raw))  # type: ignore[misc]


def power(rng: random.Random) -> None:
    """Power messages, bent."""
    raw = mutate(rng, _EXAMPLES[rng.choice(("offers", "request", "accept"))][8:])

    def read() -> None:
        message = PdMessage.unpack(raw)
        assert PdMessage.unpack(message.pack(source=True)) == message
        for data in message.objects:
            if message.type is PdType.SOURCE_CAPABILITIES:
                FixedPdo.unpack(data)
            else:
                assert Rdo.unpack(data).position

    _expect_bad_module(read)


def replies(rng: random.Random) -> None:
    """A whole identification and a few requests, with bent replies."""

    def reply(_op: int, raw: bytes) -> bytes:
        return mutate(rng, raw) if rng.random() < 0.3 else raw

    requests = Requests(FakeControl(FakeModule(DESCRIPTOR, reply=reply)))
    steps: tuple[Callable[[], object], ...] = (
        lambda: requests.descriptor(requests.info()),
        requests.clock_sample,
        requests.controls,
        lambda: requests.set_controls({c.id: c.maximum for c in DESCRIPTOR.controls}),
        requests.power_receive,
        lambda: requests.configure(wire.Configure(0, 0, 0, 0, 0, 1, 30)),
        lambda: requests.start(1),
        lambda: requests.flush(2),
        requests.stop,
    )
    for step in steps:
        try:
            step()
        except MaglensError as error:
            assert str(error)


def frames(rng: random.Random) -> None:
    """Leader, payload length and trailer, bent in their fields and sealed again."""

    def bent(kind: type[wire.Leader] | type[wire.Trailer], raw: bytes) -> bytes:
        fields = bytearray(raw)
        for _ in range(rng.randint(0, 2)):
            field = rng.choice(kind.layout())
            top = 1 << 8 * field.size
            number = rng.choice((0, 1, top - 1, rng.randrange(top)))
            fields[field.offset : field.offset + field.size] = number.to_bytes(field.size, "little")
        sealed = wire.seal(kind.unpack(fields))
        return mutate(rng, sealed) if rng.random() < 0.2 else sealed

    good = wire.Leader.unpack(_EXAMPLES["leader"])
    fixed = rng.random() < 0.5
    expected = checks.Expected(good.fourcc, good.width, good.height, good.stride, good.payload_bytes, fixed)
    leader: wire.Leader | None = None
    try:
        raw = bent(wire.Leader, _EXAMPLES["leader"])
        leader = checks.check_leader(memoryview(raw), expected, good.epoch, rng.choice((-1, 0, 5)))
        assert leader.payload_bytes <= expected.payload_bytes
    except BadModule as error:
        assert error.cause
    nbytes = rng.choice((0, 1, good.payload_bytes - 1, good.payload_bytes, good.payload_bytes + 1))
    _expect_bad_module(lambda: checks.check_length(leader, expected, nbytes))
    raw = bent(wire.Trailer, _EXAMPLES["trailer"])
    _expect_bad_module(lambda: checks.check_trailer(memoryview(raw), leader, nbytes))


TARGETS: Final[Mapping[str, Callable[[random.Random], None]]] = {
    target.__name__: target for target in (descriptor_bytes, descriptor_document, structures, power, replies, frames)
}
