"""What tests of several folders share: waiting with a deadline, and who is left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, List, TypeVar

from logmesh_ipy.procs import SESSION_VARIABLE

__all__ = ["session_processes", "wait_until"]

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
