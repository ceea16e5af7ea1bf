"""Skeletons as words with gaps between them.

A *word* is a token with letters; a *gap* is what stands between two words, before the first and
behind the last: spaces, punctuation, marks, and the units of numbers. A phrase has one gap more
than it has words. Two gaps with the same `form` stand for the same: where a gap has a mark, only
its operators and the kind of its units count. Pure functions; called by `clusters`.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from functools import lru_cache
from typing import List, Match, NamedTuple, Sequence, Tuple

from .masks import REST, TEXT
from .verdicts import cached_if_short

__all__ = ["MARK", "Phrase", "form", "lacks_value", "merged", "phrase", "without"]


class Phrase(NamedTuple):
    """``gaps[0] + words[0] + gaps[1] + ... + gaps[-1]``."""

    words: List[bytes]
    gaps: List[bytes]

    @property
    def skeleton(self) -> bytes:
        """All of it, adjacent marks joined."""
        parts = [self.gaps[0]]
        for word, gap in zip(self.words, self.gaps[1:], strict=True):
            parts += (word, gap)
        return _ADJACENT.sub(TEXT, b"".join(parts))


MARK = re.compile(rb"[123]|" + REST + b"[g-v]{16}")
"""A mark, or the digest behind a long line."""

# Marks that touch, or would if a number took the sign between them for a part of it.
_ANY_MARK = b"(?:" + MARK.pattern + b")"
_ADJACENT = re.compile(
    _ANY_MARK + rb"(?:(?:(?<=1)(?:\.(?=[23])|[eE][-+]?(?=[123])))?" + _ANY_MARK + rb")+"
)
_MAX_WORDS = 192

_DELIMITERS = rb"\s=,;:()\[\]{}<>\"'|"
_TOKEN = re.compile(rb"(?:[^" + _DELIMITERS + rb".]|\.(?=[^" + _DELIMITERS + rb".]))+")
_LETTER = re.compile(rb"[A-Za-z_\x0e\x80-\xff]")
_TRAIL = b"!?*"

# Dates of several tokens: Fri Jul 1 08:16:53 PDT 2005 · 2026-01-01 12:00:00,123 · 1/Jul/2005:...
_DATE = re.compile(
    rb"(?:\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?(?:\b1[ /-])?"
    rb"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ /-]+1(?:,? +1|/1)?[ :]+3"
    rb"(?: ?[AP]M\b)?(?: [A-Z]{3,4}(?= 1))?(?: [+-]?1\b)?"
    rb"|[31][T _-]+3(?:[.,]1)?(?: [+-]1\b)?|3[.,]1"
)
# The name of a thread in brackets beside the level, as most loggers of the JVM write it.
_LEVEL = rb"(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|SEVERE)"
_BRACKETS = rb"\[(?:[^\[\]\x0e]|\[[^\[\]\x0e]*\])+\]"
_THREAD = re.compile(
    rb"(?P<head>\A[^A-Za-z]*3[^A-Za-z\[]*" + _LEVEL + rb" +)" + _BRACKETS
    + rb"|(?P<time>\A[^A-Za-z\[]*3[^A-Za-z\[]*)" + _BRACKETS + rb"(?= +" + _LEVEL + rb"\b)"
)  # fmt: skip

_BYTE_UNITS = frozenset(b"B KB MB GB TB PB kB KiB MiB GiB TiB byte bytes Bytes K M G T".split())
_BIT_UNITS = frozenset(b"b Kb Mb Gb kb kbit Mbit Gbit bit bits".split())
_TIME_UNITS = frozenset(
    b"ns us \xc2\xb5s \xce\xbcs ms s sec secs second seconds Seconds usec msec nsec millis micros "
    b"nanoseconds microseconds milliseconds millisecond min mins minute minutes h hr hrs hour "
    b"hours d day days SECONDS MILLISECONDS".split()
)
_VALUE_MARKS = (b"1", b"2", b"3")
_UNITS = _BYTE_UNITS | _BIT_UNITS | _TIME_UNITS
_WITH_UNIT = re.compile(rb"[~+-]?[12]([A-Za-z\xc2\xb5\xce\xbc]+)\Z")
_COMPOUND_TIME = re.compile(rb"(?:1(?:d|h|m|s|ms|us|ns|min|sec))+\Z")
_UNIT = re.compile(rb"[A-Za-z\xc2\xb5\xce\xbc]+")
_BELOW = re.compile(rb"<(?= ?1 ?(?:s|ms|us|sec|min|h)\b)")
_OPERATORS = re.compile(rb"(?<=\s)[-+*&|^/~]{1,3}(?=\s)|[<>!=]*[<>!][<>!=]*|==+|[%$\x80-\xff]+")


def phrase(skeleton: bytes) -> Phrase:
    """A skeleton cut into words and gaps; behind 192 words all is one gap."""
    if b"3" in skeleton:
        skeleton = _THREAD.sub(_thread, _DATE.sub(b"3", skeleton))
    words: List[bytes] = []
    gaps: List[bytes] = []
    at = 0
    for match in _TOKEN.finditer(skeleton):
        word, is_unit = _word(match[0])
        if not word:
            continue
        start = match.start()
        if is_unit and skeleton[at:start].rstrip(b" ")[-1:] in _VALUE_MARKS:
            continue
        gaps.append(skeleton[at:start])
        words.append(word)
        at = start + len(word)
        if len(words) == _MAX_WORDS:
            break
    gaps.append(skeleton[at:])
    return _without_repeats(Phrase(words, gaps))


def _without_repeats(phrase: Phrase) -> Phrase:
    """The phrase with one word for each list of three or more words that differ in numbers only."""
    words, gaps = phrase
    at = 1
    while at < len(words) - 1:
        end = at
        while end < len(words) and words[end] == words[at - 1] and MARK.search(words[at - 1]):
            end += 1
        if end - at >= 2:
            rest = [gaps[at], TEXT, gaps[end]]
            words = words[:at] + words[end:]
            gaps = [*gaps[:at], b"".join(rest), *gaps[end + 1 :]]
        at += 1
    return Phrase(words, gaps)


@cached_if_short(16384)
def _word(token: bytes) -> Tuple[bytes, bool]:
    """The word in a token, without what trails it, and whether it is a unit behind a number.

    No word: a number with its unit, or no letter at all.
    """
    if not _LETTER.search(token):
        return b"", False
    word = token.rstrip(_TRAIL)
    unit = _WITH_UNIT.match(word)
    if (unit and unit[1] in _UNITS) or _COMPOUND_TIME.match(word):
        return b"", False
    return word, word in _UNITS


def _thread(match: Match[bytes]) -> bytes:
    return (match["head"] or match["time"]) + b"[" + TEXT + b"]"


@cached_if_short(8192)
def form(gap: bytes) -> bytes:
    """What of a gap must be equal for lines to be alike."""
    if not MARK.search(gap):
        return b" ".join(gap.split())
    parts = [b"1"]
    rest = gap.find(REST)
    if rest >= 0:
        parts.append(gap[rest:])
        gap = gap[:rest]
    parts += _OPERATORS.findall(_BELOW.sub(b"", gap))
    units = _UNIT.findall(gap)
    if b"3" in gap or not _TIME_UNITS.isdisjoint(units) or _COMPOUND_TIME.search(gap):
        parts.append(b"time")
    if not _BYTE_UNITS.isdisjoint(units):
        parts.append(b"bytes")
    if not _BIT_UNITS.isdisjoint(units):
        parts.append(b"bits")
    return b" ".join(parts)


def lacks_value(one: bytes, other: bytes) -> bool:
    """Whether of two gaps one has a value that is left out in the other, without a trace.

    Something that stands for the value (a dash), or that calls for it (a colon), is a trace.
    """
    if form(one) == b"1":
        one, other = other, one
    if form(other) != b"1" or MARK.search(one) or b":" in one or b"=" in one:
        return False
    return not Counter(one.replace(b" ", b"")) - Counter(other)


def without(phrase: Phrase, at: int) -> Phrase:
    """The phrase with one word less: it has become part of the gap."""
    words, gaps = phrase
    gap = gaps[at] + TEXT + gaps[at + 1]
    return Phrase([*words[:at], *words[at + 1 :]], [*gaps[:at], gap, *gaps[at + 2 :]])


def merged(one: Phrase, other: Phrase) -> Phrase:
    """The narrowest phrase that both are: with the words that they have in common."""
    if one.words != other.words:
        matcher = SequenceMatcher(None, one.words, other.words, autojunk=False)
        pairs = [
            (a + at, b + at) for a, b, size in matcher.get_matching_blocks() for at in range(size)
        ]
        one = _only(one, [a for a, _ in pairs])
        other = _only(other, [b for _, b in pairs])
    return Phrase(one.words, [_between(a, b) for a, b in zip(one.gaps, other.gaps, strict=True)])


def _only(phrase: Phrase, keep: Sequence[int]) -> Phrase:
    """The phrase with these words only."""
    words, gaps = phrase
    left: List[bytes] = []
    at = 0
    for end in [*keep, len(words)]:
        parts = [gaps[at]]
        for gap in gaps[at + 1 : end + 1]:
            parts += (TEXT, gap)
        left.append(b"".join(parts))
        at = end + 1
    return Phrase([words[at] for at in keep], left)


@lru_cache(maxsize=1024)
def _between(one: bytes, other: bytes) -> bytes:
    """The narrowest gap that both are: what they begin and end with, and a mark."""
    if one == other:
        return one
    shorter = min(len(one), len(other))
    start = 0
    while start < shorter and one[start] == other[start]:
        start += 1
    while start and one[start - 1 : start].isalpha():
        start -= 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    while end and one[len(one) - end : len(one) - end + 1].isalpha():
        end -= 1
    return one[:start] + TEXT + one[len(one) - end :]
