"""ProcMesh, LoggingMeshClient and jobs, end to end with real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from logmesh_ipy import CommandError, LoggingMeshClient, MeshError, context, this_host
from logmesh_ipy.errors import LoopBlockedError, MeshStateError, OptionError
from logmesh_ipy.mesh import ProcMesh
from tests.integration.conftest import ERR, MeshMaker, mesh_threads, rows, texts
from tests.support import session_processes, wait_until

FOREVER = "while True: time.sleep(0.01)"


def client_of(mesh: ProcMesh) -> LoggingMeshClient:
    return LoggingMeshClient.spawn(mesh.instance, mesh).get(5)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until all of its threads have stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(stat.rsplit(")", 1)[1].split()[0] == "T" for stat in stats)

    wait_until(stopped)


# --- the control surface ------------------------------------------------------------------------


def test_the_example_of_the_control_surface_runs_as_written() -> None:
    async def main() -> None:
        proc_mesh = await this_host().spawn_procs(2)
        instance = context().actor_instance

        client = await LoggingMeshClient.spawn(instance, proc_mesh)  # one client actor in driver
        client.set_mode(instance, stream_to_client=True, aggregate_window_sec=3, level=logging.INFO)
        await proc_mesh.run("print('produced')")
        report = await client.flush(instance)  # barrier: all logs observed up to this point

        assert report
        assert (report.lines, report.acked) == (2, ("rank 0", "rank 1"))
        assert str(report) == "2/2 procs, 2 lines, 0 lost"
        assert instance.actor.aggregate_window_sec == 3
        await proc_mesh.stop()
        assert sorted(texts(proc_mesh)) == ["produced", "produced"]
        instance.close_loop()

    asyncio.run(main())


def test_get_on_the_meshs_own_loop_is_an_error_instead_of_a_deadlock() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        instance = context(loop=loop).actor_instance
        mesh = await this_host().spawn_procs(1, instance=instance)
        with pytest.raises(LoopBlockedError, match="use `await` here"):
            mesh.run("1").get(5)
        assert await mesh.run("2") == {0: 2}
        await mesh.stop()
        assert mesh_threads() == []

    asyncio.run(main())


def test_results_can_be_awaited_from_any_loop_and_thread(start: MeshMaker) -> None:
    mesh = start(2)

    async def work() -> Dict[int, Any]:
        first, second = mesh.run("1"), mesh.flush()
        assert await second
        return await first

    found: List[Dict[int, Any]] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(work()))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [{0: 1, 1: 1}] * 3


def test_set_mode_checks_its_arguments(start: MeshMaker) -> None:
    mesh = start(1)
    client, instance = client_of(mesh), mesh.instance
    with pytest.raises(RuntimeError, match="cannot aggregate without streaming"):
        client.set_mode(instance, stream_to_client=False, aggregate_window_sec=3, level=20)
    for level in (256, -1):
        with pytest.raises(ValueError, match="0 to 255"):
            client.set_mode(instance, True, None, level)
    for window in (0, -1, 0.5, float("nan")):
        with pytest.raises(ValueError, match="window"):
            client.set_mode(instance, True, window, 20)
    assert (client.stream_to_client, client.aggregate_window_sec) == (True, None)
    client.set_mode(instance, False, None, 255)
    assert mesh.flush().get(5)


def test_set_mode_sets_pythons_level_in_the_procs(start: MeshMaker) -> None:
    mesh = start(2, level=logging.WARNING)
    client, instance = client_of(mesh), mesh.instance
    speak = (
        "import logging\nfor level in (10, 20, 30): logging.log(level, f'at {level}')\n"
        "logging.getLogger().level"
    )
    assert mesh.run(speak).get(5) == {0: 30, 1: 30}
    for level in (logging.DEBUG, logging.ERROR, 0, logging.INFO):
        client.set_mode(instance, True, None, level)
        client.flush(instance).get(5)  # in order behind it
        assert mesh.run("logging.getLogger().level").get(5) == {0: level, 1: level}
    mesh.run(speak, ranks=0).get(5)
    assert client.flush(instance).get(5)
    assert texts(mesh, 0, ERR) == ["WARNING:root:at 30", "INFO:root:at 20", "WARNING:root:at 30"]


def test_silent_mode_keeps_lines_on_the_host_and_counts_them(start: MeshMaker) -> None:
    mesh = start(2)
    client, instance = client_of(mesh), mesh.instance
    client.set_mode(instance, False, None, 20)
    mesh.run("for i in range(10): print('unheard', i)").get(5)
    job = mesh.exec(["echo", "unheard too"]).get(5)
    job.wait().get(5)
    assert client.flush(instance).get(5)
    assert texts(mesh) == []
    totals = instance.actor.totals()
    assert (totals.skipped_lines, totals.stored_lines, totals.in_flight_lines) == (22, 0, 0)
    client.set_mode(instance, True, None, 20)
    mesh.run("print('heard')").get(5)
    assert client.flush(instance).get(5).lines == 2


# --- running code -------------------------------------------------------------------------------


def test_source_gives_the_value_of_its_last_expression_and_keeps_its_names(
    start: MeshMaker,
) -> None:
    mesh = start(3)
    assert mesh.run("import os\nrank = int(os.environ['RANK'])\nrank * 2").get(5) == {
        0: 0,
        1: 2,
        2: 4,
    }
    assert mesh.run("rank + 1", ranks="1-2").get(5) == {1: 2, 2: 3}
    assert mesh.run("rank + 1", ranks=[0]).get(5) == {0: 1}
    assert mesh.run("rank + 1;").get(5) == {0: None, 1: None, 2: None}
    assert mesh.run("__name__", ranks=0).get(5) == {0: "__main__"}
    with pytest.raises(OptionError, match="there is no rank 3"):
        mesh.run("1", ranks=3)


def test_await_is_allowed_at_top_level(start: MeshMaker) -> None:
    mesh = start(1)
    source = "import asyncio\nasync def double(x):\n    await asyncio.sleep(0)\n    return 2 * x\n"
    assert mesh.run(source + "y = await double(4)\ny + await double(1)").get(5) == {0: 10}
    assert mesh.run("y").get(5) == {0: 8}


def test_source_is_compiled_as_itself(start: MeshMaker) -> None:
    mesh = start(1)
    source = "def f(x: int): pass\nf.__annotations__['x'] is int"
    assert mesh.run(source).get(5) == {0: True}


def test_functions_run_with_their_arguments_also_async_ones(start: MeshMaker) -> None:
    mesh = start(2)
    base = 100

    def add(x: int, *, y: int = 0) -> int:
        return base + x + y

    async def later(x: int) -> int:
        await asyncio.sleep(0.01)
        return x * 2

    assert mesh.run(add, 1, y=10).get(5) == {0: 111, 1: 111}
    assert mesh.run(later, 4, ranks=1).get(5) == {1: 8}
    with pytest.raises(TypeError, match="source takes none"):
        mesh.run("1", 2)


def test_big_arguments_and_results_pass(start: MeshMaker) -> None:
    mesh = start(2)
    blob = os.urandom(5 << 20)

    def turn(data: bytes) -> bytes:
        return data[::-1]

    assert mesh.run(turn, blob).get(20) == {0: blob[::-1], 1: blob[::-1]}


def test_an_error_on_one_rank_names_it_and_keeps_the_others_results(start: MeshMaker) -> None:
    mesh = start(4)
    source = (
        "import os\nrank = int(os.environ['RANK'])\nprint('rank', rank)\n"
        "def check(rank):\n    if rank == 2:\n        raise ValueError(f'bad\\nrank {rank}')\n"
        "check(rank)\nrank"
    )
    with pytest.raises(MeshError) as caught:
        mesh.run(source).get(5)
    error = caught.value
    assert error.rank == 2
    assert error.results == {0: 0, 1: 1, 3: 3}
    assert list(error.errors) == [2]
    assert (error.errors[2].kind, error.errors[2].message) == ("ValueError", "bad\nrank 2")
    assert "rank 2 of 4 failed: ValueError: bad" in str(error)
    traceback = error.errors[2].traceback
    assert traceback.startswith('Traceback (most recent call last):\n  File "<mesh run 1>"')
    assert "    check(rank)\n" in traceback
    assert "    raise ValueError(f'bad" in traceback
    assert "logmesh_ipy" not in traceback
    assert "[rank 2] traceback on the proc:" in error._render_traceback_()
    assert mesh.flush().get(5)
    assert sorted(texts(mesh)) == [f"rank {rank}" for rank in range(4)]
    # Later code may call what was defined then: its source is still right.
    with pytest.raises(MeshError) as caught:
        mesh.run("# other source\n\n\n\n\n\n\ncheck(2)", ranks=1).get(5)
    assert "raise ValueError(f'bad" in caught.value.errors[1].traceback


def test_tracebacks_of_awaited_code_show_the_users_frames_only(start: MeshMaker) -> None:
    mesh = start(1)
    with pytest.raises(MeshError) as caught:
        mesh.run("import asyncio\nawait asyncio.sleep(0)\nraise KeyError('x')").get(5)
    traceback = caught.value.errors[0].traceback
    assert traceback.count("  File ") == 1
    assert "raise KeyError('x')" in traceback


NASTY = """
import sys
class Stream:
    __hash__ = None
    def write(self, text): pass
    def flush(self): raise KeyError
sys.stdout = Stream()
1 / 0
"""
WITHOUT_TEXT = "class E(Exception):\n    def __str__(self): raise ValueError\nraise E"


def test_whatever_code_does_its_proc_lives_on(start: MeshMaker) -> None:
    mesh = start(1)
    for source, kind in (
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("1 +", "SyntaxError"),
        ("raise BaseException('odd')", "BaseException"),
        (WITHOUT_TEXT, "E"),
        ("import threading\nthreading.Lock()", "TypeError"),
        (NASTY, "ZeroDivisionError"),
    ):
        with pytest.raises(MeshError) as caught:
            mesh.run(source).get(5)
        assert caught.value.errors[0].kind == kind
        assert mesh.run("6 * 7").get(5) == {0: 42}
        assert mesh.flush().get(5)


def test_a_result_that_cannot_be_read_here_is_an_error_of_its_rank(start: MeshMaker) -> None:
    mesh = start(1)
    source = "class R:\n    def __reduce__(self): return (int, ('x',))\nR()"
    with pytest.raises(MeshError, match="the result cannot be read here: ValueError"):
        mesh.run(source).get(5)


def test_a_proc_that_is_killed_while_it_runs_is_named(start: MeshMaker) -> None:
    mesh = start(2)
    running = mesh.run("import time; print('running')\n" + FOREVER)
    wait_until(lambda: len(texts(mesh)) == 2)
    os.kill(mesh.procs[1].pid, signal.SIGKILL)
    wait_until(lambda: mesh.procs[1].exit_code is not None)
    mesh.interrupt(0).get(5)
    with pytest.raises(MeshError) as caught:
        running.get(5)
    assert caught.value.rank == 1
    assert caught.value.errors[1].message == "the proc was killed by SIGKILL"
    assert caught.value.errors[0].kind == "KeyboardInterrupt"


# --- interrupts ---------------------------------------------------------------------------------


SLOW_RESULT = """
import time
class Slow:
    def __reduce__(self):
        print('on')
        time.sleep(60)
Slow()
"""


def test_an_interrupt_ends_the_code_within_a_second_and_keeps_the_mesh(start: MeshMaker) -> None:
    mesh = start(2)
    mesh.run("kept = 5").get(5)
    for count, source in enumerate(
        (
            "import time\nprint('on')\ntime.sleep(60)",
            "print('on')\nwhile True: pass",
            "import subprocess\nprint('on')\nsubprocess.run(['sleep', '60'])",
            "import asyncio\nprint('on')\nawait asyncio.sleep(60)",
            SLOW_RESULT,
        )
    ):
        running = mesh.run(source)
        wait_until(
            lambda count=count: texts(mesh).count("on") == 2 * count + 2  # type: ignore[misc]
        )
        started = time.monotonic()
        assert mesh.interrupt().get(5) == [0, 1]
        with pytest.raises(MeshError) as caught:
            running.get(5)
        assert time.monotonic() - started < 1
        assert {error.kind for error in caught.value.errors.values()} == {"KeyboardInterrupt"}
        assert mesh.run("kept").get(5) == {0: 5, 1: 5}
        assert mesh.flush().get(5)


def test_cancelling_a_run_interrupts_it(start: MeshMaker) -> None:
    mesh = start(1)
    running = mesh.run("import time\nprint('on')\n" + FOREVER)
    wait_until(lambda: texts(mesh) == ["on"])
    running.cancel()
    assert mesh.run("1").get(2) == {0: 1}


def test_an_interrupted_await_is_over_and_not_continued_by_the_next_one(start: MeshMaker) -> None:
    mesh = start(1)
    running = mesh.run(
        "import asyncio\ntry:\n    print('on')\n    await asyncio.sleep(0.5)\n    print('wrong')\n"
        "finally:\n    print('cleaned up')"
    )
    wait_until(lambda: texts(mesh) == ["on"])
    mesh.interrupt().get(5)
    with pytest.raises(MeshError):
        running.get(5)
    mesh.run("await asyncio.sleep(0.6)").get(5)
    assert mesh.flush().get(5)
    assert texts(mesh) == ["on", "cleaned up"]


def test_an_interrupt_when_nothing_runs_does_nothing(start: MeshMaker) -> None:
    mesh = start(2)
    for _ in range(20):
        mesh.interrupt().get(5)
    assert mesh.run("1").get(5) == {0: 1, 1: 1}
    assert mesh.flush().get(5)
    assert texts(mesh, None, ERR) == []


def test_interrupts_at_any_moment_kill_no_proc(start: MeshMaker, seed: random.Random) -> None:
    mesh = start(1)
    over = threading.Event()

    def interrupt() -> None:
        while not over.is_set():
            mesh.interrupt().get(5)
            time.sleep(seed.uniform(0, 0.003))

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcomes = set()
    try:
        for _ in range(200):
            try:
                outcomes.add(str(mesh.run("sum(range(20000))").get(5)))
            except MeshError as error:
                failure = error.errors[0]
                told = failure.kind == "KeyboardInterrupt"
                outcomes.add(failure.kind if told else failure.traceback)
    finally:
        over.set()
        thread.join()
    assert outcomes <= {"{0: 199990000}", "KeyboardInterrupt"}
    assert mesh.run("'alive'").get(5) == {0: "alive"}


# --- the barrier --------------------------------------------------------------------------------

WRITERS = {
    "print": "print('{token}', end='')",
    "write": "import os; os.write(1, b'{token}')",
    "printf": "import ctypes; ctypes.CDLL(None).printf(b'{token}')",
    "grandchild": "import subprocess; subprocess.run(['sh', '-c', 'printf {token}'])",
    "stderr": "import sys; sys.stderr.write('{token}')",
    "orphan": "import os; os.system('printf {token} & wait')",
}


def test_after_a_flush_everything_is_there_whoever_wrote_it(
    start: MeshMaker, seed: random.Random
) -> None:
    mesh = start(2)
    store = mesh.instance.store
    todo = [name for name in WRITERS for _ in range(300 if name in CHEAP else 60)]
    seed.shuffle(todo)
    for number, name in enumerate(todo):
        token = f"[{name}{number}]"
        rank = number % 2
        source = WRITERS[name].replace("{token}", token)
        if number % 50 == 0:
            source += "; print()" if name != "stderr" else "; print(file=sys.stderr)"
        first = store.rows
        mesh.run(source + ";", ranks=rank).get(5)
        report = mesh.flush().get(5)
        assert report
        seen = b"".join(row.text for row in store.lines(first))
        seen += b"".join(line.text[-200:] for line in store.open_lines())
        assert token.encode() in seen, f"{name} {number}"


CHEAP = ("print", "write", "printf", "stderr")


def test_fifty_flushes_at_once_all_complete(start: MeshMaker) -> None:
    mesh = start(4)
    mesh.run("for i in range(1000): print(i)").get(5)
    reports = [flush.get(10) for flush in [mesh.flush() for _ in range(50)]]
    assert all(reports)
    versions = [report.version for report in reports]
    assert len(set(versions)) == 50
    assert sum(report.lines for report in reports) == 4000
    assert all(len(report.acked) == 4 for report in reports)


def test_a_hung_proc_is_named_late_and_costs_one_deadline_only(start: MeshMaker) -> None:
    mesh = start(3)
    freeze(mesh.procs[1].pid)
    try:
        started = time.monotonic()
        report = mesh.flush(0.5).get(5)
        assert 0.4 < time.monotonic() - started < 1.5
        assert not report
        assert (report.acked, report.late) == (("rank 0", "rank 2"), ("rank 1",))
        assert "late: rank 1" in str(report)
        mesh.run("print('meanwhile')", ranks="0,2").get(5)
        started = time.monotonic()
        report = mesh.flush(5.0).get(5)
        assert time.monotonic() - started < 0.3
        assert report.late == ("rank 1",)
        assert texts(mesh) == ["meanwhile", "meanwhile"]
    finally:
        os.kill(mesh.procs[1].pid, signal.SIGCONT)
    wait_until(lambda: not mesh.instance.actor.late)
    report = mesh.flush(5.0).get(5)
    assert report
    assert len(report.acked) == 3


def test_a_cancelled_flush_leaves_nothing_open(start: MeshMaker) -> None:
    mesh = start(1)
    freeze(mesh.procs[0].pid)
    try:
        task = mesh.flush(None)
        wait_until(lambda: mesh.instance.actor._waiters)
        task.cancel()
        wait_until(lambda: not mesh.instance.actor._waiters)
        assert not mesh.instance.actor._flushes._versions
    finally:
        os.kill(mesh.procs[0].pid, signal.SIGCONT)
    assert mesh.flush().get(5)


def test_two_meshes_share_the_one_client_actor(start: MeshMaker) -> None:
    first, second = start(2), start(1)
    assert first.instance is second.instance
    assert client_of(first)._instance.actor is client_of(second)._instance.actor
    first.run("print('first')").get(5)
    second.run("print('second')").get(5)
    report = second.flush().get(5)
    assert (report.acked, report.lines) == (("rank 0",), 1)
    report = first.flush().get(5)
    assert (report.acked, report.lines) == (("rank 0", "rank 1"), 2)
    first.stop().get(10)
    second.run("print('still here')").get(5)
    assert second.flush().get(5)
    assert sorted(texts(second)) == ["first", "first", "second", "still here"]


# --- jobs ---------------------------------------------------------------------------------------

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


def test_procs_and_jobs_know_their_ranks_from_the_environment(start: MeshMaker) -> None:
    mesh = start(3)
    names = (*RANK_VARIABLES, "MASTER_PORT")
    in_procs = mesh.run(f"import os\n[os.environ[n] for n in {names}]").get(5)
    assert {rank: values[:5] for rank, values in in_procs.items()} == {
        rank: [str(rank), str(rank), "3", "3", "127.0.0.1"] for rank in range(3)
    }
    assert len({values[5] for values in in_procs.values()}) == 1
    show = " ".join(f"${name}" for name in names)
    job = mesh.exec(["sh", "-c", f"echo {show}; env"], ranks="1-2", environ={"EXTRA": "x"}).get(5)
    assert job.wait().get(5) == {1: 0, 2: 0}
    for rank in (1, 2):
        lines = texts(mesh, rank)
        assert lines[0].split()[:5] == [str(rank), str(rank), "3", "3", "127.0.0.1"]
        assert lines[0].split()[5] != in_procs[0][5]
        assert "EXTRA=x" in lines
        assert not any(line.startswith("BOOTSTRAP_LOG_CHANNEL") for line in lines)


def test_a_job_can_be_waited_for_and_tells_its_codes(start: MeshMaker) -> None:
    mesh = start(3)
    job = mesh.exec(["sh", "-c", "echo from $RANK; exit $RANK"]).get(5)
    assert job.wait().get(5) == {0: 0, 1: 1, 2: 2}
    assert not job.running
    assert job.first_failure in (1, 2)
    assert sorted(texts(mesh)) == ["from 0", "from 1", "from 2"], "its output is there too"
    assert {row.info.job for row in rows(mesh)} == {"job 1"}
    with pytest.raises(CommandError) as caught:
        job.wait(check=True).get(5)
    assert caught.value.codes == {0: 0, 1: 1, 2: 2}
    assert mesh.flush().get(5).acked == ("rank 0", "rank 1", "rank 2")


def test_a_job_can_be_interrupted(start: MeshMaker) -> None:
    mesh = start(2)
    python = "import time\nprint('on')\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('off')"
    job = mesh.exec(["sh", "-c", "echo on; exec sleep 60"]).get(5)
    python_job = mesh.exec([sys.executable, "-c", python]).get(5)
    wait_until(lambda: texts(mesh).count("on") == 4)
    assert job.interrupt().get(5) == list(job.rank_of)
    assert job.wait().get(5) == {0: -signal.SIGINT, 1: -signal.SIGINT}
    python_job.interrupt().get(5)
    assert python_job.wait().get(5) == {0: 0, 1: 0}
    assert texts(mesh).count("off") == 2


def test_a_job_that_ignores_the_polite_signal_is_killed(start: MeshMaker) -> None:
    mesh = start(1)
    job = mesh.exec(["sh", "-c", "trap '' TERM; echo ready; sleep 60; sleep 60"]).get(5)
    wait_until(lambda: texts(mesh) == ["ready"])
    assert job.stop().get(5) == {0: -signal.SIGKILL}
    polite = mesh.exec(["sleep", "60"]).get(5)
    assert polite.stop().get(5) == {0: -signal.SIGTERM}


# --- the end ------------------------------------------------------------------------------------


def test_stop_leaves_nothing_and_may_be_called_again(nothing_is_left: str) -> None:
    mesh = this_host().spawn_procs(2).get(20)
    mesh.run("import subprocess; p = subprocess.Popen(['setsid', 'sleep', '60'])").get(5)
    mesh.exec(["sh", "-c", "trap '' TERM HUP INT; sleep 60; sleep 60"]).get(5)
    running = mesh.run("import time\n" + FOREVER)
    assert len(session_processes(nothing_is_left)) >= 6
    started = time.monotonic()
    mesh.stop().get(5)
    wait_until(lambda: not session_processes(nothing_is_left), 1)
    wait_until(lambda: not mesh_threads(), 2)
    assert time.monotonic() - started < 2
    assert os.listdir(nothing_is_left) == []
    with pytest.raises(MeshError):
        running.get(1)
    mesh.stop().get(1)
    calls: List[Callable[[], Any]] = [
        lambda: mesh.run("1"),
        lambda: mesh.exec(["true"]),
        mesh.flush,
        mesh.interrupt,
    ]
    for call in calls:
        with pytest.raises(MeshStateError, match="this mesh is stopped"):
            call()


def test_meshes_can_be_started_again_and_again(start: MeshMaker) -> None:
    instances = set()
    for _ in range(3):
        mesh = start(1)
        instances.add(id(mesh.instance))
        assert mesh.run("1").get(5) == {0: 1}
        mesh.stop().get(10)
    assert len(start.meshes) == 3


def test_a_killed_bootstrap_is_told_and_its_procs_are_gone(
    start: MeshMaker, nothing_is_left: str
) -> None:
    mesh = start(2)
    mesh.run("import subprocess; p = subprocess.Popen(['setsid', 'sleep', '60'])").get(5)
    running = mesh.run("import time\nprint('on')\n" + FOREVER)
    wait_until(lambda: len(texts(mesh)) == 2)
    os.kill(parent_of(mesh.procs[0].pid), signal.SIGKILL)
    with pytest.raises(MeshError, match="failed"):
        running.get(5)
    wait_until(lambda: not session_processes(nothing_is_left), 2)
    report = mesh.flush().get(5)
    assert not report
    assert report.exited == ("rank 0", "rank 1")
    assert {gap.proc for gap in report.gaps} == {0, 1}
    assert all("is gone" in gap.reason and gap.lines is None for gap in report.gaps)
    assert "unknown" in str(report)
    with pytest.raises(MeshStateError, match=r"the bootstrap on .* is gone"):
        mesh.run("1")


DRIVER = """
import os, sys, time
from logmesh_ipy import this_host
mesh = this_host().spawn_procs(2).get(20)
mesh.run("import subprocess; p = subprocess.Popen(['setsid', 'sleep', '60'])").get(5)
mesh.exec(["sh", "-c", "trap '' TERM HUP INT; sleep 60; sleep 60"]).get(5)
{extra}
print("ready", flush=True)
time.sleep(60)
"""


def driver(extra: str = "") -> subprocess.Popen[bytes]:
    """A process of its own that drives a mesh; it has said that the mesh is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.replace("{extra}", extra)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    while b"ready" not in (line := process.stdout.readline()):
        assert line, "the driver ended"
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_driver_leaves_no_process_and_no_directory(
    nothing_is_left: str, number: int
) -> None:
    with driver() as process:
        assert len(session_processes(nothing_is_left)) >= 6
        process.send_signal(number)
        process.wait(5)
        wait_until(lambda: not session_processes(nothing_is_left), 2)
        wait_until(lambda: os.listdir(nothing_is_left) == [], 2)


def test_a_killed_driver_leaves_nothing_though_a_forked_child_lives(nothing_is_left: str) -> None:
    with driver("child = os.fork()\nif child == 0: time.sleep(30); os._exit(0)\nprint(child)") as p:
        child = int(Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()[-1])
        assert parent_of(child) == p.pid
        p.kill()
        p.wait(5)
        try:
            wait_until(lambda: not session_processes(nothing_is_left), 2)
            wait_until(lambda: os.listdir(nothing_is_left) == [], 2)
        finally:
            os.kill(child, signal.SIGKILL)


FORKED = """
import os
from logmesh_ipy import context
from logmesh_ipy.errors import MeshStateError
child = os.fork()
if child == 0:
    try:
        mesh.run("1").get(5)
    except MeshStateError as error:
        fresh = context().actor_instance is not mesh.instance
        os._exit(7 if fresh and "forked" in str(error) else 1)
    os._exit(2)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert code == 7, code
assert mesh.run("1").get(5) == {0: 1, 1: 1}
assert mesh.flush().get(5)
mesh.stop().get(5)
"""


def test_a_forked_child_of_the_driver_is_told_that_the_mesh_is_not_its_own(
    nothing_is_left: str,
) -> None:
    with driver(FORKED) as process:
        assert session_processes(nothing_is_left) == []
        process.kill()


def test_procs_hold_their_own_descriptors_only(start: MeshMaker) -> None:
    mesh = start(3)
    source = (
        "import os\nfound = {}\nfor fd in os.listdir('/proc/self/fd'):\n"
        "    try: found[int(fd)] = os.readlink(f'/proc/self/fd/{fd}')\n"
        "    except OSError: pass\nfound"
    )
    found = mesh.run(source).get(5)
    pipes: Dict[str, int] = {}
    for rank, fds in found.items():
        assert fds[0] == os.devnull
        kinds = {fd: re.sub(r"[:\[].*", "", where) for fd, where in fds.items() if fd > 2}
        assert set(kinds.values()) <= {"socket", "anon_inode"}, fds
        for fd in (1, 2):
            assert fds[fd].startswith("pipe:")
            assert pipes.setdefault(fds[fd], rank) == rank
    assert len(pipes) == 6
    job = mesh.exec(["sh", "-c", "ls /proc/self/fd"], ranks=0).get(5)
    job.wait().get(5)
    assert [text for text in texts(mesh, 0) if text.isdigit()] == ["0", "1", "2", "3"]  # 3: ls
