"""Chunks cut to size, and their text made presentable: what a message to a browser holds of them.

Pure functions in bulk: only where a chunk has carriage returns, or a line that is too long for the
way, are its lines looked at one by one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import List, Optional, Tuple

from ..sanitize import settle
from ..store import Chunk

__all__ = [
    "SHORTENED",
    "cost",
    "first_lines",
    "from_row",
    "last_line",
    "last_lines",
    "presentable",
    "until_row",
]

SHORTENED = 32
"""The line flag of the way to the browser: more of the line is in the store."""

_CHUNK_BYTES = 72  # what a chunk's numbers take as JSON
_ID_BYTES = 4  # what a line takes beside its text
_CURSOR_MOVE = re.compile(rb"\x1b\[\d{0,4}[AB]")


def cost(chunk: Chunk) -> int:
    """About how many bytes it takes in a message."""
    return len(chunk.data) + _ID_BYTES * chunk.count + _CHUNK_BYTES


def _text_room(chunk: Chunk, room: int) -> int:
    """How much of a room is for the text of lines as long as these are on average."""
    size = len(chunk.data)
    return (room - _CHUNK_BYTES) * size // (size + _ID_BYTES * chunk.count)


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


def from_row(chunk: Chunk, row: int) -> Chunk:
    """Its lines from a row on; all where it begins behind that."""
    skip = row - chunk.first_row
    return chunk if skip <= 0 else _split(chunk, _line_start(chunk, skip))[1]


def until_row(chunk: Chunk, row: int) -> Chunk:
    """Its lines before a row."""
    keep = row - chunk.first_row
    return chunk if keep >= chunk.count else _split(chunk, _line_start(chunk, keep))[0]


def last_lines(chunk: Chunk, room: int) -> Tuple[Optional[Chunk], Optional[Chunk]]:
    """(the lines that do not fit, those that do), from the chunk's end."""
    room = _text_room(chunk, room)
    start = len(chunk.data) if room <= 0 else chunk.data.find(b"\n", len(chunk.data) - room - 1) + 1
    if start >= len(chunk.data):
        return chunk, None
    return _split(chunk, start)


def last_line(chunk: Chunk) -> Tuple[Optional[Chunk], Chunk]:
    """(the lines before its last one, that one)."""
    start = chunk.data.rfind(b"\n", 0, -1) + 1
    if not start:
        return None, chunk
    return _split(chunk, start)


def first_lines(chunk: Chunk, room: int, *, at_least_one: bool) -> Optional[Chunk]:
    """Its first lines, as many as fit; None where not one does."""
    end = chunk.data.rfind(b"\n", 0, max(0, _text_room(chunk, room))) + 1
    if not end:
        if not at_least_one:
            return None
        end = chunk.data.index(b"\n") + 1
    return _split(chunk, end)[0]


def presentable(chunk: Chunk, most: int) -> Tuple[bytes, List[Tuple[int, int, int]]]:
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
