"""SavedStore: the lines that a store's file holds, without the process that wrote them.

It takes whole segments up to the first that is damaged or missing: a prefix of what was written,
whatever has happened to the rest. Lines that stood unfinished at the last barrier, and were not
heard of after it, are its last rows, marked PARTIAL. It only reads, and looks at no line before it
is asked for; what is written to the file after it was opened is not seen.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from .chunks import Chunk, ChunkRun, head_of
from .lines import LineFlag, LineMark
from .segments import DAMAGE, HEAD_BYTES, Notes, SegmentHead, SegmentReader, run_of

__all__ = ["SavedStore", "Summary", "summary_of"]

_SPAN_BYTES = 4 << 20
_SPAN_ROWS = 1 << 17


@dataclass(slots=True)
class _Span:
    """Some megabytes of segments side by side."""

    first_row: int
    end_row: int
    offset: int
    size: int


class SavedStore:
    """Reads the file ``fd``, which it closes. Raises OSError.

    ``lines``: whole ones. ``good_bytes``: of segments that are whole, of ``bytes`` in the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._reader = SegmentReader()
        self._spans: List[_Span] = []
        self.first_row = 0
        self.bytes = os.fstat(fd).st_size
        self.good_bytes = 0
        for offset, head in _heads(fd):
            body = os.pread(fd, head.size - HEAD_BYTES, offset + HEAD_BYTES)
            if not self._reader.take(head, memoryview(body)):
                break
            self.good_bytes = offset + head.size
            self._add(head, offset)
        self._open_chunks = self._partial_rows()
        self.rows = self._reader.rows + len(self._open_chunks)

    @property
    def told(self) -> SegmentReader:
        """Session, sources, ledger and gaps, as far as the file tells of them."""
        return self._reader

    @property
    def ranks(self) -> int:
        """How many ranks there were, as far as they are known."""
        return max((info.rank for info in self._reader.packer.infos), default=-1) + 1

    def read_run(self, first_row: int, max_rows: int) -> ChunkRun:
        """Chunks side by side from that with the row on; none where the file has them no more."""
        end_row = first_row + max_rows
        for span in self._spans[
            max(0, bisect_right(self._spans, first_row, key=attrgetter("first_row")) - 1) :
        ]:
            if span.end_row <= first_row:
                continue
            packed = os.pread(self._fd, span.size, span.offset) if self._fd >= 0 else b""
            if len(packed) == span.size:
                end_row = max(first_row, span.first_row) + max_rows
                return run_of(self._reader.packer, memoryview(packed), first_row, end_row)
        chunks = [c for c in self._open_chunks if first_row <= c.first_row < end_row]
        return ChunkRun([head_of(c) for c in chunks], b"".join([c.data for c in chunks]))

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self.first_row, self._spans, self._open_chunks = self.rows, [], []

    def __del__(self) -> None:
        fd, self._fd = getattr(self, "_fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def _add(self, head: SegmentHead, offset: int) -> None:
        last = self._spans[-1] if self._spans else None
        if last is not None:
            size = offset + head.size - last.offset
            rows = (head.end_row if head.rows else last.end_row) - last.first_row
            side_by_side = not head.rows or head.first_row == last.end_row
            if side_by_side and size <= _SPAN_BYTES and rows <= _SPAN_ROWS:
                last.size, last.end_row = size, last.first_row + rows
                return
        if head.rows:
            self._spans.append(_Span(head.first_row, head.end_row, offset, head.size))

    def _partial_rows(self) -> List[Chunk]:
        row = self._reader.rows
        return [
            Chunk(
                line.info, line.target, line.cell, number, line.first_line, 1, line.wall, 0.0,
                line.text + b"\n", (LineMark(0, line.flags | LineFlag.PARTIAL, line.true_bytes),),
            )
            for number, line in enumerate(self._reader.open_lines, row)
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """What a look at the heads of a file's segments tells, and at the body of the last.

    ``begin``, ``end``: wall clock, seconds. ``ranks``: how many had said something.
    """

    host: str
    pid: int
    begin: float
    end: float
    ranks: int
    lines: int
    bytes: int
    cut_bytes: int


def summary_of(fd: int) -> Optional[Summary]:
    """None for a file that is none of ours, or has no whole segment. Raises OSError."""
    session: Dict[str, Any] = {}
    ranks: Set[int] = set()
    lines, good, wall = 0, 0, 0.0
    heads = list(_heads(fd))
    for number, (offset, head) in enumerate(heads):
        # The first one tells of the session, behind the last one a crash may have come.
        whole = number in (0, len(heads) - 1)
        size = head.size - HEAD_BYTES if whole else head.notes_bytes
        data = os.pread(fd, size, offset + HEAD_BYTES)
        if whole and not head.fits(memoryview(data)):
            break
        try:
            notes = Notes.parse(data[: head.notes_bytes])
            ranks |= {int(source.rank) for source in notes.sources}
        except DAMAGE:
            break
        session = session or notes.session
        lines, good, wall = lines + head.rows, offset + head.size, head.wall
    if not session:
        return None
    return Summary(
        host=str(session.get("host", "")),
        pid=int(session.get("pid", 0)),
        begin=float(session.get("start", wall)),
        end=wall,
        ranks=len(ranks),
        lines=lines,
        bytes=good,
        cut_bytes=max(0, os.fstat(fd).st_size - good),
    )


def _heads(fd: int) -> Iterator[Tuple[int, SegmentHead]]:
    """(offset, head) of the segments, as far as heads are undamaged and bodies as long as told."""
    size, offset = os.fstat(fd).st_size, 0
    while True:
        head = SegmentHead.parse(os.pread(fd, HEAD_BYTES, offset))
        if head is None or offset + head.size > size:
            return
        yield offset, head
        offset += head.size
