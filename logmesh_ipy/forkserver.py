"""Procs are forked from one process that has all their modules loaded, not started one by one.

Loading the interpreter and the modules of :mod:`~logmesh_ipy.proc` takes some 100 ms of CPU and
20 MB; a fork takes 2 ms and shares the memory. The bootstrap starts the server, ``python -m
logmesh_ipy.proc`` too, with one end of a socket pair as its standard input:

    bootstrap --Call(fork) + fds 1 and 2--> server --fork--> between --fork--> proc
              <-----------Reply(pid)------------------------/

``between`` ends at once, so that the proc becomes a child of the bootstrap, which is a
subreaper: it is reaped, killed and dies with its parent like one that was started.

What an interpreter looks at when it starts (``PYTHONPATH``, the working directory, the libraries'
paths) is the same for the server and for what it forks. The rank is not: where a site hook of the
user's (``sitecustomize``) may look at it, or has started a thread, with which a process cannot be
forked safely, the server refuses, and the bootstrap starts each proc by itself.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import time
from typing import Any, Dict, List, Mapping, Optional

from .errors import LogMeshError, ProtocolError
from .frames import FrameDecoder
from .procs import Spawned, die_with_parent, output_pipe
from .wire import Call, Message, Reply, decode, encode

__all__ = ["FORK", "ForkServer", "ForkServerLostError", "serve"]

FORK = "fork"
_MAX_BYTES = 64 << 10
_START_SEC = 10.0
_REPLY_SEC = 10.0
_REPARENTED_SEC = 0.0002


class ForkServerLostError(LogMeshError):
    """The server has ended, or it cannot fork: procs must be started one by one."""


class ForkServer:
    """The bootstrap's end. Making one starts the server; ``await ready()`` before ``spawn``.

    Raises OSError where it cannot be started.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._answer: Optional[bool] = None
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

    async def ready(self) -> bool:
        """Whether it can fork, once it has told."""
        if self._answer is None:
            loop = asyncio.get_running_loop()
            try:
                told = await asyncio.wait_for(loop.sock_recv(self._socket, _MAX_BYTES), _START_SEC)
                reply = _message(told)
            except (OSError, ProtocolError, asyncio.TimeoutError):
                self._answer = False
            else:
                self._answer = type(reply) is Reply and reply.ok
            if not self._answer:
                self.close()
        return self._answer

    def spawn(self, config: Mapping[str, Any], environ: Mapping[str, str]) -> Spawned:
        """Fork a proc; ``environ`` is what it has beyond the server's own. Takes milliseconds.

        Raises OSError where the system has no room for it, ForkServerLostError where there is no
        server any more.
        """
        args = {"config": dict(config), "environ": dict(environ)}
        pipes: List[int] = []
        try:
            for _ in range(2):
                pipes += output_pipe()
            reply = self._ask(encode(Call(n=1, method=FORK, args=args)), pipes[1::2])
            if not reply.ok:
                raise OSError(reply.value, os.strerror(reply.value))
        except BaseException:
            for fd in pipes[0::2]:
                os.close(fd)
            raise
        finally:
            for fd in pipes[1::2]:
                os.close(fd)
        return Spawned(reply.value, pipes[0], pipes[2])

    def close(self) -> None:
        """End the server; what it has forked lives on."""
        self._answer = False
        self._socket.close()
        unread, self._unread = self._unread, None
        if unread is not None:
            os.close(unread)

    def _ask(self, request: bytes, fds: List[int]) -> Reply:
        try:
            self._socket.settimeout(_REPLY_SEC)
            socket.send_fds(self._socket, [request], fds)
            reply = _message(self._socket.recv(_MAX_BYTES))
        except (OSError, ProtocolError) as error:
            self.close()
            raise ForkServerLostError(f"the fork server is gone: {error}") from None
        if type(reply) is not Reply or type(reply.value) is not int:
            raise ForkServerLostError("the fork server does not answer as one")
        return reply


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
    requests.send(encode(Reply(n=0, ok=able, value=None)))
    while True:
        data, fds, _, _ = socket.recv_fds(requests, _MAX_BYTES, 2)
        if not data:
            return None
        request = _message(data)
        if type(request) is not Call or request.method != FORK or len(fds) != 2:
            raise ProtocolError("the bootstrap asks for something else than a fork")
        forked = _fork_twice(requests)
        if forked:
            requests.close()
            _become_proc(parent, fds, request.args["environ"])
            config: Dict[str, Any] = request.args["config"]
            return config
        for fd in fds:
            os.close(fd)


def _has_site_hooks() -> bool:
    """Whether code of the user's has run before the program.

    A hook beside the standard library is the distribution's, and knows of no ranks.
    """
    library = os.path.dirname(os.__file__)
    hooks = (sys.modules.get(name) for name in ("sitecustomize", "usercustomize"))
    files = [getattr(hook, "__file__", None) for hook in hooks if hook is not None]
    return any(file is None or os.path.dirname(file) != library for file in files)


def _fork_twice(replies: socket.socket) -> bool:
    """True in the grandchild; the bootstrap is told of it, or of the errno that was in the way."""
    try:
        between = os.fork()
        if between:
            os.waitpid(between, 0)
            return False
        try:
            pid = os.fork()
            if not pid:
                return True
            replies.send(encode(Reply(n=1, ok=True, value=pid)))
        except OSError as error:
            _tell_errno(replies, error)
        os._exit(0)
    except OSError as error:
        _tell_errno(replies, error)
    return False


def _tell_errno(replies: socket.socket, error: OSError) -> None:
    replies.send(encode(Reply(n=1, ok=False, value=error.errno or 0)))


def _become_proc(parent: int, fds: List[int], environ: Mapping[str, str]) -> None:
    os.setsid()
    between = os.getppid()
    while between != parent and os.getppid() == between:
        time.sleep(_REPARENTED_SEC)
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
