"""Many procs at once: all come up, print and are flushed, and none is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from logmesh_ipy import Job, ProcMesh, this_host
from logmesh_ipy.config import MeshOptions
from tests.support import wait_until

SLOW = pytest.mark.skipif(not os.environ.get("LOGMESH_TEST_SLOW"), reason="LOGMESH_TEST_SLOW=1")
COMMAND = """
trap 'tick=$((tick + 1)); echo "rank $RANK tick $tick"' INT
tick=0
echo "rank $RANK is up"
exec 3<>waits
while :; do read -r nothing <&3; done
"""
"""A small shell: prints a line at its start, and one for each SIGINT."""


def children_of(pid: int) -> List[int]:
    """Its processes, zombies too."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start_all(procs: int, jobs: int, directory: Path) -> Tuple[ProcMesh, List[Job]]:
    """``procs`` Python procs, and ``jobs`` shells beside each."""
    os.mkfifo(directory / "waits")
    options = MeshOptions(start_timeout_sec=120)
    mesh = this_host().spawn_procs(procs, options=options).get(130)
    try:
        started = [
            mesh.exec(["sh", "-c", COMMAND], cwd=str(directory)).get(60) for _ in range(jobs)
        ]
    except BaseException:
        mesh.stop().get(60)
        raise
    return mesh, started


def said(mesh: ProcMesh) -> Dict[str, Counter[bytes]]:
    """All lines by the job that printed them; an empty name for the procs."""
    found: Dict[str, Counter[bytes]] = {}
    for row in mesh.instance.store.lines():
        found.setdefault(row.info.job, Counter())[row.text] += 1
    return found


@pytest.mark.parametrize(
    ("procs", "jobs", "start_sec", "barrier_sec"),
    [
        (12, 4, 20, 5),
        pytest.param(100, 9, 60, 1, marks=[SLOW, pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
    ids=["60 procs", "1,000 procs"],
)
def test_all_procs_print_and_every_barrier_holds_their_lines(
    tmp_path: Path, procs: int, jobs: int, start_sec: float, barrier_sec: float
) -> None:
    began = time.monotonic()
    mesh, started = start_all(procs, jobs, tmp_path)
    count = procs * (1 + jobs)
    try:
        actor = mesh.instance.actor
        wait_until(lambda: all(record.attached for record in actor.records.values()), 60)
        assert time.monotonic() - began < start_sec
        bootstrap = int(Path(f"/proc/{mesh.procs[0].pid}/stat").read_text().split()[3])
        pids = {pid for job in started for pid in job.pids.values()}
        pids |= {proc.pid for proc in mesh.procs}
        assert len(pids) == count
        assert pids <= set(children_of(bootstrap))

        # The shells' first lines are written before they wait for a signal, but when?
        wait_until(lambda: mesh.instance.store.rows >= procs * jobs, 60)
        seconds: List[float] = []
        for tick in range(1, 4):
            asked = [job.interrupt() for job in started]
            mesh.run(f"print('rank', RANK, 'tick', {tick})" if tick > 1 else _FIRST).get(60)
            assert sum(len(task.get(60)) for task in asked) == procs * jobs
            lines = count * tick + procs * jobs
            # A shell may get its signal, and print, only after its barrier: look again.
            wait_until(lambda wanted=lines: _flushed(mesh, count, seconds) >= wanted, 60)
            assert mesh.instance.store.rows == lines
        assert min(seconds) < barrier_sec
        ticks = {
            f"rank {rank} tick {tick}".encode(): 1 for rank in range(procs) for tick in (1, 2, 3)
        }
        up = {f"rank {rank} is up".encode(): 1 for rank in range(procs)}
        assert said(mesh) == {"": Counter(ticks)} | {
            job.name: Counter(ticks | up) for job in started
        }
        totals = actor.totals()
        assert totals.stored_lines == totals.written_lines == count * 3 + procs * jobs
        assert not actor.gaps
    finally:
        mesh.stop().get(60)
        mesh.instance.close_loop()
        mesh.instance.store.close()
    left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not left


_FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
from logmesh_ipy import SpawnError, this_host
mesh = this_host().spawn_procs(8).get(20)
jobs = []
try:
    while len(jobs) < 100:
        jobs.append(mesh.exec(["sh", "-c", "echo up; exec sleep 60"]).get(20))
except SpawnError as error:
    print(len(jobs), error)
for _ in range(3):
    report = mesh.flush(20).get(30)
    assert report, report
print(len(report.acked), mesh.instance.store.rows)
mesh.stop().get(30)
"""


def test_what_the_limit_of_open_files_has_no_room_for_is_refused_and_the_rest_goes_on() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FEW_FILES], capture_output=True, text=True, timeout=60, check=True
    )
    refused, stands = ended.stdout.splitlines()
    assert refused == (
        "2 cannot start on ranks 0-7: too many open files: the host needs 336 for its processes "
        "and may have 300 (see `ulimit -Hn`)"
    )
    assert stands == "24 16"
    assert not ended.stderr


_FIRST = "import os\nRANK = os.environ['RANK']\nprint('rank', RANK, 'tick', 1)"


def _flushed(mesh: ProcMesh, count: int, seconds: List[float]) -> int:
    """A true barrier over all ``count`` sources; how many lines are in the store after it."""
    report = mesh.flush(30).get(60)
    assert report
    assert len(report.acked) == count
    seconds.append(report.seconds)
    return mesh.instance.store.rows
