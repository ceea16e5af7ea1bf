"""LogSummary: how a selection of lines shows itself: what it holds, and its last lines.

Log text becomes escaped text only. What the summary tells of ranks and levels it has seen; where
that was not all of the selection, it says so. Made by ``logs``.
"""

from __future__ import annotations

import html
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Deque, Iterable, List, Optional, Sequence, Set, Tuple

from .levels import level_name, level_of
from .model import OutputTarget, ProcInfo, fold_ranks
from .sanitize import to_html, to_text
from .store import Row

if TYPE_CHECKING:
    from .log_columns import LineBlock

__all__ = ["LogSummary", "source_prefix"]

_LAST_LINES = 20
_ENOUGH_ROWS = 65_000
_ENOUGH_BYTES = 8 << 20
_MAX_LINE_CHARS = 1000

_TABLE = (
    "border-collapse:collapse;text-align:left;white-space:pre-wrap;"
    "font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"
)
_CELL = "text-align:left;vertical-align:top;padding:0 0.6em"
_HEADS = ("time", "from", "level", "text")


def source_prefix(info: ProcInfo, target: OutputTarget) -> str:
    """Who says it, inert: ``[3]``, ``[3 err]``, ``[3 job 1]``."""
    parts = [str(info.rank)]
    if info.job:
        parts.append(to_text(info.job.encode(errors="backslashreplace")))
    if target is OutputTarget.STDERR:
        parts.append("err")
    return f"[{' '.join(parts)}]"


class LogSummary:
    """Is given a selection's lines from the last to the first, until it has seen enough.

    ``words`` say what was asked for, ``rows`` is how many rows of the store come into question,
    ``lines`` how many lines the selection has, where that is known beforehand.
    """

    def __init__(self, words: Sequence[str], rows: int, lines: Optional[int]) -> None:
        self._words = list(words)
        self._rows = rows
        self._lines = lines
        self._seen_rows = 0
        self._seen_bytes = 0
        self._seen_lines = 0
        self._ranks: Set[int] = set()
        self._levels: Counter[int] = Counter()
        self._last: List[Row] = []

    @property
    def enough(self) -> bool:
        """Whether it has seen as much as a summary may cost."""
        return self._seen_rows >= _ENOUGH_ROWS or self._seen_bytes >= _ENOUGH_BYTES

    def add(self, rows: int, blocks: Iterable[LineBlock]) -> None:
        """The lines, in order, among the ``rows`` rows before those that were added so far."""
        self._seen_rows += rows
        missing = _LAST_LINES - len(self._last)
        last: Deque[Row] = deque(maxlen=missing)
        for block in blocks:
            self._seen_bytes += sum(chunk.size for chunk in block.chunks)
            self._seen_lines += len(block)
            self._ranks |= block.ranks()
            self._levels.update(level for level in block.levels().to_pylist() if level is not None)
            last.extend(block.last(missing).rows())
        self._last[:0] = last

    def text(self) -> str:
        """As plain text: colours are left out, every escape is inert."""
        lines = [self._headline()]
        for row in self._last:
            text, note = _shortened(row.text)
            prefix = source_prefix(row.info, row.target)
            lines.append(f"{_clock(row)} {prefix} {to_text(text)}{note}")
        return "\n".join(lines)

    def html(self) -> str:
        """As a table: a line's colours show, nothing else of it has an effect."""
        heads = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in _HEADS)
        rows = []
        for row in self._last:
            text, note = _shortened(row.text)
            level = level_of(row.text)
            shown = (
                _clock(row),
                html.escape(source_prefix(row.info, row.target)),
                "" if level is None else level_name(level),
                to_html(text) + html.escape(note),
            )
            rows.append("".join(f'<td style="{_CELL}">{cell}</td>' for cell in shown))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f'<table style="{_TABLE}"><caption style="text-align:left">'
            f"{html.escape(self._headline())}</caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _headline(self) -> str:
        """``12,004 lines, ranks 0-3: 2 ERROR, 5 WARNING; shown: last 20 of 12,004``."""
        whole = self._seen_rows >= self._rows
        total = self._seen_lines if whole else self._lines
        said = f"{self._seen_lines:,} line{'' if self._seen_lines == 1 else 's'}"
        if total is None:
            said += f" among the last {self._seen_rows:,} of {self._rows:,} rows"
        elif not whole:
            said = f"the last {said} of {total:,}"
        if self._ranks:
            said += f", rank{'s' if len(self._ranks) > 1 else ''} {fold_ranks(self._ranks)}"
        if self._words:
            said += f" (asked for: {to_text('; '.join(self._words).encode())})"
        if self._levels:
            levels = sorted(self._levels.items(), reverse=True)
            said += ": " + ", ".join(f"{count:,} {level_name(level)}" for level, count in levels)
        if self._last:
            said += f"; shown: last {len(self._last)}"
            said += "" if total is None else f" of {total:,}"
        return said


def _clock(row: Row) -> str:
    return time.strftime("%H:%M:%S", time.localtime(row.wall))


def _shortened(line: bytes) -> Tuple[bytes, str]:
    """The beginning of a long line, or its end where it rewrites itself; and a note on it."""
    if len(line) <= _MAX_LINE_CHARS:  # bytes: never fewer than characters
        return line, ""
    text = line.decode("utf-8", "backslashreplace")
    kept = text[-_MAX_LINE_CHARS:] if "\r" in text else text[:_MAX_LINE_CHARS]
    return kept.encode(), f"  [{len(line):,} bytes]"
