"""Aggregation windows: lines that say the same within a window are one group.

A view over the store: it eats chunks and keeps one :class:`Group` per stream kind and template
(text with its numbers masked). Groups are reported when their window ends, at a barrier, and when
aggregation is switched off. A group knows its ranks, and whether its lines differ in their
numbers. Called by the view driver.

Work per chunk is in bulk; Python loops only over the distinct masked lines of a chunk, and looks
at texts only for groups whose lines have all been equal so far. Memory is bounded: lines of more
than ``MAX_GROUPS`` kinds (or of kinds that need more than ``MAX_GROUP_BYTES``) are counted as
others. Nothing is ever counted into a group that it is not like.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Set, Tuple

from .model import OutputTarget, fold_ranks
from .patterns import mask, template
from .store import Chunk

__all__ = ["MAX_GROUPS", "MAX_GROUP_BYTES", "Aggregator", "Group", "Report"]

MAX_GROUPS = 10_000
MAX_GROUP_BYTES = 16 << 20
_MAX_KNOWN_BYTES = 16 << 20


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

    ``lines`` is the sum of all counts and ``others``: lines beyond the bound on distinct groups.
    They are in the store. The groups of a window that goes on still grow: show them at once.
    """

    cell: int
    groups: Tuple[Group, ...]
    first_wall: float
    last_wall: float
    lines: int
    others: int


_Source = Tuple[OutputTarget, str]
"""Stream and job: lines of different sources are never alike."""


class _Window:
    """One cell's groups. ``known`` finds the group of a masked line without its template."""

    __slots__ = (
        "cell", "deadline", "first_wall", "group_bytes", "groups", "known", "known_bytes",
        "last_wall", "lines", "others",
    )  # fmt: skip

    def __init__(self, cell: int, deadline: float, wall: float) -> None:
        self.cell = cell
        self.deadline = deadline
        self.first_wall = self.last_wall = wall
        self.groups: Dict[Tuple[_Source, bytes], Group] = {}
        self.group_bytes = 0
        self.known: Dict[_Source, Dict[bytes, Group]] = {}
        self.known_bytes = 0
        self.lines = 0
        self.others = 0

    def add(self, chunk: Chunk) -> None:
        keys = mask(chunk.data)
        counts = Counter(keys)
        known = self._known(chunk)
        strangers = [key for key in counts if key not in known]
        lines: List[bytes] = []
        if strangers:
            lines = chunk.lines()
            self._meet(chunk, strangers, dict(zip(reversed(keys), reversed(lines), strict=True)))
        rank, wall = chunk.info.rank, chunk.wall
        equal: List[Group] = []
        for key, count in counts.items():
            group = known.get(key)
            if group is None:
                self.others += count
                continue
            group.count += count
            group.ranks.add(rank)
            group.last_wall = max(group.last_wall, wall)
            if not group.differs:
                equal.append(group)
        if equal:
            _mark_differing(set(lines or chunk.lines()), equal, known)
        self.lines += chunk.count
        self.first_wall = min(self.first_wall, wall)
        self.last_wall = max(self.last_wall, wall)

    def _known(self, chunk: Chunk) -> Dict[bytes, Group]:
        if self.known_bytes > _MAX_KNOWN_BYTES:
            self.known.clear()
            self.known_bytes = 0
        return self.known.setdefault((chunk.target, chunk.info.job), {})

    def _meet(self, chunk: Chunk, keys: List[bytes], texts: Dict[bytes, bytes]) -> None:
        """Find or make the groups of masked lines that are new here; none beyond the bounds."""
        source = (chunk.target, chunk.info.job)
        known = self.known[source]
        for key, short in zip(keys, template(b"\n".join(keys)).split(b"\n"), strict=True):
            group = self.groups.get((source, short))
            if group is None:
                text = texts[key]
                size = len(short) + len(text)
                if len(self.groups) >= MAX_GROUPS or self.group_bytes + size > MAX_GROUP_BYTES:
                    continue
                self.group_bytes += size
                group = Group(chunk.target, short, text, chunk.info.job, first_wall=chunk.wall)
                self.groups[source, short] = group
            known[key] = group
            self.known_bytes += len(key)

    def report(self) -> Report:
        groups = tuple(self.groups.values())
        return Report(
            self.cell, groups, self.first_wall, self.last_wall, self.lines, self.others
        )  # fmt: skip


class Aggregator:
    """Groups by cell and window. ``window_sec`` may be changed: it holds for new windows."""

    def __init__(self, window_sec: float) -> None:
        self.window_sec = window_sec
        self._windows: Dict[int, _Window] = {}

    def add(self, chunk: Chunk, now: float) -> None:
        """Take a chunk; ``now`` is monotonic. The first line of a cell opens its window."""
        window = self._windows.get(chunk.cell)
        if window is None:
            deadline = now + self.window_sec
            window = self._windows[chunk.cell] = _Window(chunk.cell, deadline, chunk.wall)
        window.add(chunk)

    def pending(self, cell: int) -> Optional[Report]:
        """The open window of a cell as it stands now."""
        window = self._windows.get(cell)
        return None if window is None else window.report()

    def pending_lines(self, cell: int) -> int:
        """How many lines the open window of a cell holds; 0 where there is none."""
        window = self._windows.get(cell)
        return 0 if window is None else window.lines

    def cells(self) -> List[int]:
        """The cells that have an open window."""
        return list(self._windows)

    def due(self, now: float) -> List[Report]:
        """Reports of the windows that have ended."""
        ended = [w for w in self._windows.values() if now >= w.deadline]
        for window in ended:
            del self._windows[window.cell]
        return [window.report() for window in ended]

    def flush(self) -> List[Report]:
        """Reports of all windows, ended or not: at a barrier, and when aggregation goes off."""
        windows, self._windows = self._windows, {}
        return [window.report() for window in windows.values()]


def _mark_differing(texts: Set[bytes], equal: List[Group], known: Dict[bytes, Group]) -> None:
    """Mark the groups that have a text other than their first; ``equal`` have had none so far."""
    texts.difference_update([group.text for group in equal])
    if texts:
        for key in set(mask(b"\n".join(texts) + b"\n")):
            group = known.get(key)
            if group is not None:
                group.differs = True
