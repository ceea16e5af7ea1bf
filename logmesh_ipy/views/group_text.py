"""Groups as text that plain views share: who says it how often, and what stands in its slots.

    [0-3 400x] step <#>: loss <#>
    |_ step 1 [0] .. 50 .. 99 [3]; loss 0.12 [2] .. 0.5 .. 2.31 [1]

What is ours stands in the brackets or at the left edge of a row of its own: a line of a proc can
imitate neither. A number slot is told by its least and most value with their ranks and the median
between them, a text slot by its most frequent values with how often and by which ranks.
"""

from __future__ import annotations

import time
from typing import Collection, List, Union

from ..aggregator import Group, Report
from ..levels import level_name
from ..model import OutputTarget, fold_ranks
from ..sanitize import to_text
from ..slot_values import GroupKey, NumberSlot, TextSlot, slot_values
from ..store import LogStore

__all__ = ["add_values", "group_prefix", "times_text", "values_row"]

_VALUES_SEC = 0.02
"""For each window: a fraction of a per cent of the shortest one, some ten thousand lines."""
_MAX_GROUPS = 200
_MAX_TOP = 3
_MAX_VALUE_CHARS = 40
_MAX_CHARS = 400
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_BELOW = "\N{BOX DRAWINGS LIGHT UP AND RIGHT}"


def add_values(store: LogStore, report: Report) -> None:
    """Look up what stands in the slots of a report's groups, for a moment at most."""
    groups = [group for group in report.groups if group.differs and group.template][:_MAX_GROUPS]
    if not groups:
        return
    keys = [GroupKey(g.template_id, g.target, g.job, report.cell) for g in groups]
    first, end = min(g.first_row for g in groups), max(g.end_row for g in groups)
    for group, values in zip(
        groups, slot_values(store, keys, first, end, _VALUES_SEC), strict=True
    ):
        group.values = values


def group_prefix(group: Group, everyone: Collection[int]) -> str:
    """Who says it how often: ``[0-3]``, ``[all but 3 err 12]`` with a multiplication sign."""
    parts = [fold_ranks(group.ranks, everyone)]
    if group.job:
        parts.append(group.job)
    if group.target is OutputTarget.STDERR:
        parts.append("err")
    if group.count > 1:
        parts.append(f"{group.count:,}{_TIMES}")
    return f"[{' '.join(parts)}]"


def times_text(group: Group) -> str:
    """``WARNING, first at 10:00:01.250, last at 10:00:03.500``: the level if known, and times."""
    parts = [] if group.level is None else [level_name(group.level)]
    if group.count > 1:
        parts += [f"first at {_clock(group.first_wall)}", f"last at {_clock(group.last_wall)}"]
    else:
        parts.append(f"at {_clock(group.first_wall)}")
    return ", ".join(parts)


def values_row(group: Group) -> str:
    """What stands in the slots, inert; empty where nobody has looked, or nothing differs."""
    values = group.values
    if values is None or not values.lines:
        return ""
    told = [text for text in map(_slot_text, values.slots) if text]
    if not told:
        return ""
    of = "" if values.lines >= group.count else f"of the first {values.lines:,}: "
    text = f"{_BELOW} {of}{'; '.join(told)}"
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + _ELLIPSIS


def _slot_text(slot: Union[NumberSlot, TextSlot]) -> str:
    name = _inert(slot.name)
    if isinstance(slot, TextSlot):
        parts: List[str] = []
        for text, count, ranks in slot.top[:_MAX_TOP]:
            short = text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + _ELLIPSIS
            times = f" {count:,}{_TIMES}" if count > 1 else ""
            parts.append(f"{_inert(short)}{times} [{ranks}]")
        if slot.distinct > _MAX_TOP:
            parts.append(f"{slot.distinct - _MAX_TOP:,} more")
        return f"{name} {', '.join(parts)}" if parts else ""
    if slot.least == slot.most:
        return f"{name} {_number(slot.least)}"
    return (
        f"{name} {_number(slot.least)} [{slot.least_rank}] {_ELLIPSIS} {_number(slot.median)} "
        f"{_ELLIPSIS} {_number(slot.most)} [{slot.most_rank}]"
    )


def _clock(wall: float) -> str:
    milliseconds = int(wall * 1000) % 1000
    return f"{time.strftime('%H:%M:%S', time.localtime(wall))}.{milliseconds:03d}"


def _inert(text: str) -> str:
    return to_text(text.encode())


def _number(number: float) -> str:
    """As people write it: whole numbers whole, others with six digits."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
