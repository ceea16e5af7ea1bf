"""``kill -9`` and crashes of procs, commands and bootstraps, at random points and in the whole mix.

What had been written is stored, what can no longer come is told, and the mesh goes on.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
import zlib
from collections import Counter
from typing import Callable, Dict, List, Tuple

import pytest

from logmesh_ipy import MeshError, ProcMesh
from logmesh_ipy.errors import MeshStateError
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.model import STREAMS, OutputTarget
from logmesh_ipy.store import Row
from tests.faults.chaos import ENDLESS, Chaos, parent_of
from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import freeze
from tests.faults.oracle import Ledger
from tests.faults.writer import LineSource
from tests.integration.conftest import ERR, MeshMaker
from tests.support import session_processes, wait_until

PROCS = rounds(5, 20)
KNOWN_SEC = 1.0
"""Within this time the client knows of an exit."""
STOP_SEC = 5.0
pytestmark = pytest.mark.timeout(1200 if WHOLE else 120)


def kill(pid: int, known: Callable[[], bool]) -> float:
    """``kill -9``; gives the seconds until ``known()``."""
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(known, 20, f"the end of {pid} is known")
    return time.monotonic() - began


def tell_times(what: str, seconds: List[float]) -> None:
    """Print them; a busy machine may be late now and then, not as a rule."""
    seconds = sorted(seconds)
    middle, high = statistics.median(seconds), seconds[int(len(seconds) * 0.95)]
    sys.stdout.write(
        f"{what}: {len(seconds)} times, median {middle * 1000:.0f} ms, 95 % {high * 1000:.0f} ms, "
        f"longest {seconds[-1] * 1000:.0f} ms\n"
    )
    assert middle < KNOWN_SEC
    assert high < KNOWN_SEC or not WHOLE


def check_last_lines(trial: Trial, mesh: ProcMesh, sources: List[int]) -> int:
    """A last line that was cut by its writer's death is there, and marked; gives how many were."""
    last: Dict[Tuple[int, OutputTarget], Row] = {}
    for row in mesh.instance.store.lines():
        last[row.info.proc, row.target] = row
    partial = 0
    for source in sources:
        proc = trial.oracle.of[source]
        for target in STREAMS:
            stored = mesh.instance.actor.records[proc].ledgers[target].totals.stored_bytes
            made, number, line = LineSource(trial.number, source, int(target)), 0, b""
            while stored > 0:
                line = made.line(number)
                stored -= len(line)
                number += 1
            if not line:
                continue
            row = last[proc, target]
            assert row.text == line[: len(line) + stored].rstrip(b"\n")
            assert bool(row.flags & LineFlag.PARTIAL) is (stored < 0)
            partial += stored < 0
    return partial


def writers(
    trial: Trial, mesh: ProcMesh, kind: str, rate: float
) -> Tuple[List[int], List[int], List[Callable[[], bool]]]:
    """Start endless writers: their numbers, their pids, and whether the end of each is known."""
    if kind == "proc":
        sources = trial.write_in_procs(mesh, lines=ENDLESS, rate=rate, streams="12")
        pids = [proc.pid for proc in mesh.procs]
        return sources, pids, [proc.exited.is_set for proc in mesh.procs]
    job = trial.exec(mesh, lines=ENDLESS, rate=rate, streams="12")

    def ended(rank: int) -> Callable[[], bool]:
        return lambda: rank in job.codes

    order = sorted(job.rank_of, key=job.rank_of.__getitem__)
    return trial.sources(job), [job.pids[p] for p in order], [ended(r) for r in range(len(mesh))]


@pytest.mark.parametrize("kind", ["command", "proc"])
def test_who_is_killed_at_a_random_point_loses_no_byte_and_is_named(
    start: MeshMaker, trial: Trial, seed: random.Random, kind: str
) -> None:
    seconds: List[float] = []
    partial = 0
    for _ in range(rounds(1, 10)):
        mesh = start(PROCS)
        rate = seed.choice((100.0, 400.0))
        sources, pids, known = writers(trial, mesh, kind, rate)
        wait_until(lambda sources=sources: all(trial.has_written(s) for s in sources), 60)
        for rank in seed.sample(range(PROCS), PROCS):
            time.sleep(seed.uniform(0.0, 0.1))
            seconds.append(kill(pids[rank], known[rank]))
        report = mesh.flush(30).get(40)
        assert report, str(report)
        words = "" if kind == "proc" else " (job 1)"
        assert report.exited == tuple(f"rank {rank}{words}" for rank in range(PROCS))
        assert trial.judge(mesh).gap == 0
        partial += check_last_lines(trial, mesh, sources)
        mesh.stop().get(10)
        trial.oracle.of.clear()
        start.meshes.pop()
        mesh.instance.close_loop()
        mesh.instance.store.close()
    sys.stdout.write(f"{partial} unfinished last lines\n")
    assert partial or not WHOLE
    tell_times(f"a killed {kind} is known", seconds)


LAST_WORDS = """
import ctypes, os, resource, sys, traceback, zlib
from tests.faults.writer import write_lines
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
write_lines({path!r}, {number}, {first} + int(os.environ["RANK"]), lines=10_000)
def deep(level):
    if level == 0:
        raise RuntimeError("the rank's last words: \\u00e9\\u4e2d")
    deep(level - 1) if level % 2 else [deep(level - 1)]
try:
    deep(40)
except RuntimeError:
    text = traceback.format_exc()
    traceback.print_exc()
    sys.stderr.write("%08x" % zlib.crc32(text.encode()))
    sys.stderr.flush()
{death}
"""
DEATHS = {"os._exit(7)": 7, "os.abort()": -6, "ctypes.string_at(0)": -11}


@pytest.mark.parametrize("kind", ["command", "proc"])
def test_ten_thousand_lines_and_a_traceback_arrive_however_the_process_crashes(
    start: MeshMaker, trial: Trial, seed: random.Random, kind: str
) -> None:
    for _ in range(rounds(1, 10)):
        death = seed.choice(list(DEATHS))
        mesh = start(PROCS)
        first = trial.new_sources(PROCS)
        script = LAST_WORDS.format(path=trial.path, number=trial.number, first=first, death=death)
        if kind == "proc":
            with pytest.raises(MeshError) as caught:
                mesh.run(script).get(60)
            assert {error.kind for error in caught.value.errors.values()} == {"ProcExited"}
            assert [proc.exit_code for proc in mesh.procs] == [DEATHS[death]] * PROCS
            ids = [proc.proc for proc in mesh.procs]
        else:
            job = mesh.exec([sys.executable, "-c", script]).get(30)
            assert job.wait().get(60) == dict.fromkeys(range(PROCS), DEATHS[death])
            ids = sorted(job.rank_of)
        trial.oracle.of = {first + rank: proc for rank, proc in enumerate(ids)}
        report = mesh.flush(30).get(40)
        assert report, str(report)
        assert len(report.exited) == (PROCS if kind == "proc" else 0)  # wait() has told of a job's
        ledger = trial.judge(mesh, known=lambda row: row.target == ERR)
        assert ledger.written == ledger.stored == PROCS * 10_000
        said: Dict[int, List[Row]] = {proc: [] for proc in ids}
        for row in mesh.instance.store.lines():
            if row.target == ERR:
                said[row.info.proc].append(row)
        for found in said.values():
            *traceback, check = found
            assert traceback[0].text == b"Traceback (most recent call last):"
            text = b"".join(row.text + b"\n" for row in traceback)
            assert check.text == b"%08x" % zlib.crc32(text)
            assert check.flags == LineFlag.PARTIAL
        mesh.stop().get(10)
        start.meshes.pop()
        mesh.instance.close_loop()
        mesh.instance.store.close()


CHILDREN = (
    "import subprocess; kept = [subprocess.Popen(['setsid', 'sleep', '600']), "
    "subprocess.Popen(['sh', '-c', 'trap \"\" TERM HUP INT; sleep 600; sleep 600'])]"
)


def test_a_killed_bootstrap_takes_all_of_its_processes_along_and_the_client_says_so(
    start: MeshMaker, trial: Trial, seed: random.Random, nothing_is_left: str
) -> None:
    gone: List[float] = []
    told: List[float] = []
    for _ in range(rounds(1, 10)):
        mesh = start(3)
        mesh.run(CHILDREN).get(10)
        mesh.exec(["sh", "-c", "setsid sleep 600 & trap '' TERM; sleep 600; sleep 600"]).get(10)
        sources = trial.write_in_procs(mesh, lines=ENDLESS, rate=500, streams="12")
        job = trial.exec(mesh, lines=ENDLESS, rate=500)
        sources += trial.sources(job)
        running = mesh.run("import time\nwhile True: time.sleep(0.01)")
        wait_until(lambda sources=sources: all(trial.has_written(s) for s in sources), 60)
        bootstrap = parent_of(mesh.procs[0].pid)
        mine = set(session_processes(nothing_is_left))
        assert len(mine) >= 3 + 1 + 3 * 3 + 3 + 3
        other = start(1)
        survivor = trial.write_in_procs(other, lines=200, rate=500)
        time.sleep(seed.uniform(0.0, 0.1))
        began = time.monotonic()
        told.append(kill(bootstrap, lambda mesh=mesh: bool(mesh.lost)))
        wait_until(lambda mine=mine: mine.isdisjoint(session_processes(nothing_is_left)), 10)
        gone.append(time.monotonic() - began)
        with pytest.raises(MeshError, match="failed"):
            running.get(5)
        assert set(job.wait().get(5).values()) == {-9}
        report = mesh.flush(30).get(40)
        assert not report
        assert not report.late
        assert set(report.exited) >= {f"rank {rank}" for rank in range(3)}
        assert {gap.lines for gap in report.gaps} == {None}
        assert "unknown lost" in str(report)
        with pytest.raises(MeshStateError, match=r"the bootstrap on .* is gone; stop this mesh"):
            mesh.run("1")
        trial.wait_for_lines(survivor, 200)
        assert other.flush(30).get(40)
        ledger = trial.judge(mesh)  # of both: they have one client
        assert ledger.stored
        assert ledger.gap
        for stopped in (mesh, other):
            began = time.monotonic()
            stopped.stop().get(20)
            assert time.monotonic() - began < STOP_SEC
        trial.oracle.of.clear()
        start.meshes.clear()
        mesh.instance.close_loop()
        mesh.instance.store.close()
    tell_times("a killed bootstrap is known", told)
    tell_times("the processes of a killed bootstrap are gone", gone)


HANGS = ("bootstrap", "proc", "command")


def test_a_stop_takes_five_seconds_at_most_whoever_hangs(
    start: MeshMaker, seed: random.Random, nothing_is_left: str
) -> None:
    for kind in seed.sample(HANGS, rounds(1, 3)):
        seconds: List[float] = []
        while not seconds or (min(seconds) >= STOP_SEC and len(seconds) < 3):
            mesh = start(2)
            job = mesh.exec(["sh", "-c", "trap '' TERM; sleep 600"]).get(10)
            freeze(
                {
                    "bootstrap": parent_of(mesh.procs[0].pid),
                    "proc": mesh.procs[0].pid,
                    "command": job.pids[min(job.pids)],
                }[kind]
            )
            began = time.monotonic()
            mesh.stop().get(30)
            seconds.append(time.monotonic() - began)
            assert session_processes(nothing_is_left) == []
        sys.stdout.write(f"a stop while a {kind} hangs: {min(seconds):.2f} s\n")
        assert min(seconds) < STOP_SEC


def test_whatever_part_is_killed_no_line_is_missing_and_fresh_ones_get_through(
    start: MeshMaker, trial: Trial, seed: random.Random, nothing_is_left: str
) -> None:
    end = time.monotonic() + rounds(5.0, 300.0)
    strokes: Counter[str] = Counter()
    total = Ledger()
    longest_stop = 0.0
    while time.monotonic() < end:
        mesh = start(rounds(6, 20))
        chaos = Chaos(mesh, trial, seed, rate=rounds(100.0, 50.0))
        while not chaos.over and time.monotonic() < end:
            time.sleep(min(5.0, seed.expovariate(1 / rounds(0.4, 2.0))))
            chaos.strike()
        strokes += chaos.strokes
        if not mesh.lost:
            check_fresh_lines(mesh)
        began = time.monotonic()
        mesh.stop().get(30)
        longest_stop = max(longest_stop, time.monotonic() - began)
        assert session_processes(nothing_is_left) == []
        ledger = trial.judge(mesh, known=lambda row: row.text.startswith(FRESH))
        assert mesh.lost or ledger.gap == 0
        total.add(ledger)
        trial.oracle.of.clear()
        start.meshes.clear()
        mesh.instance.close_loop()
        mesh.instance.store.close()
    sys.stdout.write(f"{dict(strokes)}; longest stop {longest_stop:.2f} s; in all: {total}\n")
    assert longest_stop < STOP_SEC


FRESH = b"fresh as "


def check_fresh_lines(mesh: ProcMesh) -> None:
    """Of each living proc, and of a new command of each rank."""
    alive = [proc.rank for proc in mesh.procs if proc.exit_code is None]
    source = "import os, sys; print('fresh as rank', os.environ['RANK'], file=sys.stderr)"
    mesh.run(source, ranks=alive).get(30)
    job = mesh.exec(["sh", "-c", "echo fresh as command $RANK"]).get(30)
    assert set(job.wait().get(30).values()) == {0}
    report = mesh.flush(30).get(40)
    assert not report.late
    said = [row.text for row in mesh.instance.store.lines() if row.text.startswith(FRESH)]
    assert sorted(said) == sorted(
        [b"fresh as rank %d" % rank for rank in alive]
        + [b"fresh as command %d" % rank for rank in range(len(mesh))]
    )
