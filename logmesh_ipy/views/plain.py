"""The plain notebook view: per cell one pinned display that is updated, as text and as HTML.

It shows the last lines of the cell (at most ``MAX_ROWS`` rows and ``MAX_HTML_BYTES``), says how
many came before them, then what stands for now (an open window's groups, unfinished lines), then
the receipt. Log text becomes escaped text only. Updates are capped at ten a second by the driver
and at ``MAX_BYTES_PER_SEC`` here, below the notebook server's limit; the update at a barrier is
never held back. What is displayed last stays in the saved notebook.
"""

from __future__ import annotations

import html
from collections import deque
from typing import Deque, Dict, List, Optional, Protocol, Sequence, Tuple

from ..aggregator import Group, Report
from ..clock import SYSTEM_CLOCK, Clock
from ..lines import LineMark
from ..model import OutputTarget, ProcInfo
from ..sanitize import to_html, to_text
from ..store import Chunk, OpenLine
from .base import chunk_lines, group_prefix, line_prefix, marked_text, plural, window_header

__all__ = ["MAX_HTML_BYTES", "MAX_ROWS", "PlainView", "Publisher"]

MAX_ROWS = 1000
MAX_HTML_BYTES = 100_000
MAX_BYTES_PER_SEC = 300_000
_MAX_LINE_BYTES = 4000
_MAX_LIVE_ROWS = 200
# Upside down, a box that scrolls stays at its end when lines are added, without any script.
_BOX = "display:flex;flex-direction:column-reverse;max-height:36em;overflow:auto"
_STYLE = (
    "margin:0;flex:none;overflow:visible;white-space:pre-wrap;line-height:1.35;"
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"
)
_PREFIX = "color:var(--jp-ui-font-color2,#616161)"
_ERR_PREFIX = "color:var(--jp-error-color1,#c62828)"
_GOOD = "color:var(--jp-ui-font-color2,#616161)"
_BAD = "color:var(--jp-error-color1,#c62828);font-weight:600"


class Publisher(Protocol):
    """Puts a mime bundle under a cell; the first time as a new display, then as its update."""

    def publish(self, cell: int, bundle: Dict[str, str]) -> None:
        """Show ``bundle`` as the cell's one display."""


_Row = Tuple[str, str]
"""(text, HTML) of one row."""


class _CellDisplay:
    """What one cell shows."""

    def __init__(self) -> None:
        self.rows: Deque[_Row] = deque()
        self.html_bytes = 0
        self.left_out = 0
        self.live: List[_Row] = []
        self.receipt: Optional[_Row] = None
        self.dirty = False
        self.published_at = float("-inf")
        self.published_bytes = 0

    def add(self, row: _Row) -> None:
        self.rows.append(row)
        self.html_bytes += len(row[1])
        while len(self.rows) > MAX_ROWS or self.html_bytes > MAX_HTML_BYTES:
            self.html_bytes -= len(self.rows.popleft()[1])
            self.left_out += 1

    def bundle(self) -> Dict[str, str]:
        rows: List[_Row] = []
        if self.left_out:
            text = f"{plural(self.left_out, 'earlier line')} not shown here, all in the store"
            rows.append((text, f'<i style="{_PREFIX}">{text}</i>'))
        rows += self.rows
        rows += self.live
        body = "\n".join(row[1] for row in rows)
        markup = ""
        if rows:
            pre = f'<pre class="logmesh" style="{_STYLE}">{body}</pre>'
            markup = f'<div style="{_BOX}">{pre}</div>'
        if self.receipt is not None:
            rows.append(self.receipt)
            markup += self.receipt[1]
        return {"text/plain": "\n".join(row[0] for row in rows), "text/html": markup}


class PlainView:
    """A :class:`~logmesh_ipy.views.base.View` for notebooks of every kind."""

    def __init__(self, publisher: Publisher, clock: Clock = SYSTEM_CLOCK) -> None:
        self._publisher = publisher
        self._clock = clock
        self._cells: Dict[int, _CellDisplay] = {}

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        """View: keep the last rows, count the others without looking at them."""
        display = self._display(cell)
        skip = max(0, sum(chunk.count for chunk in chunks) - MAX_ROWS)
        display.left_out += skip
        for chunk in chunks:
            leave = min(skip, chunk.count)
            skip -= leave
            for text, mark in chunk_lines(chunk, chunk.count - leave):
                display.add(_line_row(chunk.info, chunk.target, text, mark))
        display.dirty = True

    def groups(self, report: Report) -> None:
        """View: an ended window's groups."""
        display = self._display(report.cell)
        for row in _group_rows(report, len(report.groups)):
            display.add(row)
        display.live = []
        display.dirty = True

    def live(self, cell: int, pending: Optional[Report], unfinished: Sequence[OpenLine]) -> None:
        """View: the part that changes."""
        if not pending and not unfinished and cell not in self._cells:
            return
        display = self._display(cell)
        rows = [] if pending is None else _group_rows(pending, _MAX_LIVE_ROWS)
        rows += [_line_row(line.info, line.target, line.text, None) for line in unfinished]
        if rows != display.live:
            display.live = rows
            display.dirty = True

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """View: one small line below everything."""
        style = _GOOD if complete else _BAD
        display = self._display(cell)
        markup = (
            f'<div class="logmesh-receipt" style="{style};font-size:85%">{html.escape(text)}</div>'
        )
        display.receipt = (text, markup)
        display.dirty = True

    def render(self, *, final: bool) -> bool:
        """View: update what has changed, within the cap on bytes."""
        now = self._clock.monotonic()
        complete = True
        for cell, display in self._cells.items():
            if not display.dirty:
                continue
            pause = display.published_bytes / MAX_BYTES_PER_SEC
            if not final and now - display.published_at < pause:
                complete = False
                continue
            bundle = display.bundle()
            display.dirty = False
            display.published_at = now
            display.published_bytes = sum(len(part) for part in bundle.values())
            self._publisher.publish(cell, bundle)
        return complete

    def forget(self, before: int) -> None:
        """Keep no rows of cells below ``before``: they show what they showed last."""
        for cell in [cell for cell in self._cells if cell < before]:
            del self._cells[cell]

    def close(self) -> None:
        """View: the displays stay as they are."""
        self.render(final=True)
        self._cells.clear()

    def _display(self, cell: int) -> _CellDisplay:
        display = self._cells.get(cell)
        if display is None:
            display = self._cells[cell] = _CellDisplay()
        return display


def _line_row(info: ProcInfo, target: OutputTarget, text: bytes, mark: Optional[LineMark]) -> _Row:
    marked, note = marked_text(text, mark)
    return _row(line_prefix(info, target), target, marked, note)


def _group_rows(report: Report, most: int) -> List[_Row]:
    header = window_header(report)
    rows = [(header, f'<span style="{_PREFIX}">{html.escape(header)}</span>')]
    for group in report.groups[:most]:
        rows.append(_group_row(group))
    left_out = len(report.groups) - most
    if left_out > 0:
        rows.append(_note(f"{plural(left_out, 'more group')} not shown here"))
    if report.others:
        rows.append(_note(f"{plural(report.others, 'line')} of other kinds, all in the store"))
    return rows


def _group_row(group: Group) -> _Row:
    prefix = group_prefix(group.folded_ranks, group.job, group.target, group.count)
    return _row(prefix, group.target, group.shown, "")


def _row(prefix: str, target: OutputTarget, text: bytes, note: str) -> _Row:
    if len(text) > _MAX_LINE_BYTES:
        note = note or f"  [{len(text):,} bytes, cut]"
        text = text[:_MAX_LINE_BYTES]
    style = _ERR_PREFIX if target is OutputTarget.STDERR else _PREFIX
    markup = f'<span style="{style}">{html.escape(prefix)}</span> {to_html(text)}'
    return f"{prefix} {to_text(text)}{note}", markup + html.escape(note)


def _note(text: str) -> _Row:
    return text, f'<i style="{_PREFIX}">{html.escape(text)}</i>'
