"""The host's side with real processes: pipes, files, tee, crashes, adoption, slow clients."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from logmesh_ipy import MeshError, SpawnError, this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.engines.base import HostPlan
from logmesh_ipy.engines.local import _LocalHost
from logmesh_ipy.instance import Instance
from logmesh_ipy.lines import LineFlag
from logmesh_ipy.mesh import ProcMesh
from logmesh_ipy.wire import Call, encode
from tests.integration.conftest import ERR, OUT, MeshMaker, mesh_threads, rows, texts, unfinished
from tests.support import session_processes, wait_until

HOST = socket.gethostname()


class ByHand:
    """An engine for one test: the bootstrap is a plain child with pipes for its own output."""

    is_local = True

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes]

    async def start_host(self, plan: HostPlan) -> ByHand:
        return self._start(plan)

    def _start(self, plan: HostPlan) -> ByHand:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logmesh_ipy.bootstrap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(encode(Call(n=0, method="configure", args=plan.config)))
        self.process.stdin = None
        return self

    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        return ""

    def clean_up(self) -> None:
        self.process.wait(5)


def by_hand(options: HostOptions) -> Tuple[ProcMesh, ByHand]:
    engine = ByHand()
    chosen = MeshOptions(procs=1, host=options)
    mesh = ProcMesh(Instance(chosen), chosen)
    mesh.instance.loop.submit(mesh.start(engine, lambda ready, total: None)).get(20)
    return mesh, engine


def sources(mesh: ProcMesh) -> List[Dict[str, Any]]:
    """The bootstrap's view of each source, in the order of their making."""
    return list(mesh.host_status().get(5).values())


def stream(mesh: ProcMesh, index: int = 0, name: str = "stdout") -> Dict[str, Any]:
    found: Dict[str, Any] = sources(mesh)[index]["streams"][name]
    return found


def descriptor_writer(count: int, size: int) -> str:
    """Source: write ``count`` numbered lines of ``size`` bytes to fd 1; its value: seconds."""
    return (
        "import os, time\n"
        "started = time.monotonic()\n"
        f"for number in range({count}):\n"
        f"    os.write(1, b'%07d' % number + b'.' * {size - 8} + b'\\n')\n"
        "time.monotonic() - started"
    )


def numbers(mesh: ProcMesh) -> List[int]:
    return [int(text[:7]) for text in texts(mesh)]


# --- streams ------------------------------------------------------------------------------------


def test_stdout_and_stderr_arrive_and_the_last_partial_line_at_the_end(start: MeshMaker) -> None:
    mesh = start(2)
    job = mesh.exec(["sh", "-c", "echo out $RANK; echo err $RANK >&2; printf tail"]).get(5)
    assert job.wait().get(5) == {0: 0, 1: 0}
    for rank in (0, 1):
        out = rows(mesh, rank, OUT)
        assert [row.text for row in out] == [f"out {rank}".encode(), b"tail"]
        assert out[0].flags == LineFlag(0)
        assert LineFlag.PARTIAL in out[1].flags
        assert texts(mesh, rank, ERR) == [f"err {rank}"]


def test_output_of_two_streams_keeps_its_order_within_each(start: MeshMaker) -> None:
    mesh = start(1)
    source = "import os\nfor i in range(5000): os.write(1 + i % 2, b'%d\\n' % i)"
    mesh.run(source).get(10)
    assert mesh.flush().get(5)
    assert [int(text) for text in texts(mesh, 0, OUT)] == list(range(0, 5000, 2))
    assert [int(text) for text in texts(mesh, 0, ERR)] == list(range(1, 5000, 2))


def test_tee_writes_both_streams_to_the_bootstraps_own_too() -> None:
    mesh, engine = by_hand(HostOptions(tee=True))
    mesh.run(
        "import sys\nfor i in range(2000): print('to stdout', i)\n"
        "print('to stderr', file=sys.stderr)"
    ).get(10)
    mesh.stop().get(10)
    mesh.instance.close_loop()
    out, err = engine.process.communicate(timeout=5)
    assert out.decode().splitlines() == [f"to stdout {i}" for i in range(2000)]
    assert err.decode() == "to stderr\n"
    assert len(texts(mesh)) == 2000


def test_a_tee_that_nobody_reads_blocks_nothing() -> None:
    mesh, engine = by_hand(HostOptions(tee=True))
    assert engine.process.stdout is not None
    mesh.run(descriptor_writer(80_000, 100)).get(20)
    assert mesh.flush().get(10)
    assert numbers(mesh) == list(range(80_000))
    warnings = sources(mesh)[0]["warnings"]
    assert re.search(r"tee to fd 1: [\d,]+ bytes not written", warnings[0])
    mesh.stop().get(10)
    mesh.instance.close_loop()
    engine.process.stdout.close()
    engine.process.stderr.close()  # type: ignore[union-attr]


# --- files --------------------------------------------------------------------------------------


def test_files_hold_every_byte_under_their_names(start: MeshMaker, tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    mesh = start(2, files=str(directory))
    mesh.run(
        "import os\nos.write(1, bytes(range(256)) * 1000)\nos.write(2, b'no newline \\xff\\x00')"
    ).get(5)
    assert mesh.flush().get(5)
    written = {"stdout": bytes(range(256)) * 1000, "stderr": b"no newline \xff\x00"}
    found = {}
    for path in directory.iterdir():
        match = re.fullmatch(
            rf"logmesh-rank(\d)_{re.escape(HOST)}_[0-9a-f]{{8}}\.(stdout|stderr)", path.name
        )
        assert match, path.name
        found[match[1], match[2]] = path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert found == {(rank, name): data for rank in "01" for name, data in written.items()}
    assert sorted(s["files"]["stdout"] for s in sources(mesh)) == sorted(
        str(path) for path in directory.glob("*.stdout")
    )


def test_files_rotate_within_their_size_cap(start: MeshMaker, tmp_path: Path) -> None:
    mesh = start(1, files=str(tmp_path), file_max_bytes=10_000, file_backups=2)
    mesh.run(descriptor_writer(1000, 100)).get(5)
    assert mesh.flush().get(5)
    (newest,) = tmp_path.glob("*.stdout")
    files = [Path(f"{newest}.2"), Path(f"{newest}.1"), newest]
    assert all(0 < path.stat().st_size <= 10_000 for path in files)
    assert len(list(tmp_path.glob("*.stdout*"))) == 3
    whole = b"".join(b"%07d" % number + b"." * 92 + b"\n" for number in range(1000))
    kept = b"".join(path.read_bytes() for path in files)
    assert len(kept) > 20_000
    assert whole.endswith(kept)


def test_a_files_directory_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file" / "below", Path("/proc/nope")):
        options = MeshOptions(host=HostOptions(files=str(directory)))
        with pytest.raises(SpawnError, match="cannot write log files to") as caught:
            this_host().spawn_procs(2, options=options).get(20)
        assert str(directory) in str(caught.value)
        assert "Traceback" not in str(caught.value)


def test_peek_shows_the_last_lines_also_in_silent_mode(start: MeshMaker) -> None:
    mesh = start(2)
    mesh.instance.loop.call(
        mesh.instance.actor.set_mode, [proc.proc for proc in mesh.procs], False, None
    )
    mesh.run(
        "import sys\nfor i in range(1000): print('line', i)\nprint('tail', end='')\n"
        "print('wrong', file=sys.stderr)",
        ranks=1,
    ).get(5)
    assert mesh.peek(1, 1, 3).get(5) == [b"line 998", b"line 999", b"tail"]
    assert mesh.peek(1, 2).get(5) == [b"wrong"]
    assert mesh.peek(0).get(5) == []
    assert mesh.flush().get(5)
    assert texts(mesh, 1) == []
    assert mesh.instance.actor.totals().skipped_lines == 1001


# --- size ---------------------------------------------------------------------------------------


def peak_memory(pid: int) -> int:
    """Largest resident size of a process so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


def bootstrap_pid(mesh: ProcMesh) -> int:
    stat_text = Path(f"/proc/{mesh.procs[0].pid}/stat").read_text()
    return int(stat_text.rsplit(")", 1)[1].split()[1])


def test_a_line_of_100_megabytes_needs_bounded_memory_on_the_host(start: MeshMaker) -> None:
    mesh = start(1)
    before = peak_memory(bootstrap_pid(mesh))
    mesh.run(
        "import os\nmegabyte = b'x' * (1 << 20)\n"
        "for _ in range(100):\n"
        "    done = 0\n"
        "    while done < len(megabyte): done += os.write(1, megabyte[done:])\n"
        "os.write(1, b'\\nafter\\n');"
    ).get(30)
    assert mesh.flush().get(20)
    assert peak_memory(bootstrap_pid(mesh)) - before < 24 << 20
    long, after = rows(mesh)
    assert long.true_bytes == 100 << 20
    assert len(long.text) == 64 << 10
    assert LineFlag.TRUNCATED in long.flags
    assert after.text == b"after"


# --- last words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("os._exit(7)", "exited with code 7"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
    ],
)
def test_the_last_words_of_a_proc_that_crashes_arrive(
    start: MeshMaker, end: str, words: str
) -> None:
    mesh = start(2)
    source = (
        "import os, signal\nfor i in range(3000): print('before', i)\n"
        f"os.write(2, b'unfinished last words')\nif os.environ['RANK'] == '1': {end}"
    )
    with pytest.raises(MeshError) as caught:
        mesh.run(source).get(10)
    assert caught.value.rank == 1
    assert words in str(caught.value)
    assert "unfinished last words" in caught.value.errors[1].traceback
    report = mesh.flush().get(5)
    assert report
    assert (report.acked, report.exited) == (("rank 0",), ("rank 1",))
    assert texts(mesh, 1) == [f"before {i}" for i in range(3000)]
    assert texts(mesh, 1, ERR) == ["unfinished last words"]
    assert mesh.run("1", ranks=0).get(5) == {0: 1}
    with pytest.raises(MeshError, match=words):
        mesh.run("1", ranks=1).get(5)


def test_a_dead_proc_whose_grandchild_holds_the_pipes_is_known_as_exited(start: MeshMaker) -> None:
    mesh = start(1)
    source = (
        "import os, subprocess\nprint('bye')\n"
        "subprocess.Popen(['sh', '-c', 'sleep 0.5; echo from the grandchild; sleep 60'])\n"
        "os._exit(0)"
    )
    with pytest.raises(MeshError, match="exited with code 0"):
        mesh.run(source).get(5)
    report = mesh.flush().get(3)
    assert report
    assert report.exited == ("rank 0",)
    assert texts(mesh) == ["bye"]
    wait_until(lambda: texts(mesh) == ["bye", "from the grandchild"])


def test_a_dead_proc_whose_forked_child_holds_its_sockets_is_known_as_exited(
    start: MeshMaker,
) -> None:
    mesh = start(1)
    source = "import os, time\nprint('bye')\nif os.fork() == 0: time.sleep(60)\nos._exit(5)"
    started = time.monotonic()
    with pytest.raises(MeshError, match="exited with code 5"):
        mesh.run(source).get(5)
    assert time.monotonic() - started < 3
    assert mesh.flush().get(3).exited == ("rank 0",)
    assert texts(mesh) == ["bye"]


def test_what_a_proc_says_while_it_is_stopped_arrives(start: MeshMaker) -> None:
    mesh = start(2)
    mesh.run("import atexit\natexit.register(print, 'goodbye')").get(5)
    mesh.stop().get(10)
    assert texts(mesh) == ["goodbye", "goodbye"]
    totals = mesh.instance.actor.totals()
    assert totals.in_flight_bytes == 0
    assert totals.gap_bytes == 0


# --- starting -----------------------------------------------------------------------------------


def test_a_command_that_cannot_be_started_is_named_per_rank_in_errnos_words(
    start: MeshMaker, tmp_path: Path
) -> None:
    mesh = start(3)
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for command, words in (
        ("/no/such/command", "/no/such/command: No such file or directory"),
        (str(plain), f"{plain}: Permission denied"),
    ):
        with pytest.raises(SpawnError) as caught:
            mesh.exec([command], ranks="0,2").get(5)
        assert caught.value.failures == {0: words, 2: words}
        assert f"cannot start on ranks 0,2: {words}" in str(caught.value)
    with pytest.raises(SpawnError, match=r"/no/such \(the working directory\): No such file"):
        mesh.exec(["true"], cwd="/no/such").get(5)
    assert mesh.jobs == {}
    assert mesh.flush().get(5)


def test_a_proc_that_dies_at_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_is_left: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    os.write(2, b'libfoo.so: cannot open shared object file\\n')\n"
        "    os._exit(3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    with pytest.raises(SpawnError) as caught:
        this_host().spawn_procs(3).get(20)
    assert "rank 1 died at start, exited with code 3" in str(caught.value)
    assert "libfoo.so: cannot open shared object file" in str(caught.value)
    assert list(caught.value.failures) == [1]
    wait_until(lambda: not session_processes(nothing_is_left) and not mesh_threads(), 2)


# --- adoption -----------------------------------------------------------------------------------


def test_a_proc_that_holds_the_interpreter_lock_is_adopted_and_given_back(
    start: MeshMaker,
) -> None:
    mesh = start(1)
    mesh.run("print('start')").get(5)
    child = (
        "import sys, time\nfor i in range(30): print(time.time(), i, flush=True); time.sleep(0.1)\n"
    )
    source = (
        f"import ctypes, subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "ctypes.PyDLL(None).usleep(2_600_000)\nprint('lock is free')"
    )
    running = mesh.run(source)
    latency = 0.0
    seen = 0
    while not running.done():
        found = [row for row in rows(mesh) if row.text.count(b" ") == 1 and row.text[:1].isdigit()]
        for row in found[seen:]:
            latency = max(latency, time.time() - float(row.text.split()[0]))
        seen = len(found)
        time.sleep(0.05)
    assert seen >= 15, "lines arrive while the lock is held"
    assert latency < 2.0
    running.get(5)
    wait_until(lambda: not sources(mesh)[0]["adopted"], 5, "the hosted forwarder takes over")
    wait_until(lambda: len(texts(mesh)) == 32)
    mesh.run("print('end')").get(5)
    assert mesh.flush().get(5)
    lines = texts(mesh)
    assert (lines[0], lines[-1]) == ("start", "end")
    assert [int(line.split()[1]) for line in lines if line[0].isdigit()] == list(range(30))
    assert lines.count("lock is free") == 1
    totals = mesh.instance.actor.totals()
    assert totals.written_lines == totals.stored_lines == 33


def test_a_proc_whose_forwarder_is_gone_is_adopted(start: MeshMaker) -> None:
    mesh = start(1)
    source = (
        "import asyncio, gc, threading\n"
        "loops = [o for o in gc.get_objects() if isinstance(o, asyncio.AbstractEventLoop)]\n"
        "import threading\n"
        "(thread,) = [t for t in threading.enumerate() if t.name == 'logmesh']\n"
        "print('still here')\n"
        "for loop in loops: loop.call_soon_threadsafe(loop.stop)\n"
        "thread.join()\nprint('and alone')"
    )
    mesh.run(source)
    wait_until(lambda: "and alone" in texts(mesh), 5)
    assert sources(mesh)[0]["adopted"]
    assert mesh.flush().get(5)


# --- a slow client ------------------------------------------------------------------------------

BLOCKED_SEC = 1.0
WINDOW = 256 << 10


def run_while_blocked(mesh: ProcMesh, source: str) -> float:
    """Run source with the client's loop blocked; seconds that the proc needed."""
    running = mesh.run("print('0000000')\n" + source)
    wait_until(lambda: mesh.instance.actor.totals().written_lines > 0)
    mesh.instance.loop.call(time.sleep, BLOCKED_SEC)
    seconds: float = running.get(30)[0]
    return seconds


def test_a_blocked_client_makes_the_host_spill_to_disk_and_blocks_no_proc(
    start: MeshMaker,
) -> None:
    mesh = start(1, window_bytes=WINDOW)
    count = 60_000
    before = peak_memory(bootstrap_pid(mesh))
    seconds = run_while_blocked(mesh, descriptor_writer(count, 300))
    assert seconds < BLOCKED_SEC - 0.2
    assert mesh.flush().get(20)
    assert numbers(mesh) == [0, *range(count)]
    assert stream(mesh)["spilled_bytes"] == 0
    assert peak_memory(bootstrap_pid(mesh)) - before < 8 << 20


def test_drop_oldest_reports_exactly_what_is_lost(start: MeshMaker) -> None:
    mesh = start(1, window_bytes=WINDOW, when_full="drop_oldest")
    count = 60_000
    seconds = run_while_blocked(mesh, descriptor_writer(count, 200))
    assert seconds < BLOCKED_SEC - 0.2
    report = mesh.flush().get(20)
    assert not report
    lost = sum(gap.lines or 0 for gap in report.gaps)
    lost_bytes = sum(gap.bytes or 0 for gap in report.gaps)
    totals = mesh.instance.actor.totals()
    assert lost > 0
    assert (totals.gap_lines, totals.gap_bytes) == (lost, lost_bytes)
    assert totals.written_lines == count + 1 == totals.stored_lines + lost
    assert totals.written_bytes == count * 200 + 8 == totals.stored_bytes + lost_bytes
    assert f"{lost:,} lost" in str(report)
    assert stream(mesh)["dropped_lines"] == lost
    whole = [row for row in rows(mesh) if not row.flags]
    arrived = [int(row.text[:7]) for row in whole[1:]]
    assert arrived == sorted(set(arrived)), "in order, none twice"
    assert arrived[-1] == count - 1, "the newest are kept"


def test_what_a_job_lost_is_in_the_next_report_though_its_own_barrier_came_first(
    start: MeshMaker,
) -> None:
    mesh = start(1, window_bytes=WINDOW, when_full="drop_oldest")
    mesh.instance.loop.call(time.sleep, BLOCKED_SEC)
    job = mesh.exec([sys.executable, "-c", descriptor_writer(60_000, 200)])
    job.get(10).wait().get(20)
    report = mesh.flush().get(20)
    assert sum(gap.lines or 0 for gap in report.gaps) + report.lines == 60_000
    totals = mesh.instance.actor.totals()
    assert report.lines == totals.stored_lines
    assert mesh.flush().get(5).lines == 0


def test_block_makes_the_proc_wait_and_loses_nothing(start: MeshMaker) -> None:
    mesh = start(1, window_bytes=WINDOW, when_full="block")
    count = 60_000
    seconds = run_while_blocked(mesh, descriptor_writer(count, 200))
    assert seconds > BLOCKED_SEC / 3, "12 MB do not fit the pipe and the window"
    assert mesh.flush().get(20)
    assert numbers(mesh) == [0, *range(count)]


def test_an_unfinished_line_is_on_the_screen_after_a_flush(start: MeshMaker) -> None:
    mesh = start(1)
    mesh.run("print('50%', end='')").get(5)
    assert mesh.flush().get(5)
    assert unfinished(mesh, 0) == "50%"


# --- its own end --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_bootstrap_that_is_told_to_end_leaves_nothing(
    start: MeshMaker, nothing_is_left: str, number: int
) -> None:
    mesh = start(2)
    mesh.exec(["sh", "-c", "setsid sleep 60 & sleep 60"]).get(5)
    os.kill(bootstrap_pid(mesh), number)
    wait_until(lambda: mesh.lost, 2)
    wait_until(lambda: not session_processes(nothing_is_left), 2)


def test_the_end_of_one_bootstrap_leaves_the_other_meshes_alone(start: MeshMaker) -> None:
    first, second = start(1), start(1)
    os.kill(bootstrap_pid(first), signal.SIGTERM)
    wait_until(lambda: first.lost, 2)
    job = second.exec(["echo", "still here"]).get(5)
    assert job.wait().get(5) == {0: 0}
    assert second.flush().get(5), "the other mesh's gap is none of its own"
    assert texts(second) == ["still here"]
    report = first.flush().get(5)
    assert len(report.gaps) == 2


def test_an_interrupt_does_not_end_the_bootstrap(start: MeshMaker) -> None:
    mesh = start(1)
    os.kill(bootstrap_pid(mesh), signal.SIGINT)
    assert mesh.run("1").get(5) == {0: 1}


def test_what_a_host_said_last_is_kept_when_nothing_of_it_is_left() -> None:
    for said, kept in (("no room", "no room"), ("x" * 9000, ""), ("x" * 9000 + "\nend", "end")):
        words = tempfile.TemporaryFile()  # noqa: SIM115 (of the handle)
        words.write(said.encode())
        words.flush()
        with subprocess.Popen(["true"]) as process:
            handle = _LocalHost(process, words, f"nobody-{os.getpid()}")
            handle.clean_up()
        assert words.closed
        assert handle.last_words() == kept
