r"""Numbers that say what a line is: they are kept when all others are masked.

- the place in a source file that a frame of a traceback or a logging call names (``x.py:12``,
  ``File "x.py", line 12``, ``Main.java:7``, ``x.php(12)``): two places are two kinds of lines;
- the priority of syslog (``<11>`` at the start) and numeric levels in JSON (``"level":50``);
- colours (``\x1b[31m``), so that they stay part of the text.

`may_have` finds the masks whose lines must be looked at one by one; `keep` writes these parts in
letters, so that masking passes them by; `restore` undoes it. Called by `grouping` and `clusters`.
"""

from __future__ import annotations

import re
from typing import Match, Set

__all__ = ["KEPT", "keep", "keep_all", "may_have", "names_place", "restore"]

KEPT, _END = b"\x0e", b"\x0f"
"""A kept part is KEPT, its bytes as two letters each, and _END; masks have neither elsewhere."""

_SOURCE = (
    rb"(?:py|pyx|ipynb|java|kt|scala|clj|go|rs|c|cc|cpp|cxx|cu|cuh|h|hh|hpp|hxx|m|mm|swift|js|jsx|"
    rb"ts|tsx|mjs|cjs|vue|rb|php|pl|pm|lua|jl|r|R|cs|fs|vb|ex|exs|erl|hs|ml|zig|dart|sh|S|s)"
)
# %s is a digit, %l the number of a level, %p the start of a path.
_PARTS = (
    rb"^<%s{1,3}>",
    rb"\"(?:level|severity|levelno|severityNumber|priority|PRIORITY)\"\s{0,4}:\s{0,4}\"?%l(?=[\s,}\"])",
    rb"^PRIORITY=%s$",
    rb"\x1b\[[%s;:]*m",
    rb"%p\." + _SOURCE + rb"(?::%s+(?::%s+)?|\(%s+(?:,%s+)?\)|:line %s+|\"?[,:]? line %s+)",
    rb"File \"[^\"\n]{1,255}\", line %s+",
    rb"Cell In ?\[%s+\], line %s+",
)
# One after the other, each begins with what is quickly searched for.
_MASKED = [
    re.compile(part.replace(b"%s", b"0").replace(b"%l", b"0").replace(b"%p", b""), re.MULTILINE)
    for part in _PARTS
]
_REAL = re.compile(
    b"|".join(_PARTS)
    .replace(b"%s", rb"\d")
    .replace(b"%l", rb"(?:[1-6]0|[0-7]|1\d|2[0-4])")
    .replace(b"%p", rb"[^\s\"'()\[\]{}<>,;:=|]{1,255}")
)
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_DIGITS = bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")
_NEUTRAL = bytes.maketrans(KEPT + _END, b"\x1a\x1a")
_NO_PLACE = b"|".join(start.hex().encode().translate(_LETTERS) for start in (b"<", b'"', b"\x1b"))
_PLACE = re.compile(KEPT + b"(?!" + _NO_PLACE + b")")
_WRITTEN = re.compile(KEPT + b"((?:[a-p]{2})*)" + _END)


def may_have(masks: bytes) -> Set[bytes]:
    """Those of some collapsed masks whose lines must be looked at one by one."""
    found = set()
    for pattern in _MASKED:
        match = pattern.search(masks)
        while match:
            start = masks.rfind(b"\n", 0, match.start()) + 1
            end = masks.find(b"\n", match.end())
            if end < 0:
                end = len(masks)
            found.add(masks[start:end])
            match = pattern.search(masks, end)
    return found


def keep(line: bytes) -> bytes:
    """``line`` with the parts that must be kept written in letters."""
    return _REAL.sub(_write, line.translate(_NEUTRAL))


def keep_all(line: bytes) -> bytes:
    """A whole line written in letters."""
    return KEPT + line.hex().encode().translate(_LETTERS) + _END


def restore(text: bytes) -> bytes:
    """What `keep` and `keep_all` wrote as it was."""
    return _WRITTEN.sub(_read, text)


def names_place(text: bytes) -> bool:
    """Whether a part that was kept names a place in a source file."""
    return KEPT in text and _PLACE.search(text) is not None


def _write(match: Match[bytes]) -> bytes:
    return KEPT + match[0].hex().encode().translate(_LETTERS) + _END


def _read(match: Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].translate(_DIGITS).decode())
