"""What starts also ends: no process, directory, thread or file is left, whatever ends the mesh."""

from __future__ import annotations

import re
import time
from typing import List

import pytest

from tests.notebook.conftest import Kernel, KernelMaker, mesh_processes, wait_for_nothing

pytestmark = pytest.mark.notebook

BUSY = (
    "%%logmesh run\n"
    "import subprocess, threading, time\n"
    "def talk():\n"
    "    while True: print('x' * 1000)\n"
    "threading.Thread(target=talk, daemon=True).start()\n"
    "_ = subprocess.Popen(['sh', '-c', 'trap \"\" TERM INT; while :; do sleep 0.2; done'])"
)


def mesh_threads(kernel: Kernel) -> List[str]:
    """Threads of the mesh in the kernel."""
    text = kernel.value("','.join(t.name for t in __import__('threading').enumerate())")
    return [name for name in text.split(",") if "logmesh" in name]


def open_files(kernel: Kernel) -> List[str]:
    """What the kernel process holds open; without ZMQ's eventfds, collected now and then.

    A session's file has its name without the time.
    """
    code = "'\\n'.join(os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd'))"
    files = kernel.value(code.replace("os.", "__import__('os').")).split("\\n")
    files = [re.sub(r"/[0-9]{8}-[0-9]{6}-", "/", name) for name in files]
    return sorted(f for f in files if "eventfd" not in f and "/proc/" not in f)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("how", ["stop", "unload", "restart", "kill", "exit"])
def test_within_two_seconds_nothing_is_left(kernels: KernelMaker, how: str, busy: bool) -> None:
    kernel = kernels()
    kernel.run("%load_ext logmesh_ipy")
    kernel.run("print('x' * 200_000)")  # ZMQ starts a thread at the first large message
    files = open_files(kernel)
    kernel.run("%logmesh start --procs 2")
    job = kernel.run("job = %logmesh exec --bg -- sleep 600")
    assert job.reply["status"] == "ok"
    if busy:
        kernel.run(BUSY)
    assert len(mesh_processes(kernels.directory)) >= 5
    assert "logmesh-client" in mesh_threads(kernel)
    if how == "stop":
        assert kernel.run("%logmesh stop").stdout == "stopped\n"
    elif how == "unload":
        cell = kernel.run("%unload_ext logmesh_ipy")
        assert cell.reply["status"] == "ok"
        assert cell.stderr == ""
    elif how == "restart":
        kernel.restart()
    elif how == "kill":
        kernel.kill()
    else:
        kernel.stop()
        kernels.kernels.clear()
    left = wait_for_nothing(kernels.directory, 2.0)
    assert not left
    if how in ("stop", "unload"):
        assert mesh_threads(kernel) == []
        # The lines of a stopped mesh can still be read; many of them lie in a file.
        held = [f for f in open_files(kernel) if how == "unload" or "/logmesh-stores-" not in f]
        assert held == files
        assert kernel.run("1 + 1").displays == []
    if how == "restart":
        kernel.run("%load_ext logmesh_ipy")
        assert "1 proc on" in kernel.run("%logmesh start --procs 1").stdout


def test_unloading_takes_everything_away_and_loading_brings_it_back(kernels: KernelMaker) -> None:
    kernel = kernels()
    hooks = "{k: len(v) for k, v in get_ipython().events.callbacks.items()}"
    transformers = (
        "[len(get_ipython().input_transformers_cleanup), "
        "len(get_ipython().input_transformers_post)]"
    )
    before = kernel.value(hooks), kernel.value(transformers)
    kernel.run("%load_ext logmesh_ipy")
    kernel.run("%unload_ext logmesh_ipy")
    assert (kernel.value(hooks), kernel.value(transformers)) == before
    assert "not found" in kernel.run("%logmesh status").stderr
    assert "start" not in kernel.complete("%logmesh st")
    kernel.run("%load_ext logmesh_ipy")
    kernel.run("%logmesh start --procs 1")
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
    kernel.run("%unload_ext logmesh_ipy")
    assert (kernel.value(hooks), kernel.value(transformers)) == before


def test_loading_twice_changes_nothing_and_reloading_stops_the_mesh(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1)
    again = kernel.run("%load_ext logmesh_ipy")
    assert "already loaded" in again.stdout
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
    assert kernel.run("%reload_ext logmesh_ipy").reply["status"] == "ok"
    assert "no mesh runs" in kernel.run("%logmesh status").stderr
    kernel.run("%logmesh start --procs 1")
    cell = kernel.run("%%logmesh run\nprint(2)")
    assert cell.lines == ["[0] 2"]
    assert len(cell.snapshots) == 1


def test_ten_starts_and_stops_leave_neither_threads_nor_files(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1)
    kernel.run("%%logmesh run\nprint('first')")
    kernel.run("%logmesh stop")
    files = open_files(kernel)
    for number in range(10):
        assert "ready" in kernel.run("%logmesh start --procs 1").stdout
        assert kernel.run(f"%%logmesh run\nprint({number})").lines == [f"[0] {number}"]
        assert kernel.run("%logmesh stop").stdout == "stopped\n"
        assert mesh_threads(kernel) == []
    assert open_files(kernel) == files
    assert not wait_for_nothing(kernels.directory, 0.5)


def test_stop_shows_the_last_lines_under_the_cell_that_stops(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1)
    kernel.run(
        "%%logmesh run\nimport atexit, threading\n"
        "threading.Timer(0.3, print, ['late line']).start()"
    )
    cell = kernel.run("import time; time.sleep(0.5)\n%logmesh stop")
    assert cell.lines == ["[0] late line"]


def test_a_start_that_is_interrupted_leaves_nothing(kernels: KernelMaker) -> None:
    kernel = kernels()
    kernel.run("%load_ext logmesh_ipy")
    request = kernel.send("%logmesh start --procs 16")
    deadline = time.monotonic() + 20
    while not mesh_processes(kernels.directory):
        assert time.monotonic() < deadline
    kernel.interrupt()
    cell = kernel.finish(request)
    assert cell.ename == "KeyboardInterrupt" or "ready" in cell.stdout
    if cell.ename:
        assert not wait_for_nothing(kernels.directory, 2.0)
        assert mesh_threads(kernel) == []
        assert "1 proc on" in kernel.run("%logmesh start --procs 1").stdout


def test_a_mesh_whose_bootstrap_was_killed_says_so_and_can_be_stopped(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=2)
    bootstrap = [
        pid for pid, line in mesh_processes(kernels.directory).items() if "bootstrap" in line
    ]
    kernel.run(f"import os; os.kill({bootstrap[0]}, 9)")
    cell = kernel.run("%%logmesh run\nprint(1)")
    assert "the bootstrap on" in cell.stderr + cell.error
    assert "is gone" in cell.stderr + cell.error
    assert "Traceback" not in cell.stderr + cell.error
    assert kernel.run("%logmesh status").reply["status"] == "ok"
    assert kernel.run("%logmesh stop").stdout == "stopped\n"
    assert not wait_for_nothing(kernels.directory, 2.0)
    assert "ready" in kernel.run("%logmesh start --procs 1").stdout


def test_the_receipt_of_the_cell_that_lost_lines_says_so(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=2)
    cell = kernel.run(
        "%%logmesh run\n"
        "import os, signal, time\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "time.sleep(30)  # till the proc has gone too"
    )
    assert cell.ename == "MeshError"
    assert cell.receipt.startswith("2/2 procs, ")
    assert "unknown lost" in cell.receipt
    assert "exited: rank 0, rank 1" in cell.receipt


def test_the_notebooks_mesh_is_the_one_that_python_code_finds(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=2)
    cell = kernel.run(
        "from logmesh_ipy import context\n"
        "mesh, = context().actor_instance.meshes\n"
        "mesh.run('print(5)').get(10)"
    )
    assert sorted(cell.lines) == ["[0] 5", "[1] 5"]
    assert kernel.run("context().actor_instance.store.rows").result == "2"
    assert kernel.run("%logmesh stop").stdout == "stopped\n"
    assert "[1] 5" in kernel.run("%logmesh panel").text


def test_lines_left_on_the_hosts_are_on_the_receipt(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=2)
    kernel.run("%logmesh set_mode --no-stream")
    cell = kernel.run("%%logmesh run\nfor i in range(100): print(i)")
    assert cell.receipt == "2/2 procs, 0 lines, 0 lost, 200 left on the hosts"


def test_the_receipts_policy_can_come_from_the_environment(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1, LOGMESH_RECEIPT="never")
    cell = kernel.run("%%logmesh run\nprint(1)")
    assert (cell.lines, cell.receipt) == (["[0] 1"], "")


def test_a_forked_child_of_the_kernel_does_not_end_the_mesh(kernels: KernelMaker) -> None:
    kernel = kernels("", procs=1)
    cell = kernel.run(
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(0)\n"
        "os.waitpid(pid, 0)[1]"
    )
    assert cell.result == "0"
    assert kernel.run("%%logmesh run\nprint(1)").lines == ["[0] 1"]
