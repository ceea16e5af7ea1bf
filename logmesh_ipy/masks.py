r"""Bulk masking of what varies in lines: numbers, ids, addresses, paths, times.

Two steps, each a function of the one before, so that lines with equal masks are alike all the way:

- a *mask* is a line whose digits are all ``0`` (`mask`), later with runs of them shortened
  (`collapse`) and cut to what is looked at (`cut`);
- a *skeleton* (`skeletons`) is a mask in which each variable part is one *mark*: ``1`` for a
  number, ``2`` for other text, ``3`` for a date or a time. No other digits are left, so nothing
  needs escaping.

Words are never masked. Masking works on many lines at once, joined by ``\n``; skeletons are made
token by token, and the tokens remembered. Called by `grouping`.
"""

from __future__ import annotations

import re
from typing import Dict, List

from .verdicts import has_verdict, is_verdict, words_in

__all__ = [
    "LOOK_BYTES",
    "NEUTRAL",
    "NUMBER",
    "REST",
    "TEXT",
    "TIME",
    "WIDTH",
    "collapse",
    "is_binary",
    "mask",
    "mask_kept",
    "rest_of",
    "shortened",
    "skeletons",
    "with_widths",
]

NUMBER = b"1"
TEXT = b"2"
TIME = b"3"
REST = b"4"
"""Before the digest, in letters, of what is behind the look at a long line."""
WIDTH = b"5"
"""Before what may be of a hexadecimal number; the widths of numbers tell, see `with_widths`."""

NEUTRAL = b"\x1a"
"""In lines with parts that are kept: a byte that `mask` has TEXT for."""

LOOK_BYTES = 4096
"""So much of a collapsed mask is looked at in detail."""
_HEAD_BYTES = 4 * LOOK_BYTES

_MASKED_KEPT = bytes.maketrans(b"123456789" + NEUTRAL, b"000000000" + TEXT)
_MASKED = bytes.maketrans(b"123456789\x0e\x0f", b"000000000" + TEXT + TEXT)
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"ghijklmnopqrstuv")


def mask(data: bytes) -> bytes:
    r"""``data`` with each digit ``0``, and TEXT for the bytes ``\x0e`` and ``\x0f``.

    >>> mask(b"step 12, loss nan")
    b'step 00, loss nan'
    """
    return data.translate(_MASKED)


def mask_kept(data: bytes) -> bytes:
    """``data``, in which parts are kept, with each digit ``0`` and TEXT for NEUTRAL."""
    return data.translate(_MASKED_KEPT)


def collapse(masked: bytes) -> bytes:
    """A mask with runs of zeros as one (those of more than ten as a few).

    >>> collapse(b"step 00000 of 000")
    b'step 0 of 0'
    """
    return masked.replace(b"0000", b"0").replace(b"00", b"0").replace(b"00", b"0")


def shortened(masks: List[bytes]) -> List[bytes]:
    """Each mask collapsed; a long one cut to LOOK_BYTES and a digest. At least one mask."""
    return collapse(b"\n".join(map(_cut, masks))).split(b"\n")


def _cut(masked: bytes) -> bytes:
    if len(masked) <= LOOK_BYTES:
        return masked
    head = collapse(masked[:_HEAD_BYTES])
    if len(head) <= LOOK_BYTES and len(masked) <= _HEAD_BYTES:
        return head
    return head[:LOOK_BYTES] + _digest(masked.translate(None, b"0"), masked.count(b" 0"))


def rest_of(text: bytes) -> bytes:
    """A digest of a long text as REST and 16 letters; nothing for one of up to LOOK_BYTES."""
    return _digest(text, 0) if len(text) > LOOK_BYTES else b""


def _digest(text: bytes, numbers: int) -> bytes:
    digest = hash((text, numbers)) & (1 << 64) - 1
    return REST + (b"%016x" % digest).translate(_LETTERS)


_WIDE_HEX = re.compile(
    rb"(?<!\w)[0a-f]{8}-(?:[0a-f]{4}-){3}[0a-f]{12}(?!\w)|"
    rb"(?<![A-Za-z0])(?<!0\.)(?=0*[a-fA-F])(?=[a-fA-F]*0)(?:[0a-f]{6,128}|[0A-F]{6,128})"
    rb"(?![A-Za-z0]|[-+]0)"
)


def with_widths(masked: bytes) -> bytes:
    """A mask, not collapsed, with TEXT for the hexadecimal numbers of six digits and more."""
    return _WIDE_HEX.sub(TEXT, masked[:_HEAD_BYTES]) + masked[_HEAD_BYTES:]


_CONTROLS = bytes(set(range(32)) - set(b"\t\r\x1b"))


def is_binary(line: bytes) -> bool:
    """Whether more than one byte in twenty is a control character that no text has."""
    return len(line) - len(line.translate(None, _CONTROLS)) > len(line) // 20


# --- tokens -----------------------------------------------------------------------------------

# What follows the scheme of a URL is one token, though delimiters are in it.
_DELIMITER = re.compile(rb"(://[^\s\"'<>,;()\[\]{}|]*|[\s\"'<>,;()\[\]{}=|]+)")

_URL = rb"://.+"
_PATH = rb"(?:[A-Za-z]:\\|[A-Za-z]:/|\\\\|~?/|\.\.?/)[^:]*[^:/\\][/\\]?"
_HOST = rb"(?=[a-z.]*[0-])(?:[a-z0-]+\.){2,}[a-z]{2,}"
_DOMAIN = rb"(?:[a-z0-]+\.)+(?:com|net|org|edu|gov|local|internal)(?:\.[a-z]{2})?"
_NAME_AND_PORT = rb"[A-Za-z0][\w-]*(?:\.[\w-]+)+(?:/0+(?:\.0+){3})?:0+"
_WHOLE = re.compile(
    rb"(?:" + _URL
    + rb"|" + _PATH
    + rb"|(?:" + _HOST + rb"|" + _DOMAIN + rb")(?::0+)?"
    + rb"|" + _NAME_AND_PORT
    + rb"|/?0+(?:\.0+){3}(?:[:/]0+)?"  # IPv4
    rb"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # mail
    rb"|(?=[0a-f-]*0)[0a-f]{1,8}(?:-[0a-f]{1,4}){3}-[0a-f]{1,12}"  # uuid
    rb"|0[xX][0a-fA-F]+"
    rb"|(?=[a-fA-F:]*0)(?:[0a-fA-F]{1,4}::?){3,}[0a-fA-F]{1,4}"  # MAC, IPv6
    rb")\Z"
)  # fmt: skip
_VERSION = re.compile(rb"v?0+\.0+\.0+(?:[.+-]?[\w.+-]*\w)?\Z")
# Codes of letters and numbers: R00-M0-NF, 1-1.2.
_CODE = re.compile(rb"[A-Za-z]{0,2}0+(?:[-:_.][A-Za-z]{0,2}0*){2,}(?<=[A-Za-z0])\Z")
_CLOCK = rb"0+:0+(?::0+)?(?:[.,:]0+)?"
_TIME = re.compile(
    rb"(?:0+([-/.])0+\1(?:0+)(?:[T_:-]?0+[:.]0+[:.]0+(?:\.0+)?)?(?:Z|[+-]0+:?0*)?"
    rb"|" + _CLOCK + rb"(?:Z|[+-]0+:?0*)?"
    rb")\Z"
)  # fmt: skip
_HEX = re.compile(
    rb"(?<![A-Za-z0])(?:"
    rb"(?=[0a-f]{4})[0a-f]*?(?:0[a-f]+0|[a-f]0+[a-f])[0a-f]*"
    rb"|(?=[0A-F]{4})[0A-F]*?(?:0[A-F]+0|[A-F]0+[A-F])[0A-F]*"
    rb")(?![A-Za-z0])"
)
# Short tokens like 0c and e0.
_SHORT_HEX = re.compile(
    rb"(?<![A-Za-z0])(?<!0\.)(?:0+(?:[a-f]{1,8}|[A-F]{1,8})|(?:[a-f]{1,8}|[A-F]{1,8})0+"
    rb"|0+[A-Fa-f]0+|[a-f]0+[a-f]|[A-F]0+[A-F])(?![A-Za-z0]|[-+]0)"
)
_NUMBER = re.compile(rb"(?:(?<![A-Za-z0)\]])[-+])?(?:0+(?:\.0+)?|(?<![\w.])\.0+)(?:[eE][-+]?0+)?")
_SIMPLE_NUMBER = re.compile(rb"[-+]?0+(?:\.0+)?(?:[eE][-+]?0+)?\Z")
_RUNS = re.compile(rb"[123]{2,}")
_ENDINGS = frozenset(
    (b"in", b"out", b"err", b"error", b"lock", b"debug", b"trace", b"info", b"live")
)
"""Endings of files that say nothing about them, though the words may be verdicts elsewhere."""
_TRAIL = b".:!?*"
_BLOB = re.compile(rb"(?=[^0]*0)[A-Za-z0+_=-][A-Za-z0+/_=-]*\Z")
_LONG_HEX = re.compile(rb"(?:[0a-f]+|[0A-F]+)\Z")
_BLOB_BYTES = 16
_SAMPLE_BYTES = 32
_LONG_BYTES = 256

_CLASSES = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"a" * 26 + b"A" * 26
)
_CHANGES = (b"aA", b"0A", b"a0", b"A0", b"0a")


_MAY_VARY = re.compile(rb"[0/\\@]|\w\.\w")


class _Tokens(Dict[bytes, bytes]):
    """The skeleton of each token, kept when first asked for, if short; emptied when full."""

    _MAX = 16384

    def __missing__(self, token: bytes) -> bytes:
        made = _token(token) if _MAY_VARY.search(token) else token
        if len(token) <= _LONG_BYTES:
            if len(self) >= self._MAX:
                self.clear()
            self[token] = made
        return made


_tokens = _Tokens()


def skeletons(masks: List[bytes]) -> List[bytes]:
    r"""The skeleton of each mask, in order. No mask contains ``\n``.

    >>> skeletons([b"step 0 at 0.0.0.0:0: loss -0.0e-0"])
    [b'step 1 at 2: loss 1']
    """
    parts = _DELIMITER.split(b"\n".join(masks))
    return b"".join(map(_tokens.__getitem__, parts)).split(b"\n")


def _token(token: bytes) -> bytes:
    """The skeleton of a token."""
    if len(token) > _LONG_BYTES:
        return TEXT if b"0" in token else token
    if not token.isascii():
        return _RUNS.sub(TEXT, _NUMBER.sub(NUMBER, token)) if b"0" in token else token
    core = token.rstrip(_TRAIL)
    return _core(core) + token[len(core) :]


def _core(core: bytes) -> bytes:
    if _SIMPLE_NUMBER.match(core):
        return NUMBER
    if len(core) >= _BLOB_BYTES and _BLOB.match(core) and (_LONG_HEX.match(core) or _random(core)):
        return TEXT
    if _TIME.match(core):
        return TIME
    if _WHOLE.match(core):
        return _named(core)
    if (_VERSION.match(core) or _CODE.match(core)) and not has_verdict(core):
        return TEXT
    if b":" in core:
        return b":".join(map(_core, core.split(b":")))
    if b"0" not in core:
        return core
    core = _HEX.sub(TEXT, _SHORT_HEX.sub(rb"5\g<0>", core))
    core = _NUMBER.sub(NUMBER, core)
    return _RUNS.sub(TEXT, core)


def _named(name: bytes) -> bytes:
    """TEXT for a name; with those of its parts that say how something is, or what is done."""
    parts = name.rstrip(b"/\\").replace(b"\\", b"/").split(b"/")
    last = parts.pop()
    kept = [part for part in parts if part and is_verdict(part.lower())]
    if parts and b":" not in last:
        words = words_in(last.partition(b".")[0])
        ending = last.rpartition(b".")[2]
        if (words and is_verdict(words[-1])) or (ending not in _ENDINGS and has_verdict(ending)):
            kept.append(_NUMBER.sub(TEXT, last))
    return TEXT + b"/".join(kept)


def _random(token: bytes) -> bool:
    """Whether a token changes between cases and digits as often as a random one does."""
    start = token[:_SAMPLE_BYTES].translate(_CLASSES)
    return sum(map(start.count, _CHANGES)) * 5 > len(start)
