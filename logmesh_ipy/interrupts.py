"""What the stop button does to what a cell waits for: code on the procs, a command, a barrier.

Code and commands are interrupted on the procs and given a moment to say where they were; a barrier
is given up, so that the next one tells what it would have told. The session calls this; each call
gives the :class:`MeshInterrupt` to raise. ``blocking``: waiting blocks, else it is awaited.
"""

from __future__ import annotations

import asyncio
from typing import Any, List, Optional, TypeVar

from .errors import MeshError
from .job import Job
from .loop import PythonTask
from .mesh import ProcMesh
from .model import FlushReport

__all__ = [
    "BARRIER_INTERRUPTED",
    "MeshInterrupt",
    "interrupt_job",
    "interrupt_run",
    "wait_barrier",
    "wait_within",
]

T = TypeVar("T")
BARRIER_INTERRUPTED = "the barrier was interrupted; %logmesh flush runs it again"
_INTERRUPT_SEC = 3.0


class MeshInterrupt(KeyboardInterrupt):
    """The user interrupted a cell that ran on the mesh; ``text`` says where it was."""

    def __init__(self, text: str, details: Optional[List[str]] = None) -> None:
        super().__init__(text)
        self._details = details or []

    def _render_traceback_(self) -> List[str]:
        return [f"KeyboardInterrupt: {self}", *self._details]


async def interrupt_run(
    mesh: ProcMesh, ranks: List[int], task: PythonTask[Any], *, blocking: bool
) -> MeshInterrupt:
    """Interrupt the procs' code, give it a moment to end, and say where it was."""
    mesh.interrupt(ranks)
    try:
        await wait_within(task, _INTERRUPT_SEC, blocking=blocking)
    except MeshError as error:
        details = ["", f"[rank {error.rank}] was at:", *error.errors[error.rank].block()]
        return MeshInterrupt("the code on the procs was interrupted", details)
    except (TimeoutError, asyncio.TimeoutError):
        return MeshInterrupt(
            f"interrupted, but some ranks did not end within {_INTERRUPT_SEC:g} s (C code?); "
            "what they run next waits for them"
        )
    except asyncio.CancelledError:
        return MeshInterrupt("the code on the procs was interrupted")
    return MeshInterrupt("interrupted; the code on the procs had just ended")


async def interrupt_job(job: Job, *, blocking: bool) -> MeshInterrupt:
    """Interrupt a command; where it does not end in a moment, stop it."""
    job.interrupt()
    try:
        await wait_within(job.wait(), _INTERRUPT_SEC, blocking=blocking)
    except (TimeoutError, asyncio.TimeoutError):
        stopping = job.stop()
        _ = stopping.get() if blocking else await stopping
    return MeshInterrupt(job.describe())


async def wait_barrier(barrier: PythonTask[FlushReport], *, blocking: bool) -> FlushReport:
    """Its report. Raises MeshInterrupt where the user does not want to wait for it."""
    try:
        return barrier.get() if blocking else await barrier
    except (KeyboardInterrupt, asyncio.CancelledError):
        barrier.cancel()
        raise MeshInterrupt(BARRIER_INTERRUPTED) from None


async def wait_within(task: PythonTask[T], seconds: float, *, blocking: bool) -> T:
    """The result within so many seconds, else a TimeoutError of ``asyncio`` or of Python."""
    if blocking:
        return task.get(timeout=seconds)
    return await asyncio.wait_for(_as_awaitable(task), seconds)


async def _as_awaitable(task: PythonTask[T]) -> T:
    return await task
