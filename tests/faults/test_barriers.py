"""Barriers under faults: each returns, in time, and says no more than is true."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Type

import pytest

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.config import MeshOptions
from logmesh_ipy.errors import MeshStateError
from logmesh_ipy.frames import FrameDecoder
from logmesh_ipy.model import FlushReport, LogForwardMessage, OutputTarget
from logmesh_ipy.wire import _KIND_OF, Drained, Flushed, FlushRequest, decode
from tests.faults.conftest import Trial, rounds
from tests.faults.nemesis import Proxy, cut_sockets, freeze, thaw
from tests.integration.conftest import OUT, MeshMaker
from tests.support import wait_until

SLACK_SEC = 1.0
"""What a barrier's deadline may be passed by on a busy machine."""
LATER_SEC = 0.02
"""By how much stderr comes behind stdout: what is said twice of one tells nothing of the other."""


def bootstrap_of(mesh: ProcMesh) -> int:
    stat = Path(f"/proc/{mesh.procs[0].pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[1])


def checked_flush(mesh: ProcMesh, trial: Trial, timeout_sec: float = 20.0) -> FlushReport:
    """A barrier, judged: of whom it does not name late, all is stored that was written before."""
    records = mesh.instance.actor.records
    before = {
        (proc, target): trial.has_written(source, int(target))
        for source, proc in list(trial.oracle.of.items())
        for target in OutputTarget
    }
    report = mesh.flush(timeout_sec).get(timeout_sec + 20)
    assert report.seconds < timeout_sec + SLACK_SEC
    names = (*report.acked, *report.exited, *report.late)
    assert len(set(names)) == len(names), "each is counted once"
    for (proc, target), written in before.items():
        record = records.get(proc)
        if record is not None and not report.gaps and record.info.name not in report.late:
            stored = record.ledgers[target].totals.stored_bytes
            assert stored >= written, f"{report}: {record.info.name} had written {written:,} bytes"
    return report


# --- markers ------------------------------------------------------------------------------------


class Markers:
    """A twist that loses, doubles or repeats frames of one class, as ``fault`` says."""

    def __init__(self, message_class: Type[Any]) -> None:
        self.fault = ""
        self.name = message_class.__name__
        self.harmed = 0
        self._kind = _KIND_OF[message_class]
        self._old: List[bytes] = []

    def __call__(self, frames: List[bytes]) -> List[bytes]:
        return [one for frame in frames for one in self._passed_on(frame)]

    def _passed_on(self, frame: bytes) -> List[bytes]:
        ((kind, body),) = FrameDecoder().feed(frame)
        if kind != self._kind:
            return [frame]
        if self.fault and getattr(decode(kind, body), "target", OUT) is not OUT:
            time.sleep(LATER_SEC)
        old, self._old = self._old, [*self._old[-3:], frame]
        self.harmed += bool(self.fault)
        kept = {
            "": [frame],
            "lost": [],
            "doubled": [frame, frame],
            "behind stale ones": [*old, frame],
        }
        return kept[self.fault]


PLACES = {
    "log channel": (Drained, FlushRequest),
    "uplink": (Flushed, LogForwardMessage.ForceSyncFlush),
}


@contextlib.contextmanager
def twisted(mesh: ProcMesh, place: str, up: Markers, down: Markers) -> Iterator[None]:
    """Have rank 0's markers pass the twists."""
    directory = Path(mesh.instance.directory)
    if place == "uplink":
        path, dialler = directory / "client.sock", mesh.procs[0].pid
    else:
        (path,) = directory.glob(f"*/p{mesh.procs[0].proc}.sock")
        dialler = bootstrap_of(mesh)
    proxy = Proxy(str(path))
    try:
        proxy.twist, proxy.twist_back = up, down
        assert cut_sockets(dialler, str(path)) == 2
        wait_until(lambda: proxy.connections >= 2, what="both connections pass the proxy")
        assert mesh.flush(20).get(30)
        yield
    finally:
        proxy.close()


@pytest.mark.parametrize("place", list(PLACES))
def test_lost_doubled_and_stale_markers_make_no_report_untrue(
    start: MeshMaker, trial: Trial, place: str
) -> None:
    mesh, lines = start(2), rounds(1000, 20_000)
    sources = trial.write_in_procs(mesh, lines=lines, rate=2000, streams="12")
    up, down = (Markers(one) for one in PLACES[place])
    with twisted(mesh, place, up, down):
        for _ in range(rounds(1, 5)):
            for markers in (up, down):
                for fault in ("doubled", "behind stale ones"):
                    markers.fault = fault
                    assert checked_flush(mesh, trial)
                    assert checked_flush(mesh, trial)
                markers.fault = "lost"
                first = checked_flush(mesh, trial, 0.3)
                assert (first.acked, first.late) == (("rank 1",), ("rank 0",))
                again = checked_flush(mesh, trial, 5.0)
                assert again.late == ("rank 0",)
                assert again.seconds < SLACK_SEC, "it is not waited for again"
                markers.fault = ""
                checked_flush(mesh, trial)
                wait_until(lambda: not mesh.instance.actor.late, what="asked again, it answers")
                assert checked_flush(mesh, trial)
        assert up.harmed >= 5
        assert down.harmed >= 5
        for stream in (1, 2):
            trial.wait_for_lines(sources, lines, stream)
        assert checked_flush(mesh, trial)
    trial.judge(mesh)


def test_a_forwarder_whose_own_connection_breaks_makes_another(
    start: MeshMaker, trial: Trial
) -> None:
    mesh = start(2)
    sources = trial.write_in_procs(mesh, lines=1000, rate=2000)
    (path,) = Path(mesh.instance.directory).glob(f"*/p{mesh.procs[0].proc}.sock")
    for _ in range(5):
        pending = [mesh.flush(20) for _ in range(5)]
        assert cut_sockets(mesh.procs[0].pid, str(path)) == 1
        assert all(one.get(30) for one in pending)
        report = checked_flush(mesh, trial)
        assert report.acked == ("rank 0", "rank 1")
        time.sleep(0.05)  # its next one is there
    trial.wait_for_lines(sources, 1000)
    assert checked_flush(mesh, trial)
    trial.judge(mesh)


# --- many, and none -----------------------------------------------------------------------------


def test_fifty_barriers_at_once_are_each_true(start: MeshMaker, trial: Trial) -> None:
    mesh = start(4)
    sources = trial.write_in_procs(mesh, lines=1000, rate=2000)
    job = trial.exec(mesh, lines=1000)
    with ThreadPoolExecutor(50) as pool:
        reports = list(pool.map(lambda _: checked_flush(mesh, trial), range(50)))
        assert all(reports)
        assert len({report.version for report in reports}) == 50
        freeze(mesh.procs[2].pid)
        try:
            reports = list(pool.map(lambda _: checked_flush(mesh, trial, 0.5), range(50)))
        finally:
            thaw(mesh.procs[2].pid)
    assert all("rank 2" in report.late for report in reports)
    assert not any(job.wait().get(30).values())
    trial.wait_for_lines(sources, 1000)
    wait_until(lambda: not mesh.instance.actor.late)
    assert checked_flush(mesh, trial)
    trial.judge(mesh)


def test_a_barrier_over_nobody_is_true_at_once(start: MeshMaker) -> None:
    mesh = this_host().spawn_procs(2, commands_only=True, options=MeshOptions()).get(20)
    start.meshes.append(mesh)
    for _ in range(3):
        report = mesh.flush(5).get(10)
        assert report
        assert (report.acked, report.exited, report.late) == ((), (), ())
        assert report.seconds < SLACK_SEC
        assert mesh.exec(["echo", "x"]).get(10).wait().get(10) == {0: 0, 1: 0}


@pytest.mark.timeout(rounds(120, 300))
def test_procs_and_jobs_join_and_leave_in_the_middle(
    start: MeshMaker, trial: Trial, seed: random.Random
) -> None:
    mesh = start(5)
    sources = trial.write_in_procs(mesh, lines=1 << 30, rate=500)
    trial.wait_for_lines(sources, 1)
    over = threading.Event()

    def flush_on() -> int:
        count = 0
        while not over.is_set():
            assert checked_flush(mesh, trial)
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        flushing = [pool.submit(flush_on) for _ in range(4)]
        try:
            jobs = []
            end = time.monotonic() + rounds(1.0, 30.0)
            victims = seed.sample(range(1, 5), 3)
            while time.monotonic() < end:
                jobs.append(trial.exec(mesh, lines=seed.choice([0, 1, 300]), streams="12"))
                if seed.random() < 0.3:
                    jobs[-1].stop().get(20)
                elif victims and seed.random() < 0.5:
                    os.kill(mesh.procs[victims.pop()].pid, signal.SIGKILL)
                time.sleep(seed.random() * 0.1)
            for rank in victims:
                os.kill(mesh.procs[rank].pid, signal.SIGKILL)
            for job in jobs:
                job.wait().get(30)
        finally:
            over.set()
        counts = [one.result(60) for one in flushing]
    sys.stdout.write(f"{sum(counts)} barriers beside {len(jobs)} jobs and 3 kills\n")
    report = checked_flush(mesh, trial)
    assert report
    assert len(report.exited) == 3
    assert min(counts) >= 2
    for proc in mesh.procs:
        if proc.exit_code is None:
            os.kill(proc.pid, signal.SIGKILL)
    wait_until(lambda: all(proc.exit_code is not None for proc in mesh.procs))
    assert checked_flush(mesh, trial)
    trial.judge(mesh)


# --- the end ------------------------------------------------------------------------------------


def test_barriers_during_a_stop_return_or_say_that_it_is_stopped(
    start: MeshMaker, trial: Trial
) -> None:
    for round_number in range(rounds(1, 20)):
        mesh = start(3)
        trial.oracle.of.clear()
        sources = trial.write_in_procs(mesh, lines=1 << 30, rate=1000)
        trial.wait_for_lines(sources, 10)
        begun = threading.Event()

        def flush_on(mesh: ProcMesh = mesh, begun: threading.Event = begun) -> int:
            count = 0
            with contextlib.suppress(MeshStateError):
                while True:
                    checked_flush(mesh, trial)
                    begun.set()
                    count += 1
            return count

        with ThreadPoolExecutor(8) as pool:
            flushing = [pool.submit(flush_on) for _ in range(8)]
            assert begun.wait(20)
            began = time.monotonic()
            mesh.stop().get(20)
            stopped = time.monotonic() - began
            counts = [one.result(20) for one in flushing]
        sys.stdout.write(f"round {round_number}: {sum(counts)} barriers, stop {stopped:.3f} s\n")
        assert stopped < 5.0
        trial.judge(mesh)


def test_what_a_stop_does_not_wait_for_is_a_gap(start: MeshMaker, trial: Trial) -> None:
    mesh, other = start(2), start(1)
    path = f"{mesh.instance.directory}/client.sock"
    proxy = Proxy(path)
    try:
        proxy.bytes_per_sec = 100_000
        for proc in mesh.procs:
            assert cut_sockets(proc.pid, path) == 2
        wait_until(lambda: proxy.connections >= 4)
        sources = trial.write_in_procs(mesh, lines=3000)
        trial.wait_for_lines(sources, 3000)
        began = time.monotonic()
        mesh.stop(0.2).get(20)
        stopped = time.monotonic() - began
        sys.stdout.write(f"stop over a slow link {stopped:.3f} s\n")
        assert stopped < 5.0
        ledger = trial.judge(mesh)
        assert ledger.gap > 0
        reasons = {gap.reason for gap in mesh.instance.actor.gaps}
        assert reasons == {"the mesh was stopped before it had arrived"}
        assert other.flush(5).get(10), "what another mesh lost is not its own"
    finally:
        proxy.close()


def test_barriers_of_a_killed_bootstrap_end_and_are_false(start: MeshMaker, trial: Trial) -> None:
    mesh = start(3)
    sources = trial.write_in_procs(mesh, lines=1 << 30, rate=1000)
    trial.wait_for_lines(sources, 100)
    bootstrap = bootstrap_of(mesh)
    freeze(bootstrap)
    pending = [mesh.flush(timeout) for timeout in (30.0, None)]
    wait_until(lambda: len(mesh.instance.actor._waiters) == 2)
    began = time.monotonic()
    os.kill(bootstrap, signal.SIGKILL)
    reports = [one.get(20) for one in pending]
    took = time.monotonic() - began
    sys.stdout.write(f"barriers of a killed bootstrap returned after {took:.3f} s\n")
    assert took < 3.0
    for report in reports:
        assert not report
        assert report.exited == ("rank 0", "rank 1", "rank 2")
    gaps = {(gap.proc, gap.output_target) for report in reports for gap in report.gaps}
    assert len(gaps) == 6, "of each stream the rest is a gap"
    trial.judge(mesh)
    again = mesh.flush(5).get(10)
    assert again.seconds < SLACK_SEC


# --- links --------------------------------------------------------------------------------------


@pytest.mark.timeout(rounds(120, 300))
def test_barriers_hold_while_links_are_cut(
    start: MeshMaker, trial: Trial, seed: random.Random
) -> None:
    mesh = start(4)
    seconds = rounds(1.0, 40.0)
    lines = int(1000 * seconds)
    sources = trial.write_in_procs(mesh, lines=lines, rate=1000)
    job = trial.exec(mesh, lines=lines, rate=1000)
    trial.wait_for_lines(sources, 1)
    bootstrap = bootstrap_of(mesh)
    directory = Path(mesh.instance.directory)
    client = str(directory / "client.sock")
    channels = [str(path) for path in directory.glob("*/p*.sock")]
    over = threading.Event()
    cuts: Dict[str, int] = dict.fromkeys(("uplinks", "log channels", "adopted ones"), 0)
    cut: Dict[str, Callable[[], int]] = {
        "uplinks": lambda: cut_sockets(seed.choice(mesh.procs).pid, client),
        "log channels": lambda: cut_sockets(bootstrap, seed.choice(channels)),
        "adopted ones": lambda: cut_sockets(bootstrap, client),
    }

    def cut_on() -> None:
        while not over.wait(seed.random() * 0.3):
            what = seed.choice(list(cut))
            cuts[what] += cut[what]()

    reports: List[FlushReport] = []
    nemesis = threading.Thread(target=cut_on)
    nemesis.start()
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reports.append(checked_flush(mesh, trial))
            assert reports[-1]
    finally:
        over.set()
        nemesis.join(10)
    longest = max(report.seconds for report in reports)
    sys.stdout.write(f"{len(reports)} barriers, {longest:.3f} s at most, beside cuts: {cuts}\n")
    assert not any(job.wait().get(60).values())
    trial.wait_for_lines(sources, lines)
    assert checked_flush(mesh, trial)
    names: Set[str] = {name for report in reports for name in report.acked}
    assert {"rank 0", "rank 1", "rank 2", "rank 3"} <= names
    trial.judge(mesh)
