"""ProcMesh: the procs of a mesh, code and commands on them; and how a mesh is started.

    await this_host().spawn_procs(4)  >  engine starts a bootstrap  >  it connects  >  spawn
    >  each proc's run channel connects and its forwarder attaches  >  ProcMesh

A proc that does not come up ends the start: what it said on stderr is in the error, and nothing
is left running.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .config import MeshOptions, check_count, parse_ranks
from .engines.base import HostHandle, HostPlan, load_engine
from .errors import (
    LogMeshError,
    MeshError,
    MeshStateError,
    RemoteError,
    SpawnError,
    TransportError,
)
from .handshake import Role
from .instance import Instance, context
from .job import Job
from .loop import PythonTask
from .model import FlushReport, LogClientMessage, ProcInfo, fold_ranks
from .ranks import rank_environment
from .remote_code import pack_call, unpack_result
from .rpc import Caller

__all__ = ["HostMesh", "Proc", "ProcMesh", "this_host"]

Ranks = Union[None, str, int, Sequence[int]]
_SPAWN_AT_ONCE = 64
_EXIT_REPLY_SEC = 0.2
_EXIT_SEC = 1.0
_LAST_REPLY_SEC = 0.5
_LAST_FRAMES_SEC = 0.5
Progress = Callable[[int, int], None]


class Proc:
    """One proc of a mesh, as the driver sees it."""

    def __init__(self, proc: int, rank: int) -> None:
        self.proc = proc
        self.rank = rank
        self.pid = 0
        self.exit_code: Optional[int] = None
        self.caller: Optional[Caller] = None
        self.exited = asyncio.Event()
        self.attached = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether code can be run on it and its lines are relayed."""
        return self.caller is not None and self.attached.is_set() and self.exit_code is None


class HostMesh:
    """The hosts that procs can be spawned on."""

    def __init__(self, options: MeshOptions) -> None:
        self._options = options

    def spawn_procs(
        self,
        procs: int,
        *,
        options: Optional[MeshOptions] = None,
        instance: Optional[Instance] = None,
        commands_only: bool = False,
        on_progress: Progress = lambda ready, total: None,
    ) -> PythonTask[ProcMesh]:
        """Start ``procs`` procs and wait until they are ready.

        ``commands_only``: the ranks have no Python procs, so ``exec`` works and ``run`` does not.
        Raises OptionError for a bad number and SpawnError when one does not come up.
        """
        chosen = (options or self._options).but(procs=check_count(procs))
        engine = load_engine(chosen.engine, chosen.hosts)
        home = instance or context(chosen).actor_instance
        mesh = ProcMesh(home, chosen, commands_only=commands_only)
        return home.loop.submit(mesh.start(engine, on_progress))


def this_host() -> HostMesh:
    """The machine that this process runs on."""
    return HostMesh(MeshOptions())


class ProcMesh:
    """The procs of one mesh. Made by ``spawn_procs``; all methods are for any thread."""

    def __init__(
        self, instance: Instance, options: MeshOptions, *, commands_only: bool = False
    ) -> None:
        self.instance = instance
        self.options = options
        self.commands_only = commands_only
        self.procs: List[Proc] = []
        self.jobs: Dict[str, Job] = {}
        self.stopped = False
        self._torn_down = False
        self.lost = ""
        self._host: Optional[HostHandle] = None
        self._control: Optional[Caller] = None
        self._gone: Optional[asyncio.Event] = None
        self._exits: Dict[int, Proc] = {}
        self._stopping: Optional[asyncio.Task[None]] = None
        self._losing: Optional[asyncio.Task[None]] = None
        self._job_count = 0
        self._run_count = 0

    def __len__(self) -> int:
        return len(self.procs)

    def __repr__(self) -> str:
        alive = sum(proc.exit_code is None for proc in self.procs)
        state = "stopped" if self.stopped else f"{alive}/{len(self.procs)} procs alive"
        return f"<ProcMesh on {self.instance.hostname}: {state}>"

    # --- public -------------------------------------------------------------------------------

    def run(
        self,
        source_or_callable: Union[str, Callable[..., Any]],
        *args: Any,
        ranks: Ranks = None,
        filename: str = "",
        **kwargs: Any,
    ) -> PythonTask[Dict[int, Any]]:
        """Run source, or call a function, on the procs; the results by rank.

        Source runs in the procs' lasting namespace; its result is the value of a last
        expression. Raises MeshError when a rank fails; the others' results are in it.
        """
        self.check_open("run")
        if self.commands_only:
            raise MeshStateError("run: this mesh has no Python procs, it runs commands only")
        chosen = self.select(ranks)
        if callable(source_or_callable):
            kind, blob = "call", pack_call(source_or_callable, args, kwargs)
        elif args or kwargs:
            raise TypeError("arguments go with a function; source takes none")
        else:
            kind, blob = "source", source_or_callable.encode()
        # A name of its own for each: tracebacks of functions defined earlier show their source.
        self._run_count += 1
        name = filename or f"<mesh run {self._run_count}>"
        return self.instance.loop.submit(self._run(kind, blob, chosen, name, "value"))

    def run_cell(self, source: str, *, ranks: Ranks, filename: str) -> PythonTask[Dict[int, str]]:
        """Like ``run`` for source, but results come back as text (``repr``; empty for None)."""
        self.check_open("run")
        chosen = self.select(ranks)
        return self.instance.loop.submit(
            self._run("source", source.encode(), chosen, filename, "repr")
        )

    def exec(
        self,
        argv: Sequence[str],
        *,
        ranks: Ranks = None,
        environ: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        cell: Optional[int] = None,
    ) -> PythonTask[Job]:
        """Start a command once per rank, beside the proc. The job can be waited for and stopped.

        Each process has the rank variables of its proc and a MASTER_PORT of the job's own.
        Raises SpawnError, per rank with errno's words, when it cannot be started.
        """
        self.check_open("exec")
        if isinstance(argv, str) or not argv:
            raise TypeError("argv must be a list: the command and its arguments")
        chosen = self.select(ranks)
        return self.instance.loop.submit(self._exec(list(argv), chosen, environ, cwd, cell))

    def interrupt(self, ranks: Ranks = None) -> PythonTask[List[int]]:
        """SIGINT to the procs: KeyboardInterrupt in the code they run, nothing where none runs."""
        self.check_open("interrupt")
        ids = [proc.proc for proc in self.select(ranks)]
        return self.instance.loop.submit(self._call("signal", procs=ids, number=signal.SIGINT))

    def peek(self, rank: int, target: int = 1, lines: int = 20) -> PythonTask[List[bytes]]:
        """The last lines of a proc's stream from the host, also while streaming is off."""
        self.check_open("peek")
        proc = self.select(rank)[0]
        return self.instance.loop.submit(
            self._call("peek", proc=proc.proc, target=target, lines=lines)
        )

    def host_status(self) -> PythonTask[Dict[str, Any]]:
        """What the bootstrap knows of each source (see its ``status``)."""
        self.check_open("status")
        return self.instance.loop.submit(self._call("status"))

    def flush(self, timeout_sec: Optional[float] = 30.0) -> PythonTask[FlushReport]:
        """The barrier over all sources of this mesh."""
        self._check_here("flush")
        return self.instance.loop.submit(self._flush(timeout_sec))

    def stop(self, timeout_sec: float = 2.0) -> PythonTask[None]:
        """Flush, then end all procs and the bootstrap; nothing of them is left. Idempotent."""
        if self._torn_down:
            done: concurrent.futures.Future[None] = concurrent.futures.Future()
            done.set_result(None)
            return PythonTask(done, self.instance.loop.loop)
        if not self.stopped:
            self._check_here("stop")
        return self.instance.loop.submit(self._stop_once(timeout_sec))

    def select(self, ranks: Ranks) -> List[Proc]:
        """Procs by ranks: None (all), ``"0-3,8"``, a rank, or several. Raises OptionError."""
        if isinstance(ranks, int):
            text: Optional[str] = str(ranks)
        elif ranks is None or isinstance(ranks, str):
            text = ranks
        else:
            text = ",".join(str(rank) for rank in ranks)
        return [self.procs[rank] for rank in parse_ranks(text, len(self.procs))]

    @property
    def sources(self) -> Tuple[int, ...]:
        """Ids of all that a barrier waits for: the procs, and the jobs that are not over."""
        jobs = [proc for job in self.jobs.values() for proc in job.open_sources()]
        procs = () if self.commands_only else (proc.proc for proc in self.procs)
        return (*procs, *jobs)

    # --- start --------------------------------------------------------------------------------

    async def start(self, engine: Any, on_progress: Progress) -> ProcMesh:
        await self.instance.acquire()
        try:
            await asyncio.wait_for(
                self._bring_up(engine, on_progress), self.options.start_timeout_sec
            )
        except asyncio.TimeoutError:
            waiting = fold_ranks(proc.rank for proc in self.procs if not proc.ready)
            words = "" if self._host is None else self._host.last_words()
            await self._tear_down()
            raise SpawnError(
                f"ranks {waiting or 'of the mesh'} did not come up within "
                f"{self.options.start_timeout_sec:g} s{': ' + words if words else ''}"
            ) from None
        except TransportError as error:
            words = "" if self._host is None else self._host.last_words()
            await self._tear_down()
            raise SpawnError(f"the bootstrap ended: {words or error}") from None
        except BaseException:
            await self._tear_down()
            raise
        return self

    async def _bring_up(self, engine: Any, on_progress: Progress) -> None:
        count = self.options.procs
        self._gone = asyncio.Event()
        name = self.instance.new_host_name()
        connected: asyncio.Future[Caller] = asyncio.get_running_loop().create_future()
        self.instance.when_connected(
            Role.BOOTSTRAP,
            name,
            lambda connection: self._bootstrap_connected(connection, connected),
        )
        self._host = await engine.start_host(self._plan(name))
        while not connected.done():
            await asyncio.wait([connected], timeout=0.05)
            if not connected.done() and not self._host.is_running():
                words = self._host.last_words()
                raise SpawnError(f"the bootstrap ended at once{': ' + words if words else ''}")
        self._control = connected.result()
        ids = self.instance.new_procs(count)
        self.procs = [Proc(proc, rank) for rank, proc in enumerate(ids)]
        if self.commands_only:
            return
        environs = rank_environment(count)
        for proc in self.procs:
            self._expect_proc(proc)
        specs = [
            {
                "proc": proc.proc, "rank": proc.rank, "environ": environs[proc.rank],
                "level": self.options.level,
            }
            for proc in self.procs
        ]  # fmt: skip
        pids = await self._spawn(specs, {proc.proc: proc.rank for proc in self.procs})
        for proc in self.procs:
            proc.pid = pids[proc.proc]
        for ready, proc in enumerate(self.procs):
            on_progress(ready, count)
            await self._until_ready(proc)
        on_progress(count, count)

    def _plan(self, name: str) -> HostPlan:
        directory = f"{self.instance.directory}/{name}"
        os.mkdir(directory, 0o700)
        return HostPlan(
            name=name,
            config={
                "name": name,
                "directory": directory,
                "session_directory": self.instance.directory,
                "session": f"{os.path.basename(self.instance.directory)}-{name}",
                "uplink": self.instance.address,
                "token": self.instance.token,
                "options": self.options.host.to_map(),
            },
        )

    def _expect_proc(self, proc: Proc) -> None:
        info = ProcInfo(proc=proc.proc, rank=proc.rank, hostname=self.instance.hostname, pid=0)
        record = self.instance.actor.expect(info)
        record.level = self.options.level
        record.on_attach = proc.attached.set
        self._exits[proc.proc] = proc

        def connected(connection: Any) -> Caller:
            proc.caller = Caller(connection, lambda name, args: None, lambda error: None)
            return proc.caller

        self.instance.when_connected(Role.RUN, str(proc.proc), connected)

    async def _until_ready(self, proc: Proc) -> None:
        while not proc.ready:
            waits = [asyncio.ensure_future(event.wait()) for event in (proc.attached, proc.exited)]
            await asyncio.wait(waits, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            failed = {p.rank: p for p in self.procs if p.exit_code is not None}
            if failed:
                raise await self._died_at_start(failed)

    async def _died_at_start(self, failed: Dict[int, Proc]) -> SpawnError:
        failures: Dict[int, str] = {}
        for rank, proc in failed.items():
            words = await self._last_words(proc.proc)
            failures[rank] = f"{_ended(proc.exit_code)}{': ' + words if words else ''}"
        first = min(failures)
        return SpawnError(
            f"rank {first} died at start, {failures[first]}"
            + (f" (ranks {fold_ranks(failures)} died)" if len(failures) > 1 else ""),
            failures,
        )

    async def _last_words(self, proc: int) -> str:
        try:
            lines = await self._call("peek", proc=proc, target=2, lines=20)
        except LogMeshError:
            return ""
        return b"\n".join(lines).decode(errors="backslashreplace")

    async def _spawn(
        self,
        specs: List[Dict[str, Any]],
        rank_of: Dict[int, int],
        argv: Optional[List[str]] = None,
        environ: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
    ) -> Dict[int, int]:
        started: Dict[int, int] = {}
        failures: Dict[int, str] = {}
        for first in range(0, len(specs), _SPAWN_AT_ONCE):
            answer = await self._call(
                "spawn",
                procs=specs[first : first + _SPAWN_AT_ONCE],
                argv=argv,
                environ=dict(environ or {}),
                cwd=cwd,
            )
            started.update((int(proc), pid) for proc, pid in answer["started"].items())
            failures.update((rank_of[int(proc)], why) for proc, why in answer["failed"].items())
        if failures:
            await self._call("signal", procs=list(started), number=signal.SIGKILL)
            words = failures[min(failures)]
            raise SpawnError(f"cannot start on ranks {fold_ranks(failures)}: {words}", failures)
        return started

    # --- running ------------------------------------------------------------------------------

    async def _run(
        self, kind: str, blob: bytes, procs: List[Proc], filename: str, want: str
    ) -> Dict[int, Any]:
        errors: Dict[int, RemoteError] = {}
        results: Dict[int, Any] = {}
        first: List[int] = []

        async def one(proc: Proc) -> None:
            outcome = await self._run_on(proc, kind, blob, filename, want)
            if isinstance(outcome, RemoteError):
                errors[proc.rank] = outcome
                first.append(proc.rank)
            else:
                results[proc.rank] = outcome[0]

        try:
            await asyncio.gather(*(one(proc) for proc in procs))
        except asyncio.CancelledError:
            ids = [proc.proc for proc in procs if proc.exit_code is None]
            if self._control is not None:
                self._control.call("signal", procs=ids, number=signal.SIGINT)
            raise
        if errors:
            interrupted = [rank for rank in first if errors[rank].kind == "KeyboardInterrupt"]
            candidates = [rank for rank in first if rank not in interrupted] or first
            raise MeshError(errors, results, candidates[0])
        return dict(sorted(results.items()))

    async def _run_on(
        self, proc: Proc, kind: str, blob: bytes, filename: str, want: str
    ) -> Union[RemoteError, Tuple[Any]]:
        if proc.caller is None or proc.exit_code is not None:
            return await self._exit_error(proc)
        call = proc.caller.call("run", kind=kind, blob=blob, filename=filename, want=want)
        try:
            answer = await self._reply(proc, call)
        except (TransportError, asyncio.TimeoutError):
            return await self._exit_error(proc)
        if not answer["ok"]:
            text = answer["blob"].decode(errors="replace")
            return RemoteError(proc.rank, answer["kind"], answer["message"], text)
        if want == "repr":
            return (answer["blob"].decode(errors="replace"),)
        try:
            return (unpack_result(answer["blob"]),)
        except Exception as error:  # noqa: BLE001 (whatever the result's classes raise)
            words = f"the result cannot be read here: {type(error).__name__}: {error}"
            return RemoteError(proc.rank, "ResultError", words, "")

    async def _reply(self, proc: Proc, call: asyncio.Future[Any]) -> Any:
        """What the call brings. Raises TransportError or TimeoutError when the proc has ended.

        Its connection may outlive it: a process that it forked holds it open.
        """
        exited = asyncio.ensure_future(proc.exited.wait())
        try:
            await asyncio.wait([call, exited], return_when=asyncio.FIRST_COMPLETED)
            return await asyncio.wait_for(call, _LAST_REPLY_SEC if exited.done() else None)
        finally:
            exited.cancel()

    async def _exit_error(self, proc: Proc) -> RemoteError:
        try:
            await asyncio.wait_for(proc.exited.wait(), 2.0)
        except asyncio.TimeoutError:
            return RemoteError(proc.rank, "ProcLost", "its run channel is gone", "")
        words = await self._last_words(proc.proc)
        return RemoteError(proc.rank, "ProcExited", f"the proc {_ended(proc.exit_code)}", words)

    async def _exec(
        self,
        argv: List[str],
        procs: List[Proc],
        environ: Optional[Mapping[str, str]],
        cwd: Optional[str],
        cell: Optional[int],
    ) -> Job:
        self._job_count += 1
        name = f"job {self._job_count}"
        ids = self.instance.new_procs(len(procs))
        job = Job(
            self.instance,
            self._call,
            name,
            argv,
            dict(zip(ids, (p.rank for p in procs), strict=True)),
        )
        for source, proc in zip(ids, procs, strict=True):
            info = ProcInfo(
                proc=source, rank=proc.rank, hostname=self.instance.hostname, pid=0,
                job="" if self.commands_only else name,
                cell=cell,
            )  # fmt: skip
            record = self.instance.actor.expect(info, has_runtime=False)
            beside = self.instance.actor.records.get(proc.proc)
            record.stream_to_client = beside is None or beside.stream_to_client
        environs = rank_environment(len(self.procs))
        specs = [
            {"proc": source, "rank": proc.rank, "environ": environs[proc.rank]}
            for source, proc in zip(ids, procs, strict=True)
        ]
        self.jobs[name] = job
        try:
            cwd = cwd or os.getcwd()
            extra = {"PYTHONUNBUFFERED": "1", **(environ or {})}
            job.pids = await self._spawn(specs, job.rank_of, argv, extra, cwd)
        except BaseException:
            del self.jobs[name]
            self.instance.actor.forget(ids)
            raise
        return job

    async def _flush(self, timeout_sec: Optional[float]) -> FlushReport:
        message = LogClientMessage.StartSyncFlush(
            expected_procs=self.sources, timeout_sec=timeout_sec
        )
        return await self.instance.actor.start_sync_flush(message)

    # --- the bootstrap's connection -----------------------------------------------------------

    def _bootstrap_connected(self, connection: Any, connected: asyncio.Future[Caller]) -> Caller:
        caller = Caller(connection, self._on_event, self._on_lost)
        if not connected.done():
            connected.set_result(caller)
        return caller

    def _on_event(self, name: str, args: Dict[str, Any]) -> None:
        if name != "exited":
            return
        source, code = args["proc"], args["code"]
        self.instance.actor.proc_exited(source, code)
        self._note_exit(source, code)

    def _note_exit(self, source: int, code: int) -> None:
        proc = self._exits.get(source)
        if proc is not None and proc.exit_code is None:
            proc.exit_code = code
            proc.exited.set()
        for job in self.jobs.values():
            job.note_exit(source, code)

    def _on_lost(self, error: Optional[Exception]) -> None:
        """The control connection is gone: by our stop, or the bootstrap died."""
        if self._gone is not None:
            self._gone.set()
        if self.stopped:
            return
        self.lost = f"the bootstrap on {self.instance.hostname} is gone"
        self._losing = asyncio.ensure_future(self._lose())

    async def _lose(self) -> None:
        """End what the bootstrap left behind, take what is still under way, note the rest."""
        if self._host is not None:
            self._host.clean_up()
        actor, sources = self.instance.actor, self.sources
        deadline = asyncio.get_running_loop().time() + _LAST_FRAMES_SEC
        while any(actor.records[source].attached for source in sources):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.005)
        actor.host_lost(sources, self.lost)
        for source in sources:
            self._note_exit(source, -signal.SIGKILL)

    async def _call(self, method: str, **args: Any) -> Any:
        if self._control is None:
            raise MeshStateError("the mesh is not started")
        return await self._control.call(method, **args)

    def check_open(self, what: str) -> None:
        """Raises MeshStateError where ``what`` cannot be done: stopped, lost, or a forked child."""
        self._check_here(what)
        if self.lost:
            raise MeshStateError(f"{what}: {self.lost}; stop this mesh and start a new one")

    def _check_here(self, what: str) -> None:
        if self.stopped:
            raise MeshStateError(f"{what}: this mesh is stopped; start a new one")
        if self.instance.forked:
            raise MeshStateError(
                f"{what}: this process was forked from the one that drives the mesh; only that one "
                "can, or start a mesh of its own here"
            )

    # --- stop ---------------------------------------------------------------------------------

    async def _stop_once(self, timeout_sec: float) -> None:
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(timeout_sec))
        await asyncio.shield(self._stopping)

    async def _stop(self, timeout_sec: float) -> None:
        if self.stopped:
            return
        if self._losing is not None:
            await self._losing
        else:
            await self._flush(timeout_sec)
        await self._tear_down(polite=not self.lost)

    async def _tear_down(self, polite: bool = False) -> None:
        self.stopped = True
        if polite:
            await asyncio.gather(*(self._leave(proc) for proc in self.procs))
        if self._control is not None and self._gone is not None and not self._control.lost:
            # Where it does not answer or is gone already, clean_up kills what is left.
            with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
                await asyncio.wait_for(self._control.call("stop", grace_sec=0.3), 3.0)
                await asyncio.wait_for(self._gone.wait(), 1.0)
        if self._losing is not None:
            await self._losing
        if self._host is not None:
            for _ in range(100):
                if not self._host.is_running():
                    break
                await asyncio.sleep(0.005)
            self._host.clean_up()
        for proc in self.procs:
            self.instance.forget_peer(Role.RUN, str(proc.proc))
        if self.instance.started:
            self.instance.actor.forget(self.sources)
        for source in self.sources:
            self._note_exit(source, -signal.SIGTERM)
        self._torn_down = True
        await self.instance.release()

    async def _leave(self, proc: Proc) -> None:
        """Have an idle proc end by itself, so that its atexit functions run."""
        if proc.caller is None or not proc.ready:
            return
        with contextlib.suppress(LogMeshError, asyncio.TimeoutError):
            answer = await asyncio.wait_for(proc.caller.call("exit"), _EXIT_REPLY_SEC)
            if not answer["busy"]:
                await asyncio.wait_for(proc.exited.wait(), _EXIT_SEC)


def _ended(code: Optional[int]) -> str:
    if code is None:
        return "is gone"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
