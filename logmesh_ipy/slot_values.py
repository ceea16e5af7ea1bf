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
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .grouping import SlotKind, Template
from .model import OutputTarget, fold_ranks
from .store import Chunk, LogStore
from .template_table import settled

__all__ = ["GroupKey", "GroupValues", "NumberSlot", "TextSlot", "slot_values"]

TOP_TEXTS = 5
_READ_ROWS = 5_000
_READ_BYTES = 256 << 10
_MAX_TEXT = 1000
_LEAST_LINES = 2000  # are always looked at: a few milliseconds
_MAX_DISTINCT = 10_000
_MAX_NUMBERS = 1 << 20
_TAIL_BYTES = 80
_WORD = re.compile(rb"[A-Za-z_][\w.-]{0,40}")
_NO_NAMES = frozenset(b"a an and are at by for from in is of on or the to was were with".split())


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
        numbers = list(map(float, texts))
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

    def slot(self) -> NumberSlot:
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
            (text.decode("utf-8", "backslashreplace"), count, fold_ranks(self._ranks[text]))
            for text, count in self._counts.most_common(TOP_TEXTS)
        )
        return TextSlot(self.name, len(self._counts), top)


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
    table = store.templates
    keys = [key._replace(template_id=table.find(key.template_id)) for key in wanted]
    templates = table.templates({key.template_id for key in keys})
    collected = {
        key: _Collected(templates[key.template_id]) for key in keys if key.template_id in templates
    }
    whole, looked_at = True, 0
    end_row = min(end_row, store.rows)
    while first_row < end_row and whole:
        chunks = store.read(first_row, min(_READ_ROWS, end_row - first_row), _READ_BYTES)
        whole = bool(chunks)  # none: closed meanwhile
        for chunk in chunks:
            if looked_at >= _LEAST_LINES and time.thread_time() >= deadline:
                whole = False
                break
            _collect(store, chunk, first_row, end_row, collected)
            looked_at += chunk.count
            first_row = chunk.first_row + chunk.count
    none = GroupValues(0, whole, ())
    return [collected[key].values(whole=whole) if key in collected else none for key in keys]


def _collect(
    store: LogStore,
    chunk: Chunk,
    first_row: int,
    end_row: int,
    collected: Mapping[GroupKey, _Collected],
) -> None:
    """Sort a chunk's lines by group, as far as anyone asks for them."""
    of_chunk: Dict[int, _Collected] = {}
    for key, group in collected.items():
        if (key.target, key.job) == (chunk.target, chunk.info.job) and key.cell in (
            None,
            chunk.cell,
        ):
            of_chunk[key.template_id] = group
    if not of_chunk:
        return
    ids = store.templates.ids(chunk.data)
    roots = store.templates.roots(set(ids))
    lines = settled(chunk.data).split(b"\n")
    start, stop = max(0, first_row - chunk.first_row), min(chunk.count, end_row - chunk.first_row)
    found: Dict[int, List[bytes]] = {}
    for number, line in zip(ids[start:stop], lines[start:stop], strict=True):
        found.setdefault(number, []).append(line)
    for number, some in found.items():
        asked = of_chunk.get(roots[number])
        if asked is not None:
            asked.add(some, chunk.info.rank)


def _slot_name(piece: bytes, number: int) -> str:
    """The word in front of a slot."""
    words = _WORD.findall(piece[-_TAIL_BYTES:])
    names = [word for word in words if word.lower() not in _NO_NAMES] or words
    return names[-1].decode("utf-8", "backslashreplace") if names else f"#{number}"
