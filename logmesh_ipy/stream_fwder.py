"""In the bootstrap, one per proc and stream: reads the pipe, tees, feeds files and the sender.

:class:`StreamFwder` cuts the pipe into batches. When the stream was idle it reads at once; then
it lets the pipe gather for up to 50 ms, so that a thousand prints a second are twenty batches
and the forwarder in the proc wakes rarely. The faster the pipe fills, the shorter it waits: a
writer must not find it full, however small the system has made it.

:class:`LocalLogSender` numbers the batches and sends them over its connection of the log
channel:

    closed --connect--> opening --Resume--> streaming --lost--> closed

It keeps what the client has not acked, so each new connection resumes exactly; the end of the
stream is sent and acked like one more batch. ``Drained``
markers stand behind all batches read before them; they die with the connection, since the
forwarder asks again on the next one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from typing import Callable, Deque, List, Optional, Protocol, Tuple

from .channel import Connection, dial
from .clock import SYSTEM_CLOCK, Clock
from .errors import ProtocolError, TransportError
from .model import LogMessage, OutputTarget
from .procs import pipe_bytes
from .sequence import Batch, SendQueue, WhenFull
from .wire import (
    Ack,
    Drained,
    End,
    FlushRequest,
    GapFrame,
    Open,
    Ping,
    Pong,
    Resume,
    Written,
    decode,
    encode,
    encode_log,
)

__all__ = ["BATCH_BYTES", "HOLD_SEC", "LocalLogSender", "RecentLines", "StreamFwder"]

BATCH_BYTES = 128 << 10
HOLD_SEC = 0.05
_FIRST_HOLD_SEC = 0.0025
_LEAST_HOLD_SEC = 0.001
_READS_PER_TURN = 4


class SenderOwner(Protocol):
    """Who decides where a sender connects: the managed proc."""

    def sender_lost(self, sender: LocalLogSender) -> None:
        """The sender's connection broke; it waits to be connected again."""


class LocalLogSender:
    """The sending end of the log channel for one stream of one proc (see the module's text)."""

    def __init__(
        self,
        owner: SenderOwner,
        queue: SendQueue,
        *,
        proc: int,
        epoch: int,
        target: OutputTarget,
        pid: int,
        hostname: str,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._owner = owner
        self.queue = queue
        self.proc = proc
        self.epoch = epoch
        self.target = target
        self.pid = pid
        self.hostname = hostname
        self.generation = 0
        self.on_room: Callable[[], None] = lambda: None
        self.on_flush_request: Callable[[int], None] = lambda version: None
        self._clock = clock
        self._connection: Optional[Connection] = None
        self._streaming = False
        self._ended = False
        self._end_sent = False
        self._end_acked = False
        self._markers: Deque[Tuple[int, int]] = deque()
        self._pings = 0
        self._pinged = False
        self._silent_since: Optional[float] = None
        self._told: Optional[Tuple[int, int]] = None

    @property
    def streaming(self) -> bool:
        """Whether the forwarder at the other end has told where to go on."""
        return self._streaming

    @property
    def connected(self) -> bool:
        """Whether a forwarder is dialled, streaming or not yet."""
        return self._connection is not None

    @property
    def finished(self) -> bool:
        """Whether the stream has ended, and all of it and its end are acked."""
        return self._end_acked and not self.queue.waits

    async def connect(self, address: str, generation: int) -> None:
        """Dial a forwarder under a new generation. Raises TransportError."""
        self.disconnect()
        self.generation = generation
        connection = await dial(address, self)
        if self.generation != generation:
            connection.abort()
            return
        self._connection = connection
        connection.send(
            Open(
                proc=self.proc,
                epoch=self.epoch,
                generation=generation,
                target=self.target,
                pid=self.pid,
                hostname=self.hostname,
            )
        )

    def disconnect(self) -> None:
        """Leave the current forwarder without telling the owner."""
        connection, self._connection = self._connection, None
        self._reset()
        if connection is not None:
            connection.abort()

    def send(self, data: bytes) -> None:
        """Number and send a batch (or keep it until it can be sent)."""
        self.queue.push(data, self._clock.wall(), self._clock.monotonic())
        self._pump()

    def drained(self, version: int) -> None:
        """Say ``Drained`` behind everything that was sent so far."""
        if self._streaming:
            self._markers.append((self.queue.next_seq, version))
            self._pump()

    def end(self) -> None:
        """The pipe is closed: no batch will follow."""
        self._ended = True
        self._pump()

    def beat(self) -> None:
        """Heartbeat, once a second: tell how much was written, if that has changed."""
        if self._streaming:
            news = self._news_of_written()
            if news:
                self._connection_or_fail().send_bytes(news)

    def is_stuck(self, now: float, patience_sec: float) -> bool:
        """Called often: whether something waits for a forwarder that gives no sign of life.

        One that answers pings is alive, however slow the client behind it may be.
        """
        unfinished = self.queue.waits or (self._ended and not self._end_acked)
        if not unfinished and (self.connected is self._streaming):
            self._silent_since = None
            return False
        if self._silent_since is None:
            self._silent_since = now
        if self._connection is not None and not self._pinged:
            self._pinged = True
            self._pings += 1
            self._connection.send(Ping(n=self._pings))
        return now - self._silent_since >= patience_sec

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol: what the forwarder sends down the channel."""
        if connection is not self._connection:
            return
        message = decode(kind, body)
        if type(message) is Ack:
            if message.epoch == self.epoch and message.target == self.target:
                self._acked(message.next_seq)
        elif type(message) is FlushRequest:
            if self._streaming:
                self.on_flush_request(message.version)
        elif type(message) is Pong:
            if message.n == self._pings:
                self._silent_since = None
                self._pinged = False
        elif type(message) is Resume:
            stdout = self.target is OutputTarget.STDOUT
            self.queue.resume(message.next_stdout if stdout else message.next_stderr)
            self._streaming = True
            self._silent_since = None
            self._pump()
        else:
            raise ProtocolError(f"a forwarder sent {type(message).__name__}")

    def _acked(self, next_seq: int) -> None:
        if self._end_sent and next_seq == self.queue.next_seq + 1:
            self._end_acked = True
            next_seq -= 1
        self.queue.ack(next_seq)
        self._pump()
        self.on_room()

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        if connection is self._connection:
            self._connection = None
            self._reset()
            self._owner.sender_lost(self)

    def _connection_or_fail(self) -> Connection:
        assert self._connection is not None, "streaming without a connection"
        return self._connection

    def _reset(self) -> None:
        self._streaming = False
        self._end_sent = False
        self._markers.clear()
        self._pinged = False
        self._told = None

    def _pump(self) -> None:
        if not self._streaming or self._connection is None:
            return
        for item in self.queue.take():
            if isinstance(item, Batch):
                self._connection.send_bytes(encode_log(self._log(item)))
            else:
                self._connection.send(
                    GapFrame(
                        proc=self.proc,
                        epoch=self.epoch,
                        generation=self.generation,
                        target=self.target,
                        seq=item.seq,
                        last_seq=item.last_seq,
                        offset=item.offset,
                        size=item.size,
                        lines=item.lines,
                        ends_line=item.ends_line,
                        reason="the host's spool was full",
                    )
                )
        sent = self.queue.next_unsent_seq
        while self._markers and self._markers[0][0] <= sent:
            _, version = self._markers.popleft()
            drained = encode(Drained(version=version, target=self.target))
            self._connection.send_bytes(self._news_of_written() + drained)
        if self._ended and not self._end_sent and sent == self.queue.next_seq:
            self._end_sent = True
            self._connection.send(self._written())
            self._connection.send(
                End(
                    proc=self.proc,
                    epoch=self.epoch,
                    generation=self.generation,
                    target=self.target,
                    seq=sent,
                )
            )

    def _log(self, batch: Batch) -> LogMessage.Log:
        return LogMessage.Log(
            proc=self.proc,
            epoch=self.epoch,
            generation=self.generation,
            output_target=self.target,
            seq=batch.seq,
            offset=batch.offset,
            size=batch.size,
            lines=batch.lines,
            wall=batch.wall,
            mono=batch.mono,
            pid=self.pid,
            hostname=self.hostname,
            ends_line=batch.ends_line,
            payload=self.queue.payload(batch),
        )

    def _news_of_written(self) -> bytes:
        """The frame of :class:`Written`; empty where this connection has told the same before."""
        state = (self.queue.next_unsent_seq, self.queue.written_bytes)
        if state == self._told:
            return b""
        self._told = state
        return encode(self._written())

    def _written(self) -> Written:
        return Written(
            proc=self.proc,
            epoch=self.epoch,
            target=self.target,
            next_seq=self.queue.next_unsent_seq,
            lines=self.queue.written_lines,
            bytes=self.queue.written_bytes,
        )


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
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.fd: Optional[int] = fd
        self.sender = sender
        self.recent = recent
        self._sinks = sinks
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._timer: Optional[asyncio.TimerHandle] = None
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

    def close(self) -> None:
        """Stop reading and close the pipe; what it still holds is given up."""
        if self._timer is not None:
            self._timer.cancel()
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
                data = os.read(self.fd, wanted)
            except BlockingIOError:
                break
            if not data:
                self._end()
                break
            total += len(data)
            self.recent.append(data)
            for sink in self._sinks:
                sink(data)
            self.sender.send(data)
            if len(data) < wanted:
                break
        return total

    def _end(self) -> None:
        self.close()
        self.sender.end()
        self._on_end()

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


TRANSPORT_ERRORS = (TransportError, OSError, asyncio.TimeoutError)
"""What :meth:`LocalLogSender.connect` raises when the forwarder is not there (yet)."""
