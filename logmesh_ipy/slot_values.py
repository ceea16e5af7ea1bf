"""What stands in the slots of a group: ranges of numbers, distinct texts, and whose they are.

Nothing is kept while lines arrive, so a storm costs nothing for it: whoever shows a group has its
lines read again from the store. That is bounded in time; the result tells how many lines it is
made of.

    step <#>: loss <#> on <*>      step 1 (rank 3) .. 50 .. 99 (rank 0)
"""

from __future__ import annotations

import math
import re
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .grouping import SlotKind, Template
from .model import OutputTarget, fold_ranks
from .sanitize import to_text
from .store import Chunk, LogStore
from .template_table import settled

__all__ = ["GroupKey", "GroupValues", "NumberSlot", "TextSlot", "slot_values"]

TOP_TEXTS = 5
_READ_ROWS = 5_000
_READ_BYTES = 256 << 10
_MAX_TEXT = 1000
_LEAST_LINES = 2000  # are always looked at: a few milliseconds
_MAX_READINGS = 3
_MAX_DISTINCT = 10_000
_MAX_NUMBERS = 1 << 20
_CUT_CHARACTER = re.compile(
    rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)
_TAIL_CHARS = 80
_WORD = re.compile(r"[^\W\d][\w.-]{0,40}")
_NO_NAMES = {
    "a", "an", "and", "are", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to",
    "was", "were", "with",
}  # fmt: skip


class GroupKey(NamedTuple):
    """Which lines: of one template, stream kind and job; of one cell, or (None) of all."""

    template_id: int
    target: OutputTarget
    job: str
    cell: Optional[int]


@dataclass(frozen=True, slots=True)
class NumberSlot:
    """``name`` is the word in front of the slot, ``#2`` for the second slot where there is none."""

    name: str
    count: int
    least: float
    least_rank: int
    median: float
    most: float
    most_rank: int


@dataclass(frozen=True, slots=True)
class TextSlot:
    """``top``: the most frequent values as (text, count, folded ranks); ``distinct`` of how many.

    ``distinct`` stops counting at ten thousand. Texts are cut to 1,000 bytes.
    """

    name: str
    distinct: int
    top: Tuple[Tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class GroupValues:
    """Of ``lines`` lines of a group; ``whole``: these are all that were asked for.

    One slot for each of the template, in order; none where no line was seen that fits it.
    """

    lines: int
    whole: bool
    slots: Tuple[Union[NumberSlot, TextSlot], ...]


class _Numbers:
    """The numbers of one slot."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.least = self.most = math.nan
        self.least_rank = self.most_rank = 0
        self._kept = array("d")
        self._every = 1

    def add(self, texts: Sequence[bytes], rank: int) -> None:
        # 1e999 is a number, but none that can be compared.
        numbers = list(filter(math.isfinite, map(float, texts)))
        if not numbers:
            return
        least, most = min(numbers), max(numbers)
        if not self.count or least < self.least:
            self.least, self.least_rank = least, rank
        if not self.count or most > self.most:
            self.most, self.most_rank = most, rank
        self.count += len(numbers)
        self._kept.extend(numbers[:: self._every])
        if len(self._kept) > _MAX_NUMBERS:  # the median of every second one is as good
            self._kept = self._kept[::2]
            self._every *= 2

    def slot(self) -> Union[NumberSlot, TextSlot]:
        if not self.count:
            return TextSlot(self.name, 0, ())
        return NumberSlot(
            self.name, self.count, self.least, self.least_rank, median(self._kept), self.most,
            self.most_rank,
        )  # fmt: skip


class _Texts:
    """The texts of one slot."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts: Counter[bytes] = Counter()
        self._ranks: Dict[bytes, Set[int]] = {}

    def add(self, texts: Sequence[bytes], rank: int) -> None:
        for text, count in Counter([text[:_MAX_TEXT] for text in texts]).items():
            ranks = self._ranks.get(text)
            if ranks is None:
                if len(self._ranks) >= _MAX_DISTINCT:
                    continue
                ranks = self._ranks[text] = set()
            ranks.add(rank)
            self._counts[text] += count

    def slot(self) -> TextSlot:
        top = tuple(
            (_decoded(text), count, fold_ranks(self._ranks[text]))
            for text, count in self._counts.most_common(TOP_TEXTS)
        )
        return TextSlot(self.name, len(self._counts), top)


def _decoded(text: bytes) -> str:
    if len(text) == _MAX_TEXT:
        text = _CUT_CHARACTER.sub(b"", text)
    return text.decode("utf-8", "backslashreplace")


class _Collected:
    """What has been seen of one group."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._slots: List[Union[_Numbers, _Texts]] = [
            (_Numbers if kind is SlotKind.NUMBER else _Texts)(_slot_name(piece, number))
            for number, (piece, kind) in enumerate(
                zip(template.pieces, template.kinds, strict=False), 1
            )
        ]
        self.lines = 0
        self._fitting = 0

    def add(self, lines: Sequence[bytes], rank: int) -> None:
        self.lines += len(lines)
        fitting = [found for found in map(self._template.values, lines) if found is not None]
        self._fitting += len(fitting)
        for slot, texts in zip(self._slots, zip(*fitting, strict=True), strict=False):
            slot.add(texts, rank)

    def values(self, *, whole: bool) -> GroupValues:
        slots = tuple(slot.slot() for slot in self._slots) if self._fitting else ()
        return GroupValues(self.lines, whole, slots)


def slot_values(
    store: LogStore, wanted: Sequence[GroupKey], first_row: int, end_row: int, most_sec: float
) -> List[GroupValues]:
    """The values of groups among some rows; stops when it has computed for ``most_sec``.

    In the order of ``wanted``. Any thread.
    """
    deadline = time.thread_time() + most_sec
    end_row = min(end_row, store.rows)
    left = _MAX_READINGS
    while True:
        left -= 1
        reading = _Reading(store, wanted)
        whole = reading.read(first_row, end_row, deadline)
        if not reading.changed:
            return reading.values(whole=whole)
        if not left or time.thread_time() >= deadline:
            # Lines may be missing that have become part of a group while it was read.
            return reading.values(whole=False)


class _Reading:
    """One pass over rows, for the values of groups as they are when it is made."""

    def __init__(self, store: LogStore, wanted: Sequence[GroupKey]) -> None:
        self._store = store
        self._table = store.templates
        self._revision = self._table.revision
        self._root_of = self._table.roots({key.template_id for key in wanted})
        templates = self._table.templates(set(self._root_of.values()))
        self._wanted = [
            (key, _Collected(templates[root]) if root in templates else None)
            for key in wanted
            for root in [self._root_of[key.template_id]]
        ]
        self._looked_at = 0

    @property
    def changed(self) -> bool:
        """Whether one of the groups has become another since, or part of another."""
        if self._table.revision == self._revision:
            return False
        changed = self._table.changes(self._revision)
        return changed is None or not changed.isdisjoint(self._root_of)

    def values(self, *, whole: bool) -> List[GroupValues]:
        """Of each group what was read; ``whole``: this was all of it."""
        none = GroupValues(0, whole, ())
        return [none if found is None else found.values(whole=whole) for _, found in self._wanted]

    def read(self, first_row: int, end_row: int, deadline: float) -> bool:
        """Whether all rows could be read before the deadline (of this thread's CPU time)."""
        while first_row < end_row:
            rows = min(_READ_ROWS, end_row - first_row)
            chunks = self._store.read(first_row, rows, _READ_BYTES)
            if not chunks:
                return False  # closed meanwhile
            for chunk in chunks:
                if not self._collect(chunk, first_row, end_row, deadline):
                    return False
                first_row = chunk.first_row + chunk.count
        return True

    def _collect(self, chunk: Chunk, first_row: int, end_row: int, deadline: float) -> bool:
        """Sort a chunk's lines by group, as far as anyone asks for them, some at a time."""
        asked: Dict[int, List[_Collected]] = {}
        for key, found in self._wanted:
            here = (key.target, key.job) == (chunk.target, chunk.info.job)
            if found is not None and here and key.cell in (None, chunk.cell):
                asked.setdefault(self._root_of[key.template_id], []).append(found)
        start = max(0, first_row - chunk.first_row)
        stop = min(chunk.count, end_row - chunk.first_row)
        if not asked:
            self._looked_at += stop - start
            return self._in_time(deadline)
        ids = self._table.ids(chunk.data)
        roots = self._table.roots(set(ids))
        lines = settled(chunk.data).split(b"\n")
        for at in range(start, stop, _LEAST_LINES):
            if not self._in_time(deadline):
                return False
            last = min(stop, at + _LEAST_LINES)
            self._looked_at += last - at
            by_id: Dict[int, List[bytes]] = {}
            for number, line in zip(ids[at:last], lines[at:last], strict=True):
                by_id.setdefault(number, []).append(line)
            for number, some in by_id.items():
                for found in asked.get(roots[number], ()):
                    found.add(some, chunk.info.rank)
        return True

    def _in_time(self, deadline: float) -> bool:
        return self._looked_at < _LEAST_LINES or time.thread_time() < deadline


def _slot_name(piece: bytes, number: int) -> str:
    """The word in front of a slot. The page names slots in the same way."""
    words = _WORD.findall(to_text(piece)[-_TAIL_CHARS:])
    names = [word for word in words if word.lower() not in _NO_NAMES] or words
    return names[-1] if names else f"#{number}"
