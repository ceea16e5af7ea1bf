"""What browsers have been told of templates, and what they are to be told next.

Lines travel with the ids of their templates. A template is told when it is first used, and again
when it has become another, or part of another: then what a page holds already is grouped anew.
"""

from __future__ import annotations

import sys
from array import array
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from ..grouping import SlotKind, Template
from ..template_table import TemplateTable

__all__ = ["Telling", "ToldTemplates", "id_bytes"]

Telling = Tuple[int, int, List[str], str, int]
"""``TemplateTuple`` of the protocol: id, the id that it is part of, pieces, kinds, level."""

_MAX_CHANGES = 200  # of one message: the others come with the next
_MAX_PIECE = 500
_MAX_PIECES = 2000  # characters of all pieces together, and slots count for some
_SLOT_CHARS = 8
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class ToldTemplates:
    """Not thread-safe: one sender asks. What was made is told once it is noted."""

    def __init__(self, table: TemplateTable) -> None:
        self._table = table
        self._told: Dict[int, Telling] = {}
        self._revision = -1

    def clear(self) -> None:
        """A page has come that knows nothing."""
        self._told.clear()

    def note(self, tellings: Iterable[Telling]) -> None:
        """These have been sent."""
        self._told.update((telling[0], telling) for telling in tellings)

    def all_of(self, used: Set[int]) -> List[Telling]:
        """All that a message needs which uses these ids."""
        return self._tellings(used)

    def unknown(self, used: Set[int]) -> List[Telling]:
        """What browsers do not know yet of the templates used."""
        return self._tellings(used - self._told.keys())

    def due(self, used: Set[int]) -> List[Telling]:
        """What browsers do not know yet of the templates used, and what of others has changed."""
        revision = self._table.revision
        if revision == self._revision:
            return self.unknown(used)
        changed = self._table.changes(self._revision) if self._revision >= 0 else None
        known = self._told.keys() if changed is None else self._told.keys() & changed
        tellings = {telling[0]: telling for telling in self._tellings(used | known)}
        changes = [
            telling
            for number, telling in tellings.items()
            if number not in used and self._told.get(number) != telling
        ]
        if len(changes) <= _MAX_CHANGES:
            self._revision = revision
        needed = [tellings[number] for number in used if number in tellings]
        needed = [telling for telling in needed if self._told.get(telling[0]) != telling]
        return needed + changes[:_MAX_CHANGES]

    def _tellings(self, numbers: Set[int]) -> List[Telling]:
        """Of each, and of what it is part of."""
        roots = self._table.roots(numbers)
        templates = self._table.templates(set(roots.values()))
        parts: List[Telling] = [
            (number, root, [], "", 0) for number, root in roots.items() if number != root
        ]
        return parts + [_telling(number, template) for number, template in templates.items()]


def _telling(number: int, template: Template) -> Telling:
    """What is told of a template; of a long one the beginning, then one slot for the rest."""
    pieces: List[str] = []
    room = _MAX_PIECES
    for piece in template.pieces:
        if room <= 0:
            kinds = template.kinds[: len(pieces) - 1]
            told = "".join(kind.value for kind in kinds) + SlotKind.TEXT.value
            return number, number, [*pieces, ""], told, template.level or 0
        text = piece.decode("utf-8", "backslashreplace")
        pieces.append(text if len(text) <= _MAX_PIECE else text[:_MAX_PIECE] + _ELLIPSIS)
        room -= len(pieces[-1]) + _SLOT_CHARS
    kinds = template.kinds
    return number, number, pieces, "".join(kind.value for kind in kinds), template.level or 0


def id_bytes(ids: Sequence[int]) -> bytes:
    """Unsigned 32-bit numbers, little-endian."""
    numbers = array("I", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
