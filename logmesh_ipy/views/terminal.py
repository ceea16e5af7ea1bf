"""Plain text for a terminal or a pipe: lines as they come, groups when their window ends.

Used by ``logmesh run`` and by IPython without a notebook. Colours only on a terminal; stdout
lines go to ``out``, stderr lines to ``err``. What stands at the left edge is ours: each line of a
proc stands behind its prefix, and a terminal's further rows of it are indented.
"""

from __future__ import annotations

from typing import List, Optional, Protocol, Sequence

from ..aggregator import Report
from ..levels import level_keys, level_of
from ..model import OutputTarget
from ..sanitize import one_row, to_text
from ..store import Chunk, OpenLine
from .base import chunk_lines, line_prefix, marked_text, plural, window_header
from .group_text import group_prefix, values_row
from .wrap import terminal_columns, wrapped

__all__ = ["LevelFilter", "TerminalView", "TextOut"]

_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_MAX_CACHE = 10_000
_PLAIN_BYTES = bytes(range(0x20, 0x7F)) + b"\t\n"


class TextOut(Protocol):
    """What is printed to: ``sys.stdout``, or what stands for it."""

    def write(self, text: str, /) -> object:
        """Take text."""

    def flush(self) -> object:
        """Push it out."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


class LevelFilter:
    """Lets lines pass whose level is ``least`` or above; a line without a level passes too.

    Levels are looked up once per masked line.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self._levels: dict[bytes, Optional[int]] = {}

    def passes(self, text: bytes) -> bool:
        """Whether the line is to be shown."""
        if not self.least:
            return True
        level = self.level(text)
        return level is None or level >= self.least

    def level(self, text: bytes) -> Optional[int]:
        """The level that the line states, if any."""
        key = level_keys(text[:256])[0] if text else b""
        if key not in self._levels:
            if len(self._levels) >= _MAX_CACHE:
                self._levels.clear()
            self._levels[key] = level_of(text)
        return self._levels[key]


class TerminalView:
    """A :class:`~logmesh_ipy.views.base.View` that prints. ``receipts``: print them to ``err``.

    ``max_lines_per_render``: of what comes at once, only so many of the last lines.
    """

    def __init__(
        self,
        out: TextOut,
        err: TextOut,
        *,
        least_level: int = 0,
        receipts: bool = True,
        max_lines_per_render: Optional[int] = None,
    ) -> None:
        self._streams = {OutputTarget.STDOUT: out, OutputTarget.STDERR: err}
        self._colour = {target: _is_terminal(s) for target, s in self._streams.items()}
        self._filter = LevelFilter(least_level)
        self._receipts = receipts
        self._most = max_lines_per_render
        self._last: Optional[OutputTarget] = None

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        """View: print them, in order; runs of one stream in one write."""
        hidden = 0
        if self._most is not None:
            hidden = max(0, sum(chunk.count for chunk in chunks) - self._most)
        if hidden:
            self._write(OutputTarget.STDOUT, [f"{plural(hidden, 'line')} not shown here"])
        for chunk in chunks:
            leave = min(hidden, chunk.count)
            hidden -= leave
            self._write(chunk.target, self._shown(chunk, chunk.count - leave))

    def groups(self, report: Report) -> None:
        """View: one header for the window, one line per group."""
        groups = [group for group in report.groups if self._filter.passes(group.text)]
        if not groups and not report.others:
            return
        self._write(OutputTarget.STDOUT, [window_header(report)])
        for group in groups:
            prefix = group_prefix(group, report.everyone)
            keep = self._colour[group.target]
            self._write(group.target, [f"{prefix} {to_text(group.shown, keep_sgr=keep)}"])
            values = values_row(group)
            if values:
                self._write(group.target, [values])
        if report.others:
            text = f"{plural(report.others, 'line')} of other kinds not shown here"
            self._write(OutputTarget.STDOUT, [text])

    def live(self, cell: int, pending: Optional[Report], unfinished: Sequence[OpenLine]) -> None:
        """View: a terminal shows an unfinished line when its stream or its cell has ended."""

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """View: print it."""
        if self._receipts:
            self._write(OutputTarget.STDERR, [one_row(text)])

    def render(self, *, final: bool) -> bool:
        """View: push it out."""
        for stream in self._streams.values():
            stream.flush()
        return True

    def close(self) -> None:
        """View: push it out."""
        self.render(final=True)

    def _prefix(self, prefix: str, chunk: Chunk) -> str:
        if not self._colour[chunk.target]:
            return prefix
        colour = _COLOURS[chunk.info.rank % len(_COLOURS)]
        return f"\x1b[{colour}m{prefix}\x1b[0m"

    def _shown(self, chunk: Chunk, most: int) -> List[str]:
        """The last ``most`` lines as they are printed."""
        if most <= 0:
            return []
        prefix = self._prefix(line_prefix(chunk.info, chunk.target), chunk)
        if most == chunk.count and not self._filter.least and not chunk.marks:
            plain = not chunk.data.translate(None, _PLAIN_BYTES)
            if plain and self._fits(chunk):  # nothing to make safe: in bulk
                text = chunk.data[:-1].decode("ascii").replace("\n", f"\n{prefix} ")
                return [f"{prefix} {text}"]
        keep = self._colour[chunk.target]
        shown: List[str] = []
        for line, mark in chunk_lines(chunk, most):
            if self._filter.passes(line):
                marked, note = marked_text(line, mark)
                shown.append(f"{prefix} {to_text(marked, keep_sgr=keep)}{note}")
        return shown

    def _fits(self, chunk: Chunk) -> bool:
        """Whether no line of it is wider than the terminal; true where there is none."""
        columns = self._columns(chunk.target)
        if columns is None:
            return True
        room = columns - len(line_prefix(chunk.info, chunk.target)) - 1
        return b"\t" not in chunk.data and max(map(len, chunk.data.split(b"\n"))) <= room

    def _columns(self, target: OutputTarget) -> Optional[int]:
        return terminal_columns(self._streams[target]) if self._colour[target] else None

    def _write(self, target: OutputTarget, lines: List[str]) -> None:
        """Write lines; one of many in bulk (which fit) stands for all of these."""
        if not lines:
            return
        columns = self._columns(target)
        if columns is not None:
            lines = [line if "\n" in line else wrapped(line, columns) for line in lines]
        if self._last is not None and self._last is not target:
            # The two may be one terminal: what was written first must be seen first.
            self._streams[self._last].flush()
        self._last = target
        self._streams[target].write("\n".join(lines) + "\n")


def _is_terminal(stream: TextOut) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False
