"""Commands come and go: who is told of their ends, and what is remembered of them."""

from __future__ import annotations

import os
import signal

import pytest

from logmesh_ipy import CommandError, ended_sources
from tests.faults.nemesis import freeze, thaw
from tests.integration.conftest import MeshMaker, texts
from tests.support import wait_until

JOBS = 40
KEPT = 8


def test_jobs_that_are_over_are_forgotten_but_not_their_lines_and_sums(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sources, "KEPT_SOURCES", KEPT)
    monkeypatch.setattr(ended_sources, "KEPT_SEC", 0.0)
    mesh, other = start(2), start(1)
    actor, store = mesh.instance.actor, mesh.instance.store
    mesh.run("print('proc')").get(10)
    other.run("print('other')").get(10)
    for number in range(JOBS):
        job = mesh.exec(["sh", "-c", f"echo {number}; echo {number} >&2; exit {number % 2}"])
        job.get(10).wait().get(10)
    assert mesh.flush().get(10)
    assert mesh.jobs == {}
    # Not before the host has gone: it may ask once more where to go on.
    wait_until(lambda: not any(r.attached for r in list(actor.records.values()) if r.over))
    mesh.exec(["true"]).get(10).wait().get(10)
    assert len(actor.records) <= 3 + KEPT
    assert len(store._streams) <= 2 * (3 + KEPT)
    assert actor.totals().stored_lines == 2 * (2 * JOBS) + 3 == store.rows
    assert len(mesh.logs) == 2 * (2 * JOBS) + 2
    assert len(mesh.logs.where(job="job 1")) == 4
    assert len(other.logs) == 1
    assert sorted(texts(mesh, 0)) == sorted(["proc", "other", *map(str, range(JOBS))])
    assert mesh.flush().get(10)


def test_the_next_barrier_names_a_job_that_failed_unheard_once(start: MeshMaker) -> None:
    mesh = start(2)
    job = mesh.exec(["sh", "-c", "kill -9 $$"], ranks=1).get(10)
    wait_until(lambda: not job.running)
    assert mesh.flush(tells=False).get(10).exited == ("rank 1 (job 1)",)
    report = mesh.flush().get(10)
    assert report
    assert report.exited == ("rank 1 (job 1)",)
    assert mesh.flush().get(10).exited == ()
    assert mesh.jobs == {}


def test_who_has_waited_for_a_job_is_not_told_again(start: MeshMaker) -> None:
    mesh = start(1)
    job = mesh.exec(["sh", "-c", "exit 3"]).get(10)
    with pytest.raises(CommandError):
        job.wait(check=True).get(10)
    assert mesh.flush().get(10).exited == ()


def test_unheard_failures_are_bounded(start: MeshMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logmesh_ipy.job._MAX_UNTOLD", 3)
    mesh = start(1)
    for _ in range(6):
        job = mesh.exec(["sh", "-c", "exit 3"]).get(10)
        wait_until(lambda job=job: not job.running and not job.open_sources())
    names = tuple(f"rank 0 (job {number})" for number in (3, 4, 5, 6))
    assert mesh.flush().get(10).exited == names


def test_an_open_barrier_tells_of_a_job_that_ended_long_ago(
    start: MeshMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sources, "KEPT_SOURCES", 2)
    monkeypatch.setattr(ended_sources, "KEPT_SEC", 0.0)
    mesh = start(1)
    job = mesh.exec(["sleep", "60"]).get(10)
    (pid,) = job.pids.values()
    freeze(mesh.procs[0].pid)
    freeze(pid)
    try:
        barrier = mesh.flush()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not job.running and not job.open_sources())
        for _ in range(6):
            mesh.exec(["true"]).get(10).wait().get(10)
        assert not barrier.done()
    finally:
        thaw(mesh.procs[0].pid)
    report = barrier.get(10)
    assert report
    assert "rank 0" in report.acked
    assert {*report.acked, *report.exited} == {"rank 0", "rank 0 (job 1)"}
