"""The store's rows as messages for browsers: at most 256 KB each, and nothing left out untold.

Pure of IO: reads the store, makes messages (the protocol is described in the front end's
``labextension/src/core/protocol.ts``). A message accounts for a range of rows: each of them is in
one of its chunks, or in a skip that tells how many lines were left out and what they say in short.

    live     what is new; under overload the newest lines, the others as a skip
    history  what a browser that has just come (back) should see: the last lines
    page     rows that a browser asks for
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..sanitize import settle
from ..store import Chunk, LogStore, OpenLine
from .cut import cost, first_lines, from_row, last_line, last_lines, presentable, until_row
from .skips import Cells, summaries
from .told import Telling, ToldTemplates, id_bytes

__all__ = [
    "HISTORY_BYTES",
    "MAX_MESSAGE_BYTES",
    "PAGE_BYTES",
    "Message",
    "RowFeed",
    "live_message",
]

MAX_MESSAGE_BYTES = 256 << 10
HISTORY_BYTES = 4 << 20
PAGE_BYTES = 1 << 20

_ENVELOPE_BYTES = 1 << 10
_ROOM = 220 << 10  # for lines and what describes them; the rest of a message is for skips
_BACKLOG_BYTES = 1 << 20  # what is not skipped, but sent within half a second
_LEAST_ROOM = 1 << 10
_MAX_SENT_LINE = 8 << 10
_MAX_WHOLE_LINE = 192 << 10
_READ_BYTES = 8 << 20
_LOOK_BACK_ROWS = 4096
_MAX_COUNTED_ROWS = 200_000
_SUMMARY_SEC = 0.012  # of each sixth of a second, while the kernel computes as well: 60k lines
_MAX_LIVE_LINES = 200
_MAX_LIVE_TEXT = 1000
_SKIP_TEMPLATES_BYTES = 8 << 10
_SKIP_TEMPLATE = 7  # where a skip's group tells its template


class Message(NamedTuple):
    """One message: its content (JSON), and the buffer beside it."""

    content: Dict[str, Any]
    payload: bytes = b""


class RowFeed:
    """Messages from one store; ``cursor`` is the first row that no live message has told of.

    Not thread-safe: one sender reads.
    """

    def __init__(self, store: LogStore, first_row: int = 0) -> None:
        self.cursor = first_row
        self.first_row = first_row
        self._store = store
        self._known_sources: set[int] = set()
        self._told = ToldTemplates(store.templates)

    def introduce(self) -> None:
        """Tell of all sources and templates anew: a page has come."""
        self._known_sources.clear()
        self._told.introduce()

    @property
    def behind(self) -> bool:
        """Whether there are rows that no live message has told of, or changes of templates."""
        return self.cursor < self._store.rows or self._told.behind

    def live(self) -> Optional[Message]:
        """What is new as one message; None where there is nothing.

        A little more than a message holds comes with the next ones. Where it is much more, the
        newest lines are sent and the others are told as a skip. Without new rows it may tell that
        templates have changed.
        """
        first, end = self.cursor, self._store.rows
        if first == end:
            return self._changes()
        room = _ROOM
        while True:
            chunks, skipped = self._tail(first, end, _BACKLOG_BYTES)
            if skipped:
                chunks, skipped = self._tail(first, end, room)
            else:
                chunks = self._head(first, end, room)
            if not chunks:
                return None
            stop = chunks[-1].first_row + chunks[-1].count
            skips = summaries(skipped, self._store.templates, _SUMMARY_SEC)
            message = self._message(True, first, stop, chunks, skips, most=_MAX_SENT_LINE)
            if _size(message) <= MAX_MESSAGE_BYTES - _ENVELOPE_BYTES or room < _LEAST_ROOM:
                self.cursor = stop
                self._told.note_live(message.content["templates"])
                # Those whose pid is not known yet are told once more when it is.
                told = [source[0] for source in message.content["sources"] if source[4]]
                self._known_sources.update(told)
                return message
            # Bytes that are not UTF-8 take more room, as do many sources.
            room = min(room // 2, room * _ROOM // _size(message))

    def _changes(self) -> Optional[Message]:
        """Only what has changed of templates; None where nothing has that was told."""
        message = self._message(True, self.cursor, self.cursor, (), [], most=_MAX_SENT_LINE)
        self._told.note_live(message.content["templates"])
        return message if message.content["templates"] else None

    def history(self, have: int) -> Iterator[Message]:
        """The last lines up to the live cursor, newest first; what is older is one skip.

        ``have``: the browser has all rows before it.
        """
        first, end = max(have, self.first_row), self.cursor
        if first >= end:
            return
        start = self._start_of_tail(first, end, HISTORY_BYTES)
        if start - first > _MAX_COUNTED_ROWS:
            first = self.first_row  # what all cells have is known, what they have from there is not
        if start > first:
            skip = self._plain_skip(first, start)
            yield self._message(False, first, start, (), [skip], most=_MAX_SENT_LINE)
        for piece, piece_end in reversed(self._pieces(start, end)):
            yield from self.page(piece, piece_end)

    def page(self, first: int, end: int, whole: bool = False) -> Iterator[Message]:
        """The rows ``first`` to ``end``; with ``whole``, long lines are hardly shortened."""
        first, end = max(first, self.first_row), min(end, self._store.rows)
        most = _MAX_WHOLE_LINE if whole else _MAX_SENT_LINE
        room = _ROOM
        while first < end:
            chunks = self._head(first, end, room)
            if not chunks:
                return  # closed meanwhile
            stop = chunks[-1].first_row + chunks[-1].count
            message = self._message(False, first, stop, chunks, [], most=most)
            size = _size(message)
            if size > MAX_MESSAGE_BYTES - _ENVELOPE_BYTES and room >= _LEAST_ROOM:
                room = min(room // 2, room * _ROOM // size)
                continue
            self._told.note(message.content["templates"])
            yield message
            first, room = stop, _ROOM

    def next_page(self, first: int, end: int) -> int:
        """Where a page of about ``PAGE_BYTES`` that begins at ``first`` ends."""
        first, end = max(first, self.first_row), min(end, self._store.rows)
        size = 0
        for chunk in self._store.read(first, max(0, end - first), PAGE_BYTES):
            size += cost(chunk)
            if size > PAGE_BYTES:
                return min(end, max(first + 1, chunk.first_row))
        return min(end, chunk.first_row + chunk.count) if size else end

    # --- choosing rows ------------------------------------------------------------------------

    def _windows(self, first: int, end: int) -> Iterator[List[Chunk]]:
        """All chunks of the range, cut to it, some at a time."""
        while first < end:
            chunks = self._store.read(first, end - first, _READ_BYTES)
            if not chunks:
                return
            following = chunks[-1].first_row + chunks[-1].count
            chunks[0] = from_row(chunks[0], first)
            chunks[-1] = until_row(chunks[-1], end)
            yield chunks
            first = following

    def _tail(self, first: int, end: int, room: int) -> Tuple[List[Chunk], List[Chunk]]:
        """The last chunks that fit in ``room``, and those before them."""
        kept: List[Chunk] = []
        skipped: List[Chunk] = []
        for chunks in self._windows(first, end):
            kept += chunks
            size = 0
            for number in range(len(kept) - 1, -1, -1):
                size += cost(kept[number])
                if size > room:
                    head, tail = last_lines(kept[number], room - (size - cost(kept[number])))
                    if tail is None and number == len(kept) - 1:
                        head, tail = last_line(kept[number])
                    skipped += kept[:number]
                    if head is not None:
                        skipped.append(head)
                    kept = ([] if tail is None else [tail]) + kept[number + 1 :]
                    break
        return kept, skipped

    def _head(self, first: int, end: int, room: int) -> List[Chunk]:
        """The first chunks that fit in ``room``; one line at least."""
        found: List[Chunk] = []
        for chunk in self._store.read(first, end - first, room):
            cut = until_row(from_row(chunk, first), end)
            size = cost(cut)
            if size > room:
                some = first_lines(cut, room, at_least_one=not found)
                return found if some is None else [*found, some]
            room -= size
            found.append(cut)
        return found

    def _start_of_tail(self, first: int, end: int, most_bytes: int) -> int:
        """The row from which on the range holds about ``most_bytes``; looks at little more."""
        rows = _LOOK_BACK_ROWS
        while True:
            start = max(first, end - rows)
            tail: Deque[Tuple[int, int]] = deque()
            size = 0
            full = False
            for chunks in self._windows(start, end):
                for chunk in chunks:
                    tail.append((chunk.first_row, cost(chunk)))
                    size += cost(chunk)
                while size > most_bytes and len(tail) > 1:
                    size -= tail.popleft()[1]
                    full = True
            if full or start == first:
                return tail[0][0] if tail else end
            rows *= 8

    def _pieces(self, first: int, end: int) -> List[Tuple[int, int]]:
        """The range in pieces that are about a message each."""
        pieces: List[Tuple[int, int]] = []
        size = 0
        begin = first
        for chunks in self._windows(first, end):
            for chunk in chunks:
                if size and size + cost(chunk) > _ROOM:
                    pieces.append((begin, chunk.first_row))
                    begin, size = chunk.first_row, 0
                size += cost(chunk)
        if begin < end:
            pieces.append((begin, end))
        return pieces

    def _plain_skip(self, first: int, start: int) -> Dict[str, Any]:
        """A skip of the rows ``first`` to ``start`` that tells the cells' lines, and no more."""
        cells = Cells()
        if first == 0:
            # Not to be read for this: it may be gigabytes. What is behind it is little.
            rows, spans = self._store.cell_spans()
            for cell, span in spans.items():
                cells.found[cell] = [span.lines, span.first_row, min(span.end_row, start)]
            for chunks in self._windows(start, rows):
                for chunk in chunks:
                    cells.found[chunk.cell][0] -= chunk.count
        else:
            for chunks in self._windows(first, start):
                cells.add(chunks)
        edges = [self._store.read(row, 1) for row in (first, start - 1)]
        walls = [chunks[0].wall if chunks else 0.0 for chunks in edges]
        return {
            "first": first, "end": start, "cells": cells.told(), "wall": walls, "groups": [],
            "others": start - first,
        }  # fmt: skip

    # --- writing ------------------------------------------------------------------------------

    def _message(
        self,
        live: bool,
        first: int,
        end: int,
        chunks: Sequence[Chunk],
        skips: List[Dict[str, Any]],
        *,
        most: int,
    ) -> Message:
        tuples: List[Tuple[Any, ...]] = []
        marks: List[Tuple[int, int, int]] = []
        parts: List[bytes] = []
        ids: List[int] = []
        sources: Dict[int, Tuple[Any, ...]] = {}
        for chunk in chunks:
            info = chunk.info
            ids += self._store.templates.ids(chunk.data)
            data, flags = presentable(chunk, most)
            marks += flags
            parts.append(data)
            tuples.append(
                (info.proc, int(chunk.target), chunk.cell, chunk.first_row, chunk.first_line,
                 chunk.count, round(chunk.wall, 3), len(data))
            )  # fmt: skip
            if not live or info.proc not in self._known_sources:
                sources[info.proc] = (info.proc, info.rank, info.job, info.hostname, info.pid)
        templates = self._templates(set(ids), skips, live=live)
        content = {
            "type": "rows", "live": live, "first": first, "end": end,
            "sources": list(sources.values()), "chunks": tuples, "marks": marks, "skips": skips,
            "templates": templates,
        }  # fmt: skip
        return Message(content, b"".join([*parts, id_bytes(ids)]))

    def _templates(
        self, used: Set[int], skips: List[Dict[str, Any]], *, live: bool
    ) -> List[Telling]:
        """What a message must tell of templates.

        Those of skips' groups as far as they find room: the other groups go as their text only.
        """
        told = self._told.due(used) if live else self._told.all_of(used)
        of_skips = {group[_SKIP_TEMPLATE] for skip in skips for group in skip["groups"]} - used
        more = self._told.unknown(of_skips) if live else self._told.all_of(of_skips)
        size = 0
        left_out: Set[int] = set()
        for telling in more:
            size += len(json.dumps(telling))
            if size > _SKIP_TEMPLATES_BYTES:
                left_out.add(telling[0])
        for skip in skips:
            skip["groups"] = [
                (*group[:_SKIP_TEMPLATE], 0) if group[_SKIP_TEMPLATE] in left_out else group
                for group in skip["groups"]
            ]
        return told + [telling for telling in more if telling[0] not in left_out]


def _size(message: Message) -> int:
    return len(message.payload) + len(json.dumps(message.content))


def live_message(lines: Sequence[OpenLine], first_lines: int = _MAX_LIVE_LINES) -> Message:
    """The unfinished lines as they stand now."""
    shown = [
        (
            line.info.proc, int(line.target), line.cell, round(line.wall, 3),
            settle(line.text)[:_MAX_LIVE_TEXT].decode("utf-8", "backslashreplace"),
        )
        for line in lines[:first_lines]
    ]  # fmt: skip
    return Message({"type": "live", "lines": shown, "more": len(lines) - len(shown)})
