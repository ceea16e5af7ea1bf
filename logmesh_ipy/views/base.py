"""The one interface of all views, and the lines as text that plain ones share.

The driver reads the store and gives each view what is new; a view only shows. It may show less
than it is given, never something else, and says how much it left out.
"""

from __future__ import annotations

import time
from typing import Iterator, Protocol, Sequence, Tuple

from ..aggregator import Report
from ..lines import LineFlag, LineMark
from ..model import OutputTarget, ProcInfo
from ..store import Chunk, OpenLine

__all__ = [
    "View",
    "chunk_lines",
    "line_prefix",
    "marked_text",
    "plural",
    "window_header",
]

_CONTINUED = "\N{HORIZONTAL ELLIPSIS}".encode()


class View(Protocol):
    """Shows what the procs print. Called by the driver, by one thread at a time."""

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        """New whole lines of a cell, in order (while nothing is aggregated)."""

    def groups(self, report: Report) -> None:
        """The groups of a window that has ended; ``live`` follows and says what stands now."""

    def live(self, cell: int, pending: Report | None, unfinished: Sequence[OpenLine]) -> None:
        """What stands below the rest for now: a window that goes on, and unfinished lines.

        Called when it has changed; with neither, when nothing is left of it.
        """

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """What the barrier at the end of a cell has proved."""

    def render(self, *, final: bool) -> bool:
        """Bring what was given to the screen. ``final``: all of it, now.

        False when something had to wait (a cap on the rate): the driver calls again.
        """

    def close(self) -> None:
        """Show no more."""


def line_prefix(info: ProcInfo, target: OutputTarget) -> str:
    """Who says it: ``[3]``, ``[3 err]``, ``[3 job 1]``."""
    parts = [str(info.rank)]
    if info.job:
        parts.append(info.job)
    if target is OutputTarget.STDERR:
        parts.append("err")
    return f"[{' '.join(parts)}]"


def marked_text(text: bytes, mark: LineMark | None) -> Tuple[bytes, str]:
    """The text with a sign where it goes on from an earlier line, and what is to be said of it."""
    if mark is None:
        return text, ""
    flags = mark.flags
    if flags & (LineFlag.CONTINUED | LineFlag.BROKEN):
        text = _CONTINUED + text
    if flags & LineFlag.TRUNCATED:
        kept = "end kept" if flags & LineFlag.OVERWRITTEN else "cut"
        return text, f"  [line of {mark.true_bytes:,} bytes, {kept}]"
    return text, ""


def chunk_lines(chunk: Chunk, most: int) -> Iterator[Tuple[bytes, LineMark | None]]:
    """The last ``most`` lines of a chunk with their marks; looks only at these."""
    if most <= 0:
        return
    lines = chunk.lines() if most >= chunk.count else chunk.data[:-1].rsplit(b"\n", most)[1:]
    marks = {mark.index: mark for mark in chunk.marks}
    for index, line in enumerate(lines, chunk.count - len(lines)):
        yield line, marks.get(index)


def window_header(report: Report) -> str:
    """``>>> Aggregated Logs (2026-01-31 10:00:00, 12 lines) >>>``; the times of its lines."""
    first = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.first_wall))
    last = time.strftime("%H:%M:%S", time.localtime(report.last_wall))
    span = f"{first} to {last}" if last != first[11:] else first
    return f">>> Aggregated Logs ({span}, {plural(report.lines, 'line')}) >>>"


def plural(count: int, noun: str) -> str:
    """``1 line``, ``2,000 lines``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
