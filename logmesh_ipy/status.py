"""``%logmesh status`` and ``%logmesh panel`` as text."""

from __future__ import annotations

import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, List, Mapping, Optional

from .model import StreamTotals
from .sanitize import to_text
from .store import LogStore, Row
from .views.base import line_prefix, plural

if TYPE_CHECKING:
    from .session import NotebookSession

__all__ = ["describe_status", "recent_lines"]


def describe_status(session: NotebookSession, host: Mapping[str, Any]) -> str:
    """Mode, ledger and one line per source; ``host`` is what the bootstrap knows."""
    mesh = session.mesh
    assert mesh is not None
    actor = mesh.instance.actor
    sources = [source for source in actor.records if str(source) in host] or list(mesh.sources)
    totals = actor.totals(sources)
    lines = [repr(mesh)[1:-1], session.mode_text(), *_ledger(totals, host)]
    if session.last_report is not None:
        lines.append(f"last barrier: {session.last_report}")
    if mesh.instance.store.trouble:
        lines.append(f"warning: {mesh.instance.store.trouble}")
    lines.append("")
    table = [["proc", "pid", "state", "lines", "bytes", "forwarder"]]
    for source in sources:
        record = actor.records[source]
        known = host.get(str(source), {})
        own = actor.totals([source])
        late = source in actor.late
        table.append(
            [
                record.info.name,
                str(record.info.pid or known.get("pid", "")),
                _state(record.exit_code, late=late, lost=record.lost),
                f"{own.stored_lines:,}",
                f"{own.stored_bytes:,}",
                _forwarder(known, record.generation),
            ]
        )
        lines += [f"warning: {record.info.name}: {text}" for text in known.get("warnings", [])]
    return "\n".join(lines + _columns(table))


def _ledger(totals: StreamTotals, host: Mapping[str, Any]) -> List[str]:
    """The sum, with what the hosts say they have read where they were asked."""
    written = {"lines": totals.written_lines, "bytes": totals.written_bytes}
    if host:
        streams = [stream for source in host.values() for stream in source["streams"].values()]
        for unit, known in written.items():
            written[unit] = max(known, sum(stream[unit] for stream in streams))
    out = []
    for unit in ("lines", "bytes"):
        stored = getattr(totals, f"stored_{unit}")
        skipped = getattr(totals, f"skipped_{unit}")
        gap = getattr(totals, f"gap_{unit}")
        flight = written[unit] - stored - skipped - gap
        out.append(
            f"{unit}: {written[unit]:,} written = {stored:,} stored + {skipped:,} skipped + "
            f"{gap:,} gap + {flight:,} in flight"
        )
    return out


def _forwarder(known: Mapping[str, Any], generation: int) -> str:
    """Who relays the source now; nobody when it is over."""
    if not known or known["exit_code"] is not None:
        return ""
    return f"{'adopted' if known['adopted'] else 'hosted'}, generation {generation}"


def _state(code: Optional[int], *, late: bool, lost: bool) -> str:
    if lost:
        return "lost with its host"
    if code is None:
        return "late" if late else "running"
    if code >= 0:
        return f"exited {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _columns(table: List[List[str]]) -> List[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def recent_lines(store: LogStore, most: int) -> str:
    """The last ``most`` lines of all procs and cells, with times."""
    rows: Deque[Row] = deque(store.lines(max(0, store.rows - most)), maxlen=max(most, 0))
    if not rows:
        return "no lines yet\n"
    shown = [_row_text(row) for row in rows]
    left_out = store.rows - len(rows)
    if left_out:
        shown.insert(0, f"{plural(left_out, 'earlier line')} not shown here, all in the store")
    return "\n".join(shown) + "\n"


def _row_text(row: Row) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(row.wall))
    return f"{moment} {line_prefix(row.info, row.target)} {to_text(row.text)}"
