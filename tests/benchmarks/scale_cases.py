"""A thousand processes under one kernel, and what printing costs one proc."""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
from typing import Any, Dict, Iterator, Sequence, Tuple

from .harness import Figure, Settings, benchmark
from .notebook_cases import kernel
from .runners import running

_COMMAND = """
trap 'echo "rank $RANK got a signal"' INT
echo "rank $RANK is up"
exec 3<>waits
while :; do read -r nothing <&3; done
"""
"""A small shell: prints a line at its start, and one for each SIGINT."""

_SCRIPT = """
import json, os, sys, time
from logmesh_ipy import context
from tests.benchmarks.runners import bootstrap_pid, resident_bytes

def everything():
    '''Seconds until all is up: the procs of the mesh, and the commands beside them.'''
    began = time.perf_counter()
    get_ipython().run_line_magic("logmesh", "start --procs {procs}")
    ready = time.perf_counter() - began
    global mesh, jobs
    mesh = context().actor_instance.meshes[0]
    jobs = [mesh.exec(["sh", "-c", {command!r}], cwd={directory!r}).get(60) for _ in range({jobs})]
    records = mesh.instance.actor.records
    while not all(record.attached for record in records.values()):
        time.sleep(0.001)
    up = time.perf_counter() - began
    while mesh.instance.store.rows < {procs} * {jobs}:
        time.sleep(0.001)
    return ready, up

def flushes(rounds, printing):
    times = []
    for number in range(rounds):
        if printing:
            asked = [job.interrupt() for job in jobs]
            mesh.run(f"print('round {{number}}')").get(60)
            assert sum(len(task.get(60)) for task in asked) == {procs} * {jobs}
        report = mesh.flush(30).get(60)
        assert report and len(report.acked) == {procs} * (1 + {jobs})
        times.append(report.seconds * 1000)
    return times

def measured():
    before = resident_bytes(os.getpid())
    ready, up = everything()
    flushes(3, False)
    first, rounds = mesh.instance.store.rows, {rounds}
    found = {{"ready": ready, "up": up, "idle": flushes(rounds, False),
              "printing": flushes(rounds, True)}}
    wanted = first + rounds * {procs} * (1 + {jobs})
    while mesh.instance.store.rows < wanted:
        assert mesh.flush(30).get(60)
    assert mesh.instance.store.rows == wanted
    found["kernel"] = resident_bytes(os.getpid())
    found["added"] = found["kernel"] - before
    found["bootstrap"] = resident_bytes(bootstrap_pid(mesh))
    with open(f"/proc/{{mesh.procs[0].pid}}/smaps_rollup") as sizes:
        found["own"] = sum(int(line.split()[1]) << 10 for line in sizes if "Private_" in line)
    return found

sys.stdout.write("found " + json.dumps(measured()))
"""


@benchmark
def scale(settings: Settings) -> Iterator[Figure]:
    """1,000 processes under a kernel: 100 procs and, beside each, 9 commands that are no Python."""
    procs, jobs = settings.pick(100, 10), settings.pick(9, 2)
    count = f"{procs * (1 + jobs):,}"
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, kernel() as made:
        os.mkfifo(f"{directory}/waits")
        made.run("%load_ext logmesh_ipy")
        script = _SCRIPT.format(
            procs=procs, jobs=jobs, rounds=settings.pick(20, 3), command=_COMMAND,
            directory=directory,
        )  # fmt: skip
        said = made.run(script, timeout=300.0)
        found: Dict[str, Any] = json.loads(said.partition("found ")[2].splitlines()[0])
        made.run("%logmesh stop")
    yield Figure(
        name=f"start, {procs} procs in a notebook, the first time", unit="s",
        samples=[found["ready"]],
    )  # fmt: skip
    yield Figure(name=f"start, {count} processes", unit="s", samples=[found["up"]], bar=60.0)
    for name, key in (("idle", "idle"), ("all have just printed", "printing")):
        yield Figure(
            name=f"barrier, {count} processes, {name}", unit="ms", samples=found[key],
            percentiles=True, bar=1000.0,
        )  # fmt: skip
    for name, key, bar in (
        ("the kernel", "kernel", 300.0),
        ("the kernel, of these processes", "added", None),
        ("the bootstrap", "bootstrap", None),
        ("one proc, its own", "own", None),
    ):
        yield Figure(
            name=f"memory of {name}, {count} processes", unit="MB", samples=[found[key] / 1e6],
            bar=bar,
        )  # fmt: skip


_PACED = """
import os, random, sys, time

def paced(target, lines, loops):
    '''Seconds on the clock, and of all of the proc's threads on the processors.'''
    text, began, spent = "x" * 99, time.perf_counter(), time.process_time()
    for _ in range(lines):
        total = 0
        for k in range(loops):
            total += k * k
        print(text, file=target)
    return time.perf_counter() - began, time.process_time() - spent

def loops_per_millisecond():
    loops, spent, total = 200_000, time.thread_time(), 0
    for k in range(loops):
        total += k * k
    return max(1, int(loops / (time.thread_time() - spent) / 1000))

nothing = open(os.devnull, "w", buffering=1)
loops = min(loops_per_millisecond() for _ in range(5))

def pairs(count, lines):
    '''Rounds to the mesh and to /dev/null in random order, each after what is left of the last.'''
    found = []
    for _ in range(count):
        pair = {}
        for target in random.sample((sys.stdout, nothing), 2):
            time.sleep(0.06)
            pair[target] = paced(target, lines, loops)
        found.append((pair[sys.stdout], pair[nothing]))
    return found
"""


@benchmark
def print_cost(settings: Settings) -> Iterator[Figure]:
    """A Python loop in a proc that prints each millisecond, against the same to /dev/null."""
    count, lines = settings.pick(50, 4), settings.pick(200, 50)
    with running(1) as mesh:
        mesh.run(_PACED).get(30)
        found = mesh.run(f"pairs({count}, {lines})").get(300)[0]
        assert mesh.flush(10).get(20)
        assert mesh.instance.store.rows == count * lines
    for name, index, bar in (("time", 0, None), ("processor time of all its threads", 1, 3.0)):
        samples = [(to_mesh[index] / to_null[index] - 1) * 100 for to_mesh, to_null in found]
        least, most = _interval(samples)
        yield Figure(
            name=f"loop that prints 1,000 lines/s, more {name}", unit="%", samples=samples,
            bar=bar, note=f"median is {least:.2f} .. {most:.2f} with 95 % confidence",
        )  # fmt: skip


def _interval(samples: Sequence[float], rounds: int = 2000) -> Tuple[float, float]:
    """Where the median is with a confidence of 95 %, by resampling."""
    dice = random.Random(0)
    medians = sorted(
        statistics.median(dice.choices(samples, k=len(samples))) for _ in range(rounds)
    )
    return medians[rounds // 40], medians[-rounds // 40]
