"""The store's rows as messages for browsers: at most 256 KB each, and nothing left out untold.

Pure of IO: reads the store, makes messages (the protocol is described in the front end's
``labextension/src/core/protocol.ts``). A message accounts for a range of rows: each of them is in
one of its chunks, or in a skip that tells how many lines were left out and what they say in short.

    live     what is new; under overload the newest lines, the others as a skip
    history  what a browser that has just come (back) should see: the last lines
    page     rows that a browser asks for
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..aggregator import Aggregator, Group
from ..patterns import level_of
from ..sanitize import settle
from ..store import Chunk, LogStore, OpenLine

__all__ = [
    "HISTORY_BYTES",
    "MAX_MESSAGE_BYTES",
    "PAGE_BYTES",
    "SHORTENED",
    "Message",
    "RowFeed",
    "live_message",
]

MAX_MESSAGE_BYTES = 256 << 10
HISTORY_BYTES = 4 << 20
PAGE_BYTES = 1 << 20
SHORTENED = 32
"""The line flag of the way to the browser: more of the line is in the store."""

_ROOM = 224 << 10  # for lines and what describes them; the rest of a message is for skips
_BACKLOG_BYTES = 1 << 20  # what is not skipped, but sent within half a second
_CHUNK_BYTES = 72  # what a chunk's numbers take as JSON
_LEAST_ROOM = 1 << 10
_MAX_SENT_LINE = 8 << 10
_MAX_WHOLE_LINE = 192 << 10
_READ_BYTES = 8 << 20
_MAX_GROUPS = 100
_MAX_GROUP_TEXT = 200
_SUMMARY_SEC = 0.01
_MAX_LIVE_LINES = 200
_MAX_LIVE_TEXT = 1000
_ERROR = 40
_MAY_BE_ERROR = re.compile(rb"(?i)err|exce|crit|fatal|panic|traceback|interrupt")
_CURSOR_MOVE = re.compile(rb"\x1b\[\d{0,4}[AB]")


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

    @property
    def behind(self) -> bool:
        """Whether there are rows that no live message has told of."""
        return self.cursor < self._store.rows

    def live(self) -> Optional[Message]:
        """What is new as one message; None where there is nothing.

        A little more than a message holds comes with the next ones. Where it is much more, the
        newest lines are sent and the others are told as a skip.
        """
        first, end = self.cursor, self._store.rows
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
            message = self._message(
                True, first, stop, chunks, _summaries(skipped, _SUMMARY_SEC), most=_MAX_SENT_LINE
            )
            if len(message.payload) <= _ROOM or room < _LEAST_ROOM:
                self.cursor = stop
                # Those whose pid is not known yet are told once more when it is.
                told = [source[0] for source in message.content["sources"] if source[4]]
                self._known_sources.update(told)
                return message
            room = room * _ROOM // len(message.payload) // 2  # bytes that are not UTF-8 take more

    def history(self, have: int) -> Iterator[Message]:
        """The last lines up to the live cursor, newest first; what is older is one skip.

        ``have``: the browser has all rows before it.
        """
        first, end = max(have, self.first_row), self.cursor
        if first >= end:
            return
        start = self._start_of_tail(first, end, HISTORY_BYTES)
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
            if len(message.payload) > _ROOM and room >= _LEAST_ROOM:
                room = room * _ROOM // len(message.payload) // 2
                continue
            yield message
            first, room = stop, _ROOM

    def next_page(self, first: int, end: int) -> int:
        """Where a page of about ``PAGE_BYTES`` that begins at ``first`` ends."""
        first, end = max(first, self.first_row), min(end, self._store.rows)
        size = 0
        for chunk in self._store.read(first, max(0, end - first), PAGE_BYTES):
            size += _cost(chunk)
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
            chunks[0] = _from_row(chunks[0], first)
            chunks[-1] = _until_row(chunks[-1], end)
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
                size += _cost(kept[number])
                if size > room:
                    head, tail = _last_lines(kept[number], room - (size - _cost(kept[number])))
                    if tail is None and number == len(kept) - 1:
                        head, tail = _last_line(kept[number])
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
            cut = _until_row(_from_row(chunk, first), end)
            cost = _cost(cut)
            if cost > room:
                some = _first_lines(cut, room, at_least_one=not found)
                return found if some is None else [*found, some]
            room -= cost
            found.append(cut)
        return found

    def _start_of_tail(self, first: int, end: int, most_bytes: int) -> int:
        """The row from which on the range holds about ``most_bytes``."""
        start = max(first, end - most_bytes // 16)  # so many rows at most
        found = [chunk for chunks in self._windows(start, end) for chunk in chunks]
        size = sum(map(_cost, found))
        for chunk in found:
            if size <= most_bytes:
                return chunk.first_row
            size -= _cost(chunk)
        return found[-1].first_row if found else end

    def _pieces(self, first: int, end: int) -> List[Tuple[int, int]]:
        """The range in pieces that are about a message each."""
        pieces: List[Tuple[int, int]] = []
        size = 0
        begin = first
        for chunks in self._windows(first, end):
            for chunk in chunks:
                if size and size + _cost(chunk) > _ROOM:
                    pieces.append((begin, chunk.first_row))
                    begin, size = chunk.first_row, 0
                size += _cost(chunk)
        if begin < end:
            pieces.append((begin, end))
        return pieces

    def _plain_skip(self, first: int, end: int) -> Dict[str, Any]:
        """A skip of which nothing but the cells' numbers of lines is told."""
        cells: Dict[int, int] = {}
        walls: List[float] = []
        for chunks in self._windows(first, end):
            for chunk in chunks:
                cells[chunk.cell] = cells.get(chunk.cell, 0) + chunk.count
            walls += [chunks[0].wall, chunks[-1].wall]
        return {
            "first": first, "end": end, "cells": sorted(cells.items()),
            "wall": [min(walls, default=0.0), max(walls, default=0.0)], "groups": [],
            "others": end - first,
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
        sources: Dict[int, Tuple[Any, ...]] = {}
        for chunk in chunks:
            info = chunk.info
            data, flags = _presentable(chunk, most)
            marks += flags
            parts.append(data)
            tuples.append(
                (info.proc, int(chunk.target), chunk.cell, chunk.first_row, chunk.first_line,
                 chunk.count, round(chunk.wall, 3), len(data))
            )  # fmt: skip
            if not live or info.proc not in self._known_sources:
                sources[info.proc] = (info.proc, info.rank, info.job, info.hostname, info.pid)
        content = {
            "type": "rows", "live": live, "first": first, "end": end,
            "sources": list(sources.values()), "chunks": tuples, "marks": marks, "skips": skips,
        }  # fmt: skip
        return Message(content, b"".join(parts))


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


# --- chunks -------------------------------------------------------------------------------------


def _cost(chunk: Chunk) -> int:
    return len(chunk.data) + _CHUNK_BYTES


def _part(chunk: Chunk, skip: int, count: int, data: bytes) -> Chunk:
    """Lines ``skip`` to ``skip + count`` of a chunk, of which ``data`` is the text."""
    marks = tuple(
        replace(mark, index=mark.index - skip)
        for mark in chunk.marks
        if skip <= mark.index < skip + count
    )
    return replace(
        chunk, first_row=chunk.first_row + skip, first_line=chunk.first_line + skip, count=count,
        data=data, marks=marks,
    )  # fmt: skip


def _split(chunk: Chunk, at: int) -> Tuple[Chunk, Chunk]:
    """The chunk's first lines, whose text ends at byte ``at``, and the others."""
    head = chunk.data[:at]
    count = head.count(b"\n")
    return (
        _part(chunk, 0, count, head),
        _part(chunk, count, chunk.count - count, chunk.data[at:]),
    )


def _line_start(chunk: Chunk, line: int) -> int:
    """Where a line of the chunk begins."""
    if line == 0:
        return 0
    rest = chunk.data.split(b"\n", line)[-1]
    return len(chunk.data) - len(rest)


def _from_row(chunk: Chunk, row: int) -> Chunk:
    skip = row - chunk.first_row
    return chunk if skip <= 0 else _split(chunk, _line_start(chunk, skip))[1]


def _until_row(chunk: Chunk, row: int) -> Chunk:
    keep = row - chunk.first_row
    return chunk if keep >= chunk.count else _split(chunk, _line_start(chunk, keep))[0]


def _last_lines(chunk: Chunk, room: int) -> Tuple[Optional[Chunk], Optional[Chunk]]:
    """(the lines that do not fit, those that do), from the chunk's end."""
    room -= _CHUNK_BYTES
    start = len(chunk.data) if room <= 0 else chunk.data.find(b"\n", len(chunk.data) - room - 1) + 1
    if start >= len(chunk.data):
        return chunk, None
    return _split(chunk, start)


def _last_line(chunk: Chunk) -> Tuple[Optional[Chunk], Chunk]:
    start = chunk.data.rfind(b"\n", 0, -1) + 1
    if not start:
        return None, chunk
    return _split(chunk, start)


def _first_lines(chunk: Chunk, room: int, *, at_least_one: bool) -> Optional[Chunk]:
    end = chunk.data.rfind(b"\n", 0, max(0, room - _CHUNK_BYTES)) + 1
    if not end:
        if not at_least_one:
            return None
        end = chunk.data.index(b"\n") + 1
    return _split(chunk, end)[0]


def _presentable(chunk: Chunk, most: int) -> Tuple[bytes, List[Tuple[int, int, int]]]:
    """A chunk's text as UTF-8 that a browser can take, and the marks of its special lines.

    Lines of more than ``most`` bytes are shortened.
    """
    data = chunk.data
    marks = {mark.index: (int(mark.flags), mark.true_bytes) for mark in chunk.marks}
    if b"\r" in data or len(data) > most:
        lines = chunk.lines()
        for index, line in enumerate(lines):
            text = line
            if b"\r" in text and not _CURSOR_MOVE.search(text):
                text = settle(text)
            if len(text) > most:
                flags, true_bytes = marks.get(index, (0, len(line)))
                marks[index] = (flags | SHORTENED, true_bytes)
                text = _shortened(text, most)
            lines[index] = text
        lines.append(b"")
        data = b"\n".join(lines)
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "backslashreplace").encode()
    row = chunk.first_row
    return data, [(row + index, *mark) for index, mark in sorted(marks.items())]


def _shortened(text: bytes, most: int) -> bytes:
    """The beginning of a long line; of one that moves the cursor, the end."""
    if b"\r" in text:
        return text[-most:].decode("utf-8", "ignore").encode()
    return text[:most].decode("utf-8", "ignore").encode()


# --- skips --------------------------------------------------------------------------------------


def _summaries(chunks: Sequence[Chunk], most_sec: float) -> List[Dict[str, Any]]:
    """What is left out, in short; looks at it for ``most_sec`` at most, the rest is counted."""
    if not chunks:
        return []
    deadline = time.perf_counter() + most_sec
    aggregator = Aggregator(1.0)
    cells: Dict[int, int] = {}
    unseen = 0
    for chunk in chunks:
        cells[chunk.cell] = cells.get(chunk.cell, 0) + chunk.count
        if time.perf_counter() < deadline:
            aggregator.add(chunk, 0.0)
        else:
            unseen += chunk.count
    groups: List[Tuple[int, Group]] = []
    for report in aggregator.flush():
        groups += [(report.cell, group) for group in report.groups]
        unseen += report.others
    shown = _most_telling(groups)
    told = {id(group) for _, group in shown}
    unseen += sum(group.count for _, group in groups if id(group) not in told)
    return [
        {
            "first": chunks[0].first_row,
            "end": chunks[-1].first_row + chunks[-1].count,
            "cells": sorted(cells.items()),
            "wall": [chunks[0].wall, chunks[-1].wall],
            "groups": [
                (int(group.target), group.job, cell, _group_text(group), group.count,
                 group.folded_ranks, int(group.differs))
                for cell, group in shown
            ],
            "others": unseen,
        }
    ]  # fmt: skip


def _most_telling(groups: List[Tuple[int, Group]]) -> List[Tuple[int, Group]]:
    """Those with most lines, and among the others those that state an error."""
    if len(groups) <= _MAX_GROUPS:
        return groups
    by_count = sorted(groups, key=lambda item: -item[1].count)
    half = _MAX_GROUPS // 2
    errors = [
        item
        for item in by_count[half:]
        if _MAY_BE_ERROR.search(item[1].text) and (level_of(item[1].text) or 0) >= _ERROR
    ]
    return by_count[:half] + errors[:half]


def _group_text(group: Group) -> str:
    return group.shown[:_MAX_GROUP_TEXT].decode("utf-8", "backslashreplace")
