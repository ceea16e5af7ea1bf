r"""Numbers that say what a line is: they are kept when all others are masked.

- the place in a source file that a frame of a traceback or a logging call names (``x.py:12``,
  ``File "x.py", line 12``, ``Main.java:7``, ``x.php(12)``): two places are two kinds of lines;
- the priority of syslog (``<11>`` at the start) and numeric levels in JSON (``"level":50``);
- colours (``\x1b[31m``), so that they stay part of the text.

`may_have` finds the masks whose lines must be looked at; `keep` writes these parts in letters, so
that masking passes them by; `restore` undoes it. All take time linear in the length of what they
are given. Called by `grouping` and `clusters`.
"""

from __future__ import annotations

import re
from typing import Dict, List, Match, Pattern, Set

from .masks import NEUTRAL

__all__ = [
    "KEPT",
    "keep",
    "keep_all",
    "keep_colours",
    "may_have",
    "names_place",
    "neutral",
    "restore",
]

KEPT, _END = b"\x0e", b"\x0f"
"""A kept part is KEPT, its bytes as two letters each, and _END; masks have neither elsewhere."""

_SOURCE = (
    rb"(?:py|pyx|ipynb|java|kt|scala|clj|go|rs|c|cc|cpp|cxx|cu|cuh|h|hh|hpp|hxx|m|mm|swift|js|jsx|"
    rb"ts|tsx|mjs|cjs|vue|rb|php|pl|pm|lua|jl|r|R|cs|fs|vb|ex|exs|erl|hs|ml|zig|dart|sh|S|s)"
)
# Each begins with what is quickly searched for. %s is a digit, %l the number of a level.
_COLOUR = rb"\x1b\[[%s;:]*m"
_PLACE_END = rb"\." + _SOURCE + rb"(?::%s+(?::%s+)?|\(%s+(?:,%s+)?\)|:line %s+|\"?[,:]? line %s+)"
_OTHER_PARTS = (
    rb"<(?<![^\n]<)%s{1,3}>",
    rb"\"(?:level|severity|levelno|severityNumber|priority|PRIORITY)\"\s{0,4}:\s{0,4}\"?%l(?=[\s,}\"])",
    rb"PRIORITY=(?<![^\n]PRIORITY=)%s(?![^\n])",
    rb"File \"[^\"\n\x0e\x0f]{1,255}\", line %s+",
    rb"Cell In ?\[%s+\], line %s+",
)


def _masked(part: bytes) -> Pattern[bytes]:
    return re.compile(part.replace(b"%s", b"0").replace(b"%l", b"0"))


def _real(part: bytes) -> Pattern[bytes]:
    level = rb"(?:[1-6]0|[0-7]|1\d|2[0-4])"
    return re.compile(b"(" + part.replace(b"%s", rb"\d").replace(b"%l", level) + b")")


_MASKED_COLOUR = _masked(_COLOUR)
_MASKED = [*map(_masked, _OTHER_PARTS), _masked(_PLACE_END)]
_REAL_COLOUR = _real(_COLOUR)
_REAL = [*map(_real, _OTHER_PARTS), _REAL_COLOUR]
_REAL_PLACE_END = _real(_PLACE_END)

_PLACE_BYTES = 255
"""So much of a path is kept before the ending."""
_OUTSIDE = b"\n"
_DELIMITERS = b" \t\r\v\f\"'()[]{}<>,;:=|" + KEPT + _END
_OUT_OF_PATHS = bytes.maketrans(_DELIMITERS, _OUTSIDE * len(_DELIMITERS))

_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_DIGITS = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")
_NEUTRAL = bytes.maketrans(KEPT + _END, NEUTRAL * 2)
_NO_PLACE = b"|".join(start.hex().encode().translate(_LETTERS) for start in (b"<", b'"', b"\x1b"))
_PLACE = re.compile(KEPT + b"(?!" + _NO_PLACE + b")")
# What was cut within a part ends without _END, or begins with it.
_WRITTEN = re.compile(KEPT + b"((?:[a-p]{2})*)(?:" + _END + rb"|[a-p]?\Z)|\A" + _END)


def may_have(masks: bytes) -> Dict[bytes, bool]:
    """Of some collapsed masks those whose lines must be looked at: whether for colours only."""
    found = dict.fromkeys(_with(_MASKED_COLOUR, masks), True)
    for pattern in _MASKED:
        found.update(dict.fromkeys(_with(pattern, masks), False))
    return found


def _with(pattern: Pattern[bytes], masks: bytes) -> Set[bytes]:
    """The lines of ``masks`` in which a pattern is found."""
    found = set()
    match = pattern.search(masks)
    while match:
        start = masks.rfind(b"\n", 0, match.start()) + 1
        end = masks.find(b"\n", match.end())
        if end < 0:
            end = len(masks)
        found.add(masks[start:end])
        match = pattern.search(masks, end)
    return found


class _Written(Dict[bytes, bytes]):
    """Parts as they are written; emptied when full."""

    _MAX = 4096
    _MAX_PART = 256

    def __missing__(self, part: bytes) -> bytes:
        written = keep_all(part)
        if len(part) <= self._MAX_PART:
            if len(self) >= self._MAX:
                self.clear()
            self[part] = written
        return written


def keep_all(line: bytes) -> bytes:
    """A whole line written in letters."""
    return KEPT + line.hex().encode().translate(_LETTERS) + _END


_written = _Written()


def neutral(lines: bytes) -> bytes:
    """``lines`` with NEUTRAL for the bytes that begin and end what is kept."""
    return lines.translate(_NEUTRAL)


def keep(lines: bytes) -> bytes:
    r"""`neutral` lines, joined by ``\n``, with the parts that must be kept written in letters."""
    for pattern in _REAL:
        lines = _write(pattern, lines)
    return _write_places(lines)


def keep_colours(lines: bytes) -> bytes:
    """The same as `keep`, for lines that have no other parts than colours."""
    return _write(_REAL_COLOUR, lines)


def restore(text: bytes) -> bytes:
    """What `keep` and `keep_all` wrote as it was."""
    return _WRITTEN.sub(_read, text)


def names_place(text: bytes) -> bool:
    """Whether a part that was kept names a place in a source file."""
    return KEPT in text and _PLACE.search(text) is not None


def _write(pattern: Pattern[bytes], text: bytes) -> bytes:
    parts = pattern.split(text)
    parts[1::2] = map(_written.__getitem__, parts[1::2])
    return b"".join(parts)


def _write_places(text: bytes) -> bytes:
    """Write the places: each from the start of its path, which is sought from its ending."""
    parts: List[bytes] = []
    done = 0
    inside = b""
    for match in _REAL_PLACE_END.finditer(text):
        inside = inside or text.translate(_OUT_OF_PATHS)
        dot = match.start()
        lowest = max(done, dot - _PLACE_BYTES)
        start = max(lowest, inside.rfind(_OUTSIDE, lowest, dot) + 1)
        if start < dot:
            parts += (text[done:start], _written[text[start : match.end()]])
            done = match.end()
    return b"".join([*parts, text[done:]])


def _read(match: Match[bytes]) -> bytes:
    return bytes.fromhex((match[1] or b"").translate(_DIGITS).decode())
