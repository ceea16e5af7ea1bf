"""Blocks: where the store's chunks are, in memory or in its file, and which have to leave memory.

    filled --full--> full --written--> in memory and in the file --memory is short--> in the file

A block is some megabytes of chunks side by side. Rows are found by its first one, so the index
stays small however many lines there are. A block that is in neither place any more is lost:
somebody has cut the file.

Called by the store, under its lock.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Iterator, List, Optional, Sequence, Tuple

from .chunks import Chunk, ChunkRun, head_of
from .segments import chunks_of, run_of
from .store_writer import StoreWriter

__all__ = ["Block", "Blocks"]

_BLOCK_BYTES = 4 << 20
_BLOCK_CHUNKS = 4096
_SEGMENT_BYTES = 1 << 20


@dataclass(slots=True)
class Block:
    """Chunks side by side; the first ``written`` are in the file too, at (offset, size)."""

    first_row: int
    bytes: int = 0
    chunks: Optional[List[Chunk]] = field(default_factory=list)
    written: int = 0
    place: Optional[Tuple[int, int]] = None

    @property
    def unwritten(self) -> Sequence[Chunk]:
        """What is in memory only."""
        return () if self.chunks is None else self.chunks[self.written :]

    @property
    def next_unwritten(self) -> Sequence[Chunk]:
        """As much of that as is written at once: a crash, or a full disk, costs no more."""
        found = self.unwritten
        ends = accumulate(len(chunk.data) for chunk in found)
        return found[: 1 + sum(1 for end in takewhile(_SEGMENT_BYTES.__gt__, ends))]


class Blocks:
    """All chunks of a store from row ``first_row`` on. ``in_memory``: bytes of those in memory.

    ``end_row``: the row behind the last. ``lost_rows``: how many are lost.
    """

    def __init__(self, writer: StoreWriter, memory_bytes: int, first_row: int = 0) -> None:
        self.memory_bytes = memory_bytes
        self.first_row = first_row
        self.in_memory = 0
        self.end_row = first_row
        self.lost_rows = 0
        self._writer = writer
        self._blocks: List[Block] = [Block(first_row)]
        self._oldest_in_memory = 0
        self._oldest_unwritten = 0
        self._unpacked: Tuple[int, List[Chunk]] = (-1, [])

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def add(self, chunk: Chunk, size: int) -> bool:
        """The next chunk, which takes ``size`` bytes of memory; whether its block is full now."""
        block = self._blocks[-1]
        assert block.chunks is not None
        block.chunks.append(chunk)
        block.bytes += size
        self.in_memory += size
        self.end_row = chunk.first_row + chunk.count
        if block.bytes < _BLOCK_BYTES and len(block.chunks) < _BLOCK_CHUNKS:
            return False
        self._blocks.append(Block(self.end_row))
        self._leave_memory()
        return True

    # --- writing ------------------------------------------------------------------------------

    def next_unwritten(self, *, ahead: bool) -> Tuple[Optional[Block], bool]:
        """The oldest block with chunks to be written, and whether it is the one being filled.

        All are to be written ``ahead`` of need; else full ones, while memory is short.
        """
        for number in range(self._oldest_unwritten, len(self._blocks)):
            is_last = number == len(self._blocks) - 1
            if not ahead and (is_last or self.in_memory <= self.memory_bytes):
                break
            self._oldest_unwritten = number
            if self._blocks[number].unwritten:
                return self._blocks[number], is_last
        return None, ahead

    def written(self, block: Block, count: int, place: Tuple[int, int]) -> None:
        """So many more chunks of it are at a place in the file, behind those written before."""
        block.written += count
        first = place[0] if block.place is None else block.place[0]
        block.place = (first, sum(place) - first)
        self._leave_memory()

    def file_shrunk(self, size: int) -> int:
        """Nothing is left behind ``size``: what is in memory is to be written again.

        Gives the end of what is still of use.
        """
        kept = 0
        for number, block in enumerate(self._blocks):
            if block.place is None:
                continue
            end = sum(block.place)
            if end <= size:
                kept = end
                continue
            block.place, block.written = None, 0
            if block.chunks is None:
                self.lost_rows += self._blocks[number + 1].first_row - block.first_row
            else:
                self._oldest_unwritten = min(self._oldest_unwritten, number)
        self._unpacked = (-1, [])
        return kept

    @property
    def saved(self) -> bool:
        """Whether all is in the file."""
        return self._oldest_unwritten >= len(self._blocks) - 1 and not self._blocks[-1].unwritten

    @property
    def unwritten_rows(self) -> int:
        """Rows that are in memory only."""
        for block in self._blocks[self._oldest_unwritten :]:
            if block.unwritten:
                return self.end_row - block.unwritten[0].first_row
        return 0

    def _leave_memory(self) -> None:
        """Full blocks that are written, the oldest first, until memory is within its bound."""
        while self.in_memory > self.memory_bytes and self._oldest_in_memory < len(self._blocks) - 1:
            block = self._blocks[self._oldest_in_memory]
            if block.unwritten:
                return
            if block.chunks is not None:
                block.chunks = None
                self.in_memory -= block.bytes
            self._oldest_in_memory += 1

    # --- reading ------------------------------------------------------------------------------

    def chunks(self, first_row: int) -> Iterator[Chunk]:
        """Those of the block that holds a row, and of all behind it, but what is lost."""
        for block in self._from(first_row):
            yield from self._chunks(block)

    def run(self, first_row: int, max_rows: int) -> ChunkRun:
        """Chunks side by side, of one block, from that with the row on; none if there is none.

        Behind what is lost they are the next there are.
        """
        for block in self._from(first_row):
            end_row = max(first_row, block.first_row) + max_rows
            if block.chunks is not None:
                chunks = [c for c in block.chunks if c.first_row + c.count > first_row]
                chunks = [c for c in chunks if c.first_row < end_row]
                data = b"".join([chunk.data for chunk in chunks])
                return ChunkRun([head_of(chunk) for chunk in chunks], data)
            packed = self._packed(block)
            if packed is not None:
                return run_of(self._writer.packer, packed, first_row, end_row)
        return ChunkRun([], b"")

    def _from(self, first_row: int) -> List[Block]:
        return self._blocks[max(0, bisect_right(self._blocks, first_row, key=_first_row) - 1) :]

    def _chunks(self, block: Block) -> List[Chunk]:
        if block.chunks is not None:
            return block.chunks
        if self._unpacked[0] == block.first_row:
            return self._unpacked[1]
        packed = self._packed(block)
        if packed is None:
            return []
        self._unpacked = (block.first_row, chunks_of(self._writer.packer, packed))
        return self._unpacked[1]

    def _packed(self, block: Block) -> Optional[memoryview]:
        """The segments of a block; None where the file has them no more."""
        if block.place is None:
            return None
        try:
            return memoryview(self._writer.file.read(*block.place))
        except OSError:
            self._writer.suspect()
            return None


def _first_row(block: Block) -> int:
    return block.first_row
