"""Chunks: some lines of one stream, as the store keeps them, and packed as they lie in its file.

Made by ``store``; views and ``logs`` read them. What stands around them in the file is told in
``segments``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple, Union

from .lines import LineFlag, LineMark
from .model import OutputTarget, ProcInfo

__all__ = ["Chunk", "ChunkHead", "ChunkPacker", "ChunkRun", "head_of"]

_TARGETS = {int(target): target for target in OutputTarget}
_COUNT = struct.Struct("<I")
_CHUNK = struct.Struct("<IBqIQQddI")
_MARK = struct.Struct("<IIQ")


@dataclass(frozen=True, slots=True)
class Chunk:
    """``count`` lines of one stream. ``data`` holds them, each closed by a newline.

    ``first_row`` numbers its first line among all, ``first_line`` among its stream's. ``wall``
    and ``mono`` are the host's times of the batch that completed the lines.
    """

    info: ProcInfo
    target: OutputTarget
    cell: int
    first_row: int
    first_line: int
    count: int
    wall: float
    mono: float
    data: bytes
    marks: Tuple[LineMark, ...] = ()

    def lines(self) -> List[bytes]:
        """Its lines, without newlines."""
        lines = self.data.split(b"\n")
        lines.pop()
        return lines


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A :class:`Chunk` without its lines; ``size`` is how many bytes they have."""

    info: ProcInfo
    target: OutputTarget
    cell: int
    first_row: int
    first_line: int
    count: int
    wall: float
    mono: float
    size: int
    marks: Tuple[LineMark, ...]


class ChunkRun(NamedTuple):
    """Chunks that lie side by side: ``data`` has their lines, one chunk's behind the other's."""

    heads: List[ChunkHead]
    data: Union[bytes, memoryview]


def head_of(chunk: Chunk) -> ChunkHead:
    """What is known of a chunk besides its lines."""
    return ChunkHead(
        chunk.info, chunk.target, chunk.cell, chunk.first_row, chunk.first_line, chunk.count,
        chunk.wall, chunk.mono, len(chunk.data), chunk.marks,
    )  # fmt: skip


class ChunkPacker:
    """Chunks as bytes and back. Numbers the sources, which are not packed.

    Packed are a u32 count of chunks, their heads, then their marks, then their lines.
    """

    def __init__(self, infos: Iterable[ProcInfo] = ()) -> None:
        self.infos: List[ProcInfo] = list(infos)
        """The sources by number: who unpacks must know them in this order."""
        self._numbers: Dict[ProcInfo, int] = {}

    def pack(self, chunks: Sequence[Chunk]) -> List[bytes]:
        """The parts, to be written one behind the other. The lines are not copied."""
        parts: List[bytes] = [_COUNT.pack(len(chunks))]
        marks: List[bytes] = []
        for chunk in chunks:
            info = self._numbers.get(chunk.info)
            if info is None:
                info = self._numbers[chunk.info] = len(self.infos)
                self.infos.append(chunk.info)
            header = (
                info, chunk.target, chunk.cell, chunk.count, chunk.first_line, len(chunk.data),
                chunk.wall, chunk.mono, len(chunk.marks),
            )  # fmt: skip
            parts.append(_CHUNK.pack(*header))
            marks += [_MARK.pack(mark.index, mark.flags, mark.true_bytes) for mark in chunk.marks]
        return [b"".join(parts + marks), *[chunk.data for chunk in chunks]]

    def heads(self, packed: memoryview, first_row: int) -> Tuple[List[ChunkHead], int]:
        """The heads of chunks, the first beginning with a row, and where the lines begin."""
        infos = self.infos
        (count,) = _COUNT.unpack_from(packed)
        marks_at = _COUNT.size + _CHUNK.size * count
        heads: List[ChunkHead] = []
        for header in _CHUNK.iter_unpack(packed[_COUNT.size : marks_at]):
            info, target, cell, lines, first_line, size, wall, mono, mark_count = header
            marks: Tuple[LineMark, ...] = ()
            if mark_count:
                marks_end = marks_at + mark_count * _MARK.size
                marks = tuple(
                    LineMark(index, LineFlag(flags), true_bytes)
                    for index, flags, true_bytes in _MARK.iter_unpack(packed[marks_at:marks_end])
                )
                marks_at = marks_end
            head = ChunkHead(
                infos[info], _TARGETS[target], cell, first_row, first_line, lines, wall, mono, size,
                marks,
            )  # fmt: skip
            heads.append(head)
            first_row += lines
        return heads, marks_at

    def unpack(self, packed: memoryview, first_row: int) -> List[Chunk]:
        """The chunks, the first beginning with a row."""
        heads, position = self.heads(packed, first_row)
        chunks: List[Chunk] = []
        for head in heads:
            data = bytes(packed[position : position + head.size])
            chunk = Chunk(
                head.info, head.target, head.cell, head.first_row, head.first_line, head.count,
                head.wall, head.mono, data, head.marks,
            )  # fmt: skip
            chunks.append(chunk)
            position += head.size
        return chunks
