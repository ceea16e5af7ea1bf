"""What ``%logmesh status`` tells: as an object for programs, and the same as text; and past lines.

``read_status`` gives a dict of JSON values. Its ``version`` is that of this format: 1 has these
keys, and may get more of them:

    version      1
    time         seconds since 1970, of the kernel
    versions     of logmesh_ipy, python, and what it runs with
    mesh         {state, host, procs, alive, reason}; state: running, lost
    mode         {stream, window_sec, level, level_name, autoflush, loop, grouping}
    ledger       {lines, bytes}, each {written, stored, skipped, gap, in_flight}
    procs        of each proc and command: {proc, rank, job, name, host, pid, state, exit_code,
                 late, forwarder, generation, streams, warnings}; state: running, exited, killed,
                 lost; forwarder: hosted, adopted, or null. streams: stdout and stderr, each
                 {lines, bytes, file, host}, the first two as in ledger; host: numbers that its
                 bootstrap counts (waiting, spilled, redacted ...)
    gaps         [{proc, name, stream, lines, bytes, reason}]; lines and bytes null: not known
    barrier      the last report: {version, complete, acked, exited, late, lines, gaps, seconds}, or
                 null
    refused      connections that were not let in: {reason: how many}
    warnings     texts

In each ledger ``written == stored + skipped + gap + in_flight``, and none is below 0: ``in_flight``
is what hosts have read, as far as they have told, and the client has not accounted for yet. What a
lost host had read is a gap.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Mapping, Optional

from ._version import __version__
from .errors import LogMeshError
from .interrupts import wait_within
from .levels import level_name
from .log_client_actor import ProcRecord
from .mesh import ProcMesh
from .model import STREAMS, FlushReport, Gap, StreamTotals
from .sanitize import one_row, to_text
from .store import LogStore, Row
from .views.base import line_prefix, plural

if TYPE_CHECKING:
    from .session import NotebookSession

__all__ = ["STATUS_VERSION", "describe_status", "mode_text", "read_status", "recent_lines"]

STATUS_VERSION = 1
_HOST_SEC = 2.0
_TOLD_PACKAGES = ("ipython", "ipykernel", "msgpack", "pyarrow", "anywidget")
_UNITS = ("lines", "bytes")
_PARTS = ("written", "stored", "skipped", "gap", "in_flight")
_MAX_GAPS_SHOWN = 20

Ledger = Dict[str, Dict[str, int]]
"""By unit and part."""


async def read_status(session: NotebookSession) -> Dict[str, Any]:
    """The object that the module's text describes. Raises MeshStateError where no mesh runs."""
    mesh = session.require("status")
    host: Dict[str, Any] = {}
    warnings: List[str] = []
    if not mesh.lost:
        try:
            asked = mesh.host_status()
            host = await wait_within(asked, _HOST_SEC, blocking=not session.on_kernel_loop)
        except (TimeoutError, asyncio.TimeoutError):
            warnings.append(
                f"the bootstrap has not answered within {_HOST_SEC:g} s: counts of ours"
            )
        except LogMeshError as error:
            warnings.append(f"the bootstrap cannot be asked: {error}")

    async def read() -> Dict[str, Any]:
        return _procs_and_ledger(mesh, host)

    # On the client's loop, where no batch comes in between.
    found = await session.wait(mesh.instance.loop.submit(read()))
    store = mesh.instance.store
    warnings += [store.trouble] if store.trouble else []
    return {
        "version": STATUS_VERSION,
        "time": time.time(),
        "versions": _versions(),
        "mesh": {
            "state": "lost" if mesh.lost else "running",
            "host": mesh.instance.hostname,
            "procs": len(mesh),
            "alive": sum(proc.exit_code is None for proc in mesh.procs),
            "reason": mesh.lost,
        },
        "mode": _mode(session),
        **found,
        "barrier": None if session.last_report is None else _report(session.last_report),
        "refused": {str(r.value): n for r, n in mesh.instance.refused.by_reason.items()},
        "warnings": warnings + [
            f"{proc['name']}: {text}" for proc in found["procs"] for text in proc["warnings"]
        ],
    }  # fmt: skip


def describe_status(status: Mapping[str, Any], mode: str) -> str:
    """The same as inert text; ``mode`` is the mode in words."""
    mesh, ledger, barrier = status["mesh"], status["ledger"], status["barrier"]
    out = [f"ProcMesh on {mesh['host']}: {mesh['alive']}/{mesh['procs']} procs alive", mode]
    if mesh["reason"]:
        out.append(f"lost: {mesh['reason']}")
    out += [_sum_text(unit, ledger[unit]) for unit in _UNITS]
    if barrier is not None:
        out.append(f"last barrier: {barrier['text']}")
    if status["refused"]:
        counts = (f"{count:,} {reason}" for reason, count in status["refused"].items())
        out.append(f"connections refused: {', '.join(counts)}")
    redacted = sum(
        stream["host"].get("redacted", 0)
        for proc in status["procs"]
        for stream in proc["streams"].values()
    )
    if redacted:
        out.append(f"redacted: {plural(redacted, 'place')}")
    out += [f"warning: {text}" for text in status["warnings"]]
    gaps = status["gaps"]
    out += map(_gap_text, gaps[:_MAX_GAPS_SHOWN])
    if len(gaps) > _MAX_GAPS_SHOWN:
        out.append(f"{len(gaps) - _MAX_GAPS_SHOWN:,} more gaps")
    table = [["proc", "pid", "state", "lines", "bytes", "forwarder"]]
    for proc in status["procs"]:
        streams = proc["streams"].values()
        table.append(
            [
                proc["name"], str(proc["pid"]), _state_text(proc),
                f"{sum(stream['lines']['stored'] for stream in streams):,}",
                f"{sum(stream['bytes']['stored'] for stream in streams):,}",
                _forwarder_text(proc),
            ]
        )  # fmt: skip
    # What hosts tell has a part in it: one row each, and nothing but text.
    rows = [*out, "", *_columns(table)]
    return "\n".join(map(one_row, rows))


def mode_text(session: NotebookSession) -> str:
    """The mode in force, in a line."""
    mode = _mode(session)
    window = mode["window_sec"]
    return ", ".join(
        (
            "streaming" if mode["stream"] else "not streaming (lines stay on the hosts)",
            "every line" if window is None else f"grouped in windows of {window:g} s",
            f"level {mode['level_name']}",
            "flush after each cell" if mode["autoflush"] else "no automatic flush",
            "kernel's loop" if mode["loop"] == "kernel" else "loop in a thread",
        )
    )


def _mode(session: NotebookSession) -> Dict[str, Any]:
    client = session.client
    assert client is not None
    return {
        "stream": client.stream_to_client,
        "window_sec": client.aggregate_window_sec,
        "level": client.level,
        "level_name": level_name(client.level),
        "autoflush": session.options.autoflush,
        "loop": "kernel" if session.on_kernel_loop else "thread",
        "grouping": session.options.grouping,
    }


def _versions() -> Dict[str, str]:
    found = {"logmesh_ipy": __version__, "python": platform.python_version()}
    for name in _TOLD_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _procs_and_ledger(mesh: ProcMesh, host: Mapping[str, Any]) -> Dict[str, Any]:
    """On the client's loop: the keys ``ledger``, ``procs`` and ``gaps``."""
    actor = mesh.instance.actor
    records = {s: r for s, r in actor.records.items() if r.group == mesh.group}
    total = _no_lines()
    told = []
    for source, record in records.items():
        proc = _proc(record, host.get(str(source)), late=source in actor.late)
        for stream in proc["streams"].values():
            for unit in _UNITS:
                for part in _PARTS:
                    total[unit][part] += stream[unit][part]
        told.append(proc)
    gaps = [_gap(gap, records[gap.proc].info.name) for gap in actor.gaps if gap.proc in records]
    return {"ledger": total, "procs": told, "gaps": gaps}


def _no_lines() -> Ledger:
    return {unit: dict.fromkeys(_PARTS, 0) for unit in _UNITS}


def _proc(record: ProcRecord, known: Optional[Mapping[str, Any]], *, late: bool) -> Dict[str, Any]:
    info, code = record.info, record.exit_code
    state = "running" if code is None else "exited" if code >= 0 else "killed"
    forwarder = None
    if known is not None and code is None and known["exit_code"] is None:
        forwarder = "adopted" if known["adopted"] else "hosted"
    streams = {}
    for target in STREAMS:
        counts = {} if known is None else known["streams"][target.label]
        streams[target.label] = {
            **_ledger(record.ledgers[target].totals, counts, lost=record.lost),
            "file": None if known is None else known["files"].get(target.label),
            "host": dict(counts),
        }
    return {
        "proc": info.proc, "rank": info.rank, "job": info.job, "name": info.name,
        "host": info.hostname, "pid": info.pid or (known or {}).get("pid", 0),
        "state": "lost" if record.lost else state, "exit_code": code, "late": late,
        "forwarder": forwarder, "generation": record.generation, "streams": streams,
        "warnings": list((known or {}).get("warnings", [])),
    }  # fmt: skip


def _ledger(totals: StreamTotals, counts: Mapping[str, Any], *, lost: bool) -> Ledger:
    """One stream's; what its host says it has read counts, where that was asked and is newer."""
    found: Ledger = {}
    for unit in _UNITS:
        written = max(getattr(totals, f"written_{unit}"), counts.get(unit, 0))
        stored, skipped, gap = (getattr(totals, f"{part}_{unit}") for part in _PARTS[1:4])
        in_flight = written - stored - skipped - gap
        if lost:
            gap, in_flight = gap + in_flight, 0
        found[unit] = dict(zip(_PARTS, (written, stored, skipped, gap, in_flight), strict=True))
    return found


def _gap(gap: Gap, name: str) -> Dict[str, Any]:
    return {
        "proc": gap.proc, "name": name, "stream": gap.output_target.label,
        "lines": gap.lines, "bytes": gap.bytes, "reason": gap.reason,
    }  # fmt: skip


def _report(report: FlushReport) -> Dict[str, Any]:
    return {
        "version": report.version, "complete": bool(report), "acked": list(report.acked),
        "exited": list(report.exited), "late": list(report.late), "lines": report.lines,
        "gaps": len(report.gaps), "seconds": report.seconds, "text": str(report),
    }  # fmt: skip


def _sum_text(unit: str, ledger: Mapping[str, int]) -> str:
    written, stored, skipped, gap, in_flight = (f"{ledger[part]:,}" for part in _PARTS)
    return (
        f"{unit}: {written} written = {stored} stored + {skipped} skipped + {gap} gap + "
        f"{in_flight} in flight"
    )


def _gap_text(gap: Mapping[str, Any]) -> str:
    extent = "unknown" if gap["lines"] is None else plural(gap["lines"], "line")
    return f"gap: {gap['name']}, {gap['stream']}: {extent}: {gap['reason']}"


def _state_text(proc: Mapping[str, Any]) -> str:
    code = proc["exit_code"]
    if proc["state"] == "lost":
        return "lost with its host"
    if code is None:
        return "late" if proc["late"] else "running"
    if code >= 0:
        return f"exited {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _forwarder_text(proc: Mapping[str, Any]) -> str:
    return f"{proc['forwarder']}, generation {proc['generation']}" if proc["forwarder"] else ""


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
