"""Levels: their names and numbers, and how severe a line says it is, in any of the usual ways.

Pure functions; lines are looked at once per group. A level counts where a logger puts it: at the
start, in brackets, before a colon, between dashes or bars, behind a time, in a field of JSON or of
``key=value``. In the middle of a sentence it does not.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Dict, Iterator, List, Mapping, Match, Optional, Tuple

from .errors import OptionError

__all__ = ["LEVEL_NAMES", "level_keys", "level_name", "level_of", "parse_level"]

LEVEL_NAMES: Mapping[int, str] = MappingProxyType(
    {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
)
"""Python's level numbers and their names."""

_MAX_LEVEL = 255
_LEVEL_NUMBERS: Dict[str, int] = {
    **{name.lower(): number for number, name in LEVEL_NAMES.items()},
    "warn": 30,
    "fatal": 50,
}


def parse_level(value: object) -> int:
    """The level (0 to 255) that a name in any case, a number or a number's text stands for.

    Raises OptionError for anything else.

    >>> parse_level("warn"), parse_level("15")
    (30, 15)
    """
    number: Optional[int] = None
    if isinstance(value, str):
        text = value.strip().lower()
        number = _LEVEL_NUMBERS.get(text)
        if number is None and re.fullmatch("[0-9]{1,9}", text):
            number = int(text)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None or not 0 <= number <= _MAX_LEVEL:
        names = ", ".join(sorted(_LEVEL_NUMBERS, key=lambda name: (_LEVEL_NUMBERS[name], name)))
        raise OptionError(
            f"level must be one of {names}, or a number from 0 to {_MAX_LEVEL}; not {value!r:.80}"
        )
    return number


def level_name(level: int) -> str:
    """The name of a level; ``Level 35``, as Python's logging has it, for one without a name."""
    return LEVEL_NAMES.get(level) or f"Level {level}"


# --- levels in text ---------------------------------------------------------------------------

_LOOK_BYTES = 256
_SGR = re.compile(rb"\x1b\[[0-9;:]{0,64}m")
_RANK_PREFIX = re.compile(rb"\s*(?:\[(?:rank)?\d{1,7}\]:?\s{0,8})?")

_WORDS: Dict[bytes, int] = {
    **dict.fromkeys((b"TRACE", b"DEBUG", b"FINE", b"FINER", b"FINEST"), 10),
    **dict.fromkeys((b"INFO", b"NOTICE"), 20),
    **dict.fromkeys((b"WARN", b"WARNING"), 30),
    **dict.fromkeys((b"ERR", b"ERROR", b"EXCEPTION", b"SEVERE"), 40),
    **dict.fromkeys((b"CRIT", b"CRITICAL", b"FATAL", b"PANIC", b"ALERT", b"EMERG"), 50),
}
_SHORT: Dict[bytes, int] = {  # logrus (ERRO[0012]), log15 (lvl=eror), .NET (fail:), and in fields
    **dict.fromkeys((b"TRAC", b"DEBU", b"TRCE", b"DBUG", b"VERBOSE"), 10),
    **dict.fromkeys((b"NOTE", b"INFORMATION"), 20),
    **dict.fromkeys((b"ERRO", b"EROR", b"FAIL"), 40),
    **dict.fromkeys((b"FATA", b"PANI", b"EMERGENCY"), 50),
}
_ALL = {**_WORDS, **_SHORT}
_LETTERS: Dict[bytes, int] = {b"V": 10, b"D": 10, b"I": 20, b"W": 30, b"E": 40, b"F": 50, b"C": 50}
_SYSLOG = (50, 50, 50, 40, 30, 20, 20, 10)
"""Levels of syslog's severities, 0 (emergency) to 7 (debug)."""


def _any(words: Dict[bytes, int]) -> bytes:
    return b"(" + b"|".join(sorted(words, reverse=True)) + b")"


_WORD = _any(_WORDS)

# One letter: glog and absl (W0423 12:00:00.000000), TensorFlow ("12:00:00.000: W "), PyTorch
# ([W x.cpp:12]), Android (12:00:00.000  12  34 E Tag:, E/Tag( 12):), MongoDB ("s":"E"), apt (E: ).
_LETTER = re.compile(
    rb"\[?([IWEF])\d{4} \d\d:\d\d:\d\d"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: ([IWEF]) "
    rb"|\[([IWEF]) [\w./-]{1,100}:\d+"
    rb"|(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +\d+ +\d+ ([VDIWEF]) "
    rb"|([VDIWEF])/[\w.$-]{1,100} {0,4}\( {0,6}\d+\): "
    rb"|\{\"t\":.{0,60}?\"s\": ?\"([DIWEF])\d?\""
    rb"|([EW]): \S"
)
# level=error, level="error", "level": "error", severity: ... of structured loggers.
_FIELD = re.compile(
    rb"(?:\b|_)(?:level|lvl|levelname|loglevel|severity|severityText)\"?[=:]\s?[\"']?"
    + _any(_ALL) + rb"\b",
    re.IGNORECASE,
)  # fmt: skip
# The same as a number: of bunyan and pino (10 to 60), Python (levelno), OpenTelemetry
# (severityNumber), GELF and journald (0 to 7).
_NUMBER = re.compile(
    rb"\"(level|severity|levelno|severityNumber|priority|PRIORITY)\"\s{0,4}:\s{0,4}\"?(\d{1,2})"
    rb"(?=[\s,}\"])|^(PRIORITY)=([0-7])$"
)
_BY_DIGITS = re.compile(rb"<\d|(?i:level|priority|severity)")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
# <11> of syslog, daemon.err of its files.
_PRIORITY = re.compile(rb"<(\d{1,3})>")
_FACILITY = re.compile(
    rb"\b(?:kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local[0-7])\."
    rb"(emerg|alert|crit|err|error|warn|warning|notice|info|debug)(?=[:\s])"
)
_MARKED = re.compile(
    rb"^" + _WORD + rb"(?=[\s:\]|>-]|$)"
    rb"|[\[(<|]\s{0,4}" + _WORD + rb"\s{0,8}[\])>|:]"
    rb"|\s" + _WORD + rb"\s{0,8}(?::|/[A-Z]|\s[-|]\s)"
    rb"|(?:[\dZ\])|]|NCCL|\s-)[\s,]{1,4}" + _WORD + rb"(?=\s|$)"
)
# In any case: [error] or [core:error] at the start or behind a time or a bracket, "info: " and
# ERRO[0012] at the start, "2026-01-01 12:00:00, Info ".
_BRACKETED = re.compile(
    rb"(?:^|[\d\]Z)]\s{1,4})\[(?:\w{1,32}:)?" + _any(_ALL) + rb"\]"
    rb"|^(?:npm )?(trce|dbug|info|warn|fail|crit|WARN|ERR)(?:!|: )"
    rb"|^(TRAC|DEBU|INFO|WARN|ERRO|FATA|PANI)\[\d{4,8}\]"
    rb"|^=" + _WORD + rb" REPORT="
    rb"|^\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d[\d.,+Z-]{0,12}[\s,]{1,4}"
    + _any(_ALL)
    + rb"(?=\s)",
    re.IGNORECASE,
)
_TIMESTAMP = re.compile(rb"\W{0,2}\d{2,4}[-/:.]\d\d")
_BARE = re.compile(rb"\s" + _WORD + rb"\s")
_PYTHON_WARNING = re.compile(rb"(?:^|: )(?:\w+\.){0,8}[A-Z]\w{0,64}Warning: ")
_EXCEPTION = re.compile(
    rb"(?:[A-Za-z_]\w{0,64}\.){0,8}[A-Z]\w{0,64}(?:Error|Exception)(?:: |\s*$)"
    rb"|(?:KeyboardInterrupt|SystemExit)(?:: |\s*$)"
    rb"|Traceback \(most recent call last\):"
    rb"|Exception in thread |Caused by: |Uncaught [A-Z]\w{0,64}: "
    rb"|thread '[^']{0,100}' (?:\(\d+\) )?panicked at "
)
_CRASH = re.compile(
    rb"(?:Segmentation fault|Bus error|Aborted|Floating point exception)(?: \(core dumped\))?\s*$"
    rb"|terminate called after throwing "
)
# Compilers and shell tools: "error: ", "error[E0308]: ", "a.c:1:2: fatal error: ".
_TOOL = re.compile(
    rb"(?:^|: )(fatal error|fatal python error|fatal|panic|error|warning)(?:\[\w{1,16}\])?: ",
    re.IGNORECASE,
)
_TOOL_LEVELS: Dict[bytes, int] = {
    b"fatal error": 50,
    b"fatal python error": 50,
    b"fatal": 50,
    b"panic": 50,
    b"error": 40,
    b"warning": 30,
}


def level_of(line: bytes) -> Optional[int]:
    """The level (10 to 50) that a line states, or None. Looks at 256 bytes.

    >>> level_of(b"2026-01-01 12:00:00,000 - train - ERROR - no more memory")
    40
    """
    head = line[:_LOOK_BYTES]
    if b"\x1b" in head:
        head = _SGR.sub(b"", head)
    prefix = _RANK_PREFIX.match(head)
    if prefix:
        head = head[prefix.end() :]
    if _CRASH.match(head):
        return 50
    if _EXCEPTION.match(head):
        return 40
    priority = _PRIORITY.match(head)
    if priority and int(priority[1]) < 192:
        return _SYSLOG[int(priority[1]) % 8]
    letter = _LETTER.match(head)
    if letter:
        return _LETTERS[_group(letter)]
    return min(_stated(head), default=(0, None))[1]


def level_keys(data: bytes) -> List[bytes]:
    r"""For each line what its level depends on: lines with equal keys have the same level.

    Digits are masked where they state no level. A line ends with ``\n``.

    >>> level_keys(b"INFO step 12\n<11>step 12\n")
    [b'INFO step 00', b'<11>step 12']
    """
    keys = data.translate(_ZEROS).split(b"\n")
    if _BY_DIGITS.search(data):
        lines = data.split(b"\n")
        keys = [
            line if _BY_DIGITS.search(line) else key for line, key in zip(lines, keys, strict=True)
        ]
    if not keys[-1]:
        keys.pop()
    return keys


def _stated(head: bytes) -> Iterator[Tuple[int, int]]:
    """Where levels are stated and which; the first of them counts."""
    field = _FIELD.search(head)
    if field:
        yield field.start(), _ALL[field[1].upper()]
    number = _NUMBER.search(head)
    if number:
        level = _of_number(number[1] or number[3], int(number[2] or number[4]))
        if level:
            yield number.start(), level
    word = _MARKED.search(head)
    if word is None and _TIMESTAMP.match(head):
        word = _BARE.search(head)
    for match in (word, _BRACKETED.search(head), _FACILITY.search(head)):
        if match:
            yield match.start(), _ALL[_group(match).upper()]
    if _PYTHON_WARNING.search(head):
        yield len(head), 30
    tool = _TOOL.search(head)
    if tool:
        yield len(head) + 1, _TOOL_LEVELS[tool[1].lower()]


def _group(match: Match[bytes]) -> bytes:
    """What the one group that took part has matched."""
    return match[match.lastindex or 0]


def _of_number(field: bytes, value: int) -> Optional[int]:
    """The level that a numeric field states."""
    if field == b"levelno":
        return value - value % 10 if 10 <= value <= 50 else None
    if field == b"severityNumber":
        return 10 * max(1, (value - 1) // 4) if 1 <= value <= 24 else None
    if field == b"level" and value in {10, 20, 30, 40, 50, 60}:
        return max(10, value - 10)
    return _SYSLOG[value] if value < len(_SYSLOG) else None
