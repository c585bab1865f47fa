# SPDX-License-Identifier: GPL-2.0-or-later
"""Agent: runs the host's commands in the guest, one at a time per virtio serial port (guest side).

Only the standard library: it must work in any image. One process per port. A port tells of the host's
coming and going only by SIGIO (poll reports POLLHUP all the while it is away), so that is what it waits for.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import IO

from tests.vm.frames import CHUNK, PORTS, Decoder, Kind, LabFrame, encode, port_name


class Command:
    """One running command of one session."""

    def __init__(self, session: int, request: bytes) -> None:
        wish = json.loads(request)
        self.session = session
        self.process = subprocess.Popen(
            wish["argv"],
            cwd=wish["cwd"],
            env=wish["env"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin: IO[bytes] = self.process.stdin
        os.set_blocking(self.stdin.fileno(), False)
        self.outputs: dict[int, tuple[Kind, IO[bytes]]] = {
            self.process.stdout.fileno(): (Kind.STDOUT, self.process.stdout),
            self.process.stderr.fileno(): (Kind.STDERR, self.process.stderr),
        }
        self.pending = bytearray()
        self.input_ended = False

    def take(self, frame: LabFrame) -> None:
        """Handle a frame of this session."""
        if frame.kind == Kind.STDIN:
            self.pending += frame.data
        elif frame.kind == Kind.STDIN_END:
            self.input_ended = True
        elif frame.kind == Kind.SIGNAL:
            self.kill(json.loads(frame.data)["number"])
        self.feed()

    def feed(self) -> None:
        """Write what the command's standard input takes now; close it at the end of input."""
        if self.stdin.closed:
            self.pending.clear()
            return
        try:
            while self.pending:
                del self.pending[: os.write(self.stdin.fileno(), self.pending)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.pending.clear()
            self.input_ended = True
        if self.input_ended:
            self.stdin.close()

    def kill(self, number: int) -> None:
        """Signal the command's process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def discard(self) -> None:
        """The host is gone: so is the command."""
        self.kill(signal.SIGKILL)
        self.process.wait()
        for _, stream in self.outputs.values():
            stream.close()
        self.stdin.close()


class Agent:
    """Serves one port for ever."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.decoder = Decoder()
        self.command: Command | None = None

    def serve(self) -> None:
        """Wait for the host, run its commands."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
        fcntl.fcntl(self.port, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.port, fcntl.F_SETFL, fcntl.fcntl(self.port, fcntl.F_GETFL) | os.O_ASYNC)
        while True:
            self._turn()

    def _turn(self) -> None:
        poller = select.poll()
        command = self.command
        # A full standard input holds the port back, so that memory does not fill up.
        if command is None or len(command.pending) < 16 * CHUNK:
            poller.register(self.port, select.POLLIN)
        else:
            poller.register(self.port, 0)
        if command is not None:
            for descriptor in command.outputs:
                poller.register(descriptor, select.POLLIN)
            if command.pending and not command.stdin.closed:
                poller.register(command.stdin.fileno(), select.POLLOUT)
        for descriptor, event in poller.poll():
            if descriptor == self.port:
                self._port_event(event)
            elif command is not None and command is self.command:
                if descriptor in command.outputs:
                    self._relay(command, descriptor)
                else:
                    command.feed()
        if self.command is not None and not self.command.outputs:
            self._finish(self.command)

    def _port_event(self, event: int) -> None:
        data = os.read(self.port, CHUNK) if event & select.POLLIN else b""
        for frame in self.decoder.feed(data):
            self._handle(frame)
        if not data and event & select.POLLHUP:
            if self.command is not None:
                self.command.discard()
                self.command = None
            self.decoder = Decoder()
            signal.sigwait({signal.SIGIO})

    def _handle(self, frame: LabFrame) -> None:
        if frame.kind == Kind.OPEN:
            if self.command is not None:
                self.command.discard()
            self.command = None
            self._send(encode(frame.session, Kind.ACCEPT))
            try:
                self.command = Command(frame.session, frame.data)
            except OSError as error:
                self._send(encode(frame.session, Kind.STDERR, f"{error}\n".encode()))
                self._send(encode(frame.session, Kind.EXIT, json.dumps({"status": 127}).encode()))
        elif self.command is not None and frame.session == self.command.session:
            self.command.take(frame)

    def _relay(self, command: Command, descriptor: int) -> None:
        kind, stream = command.outputs[descriptor]
        data = os.read(descriptor, CHUNK)
        if data:
            self._send(encode(command.session, kind, data))
        else:
            stream.close()
            del command.outputs[descriptor]

    def _finish(self, command: Command) -> None:
        status = command.process.wait()
        command.stdin.close()
        self.command = None
        self._send(encode(command.session, Kind.EXIT, json.dumps({"status": status}).encode()))

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.port, view) :]


def devices() -> dict[str, str]:
    """Port name -> device node, from sysfs: the agent runs before udev has made links."""
    return {
        (path / "name").read_text().strip(): f"/dev/{path.name}"
        for path in Path("/sys/class/virtio-ports").iterdir()
        if (path / "name").exists()
    }


def main() -> None:
    """Fork one agent per port and wait for them."""
    nodes = devices()
    children = []
    for index in range(PORTS):
        child = os.fork()
        if child == 0:
            Agent(os.open(nodes[port_name(index)], os.O_RDWR)).serve()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
