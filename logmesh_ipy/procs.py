"""Processes of the operating system: spawn with pipes, reap, signal, leave nothing behind. Linux.

Every child runs in a session of its own, so an interrupt of the notebook does not reach it, and
dies with its parent (``PR_SET_PDEATHSIG``). The parent is a subreaper: descendants that escape
their session are its children in the end, and :func:`kill_descendants` finds them all. What one
command has started is told by :func:`families`. Used by the bootstrap; the local engine uses
:func:`sweep` when a bootstrap was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import termios
import time
from dataclasses import dataclass
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

__all__ = [
    "COMMAND_VARIABLE",
    "PIPE_BYTES",
    "SESSION_VARIABLE",
    "Leader",
    "Reaper",
    "Spawned",
    "become_subreaper",
    "die_with_parent",
    "families",
    "is_running",
    "is_stopped",
    "kill",
    "kill_descendants",
    "output_pipe",
    "pipe_bytes",
    "raise_file_limit",
    "signal_process",
    "spawn",
    "sweep",
    "terminate",
    "watch_process",
    "why_not_started",
]

PIPE_BYTES = 1 << 20
SESSION_VARIABLE = "LOGMESH_SESSION"
COMMAND_VARIABLE = "LOGMESH_COMMAND"
_LOOKS = 100
_PAUSE_SEC = 0.005
_TICK_SEC = 0.02
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. Runs in the child."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_file_limit() -> int:
    """Allow as many open files as the system lets this user have; gives their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child and the read ends (non-blocking) of its output pipes."""

    pid: int
    stdout: int
    stderr: int

    def kill(self) -> None:
        """SIGKILL to its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def discard(self) -> None:
        """Kill it, and close the pipes."""
        self.kill()
        for fd in (self.stdout, self.stderr):
            os.close(fd)


def spawn(
    argv: Sequence[str], environ: Mapping[str, str], cwd: Optional[str], stdin: bytes = b""
) -> Spawned:
    """Start ``argv`` in a new session with pipes for fds 1 and 2; ``stdin`` is what fd 0 holds.

    Raises OSError with the errno of the failed exec, as a shell would see it.
    """
    parent = os.getpid()
    ours: List[int] = []
    theirs: List[int] = []
    try:
        for make in (_input_pipe, output_pipe, output_pipe):
            ours_of_it, theirs_of_it = make()
            ours.append(ours_of_it)
            theirs.append(theirs_of_it)
        if stdin and os.write(ours[0], stdin) != len(stdin):
            raise ValueError(f"stdin of {len(stdin)} bytes does not fit a pipe")
        child = subprocess.Popen(
            list(argv),
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 (one thread only)
        )
    except BaseException:
        for fd in ours[1:]:
            os.close(fd)
        raise
    finally:
        for fd in (*ours[:1], *theirs):
            os.close(fd)
    # The Reaper waits for it, not Popen.
    child.returncode = 0
    return Spawned(child.pid, ours[1], ours[2])


def why_not_started(error: OSError) -> str:
    """The errno's words, with what to do where processes are what has run out."""
    words = error.strerror or str(error)
    if error.errno != errno.EAGAIN:
        return words
    return (
        f"{words}: no more processes are allowed here (see `ulimit -u`, and `pids.max` of the "
        "container); end some, or raise the limit"
    )


def _input_pipe() -> Tuple[int, int]:
    """The write end (non-blocking), then the read end."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write, False)
    return write, read


def output_pipe() -> Tuple[int, int]:
    """A pipe for a child's output: the read end (non-blocking), and the write end."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    # Where the user's quota of pipe pages is used up, the system's own size serves as well.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read, write


def pipe_bytes(fd: int) -> int:
    """How many bytes the pipe holds now (FIONREAD)."""
    raw = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    count: int = struct.unpack("i", raw)[0]
    return count


class Reaper:
    """Waits for all children of this process; tells ``on_exit(pid, code)`` for each.

    ``code`` is the exit code, or minus the signal. Orphans that were adopted are reaped too.
    """

    def __init__(self, on_exit: Callable[[int, int], None]) -> None:
        self._on_exit = on_exit
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def start(self) -> None:
        """Listen for SIGCHLD; must be called on the main thread's loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def stop(self) -> None:
        """Listen no more."""
        if self._loop is not None:
            self._loop.remove_signal_handler(signal.SIGCHLD)

    def reap(self) -> None:
        """Collect every child that has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._on_exit(pid, os.waitstatus_to_exitcode(status))


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    return _look(pid) is not None


def is_stopped(pid: int) -> bool:
    """Whether the process stands still (SIGSTOP, or a debugger)."""
    process = _look(pid)
    return process is not None and process.state in (b"T", b"t")


class _Process(NamedTuple):
    state: bytes
    parent: int
    session: int


def _look(pid: int) -> Optional[_Process]:
    """A living process; None for a zombie and for none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    state, parent, _, session, _ = stat[stat.rindex(b")") + 2 :].split(None, 4)
    return None if state in (b"Z", b"X") else _Process(state, int(parent), int(session))


def watch_process(pid: int, on_end: Callable[[], None]) -> Callable[[], None]:
    """Call ``on_end()`` on this loop once when process ``pid`` has ended; gives the undo."""
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        loop.call_soon(on_end)
        return lambda: None
    except (AttributeError, OSError):
        return lambda: None  # Too old a system: the end of its connection must do.

    def ended() -> None:
        loop.remove_reader(fd)
        on_end()

    def undo() -> None:
        loop.remove_reader(fd)
        os.close(fd)

    loop.add_reader(fd, ended)
    return undo


def _processes() -> Dict[int, _Process]:
    """All living processes of the machine."""
    found = {}
    for name in os.listdir("/proc"):
        process = _look(int(name)) if name.isdigit() else None
        if process is not None:
            found[int(name)] = process
    return found


def _below(root: int, processes: Mapping[int, _Process]) -> List[int]:
    children: Dict[int, List[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: List[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def descendants(root: int) -> List[int]:
    """All living processes below ``root``."""
    return _below(root, _processes())


@dataclass(frozen=True, slots=True)
class Leader:
    """A command: its pid, what ``COMMAND_VARIABLE`` says in its environment, whether it runs."""

    pid: int
    mark: str
    alive: bool


def families(leaders: Sequence[Leader]) -> Dict[str, List[int]]:
    """By mark: the living processes of each command, itself and all that it has started.

    Of the processes below this one, those belong to a command that are below it, that are in its
    session, or that carry its mark in the environment they were started with: so those too that
    have left its session and outlive it as orphans.
    """
    processes = _processes()
    # No pid is given again while it names a session: where it is, that session is empty.
    by_pid = {one.pid: one.mark for one in leaders if one.alive or one.pid not in processes}
    by_entry = {f"{COMMAND_VARIABLE}={one.mark}".encode(): one.mark for one in leaders}
    found: Dict[str, List[int]] = {one.mark: [] for one in leaders}
    for pid in _below(os.getpid(), processes):
        ancestor = pid
        while ancestor in processes and ancestor not in by_pid:
            ancestor = processes[ancestor].parent
        mark = by_pid.get(ancestor) or by_pid.get(processes[pid].session)
        if mark is None:
            mark = next((by_entry[entry] for entry in _environ(pid) if entry in by_entry), None)
        if mark is not None:
            found[mark].append(pid)
    return found


def _environ(pid: int) -> List[bytes]:
    """What the process was started with; empty where it has ended, or is another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def kill(find: Callable[[], List[int]]) -> int:
    """SIGKILL what ``find()`` gives until it gives none; how many.

    What another user owns, or the system holds in a call, is given up after half a second.
    """
    killed: Set[int] = set()
    for _ in _kill(find, killed):
        time.sleep(_PAUSE_SEC)
    return len(killed)


def _kill(find: Callable[[], List[int]], killed: Set[int]) -> Iterator[None]:
    """The looks of :func:`kill`; yields where a pause is due.

    One look is not enough: what is found late may have started more, and gets no pause to start
    more still. What has been killed takes a moment to be gone.
    """
    told: Set[int] = set()
    for _ in range(_LOOKS):
        found = find()
        if not found:
            return
        killed.update(pid for pid in found if signal_process(pid, signal.SIGKILL))
        if told.issuperset(found):
            yield
        told.update(found)


async def terminate(find: Callable[[], List[int]], grace_sec: float) -> int:
    """SIGTERM to what ``find()`` gives, SIGKILL to what is left of it after the grace.

    Returns when nothing is left but what cannot be killed, as in :func:`kill`; gives how many
    had to be killed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_sec
    told: Set[int] = set()
    while pids := find():
        if loop.time() >= deadline:
            break
        for pid in pids:
            if pid not in told:
                signal_process(pid, signal.SIGTERM)
        told.update(pids)
        await asyncio.sleep(_TICK_SEC)
    killed: Set[int] = set()
    for _ in _kill(find, killed):
        await asyncio.sleep(_PAUSE_SEC)
    return len(killed)


def signal_process(pid: int, number: int) -> bool:
    """False where it is gone, or another user's."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_descendants(root: int) -> int:
    """SIGKILL everything below ``root``; gives how many."""
    return kill(lambda: descendants(root))


def sweep(session: str) -> int:
    """SIGKILL all processes of this user that carry the session's mark in their environment."""
    mark = f"{SESSION_VARIABLE}={session}".encode()

    def marked() -> List[int]:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if mark in _environ(pid) and pid != os.getpid()]

    return kill(marked)
