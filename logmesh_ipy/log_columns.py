r"""Chunks of the store to Arrow columns, in bulk; and what only a line itself can tell.

A :class:`LineBlock` holds the lines of some chunks side by side. One call of Arrow's C++ library
splits them, decodes them, searches them, outside the interpreter lock; what the lines of a chunk
have in common is one value per chunk, repeated by ``take``. No loop here runs per line, but for
the levels of those lines that may state one and differ in more than digits.

This module imports pyarrow; ``logs`` imports this module when a selection is read.
"""

from __future__ import annotations

import functools
import struct
from itertools import accumulate
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from .errors import OptionError
from .lines import LineFlag, LineMark
from .log_filter import UNSTATED_LEVEL, LogFilter
from .patterns import level_of, mask
from .store import Chunk, Row

try:
    import pyarrow as pa
    import pyarrow.compute as pc
except ModuleNotFoundError as error:
    if error.name != "pyarrow":
        raise
    raise ModuleNotFoundError(
        "logs as data need pyarrow: pip install pyarrow", name="pyarrow"
    ) from None

__all__ = [
    "SCHEMA", "LineBlock", "Names", "check_regex", "levels_of", "reader_of", "table_of",
]  # fmt: skip

_NAME = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        pa.field("row", pa.uint64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("cell", pa.int32(), nullable=False),
        pa.field("host", _NAME, nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("job", _NAME, nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
        pa.field("stream", _NAME, nullable=False),
        pa.field("level", pa.int8()),
        pa.field("seq", pa.uint64(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("true_bytes", pa.uint64(), nullable=False),
    ]
)
"""The columns of all tables of lines; ``logs.Logs`` tells what they mean."""

_STREAMS = pa.array(["stdout", "stderr"], pa.string())
_OFFSETS = struct.Struct("=qq")

# Every line whose level is known has one of these, in any case: the words (of which "err" and
# "warn" stand in the names of exceptions), the signs of glog and TensorFlow, or an escape
# sequence, which may stand in the middle of a word.
_MAY_STATE = (
    r"(?i:trace|debug|info|notice|warn|err|exception|crit|fatal|panic|systemexit)"
    r"|\x1b|[IWEF]\d{4} \d\d:|: [IWEF] "
)
_HEAD_BYTES = 256  # what level_of looks at
_level_of = functools.lru_cache(maxsize=10_000)(level_of)


class Names:
    """Names that occur again and again, numbered in the order in which they came up."""

    def __init__(self) -> None:
        self._numbers: Dict[str, int] = {}

    def number(self, name: str) -> int:
        """The name's number."""
        return self._numbers.setdefault(name, len(self._numbers))

    def array(self) -> pa.Array:
        """The names by number, so far."""
        return pa.array(list(self._numbers), pa.string())


class LineBlock:
    """The lines of some chunks, or those of them that were kept. Immutable."""

    __slots__ = ("_chunk_of", "_place", "_raw", "_starts", "chunks", "text")

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks: Tuple[Chunk, ...] = tuple(chunks)
        """At least one."""
        ends = list(accumulate(chunk.count for chunk in self.chunks))
        self._starts = [0, *ends[:-1]]
        runs = pa.RunEndEncodedArray.from_arrays(
            pa.array(ends, pa.int32()), pa.arange(0, len(ends)).cast(pa.int32())
        )
        self._chunk_of = pc.run_end_decode(runs)
        self._place = pa.arange(0, ends[-1])
        data = b"".join([chunk.data for chunk in self.chunks])
        lines = _split(data)
        self._raw: Optional[pa.Array] = None
        try:
            self.text: pa.Array = lines.cast(pa.large_string())
            """The lines as text: bytes that are not UTF-8 read ``\\xNN``."""
        except pa.ArrowInvalid:
            self._raw = lines
            # A newline is never within a character, so all lines can be decoded as one.
            escaped = data.decode("utf-8", "backslashreplace").encode()
            self.text = _split(escaped).cast(pa.large_string())

    def __len__(self) -> int:
        return len(self.text)

    @property
    def raw(self) -> pa.Array:
        """The lines as they were written."""
        return self.text.cast(pa.large_binary()) if self._raw is None else self._raw

    @property
    def row(self) -> pa.Array:
        """Each line's number among all lines of the store."""
        bases = [c.first_row - start for c, start in zip(self.chunks, self._starts, strict=True)]
        return pc.add(self._place, self._each(bases, pa.int64()))

    def keep(self, chosen: pa.Array) -> LineBlock:
        """The lines for which ``chosen`` is true."""
        return self if pc.all(chosen).as_py() else self._cut(lambda of: of.filter(chosen))

    def last(self, count: int) -> LineBlock:
        """At most ``count`` lines from the end."""
        return self._cut(lambda of: of.slice(max(0, len(of) - count)))

    def meeting(self, wanted: LogFilter, first_row: int, end_row: int) -> LineBlock:
        """Those from ``first_row`` to below ``end_row`` that have the level and texts wanted."""
        block = self
        first, last = self.chunks[0], self.chunks[-1]
        if first.first_row < first_row or last.first_row + last.count > end_row:
            row = self.row
            block = block.keep(pc.and_(pc.greater_equal(row, first_row), pc.less(row, end_row)))
        for pattern in wanted.patterns:
            search = pc.match_substring_regex if pattern.regex else pc.match_substring
            block = block.keep(search(block.text, pattern=pattern.text))
        if wanted.level:
            levels = pc.fill_null(block.levels(), UNSTATED_LEVEL)
            block = block.keep(pc.greater_equal(levels, wanted.level))
        return block

    def batch(self, hosts: Names, jobs: Names) -> pa.RecordBatch:
        """The lines in the columns of ``SCHEMA``; the names gather in ``hosts`` and ``jobs``."""
        chunks = self.chunks
        infos = [chunk.info for chunk in chunks]
        firsts = [c.first_line - start for c, start in zip(chunks, self._starts, strict=True)]
        host = self._each([hosts.number(info.hostname) for info in infos], pa.int32())
        job = self._each([jobs.number(info.job) for info in infos], pa.int32())
        stream = self._each([chunk.target - 1 for chunk in chunks], pa.int32())
        raw = self.raw
        truncated, true_bytes = self._lengths(raw)
        columns = [
            self.row.cast(pa.uint64()),
            self._each([round(chunk.wall * 1e6) for chunk in chunks], SCHEMA.field("time").type),
            self._each([chunk.cell for chunk in chunks], pa.int32()),
            pa.DictionaryArray.from_arrays(host, hosts.array()),
            self._each([info.rank for info in infos], pa.int32()),
            pa.DictionaryArray.from_arrays(job, jobs.array()),
            self._each([info.pid for info in infos], pa.int64()),
            pa.DictionaryArray.from_arrays(stream, _STREAMS),
            self.levels(),
            pc.add(self._place, self._each(firsts, pa.int64())).cast(pa.uint64()),
            self.text,
            truncated,
            true_bytes,
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def lines(self) -> Iterator[Tuple[Chunk, int, bytes]]:
        """Each line as (its chunk, its number within the chunk, its bytes)."""
        chunks, starts = self.chunks, self._starts
        for number, place, text in zip(
            self._chunk_of.to_pylist(), self._place.to_pylist(), self.raw.to_pylist(), strict=True
        ):
            yield chunks[number], place - starts[number], text

    def rows(self) -> Iterator[Row]:
        """Each line as the store's :class:`Row`."""
        marks = self._marks()
        for place, (chunk, index, text) in zip(self._place.to_pylist(), self.lines(), strict=True):
            mark = marks.get(place)
            yield Row(
                chunk.first_row + index, chunk.info, chunk.target, chunk.cell,
                chunk.first_line + index, chunk.wall, text, mark.flags if mark else LineFlag(0),
                mark.true_bytes if mark else len(text),
            )  # fmt: skip

    def ranks(self) -> Set[int]:
        """Whose lines these are."""
        return {self.chunks[number].info.rank for number in self._chunk_of.unique().to_pylist()}

    def levels(self) -> pa.Array:
        """See :func:`levels_of`."""
        return levels_of(self.raw)

    def _cut(self, cut: Callable[[pa.Array], pa.Array]) -> LineBlock:
        made = object.__new__(LineBlock)
        made.chunks = self.chunks
        made._starts = self._starts
        made._chunk_of = cut(self._chunk_of)
        made._place = cut(self._place)
        made._raw = None if self._raw is None else cut(self._raw)
        made.text = cut(self.text)
        return made

    def _each(self, values: List[int], kind: pa.DataType) -> pa.Array:
        """One value per chunk, as one per line."""
        return pa.array(values, kind).take(self._chunk_of)

    def _marks(self) -> Dict[int, LineMark]:
        """The special lines by their place among all lines of the chunks."""
        return {
            start + mark.index: mark
            for chunk, start in zip(self.chunks, self._starts, strict=True)
            for mark in chunk.marks
        }

    def _lengths(self, raw: pa.Array) -> Tuple[pa.Array, pa.Array]:
        """(whether cut, bytes before it was cut) of each line."""
        kept = pc.binary_length(raw).cast(pa.uint64())
        marks = self._marks()
        if not marks:
            return pa.repeat(False, len(raw)), kept
        at = pc.index_in(self._place, value_set=pa.array(list(marks), pa.int64()))
        cut = pa.array([bool(mark.flags & LineFlag.TRUNCATED) for mark in marks.values()])
        true = pa.array([mark.true_bytes for mark in marks.values()], pa.uint64())
        return pc.fill_null(cut.take(at), False), pc.coalesce(true.take(at), kept)


def levels_of(lines: pa.Array) -> pa.Array:
    """``level_of`` each line (large_binary), as int8; null where it states none."""
    unstated = pa.nulls(len(lines), pa.int8())
    may = pc.match_substring_regex(lines, pattern=_MAY_STATE)
    heads = pc.binary_slice(lines.filter(may), 0, _HEAD_BYTES).to_pylist()
    if not heads:
        return unstated
    # Digits do not change a level: lines that differ in nothing else are looked at once.
    masked = mask(b"\n".join(heads) + b"\n")
    return pc.replace_with_mask(unstated, may, pa.array(map(_level_of, masked), pa.int8()))


def table_of(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """The batches as one table."""
    return pa.Table.from_batches(batches, SCHEMA).unify_dictionaries()


def reader_of(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """The batches as a stream that takes them one by one."""
    return pa.RecordBatchReader.from_batches(SCHEMA, batches)


def check_regex(pattern: str) -> None:
    """Raises OptionError for what RE2 does not take as a regular expression."""
    try:
        pc.match_substring_regex(pa.array([""], pa.large_string()), pattern=pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).partition("Invalid regular expression: ")[2] or str(error)
        raise OptionError(
            f"matches is {pattern!r:.80}; it must be a regular expression as RE2 has them (no "
            f"look-around, no backreferences): {reason}"
        ) from None


def _split(data: bytes) -> pa.Array:
    r"""The lines of ``data``, each closed by ``\n``, as large_binary."""
    bounds = pa.py_buffer(_OFFSETS.pack(0, len(data) - 1))
    whole = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, bounds, pa.py_buffer(data)]
    )
    return pc.split_pattern(whole, pattern=b"\n").flatten()
