"""What a group of lines looks like: constants with slots between them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

__all__ = ["SlotKind", "Template"]


_MAX_PLACES = 1000
"""So many places are tried for the end of a text: else a line of digits would take seconds."""


class SlotKind(str, enum.Enum):
    """What stands in a slot; the value is its letter between kernel and browser."""

    NUMBER = "#"
    TEXT = "*"


_NUMBER = re.compile(rb"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Template:
    """``pieces[0] + value + pieces[1] + value + ...``: what all lines of one group have."""

    id: int
    pieces: Tuple[bytes, ...]
    """The constants; one more than there are slots."""
    kinds: Tuple[SlotKind, ...]
    """Of each slot. The values of a NUMBER all parse as floats; ``nan`` and ``inf`` are texts."""
    level: Optional[int]
    """Python's level number; None where the lines state none."""
    example: bytes
    """The first line of the group, or its start."""

    @property
    def text(self) -> bytes:
        """The constants with ``<#>`` and ``<*>`` in the slots."""
        marks = [b"<%b>" % kind.value.encode() for kind in self.kinds]
        return b"".join(map(bytes.__add__, self.pieces, [*marks, b""]))

    def values(self, line: bytes) -> Optional[Tuple[bytes, ...]]:
        """What stands in the slots of ``line``, a line of this group; None if it does not fit.

        A NUMBER is as long as it can be; a TEXT ends where what is behind it, up to the next TEXT,
        fits first. There is no way back from there, so the time is that of a search. The browser
        cuts lines in the same way.
        """
        first = self.pieces[0]
        spans = self._numbers(line, len(first), 0) if line.startswith(first) else None
        while spans is not None and len(spans) < len(self.kinds):
            slot = len(spans)
            at = (spans[-1][1] if spans else 0) + len(self.pieces[slot])
            more = self._text(line, at, slot)
            spans = None if more is None else spans + more
        return None if spans is None else tuple([line[start:end] for start, end in spans])

    def _text(self, line: bytes, at: int, slot: int) -> Optional[List[Tuple[int, int]]]:
        """The span of the TEXT at ``at``, and those of the NUMBERs up to the next TEXT."""
        piece = self.pieces[slot + 1]
        if slot == len(self.kinds) - 1:
            end = len(line) - len(piece)
            return [(at, end)] if end >= at and line.endswith(piece) else None
        end = line.find(piece, at)
        for _ in range(_MAX_PLACES):
            if end < 0:
                break
            numbers = self._numbers(line, end + len(piece), slot + 1)
            if numbers is not None:
                return [(at, end), *numbers]
            end = line.find(piece, end + 1)
        return None

    def _numbers(self, line: bytes, at: int, slot: int) -> Optional[List[Tuple[int, int]]]:
        """The spans of the NUMBERs from ``slot`` up to the next TEXT or the end of the line."""
        spans: List[Tuple[int, int]] = []
        while slot < len(self.kinds) and self.kinds[slot] is SlotKind.NUMBER:
            number = _NUMBER.match(line, at)
            slot += 1
            if number is None or not line.startswith(self.pieces[slot], number.end()):
                return None
            spans.append(number.span())
            at = number.end() + len(self.pieces[slot])
        return spans if slot < len(self.kinds) or at == len(line) else None
