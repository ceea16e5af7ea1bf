"""A mesh whose every part writes, and of which any part is killed at any time.

:class:`Chaos` keeps writers running in the procs of one mesh (on stdout), in commands beside them
and in children of commands (on both streams); commands that were killed are started again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from logmesh_ipy import ProcMesh
from logmesh_ipy.errors import LogMeshError
from logmesh_ipy.job import Job
from tests.faults.conftest import Trial
from tests.faults.nemesis import cut_sockets
from tests.support import wait_until

__all__ = ["Chaos", "children_of", "parent_of"]

ENDLESS = 1_000_000
_WRAPPED = ["sh", "-c", 'exec 3>&2 2>/dev/null; "$@" 2>&3 & wait $!', "sh"]
"""The shell says of its child that it was killed."""


def parent_of(pid: int) -> int:
    """The parent's pid."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def children_of(pid: int) -> List[int]:
    """Living children; none where the process is gone."""
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


class Chaos:
    """``strike()`` takes one part of ``mesh``, of a kind that ``dice`` choose.

    The mesh is used up (``over``) when its bootstrap was killed, or half of its procs.
    """

    def __init__(self, mesh: ProcMesh, trial: Trial, dice: random.Random, rate: float) -> None:
        self.mesh = mesh
        self.strokes: Counter[str] = Counter()
        self._trial = trial
        self._dice = dice
        self._rate = rate
        self._bootstrap = parent_of(mesh.procs[0].pid)
        self._jobs: Dict[Tuple[int, bool], Job] = {}
        trial.write_in_procs(mesh, lines=ENDLESS, rate=rate)
        self._start_writers(None, wrapped=False)
        self._start_writers(None, wrapped=True)

    @property
    def over(self) -> bool:
        """Whether a new mesh is needed."""
        alive = sum(proc.exit_code is None for proc in self.mesh.procs)
        return bool(self.mesh.lost) or alive * 2 <= len(self.mesh)

    def strike(self) -> str:
        """Take one part, and start again what that has ended; tells which kind."""
        kinds = {
            "proc": (self._kill_proc, 3), "command": (self._kill_command, 3),
            "child": (self._kill_child, 3), "fork server": (self._kill_fork_server, 1),
            "connection": (self._cut, 4), "bootstrap": (self._kill_bootstrap, 1),
        }  # fmt: skip
        kind = self._dice.choices(list(kinds), [weight for _, weight in kinds.values()])[0]
        strike: Callable[[], bool] = kinds[kind][0]
        if strike():
            self.strokes[kind] += 1
        return kind

    def _kill_proc(self) -> bool:
        proc = self._dice.choice([p for p in self.mesh.procs if p.exit_code is None])
        os.kill(proc.pid, signal.SIGKILL)
        wait_until(proc.exited.is_set, 20, f"the end of rank {proc.rank} is known")
        return True

    def _kill_command(self) -> bool:
        return self._kill_one(wrapped=False)

    def _kill_child(self) -> bool:
        return self._kill_one(wrapped=True)

    def _kill_one(self, *, wrapped: bool) -> bool:
        rank = self._dice.randrange(len(self.mesh))
        job = self._jobs[rank, wrapped]
        pid = next(job.pids[s] for s, its_rank in job.rank_of.items() if its_rank == rank)
        if wrapped:
            wait_until(lambda: rank in job.codes or children_of(pid), 20, f"a child of {pid}")
        for victim in children_of(pid) if wrapped else [pid]:
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: rank in job.codes or self.mesh.lost, 20, f"the end of {pid} is known")
        self._start_writers(rank, wrapped=wrapped)
        return True

    def _kill_fork_server(self) -> bool:
        known = {proc.pid for proc in self.mesh.procs}
        known |= {pid for job in self._jobs.values() for pid in job.pids.values()}
        servers = [pid for pid in children_of(self._bootstrap) if pid not in known]
        for pid in servers:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"logmesh_ipy.proc" in command:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _kill_bootstrap(self) -> bool:
        os.kill(self._bootstrap, signal.SIGKILL)
        wait_until(lambda: self.mesh.lost, 20, "the bootstrap's end is known")
        return True

    def _cut(self) -> bool:
        """The connections of a proc to the client, or all of the bootstrap's own."""
        alive = [proc.pid for proc in self.mesh.procs if proc.exit_code is None]
        path = self.mesh.instance.address.partition(":")[2]
        return cut_sockets(self._dice.choice([*alive, self._bootstrap]), path) > 0

    def _start_writers(self, rank: Optional[int], *, wrapped: bool) -> None:
        first = self._trial.new_sources(len(self.mesh))
        argv = self._trial.command(
            lines=ENDLESS, rate=self._rate, source=f"{first}+RANK", streams="12"
        )
        argv = [*_WRAPPED, *argv] if wrapped else argv
        ranks = None if rank is None else str(rank)
        try:
            job = self.mesh.exec(argv, ranks=ranks).get(30)
        except LogMeshError:
            if not self.mesh.lost:
                raise
            return
        for proc, its_rank in job.rank_of.items():
            self._trial.oracle.of[first + its_rank] = proc
            self._jobs[its_rank, wrapped] = job
