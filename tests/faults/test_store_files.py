"""The store's file after a crash, under abuse, and on disks in trouble: never a line made up."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logmesh_ipy import ProcMesh, reopen, saved_sessions, this_host
from logmesh_ipy.config import MeshOptions
from logmesh_ipy.crashed_sessions import news_of_crashes, sweep
from logmesh_ipy.errors import OptionError
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.logs import Logs
from logmesh_ipy.model import Gap, LogMessage, OutputTarget, ProcInfo, StreamTotals
from logmesh_ipy.saved_store import SavedStore, summary_of
from logmesh_ipy.store import LogStore, Row
from logmesh_ipy.store_places import SUFFIX, SessionPlace
from tests.faults.conftest import Trial, rounds
from tests.faults.disks import Disk, mounted
from tests.faults.oracle import Ledger, judge_stream
from tests.faults.writer import ROOT, LineSource, Written
from tests.integration.conftest import MeshMaker
from tests.support import wait_until

OUT, ERR = OutputTarget.STDOUT, OutputTarget.STDERR
INFOS = [ProcInfo(proc=p, rank=p, hostname="host", pid=100 + p) for p in range(3)]
DRIVER = os.path.join(ROOT, "tests", "faults", "crashing.py")


@pytest.fixture
def disk(nothing_is_left: str) -> Iterator[Disk]:
    """A disk of 2 MiB, closed to others as the store demands of its directory."""
    yield from mounted(Path(nothing_is_left, "disk"), "2m,mode=700")


def put(
    store: LogStore, data: bytes, info: ProcInfo = INFOS[0], target: OutputTarget = OUT
) -> None:
    """A batch, as the client actor brings it."""
    log = LogMessage.Log(
        proc=info.proc, epoch=1, generation=1, output_target=target, seq=0, offset=0,
        size=len(data), lines=data.count(b"\n"), wall=1.5, mono=1.0, pid=1, hostname="host",
        ends_line=data.endswith(b"\n"), payload=data,
    )  # fmt: skip
    store.append(info, log)


def save(store: LogStore) -> None:
    """What a barrier does."""
    saved = threading.Event()
    if store.save(saved.set):
        assert saved.wait(20)


def rows_of(fd: int) -> List[Row]:
    """All rows of a file."""
    store, found, row = SavedStore(fd), [], 0
    try:
        while row < store.rows:
            run = store.read_run(row, store.rows)
            row = run.heads[-1].first_row + run.heads[-1].count
            texts = iter(bytes(run.data).split(b"\n"))
            for head in run.heads:
                marks = {mark.index: mark for mark in head.marks}
                for number in range(head.count):
                    text, mark = next(texts), marks.get(number)
                    found.append(
                        Row(
                            head.first_row + number, head.info, head.target, head.cell,
                            head.first_line + number, head.wall, text,
                            mark.flags if mark else LineFlag(0),
                            mark.true_bytes if mark else len(text),
                        )
                    )  # fmt: skip
    finally:
        store.close()
    return found


def session_files(directory: str) -> List[Path]:
    return sorted(Path(directory).glob(f"logmesh-stores-*/*{SUFFIX}"))


@contextlib.contextmanager
def crashed(directory: Path, *, cells: int = 3) -> Iterator[Tuple[Path, List[Row], List[bytes]]]:
    """A file as a crash leaves it; what was in the store; and the lines that were ever open."""
    store = LogStore(max_line_bytes=40, session=SessionPlace(str(directory)))
    opened = []
    totals = StreamTotals(written_lines=9)
    gaps: List[Gap] = []
    for cell in range(1, cells + 1):
        store.begin_cell(cell)
        for number in range(4):
            info = INFOS[number % 3]
            put(store, b"cell %d line %d\nand\n" % (cell, number), info, OUT if cell % 2 else ERR)
        put(store, b"a line that is longer than the store keeps, by far\n" * 2)
        gaps.append(Gap(proc=0, output_target=OUT, lines=cell, bytes=10, reason="a test"))
        store.leave_out(INFOS[1], OUT, ends_line=False)
        store.note(totals, gaps)
        opened.append(b"open in cell %d" % cell)
        put(store, opened[-1], INFOS[2])
        save(store)
    rows = list(store.lines())
    copy = directory / f"20260101-000000-1-copy{SUFFIX}"
    shutil.copyfile(directory / store.session_name, copy)
    store.close()
    yield copy, rows, opened


def check_prefix(found: List[Row], rows: List[Row], opened: List[bytes]) -> int:
    """How many of the rows were found; what is open may stand behind them."""
    whole = len(found)
    if found and LineFlag.PARTIAL in found[-1].flags and found[-1] not in rows:
        whole -= 1
        assert found[-1].text in opened
    assert found[:whole] == rows[:whole]
    return whole


# --- any damage -------------------------------------------------------------------------------


def test_a_file_cut_at_every_offset_gives_a_prefix(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with crashed(tmp_path, cells=6) as (path, rows, opened):
        size = path.stat().st_size
        fd = os.open(path, os.O_RDWR)
        assert check_prefix(rows_of(os.dup(fd)), rows, opened) == len(rows)
        counts = []
        for end in reversed(range(size)):
            os.ftruncate(fd, end)
            counts.append(check_prefix(rows_of(os.dup(fd)), rows, opened))
            summary = summary_of(fd)
            lines = 0 if summary is None else summary.lines
            assert lines <= counts[-1] <= lines + 1  # an open line may be what became a row later
            assert summary is None or summary.bytes + summary.cut_bytes == end
        os.close(fd)
        assert counts == sorted(counts, reverse=True)
        assert len(set(counts)) > 5
        sys.stdout.write(f"{size} offsets, prefixes of {sorted(set(counts))} rows\n")


def test_a_flipped_byte_anywhere_gives_a_prefix(tmp_path: Path, seed: random.Random) -> None:
    tmp_path.chmod(0o700)
    with crashed(tmp_path) as (path, rows, opened):
        data = bytearray(path.read_bytes())
        fd = os.open(path, os.O_RDWR)
        for at in range(0, len(data), rounds(2, 1)):
            before, data[at] = data[at], data[at] ^ seed.randrange(1, 256)
            os.pwrite(fd, data, 0)
            assert (
                check_prefix(rows_of(os.dup(fd)), rows, opened) < len(rows) or at > len(data) // 2
            )
            summary_of(fd)
            data[at] = before
        os.close(fd)


@given(st.data())
@settings(max_examples=rounds(150, 3000))
def test_pieces_missing_doubled_or_overwritten_give_a_prefix(
    tmp_path_factory: pytest.TempPathFactory, dice: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("stores", numbered=True)
    directory.chmod(0o700)
    with crashed(directory, cells=2) as (path, rows, opened):
        data = path.read_bytes()
        parts = dice.draw(st.tuples(*[st.floats(0, 1)] * 3))
        first, end, to = (round(part * len(data)) for part in (*sorted(parts[:2]), parts[2]))
        kind = dice.draw(st.integers(0, 3))
        piece = (b"", data[first:end], b"\0" * (end - first), b"LMsg")[kind]
        path.write_bytes(data[:to] + piece + data[to if dice.draw(st.booleans()) else end :])
        fd = os.open(path, os.O_RDONLY)
        check_prefix(rows_of(os.dup(fd)), rows, opened)
        summary_of(fd)
        os.close(fd)


def test_what_the_session_knew_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with crashed(tmp_path) as (path, rows, _):
        logs = reopen(path.name, str(tmp_path))
        assert len(logs.where(cell=2)) == sum(row.cell == 2 for row in rows)
        assert len(logs.where(ranks=1, stream="stderr")) == sum(
            row.info.rank == 1 and row.target == ERR for row in rows
        )
        told = logs._store.told  # type: ignore[attr-defined]
        assert [gap.lines for gap in told.gaps] == [1, 2, 3]
        assert told.totals == StreamTotals(written_lines=9)
        assert told.session["pid"] == os.getpid()
        assert logs.to_arrow().num_rows == len(rows) + 1
        assert "3: crashed" not in str(saved_sessions(str(tmp_path))[0])


# --- kill -9 ----------------------------------------------------------------------------------


class Driver:
    """A process that drives a mesh whose writers storm, and what it has said."""

    def __init__(self, trial: Trial, directory: str, *flags: str, lines: int, rate: float) -> None:
        self.count = 2
        self.first = trial.new_sources(self.count)
        command = trial.command(lines=lines, rate=rate, source=f"{self.first}+RANK")
        self.said = open(f"{directory}/said-{time.monotonic()}", "w+b")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                sys.executable, DRIVER, trial.path, f"{self.first}-{self.first + self.count}",
                *flags, "--", *command,
            ],
            stdout=self.said, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": ROOT},
        )  # fmt: skip

    def words(self, first: str) -> List[List[str]]:
        """What it has said so far of one kind."""
        lines = Path(self.said.name).read_text(errors="replace").split("\n")[:-1]
        return [line.split()[1:] for line in lines if line.split()[:1] == [first]]

    def kill(self) -> float:
        """``kill -9``; when."""
        self.process.kill()
        at = time.monotonic()
        self.process.wait()
        return at

    def close(self) -> None:
        """End it if it lives."""
        self.process.kill()
        self.process.wait()
        self.said.close()


@pytest.fixture
def drivers(trial: Trial, nothing_is_left: str) -> Iterator[Callable[..., Driver]]:
    """``drivers(lines=..., rate=...)`` starts one; at the end none is left."""
    made: List[Driver] = []

    def start(*flags: str, lines: int = 1_000_000, rate: float = 0.0) -> Driver:
        made.append(Driver(trial, nothing_is_left, *flags, lines=lines, rate=rate))
        return made[-1]

    yield start
    for driver in made:
        driver.close()


def judge(trial: Trial, driver: Driver, rows: List[Row], proved: List[int]) -> Ledger:
    """Of each writer's stream all that was proved must be there, and what is there be right."""
    total = Ledger()
    procs = {int(proc): int(rank) for rank, proc in driver.words("proc")}
    streams: Dict[int, List[Row]] = {rank: [] for rank in procs.values()}
    for row in rows:
        streams[procs[row.info.proc]].append(row)
    for rank, found in streams.items():
        source = driver.first + rank
        begun = trial.tally.written(source, 1).begun
        lines = LineSource(trial.number, source, 1)
        total.add(judge_stream(lines, Written(proved[rank], begun), found, b"", gaps=[]))
    sys.stdout.write(f"ledger: {total}\n")
    assert total.clean, str(total)
    return total


@pytest.mark.parametrize("number", range(rounds(2, 20)))
def test_after_a_kill_in_a_storm_all_is_there_that_a_barrier_proved_or_that_was_a_second_old(
    trial: Trial, drivers: Callable[..., Driver], seed: random.Random, number: int
) -> None:
    driver = drivers(rate=(0.0, 20_000.0)[number % 2])
    wait_until(lambda: "0" not in (driver.words("proved") or [["0"]])[-1], 60)
    time.sleep(seed.random())
    killed = driver.kill()
    proved = [int(size) for size in driver.words("proved")[-1]]
    stored = [int(rows) for at, rows in driver.words("stored") if float(at) < killed - 1.5]
    [session] = saved_sessions()
    assert not session.running
    assert session.pid == driver.process.pid
    assert session.procs == 2
    logs = reopen()
    assert len(logs) >= max(stored, default=0)
    assert session.lines <= len(logs) <= session.lines + 2
    judge(trial, driver, list(logs), proved)
    assert f"{session.lines:,} lines" in news_of_crashes()


def test_a_forked_child_that_lives_on_neither_holds_the_session_nor_removes_it(
    drivers: Callable[..., Driver],
) -> None:
    driver = drivers("--forks", lines=2000)
    [child] = [int(pid) for [pid] in wait_until(lambda: driver.words("child"), 60)]
    wait_until(lambda: "0" not in (driver.words("proved") or [["0"]])[-1], 60)
    driver.kill()
    try:
        assert os.path.exists(f"/proc/{child}")
        assert [session.running for session in saved_sessions()] == [False]
    finally:
        os.kill(child, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{child}"))
    assert len(reopen()) > 0


def test_beside_a_living_kernel_a_session_gives_a_prefix_and_nobody_is_disturbed(
    trial: Trial, drivers: Callable[..., Driver]
) -> None:
    one, other = drivers(rate=5000.0), drivers(rate=5000.0)
    wait_until(lambda: len(saved_sessions()) == 2, 60)
    assert [session.running for session in saved_sessions()] == [True, True]
    with pytest.raises(OptionError, match="nothing to reopen"):
        reopen()
    name = next(s.name for s in saved_sessions() if s.pid == one.process.pid)
    proved = [int(size) for size in one.words("proved")[-1]]
    logs = reopen(name)
    before = list(logs)
    wait_until(lambda: len(reopen(name)) > len(before))
    assert list(logs) == before
    judge(trial, one, before, proved)
    assert sweep(most=0) == 0
    one.kill()
    assert {s.pid: s.running for s in saved_sessions()} == {
        one.process.pid: False,
        other.process.pid: True,
    }
    # Whoever reads on is not disturbed by who sweeps meanwhile.
    kept = reopen(name)
    assert sweep(most=0) == 0
    assert len(kept) >= len(before)
    del kept, logs
    assert sweep(most=0) == 1
    assert [s.pid for s in saved_sessions()] == [other.process.pid]


# --- an orderly end ---------------------------------------------------------------------------

_ENDS = {
    "returns": "",
    "stops": "mesh.stop().get(30)",
    "raises": "raise SystemExit(3)",
    "stops, starts again": "mesh.stop().get(30)\nthis_host().spawn_procs(1).get(30)",
    "forks": "import os\nif not os.fork(): raise SystemExit\nos.wait()\n"
    "assert mesh.instance.store.session_name in os.listdir(store_directory())",
}


@pytest.mark.parametrize("how", list(_ENDS)[rounds(3, 0) :])
def test_an_orderly_end_leaves_nothing(nothing_is_left: str, how: str) -> None:
    script = (
        "from logmesh_ipy import this_host\n"
        "from logmesh_ipy.store_places import store_directory\n"
        "mesh = this_host().spawn_procs(1).get(30)\n"
        "mesh.run(\"print('x')\").get(30)\n"
        "mesh.flush().get(30)\n"
        "assert mesh.instance.store.session_name\n" + _ENDS[how]
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == (3 if how == "raises" else 0), ended.stderr
    assert [n for n in os.listdir(nothing_is_left) if n.startswith("logmesh-stores")] == []


# --- the directory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm", ["another's", "a link", "open to others", "a file"][: rounds(2, 4)]
)
def test_a_directory_that_cannot_be_trusted_is_refused_and_told(
    nothing_is_left: str, start: MeshMaker, harm: str
) -> None:
    place = Path(nothing_is_left, f"logmesh-stores-{os.getuid()}")
    elsewhere = Path(nothing_is_left, "elsewhere")
    elsewhere.mkdir(mode=0o700)
    if harm == "a link":
        place.symlink_to(elsewhere)
    elif harm == "a file":
        place.write_bytes(b"")
    else:
        place.mkdir(mode=0o700)
        place.chmod(0o755 if harm == "open to others" else 0o700)
        os.chown(place, os.getuid() if harm == "open to others" else 12345, -1)
    mesh = start(1)
    mesh.run("for k in range(1000): print(k)").get(30)
    assert mesh.flush().get(30)
    assert "not kept for after a crash" in mesh.instance.store.trouble
    assert [row.text for row in mesh.instance.store.lines()] == [b"%d" % k for k in range(1000)]
    assert os.listdir(elsewhere) == []
    assert not place.is_dir() or os.listdir(place) == []
    with pytest.raises(OptionError, match="cannot be read"):
        saved_sessions()
    mesh.stop().get(30)
    mesh.instance.store.close()
    place.unlink() if harm in {"a link", "a file"} else place.rmdir()


def test_a_directory_refused_when_the_file_was_removed_costs_no_line_that_was_in_it(
    tmp_path: Path,
) -> None:
    place = tmp_path / "stores"
    store = LogStore(memory_bytes=6 << 20, session=SessionPlace(str(place)))
    many = b"".join(b"%099d\n" % number for number in range(10_000))
    for _ in range(20):
        put(store, many)
    save(store)
    assert next(iter(store._blocks)).chunks is None
    shutil.rmtree(place)
    place.mkdir(mode=0o755)
    put(store, b"and on\n")
    save(store)
    for _ in range(20):
        put(store, many)
    assert "open to others" in store.trouble
    assert store.session_name == ""
    want = many.split(b"\n")[:-1] * 20
    wait_until(lambda: list(store._blocks)[-2].chunks is None or store._blocks.in_memory < 12 << 20)
    assert [row.text for row in store.lines()] == [*want, b"and on", *want]
    assert os.listdir(place) == []
    fd = store._writer.file._opened.fd
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_disk_without_locks_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr("logmesh_ipy.store_file.fcntl.flock", refuse)
    before = len(os.listdir("/proc/self/fd"))
    store = LogStore(session=SessionPlace(str(tmp_path / "stores")))
    put(store, b"x\n")
    save(store)
    assert "No locks available" in store.trouble
    assert os.listdir(tmp_path / "stores") == []
    assert len(os.listdir("/proc/self/fd")) == before
    store.close()


def test_an_unfinished_line_is_told_as_it_was(tmp_path: Path) -> None:
    store = LogStore(max_line_bytes=40, session=SessionPlace(str(tmp_path / "stores")))
    put(store, b"begun")
    store.begin_cell(1)
    put(store, b"y" * 100)
    save(store)
    begun, went_on = reopen(store.session_name, str(tmp_path / "stores"))
    assert (begun.text, begun.flags) == (b"begun", LineFlag.PARTIAL)
    assert went_on.flags == LineFlag.PARTIAL | LineFlag.CONTINUED | LineFlag.TRUNCATED
    assert (went_on.text, went_on.true_bytes) == (b"y" * 40, 100)
    store.close()


@pytest.mark.parametrize("umask", [0, 0o777])
def test_files_and_directories_are_the_users_own_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    place = tmp_path / "stores"
    before = os.umask(umask)
    try:
        store = LogStore(session=SessionPlace(str(place)))
        put(store, b"x\n")
        save(store)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / store.session_name).stat().st_mode) == 0o600
    store.close()
    assert list(place.iterdir()) == []  # the directory is the user's own


def test_a_link_planted_under_the_files_name_is_not_followed(tmp_path: Path) -> None:
    place, victim = tmp_path / "stores", tmp_path / "victim"
    place.mkdir(mode=0o700)
    victim.write_bytes(b"precious")
    store = LogStore(session=SessionPlace(str(place)))
    put(store, b"x\n")
    save(store)
    name = store.session_name
    path = place / name
    path.unlink()
    path.symlink_to(victim)
    put(store, b"y\n")
    save(store)
    assert victim.read_bytes() == b"precious"
    assert store.session_name != name
    assert "removed 1 times, and written anew" in store.trouble
    assert [row.text for row in reopen(store.session_name, str(place))] == [b"x", b"y"]
    assert [s.name + SUFFIX for s in saved_sessions(str(place))] == [store.session_name]
    path.unlink()
    store.close()
    assert list(place.iterdir()) == []


def test_old_and_many_sessions_are_swept_the_newest_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with crashed(tmp_path) as (path, _, _):
        for number in range(14):
            copy = tmp_path / f"20260101-0000{number:02}-2-copy{SUFFIX}"
            shutil.copyfile(path, copy)
            age = number * 3600 if number < 12 else 8 * 86_400
            os.utime(copy, (time.time() - age - 60, time.time() - age - 60))
        assert sweep(str(tmp_path)) == 5
        left = sorted(each.name[9:15] for each in tmp_path.iterdir() if each != path)
        assert left == [f"0000{number:02}" for number in range(9)]
        assert sweep(str(tmp_path), most_bytes=3 * path.stat().st_size) == 7
        assert sweep(str(tmp_path), most=0) == 3
    assert list(tmp_path.iterdir()) == []


def test_sessions_that_cannot_be_removed_stay_and_stop_no_start(
    start: MeshMaker, disk: Disk
) -> None:
    place = Path(disk.path)
    with crashed(place) as (path, _, _):
        names = [path.name, f"20260101-000000-2-host{SUFFIX}", f"20260101-000000-3-host{SUFFIX}"]
        for name in names[1:]:
            shutil.copyfile(path, place / name)
    disk.allow_writing(False)
    assert sweep(str(place), most=0) == 0
    mesh = disk_mesh(start, str(place), keep_sessions=1)
    assert mesh.flush().get(30)
    mesh.stop().get(30)
    assert sorted(os.listdir(place)) == names
    disk.allow_writing(True)
    assert sweep(str(place), most=0) == len(names)


def test_a_mesh_that_keeps_no_sessions_leaves_those_there_are_alone(
    start: MeshMaker, nothing_is_left: str
) -> None:
    place = Path(nothing_is_left, "stores")
    place.mkdir(mode=0o700)
    with crashed(place) as (path, _, _):
        pass
    mesh = disk_mesh(start, str(place), keep_sessions=0)
    assert mesh.flush().get(30)
    mesh.stop().get(30)
    assert os.listdir(place) == [path.name]
    shutil.rmtree(place)


# --- a disk in trouble ------------------------------------------------------------------------


def disk_mesh(start: MeshMaker, directory: str, keep_sessions: int = 10) -> ProcMesh:
    options = MeshOptions(store_directory=directory, keep_sessions=keep_sessions)
    mesh = this_host().spawn_procs(1, options=options, commands_only=True).get(30)
    start.meshes.append(mesh)
    return mesh


@pytest.mark.parametrize("harm", ["full", "read-only"][: rounds(1, 2)])
def test_a_disk_that_refuses_costs_memory_and_no_line_and_is_written_when_it_does_not(
    disk: Disk, start: MeshMaker, trial: Trial, harm: str
) -> None:
    mesh = disk_mesh(start, disk.path)
    store = mesh.instance.store
    disk.fill() if harm == "full" else disk.allow_writing(False)
    job = trial.exec(mesh, lines=2000)
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    reason = "No space left on device" if harm == "full" else "Read-only file system"
    assert f"cannot write its file: {reason}; 2,000 lines are in memory only" in store.trouble
    trial.judge(mesh)
    disk.free() if harm == "full" else disk.allow_writing(True)
    wait_until(lambda: not store.trouble, 10)
    save(store)
    assert [row.text for row in reopen(store.session_name, disk.path)] == [
        row.text for row in store.lines()
    ]
    trial.judge(mesh)


def test_a_disk_that_is_full_in_the_middle_keeps_all_that_was_written(
    disk: Disk, start: MeshMaker, trial: Trial
) -> None:
    mesh = disk_mesh(start, disk.path)
    store = mesh.instance.store
    job = trial.exec(mesh, lines=30_000)
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    assert store.bytes > 3 << 20
    assert "No space left on device" in store.trouble
    trial.judge(mesh)
    saved = [row.text for row in reopen(store.session_name, disk.path)]
    assert saved == [row.text for row in store.lines()][: len(saved)]
    assert (len(saved) > 0) == (saved_sessions(disk.path)[0].lines > 0)


@pytest.mark.parametrize("memory_bytes", [1 << 20, 1 << 30])
def test_a_file_that_is_cut_under_the_writer_is_written_again_from_memory(
    tmp_path: Path, seed: random.Random, memory_bytes: int
) -> None:
    place = tmp_path / "stores"
    store = LogStore(session=SessionPlace(str(place)), memory_bytes=memory_bytes)
    texts = [b"%06d %s" % (number, b"x" * 90) for number in range(200_000)]
    for first in range(0, len(texts), 1000):
        put(store, b"\n".join(texts[first : first + 1000]) + b"\n")
        if first % 25_000 == 0:
            save(store)
            path = place / store.session_name
            os.truncate(path, seed.randrange(path.stat().st_size + 1))
    put(store, b"last\n")
    save(store)
    found = [row.text for row in rows_of(os.open(place / store.session_name, os.O_RDONLY))]
    if memory_bytes == 1 << 30:
        assert found == [*texts, b"last"]
        assert store.trouble == ""
    else:
        lost = len(texts) + 1 - len(found)
        assert f"{lost:,} lines are lost" in store.trouble
        assert set(found) <= {*texts, b"last"}
        assert found == sorted(set(found))
        with pytest.warns(UserWarning, match="lines are lost: rows"):
            assert [row.text for row in Logs(store, lambda: None, 1)] == found
        assert [row.text for row in store.lines()] == found
    store.close()


def test_a_file_that_is_removed_under_the_writer_is_written_anew_with_all_lines(
    start: MeshMaker, trial: Trial, nothing_is_left: str
) -> None:
    mesh = disk_mesh(start, "")
    store = mesh.instance.store
    job = trial.exec(mesh, lines=6000, rate=2000)
    for part in (1, 2):
        trial.wait_for_lines(trial.sources(job), part * 2000)
        [path] = wait_until(lambda: session_files(nothing_is_left))
        path.unlink()
        wait_until(lambda: session_files(nothing_is_left), 10)
    assert not any(job.wait().get(60).values())
    assert mesh.flush(30).get(40)
    assert "removed 2 times, and written anew" in store.trouble
    trial.judge(mesh)
    assert list(reopen(store.session_name)) == list(store.lines())
