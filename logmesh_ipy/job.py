"""A command that runs once per rank: wait for it, interrupt it, stop it, ask for its codes.

:class:`Jobs` are those of a mesh that are not over, or not told yet: that a rank's process failed
is told by ``wait()``, or else by the next barrier.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any, Awaitable, Callable, Collection, Dict, List, Optional, Set

from .errors import CommandError
from .instance import Instance
from .loop import PythonTask
from .model import LogClientMessage, fold_ranks

__all__ = ["Job", "Jobs"]

_MAX_UNTOLD = 64
_STOP_GRACE_SEC = 2.0


class Job:
    """Made by ``ProcMesh.exec``. ``rank_of`` maps its sources' ids to ranks."""

    def __init__(
        self,
        instance: Instance,
        call: Callable[..., Awaitable[Any]],
        name: str,
        argv: List[str],
        rank_of: Dict[int, int],
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.rank_of = dict(rank_of)
        self.pids: Dict[int, int] = {}
        self._instance = instance
        self._call = call
        self._codes: Dict[int, int] = {}
        self._first_failure: Optional[int] = None
        self._untold: Set[int] = set()
        self._over = asyncio.Event()
        self._on_change: Callable[[], None] = lambda: None

    @property
    def codes(self) -> Dict[int, int]:
        """Exit codes by rank of those that have ended; minus the signal where one killed it."""
        return {self.rank_of[source]: code for source, code in sorted(self._codes.items())}

    @property
    def running(self) -> bool:
        """Whether any of its processes still runs."""
        return len(self._codes) < len(self.rank_of)

    @property
    def first_failure(self) -> Optional[int]:
        """The rank that ended first with a code other than 0."""
        return self._first_failure

    def wait(self, check: bool = False) -> PythonTask[Dict[int, int]]:
        """Wait for the end, and until all of its output is stored; the codes by rank.

        ``check``: raise CommandError where a code is not 0.
        """
        return self._instance.loop.submit(self._wait(check))

    def interrupt(self) -> PythonTask[List[int]]:
        """SIGINT to its processes and their groups."""
        return self._signal(signal.SIGINT)

    def stop(self) -> PythonTask[Dict[int, int]]:
        """SIGTERM, after two seconds SIGKILL, also to all that its processes have started.

        Returns when nothing of it is left: the codes by rank.
        """
        return self._instance.loop.submit(self._stop())

    def on_change(self, call: Callable[[], None]) -> None:
        """Have ``call()`` called on the client's loop when one of its processes has ended."""
        self._on_change = call

    def note_exit(self, source: int, code: int) -> None:
        """Called on the loop when a process has ended."""
        if source not in self.rank_of or source in self._codes:
            return
        self._codes[source] = code
        if code != 0:
            self._untold.add(source)
            if self._first_failure is None:
                self._first_failure = self.rank_of[source]
        if not self.running:
            self._over.set()
        self._on_change()

    def open_sources(self) -> List[int]:
        """Sources that run, or whose output has not wholly arrived."""
        return [source for source in self.rank_of if not self._has_ended(source)]

    def untold_sources(self) -> List[int]:
        """Those that are open, or of whose failure nobody has been told and a barrier can tell."""
        known = self._instance.actor.records.keys() & self._untold
        return [s for s in self.rank_of if s in known or not self._has_ended(s)]

    def told(self, sources: Optional[Collection[int]] = None) -> None:
        """Somebody knows now how these processes ended (all that have, by default)."""
        self._untold -= self._untold if sources is None else set(sources)

    def _has_ended(self, source: int) -> bool:
        record = self._instance.actor.records.get(source)
        return source in self._codes and (record is None or record.ended)

    def describe(self) -> str:
        """Its state in one line: ``job 1: 3 running, exit code 0: 0-3, 2: 4``."""
        by_code: Dict[int, List[int]] = {}
        for rank, code in self.codes.items():
            by_code.setdefault(code, []).append(rank)
        parts = [f"{_code_words(code)}: ranks {fold_ranks(r)}" for code, r in by_code.items()]
        running = len(self.rank_of) - len(self._codes)
        if running:
            parts.insert(0, f"{running} running")
        return f"{self.name}: " + ", ".join(parts)

    def __repr__(self) -> str:
        return f"<Job {self.describe()}>"

    async def _wait(self, check: bool) -> Dict[int, int]:
        await self._over.wait()
        sources = tuple(self.open_sources())
        if sources:
            await self._instance.actor.start_sync_flush(
                LogClientMessage.StartSyncFlush(expected_procs=sources, timeout_sec=5.0),
                tells=False,
            )
        self.told()
        if check and any(self._codes.values()):
            raise CommandError(self.describe(), self.codes)
        return self.codes

    async def _stop(self) -> Dict[int, int]:
        await self._call("end", procs=list(self.rank_of), grace_sec=_STOP_GRACE_SEC)
        return await self._wait(check=False)

    def _signal(self, number: int) -> PythonTask[List[int]]:
        async def send() -> List[int]:
            reached: List[int] = await self._call("signal", procs=list(self.rank_of), number=number)
            return reached

        return self._instance.loop.submit(send())


class Jobs:
    """The jobs of a mesh that a barrier has to do with. Used on the client's loop."""

    def __init__(self) -> None:
        self.open: Dict[str, Job] = {}
        self._count = 0

    def new_name(self) -> str:
        """Of the next job."""
        self._count += 1
        return f"job {self._count}"

    def sources(self) -> List[int]:
        """Ids of what a barrier asks for, and of what it only tells the end of; any thread."""
        return [source for job in list(self.open.values()) for source in job.untold_sources()]

    def note_exit(self, source: int, code: int) -> None:
        """A process has ended."""
        for job in self.open.values():
            job.note_exit(source, code)

    def told(self, sources: Collection[int]) -> None:
        """A barrier has told that these have ended. Jobs that are over are forgotten."""
        for job in self.open.values():
            job.told(sources)
        self.forget_ended()

    def forget_ended(self) -> None:
        """Let go of the jobs of which there is nothing to tell; of failures, the last are kept."""
        over = [job for job in self.open.values() if not job.running and not job.open_sources()]
        for job in over[:-_MAX_UNTOLD]:
            job.told()
        for job in over:
            if not job.untold_sources():
                del self.open[job.name]


def _code_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
