"""``%logmesh doctor`` and ``logmesh doctor``: checks the installation, and says what to do.

Nothing is changed. Of what is installed ``doctor_packages`` knows, of the machine
``doctor_system``; here a proc is started to see that a line of it comes through. A check that
cannot be made is a finding too: no fault keeps the others from being told.
"""

from __future__ import annotations

import time
from typing import Any, Callable, List

from .config import MeshOptions
from .doctor_packages import check_front_end, check_kernel, check_packages, check_python
from .doctor_system import (
    check_clock,
    check_limits,
    check_sessions,
    check_temporary_directory,
    check_variables,
)
from .errors import LogMeshError
from .findings import Finding, fail, ok, report_text, warn
from .instance import Instance
from .mesh import HostMesh

__all__ = ["diagnose", "report_text"]

_START_SEC = 20.0
_FLUSH_SEC = 10.0
_GOOD_SEC = 1.0
_LINE = "the doctor's line"

_CHECKS: List[Callable[[], List[Finding]]] = [
    check_python, check_packages, check_kernel, check_front_end, check_temporary_directory,
    check_limits, check_clock, check_sessions,
]  # fmt: skip


def diagnose(*, quick: bool = False, shell: Any = None) -> List[Finding]:
    """All findings. ``quick``: no proc is started. ``shell``: whose configuration holds, if any."""
    findings: List[Finding] = []
    for check in [*_CHECKS, lambda: check_variables(shell)]:
        findings += _guarded(check)
    return findings if quick else findings + _guarded(check_mesh)


def check_mesh() -> List[Finding]:
    """A real proc prints a line; the barrier brings it; then it is stopped."""
    subject = "a proc"
    options = MeshOptions(procs=1, start_timeout_sec=_START_SEC, keep_sessions=0)
    instance = Instance(options)
    began = time.monotonic()
    try:
        mesh = HostMesh(options).spawn_procs(1, instance=instance).get()
        started = time.monotonic()
        try:
            mesh.run(f"print({_LINE!r})").get(_FLUSH_SEC)
            asked = time.monotonic()
            report = mesh.flush(_FLUSH_SEC).get()
            flushed = time.monotonic() - asked
            lines = [row.text for row in instance.store.lines()]
        finally:
            mesh.stop().get(_FLUSH_SEC)
    except (LogMeshError, OSError) as error:
        return [fail(subject, f"cannot be started: {error}", "mend what it says, and try again")]
    finally:
        instance.close_unused()
        instance.close_loop()
        instance.store.close()
    if not report or lines != [_LINE.encode()]:
        text = f"its line did not come through: {report}, {lines!r}"
        return [fail(subject, text, "please report this, with what `%logmesh status` says")]
    told = f"started in {started - began:.2f} s, its line was here {flushed * 1000:.0f} ms later"
    if flushed > _GOOD_SEC:
        return [
            warn(subject, told, "the machine is very busy: have it do less, or use fewer procs")
        ]
    return [ok(subject, told)]


def _guarded(check: Callable[[], List[Finding]]) -> List[Finding]:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 (told: the other checks may say why)
        name = getattr(check, "__name__", "check")
        text = f"{name} could not be made: {type(error).__name__}: {error}"
        return [fail("doctor", text, "mend what the other lines say, and try again")]
