"""Processes of the operating system: spawn with pipes, reap, signal, leave nothing behind. Linux.

Every child runs in a session of its own, so an interrupt of the notebook does not reach it, and
dies with its parent (``PR_SET_PDEATHSIG``). The parent is a subreaper: descendants that escape
their session are its children in the end, and :func:`kill_descendants` finds them all. Used by
the bootstrap; the local engine uses :func:`sweep` when a bootstrap was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import struct
import subprocess
import termios
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

__all__ = [
    "PIPE_BYTES",
    "SESSION_VARIABLE",
    "Reaper",
    "Spawned",
    "become_subreaper",
    "die_with_parent",
    "is_running",
    "kill_descendants",
    "output_pipe",
    "pipe_bytes",
    "raise_file_limit",
    "signal_group",
    "spawn",
    "sweep",
    "watch_process",
]

PIPE_BYTES = 1 << 20
SESSION_VARIABLE = "LOGMESH_SESSION"
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


def spawn(
    argv: Sequence[str], environ: Mapping[str, str], cwd: Optional[str], stdin: bytes = b""
) -> Spawned:
    """Start ``argv`` in a new session with pipes for fds 1 and 2; ``stdin`` is what fd 0 holds.

    Raises OSError with the errno of the failed exec, as a shell would see it.
    """
    parent = os.getpid()
    in_read, in_write = os.pipe2(os.O_CLOEXEC)
    out_read, out_write = output_pipe()
    err_read, err_write = output_pipe()
    try:
        if stdin:
            os.set_blocking(in_write, False)
            if os.write(in_write, stdin) != len(stdin):
                raise ValueError(f"stdin of {len(stdin)} bytes does not fit a pipe")
        child = subprocess.Popen(
            list(argv),
            stdin=in_read,
            stdout=out_write,
            stderr=err_write,
            env=dict(environ),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 (one thread only)
        )
    except BaseException:
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        for fd in (in_read, in_write, out_write, err_write):
            os.close(fd)
    # The Reaper waits for it, not Popen.
    child.returncode = 0
    return Spawned(child.pid, out_read, err_read)


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
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")


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


def signal_group(pid: int, number: int) -> bool:
    """Signal the process group that ``pid`` leads. False when it is gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _parents() -> Dict[int, int]:
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    stat = file.read()
            except OSError:
                continue
            fields = stat[stat.rindex(b")") + 2 :].split()
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1])
    return parents


def descendants(root: int) -> List[int]:
    """All living processes below ``root``."""
    children: Dict[int, List[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found: List[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_descendants(root: int) -> int:
    """SIGKILL everything below ``root`` until a look finds nothing (at most 50 looks)."""
    killed = 0
    for _ in range(50):
        found = descendants(root)
        if not found:
            break
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue
    return killed


def sweep(session: str) -> int:
    """SIGKILL all processes of this user that carry the session's mark in their environment.

    Looks again until a look finds none (at most 50 times): one may start another meanwhile.
    """
    mark = f"{SESSION_VARIABLE}={session}".encode()
    killed = 0
    for _ in range(50):
        found = _sweep_once(mark)
        if not found:
            break
        killed += found
    return killed


def _sweep_once(mark: bytes) -> int:
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark not in file.read().split(b"\0"):
                    continue
            os.kill(int(name), signal.SIGKILL)
            killed += 1
        except OSError:
            continue
    return killed
