r"""Bytes cut anywhere to whole lines, in bounded memory. Sans-IO; used by the store.

A line ends with ``\n`` and nothing else: NUL, ``\r``, U+2028 and invalid UTF-8 are bytes like
any other. The result does not depend on where the input was cut. Work is per chunk, not per
line: only lines longer than ``max_line_bytes`` are touched one by one.

A longer line keeps its first ``max_line_bytes`` bytes; if it holds carriage returns (a progress
bar that rewrites itself for hours) it keeps what a terminal would show at last: the text behind
its last ``\r``. Both are marked with the line's true length.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Iterator, List, Tuple

__all__ = ["DEFAULT_MAX_LINE_BYTES", "LineFlag", "LineMark", "LineSplitter", "Lines"]

DEFAULT_MAX_LINE_BYTES = 64 << 10


class LineFlag(enum.IntFlag):
    """What is special about a line."""

    TRUNCATED = 1
    """Longer than ``max_line_bytes``; ``true_bytes`` tells its length."""
    PARTIAL = 2
    """No newline at its end: the stream ended, or the cell did."""
    CONTINUED = 4
    """Its beginning is an earlier, partial line of the same stream."""
    BROKEN = 8
    """Bytes next to it were skipped or lost."""
    OVERWRITTEN = 16
    """A truncated line of which the text behind the last carriage return is kept."""


@dataclass(frozen=True, slots=True)
class LineMark:
    """The special line number ``index`` of a :class:`Lines`."""

    index: int
    flags: LineFlag
    true_bytes: int


@dataclass(slots=True)
class Lines:
    r"""``count`` lines in ``data``, each closed by ``\n``; ``marks`` name the special ones."""

    data: bytes = b""
    count: int = 0
    marks: List[LineMark] = field(default_factory=list)


class _OpenLine:
    """The line whose newline has not come yet: bounded, however long it grows."""

    __slots__ = ("_fresh", "_last", "_returns", "head", "max_bytes", "true_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.clear()

    def clear(self) -> None:
        self.head = bytearray()
        self.true_bytes = 0
        self._last = bytearray()
        self._fresh = False
        self._returns = False

    def extend(self, data: bytes) -> None:
        room = self.max_bytes - len(self.head)
        if room > 0:
            self.head += data[:room]
        if self.true_bytes <= self.max_bytes < self.true_bytes + len(data):
            self._track(bytes(self.head[: self.true_bytes]))
        self.true_bytes += len(data)
        if self.true_bytes > self.max_bytes:
            self._track(data)

    def _track(self, data: bytes) -> None:
        """Follow the text behind the last carriage return that anything comes after."""
        kept = data.rstrip(b"\r")
        if kept:
            cut = kept.rfind(b"\r")
            if cut >= 0 or self._fresh:
                self._returns = True
                self._last.clear()
            self._last += kept[cut + 1 : cut + 1 + self.max_bytes - len(self._last)]
            self._fresh = False
        if len(kept) < len(data):
            self._fresh = True

    def text(self) -> Tuple[bytes, LineFlag]:
        if self.true_bytes <= self.max_bytes:
            return bytes(self.head), LineFlag(0)
        if self._returns:
            return bytes(self._last), LineFlag.TRUNCATED | LineFlag.OVERWRITTEN
        return bytes(self.head), LineFlag.TRUNCATED


class LineSplitter:
    """One stream's splitter. ``feed`` gives the lines that the new bytes complete."""

    __slots__ = ("_next_flags", "_open", "max_line_bytes")

    def __init__(self, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES) -> None:
        if max_line_bytes < 1:
            raise ValueError(f"max_line_bytes is {max_line_bytes}; it must be 1 or more")
        self.max_line_bytes = max_line_bytes
        self._open = _OpenLine(max_line_bytes)
        self._next_flags = LineFlag(0)

    @property
    def open_bytes(self) -> int:
        """True length of the unfinished line so far."""
        return self._open.true_bytes

    @property
    def open_line(self) -> Tuple[bytes, LineFlag]:
        """What the unfinished line would be if it ended here (without newline), and its flags."""
        text, flags = self._open.text()
        return text, flags | self._next_flags

    def feed(self, data: bytes, lines: int = -1) -> Lines:
        """The lines completed by ``data``; ``lines`` may give its number of newlines."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._open.extend(data)
            return Lines()
        out = Lines(count=lines if lines >= 0 else data.count(b"\n"))
        pieces: List[bytes] = []
        start = 0
        if self._open.true_bytes or self._next_flags:
            start = data.index(b"\n") + 1
            self._open.extend(data[: start - 1])
            pieces += self._close(out, LineFlag(0))
        if self._has_long_line(data, start, end):
            pieces += self._cut_long_lines(data, start, end, out, bool(pieces))
        elif start == 0 and end == len(data):
            pieces.append(data)
        else:
            pieces.append(data[start:end])
        out.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if end < len(data):
            self._open.extend(data[end:])
        return out

    def cut(self, flags: LineFlag = LineFlag.PARTIAL) -> Lines:
        """Close the unfinished line where it is; what follows is marked as its continuation.

        Without an unfinished line nothing happens and the result is empty.
        """
        out = Lines()
        if self._open.true_bytes:
            out.count = 1
            out.data = b"".join(self._close(out, flags))
            self._next_flags = LineFlag.CONTINUED
        return out

    def leave_out(self, ends_line: bool) -> Lines:
        """Bytes are missing here: close the unfinished line; mark the next one if it was hit."""
        out = self.cut(LineFlag.PARTIAL | LineFlag.BROKEN)
        self._next_flags = LineFlag(0) if ends_line else LineFlag.BROKEN
        return out

    def _close(self, out: Lines, flags: LineFlag) -> Tuple[bytes, bytes]:
        text, more = self._open.text()
        flags |= more | self._next_flags
        if flags:
            out.marks.append(LineMark(0, flags, self._open.true_bytes))
        self._open.clear()
        self._next_flags = LineFlag(0)
        return text, b"\n"

    def _has_long_line(self, data: bytes, start: int, end: int) -> bool:
        """Look at one newline per ``max_line_bytes``, not at each line."""
        while end - start > self.max_line_bytes + 1:
            newline = data.rfind(b"\n", start, start + self.max_line_bytes + 1)
            if newline < 0:
                return True
            start = newline + 1
        return False

    def _cut_long_lines(
        self, data: bytes, start: int, end: int, out: Lines, opened: bool
    ) -> Iterator[bytes]:
        index = 1 if opened else 0
        limit = self.max_line_bytes
        while start < end:
            newline = data.rfind(b"\n", start, start + limit + 1)
            if newline >= 0:
                yield data[start : newline + 1]
                index += data.count(b"\n", start, newline + 1)
                start = newline + 1
                continue
            newline = data.index(b"\n", start)
            line = _OpenLine(limit)
            line.extend(data[start:newline])
            text, flags = line.text()
            out.marks.append(LineMark(index, flags, newline - start))
            yield text + b"\n"
            index += 1
            start = newline + 1
