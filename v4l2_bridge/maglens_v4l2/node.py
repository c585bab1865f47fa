# SPDX-License-Identifier: GPL-2.0-or-later
"""Node: the /dev/video that apps open. It exists before, between and after modules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from maglens_driver.frame import Frame, Lease
from maglens_driver.mode import Mode


@dataclass(frozen=True, slots=True)
class NodeCaps:
    """What a kind of node can do. The daemon asks this, never which class it has.

    ``controls``: apps see and set controls. ``many_readers``: several files may stream. ``outlives_daemon``: apps
    keep the very same node and a picture while the daemon is restarted. ``fixed_format``: one format from creation
    on. ``inputs``: apps can choose a source. ``usage``: the node knows who watches; where it does not, its state
    says one streamer always. ``idle_fill``: it wants pictures while nobody watches too, since a reader that starts
    gets the last one first, and an old one must not be seen.
    """

    controls: bool
    many_readers: bool
    outlives_daemon: bool
    fixed_format: bool
    inputs: bool
    usage: bool = True
    idle_fill: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """All that a new owner needs; no past event is required to go on from here.

    ``format`` is what apps get now, ``locked`` whether someone holds buffers of it; ``openers`` is None where the
    node cannot tell; ``streamers`` counts watchers; ``input`` 0 is automatic; ``values`` are control values.
    """

    format: Mode
    locked: bool
    openers: int | None
    streamers: int
    input: int
    generation: int
    values: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageChanged:
    """Someone opened, closed, started or stopped; the counts are the present ones."""

    generation: int
    streamers: int
    openers: int | None


@dataclass(frozen=True, slots=True)
class FormatChosen:
    """An app chose a format or an interval."""

    generation: int
    format: Mode


@dataclass(frozen=True, slots=True)
class ControlSet:
    """An app wrote a control. Latest wins: earlier writes not yet seen are gone. ``program`` is the app's name and
    ``process`` its id, empty and 0 where the node cannot tell."""

    generation: int
    id: int
    value: int
    program: str = ""
    process: int = 0


@dataclass(frozen=True, slots=True)
class InputChosen:
    """An app chose an input: 0 automatic, others as pushed."""

    generation: int
    index: int


NodeEvent = UsageChanged | FormatChosen | ControlSet | InputChosen


@dataclass(frozen=True, slots=True)
class ControlChange:
    """What to tell apps of a control; None leaves a part as it is. ``active`` False greys it out.

    ``range`` is minimum, maximum, step and default; for a menu the step's bits are the items left out.
    """

    value: int | None = None
    range: tuple[int, int, int, int] | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class InputInfo:
    """One choice of source as apps see it; ``present`` False shows it as having no signal."""

    name: str
    present: bool


class Node(Protocol):
    """One video device. ``lease``, ``submit``, ``repeat`` and ``placeholder`` belong to the pipeline's thread
    (``lease`` also to source threads); everything else to the event loop's. Raises ``Gone`` when the device was taken
    away."""

    @property
    def path(self) -> str:
        """``/dev/videoN``; for a node without a device a name that says so."""
        ...

    @property
    def caps(self) -> NodeCaps: ...

    @property
    def formats(self) -> Sequence[Mode]:
        """Everything an app may choose; one entry where the format is fixed."""
        ...

    def state(self) -> NodeState: ...

    def events(self) -> AsyncIterator[NodeEvent]:
        """Level-triggered: bounded, latest wins per kind, each carries the generation. One listener at a time; ends
        when the node is closed."""
        ...

    @property
    def generation(self) -> int:
        """What :meth:`adopt` last returned."""
        ...

    def adopt(self) -> int:
        """Become the owner: raises the generation and returns it. Frames of earlier generations are refused."""
        ...

    def lease(self, nbytes: int) -> Lease | None:
        """A buffer for one frame of at least ``nbytes``, or None when all are in use."""
        ...

    def submit(self, frame: Frame) -> bool:
        """Show a frame that is exactly in the present format; its generation is the node's, from :meth:`adopt`.

        Consumes the lease, which may be the node's own (no copy) or any other. False when it was not shown: a stale
        generation, another format, or no room."""
        ...

    @property
    def filled(self) -> int:
        """Pictures that the node has shown by itself because its owner was late, as far as submits have told."""
        ...

    def repeat(self, exposure_ns: int, generation: int) -> bool:
        """Show the last submitted picture again with a new timestamp. False when there is none in the present
        format, or the generation is stale."""
        ...

    def placeholder(self, image: bytes, format: Mode) -> None:
        """What the node shows by itself when its owner is late, where it can; exactly one frame of ``format``. No
        effect once that is not the present one."""
        ...

    def push(self, generation: int, control: int, change: ControlChange) -> None:
        """Tell apps of a control's new value, range or activity. No effect where ``caps.controls`` is False."""
        ...

    def push_inputs(self, inputs: Sequence[InputInfo]) -> None:
        """Tell apps which sources there are. No effect where ``caps.inputs`` is False."""
        ...

    def close(self) -> None:
        """Give up ownership. A node that outlives the daemon stays; others go."""
        ...
