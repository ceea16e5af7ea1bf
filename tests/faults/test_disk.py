"""Disks of hosts that are full, read-only, or somebody else's: the stream goes on, and it is told.

The raw files (FileAppender) and the spool of the senders. The client's store: test_store_files.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest

from logmesh_ipy import ProcMesh, this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.file_appender import FileAppender
from logmesh_ipy.job import Job
from logmesh_ipy.model import OutputTarget
from logmesh_ipy.spool import FileSpool
from tests.faults.conftest import Trial, rounds
from tests.faults.disks import Disk, mounted
from tests.faults.writer import LineSource
from tests.integration.conftest import MeshMaker
from tests.support import session_processes, wait_until

LINES = rounds(2000, 20_000)


@pytest.fixture
def disk(nothing_is_left: str) -> Iterator[Disk]:
    """A disk of 16 MiB for the raw files."""
    yield from mounted(Path(nothing_is_left, "disk"), "16m")


@pytest.fixture
def small_tmp(nothing_is_left: str) -> Iterator[Disk]:
    """A temporary directory with 1 MiB of room; spools and sockets are there."""
    yield from mounted(Path(nothing_is_left), "1m")


def commands_mesh(start: MeshMaker, procs: int, **host: object) -> ProcMesh:
    """Ranks that have no process of their own, so no file is open before ``exec``.

    The client's store keeps its lines in memory: the disk is the host's alone.
    """
    options = MeshOptions(keep_sessions=0, host=HostOptions(**host))  # type: ignore[arg-type]
    mesh = this_host().spawn_procs(procs, options=options, commands_only=True).get(30)
    start.meshes.append(mesh)
    return mesh


def warnings_of(mesh: ProcMesh, job: Job) -> List[str]:
    """What ``%logmesh status`` warns of, for the sources of a job."""
    status = mesh.host_status().get(10)
    return [text for proc in job.rank_of for text in status[str(proc)]["warnings"]]


def host_files(directory: str) -> List[Path]:
    return sorted(Path(directory).glob("*.std???"))


def written_by(trial: Trial, source: int, lines: int) -> bytes:
    made = LineSource(trial.number, source, 1)
    return b"".join(made.line(number) for number in range(lines))


def check_file_modes(directory: str) -> None:
    for path in host_files(directory):
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert not path.is_symlink()


# --- the raw files ----------------------------------------------------------------------------


def test_a_full_disk_costs_bytes_of_the_file_only_and_is_written_again_when_there_is_room(
    disk: Disk, start: MeshMaker, trial: Trial
) -> None:
    mesh = commands_mesh(start, 2, files=disk.path)
    disk.fill()
    job = trial.exec(mesh, lines=LINES, rate=LINES / 3)
    sources = trial.sources(job)
    trial.wait_for_lines(sources, LINES // 6)
    wait_until(lambda: len(warnings_of(mesh, job)) == 2, what=lambda: warnings_of(mesh, job))
    for warning in warnings_of(mesh, job):
        assert "No space left on device" in warning
        assert "bytes not written" in warning
    disk.free()
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    assert trial.judge(mesh).written == 2 * LINES
    for warning in warnings_of(mesh, job):
        assert warning.endswith("writing again")
        lost = int(warning.split("; ")[1].split(" ")[0].replace(",", ""))
        path = Path(warning.split(": ")[0])
        whole = written_by(
            trial, next(s for s in sources if f"rank{s - sources[0]}_" in path.name), LINES
        )
        kept = path.read_bytes()
        assert len(kept) + lost == len(whole)
        assert whole.endswith(kept[-1000:])
    check_file_modes(disk.path)


def test_a_disk_that_is_read_only_is_told_and_written_to_when_it_is_not(
    disk: Disk, start: MeshMaker, trial: Trial
) -> None:
    mesh = commands_mesh(start, 1, files=disk.path)
    disk.allow_writing(False)
    job = trial.exec(mesh, lines=LINES // 4, rate=LINES / 5)
    [source] = trial.sources(job)
    trial.wait_for_lines([source], LINES // 12)
    wait_until(lambda: any("Read-only file system" in text for text in warnings_of(mesh, job)))
    assert host_files(disk.path) == []
    disk.allow_writing(True)
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    trial.judge(mesh)
    out = next(text for text in warnings_of(mesh, job) if "stdout" in text)
    assert out.endswith("writing again")
    lost = int(out.split("; ")[1].split(" ")[0].replace(",", ""))
    [path] = [path for path in host_files(disk.path) if path.name.endswith("stdout")]
    whole = written_by(trial, source, LINES // 4)
    assert path.read_bytes() == whole[lost:]
    check_file_modes(disk.path)


@pytest.mark.parametrize(
    "harm", ["unlinked", "directory gone", "link planted", "hard link planted"]
)
def test_a_file_that_is_taken_away_is_made_anew_and_no_link_is_followed(
    start: MeshMaker, trial: Trial, nothing_is_left: str, harm: str
) -> None:
    directory = f"{nothing_is_left}/files"
    victim = Path(nothing_is_left, "victim")
    victim.write_bytes(b"precious")
    mesh = commands_mesh(start, 1, files=directory)
    job = trial.exec(mesh, lines=LINES // 4, rate=LINES / 5)
    [source] = trial.sources(job)
    trial.wait_for_lines([source], LINES // 12)
    [path] = [path for path in host_files(directory) if path.name.endswith("stdout")]
    taken = path.stat().st_size
    if harm == "directory gone":
        for each in host_files(directory):
            each.unlink()
        os.rmdir(directory)
    else:
        path.unlink()
        if harm == "link planted":
            path.symlink_to(victim)
        elif harm == "hard link planted":
            os.link(victim, path)
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    trial.judge(mesh)
    assert victim.read_bytes() == b"precious"
    [warning] = [text for text in warnings_of(mesh, job) if "stdout" in text]
    assert "removed or cut by somebody" in warning
    gone = int(warning.split("somebody, ")[1].split(" ")[0].replace(",", ""))
    assert gone >= taken
    kept = b"".join(
        each.read_bytes()
        for each in host_files(directory)
        if each.name.endswith("stdout") and not each.samefile(victim)
    )
    assert kept == written_by(trial, source, LINES // 4)[gone:]


def test_a_file_that_is_cut_under_the_writer_is_written_on_at_its_end(
    start: MeshMaker, trial: Trial, nothing_is_left: str, seed: random.Random
) -> None:
    directory = f"{nothing_is_left}/files"
    mesh = commands_mesh(start, 1, files=directory)
    job = trial.exec(mesh, lines=LINES // 4, rate=LINES / 5)
    [source] = trial.sources(job)
    for part in range(1, 6):
        trial.wait_for_lines([source], LINES * part // 24)
        [path] = [path for path in host_files(directory) if path.name.endswith("stdout")]
        size = path.stat().st_size
        os.truncate(path, seed.randrange(size + 1))
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    trial.judge(mesh)
    [warning] = [text for text in warnings_of(mesh, job) if "stdout" in text]
    gone = int(warning.split("somebody, ")[1].split(" ")[0].replace(",", ""))
    kept, whole = path.read_bytes(), written_by(trial, source, LINES // 4)
    assert len(kept) + gone == len(whole)
    assert b"\0" not in kept
    assert whole.endswith(kept[-100:])


def test_a_file_cut_at_every_offset_is_written_on_and_counted(tmp_path: Path) -> None:
    for offset in range(41):
        appender = FileAppender(str(tmp_path / str(offset)), "b", "h", OutputTarget.STDOUT)
        appender.append(b"0123456789" * 4)
        os.truncate(appender.path, offset)
        appender.append(b"more")
        assert Path(appender.path).read_bytes() == (b"0123456789" * 4)[:offset] + b"more"
        assert appender.gone_bytes == 40 - offset
        assert appender.appended_bytes == appender.written_bytes
        assert (f"{40 - offset:,} bytes with it" in str(appender.warning)) == (offset < 40)
        appender.close()


# --- the spool --------------------------------------------------------------------------------


class Blocked:
    """The client's loop stands still meanwhile: what hosts read waits there."""

    def __init__(self, mesh: ProcMesh) -> None:
        self._mesh = mesh

    def __enter__(self) -> None:
        self._ends = False
        self._mesh.instance.loop.call(self._stand_still)

    def __exit__(self, *_: object) -> None:
        self._ends = True

    def _stand_still(self) -> None:
        while not self._ends:
            time.sleep(0.01)


def spool_segments(directory: str) -> Dict[str, int]:
    """The senders' files, which have no name: as links of /proc, and their sizes."""
    found = {}
    for pid in session_processes(directory):
        fds = f"/proc/{pid}/fd"
        for name in os.listdir(fds):
            with contextlib.suppress(OSError):
                if "/spool-" in os.readlink(f"{fds}/{name}"):
                    found[f"{fds}/{name}"] = os.stat(f"{fds}/{name}").st_size
    return found


@pytest.mark.usefixtures("small_tmp")
def test_a_full_disk_under_the_spool_costs_an_exact_gap_and_blocks_nobody(
    start: MeshMaker, trial: Trial
) -> None:
    mesh = commands_mesh(start, 2, window_bytes=64 << 10)
    job = trial.exec(mesh, lines=LINES, streams="12")
    with Blocked(mesh):
        # Nobody takes what they write, the disk is full soon, and they go on to their end.
        trial.wait_for_lines(trial.sources(job), LINES, stream=1)
        trial.wait_for_lines(trial.sources(job), LINES, stream=2)
    assert not any(job.wait().get(60).values())
    report = mesh.flush(30).get(40)
    assert not report
    assert {gap.reason for gap in report.gaps} == {"the host's spool was full"}
    ledger = trial.judge(mesh)
    assert ledger.gap > 0
    assert ledger.stored > 0
    again = trial.exec(mesh, lines=LINES // 10)
    assert not any(again.wait().get(60).values())
    assert mesh.flush(30).get(40)
    assert trial.judge(mesh).gap == ledger.gap


@pytest.mark.parametrize("harm", ["cut", "overwritten"][: rounds(1, 2)])
def test_what_the_spool_lost_is_an_exact_gap_with_its_reason_and_the_stream_goes_on(
    start: MeshMaker, trial: Trial, seed: random.Random, nothing_is_left: str, harm: str
) -> None:
    mesh = commands_mesh(start, 1, window_bytes=64 << 10)
    job = trial.exec(mesh, lines=LINES, rate=LINES / 2)
    sources = trial.sources(job)
    with Blocked(mesh):
        trial.wait_for_lines(sources, LINES // 2)
        segments = wait_until(lambda: spool_segments(nothing_is_left), what="a spool")
        for path, size in segments.items():
            at = seed.randrange(size // 2)
            if harm == "cut":
                os.truncate(path, at)
            else:
                fd = os.open(path, os.O_WRONLY)
                os.pwrite(fd, b"?" * 1000, at)
                os.close(fd)
        trial.wait_for_lines(sources, LINES * 3 // 4)
    assert not any(job.wait().get(60).values())
    report = mesh.flush(30).get(40)
    assert {gap.reason for gap in report.gaps} == {"the host's spool lost it"}
    assert all(gap.lines is not None for gap in report.gaps)
    ledger = trial.judge(mesh)
    assert 0 < ledger.gap < LINES
    [warning] = warnings_of(mesh, job)
    assert "stdout: the spool in" in warning
    assert " lost " in warning
    told = int(warning.split("; ")[-1].split(" ")[0].replace(",", ""))
    assert told == sum(gap.lines or 0 for gap in report.gaps)


def test_a_spool_cut_at_every_offset_gives_what_was_written_or_an_error(tmp_path: Path) -> None:
    batches = [bytes([number + 65]) * (7 + number) for number in range(6)]
    size = sum(map(len, batches))
    for offset in range(size + 1):
        spool = FileSpool(str(tmp_path), 1 << 20)
        places = [spool.write(batch) for batch in batches]
        os.truncate(f"/proc/self/fd/{spool._segments[0].fd}", offset)
        later = spool.write(b"later")
        assert later is not None
        end, lost = 0, 0
        for place, batch in zip(places, batches, strict=True):
            assert place is not None
            end += len(batch)
            assert read(spool, place) == (batch if end <= offset else None)
            lost += len(batch) * (end > offset)
        assert read(spool, later) == b"later"
        assert spool.lost_bytes == lost
        assert (f"lost {lost:,} bytes" in str(spool.warning)) == (lost > 0)
        spool.close()


def read(spool: FileSpool, place: int) -> Optional[bytes]:
    try:
        return spool.read(place)
    except OSError:
        return None
