"""Lines cut to the rows of a terminal, so that only what we begin stands at its left edge.

A terminal that wraps a line by itself begins a row with whatever comes next: a proc could put
there what looks like another rank's line, or like a receipt. So a long line is cut before that,
and its other rows are indented. For all that is written to a terminal: the view's lines, and what
a command answers.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import List, Optional, TextIO

__all__ = ["terminal_columns", "wrapped", "write_rows"]

_INDENT = 4
_TAB = 8
_PIECE = re.compile("\x1b\\[[0-9;:]*m|[\x20-\x7e]+|.", re.DOTALL)
_SGR = re.compile("\x1b\\[[0-9;:]*m")
_MAX_LIVE = 8


def terminal_columns(stream: object) -> Optional[int]:
    """The width of the terminal behind ``stream``; None where there is none, or it does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None


def write_rows(stream: TextIO, text: str) -> None:
    """Write a text of several lines; to a terminal each as :func:`wrapped` gives it."""
    columns = terminal_columns(stream) if stream.isatty() else None
    if columns is not None:
        text = "\n".join([wrapped(line, columns) for line in text.split("\n")])
    stream.write(text)


def wrapped(line: str, columns: int) -> str:
    """A line (printable characters, tabs and SGR sequences) as rows of at most ``columns`` cells.

    The rows behind the first are indented; colours are switched off for the indentation. Characters
    of ambiguous width, such as those that boxes are drawn with, take one cell, as in every terminal
    that is not set to show them wide.
    """
    if _fits(line, columns):
        return line
    indent = " " * min(_INDENT, columns // 2)
    out: List[str] = []
    live: List[str] = []
    at = 0

    def new_row() -> int:
        off = "\x1b[0m" if live else ""
        out.append(f"{off}\n{indent}{''.join(live)}")
        return len(indent)

    for piece in _PIECE.findall(line):
        if piece[0] == "\x1b":
            out.append(piece)
            live = [] if piece in ("\x1b[m", "\x1b[0m") else [*live, piece][-_MAX_LIVE:]
        elif piece == "\t":
            width = _TAB - at % _TAB
            if at + width > columns:
                at = new_row()
            else:
                out.append(" " * width)
                at += width
        elif len(piece) > 1:
            start = 0
            while len(piece) - start > columns - at:
                room = max(0, columns - at)
                out.append(piece[start : start + room])
                start += room
                at = new_row()
            out.append(piece[start:])
            at += len(piece) - start
        else:
            width = _cells(piece)
            if at + width > columns:
                at = new_row()
            out.append(piece)
            at += width
    return "".join(out)


def _fits(line: str, columns: int) -> bool:
    """Whether it surely fits, seen at a glance."""
    bare = _SGR.sub("", line) if "\x1b" in line else line
    size = len(bare) if bare.isascii() else 2 * len(bare)
    return size + (_TAB - 1) * bare.count("\t") <= columns


def _cells(character: str) -> int:
    """How many columns a character takes; of two that emoji and the like may take, the more."""
    if "\U0001f000" <= character <= "\U0001fbff":
        return 2
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
