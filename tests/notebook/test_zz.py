from __future__ import annotations
import time, pytest
from tests.notebook.conftest import *
@pytest.mark.parametrize("i",range(6))
@pytest.mark.parametrize("start",[None,""])
def test_stop(kernels, i, start) -> None:
    k = kernels(start); k.run("1+1")
    t=time.monotonic()
    k.stop(); kernels.kernels.clear()
    print("STOP", start, time.monotonic()-t)
def test_growth(kernels) -> None:
    k = kernels("", procs=2)
    t = time.monotonic()
    for i in range(3000):
        k.run("%%logmesh run --ranks 0\nprint(1)")
        if i%500==499: print("G", i, (time.monotonic()-t)/500*1e3); t=time.monotonic()
