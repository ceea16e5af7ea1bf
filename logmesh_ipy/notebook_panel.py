"""The interactive view of a notebook's session: what is displayed, and what its browsers may do.

Each cell with output displays one bundle with the session and the cell's number, in two kinds: for
our JupyterLab extension, and (until that has been heard of) as a widget. Rows, states and receipts
travel beside the displays, through the :class:`~logmesh_ipy.views.panel.Panel`.
"""

from __future__ import annotations

import secrets
import signal
import tempfile
from concurrent.futures import CancelledError
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple

from .config import check_window
from .errors import LogMeshError, OptionError
from .levels import parse_level
from .log_client_actor import ProcRecord
from .views.comms import RawPort, any_greeted, comm_id_of, hears_at_once
from .views.panel import Panel

if TYPE_CHECKING:
    from .client import LoggingMeshClient
    from .config import MeshOptions
    from .instance import Instance
    from .mesh import ProcMesh
    from .model import FlushReport
    from .views.widget import HubPort

__all__ = ["CELL_MIME_TYPE", "NotebookPanel"]

CELL_MIME_TYPE = "application/vnd.logmesh.cell+json"
_WIDGET_MIME_TYPE = "application/vnd.jupyter.widget-view+json"
_MAX_ENDED_JOBS = 64
_MAX_DOWNLOAD_BYTES = 128 << 20
_MIME_TYPES = {
    "text": ("txt", "text/plain"),
    "jsonl": ("jsonl", "application/x-ndjson"),
    "parquet": ("parquet", "application/vnd.apache.parquet"),
}


class DrivenMesh(Protocol):
    """What the panel needs of the notebook's session: a mesh that magics and browsers drive."""

    options: MeshOptions
    mesh: Optional[ProcMesh]
    client: Optional[LoggingMeshClient]
    last_report: Optional[FlushReport]

    @property
    def cell_running(self) -> bool:
        """Whether a cell runs now."""

    def require(self, what: str) -> ProcMesh:
        """The mesh. Raises MeshStateError where none runs."""

    def set_mode(
        self, stream: Optional[bool], window: Optional[float], window_given: bool, level: int
    ) -> None:
        """Change the mode; what is not given stays."""

    def mode_text(self) -> str:
        """The mode in force, in a line."""


class NotebookPanel:
    """Made in the context of the cell that starts the mesh. Rows before ``first_row`` stay away."""

    def __init__(
        self, kernel: Any, session: DrivenMesh, instance: Instance, first_row: int
    ) -> None:
        self.id = secrets.token_hex(8)
        self._session = session
        self._instance = instance
        self._mesh: Optional[ProcMesh] = None
        self._mode_cell = instance.store.cell
        self.panel = Panel(instance.store, self.id, self, first_row)
        self._kernel = kernel
        self._raw = RawPort(self._kernel, self.id, self.panel.heard)
        self.panel.ports.append(self._raw)
        self._hub: Optional[HubPort] = None

    @property
    def is_shown(self) -> bool:
        """Whether a browser has said that it listens."""
        return any_greeted(self.panel.ports) is not None

    def set_mesh(self, mesh: ProcMesh) -> None:
        """The mesh is up."""
        self._mesh = mesh
        self.panel.changed()

    def mode_changed(self) -> None:
        """The mode is another from the current cell on."""
        self._mode_cell = self._instance.store.cell
        self.panel.changed()

    def bundle(self, cell: Optional[int]) -> Dict[str, Any]:
        """What to display for a cell (None: the whole mesh), in that cell's context."""
        data = {"session": self.id, "comm": comm_id_of(self.id), "cell": cell}
        bundle: Dict[str, Any] = {CELL_MIME_TYPE: data}
        if not self._raw.greeted or self._raw.closed:
            view = {"version_major": 2, "version_minor": 0, "model_id": self._model(cell)}
            bundle[_WIDGET_MIME_TYPE] = view
        return bundle

    def snapshot_class(self, cell: Optional[int]) -> str:
        """The classes of a cell's static snapshot: the live view hides it by them."""
        return f"logmesh-snapshot logmesh-of-{self.id}-{'all' if cell is None else cell}"

    def end_mesh(self) -> None:
        """The mesh has stopped; what it printed can still be looked at."""
        self.panel.end_mesh()

    def close(self) -> None:
        """The lines go: browsers keep what they have."""
        self.panel.close()

    def _model(self, cell: Optional[int]) -> str:
        if self._hub is None:
            # Not before it is needed: widgets take longer to import than the rest of this package.
            from .views.widget import HubPort

            self._hub = HubPort(self._kernel, self.id, self.panel.heard)
            self.panel.ports.append(self._hub)
        return self._hub.cell_model(cell)

    # --- PanelSource (any thread) -------------------------------------------------------------

    def state(self) -> Dict[str, Any]:
        """PanelSource: the mesh's true state."""
        session, mesh = self._session, self._mesh
        client = session.client
        mode: Dict[str, Any] = {
            "stream": True, "window": None, "level": session.options.level,
            "autoflush": session.options.autoflush,
        }  # fmt: skip
        if client is not None:
            mode.update(
                stream=client.stream_to_client,
                window=client.aggregate_window_sec,
                level=client.level,
            )
        stopped = mesh is not None and (mesh.stopped or session.mesh is not mesh)
        lost = mesh is not None and bool(mesh.lost)
        return {
            "mesh": "stopped" if stopped else "lost" if lost else "running",
            "host": self._instance.hostname,
            "mode": mode,
            "atOnce": hears_at_once(self._kernel),
            "cell": self._mode_cell,
            "busy": session.cell_running,
            "trouble": self._instance.store.trouble,
        }

    def procs(self) -> List[Tuple[Any, ...]]:
        """PanelSource: who prints, and how they are; of jobs that are over, the last ones."""
        if not self._instance.started:
            return []
        actor = self._instance.actor
        group = None if self._mesh is None else self._mesh.group
        records = [r for r in list(actor.records.values()) if group in (None, r.group)]
        ended = [record for record in records if record.info.job and record.exit_code is not None]
        old = {record.info.proc for record in ended[:-_MAX_ENDED_JOBS]}
        late = set(actor.late)
        walls = self._instance.store.last_walls()
        return [
            _proc_row(record, record.info.proc in late, walls.get(record.info.proc, 0.0))
            for record in records
            if record.info.proc not in old
        ]

    def set_mode(self, change: Mapping[str, Any]) -> str:
        """PanelSource: as ``%logmesh set_mode`` does it."""
        session = self._session
        session.require("set_mode")
        client = session.client
        assert client is not None
        stream = change.get("stream")
        if stream is not None and not isinstance(stream, bool):
            raise OptionError(f"stream is {stream!r}; it must be true or false")
        level = client.level if change.get("level") is None else parse_level(change["level"])
        session.set_mode(stream, check_window(change.get("window")), "window" in change, level)
        return session.mode_text()

    def flush(self, then: Callable[[str, str], None]) -> None:
        """PanelSource: the barrier, without waiting for it."""
        session = self._session
        mesh = session.require("flush")
        task = mesh.flush(session.options.flush_timeout_sec)

        def done() -> None:
            try:
                report = task.get(timeout=0.0)
            except (LogMeshError, RuntimeError, TimeoutError, CancelledError) as error:
                then("", str(error) or "the mesh has ended")
            else:
                session.last_report = report
                then(str(report), "")

        task.on_done(done)

    def download(
        self, file_format: str, cell: Optional[int], ranks: Optional[List[int]]
    ) -> Tuple[str, str, IO[bytes]]:
        """PanelSource: ``mesh.logs`` as a file."""
        if file_format not in _MIME_TYPES:
            raise OptionError(
                f"format is {file_format!r}; allowed are {', '.join(map(repr, _MIME_TYPES))}"
            )
        if self._mesh is None:
            raise OptionError("there is no mesh yet")
        return download(self._mesh, file_format, cell, ranks)


def download(
    mesh: ProcMesh, file_format: str, cell: Optional[int], ranks: Optional[List[int]]
) -> Tuple[str, str, IO[bytes]]:
    """The lines of a mesh, of some cell and ranks, in a temporary file: name, mime type, file.

    Raises OptionError where it is too large to go through the notebook's connection.
    """
    logs = mesh.logs
    if cell is not None:
        logs = logs.where(cell=cell)
    if ranks is not None:
        logs = logs.where(ranks=ranks)
    suffix, mime = _MIME_TYPES[file_format]
    what = "mesh" if cell is None else f"cell-{cell}"
    file = tempfile.TemporaryFile(prefix="logmesh-download-")  # noqa: SIM115 (read by who asked)
    try:
        logs.write(file, format=file_format)
        size = file.tell()
        if size > _MAX_DOWNLOAD_BYTES:
            raise OptionError(
                f"the file has {size >> 20:,} MB; at most {_MAX_DOWNLOAD_BYTES >> 20} go through "
                "the notebook's connection. Write it where the kernel runs: "
                f"`mesh.logs.write(open('logs.{suffix}', 'wb'), format='{file_format}')`"
            )
    except BaseException:
        file.close()
        raise
    return f"logmesh-{what}.{suffix}", mime, file


def _proc_row(record: ProcRecord, late: bool, last_wall: float) -> Tuple[Any, ...]:
    info = record.info
    code: Any = record.exit_code
    state = "late" if late else "running"
    if record.lost:
        state = "lost"
    elif code is not None and code < 0:
        state, code = "killed", _signal_name(-code)
    elif code is not None:
        state = "exited"
    totals = [ledger.totals for ledger in record.ledgers.values()]
    return (
        info.proc, info.rank, info.job, info.hostname, info.pid, state, code,
        sum(total.stored_lines for total in totals), round(last_wall, 1),
        sum(total.skipped_lines for total in totals), sum(total.gap_lines for total in totals),
    )  # fmt: skip


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
