"""TemplateTable: which lines of a store are alike, for all who look at it.

The :class:`~logmesh_ipy.grouping.Grouper` behind a lock: views, the panel's sender and readers of
``mesh.logs`` ask in threads of their own, and all get the same answer. One for a store.
"""

from __future__ import annotations

import threading
from typing import Dict, Iterable, List, Optional, Set

from .grouping import OTHERS, Grouper, Template
from .sanitize import settle

__all__ = ["TemplateTable", "settled"]


class TemplateTable:
    """Any thread. ``similarity_threshold`` and ``exact`` as in ``Grouper``; None: its default."""

    def __init__(
        self, similarity_threshold: Optional[float] = None, *, exact: bool = False
    ) -> None:
        if similarity_threshold is None:
            self._grouper = Grouper(exact=exact)
        else:
            self._grouper = Grouper(similarity_threshold, exact=exact)
        self._lock = threading.Lock()

    @property
    def revision(self) -> int:
        """Grows when templates that were given out have become others, or part of others."""
        return self._grouper.revision

    def changes(self, since: int) -> Optional[Set[int]]:
        """Ids whose ``find`` or ``template`` changed after a revision; None: too many to tell."""
        with self._lock:
            return self._grouper.changes(since)

    def ids(self, data: bytes) -> List[int]:
        """One template id per line of ``data``, each closed by a newline; 0: of too many kinds.

        A line that rewrites itself is what stands there at last.
        """
        shown = settled(data)
        with self._lock:
            return self._grouper.ids(shown)

    def find(self, template_id: int) -> int:
        """The id of the group that a template belongs to now."""
        with self._lock:
            return self._grouper.find(template_id)

    def roots(self, template_ids: Iterable[int]) -> Dict[int, int]:
        """``find`` of many."""
        with self._lock:
            find = self._grouper.find
            return {number: find(number) for number in template_ids}

    def templates(self, template_ids: Iterable[int]) -> Dict[int, Template]:
        """What the lines of each group have in common, as far as is known now.

        Of 0, which stands for no group, none.
        """
        with self._lock:
            template = self._grouper.template
            return {number: template(number) for number in template_ids if number != OTHERS}


def settled(data: bytes) -> bytes:
    """Lines as they stand at last, after their carriage returns; most have none."""
    if b"\r" not in data:
        return data
    return b"\n".join([settle(line) if b"\r" in line else line for line in data.split(b"\n")])
