"""The plain notebook view: per cell one pinned display that is updated, as text and as HTML.

It shows the last lines of the cell (at most ``MAX_ROWS`` rows and ``MAX_HTML_BYTES``), says how
many came before them, then what stands for now (an open window's groups, unfinished lines; at
most ``MAX_LIVE_HTML_BYTES``), then the receipt. Log text becomes escaped text only. Updates are
capped at ten a second by the driver and at ``MAX_BYTES_PER_SEC`` here, below the notebook
server's limit; the update at a barrier is never held back. What is displayed last stays in the
saved notebook.

At all times the lines given equal the lines that the rows stand for plus the lines left out. A
line becomes a row only when it is about to be shown: a storm costs what its last lines cost.
Rows of cells that were not touched for long are forgotten once all take ``MAX_KEPT_BYTES``; a
job that writes to such a cell again shows its new lines below a note on the earlier ones.
"""

from __future__ import annotations

import html
from collections import deque
from typing import (
    Callable,
    Collection,
    Deque,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

from ..aggregator import Group, Report
from ..clock import SYSTEM_CLOCK, Clock
from ..lines import LineMark
from ..model import OutputTarget, ProcInfo
from ..sanitize import one_row, to_html, to_text
from ..store import Chunk, OpenLine
from .base import chunk_lines, line_prefix, marked_text, plural, window_header
from .group_text import group_prefix, times_text, values_row

__all__ = [
    "MAX_BYTES_PER_SEC",
    "MAX_HTML_BYTES",
    "MAX_KEPT_BYTES",
    "MAX_LIVE_HTML_BYTES",
    "MAX_ROWS",
    "PlainView",
    "Publisher",
    "hanging_rows",
]

MAX_ROWS = 1000
MAX_HTML_BYTES = 100_000
MAX_LIVE_HTML_BYTES = 40_000
MAX_BYTES_PER_SEC = 300_000
MAX_KEPT_BYTES = 16 << 20
_MAX_DEBT_SEC = 1.0
_SMALL_DEBT_SEC = 0.1  # else two small displays that change at once would take turns
_MAX_LINE_BYTES = 4000
_MAX_GROUP_ROWS = 500
_MAX_LIVE_ROWS = 200
_DISPLAY_BYTES = 2000  # what a display takes beside its rows
_ROW_BYTES = 12  # the element around each

# The newest lines are at the bottom. A browser keeps a reversed column scrolled to there, also
# when its content is replaced.
_BOX = "display:flex;flex-direction:column-reverse;max-height:32em;overflow:auto"
# A row's further lines are indented: what is at the left edge is ours.
_PRE = (
    "margin:0;white-space:pre-wrap;line-height:1.35;padding-left:4ch;text-indent:-4ch;"
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


class _Row(NamedTuple):
    """One row; ``lines`` is how many lines of the procs it stands for."""

    text: str
    html: str
    lines: int = 0

    @property
    def html_bytes(self) -> int:
        return _utf8_bytes(self.html) + _ROW_BYTES


class _CellDisplay:
    """What one cell shows. ``waiting``: chunks that are not rows yet."""

    def __init__(self, left_out: int) -> None:
        self.rows: Deque[_Row] = deque()
        self.html_bytes = 0
        self.left_out = left_out
        self.live: List[_Row] = []
        self.receipt: Optional[_Row] = None
        self.refreshed = float("-inf")
        self.kept_bytes = 0  # as counted when it was shown last
        self._waiting: Deque[Chunk] = deque()
        self._waiting_lines = 0

    def add_chunks(self, chunks: Sequence[Chunk]) -> None:
        self._waiting.extend(chunks)
        self._waiting_lines += sum(chunk.count for chunk in chunks)
        while self._waiting_lines - self._waiting[0].count >= MAX_ROWS:
            count = self._waiting.popleft().count
            self._waiting_lines -= count
            self.left_out += count

    def settle(self) -> None:
        """Make rows of what waits."""
        skip = max(0, self._waiting_lines - MAX_ROWS)
        self.left_out += skip
        for chunk in self._waiting:
            for text, mark in chunk_lines(chunk, chunk.count - skip):
                self.add(_line_row(chunk.info, chunk.target, text, mark))
            skip = max(0, skip - chunk.count)
        self._waiting.clear()
        self._waiting_lines = 0

    def add(self, row: _Row) -> None:
        self.rows.append(row)
        self.html_bytes += row.html_bytes
        while len(self.rows) > MAX_ROWS or self.html_bytes > MAX_HTML_BYTES:
            dropped = self.rows.popleft()
            self.html_bytes -= dropped.html_bytes
            self.left_out += dropped.lines

    def lines(self) -> int:
        """How many lines it has been given: those shown and those left out."""
        return self.left_out + self._waiting_lines + sum(row.lines for row in self.rows)

    def bundle(self) -> Dict[str, str]:
        self.settle()
        rows: List[_Row] = []
        if self.left_out:
            rows.append(
                _note(f"{plural(self.left_out, 'earlier line')} not shown here, all in the store")
            )
        rows += self.rows
        rows += self.live
        markup = ""
        if rows:
            body = hanging_rows([row.html for row in rows], "logmesh")
            markup = f'<div style="{_BOX}">{body}</div>'
        if self.receipt is not None:
            rows.append(self.receipt)
            markup += self.receipt.html
        return {"text/plain": "\n".join(row.text for row in rows), "text/html": markup}


def hanging_rows(rows: Iterable[str], classes: str) -> str:
    """Rows of HTML below each other; where one takes several lines, all but the first are indented.

    Where styles are taken away it is preformatted text still.
    """
    body = "".join([f"<div>{row}\n</div>" for row in rows])
    return f'<pre class="{classes}" style="{_PRE}">{body}</pre>'


class PlainView:
    """A :class:`~logmesh_ipy.views.base.View` for notebooks of every kind.

    ``refresh_sec()``: between barriers a display is updated this often at most. Where an
    interactive view is in front of it, it is what a saved notebook keeps, and need not hurry.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock = SYSTEM_CLOCK,
        refresh_sec: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._publisher = publisher
        self._refresh_sec = refresh_sec
        self._clock = clock
        # In order of when they were shown last; and those that have changed since, in the order
        # of when they did. No round may take longer the more cells there are.
        self._cells: Dict[int, _CellDisplay] = {}
        self._dirty: Dict[int, _CellDisplay] = {}
        self._kept_bytes = 0
        self._forgotten: Dict[int, int] = {}
        self._free_at = float("-inf")

    def lines(self, cell: int, chunks: Sequence[Chunk]) -> None:
        """View: keep the last lines, count the others without looking at them."""
        self._changed(cell).add_chunks(chunks)

    def groups(self, report: Report) -> None:
        """View: an ended window's groups."""
        display = self._changed(report.cell)
        display.settle()
        for row in _group_rows(report, _MAX_GROUP_ROWS):
            display.add(row)

    def live(self, cell: int, pending: Optional[Report], unfinished: Sequence[OpenLine]) -> None:
        """View: the part that changes."""
        rows = [] if pending is None else _group_rows(pending, _MAX_LIVE_ROWS)
        shown = unfinished[:_MAX_LIVE_ROWS]
        rows += [_line_row(line.info, line.target, line.text, None) for line in shown]
        if len(unfinished) > len(shown):
            rows.append(_note(f"{plural(len(unfinished) - len(shown), 'more unfinished line')}"))
        shown_before = self._cells[cell].live if cell in self._cells else []
        if rows or shown_before:
            self._changed(cell).live = _within(rows, MAX_LIVE_HTML_BYTES)

    def receipt(self, cell: int, text: str, complete: bool) -> None:
        """View: one small line below everything."""
        text = one_row(text)
        style = _GOOD if complete else _BAD
        markup = (
            f'<div class="logmesh-receipt" style="{style};font-size:85%">{html.escape(text)}</div>'
        )
        self._changed(cell).receipt = _Row(text, markup)

    def render(self, *, final: bool) -> bool:
        """View: update what has changed, within the cap on bytes."""
        now = self._clock.monotonic()
        complete = True
        for cell, display in list(self._dirty.items()):
            if not final and self._free_at - now > _SMALL_DEBT_SEC:
                complete = False
                break
            if not final and now < display.refreshed + self._refresh_sec():
                complete = False
                continue
            display.refreshed = now
            bundle = display.bundle()
            del self._dirty[cell]
            self._cells[cell] = self._cells.pop(cell)
            self._count(display, display.html_bytes * 2 + _DISPLAY_BYTES)
            seconds = sum(map(_utf8_bytes, bundle.values())) / MAX_BYTES_PER_SEC
            self._free_at = min(max(now, self._free_at) + seconds, now + _MAX_DEBT_SEC)
            self._publisher.publish(cell, bundle)
        self._forget()
        return complete

    def close(self) -> None:
        """View: the displays stay as they are."""
        self.render(final=True)
        self._cells.clear()
        self._dirty.clear()
        self._forgotten.clear()

    def _changed(self, cell: int) -> _CellDisplay:
        """The cell's display, to be shown anew; a new one after the old one was forgotten."""
        display = self._cells.get(cell)
        if display is None:
            display = self._cells[cell] = _CellDisplay(self._forgotten.pop(cell, 0))
        self._dirty.setdefault(cell, display)
        return display

    def _count(self, display: _CellDisplay, kept_bytes: int) -> None:
        self._kept_bytes += kept_bytes - display.kept_bytes
        display.kept_bytes = kept_bytes

    def _forget(self) -> None:
        """Give up the rows of the cells that were shown longest ago; the newest one stays."""
        found: List[int] = []
        excess = self._kept_bytes - MAX_KEPT_BYTES
        for cell, display in self._cells.items():
            if excess <= 0:
                break
            if cell not in self._dirty and not display.live:
                excess -= display.kept_bytes
                found.append(cell)
        for cell in found:
            if len(self._cells) > 1:
                display = self._cells.pop(cell)
                self._count(display, 0)
                self._forgotten[cell] = display.lines()


def _line_row(info: ProcInfo, target: OutputTarget, text: bytes, mark: Optional[LineMark]) -> _Row:
    marked, note = marked_text(text, mark)
    return _row(line_prefix(info, target), target, marked, note, 1)


def _group_rows(report: Report, most: int) -> List[_Row]:
    header = window_header(report)
    rows = [_Row(header, f'<span style="{_PREFIX}">{html.escape(header)}</span>')]
    for group in report.groups[:most]:
        rows.append(_group_row(group, report.everyone))
        values = values_row(group)
        if values:
            rows.append(_Row(values, f'<span style="{_PREFIX}">{html.escape(values)}</span>'))
    more = report.groups[most:]
    if more:
        lines = sum(group.count for group in more)
        rows.append(
            _note(
                f"{plural(len(more), 'more group')} ({plural(lines, 'line')}) not shown here", lines
            )
        )
    if report.others:
        text = f"{plural(report.others, 'line')} of other kinds, all in the store"
        rows.append(_note(text, report.others))
    return rows


def _group_row(group: Group, everyone: Collection[int]) -> _Row:
    prefix = group_prefix(group, everyone)
    return _row(prefix, group.target, group.shown, "", group.count, title=times_text(group))


def _row(
    prefix: str, target: OutputTarget, text: bytes, note: str, lines: int, *, title: str = ""
) -> _Row:
    if len(text) > _MAX_LINE_BYTES:
        text, kept = _cut(text)
        note = note or kept
    style = _ERR_PREFIX if target is OutputTarget.STDERR else _PREFIX
    titled = f' title="{html.escape(title)}"' if title else ""
    markup = f'<span style="{style}"{titled}>{html.escape(prefix)}</span> {to_html(text)}'
    return _Row(f"{prefix} {to_text(text)}{note}", markup + html.escape(note), lines)


def _cut(text: bytes) -> Tuple[bytes, str]:
    """``_MAX_LINE_BYTES`` of a longer text, not cut within a character, and a note on it.

    Of a line that overwrites itself (a progress bar) the end is kept, since only what stands
    behind the last carriage return is seen; where that is whole there is nothing to note.
    """
    if b"\r" in text:
        start = len(text) - _MAX_LINE_BYTES
        while start < len(text) and text[start] & 0xC0 == 0x80:
            start += 1
        end = text[start:]
        whole = b"\r" in end.rstrip(b"\r")
        return end, "" if whole else f"  [{len(text):,} bytes, end shown]"
    stop = _MAX_LINE_BYTES
    while stop > 0 and text[stop] & 0xC0 == 0x80:
        stop -= 1
    return text[:stop], f"  [{len(text):,} bytes, cut]"


def _within(rows: List[_Row], most_bytes: int) -> List[_Row]:
    """The first rows, as many as fit."""
    size = 0
    for number, row in enumerate(rows):
        size += row.html_bytes
        if size > most_bytes:
            left_out = plural(len(rows) - number, "more row")
            return [*rows[:number], _note(f"{left_out} not shown here for now")]
    return rows


def _note(text: str, lines: int = 0) -> _Row:
    return _Row(text, f'<i style="{_PREFIX}">{html.escape(text)}</i>', lines)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
