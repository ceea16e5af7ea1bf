"""The program of a host: ``python -m logmesh_ipy.bootstrap``. Spawns procs, owns their pipes.

It reads its configuration (one ``Call`` frame, method ``configure``) from standard input, so
that no secret stands in its arguments, dials the client, and answers the client's calls:
``spawn``, ``signal``, ``stop``, ``peek``, ``status``. It tells ``exited`` for each proc that
ends. Its life hangs on that connection: when it goes, all procs are killed with everything
below them, and the session's directory is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import signal
import socket
import sys
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from . import procs
from .channel import Connection, dial, is_served
from .config import HostOptions
from .errors import LogMeshError
from .file_appender import check_directory
from .forkserver import ForkServer, ForkServerLostError
from .handshake import Role
from .managed_proc import ManagedProc
from .model import BOOTSTRAP_LOG_CHANNEL, STREAMS, OutputTarget
from .rpc import Responder, read_config
from .uplink import Uplink
from .wire import Call, encode

__all__ = ["BootstrapProcManager", "main"]

_STARTING_TICK_SEC = 0.005
_TICK_SEC = 0.1
_STARTING_SEC = 10.0
_TEE_BYTES = 4 << 20
_LAST_SEC = 0.5
_KEPT_COMMANDS = 256
_FORK_SERVER_SEC = 30.0
_FILES_OF_ALL = 64
_FILES_PER_PROC = 4
"""Its pipes, and a connection to its log channel for each."""
_FILES_PER_COMMAND = 10
"""Its pipes, and its forwarder, which is here: three connections with both ends, two sockets."""


class _Tee:
    """Writes to one of the bootstrap's own fds in a thread, so that a full one blocks nobody."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self.dropped_bytes = 0
        self._thread = threading.Thread(target=self._write, name=f"tee-{fd}", daemon=True)
        self._thread.start()

    @property
    def warning(self) -> Optional[str]:
        """How much could not be written, if any."""
        dropped = self.dropped_bytes
        return f"tee to fd {self._fd}: {dropped:,} bytes not written" if dropped else None

    def __call__(self, data: bytes) -> None:
        with self._lock:
            if self._waiting + len(data) > _TEE_BYTES:
                self.dropped_bytes += len(data)
                return
            self._waiting += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Write what waits, for a moment at most."""
        self._queue.put(None)
        self._thread.join(_LAST_SEC)

    def _write(self) -> None:
        while True:
            data = self._queue.get()
            if data is None:
                return
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError:
                pass
            with self._lock:
                self.dropped_bytes += len(view)
                self._waiting -= len(data)


class BootstrapProcManager:
    """All procs of one host. Lives on the main thread's loop of its process."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._directory: str = config["directory"]
        self._session_directory: str = config["session_directory"]
        self._uplink_address: str = config["uplink"]
        self._token: bytes = config["token"]
        self._session: str = config["session"]
        self._name: str = config["name"]
        self._options = HostOptions.from_map(config["options"])
        self._hostname = socket.gethostname()
        self._procs: Dict[int, ManagedProc] = {}
        self._by_pid: Dict[int, ManagedProc] = {}
        self._over: Deque[int] = deque()
        self._reaper = procs.Reaper(self._exited)
        self._stopping = asyncio.Event()
        self._orphan = False
        self._started_at = 0.0
        self._max_files = 0
        self._beats = 0.0
        self._responder: Optional[Responder] = None
        self._parent: Optional[int] = config.get("parent")
        self._fork_server: Optional[ForkServer] = None
        self._tees: Dict[OutputTarget, _Tee] = (
            {target: _Tee(int(target)) for target in STREAMS} if self._options.tee else {}
        )

    async def run(self) -> None:
        """Serve until the client goes or says stop; then leave nothing behind."""
        loop = asyncio.get_running_loop()
        procs.become_subreaper()
        self._max_files = procs.raise_file_limit()
        if self._options.files:
            check_directory(self._options.files)
        self._reaper.start()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._orphaned)
        ticker = loop.create_task(self._tick())
        watch = procs.watch_process(self._parent, self._orphaned) if self._parent else None
        try:
            await dial(self._uplink_address, self, self._token, Role.BOOTSTRAP, self._name)
            await self._stopping.wait()
        finally:
            ticker.cancel()
            self._reaper.stop()
            procs.kill_descendants(os.getpid())
            if watch is not None:
                watch()
            for managed in self._procs.values():
                managed.close()
            for tee in self._tees.values():
                tee.close()
            if self._fork_server is not None:
                self._fork_server.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            if self._orphan and await self._kernel_ended():
                shutil.rmtree(self._session_directory, ignore_errors=True)

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol of the control connection."""
        if self._responder is None:
            methods: Dict[str, Callable[..., Any]] = {
                "spawn": self.spawn, "signal": self.signal, "stop": self.stop,
                "peek": self.peek, "status": self.status,
            }  # fmt: skip
            self._responder = Responder(connection, methods)
        self._responder.receive(kind, body)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol: the kernel is gone."""
        self._orphaned()

    def _orphaned(self) -> None:
        """Nobody will tell this host to stop: end all, and remove what the kernel left too."""
        if not self._stopping.is_set():
            self._orphan = True
        self._stopping.set()

    async def _kernel_ended(self) -> bool:
        """Whether the kernel is gone. Its connections end a little earlier than itself.

        Where it lives, other hosts of it may use the session's directory still.
        """
        if self._parent is None:
            return not is_served(self._uplink_address)
        for _ in range(int(_LAST_SEC / _STARTING_TICK_SEC)):
            if not procs.is_running(self._parent):
                return True
            await asyncio.sleep(_STARTING_TICK_SEC)
        return False

    # --- what the client asks -----------------------------------------------------------------

    async def spawn(
        self,
        procs: List[Dict[str, Any]],
        environ: Dict[str, str],
        cwd: Optional[str],
        argv: Optional[List[str]] = None,
    ) -> Dict[str, Any]:
        """Start processes; per proc its pid, or why it could not be started.

        Without ``argv`` they are procs of the mesh.
        """
        refusal = self._refusal(len(procs), commands=argv is not None)
        if refusal:
            return {"started": {}, "failed": {str(spec["proc"]): refusal for spec in procs}}
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        # What else is set may be what an interpreter looks at when it starts.
        plain = argv is None and not environ and cwd is None
        forks = plain and self._options.fork_procs and await self._can_fork()
        self._started_at = loop.time()
        started: Dict[str, int] = {}
        failed: Dict[str, str] = {}
        for spec in procs:
            try:
                managed = await self._spawn(spec, environ, cwd, argv, forks=forks)
            except (OSError, ValueError) as error:
                failed[str(spec["proc"])] = _words(error, argv, cwd)
            else:
                started[str(spec["proc"])] = managed.pid
        return {"started": started, "failed": failed}

    def _refusal(self, count: int, *, commands: bool) -> str:
        """Why ``count`` more processes cannot be served, if so: half of them would be worse."""
        files = _FILES_OF_ALL + count * (_FILES_PER_COMMAND if commands else _FILES_PER_PROC)
        for managed in self._procs.values():
            if not managed.closed:
                files += _FILES_PER_COMMAND if managed.is_command else _FILES_PER_PROC
        if files <= self._max_files:
            return ""
        return (
            f"too many open files: the host needs {files:,} for its processes and may have "
            f"{self._max_files:,} (see `ulimit -Hn`)"
        )

    async def _spawn(
        self,
        spec: Dict[str, Any],
        environ: Dict[str, str],
        cwd: Optional[str],
        argv: Optional[List[str]],
        *,
        forks: bool,
    ) -> ManagedProc:
        proc = spec["proc"]
        child_environ = {**os.environ, **environ, **spec["environ"]}
        child_environ[procs.SESSION_VARIABLE] = self._session
        address: Optional[str] = None
        if argv is None:
            address = self._address(f"p{proc}")
            child_environ[BOOTSTRAP_LOG_CHANNEL] = address
            config = {
                "proc": proc, "rank": spec["rank"], "uplink": self._uplink_address,
                "token": self._token, "level": spec.get("level"),
            }  # fmt: skip
            spawned = await self._start_proc(config, child_environ, cwd, forks=forks)
        else:
            child_environ.pop(BOOTSTRAP_LOG_CHANNEL, None)
            spawned = procs.spawn(argv, child_environ, cwd)
        managed = ManagedProc(
            spawned,
            proc=proc,
            rank=spec["rank"],
            address=address,
            adopted_address=lambda generation: self._address(f"p{proc}-{generation}"),
            hostname=self._hostname,
            options=self._options,
            spool_directory=self._directory,
            make_uplink=self._make_uplink,
            tees=self._tees,
            on_finished=self._finished,
        )
        self._procs[proc] = managed
        self._by_pid[managed.pid] = managed
        managed.start()
        return managed

    async def _can_fork(self) -> bool:
        """Whether there is a server that procs can be forked from; the first call starts it."""
        if self._fork_server is None:
            try:
                self._fork_server = ForkServer(os.environ)
            except OSError:
                return False
        return await self._fork_server.ready()

    async def _start_proc(
        self, config: Dict[str, Any], environ: Dict[str, str], cwd: Optional[str], *, forks: bool
    ) -> procs.Spawned:
        """A proc of the mesh: forked, or a program of its own."""
        if forks and self._fork_server is not None:
            own = {n: v for n, v in environ.items() if os.environ.get(n) != v}
            with contextlib.suppress(ForkServerLostError):
                return await self._fork_server.spawn(config, own)
        argv = [sys.executable, "-m", "logmesh_ipy.proc"]
        return procs.spawn(argv, environ, cwd, encode(Call(n=0, method="configure", args=config)))

    def signal(self, procs: List[int], number: int, group: bool = True) -> List[int]:
        """Send a signal to procs (with their process groups); gives who was reached."""
        reached = []
        for proc in procs:
            managed = self._procs.get(proc)
            if managed is None or not managed.alive:
                continue
            try:
                if group:
                    os.killpg(managed.pid, number)
                else:
                    os.kill(managed.pid, number)
            except ProcessLookupError:
                continue
            reached.append(proc)
        return reached

    async def stop(self, grace_sec: float) -> Dict[str, int]:
        """SIGTERM, after the grace SIGKILL to whoever is left, then end this program."""
        alive = [managed for managed in self._procs.values() if managed.alive]
        if alive:
            deadline = asyncio.get_running_loop().time() + grace_sec
            self.signal([managed.proc for managed in alive], signal.SIGTERM)
            while any(managed.alive for managed in alive):
                if asyncio.get_running_loop().time() >= deadline:
                    break
                await asyncio.sleep(0.01)
        killed = procs.kill_descendants(os.getpid())
        await self._last_words()
        asyncio.get_running_loop().call_later(0.02, self._stopping.set)
        return {"killed": killed}

    async def _last_words(self) -> None:
        """Wait until the client has all that was written up to the end; a moment at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LAST_SEC
        while loop.time() < deadline:
            for managed in tuple(self._procs.values()):
                managed.tick(loop.time())
            if all(managed.closed for managed in self._procs.values()):
                return
            await asyncio.sleep(_STARTING_TICK_SEC)

    def peek(self, proc: int, target: int, lines: int) -> List[bytes]:
        """The last lines of a stream, oldest first; also in silent mode."""
        managed = self._procs.get(proc)
        if managed is None:
            raise ValueError(f"there is no proc {proc}")
        fwder = managed.fwders[OutputTarget(target)]
        fwder.read_available()
        return fwder.recent.peek(lines)

    def status(self) -> Dict[str, Any]:
        """Per proc: exit code, forwarder, and per stream what was written and what waits."""
        return {
            str(proc): {
                "pid": managed.pid,
                "exit_code": managed.exit_code,
                "adopted": managed.is_adopted,
                "generation": managed.generation,
                "streams": {
                    target.label: {
                        "lines": sender.queue.written_lines,
                        "bytes": sender.queue.written_bytes,
                        "dropped_lines": sender.queue.dropped_lines,
                        "unacked_bytes": sender.queue.unacked()[1],
                        "spilled_bytes": sender.queue.unacked()[1] - sender.queue.memory_bytes,
                    }
                    for target, sender in managed.senders.items()
                },
                "files": {t.label: file.path for t, file in managed.files.items()},
                "warnings": self._warnings(managed),
            }
            for proc, managed in self._procs.items()
        }

    def _warnings(self, managed: ManagedProc) -> List[str]:
        found = [file.warning for file in managed.files.values()]
        found += [tee.warning for tee in self._tees.values()]
        return [warning for warning in found if warning]

    # --- inside -------------------------------------------------------------------------------

    def _address(self, name: str) -> str:
        return f"unix:{self._directory}/{name}.sock"

    def _make_uplink(self, name: str, **callbacks: Any) -> Uplink:
        return Uplink(self._uplink_address, self._token, Role.FORWARDER, name, **callbacks)

    def _exited(self, pid: int, code: int) -> None:
        managed = self._by_pid.pop(pid, None)
        if managed is None:
            return
        managed.exited(code)
        if self._responder is not None:
            self._responder.event("exited", proc=managed.proc, code=code)

    def _finished(self, managed: ManagedProc) -> None:
        managed.close()
        if managed.is_command:
            self._over.append(managed.proc)
            if len(self._over) > _KEPT_COMMANDS:
                del self._procs[self._over.popleft()]

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            beat = now - self._beats >= 1.0
            if beat:
                self._beats = now
            starting = False
            for managed in tuple(self._procs.values()):
                managed.tick(now)
                if beat:
                    managed.beat()
                starting = starting or (managed.generation == 0 and managed.alive)
            server = self._fork_server
            idle = now - self._started_at > _FORK_SERVER_SEC
            if server is not None and idle and not server.busy:
                server.close()  # Meshes start their procs once.
                self._fork_server = None
            soon = starting and now - self._started_at < _STARTING_SEC
            await asyncio.sleep(_STARTING_TICK_SEC if soon else _TICK_SEC)


def _words(error: Exception, argv: Optional[List[str]], cwd: Optional[str]) -> str:
    if isinstance(error, OSError) and error.strerror:
        # Popen names the directory where that is what is missing.
        what = error.filename or (argv or [sys.executable])[0]
        where = " (the working directory)" if cwd is not None and what == cwd else ""
        return f"{what}{where}: {error.strerror}"
    return str(error)


def main() -> None:
    """Entry point of the program."""
    # A handler, not SIG_IGN, which the procs would inherit: no job could be interrupted then.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    config = read_config(0)
    try:
        asyncio.run(BootstrapProcManager(config).run())
    except LogMeshError as error:
        sys.exit(f"logmesh_ipy: {error}")


if __name__ == "__main__":
    main()
