"""The words of the system: messages between actors, ids, reports. No IO, no logic beyond checks.

The message families carry the names of the logging mesh that this package follows:
``LogMessage`` (data plane, bootstrap to forwarder), ``LogForwardMessage`` (control plane of the
forwarder), ``LogClientMessage`` (control plane of the client) and ``LoggerRuntimeMessage``.
Every room imports this one; it imports nothing of the package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Collection, Iterable, List, Optional, Protocol, Tuple, Union

__all__ = [
    "BOOTSTRAP_LOG_CHANNEL",
    "STREAMS",
    "DownMessage",
    "FlushReport",
    "Gap",
    "LogClientMessage",
    "LogForwardMessage",
    "LogMessage",
    "LogSink",
    "LoggerRuntimeMessage",
    "OutputTarget",
    "ProcInfo",
    "StreamTotals",
    "fold_ranks",
]

BOOTSTRAP_LOG_CHANNEL = "BOOTSTRAP_LOG_CHANNEL"
"""Environment variable with the address that a proc's forwarder serves."""


class OutputTarget(enum.IntEnum):
    """Which of a proc's two output streams."""

    STDOUT = 1
    STDERR = 2

    @property
    def label(self) -> str:
        """``stdout`` or ``stderr``."""
        return self.name.lower()


STREAMS: Tuple[OutputTarget, OutputTarget] = (OutputTarget.STDOUT, OutputTarget.STDERR)


class LogMessage:
    """Data plane: what a StreamFwder sends to the forwarder over the log channel."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Log:
        """One numbered batch: bytes as cut from the pipe, newlines inside, opaque to every hop.

        The batch covers bytes ``offset`` to ``offset + size`` of its stream and holds ``lines``
        newline bytes; ``ends_line`` says whether the last byte is one. ``payload`` is empty and
        ``size`` is not when the forwarder runs in silent mode: then the batch was skipped, and
        only its numbers travel.
        """

        proc: int
        epoch: int
        generation: int
        output_target: OutputTarget
        seq: int
        offset: int
        size: int
        lines: int
        wall: float
        mono: float
        pid: int
        hostname: str
        ends_line: bool
        payload: bytes

        @property
        def skipped(self) -> bool:
            """Whether the lines stayed on the host."""
            return self.size != len(self.payload)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Flush:
        """``sync_version`` None: heartbeat; a number: the barrier's marker."""

        sync_version: Optional[int]


class LogForwardMessage:
    """Control plane of the LogForwardActor."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Forward:
        """Pull the next message of the log channel (drives the loop)."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class SetMode:
        """Stream to the client, or keep the lines on the host and count them as skipped."""

        stream_to_client: bool

    @dataclass(frozen=True, slots=True, kw_only=True)
    class ForceSyncFlush:
        """Drain the pipes, then put ``Flush(version)`` into the data stream."""

        version: int


class LogClientMessage:
    """Control plane of the LogClientActor."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class SetAggregate:
        """Window of aggregation in seconds; None switches aggregation off."""

        aggregate_window_sec: Optional[float]

    @dataclass(frozen=True, slots=True, kw_only=True)
    class StartSyncFlush:
        """Begin a barrier over the named procs; the answer is its version."""

        expected_procs: Tuple[int, ...]
        timeout_sec: Optional[float]


class LoggerRuntimeMessage:
    """Control plane of the LoggerRuntimeActor."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class SetLogging:
        """Level of the proc's root logger, 0 to 255."""

        level: int


DownMessage = Union[
    LogForwardMessage.SetMode, LogForwardMessage.ForceSyncFlush, LoggerRuntimeMessage.SetLogging
]
"""What the client sends down a proc's uplink besides acks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcInfo:
    """Who a source of lines is.

    ``proc`` is unique among all sources of one client, ``rank`` among the procs of one mesh.
    ``job`` is empty for a proc of the mesh and names the command for one started by ``exec``.
    """

    proc: int
    rank: int
    hostname: str
    pid: int
    job: str = ""
    cell: Optional[int] = None

    @property
    def name(self) -> str:
        """How people see it: ``rank 3``, or ``rank 3 (job 1)``."""
        return f"rank {self.rank} ({self.job})" if self.job else f"rank {self.rank}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Lines that will never arrive: exactly how many, of whom, and why.

    ``bytes`` is None where the extent cannot be known (a host was lost).
    """

    proc: int
    output_target: OutputTarget
    lines: Optional[int]
    bytes: Optional[int]
    reason: str


@dataclass(slots=True)
class StreamTotals:
    """The ledger's sum of one stream, in lines and bytes.

    ``written == stored + skipped + gap + in_flight`` holds for both units at all times, where
    ``written`` is what the host has read from the pipe as far as the client has been told.
    """

    written_lines: int = 0
    written_bytes: int = 0
    stored_lines: int = 0
    stored_bytes: int = 0
    skipped_lines: int = 0
    skipped_bytes: int = 0
    gap_lines: int = 0
    gap_bytes: int = 0

    def add(self, other: StreamTotals) -> None:
        """Take the counts of another one."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def in_flight_lines(self) -> int:
        """Lines read from the pipe that are not accounted for yet."""
        return self.written_lines - self.stored_lines - self.skipped_lines - self.gap_lines

    @property
    def in_flight_bytes(self) -> int:
        """Bytes read from the pipe that are not accounted for yet."""
        return self.written_bytes - self.stored_bytes - self.skipped_bytes - self.gap_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushReport:
    """What a barrier proved. False unless everything arrived.

    ``acked``, ``exited`` and ``late`` hold the names of procs (``rank 3``): each expected proc
    stands in exactly one. ``lines`` counts the lines stored since the barrier before this one.
    """

    version: int
    acked: Tuple[str, ...]
    exited: Tuple[str, ...]
    late: Tuple[str, ...]
    lines: int
    gaps: Tuple[Gap, ...]
    seconds: float

    def __bool__(self) -> bool:
        return not self.late and not self.gaps

    def receipt(self, lines: int, skipped: int = 0) -> str:
        """The promise in one line: ``8/8 procs, 12,403 lines, 0 lost``, and who is missing.

        ``skipped`` counts lines that stayed on the hosts on purpose.
        """
        total = len(self.acked) + len(self.exited) + len(self.late)
        here = total - len(self.late)
        known = sum(gap.lines for gap in self.gaps if gap.lines is not None)
        lost = f"{known:,}" if all(gap.lines is not None for gap in self.gaps) else "unknown"
        text = f"{here}/{total} procs, {lines:,} line{'' if lines == 1 else 's'}, {lost} lost"
        if skipped:
            text += f", {skipped:,} left on the hosts"
        if self.late:
            text += "; late: " + _names(self.late)
        if self.exited:
            text += "; exited: " + _names(self.exited)
        return text

    def __str__(self) -> str:
        return self.receipt(self.lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"FlushReport {self.version}: {self} ({self.seconds * 1000:.1f} ms)")


def _names(names: Tuple[str, ...], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


class LogSink(Protocol):
    """Who takes what the client actor received: the store. Called on the client's loop only."""

    def append(self, info: ProcInfo, log: LogMessage.Log) -> None:
        """Take one batch, exactly once and in order within its stream."""

    def leave_out(self, info: ProcInfo, target: OutputTarget, ends_line: bool) -> None:
        """Bytes of the stream stay away here (skipped or lost): the next batch does not join on.

        ``ends_line`` says whether the bytes left out ended with a newline.
        """

    def end(self, info: ProcInfo, target: OutputTarget) -> None:
        """The stream has ended: an unfinished last line is all there will be."""

    def forget(self, proc: int) -> None:
        """Both streams of the source have ended for good: nothing of it will come again."""


@dataclass(slots=True)
class _Run:
    first: int
    last: int = field(default=0)


def fold_ranks(ranks: Iterable[int], everyone: Collection[int] = ()) -> str:
    """Ranks as people write them: ``{0,1,2,5}`` is ``0-2,5``.

    Where ``everyone`` is known and that is shorter: ``all but 3``.
    """
    some = set(ranks)
    folded = _folded(some)
    missing = set(everyone) - some
    if missing and some and some <= set(everyone):
        others = f"all but {_folded(missing)}"
        return others if len(others) < len(folded) else folded
    return folded


def _folded(ranks: Iterable[int]) -> str:
    runs: List[_Run] = []
    for rank in sorted(ranks):
        if runs and runs[-1].last + 1 == rank:
            runs[-1].last = rank
        else:
            runs.append(_Run(rank, rank))
    return ",".join(
        str(run.first) if run.first == run.last else f"{run.first}-{run.last}" for run in runs
    )
