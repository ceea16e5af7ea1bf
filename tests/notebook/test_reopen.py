"""The lines of a kernel that was killed, in the kernel that comes back."""

from __future__ import annotations

from tests.notebook.conftest import KernelMaker


def test_a_kernel_that_comes_back_says_so_once_and_reopens_the_lines(kernels: KernelMaker) -> None:
    kernel = kernels("")
    kernel.run("%%logmesh run\nfor k in range(100): print('line', k)")
    kernel.kill()
    again = kernels()
    told = again.run("%load_ext logmesh_ipy").stdout
    assert told.count("\n") == 1
    assert "a kernel that crashed at" in told
    assert "has left 200 lines: `%logmesh reopen` shows them" in told
    assert "crashed" not in again.run("%logmesh start --procs 1").stdout
    listed = again.run("%logmesh sessions").stdout
    assert "2 procs, 200 lines" in listed
    again.run("logs = %logmesh reopen --lines 50")
    assert again.value("len(logs)") == "50"
    assert "'line 99'" in again.value("[row.text.decode() for row in logs][-1:]")
    shown = again.run("%logmesh reopen").result
    assert "line 99" in shown
    assert "there is no session 'other'" in again.run("%logmesh reopen other").stderr
    assert "must be 1 or more" in again.run("%logmesh reopen --lines 0").stderr


def test_an_orderly_end_leaves_nothing_to_reopen(kernels: KernelMaker) -> None:
    kernel = kernels("")
    kernel.run("%%logmesh run\nprint('line')")
    assert "running" in kernel.run("%logmesh sessions").stdout
    kernel.run("%logmesh stop")
    kernel.restart()
    assert kernel.run("%load_ext logmesh_ipy").stdout == ""
    assert kernel.run("%logmesh sessions").stdout == "no sessions\n"
