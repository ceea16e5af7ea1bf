"""ProcMesh: the procs of a mesh, code and commands on them; and how a mesh is started.

    await this_host().spawn_procs(4)  >  engine starts a bootstrap  >  it connects  >  spawn
    >  each proc's run channel connects and its forwarder attaches  >  ProcMesh

A proc that does not come up ends the start: what it said on stderr is in the error, and nothing
is left running.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union

from .config import MeshOptions, check_count, parse_ranks
from .engines.base import Engine, load_engine
from .errors import MeshError, MeshStateError, RemoteError, SpawnError, TransportError
from .handshake import Role
from .host import Host
from .instance import Instance, context
from .job import Job, Jobs
from .logs import Logs
from .loop import PythonTask
from .model import FlushReport, LogClientMessage, ProcInfo, fold_ranks
from .names import check_command
from .ranks import driver_environment, rank_environment
from .remote_code import pack_call
from .remote_proc import Proc

__all__ = ["HostMesh", "ProcMesh", "this_host"]

Ranks = Union[None, str, int, Sequence[int]]
_LAST_FRAMES_SEC = 0.5
_STOP_SEC = 4.0
_HOST_STOP_SEC = 1.2
"""At least, after a flush that took its time."""
Progress = Callable[[int, int], None]


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
        self._environ_at_start = dict(os.environ)
        self.procs: List[Proc] = []
        self._proc_of: Dict[int, Proc] = {}
        self._group = 0
        self._jobs = Jobs()
        self.stopped = False
        self._torn_down = False
        self.lost = ""
        self._host: Optional[Host] = None
        self._stopping: Optional[asyncio.Task[None]] = None
        self._losing: Optional[asyncio.Task[None]] = None
        self._run_count = 0
        self._stop_by = 0.0

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
        Raises OptionError for what no system could start, and SpawnError, per rank with errno's
        words, when it cannot be started.
        """
        self.check_open("exec")
        check_command(argv, environ, cwd)
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

    def flush(
        self, timeout_sec: Optional[float] = 30.0, *, tells: bool = True
    ) -> PythonTask[FlushReport]:
        """The barrier over all sources of this mesh.

        With ``tells`` False nobody will look at the report: the next one tells the same again.
        """
        self._check_here("flush")
        return self.instance.loop.submit(self._flush(timeout_sec, tells=tells))

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
    def jobs(self) -> Dict[str, Job]:
        """By name: those that run, and those of whose failure nobody was told yet."""
        return dict(self._jobs.open)

    @property
    def sources(self) -> Tuple[int, ...]:
        """Ids of all that a barrier tells of: the procs, and those of ``jobs``."""
        procs = () if self.commands_only else (proc.proc for proc in self.procs)
        return (*procs, *self._jobs.sources())

    @property
    def logs(self) -> Logs:
        """What the mesh and its jobs have printed, as data: filters, tables, files."""

        def sources() -> Optional[FrozenSet[int]]:
            return self.instance.actor.sources_of(self._group)

        return Logs(self.instance.store, sources, len(self.procs))

    @property
    def group(self) -> int:
        """By what the client's records tell whose a source is."""
        return self._group

    # --- start --------------------------------------------------------------------------------

    async def start(self, engine: Engine, on_progress: Progress) -> ProcMesh:
        """On the instance's loop: bring everything up, or leave nothing. Called once."""
        await self.instance.acquire()
        host = self._host = Host(self.instance, self._on_exit, self._on_lost)
        try:
            await asyncio.wait_for(
                self._bring_up(host, engine, on_progress), self.options.start_timeout_sec
            )
        except asyncio.TimeoutError:
            waiting = fold_ranks(proc.rank for proc in self.procs if not proc.ready)
            words = host.last_words()
            await self._tear_down()
            raise SpawnError(
                f"ranks {waiting or 'of the mesh'} did not come up within "
                f"{self.options.start_timeout_sec:g} s{': ' + words if words else ''}"
            ) from None
        except TransportError as error:
            words = host.last_words()
            await self._tear_down()
            raise SpawnError(f"the bootstrap ended: {words or error}") from None
        except BaseException:
            await self._tear_down()
            raise
        self.instance.meshes.append(self)
        return self

    async def _bring_up(self, host: Host, engine: Engine, on_progress: Progress) -> None:
        count = self.options.procs
        await host.start(engine, self.options.host)
        ids = self.instance.new_procs(count)
        self.procs = [Proc(proc, rank, host.said) for rank, proc in enumerate(ids)]
        self._group = ids[0]
        self._proc_of = {proc.proc: proc for proc in self.procs}
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
        pids = await host.spawn(specs, {proc.proc: proc.rank for proc in self.procs})
        for proc in self.procs:
            proc.pid = pids[proc.proc]
        for ready, proc in enumerate(self.procs):
            on_progress(ready, count)
            await self._until_ready(proc)
        on_progress(count, count)

    def _expect_proc(self, proc: Proc) -> None:
        info = ProcInfo(proc=proc.proc, rank=proc.rank, hostname=self.instance.hostname, pid=0)
        record = self.instance.actor.expect(info, group=self._group)
        record.level = self.options.level
        record.on_attach = proc.attached.set
        self.instance.when_connected(Role.RUN, str(proc.proc), proc.connected)

    async def _until_ready(self, proc: Proc) -> None:
        while not proc.ready:
            waits = [asyncio.ensure_future(event.wait()) for event in (proc.attached, proc.exited)]
            await asyncio.wait(waits, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self.lost:
                raise TransportError(self.lost)
            failed = {p.rank: await p.death() for p in self.procs if p.exit_code is not None}
            if failed:
                first = min(failed)
                others = f" (ranks {fold_ranks(failed)} died)" if len(failed) > 1 else ""
                raise SpawnError(f"rank {first} died at start, {failed[first]}{others}", failed)

    # --- running ------------------------------------------------------------------------------

    async def _run(
        self, kind: str, blob: bytes, procs: List[Proc], filename: str, want: str
    ) -> Dict[int, Any]:
        errors: Dict[int, RemoteError] = {}
        results: Dict[int, Any] = {}
        first: List[int] = []

        async def one(proc: Proc) -> None:
            outcome = await proc.run(kind, blob, filename, want)
            if isinstance(outcome, RemoteError):
                errors[proc.rank] = outcome
                first.append(proc.rank)
            else:
                results[proc.rank] = outcome[0]

        try:
            await asyncio.gather(*(one(proc) for proc in procs))
        except asyncio.CancelledError:
            if self._host is not None:
                self._host.signal([proc.proc for proc in procs], signal.SIGINT)
            raise
        if errors:
            interrupted = [rank for rank in first if errors[rank].kind == "KeyboardInterrupt"]
            candidates = [rank for rank in first if rank not in interrupted] or first
            raise MeshError(errors, results, candidates[0])
        return dict(sorted(results.items()))

    async def _exec(
        self,
        argv: List[str],
        procs: List[Proc],
        environ: Optional[Mapping[str, str]],
        cwd: Optional[str],
        cell: Optional[int],
    ) -> Job:
        self._jobs.forget_ended()
        name = self._jobs.new_name()
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
            record = self.instance.actor.expect(info, has_runtime=False, group=self._group)
            beside = self.instance.actor.records.get(proc.proc)
            record.stream_to_client = beside is None or beside.stream_to_client
        environs = rank_environment(len(self.procs))
        specs = [
            {"proc": source, "rank": proc.rank, "environ": environs[proc.rank]}
            for source, proc in zip(ids, procs, strict=True)
        ]
        self._jobs.open[name] = job
        try:
            cwd = cwd or os.getcwd()
            local = self.options.engine == "local"
            known = driver_environment(self._environ_at_start) if local else {}
            extra = {"PYTHONUNBUFFERED": "1", **known, **(environ or {})}
            job.pids = await self._open_host.spawn(specs, job.rank_of, argv, extra, cwd)
        except BaseException:
            del self._jobs.open[name]
            self.instance.actor.forget(ids)
            raise
        return job

    async def _flush(self, timeout_sec: Optional[float], *, tells: bool = True) -> FlushReport:
        sources = self.sources
        message = LogClientMessage.StartSyncFlush(expected_procs=sources, timeout_sec=timeout_sec)
        report = await self.instance.actor.start_sync_flush(message, group=self._group, tells=tells)
        await self.instance.saved()
        if tells:
            records = self.instance.actor.records
            known = [s for s in sources if s in records]
            self._jobs.told([s for s in known if records[s].info.name in report.exited])
        return report

    # --- the host -----------------------------------------------------------------------------

    @property
    def _open_host(self) -> Host:
        if self._host is None:
            raise MeshStateError("the mesh is not started")
        return self._host

    async def _call(self, method: str, **args: Any) -> Any:
        return await self._open_host.call(method, **args)

    def _on_exit(self, source: int, code: int) -> None:
        self.instance.actor.proc_exited(source, code)
        self._note_exit(source, code)

    def _note_exit(self, source: int, code: int) -> None:
        proc = self._proc_of.get(source)
        if proc is not None:
            proc.note_exit(code)
        self._jobs.note_exit(source, code)

    def _on_lost(self) -> None:
        self.lost = f"the bootstrap on {self.instance.hostname} is gone"
        self._losing = asyncio.ensure_future(self._lose())

    async def _lose(self) -> None:
        """End what the bootstrap left behind, take what is still under way, note the rest."""
        await self._open_host.clean_up()
        sources = self.sources
        await self._note_what_is_lost(self.lost)
        for source in sources:
            self._note_exit(source, -signal.SIGKILL)

    async def _note_what_is_lost(self, reason: str) -> None:
        """The bootstrap has ended: of streams whose end does not arrive now, the rest is a gap."""
        loop, actor, sources = asyncio.get_running_loop(), self.instance.actor, self.sources
        deadline = loop.time() + _LAST_FRAMES_SEC
        while loop.time() < deadline:
            records = [actor.records.get(source) for source in sources]
            if not any(record and record.attached and not record.ended for record in records):
                break
            await asyncio.sleep(0.005)
        actor.host_lost(sources, reason)

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
        self._stop_by = asyncio.get_running_loop().time() + _STOP_SEC
        if self._losing is not None:
            await self._losing
        else:
            await self._flush(timeout_sec)
        await self._tear_down(polite=not self.lost)

    async def _tear_down(self, polite: bool = False) -> None:
        self.stopped = True
        if polite:
            await asyncio.gather(*(proc.leave() for proc in self.procs))
        within_sec = self._stop_by - asyncio.get_running_loop().time()
        await self._open_host.stop(max(_HOST_STOP_SEC, within_sec))
        if self._losing is not None:
            await self._losing
        elif polite:
            await self._note_what_is_lost("the mesh was stopped before it had arrived")
        for proc in self.procs:
            self.instance.forget_peer(Role.RUN, str(proc.proc))
        self.instance.actor.forget(self.sources)
        for source in self.sources:
            self._note_exit(source, -signal.SIGTERM)
        self._torn_down = True
        if self in self.instance.meshes:
            self.instance.meshes.remove(self)
        await self.instance.release()
