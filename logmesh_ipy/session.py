"""What ``%logmesh`` drives: one mesh, its client, the view, the cells. Of one shell.

    off --start--> on --stop, or the shell goes--> off

All that takes time is a coroutine that waits through :meth:`NotebookSession.wait`: with the
client's loop in a thread it blocks the cell, on the kernel's own loop it is awaited.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import html
import sys
import time
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, ClassVar, List, Optional, TypeVar

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from .cell_flush import CellFlush, CellPublisher, is_notebook
from .client import LoggingMeshClient
from .config import MeshOptions, check_timeout
from .errors import LogMeshError, LoopBlockedError, MeshStateError, OptionError
from .instance import Instance, context
from .interrupts import (
    BARRIER_INTERRUPTED,
    MeshInterrupt,
    interrupt_job,
    interrupt_run,
    wait_barrier,
)
from .job import Job
from .loop import PythonTask
from .mesh import HostMesh, ProcMesh
from .model import FlushReport
from .status import mode_text
from .store import LogStore
from .views.base import View, plural
from .views.default import terminal_view
from .views.driver import ViewDriver
from .views.plain import PlainView, hanging_rows
from .views.wrap import write_rows

if TYPE_CHECKING:
    from .notebook_panel import NotebookPanel

__all__ = ["NotebookSession"]

T = TypeVar("T")
_display: Callable[..., Any] = display
_ABANDON_SEC = 5.0
_POLL_SEC = 0.01
_SNAPSHOT_SEC = 5.0
_STOP_SEC = 5.0
_STOP_INTERRUPTED = "interrupted; the mesh goes on ending in the background"
_IMPATIENT_SEC = 0.2
_ENDED = (LogMeshError, asyncio.CancelledError, concurrent.futures.CancelledError)
"""What a barrier ends with when its mesh ends meanwhile."""


class NotebookSession:
    """Everything that is on while a mesh runs in this shell."""

    _ending: ClassVar[Optional[ProcMesh]] = None
    """The mesh that was stopped last, by whatever session: it may go on ending for a while."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.mesh: Optional[ProcMesh] = None
        self.client: Optional[LoggingMeshClient] = None
        self.options = MeshOptions()
        self.receipts = "auto"
        self.last_report: Optional[FlushReport] = None
        self._instance: Optional[Instance] = None
        self._cells: Optional[CellFlush] = None
        self._driver: Optional[ViewDriver] = None
        self._publisher: Optional[CellPublisher] = None
        self._panel: Optional[NotebookPanel] = None
        self._past_panel: Optional[NotebookPanel] = None
        self._cell_used_mesh = False
        self._impatient = False
        self._known_absent: set[str] = set()
        self._known_skipped = 0
        self._past: Optional[Instance] = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- state --------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether a mesh runs."""
        return self.mesh is not None

    @property
    def on_kernel_loop(self) -> bool:
        """Whether waiting must be awaiting."""
        return self._instance is not None and not self._instance.loop.own_thread

    @property
    def _blocking(self) -> bool:
        return not self.on_kernel_loop

    def require(self, what: str) -> ProcMesh:
        """The mesh. Raises MeshStateError where none runs."""
        if self.mesh is None:
            raise MeshStateError(f"{what}: no mesh runs; start one with `%logmesh start --procs 4`")
        return self.mesh

    async def wait(self, task: PythonTask[T]) -> T:
        """The task's result: blocks, or is awaited, as the loop demands."""
        if self.on_kernel_loop:
            return await task
        return task.get()

    # --- start and stop -----------------------------------------------------------------------

    async def start(
        self,
        options: MeshOptions,
        receipts: str,
        on_progress: Callable[[int, int], None],
        *,
        view: str = "panel",
    ) -> ProcMesh:
        """Bring up a mesh with all that shows it. Raises MeshStateError where one runs."""
        if self.mesh is not None:
            raise MeshStateError(
                f"a mesh of {plural(len(self.mesh), 'proc')} runs already; `%logmesh stop` ends it"
            )
        loop: Optional[asyncio.AbstractEventLoop] = None
        if options.loop == "kernel":
            if not is_notebook(self.shell):
                raise OptionError("--loop kernel needs a Jupyter kernel; use --loop thread here")
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise OptionError("--loop kernel: the kernel's loop does not run here") from None
        await self._until_ended(loop)
        self.options = options
        self.receipts = receipts
        self.forget_past()
        instance = self._instance = context(options, loop).actor_instance
        if self.on_kernel_loop != (loop is not None):
            self._instance = None
            raise MeshStateError(
                "Python code has a mesh on another loop already: stop that first (its `stop()`), "
                "or leave --loop out"
            )
        first_row = instance.store.rows
        instance.store.begin_cell(1)
        spawning: Optional[PythonTask[ProcMesh]] = None
        try:
            spawning = HostMesh(options).spawn_procs(
                options.procs, instance=instance, on_progress=on_progress
            )
            mesh = await self.wait(spawning)
            self._show_lines_of(instance, first_row, view)
            self.client = await self.wait(LoggingMeshClient.spawn(instance, mesh))
            self.client.set_mode(instance, True, options.window_sec, options.level)
        except BaseException:
            await self._abandon(instance, spawning)
            raise
        self.mesh = mesh
        if self._panel is not None:
            self._panel.set_mesh(mesh)
        self._known_absent = set()
        self._cell_used_mesh = True
        self._known_skipped = 0
        return mesh

    async def _until_ended(self, loop: Optional[asyncio.AbstractEventLoop]) -> None:
        """Wait for a mesh whose stop was interrupted, or could not be awaited."""
        if self._ending is None:
            return
        try:
            ending = self._ending.stop()
            await ending if loop is not None else ending.get()
        except LoopBlockedError:
            raise MeshStateError(
                "the mesh before goes on ending; start again in a moment"
            ) from None
        except Exception:
            NotebookSession._ending = None  # told once: the next start may succeed
            raise
        NotebookSession._ending = None

    def _show_lines_of(self, instance: Instance, first_row: int, kind: str) -> None:
        """From here on the cells show what the procs print."""
        view = self._make_view(instance, first_row, kind)
        self._cells = CellFlush(
            self.shell, self._begin_cell, self._end_cell, instance.store.begin_cell
        )
        self._cells.install(running=True)
        if instance.view is not None:
            instance.view.close()
        instance.view = self._driver = ViewDriver(
            instance.store,
            view,
            lambda: instance.actor.aggregate_window_sec,
            first_row=first_row,
        )

    async def _abandon(self, instance: Instance, spawning: Optional[PythonTask[ProcMesh]]) -> None:
        """The start has failed, or was interrupted: nothing of it may be left."""
        try:
            if spawning is not None and _brought_up(spawning):
                await self.wait(spawning.get().stop(0.1))
            deadline = time.monotonic() + _ABANDON_SEC
            while spawning is not None and not instance.closed and time.monotonic() < deadline:
                if self.on_kernel_loop:
                    await asyncio.sleep(_POLL_SEC)
                else:
                    time.sleep(_POLL_SEC)  # noqa: ASYNC251 (here waiting is blocking)
        finally:
            instance.close_unused()
            self._shut_down(instance)
            self.forget_past()

    async def stop(self) -> None:
        """Flush, end the mesh, undo all hooks. Nothing happens where none runs."""
        mesh, instance = self.mesh, self._instance
        if mesh is None or instance is None:
            return
        NotebookSession._ending = mesh
        try:
            await self.wait(mesh.stop(self.options.flush_timeout_sec))
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise MeshInterrupt(_STOP_INTERRUPTED) from None
        finally:
            self._shut_down(instance)

    def stop_now(self) -> None:
        """Stop from code that cannot await (unloading, exit)."""
        mesh, instance = self.mesh, self._instance
        if mesh is None or instance is None:
            return
        NotebookSession._ending = mesh
        try:
            mesh.stop(self.options.flush_timeout_sec).get(timeout=_STOP_SEC)
        except (LoopBlockedError, TimeoutError):
            # It goes on by itself; on the kernel's own loop when the cell ends.
            pass
        except KeyboardInterrupt:
            raise MeshInterrupt(_STOP_INTERRUPTED) from None
        finally:
            self._shut_down(instance)

    def _shut_down(self, instance: Instance) -> None:
        if self._cells is not None:
            self._cells.remove()
        if self._driver is not None:
            self._driver.close()
        if instance.view is self._driver:
            instance.view = None
        instance.close_loop()
        if self._panel is not None:
            self._panel.end_mesh()
        self._past, self._past_panel = instance, self._panel
        self.mesh = self.client = self._instance = None
        self._cells = self._driver = self._publisher = self._panel = None

    @property
    def store(self) -> LogStore:
        """The lines of the mesh that runs, or of the last one. Raises MeshStateError."""
        instance = self._instance or self._past
        if instance is None:
            raise MeshStateError("panel: no mesh runs; start one with `%logmesh start --procs 4`")
        return instance.store

    def forget_past(self) -> None:
        """Give up the lines of the last mesh."""
        if self._past_panel is not None:
            self._past_panel.close()
            self._past_panel = None
        if self._past is not None:
            if self._past.closed:
                self._past.store.close()
            elif self._ending is not None:
                self._ending.stop().on_done(self._past.store.close)
        self._past = None

    @property
    def cell_running(self) -> bool:
        """Whether a cell runs now."""
        return self._cells is not None and self._cells.running

    def show_panel(self, text: str) -> None:
        """Display the whole mesh; ``text`` is what a saved notebook keeps of it."""
        panel = self._panel or self._past_panel
        if panel is None:
            write_rows(sys.stdout, text)
            return
        rows = map(html.escape, text.rstrip("\n").split("\n"))
        markup = hanging_rows(rows, panel.snapshot_class(None))
        _display(panel.bundle(None), raw=True)
        _display({"text/plain": text, "text/html": markup}, raw=True)

    def _make_view(self, instance: Instance, first_row: int, kind: str) -> View:
        if not is_notebook(self.shell):
            return terminal_view()
        if kind == "plain":
            self._publisher = CellPublisher(self.shell)
            return PlainView(self._publisher)
        # Not before it is needed: it would make %load_ext slower.
        from .notebook_panel import NotebookPanel

        kernel = getattr(self.shell, "kernel", None)
        self._panel = NotebookPanel(kernel, self, instance, first_row)
        self._publisher = CellPublisher(self.shell, self._panel)
        panel = self._panel
        # What a page shows is newer; where none does, the snapshot is all that is seen.
        return PlainView(
            self._publisher, refresh_sec=lambda: _SNAPSHOT_SEC if panel.is_shown else 0.0
        )

    # --- running ------------------------------------------------------------------------------

    async def run(self, source: str, ranks: Optional[str], filename: str) -> dict[int, str]:
        """Run a cell on the procs; texts of results by rank. Raises MeshError, MeshInterrupt."""
        mesh = self.require("run")
        chosen = [proc.rank for proc in mesh.select(ranks)]
        task = mesh.run_cell(source, ranks=chosen, filename=filename)
        self._cell_used_mesh = True
        async with self._output_shown(mesh):
            try:
                return await self.wait(task)
            except (KeyboardInterrupt, asyncio.CancelledError):
                raise await interrupt_run(mesh, chosen, task, blocking=self._blocking) from None

    async def exec(self, argv: List[str], ranks: Optional[str], background: bool) -> Job:
        """Run a command beside the procs; waits for its end unless in the background."""
        mesh = self.require("exec")
        cell = self._cells.cell if self._cells is not None else None
        job = await self.wait(mesh.exec(argv, ranks=ranks, cell=cell))
        self._cell_used_mesh = True
        if background:
            if self._publisher is not None and cell is not None:
                self._publisher.reserve(cell)
            return job
        async with self._output_shown(mesh):
            try:
                await self.wait(job.wait())
            except (KeyboardInterrupt, asyncio.CancelledError):
                raise await interrupt_job(job, blocking=self._blocking) from None
        return job

    def set_mode(
        self, stream: Optional[bool], window: Optional[float], window_given: bool, level: int
    ) -> None:
        """Change the mode; what is not given stays. Without streaming there is no window."""
        self.require("set_mode")
        client, instance = self.client, self._instance
        assert client is not None
        assert instance is not None
        streams = client.stream_to_client if stream is None else stream
        if not window_given:
            window = client.aggregate_window_sec if streams else None
        client.set_mode(instance, streams, window, level)
        if self._panel is not None:
            self._panel.mode_changed()

    def mode_text(self) -> str:
        """The mode in force, in a line."""
        return mode_text(self)

    async def flush(self, timeout_sec: Optional[float]) -> FlushReport:
        """The barrier, and all that it proved on the screen."""
        mesh = self.require("flush")
        timeout = self.options.flush_timeout_sec if timeout_sec is None else timeout_sec
        report = await self._barrier(mesh.flush(check_timeout(timeout)))
        self.last_report = report
        if self._driver is not None:
            self._driver.sync()
        return report

    async def _barrier(self, task: PythonTask[FlushReport]) -> FlushReport:
        try:
            return await wait_barrier(task, blocking=self._blocking)
        except MeshInterrupt:
            self._impatient = True
            raise

    @contextlib.asynccontextmanager
    async def _output_shown(self, mesh: ProcMesh) -> AsyncIterator[None]:
        """Brings the procs' output to the screen before a result or an error is shown below it."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(MeshInterrupt):  # what came first is told
                await self._show_output(mesh)
            raise
        await self._show_output(mesh)

    async def _show_output(self, mesh: ProcMesh) -> None:
        if not mesh.stopped:
            # Nobody looks at this report: what it would tell belongs on the cell's receipt.
            await self._barrier(mesh.flush(self.options.flush_timeout_sec, tells=False))
        if self._driver is not None:
            self._driver.sync()

    # --- cells --------------------------------------------------------------------------------

    def _begin_cell(self, cell: int) -> None:
        if self._instance is None:
            return
        self._cell_used_mesh = self._cell_used_mesh and cell == 1
        self._impatient = False
        if self._publisher is not None:
            self._publisher.begin(cell)
        self._instance.store.begin_cell(cell)

    def _end_cell(self, cell: int) -> None:
        """The automatic barrier. On the kernel's own loop it is scheduled, not awaited."""
        mesh = self.mesh
        if mesh is None or mesh.stopped:
            return
        if not self.options.autoflush:
            self._show(cell, None)
            return
        if self.on_kernel_loop:
            task = mesh.flush(self._patience[0])
            later = asyncio.ensure_future(self._end_later(cell, task))
            self._tasks.add(later)
            later.add_done_callback(self._tasks.discard)
            return
        try:
            self._show(cell, self._last_report_of_cell(mesh))
        except KeyboardInterrupt:
            sys.stderr.write("logmesh: interrupted; the rest of the output comes by itself\n")

    @property
    def _patience(self) -> List[float]:
        """How long the cell's last barrier may take, and how long it may if that is interrupted."""
        return [self.options.flush_timeout_sec, _IMPATIENT_SEC][self._impatient :]

    def _last_report_of_cell(self, mesh: ProcMesh) -> Optional[FlushReport]:
        """After an interrupt the procs have one more moment: who has not answered then is late."""
        for timeout in self._patience:
            task = mesh.flush(timeout)
            try:
                return task.get()
            except KeyboardInterrupt:
                task.cancel()
                sys.stderr.write(f"logmesh: {BARRIER_INTERRUPTED}\n")
            except _ENDED:
                break
        return None

    async def _end_later(self, cell: int, task: PythonTask[FlushReport]) -> None:
        with contextlib.suppress(*_ENDED):
            self._show(cell, await task)

    def _show(self, cell: int, report: Optional[FlushReport]) -> None:
        if self._driver is None or self._instance is None:
            return
        self._instance.store.cut_unfinished()
        lines = self._instance.store.cell_lines(cell)
        receipt = None
        if report is not None:
            self.last_report = report
            receipt = self._receipt(cell, report, lines)
        self._driver.sync(receipt)
        if self._panel is not None and receipt is not None:
            self._panel.panel.receipt(*receipt)
        failed = self._driver.error
        if failed is None and self._panel is not None:
            failed, self._panel.panel.error = self._panel.panel.error, None  # it goes on
        if failed is not None:
            sys.stderr.write(f"logmesh: the view has failed: {failed!r}\n")

    def _receipt(
        self, cell: int, report: FlushReport, lines: int
    ) -> Optional[tuple[int, str, bool]]:
        """The cell's receipt; none for a cell that had nothing to do with the mesh."""
        news = set(report.exited) - self._known_absent
        self._known_absent |= set(report.exited)
        skipped, self._known_skipped = self._skipped_since(self._known_skipped)
        wanted = lines or skipped or self._cell_used_mesh or news or not report
        if self.receipts == "never" or (self.receipts == "auto" and not wanted):
            return None
        return cell, report.receipt(lines, skipped), bool(report)

    def _skipped_since(self, known: int) -> tuple[int, int]:
        """Lines left on the hosts beyond those ``known``, and all of them."""
        assert self._instance is not None
        total = self._instance.actor.totals().skipped_lines
        return total - known, total


def _brought_up(spawning: PythonTask[ProcMesh]) -> bool:
    """Cancels the start where it still goes on; whether it has succeeded."""
    if spawning.cancel():
        return False
    try:
        spawning.get(timeout=0.0)
    except Exception:  # noqa: BLE001 (its failure is told by who waited for it)
        return False
    return True
