"""Processes that stand still, or hold the interpreter's lock: named, waited for once, complete."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

import pytest

from logmesh_ipy import ProcMesh
from logmesh_ipy.model import FlushReport, OutputTarget
from tests.faults.conftest import ROOT, WHOLE, Trial, rounds
from tests.faults.nemesis import freeze, thaw
from tests.integration.conftest import ERR, OUT, MeshMaker
from tests.support import session_processes, wait_until

FREEZE_SEC = rounds(2.5, 30.0)
HOLD_SEC = rounds(3.0, 20.0)
TICK_SEC = 0.02
ADOPTED_SEC = 2.0
"""A line arrives within it though its proc cannot forward it."""
STOP_SEC = 5.0
MIB = 1 << 20

CLOCK = f"""
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    os.write(int(sys.argv[1]), b"%.6f\\n" % time.monotonic())
    time.sleep({TICK_SEC})
"""


def say(words: str) -> None:
    """For who reads the test's output: what was measured."""
    sys.stdout.write(f"{words}\n")


def clock(fd: int, seconds: float) -> List[str]:
    """A command that prints the time, again and again."""
    return [sys.executable, "-c", CLOCK, str(fd), str(seconds)]


def bootstrap_of(mesh: ProcMesh) -> int:
    stat = Path(f"/proc/{mesh.procs[0].pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[1])


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peaks:
    """The most memory that processes need, beyond what they have now."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._before = {name: rss_bytes(pid) for name, pid in pids.items()}
        self.grown = dict.fromkeys(pids, 0)

    def look(self) -> None:
        for name, pid in self._pids.items():
            grown = rss_bytes(pid) - self._before[name]
            self.grown[name] = max(self.grown[name], grown)

    def __str__(self) -> str:
        return ", ".join(f"{name} +{size / MIB:.1f} MiB" for name, size in self.grown.items())


class Delays:
    """How long lines that tell when they were printed take into the store.

    ``of(proc)``: (when it was printed, seconds until it was stored), as long as the context is
    open.
    """

    def __init__(self, mesh: ProcMesh) -> None:
        self._store = mesh.instance.store
        self._lock = threading.Lock()
        self._found: Dict[Tuple[int, OutputTarget], List[Tuple[float, float]]] = {}
        self._row = self._store.rows

    def __enter__(self) -> Delays:  # noqa: PYI034 (Self is of Python 3.11)
        self._undo = self._store.subscribe(self._look)
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._undo()

    def of(self, proc: int, target: OutputTarget = OUT) -> List[Tuple[float, float]]:
        with self._lock:
            return list(self._found.get((proc, target), ()))

    def _look(self) -> None:
        """On the client's loop, after each append."""
        now = time.monotonic()
        with self._lock:
            while chunks := self._store.read(self._row):
                for chunk in chunks:
                    times = self._found.setdefault((chunk.info.proc, chunk.target), [])
                    printed = (moment(line) for line in chunk.lines())
                    times += [(then, now - then) for then in printed if then]
                self._row = chunks[-1].first_row + chunks[-1].count


def moment(line: bytes) -> float:
    """When a clock's line was printed; 0 for another line."""
    whole, point, part = line.partition(b".")
    return float(line) if point and whole.isdigit() and part.isdigit() else 0.0


def p99(delays: List[Tuple[float, float]]) -> float:
    return statistics.quantiles([delay for _, delay in delays], n=100)[98]


class Flushes:
    """Barriers one after the other, and what they reported."""

    def __init__(self, mesh: ProcMesh, timeout_sec: float) -> None:
        self._mesh = mesh
        self._timeout_sec = timeout_sec
        self.reports: List[FlushReport] = []

    def __call__(self) -> FlushReport:
        report = self._mesh.flush(self._timeout_sec).get(self._timeout_sec + 10)
        self.reports.append(report)
        return report

    @property
    def later_sec(self) -> float:
        """The longest of those behind the first, which was waited for."""
        return max(report.seconds for report in self.reports[1:])


def frozen(pid: int, seconds: float, meanwhile: Callable[[], object]) -> None:
    """Have a process stand still for so long; ``meanwhile()`` is called about twice a second."""
    freeze(pid)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            meanwhile()
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))
    finally:
        thaw(pid)


def adopted(mesh: ProcMesh) -> List[bool]:
    status = mesh.host_status().get(10)
    return [status[str(proc.proc)]["adopted"] for proc in mesh.procs]


@pytest.mark.timeout(FREEZE_SEC * 3 + 120)
def test_a_stopped_proc_is_late_and_its_lines_and_all_others_arrive(
    start: MeshMaker, trial: Trial
) -> None:
    mesh = start(4)
    rate, lines = 500, int(500 * (FREEZE_SEC + 1))
    with Delays(mesh) as delays:
        own = trial.write_in_procs(mesh, lines=lines, rate=rate)
        job = trial.exec(mesh, lines=lines, rate=rate)
        # Children of all procs print on their procs' stderr, whoever stands still.
        speak = f"import subprocess\nchild = subprocess.Popen({clock(2, FREEZE_SEC + 1)})"
        mesh.run(speak).get(30)
        trial.wait_for_lines(own, 50)
        peaks = Peaks(kernel=os.getpid(), bootstrap=bootstrap_of(mesh))
        flushes = Flushes(mesh, 1.0)
        written: List[int] = []

        def meanwhile() -> None:
            assert flushes().late == ("rank 1",)
            assert mesh.run("1", ranks="0,2-3").get(10) == {0: 1, 2: 1, 3: 1}
            written.append(trial.has_written(trial.sources(job)[1]))
            peaks.look()

        began = time.monotonic()
        frozen(mesh.procs[1].pid, FREEZE_SEC, meanwhile)
        ended = time.monotonic()
        wait_until(lambda: not mesh.instance.actor.late, 10, "it answers again")
        wait_until(lambda: not any(adopted(mesh)), 10, "it forwards again")
        assert not any(job.wait().get(60).values())
        trial.wait_for_lines(own, lines)
        mesh.run("child.wait()").get(30)
        report = mesh.flush(30).get(40)
        peaks.look()
    assert report
    assert len(report.acked) == 4
    while_frozen = {
        proc.rank: [(then, sec) for then, sec in delays.of(proc.proc, ERR) if began < then < ended]
        for proc in mesh.procs
    }
    worst = max(sec for _, sec in while_frozen[1])
    others = [pair for rank in (0, 2, 3) for pair in while_frozen[rank]]
    say(
        f"the first barrier took {flushes.reports[0].seconds:.3f} s of 1 s, {len(flushes.reports)} "
        f"later ones {flushes.later_sec:.3f} s at most; p99 delay of the others "
        f"{p99(others):.3f} s; its own lines {worst:.3f} s at most; {peaks}"
    )
    assert flushes.reports[0].seconds < 1.5
    assert flushes.later_sec < 0.5
    assert p99(others) < 0.5
    assert len(while_frozen[1]) > 0.5 * FREEZE_SEC / TICK_SEC
    assert worst < ADOPTED_SEC
    assert written == sorted(set(written)), "who writes beside it goes on"
    assert peaks.grown["bootstrap"] < rounds(2, 8) * MIB
    assert peaks.grown["kernel"] < 96 * MIB
    trial.judge(mesh, known=lambda row: row.target is ERR and bool(moment(row.text)))


@pytest.mark.timeout(FREEZE_SEC * 3 + 120)
def test_a_stopped_bootstrap_makes_its_own_procs_late_only(start: MeshMaker, trial: Trial) -> None:
    mesh, other = start(2), start(2)
    # As much as the pipes hold: nobody else can read them.
    rate = rounds(300, 60)
    lines = int(rate * FREEZE_SEC)
    with Delays(other) as delays:
        own = trial.write_in_procs(mesh, lines=lines, rate=rate)
        job = trial.exec(mesh, lines=lines, rate=rate)
        other_job = trial.exec(other, lines=int(500 * FREEZE_SEC), rate=500)
        clocks = other.exec(clock(1, FREEZE_SEC)).get(10)
        writers = [*own, *trial.sources(job)]
        trial.wait_for_lines([*writers, *trial.sources(other_job)], 20)
        bootstrap = bootstrap_of(mesh)
        peaks = Peaks(kernel=os.getpid(), bootstrap=bootstrap)
        flushes, others = Flushes(mesh, 1.0), Flushes(other, 5.0)
        written: List[List[int]] = []

        def meanwhile() -> None:
            report = flushes()
            assert not report
            assert report.acked == report.exited == ()
            assert len(report.late) == 4
            assert mesh.run("1").get(10) == {0: 1, 1: 1}, "code still runs on its procs"
            assert others()
            written.append([trial.has_written(source) for source in writers])
            peaks.look()

        began = time.monotonic()
        frozen(bootstrap, FREEZE_SEC, meanwhile)
        ended = time.monotonic()
        wait_until(lambda: not mesh.instance.actor.late, 10, "all answer again")
        for one in (job, other_job, clocks):
            assert not any(one.wait().get(60).values())
        trial.wait_for_lines(own, lines)
        reports = [one.flush(30).get(40) for one in (mesh, other)]
        peaks.look()
    assert all(reports)
    found = [pair for proc in clocks.rank_of for pair in delays.of(proc)]
    found = [(then, sec) for then, sec in found if began < then < ended]
    say(
        f"the first barrier took {flushes.reports[0].seconds:.3f} s of 1 s, later ones "
        f"{flushes.later_sec:.3f} s at most; p99 delay on the other host {p99(found):.3f} s; "
        f"{peaks}"
    )
    assert flushes.reports[0].seconds < 1.5
    assert flushes.later_sec < 0.5
    assert p99(found) < 0.5
    assert all(first < last for first, last in zip(written[0], written[-1], strict=True))
    assert max(peaks.grown.values()) < 64 * MIB
    trial.judge(mesh)


@pytest.mark.parametrize("who", ["the bootstrap", "a proc"] if WHOLE else ["the bootstrap"])
def test_a_mesh_of_which_a_part_stands_still_is_stopped_in_time(
    start: MeshMaker, trial: Trial, nothing_is_left: str, who: str
) -> None:
    mesh = start(2)
    sources = trial.write_in_procs(mesh, lines=1 << 30, rate=500)
    trial.wait_for_lines(sources, 20)
    assert mesh.flush(10).get(20)
    freeze(bootstrap_of(mesh) if who == "the bootstrap" else mesh.procs[1].pid)
    began = time.monotonic()
    mesh.stop(rounds(0.2, 2.0)).get(20)
    stopped = time.monotonic() - began
    say(f"stop with {who} standing still: {stopped:.3f} s")
    assert stopped < STOP_SEC
    assert session_processes(nothing_is_left) == []
    ledger = trial.judge(mesh)
    assert bool(ledger.gap) is (who == "the bootstrap")


DRIVER = f"""
import json, sys, time
sys.path.insert(0, {ROOT!r})
from logmesh_ipy import this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from tests.faults.conftest import Trial

seed, window, lines, rate = map(int, sys.argv[1:])
trial = Trial(seed)
options = MeshOptions(host=HostOptions(window_bytes=window))
mesh = this_host().spawn_procs(2, options=options).get(30)
own = trial.write_in_procs(mesh, lines=lines, rate=rate)
job = trial.exec(mesh, lines=lines, rate=rate)
tell = lambda **words: print(json.dumps(words), flush=True)
tell(sources=[*own, *trial.sources(job)], proc=mesh.procs[0].pid)
for line in sys.stdin:
    if line == "flush\\n":
        report = mesh.flush(60).get(70)
        tell(true=bool(report), seconds=report.seconds, late=report.late)
    elif line == "end\\n":
        codes = job.wait().get(60)
        trial.wait_for_lines(own, lines)
        report = mesh.flush(60).get(70)
        status = mesh.host_status().get(10).values()
        left = sum(s["spilled_bytes"] for one in status for s in one["streams"].values())
        tell(true=bool(report), codes=codes, acked=report.acked, spilled=left)
        trial.judge(mesh)
        mesh.stop().get(10)
        break
"""


class Driver:
    """A kernel of its own that drives a mesh, and writers that are judged there."""

    def __init__(self, *arguments: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> Dict[str, Any]:
        assert self.process.stdout is not None
        found: Dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def rest(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()


@pytest.fixture
def driver(request: pytest.FixtureRequest, trial: Trial) -> Iterator[Driver]:
    made = Driver(trial.number, *request.param)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def spooled_bytes(bootstrap: int) -> int:
    """What lies in the spools' files, which have no name."""
    found = 0
    for fd in Path(f"/proc/{bootstrap}/fd").iterdir():
        if "/spool-" in os.readlink(fd):
            found += os.stat(fd).st_size
    return found


WINDOW = 256 << 10
RATE = rounds(2000, 3000)
LINES = int(RATE * (FREEZE_SEC + 1))


@pytest.mark.timeout(FREEZE_SEC * 3 + 120)
@pytest.mark.parametrize("driver", [(WINDOW, LINES, RATE)], indirect=True)
def test_a_stopped_kernel_makes_the_host_spill_and_blocks_no_proc(
    driver: Driver, trial: Trial
) -> None:
    told = driver.hear()
    sources: List[int] = told["sources"]
    trial.wait_for_lines(sources, 100)
    stat = Path(f"/proc/{told['proc']}/stat").read_text()
    bootstrap = int(stat.rsplit(")", 1)[1].split()[1])
    peaks = Peaks(kernel=driver.pid, bootstrap=bootstrap)
    written: List[Tuple[float, List[int]]] = []
    spooled = 0

    def meanwhile() -> None:
        nonlocal spooled
        written.append((time.monotonic(), [trial.has_written(source) for source in sources]))
        spooled = max(spooled, spooled_bytes(bootstrap))
        peaks.look()

    frozen(driver.pid, FREEZE_SEC, meanwhile)
    meanwhile()
    driver.say("flush")
    first = driver.hear()
    driver.say("end")
    last = driver.hear()
    peaks.look()
    (began, before), (ended, after) = written[0], written[-1]
    mean = statistics.mean(b - a for a, b in zip(before, after, strict=True)) / (ended - began)
    slowest = min(b - a for a, b in zip(before, after, strict=True)) / (ended - began)
    say(
        f"while it stood still its 4 writers wrote {mean:,.0f} bytes/s, the slowest "
        f"{slowest:,.0f}; {spooled / MIB:.1f} MiB spooled; then a barrier took "
        f"{first['seconds']:.3f} s; {peaks}"
    )
    assert first["true"], first
    assert last["true"], last
    assert last["codes"] == {"0": 0, "1": 0}
    assert slowest > 0.8 * RATE * 200, "the writers went on"
    assert spooled > MIB
    assert last["spilled"] == 0
    assert peaks.grown["bootstrap"] < 32 * MIB
    assert peaks.grown["kernel"] < 160 * MIB
    words = driver.rest()
    say(words)
    assert driver.process.wait(10) == 0
    assert "missing 0, duplicate 0, spurious 0, corrupt 0, miscounted_bytes 0" in words


HOLD = """
import ctypes, os, subprocess, time
libc = ctypes.PyDLL(None)  # its calls keep the interpreter's lock
LINE_BUFFERED = 1
libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, LINE_BUFFERED, 0)
children = [subprocess.Popen(argv) for argv in COMMANDS]
os.write(1, b"%.6f\\n" % time.monotonic())
thread = ctypes.c_ulong()
puts = ctypes.cast(libc.puts, ctypes.c_void_p)
line = ctypes.create_string_buffer(b"%.6f" % time.monotonic())
assert libc.pthread_create(ctypes.byref(thread), None, puts, line) == 0
assert libc.sleep(SECONDS) == 0
"""


@pytest.mark.timeout(HOLD_SEC * 3 + 120)
def test_lines_arrive_while_their_proc_holds_the_interpreters_lock_in_c(
    start: MeshMaker, trial: Trial
) -> None:
    mesh = start(2)
    source = trial.new_sources(1)
    trial.oracle.of[source] = mesh.procs[0].proc
    lines = int(500 * (HOLD_SEC + 1))
    writer = trial.command(lines=lines, rate=500, source=str(source), streams="2")
    hold = f"COMMANDS, SECONDS = {[writer, clock(1, HOLD_SEC + 1)]}, {int(HOLD_SEC)}\n{HOLD}"
    with Delays(mesh) as delays:
        running = mesh.run(hold, ranks=0)
        wait_until(lambda: delays.of(0), 10, "its first line")
        began = delays.of(0)[0][0]
        reports: List[FlushReport] = []
        while not running.done():
            written = {source: trial.has_written(source, 2)}
            reports.append(mesh.flush(3.0).get(10))
            assert reports[-1], "the host answers for it"
            stored = mesh.instance.actor.records[0].ledgers[ERR].totals.stored_bytes
            assert stored >= written[source]
            time.sleep(0.2)
        running.get(10)
        held = time.monotonic() - began
        wait_until(lambda: not any(adopted(mesh)), 5, "it forwards again")
        wait_until(
            lambda: mesh.run("[one.poll() for one in children]", ranks=0).get(10) == {0: [0, 0]}
        )
        mesh.run("print('given back')").get(10)
        assert mesh.flush(30).get(40)
    found = delays.of(0)
    worst = max(sec for _, sec in found)
    say(
        f"the lock was held for {held:.1f} s; {len(found)} lines arrived within {worst:.3f} s; of "
        f"{len(reports)} barriers the longest took {max(r.seconds for r in reports):.3f} s"
    )
    assert held >= HOLD_SEC
    assert len(found) > 0.5 * HOLD_SEC / TICK_SEC
    assert worst < ADOPTED_SEC
    assert statistics.median(sec for _, sec in found) < ADOPTED_SEC / 4
    assert sum(then < began + 0.1 for then, _ in found) >= 2, "its own, and its C thread's"
    extra = {b"given back"}
    trial.judge(
        mesh, known=lambda row: row.target is OUT and (moment(row.text) or row.text in extra)
    )
