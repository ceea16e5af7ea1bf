"""Throughput, barrier latency, start-up and costs of a mesh that is driven from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Iterator, List

from logmesh_ipy import ProcMesh

from .harness import ROOT, Figure, Settings, benchmark
from .runners import (
    PRINTS,
    LogMesh,
    Runner,
    bootstrap_pid,
    resident_bytes,
    running,
    start_mesh,
    stop_mesh,
)


def _rate(runner: Runner, count: int, kinds: int, *, values: bool) -> float:
    """Lines per second, from the first print until all have arrived. None may be missing."""
    arrival = runner.print_lines(count, kinds, values=values)
    assert arrival.lines == arrival.expected
    return arrival.rate


@benchmark
def throughput(settings: Settings) -> Iterator[Figure]:
    """2 procs print lines of 100 bytes, until the barrier has returned and all are stored."""
    count = settings.pick(500_000, 20_000)
    cases = (
        ("print to the store", None, 1, False, 1e6),
        ("print to the store, 100 messages", None, 100, True, None),
        ("print to groups, 3 s window, 100 messages", 3.0, 100, True, 0.8e6),
        ("print to groups, 3 s window, 1,000 messages", 3.0, 1000, True, 0.8e6),
    )
    for name, window, kinds, values, bar in cases:
        runner = LogMesh()
        runner.start(2, window)
        try:
            _rate(runner, count // 10, kinds, values=values)
            rates = [_rate(runner, count, kinds, values=values) for _ in range(settings.repeats)]
        finally:
            runner.stop()
        yield Figure(name=name, unit="lines/s", samples=rates, better="higher", bar=bar)


@benchmark
def pipeline(settings: Settings) -> Iterator[Figure]:
    """What bounds the throughput: the procs' own printing, and the mesh without it."""
    count = settings.pick(500_000, 20_000)
    with running(2) as mesh:
        mesh.run(PRINTS).get(10)
        silent = f"""
import contextlib, io, os
with open(os.devnull, "w", buffering=1) as nothing, contextlib.redirect_stdout(nothing):
    prints({count}, 1, False)
"""
        blocks = f"""
import os
block = (b"x" * 99 + b"\\n") * 1000
for _ in range({count // 1000}):
    left = memoryview(block)
    while left:
        left = left[os.write(1, left):]
"""
        for name, source, lines in (
            ("print to /dev/null, line by line, no mesh", silent, 0),
            ("blocks of 1,000 lines to the store", blocks, 2 * count),
        ):
            rates: List[float] = []
            for _ in range(settings.repeats):
                before = mesh.instance.store.rows
                began = time.perf_counter()
                mesh.run(source).get(300)
                assert mesh.flush(60).get(90)
                rates.append(2 * count / (time.perf_counter() - began))
                assert mesh.instance.store.rows - before == lines
            yield Figure(name=name, unit="lines/s", samples=rates, better="higher")
    shown = LogMesh(shown=True)
    shown.start(2, None)
    try:
        rates = [_rate(shown, count, 1, values=False) for _ in range(settings.repeats)]
    finally:
        shown.stop()
    yield Figure(
        name="print to the store and a view", unit="lines/s", samples=rates, better="higher"
    )


def _flushes(mesh: ProcMesh, count: int) -> List[float]:
    """Milliseconds of barriers, one after the other, as a sync caller sees them."""
    times: List[float] = []
    for _ in range(count):
        began = time.perf_counter()
        report = mesh.flush(30).get(60)
        times.append((time.perf_counter() - began) * 1000)
        assert report
        time.sleep(0.001)
    return times


@benchmark
def barrier_idle(settings: Settings) -> Iterator[Figure]:
    """The barrier over an idle mesh."""
    for procs, count, bar in ((8, settings.pick(500, 30), 4.0), (64, settings.pick(200, 0), 30.0)):
        if not count:
            continue
        with running(procs) as mesh:
            _flushes(mesh, 5)
            times = _flushes(mesh, count)
        figure = Figure(
            name=f"barrier, idle, {procs} procs", unit="ms", samples=times, bar=bar,
            percentiles=True,
        )  # fmt: skip
        yield figure
        yield Figure(
            name=f"barrier, idle, {procs} procs, p99 / p50", unit="ratio",
            samples=[figure.percentile(99) / figure.median], bar=3.0,
        )  # fmt: skip


_STORM = """
import os, threading, time
stop = threading.Event()
block = b"x" * 99 + b"\\n"

def write(lines):
    left = memoryview(block * lines)
    while left:
        left = left[os.write(1, left):]

def storm(lines_per_second):
    due = time.monotonic()
    while not stop.is_set():
        write(lines_per_second // 100)
        due += 0.01
        time.sleep(max(0.0, due - time.monotonic()))
"""


@benchmark
def barrier_storm(settings: Settings) -> Iterator[Figure]:
    """The barrier while 8 procs write 200,000 lines/s in all, and behind a burst of theirs."""
    lines = settings.pick(40_000, 4000)
    size = 8 * lines * 100
    with running(8) as mesh:
        mesh.run(_STORM).get(10)
        store = mesh.instance.store
        times: List[float] = []
        rates: List[float] = []
        for _ in range(settings.pick(10, 2)):
            first, began = store.bytes, time.perf_counter()
            mesh.run(f"write({lines})").get(60)
            before, asked = store.bytes, time.perf_counter()
            assert mesh.flush(30).get(60)
            ended = time.perf_counter()
            assert store.bytes - first == size
            rates.append(size / (ended - began) / 1e6)
            transfer = (store.bytes - before) / size * (ended - began)
            times.append((ended - asked - transfer) * 1000)
        mesh.run("threading.Thread(target=storm, args=(25_000,), daemon=True).start()").get(10)
        time.sleep(0.2)
        stormy: List[float] = []
        for _ in range(settings.pick(200, 20)):
            began = time.perf_counter()
            assert mesh.flush(30).get(60)
            stormy.append((time.perf_counter() - began) * 1000)
            time.sleep(0.01)
        mesh.run("stop.set()").get(30)
    note = f"{size // 1_000_000} MB at {max(rates):.0f} MB/s"
    yield Figure(
        name="barrier, behind a burst of 8 procs, beyond its transfer", unit="ms", samples=times,
        bar=10.0, note=note,
    )  # fmt: skip
    yield Figure(
        name="barrier, 8 procs writing 200,000 lines/s", unit="ms", samples=stormy,
        percentiles=True,
    )  # fmt: skip


@benchmark
def start_up(settings: Settings) -> Iterator[Figure]:
    """From the call until all procs are ready."""
    for procs, times, bar in ((8, settings.repeats, 1.5), (64, settings.pick(2, 0), None)):
        samples: List[float] = []
        for _ in range(times):
            began = time.perf_counter()
            mesh = start_mesh(procs)
            samples.append(time.perf_counter() - began)
            stop_mesh(mesh)
        if samples:
            yield Figure(name=f"start, {procs} procs", unit="s", samples=samples, bar=bar)
    script = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
began = time.perf_counter()
shell.run_line_magic("load_ext", "logmesh_ipy")
sys.stdout.write(repr((time.perf_counter() - began) * 1000))
"""
    took = [float(_python(script)) for _ in range(settings.pick(2 * settings.repeat, 2))]
    yield Figure(name="%load_ext", unit="ms", samples=took, bar=150.0)


def _python(script: str, *arguments: str) -> str:
    """The output of a fresh interpreter."""
    path = os.environ.get("PYTHONPATH", "")
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}".rstrip(os.pathsep)}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE, text=True, check=True, timeout=600, env=environ, cwd=ROOT,
    ).stdout  # fmt: skip


@benchmark
def memory(settings: Settings) -> Iterator[Figure]:
    """What lines of 100 bytes through the mesh add to the driver and to the bootstrap."""
    lines = settings.pick(settings.memory_lines, 50_000)
    script = f"""
import json, sys
from tests.benchmarks.mesh_cases import measure_memory
sys.stdout.write(json.dumps(measure_memory({lines})))
"""
    driver, bootstrap = json.loads(_python(script))
    for name, added, bar in (("the driver", driver, 150.0), ("a bootstrap", bootstrap, 50.0)):
        yield Figure(
            name=f"memory added to {name}", unit="MB", samples=[added / 1e6], bar=bar,
            note=f"{lines:,} lines",
        )  # fmt: skip


def measure_memory(lines: int) -> List[int]:
    """Bytes added to this process and to its bootstrap by ``lines`` lines: the most there was."""
    runner = LogMesh(shown=True)
    runner.start(2, None)
    try:
        runner.print_lines(1000, 1, values=False)
        pids = (os.getpid(), bootstrap_pid(runner.mesh))
        before = [resident_bytes(pid) for pid in pids]
        most = list(before)
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                most[:] = [
                    max(old, resident_bytes(pid)) for old, pid in zip(most, pids, strict=True)
                ]

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            runner.print_lines(lines // 2, 100, values=True)
        finally:
            done.set()
            watcher.join()
        return [now - then for now, then in zip(most, before, strict=True)]
    finally:
        runner.stop()
