"""Meshes under faults: the fixtures of the integration tests, and a judge for each test.

The default round is short. ``tests/run --faults`` sets ``LOGMESH_TEST_FAULTS=1``: then all that a
test promises is done, as often and as long as it says.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import sys
import tempfile
from typing import Callable, Iterator, List, Optional, TypeVar

import pytest

from logmesh_ipy import ProcMesh
from logmesh_ipy.job import Job
from logmesh_ipy.store import Row
from tests.faults.oracle import Ledger, Oracle
from tests.faults.writer import ROOT, LineSource, Tally, write_lines
from tests.integration.conftest import nothing_is_left, seed, start
from tests.support import wait_until

__all__ = ["WHOLE", "Trial", "nothing_is_left", "rounds", "seed", "start", "trial"]

N = TypeVar("N", int, float)
WHOLE = os.environ.get("LOGMESH_TEST_FAULTS") == "1"
"""Whether this is the whole round."""


def rounds(short: N, whole: N) -> N:
    """How often or how long: ``short`` by default."""
    return whole if WHOLE else short


class Trial:
    """Writers whose lines are judged. ``number`` seeds what they write."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.path = os.path.join(tempfile.gettempdir(), "tally")
        self.tally = Tally(self.path)
        self.oracle = Oracle(self.tally, number)
        self._sources = itertools.count()

    def command(
        self, *, lines: int, rate: float = 0.0, source: str = "FIRST", streams: str = "1"
    ) -> List[str]:
        """A command that writes; ``source`` is its number."""
        writer = os.path.join(ROOT, "tests", "faults", "writer.py")
        return [
            sys.executable, writer, self.path, str(self.number), source,
            "--streams", streams, "--lines", str(lines), "--rate", str(rate),
        ]  # fmt: skip

    def exec(
        self,
        mesh: ProcMesh,
        *,
        lines: int,
        rate: float = 0.0,
        ranks: Optional[str] = None,
        streams: str = "1",
    ) -> Job:
        """Start a writer beside each proc; its source is judged from now on.

        ``self.sources(job)`` tells their numbers by rank.
        """
        first = self.new_sources(len(mesh))
        argv = self.command(lines=lines, rate=rate, source=f"{first}+RANK", streams=streams)
        job = mesh.exec(argv, ranks=ranks).get(30)
        for proc, rank in job.rank_of.items():
            self.oracle.of[first + rank] = proc
        return job

    def sources(self, job: Job) -> List[int]:
        """The numbers of a job's writers, in order of ranks."""
        return [source for source, proc in self.oracle.of.items() if proc in job.rank_of]

    def new_sources(self, count: int) -> int:
        """So many numbers of writers, from what is given on."""
        first = next(self._sources)
        for _ in range(count - 1):
            next(self._sources)
        return first

    def write_in_procs(
        self, mesh: ProcMesh, *, lines: int, rate: float = 0.0, streams: str = "1"
    ) -> List[int]:
        """A thread in each proc writes; gives the sources' numbers by rank, at once."""
        first = self.new_sources(len(mesh))
        for proc in mesh.procs:
            self.oracle.of[first + proc.rank] = proc.proc
        begin = functools.partial(_write_in_thread, lines=lines, rate=rate)
        mesh.run(begin, self.path, self.number, first, streams).get(30)
        return [first + rank for rank in range(len(mesh))]

    def has_written(self, source: int, stream: int = 1) -> int:
        """Bytes of a writer of which the writing has returned."""
        return self.tally.written(source, stream).done

    def wait_for_lines(self, sources: List[int], lines: int, stream: int = 1) -> None:
        """Until these writers have written so many lines."""
        made = {source: LineSource(self.number, source, stream) for source in sources}
        sizes = {
            source: sum(len(lines_of.line(number)) for number in range(lines))
            for source, lines_of in made.items()
        }
        wait_until(
            lambda: all(self.has_written(s, stream) >= size for s, size in sizes.items()),
            60,
            f"{lines} lines of sources {sources}",
        )

    def judge(self, mesh: ProcMesh, known: Callable[[Row], bool] = lambda row: False) -> Ledger:
        """The ledger, printed and found clean; ``known`` rows are not the writers'."""
        ledger = self.oracle.judge(mesh.instance, known)
        sys.stdout.write(f"ledger: {ledger}\n")
        assert ledger.clean, str(ledger)
        return ledger


def _write_in_thread(
    path: str, number: int, first: int, streams: str, *, lines: int, rate: float
) -> None:
    import threading

    source = first + int(os.environ["RANK"])
    for stream in streams:
        threading.Thread(
            target=write_lines,
            args=(path, number, source, int(stream)),
            kwargs={"lines": lines, "rate": rate},
            name=f"writer {source}.{stream}",
            daemon=True,
        ).start()


@pytest.fixture
def trial(nothing_is_left: str, seed: random.Random) -> Iterator[Trial]:  # noqa: ARG001 (its place)
    """The writers of a test and their judge."""
    made = Trial(seed.randrange(1 << 30))
    yield made
    made.tally.close()
