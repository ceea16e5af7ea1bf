"""What is left out of messages to browsers, in short: how many lines of which cells, saying what.

Groups are those of an aggregation window. Looking at lines costs time that the kernel may need, so
it is bounded; what was not looked at is counted.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List, Sequence, Tuple

from ..aggregator import Aggregator, Group
from ..model import fold_ranks
from ..store import Chunk
from ..template_table import TemplateTable

__all__ = ["Cells", "summaries"]

_MAX_GROUPS = 100
_MAX_GROUP_TEXT = 200
_MAX_TOLD_BYTES = 24 << 10
_ERROR = 40
_CHUNKS_AT_ONCE = 8


class Cells:
    """Lines, first row and end of each cell's part of a skip."""

    def __init__(self) -> None:
        self.found: Dict[int, List[int]] = {}

    def add(self, chunks: Sequence[Chunk]) -> None:
        """Count these too; behind those before."""
        for chunk in chunks:
            end = chunk.first_row + chunk.count
            part = self.found.setdefault(chunk.cell, [0, chunk.first_row, end])
            part[0] += chunk.count
            part[2] = end

    def told(self) -> List[Tuple[int, int, int, int]]:
        """``[cell, lines, first, end]`` of each."""
        return [(c, part[0], part[1], part[2]) for c, part in sorted(self.found.items()) if part[0]]


def summaries(
    chunks: Sequence[Chunk], table: TemplateTable, most_sec: float
) -> List[Dict[str, Any]]:
    """What is left out, in short; looks at it for ``most_sec`` at most, the rest is counted."""
    if not chunks:
        return []
    deadline = time.perf_counter() + most_sec
    aggregator = Aggregator(1.0, table)
    cells = Cells()
    cells.add(chunks)
    unseen = 0
    for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
        some = chunks[first : first + _CHUNKS_AT_ONCE]
        if time.perf_counter() < deadline:
            aggregator.add(some, 0.0)
        else:
            unseen += sum(chunk.count for chunk in some)
    groups: List[Tuple[int, Group]] = []
    for report in aggregator.flush():
        groups += [(report.cell, group) for group in report.groups]
        unseen += report.others
    told: List[Tuple[Any, ...]] = []
    size = 0
    shown = 0
    for cell, group in _most_telling(groups):
        telling = (
            int(group.target), group.job, cell, _group_text(group), group.count,
            fold_ranks(group.ranks), int(group.differs), group.template_id,
        )  # fmt: skip
        size += len(json.dumps(telling))
        if size > _MAX_TOLD_BYTES:
            break
        told.append(telling)
        shown += group.count
    unseen += sum(group.count for _, group in groups) - shown
    return [
        {
            "first": chunks[0].first_row,
            "end": chunks[-1].first_row + chunks[-1].count,
            "cells": cells.told(),
            "wall": [chunks[0].wall, chunks[-1].wall],
            "groups": told,
            "others": unseen,
        }
    ]


def _most_telling(groups: List[Tuple[int, Group]]) -> List[Tuple[int, Group]]:
    """Those with most lines, and among the others those that state an error."""
    if len(groups) <= _MAX_GROUPS:
        return groups
    by_count = sorted(groups, key=lambda item: -item[1].count)
    half = _MAX_GROUPS // 2
    errors = [item for item in by_count[half:] if (item[1].level or 0) >= _ERROR]
    return by_count[:half] + errors[:half]


def _group_text(group: Group) -> str:
    return group.text[:_MAX_GROUP_TEXT].decode("utf-8", "backslashreplace")
