"""Procs are forked from one process that has all their modules loaded, not started one by one.

Loading the interpreter and the modules of :mod:`~logmesh_ipy.proc` takes some 100 ms of CPU and
20 MB; a fork takes 2 ms and shares the memory. The bootstrap starts the server, ``python -m
logmesh_ipy.proc`` too, with one end of a socket pair as its standard input:

    bootstrap --Call(fork) + fds 1, 2, go--> server --fork--> between --fork--> proc
              <-Reply(pid) once between ended-/
              --a byte on the pipe "go"--------------------------------------> runs

``between`` ends at once, so that the proc becomes a child of the bootstrap, which is a
subreaper: it is reaped, killed and dies with its parent like one that was started. Until the
bootstrap knows it and lets it go, it has done nothing; where the bootstrap has ended or has given
up waiting for the reply, that pipe is closed and the proc ends. So no proc runs that nobody knows.

What an interpreter looks at when it starts (``PYTHONPATH``, the working directory, the libraries'
paths) is the same for the server and for what it forks. The rank is not: where a site hook of the
user's (``sitecustomize``) may look at it, or has started a thread, with which a process cannot be
forked safely, the server refuses, and the bootstrap starts each proc by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .errors import LogMeshError, ProtocolError
from .frames import FrameDecoder
from .procs import Spawned, die_with_parent, output_pipe
from .wire import Call, Message, Reply, decode, encode

__all__ = ["FORK", "ForkServer", "ForkServerLostError", "serve"]

FORK = "fork"
_MAX_BYTES = 64 << 10
_START_SEC = 10.0
_REPLY_SEC = 10.0
_PID_BYTES = 32
_FDS = 3


class ForkServerLostError(LogMeshError):
    """The server has ended, or does not answer: procs must be started one by one."""


class ForkServer:
    """The bootstrap's end. Making one starts the server; ``await ready()`` before ``spawn``.

    Raises OSError where it cannot be started.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._answer: Optional[bool] = None
        self._pid: Optional[int] = None
        self._lock = asyncio.Lock()
        self._unread: Optional[int] = None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        try:
            with theirs:
                self._start(theirs.fileno(), environ)
        except BaseException:
            self.close()
            raise

    def _start(self, requests: int, environ: Mapping[str, str]) -> None:
        parent = os.getpid()
        self._socket.send(encode(Call(n=0, method=FORK, args={"parent": parent})))
        # sys.stdout and sys.stderr of the procs are made in the server: they must find pipes. What
        # a site hook says before the fork is nobody's output.
        self._unread, writes = os.pipe2(os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "logmesh_ipy.proc"],
                stdin=requests,
                stdout=writes,
                stderr=writes,
                env=dict(environ),
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 (one thread only)
            )
        finally:
            os.close(writes)
        # The bootstrap's Reaper waits for it, not Popen.
        process.returncode = 0
        self._pid = process.pid

    @property
    def busy(self) -> bool:
        """Whether it has yet to answer."""
        return self._lock.locked()

    async def ready(self) -> bool:
        """Whether it can fork, once it has told."""
        async with self._lock:
            if self._answer is None:
                try:
                    self._answer = (await self._reply(_START_SEC)).ok
                except ForkServerLostError:
                    self._answer = False
                if not self._answer:
                    self.close()
            return self._answer

    async def spawn(self, config: Mapping[str, Any], environ: Mapping[str, str]) -> Spawned:
        """Fork a proc; ``environ`` is what it has beyond the server's own. Takes milliseconds.

        Several at a time are forked in the order of the calls. The proc may end as soon as this
        coroutine has returned, not before: who then knows it at once misses no exit.

        Raises OSError where the system has no room for it, ForkServerLostError where there is no
        server any more, or none that answers in time: it is killed then.
        """
        args = {"config": dict(config), "environ": dict(environ)}
        request = encode(Call(n=1, method=FORK, args=args))
        async with self._lock:
            ours: List[int] = []
            try:
                self._ask(request, ours)
                reply = await self._reply(_REPLY_SEC)
                if not reply.ok:
                    raise OSError(reply.value, os.strerror(reply.value))
                self._let_go(ours.pop())
            except BaseException:
                for fd in ours:
                    os.close(fd)
                raise
        return Spawned(reply.value, *ours)

    def close(self) -> None:
        """End the server, even a stopped one; what it has forked lives on."""
        self._answer = False
        self._socket.close()
        unread, self._unread = self._unread, None
        if unread is not None:
            os.close(unread)
        pid, self._pid = self._pid, None
        if pid is not None:
            # Where the Reaper has waited for it, the number may be another's: then it is no child.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                os.kill(pid, signal.SIGKILL)

    def _ask(self, request: bytes, ours: List[int]) -> None:
        """Send a request with the ends of new pipes; appends the other ends to ``ours``."""
        theirs: List[int] = []
        try:
            for make in (output_pipe, output_pipe, _go_ahead_pipe):
                ours_of_it, theirs_of_it = make()
                ours.append(ours_of_it)
                theirs.append(theirs_of_it)
            try:
                socket.send_fds(self._socket, [request], theirs)
            except OSError as error:
                raise self._lost(str(error)) from None
        finally:
            for fd in theirs:
                os.close(fd)

    async def _reply(self, timeout_sec: float) -> Reply:
        loop = asyncio.get_running_loop()
        try:
            data = await asyncio.wait_for(loop.sock_recv(self._socket, _MAX_BYTES), timeout_sec)
            reply = _message(data)
        except asyncio.TimeoutError:
            raise self._lost(f"no answer for {timeout_sec:g} s") from None
        except (OSError, ProtocolError) as error:
            raise self._lost(str(error)) from None
        except asyncio.CancelledError:
            self.close()  # Its reply would be taken for that to the next request.
            raise
        if type(reply) is not Reply or type(reply.value) is not int:
            raise self._lost("it does not answer as one")
        return reply

    def _let_go(self, go: int) -> None:
        try:
            os.write(go, b"\0")
        except BrokenPipeError:
            raise self._lost("what it forked has ended") from None
        finally:
            os.close(go)

    def _lost(self, why: str) -> ForkServerLostError:
        self.close()
        return ForkServerLostError(f"the fork server is gone: {why}")


def serve(parent: int) -> Optional[Dict[str, Any]]:
    """Fork on request, on the socket that is fd 0. Returns more than once.

    In each proc with its configuration, in a process of its own session whose parent is
    ``parent``, with fds 1 and 2 and the environment set; in the server with None, when its
    socket is closed.
    """
    requests = socket.socket(fileno=os.dup(0))
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    able = len(os.listdir("/proc/self/task")) == 1 and not _has_site_hooks()
    gc.collect()
    gc.freeze()  # Else the first collection in each proc would copy all pages.
    requests.send(encode(Reply(n=0, ok=able, value=0)))
    while True:
        data, fds, _, _ = socket.recv_fds(requests, _MAX_BYTES, _FDS)
        if not data:
            return None
        request = _message(data)
        if type(request) is not Call or request.method != FORK or len(fds) != _FDS:
            raise ProtocolError("the bootstrap asks for something else than a fork")
        pid = _fork_twice()
        if not pid:
            requests.close()
            _become_proc(parent, fds, request.args["environ"])
            config: Dict[str, Any] = request.args["config"]
            return config
        for fd in fds:
            os.close(fd)
        requests.send(encode(Reply(n=1, ok=pid > 0, value=abs(pid))))


def _has_site_hooks() -> bool:
    """Whether code of the user's has run before the program.

    A hook beside the standard library is the distribution's, and knows of no ranks.
    """
    library = os.path.dirname(os.__file__)
    hooks = (sys.modules.get(name) for name in ("sitecustomize", "usercustomize"))
    files = [getattr(hook, "__file__", None) for hook in hooks if hook is not None]
    return any(file is None or os.path.dirname(file) != library for file in files)


def _fork_twice() -> int:
    """0 in the grandchild; else its pid when it has its new parent, or minus an errno."""
    try:
        told, tells = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return _negative(error)
    try:
        between = _fork()
        if between > 0:
            os.waitpid(between, 0)
            return int(os.read(told, _PID_BYTES))
        if between < 0:
            return between
        pid = _fork()
        if pid:
            os.write(tells, b"%d" % pid)
            os._exit(0)
    except BlockingIOError as error:  # It was killed before it told.
        return _negative(error)
    else:
        return 0
    finally:
        os.close(told)
        os.close(tells)


def _fork() -> int:
    """``os.fork``, but gives minus the errno that was in the way."""
    try:
        return os.fork()
    except OSError as error:
        return _negative(error)


def _negative(error: OSError) -> int:
    return -(error.errno or errno.EAGAIN)


def _go_ahead_pipe() -> Tuple[int, int]:
    """The write end, then the read end."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return write, read


def _become_proc(parent: int, fds: List[int], environ: Mapping[str, str]) -> None:
    os.setsid()
    go = fds.pop()
    if not os.read(go, 1):
        os._exit(1)  # Nobody waits for it: another may have been started in its place.
    os.close(go)
    die_with_parent(parent)
    for number, fd in enumerate(fds, 1):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.update(environ)


def _message(data: bytes) -> Message:
    """The one frame of a packet."""
    frames = FrameDecoder().feed(data)
    if len(frames) != 1:
        raise ProtocolError("a packet must be one frame")
    return decode(*frames[0])
