"""Words that say how something is: verdicts, states, negations, levels. They are never merged.

A word of a compound counts like any other: ``link_up``, ``isAlive`` and ``NotReady`` have one.
Inflections and negations (``unhealthy``, ``stateless``) are made by rule. Pure functions; called
by all modules that decide what may vary.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Callable, FrozenSet, Iterator, List, TypeVar

__all__ = ["cached_if_short", "has_verdict", "is_verdict", "opposed", "words_in"]

_Answer = TypeVar("_Answer")
_SHORT_BYTES = 256


def cached_if_short(
    maxsize: int,
) -> Callable[[Callable[[bytes], _Answer]], Callable[[bytes], _Answer]]:
    """`lru_cache` for a function of a text, bounded in bytes: long texts are not kept."""

    def decorate(function: Callable[[bytes], _Answer]) -> Callable[[bytes], _Answer]:
        cached = lru_cache(maxsize)(function)

        def answer(text: bytes) -> _Answer:
            return cached(text) if len(text) <= _SHORT_BYTES else function(text)

        return answer

    return decorate


_VERBS = """
abort accept reject acquire release activate admit allow deny authenticate authorize attach detach
begin end bind unbind block cancel close open commit rollback complete confirm connect disconnect
converge diverge corrupt crash create delete destroy decline decrease increase decrement increment
degrade die disable enable discard drop enter exit evict exceed expire fail succeed finish forbid
freeze grant revoke hang halt ignore insert remove add install uninstall interrupt invalidate join
leave kill load unload lock unlock lose match mismatch miss mount unmount pass pause resume permit
prevent promote demote quit reach read write receive send recover refuse register unregister
deregister resolve restart restore retry shutdown skip stall start stop suspend terminate throttle
timeout upgrade downgrade validate verify warn overflow underflow
"""
_IRREGULAR = """
began begun bound unbound died dying fell fallen forbade forbidden forgot found froze frozen got
grew grown held hung kept leaving left lost met ran recv recvd rose rising sent shrank shrunk
slept stuck tried tries went woke woken wrote written rewritten unwritten known unknown
"""
_STATES = """
ok okay good bad pass success successful successfully failure error errors err fault fatal true
false yes no none null nil nan inf infinity undef undefined void on off up down in out high low
full empty above below over under before after within beyond exceeds with without and nor not
never neither cannot can unable able alive dead live idle busy active inactive passive standby
online offline reachable ready waiting running sleeping zombie orphan orphaned healthy sick ill
normal abnormal nominal stable unstable clean dirty fresh stale warm cold hot open shut valid
invalid legal illegal correct incorrect right wrong equal greater less more fewer better worse
best worst same different consistent found missing present absent available exist exists existing
existent lost complete incomplete partial enabled primary secondary master slave leader follower
replica permanent transient temporary safe unsafe secure insecure trusted public private hit ack
nack acked nacked eof timeout allowed denied forbidden unauthorized unauthenticated sufficient
insufficient enough finite infinite infinitely positive negative zero nonzero odd even unique
duplicate critical crit severe severity emergency emerg alert alarm warn warning notice info debug
trace verbose exception panic assertion segfault deadlock oom is isn are aren was wasn were weren
do don does doesn did didn has hasn have haven had hadn will won would wouldn could couldn should
shouldn must mustn needn ain recoverable unrecoverable correctable uncorrectable corrected
uncorrected minor major maximum minimum overheated overheating overloaded
"""

_NEGATED = re.compile(
    r"(?:un(?!i|der|til|cle)|dis(?!c|k|p|t)|non|mis(?!c|s|t)|anti|"
    r"in(?=accura|activ|appropri|capab|compat|complet|consist|correct|elig|finite|secur|suffic|valid)|"
    r"im(?=mutab|possib|prop|perfect)|ir(?=recover|regular|relev|revers)|"
    r"de(?=activ|alloc|auth|commis|grad|init|queu|regist)|over(?=flow|heat|load|run))[a-z]{3,}\Z"
    r"|[a-z]{3,}less\Z"
)
_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "de", "mis", "not", "no", "ab")
_WORD = re.compile(rb"NaN|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _inflected(verb: str) -> Iterator[str]:
    """A verb in the forms that logs use, with a few that do not exist."""
    yield from (verb, verb + "s", verb + "es", verb + "ed", verb + "ing", verb + "er")
    if verb.endswith("e"):
        yield from (verb + "d", verb[:-1] + "ing", verb + "r")
    elif verb.endswith("y"):
        yield from (verb[:-1] + "ied", verb[:-1] + "ies")
    else:
        yield from (verb + verb[-1] + "ed", verb + verb[-1] + "ing")


_VERDICTS: FrozenSet[str] = frozenset(
    [*_STATES.split(), *_IRREGULAR.split()]
    + [form for verb in _VERBS.split() for form in _inflected(verb)]
) - {"binder", "ender", "header", "opener", "passer", "reader", "starter"}


def words_in(text: bytes) -> List[bytes]:
    """The words of ``text`` in lower case; those of compounds one by one.

    >>> words_in(b"link_up isAlive HTTPError3")
    [b'link', b'up', b'is', b'alive', b'http', b'error']
    """
    return [word.lower() for word in _WORD.findall(text)]


@cached_if_short(8192)
def is_verdict(word: bytes) -> bool:
    """Whether a word, in lower case, must stay what it is."""
    text = word.decode("ascii")
    return text in _VERDICTS or _NEGATED.match(text) is not None


@cached_if_short(8192)
def has_verdict(token: bytes) -> bool:
    """Whether a token has a verdict among its words."""
    if any(map(is_verdict, words_in(token))):
        return True
    letters = _letters(token)
    return is_verdict(letters) or (letters == b"na" and len(token) <= len(b"N/A"))


def opposed(one: bytes, other: bytes) -> bool:
    """Whether one token is the negation of the other, by its form.

    >>> opposed(b"reachable", b"unreachable"), opposed(b"one", b"two")
    (True, False)
    """
    short, long = sorted((one.lower(), other.lower()), key=len)
    return len(short) > 2 and any(
        long == prefix.encode() + joint + short
        for prefix in _PREFIXES
        for joint in (b"", b"-", b"_")
    )


def _letters(token: bytes) -> bytes:
    """The letters of a token in lower case: ``nOt`` and ``FaIL`` are no compounds."""
    return bytes(filter(b"abcdefghijklmnopqrstuvwxyz".__contains__, token.lower()))
