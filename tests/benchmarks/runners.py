"""Who does the work: this package, and peers to compare it with.

A runner starts procs, has all of them print, and says when everything has arrived. The peers are
in ``peers/runner.py``.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Optional, Protocol

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.instance import Instance
from logmesh_ipy.views.driver import ViewDriver
from logmesh_ipy.views.plain import PlainView

PRINTS = (Path(__file__).parent / "peers" / "work.py").read_text(encoding="utf-8")
"""Defines ``prints(count, kinds, values, size=100)``.

It prints ``count`` lines of ``size`` bytes, of ``kinds`` different texts, with numbers that vary if
``values``. The lines are made before: what is measured is their way, not their formatting.
"""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """``lines`` of ``expected`` have arrived, the last of them ``seconds`` after the start.

    ``failure``: why the system did not come to an end, if so.
    """

    lines: int
    expected: int
    seconds: float
    failure: str = ""

    @property
    def rate(self) -> float:
        """Lines per second, of those that have arrived."""
        return self.lines / self.seconds


class Runner(Protocol):
    """One system that brings the output of procs to the driver."""

    name: str

    def start(self, procs: int, window_sec: Optional[float]) -> None:
        """Bring up ``procs`` procs."""

    def print_lines(self, count: int, kinds: int, *, values: bool, size: int = 100) -> Arrival:
        """Have each proc print ``count`` lines, and return when all of them have arrived."""

    def stop(self) -> None:
        """End everything."""


class LogMesh:
    """This package. With a window the aggregation is part of what is measured."""

    name = "logmesh"

    def __init__(self, *, shown: bool = False) -> None:
        self._shown = shown
        self._driver: Optional[ViewDriver] = None
        self.mesh: ProcMesh

    def start(self, procs: int, window_sec: Optional[float]) -> None:
        self.mesh = start_mesh(procs)
        if window_sec is not None or self._shown:
            view = PlainView(NoScreen())
            self._driver = ViewDriver(self.mesh.instance.store, view, lambda: window_sec)
        self.mesh.run(PRINTS).get(10)

    def print_lines(self, count: int, kinds: int, *, values: bool, size: int = 100) -> Arrival:
        store = self.mesh.instance.store
        before, began = store.rows, time.perf_counter()
        self.mesh.run(f"prints({count}, {kinds}, {values}, {size})").get(300)
        assert self.mesh.flush(60).get(90)
        if self._driver is not None:
            self._driver.sync()
        seconds = time.perf_counter() - began
        expected = len(self.mesh.procs) * count
        return Arrival(lines=store.rows - before, expected=expected, seconds=seconds)

    def stop(self) -> None:
        if self._driver is not None:
            self._driver.close()
        stop_mesh(self.mesh)


class NoScreen:
    """Counts what a notebook would be sent."""

    def __init__(self) -> None:
        self.bytes = 0

    def publish(self, cell: int, bundle: Dict[str, str]) -> None:
        self.bytes += sum(len(part) for part in bundle.values())


def start_mesh(procs: int, **host: object) -> ProcMesh:
    """A mesh with an instance of its own."""
    options = MeshOptions(host=HostOptions.from_map(host))
    return this_host().spawn_procs(procs, options=options, instance=Instance(options)).get(120)


def stop_mesh(mesh: ProcMesh) -> None:
    """End a mesh; nothing of it is left."""
    mesh.stop().get(30)
    mesh.instance.close_loop()
    mesh.instance.store.close()


@contextlib.contextmanager
def running(procs: int) -> Iterator[ProcMesh]:
    """A mesh for a ``with`` block."""
    mesh = start_mesh(procs)
    try:
        yield mesh
    finally:
        stop_mesh(mesh)


def bootstrap_pid(mesh: ProcMesh) -> int:
    """The bootstrap's process: the parent of each proc."""
    with open(f"/proc/{mesh.procs[0].pid}/stat", encoding="utf-8") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])


def resident_bytes(pid: int) -> int:
    """What a process takes of the memory now."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    raise ValueError(f"process {pid} has no memory")
