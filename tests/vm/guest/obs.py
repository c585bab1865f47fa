# SPDX-License-Identifier: GPL-2.0-or-later
"""Obs: the real OBS Studio on an invisible screen, which records what it shows of a V4L2 node.

It is given a profile and a scene as files, as a person's clicks would leave them: one V4L2 source of 640x480, which
fills the canvas.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from maglens_driver.mode import NV12

SIZE = (640, 480)
SOURCE_RATE = 15
CANVAS_RATE = 10  # what two emulated processors draw and encode
NICE = 10  # it would take both emulated processors, and the module here has none of its own, as a real one has
SCREEN = ":7"
START_S = 600.0
STOP_S = 180.0
"""It writes the end of the file and takes its leave of Qt, on an emulated processor."""

SOURCE = "Camera"
LEAVE = -1  # in a source's settings: as the device has it
RECORDING = "Recording Start"
PROBLEM = re.compile(r"v4l2-(input|controls|helpers).*(fail|error|timed out|unable|abort)", re.IGNORECASE)

PROFILE = """[General]
Name=Untitled

[Video]
BaseCX={width}
BaseCY={height}
OutputCX={width}
OutputCY={height}
FPSType=0
FPSCommon={rate}

[Output]
Mode=Simple

[SimpleOutput]
FilePath={folder}
RecFormat2=mkv
RecQuality=Stream
StreamEncoder=x264
Preset=ultrafast
VBitrate=4000
"""

GLOBAL = """[General]
FirstRun=true
Pre19Defaults=false
Pre21Defaults=false
Pre23Defaults=false
Pre24.1Defaults=false
LastVersion=503447555
MaxLogs=10
EnableAutoUpdates=false
InfoIncrement=9999999
ConfirmOnExit=false

[Basic]
Profile=Untitled
ProfileDir=Untitled
SceneCollection=Untitled
SceneCollectionFile=Untitled

[BasicWindow]
PreviewEnabled=false
"""


class Obs:
    """One OBS from ``with`` to its end, recording from the start. ``out`` gets its log, its recording and pictures of
    its screen."""

    def __init__(self, device: str, out: Path) -> None:
        self.out = out
        self.lines: list[str] = []
        self._device = device
        self._home = Path()
        self._running = contextlib.ExitStack()
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="obs-")))
            self._configure()
            screen = ["Xvfb", SCREEN, "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
            stack.enter_context(_server([*screen, "-displayfd", "1"], self._environment()))
            stack.enter_context(_background(["openbox"], self._environment()))
            command = [
                "nice",
                "-n",
                str(NICE),
                "dbus-run-session",
                "--",
                "obs",
                "--startrecording",
                "--multi",
                "--disable-shutdown-check",
            ]
            command += ["--disable-updater", "--disable-missing-files-check"]
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            stack.callback(self._kill)
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
            self.wait_for(RECORDING, START_S)
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._running:
            if kind is None:
                self.stop()
        (self.out / "obs.log").write_text("".join(self.lines))

    @property
    def recording(self) -> Path:
        """The file that it wrote."""
        (found,) = self.out.glob("*.mkv")
        return found

    def problems(self) -> list[str]:
        """Lines of its log in which the V4L2 source complains."""
        return [line.strip() for line in self.lines if PROBLEM.search(line)]

    def wait_for(self, words: str, deadline_s: float) -> None:
        """Wait until it has logged these words."""
        with self._news:
            came = self._news.wait_for(lambda: any(words in line for line in self.lines) or self._ended, deadline_s)
        if not came or not any(words in line for line in self.lines):
            self._kill()
            raise TimeoutError(f"OBS did not say {words!r} within {deadline_s:.0f} s:\n{''.join(self.lines[-60:])}")

    def photograph(self, name: str) -> None:
        """A picture of the whole screen."""
        subprocess.run(
            ["import", "-window", "root", str(self.out / f"{name}.png")], env=self._environment(), check=True
        )

    def stop(self) -> None:
        """Ask it to end, and wait until it has: the recording is whole then."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"OBS ended by itself ({self._process.returncode}):\n{''.join(self.lines[-60:])}")
        subprocess.run(["pkill", "-INT", "-x", "obs", "-s", str(os.getsid(self._process.pid))], check=True)
        self._process.wait(STOP_S)

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        process.wait()
        with self._news:
            self._news.notify_all()

    def _environment(self) -> dict[str, str]:
        runtime = self._home / "run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(runtime),
            "DISPLAY": SCREEN,
            "LANG": "C.UTF-8",
            "QT_QPA_PLATFORM": "xcb",
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "LP_NATIVE_VECTOR_WIDTH": "128",  # wider ones crash on the processor that QEMU emulates
        }

    def _configure(self) -> None:
        root = self._home / ".config/obs-studio"
        profile, scenes = root / "basic/profiles/Untitled", root / "basic/scenes"
        profile.mkdir(parents=True)
        scenes.mkdir(parents=True)
        width, height = SIZE
        (root / "global.ini").write_text(GLOBAL)
        (root / "user.ini").write_text(GLOBAL)
        filled = PROFILE.format(width=width, height=height, rate=CANVAS_RATE, folder=self.out)
        (profile / "basic.ini").write_text(filled)
        (scenes / "Untitled.json").write_text(json.dumps(self._scene()))

    def _scene(self) -> dict[str, Any]:
        width, height = SIZE
        settings: dict[str, Any] = {
            "device_id": self._device,
            "input": 0,
            "pixelformat": NV12,
            "resolution": width << 16 | height,
            "framerate": 1 << 16 | SOURCE_RATE,
            "standard": LEAVE,
            "dv_timing": LEAVE,
            "auto_reset": False,
            "buffering": False,
        }
        item = {"name": SOURCE, "id": 1, "visible": True, "pos": {"x": 0, "y": 0}, "scale": {"x": 1, "y": 1}}
        scene = {"id": "scene", "name": "Scene", "settings": {"id_counter": 1, "items": [item]}}
        return {
            "current_scene": "Scene",
            "current_program_scene": "Scene",
            "scene_order": [{"name": "Scene"}],
            "name": "Untitled",
            "sources": [{"id": "v4l2_input", "name": SOURCE, "settings": settings}, scene],
        }


@contextlib.contextmanager
def _server(command: list[str], env: dict[str, str]) -> Iterator[None]:
    """A program that writes a line when it is ready."""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"{command[0]} did not start")
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def _background(command: list[str], env: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
