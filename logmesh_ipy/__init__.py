"""logmesh_ipy: everything that remote procs print, under the notebook cell that caused it.

>>> from logmesh_ipy import LoggingMeshClient, context, this_host  # doctest: +SKIP

Names are loaded when they are first used: the programs that run on hosts import this package
too, and must not pay for what only the notebook needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from ._version import __version__

if TYPE_CHECKING:
    from .client import LoggingMeshClient
    from .crashed_sessions import reopen, saved_sessions
    from .errors import CommandError, MeshError, OptionError, SpawnError
    from .extension import load_ipython_extension, unload_ipython_extension
    from .instance import context
    from .job import Job
    from .mesh import ProcMesh, this_host
    from .model import FlushReport, Gap, OutputTarget

__all__ = [
    "CommandError",
    "FlushReport",
    "Gap",
    "Job",
    "LoggingMeshClient",
    "MeshError",
    "OptionError",
    "OutputTarget",
    "ProcMesh",
    "SpawnError",
    "__version__",
    "context",
    "load_ipython_extension",
    "reopen",
    "saved_sessions",
    "this_host",
    "unload_ipython_extension",
]

_HOMES = {
    "CommandError": "errors",
    "FlushReport": "model",
    "Gap": "model",
    "Job": "job",
    "LoggingMeshClient": "client",
    "MeshError": "errors",
    "OptionError": "errors",
    "OutputTarget": "model",
    "ProcMesh": "mesh",
    "SpawnError": "errors",
    "context": "instance",
    "load_ipython_extension": "extension",
    "reopen": "crashed_sessions",
    "saved_sessions": "crashed_sessions",
    "this_host": "mesh",
    "unload_ipython_extension": "extension",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *_HOMES})
