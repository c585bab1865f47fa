# SPDX-License-Identifier: GPL-2.0-or-later
"""Process: one child from start to end, and the thread that listens to it.

The thread starts the child, hears it, kills it and reaps it; the kernel ties the child's life to that thread
(PR_SET_PDEATHSIG), so neither outlives the other. Coroutines only send requests and wait for answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import maglens_driver
from maglens_driver.errors import (
    BadModule,
    Deadline,
    Gone,
    Interrupted,
    MaglensError,
    MissingDependency,
    Refused,
    WrongState,
)
from maglens_driver.libcamera.packet import (
    FROM_CHILD,
    MAX_ANSWERS,
    MAX_PACKET,
    MAX_PLANES,
    Body,
    BufferBody,
    FrameBody,
    Kind,
    Packet,
    Refusal,
    decode,
    encode,
)
from maglens_driver.packages import Need, install

log = logging.getLogger(__name__)

CHILD_MODULE: Final = "maglens_driver.libcamera.child"


class Listener(Protocol):
    """Who hears what the child says of its own accord. All in the child's thread."""

    def frame(self, body: FrameBody) -> None:
        """A buffer was filled."""
        ...

    def spoiled(self) -> None:
        """The camera lost a frame."""
        ...

    def ended(self, why: MaglensError) -> None:
        """The child is no more. Once, and the last call."""
        ...

    def patience_s(self) -> float | None:
        """Seconds of silence after which the child counts as stuck; None: it may be silent."""
        ...


@dataclass(slots=True)
class Answer:
    """The packets of one answer; ``descriptors`` belong to whoever took the answer."""

    packets: list[Packet] = field(default_factory=list)
    descriptors: list[tuple[int, ...]] = field(default_factory=list)

    def bodies(self, kind: Kind) -> list[Body]:
        """Bodies of the packets of a kind, in order."""
        return [packet.body for packet in self.packets if packet.kind == kind]

    def buffers(self) -> list[tuple[BufferBody, tuple[int, ...]]]:
        """The buffers that came, with their descriptors."""
        bodies = [body for body in self.bodies(Kind.BUFFER) if isinstance(body, BufferBody)]
        return list(zip(bodies, self.descriptors, strict=True))

    def discard(self) -> None:
        """Nobody wants it."""
        for descriptors in self.descriptors:
            for descriptor in descriptors:
                os.close(descriptor)
        self.descriptors.clear()


class ChildProcess:
    """A running child. Make it in the event loop; it ends by :meth:`end`, by itself, or when it is stuck."""

    def __init__(self, listener: Listener, environment: Mapping[str, str] | None = None) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._environment = environment or {}
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # guards _cause, _open and the sending side
        self._cause: MaglensError | None = None
        self._open = True
        self._heard_s = time.monotonic()
        self._waiting: dict[int, tuple[Answer, asyncio.Future[Answer]]] = {}  # the loop's
        self._last_request = 0
        self._reaped = asyncio.Event()
        self.pid: int | None = None
        self._thread = threading.Thread(target=self._run, name="libcamera-child", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests make sense."""
        return self._cause is None

    async def ask(self, kind: Kind, body: Body, deadline_s: float) -> Answer:
        """Send a request and wait for its answer. A child that is late is killed: ``Deadline``.

        ``Gone`` when it ended meanwhile, ``Refused`` and its kin when it said no, ``OSError`` EBUSY where another
        program uses the camera.
        """
        self._last_request += 1
        request = self._last_request
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[request] = (Answer(), future)
        taken = False
        try:
            self.send(Packet(kind, request, body))
            async with asyncio.timeout(deadline_s):
                await future
            taken = True
            return future.result()
        except TimeoutError:
            late = Deadline(
                f"the libcamera process did not answer {kind.name} within {deadline_s:g} s",
                hint="try the camera alone: cam --list; cam -c 1 -C10",
            )
            self.end(late)
            raise late from None
        finally:
            answer, _ = self._waiting.pop(request)
            if not taken:  # it may have come whole for somebody who was called off at the same moment
                answer.discard()

    def send(self, packet: Packet) -> None:
        """Send without waiting, from any thread. A child that reads so slowly that this blocks is stuck: killed."""
        with self._lock:
            if self._cause is not None or not self._open:
                raise self._cause or Interrupted("the libcamera process has ended")
            try:
                self._ours.send(encode(packet), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                return
            except BlockingIOError:
                cause: MaglensError = Deadline("the libcamera process does not read what it is sent")
            except OSError as error:
                cause = Interrupted(f"the libcamera process has ended ({error.strerror})")
        self.end(cause)
        raise cause

    def end(self, cause: MaglensError) -> None:
        """Kill it, from any thread; the first cause given is the one reported."""
        with self._lock:
            if self._cause is None:
                self._cause = cause
        self.nudge()

    def nudge(self) -> None:
        """Have the thread ask its listener anew for its patience, which begins now. Any thread."""
        with self._lock:
            if self._open:
                os.eventfd_write(self._wake, 1)

    async def ended(self) -> None:
        """Wait until the process is reaped."""
        await self._reaped.wait()

    # The child's thread from here on.

    def _run(self) -> None:
        cause: MaglensError = Interrupted("an error in its thread has ended the libcamera process; see the log")
        process: subprocess.Popen[bytes] | None = None
        try:
            process = self._spawn()
            self.pid = process.pid
            cause = self._listen()
        except OSError as error:
            cause = Gone(f"the libcamera process cannot be run: {error}")
        except BadModule as error:
            cause = error
        finally:
            self._theirs.close()
            self._put_away(process, cause)

    def _put_away(self, process: subprocess.Popen[bytes] | None, cause: MaglensError) -> None:
        """Tell of its end, and reap it."""
        if process is not None:
            process.kill()
        with self._lock:
            self._cause = cause = self._cause or cause
            self._open = False
            self._ours.close()
            os.close(self._wake)
        self._listener.ended(cause)
        self._in_loop(self._fail, cause)
        if process is not None:
            # A process stuck inside the kernel is reaped when it comes out; only this thread waits for that.
            status = process.wait()
            log.info("libcamera process %d ended with status %d: %s", process.pid, status, cause)
        self._in_loop(self._reaped.set)

    def _spawn(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._environment}
        roots = [str(Path(maglens_driver.__file__).parent.parent), environment.get("PYTHONPATH", "")]
        # A source tree's package folder is no import root of an installed interpreter: name it.
        environment["PYTHONPATH"] = os.pathsep.join(root for root in roots if root)
        environment.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
        number = self._theirs.fileno()
        command = [sys.executable, "-P", "-m", CHILD_MODULE, "--socket", str(number), "--parent", str(os.getpid())]
        process = subprocess.Popen(
            command, env=environment, pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._theirs.close()
        return process

    def _listen(self) -> MaglensError:
        poller = select.poll()
        poller.register(self._ours, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            patience = self._listener.patience_s()
            left = None if patience is None else patience - (time.monotonic() - self._heard_s)
            if left is not None and left <= 0:
                return Deadline(f"no frame from libcamera for {patience:g} s")
            ready = {descriptor for descriptor, _ in poller.poll(None if left is None else max(1, int(left * 1000)))}
            if self._wake in ready:
                os.eventfd_read(self._wake)
                if self._cause is not None:
                    return self._cause
                self._heard_s = time.monotonic()
            if self._ours.fileno() in ready and not self._hear():
                return Interrupted(
                    "the libcamera process has ended by itself", hint="coredumpctl list; journalctl -b"
                )

    def _hear(self) -> bool:
        try:
            raw, descriptors, flags, _ = socket.recv_fds(self._ours, MAX_PACKET + 1, MAX_PLANES)
        except ConnectionError:
            return False
        self._heard_s = time.monotonic()
        if not raw:
            return False
        taken = False
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise BadModule("child_length", "the libcamera child sent too much at once")
            packet = decode(raw, FROM_CHILD)
            if descriptors and packet.kind != Kind.BUFFER:
                raise BadModule("child_kind", "the libcamera child passed a descriptor where none belongs")
            if packet.kind == Kind.BROKEN:
                self.end(Interrupted(f"libcamera lost the camera: {packet.body}", hint="cam --list"))
            elif isinstance(packet.body, FrameBody):
                self._listener.frame(packet.body)
            elif packet.kind == Kind.SPOILED:
                self._listener.spoiled()
            else:
                taken = self._in_loop(self._answer, packet, tuple(descriptors))
        finally:
            if not taken:
                for descriptor in descriptors:
                    os.close(descriptor)
        return True

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> bool:
        """Have the loop call it; False when the loop has been closed meanwhile."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)
            return True
        return False

    # The loop from here on.

    def _answer(self, packet: Packet, descriptors: tuple[int, ...]) -> None:
        answer, future = self._waiting.get(packet.request, (None, None))
        flood = answer is not None and len(answer.packets) >= MAX_ANSWERS
        if flood:
            self.end(BadModule("child_flood", "the libcamera child answers without end"))
        if answer is None or future is None or future.done() or flood:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        answer.packets.append(packet)
        if packet.kind == Kind.BUFFER:
            answer.descriptors.append(descriptors)
        if packet.kind == Kind.DONE:
            future.set_result(answer)
        elif packet.kind == Kind.REFUSED:
            future.set_exception(refusal(packet))

    def _fail(self, cause: MaglensError) -> None:
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(cause)


def refusal(packet: Packet) -> MaglensError | OSError:
    """The error that a REFUSED packet stands for; of a camera in use the one that V4L2 has for it."""
    text = str(packet.body)
    if packet.code == Refusal.BUSY:
        return OSError(errno.EBUSY, text)
    if packet.code == Refusal.NO_LIBRARY:
        return MissingDependency(text, hint=install(Need.LIBCAMERA))
    if packet.code == Refusal.NO_CAMERA:
        return Gone(text, hint="cam --list")
    if packet.code == Refusal.WRONG_STATE:
        return WrongState(text)
    if packet.code == Refusal.NO_FORMAT:
        return Refused("NO_FORMAT", text, hint="cam --list; cam -c 1 --info")
    name = Refusal(packet.code).name if packet.code in set(Refusal) else str(packet.code)
    return Refused(name, text)


def texts(bodies: Sequence[Body]) -> list[str]:
    """Those of the bodies that are texts."""
    return [body for body in bodies if isinstance(body, str)]
