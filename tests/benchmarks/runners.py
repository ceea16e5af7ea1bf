"""Who does the work: this package, and peers to compare it with.

A runner starts procs, has all of them print, and says when everything has arrived. A peer is one
more class in ``RUNNERS``: its ``available`` says whether it is installed here.
"""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Dict, Iterator, Optional, Protocol, Type

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.instance import Instance
from logmesh_ipy.views.driver import ViewDriver
from logmesh_ipy.views.plain import PlainView

PRINTS = """
import functools, random

@functools.lru_cache
def lines_of(kinds, values):
    dice = random.Random(0)
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "kappa"]
    heads = [chr(97 + n % 26) + chr(97 + n // 26 % 26) + chr(97 + n // 676) + " "
             + " ".join(dice.choice(words) for _ in range(7)) for n in range(kinds)]
    if not values:
        return [head[:99].ljust(99, ".") for head in heads]
    heads = [head[:60].ljust(60, ".") for head in heads]
    numbers = range(20_000)
    return [f"{heads[n % kinds]} step {n:09d} loss {n % 997:012d} ....." for n in numbers]

def prints(count, kinds, values):
    lines = lines_of(kinds, values)
    size = len(lines)
    for n in range(count):
        print(lines[n % size])
"""
"""Prints ``count`` lines of 100 bytes: ``kinds`` different texts, with numbers if ``values``.

The lines are made before: what is measured is their way, not their formatting.
"""


class Runner(Protocol):
    """One system that brings the output of procs to the driver."""

    name: str

    @classmethod
    def available(cls) -> bool:
        """Whether it can be used here."""

    def start(self, procs: int, window_sec: Optional[float]) -> None:
        """Bring up ``procs`` procs."""

    def print_lines(self, count: int, kinds: int, *, values: bool) -> None:
        """Have each proc print ``count`` lines, and return when all of them have arrived."""

    def received(self) -> int:
        """How many lines have arrived since the start."""

    def stop(self) -> None:
        """End everything."""


class LogMesh:
    """This package. With a window the aggregation is part of what is measured."""

    name = "logmesh"

    def __init__(self, *, shown: bool = False) -> None:
        self._shown = shown
        self._driver: Optional[ViewDriver] = None
        self.mesh: ProcMesh

    @classmethod
    def available(cls) -> bool:
        return True

    def start(self, procs: int, window_sec: Optional[float]) -> None:
        self.mesh = start_mesh(procs)
        if window_sec is not None or self._shown:
            view = PlainView(NoScreen())
            self._driver = ViewDriver(self.mesh.instance.store, view, lambda: window_sec)
        self.mesh.run(PRINTS).get(10)

    def print_lines(self, count: int, kinds: int, *, values: bool) -> None:
        self.mesh.run(f"prints({count}, {kinds}, {values})").get(300)
        assert self.mesh.flush(60).get(90)
        if self._driver is not None:
            self._driver.sync()

    def received(self) -> int:
        return self.mesh.instance.store.rows

    def stop(self) -> None:
        if self._driver is not None:
            self._driver.close()
        stop_mesh(self.mesh)


RUNNERS: Dict[str, Type[Runner]] = {"logmesh": LogMesh}


def installed(*modules: str) -> bool:
    """Whether all of a peer's modules can be imported here."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


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
