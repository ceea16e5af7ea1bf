"""LogFilter: which lines are meant, as plain values, checked when it is made.

Nearly all of it is decided per chunk, since a chunk is of one source, stream, cell and time. What
only the line itself can tell (its level, its text) is left to ``log_columns``. Used by ``logs``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import FrozenSet, Iterable, List, Optional, Set, SupportsIndex, Tuple, TypeVar, Union

from .config import parse_ranks
from .errors import OptionError
from .levels import level_name
from .model import STREAMS, OutputTarget, fold_ranks
from .store import ChunkHead

__all__ = [
    "UNSTATED_LEVEL",
    "LogFilter",
    "Moment",
    "TextPattern",
    "check_cells",
    "check_names",
    "check_ranks",
    "check_stream",
    "check_text",
    "check_time",
]

UNSTATED_LEVEL = 20
"""What a line counts as that states no level: INFO."""

Moment = Union[datetime, float]
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class TextPattern:
    """What a line's text must hold: a literal text, or with ``regex`` a match of it (RE2)."""

    text: str
    regex: bool


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Lines that meet all of it; None allows any.

    Times are wall seconds, ``since`` included and ``until`` not; rows ``first_row`` to
    ``end_row``, the latter not included; ``level`` is the least.
    """

    ranks: Optional[FrozenSet[int]] = None
    cells: Optional[FrozenSet[int]] = None
    jobs: Optional[FrozenSet[str]] = None
    hosts: Optional[FrozenSet[str]] = None
    streams: Optional[FrozenSet[OutputTarget]] = None
    since: float = -math.inf
    until: float = math.inf
    first_row: int = 0
    end_row: Optional[int] = None
    level: int = 0
    patterns: Tuple[TextPattern, ...] = ()

    def both(self, other: LogFilter) -> LogFilter:
        """Lines that meet this one and the other."""
        ends = [end for end in (self.end_row, other.end_row) if end is not None]
        return LogFilter(
            ranks=_common(self.ranks, other.ranks),
            cells=_common(self.cells, other.cells),
            jobs=_common(self.jobs, other.jobs),
            hosts=_common(self.hosts, other.hosts),
            streams=_common(self.streams, other.streams),
            since=max(self.since, other.since),
            until=min(self.until, other.until),
            first_row=max(self.first_row, other.first_row),
            end_row=min(ends) if ends else None,
            level=max(self.level, other.level),
            patterns=(*self.patterns, *other.patterns),
        )

    @property
    def by_line(self) -> bool:
        """Whether single lines have to be looked at."""
        return bool(self.level or self.patterns)

    @property
    def all_rows(self) -> bool:
        """Whether nothing but the numbers of rows is asked for."""
        return self == LogFilter(first_row=self.first_row, end_row=self.end_row)

    def takes(self, chunk: ChunkHead) -> bool:
        """Whether the chunk's lines are meant, as far as all of them have it in common."""
        info = chunk.info
        return (
            (self.ranks is None or info.rank in self.ranks)
            and (self.cells is None or chunk.cell in self.cells)
            and (self.streams is None or chunk.target in self.streams)
            and (self.jobs is None or info.job in self.jobs)
            and (self.hosts is None or info.hostname in self.hosts)
            and self.since <= chunk.wall < self.until
        )

    def words(self) -> List[str]:
        """What is asked for, one phrase each; none if everything is."""
        found: List[str] = []
        if self.ranks is not None:
            found.append(f"ranks {fold_ranks(self.ranks) or 'none'}")
        if self.cells is not None:
            found.append(f"cells {fold_ranks(self.cells) or 'none'}")
        for name, values in (("jobs", self.jobs), ("hosts", self.hosts)):
            if values is not None:
                found.append(f"{name} {', '.join(map(repr, sorted(values))) or 'none'}")
        if self.streams is not None:
            found.append(", ".join(stream.label for stream in sorted(self.streams)) or "no stream")
        if self.since > -math.inf:
            found.append(f"since {self.since:.6f}")
        if self.until < math.inf:
            found.append(f"until {self.until:.6f}")
        if self.level:
            found.append(f"level {level_name(self.level)} or more")
        found += (
            f"{'matches' if pattern.regex else 'contains'} {pattern.text!r}"
            for pattern in self.patterns
        )
        if self.first_row or self.end_row is not None:
            found.append(f"rows from {self.first_row:,}")
            if self.end_row is not None:
                found[-1] += f" to below {self.end_row:,}"
        return found


def _common(one: Optional[FrozenSet[V]], other: Optional[FrozenSet[V]]) -> Optional[FrozenSet[V]]:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def check_ranks(ranks: object, procs: int) -> FrozenSet[int]:
    """``"0-3,8"``, a rank, or several, each below ``procs``."""
    several = isinstance(ranks, Iterable) and not isinstance(ranks, (str, bytes))
    text = ",".join(map(str, _items(ranks))) if several else str(ranks)
    return frozenset(parse_ranks(text, procs))


def check_cells(cell: object) -> FrozenSet[int]:
    """The number of a cell, or several."""
    found: Set[int] = set()
    for item in _items(cell):
        if not isinstance(item, SupportsIndex) or isinstance(item, bool):
            raise OptionError(
                f"cell is {cell!r:.80}; it must be a cell's number, or a list of numbers"
            )
        found.add(item.__index__())
    return frozenset(found)


def check_names(name: str, value: object) -> FrozenSet[str]:
    """A name, or several."""
    found: Set[str] = set()
    for item in _items(value):
        if not isinstance(item, str):
            raise OptionError(f"{name} is {value!r:.80}; it must be a name, or a list of names")
        found.add(item)
    return frozenset(found)


def _items(value: object) -> Iterable[object]:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return value
    return (value,)


def check_stream(stream: object) -> FrozenSet[OutputTarget]:
    """``stdout`` or ``stderr``."""
    found = frozenset(target for target in STREAMS if target.label == stream)
    if not found:
        raise OptionError(f"stream is {stream!r:.80}; allowed are 'stdout' and 'stderr'")
    return found


def check_time(name: str, moment: object) -> float:
    """Wall seconds of a datetime (local time if it names no zone) or of a number."""
    seconds = math.nan
    try:
        if isinstance(moment, datetime):
            seconds = moment.timestamp()
        elif isinstance(moment, (int, float)) and not isinstance(moment, bool):
            seconds = float(moment)
    except (OverflowError, OSError, ValueError):
        seconds = math.nan  # a moment that the machine's calendar has not
    if not math.isfinite(seconds):
        raise OptionError(
            f"{name} is {moment!r:.80}; it must be a datetime, or seconds since 1970 as time.time()"
        )
    return seconds


def check_text(name: str, text: object) -> str:
    """A text that UTF-8 can carry."""
    if not isinstance(text, str):
        raise OptionError(f"{name} is {text!r:.80}; it must be text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OptionError(
            f"{name} is {text!r:.80}; half a surrogate pair stands in no line: a byte that is not "
            r"UTF-8 reads \xNN in the lines' text"
        ) from None
    return text
