"""What a msgpack body may hold, found out on its bytes before anything is made of them. Sans-IO.

A decoder believes the lengths that a body states: arrays within arrays of a million each are made
before it is seen that their members are missing. So the bytes are walked first, token by token:
nesting, the number of values, each length against what is left, and no extension type. What has
passed costs a decoder no more than its own size and ``MAX_VALUES`` values.
"""

from __future__ import annotations

from typing import List, Tuple

from .errors import ProtocolError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "check_plain"]

MAX_DEPTH = 64
"""Of containers within containers."""
MAX_VALUES = 1 << 17
"""In one body, keys and containers included."""


_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9}  # nil, false, true, floats: whole size
_FIXED |= {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}  # integers
_FIXED |= dict.fromkeys((*range(0x80), *range(0xE0, 0x100)), 1)  # small integers
_FIXED |= {0xA0 + size: 1 + size for size in range(32)}  # short texts
_STEP = [_FIXED.get(first, 0) for first in range(256)]
"""By the first byte: size of the whole token, 0 where that byte does not tell it."""
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Binaries and texts: bytes of the length that follows the first byte."""
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Arrays and maps: bytes of the count, and values per counted member."""


def check_plain(body: bytes) -> None:
    """Raises ProtocolError unless the body is one msgpack value within the bounds.

    Texts may still be no UTF-8, and a map's keys of any kind.
    """
    position, end = 0, len(body)
    values = 0
    to_come = 1
    levels: List[int] = []  # of each open container: how many are to come when it is complete
    while to_come:
        if position >= end:
            raise ProtocolError("a body that ends too early")
        first = body[position]
        values += 1
        to_come -= 1
        step = _STEP[first]
        if step:
            position += step
        elif first in _SIZED:
            start = position + 1 + _SIZED[first]
            position = start + int.from_bytes(body[position + 1 : start], "big")
        else:
            position, members = _members(body, position, first)
            if members:
                levels.append(to_come)
                to_come += members
                if values + to_come > MAX_VALUES or len(levels) > MAX_DEPTH:
                    raise ProtocolError(
                        f"a body of more than {MAX_VALUES:,} values or {MAX_DEPTH} levels"
                    )
        while levels and levels[-1] == to_come:
            levels.pop()
    if position != end:
        raise ProtocolError("a body that is cut, or followed by something")


def _members(body: bytes, position: int, first: int) -> Tuple[int, int]:
    """Where the members of a container begin, and how many values they are."""
    if 0x80 <= first <= 0x9F:
        return position + 1, (first & 0x0F) * (2 if first < 0x90 else 1)
    if first not in _COUNTED:
        raise ProtocolError(f"a value of the type 0x{first:02x}, which is not plain")
    width, per_member = _COUNTED[first]
    start = position + 1 + width
    return start, int.from_bytes(body[position + 1 : start], "big") * per_member
