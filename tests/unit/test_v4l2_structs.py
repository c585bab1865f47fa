# SPDX-License-Identifier: GPL-2.0-or-later
"""Our ctypes against linux/videodev2.h, by compiling a program that prints what the C compiler thinks."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from maglens_v4l2 import loopback_control, v4l2

STRUCTS = {
    "struct v4l2_capability": v4l2.Capability,
    "struct v4l2_pix_format": v4l2.PixFormat,
    "struct v4l2_format": v4l2.Format,
    "struct v4l2_fract": v4l2.Fract,
    "struct v4l2_streamparm": v4l2.StreamParm,
    "struct v4l2_requestbuffers": v4l2.RequestBuffers,
    "struct v4l2_buffer": v4l2.Buffer,
    "struct v4l2_control": v4l2.Control,
    "struct v4l2_event_subscription": v4l2.EventSubscription,
    "struct v4l2_event": v4l2.Event,
}
REQUESTS = [name for name in vars(v4l2) if name.startswith("VIDIOC_")]
CONSTANTS = {
    "V4L2_BUF_TYPE_VIDEO_CAPTURE": v4l2.BUF_TYPE_VIDEO_CAPTURE,
    "V4L2_BUF_TYPE_VIDEO_OUTPUT": v4l2.BUF_TYPE_VIDEO_OUTPUT,
    "V4L2_MEMORY_MMAP": v4l2.MEMORY_MMAP,
    "V4L2_FIELD_NONE": v4l2.FIELD_NONE,
    "V4L2_COLORSPACE_SRGB": v4l2.COLORSPACE_SRGB,
    "V4L2_YCBCR_ENC_601": v4l2.YCBCR_ENC_601,
    "V4L2_QUANTIZATION_LIM_RANGE": v4l2.QUANTIZATION_LIM_RANGE,
    "V4L2_XFER_FUNC_SRGB": v4l2.XFER_FUNC_SRGB,
    "V4L2_CAP_VIDEO_CAPTURE": v4l2.CAP_VIDEO_CAPTURE,
    "V4L2_CAP_VIDEO_OUTPUT": v4l2.CAP_VIDEO_OUTPUT,
    "V4L2_CAP_STREAMING": v4l2.CAP_STREAMING,
    "V4L2_CAP_DEVICE_CAPS": v4l2.CAP_DEVICE_CAPS,
    "V4L2_EVENT_PRIVATE_START": v4l2.EVENT_PRIVATE_START,
    "V4L2_EVENT_SUB_FL_SEND_INITIAL": v4l2.EVENT_SUB_FL_SEND_INITIAL,
    # v4l2loopback.c, 0.15
    "(V4L2_CID_USER_BASE | 0xf000)": loopback_control.CID_KEEP_FORMAT,
    "(V4L2_EVENT_PRIVATE_START + 0x08E00000 + 1)": loopback_control.EVENT_CLIENT_USAGE,
}
# v4l2loopback.h, 0.15: all members have 32 bits, but for the label of 32 bytes.
LOOPBACK_CONFIG = "struct config { int nr[2]; char label[32]; unsigned sizes[4]; int rest[4]; };"


def fields(struct: type[ctypes.Structure]) -> list[str]:
    return [name for name, *_ in struct._fields_ if not name.startswith("_") and name != "reserved"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("no C compiler, or no linux/videodev2.h")
    facts = [(f"sizeof({name})", f"sizeof({name})") for name in STRUCTS]
    facts += [
        (f"{name}.{field}", f"__builtin_offsetof({name}, {field})")
        for name, of in STRUCTS.items()
        for field in fields(of)
    ]
    facts += [(name, name) for name in [*REQUESTS, *CONSTANTS]]
    facts += [("CTL_VERSION", "_IOR('~', 0, __u32)"), ("CTL_REMOVE", "_IOW('~', 2, __u32)")]
    facts += [("CTL_ADD", "_IOW('~', 1, struct config)")]
    lines = "".join(
        f'printf("%s\\"{key}\\": %llu", n++ ? ",\\n" : "", (unsigned long long){what});' for key, what in facts
    )
    folder = tmp_path_factory.mktemp("v4l2")
    (folder / "facts.c").write_text(
        "#include <stdio.h>\n#include <linux/videodev2.h>\n"
        f"{LOOPBACK_CONFIG}\n"
        f'int main(void) {{ int n = 0; printf("{{"); {lines} printf("}}"); return 0; }}\n'
    )
    subprocess.run([compiler, "-o", folder / "facts", folder / "facts.c"], check=True)
    found: dict[str, int] = json.loads(subprocess.run([folder / "facts"], check=True, capture_output=True).stdout)
    return found


@pytest.mark.parametrize("name", STRUCTS)
def test_layout(compiled: dict[str, int], name: str) -> None:
    struct = STRUCTS[name]
    assert ctypes.sizeof(struct) == compiled[f"sizeof({name})"]
    for field in fields(struct):
        assert getattr(struct, field).offset == compiled[f"{name}.{field}"], field


def test_requests_and_constants(compiled: dict[str, int]) -> None:
    assert REQUESTS
    for name in REQUESTS:
        assert getattr(v4l2, name) == compiled[name], name
    for name, value in CONSTANTS.items():
        assert value == compiled[name], name


def test_v4l2loopbacks_own_requests(compiled: dict[str, int]) -> None:
    assert compiled["CTL_VERSION"] == loopback_control.CTL_VERSION
    assert compiled["CTL_ADD"] == loopback_control.CTL_ADD
    assert compiled["CTL_REMOVE"] == loopback_control.CTL_REMOVE


def test_a_wrong_offset_would_be_noticed(compiled: dict[str, int]) -> None:
    class Shifted(ctypes.Structure):
        _fields_ = (("index", ctypes.c_uint32), ("bytesused", ctypes.c_uint32))

    assert Shifted.bytesused.offset != compiled["struct v4l2_buffer.bytesused"]


def test_timeval_keeps_microseconds() -> None:
    assert v4l2.timeval(1_234_567_891_234) == (1234, 567891)
