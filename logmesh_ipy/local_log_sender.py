"""In the bootstrap, one per proc and stream: numbers batches and sends them to a forwarder.

:class:`LocalLogSender` holds one connection of the log channel:

    closed --connect--> opening --Resume--> streaming --lost--> closed

It keeps what the client has not acked, so each new connection resumes exactly; the end of the
stream is sent and acked like one more batch. ``Drained`` markers stand behind all batches sent
before them; they die with the connection, since the forwarder asks again on the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Callable, Deque, Optional, Protocol, Tuple

from .channel import Connection, dial
from .clock import SYSTEM_CLOCK, Clock
from .errors import ProtocolError, TransportError
from .model import LogMessage, OutputTarget
from .sequence import Batch, DroppedBatches, SendQueue
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

__all__ = ["TRANSPORT_ERRORS", "LocalLogSender"]


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
                try:
                    frame = encode_log(self._log(item))
                except OSError:
                    self._connection.send(self._gap(self.queue.lose(item)))
                else:
                    self._connection.send_bytes(frame)
            else:
                self._connection.send(self._gap(item))
        sent = self.queue.next_unsent_seq
        while self._markers and self._markers[0][0] <= sent:
            next_seq, version = self._markers.popleft()
            drained = encode(Drained(version=version, target=self.target, next_seq=next_seq))
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

    def _gap(self, dropped: DroppedBatches) -> GapFrame:
        return GapFrame(
            proc=self.proc,
            epoch=self.epoch,
            generation=self.generation,
            target=self.target,
            seq=dropped.seq,
            last_seq=dropped.last_seq,
            offset=dropped.offset,
            size=dropped.size,
            lines=dropped.lines,
            ends_line=dropped.ends_line,
            reason=dropped.reason,
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


TRANSPORT_ERRORS = (TransportError, OSError, asyncio.TimeoutError)
"""What :meth:`LocalLogSender.connect` raises when the forwarder is not there (yet)."""
