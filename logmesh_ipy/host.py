"""One host's bootstrap as the driver sees it: started by an engine, asked over its connection.

    start > connected > stop (or lost: it died, or does not connect again) > nothing of it is left

Used by the mesh, on the client's loop only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any, Callable, Dict, List, Mapping, Optional

from .channel import Connection
from .config import HostOptions
from .engines.base import Engine, HostHandle, HostPlan
from .errors import LogMeshError, MeshStateError, SpawnError, indented
from .handshake import Role
from .instance import Instance
from .model import fold_ranks
from .redaction_rules import rules_for
from .rpc import RECONNECT_SEC, Caller
from .sanitize import inert
from .sockets import private_directory

__all__ = ["Host"]

_SPAWN_AT_ONCE = 16
"""Starting one takes the bootstrap some 3 ms, in which it does nothing else."""
_TERM_SEC = 0.3
_END_SEC = 1.0
_LOOK_SEC = 0.005


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
        self._return: Optional[asyncio.Task[None]] = None
        self._stopping = False
        self._options = HostOptions()
        self._is_local = False

    async def start(self, engine: Engine, options: HostOptions) -> None:
        """Have the engine start the bootstrap, and wait for its connection. Raises SpawnError."""
        self._options = options
        self._is_local = engine.is_local
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller = Caller(self._event, self._disconnected)

        def accept(connection: Connection) -> Caller:
            if not connected.done():
                connected.set_result(None)
            return caller.connected(connection)

        self._instance.when_connected(Role.BOOTSTRAP, self._name, accept)
        handle = self._handle = await engine.start_host(self._plan(engine, options))
        while not connected.done():
            await asyncio.wait([connected], timeout=0.05)
            if not connected.done() and not handle.is_running():
                words = self.last_words()
                raise SpawnError(f"the bootstrap ended at once{': ' + words if words else ''}")
        self._caller = caller

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
            failures.update(
                (rank_of[int(proc)], inert(why)) for proc, why in answer["failed"].items()
            )
        if failures:
            await self.call("signal", procs=list(started), number=signal.SIGKILL)
            words = indented(failures[min(failures)])
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
        """The end of what the bootstrap itself wrote to stderr, redacted and inert."""
        if self._handle is None:
            return ""
        environs = [os.environ] if self._options.redact_environment else []
        rules = rules_for(self._options.redact, *environs)
        return indented(inert(rules.redact_text(self._handle.last_words())))

    async def stop(self, within_sec: float) -> None:
        """End all its processes and itself; where that is not done in time, they are killed."""
        self._stopping = True
        if self._caller is not None and not self._caller.lost:
            with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
                await asyncio.wait_for(self._told_to_stop(self._caller), within_sec)
        self._instance.forget_peer(Role.BOOTSTRAP, self._name)
        await self.clean_up()

    async def _told_to_stop(self, caller: Caller) -> None:
        await caller.call("stop", grace_sec=_TERM_SEC)
        await self._gone.wait()

    async def clean_up(self) -> None:
        """Kill what the bootstrap left behind, and itself.

        Where its connection is gone it gets a moment to end by itself.
        """
        if self._handle is None:
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_END_SEC if self._gone.is_set() else 0.0)
        while self._handle.is_running() and loop.time() < deadline:  # noqa: ASYNC110 (not ours)
            await asyncio.sleep(_LOOK_SEC)
        self._handle.clean_up()

    def _plan(self, engine: Engine, options: HostOptions) -> HostPlan:
        session = self._instance.directory
        directory = f"{session}/{self._name}"
        private_directory(directory)
        return HostPlan(
            name=self._name,
            config={
                "name": self._name,
                "directory": directory,
                "session_directory": session,
                "session": f"{os.path.basename(session)}-{self._name}",
                **self._instance.uplink(local=engine.is_local),
                "patience_sec": self._instance.patience_sec,
                "options": options.to_map(),
            },
        )

    def _event(self, name: str, args: Dict[str, Any]) -> None:
        if name == "exited":
            self._on_exit(args["proc"], args["code"])

    def _disconnected(self, error: Optional[Exception]) -> None:
        """Its connection broke: it has ended, as it does when told to stop, or it dials again."""
        if self._return is None or self._return.done():
            self._return = asyncio.ensure_future(self._await_return())

    async def _await_return(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert self._caller is not None
        assert self._handle is not None
        while not self._caller.up:
            since = loop.time() - began
            # On this machine it is known to live, though it may stand still for any time.
            too_long = since > RECONNECT_SEC and not self._is_local
            if too_long or not self._handle.is_running():
                self._caller.fail("the bootstrap is gone")
                self._gone.set()
                if not self._stopping:
                    self._on_lost()
                return
            await asyncio.sleep(_LOOK_SEC if since < _END_SEC else 10 * _LOOK_SEC)
