"""A forked proc is what a started one would be; where forking cannot be, procs are started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from .conftest import ROOT, MeshMaker, texts

FACTS = """
def facts():
    import ctypes, os, random, resource, signal, stat, sys, threading
    def kind(fd):
        mode = os.fstat(fd).st_mode
        return "pipe" if stat.S_ISFIFO(mode) else os.readlink(f"/proc/self/fd/{fd}")
    death = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(death))
    streams = sys.stdin, sys.stdout, sys.stderr
    opened = [os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
              for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
    return {
        "argv": sys.argv,
        "cmdline": open("/proc/self/cmdline").read(),
        "main": sorted(name for name in sys.modules["__main__"].__dict__ if name[0] == "_"),
        "path": [entry for entry in sys.path if not entry.endswith("hook")],
        "cwd": os.getcwd(),
        "leads its session": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "parent": open(f"/proc/{os.getppid()}/cmdline").read().split("\\0")[2],
        "dies with its parent": death.value,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "main thread": threading.main_thread() is threading.enumerate()[0],
        "modules": sorted(name for name in sys.modules if "hook" not in name
                          and name not in ("sitecustomize", "random", "resource", "bisect")),
        "stdio": [(stream.name, stream.encoding, stream.errors, stream.line_buffering,
                   stream.write_through, stream.isatty(), stream.seekable(), type(stream).__name__,
                   type(stream.buffer).__name__, stream.fileno()) for stream in streams],
        "fds": [kind(fd) for fd in range(3)],
        "opened": sorted(opened),
        "inheritable": [fd for fd in map(int, os.listdir("/proc/self/fd"))
                        if os.path.lexists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)],
        "signals": {int(n): str(signal.getsignal(n)).partition(" at ")[0]
                    for n in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)],
        "flags": tuple(sys.flags),
        "nice": os.nice(0),
        "collects": __import__("gc").isenabled(),
        "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
        "environ": {name: value for name, value in os.environ.items()
                    if name not in ("MASTER_PORT", "PYTHONPATH", "LOGMESH_SESSION")},
        "in C": ctypes.CDLL(None, use_errno=True).getenv and os.popen("echo $RANK").read(),
    }
"""


def hook(directory: Path, source: str) -> str:
    """A PYTHONPATH with a site hook."""
    (directory / "hook").mkdir()
    (directory / "hook" / "sitecustomize.py").write_text(source)
    return f"{directory / 'hook'}{os.pathsep}{os.environ['PYTHONPATH']}"


def frozen_objects(start: MeshMaker, procs: int) -> Dict[int, int]:
    """By rank; only what was forked has any."""
    found: Dict[int, int] = start(procs).run("import gc; gc.get_freeze_count()").get(10)
    return found


def test_a_forked_proc_is_like_one_that_was_started(
    start: MeshMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: Dict[int, Dict[str, Any]] = start(2).run(f"{FACTS}\nfacts()").get(10)
    monkeypatch.setenv("PYTHONPATH", hook(tmp_path, "'looks at nothing'"))
    started: Dict[int, Dict[str, Any]] = start(2).run(f"{FACTS}\nfacts()").get(10)
    for rank in (0, 1):
        assert forked[rank] == started[rank]
        assert forked[rank]["in C"] == f"{rank}\n"
        assert forked[rank]["environ"]["RANK"] == str(rank)
        assert forked[rank]["inheritable"] == [0, 1, 2]


def test_procs_of_a_mesh_are_forked_and_differ_where_they_should(start: MeshMaker) -> None:
    mesh = start(3)
    drawn = mesh.run(
        "import gc, os, random, tempfile, uuid\n"
        "(gc.get_freeze_count() > 0, os.getpid(), random.random(), uuid.uuid4().hex, "
        "next(tempfile._get_candidate_names()))"
    ).get(10)
    assert all(values[0] for values in drawn.values())
    for position in range(1, 5):
        assert len({values[position] for values in drawn.values()}) == 3
    assert {proc.pid for proc in mesh.procs} == {values[1] for values in drawn.values()}


def test_what_a_forked_proc_leaves_in_its_buffers_arrives(start: MeshMaker) -> None:
    mesh = start(2)
    mesh.run(
        "import atexit, ctypes, sys\n"
        "sys.stdout.write('of Python')\n"
        "atexit.register(print, ', at exit')\n"
        "ctypes.CDLL(None).printf(b'of C\\n')"
    ).get(10)
    mesh.stop().get(10)
    for rank in (0, 1):
        assert "".join(texts(mesh, rank)).count("of Python") == 1
        assert "".join(texts(mesh, rank)).count(", at exit") == 1
        assert "".join(texts(mesh, rank)).count("of C") == 1


@pytest.mark.parametrize(
    "source",
    [
        "import os\nif os.environ.get('RANK') == '1': seen = 1",
        "import threading as t, time\nt.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        (
            "import os, sys\n"
            "if 'logmesh_ipy.proc' in sys.orig_argv and 'RANK' not in os.environ: os._exit(1)"
        ),
    ],
    ids=["looks at the rank", "starts a thread", "ends the server"],
)
def test_with_a_site_hook_of_the_user_procs_are_started_one_by_one(
    start: MeshMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", hook(tmp_path, source))
    assert frozen_objects(start, 2) == {0: 0, 1: 0}


def test_forking_can_be_switched_off(start: MeshMaker) -> None:
    count = "import gc; gc.get_freeze_count()"
    assert start(1, fork_procs=False).run(count).get(10) == {0: 0}
    assert start(1).run(count).get(10)[0] > 0


_PRELUDE = """
import asyncio, contextlib, os, signal, sys, tempfile, time
from logmesh_ipy import forkserver
from logmesh_ipy.bootstrap import BootstrapProcManager
from logmesh_ipy.config import HostOptions
from logmesh_ipy.forkserver import ForkServer, ForkServerLostError
from logmesh_ipy.model import BOOTSTRAP_LOG_CHANNEL
from logmesh_ipy.procs import Reaper, become_subreaper, descendants

CONFIG = {
    "proc": 0, "rank": 0, "uplink": "unix:/nowhere", "token": b"", "level": None,
    "certificate": None, "patience_sec": None, "redact": [], "redact_environment": True,
}

def environ(n=0):
    return {BOOTSTRAP_LOG_CHANNEL: f"unix:{tempfile.gettempdir()}/p{n}.sock"}

def children():
    return [int(pid) for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split()]

def kill_server():
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

# Servers started meanwhile run ``source`` (without single quotes) before their program.
@contextlib.contextmanager
def first_runs(source):
    with tempfile.TemporaryDirectory() as directory:
        python, sys.executable = sys.executable, os.path.join(directory, "python")
        with open(sys.executable, "w") as program:
            program.write(f"#!/bin/sh\\nexec {python} -c '{source}\\n"
                'import runpy; runpy.run_module(\"logmesh_ipy.proc\", run_name=\"__main__\")'
                "'\\n")
        os.chmod(sys.executable, 0o700)
        yield
        sys.executable = python

# Waits for all children to end by themselves; gives their exit codes by pid.
def ends():
    codes, deadline = {}, time.monotonic() + 10
    while children():
        assert time.monotonic() < deadline, f"still there: {children()}"
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return codes

# Of the loop, until it is cancelled; in seconds, kept as ``gaps[0]``.
async def longest_pause(gaps):
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.001)
        now = time.monotonic()
        gaps[0], last = max(gaps[0], now - last), now

def manager(directory=""):
    names = "directory", "session_directory", "session", "name"
    config = {"token": b"", "options": HostOptions().to_map(), "uplink": "unix:/nowhere"}
    config.update(certificate=None, patience_sec=None)
    host = BootstrapProcManager({**config, **dict.fromkeys(names, directory)})
    host._max_files = 1024
    return host
"""

_LOST = """
async def main():
    become_subreaper()
    before = sorted(os.listdir("/proc/self/fd"))
    server = ForkServer(os.environ)
    assert await server.ready()
    kill_server()
    try:
        await server.spawn(CONFIG, environ())
    except ForkServerLostError:
        print("lost")
    assert not await server.ready()
    await asyncio.sleep(0)
    print(len(os.listdir("/proc/self/fd")) - len(before))

asyncio.run(main())
"""

_STARTED_INSTEAD = """
async def main():
    host = manager()
    assert await host._can_fork()
    kill_server()
    spawned = await host._start_proc({"rank": 0}, dict(os.environ), None, forks=True)
    assert children() == [spawned.pid]
    print(open(f"/proc/{spawned.pid}/cmdline").read().split("\\0")[2])
    os.kill(spawned.pid, signal.SIGKILL)
    print(await host._can_fork())

asyncio.run(main())
"""

_THREADED = """
async def main():
    with first_runs(
        "import threading, time\\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    ):
        server = ForkServer(os.environ)
        print(await server.ready())
    ends()
    print("ended")

asyncio.run(main())
"""

_STOPPED = """
async def main():
    become_subreaper()
    forkserver._REPLY_SEC = 3.0
    server = ForkServer(os.environ)
    assert await server.ready()
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)
    gaps = [0.0]
    watching = asyncio.create_task(longest_pause(gaps))
    await asyncio.sleep(0)
    try:
        await server.spawn(CONFIG, environ())
    except ForkServerLostError:
        print("lost")
    await asyncio.sleep(0.002)
    watching.cancel()
    print("blocked" if gaps[0] > 2.0 else "free")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    print(ends() == {pid: -signal.SIGKILL})

asyncio.run(main())
"""

_ALL_STARTED_INSTEAD = """
async def main():
    become_subreaper()
    forkserver._REPLY_SEC = 0.5
    with tempfile.TemporaryDirectory() as directory:
        host = manager(directory)
        assert await host._can_fork()
        (server,) = children()
        os.kill(server, signal.SIGSTOP)
        specs = [{"proc": n, "rank": n, "environ": {"RANK": str(n)}} for n in range(3)]
        spawning = asyncio.create_task(host.spawn(specs, {}, None))
        while not host._fork_server.busy:
            await asyncio.sleep(0)
        print(host.status())
        answer = await spawning
        os.waitpid(server, 0)
        print(list(answer["started"]), answer["failed"])
        print(sorted(answer["started"].values()) == sorted(children()))
        for managed in host._procs.values():
            managed.close()
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        ends()

asyncio.run(main())
"""

_LATE = """
async def main():
    become_subreaper()
    forkserver._REPLY_SEC = 0.5
    with first_runs(
        "import os, signal; waitpid = os.waitpid\\n"
        "os.waitpid = lambda *args: (waitpid(*args), os.kill(os.getpid(), signal.SIGSTOP))"
    ):
        server = ForkServer(os.environ)
        assert await server.ready()
    try:
        await server.spawn(CONFIG, environ())
    except ForkServerLostError:
        print("lost")
    print(sorted(ends().values()))

asyncio.run(main())
"""

_DIES_BEFORE_IT_IS_KNOWN = """
async def main():
    become_subreaper()
    exits = []
    reaper = Reaper(lambda pid, code: exits.append(code))
    reaper.start()
    with first_runs(
        "import os, time; waitpid = os.waitpid; os.setsid = lambda: os._exit(3)\\n"
        "os.waitpid = lambda *args: (waitpid(*args), time.sleep(0.3))"
    ):
        server = ForkServer(os.environ)
        assert await server.ready()
    try:
        await server.spawn(CONFIG, environ())
    except ForkServerLostError:
        print("lost")
    while children():
        await asyncio.sleep(0.002)
    print(exits)

asyncio.run(main())
"""

_SEVERAL = """
async def main():
    become_subreaper()
    server = ForkServer(os.environ)
    print(await asyncio.gather(server.ready(), server.ready()))
    (pid,) = children()
    forked = await asyncio.gather(*[server.spawn(CONFIG, environ(n)) for n in range(8)])
    print({one.pid for one in forked} == set(children()) - {pid})
    server.close()
    for one in forked:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    ends()

asyncio.run(main())
"""

_KILLED = """
async def bootstrap(when):
    become_subreaper()
    with first_runs(
        "import os, time; setsid = os.setsid; bootstrap = os.getppid()\\n"
        "def until_it_is_dead():\\n"
        "    while os.path.exists(f\\"/proc/{bootstrap}/cwd\\"): time.sleep(0.002)\\n"
        "    while os.getppid() == bootstrap: time.sleep(0.002)\\n"
        "    setsid()\\n"
        "os.setsid = until_it_is_dead"
    ):
        server = ForkServer(os.environ)
        assert await server.ready()
    spawning = asyncio.create_task(server.spawn(CONFIG, environ()))
    if when == "knows":
        await spawning
    else:
        while len(descendants(os.getpid())) < 2:
            if not server.busy:
                await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

become_subreaper()
for when in ("knows", "does not know"):
    pid = os.fork()
    if not pid:
        asyncio.run(bootstrap(when))
    codes = ends()
    assert codes.pop(pid) == -signal.SIGKILL
    print(max(codes.values()))
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (_LOST, ["lost", "0"]),
        (_STARTED_INSTEAD, ["logmesh_ipy.proc", "False"]),
        (_THREADED, ["False", "ended"]),
        (_STOPPED, ["lost", "free", "True"]),
        (_ALL_STARTED_INSTEAD, ["{}", "['0', '1', '2'] {}", "True"]),
        (_LATE, ["lost", "[-9, 1]"]),
        (_DIES_BEFORE_IT_IS_KNOWN, ["lost", "[3, -9]"]),
        (_SEVERAL, ["[True, True]", "True"]),
        (_KILLED, ["1", "1"]),
    ],
    ids=[
        "ended: is told as lost",
        "ended: procs are started instead",
        "with threads: it refuses, and ends",
        "stopped: is killed, and nothing waits for it",
        "stopped: procs are started instead, once each",
        "stopped after the fork: what it forked ends",
        "what it forked ends at once: is told as lost",
        "asked by several at a time: it answers each",
        "its bootstrap is killed after the fork: what it forked ends",
    ],
)
def test_of_a_server_and_its_bootstrap(script: str, said: List[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _PRELUDE + script],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines() == said, ended.stderr
