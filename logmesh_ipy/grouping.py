"""Which lines are alike: ids for lines, learned in one pass, in bulk.

Three levels, each entered only by what the one before does not know:

1. a line with its digits masked: a dictionary, without any work per line in Python;
2. the same with runs of digits shortened, then its skeleton, made by regular expressions over all
   unknown masks at once;
3. `clusters`, which learns.

The dictionaries of the first two are caches: bounded, and emptied when full. Learning is bounded
by a credit that lines which are known earn; what comes beyond it, or beyond the memory for groups,
is of the group OTHERS.
"""

from __future__ import annotations

from collections import Counter
from typing import Dict, Iterable, List, Optional

from .clusters import Clusters
from .levels import level_of
from .literals import has_kept, keep, keep_all, may_have, restore
from .masks import LOOK_BYTES, collapse, cut, has_width, mask, skeletons, widths
from .templates import SlotKind, Template

__all__ = ["OTHERS", "Grouper", "SlotKind", "Template"]

OTHERS = 0
"""The group of the lines that are of more kinds than memory allows."""

_KEEPS = -1
"""In the caches: the digits of these lines matter, they must be looked at themselves."""
_WIDTHS = -2
"""In the caches: so do the widths of their numbers."""

_CREDIT = 8192
_EARN = 1 / 16


class _Cache(Dict[bytes, int]):
    """From texts to ids, of about ``limit`` bytes; emptied when full."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._size = 0

    def add(self, found: Dict[bytes, int]) -> None:
        size = sum(map(len, found)) + 150 * len(found)
        if self._size + size > self._limit:
            self.clear()
            self._size = 0
        if size <= self._limit:
            self.update(found)
            self._size += size


class Grouper:
    """Learns, in one pass over lines, which are alike. One for a session. Not thread-safe.

    ``similarity_threshold`` (0 to 1) is how much of a line's words may differ, beside numbers and
    ids, for lines to be alike; with 0 only numbers and ids may. With ``exact`` only identical lines
    are alike. Raises ValueError for a threshold out of range.
    """

    def __init__(self, similarity_threshold: float = 0.3, exact: bool = False) -> None:
        if not 0 <= similarity_threshold <= 1:
            raise ValueError(f"similarity_threshold must be 0 to 1; not {similarity_threshold!r}")
        self._exact = exact
        self._masks = _Cache(16 << 20)
        self._short = _Cache(8 << 20)
        self._skeletons = _Cache(8 << 20)
        self._clusters = Clusters(similarity_threshold)
        self._credit = float(_CREDIT)

    @property
    def revision(self) -> int:
        """Grows whenever an answer of `find` or `template` changes for an id that was given."""
        return self._clusters.revision

    def ids(self, data: bytes) -> List[int]:
        r"""The id of each line of ``data``, in order; each line ends with ``\n``."""
        keys = (data if self._exact else mask(data)).split(b"\n")
        if not keys[-1]:
            keys.pop()
        found: List[Optional[int]] = list(map(self._masks.get, keys))
        if None in found or _KEEPS in found:
            self._look_up(found, keys, data)
        return found  # type: ignore[return-value]  # none is left

    def count(self, data: bytes) -> Dict[int, int]:
        """How many lines of ``data`` are of each id."""
        return Counter(self.ids(data))

    def find(self, template_id: int) -> int:
        """The id of the group that ``template_id`` is part of now."""
        return self._clusters.find(template_id)

    def template(self, template_id: int) -> Template:
        """What the lines of a group have in common."""
        return self._clusters.template(template_id)

    def _look_up(self, found: List[Optional[int]], keys: List[bytes], data: bytes) -> None:
        """Fill in the ids that are missing in ``found``."""
        lines = data.split(b"\n")
        missing = [at for at, known in enumerate(found) if known is None or known == _KEEPS]
        self._credit = min(self._credit + _EARN * (len(found) - len(missing)), _CREDIT)
        firsts: Dict[bytes, int] = {}
        kept: List[int] = []
        for at in missing:
            if found[at] is None:
                firsts.setdefault(keys[at], at)
            else:
                kept.append(at)
        if self._exact:
            fresh = self._resolve([keep_all(key) for key in firsts], list(firsts))
            fresh = dict(zip(firsts, fresh.values()))
        else:
            fresh = self._of_masks(list(firsts), [lines[at] for at in firsts.values()])
        self._masks.add({key: id for key, id in fresh.items() if id and len(key) <= LOOK_BYTES})
        for at in missing:
            if found[at] is None:
                found[at] = fresh[keys[at]]
                if found[at] == _KEEPS:
                    kept.append(at)
        if kept:
            written = [keep(lines[at][:LOOK_BYTES]) + lines[at][LOOK_BYTES:] for at in kept]
            names = [cut(name) for name in collapse(mask(b"\n".join(written))).split(b"\n")]
            known = self._of_short(dict(zip(names, kept)), lines)
            for at, name in zip(kept, names):
                found[at] = known[name]

    def _of_masks(self, keys: List[bytes], examples: List[bytes]) -> Dict[bytes, int]:
        short = [cut(key) for key in collapse(b"\n".join(keys)).split(b"\n")]
        unknown = {name: at for at, name in enumerate(short) if name not in self._short}
        special = {}
        if unknown:
            if may_have(b"\n".join(unknown)):
                special.update({name: _KEEPS for name in unknown if may_have(name)})
            if has_width(b"\n".join(unknown)):
                special.update({n: _WIDTHS for n in unknown if n not in special and has_width(n)})
            self._short.add(special)
        ids = self._of_short({n: at for n, at in zip(short, range(len(short))) if n not in special}, examples)
        ids.update(special)
        answer = {key: ids[name] for key, name in zip(keys, short)}
        wide = [at for at, name in enumerate(short) if ids[name] == _WIDTHS]
        if wide:
            names = [
                cut(n) for n in collapse(b"\n".join(widths(keys[at]) for at in wide)).split(b"\n")
            ]
            known = self._of_short(dict(zip(names, wide)), examples, "w")
            for at, name in zip(wide, names):
                answer[keys[at]] = known[name]
        return answer

    def _of_short(self, names: Dict[bytes, int], examples: List[bytes], kind: str = "") -> Dict[bytes, int]:
        """The id of each shortened mask; the values are the places of their examples."""
        ids: Dict[bytes, int] = {}
        unknown = []
        get = self._short.get if not kind else {}.get
        for name in names:
            id = get(name)
            if id is None:
                unknown.append(name)
            else:
                ids[name] = id
        if unknown:
            made = skeletons(unknown)
            known = self._resolve(made, [examples[names[name]] for name in unknown])
            fresh = {name: known[skeleton] for name, skeleton in zip(unknown, made)}
            ids.update(fresh)
            if not kind:
                self._short.add({name: id for name, id in fresh.items() if id})
        return ids

    def _resolve(self, names: List[bytes], examples: List[bytes]) -> Dict[bytes, int]:
        ids: Dict[bytes, int] = {}
        fresh: Dict[bytes, int] = {}
        get = self._skeletons.get
        for name, example in zip(names, examples):
            if name in ids:
                continue
            id = get(name)
            if id is None:
                if self._credit < 1:
                    id = OTHERS
                else:
                    self._credit -= 1
                    id = self._clusters.add(name, level_of(example), example)
                    if id:
                        fresh[name] = id
            ids[name] = id
        self._skeletons.add(fresh)
        return ids
