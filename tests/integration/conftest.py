"""Helpers for tests with real processes and sockets, and the check that they leave nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Iterator, List, Optional, Set, TypeVar

import pytest

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy import instance as instance_module
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.model import OutputTarget
from logmesh_ipy.store import Row
from tests.support import mesh_directories, session_processes

T = TypeVar("T")
OUT = OutputTarget.STDOUT
ERR = OutputTarget.STDERR
ROOT = Path(__file__).resolve().parents[2]


async def until(predicate: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """``wait_until`` on a loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or predicate}; last: {value!r}")
        await asyncio.sleep(0.002)


def run_async(make: Callable[[], Awaitable[T]], timeout: float = 30.0) -> T:
    """Run a coroutine function on a loop of its own."""

    async def bounded() -> T:
        return await asyncio.wait_for(make(), timeout)

    return asyncio.run(bounded())


def open_fds() -> Dict[int, str]:
    """What this process holds open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def mesh_threads() -> List[str]:
    """Threads of this package."""
    return [t.name for t in threading.enumerate() if t.name.startswith("logmesh")]


@pytest.fixture(autouse=True)
def nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A temporary directory of the test's own; after it no process, socket, thread or fd is left.

    Gives the directory.
    """
    tmp_path_factory.getbasetemp()  # pytest's own is elsewhere
    directory = tempfile.mkdtemp(prefix="lmt-", dir="/tmp")  # short: it holds socket paths
    monkeypatch.setattr(tempfile, "tempdir", directory)
    monkeypatch.setenv("TMPDIR", directory)
    python_path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{python_path}".rstrip(os.pathsep))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it switches C's buffers off as well
    before: Set[int] = set(open_fds())
    yield directory
    last = instance_module._current.instance
    if last is not None and last.closed:
        last.store.close()  # it is kept so that it can be read after the mesh has stopped

    def leftovers() -> Dict[str, Any]:
        gc.collect()
        fds = {fd: where for fd, where in open_fds().items() if fd not in before}
        held = {
            "processes": session_processes(directory),
            "directories": mesh_directories(directory),
            "threads": mesh_threads(),
            "fds": {fd: where for fd, where in fds.items() if "/proc/" not in where},
        }
        return {name: value for name, value in held.items() if value}

    try:
        deadline = time.monotonic() + 3.0
        left = leftovers()
        while left and time.monotonic() < deadline:
            time.sleep(0.01)
            left = leftovers()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert not left


@pytest.fixture
def seed() -> random.Random:
    """Dice; pytest shows the seed when the test fails."""
    number = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"SEED={number}\n")
    return random.Random(number)


class MeshMaker:
    """Starts meshes; all are stopped when the test ends."""

    def __init__(self) -> None:
        self.meshes: List[ProcMesh] = []

    def __call__(self, procs: int = 1, *, level: int = 20, **host: Any) -> ProcMesh:
        options = MeshOptions(host=HostOptions(**host), level=level)
        mesh = this_host().spawn_procs(procs, options=options).get(20)
        self.meshes.append(mesh)
        return mesh

    def stop(self) -> None:
        for mesh in self.meshes:
            mesh.stop().get(10)
        for mesh in self.meshes:
            mesh.instance.close_loop()
            mesh.instance.store.close()


@pytest.fixture
def start() -> Iterator[MeshMaker]:
    """``start(4, window_bytes=...)`` gives a running mesh."""
    maker = MeshMaker()
    yield maker
    maker.stop()


def rows(mesh: ProcMesh, rank: Optional[int] = None, target: Optional[int] = OUT) -> List[Row]:
    """Rows of the store in order of arrival."""
    return [
        row
        for row in mesh.instance.store.lines()
        if rank in (None, row.info.rank) and target in (None, row.target)
    ]


def texts(mesh: ProcMesh, rank: Optional[int] = None, target: Optional[int] = OUT) -> List[str]:
    """Their text."""
    return [row.text.decode(errors="replace") for row in rows(mesh, rank, target)]


def unfinished(mesh: ProcMesh, rank: int, target: int = OUT) -> str:
    """The unfinished line of a stream."""
    for line in mesh.instance.store.open_lines():
        if line.info.rank == rank and line.target == target:
            return line.text.decode()
    return ""
