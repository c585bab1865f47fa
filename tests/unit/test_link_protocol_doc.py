# SPDX-License-Identifier: MIT
"""docs/protocol.md agrees with the code: generated parts, names, numbers, states; and its bytes decode by hand."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from crc32c import crc32c as crc32c_fast

from maglens_driver import names
from maglens_driver.control import Cid
from maglens_driver.gadget.functionfs import descriptor_block
from maglens_driver.gadget.responder import LEGAL
from maglens_driver.link import document, limits, wire
from maglens_driver.link.descriptor import Descriptor
from maglens_driver.link.pd import PdMessage, PdType, Rdo
from maglens_driver.mode import MJPG, NV12, Mode, make_mode
from maglens_driver.usb.checks import OUT_OF_STEP
from maglens_v4l2 import v4l2
from maglens_v4l2.exposure_program import GAIN_UNIT
from maglens_v4l2.kernel_node import _formats

PATH = Path(__file__).parents[2] / "docs" / "protocol.md"
TEXT = PATH.read_text()
MJPEG = Mode(MJPG, 64, 48, 0, 6144, Fraction(1, 30))


def test_generated_parts_are_up_to_date() -> None:
    assert document.regenerate(TEXT) == TEXT, f"run: python -m maglens_driver.link.document {PATH}"


def test_a_stale_part_would_be_noticed() -> None:
    stale = TEXT.replace("| 12 | 4 | u32 | `epoch` |", "| 16 | 4 | u32 | `epoch` |")
    assert stale != TEXT
    assert document.regenerate(stale) != stale


def test_every_part_is_in_the_document_once() -> None:
    assert sorted(document.names_in(TEXT)) == sorted(document.parts())


def test_every_limit_is_in_a_table() -> None:
    known = {n for n in vars(limits) if n.isupper() and not n.startswith(("_", "ENV_"))}
    assert known == {*document.CEILINGS, *document.TIMES, *document.NOT_IN_TABLES}


def test_every_request_and_status_is_explained() -> None:
    assert set(document.OPS) == set(wire.Op)
    assert set(document.STATUSES) == set(wire.Status)
    assert {o for o, (_, reply) in document.OPS.items() if "UNSUPPORTED" in reply} == wire.RESERVED_OPS


def test_recognition() -> None:
    for row in (
        f"| bInterfaceClass | {names.USB_CLASS:#04X} |".replace("0X", "0x"),
        f"| bInterfaceSubClass | {names.USB_SUBCLASS:#04x} |",
        f"| bInterfaceProtocol | {names.USB_PROTOCOL:#04x} |",
    ):
        assert row in TEXT
    assert f"reads `{names.USB_INTERFACE_STRING}`, exactly" in TEXT


def test_request_types() -> None:
    assert f"| bmRequestType | 0x{wire.REQUEST_IN:X} | 0x{wire.REQUEST_OUT:X} |" in TEXT


def test_the_table_of_states_is_that_of_the_module() -> None:
    section = TEXT[TEXT.index("| request | legal in |") :]
    section = section[: section.index("\n\n")]
    said: dict[wire.Op, set[wire.ModuleState]] = {}
    for line in section.splitlines()[2:]:
        requests, states = (cell.strip() for cell in line.strip("|").split("|"))
        for request in requests.split(", "):
            said[wire.Op[request]] = {wire.ModuleState[s] for s in states.split(", ")}
    assert said == {op: set(states) for op, states in LEGAL.items()}


def test_values_of_enums_in_the_prose() -> None:
    for state in wire.ModuleState:
        assert f"{state.value} {state.name}" in TEXT.replace("\n", " ")
    for kind in wire.EventKind:
        assert f"| {kind.value} | {kind.name} |" in TEXT


def test_power_messages() -> None:
    for kind in PdType:
        number, data = kind.value
        name = "_".join(w if len(w) < 3 else w.capitalize() for w in kind.name.split("_"))
        name = {"PS_Rdy": "PS_RDY", "Goto_Min": "GotoMin"}.get(name, name)
        row = re.search(rf"^\| {name} \| (\d+) \| (\w+)", TEXT, re.MULTILINE)
        assert row, name
        assert int(row[1]) == number
        assert (row[2] != "none") is data


def test_out_of_step_causes_are_marked() -> None:
    marked = set(re.findall(r"`(\w+)` †", TEXT))
    assert marked == OUT_OF_STEP


def test_control_ids_in_the_prose() -> None:
    said = {name: int(number, 16) for name, number in re.findall(r"([A-Z_]+) \((0x[0-9A-F]{8})\)", TEXT)}
    assert said == {name: Cid[name] for name in said}
    # Those whose unit V4L2 leaves open and the host reckons with.
    assert {"GAIN", "FOCUS_ABSOLUTE", "IRIS_ABSOLUTE", "ZOOM_ABSOLUTE", "EXPOSURE_ABSOLUTE"} <= said.keys()


def test_the_unit_of_gain_is_the_hosts() -> None:
    assert GAIN_UNIT == 1000
    assert "GAIN (0x00980913) in thousandths, 1000 being none" in TEXT.replace("\n", " ")


def test_colours_are_those_that_the_host_declares() -> None:
    """And nothing else of V4L2's is named."""
    said = {name: int(number) for name, number in re.findall(r"V4L2_([A-Z0-9_]+) \((\d+)\)", TEXT)}
    assert said == {name: getattr(v4l2, name) for name in said}
    raw, compressed = (
        v4l2.format_of(v4l2.BUF_TYPE_VIDEO_CAPTURE, make_mode(NV12, 64, 48, Fraction(1, 30))).fmt.pix,
        _formats([MJPEG])[0],
    )
    assert {raw.colorspace, compressed.colorspace} == {said["COLORSPACE_SRGB"]}
    assert {raw.xfer_func, compressed.xfer_func} == {said["XFER_FUNC_SRGB"]}
    assert {raw.ycbcr_enc, compressed.ycbcr_enc} == {said["YCBCR_ENC_601"]}
    assert (raw.quantization, compressed.quantization) == (
        said["QUANTIZATION_LIM_RANGE"],
        said["QUANTIZATION_FULL_RANGE"],
    )


def test_the_interval_of_events() -> None:
    """The last byte of an endpoint's descriptor: that of the only interrupt endpoint at each speed."""
    endpoints = re.findall(rb"\x07\x05\x82\x03..(.)", descriptor_block(), re.DOTALL)
    assert [one[0] for one in endpoints] == [8, 7, 7]
    assert "8 at full speed, 7 above" in TEXT


def example(name: str) -> bytes:
    """The bytes of an example as they stand in the document."""
    part = re.search(rf"<!-- generated: example-{name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert part
    return bytes.fromhex("".join(line[10:] for line in part[1].splitlines()))


def crc32c(raw: bytes) -> int:
    """The slowest one there is, by the definition in the document's first section."""
    crc = 0xFFFFFFFF
    for byte in raw:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)  # 0x1EDC6F41 reflected
    return crc ^ 0xFFFFFFFF


class TestExamplesByHand:
    """Decoded without the structures' code."""

    def number(self, name: str, at: int, size: int) -> int:
        return int.from_bytes(example(name)[at : at + size], "little")

    def test_crc(self) -> None:
        assert crc32c(b"123456789") == 0xE3069283

    def test_info(self) -> None:
        raw = example("info")
        assert raw[:8].hex(" ") == "4d 4c 01 00 20 00 00 00"
        assert self.number("info", 12, 4) == len(example("descriptor"))
        assert self.number("info", 16, 4) == crc32c(example("descriptor"))
        assert self.number("info", 24, 8) == 0x0123456789ABCDEF

    def test_descriptor(self) -> None:
        descriptor = Descriptor.unpack(example("descriptor"))
        assert descriptor.identity.key == "Acme/Lens One/0001"
        assert descriptor.modes[0].nbytes == 1280 * 720 * 3 // 2
        assert example("descriptor")[0] == 0xAA  # a map of ten

    @pytest.mark.parametrize("name", ["leader", "trailer"])
    def test_sealed(self, name: str) -> None:
        raw = example(name)
        assert crc32c(raw[:8] + bytes(4) + raw[12:]) == self.number(name, 8, 4)

    def test_leader(self) -> None:
        assert example("leader")[:4] == b"MLLD" and self.number("leader", 4, 2) == 80
        assert self.number("leader", 12, 4) == 1 and self.number("leader", 16, 8) == 0
        assert example("leader")[32:36] == b"NV12"
        assert self.number("leader", 48, 4) == 1_382_400

    def test_trailer(self) -> None:
        assert example("trailer")[:4] == b"MLTR" and self.number("trailer", 24, 4) == 1_382_400
        assert self.number("trailer", 28, 4) == crc32c_fast(bytes(1_382_400))

    def test_power(self) -> None:
        assert PdMessage.unpack(example("offers")[8:]).type is PdType.SOURCE_CAPABILITIES
        request = PdMessage.unpack(example("request")[8:])
        assert Rdo.unpack(request.objects[0]) == Rdo(1, 400, 100, give_back=True)
        assert self.number("request", 10, 4) == 0x1800A00A  # worked by hand: 1, GiveBack, 40, 10

    def test_refusal(self) -> None:
        assert example("refused").hex(" ") == "4d 4c 01 14 08 00 08 00"

    def test_event(self) -> None:
        assert example("event")[:4].hex(" ") == "4d 56 01 01" and self.number("event", 12, 4) == 120
