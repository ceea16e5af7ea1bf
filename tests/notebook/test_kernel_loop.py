"""``--loop kernel``: the client on the kernel's own loop. Cells read the same as with a thread."""

from __future__ import annotations

import time

import pytest

from tests.notebook.conftest import Kernel, KernelMaker, wait_for_nothing, whole_lines
from tests.support import wait_until

pytestmark = pytest.mark.notebook


@pytest.fixture
def kernel(kernels: KernelMaker) -> Kernel:
    """A mesh of two procs on the kernel's loop."""
    return kernels("--loop kernel")


def all_lines(kernel: Kernel) -> list[str]:
    """Lines of all cells."""
    return [line for cell in kernel.notebook().values() for line in cell.lines]


def test_lines_results_and_receipts_come_as_with_a_thread(kernel: Kernel) -> None:
    for number in range(20):
        cell = kernel.run(f"%%logmesh run\nprint({number})\n{number} * 2")
        assert sorted(cell.lines) == [f"[0] {number}", f"[1] {number}"]
        assert cell.stdout == f"Out[0-1]: {number * 2}\n"
        request = cell.request
        wait_until(lambda request=request: kernel.shown(request).receipt)
        assert kernel.shown(request).receipt == "2/2 procs, 2 lines, 0 lost"
    assert "kernel's loop" in kernel.run("%logmesh set_mode").stdout


def test_no_thread_runs_the_client(kernel: Kernel) -> None:
    cell = kernel.run("import threading; [t.name for t in threading.enumerate()]")
    assert "logmesh-client" not in str(cell.result)


def test_errors_are_the_same(kernel: Kernel) -> None:
    cell = kernel.run("%%logmesh run\nimport os\nassert os.environ['RANK'] == '0', 'not zero'")
    assert cell.ename == "MeshError"
    assert "rank 1 of 2 failed: AssertionError: not zero" in cell.error
    assert "no rank 7" in kernel.run("%%logmesh run --ranks 7\n1").stderr
    assert "exclude" in kernel.run("%logmesh set_mode --stream --no-stream").stderr
    assert "cannot aggregate" in kernel.run("%logmesh set_mode --window 3 --no-stream").error
    assert sorted(kernel.run("%%logmesh run\nprint(1)").lines) == ["[0] 1", "[1] 1"]


def test_flush_and_exec_are_awaited_by_the_cell(kernel: Kernel) -> None:
    cell = kernel.run("report = %logmesh flush\nprint(bool(report), report.late)")
    assert cell.stdout == "True ()\n"
    assert len(kernel.run("%logmesh exec -- echo hi").lines) == 2
    failed = kernel.run("%logmesh exec -- false")
    assert failed.ename == "CommandError"
    job = kernel.run("job = %logmesh exec --bg -- sh -c 'sleep 0.2; echo done'\nawait job.wait()")
    assert job.result == "{0: 0, 1: 0}"
    wait_until(lambda: len(kernel.shown(job.request).lines) == 2)


def test_the_magic_stands_beside_other_code(kernel: Kernel) -> None:
    cell = kernel.run(
        "before = 1\n"
        "for word in ('one', 'two'):\n"
        "    %logmesh exec --ranks 0 -- echo {word}\n"
        "after = before + 1\nafter"
    )
    assert [line.split("] ")[1] for line in cell.lines] == ["one", "two"]
    assert cell.result == "2"


def test_a_blocking_cell_stalls_the_stream_and_loses_nothing(kernel: Kernel) -> None:
    kernel.run(
        "%%logmesh run\nimport threading, time\n"
        "def tick():\n"
        "    for number in range(100): print('tick', number); time.sleep(0.01)\n"
        "threading.Thread(target=tick, daemon=True).start()"
    )
    request = kernel.send("import time; time.sleep(1.5)")
    kernel.finish(request)
    kernel.run("r = %logmesh flush")
    ticks = [f"tick {number}" for number in range(100)]
    both = {"[0]": ticks, "[1]": ticks}
    wait_until(lambda: whole_lines(all_lines(kernel)) == both, what=lambda: all_lines(kernel))


def test_what_would_block_the_loop_says_so(kernel: Kernel) -> None:
    kernel.run("job = %logmesh exec --bg -- sleep 0.1")
    cell = kernel.run("job.wait().get()")
    assert cell.ename == "LoopBlockedError"
    assert "use `await` here" in cell.error
    assert kernel.run("await job.wait()").result == "{0: 0, 1: 0}"


def test_an_interrupt_ends_what_runs(kernel: Kernel) -> None:
    request = kernel.send("%%logmesh run\nimport time\nprint('begins')\nwhile True: time.sleep(60)")
    wait_until(lambda: len(kernel.shown(request).lines) == 2, what="both ranks have begun")
    began = time.monotonic()
    kernel.interrupt()
    cell = kernel.finish(request)
    assert time.monotonic() - began < 1.5
    assert "KeyboardInterrupt" in cell.error
    assert len(kernel.run("%%logmesh run\nprint('next')").lines) == 2


def test_stop_and_unload_leave_nothing_and_a_thread_can_follow(
    kernel: Kernel, kernels: KernelMaker
) -> None:
    assert kernel.run("%logmesh stop").stdout == "stopped\n"
    assert not wait_for_nothing(kernels.directory)
    assert "ready" in kernel.run("%logmesh start --procs 1").stdout
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
    kernel.run("%logmesh stop")
    kernel.run("%logmesh start --procs 1 --loop kernel")
    assert kernel.run("%unload_ext logmesh_ipy").reply["status"] == "ok"
    assert not wait_for_nothing(kernels.directory)
    assert "1" in str(kernel.run("1").result)


def test_a_start_beside_other_code_works(kernels: KernelMaker) -> None:
    kernel = kernels()
    kernel.run("%load_ext logmesh_ipy")
    cell = kernel.run("if True:\n    %logmesh start --procs 1 --loop kernel\nprint('done')")
    assert cell.stdout.endswith("done\n")
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]


def test_a_start_that_no_cell_can_await_says_what_to_do(kernels: KernelMaker) -> None:
    kernel = kernels()
    for code in (
        "%load_ext logmesh_ipy\n%logmesh start --procs 1 --loop kernel",
        "def start():\n    %logmesh start --procs 1 --loop kernel\nstart()",
    ):
        cell = kernel.run(code)
        assert "must be awaited by its cell" in cell.stderr
        assert "Traceback" not in cell.stderr
    assert "1 proc on" in kernel.run("%logmesh start --procs 1").stdout


def test_in_a_function_the_magic_gives_what_can_be_awaited(kernel: Kernel) -> None:
    kernel.run(
        "def later():\n    return get_ipython().run_line_magic('logmesh', 'exec -- echo hi')"
    )
    assert len(kernel.run("await later()").lines) == 2
    kernel.run("async def now():\n    %logmesh exec -- echo ho")
    assert len(kernel.run("await now()").lines) == 2


def test_the_configuration_can_choose_the_loop(kernels: KernelMaker) -> None:
    kernel = kernels(LOGMESH_LOOP="kernel", LOGMESH_PROCS="1")
    kernel.run("%load_ext logmesh_ipy")
    assert "ready" in kernel.run("%logmesh start").stdout
    assert "kernel's loop" in kernel.run("%logmesh set_mode").stdout
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
