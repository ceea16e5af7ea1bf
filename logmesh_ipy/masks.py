r"""Bulk masking of what varies in lines: numbers, ids, addresses, paths, times.

Two steps, each a function of the one before, so that lines with equal masks are alike all the way:

- a *mask* is a line whose digits are all ``0`` (`mask`), later with runs of them shortened
  (`collapse`);
- a *skeleton* (`skeletons`) is a mask in which each variable part is one *mark*: ``1`` for a
  number, ``2`` for other text, ``3`` for a date or a time. Marks are digits that no mask contains,
  so nothing needs escaping.

Words are never masked. Both work on many lines at once, joined by ``\n``. Pure functions; called
by `grouping`.
"""

from __future__ import annotations

import re
from typing import Dict, List, Match

from .verdicts import is_verdict, words_in

__all__ = ["NUMBER", "REST", "TEXT", "TIME", "collapse", "cut", "has_width", "mask", "skeletons", "widths"]

NUMBER = b"1"
TEXT = b"2"
TIME = b"3"
REST = b"4"
"""What follows behind the look at a long line, as a digest in letters."""

LOOK_BYTES = 4096
"""So much of a mask is looked at in detail."""

_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"ghijklmnopqrstuv")


def mask(data: bytes) -> bytes:
    """``data`` with each digit ``0``.

    >>> mask(b"step 12, loss nan")
    b'step 00, loss nan'
    """
    return data.translate(_ZEROS)


def collapse(masked: bytes) -> bytes:
    """A mask with runs of up to 16 zeros as one (longer ones as a few).

    >>> collapse(b"step 00000 of 000")
    b'step 0 of 0'
    """
    return masked.replace(b"0000", b"0").replace(b"00", b"0").replace(b"00", b"0")


def cut(masked: bytes) -> bytes:
    """A mask of at most LOOK_BYTES and a digest: what is behind them is told apart by it.

    The digest is the same for lines that differ in digits only.
    """
    if len(masked) <= LOOK_BYTES:
        return masked
    rest = masked[LOOK_BYTES:]
    digest = hash((rest.translate(None, b"0"), rest.count(b" 0")))
    return masked[:LOOK_BYTES] + REST + (b"%016x" % (digest & (1 << 64) - 1)).translate(_LETTERS)


# Short tokens like 0c and e0 may be part of a column of hexadecimal numbers of a fixed width.
_SHORT_HEX = re.compile(rb"(?<![A-Za-z0])(?:0+(?:[a-f]{1,8}|[A-F]{1,8})|(?:[a-f]{1,8}|[A-F]{1,8})0+)(?![A-Za-z0])")
_WIDE_HEX = re.compile(rb"(?<![A-Za-z0])(?=0*[a-fA-F])(?=[a-fA-F]*0)(?:[0a-f]{6,}|[0A-F]{6,})(?![A-Za-z0])")


def has_width(masks: bytes) -> bool:
    """Whether the width of a number in any of these collapsed masks matters."""
    return _SHORT_HEX.search(masks) is not None


def widths(masked: bytes) -> bytes:
    """A mask, not collapsed, with TEXT for the hexadecimal numbers of six digits and more."""
    return _WIDE_HEX.sub(TEXT, masked)


# --- what is variable by its form -------------------------------------------------------------

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = rb"0+:0+(?::0+)?(?:[.,:]0+)?"
_TIMES = re.compile(
    # Fri Jul 01 08:16:53 PDT 2005 · 01/Jul/2005:08:16:53 +0000 · Jul 1 08:16:53
    rb"\b(?:" + _DAY + rb",? +)?(?:0+[ /-])?" + _MONTH + rb"[ /-]+0+(?:,? +0+)?[ :]+" + _CLOCK
    + rb"(?: ?[AP]M)?(?: [A-Z]{3,4}(?= 0))?(?: 0+)?(?: [-+]0+)?\b"
    # 2026-01-01T12:00:00.000Z · 2005-06-03-15.42.50.675872 · 26/01/01 12:00 · 2026.01.01 · 20260101
    rb"|(?<![\w.-])0+(?P<by>[-/])0+(?P=by)"
    rb"0+(?:[T _-]?0+[:.]0+[:.]0+(?:[.,]0+)?)?(?:Z| ?[+-]0+:?0*\b)?(?!\w)"
    rb"|(?<![\w:.])" + _CLOCK + rb"(?:Z\b| [AP]M\b)?(?![\w:])"
)  # fmt: skip

# URLs, addresses, hosts, ids, paths and the like. What has letters in it is looked at again.
_NAMES = re.compile(
    rb"[A-Za-z][\w+.-]*://[^\s\"'<>,;()\[\]{}]+"  # URL
    rb"|(?<![\w./~-])(?:[A-Za-z]:\\|\\\\|~?/|\.\.?/)[^\s\"'<>,;()\[\]{}:=|]*[\w*]/?"  # path
    rb"|(?<![\w.-])(?=[a-z.]*[0-])(?:[a-z0-]+\.){2,}[a-z]{2,}(?::0+)?(?![\w./])"  # host
    rb"|(?<![\w.-])(?:[a-z0-]+\.)+(?:com|net|org|edu|gov|local|internal)(?:\.[a-z]{2})?(?![\w./])"
    rb"|(?<![\w.])0+(?:\.0+){3}(?:[:/]0+)?(?!\w|\.\w)"  # IPv4
    rb"|(?<![\w.-])[A-Za-z0][\w-]*(?:\.[\w-]+)+(?:/0+(?:\.0+){3})?:0+(?!\w)"  # host:port
    rb"|(?<![\w.-])[A-Za-z]{0,2}0+(?:[-:_.][A-Za-z]{0,2}0*){2,}(?<=[A-Za-z0])(?!\w)"  # R0-M0-NF
    rb"|(?<!\w)[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # mail
    rb"|(?<!\w)(?=[0a-f-]*0)[0a-f]{1,8}(?:-[0a-f]{1,4}){3}-[0a-f]{1,12}(?!\w)"  # uuid
    rb"|(?<!\w)0[xX][0a-fA-F]+(?!\w)"
    rb"|(?<![\w:.])(?=[a-fA-F:]*0)(?:[0a-fA-F]{1,4}::?){3,}[0a-fA-F]{1,4}(?![\w:])"  # MAC, IPv6
    rb"|(?<![\w.])v?0+\.0+\.0+(?:[.+-]?[\w.+-]*\w)?"  # version
    rb"|(?<![\w./+=-])[A-Za-z0+/_=-]{20,}(?![\w])"  # base64 and the like
)
_HEX = re.compile(
    rb"(?<![A-Za-z0])(?:"
    rb"(?=[0a-f]{4})[0a-f]*?(?:0[a-f]+0|[a-f]0+[a-f])[0a-f]*"
    rb"|(?=[0A-F]{4})[0A-F]*?(?:0[A-F]+0|[A-F]0+[A-F])[0A-F]*"
    rb")(?![A-Za-z0])"
)
_NUMBERS = re.compile(
    rb"(?:(?<![A-Za-z0)\]])[-+])?(?:0+(?:\.0+)?|(?<![\w.])\.0+)(?:[eE][-+]?0+(?!\w))?"
)
_RUNS = re.compile(rb"[123]{2,}")

_MAX_CACHED = 8192
_cached: Dict[bytes, bytes] = {}

_CLASSES = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"a" * 26 + b"A" * 26
)
_CHANGES = re.compile(rb"(?<=[a0])A|(?<=[aA])0|(?<=0)a")


def skeletons(masks: List[bytes]) -> List[bytes]:
    r"""The skeleton of each mask, in order. No mask contains ``\n`` or a digit other than 0.

    >>> skeletons([b"step 0 at 0.0.0.0:0: loss -0.0e-0"])
    [b'step 1 at 2: loss 1']
    """
    text = _TIMES.sub(TIME, b"\n".join(masks))
    text = _NAMES.sub(_name, text)
    text = _HEX.sub(TEXT, text)
    text = _NUMBERS.sub(NUMBER, text)
    text = _RUNS.sub(TEXT, text)
    return text.split(b"\n")


def _name(match: Match[bytes]) -> bytes:
    part = match[0]
    made = _cached.get(part)
    if made is None:
        if len(_cached) >= _MAX_CACHED:
            _cached.clear()
        made = _cached[part] = _masked_name(part)
    return made


def _masked_name(part: bytes) -> bytes:
    """One name as TEXT; with its last word where that is a verdict; as it is where it is a word."""
    if b":" not in part and b"/" not in part and b"\\" not in part and b"." not in part:
        return TEXT if b"0" in part and _random(part) else part
    last = part.replace(b"\\", b"/").rpartition(b"/")[2]
    if last != part and b":" not in last:
        words = words_in(last.partition(b".")[0])
        if words and is_verdict(words[-1]):
            return TEXT + last
    return TEXT


def _random(token: bytes) -> bool:
    """Whether a token changes between cases and digits as often as a random one does."""
    return len(_CHANGES.findall(token.translate(_CLASSES))) * 4 > len(token)
