"""Aggregation windows: lines that are alike within a window are one group.

A view over the store: it eats chunks and keeps one :class:`Group` per stream kind and template.
Groups are reported when their window ends, at a barrier, and when aggregation is switched off. A
group knows its ranks, its times, where its lines are, and whether they differ. Called by the view
driver. What is alike the store's :class:`~logmesh_ipy.template_table.TemplateTable` says; templates
become one as more is seen, and so do the groups of a window that is still open.

Work per chunk is in bulk; Python loops only over the distinct templates of some chunks, and looks
at texts only for groups whose lines have all been equal so far. Memory is bounded: lines of more
than ``MAX_GROUPS`` kinds (or of kinds that need more than ``MAX_GROUP_BYTES``) are counted as
others. Nothing is ever counted into a group that it is not like.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, compress
from typing import Callable, Collection, Dict, List, Optional, Sequence, Set, Tuple

from .grouping import OTHERS, Template
from .model import OutputTarget
from .slot_values import GroupValues
from .store import Chunk
from .template_table import TemplateTable

__all__ = ["MAX_GROUPS", "MAX_GROUP_BYTES", "Aggregator", "Group", "Report"]

MAX_GROUPS = 10_000
MAX_GROUP_BYTES = 16 << 20
_JOINED_BYTES = 1 << 20
_JOINED_SEC = 0.02


@dataclass(slots=True)
class Group:
    """Lines of one stream kind that are alike. ``text`` is the first of them.

    They are among the rows ``first_row`` to ``end_row`` (exclusive) of the store.
    """

    target: OutputTarget
    job: str
    template_id: int
    text: bytes
    first_row: int
    end_row: int
    first_wall: float
    last_wall: float
    count: int = 0
    differs: bool = False
    ranks: Set[int] = field(default_factory=set)
    template: Optional[Template] = None
    """What its lines have in common; set when it is reported."""
    values: Optional[GroupValues] = None
    """What stands in the slots; set by who has looked."""

    @property
    def shown(self) -> bytes:
        """The text where all lines are the same, the template with its slots where they differ."""
        return self.text if self.template is None or not self.differs else self.template.text

    @property
    def level(self) -> Optional[int]:
        """The level that its lines state."""
        return None if self.template is None else self.template.level

    def absorb(self, other: Group) -> None:
        """Become one with a group whose lines are alike, as is known now."""
        self.differs = self.differs or other.differs or self.text != other.text
        if other.first_row < self.first_row:
            self.text = other.text
        self.first_row = min(self.first_row, other.first_row)
        self.end_row = max(self.end_row, other.end_row)
        self.first_wall = min(self.first_wall, other.first_wall)
        self.last_wall = max(self.last_wall, other.last_wall)
        self.count += other.count
        self.ranks |= other.ranks


@dataclass(frozen=True, slots=True)
class Report:
    """The groups of one cell's window, in the order of their first lines; wall times of its lines.

    ``lines`` is the sum of all counts and ``others``: lines beyond the bound on distinct groups.
    They are in the store. ``everyone``: the ranks that are known. The groups of a window that goes
    on still grow: show them at once.
    """

    cell: int
    groups: Tuple[Group, ...]
    first_wall: float
    last_wall: float
    lines: int
    others: int
    everyone: Collection[int] = ()


_Source = Tuple[OutputTarget, str]
"""Stream and job: lines of different sources are never alike."""


class _Window:
    """One cell's groups."""

    __slots__ = (
        "_folded", "_table", "cell", "deadline", "first_wall", "group_bytes", "groups",
        "last_wall", "lines", "others",
    )  # fmt: skip

    def __init__(self, table: TemplateTable, cell: int, deadline: float, wall: float) -> None:
        self._table = table
        self._folded = -1
        self.cell = cell
        self.deadline = deadline
        self.first_wall = self.last_wall = wall
        self.groups: Dict[_Source, Dict[int, Group]] = {}
        self.group_bytes = 0
        self.lines = 0
        self.others = 0

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Chunks of one stream."""
        first, last = chunks[0], chunks[-1]
        data = first.data if len(chunks) == 1 else b"".join([chunk.data for chunk in chunks])
        ids = self._table.ids(data)
        groups = self.groups.setdefault((first.target, first.info.job), {})
        counts = Counter(ids)
        lines: List[bytes] = []
        # What stands here may come before the first line known of a group: chunks of several
        # streams that were joined are not in the order of their rows.
        begin = [
            number
            for number in counts
            if (number not in groups or first.first_row < groups[number].first_row)
            and number != OTHERS
        ]
        if begin:
            lines = data.split(b"\n")
            self._meet(chunks, groups, begin, ids, lines)
        walls = [chunk.wall for chunk in chunks]
        rank, earliest, latest = first.info.rank, min(walls), max(walls)
        end_row = last.first_row + last.count
        equal: Set[int] = set()
        for number, count in counts.items():
            group = groups.get(number)
            if group is None:
                self.others += count
                continue
            group.count += count
            group.ranks.add(rank)
            group.end_row = max(group.end_row, end_row)
            group.last_wall = max(group.last_wall, latest)
            if not group.differs:
                equal.add(number)
        if equal:
            _mark_differing(groups, equal, ids, lines or data.split(b"\n"))
        self.lines += len(ids)
        self.first_wall = min(self.first_wall, earliest)
        self.last_wall = max(self.last_wall, latest)

    def _meet(
        self,
        chunks: Sequence[Chunk],
        groups: Dict[int, Group],
        begin: List[int],
        ids: List[int],
        lines: List[bytes],
    ) -> None:
        """Make groups of the templates that begin here; none beyond the bounds."""
        starts = [0, *accumulate(chunk.count for chunk in chunks)]
        first_at = dict(zip(reversed(ids), range(len(ids) - 1, -1, -1), strict=True))
        for number in begin:
            at = first_at[number]
            text = lines[at]
            place = bisect_right(starts, at) - 1
            chunk = chunks[place]
            row = chunk.first_row + at - starts[place]
            group = Group(
                chunk.target, chunk.info.job, number, text, row, row + 1, chunk.wall, chunk.wall
            )
            if number in groups:
                self._absorb(groups[number], group)
                continue
            size = _group_bytes(text)
            known = sum(map(len, self.groups.values()))
            if known >= MAX_GROUPS or self.group_bytes + size > MAX_GROUP_BYTES:
                continue
            self.group_bytes += size
            groups[number] = group

    def _absorb(self, group: Group, other: Group) -> None:
        """The group with what another one holds; its text may be another then."""
        before = _group_bytes(group.text)
        group.absorb(other)
        self.group_bytes += _group_bytes(group.text) - before

    def report(self, everyone: Collection[int]) -> Report:
        self._fold()
        found = [group for groups in self.groups.values() for group in groups.values()]
        found.sort(key=_first_row)
        templates = self._table.templates({group.template_id for group in found})
        for group in found:
            group.template = templates[group.template_id]
        return Report(
            self.cell, tuple(found), self.first_wall, self.last_wall, self.lines, self.others,
            everyone,
        )  # fmt: skip

    def _fold(self) -> None:
        """Templates have become one since: so do their groups."""
        revision = self._table.revision
        if self._folded == revision:
            return
        self._folded = revision
        for groups in self.groups.values():
            roots = self._table.roots(groups)
            for number, root in roots.items():
                if root != number:
                    group = groups.pop(number)
                    group.template_id = root
                    if root in groups:
                        self._absorb(groups[root], group)
                        self.group_bytes -= _group_bytes(group.text)
                    else:
                        groups[root] = group


class Aggregator:
    """Groups by cell and window. ``window_sec`` may be changed: it holds for new windows.

    ``table`` says what is alike, ``everyone`` which ranks there are.
    """

    def __init__(
        self,
        window_sec: float,
        table: TemplateTable,
        everyone: Callable[[], Collection[int]] = tuple,
    ) -> None:
        self.window_sec = window_sec
        self._table = table
        self._everyone = everyone
        self._windows: Dict[int, _Window] = {}

    def add(self, chunks: Sequence[Chunk], now: float) -> None:
        """Take chunks; ``now`` is monotonic. The first line of a cell opens its window."""
        for joined in _joined(chunks):
            cell = joined[0].cell
            window = self._windows.get(cell)
            if window is None:
                window = _Window(self._table, cell, now + self.window_sec, joined[0].wall)
                self._windows[cell] = window
            window.add(joined)

    def pending(self, cell: int) -> Optional[Report]:
        """The open window of a cell as it stands now."""
        window = self._windows.get(cell)
        return None if window is None else window.report(self._everyone())

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
        return [window.report(self._everyone()) for window in ended]

    def flush(self) -> List[Report]:
        """Reports of all windows, ended or not: at a barrier, and when aggregation goes off."""
        windows, self._windows = self._windows, {}
        return [window.report(self._everyone()) for window in windows.values()]


def _joined(chunks: Sequence[Chunk]) -> List[List[Chunk]]:
    """The chunks of each stream and cell together, as long as they are of about one moment.

    Looked at together they cost less: what is done per distinct template is done less often.
    """
    found: List[List[Chunk]] = []
    current: Dict[Tuple[int, OutputTarget, int], Tuple[List[Chunk], int]] = {}
    for chunk in chunks:
        key = (chunk.info.proc, chunk.target, chunk.cell)
        some, size = current.get(key, (None, 0))
        if (
            some is None
            or size + len(chunk.data) > _JOINED_BYTES
            or chunk.mono - some[0].mono > _JOINED_SEC
        ):
            some, size = [], 0
            found.append(some)
        some.append(chunk)
        current[key] = (some, size + len(chunk.data))
    return found


def _mark_differing(
    groups: Dict[int, Group], equal: Set[int], ids: List[int], lines: List[bytes]
) -> None:
    """Mark the groups that have a text other than their first; ``equal`` have had none so far."""
    chosen = list(map(equal.__contains__, ids))
    for number, text in set(zip(compress(ids, chosen), compress(lines, chosen), strict=True)):
        group = groups[number]
        if text != group.text:
            group.differs = True


def _group_bytes(text: bytes) -> int:
    """What a group takes: its text, and a template that is about as long."""
    return 2 * len(text)


def _first_row(group: Group) -> int:
    return group.first_row
