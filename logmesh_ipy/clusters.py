"""Which skeletons are alike: groups of phrases, learned as more of them are seen.

A phrase belongs to the group of those with the same words and the same forms of gaps. Beyond that

- a *position* may turn out to vary: where everything else is equal, enough different words that
  look like values are evidence. From then on such a word is part of the gap, and the groups that
  differed in it are one;
- a value between words may be left out;
- words with numbers in them (names of nodes, ids) may vary together.

Never one group: phrases of different levels, or with different verdicts (`verdicts`); `_unite`
refuses it whatever the evidence. Called by `grouping`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Deque, Dict, Iterable, List, Optional, Set, Tuple

from .evidence import ENOUGH, OPEN, SEEN, Grade, grade, is_host, weight
from .literals import names_place, restore
from .masks import NUMBER, TEXT
from .phrases import MARK, Phrase, form, lacks_value, merged, phrase, without
from .templates import SlotKind, Template
from .verdicts import opposed

__all__ = ["ERROR", "Clusters"]

ERROR = 40
"""The level from which on lines have room of their own."""

_OTHERS = 0

# All that is kept grows with groups and with words seen; each is charged for about what it takes.
_MAX_BYTES = 24 << 20
_CLUSTER_BYTES = 1200
_KEY_BYTES = 120
_POSITION_BYTES = 400
_FOR_ERRORS_BYTES = 2 << 20
# What is not yet evidence enough has room apart; it is forgotten when that is used up.
_MAX_SEEN_BYTES = 12 << 20
_SEEN_BYTES = 250
_MAX_WORDS = 64
_MAX_CHANGES = 16_384
_EXAMPLE_BYTES = 512

_VARIANTS = 4
"""So many variants make words with numbers vary together, if each of the words does."""
_MAX_LEFT_OUT = 2
"""So many values may be left out in a line of a group."""

# --- keys -------------------------------------------------------------------------------------

# A phrase's key is a polynomial over the hashes of its parts, so that the key of the phrase
# without one of its words is computed in constant time. Equal keys of different phrases are as
# unlikely as equal hashes of 61 bits.
_MODULUS = (1 << 61) - 1
_BASE = 0x1D2C3B4A5968778
_POWERS = [pow(_BASE, exponent, _MODULUS) for exponent in range(1024)]
_BACK = pow(_BASE, -2, _MODULUS)


class _Keyed:
    """A phrase of a level, with its key and those of the phrase without one of its words."""

    __slots__ = ("_bare", "_sums", "key", "level", "phrase")

    def __init__(self, phrase: Phrase, level: Optional[int]) -> None:
        self.phrase = phrase
        self.level = level
        total = hash((level,))
        sums = [total]
        at = 0
        for gap, word in zip(phrase.gaps, phrase.words, strict=False):
            total += hash(form(gap)) * _POWERS[at]
            sums.append(total)
            total += hash(word) * _POWERS[at + 1]
            sums.append(total)
            at += 2
        total += hash(form(phrase.gaps[-1])) * _POWERS[at]
        sums.append(total)
        self.key = total % _MODULUS
        self._sums = sums
        self._bare: List[Optional[int]] = [None] * len(phrase.words)

    @property
    def words_key(self) -> int:
        """A key of the words alone."""
        return hash((self.level, *self.phrase.words))

    def without(self, at: int) -> int:
        """The key of the phrase without the word at ``at``."""
        key = self._bare[at]
        if key is None:
            gaps, sums = self.phrase.gaps, self._sums
            first = 2 * at
            gap = hash(form(gaps[at] + TEXT + gaps[at + 1])) * _POWERS[first]
            key = (sums[first] + gap + (sums[-1] - sums[first + 3]) * _BACK) % _MODULUS
            self._bare[at] = key
        return key


# --- groups -----------------------------------------------------------------------------------


class _Cluster:
    """One group: the phrase that all of its lines are."""

    __slots__ = ("cost", "example", "id", "level", "made", "phrase", "verdicts")

    def __init__(self, id_: int, keyed: _Keyed, example: bytes, cost: int) -> None:
        self.id = id_
        self.cost = cost
        self.phrase = keyed.phrase
        self.level = keyed.level
        self.verdicts = _verdicts(keyed.phrase)
        self.example = example[:_EXAMPLE_BYTES]
        self.made: Optional[Template] = None

    def widen(self, phrase: Phrase) -> bool:
        """Have the group hold one more phrase; whether that changes it."""
        wider = merged(self.phrase, phrase)
        if wider == self.phrase:
            return False
        self.phrase = wider
        self.made = None
        return True

    def template(self) -> Template:
        """What the lines of the group have in common."""
        if self.made is None:
            skeleton = self.phrase.skeleton
            marks = MARK.findall(skeleton)
            kinds = tuple(SlotKind.NUMBER if mark == NUMBER else SlotKind.TEXT for mark in marks)
            pieces = tuple(map(restore, MARK.split(skeleton)))
            self.made = Template(self.id, pieces, kinds, self.level, self.example)
        return self.made


_OTHERS_TEMPLATE = Template(_OTHERS, (b"", b""), (SlotKind.TEXT,), None, b"")


def _verdicts(phrase: Phrase) -> Tuple[bytes, ...]:
    """The words that lines of one group must have in common, in order."""
    return tuple(word for word in phrase.words if grade(word)[0] is Grade.VERDICT)


class _Position:
    """A position that varies: how sure that is, and the words that wait for it to be surer."""

    __slots__ = ("evidence", "waiting")

    def __init__(self, evidence: float) -> None:
        self.evidence = evidence
        self.waiting: Dict[bytes, int] = {}


class Clusters:
    """The groups, and what is known about the positions in their phrases.

    ``threshold`` is the share of a phrase's words that may vary, beside those with numbers.
    Positions and groups are known by the keys of phrases without the word, and with it.
    """

    def __init__(self, threshold: float) -> None:
        self.revision = 0
        self._threshold = threshold
        self._changed: Deque[int] = deque(maxlen=_MAX_CHANGES)
        self._room = _MAX_BYTES
        self._seen_bytes = 0
        self._clusters: List[Optional[_Cluster]] = [None]
        self._into: List[int] = [_OTHERS]
        self._members: Dict[int, List[int]] = {}
        self._ids: Dict[int, int] = {}
        self._by_words: Dict[int, int] = {}
        self._varying: Dict[int, _Position] = {}
        self._first: Dict[int, Tuple[bytes, float, int]] = {}
        self._evidence: Dict[int, Dict[bytes, Tuple[float, int]]] = {}
        self._together: Set[int] = set()
        self._variants: Dict[int, Dict[int, Tuple[bytes, ...]]] = {}

    def find(self, id_: int) -> int:
        """The id of the group that ``id_`` is part of now."""
        into = self._into
        while into[id_] != id_:
            into[id_] = id_ = into[into[id_]]
        return id_

    def template(self, id_: int) -> Template:
        """What the lines of a group have in common."""
        cluster = self._clusters[self.find(id_)]
        return cluster.template() if cluster else _OTHERS_TEMPLATE

    def changes(self, since: int) -> Optional[Set[int]]:
        """The ids whose `find` or `template` changed behind a revision; None: too long ago."""
        count = self.revision - since
        if count > len(self._changed):
            return None
        roots = set(map(self.find, islice(reversed(self._changed), max(0, count))))
        return {id_ for root in roots for id_ in self._members.get(root, (root,))}

    def _note(self, id_: int) -> None:
        """A group has changed."""
        self.revision += 1
        self._changed.append(id_)

    def add(self, skeleton: bytes, level: Optional[int], example: bytes) -> int:
        """The id of the group of a skeleton; OTHERS where there is no room for one more."""
        keyed = _Keyed(phrase(skeleton), level)
        budget = self._threshold * len(keyed.phrase.words)
        if level is None and names_place(skeleton):
            budget = 0.0  # a frame of a traceback
        if budget:
            keyed = self._without_numbered(keyed)
            keyed, budget = self._without_varying(keyed, budget)
        id_ = self._ids.get(keyed.key)
        if id_ is None and budget >= 1:
            id_ = self._with_value_left_out(keyed, budget)
        made = self._new(keyed, len(skeleton), example) if id_ is None else self._known(id_, keyed)
        if made and budget >= 1:
            self._learn(keyed, budget)
        return self.find(made)

    def _new(self, keyed: _Keyed, size: int, example: bytes) -> int:
        """Make a group of its own; OTHERS where there is no room."""
        cost = _CLUSTER_BYTES + 4 * size
        if self._room - cost < (0 if (keyed.level or 0) >= ERROR else _FOR_ERRORS_BYTES):
            return _OTHERS
        self._room -= cost
        id_ = self._ids[keyed.key] = len(self._clusters)
        self._clusters.append(_Cluster(id_, keyed, example, cost))
        self._into.append(id_)
        self._by_words.setdefault(keyed.words_key, id_)
        return id_

    def _known(self, id_: int, keyed: _Keyed) -> int:
        """Have a group hold one more phrase; OTHERS where two phrases have the same key."""
        cluster = self._clusters[self.find(id_)]
        if cluster is None or cluster.verdicts != _verdicts(keyed.phrase):
            return _OTHERS
        if cluster.widen(keyed.phrase):
            self._note(cluster.id)
        return id_

    def _without_numbered(self, keyed: _Keyed) -> _Keyed:
        """The phrase without its words with numbers, where these are known to vary together."""
        words = keyed.phrase.words
        numbered = [
            at
            for at, word in enumerate(words)
            if MARK.search(word) and grade(word)[0] is Grade.VALUE
        ]
        if len(numbered) < 2 or len(numbered) * 2 > len(words):
            return keyed
        rest = keyed.phrase
        for at in reversed(numbered):
            rest = without(rest, at)
        bare = _Keyed(rest, keyed.level)
        if bare.key in self._together:
            return bare
        varied = tuple(words[at] for at in numbered)
        self._charge_seen(sum(map(len, varied)))
        seen = self._variants.setdefault(bare.key, {})
        if len(seen) < 2 * _VARIANTS:
            seen[keyed.key] = varied
        if len(seen) < _VARIANTS or any(
            len(set(column)) < 2 for column in zip(*seen.values(), strict=True)
        ):
            return keyed
        del self._variants[bare.key]
        self._together.add(bare.key)
        self._room -= _KEY_BYTES
        self._unite_all(bare.key, seen)
        return bare

    def _without_varying(self, keyed: _Keyed, budget: float) -> Tuple[_Keyed, float]:
        """The phrase without the words whose positions vary, and what is left of the budget."""
        at = 0
        while budget >= 1 and at < len(keyed.phrase.words):
            word = keyed.phrase.words[at]
            kind = grade(word)[0]
            position = None
            if kind is not Grade.VERDICT:
                position = self._varying.get(keyed.without(at))
            if position is None:
                at += 1
            elif kind is Grade.WORD and position.evidence < OPEN:
                if len(position.waiting) < _MAX_WORDS and word not in position.waiting:
                    position.waiting[word] = keyed.key
                    self._room -= _KEY_BYTES + len(word)
                at += 1
            else:
                position.evidence += max(0.0, weight(keyed.phrase, at))
                keyed = _Keyed(without(keyed.phrase, at), keyed.level)
                budget -= 1
                at = 0
                if position.waiting and position.evidence >= OPEN:
                    self._unite_all(keyed.key, position.waiting.values())
                    position.waiting.clear()
        return keyed, budget

    def _with_value_left_out(self, keyed: _Keyed, budget: float) -> Optional[int]:
        """The group with the same words, where only values are left out here or there."""
        words, gaps = keyed.phrase
        id_ = self._by_words.get(keyed.words_key)
        cluster = self._clusters[self.find(id_)] if id_ else None
        if cluster is None or cluster.phrase.words != words or self._room < _KEY_BYTES:
            return None
        differ = [
            lacks_value(mine, theirs)
            for mine, theirs in zip(gaps, cluster.phrase.gaps, strict=True)
            if form(mine) != form(theirs)
        ]
        if len(differ) > min(budget, _MAX_LEFT_OUT) or not all(differ):
            return None
        self._room -= _KEY_BYTES
        self._ids[keyed.key] = cluster.id
        return cluster.id

    def _learn(self, keyed: _Keyed, budget: float) -> None:
        """Take each word as evidence on whether its position varies."""
        at = 0
        while budget >= 1 and at < len(keyed.phrase.words):
            if self._turns_out_to_vary(keyed, at):
                keyed = _Keyed(without(keyed.phrase, at), keyed.level)
                budget -= 1
                at = 0
            else:
                at += 1

    def _turns_out_to_vary(self, keyed: _Keyed, at: int) -> bool:
        """Add the word at ``at`` to the evidence; whether it is enough now."""
        word = keyed.phrase.words[at]
        bare = keyed.without(at)
        own = weight(keyed.phrase, at)
        first = self._first.get(bare)
        if first is None and bare not in self._ids:
            self._charge_seen(len(word))
            self._first[bare] = word, own, keyed.key
            return False
        seen = self._evidence.get(bare)
        if seen is None:
            seen = {first[0]: first[1:]} if first else {}
        if word in seen or len(seen) >= _MAX_WORDS:
            return False
        self._charge_seen(len(word))
        self._evidence[bare] = seen
        seen[word] = own, keyed.key
        evidence = sum(each for each, _ in seen.values())
        if bare in self._ids:
            evidence += SEEN
            if own >= 0 and is_host(keyed.phrase, at):
                evidence += SEEN - own
        if evidence < ENOUGH:
            return False
        evidence -= sum(opposed(word, other) for other in seen if other != word)
        if evidence < ENOUGH:
            return False
        position = self._varying[bare] = _Position(evidence)
        self._room -= _POSITION_BYTES
        del self._evidence[bare]
        self._first.pop(bare, None)
        values = []
        for other, (_, key) in seen.items():
            kind = grade(other)[0]
            if kind is Grade.VALUE or (kind is Grade.WORD and evidence >= OPEN):
                values.append(key)
            elif kind is Grade.WORD:
                position.waiting[other] = key
        self._unite_all(bare, values)
        return True

    def _charge_seen(self, size: int) -> None:
        """Have room for one more word of ``size`` bytes that is no evidence by itself."""
        self._seen_bytes += _SEEN_BYTES + size
        if self._seen_bytes > _MAX_SEEN_BYTES:
            self._first.clear()
            self._evidence.clear()
            self._variants.clear()
            self._seen_bytes = _SEEN_BYTES + size

    def _unite_all(self, key: int, members: Iterable[int]) -> None:
        """Make the groups with the keys ``members`` one, which ``key`` is a key of as well."""
        ids = [self._ids[member] for member in members if member in self._ids]
        if ids:
            target = self._ids.setdefault(key, ids[0])
            for id_ in ids:
                self._unite(target, id_)

    def _unite(self, one: int, other: int) -> None:
        """Make two groups one, unless their levels or their verdicts differ."""
        first, second = sorted((self.find(one), self.find(other)))
        into, part = self._clusters[first], self._clusters[second]
        if first == second or into is None or part is None:
            return
        if into.level != part.level or into.verdicts != part.verdicts:
            return
        into.widen(part.phrase)
        self._into[second] = first
        self._clusters[second] = None
        self._room += part.cost - 2 * _KEY_BYTES
        self._members.setdefault(first, [first]).extend(self._members.pop(second, (second,)))
        self._note(first)
