# SPDX-License-Identifier: GPL-2.0-or-later
"""``make demo``: run the film, then show and judge what the app recorded."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from maglens_driver.names import SERVICE_UNIT
from tests.demo import judge, needs, recording, report, sheet
from tests.demo.story import CYCLES, RECORDING, STORY, Event, Story
from tests.vm import host
from tests.vm.guest.limits import emulated

OUT = Path("build/demo")
C_READER = "/tmp/maglens-c-reader/c_reader"
BUILD_C_READER = f"make -s -C tests/bench/c_reader BUILD={Path(C_READER).parent}"
TOOLS = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg"}  # what reads and encodes the recording, here
VM_SIZE = "640x480"  # what an emulated processor carries at 30 frames/s
GAP = 4.0  # intervals between two frames from which the timeline tells of it
AFTER = 12  # frames after an event at which the picture shows it
SHEET_TITLE = "One ffmpeg, one recording: modules are snapped on, focused, opened up, swapped and set right"


def _film_script(out: str, python: str, *options: str) -> str:
    words = " ".join(("--out", out, "--c-reader", C_READER, *options))
    return f"{BUILD_C_READER} && exec {python} -m tests.demo.guest {words}"


def in_vm(raw: Path) -> str:
    """Run the film in the virtual machine; how that was accelerated."""
    from tests.vm import lab

    with lab.machine(lab.Wish()) as machine:
        script = _film_script("/out", lab.python(machine), "--size", VM_SIZE)
        result = lab.run(machine, ["sh", "-c", script], out=raw, deadline_s=900)
        if not result.ok:
            sys.exit(
                f"demo: the film failed (exit {result.status}); its log is above, the kernel's in {raw}/kernel.log"
            )
        return str(machine.acceleration)


def on_host(raw: Path) -> str:
    """Run it right here, where dummy_hcd, systemd and the installed service are."""
    if lacking := needs.missing():
        sys.exit("\n".join(lacking))
    raw.mkdir(parents=True, exist_ok=True)
    status = subprocess.run(["sh", "-c", _film_script(str(raw), sys.executable)], check=False).returncode
    if status:
        sys.exit(f"demo: the film failed (exit {status}), as told above; the service: journalctl -u {SERVICE_UNIT}")
    return "tcg" if emulated() else "none needed"


def _label(event: Event) -> str:
    return event.text[:1].upper() + event.text[1:]


def choices(film: recording.Recording, story: Story) -> list[sheet.Choice]:
    """For the card, and for each thing that happened, a frame that shows it."""
    found = [sheet.Choice(min(AFTER, len(film.shots) - 1), "Card: no module yet")]
    moments = [e for e in story.events if e.kind in ("attach", "auto", "focus", "iris", "restart", "detach")]
    ends = [e.time_ns for e in moments[1:]] + [story.events[-1].time_ns]
    for event, end, follows in zip(moments, ends, [*moments[1:], None], strict=True):
        shown = [s for s in film.shots if event.time_ns <= s.time_ns < end]
        if event.kind == "attach":
            shown = [s for s in shown if s.mark] or shown
        elif event.kind == "detach" and event is not moments[-1]:
            continue
        if shown:
            before = follows is not None and follows.kind == "auto"  # nothing is found yet
            pick = shown[0] if before or (event.kind == "attach" and len(shown) < AFTER) else shown[-1]
            found.append(sheet.Choice(pick.index, _label(event)))
    return found


def timeline(film: recording.Recording, story: Story) -> list[str]:
    """For people: what happened, and what the app saw of it."""
    start = film.shots[0].time_ns
    lines = [(e.time_ns, e.text) for e in story.events if e.time_ns >= start]
    for stay in judge.stays(film.shots):
        seen, sent = len(stay.numbers), report.sent_within(story, stay)
        asked = report.least_seen(story, stay)
        share = f"{seen} frames, {seen / sent:.1%} of those that it sent; {asked:.0%} is asked"
        lines.append((stay.first.time_ns, f"  app: first frame of module {stay.source}"))
        lines.append((stay.last.time_ns, f"  app: last frame of module {stay.source} ({share})"))
    lines += [(gap.before.time_ns, f"  app: {gap}") for gap in judge.largest_gaps(film.shots, story.interval_ns, GAP)]
    return [f"{(when - start) / 1e9:8.3f} s  {text}" for when, text in sorted(lines)]


def encode(source: Path, target: Path) -> None:
    """The recording as a film that every player takes."""
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-c:v", "libx264", "-preset", "veryfast"]
    subprocess.run([*command, "-crf", "20", "-pix_fmt", "yuv420p", str(target)], check=True)


def main() -> int:
    """Exit status 0 only if everything that the demo promises was kept."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--host", action="store_true", help="without the virtual machine")
    parser.add_argument("--judge-only", action="store_true", help="judge the last film again")
    options = parser.parse_args()
    host.need(TOOLS)  # before the film, which takes minutes
    raw = OUT / "raw"
    acceleration = ""
    if not options.judge_only:
        shutil.rmtree(OUT, ignore_errors=True)
        acceleration = (on_host if options.host else in_vm)(raw)
    story = Story.load(raw / STORY)
    if acceleration:
        story.acceleration = acceleration
        story.save(raw / STORY)
    print("demo: reading the marks in every recorded picture", flush=True)
    film, cycles = recording.read(raw / RECORDING), recording.read(raw / CYCLES, story.cycles_ahead_ns)
    result = report.make(story, film, cycles)
    (OUT / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    sheet.draw(film, choices(film, story), OUT / "contact-sheet.png", SHEET_TITLE)
    encode(raw / RECORDING, OUT / "demo.mp4")
    print("\n".join(timeline(film, story)))
    print(
        f"attach to frame {judge.median(result['attach_to_frame_ms']):.0f} ms"
        f" (C program {judge.median(result['c_reader_attach_to_frame_ms']):.0f} ms),"
        f" largest gap {result['largest_gap_intervals']:.2f} intervals,"
        f" {result['app_frames']} frames of {result['app_frames_expected']}"
    )
    missed = report.shortcomings(result, emulated=story.emulated)
    for what in missed:
        print(f"demo: NOT KEPT: {what}")
    print(f"demo: see {OUT}/demo.mp4, {OUT}/contact-sheet.png and {OUT}/report.json")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
