"""The judge: what writers wrote against what a store holds, line by line.

A :class:`Ledger` accounts for each line whose write has returned: it is stored, was skipped on
purpose, or lies in a gap that the client has told; else it is missing. What is stored must be the
line itself, once, in order. A line whose write had only begun when its writer died may be there
in whole, in part, or not.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from logmesh_ipy.instance import Instance
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.model import OutputTarget
from logmesh_ipy.store import Row
from tests.faults.writer import LineSource, Tally, Written

__all__ = ["Ledger", "Oracle", "judge_stream"]


@dataclass
class Ledger:
    """Lines. ``missing``, ``duplicate``, ``spurious``, ``corrupt`` must be 0, and the last one."""

    written: int = 0
    stored: int = 0
    skipped: int = 0
    gap: int = 0
    missing: int = 0
    duplicate: int = 0
    spurious: int = 0
    corrupt: int = 0
    miscounted_bytes: int = 0
    """By how many bytes the client's own account differs from the writers', where that is known."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost without a word, and nothing made up."""
        bad = (self.missing, self.duplicate, self.spurious, self.corrupt, self.miscounted_bytes)
        return not any(bad)

    def add(self, other: Ledger) -> None:
        """Take the counts of another one."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name):,}" for field in fields(self))


class Oracle:
    """Judges the writers of one tally. ``of[source]`` names each writer's proc in the store."""

    def __init__(self, tally: Tally, seed: int) -> None:
        self._tally = tally
        self._seed = seed
        self.of: Dict[int, int] = {}

    def judge(self, instance: Instance, known: Callable[[Row], bool] = lambda row: False) -> Ledger:
        """The ledger of all writers. Nothing may stand beside their lines but what is ``known``."""
        streams: Dict[Tuple[int, OutputTarget], List[Row]] = defaultdict(list)
        others: Dict[Tuple[int, OutputTarget], int] = defaultdict(int)
        for row in instance.store.lines():
            if known(row):
                newline = not row.flags & LineFlag.PARTIAL
                others[row.info.proc, row.target] += row.true_bytes + newline
            else:
                streams[row.info.proc, row.target].append(row)
        unfinished = {
            (line.info.proc, line.target): line.text for line in instance.store.open_lines()
        }
        total = Ledger()
        for source, proc in self.of.items():
            for target in OutputTarget:
                gaps = [
                    gap.lines
                    for gap in instance.actor.gaps
                    if (gap.proc, gap.output_target) == (proc, target)
                ]
                written = self._tally.written(source, int(target))
                totals = instance.actor.records[proc].ledgers[target].totals
                ledger = judge_stream(
                    LineSource(self._seed, source, int(target)),
                    written,
                    streams[proc, target],
                    unfinished.get((proc, target), b""),
                    gaps=gaps,
                    skipped=totals.skipped_lines,
                )
                if None not in gaps:
                    counted = totals.stored_bytes + totals.skipped_bytes + totals.gap_bytes
                    counted -= others[proc, target]
                    ledger.miscounted_bytes = max(
                        0, written.done - counted, counted - written.begun
                    )
                total.add(ledger)
        return total


def judge_stream(
    lines: LineSource,
    written: Written,
    rows: Iterable[Row],
    unfinished: bytes,
    *,
    gaps: List[Optional[int]],
    skipped: int = 0,
) -> Ledger:
    """One stream of one writer. ``gaps``: their lines; None is a gap of unknown extent."""
    ledger = Ledger(skipped=skipped)
    ledger.written, possible = _counts(lines, written)
    stored: Set[int] = set()
    expected = cut = 0
    for text, broken, finished in _joined(rows):
        if not finished:
            unfinished = text + unfinished
            continue
        number = lines.number_of(text)
        right = 0 <= number < possible and lines.line(number) == text + b"\n"
        if not right and broken:
            cut += 1  # the rest of a line of which a part lies in a gap
        elif not 0 <= number < possible:
            ledger.spurious += 1
        elif not right:
            ledger.corrupt += 1
        elif number < expected:
            ledger.duplicate += 1
        else:
            stored.add(number)
            expected = number + 1
    ledger.stored = len(stored)
    if unfinished and not lines.line(expected).startswith(unfinished):
        ledger.corrupt += not gaps
    absent = ledger.written - sum(number < ledger.written for number in stored) - skipped
    told = sum(count for count in gaps if count is not None)
    ledger.gap = absent if None in gaps else min(absent, told + cut)
    ledger.missing = absent - ledger.gap
    return ledger


def _joined(rows: Iterable[Row]) -> Iterator[Tuple[bytes, bool, bool]]:
    """Lines with their pieces put together: (text, whether a part was lost, whether it ended)."""
    text, lost, finished = b"", False, True
    for row in rows:
        text += row.text
        lost = lost or bool(row.flags & LineFlag.BROKEN)
        finished = not row.flags & LineFlag.PARTIAL
        if finished:
            yield text, lost, True
            text, lost = b"", False
    if not finished:
        yield text, lost, False


def _counts(lines: LineSource, written: Written) -> Tuple[int, int]:
    """How many lines have been written for certain, and how many at most."""
    certain = number = size = 0
    while size < written.begun:
        size += len(lines.line(number))
        number += 1
        certain += size <= written.done
    return certain, number
