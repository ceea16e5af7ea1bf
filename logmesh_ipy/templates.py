"""What a group of lines looks like: constants with slots between them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional, Pattern, Tuple

__all__ = ["SlotKind", "Template"]


class SlotKind(str, enum.Enum):
    """What stands in a slot; the value is its letter between kernel and browser."""

    NUMBER = "#"
    TEXT = "*"


_VALUE = {
    SlotKind.NUMBER: rb"([-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)",
    SlotKind.TEXT: rb"(.*?)",
}


@dataclass(frozen=True, slots=True)
class Template:
    """``pieces[0] + value + pieces[1] + value + ...``: what all lines of one group have."""

    id: int
    pieces: Tuple[bytes, ...]
    """The constants; one more than there are slots."""
    kinds: Tuple[SlotKind, ...]
    """Of each slot. The values of a NUMBER all parse as finite numbers."""
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
        """What stands in the slots of ``line``, a line of this group; None if it does not fit."""
        match = _pattern(self.pieces, self.kinds).fullmatch(line)
        return match.groups() if match else None


@lru_cache(maxsize=512)
def _pattern(pieces: Tuple[bytes, ...], kinds: Tuple[SlotKind, ...]) -> Pattern[bytes]:
    slots = [*map(_VALUE.__getitem__, kinds), b""]
    return re.compile(b"".join(map(bytes.__add__, map(re.escape, pieces), slots)), re.DOTALL)
