"""Aggregation windows: lines that say the same within a window are one group.

A view over the store: it eats chunks and keeps one :class:`Group` per stream kind and template
(text with its numbers masked). Work per chunk is in bulk; Python loops only over what is
distinct. Groups are reported when their window ends, at a barrier, and when aggregation is
switched off. A group knows its ranks, and whether its lines differ in their numbers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set, Tuple

from .model import OutputTarget, fold_ranks
from .patterns import mask, template
from .store import Chunk

__all__ = ["Aggregator", "Group", "Report"]

_MAX_GROUPS = 10_000
_MAX_KEY_BYTES = 4096


@dataclass(slots=True)
class Group:
    """Lines of one stream kind that are alike. ``text`` is the first of them."""

    target: OutputTarget
    template: bytes
    text: bytes
    job: str
    count: int = 0
    differs: bool = False
    ranks: Set[int] = field(default_factory=set)
    first_wall: float = 0.0
    last_wall: float = 0.0

    @property
    def shown(self) -> bytes:
        """The text where all lines are the same, the template with ``#`` where they differ."""
        return self.template if self.differs else self.text

    @property
    def folded_ranks(self) -> str:
        """``0-6,8``."""
        return fold_ranks(self.ranks)


@dataclass(frozen=True, slots=True)
class Report:
    """The groups of one cell's window, in the order of their first lines; wall times of its lines.

    ``others`` counts lines beyond the bound on distinct groups: they are in the store.
    """

    cell: int
    groups: Tuple[Group, ...]
    first_wall: float
    last_wall: float
    lines: int
    others: int


_Key = Tuple[OutputTarget, str, bytes]


class _Window:
    __slots__ = ("cell", "deadline", "groups", "lines", "others", "templates")

    def __init__(self, cell: int, deadline: float) -> None:
        self.cell = cell
        self.deadline = deadline
        self.groups: Dict[_Key, Group] = {}
        self.templates: Dict[bytes, bytes] = {}
        self.lines = 0
        self.others = 0


class Aggregator:
    """Groups by cell and window. ``window_sec`` may be changed between chunks."""

    def __init__(self, window_sec: float) -> None:
        self.window_sec = window_sec
        self._windows: Dict[int, _Window] = {}

    def add(self, chunk: Chunk, now: float) -> None:
        """Take a chunk; ``now`` is monotonic. The first line of a cell opens its window."""
        window = self._windows.get(chunk.cell)
        if window is None:
            window = self._windows[chunk.cell] = _Window(chunk.cell, now + self.window_sec)
        keys = mask(chunk.data)
        lines = chunk.lines()
        window.lines += chunk.count
        samples = dict(zip(reversed(keys), reversed(lines), strict=True))
        counts = Counter(keys)
        differing = _differing(lines, counts)
        for key, count in counts.items():
            self._count(window, chunk, key, samples[key], count, key in differing)

    def _count(
        self, window: _Window, chunk: Chunk, key: bytes, text: bytes, count: int, differs: bool
    ) -> None:
        short = window.templates.get(key)
        if short is None:
            if len(window.templates) >= _MAX_GROUPS * 4:
                window.templates.clear()
            short = template(key)
            if len(key) <= _MAX_KEY_BYTES:
                window.templates[key] = short
        group_key = (chunk.target, chunk.info.job, short)
        group = window.groups.get(group_key)
        if group is None:
            if len(window.groups) >= _MAX_GROUPS:
                window.others += count
                return
            group = window.groups[group_key] = Group(
                chunk.target, short, text, chunk.info.job, first_wall=chunk.wall
            )
        group.count += count
        group.differs = group.differs or differs or text != group.text
        group.ranks.add(chunk.info.rank)
        group.last_wall = chunk.wall

    def pending(self, cell: int) -> Optional[Report]:
        """The open window of a cell as it stands now."""
        window = self._windows.get(cell)
        return None if window is None else _report(window)

    def cells(self) -> List[int]:
        """The cells that have an open window."""
        return list(self._windows)

    def due(self, now: float) -> List[Report]:
        """Reports of the windows that have ended."""
        ended = [w for w in self._windows.values() if now >= w.deadline]
        for window in ended:
            del self._windows[window.cell]
        return [_report(window) for window in ended]

    def flush(self) -> List[Report]:
        """Reports of all windows, ended or not: at a barrier, and when aggregation goes off."""
        windows, self._windows = self._windows, {}
        return [_report(window) for window in windows.values()]


def _differing(lines: List[bytes], counts: Counter[bytes]) -> Set[bytes]:
    """The keys under which this chunk has more than one text."""
    distinct = set(lines)
    if len(distinct) == len(counts):
        return set()
    again = Counter(mask(b"\n".join(distinct) + b"\n"))
    return {key for key, count in again.items() if count > 1}


def _report(window: _Window) -> Report:
    groups = tuple(window.groups.values())
    return Report(
        window.cell,
        groups,
        min((group.first_wall for group in groups), default=0.0),
        max((group.last_wall for group in groups), default=0.0),
        window.lines,
        window.others,
    )
