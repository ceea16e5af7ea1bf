"""Levels in text: how severe a line says it is, in any of the usual ways. Pure functions."""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

__all__ = ["level_of"]

_LOOK_BYTES = 256
_SGR = re.compile(rb"\x1b\[[0-9;:]{0,64}m")
_RANK_PREFIX = re.compile(rb"\s*(?:\[(?:rank)?\d{1,7}\]:?\s{0,8})?")

_WORDS: Dict[bytes, int] = {
    b"TRACE": 10,
    b"DEBUG": 10,
    b"INFO": 20,
    b"NOTICE": 20,
    b"WARN": 30,
    b"WARNING": 30,
    b"ERR": 40,
    b"ERROR": 40,
    b"EXCEPTION": 40,
    b"CRIT": 50,
    b"CRITICAL": 50,
    b"FATAL": 50,
    b"PANIC": 50,
}
_GLOG_LETTERS: Dict[bytes, int] = {b"I": 20, b"W": 30, b"E": 40, b"F": 50}

# W0423 12:00:00.000000 of glog and absl; "2026-01-01 12:00:00.000: W " of TensorFlow.
_GLOG = re.compile(
    rb"\[?([IWEF])\d{4} \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWEF]) "
)
# level=error, level="error", "level": "error", severity: ... of structured loggers.
_FIELD = re.compile(
    rb"\b(?:level|lvl|levelname|severity)\"?[=:]\s?\"?(" + b"|".join(_WORDS) + rb")\b",
    re.IGNORECASE,
)
# A level word in capitals counts where a logger puts it: at the start, in brackets, before a
# colon, between dashes or bars, or right behind a time, a bracket or the word NCCL. In the middle
# of a sentence it does not.
_WORD = b"(" + b"|".join(sorted(_WORDS, reverse=True)) + b")"
_MARKED = re.compile(
    rb"^" + _WORD + rb"(?=[\s:\]|>-]|$)"
    rb"|[\[(<|]\s{0,4}" + _WORD + rb"\s{0,8}[\])>|:]"
    rb"|\s" + _WORD + rb"\s{0,8}(?::|\s[-|]\s)"
    rb"|(?:[\dZ\])|]|NCCL|\s-)[\s,]{1,4}" + _WORD + rb"(?=\s|$)"
)
_TIMESTAMP = re.compile(rb"\W{0,2}\d{2,4}[-/:.]\d\d")
_BARE = re.compile(rb"\s" + _WORD + rb"\s")
_PYTHON_WARNING = re.compile(rb"(?:^|: )(?:\w+\.){0,8}[A-Z]\w{0,64}Warning: ")
_EXCEPTION = re.compile(
    rb"(?:[A-Za-z_]\w{0,64}\.){0,8}[A-Z]\w{0,64}(?:Error|Exception)(?:: |\s*$)"
    rb"|(?:KeyboardInterrupt|SystemExit)(?:: |\s*$)"
)
_TRACEBACK = re.compile(rb"Traceback \(most recent call last\):")
# Compilers and shell tools: "error: ", "error[E0308]: ", "a.c:1:2: fatal error: ".
_TOOL = re.compile(
    rb"(?:^|: )(fatal error|fatal python error|fatal|error|warning)(?:\[\w{1,16}\])?: ",
    re.IGNORECASE,
)
_TOOL_LEVELS: Dict[bytes, int] = {
    b"fatal error": 50,
    b"fatal python error": 50,
    b"fatal": 50,
    b"error": 40,
    b"warning": 30,
}


def level_of(line: bytes) -> Optional[int]:
    """The level that a line states in one of the usual ways, or None. Looks at 256 bytes.

    >>> level_of(b"2026-01-01 12:00:00,000 - train - ERROR - no more memory")
    40
    """
    head = line[:_LOOK_BYTES]
    if b"\x1b" in head:
        head = _SGR.sub(b"", head)
    prefix = _RANK_PREFIX.match(head)
    if prefix:
        head = head[prefix.end() :]
    if _TRACEBACK.match(head) or _EXCEPTION.match(head):
        return 40
    glog = _GLOG.match(head)
    if glog:
        return _GLOG_LETTERS[glog[1] or glog[2]]
    found: List[Tuple[int, int]] = []
    field = _FIELD.search(head)
    if field:
        found.append((field.start(), _WORDS[field[1].upper()]))
    word = _MARKED.search(head)
    if word is None and _TIMESTAMP.match(head):
        word = _BARE.search(head)
    if word and word.lastindex:
        found.append((word.start(), _WORDS[word[word.lastindex]]))
    if _PYTHON_WARNING.search(head):
        found.append((len(head), 30))
    tool = _TOOL.search(head)
    if tool:
        found.append((len(head) + 1, _TOOL_LEVELS[tool[1].lower()]))
    return min(found)[1] if found else None
