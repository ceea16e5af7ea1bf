"""What tests of several folders share: waiting with a deadline, and who is left."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, List, TypeVar

from logmesh_ipy.procs import SESSION_VARIABLE, is_running

__all__ = ["mesh_directories", "session_processes", "wait_until"]

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 20.0, what: object = "") -> T:
    """Poll until ``predicate()`` is true, and give its value. ``what`` may be called to tell."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout} s: {said or predicate}; last: {value!r}")
        time.sleep(0.005)


def mesh_directories(directory: str) -> List[str]:
    """What meshes have put into their temporary directory and not taken away.

    Lines that are meant to stay are left out: those of a kernel that has crashed, and of another
    living process the last session's. That an orderly end leaves none is tested by itself.
    """
    names = [name for name in os.listdir(directory) if name.startswith(("logmesh-", "store-"))]
    return [name for name in names if not _is_meant_to_stay(os.path.join(directory, name))]


def _is_meant_to_stay(path: str) -> bool:
    names: List[str] = []
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(path) if os.path.basename(path).startswith("logmesh-stores-") else []
    pids = [int(name.split("-")[2]) for name in names if name.endswith(".logmesh")]
    living = [pid for pid in pids if is_running(pid)]
    as_meant = os.getpid() not in living and len(set(living)) == len(living)
    return bool(names) and len(pids) == len(names) and as_meant


def session_processes(directory: str) -> List[int]:
    """Living processes of meshes whose temporary directory is ``directory``."""
    place = f"TMPDIR={directory}".encode()
    found = []
    for name in os.listdir("/proc"):
        try:
            environ = Path(f"/proc/{name}/environ").read_bytes() if name.isdigit() else b""
        except OSError:
            continue
        entries = environ.split(b"\0")
        if place in entries and any(e.startswith(SESSION_VARIABLE.encode()) for e in entries):
            found.append(int(name))
    return found
