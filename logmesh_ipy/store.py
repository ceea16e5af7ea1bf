"""LogStore: every line that arrived, in bounded memory; what is older lies in a file.

The store is the client actor's sink. It cuts batches into whole lines (in bulk) and keeps them
in the order of arrival as *chunks*: some lines of one stream, under one cell. Rows are numbered
from 0 over all streams. Chunks gather in blocks, which the store's writer brings into a file. A
full block that is written leaves memory when ``memory_bytes`` are exceeded. Counted is what lines,
chunks and marks take; the block that is being filled stays.

A line that is not finished is not a row yet. It becomes one, marked PARTIAL, when its stream
ends or when the next cell begins: what comes after it then belongs to that next cell and is
marked CONTINUED. :meth:`open_lines` shows what stands unfinished now.

Appending happens on the client's loop, reading in any thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from .blocks import Blocks
from .chunks import Chunk, ChunkHead, ChunkRun
from .lines import DEFAULT_MAX_LINE_BYTES, LineFlag, Lines, LineSplitter
from .model import Gap, LogMessage, OutputTarget, ProcInfo, StreamTotals
from .segments import OpenText
from .store_file import SessionFile, StoreFile
from .store_places import SessionPlace
from .store_writer import Portion, StoreWriter
from .template_table import TemplateTable

__all__ = ["CellSpan", "Chunk", "ChunkHead", "ChunkRun", "LogStore", "OpenLine", "Row"]

_CHUNK_BYTES = 384  # what a Chunk takes in memory beside its lines
_MARK_BYTES = 128
_BACKLOG_BYTES = 16 << 20
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


class LogStore:
    """All lines of one client.

    ``memory_bytes`` bounds what they take in memory. What is older lies in a file without a name in
    ``directory``; or, with ``session``, all is written soon to a file that outlives a crash of this
    process. ``cell`` is the number of the cell that is running (or ran last); a source whose info
    names a cell (a job) stays with that one. ``templates`` tells all readers which lines are alike.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = 64 << 20,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        directory: Optional[str] = None,
        session: Optional[SessionPlace] = None,
        templates: Optional[TemplateTable] = None,
    ) -> None:
        self.max_line_bytes = max_line_bytes
        self.rows = 0
        self.bytes = 0
        self.cell = 0
        self.templates = templates or TemplateTable()
        self._directory = directory
        self._lock = threading.Lock()
        self._streams: Dict[Tuple[int, OutputTarget], _Stream] = {}
        file = StoreFile(directory) if session is None else SessionFile(session)
        self._writer = StoreWriter(self, file)
        self._blocks = Blocks(self._writer, memory_bytes)
        self._grown = self._block_full = False
        self._cells: Dict[int, CellSpan] = {}
        self._listeners: List[Callable[[], None]] = []
        _stores.add(self)

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

    def forget(self, proc: int) -> None:
        """LogSink: the source is over; its lines stay."""
        with self._lock:
            for target in OutputTarget:
                self._streams.pop((proc, target), None)

    def begin_cell(self, cell: int) -> None:
        """What arrives from now on belongs to ``cell``; unfinished lines end with their cell."""
        with self._lock:
            if cell != self.cell:
                self._cut()
                self.cell = cell
        self._write()

    def cut_unfinished(self) -> None:
        """The cell has ended: its unfinished lines are rows now, what follows continues them."""
        with self._lock:
            self._cut()
        self._write()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener()`` on the client's loop after each append; gives the undo."""
        self._listeners.append(listener)

        def undo() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return undo

    # --- reading (any thread) -----------------------------------------------------------------

    @property
    def first_row(self) -> int:
        """The oldest row that is kept: 0, or the first after ``close``."""
        return self._blocks.first_row

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
            found: List[Chunk] = []
            last = None if max_rows is None else first_row + max_rows
            size = 0
            for chunk in self._blocks.chunks(first_row):
                if chunk.first_row + chunk.count > first_row:
                    found.append(chunk)
                    size += len(chunk.data)
                    if last is not None and chunk.first_row + chunk.count >= last:
                        break
                    if max_bytes is not None and size >= max_bytes:
                        break
            return found

    def read_run(self, first_row: int, max_rows: int) -> ChunkRun:
        """Chunks side by side that hold the rows from ``first_row`` on, as ``read`` cuts them.

        Some megabytes at most, which may be fewer than ``max_rows``; none if there is no such row
        or the store was closed. Where rows are lost it begins behind them. What lies in the file is
        not kept in memory, nor made to chunks.
        """
        with self._lock:
            return self._blocks.run(first_row, max_rows)

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

    # --- the file (any thread) ----------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """What is wrong with the file, and what it costs; empty if nothing."""
        writer, found = self._writer, []
        if writer.trouble:
            with self._lock:
                waiting = self._blocks.unwritten_rows
            found.append(
                f"the log store cannot write its file: {writer.trouble}; {waiting:,} lines are in "
                "memory only"
            )
        if self._blocks.lost_rows:
            found.append(f"the log store's file was cut: {self._blocks.lost_rows:,} lines are lost")
        if writer.file.renewals:
            times = writer.file.renewals
            found.append(f"the log store's file was removed {times} times, and written anew")
        if writer.refused:
            found.append(f"lines are not kept for after a crash: {writer.refused}")
        return "; ".join(found)

    @property
    def session_name(self) -> str:
        """The file that a crash of this process leaves; empty if none."""
        return self._writer.file.name

    def note(self, totals: StreamTotals, gaps: Sequence[Gap]) -> None:
        """The ledger and all its gaps (a list that only grows), for who reopens the file."""
        self._writer.note(totals, gaps)

    def save(self, then: Callable[[], None]) -> bool:
        """Have ``then()`` called, in another thread, when what is there now outlives a crash.

        Or when the disk has refused it. False where that is so already, or cannot be.
        """
        with self._lock:
            if self._blocks.saved and not any(
                stream.splitter.open_bytes for stream in self._streams.values()
            ):
                return False
        return self._writer.save(then)

    def finish(self) -> None:
        """No more lines are expected: the rest is written, and no thread is left."""
        self._writer.finish()

    def close(self) -> None:
        """Give up the file and the memory."""
        self._writer.close()
        with self._lock:
            self._writer = StoreWriter(self, StoreFile(self._directory))
            self._blocks = Blocks(self._writer, self._blocks.memory_bytes, self.rows)

    def in_forked_child(self) -> None:
        """It can be read there, and changed nowhere but in the parent."""
        self._lock = threading.Lock()  # another thread of the parent may hold it

    # --- for the writer -----------------------------------------------------------------------

    def next_portion(self, *, ahead: bool, opened: bool) -> Optional[Portion]:
        """PortionSource: never more than a block."""
        with self._lock:
            block, is_last = self._blocks.next_unwritten(ahead=ahead)
            chunks = () if block is None else block.next_unwritten
            is_end = is_last and (block is None or len(chunks) == len(block.unwritten))
            texts = self._open_texts() if opened and is_end else None
            return Portion(block, chunks, texts) if chunks or texts is not None else None

    def portion_written(self, portion: Portion, place: Tuple[int, int]) -> None:
        """PortionSource: what is over the bound leaves memory."""
        with self._lock:
            self._blocks.written(portion.block, len(portion.chunks), place)

    def file_shrunk(self, size: int) -> int:
        """PortionSource: what is in memory is written again, the rest is lost."""
        with self._lock:
            return self._blocks.file_shrunk(size)

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
        span = self._cells.get(cell)
        first, before = (chunk.first_row, 0) if span is None else (span.first_row, span.lines)
        self._cells[cell] = CellSpan(before + lines.count, first, self.rows)
        self._grown = True
        self._block_full |= self._blocks.add(chunk, size)

    def _open_texts(self) -> List[OpenText]:
        return [
            OpenText(
                stream.info, stream.target, self._cell_of(stream.info), stream.lines, stream.wall,
                stream.splitter.open_bytes, *stream.splitter.open_line,
            )
            for stream in self._streams.values()
            if stream.splitter.open_bytes
        ]  # fmt: skip

    # --- outside the lock ---------------------------------------------------------------------

    def _write(self) -> None:
        """Have written what has come: soon, or now where memory is short of room."""
        grown, full = self._grown, self._block_full
        self._grown = self._block_full = False
        if not self._writer.ahead:
            if full:
                self._writer.write_all()
        elif grown:
            self._writer.grown(hurry=full)
            if self._blocks.in_memory > self._blocks.memory_bytes + _BACKLOG_BYTES:
                self._writer.keep_up()  # as fast as the disk is, and no faster

    def _tell(self) -> None:
        self._write()
        for listener in tuple(self._listeners):
            listener()


_stores: weakref.WeakSet[LogStore] = weakref.WeakSet()


def _in_forked_child() -> None:
    for store in list(_stores):
        store.in_forked_child()


os.register_at_fork(after_in_child=_in_forked_child)
