r"""Which lines of some chunks are wanted: found in bulk, most chunks without looking at a line.

A chunk lies there as one text. Patterns are first looked for in these texts, which tells of most
chunks at the speed of memory that no line of them is wanted; only what is left is cut into lines,
and each line looked at by itself (``log_columns``). Looking at a text may find more than looking
at its lines (``\s`` takes a newline too), never less; where that is not sure it is left out.

Made and called by ``logs``, in any thread.
"""

from __future__ import annotations

import re
from itertools import compress
from typing import FrozenSet, List, Optional, Sequence, Tuple

from .log_columns import LineBlock, level_signs, literal_regex, pa, pc, texts_of
from .log_filter import UNSTATED_LEVEL, LogFilter, TextPattern
from .store import ChunkHead, ChunkRun

__all__ = ["LogSearch"]

_NARROW_BYTES = 128 << 10
_MAX_BRANCHES = 6
_TRIAL = 16

# What means another place in a text than in a line, even with (?m).
_PLACED = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-")
# Flags that hold for what comes behind them; and text in which no character has a meaning.
_FLAGS_WITHIN = re.compile(r"\(\?[a-zA-Z]+\)|\\Q")
_LITERAL_START = re.compile(r"[\w ]{2}", re.ASCII)
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|[()|]", re.DOTALL)


class LogSearch:
    """Gives the lines that a filter means. One for a reading of a selection; for any threads."""

    def __init__(self, wanted: LogFilter, sources: Optional[FrozenSet[int]] = None) -> None:
        self._wanted = wanted
        self._sources = sources
        self._sieves = [sieve for sieve in map(_sieve, wanted.patterns) if sieve]
        if wanted.level > UNSTATED_LEVEL:
            self._sieves.append((level_signs(wanted.level),))
        self._seen = self._passed = self._left_out = 0

    def blocks(self, run: ChunkRun, first_row: int, end_row: int) -> List[LineBlock]:
        """The lines wanted from ``first_row`` to below ``end_row``; no block is empty."""
        heads: Sequence[ChunkHead] = run.heads
        texts = texts_of(run)
        chosen = [
            (self._sources is None or head.info.proc in self._sources) and self._wanted.takes(head)
            for head in heads
        ]
        if not all(chosen):
            heads, texts = list(compress(heads, chosen)), texts.filter(pa.array(chosen, pa.bool_()))
        return self._blocks(heads, texts, first_row, end_row) if heads else []

    def _blocks(
        self, chunks: Sequence[ChunkHead], texts: pa.Array, first_row: int, end_row: int
    ) -> List[LineBlock]:
        try:
            texts = texts.cast(pa.large_string())
        except pa.ArrowInvalid:
            middle = len(chunks) // 2
            if middle and pc.sum(pc.binary_length(texts)).as_py() > _NARROW_BYTES:
                # What is not UTF-8 costs much more: narrow it down.
                return [
                    *self._blocks(chunks[:middle], texts.slice(0, middle), first_row, end_row),
                    *self._blocks(chunks[middle:], texts.slice(middle), first_row, end_row),
                ]
        else:
            if self._sieves and self._worth_it():
                chunks, texts = self._sift(chunks, texts)
            if not chunks:
                return []
        block = LineBlock(chunks, texts).meeting(self._wanted, first_row, end_row)
        return [block] if len(block) else []

    def _worth_it(self) -> bool:
        """Whether to sieve: where most chunks pass it is work for nothing, tried now and then."""
        self._left_out = 0 if self._left_out == _TRIAL else self._left_out + 1
        return not self._left_out or self._passed * 2 <= self._seen

    def _sift(
        self, chunks: Sequence[ChunkHead], texts: pa.Array
    ) -> Tuple[Sequence[ChunkHead], pa.Array]:
        """The chunks that may have lines wanted, and their texts."""
        before = len(chunks)
        for sieve in self._sieves:
            may = pc.match_substring_regex(texts, pattern=sieve[0])
            for pattern in sieve[1:]:
                may = pc.or_(may, pc.match_substring_regex(texts, pattern=pattern))
            if not pc.all(may).as_py():
                chunks, texts = list(compress(chunks, may.to_pylist())), texts.filter(may)
        # Recent ones count more. Another thread's figures may get lost; they are a guess anyway.
        self._seen = self._seen // 2 + before
        self._passed = self._passed // 2 + len(chunks)
        return chunks, texts


def _sieve(pattern: TextPattern) -> Optional[Tuple[str, ...]]:
    """Regular expressions one of which is found in each text with a line that is meant."""
    if not pattern.regex:
        return (literal_regex(pattern.text),)
    if _PLACED.search(pattern.text):
        return None
    return tuple(f"(?m){branch}" for branch in _branches(pattern.text))


def _branches(pattern: str) -> List[str]:
    """``a|b`` as its branches, if each begins with a text: RE2 finds these much faster alone."""
    flags = re.match(r"\(\?[a-zA-Z]+\)", pattern)
    before = flags[0] if flags else ""
    body = pattern[len(before) :]
    if "|" not in body or _FLAGS_WITHIN.search(body):
        return [pattern]
    group = re.fullmatch(r"\((?:\?:)?(.*)\)", body, re.DOTALL)
    found = _alternatives(group[1]) if group else None
    if found is None:
        found = _alternatives(body)
    most = _MAX_BRANCHES // 2 if "i" in before else _MAX_BRANCHES
    if found is None or len(found) > most or not all(map(_LITERAL_START.match, found)):
        return [pattern]
    return [before + branch for branch in found]


def _alternatives(body: str) -> Optional[List[str]]:
    """What ``|`` separates outside of groups; None if the parentheses are not even."""
    depth = start = 0
    found: List[str] = []
    for token in _TOKEN.finditer(body):
        if token[0] == "(":
            depth += 1
        elif token[0] == ")":
            depth -= 1
            if depth < 0:
                return None
        elif token[0] == "|" and not depth:
            found.append(body[start : token.start()])
            start = token.end()
    return [*found, body[start:]] if not depth else None
