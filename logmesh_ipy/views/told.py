"""What browsers have been told of templates, and what they are to be told next.

Lines travel with the ids of their templates. A template is told when it is first used, and again
when it has become another, or part of another: then what a page holds already is grouped anew.
"""

from __future__ import annotations

import json
import sys
from array import array
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from ..grouping import SlotKind, Template
from ..template_table import TemplateTable

__all__ = ["Telling", "ToldTemplates", "id_bytes"]

Telling = Tuple[int, int, List[str], str, int]
"""``TemplateTuple`` of the protocol: id, the id that it is part of, pieces, kinds, level."""

_CHANGES_BYTES = 16 << 10  # of one message: the others come with the next
_MAX_PIECE = 500
_MAX_PIECES = 2000  # characters of all pieces together, and slots count for some
_SLOT_CHARS = 8
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class ToldTemplates:
    """Not thread-safe: one sender asks. What was made is told once it is noted.

    All pages hear every message. One that has just come knows nothing of those before, while the
    others still hold lines of all templates that were ever told: these go on being followed.
    """

    def __init__(self, table: TemplateTable) -> None:
        self._table = table
        self._told: Dict[int, Telling] = {}
        self._introduced: Set[int] = set()  # told since the last page came: all know these
        self._revision = self._reached = table.revision

    @property
    def behind(self) -> bool:
        """Whether templates may have changed that were told."""
        return self._revision != self._table.revision

    def introduce(self) -> None:
        """A page has come that knows nothing."""
        self._introduced.clear()

    def note(self, tellings: Iterable[Telling]) -> None:
        """These have been sent."""
        for telling in tellings:
            self._told[telling[0]] = telling
            self._introduced.add(telling[0])

    def note_live(self, tellings: Iterable[Telling]) -> None:
        """These have been sent, which are what was ``due`` when that was asked last."""
        self.note(tellings)
        self._revision = self._reached

    def all_of(self, used: Set[int]) -> List[Telling]:
        """All that a message needs which uses these ids."""
        return self._tellings(used)

    def unknown(self, used: Set[int]) -> List[Telling]:
        """What some page does not know yet of the templates used."""
        return [
            telling
            for telling in self._tellings(used - self._introduced)
            if telling[0] not in self._introduced or self._told[telling[0]] != telling
        ]

    def due(self, used: Set[int]) -> List[Telling]:
        """What some page does not know yet of the templates used, and what of others has changed.

        Of many changes some; then ``behind`` stays true.
        """
        self._reached = self._table.revision
        needed = self.unknown(used)
        if self._reached == self._revision:
            return needed
        changed = self._table.changes(self._revision)
        known = set(self._told) if changed is None else self._told.keys() & changed
        numbers = {telling[0] for telling in needed}
        room = _CHANGES_BYTES
        for telling in self._tellings(known):
            if telling[0] not in numbers and self._told.get(telling[0]) != telling:
                needed.append(telling)
                room -= len(json.dumps(telling))
                if room < 0:
                    self._reached = self._revision
                    break
        return needed

    def _tellings(self, numbers: Set[int]) -> List[Telling]:
        """Of what each is part of, then of each that is a part."""
        roots = self._table.roots(numbers)
        templates = self._table.templates(set(roots.values()))
        parts: List[Telling] = [
            (number, root, [], "", 0) for number, root in roots.items() if number != root
        ]
        return [_telling(number, template) for number, template in templates.items()] + parts


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
