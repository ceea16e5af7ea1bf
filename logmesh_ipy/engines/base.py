"""What an engine is: it starts one bootstrap per host, and can tell why one did not come up.

All else (procs, streams, barriers) is the same for every engine and goes over the connection
that the bootstrap makes. Engines are found by the entry-point group ``logmesh_ipy.engines``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any, Dict, List, Protocol, Sequence

from ..errors import OptionError
from ..names import check_host, quoted

__all__ = ["Engine", "HostHandle", "HostPlan", "engine_names", "load_engine"]

GROUP = "logmesh_ipy.engines"
_BUILT_IN = {"local": ("logmesh_ipy.engines.local", "LocalEngine")}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """One bootstrap to start: its name, and the configuration it must get on standard input.

    The configuration holds the mesh's token, so it may stand in no argument, environment or text.
    """

    name: str
    config: Dict[str, Any] = field(repr=False)


class HostHandle(Protocol):
    """A bootstrap that was started, as its engine sees it. Methods may be called on any thread."""

    def is_running(self) -> bool:
        """Whether the bootstrap still runs, as far as the engine can tell."""

    def last_words(self) -> str:
        """What it wrote on standard error, for the message when it did not come up."""

    def clean_up(self) -> None:
        """The bootstrap is gone: kill what it left behind, if anything, and forget it."""


class Engine(Protocol):
    """Starts bootstraps. Made anew for each mesh.

    ``is_local``: its hosts are this machine, and reach the client's Unix socket; others are given
    the address of the option ``listen``.
    """

    is_local: bool

    async def start_host(self, plan: HostPlan) -> HostHandle:
        """Start one bootstrap; returns before it has connected. Raises SpawnError."""


def engine_names() -> List[str]:
    """The engines that are installed, sorted."""
    found = {point.name for point in metadata.entry_points(group=GROUP)}
    return sorted(found | set(_BUILT_IN))


def load_engine(name: str, hosts: Sequence[str] = ()) -> Engine:
    """The engine of that name, for hosts that :func:`~logmesh_ipy.names.check_host` lets pass.

    Raises OptionError that lists the known ones.
    """
    checked = tuple(check_host(host) for host in hosts)
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        factory = getattr(import_module(module), attribute)
    else:
        points = metadata.entry_points(group=GROUP, name=name)
        if not points:
            raise OptionError(
                f"there is no engine {quoted(name)}; installed are: {', '.join(engine_names())}"
            )
        factory = next(iter(points)).load()
    engine: Engine = factory(hosts=checked)
    return engine
