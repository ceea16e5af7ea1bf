"""Sources that are over: how long the client remembers them, and what remains of them then.

Commands come and go by the thousands, each with two ledgers. One that is over is remembered for
a while, since a broken link may make its host ask once more where to go on, and people look at
what ended last. Then its account goes into a sum, and its number stays: by that its lines in the
store are found. Sans-IO; used by the LogClientActor.
"""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, FrozenSet, Iterable, List, Tuple

from .model import StreamTotals

__all__ = ["EndedSources", "SourceNumbers"]

KEPT_SOURCES = 1024
KEPT_SEC = 30.0


class SourceNumbers:
    """A set of numbers that mostly follow each other, in little memory: they are never removed."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: List[range] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, number: int) -> None:
        """Each number once."""
        last = self._runs[-1] if self._runs else None
        if last is not None and number == last.stop:
            self._runs[-1] = range(last.start, number + 1)
        else:
            self._runs.append(range(number, number + 1))

    def frozen(self) -> FrozenSet[int]:
        """All of them."""
        return frozenset(number for run in tuple(self._runs) for number in run)


class EndedSources:
    """Those that are over, oldest first; ``totals`` is the sum of those that were forgotten."""

    def __init__(self) -> None:
        self.totals = StreamTotals()
        self._ended: Deque[Tuple[float, int]] = deque()

    def add(self, source: int, now: float) -> None:
        """A source is over; ``now`` is monotonic."""
        self._ended.append((now, source))

    def forget_old(self, now: float, forget: Callable[[int], bool]) -> None:
        """Offer the oldest to ``forget``, until it says no, or those that are left are recent.

        ``forget(source)`` is False where it is still needed: then it is offered again later.
        """
        while len(self._ended) > KEPT_SOURCES:
            ended, source = self._ended[0]
            if now - ended < KEPT_SEC or not forget(source):
                return
            self._ended.popleft()

    def count(self, ledgers: Iterable[StreamTotals]) -> None:
        """Add the account of one that is forgotten to the sum."""
        for totals in ledgers:
            self.totals.add(totals)
