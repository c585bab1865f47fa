# SPDX-License-Identifier: GPL-2.0-or-later
"""Channel: the host's end of the agent's ports. Runs a command in the guest and streams what it says."""

import contextlib
import fcntl
import json
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from tests.vm.frames import CHUNK, PORTS, Decoder, Kind, LabFrame, encode
from tests.vm.progress import LabError

Output = Callable[[bytes], None]


class Input(Protocol):
    """What a command's standard input can be read from."""

    def read(self, size: int, /) -> bytes | None:
        """At most that many bytes; none at the end."""


ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}
ACCEPT_S = 20.0
"""A running agent that has not accepted a command after this many seconds is given up."""


class Deadline(LabError):
    """The command did not end in time."""


def port_socket(index: int) -> str:
    """File name of the index-th port's socket in the run directory."""
    return f"agent{index}.sock"


CONSOLE = "console.sock"
SOCKETS = (CONSOLE, *(port_socket(index) for index in range(PORTS)))


def listen(run: Path, name: str) -> socket.socket:
    """A listening socket in the run directory, whatever the length of its path."""
    (run / name).unlink(missing_ok=True)
    directory = os.open(run, os.O_PATH | os.O_DIRECTORY)
    try:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(f"/proc/self/fd/{directory}/{name}")
        door.listen()
        return door
    finally:
        os.close(directory)


def connect(run: Path, name: str) -> socket.socket:
    """Connect to a socket in the run directory, whatever the length of its path."""
    directory = os.open(run, os.O_PATH | os.O_DIRECTORY)
    try:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.connect(f"/proc/self/fd/{directory}/{name}")
        return link
    finally:
        os.close(directory)


@contextlib.contextmanager
def _port(run: Path) -> Iterator[socket.socket]:
    """A port that nobody else uses, connected."""
    for index in range(PORTS):
        with (run / f"agent{index}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            try:
                link = connect(run, port_socket(index))
            except OSError:
                raise _gone(run) from None
            with link:
                yield link
            return
    raise LabError(f"all {PORTS} ports of the machine are in use", "wait for another command to end")


def call(
    run: Path,
    argv: Sequence[str],
    *,
    cwd: str = "/root",
    env: Mapping[str, str] | None = None,
    stdin: Input | bytes | None = None,
    stdout: Output | None = None,
    stderr: Output | None = None,
    deadline_s: float | None = None,
    accept_s: float = ACCEPT_S,
) -> int:
    """Run a command in the guest. Returns its exit status, negative for a signal.

    Output goes to this program's own unless told otherwise. Raises Deadline, or LabError when the machine
    goes away.
    """
    outputs = {
        Kind.STDOUT: stdout or _writer(sys.stdout.buffer),
        Kind.STDERR: stderr or _writer(sys.stderr.buffer),
    }
    session = secrets.randbits(32)
    wish = {"argv": list(argv), "cwd": cwd, "env": {**ENVIRONMENT, **(env or {})}}
    with _port(run) as link:
        try:
            link.sendall(encode(session, Kind.OPEN, json.dumps(wish).encode()))
        except OSError:
            raise _gone(run) from None
        frames = _frames(link, session, deadline_s, accept_s)
        try:
            first = next(frames, None)
            if first is None:
                raise _gone(run)
            if first.kind != Kind.ACCEPT:
                raise LabError("the guest's agent answered out of turn")
            feeder = threading.Thread(target=_feed, args=(link, session, stdin), daemon=True)
            feeder.start()
            for frame in frames:
                if frame.kind == Kind.EXIT:
                    status = json.loads(frame.data)["status"]
                    assert isinstance(status, int)
                    return status
                outputs[frame.kind](frame.data)
        except BaseException:
            # Also for Ctrl-C: the command must not live on in the guest.
            with contextlib.suppress(OSError):
                link.sendall(encode(session, Kind.SIGNAL, json.dumps({"number": signal.SIGKILL}).encode()))
            raise
    raise _gone(run)


def _gone(run: Path) -> LabError:
    return LabError("the machine went away during a command", f"see {run}/console.log")


def output(run: Path, argv: Sequence[str], deadline_s: float | None = None) -> str:
    """Run a command that must succeed; its standard output."""
    out, err = bytearray(), bytearray()
    status = call(run, argv, stdout=out.extend, stderr=err.extend, deadline_s=deadline_s)
    if status:
        raise LabError(
            f"in the guest, {' '.join(argv)[:200]} failed ({status}): {err.decode(errors='replace').strip()}"
        )
    return out.decode(errors="replace")


def _writer(stream: IO[bytes]) -> Output:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _frames(link: socket.socket, session: int, deadline_s: float | None, accept_s: float) -> Iterator[LabFrame]:
    decoder = Decoder()
    began = time.monotonic()
    limit: float | None = accept_s
    what = "the guest's agent did not answer"
    while True:
        left = None if limit is None else began + limit - time.monotonic()
        if left is not None and left <= 0:
            raise Deadline(f"{what} within {limit:.0f} s")
        # Not settimeout(): that would also cut short the other thread's sending.
        if not select.select([link], [], [], left)[0]:
            continue
        try:
            data = link.recv(1 << 18)
        except ConnectionResetError:
            return
        if not data:
            return
        for frame in decoder.feed(data):
            if frame.session == session:
                limit, what = deadline_s, "the command in the guest did not end"
                yield frame


def _feed(link: socket.socket, session: int, stdin: Input | bytes | None) -> None:
    try:
        if isinstance(stdin, bytes):
            for start in range(0, len(stdin), CHUNK):
                link.sendall(encode(session, Kind.STDIN, stdin[start : start + CHUNK]))
        elif stdin is not None:
            while data := stdin.read(CHUNK):
                link.sendall(encode(session, Kind.STDIN, data))
        link.sendall(encode(session, Kind.STDIN_END))
    except OSError:
        # The command ended, or the machine did, before it had read its input: the reader says which.
        return
