# SPDX-License-Identifier: GPL-2.0-or-later
"""Child: the process in which libcamera runs. ``python -m maglens_driver.libcamera.child --socket FD --parent PID``.

It serves its parent over one socket and ends with it. It may hang or crash at any time: nobody relies on it.
"""

from __future__ import annotations

import argparse
import array
import ctypes
import errno
import os
import select
import signal
import socket
import sys

from maglens_driver.errors import MissingDependency
from maglens_driver.libcamera import binding
from maglens_driver.libcamera.camera import FORMATS, BufferSet, CameraRefusal, LibCamera, video_nodes
from maglens_driver.libcamera.packet import (
    FROM_PARENT,
    MAX_CAMERAS,
    MAX_PACKET,
    Body,
    DeviceBody,
    GiveBackBody,
    Kind,
    ModeBody,
    Packet,
    Refusal,
    SpoiledBody,
    ValueBody,
    decode,
    encode,
)
from maglens_driver.mode import fourcc_text

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Child:
    """Answers one parent, works one camera."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._library: binding.Binding | None = None
        self._manager: binding.CameraManager | None = None
        self._camera: LibCamera | None = None

    def serve(self) -> None:
        """Until the parent goes."""
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        watched = -1
        wait_ns: int | None = None
        while True:
            events = poller.poll(None if wait_ns is None else max(1, wait_ns // 1_000_000))
            ready = {descriptor for descriptor, _ in events}
            if self._link.fileno() in ready and not self._hear():
                break
            if self._manager is not None and watched < 0:
                watched = self._manager.event_fd
                poller.register(watched, select.POLLIN)
            wait_ns = self._work(watched in ready)
        if self._camera is not None:
            self._camera.close()

    def _work(self, frames: bool) -> int | None:
        """Pass frames on and queue buffers; nanoseconds until it is to be called again, None for no need."""
        camera = self._camera
        if camera is None:
            return None
        try:
            if frames:
                for body in camera.filled(lambda number: self._say(Kind.SPOILED, 0, SpoiledBody(sequence=number))):
                    self._say(Kind.FRAME, 0, body)
            return camera.queue_ready() if camera.streaming else None
        except (CameraRefusal, RuntimeError) as error:
            self._say(Kind.BROKEN, 0, str(error))
            raise SystemExit(1) from error

    def _hear(self) -> bool:
        raw = self._link.recv(MAX_PACKET + 1)
        if not raw:
            return False
        packet = decode(raw, FROM_PARENT)
        if isinstance(packet.body, GiveBackBody):
            if self._camera is not None:
                self._camera.give_back(packet.body.epoch, packet.body.index)
            return True
        try:
            self._do(packet)
        except CameraRefusal as error:
            self._refuse(packet.request, error.code, str(error))
        except MissingDependency as error:
            self._refuse(packet.request, Refusal.NO_LIBRARY, str(error))
        except RuntimeError as error:
            self._refuse(packet.request, _why(error), str(error))
        else:
            self._say(Kind.DONE, packet.request)
        return True

    def _do(self, packet: Packet) -> None:
        request, body = packet.request, packet.body
        if packet.kind == Kind.LIST:
            for camera in self._load().cameras[:MAX_CAMERAS]:
                self._say(Kind.CAMERA, request, camera.id)
                for number in video_nodes(camera):
                    self._say(Kind.DEVICE, request, DeviceBody(major=os.major(number), minor=os.minor(number)))
        elif packet.kind == Kind.OPEN and isinstance(body, str):
            self._open(request, body)
        elif self._camera is None:
            raise CameraRefusal(Refusal.WRONG_STATE, "no camera was opened")
        elif isinstance(body, ModeBody):
            mode, buffers = self._camera.configure(body)
            if buffers is not None:
                self._pass(request, buffers)
            self._say(Kind.MODE, request, mode)
        elif isinstance(body, ValueBody):
            for value in self._camera.set(body.id, body.value):
                self._say(Kind.VALUE, request, value)
        elif packet.kind == Kind.START:
            self._camera.start()
        elif packet.kind == Kind.STOP:
            self._camera.stop()

    def _load(self) -> binding.CameraManager:
        if self._manager is None:
            self._library = binding.load()
            self._manager = self._library.CameraManager.singleton()
        return self._manager

    def _open(self, request: int, camera_id: str) -> None:
        if self._camera is not None:
            raise CameraRefusal(Refusal.WRONG_STATE, "a camera is open already")
        manager = self._load()
        found = next((c for c in manager.cameras if c.id == camera_id), None)
        if found is None or self._library is None:
            have = ", ".join(c.id for c in manager.cameras) or "none"
            raise CameraRefusal(Refusal.NO_CAMERA, f"libcamera has no camera {camera_id!r}; it has: {have}")
        camera = LibCamera(self._library, manager, found)
        modes = camera.modes()
        if not modes:
            raise CameraRefusal(
                Refusal.NO_FORMAT,
                f"no mode of the camera can be used: it offers {', '.join(camera.formats()) or 'no format'}, and "
                f"maglens takes {', '.join(map(fourcc_text, FORMATS))}",
            )
        self._say(Kind.TEXT, request, camera.model)
        for mode in modes:
            self._say(Kind.MODE, request, mode)
        for control in camera.controls:
            self._say(Kind.CONTROL, request, control)
        self._camera = camera

    def _pass(self, request: int, buffers: BufferSet) -> None:
        for body, descriptors in zip(buffers.bodies, buffers.descriptors, strict=True):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            self._link.sendmsg([encode(Packet(Kind.BUFFER, request, body))], rights)

    def _refuse(self, request: int, code: Refusal, why: str) -> None:
        self._link.send(encode(Packet(Kind.REFUSED, request, why, int(code))))

    def _say(self, kind: Kind, request: int, body: Body = None) -> None:
        self._link.send(encode(Packet(kind, request, body)))


def _why(error: RuntimeError) -> Refusal:
    """The binding turns an error number into text at the end of its message."""
    known = {errno.ENODEV: Refusal.NO_CAMERA, errno.EBUSY: Refusal.BUSY}
    return next((code for number, code in known.items() if str(error).endswith(os.strerror(number))), Refusal.FAILED)


def main() -> None:
    """Take the socket, tie our life to the parent's, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    wish = parser.parse_args()
    # libcamera may hold Python's lock for ever inside stop(): only the kernel can end us with our parent.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != wish.parent:
        sys.exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent
    os.set_inheritable(wish.socket, False)
    with socket.socket(fileno=wish.socket) as link:
        try:
            Child(link).serve()
        except (BrokenPipeError, ConnectionResetError):
            sys.exit(0)


if __name__ == "__main__":
    main()
