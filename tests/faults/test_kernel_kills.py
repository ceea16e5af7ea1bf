"""``kill -9`` of the kernel, alone and with its bootstraps: what is left, at once and later."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest
from jupyter_core.utils import ensure_event_loop

from logmesh_ipy.runtime_directory import sweep_stale
from tests.faults.conftest import WHOLE, Trial, rounds
from tests.faults.nemesis import freeze
from tests.faults.writer import LineSource
from tests.integration.conftest import MeshMaker
from tests.notebook.conftest import KernelMaker, kernels, python
from tests.support import mesh_directories, session_processes, wait_until

__all__ = ["kernels", "python"]  # fixtures

NOTHING_SEC = 2.0
PROCS = 2
pytestmark = pytest.mark.timeout(900 if WHOLE else 120)


@pytest.fixture(scope="module", autouse=True)
def _loop_of_jupyter_client() -> None:
    """It keeps one for good, which is nothing that a test has left."""
    ensure_event_loop()


START = """
import functools, json, os, sys, time
from logmesh_ipy import this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from tests.faults.conftest import _write_in_thread
"""
OPTIONS = "options = MeshOptions(host=HostOptions(files=FILES))"
SPAWN = "mesh = this_host().spawn_procs(PROCS, options=options).get(30)"
WRITE = """
writes = functools.partial(_write_in_thread, lines=1_000_000, rate=1000)
mesh.run(writes, TALLY, SEED, FIRST, "12").get(30)
job = mesh.exec(COMMAND).get(30)
mesh.run("import subprocess; kept = subprocess.Popen(['setsid', 'sleep', '600'])").get(10)
mesh.exec(["sh", "-c", "trap '' TERM HUP INT; setsid sleep 600; sleep 600"]).get(10)
bootstrap = open(f"/proc/{mesh.procs[0].pid}/stat").read().rsplit(")", 1)[1].split()[1]
told = json.dumps({"directory": mesh.instance.directory, "bootstrap": int(bootstrap)})
"""


@dataclass
class Driver:
    """A process that drives a mesh, or a kernel in which one is driven."""

    pid: int
    directory: str
    bootstrap: int

    def kill(self, *, with_bootstrap: bool = False) -> None:
        """``kill -9``, of both at the same moment: neither can do anything any more."""
        victims = [self.pid, self.bootstrap] if with_bootstrap else [self.pid]
        if with_bootstrap:
            for victim in victims:
                freeze(victim)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)


def script(trial: Trial, files: Path) -> str:
    """Starts a mesh with files, whose procs and commands write; binds ``mesh`` and ``told``."""
    first = trial.new_sources(2 * PROCS)
    values: Dict[str, Any] = {
        "FILES": str(files), "PROCS": PROCS, "TALLY": trial.path, "SEED": trial.number,
        "FIRST": first,
        "COMMAND": trial.command(
            lines=1_000_000, rate=1000, source=f"{first + PROCS}+RANK", streams="12"
        ),
    }  # fmt: skip
    trial.oracle.of = dict.fromkeys(range(first, first + 2 * PROCS), 0)
    names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return f"{names}{START}{OPTIONS}\n{SPAWN}{WRITE}"


@contextlib.contextmanager
def driver(trial: Trial, files: Path) -> Iterator[Driver]:
    """A plain Python program; killed and reaped in the end, if it is not yet."""
    source = script(trial, files) + "print(told, flush=True)\ntime.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, "the driver ended"
            wait_for_writers(trial)
            yield Driver(process.pid, **json.loads(line))
        finally:
            process.kill()


def wait_for_writers(trial: Trial) -> None:
    """Until all of the last script's writers are at it."""
    ways = [(source, stream) for source in trial.oracle.of for stream in (1, 2)]
    wait_until(lambda: all(trial.has_written(*way) > 4096 for way in ways), 60)


def what_is_left(directory: str) -> Dict[str, Any]:
    """Processes, directories and sockets of meshes whose temporary directory this is.

    The lines of a session that crashed are kept on purpose.
    """
    sockets = [
        line for line in Path("/proc/net/unix").read_text().splitlines() if directory in line
    ]
    names = [name for name in mesh_directories(directory) if not name.startswith("logmesh-stores-")]
    held = {"processes": session_processes(directory), "directories": names, "sockets": sockets}
    return {name: value for name, value in held.items() if value}


def time_until_nothing_is_left(directory: str, killed: int) -> float:
    """Seconds since ``killed`` has ended."""
    wait_until(lambda: not Path(f"/proc/{killed}/fd").exists() or is_zombie(killed), 10)
    began = time.monotonic()
    wait_until(lambda: not what_is_left(directory), 20, lambda: what_is_left(directory))
    return time.monotonic() - began


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def check_files(trial: Trial, files: Path, *, up_to_the_kill: bool) -> int:
    """Each file holds the beginning of its writer's stream, byte for byte; gives all their bytes.

    ``up_to_the_kill``: all of it whose writing had returned, and nothing that had not begun.
    """
    found = total = 0
    for path in files.iterdir():
        data = path.read_bytes()
        if not data:
            continue  # of a command that says nothing
        source, stream = (int(word) for word in data.split(b" ", 1)[0].split(b".")[:2])
        made = LineSource(trial.number, source, stream)
        number = place = 0
        while place < len(data):
            line = made.line(number)
            assert line.startswith(data[place : place + len(line)]), (path, number)
            place += len(line)
            number += 1
        written = trial.tally.written(source, stream)
        assert len(data) <= written.begun
        if up_to_the_kill:
            assert len(data) >= written.done, (path, len(data), written)
        assert path.stat().st_mode & 0o777 == 0o600
        found += 1
        total += len(data)
    assert found == 2 * 2 * PROCS
    return total


def tell_and_check(what: str, seconds: List[float]) -> None:
    """Print them; a busy machine may be late now and then, not as a rule.

    Of a few the best is judged, of many the median.
    """
    times = ", ".join(f"{second:.2f}" for second in sorted(seconds))
    sys.stdout.write(f"{what}: {times} s\n")
    judged = statistics.median(seconds) if WHOLE else min(seconds)
    assert judged < NOTHING_SEC


def test_a_killed_kernel_leaves_nothing_within_two_seconds_and_whole_files(
    nothing_is_left: str, trial: Trial, seed: random.Random, tmp_path: Path
) -> None:
    seconds = []
    for number in range(rounds(1, 20)):
        files = tmp_path / str(number)
        with driver(trial, files) as kernel:
            time.sleep(seed.uniform(0.0, 0.2))
            kernel.kill()
            seconds.append(time_until_nothing_is_left(nothing_is_left, kernel.pid))
        size = check_files(trial, files, up_to_the_kill=True)
        sys.stdout.write(f"files of {size:,} bytes, identical\n")
    tell_and_check("nothing is left of a killed driver after", seconds)


def test_a_kernel_killed_at_any_moment_of_its_start_leaves_nothing(
    nothing_is_left: str, seed: random.Random
) -> None:
    seconds = []
    source = f"PROCS = {PROCS}\nFILES = ''\n{START}{OPTIONS}\n{SPAWN}\ntime.sleep(600)"
    for _ in range(rounds(2, 30)):
        with subprocess.Popen([sys.executable, "-c", source]) as process:
            wait_until(lambda: mesh_directories(nothing_is_left), 30)
            time.sleep(seed.uniform(0.0, 0.5))
            process.kill()
        began = time.monotonic()
        wait_until(lambda: not session_processes(nothing_is_left), 20)
        seconds.append(time.monotonic() - began)
        sweep_stale()  # before there was a bootstrap, nobody else could remove its directory
        left = what_is_left(nothing_is_left)
        left["directories"] = [
            name for name in left.get("directories", []) if not name.startswith("logmesh-part-")
        ]
        assert not any(left.values())
    tell_and_check("nothing is left of a driver killed while it starts after", seconds)


def test_what_a_kernel_and_its_bootstrap_left_is_swept_at_the_next_start(
    nothing_is_left: str, trial: Trial, start: MeshMaker, tmp_path: Path
) -> None:
    for number in range(rounds(1, 5)):
        with driver(trial, tmp_path / f"{number}-living") as living:
            lives = set(session_processes(nothing_is_left))
            files = tmp_path / str(number)
            with driver(trial, files) as kernel:
                kernel.kill(with_bootstrap=True)
                wait_until(lambda kernel=kernel: is_zombie(kernel.pid), 10)
            check_files(trial, files, up_to_the_kill=False)
            left = wait_until(lambda lives=lives: escaped(nothing_is_left, lives), 5)
            assert os.path.isdir(kernel.directory)
            mesh = start(1)
            assert not os.path.exists(kernel.directory)
            assert os.path.isdir(living.directory)
            wait_until(lambda left=left: left.isdisjoint(session_processes(nothing_is_left)), 2)
            assert lives <= set(session_processes(nothing_is_left))
            assert mesh.run("1 + 1").get(10) == {0: 2}
            mesh.stop().get(10)
            living.kill()
        time_until_nothing_is_left(nothing_is_left, living.pid)


def escaped(directory: str, lives: Set[int]) -> Set[int]:
    """Who has outlived the killed bootstrap: what is in sessions of its own, and nobody else."""
    left = set(session_processes(directory)) - lives
    commands = [Path(f"/proc/{pid}/comm").read_text() for pid in left]
    return left if set(commands) == {"sleep\n"} else set()


def test_a_killed_ipykernel_leaves_nothing_within_two_seconds_and_whole_files(
    kernels: KernelMaker, trial: Trial, tmp_path: Path
) -> None:
    """Its thread reads while a cell holds up the main one."""
    seconds = []
    for number in range(rounds(1, 5)):
        kernel = kernels()
        files = tmp_path / str(number)
        cell = kernel.run("%load_ext logmesh_ipy")
        assert not cell.error, cell.error
        source = script(trial, files).replace(
            f"{OPTIONS}\n{SPAWN}",
            "get_ipython().run_line_magic('logmesh', f'start --procs {PROCS} --files {FILES}')\n"
            "from logmesh_ipy import context\n"
            "mesh = context().actor_instance.meshes[0]",
        )
        cell = kernel.run(source, timeout=60)
        assert not cell.error, cell.error
        wait_for_writers(trial)
        pid = int(kernel.value("os.getpid()"))
        kernel.send("import time; time.sleep(600)")
        kernel.kill()
        seconds.append(time_until_nothing_is_left(kernels.directory, pid))
        check_files(trial, files, up_to_the_kill=True)
    tell_and_check("nothing is left of a killed kernel after", seconds)
