"""LogStore: every line that arrived, in bounded memory; what is older lies in a file.

The store is the client actor's sink. It cuts batches into whole lines (in bulk) and keeps them
in the order of arrival as *chunks*: some lines of one stream, under one cell. Rows are numbered
from 0 over all streams. Chunks gather in blocks; a full block is written to an unlinked file
and leaves memory when ``memory_bytes`` are exceeded. Counted is what lines, chunks and marks
take; the block that is being filled stays.

A line that is not finished is not a row yet. It becomes one, marked PARTIAL, when its stream
ends or when the next cell begins: what comes after it then belongs to that next cell and is
marked CONTINUED. :meth:`open_lines` shows what stands unfinished now.

Appending happens on the client's loop, reading in any thread.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from .chunks import Chunk, ChunkHead, ChunkPacker, ChunkRun, head_of
from .lines import DEFAULT_MAX_LINE_BYTES, LineFlag, Lines, LineSplitter
from .model import LogMessage, OutputTarget, ProcInfo
from .template_table import TemplateTable

__all__ = ["CellSpan", "Chunk", "ChunkHead", "ChunkRun", "LogStore", "OpenLine", "Row"]

_BLOCK_BYTES = 4 << 20
_BLOCK_CHUNKS = 4096
_CHUNK_BYTES = 384  # what a Chunk takes in memory beside its lines
_MARK_BYTES = 128
_MAX_VECTORS = 1024  # IOV_MAX of Linux
_PLAIN = LineFlag(0)


@dataclass(frozen=True, slots=True)
class Row:
    """One line with all that is known of it; ``seq`` is its number within its stream."""

    row: int
    info: ProcInfo
    target: OutputTarget
    cell: int
    seq: int
    wall: float
    text: bytes
    flags: LineFlag = _PLAIN
    true_bytes: int = 0


@dataclass(frozen=True, slots=True)
class OpenLine:
    """The unfinished line of a stream, as far as it has come. ``wall``: when it last grew."""

    info: ProcInfo
    target: OutputTarget
    cell: int
    wall: float
    text: bytes


class CellSpan(NamedTuple):
    """A cell has ``lines`` among the rows ``first_row`` to ``end_row`` (exclusive)."""

    lines: int
    first_row: int
    end_row: int


class _Stream:
    """The splitter of one stream, and where its lines stand."""

    __slots__ = ("info", "lines", "mono", "splitter", "target", "wall")

    def __init__(self, info: ProcInfo, target: OutputTarget, max_line_bytes: int) -> None:
        self.info = info
        self.target = target
        self.splitter = LineSplitter(max_line_bytes)
        self.lines = 0
        self.wall = 0.0
        self.mono = 0.0


@dataclass(slots=True)
class _Block:
    first_row: int
    bytes: int = 0
    chunks: Optional[List[Chunk]] = field(default_factory=list)
    place: Optional[Tuple[int, int]] = None


class LogStore:
    """All lines of one client.

    ``memory_bytes`` bounds what they take in memory, ``directory`` takes the file of what is
    older. ``cell`` is the number of the cell that is running (or ran last); a source whose info
    names a cell (a job) stays with that one. ``templates`` tells all readers which lines are alike.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 64 << 20,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        directory: Optional[str] = None,
        templates: Optional[TemplateTable] = None,
    ) -> None:
        self.memory_bytes = memory_bytes
        self.max_line_bytes = max_line_bytes
        self.rows = 0
        self.bytes = 0
        self.cell = 0
        self.trouble = ""
        self.templates = templates or TemplateTable()
        self._directory = directory
        self._lock = threading.Lock()
        self._streams: Dict[Tuple[int, OutputTarget], _Stream] = {}
        self._blocks: List[_Block] = [_Block(0)]
        self._in_memory = 0
        self._oldest_in_memory = 0
        self._fd: Optional[int] = None
        self._file_bytes = 0
        self._packer = ChunkPacker()
        self._unpacked: Tuple[int, List[Chunk]] = (-1, [])
        self._cells: Dict[int, CellSpan] = {}
        self._listeners: List[Callable[[], None]] = []

    # --- the sink (on the client's loop) ------------------------------------------------------

    def append(self, info: ProcInfo, log: LogMessage.Log) -> None:
        """LogSink: one batch."""
        with self._lock:
            stream = self._stream(info, log.output_target)
            lines = stream.splitter.feed(log.payload, log.lines)
            stream.wall = log.wall
            stream.mono = log.mono
            self._add(stream, lines)
        self._tell()

    def leave_out(self, info: ProcInfo, target: OutputTarget, ends_line: bool) -> None:
        """LogSink: bytes stay away here."""
        with self._lock:
            stream = self._stream(info, target)
            self._add(stream, stream.splitter.leave_out(ends_line))
        self._tell()

    def end(self, info: ProcInfo, target: OutputTarget) -> None:
        """LogSink: the stream has ended."""
        with self._lock:
            stream = self._stream(info, target)
            self._add(stream, stream.splitter.cut())
        self._tell()

    def begin_cell(self, cell: int) -> None:
        """What arrives from now on belongs to ``cell``; unfinished lines end with their cell."""
        with self._lock:
            if cell != self.cell:
                self._cut()
                self.cell = cell

    def cut_unfinished(self) -> None:
        """The cell has ended: its unfinished lines are rows now, what follows continues them."""
        with self._lock:
            self._cut()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` on the client's loop after each append; gives the undo."""
        self._listeners.append(listener)

        def undo() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return undo

    # --- reading (any thread) -----------------------------------------------------------------

    def cell_lines(self, cell: int) -> int:
        """How many lines have arrived under a cell."""
        span = self._cells.get(cell)
        return 0 if span is None else span.lines

    def cell_spans(self) -> Tuple[int, Dict[int, CellSpan]]:
        """How many rows there are, and where among them the lines of each cell are."""
        with self._lock:
            return self.rows, dict(self._cells)

    def last_walls(self) -> Dict[int, float]:
        """When each source said something last: the host's wall clock."""
        with self._lock:
            walls: Dict[int, float] = {}
            for (proc, _), stream in self._streams.items():
                walls[proc] = max(walls.get(proc, 0.0), stream.wall)
            return walls

    def ranks(self) -> Set[int]:
        """Who has said anything."""
        with self._lock:
            return {stream.info.rank for stream in self._streams.values()}

    def open_lines(self) -> List[OpenLine]:
        """The unfinished lines, as far as they have come."""
        with self._lock:
            return [
                OpenLine(
                    info=stream.info,
                    target=stream.target,
                    cell=self._cell_of(stream.info),
                    wall=stream.wall,
                    text=stream.splitter.open_line[0],
                )
                for stream in self._streams.values()
                if stream.splitter.open_bytes
            ]

    def read(
        self,
        first_row: int = 0,
        max_rows: Optional[int] = None,
        max_bytes: Optional[int] = None,
    ) -> List[Chunk]:
        """The chunks that hold the rows from ``first_row`` on; the first may begin before it.

        Chunks are not cut: the last one is that which reaches ``max_rows`` or ``max_bytes``. Who
        reads all should give a bound, since what is spilled is read into memory.
        """
        with self._lock:
            if first_row >= self.rows:
                return []
            number = max(0, bisect_right(self._blocks, first_row, key=_first_row) - 1)
            found: List[Chunk] = []
            last = None if max_rows is None else first_row + max_rows
            size = 0
            for block in self._blocks[number:]:
                for chunk in self._chunks(block):
                    if chunk.first_row + chunk.count > first_row:
                        found.append(chunk)
                        size += len(chunk.data)
                        if last is not None and chunk.first_row + chunk.count >= last:
                            return found
                        if max_bytes is not None and size >= max_bytes:
                            return found
            return found

    def read_run(self, first_row: int, max_rows: int) -> ChunkRun:
        """Chunks side by side that hold the rows from ``first_row`` on, as ``read`` cuts them.

        Some megabytes at most, which may be fewer than ``max_rows``; none if there is no such row
        or the store was closed. What lies in the file is not kept in memory, nor made to chunks.
        """
        with self._lock:
            block = self._blocks[max(0, bisect_right(self._blocks, first_row, key=_first_row) - 1)]
            chunks = None if block.chunks is None else list(block.chunks)
            packed = b"" if block.place is None else self._packed(block.place)
        last = first_row + max_rows
        if chunks is None:
            heads, position = self._packer.heads(packed, block.first_row)
        else:
            chunks = [c for c in chunks if c.first_row + c.count > first_row and c.first_row < last]
            heads, position = [head_of(chunk) for chunk in chunks], 0
        chosen = [h for h in heads if h.first_row + h.count > first_row and h.first_row < last]
        if chunks is not None:
            return ChunkRun(chosen, b"".join([chunk.data for chunk in chunks]))
        for head in heads:
            if head.first_row + head.count > first_row:
                break
            position += head.size
        size = sum([head.size for head in chosen])
        return ChunkRun(chosen, memoryview(packed)[position : position + size])

    def lines(self, first_row: int = 0) -> Iterator[Row]:
        """Rows one by one, from ``first_row`` to the last there is now."""
        last = self.rows
        while first_row < last:
            found = self.read(first_row, 4096)
            if not found:
                return  # closed meanwhile
            for chunk in found:
                marks = {mark.index: mark for mark in chunk.marks}
                for index, text in enumerate(chunk.lines()):
                    row = chunk.first_row + index
                    if first_row <= row < last:
                        mark = marks.get(index)
                        yield Row(
                            row, chunk.info, chunk.target, chunk.cell, chunk.first_line + index,
                            chunk.wall, text, mark.flags if mark else _PLAIN,
                            mark.true_bytes if mark else len(text),
                        )  # fmt: skip
                first_row = max(first_row, chunk.first_row + chunk.count)

    def close(self) -> None:
        """Give up the file and the memory."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            self._blocks = [_Block(self.rows)]
            self._unpacked = (-1, [])
            self._oldest_in_memory = 0
            self._in_memory = 0
            self._file_bytes = 0

    # --- inside (under the lock) --------------------------------------------------------------

    def _stream(self, info: ProcInfo, target: OutputTarget) -> _Stream:
        stream = self._streams.get((info.proc, target))
        if stream is None:
            stream = self._streams[info.proc, target] = _Stream(info, target, self.max_line_bytes)
        elif stream.info is not info:
            stream.info = info  # more is known of the proc now
        return stream

    def _cell_of(self, info: ProcInfo) -> int:
        return self.cell if info.cell is None else info.cell

    def _cut(self) -> None:
        for stream in self._streams.values():
            if stream.info.cell is None:
                self._add(stream, stream.splitter.cut())

    def _add(self, stream: _Stream, lines: Lines) -> None:
        if not lines.count:
            return
        cell = self._cell_of(stream.info)
        chunk = Chunk(
            stream.info, stream.target, cell, self.rows, stream.lines, lines.count, stream.wall,
            stream.mono, lines.data, tuple(lines.marks),
        )  # fmt: skip
        size = len(lines.data) + _CHUNK_BYTES + _MARK_BYTES * len(lines.marks)
        stream.lines += lines.count
        self.rows += lines.count
        self.bytes += len(lines.data)
        self._in_memory += size
        span = self._cells.get(cell)
        first, before = (chunk.first_row, 0) if span is None else (span.first_row, span.lines)
        self._cells[cell] = CellSpan(before + lines.count, first, self.rows)
        block = self._blocks[-1]
        assert block.chunks is not None
        block.chunks.append(chunk)
        block.bytes += size
        if block.bytes >= _BLOCK_BYTES or len(block.chunks) >= _BLOCK_CHUNKS:
            self._blocks.append(_Block(self.rows))
            self._spill()

    def _spill(self) -> None:
        """Write the oldest full blocks to the file until memory is within its bound."""
        while self._oldest_in_memory < len(self._blocks) - 1:
            if self._in_memory <= self.memory_bytes:
                return
            block = self._blocks[self._oldest_in_memory]
            assert block.chunks is not None
            parts = self._packer.pack(block.chunks)
            size = sum(map(len, parts))
            try:
                if self._fd is None:
                    self._fd, path = tempfile.mkstemp(prefix="store-", dir=self._directory)
                    os.unlink(path)
                _write(self._fd, parts, self._file_bytes)
            except OSError as error:
                # Memory beyond the bound is better than a lost line; tried again at the next block.
                self.trouble = f"the log store cannot spill to disk: {error.strerror}"
                return
            self.trouble = ""
            block.place = (self._file_bytes, size)
            block.chunks = None
            self._file_bytes += size
            self._in_memory -= block.bytes
            self._oldest_in_memory += 1

    def _chunks(self, block: _Block) -> List[Chunk]:
        if block.chunks is not None:
            return block.chunks
        if self._unpacked[0] == block.first_row:
            return self._unpacked[1]
        assert block.place is not None
        packed = self._packed(block.place)
        self._unpacked = (block.first_row, self._packer.unpack(packed, block.first_row))
        return self._unpacked[1]

    def _packed(self, place: Tuple[int, int]) -> bytes:
        """What the file has of a block."""
        assert self._fd is not None
        offset, size = place
        packed = os.pread(self._fd, size, offset)
        if len(packed) != size:
            raise OSError(errno.EIO, f"the store's file lost {size - len(packed)} bytes")
        return packed

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def _first_row(block: _Block) -> int:
    return block.first_row


def _write(fd: int, parts: List[bytes], place: int) -> None:
    """All parts, one behind the other, from a place in the file on. Raises OSError."""
    for first in range(0, len(parts), _MAX_VECTORS):
        some = parts[first : first + _MAX_VECTORS]
        size = sum(map(len, some))
        if os.pwritev(fd, some, place) != size:
            raise OSError(errno.ENOSPC, "the disk took a part only")
        place += size
