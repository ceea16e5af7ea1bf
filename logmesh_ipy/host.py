"""One host's bootstrap as the driver sees it: started by an engine, asked over its connection.

    start > connected > stop (or lost: it died, or its connection broke) > nothing of it is left

Used by the mesh, on the client's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any, Callable, Dict, List, Mapping, Optional

from .config import HostOptions
from .engines.base import Engine, HostHandle, HostPlan
from .errors import LogMeshError, MeshStateError, SpawnError
from .handshake import Role
from .instance import Instance
from .model import fold_ranks
from .rpc import Caller

__all__ = ["Host"]

_SPAWN_AT_ONCE = 16
"""Starting one takes the bootstrap some 3 ms, in which it does nothing else."""
_TERM_SEC = 0.3
_STOP_SEC = 3.0
_END_SEC = 1.0


class Host:
    """``on_exit(source, code)`` is called for each process that has ended.

    ``on_lost()`` is called once when the bootstrap has gone and was not told to.
    """

    def __init__(
        self,
        instance: Instance,
        on_exit: Callable[[int, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._instance = instance
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._name = instance.new_host_name()
        self._handle: Optional[HostHandle] = None
        self._caller: Optional[Caller] = None
        self._gone = asyncio.Event()
        self._stopping = False

    async def start(self, engine: Engine, options: HostOptions) -> None:
        """Have the engine start the bootstrap, and wait for its connection. Raises SpawnError."""
        connected: asyncio.Future[Caller] = asyncio.get_running_loop().create_future()

        def accept(connection: Any) -> Caller:
            caller = Caller(connection, self._event, self._lost)
            if not connected.done():
                connected.set_result(caller)
            return caller

        self._instance.when_connected(Role.BOOTSTRAP, self._name, accept)
        handle = self._handle = await engine.start_host(self._plan(options))
        while not connected.done():
            await asyncio.wait([connected], timeout=0.05)
            if not connected.done() and not handle.is_running():
                words = handle.last_words()
                raise SpawnError(f"the bootstrap ended at once{': ' + words if words else ''}")
        self._caller = connected.result()

    async def call(self, method: str, **args: Any) -> Any:
        """Ask the bootstrap. Raises TransportError when it is gone, RemoteCallError for its no."""
        if self._caller is None:
            raise MeshStateError("the mesh is not started")
        return await self._caller.call(method, **args)

    def signal(self, sources: List[int], number: int) -> None:
        """Signal processes, soon; where the bootstrap is gone, so are they."""
        if self._caller is not None and not self._caller.lost:
            call = self._caller.call("signal", procs=sources, number=number)
            call.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def spawn(
        self,
        specs: List[Dict[str, Any]],
        rank_of: Mapping[int, int],
        argv: Optional[List[str]] = None,
        environ: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
    ) -> Dict[int, int]:
        """Start all processes, or none: their pids by source. Raises SpawnError by rank."""
        started: Dict[int, int] = {}
        failures: Dict[int, str] = {}
        for first in range(0, len(specs), _SPAWN_AT_ONCE):
            answer = await self.call(
                "spawn",
                procs=specs[first : first + _SPAWN_AT_ONCE],
                argv=argv,
                environ=dict(environ or {}),
                cwd=cwd,
            )
            started.update((int(proc), pid) for proc, pid in answer["started"].items())
            failures.update((rank_of[int(proc)], why) for proc, why in answer["failed"].items())
        if failures:
            await self.call("signal", procs=list(started), number=signal.SIGKILL)
            words = failures[min(failures)]
            raise SpawnError(f"cannot start on ranks {fold_ranks(failures)}: {words}", failures)
        return started

    async def said(self, source: int) -> str:
        """The end of what a process wrote to stderr, for messages about its death."""
        try:
            lines = await self.call("peek", proc=source, target=2, lines=20)
        except LogMeshError:
            return ""
        return b"\n".join(lines).decode(errors="backslashreplace")

    def last_words(self) -> str:
        """The end of what the bootstrap itself wrote to stderr."""
        return "" if self._handle is None else self._handle.last_words()

    async def stop(self) -> None:
        """End all its processes and itself; where it does not do so, it is killed with them."""
        self._stopping = True
        if self._caller is not None and not self._caller.lost:
            with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
                await asyncio.wait_for(self._caller.call("stop", grace_sec=_TERM_SEC), _STOP_SEC)
                await asyncio.wait_for(self._gone.wait(), _END_SEC)
        self._instance.forget_peer(Role.BOOTSTRAP, self._name)
        await self.clean_up()

    async def clean_up(self) -> None:
        """The connection is gone: give the bootstrap a moment to end, kill what it left behind."""
        if self._handle is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _END_SEC
        while self._handle.is_running() and loop.time() < deadline:  # noqa: ASYNC110 (not ours)
            await asyncio.sleep(0.005)
        self._handle.clean_up()

    def _plan(self, options: HostOptions) -> HostPlan:
        session = self._instance.directory
        directory = f"{session}/{self._name}"
        os.mkdir(directory, 0o700)
        return HostPlan(
            name=self._name,
            config={
                "name": self._name,
                "directory": directory,
                "session_directory": session,
                "session": f"{os.path.basename(session)}-{self._name}",
                "uplink": self._instance.address,
                "token": self._instance.token,
                "options": options.to_map(),
            },
        )

    def _event(self, name: str, args: Dict[str, Any]) -> None:
        if name == "exited":
            self._on_exit(args["proc"], args["code"])

    def _lost(self, error: Optional[Exception]) -> None:
        self._gone.set()
        if not self._stopping:
            self._on_lost()
