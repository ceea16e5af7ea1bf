"""The words that must never be merged with others: verdicts, negations, states, levels."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import List

__all__ = ["has_verdict", "is_verdict", "words_in"]

_VERDICTS = frozenset(
    b"""
    ok okay bad good pass passed fail failed failure success successful up down enabled disabled
    connected disconnected within exceeds exceeded true false yes no not error on off valid invalid
    found missing available unavailable start started stop stopped begin end open opened close
    closed accept accepted reject rejected allow allowed deny denied grant granted revoke revoked
    alive dead healthy unhealthy ready increasing decreasing above below before after read write
    send sent recv received added removed create created delete deleted lock locked unlock unlocked
    mount unmount attach detach load unload register unregister hit miss primary secondary can
    cannot is isn with without nan inf infinity none null nil na
    debug info notice warn warning err fatal critical crit panic trace severe alert emerg exception fault
    """.split()
)
_WORD = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words_in(text: bytes) -> List[bytes]:
    """The words of ``text`` in lower case; those of compounds one by one."""
    return [word.lower() for word in _WORD.findall(text)]


@lru_cache(maxsize=4096)
def is_verdict(word: bytes) -> bool:
    """Whether a word, in lower case, must stay what it is."""
    return word in _VERDICTS


def has_verdict(token: bytes) -> bool:
    """Whether a token has a verdict among its words."""
    return any(map(is_verdict, words_in(token)))
