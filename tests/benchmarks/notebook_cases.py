"""What the extension costs a notebook: measured on a real kernel, over its sockets."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterator, List

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from .harness import ROOT, Figure, Settings, benchmark


class Kernel:
    """One kernel process; ``run`` gives what the cell printed."""

    def __init__(self) -> None:
        path = os.environ.get("PYTHONPATH", "")
        environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}".rstrip(os.pathsep)}
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(env=environ)
        self.client: BlockingKernelClient = self._manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, timeout: float = 120.0) -> str:
        """Run a cell to its end (the kernel is idle again). An error of the cell is raised."""
        printed: List[str] = []

        def hear(message: dict[str, object]) -> None:
            content = message["content"]
            assert isinstance(content, dict)
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed.append(content["text"])

        reply = self.client.execute_interactive(code, output_hook=hear, timeout=timeout)
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(printed)

    def stop(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=False)


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    """A kernel for a ``with`` block."""
    made = Kernel()
    try:
        yield made
    finally:
        made.stop()


def _cells(made: Kernel, count: int) -> List[float]:
    times: List[float] = []
    for _ in range(count):
        began = time.perf_counter()
        made.run("1 + 1")
        times.append((time.perf_counter() - began) * 1000)
    return times


@benchmark
def cell_cost(settings: Settings) -> Iterator[Figure]:
    """A trivial cell with the extension on and an idle mesh of 8, over one without it."""
    count = settings.pick(100, 10)
    with kernel() as made:
        _cells(made, 5)
        plain = _cells(made, count)
        made.run("%load_ext logmesh_ipy\n%logmesh start --procs 8")
        _cells(made, 5)
        loaded = _cells(made, count)
        made.run("%logmesh stop")
    without = Figure(name="cell without the mesh", unit="ms", samples=plain, percentiles=True)
    yield without
    yield Figure(
        name="cell with an idle mesh of 8, longer by", unit="ms", bar=10.0, percentiles=True,
        samples=[spent - without.median for spent in loaded],
    )  # fmt: skip


_LOOP = """
import time
def loop():
    began, total = time.perf_counter(), 0
    for k in range(4_000_000):
        total += k * k
    return time.perf_counter() - began
"""
_STREAM = """
import os, threading, time
stop = threading.Event()
def stream(per_second):
    block = "".join(f"step {n:06d} ".ljust(99, ".") + "\\n" for n in range(per_second // 100))
    block, due = block.encode(), time.monotonic()
    while not stop.is_set():
        left = memoryview(block)
        while left:
            left = left[os.write(1, left):]
        due += 0.01
        time.sleep(max(0.0, due - time.monotonic()))
"""


@benchmark
def loop_cost(settings: Settings) -> Iterator[Figure]:
    """A pure Python loop in a cell while 2 procs stream 200,000 lines/s of 100 bytes in all."""
    rounds = settings.pick(8, 1)
    slower: List[float] = []
    rates: List[float] = []
    with kernel() as made:
        made.run(_LOOP + "loop()")
        made.run("%load_ext logmesh_ipy\n%logmesh start --procs 2")
        made.run(f"%%logmesh run\n{_STREAM}")
        for _ in range(rounds):
            quiet = float(made.run("print(loop())"))
            made.run(
                "%%logmesh run\nstop.clear()\n"
                "threading.Thread(target=stream, args=(100_000,), daemon=True).start()"
            )
            busy, rate = made.run(_RATED).split()
            made.run("%%logmesh run\nstop.set()")
            slower.append((float(busy) / quiet - 1) * 100)
            rates.append(float(rate))
        made.run("%logmesh stop")
    yield Figure(name="lines that streamed in meanwhile", unit="lines/s", samples=rates)
    yield Figure(
        name="loop in the kernel under 200,000 lines/s, slower by", unit="%", samples=slower,
        bar=15.0,
    )  # fmt: skip


_RATED = """
import gc
from logmesh_ipy.store import LogStore
(store,) = [found for found in gc.get_objects() if type(found) is LogStore]
time.sleep(0.3)
before, began = store.rows, time.perf_counter()
took = loop()
print(took, (store.rows - before) / (time.perf_counter() - began))
"""
