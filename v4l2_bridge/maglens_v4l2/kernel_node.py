# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel node: maglens.ko's camera, of which this process is the driver.

The open file *is* the camera. Kept elsewhere too (systemd's descriptor store), it outlives this process: apps keep
the very same /dev/video, and the kernel fills in until :meth:`KernelNode.adopt_fd` of the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
from collections.abc import Sequence
from ctypes import addressof
from fractions import Fraction

from maglens_driver.control import Cid, ControlFlag, ControlInfo, ControlType
from maglens_driver.errors import Gone, MissingDependency, WrongState
from maglens_driver.frame import Frame
from maglens_driver.mode import MJPG, Mode
from maglens_driver.names import NODE_CARD_NAME, NODE_DEVICE
from maglens_v4l2 import canonical, v4l2
from maglens_v4l2 import kernel_abi as abi
from maglens_v4l2.kernel_ring import KernelRing
from maglens_v4l2.loan import own
from maglens_v4l2.node import (
    ControlChange,
    ControlSet,
    FormatChosen,
    InputChosen,
    InputInfo,
    NodeCaps,
    NodeState,
    UsageChanged,
)
from maglens_v4l2.node_base import NodeBase

SLOTS = 10  # the source's 8, one with the kernel, one being converted; fewer of those so large that they ...
SLOTS_LEAST = 4  # ... would not fit the kernel's ring
HOLD_MS = 500  # how long the kernel repeats the last frame before it shows the placeholder
EVENTS_AT_ONCE = 16
LOAD = "modprobe maglens (not there: make install-dkms)"

log = logging.getLogger(__name__)


class KernelNode(NodeBase):
    """A :class:`maglens_v4l2.node.Node` on /dev/maglens."""

    @classmethod
    def create(
        cls,
        first: Mode,
        name: str = NODE_CARD_NAME,
        *,
        camera_id: str = NODE_CARD_NAME,
        formats: Sequence[Mode] = (),
        controls: Sequence[ControlInfo] = canonical.CONTROLS,
        exclusive: bool = False,
    ) -> KernelNode:
        """Make a camera whose first choice is ``first``. Raises ``MissingDependency`` without the kernel module or
        the right to use it."""
        fd = _open_device()
        try:
            _create(fd, tuple(formats) or canonical.formats(first), controls, name, camera_id, exclusive)
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def adopt_fd(cls, fd: int) -> KernelNode:
        """Take over a camera that another process made; ``fd`` is ours from now on, unless this fails.

        Raises ``WrongState`` when there is no camera on it, or one of another version of the interface.
        """
        try:
            return cls(fd)
        except (OSError, Gone) as error:
            raise WrongState(f"the descriptor kept for the camera is of no use: {error}") from error

    def __init__(self, fd: int) -> None:
        """For :meth:`create` and :meth:`adopt_fd`: ``fd`` has a camera already."""
        super().__init__()
        self._fd = self._readable = fd
        os.set_blocking(fd, False)
        state, formats, controls = _read_state(fd)
        self._modes = formats
        self._card = state.card.decode(errors="replace")
        self._controls = {control.id: control.type for control in controls}
        self._n_inputs = state.n_inputs
        self._path = f"/dev/video{state.video_nr}"
        self._generation = state.generation
        held = state.held_slot if state.held_slot < state.n_slots else None
        self._lender = self._ring = KernelRing(fd, state.ring_size, state.slot_size, held)
        self._ring.rest(state.streamers == 0)
        self._choice = (self._mode_at(state.format_index, state.interval), state.format_serial)
        # Which choice of format the held slot was submitted for, and its length.
        self._last: tuple[int, int] | None = None
        self._submit = abi.Submit()
        self._filled = 0

    @property
    def path(self) -> str:
        return self._path

    @property
    def caps(self) -> NodeCaps:
        return NodeCaps(
            controls=True,
            many_readers=True,
            outlives_daemon=True,
            fixed_format=len(self.formats) == 1,
            inputs=True,
        )

    @property
    def formats(self) -> Sequence[Mode]:
        return tuple(mode for modes in self._modes for mode in modes)

    def is_like(self, formats: Sequence[Mode], name: str) -> bool:
        """Whether :meth:`create` would make the same camera today."""
        same_formats = self._modes == tuple(tuple(group) for group in _grouped(formats))
        same_controls = self._controls == {control.id: control.type for control in canonical.CONTROLS}
        return same_formats and same_controls and self._card == name

    def fileno(self) -> int:
        """The camera's descriptor, for a store that keeps it while this process is replaced."""
        return self._fd

    def state(self) -> NodeState:
        self._check_open()
        state, _, controls = _read_state(self._fd)
        return NodeState(
            format=self._mode_at(state.format_index, state.interval),
            locked=state.holders > 0,
            openers=state.openers,
            streamers=state.streamers,
            input=state.input,
            generation=state.generation,
            values={control.id: control.value for control in controls},
        )

    def adopt(self) -> int:
        adopt = abi.Adopt(abi_version=abi.ABI_VERSION)
        self._call(abi.IOC_ADOPT, adopt)
        self._generation = adopt.generation
        return self._generation

    def submit(self, frame: Frame) -> bool:
        mode, serial = self._choice
        if frame.mode != mode:
            frame.lease.release()
            return False
        slot = own(frame, self._ring)
        if slot is None:
            return False
        if not self._show(slot.index, frame.nbytes, serial, frame.exposure_ns, frame.generation):
            slot.release()
            return False
        self._ring.submitted(slot)
        self._last = (serial, frame.nbytes)
        return True

    @property
    def filled(self) -> int:
        return self._filled

    def repeat(self, exposure_ns: int, generation: int) -> bool:
        """The same slot once more: nothing is copied but what each reader gets."""
        held = self._ring.held
        if held is None or self._last is None or self._last[0] != self._choice[1]:
            return False
        return self._show(held, self._last[1], self._last[0], exposure_ns, generation)

    def placeholder(self, image: bytes, format: Mode) -> None:
        """The kernel's copy of what is shown when this process is late or dead."""
        mode, serial = self._choice
        if format != mode:
            return
        placeholder = abi.Placeholder(
            generation=self._generation,
            address=ctypes.cast(ctypes.c_char_p(image), ctypes.c_void_p).value or 0,
            bytesused=len(image),
            format_serial=serial,
        )
        self._tolerant(abi.IOC_PLACEHOLDER, placeholder, errno.ESTALE, errno.EREMCHG, errno.EMSGSIZE)

    def push(self, generation: int, control: int, change: ControlChange) -> None:
        kind = self._controls.get(control)
        if kind is None:
            return
        push = abi.Push(generation=generation, id=control)
        valued = kind != ControlType.BUTTON
        if change.range is not None and valued:
            push.what |= abi.PUSH_RANGE | abi.PUSH_DEFAULT
            push.minimum, push.maximum, push.step, push.default_value = change.range
        if change.value is not None and valued:
            push.what |= abi.PUSH_VALUE
            push.value = change.value
        if change.active is not None:
            push.what |= abi.PUSH_ACTIVE
            push.active = change.active
        if push.what and not self._tolerant(abi.IOC_PUSH, push, errno.ESTALE, errno.ERANGE):
            log.debug("control 0x%08x does not take %s", control, change)

    def push_inputs(self, inputs: Sequence[InputInfo]) -> None:
        for index in range(self._n_inputs):
            push = abi.InputPush(generation=self._generation, index=index, what=abi.INPUT_STATUS | abi.INPUT_NAME)
            push.input = _input(inputs[index] if index < len(inputs) else InputInfo(f"(none {index})", False))
            self._tolerant(abi.IOC_INPUT, push, errno.ESTALE)

    def close(self) -> None:
        """Give the camera up. It stays while another process, or systemd's store, holds its descriptor; leases that
        are out keep it too."""
        if self._closed:
            return
        with contextlib.suppress(RuntimeError):  # no loop runs: nobody listens
            self._stop_watching(asyncio.get_running_loop())
        self._closed = True
        self._events.close()
        self._ring.close()
        os.close(self._fd)

    def _show(self, index: int, nbytes: int, serial: int, exposure_ns: int, generation: int) -> bool:
        submit = self._submit
        submit.slot, submit.bytesused, submit.format_serial = index, nbytes, serial
        submit.timestamp_ns, submit.generation = exposure_ns, generation
        shown = self._tolerant(abi.IOC_SUBMIT, submit, errno.ESTALE, errno.EREMCHG, errno.EMSGSIZE)
        if shown:
            self._filled += submit.filled
        return shown

    def _read_events(self) -> None:
        """One read each time: the loop calls again while there is more, and its other work comes in between, however
        fast an app makes events."""
        size = ctypes.sizeof(abi.Event)
        try:
            data = os.read(self._fd, EVENTS_AT_ONCE * size)
        except BlockingIOError:
            return
        for at in range(0, len(data), size):
            self._handle(abi.Event.from_buffer_copy(data, at))

    def _handle(self, event: abi.Event) -> None:
        if event.type == abi.EVENT_USAGE:
            self._ring.rest(event.streamers == 0)
            self._events.post(UsageChanged(event.generation, event.streamers, event.openers))
        elif event.type == abi.EVENT_FORMAT:
            self._choice = (self._mode_at(event.format_index, event.interval), event.format_serial)
            self._events.post(FormatChosen(event.generation, self._choice[0]))
        elif event.type == abi.EVENT_INPUT:
            self._events.post(InputChosen(event.generation, event.input))
        elif event.type == abi.EVENT_CONTROL:
            program = event.comm.decode(errors="replace")
            self._events.post(ControlSet(event.generation, event.id, event.value, program, event.tgid))

    def _mode_at(self, index: int, interval: v4l2.Fract) -> Mode:
        wanted = Fraction(interval.numerator, interval.denominator)
        return next(mode for mode in self._modes[index] if mode.interval == wanted)

    def _call(self, request: int, argument: ctypes.Structure) -> None:
        self._check_open()
        v4l2.call(self._fd, request, argument)

    def _tolerant(self, request: int, argument: ctypes.Structure, *refusals: int) -> bool:
        """An ioctl that may be refused for these reasons, which is False."""
        try:
            self._call(request, argument)
        except OSError as error:
            if error.errno in refusals:
                return False
            raise
        return True


def _open_device() -> int:
    try:
        return os.open(NODE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise MissingDependency(
            f"no permission for {NODE_DEVICE}",
            hint="install maglens' udev rules, or join its group: adduser $USER maglens",
        ) from error
    except OSError as error:
        raise MissingDependency("the kernel module maglens is not loaded", hint=LOAD) from error


def _create(
    fd: int, formats: Sequence[Mode], controls: Sequence[ControlInfo], name: str, camera_id: str, exclusive: bool
) -> None:
    create = abi.Create(
        abi_version=abi.ABI_VERSION,
        flags=abi.FLAG_EXCLUSIVE if exclusive else 0,
        card=name.encode(),
        camera_id=camera_id.encode(),
        n_slots=_slots(formats),
        slot_slack=mmap.PAGESIZE,
        hold_ms=HOLD_MS,
        video_nr=-1,
    )
    pictures = _formats(formats)
    lists = [_control(control) for control in controls]
    list_of_controls = (abi.Control * len(lists))(*(entry for entry, _ in lists))
    inputs = (abi.Input * canonical.INPUTS)()
    inputs[0] = _input(InputInfo("Automatic", True))
    for index in range(1, canonical.INPUTS):
        inputs[index] = _input(InputInfo(f"(none {index})", False))
    create.n_formats, create.formats = len(pictures), addressof(pictures)
    create.n_controls, create.controls = len(lists), addressof(list_of_controls)
    create.n_inputs, create.inputs = len(inputs), addressof(inputs)
    try:
        try:
            fcntl.ioctl(fd, abi.IOC_CREATE, create)
        except OSError as error:
            if error.errno != errno.ENOMEM or create.n_slots == SLOTS_LEAST:
                raise
            create.n_slots = SLOTS_LEAST
            fcntl.ioctl(fd, abi.IOC_CREATE, create)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            largest = max(formats, key=lambda mode: mode.nbytes)
            raise MissingDependency(
                f"the kernel has no memory for pictures of {largest.width}x{largest.height}",
                hint='in [node], smaller width and height, or largest = "1080p"; systemctl restart maglensd',
            ) from error
        if error.errno == errno.EPROTONOSUPPORT:
            raise MissingDependency(
                f"the loaded kernel module does not speak version {abi.ABI_VERSION}",
                hint="make install-dkms; modprobe -r maglens; modprobe maglens",
            ) from error
        raise


def _slots(formats: Sequence[Mode]) -> int:
    """How many frames of the largest of these the ring is to hold: each has whole pages, and one behind it."""
    pages = -(-max(mode.nbytes for mode in formats) // mmap.PAGESIZE) + 1
    return max(SLOTS_LEAST, min(SLOTS, abi.MAX_RING // (pages * mmap.PAGESIZE)))


def _grouped(modes: Sequence[Mode]) -> list[list[Mode]]:
    """Modes of one layout and size become one format with several intervals; order stays."""
    grouped: dict[tuple[int, int, int], list[Mode]] = {}
    for mode in modes:
        grouped.setdefault((mode.fourcc, mode.width, mode.height), []).append(mode)
    return [group[: abi.MAX_INTERVALS] for group in grouped.values()]


def _formats(modes: Sequence[Mode]) -> ctypes.Array[abi.Format]:
    groups = _grouped(modes)
    entries = (abi.Format * len(groups))()
    for entry, group in zip(entries, groups, strict=True):
        mode = group[0]
        entry.fourcc, entry.width, entry.height = mode.fourcc, mode.width, mode.height
        entry.bytesperline, entry.sizeimage = mode.stride, mode.nbytes
        entry.colorspace, entry.ycbcr_enc = v4l2.COLORSPACE_SRGB, v4l2.YCBCR_ENC_601
        full = mode.fourcc == MJPG  # ITU-T T.871
        entry.quantization = v4l2.QUANTIZATION_FULL_RANGE if full else v4l2.QUANTIZATION_LIM_RANGE
        entry.xfer_func = v4l2.XFER_FUNC_SRGB
        entry.n_intervals = len(group)
        for place, one in enumerate(group):
            entry.intervals[place] = v4l2.Fract(one.interval.numerator, one.interval.denominator)
    return entries


# Menus whose items V4L2 has itself; for those it takes none of ours.
_OWN_ITEMS = frozenset(
    control.id
    for control in canonical.CONTROLS
    if control.type is ControlType.MENU and control.id != Cid.TEST_PATTERN
)


def _control(info: ControlInfo) -> tuple[abi.Control, ctypes.Array[abi.MenuItem]]:
    """An entry for CREATE, inactive until a module brings it; and its menu, which must live as long."""
    is_menu = info.type in (ControlType.MENU, ControlType.INTEGER_MENU)
    entry = abi.Control(
        id=info.id,
        type=info.type,
        flags=abi.CTRL_FLAG_INACTIVE | (abi.CTRL_FLAG_READ_ONLY if info.flags & ControlFlag.READ_ONLY else 0),
        minimum=info.minimum,
        maximum=info.maximum,
        step=0 if is_menu else info.step,
        default_value=info.default,
    )
    items = (abi.MenuItem * len(info.menu))()
    for item, (_, text) in zip(items, info.menu, strict=True):
        if info.type is ControlType.INTEGER_MENU:
            item.value = int(text)
        else:
            item.name = text.encode()
    if is_menu and info.id not in _OWN_ITEMS:
        entry.n_menu, entry.menu = len(items), addressof(items)
    return entry, items


def _input(info: InputInfo) -> abi.Input:
    return abi.Input(name=info.name.encode()[:31], status=0 if info.present else abi.INPUT_NO_SIGNAL)


def _read_state(fd: int) -> tuple[abi.State, tuple[tuple[Mode, ...], ...], list[abi.Control]]:
    """The camera's state; its formats, each as its intervals; and its controls."""
    formats = (abi.Format * abi.MAX_FORMATS)()
    controls = (abi.Control * abi.MAX_CONTROLS)()
    state = abi.State(
        n_formats=len(formats), n_controls=len(controls), formats=addressof(formats), controls=addressof(controls)
    )
    v4l2.call(fd, abi.IOC_STATE, state)
    if state.abi_version != abi.ABI_VERSION:
        raise WrongState(f"the camera is of version {state.abi_version} of the interface, not {abi.ABI_VERSION}")
    return state, tuple(_modes(entry) for entry in formats[: state.n_formats]), controls[: state.n_controls]


def _modes(entry: abi.Format) -> tuple[Mode, ...]:
    return tuple(
        Mode(
            entry.fourcc,
            entry.width,
            entry.height,
            entry.bytesperline,
            entry.sizeimage,
            Fraction(entry.intervals[place].numerator, entry.intervals[place].denominator),
        )
        for place in range(entry.n_intervals)
    )
