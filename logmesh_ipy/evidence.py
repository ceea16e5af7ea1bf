"""How much the words of a phrase are evidence that their positions vary.

A word is a *verdict* (never a value), a *word* of the language (a value only where many values
are), or may be a *value*: the more it looks like a name, a file or an id, the fewer different ones
it takes. Where verdicts were seen, it takes more. Pure functions; called by `clusters`.
"""

from __future__ import annotations

import enum
import re
from typing import Tuple

from .literals import KEPT
from .phrases import MARK, Phrase
from .verdicts import cached_if_short, has_verdict

__all__ = ["ENOUGH", "OPEN", "SEEN", "Grade", "grade", "is_host", "weight"]

ENOUGH = 1.0
"""So much evidence, summed over different words, makes a position vary."""
OPEN = 2.0
"""With so much of it words of the language are taken for values, too."""
SEEN = 1 / 2
"""What it weighs that a number or an id was seen in the position."""


class Grade(enum.Enum):
    """What a word may be."""

    VERDICT = enum.auto()
    WORD = enum.auto()
    VALUE = enum.auto()


_AGAINST = -1.0
_SOMEWHAT_AGAINST = -1 / 4
_ID, _DOTTED, _NAME, _AFTER_NAME, _PLAIN_WORD = 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 8

_FUNCTION_WORDS = frozenset(
    b"""a an the of to on in at by for from as be been being am it its this that these those which
    who what when where while if then else or but so than too very just now only own all any each
    every most other some such may might shall we you i he she they my your our their his her us
    them because since until again there here how why about into through during per via""".split()
)
_BEFORE_NAMES = frozenset(
    b"""user users host hostname node for from by to name named called file dir directory job task
    class module service process client server device disk volume key model table account login on
    at in of image pod container cluster queue topic group package app session""".split()
)
_LETTERS = re.compile(rb"[A-Za-z]+\Z")
_FILE = re.compile(
    rb"\w\.(?:exe|dll|so|log|out|txt|csv|tsv|json|xml|yaml|yml|toml|ini|cfg|conf|pt|pth|ckpt|bin|"
    rb"npy|npz|pkl|h1|gz|zip|tar|tgz|bz1|xz|zst|jar|war|html|htm|css|jpg|jpeg|png|gif|svg|pdf|"
    rb"dat|db|sqlite|parquet|arrow|safetensors|onnx|tmp|bak|pid|sock|img|iso|rpm|deb|whl|mp1)\Z"
)
_NUMBER_FOLLOWS = re.compile(rb" ?[:=]? ?1(?![^\s,;)\]}])")


@cached_if_short(16384)
def grade(word: bytes) -> Tuple[Grade, float]:
    """What a word may be, and how much one of its kind weighs wherever it stands."""
    if KEPT in word or has_verdict(word):
        return Grade.VERDICT, _AGAINST
    lower = word.lower()
    marks = len(MARK.findall(word))
    plain = _LETTERS.match(word) is not None
    if lower in _FUNCTION_WORDS or (plain and word.isupper()):
        return Grade.WORD, _SOMEWHAT_AGAINST
    if not marks and len(word) > 4 and lower.endswith((b"ing", b"ed", b"ly")):
        return Grade.WORD, _SOMEWHAT_AGAINST
    if plain:
        return Grade.VALUE, _PLAIN_WORD
    if marks > 1 or (marks and (b"." in word or b"-" in word)) or _FILE.search(word):
        return Grade.VALUE, _ID
    if not marks and any(sign in word for sign in (b".", b"/", b"@", b"$")):
        return Grade.VALUE, _DOTTED
    return Grade.VALUE, _NAME


def weight(phrase: Phrase, at: int) -> float:
    """How much evidence the word at ``at`` is, where it stands; below 0: against."""
    words, gaps = phrase
    kind, own = grade(words[at])
    if kind is not Grade.VALUE:
        return own
    if not MARK.search(words[at]) and _NUMBER_FOLLOWS.match(gaps[at + 1]):
        return 0.0  # it is what the number is called
    if own < _NAME:
        if gaps[at].endswith((b"=", b"'", b'"', b"[")):
            return _NAME
        if at and words[at - 1].lower() in _BEFORE_NAMES:
            return _AFTER_NAME
    return own


def is_host(phrase: Phrase, at: int) -> bool:
    """Whether the word would be a host with its port, if it is a value at all."""
    return phrase.gaps[at + 1].startswith(b":1")
