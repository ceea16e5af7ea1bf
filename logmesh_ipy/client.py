"""LoggingMeshClient: the handle that Python code holds. ``spawn``, ``set_mode``, ``flush``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Optional

from .config import check_level, check_window
from .instance import Instance
from .loop import PythonTask
from .mesh import ProcMesh
from .model import FlushReport, LogClientMessage
from .views.default import show

__all__ = ["LoggingMeshClient"]

_SHOW_SEC = 5.0
"""How long a flush waits for a screen that does not take its lines (a stopped terminal)."""


class LoggingMeshClient:
    """Logging of one mesh: the LogClientActor here, forwarders and runtime actors there.

    >>> client = await LoggingMeshClient.spawn(instance, proc_mesh)  # doctest: +SKIP
    """

    def __init__(self, instance: Instance, proc_mesh: ProcMesh) -> None:
        self._instance = instance
        self.proc_mesh = proc_mesh
        self.stream_to_client = True
        self.aggregate_window_sec: Optional[float] = None
        self.level = proc_mesh.options.level

    @classmethod
    def spawn(cls, instance: Instance, proc_mesh: ProcMesh) -> PythonTask[LoggingMeshClient]:
        """The client of a mesh: there is exactly one LogClientActor, which all meshes share.

        Resolves when every proc's forwarder has attached to it. From then on what the procs
        print is printed here, unless something else shows it (a notebook's session).
        """
        if proc_mesh.instance is not instance:
            raise ValueError("this mesh was spawned in another context than `instance`")

        async def spawn() -> LoggingMeshClient:
            for proc in proc_mesh.procs:
                if proc.exit_code is None:
                    await proc.attached.wait()
            show(instance)
            return cls(instance, proc_mesh)

        return instance.loop.submit(spawn())

    def set_mode(
        self,
        instance: Instance,
        stream_to_client: bool,
        aggregate_window_sec: Optional[float],
        level: int,
    ) -> None:
        """Set streaming, the aggregation window (seconds, None: off) and Python's log level.

        Returns at once; the messages are in order with every later barrier. Raises RuntimeError
        for a window without streaming, ValueError for a window below 1 or a level outside
        0..255.
        """
        window = check_window(aggregate_window_sec)
        check_level(level)
        if window is not None and not stream_to_client:
            raise RuntimeError(
                "cannot aggregate without streaming: aggregate_window_sec is "
                f"{aggregate_window_sec} while stream_to_client is False; pass None for the "
                "window, or stream"
            )
        self.proc_mesh.check_open("set_mode")
        self.stream_to_client = bool(stream_to_client)
        self.aggregate_window_sec = window
        self.level = level
        self._instance.loop.call(self._set_mode, self.stream_to_client, window, level)

    def _set_mode(self, stream_to_client: bool, window: Optional[float], level: int) -> None:
        actor = self._instance.actor
        actor.set_mode(self.proc_mesh.sources, stream_to_client, level)
        actor.tell(LogClientMessage.SetAggregate(aggregate_window_sec=window))

    def flush(
        self, instance: Instance, timeout_sec: Optional[float] = 30.0
    ) -> PythonTask[FlushReport]:
        """The barrier: when it is done, all that was written before it is in the store and shown.

        ``timeout_sec``: whoever has not answered by then is named ``late`` in the report.
        """
        barrier = self.proc_mesh.flush(timeout_sec)
        view = instance.view

        async def flush() -> FlushReport:
            report = await barrier
            if view is not None:
                loop = asyncio.get_running_loop()
                shown = asyncio.Event()
                view.sync_then(lambda: loop.call_soon_threadsafe(shown.set))
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(shown.wait(), _SHOW_SEC)
            return report

        return instance.loop.submit(flush())
