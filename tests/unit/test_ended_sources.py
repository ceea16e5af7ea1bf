"""How long ended sources are remembered, and what remains of them."""

from __future__ import annotations

from typing import List

from hypothesis import given
from hypothesis import strategies as st

from logmesh_ipy.ended_sources import KEPT_SEC, KEPT_SOURCES, EndedSources, SourceNumbers
from logmesh_ipy.model import StreamTotals


@given(st.sets(st.integers(0, 300)))
def test_numbers_are_all_there_whatever_holes_they_have(numbers: set[int]) -> None:
    made = SourceNumbers()
    for number in sorted(numbers):
        made.add(number)
    assert made.frozen() == numbers
    assert len(made) == len(numbers)


def offered(ended: EndedSources, now: float, needed: frozenset[int] = frozenset()) -> List[int]:
    found: List[int] = []

    def forget(source: int) -> bool:
        if source not in needed:
            found.append(source)
        return source not in needed

    ended.forget_old(now, forget)
    return found


def test_the_last_ones_and_the_recent_ones_are_kept() -> None:
    ended = EndedSources()
    for source in range(KEPT_SOURCES + 10):
        ended.add(source, now=float(source))
    late = KEPT_SEC + 5.0
    assert offered(ended, KEPT_SEC - 0.5) == []
    assert offered(ended, late) == [0, 1, 2, 3, 4, 5]
    assert offered(ended, late, needed=frozenset({6})) == []
    assert offered(ended, 1e9, needed=frozenset({8})) == [6, 7]
    assert offered(ended, 1e9) == [8, 9]
    assert offered(ended, 1e9) == []


def test_the_account_of_the_forgotten_is_kept_as_a_sum() -> None:
    ended = EndedSources()
    ended.count([StreamTotals(written_lines=3, stored_lines=2, gap_lines=1), StreamTotals()])
    ended.count([StreamTotals(written_bytes=7, skipped_bytes=7)])
    assert ended.totals == StreamTotals(
        written_lines=3, stored_lines=2, gap_lines=1, written_bytes=7, skipped_bytes=7
    )
