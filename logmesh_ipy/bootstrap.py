"""The program of a host: ``python -m logmesh_ipy.bootstrap``. Spawns procs, owns their pipes.

It reads its configuration (one ``Call`` frame, method ``configure``) from standard input, so
that no secret stands in its arguments, dials the client, and answers the client's calls:
``spawn``, ``signal``, ``end``, ``stop``, ``peek``, ``status``. It tells ``exited`` for each proc
that ends. Its life hangs on the client's: when that process ends, or cannot be reached for longer
than ``RECONNECT_SEC``, all procs are killed with everything below them, and the session's
directory is removed. A connection that only breaks is made again, and nothing of it is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections import deque
from typing import Any, Deque, Dict, List, Optional

from . import procs
from .config import HostOptions
from .errors import HandshakeError, LogMeshError
from .file_appender import check_directory
from .forkserver import ForkServer, ForkServerLostError
from .handshake import Role, Token
from .managed_proc import ManagedProc
from .model import BOOTSTRAP_LOG_CHANNEL, STREAMS, OutputTarget
from .procs import signal_process, terminate
from .redaction import Rules
from .redaction_rules import rules_for
from .rpc import RECONNECT_SEC, Responder, read_config
from .runtime_directory import discard, hold
from .sockets import is_served
from .tee import Tee
from .uplink import Uplink
from .wire import Call, encode

__all__ = ["BootstrapProcManager", "main"]

_STARTING_TICK_SEC = 0.005
_TICK_SEC = 0.1
_STARTING_SEC = 10.0
_LAST_SEC = 0.5
_KEPT_COMMANDS = 256
_FORK_SERVER_SEC = 30.0
_FILES_OF_ALL = 64
_FILES_PER_PROC = 4
"""Its pipes, and a connection to its log channel for each."""
_FILES_PER_COMMAND = 10
"""Its pipes, and its forwarder, which is here: three connections with both ends, two sockets."""


class BootstrapProcManager:
    """All procs of one host. Lives on the main thread's loop of its process."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._directory: str = config["directory"]
        self._session_directory: str = config["session_directory"]
        self._uplink_address: str = config["uplink"]
        self._token = Token(config["token"])
        self._certificate: Optional[str] = config.get("certificate")
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
        self._patience_sec: Optional[float] = config["patience_sec"]
        self._refused: Optional[HandshakeError] = None
        self._alone_since: Optional[float] = None
        self._responder = Responder(
            {
                "spawn": self.spawn, "signal": self.signal, "end": self.end, "stop": self.stop,
                "peek": self.peek, "status": self.status,
            }
        )  # fmt: skip
        self._parent: Optional[int] = config.get("parent")
        self._fork_server: Optional[ForkServer] = None
        self._tees: Dict[OutputTarget, Tee] = (
            {target: Tee(int(target)) for target in STREAMS} if self._options.tee else {}
        )

    async def run(self) -> None:
        """Serve until the client goes or says stop; then leave nothing behind."""
        loop = asyncio.get_running_loop()
        procs.become_subreaper()
        hold(self._session_directory)  # until this process ends
        self._max_files = procs.raise_file_limit()
        if self._options.files:
            check_directory(self._options.files)
        self._reaper.start()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._orphaned)
        ticker = loop.create_task(self._tick())
        watch = procs.watch_process(self._parent, self._orphaned) if self._parent else None
        control = Uplink(
            self._uplink_address, self._token, Role.BOOTSTRAP, self._name,
            on_frame=self._responder.receive, on_up=lambda: self._connected(control),
            on_down=self._disconnected, certificate=self._certificate,
            patience_sec=self._patience_sec,
        )  # fmt: skip
        self._alone_since = loop.time()
        control.start()
        try:
            await self._stopping.wait()
            if self._refused is not None:
                raise self._refused
        finally:
            control.close()
            ticker.cancel()
            self._reaper.stop()
            procs.kill_descendants(os.getpid())
            if watch is not None:
                watch()
            for managed in self._procs.values():
                with managed.guarded():
                    managed.read_to_end()
                with managed.guarded():
                    managed.close()
            for tee in self._tees.values():
                with contextlib.suppress(OSError):
                    tee.close()
            if self._fork_server is not None:
                self._fork_server.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            if self._orphan and await self._kernel_ended():
                discard(self._session_directory)

    def _connected(self, control: Uplink) -> None:
        self._alone_since = None
        self._responder.connected(control)

    def _disconnected(self, error: Optional[Exception]) -> None:
        """The control connection broke: the kernel has ended, or is dialled again for a while."""
        self._responder.disconnected()
        self._alone_since = asyncio.get_running_loop().time()
        if isinstance(error, HandshakeError):
            self._refused = error
            self._orphaned()

    def _is_alone(self, now: float) -> bool:
        """Whether the kernel has ended, or may have: it was not reached for so long.

        On this machine its end is seen; it may stand still for any time and come back.
        """
        if self._alone_since is None:
            return False
        if self._parent is not None:
            return not procs.is_running(self._parent)
        return now - self._alone_since > RECONNECT_SEC

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
                words = _words(error, argv, cwd)
                failed[str(spec["proc"])] = self._rules({**os.environ, **environ}).redact_text(
                    words
                )
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
                "token": self._token, "certificate": self._certificate,
                "level": spec.get("level"),
                "patience_sec": self._patience_sec,
                "redact": self._options.redact,
                "redact_environment": self._options.redact_environment,
            }  # fmt: skip
            spawned = await self._start_proc(config, child_environ, cwd, forks=forks)
        else:
            child_environ.pop(BOOTSTRAP_LOG_CHANNEL, None)
            child_environ[procs.COMMAND_VARIABLE] = self._mark(proc)
            spawned = procs.spawn(argv, child_environ, cwd)
        try:
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
                rules=self._rules(child_environ),
                on_finished=self._finished,
            )
        except BaseException:
            spawned.discard()
            raise
        self._procs[proc] = managed
        self._by_pid[managed.pid] = managed
        try:
            managed.start()
        except BaseException:
            managed.close()
            del self._procs[proc], self._by_pid[managed.pid]
            spawned.kill()
            raise
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
        """Send a signal to procs (with their process groups); gives who was reached.

        A command that has ended is reached in what it has started.
        """
        reached = []
        ended = []
        for proc in procs:
            managed = self._procs.get(proc)
            if managed is None:
                continue
            if not managed.alive:
                ended.append(proc)
                continue
            try:
                if group:
                    os.killpg(managed.pid, number)
                else:
                    os.kill(managed.pid, number)
            except (ProcessLookupError, PermissionError):
                continue  # Gone, or all of the group has become another user's.
            reached.append(proc)
        for proc, pids in self._families(ended).items():
            if sum(signal_process(pid, number) for pid in pids):
                reached.append(proc)
        return reached

    async def end(self, procs: List[int], grace_sec: float) -> int:
        """SIGTERM to commands and all that they have started; SIGKILL to what outlives the grace.

        Returns when nothing of them is left but what cannot be killed; gives how many had to be.
        """

        def left() -> List[int]:
            return [pid for pids in self._families(procs).values() for pid in pids]

        return await terminate(left, grace_sec)

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
                with managed.guarded():
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
        found = {str(proc): managed.status() for proc, managed in self._procs.items()}
        for tee in self._tees.values():
            for status in found.values():
                status["warnings"] += [tee.warning] if tee.warning else []
        return found

    # --- inside -------------------------------------------------------------------------------

    def _rules(self, environ: Dict[str, str]) -> Rules:
        """What to redact of a process that has this environment."""
        environs = [environ] if self._options.redact_environment else []
        return rules_for(self._options.redact, *environs)

    def _mark(self, proc: int) -> str:
        return f"{self._session}/{proc}"

    def _families(self, sources: List[int]) -> Dict[int, List[int]]:
        """The living processes of commands, by source; procs have none here."""
        commands = [
            managed
            for managed in (self._procs.get(source) for source in sources)
            if managed is not None and managed.is_command
        ]
        if not commands:
            return {}
        found = procs.families(
            [procs.Leader(one.pid, self._mark(one.proc), one.alive) for one in commands]
        )
        return {one.proc: found[self._mark(one.proc)] for one in commands}

    def _address(self, name: str) -> str:
        return f"unix:{self._directory}/{name}.sock"

    def _make_uplink(self, name: str, **callbacks: Any) -> Uplink:
        return Uplink(
            self._uplink_address, self._token, Role.FORWARDER, name,
            certificate=self._certificate, patience_sec=self._patience_sec, **callbacks,
        )  # fmt: skip

    def _exited(self, pid: int, code: int) -> None:
        managed = self._by_pid.pop(pid, None)
        if managed is None:
            return
        with managed.guarded():
            managed.exited(code)
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
            if self._is_alone(now):
                self._orphaned()
            beat = now - self._beats >= 1.0
            if beat:
                self._beats = now
            starting = False
            for managed in tuple(self._procs.values()):
                with managed.guarded():
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
        return f"{what}{where}: {procs.why_not_started(error)}"
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
