"""Children that outlive, escape and multiply; and what processes hold open of each other."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, Dict, Iterator, List, Optional, Set

import pytest

from logmesh_ipy import MeshError
from logmesh_ipy.errors import SpawnError
from logmesh_ipy.job import Job
from tests.faults.conftest import ROOT, WHOLE, Trial, rounds
from tests.integration.conftest import OUT, MeshMaker, texts
from tests.support import session_processes, wait_until

STOP_SEC = 5.0
EXIT_SEC = 1.0


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def alive(pids: List[int]) -> List[int]:
    """Those that run, and are no zombies."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            found += [pid] if state not in "ZX" else []
    return found


def say(words: str) -> None:
    """For who reads the test's output: what was measured."""
    sys.stdout.write(f"{words}\n")


# --- who outlives the process that started it ---------------------------------------------------

ESCAPES = {
    "a child": "subprocess.Popen(ARGV)",
    "a double fork with setsid": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(ARGV[0], ARGV)
    os._exit(0)
os.wait()
""",
}


def escape(how: str, argv: List[str], then: str) -> str:
    """Source: start ``argv``, tell the time, and end."""
    return (
        f"import os, subprocess, sys, time\nARGV = {argv}\n{ESCAPES[how]}\n"
        f"os.write(1, b'%.6f\\n' % time.monotonic()); {then}"
    )


@pytest.mark.parametrize("how", list(ESCAPES))
def test_who_holds_the_pipes_of_a_dead_proc_keeps_nobody_waiting(
    start: MeshMaker, trial: Trial, how: str
) -> None:
    mesh = start(2)
    # Its lines go on in both pipes: on stderr those that are judged.
    first = trial.new_sources(1)
    trial.oracle.of[first] = mesh.procs[0].proc
    argv = trial.command(lines=1 << 30, rate=1000, source=str(first), streams="2")
    running = mesh.run(escape(how, argv, "os._exit(3)"), ranks=0)
    wait_until(lambda: mesh.procs[0].exit_code is not None, what="its end is known")
    known = time.monotonic()
    with pytest.raises(MeshError, match="exited with code 3"):
        running.get(10)
    wait_until(lambda: texts(mesh, 0), what="its last line")
    ended = float(texts(mesh, 0)[0])
    trial.wait_for_lines([first], 200, stream=2)
    report = mesh.flush(3.0).get(5)
    assert report
    assert report.exited == ("rank 0",)
    left = session_processes(os.environ["TMPDIR"])
    began = time.monotonic()
    mesh.stop().get(10)
    stopped = time.monotonic() - began
    say(
        f"exit known after {known - ended:.3f} s, barrier {report.seconds:.3f} s, "
        f"stop {stopped:.3f} s"
    )
    assert known - ended < EXIT_SEC
    assert report.seconds < 1.0
    assert stopped < STOP_SEC
    assert not alive(left)
    trial.judge(mesh, known=lambda row: row.target is OUT)


def start_and_end(argv: List[str]) -> List[str]:
    """A command that starts ``argv`` twice, once in a session of its own, and ends."""
    return ["sh", "-c", '"$@" & setsid "$@" & exit 0', "sh", *argv]


def command_pids(job: Job) -> List[int]:
    """Who carries the mark of a job's commands in its environment."""
    marks = tuple(f"/{source}".encode() for source in job.rank_of)
    found = []
    for pid in session_processes(os.environ["TMPDIR"]):
        with contextlib.suppress(OSError):
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            own = [entry for entry in entries if entry.startswith(b"LOGMESH_COMMAND=")]
            found += [pid] if own and own[0].endswith(marks) else []
    return found


SLEEPER = """
import os, signal, time
if os.environ["RANK"] == "1":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"up\\n")
time.sleep(60)
"""


def test_the_stop_of_a_job_reaches_what_it_left_behind_and_nobody_else(start: MeshMaker) -> None:
    mesh = start(2)
    argv = start_and_end([sys.executable, "-c", SLEEPER])
    jobs = [mesh.exec(argv).get(10), mesh.exec(argv, ranks=0).get(10)]
    for job in jobs:
        assert not any(job.wait().get(10).values())
    wait_until(lambda: texts(mesh).count("up") == 6, what="all children are up")
    first, second = (command_pids(job) for job in jobs)
    assert (len(first), len(second)) == (4, 2)
    began = time.monotonic()
    assert jobs[0].stop().get(10) == {0: 0, 1: 0}
    stopped = time.monotonic() - began
    say(f"stop of a job of 4 orphans, 2 of which ignore SIGTERM: {stopped:.3f} s")
    assert stopped < STOP_SEC
    assert alive(first) == []
    assert alive(second) == second
    assert all(mesh.instance.actor.records[source].ended for source in jobs[0].rank_of)
    assert jobs[0].stop().get(10) == {0: 0, 1: 0}
    began = time.monotonic()
    assert jobs[1].stop().get(10) == {0: 0}
    say(f"stop of one of 2 that heed it: {time.monotonic() - began:.3f} s")
    assert time.monotonic() - began < 1.5, "nothing is waited for that has ended"
    assert alive(second) == []


def test_an_interrupt_of_a_job_reaches_the_children_of_those_that_have_ended(
    start: MeshMaker,
) -> None:
    mesh = start(1)
    script = (
        "import os, signal, sys, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: os.write(1, b'up\\n'); time.sleep(60)\n"
        "except KeyboardInterrupt: os.write(1, b'interrupted\\n')"
    )
    job = mesh.exec(start_and_end([sys.executable, "-c", script])).get(10)
    assert job.wait().get(10) == {0: 0}
    wait_until(lambda: texts(mesh).count("up") == 2)
    assert job.interrupt().get(10) == list(job.rank_of)
    wait_until(lambda: texts(mesh).count("interrupted") == 2)
    wait_until(lambda: mesh.instance.actor.records[next(iter(job.rank_of))].ended)
    assert job.interrupt().get(10) == []


# --- a limit of processes -------------------------------------------------------------------------


class ProcessLimit:
    """How many processes and threads a process and what it starts from now on may be.

    A control group where one can be made; elsewhere RLIMIT_NPROC, which does not bind root.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        base = "/sys/fs/cgroup/pids"
        self._parent = base if os.path.isdir(base) else "/sys/fs/cgroup"
        self._group = f"{self._parent}/logmesh-test-{os.getpid()}"
        self._soft, self._hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
        try:
            os.mkdir(self._group)
            self._write("cgroup.procs", pid)
            self._read("pids.current")
        except OSError:
            with contextlib.suppress(OSError):
                os.rmdir(self._group)
            if os.geteuid() == 0:
                pytest.skip("no control group can be made, and root has no limit of its own")
            self._group = ""

    def allow(self, more: Optional[int]) -> None:
        """So many more than there are now; None: as before."""
        if self._group:
            self._write("pids.max", "max" if more is None else self._read("pids.current") + more)
            return
        tasks = sum(len(os.listdir(f"/proc/{pid}/task")) for pid in own_processes())
        soft = self._soft if more is None else tasks + more
        resource.prlimit(self._pid, resource.RLIMIT_NPROC, (soft, self._hard))

    def close(self) -> None:
        """Kill what it was for, let the process itself go. Nothing is let loose on the machine.

        Whatever has happened in the test: while anything else is in the group, nobody forks.
        """
        if not self._group:
            self.allow(None)
            return
        self._write("pids.max", 0)

        def only_one() -> bool:
            others = set(self._members()) - {self._pid}
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not others

        wait_until(only_one, 60, "the control group is empty")
        for pid in self._members():
            Path(f"{self._parent}/cgroup.procs").write_text(str(pid))
        wait_until(lambda: not self._members())
        os.rmdir(self._group)

    def _members(self) -> List[int]:
        return [int(pid) for pid in Path(f"{self._group}/cgroup.procs").read_text().split()]

    def _read(self, name: str) -> int:
        return int(Path(self._group, name).read_text())

    def _write(self, name: str, value: object) -> None:
        Path(self._group, name).write_text(str(value))


def own_processes() -> List[int]:
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():
                found.append(int(name))
    return found


@contextlib.contextmanager
def limited(pid: int) -> Iterator[ProcessLimit]:
    limit = ProcessLimit(pid)
    try:
        yield limit
    finally:
        limit.close()


STORM_SEC = 15.0
STORM = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + {STORM_SEC}
while time.monotonic() < end:
    try:
        if os.fork() == 0: os.setsid()
    except OSError:
        time.sleep(0.01)
"""


@pytest.mark.timeout(120)
def test_a_fork_storm_under_a_limit_is_ended_and_harms_nobody(
    start: MeshMaker, trial: Trial
) -> None:
    mesh = start(2)
    bootstrap = parent_of(mesh.procs[0].pid)
    sources = trial.write_in_procs(mesh, lines=1 << 30, rate=200)
    trial.wait_for_lines(sources, 20)
    with limited(bootstrap) as limit:
        limit.allow(rounds(20, 60))

        def refusal() -> str:
            try:
                mesh.exec(["true"], ranks=0).get(10).wait().get(10)
            except SpawnError as error:
                return str(error)
            return ""

        for ends in ("job", "job", "mesh") if WHOLE else ("mesh",):
            storm = mesh.exec([sys.executable, "-c", STORM]).get(10)
            words = wait_until(refusal, what="no more processes are allowed")
            assert "Resource temporarily unavailable" in words
            assert "`ulimit -u`" in words
            assert "pids.max" in words
            assert mesh.run("1").get(20) == {0: 1, 1: 1}
            report = mesh.flush(10).get(20)
            assert report
            size = len(command_pids(storm))
            began = time.monotonic()
            (storm if ends == "job" else mesh).stop().get(20)
            stopped = time.monotonic() - began
            say(
                f"storm of {size}: barrier {report.seconds:.3f} s, "
                f"stop of the {ends} {stopped:.3f} s"
            )
            assert stopped < STOP_SEC
            assert command_pids(storm) == []
            if ends == "job":
                assert mesh.exec(["true"], ranks=0).get(10).wait().get(10) == {0: 0}
        assert session_processes(os.environ["TMPDIR"]) == []
    trial.judge(mesh)


def test_processes_that_cannot_be_started_leave_nothing_behind(start: MeshMaker) -> None:
    mesh = start(2)
    bootstrap = parent_of(mesh.procs[0].pid)
    open_before = set(os.listdir(f"/proc/{bootstrap}/fd"))
    with limited(bootstrap) as limit:
        limit.allow(1)
        for _ in range(3):
            # The first rank's can be started, the second one's not: then neither is left.
            with pytest.raises(SpawnError, match="Resource temporarily unavailable") as caught:
                mesh.exec(["sleep", "60"]).get(10)
            assert list(caught.value.failures) == [1]
            wait_until(lambda: mesh.jobs == {} and not sleepers(bootstrap))
        limit.allow(None)
        assert mesh.exec(["true"]).get(10).wait().get(10) == {0: 0, 1: 0}
        assert mesh.flush().get(10)
    wait_until(lambda: set(os.listdir(f"/proc/{bootstrap}/fd")) == open_before)


def sleepers(bootstrap: int) -> List[int]:
    children = Path(f"/proc/{bootstrap}/task/{bootstrap}/children").read_text().split()
    return [int(pid) for pid in children if name_of(int(pid)) == "sleep"]


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


MANY = """
import sys
from logmesh_ipy import this_host
from logmesh_ipy.config import HostOptions, MeshOptions
from logmesh_ipy.errors import SpawnError

sys.stdin.readline()
options = MeshOptions(host=HostOptions(fork_procs=sys.argv[1] == "forked"))
try:
    this_host().spawn_procs(int(sys.argv[2]), options=options).get(60)
except SpawnError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["forked", "spawned"])
def test_a_mesh_that_a_limit_has_no_room_for_is_refused_in_words(
    nothing_is_left: str, how: str
) -> None:
    count = rounds(10, 100)
    process = subprocess.Popen(
        [sys.executable, "-c", MANY, how, str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        with limited(process.pid) as limit:
            limit.allow(count)
            words, _ = process.communicate("go\n", 90)
            assert process.returncode == 0
            say(words)
            assert re.match(
                "cannot start on ranks .*: no more processes|rank .* died at start", words
            )
            wait_until(lambda: not session_processes(nothing_is_left))
    finally:
        process.kill()
        process.communicate()


# --- what is open ---------------------------------------------------------------------------------

LIVE_ON = """
import os, subprocess, sys, time
children = {"spawned": subprocess.Popen(["sleep", "60"]).pid, "forked": os.fork()}
if not children["forked"]:
    time.sleep(60)
    os._exit(0)
children
"""


def open_files(pid: int) -> Dict[int, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def only_open(pid: int, fds: Set[int]) -> Dict[int, str]:
    """What a process has open when all that its program opened while it was loaded is closed."""
    return wait_until(lambda: (found := open_files(pid)).keys() == fds and found, what=f"pid {pid}")


@pytest.mark.parametrize("fork_procs", [True, False])
def test_a_proc_holds_its_own_files_and_nothing_of_its_siblings(
    start: MeshMaker, fork_procs: bool
) -> None:
    count = rounds(6, 100)
    mesh = start(count, fork_procs=fork_procs)
    children = mesh.run(LIVE_ON).get(60)
    job = mesh.exec(["sh", "-c", "sleep 60 & exec sleep 60"]).get(60)
    holders: DefaultDict[str, Set[int]] = defaultdict(set)
    most = 0
    for proc in mesh.procs:
        own = open_files(proc.pid)
        forked = open_files(children[proc.rank]["forked"])
        assert own[0] == os.devnull
        assert only_open(children[proc.rank]["spawned"], {0, 1, 2}).items() <= own.items()
        for fd, where in own.items():
            if fd in (1, 2):
                assert where.startswith("pipe:")
            elif fd:
                assert where.startswith(("socket:", "anon_inode:")), own
            holders[where].add(proc.rank)
        # What a fork shares with its parent are the parent's own; its connections are let go.
        assert set(forked.values()) <= {*own.values(), os.devnull}
        most = max(most, len(own))
    shared = {where: ranks for where, ranks in holders.items() if len(ranks) > 1}
    assert set(shared) <= {os.devnull, "anon_inode:[eventpoll]"}, shared
    assert most <= 16
    pipes: Set[str] = set()
    for pid in job.pids.values():
        child = int(wait_until(Path(f"/proc/{pid}/task/{pid}/children").read_text))
        for one in (pid, child):
            found = only_open(one, {0, 1, 2})
        assert not pipes & {found[1], found[2]}
        pipes |= {found[1], found[2]}
    assert not pipes & set(holders)
    say(f"{count} procs: at most {most} files each, 0, 1, 2 in commands and what procs start")
    job.stop().get(20)
