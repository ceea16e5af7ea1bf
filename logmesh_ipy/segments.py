"""Segments: the pieces of a store's file, each of which tells whether it is whole. Sans-IO.

A file is segments one behind the other and nothing else. A segment is

    magic, version, sizes of notes and chunks, first row, rows, wall clock, CRC of the body   (head)
    CRC of the head
    notes: a JSON object, or nothing
    chunks: as ``ChunkPacker`` packs them, which may be none

with all numbers little-endian. Segments are written in order and never changed, so what a crash or
a truncation leaves is whole segments and perhaps a part of one: :class:`SegmentReader` takes the
former and stops at the latter. Rows are numbered through; a hole in the numbers is rows that were
lost before they could be written again. Sources are told in the notes of the first segment that
has lines of theirs.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .chunks import Chunk, ChunkHead, ChunkPacker, ChunkRun
from .lines import LineFlag
from .model import Gap, OutputTarget, ProcInfo, StreamTotals

__all__ = [
    "DAMAGE", "HEAD_BYTES", "VERSION", "Notes", "OpenText", "SegmentHead", "SegmentReader",
    "chunks_of", "pack_segment", "run_of",
]  # fmt: skip

VERSION = 1
_MAGIC = b"LMsg"
_HEAD = struct.Struct("<4sIIQQIdI")
_CRC = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _CRC.size
DAMAGE = (
    struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
    RecursionError,
)  # fmt: skip
"""What parsing raises for bytes that were never written so."""


class SegmentHead(NamedTuple):
    """What stands before a segment's body. ``wall``: when it was written."""

    version: int
    notes_bytes: int
    chunk_bytes: int
    first_row: int
    rows: int
    wall: float
    body_crc: int

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        return HEAD_BYTES + self.notes_bytes + self.chunk_bytes

    @property
    def end_row(self) -> int:
        """The row behind its last."""
        return self.first_row + self.rows

    def fits(self, body: memoryview) -> bool:
        """Whether that is the body, undamaged, of a segment that this version can read."""
        return (
            self.version == VERSION
            and len(body) == self.size - HEAD_BYTES
            and zlib.crc32(body) == self.body_crc
        )

    @classmethod
    def parse(cls, data: bytes) -> Optional[SegmentHead]:
        """The head at the beginning of ``data``; None if there is none, or it is damaged."""
        if len(data) < HEAD_BYTES:
            return None
        magic, *values = _HEAD.unpack_from(data)
        (crc,) = _CRC.unpack_from(data, _HEAD.size)
        if magic != _MAGIC or crc != zlib.crc32(data[: _HEAD.size]):
            return None
        return cls(*values)


class OpenText(NamedTuple):
    """The unfinished line of a stream, as far as it had come: what would be its row.

    ``true_bytes``: how long it was, of which ``text`` may be a part.
    """

    info: ProcInfo
    target: OutputTarget
    cell: int
    first_line: int
    wall: float
    true_bytes: int
    text: bytes
    flags: LineFlag


@dataclass(slots=True)
class Notes:
    """What a segment says beside its lines. Empty fields say nothing new.

    ``session``: host, pid, start. ``sources`` and ``gaps``: those from number ``first_source``
    and ``first_gap`` on. ``open_lines``: all that were unfinished behind the segment's rows.
    """

    session: Dict[str, Any] = field(default_factory=dict)
    first_source: int = 0
    sources: List[ProcInfo] = field(default_factory=list)
    first_gap: int = 0
    gaps: List[Gap] = field(default_factory=list)
    totals: Optional[StreamTotals] = None
    open_lines: Optional[List[OpenText]] = None

    def pack(self) -> bytes:
        """As bytes; none where there is nothing to say."""
        told: Dict[str, Any] = {}
        if self.session:
            told["session"] = self.session
        if self.sources:
            told["sources"] = self.first_source, [_values(source) for source in self.sources]
        if self.gaps:
            told["gaps"] = self.first_gap, [_values(gap) for gap in self.gaps]
        if self.totals is not None:
            told["totals"] = list(astuple(self.totals))
        if self.open_lines is not None:
            told["open"] = [
                (_values(line.info), *line[1:-2], line.text.decode("latin-1"), int(line.flags))
                for line in self.open_lines
            ]
        return json.dumps(told, separators=(",", ":")).encode() if told else b""

    @classmethod
    def parse(cls, data: bytes) -> Notes:
        """From ``pack``. Raises one of several errors for what is not."""
        if not data:
            return cls()
        told = json.loads(data)
        totals, opened = told.get("totals"), told.get("open")
        first_source, sources = told.get("sources", (0, ()))
        first_gap, gaps = told.get("gaps", (0, ()))
        return cls(
            session=dict(told.get("session", {})),
            first_source=int(first_source),
            sources=[ProcInfo(**source) for source in sources],
            first_gap=int(first_gap),
            gaps=[_gap(gap) for gap in gaps],
            totals=None if totals is None else StreamTotals(*totals),
            open_lines=None if opened is None else [_open_text(line) for line in opened],
        )


def _values(words: Any) -> Dict[str, Any]:
    """A dataclass's fields; not ``asdict``, which copies deeply."""
    return {each.name: getattr(words, each.name) for each in fields(words)}


def _gap(values: Dict[str, Any]) -> Gap:
    return Gap(**{**values, "output_target": OutputTarget(values["output_target"])})


def _open_text(values: Sequence[Any]) -> OpenText:
    info, target, cell, first_line, wall, true_bytes, text, flags = values
    return OpenText(
        ProcInfo(**info), OutputTarget(target), cell, first_line, wall, true_bytes,
        text.encode("latin-1"), LineFlag(flags),
    )  # fmt: skip


def pack_segment(
    notes: Notes, packed: Sequence[bytes], first_row: int, rows: int, wall: float
) -> List[bytes]:
    """The parts of a segment, to be written one behind the other; ``packed`` is not copied."""
    body = [notes.pack(), *packed]
    crc = 0
    for part in body:
        crc = zlib.crc32(part, crc)
    sizes = len(body[0]), sum(map(len, packed))
    head = _HEAD.pack(_MAGIC, VERSION, *sizes, first_row, rows, wall, crc)
    return [head, _CRC.pack(zlib.crc32(head)), *body]


class SegmentReader:
    """Takes whole segments in order; remembers what they tell.

    ``rows`` is the row behind the last. All it gives of lines are bytes that were written, with
    their CRC right.
    """

    def __init__(self) -> None:
        self.packer = ChunkPacker()
        self.rows = 0
        self.lines = 0
        self.session: Dict[str, Any] = {}
        self.gaps: List[Gap] = []
        self.totals: Optional[StreamTotals] = None
        self.wall = 0.0
        self._open: Dict[Tuple[int, OutputTarget], OpenText] = {}

    @property
    def open_lines(self) -> List[OpenText]:
        """Unfinished lines as they were told last, of streams that have brought none since."""
        return list(self._open.values())

    def take(self, head: SegmentHead, body: memoryview) -> bool:
        """The next segment: what stands between its head and its end. False: it is damaged."""
        if (head.rows and head.first_row < self.rows) or not head.fits(body):
            return False
        try:
            notes = Notes.parse(bytes(body[: head.notes_bytes]))
            if notes.sources:
                self.packer.infos[notes.first_source :] = notes.sources
            heads = self._heads(head, body)
        except DAMAGE:
            return False
        for each in heads:
            self._open.pop((each.info.proc, each.target), None)
        if notes.open_lines is not None:
            self._open = {(line.info.proc, line.target): line for line in notes.open_lines}
        self.session = self.session or notes.session
        if notes.gaps:
            self.gaps[notes.first_gap :] = notes.gaps
        self.totals = notes.totals or self.totals
        if head.rows:
            self.rows, self.lines = head.end_row, self.lines + head.rows
        self.wall = head.wall
        return True

    def _heads(self, head: SegmentHead, body: memoryview) -> List[ChunkHead]:
        if not head.chunk_bytes:
            return []
        heads, begin = self.packer.heads(body[head.notes_bytes :], head.first_row)
        rows, size = sum(each.count for each in heads), sum(each.size for each in heads)
        if rows != head.rows or begin + size != head.chunk_bytes:
            raise ValueError("the sizes do not fit")
        return heads


def chunk_parts(data: memoryview) -> List[Tuple[int, memoryview]]:
    """The (first row, chunks) of whole segments one behind the other; they were judged before."""
    parts: List[Tuple[int, memoryview]] = []
    while data:
        head = SegmentHead.parse(data[:HEAD_BYTES].tobytes())
        if head is None:
            raise ValueError("no segment begins there")
        if head.chunk_bytes:
            at = HEAD_BYTES + head.notes_bytes
            parts.append((head.first_row, data[at : at + head.chunk_bytes]))
        data = data[head.size :]
    return parts


def chunks_of(packer: ChunkPacker, data: memoryview) -> List[Chunk]:
    """Of whole segments: all chunks."""
    return [
        chunk
        for first_row, packed in chunk_parts(data)
        for chunk in packer.unpack(packed, first_row)
    ]


def run_of(packer: ChunkPacker, data: memoryview, first_row: int, end_row: int) -> ChunkRun:
    """Of whole segments: the chunks with rows from ``first_row`` to below ``end_row``."""
    heads: List[ChunkHead] = []
    lines: List[memoryview] = []
    for row, packed in chunk_parts(data):
        found, begin = packer.heads(packed, row)
        heads += found
        lines.append(packed[begin:])
    chosen = [h for h in heads if h.first_row + h.count > first_row and h.first_row < end_row]
    if not chosen:
        return ChunkRun([], b"")
    begin = sum([h.size for h in heads if h.first_row < chosen[0].first_row])
    end = begin + sum([head.size for head in chosen])
    whole = lines[0] if len(lines) == 1 else memoryview(b"".join(lines))
    return ChunkRun(chosen, whole[begin:end])
