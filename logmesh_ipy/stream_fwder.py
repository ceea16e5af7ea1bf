"""In the bootstrap, one per proc and stream: reads the pipe, tees, feeds files and the sender.

:class:`StreamFwder` cuts the pipe into batches. When the stream was idle it reads at once; then
it lets the pipe gather for up to 50 ms, so that a thousand prints a second are twenty batches
and the forwarder in the proc wakes rarely. The faster the pipe fills, the shorter it waits: a
writer must not find it full, however small the system has made it. Secrets are taken out before
anybody else sees what was read; what that holds back is told at a barrier, at the end, and when
nothing has come for a while.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from typing import Callable, Deque, List, Optional, Tuple

from .local_log_sender import LocalLogSender
from .procs import pipe_bytes
from .redaction import Redactor
from .sequence import WhenFull

__all__ = ["BATCH_BYTES", "HOLD_SEC", "RecentLines", "StreamFwder"]

BATCH_BYTES = 128 << 10
HOLD_SEC = 0.05
_FIRST_HOLD_SEC = 0.0025
_LEAST_HOLD_SEC = 0.001
_IDLE_SEC = 0.1
_READS_PER_TURN = 4
_BUFFER = memoryview(bytearray(BATCH_BYTES))
"""All pipes of a host are read through it, on its one loop. What ``os.read`` gives keeps a page of
memory at least, however little it read: a quiet stream's recent lines would keep thousands."""


class RecentLines:
    """The end of a stream, at most ``max_bytes`` of it, for ``peek``."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._chunks: Deque[bytes] = deque()
        self._size = 0

    def append(self, data: bytes) -> None:
        """Add what was read."""
        self._chunks.append(data[-self.max_bytes :])
        self._size += len(self._chunks[-1])
        while self._size - len(self._chunks[0]) >= self.max_bytes:
            self._size -= len(self._chunks.popleft())

    def peek(self, lines: int) -> List[bytes]:
        """The last ``lines`` lines, oldest first, without newlines; the last may be unfinished."""
        data = b"".join(self._chunks)[-self.max_bytes :]
        found = data.split(b"\n")
        if found and not found[-1]:
            found.pop()
        return found[-lines:] if lines > 0 else []


class StreamFwder:
    """One pipe's reader. ``fd`` is its non-blocking read end, which this object closes."""

    def __init__(
        self,
        fd: int,
        sender: LocalLogSender,
        *,
        recent: RecentLines,
        sinks: Tuple[Callable[[bytes], None], ...] = (),
        redactor: Optional[Redactor] = None,
    ) -> None:
        self.fd: Optional[int] = fd
        self.sender = sender
        self.recent = recent
        self.redactor = redactor
        self._sinks = sinks
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._timer: Optional[asyncio.TimerHandle] = None
        self._idle: Optional[asyncio.TimerHandle] = None
        self._gather_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) // 4
        self._last_read = self._loop.time()
        self._last_delay = _FIRST_HOLD_SEC
        sender.on_flush_request = self.drain
        sender.on_room = self._room

    @property
    def ended(self) -> bool:
        """Whether the pipe is closed."""
        return self.fd is None

    def start(self) -> None:
        """Begin to read."""
        self._watch()

    def drain(self, version: int) -> None:
        """Read exactly what the pipe holds now, send it, then say ``Drained``."""
        self.read_available()
        self._let_go()
        self.sender.drained(version)

    def read_available(self) -> int:
        """Read the bytes that are in the pipe at this moment; gives their number."""
        if self.fd is None:
            return 0
        return self._read(pipe_bytes(self.fd))

    def read_to_end(self) -> None:
        """The process has ended: read what the pipe holds, and see whether all writers are gone."""
        self.read_available()
        if not self.ended:
            self._read(BATCH_BYTES)
        self._let_go()

    def close(self) -> None:
        """Stop reading and close the pipe; what it still holds is given up."""
        for timer in (self._timer, self._idle):
            if timer is not None:
                timer.cancel()
        self._unwatch()
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def _readable(self) -> None:
        if self._blocked():
            self._unwatch()
            return
        limit = _READS_PER_TURN * BATCH_BYTES
        got = self._read(limit)
        if self.fd is not None and got < limit:
            self._unwatch()
            self._hold(got)

    def _hold(self, got: int) -> None:
        """Let the pipe gather a quarter of what it can hold, at the rate at which it filled.

        After a silence that rate says little: then the first holds are short.
        """
        now = self._loop.time()
        delay = self._gather_bytes * (now - self._last_read) / max(1, got)
        self._last_read = now
        delay = min(HOLD_SEC, 2 * self._last_delay, max(_LEAST_HOLD_SEC, delay))
        self._last_delay = delay
        self._timer = self._loop.call_later(delay, self._release)

    def _release(self) -> None:
        self._timer = None
        if self.fd is None or self._blocked():
            return
        limit = _READS_PER_TURN * BATCH_BYTES
        got = self._read(limit)
        if 0 < got < limit and not self.ended:
            self._hold(got)
        else:
            self._last_delay = _FIRST_HOLD_SEC
            self._watch()

    def _read(self, limit: int) -> int:
        """Up to ``limit`` bytes in batches; at the end of the stream, ends it.

        A read that gives less than it could has emptied the pipe. What comes a moment later is not
        worth a batch of its own: under load that would be one for every few lines.
        """
        assert self.fd is not None
        total = 0
        while total < limit:
            wanted = min(BATCH_BYTES, limit - total)
            try:
                data = _BUFFER[: os.readv(self.fd, (_BUFFER[:wanted],))].tobytes()
            except BlockingIOError:
                break
            if not data:
                self._end()
                break
            total += len(data)
            self._tell(data if self.redactor is None else self.redactor.feed(data))
            if len(data) < wanted:
                break
        if self.redactor is not None and total and self.fd is not None:
            self._watch_idle(self.redactor)
        return total

    def _tell(self, data: bytes) -> None:
        """To all who are to have it. Redacted text may be longer than what was read."""
        for start in range(0, len(data), BATCH_BYTES):
            part = data[start : start + BATCH_BYTES]
            self.recent.append(part)
            for sink in self._sinks:
                sink(part)
            self.sender.send(part)

    def _watch_idle(self, redactor: Redactor) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if redactor.holds:
            self._idle = self._loop.call_later(_IDLE_SEC, lambda: self._tell(redactor.idle()))

    def _let_go(self) -> None:
        """Nothing read so far may be held back any more."""
        if self.redactor is not None and not self.ended:
            self._tell(self.redactor.flush())

    def _end(self) -> None:
        self._let_go()
        self.close()
        self.sender.end()

    def _blocked(self) -> bool:
        queue = self.sender.queue
        return queue.when_full is WhenFull.BLOCK and queue.is_full

    def _room(self) -> None:
        if not self._reading and self._timer is None and not self._blocked():
            self._watch()

    def _watch(self) -> None:
        if self.fd is not None and not self._reading:
            self._reading = True
            self._loop.add_reader(self.fd, self._readable)

    def _unwatch(self) -> None:
        if self._reading and self.fd is not None:
            self._reading = False
            self._loop.remove_reader(self.fd)
