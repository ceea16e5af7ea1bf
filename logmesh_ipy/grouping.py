r"""Which lines are alike: ids for lines, learned in one pass, in bulk.

Three steps, each taken only for what the one before does not know:

1. the *mask* of a line, its digits all ``0``: a look in a dictionary, no work per line in Python;
2. its *skeleton*, made of all unknown masks at once: another look;
3. `clusters`, which learns what else may vary.

The dictionaries of the first two are caches: bounded, and emptied when full. Step 3 is bounded by
a credit that known lines earn, so that a flood of lines of ever new kinds costs little and leaves
room; what comes beyond the credit, or beyond the memory for groups, is of the group OTHERS.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Set

from .clusters import ERROR, Clusters
from .levels import level_of
from .literals import keep, keep_all, keep_colours, may_have, neutral
from .masks import (
    LOOK_BYTES,
    WIDTH,
    is_binary,
    mask,
    mask_kept,
    rest_of,
    shortened,
    skeletons,
    with_widths,
)
from .templates import SlotKind, Template

__all__ = ["OTHERS", "Grouper", "SlotKind", "Template"]

OTHERS = 0
"""The group of the lines that are of more kinds than memory allows."""

_KEEPS = -1
"""In a cache: numbers of these lines matter, so each line must be looked at."""
_COLOURS = -3
"""In a cache: each line must be looked at for its colours."""
_WIDTHS = -2
"""In a cache: the widths of their numbers matter."""

_MAX_CREDIT = 4_000
_LOW_CREDIT = 400
"""With less, what is no text is not looked at."""
_RESERVE = 2_000
"""So far into debt goes what was seen before."""
_EARNED_BY_KNOWN = 1 / 16
_EARNED_BY_ALL = 1 / 512
_MAX_REFUSED = 32_768
_FLOOD = 64
_SAMPLED = 8
_SELDOM = 20

_ERROR_BYTES = 256

_MASKS_BYTES = 12 << 20
_SHORT_BYTES = 6 << 20
_KEPT_BYTES = 3 << 20
_SKELETONS_BYTES = 6 << 20
_ENTRY_BYTES = 150


class _Cache(Dict[bytes, int]):
    """Ids by text, in about ``limit`` bytes; emptied when full. OTHERS is never kept."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._bytes = 0

    def keep(self, found: Dict[bytes, int]) -> None:
        ids = {name: id_ for name, id_ in found.items() if id_ and len(name) <= LOOK_BYTES + 32}
        size = sum(map(len, ids)) + _ENTRY_BYTES * len(ids)
        if self._bytes + size > self._limit:
            self.clear()
            self._bytes = 0
        if size <= self._limit:
            self.update(ids)
            self._bytes += size


class Grouper:
    r"""Learns, in one pass over lines, which are alike. One for a session. Not thread-safe.

    ``similarity_threshold`` (0 to 1) is how much of a line's words may differ, beside numbers and
    ids, for lines to be alike; with 0 only numbers and ids may. With ``exact`` only identical lines
    are alike. Raises ValueError for a threshold out of range.

    >>> grouper = Grouper()
    >>> grouper.ids(b"step 1: loss 0.5\nstep 12: loss 0.4\nstep 13: loss nan\n")
    [1, 1, 2]
    >>> grouper.template(1).text
    b'step <#>: loss <#>'
    """

    def __init__(self, similarity_threshold: float = 0.4, exact: bool = False) -> None:
        if not 0 <= similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold must be 0 to 1; not {similarity_threshold!r}")
        self._exact = exact
        self._clusters = Clusters(0.0 if exact else similarity_threshold)
        self._credit = float(_MAX_CREDIT)
        self._refused: Set[int] = set()
        self._masks = _Cache(_MASKS_BYTES)
        self._short = _Cache(_SHORT_BYTES)
        self._kept = _Cache(_KEPT_BYTES)
        self._skeletons = _Cache(_SKELETONS_BYTES)

    @property
    def revision(self) -> int:
        """Grows whenever an answer of `find` or `template` changes for an id that was given."""
        return self._clusters.revision

    def ids(self, data: bytes) -> List[int]:
        r"""The id of each line of ``data``, in order; each line ends with ``\n``.

        All are ids of groups as they are now: `find` of each is itself.
        """
        masks = (data if self._exact else mask(data)).split(b"\n")
        if not masks[-1]:
            masks.pop()
        ids: List[Optional[int]] = list(map(self._masks.get, masks))
        if None in ids or _KEEPS in ids or _COLOURS in ids:
            found = self._look_up(ids, masks, data.split(b"\n"))
        else:
            self._earn(len(ids))
            found = ids  # type: ignore[assignment]  # none is None
        now = {id_: self.find(id_) for id_ in set(found)}
        if any(id_ != root for id_, root in now.items()):
            found = list(map(now.__getitem__, found))
        return found

    def changes(self, since: int) -> Optional[Set[int]]:
        """The ids whose `find` or `template` has changed since the revision ``since``.

        None where that is so long ago that it is not known.
        """
        return self._clusters.changes(since)

    def find(self, template_id: int) -> int:
        """The id of the group that ``template_id`` is part of now."""
        return self._clusters.find(template_id)

    def template(self, template_id: int) -> Template:
        """What the lines of a group have in common."""
        return self._clusters.template(template_id)

    def _earn(self, known: int, unknown: int = 0) -> None:
        earned = known * _EARNED_BY_KNOWN + unknown * _EARNED_BY_ALL
        self._credit = min(self._credit + earned, _MAX_CREDIT)

    def _look_up(
        self, ids: List[Optional[int]], masks: List[bytes], lines: List[bytes]
    ) -> List[int]:
        """The ids with those filled in that the first cache does not know."""
        missing = ids.count(None)
        self._earn(len(ids) - missing, missing)
        if missing:
            # Each mask where it stands first; not one step per line that has it.
            first = dict(zip(reversed(masks), range(len(masks) - 1, -1, -1), strict=True))
            known = {name: self._masks.get(name) for name in first}
            unknown = sorted((n for n, id_ in known.items() if id_ is None), key=first.__getitem__)
            of = self._of_lines if self._exact else self._of_masks
            made = of(unknown, [lines[first[name]] for name in unknown])
            fresh = dict(zip(unknown, made, strict=True))
            self._masks.keep(fresh)
            known.update(fresh)
            ids = list(map(known.__getitem__, masks))
        for sign, write in ((_KEEPS, keep), (_COLOURS, keep_colours)):
            if sign in ids:
                kept = [at for at, id_ in enumerate(ids) if id_ == sign]
                made = self._of_kept([lines[at] for at in kept], write)
                for at, id_ in zip(kept, made, strict=True):
                    ids[at] = id_
        return ids  # type: ignore[return-value]  # none is None

    def _of_masks(self, masks: List[bytes], examples: List[bytes]) -> List[int]:
        """The id of each mask, or _KEEPS. ``examples`` are lines that have them."""
        short = shortened(masks)
        first = {name: at for at, name in enumerate(short) if name not in self._short}
        known = {name: id_ for name in short if (id_ := self._short.get(name)) is not None}
        if first:
            fresh = {
                name: _COLOURS if colours_only else _KEEPS
                for name, colours_only in may_have(b"\n".join(first)).items()
            }
            if self._credit < _LOW_CREDIT:
                fresh.update((name, OTHERS) for name in first if is_binary(name))
            plain = {name: examples[at] for name, at in first.items() if name not in fresh}
            if len(plain) >= max(_FLOOD, _SAMPLED * self._credit):
                plain = self._worth_a_look(plain, fresh)
            if plain:
                fresh.update(self._of_plain(list(plain), list(plain.values())))
            self._short.keep(fresh)
            known.update(fresh)
        ids = [known[name] for name in short]
        if _WIDTHS in ids:
            wide = [at for at, id_ in enumerate(ids) if id_ == _WIDTHS]
            names = shortened([with_widths(masks[at]) for at in wide])
            made = self._of_names(names, [examples[at] for at in wide])
            for at, id_ in zip(wide, made, strict=True):
                ids[at] = id_
        return ids

    def _worth_a_look(
        self, plain: Dict[bytes, bytes], fresh: Dict[bytes, int]
    ) -> Dict[bytes, bytes]:
        """Of shortened masks in a flood those to be looked at; the others are put into ``fresh``.

        Where hardly one in a sample is of a kind that is known, the others are not either; only
        errors are looked at then.
        """
        names = list(plain)
        sample = names[::_SAMPLED]
        found = self._of_plain(sample, [plain[name] for name in sample])
        fresh.update(found)
        rest = {name: example for name, example in plain.items() if name not in found}
        if sum(map(bool, found.values())) * _SELDOM >= len(found):
            return rest
        fresh.update(dict.fromkeys(rest, OTHERS))
        return {name: example for name, example in rest.items() if _states_error(example)}

    def _of_plain(self, names: List[bytes], examples: List[bytes]) -> Dict[bytes, int]:
        """The id of each shortened mask, or _WIDTHS."""
        made = skeletons(names)
        found = dict.fromkeys(names, _WIDTHS)
        if any(WIDTH in skeleton for skeleton in made):
            narrow = [at for at, skeleton in enumerate(made) if WIDTH not in skeleton]
            names = [names[at] for at in narrow]
            made = [made[at] for at in narrow]
            examples = [examples[at] for at in narrow]
        found.update(zip(names, self._of_skeletons(made, examples), strict=True))
        return found

    def _of_kept(self, lines: List[bytes], write: Callable[[bytes], bytes]) -> List[int]:
        """The ids of lines with parts that are kept, which ``write`` writes."""
        text = neutral(b"\n".join(lines))
        if max(map(len, lines)) <= LOOK_BYTES:
            written = write(text)
        else:
            whole = text.split(b"\n")
            heads = write(b"\n".join([line[:LOOK_BYTES] for line in whole])).split(b"\n")
            rests = [line[LOOK_BYTES:] for line in whole]
            written = b"\n".join(map(bytes.__add__, heads, rests))
        names = shortened(mask_kept(written).split(b"\n"))
        ids = list(map(self._kept.get, names))
        if None in ids:
            first = {
                name: line for name, line, id_ in zip(names, lines, ids, strict=True) if id_ is None
            }
            fresh = dict(zip(first, self._of_names(list(first), list(first.values())), strict=True))
            self._kept.keep(fresh)
            ids = [fresh.get(name, id_) for name, id_ in zip(names, ids, strict=True)]
        return ids  # type: ignore[return-value]  # none is None

    def _of_lines(self, lines: List[bytes], examples: List[bytes]) -> List[int]:
        """The id of each line, where only identical ones are alike."""
        written = [keep_all(line[:LOOK_BYTES]) + rest_of(line) for line in lines]
        return self._of_skeletons(written, examples)

    def _of_names(self, names: List[bytes], examples: List[bytes]) -> List[int]:
        """The ids of shortened masks, the widths of whose numbers are known or do not matter."""
        made = [skeleton.replace(WIDTH, b"") for skeleton in skeletons(names)]
        return self._of_skeletons(made, examples)

    def _of_skeletons(self, names: List[bytes], examples: List[bytes]) -> List[int]:
        """The ids of skeletons: those that are not known are learned, while there is credit."""
        ids: List[int] = []
        fresh: Dict[bytes, int] = {}
        for name, example in zip(names, examples, strict=True):
            id_ = self._skeletons.get(name)
            if id_ is None:
                id_ = fresh.get(name)
            if id_ is None:
                id_ = fresh[name] = self._learn(name, example)
            ids.append(id_)
        self._skeletons.keep(fresh)
        self._earn(len(names) - len(fresh))
        return ids

    def _learn(self, skeleton: bytes, example: bytes) -> int:
        """The id of a new skeleton; OTHERS where there is no credit.

        What was refused once and comes again is more likely to be worth it, and so is an error.
        """
        if self._credit < 1:
            key = hash(skeleton)
            worth = key in self._refused or _states_error(example)
            if not worth or self._credit < -_RESERVE:
                if len(self._refused) >= _MAX_REFUSED:
                    self._refused.clear()
                self._refused.add(key)
                return OTHERS
        self._credit -= 1
        return self._clusters.add(skeleton, level_of(example), example)


def _states_error(line: bytes) -> bool:
    """Whether a line's level is ERROR or above; quick where it is not."""
    head = line[:_ERROR_BYTES]
    may = (
        b"rror" in head or b"ERR" in head or b"xception" in head or b"raceback" in head
        or b"ATAL" in head or b"atal" in head or b"CRIT" in head or b"rit" in head
        or b"anic" in head or head[:1] in b"EF["
    )  # fmt: skip
    return may and (level_of(head) or 0) >= ERROR
