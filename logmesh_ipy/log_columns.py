r"""Chunks of the store to Arrow columns, in bulk; and what only a line itself can tell.

A :class:`LineBlock` holds the lines of some chunks side by side. One call of Arrow's C++ library
splits them, decodes them, searches them, outside the interpreter lock; what the lines of a chunk
have in common is one value per chunk, repeated by ``take``. No loop here runs per line, but for
the levels of those lines that may state one and differ in more than digits.

This module imports pyarrow, for ``log_search`` too; ``logs`` imports both when a selection is
read.
"""

from __future__ import annotations

import codecs
import functools
import re
import struct
from itertools import accumulate
from types import MappingProxyType
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .errors import OptionError
from .levels import level_keys, level_of
from .lines import LineFlag, LineMark
from .log_filter import UNSTATED_LEVEL, LogFilter, TextPattern
from .store import ChunkHead, ChunkRun, Row

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
    "SCHEMA", "LineBlock", "Names", "check_regex", "level_signs", "levels_of", "literal_regex",
    "pa", "pc", "reader_of", "table_of", "texts_of",
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
_OFFSET = struct.Struct("=q")

# Every line whose level is known has one of the signs of that level: a word in any case ("err"
# and "warn" stand in the names of exceptions), a letter as glog and others put it, or a number; or
# it has an escape sequence, which may stand in the middle of a word.
_SIGN_OF_LETTER = r'|{0}\d{{4}} \d\d:|[:\d] {0} |\[{0} |{0}/|"s": ?"{0}|{0}: '
_SIGN_OF_NUMBER = (
    r"|<\d|(?:level|severity|levelno|severityNumber|(?i:priority))" + r'"?\s{0,4}[:=]\s{0,4}"?\d'
)
_SIGN_WORDS = (
    (10, "[DV]", "trace|trac|trce|debu|dbug|fine|verbose"),
    (20, "I", "info|notice|note"),
    (30, "W", "warn"),
    (40, "E", "err|eror|exception|traceback|systemexit|severe|fail|caused by|uncaught|panicked"),
    (50, "F", "crit|fata|pani|alert|emerg|segmentation|bus error|abort|floating|terminate called"),
)
_LEVEL_SIGNS: Mapping[int, str] = MappingProxyType(
    {
        level: f"(?i:{words})" + _SIGN_OF_LETTER.format(letter) + _SIGN_OF_NUMBER
        for level, letter, words in _SIGN_WORDS
    }
)
_ANY_SIGN = "|".join([*_LEVEL_SIGNS.values(), r"\x1b"])
_HEAD_BYTES = 256  # what level_of looks at
_HEADS = 4096
_DECODE_BYTES = 16 << 10
_MAX_LITERAL_CHARS = 500
_SPECIAL = re.compile(r"[^0-9A-Za-z_\x80-\U0010ffff]")
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

    __slots__ = ("_levels", "_place", "_raw", "_starts", "chunks", "text")

    def __init__(self, chunks: Sequence[ChunkHead], texts: pa.Array) -> None:
        """``texts``: of each chunk, see :func:`texts_of`; as large_string if all is UTF-8."""
        self.chunks: Tuple[ChunkHead, ...] = tuple(chunks)
        """At least one."""
        starts = list(accumulate([chunk.count for chunk in self.chunks], initial=0))
        self._place = pa.arange(0, starts.pop())
        self._starts = starts
        self._levels: Optional[pa.Array] = None
        whole = _joined(texts)
        self._raw: Optional[pa.Array] = None
        if whole.type == pa.large_binary():
            self._raw = _split(whole)
            whole = _escaped(whole)
        self.text: pa.Array = _split(whole)
        """The lines as text: bytes that are not UTF-8 read ``\\xNN``."""

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
            if len(block):
                block = block.keep(_search(block.text, pattern))
        return block.of_level(wanted.level) if wanted.level and len(block) else block

    def of_level(self, least: int) -> LineBlock:
        """The lines of that level or more; only those are looked at that may decide it."""
        if least > UNSTATED_LEVEL:
            block = self.keep(pc.match_substring_regex(self.text, pattern=level_signs(least)))
            return block.keep(pc.fill_null(pc.greater_equal(block.levels(), least), False))
        lower = [signs for level, signs in _LEVEL_SIGNS.items() if level < least]
        if not lower:
            return self
        may = pc.match_substring_regex(self.text, pattern="|".join([*lower, r"\x1b"]))
        levels = levels_of(self.raw.filter(may))
        stays = pc.fill_null(pc.greater_equal(levels, least), True)
        return self.keep(pc.replace_with_mask(pc.invert(may), may, stays))

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

    def lines(self) -> Iterator[Tuple[ChunkHead, int, bytes]]:
        """Each line as (its chunk, its number within the chunk, its bytes)."""
        chunks, starts = self.chunks, self._starts
        for number, place, text in zip(
            self._chunk_of().to_pylist(), self._place.to_pylist(), self.raw.to_pylist(), strict=True
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
        return {self.chunks[number].info.rank for number in self._chunk_of().unique().to_pylist()}

    def with_levels(self) -> LineBlock:
        """These lines, with their levels found now rather than when they are asked for."""
        self.levels()
        return self

    def levels(self) -> pa.Array:
        """See :func:`levels_of`; they are looked for once."""
        if self._levels is None:
            self._levels = levels_of(self.raw)
        return self._levels

    def _cut(self, cut: Callable[[pa.Array], pa.Array]) -> LineBlock:
        made = object.__new__(LineBlock)
        made.chunks = self.chunks
        made._starts = self._starts
        made._place = cut(self._place)
        made._levels = None if self._levels is None else cut(self._levels)
        made._raw = None if self._raw is None else cut(self._raw)
        made.text = cut(self.text)
        return made

    def _chunk_of(self) -> pa.Array:
        """The number of each line's chunk."""
        ends = [start + c.count for start, c in zip(self._starts, self.chunks, strict=True)]
        runs = pa.RunEndEncodedArray.from_arrays(
            pa.array(ends, pa.int32()), pa.arange(0, len(ends)).cast(pa.int32())
        )
        every = pc.run_end_decode(runs)
        return every if len(self) == len(every) else every.take(self._place)

    def _each(self, values: List[int], kind: pa.DataType) -> pa.Array:
        """One value per chunk, as one per line."""
        return pa.array(values, kind).take(self._chunk_of())

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
    may = pc.match_substring_regex(lines, pattern=_ANY_SIGN)
    heads = pc.binary_slice(lines.filter(may), 0, _HEAD_BYTES)
    levels: List[Optional[int]] = []
    for start in range(0, len(heads), _HEADS):  # the interpreter lock is held for some at a time
        some = heads.slice(start, _HEADS).to_pylist()
        # Digits do not change a level: lines that differ in nothing else are looked at once.
        levels += map(_level_of, level_keys(b"\n".join(some) + b"\n"))
    return pc.replace_with_mask(unstated, may, pa.array(levels, pa.int8())) if levels else unstated


def level_signs(least: int) -> str:
    """A regular expression that is found in each line whose level is at least that."""
    signs = [signs for level, signs in _LEVEL_SIGNS.items() if level >= least]
    return "|".join([*signs, r"\x1b"])


def literal_regex(text: str) -> str:
    """A regular expression for a text, or for the beginning of a long one."""
    return _SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", text[:_MAX_LITERAL_CHARS])


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


def texts_of(run: ChunkRun) -> pa.Array:
    """The lines of each chunk, each closed by a newline, as one large_binary; none is copied."""
    ends = list(accumulate([head.size for head in run.heads], initial=0))
    offsets = pa.py_buffer(struct.pack(f"={len(ends)}q", *ends))
    buffers = [None, offsets, pa.py_buffer(run.data)]
    return pa.Array.from_buffers(pa.large_binary(), len(run.heads), buffers)


def _joined(texts: pa.Array) -> pa.Array:
    """All texts as one, without the last newline; nothing is copied."""
    _, offsets, data = texts.buffers()
    (start,) = _OFFSET.unpack_from(offsets, _OFFSET.size * texts.offset)
    (end,) = _OFFSET.unpack_from(offsets, _OFFSET.size * (texts.offset + len(texts)))
    return _one(texts.type, data, start, end - 1)


def _one(kind: pa.DataType, data: pa.Buffer, start: int, end: int) -> pa.Array:
    """What lies there as the only element of an array."""
    return pa.Array.from_buffers(
        kind, 1, [None, pa.py_buffer(struct.pack("=2q", start, end)), data]
    )


def _split(whole: pa.Array) -> pa.Array:
    """The lines of what is the only element of an array."""
    return pc.split_pattern(whole, pattern=b"\n").flatten()


def _search(lines: pa.Array, pattern: TextPattern) -> pa.Array:
    """Whether each line (large_string) has the text or a match."""
    if pattern.regex:
        return pc.match_substring_regex(lines, pattern=pattern.text)
    if len(pattern.text) > _MAX_LITERAL_CHARS:
        return pc.match_substring(lines, pattern=pattern.text)
    # RE2 finds a plain text several times as fast as Arrow's own search for it.
    return pc.match_substring_regex(lines, pattern=literal_regex(pattern.text))


def _escaped(whole: pa.Array) -> pa.Array:
    r"""As text, with ``\xNN`` for each byte that is not UTF-8.

    A piece at a time, since this is slow and holds the interpreter lock.
    """
    data = memoryview(whole[0].as_buffer())
    decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
    pieces = [
        decode(bytes(data[at : at + _DECODE_BYTES])).encode()
        for at in range(0, len(data), _DECODE_BYTES)
    ]
    text = b"".join([*pieces, decode(b"", final=True).encode()])
    return _one(pa.large_string(), pa.py_buffer(text), 0, len(text))
