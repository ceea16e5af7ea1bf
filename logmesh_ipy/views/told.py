"""What browsers have been told of templates, and what they are to be told next.

Lines travel with the ids of their templates. A template is told when it is first used, and again
when it has become another, or part of another: then what a page holds already is grouped anew.
"""

from __future__ import annotations

import sys
from array import array
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from ..grouping import Template
from ..template_table import TemplateTable

__all__ = ["Telling", "ToldTemplates", "id_bytes"]

Telling = Tuple[int, int, List[str], str, int]
"""``TemplateTuple`` of the protocol: id, the id that it is part of, pieces, kinds, level."""

_MAX_CHANGES = 200  # of one message: the others come with the next


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

    def due(self, used: Set[int]) -> List[Telling]:
        """What browsers do not know yet of the templates used, and what of others has changed."""
        revision = self._table.revision
        if revision == self._revision:
            return self._tellings(used - self._told.keys())
        tellings = {telling[0]: telling for telling in self._tellings(used | self._told.keys())}
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
    return (
        number,
        number,
        [piece.decode("utf-8", "backslashreplace") for piece in template.pieces],
        "".join(kind.value for kind in template.kinds),
        template.level or 0,
    )


def id_bytes(ids: Sequence[int]) -> bytes:
    """Unsigned 32-bit numbers, little-endian."""
    numbers = array("I", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
