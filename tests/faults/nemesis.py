"""What goes wrong on purpose: processes killed and stopped, links cut, slowed, twisted.

:class:`Proxy` takes the place of a socket's file, so nothing of the product knows of it. It runs
in a thread of its own and obeys at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Callable, Deque, Iterator, List, Optional, Set

from logmesh_ipy.frames import FrameDecoder, frame
from tests.support import wait_until

__all__ = ["Proxy", "freeze", "thaw"]

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD = 438
_READ_BYTES = 64 << 10
Twist = Callable[[List[bytes]], List[bytes]]


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until all threads have stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return all(stat.rsplit(")", 1)[1].split()[0] == "T" for stat in stats)

    wait_until(stopped, what=f"process {pid} has stopped")


def thaw(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


def cut_sockets(pid: int, path: str) -> int:
    """Shut down the connections that another process of ours has to a Unix socket; how many."""
    count = 0
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                    continue
                fd = _libc.syscall(_PIDFD_GETFD, pidfd, int(name), 0)
                if fd < 0:
                    continue
                with socket.socket(fileno=fd) as copy:
                    if copy.family == socket.AF_UNIX and copy.getpeername() == path:
                        copy.shutdown(socket.SHUT_RDWR)
                        count += 1
    finally:
        os.close(pidfd)
    return count


class Proxy:
    """Between the Unix socket ``path`` and who dials it; set what it does from any thread.

    ``silent``: connections are taken, and their bytes, but nothing is passed on. ``refuses``: new
    ones are closed at once. ``bytes_per_sec``: of each direction; 0 is no limit. ``cut_after``:
    each new connection is cut when so many bytes have passed, both ways together. ``cuts``: so are
    the next ones, each at a place of its own. ``twist``: is given whole frames towards the server,
    and gives those that are passed on instead; ``twist_back``: of the other way. Both hold for new
    connections. ``began`` has the monotonic time of each connection.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.silent = False
        self.refuses = False
        self.bytes_per_sec = 0
        self.cut_after: Optional[int] = None
        self.cuts: Deque[int] = deque()
        self.began: List[float] = []
        self.twist: Optional[Twist] = None
        self.twist_back: Optional[Twist] = None
        self.connections = 0
        self.passed = 0
        self._real = f"{path}.real"
        self._writers: Set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        os.rename(path, self._real)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(10)

    def cut(self) -> None:
        """End all connections there are, at once."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Step aside: who dials again reaches the socket itself."""
        os.rename(self._real, self.path)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_unix_server(self._accept, self.path))
        os.chmod(self.path, 0o600)
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            self._cut()
            server.close()
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.began.append(time.monotonic())
        if self.refuses:
            writer.transport.abort()
            return
        budget = _Budget(self.cuts.popleft() if self.cuts else self.cut_after)
        with self._kept(writer, budget):
            try:
                far_reader, far_writer = await asyncio.open_unix_connection(self._real)
            except OSError:
                writer.transport.abort()
                return
            with self._kept(far_writer, budget):
                ways = [
                    asyncio.ensure_future(self._pump(reader, far_writer, budget, self.twist)),
                    asyncio.ensure_future(self._pump(far_reader, writer, budget, self.twist_back)),
                ]
                try:
                    # Cancelled it ends like others: asyncio would report it as an error.
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    @contextlib.contextmanager
    def _kept(self, writer: asyncio.StreamWriter, budget: _Budget) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort() if budget.bounded else writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: _Budget,
        twist: Optional[Twist],
    ) -> None:
        decoder = FrameDecoder()
        while data := await reader.read(_READ_BYTES):
            if twist is not None:
                frames = [frame(kind, body) for kind, body in decoder.feed(data)]
                data = b"".join(twist(frames))
            while self.silent:  # noqa: ASYNC110 (set from other threads)
                await asyncio.sleep(0.005)
            allowed = budget.take(data)
            step = self._step(len(allowed))
            for at in range(0, len(allowed), step):
                piece = allowed[at : at + step]
                writer.write(piece)
                await writer.drain()
                self.passed += len(piece)
                if self.bytes_per_sec:
                    await asyncio.sleep(len(piece) / self.bytes_per_sec)
            if len(allowed) < len(data):
                return

    def _step(self, size: int) -> int:
        return max(1, min(size, self.bytes_per_sec // 20)) if self.bytes_per_sec else max(1, size)


class _Budget:
    """How many bytes of a connection may pass."""

    def __init__(self, left: Optional[int]) -> None:
        self._left = left

    @property
    def bounded(self) -> bool:
        """Whether there is an end."""
        return self._left is not None

    def take(self, data: bytes) -> bytes:
        """The part of ``data`` that may pass."""
        if self._left is None:
            return data
        allowed = data[: self._left]
        self._left -= len(allowed)
        return allowed
