"""Numbers that make delivery exactly once: the receiver's ledger and the sender's queue. Sans-IO.

The sender numbers the batches of a stream 0, 1, 2, ... within an epoch (one life of a proc's
StreamFwders) and keeps each until the client's cumulative ack. After a broken link or a change
of forwarder it resumes from the client's ``next_seq``. The receiver takes a batch only when its
number is the next one: an older one is a duplicate, a newer one an error of the peer.

Invariants of the ledger: ``next_seq`` and ``next_offset`` never fall within an epoch;
``written >= stored + skipped + gap`` in lines and bytes. Of the queue: numbers are handed out
without holes; what is not acked is in the queue as a batch or as a gap; at most
``window_bytes`` (or one batch that is longer) are sent and not acked; at most ``window_bytes``
and one batch are in memory, unless the caller of a ``block`` queue goes on when ``is_full``.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Deque, List, Optional, Protocol, Tuple, Union

from .errors import ProtocolError
from .model import LogMessage, StreamTotals
from .wire import GapFrame

__all__ = ["Batch", "DroppedBatches", "SendQueue", "Spool", "StreamLedger", "Verdict", "WhenFull"]

DEFAULT_WINDOW_BYTES = 4 << 20
SPOOL_FULL = "the host's spool was full"
SPOOL_LOST = "the host's spool lost it"


class Verdict(enum.Enum):
    """What the ledger says of a batch."""

    NEW = "new"
    DUPLICATE = "duplicate"


class StreamLedger:
    """The client's account of one stream of one proc."""

    __slots__ = ("_base", "duplicates", "ended", "epoch", "next_offset", "next_seq", "totals")

    def __init__(self) -> None:
        self.epoch = 0
        self.next_seq = 0
        self.next_offset = 0
        self.totals = StreamTotals()
        self._base = (0, 0)  # lines and bytes written by the epochs before
        self.duplicates = 0
        self.ended = False

    def begin(self, epoch: int) -> Tuple[int, int]:
        """A forwarder attached for ``epoch``; a newer one starts the numbers again.

        What the epoch before is known to have written and never delivered is a gap from now on:
        gives its (lines, bytes).
        """
        if epoch <= self.epoch:
            return (0, 0)
        totals = self.totals
        lost = (totals.in_flight_lines, totals.in_flight_bytes)
        totals.gap_lines += lost[0]
        totals.gap_bytes += lost[1]
        self._base = (totals.written_lines, totals.written_bytes)
        self.epoch = epoch
        self.next_seq = self.next_offset = 0
        self.ended = False
        return lost

    def accept(self, log: LogMessage.Log) -> Verdict:
        """Account for a batch. Raises ProtocolError for a number that is not due yet."""
        if not self._is_next(log.epoch, log.seq, log.offset):
            return Verdict.DUPLICATE
        self._advance(log.seq + 1, log.size)
        totals = self.totals
        if log.skipped:
            totals.skipped_lines += log.lines
            totals.skipped_bytes += log.size
        else:
            totals.stored_lines += log.lines
            totals.stored_bytes += log.size
        self._see_written()
        return Verdict.NEW

    def accept_gap(self, gap: GapFrame) -> Verdict:
        """Account for batches that the host dropped."""
        if gap.last_seq < gap.seq:
            raise ProtocolError("a gap that ends before it begins")
        if gap.lines > gap.size:
            raise ProtocolError("a gap with more lines than bytes")
        if not self._is_next(gap.epoch, gap.seq, gap.offset):
            return Verdict.DUPLICATE
        self._advance(gap.last_seq + 1, gap.size)
        self.totals.gap_lines += gap.lines
        self.totals.gap_bytes += gap.size
        self._see_written()
        return Verdict.NEW

    def accept_written(self, epoch: int, next_seq: int, lines: int, size: int) -> bool:
        """A heartbeat with the host's counts. False: a tail was lost, the link must resume."""
        if epoch != self.epoch:
            return True
        self.totals.written_lines = max(self.totals.written_lines, self._base[0] + lines)
        self.totals.written_bytes = max(self.totals.written_bytes, self._base[1] + size)
        return next_seq <= self.next_seq

    def accept_end(self, epoch: int, seq: int) -> bool:
        """The stream has ended behind batch ``seq - 1``. True when that is news."""
        if epoch != self.epoch or self.ended:
            return False
        if seq != self.next_seq:
            raise ProtocolError(f"the stream ends at batch {seq}, batch {self.next_seq} is due")
        self.ended = True
        return True

    def _is_next(self, epoch: int, seq: int, offset: int) -> bool:
        if epoch < self.epoch or (epoch == self.epoch and seq < self.next_seq):
            self.duplicates += 1
            return False
        if epoch > self.epoch or seq > self.next_seq:
            raise ProtocolError(
                f"batch {seq} of epoch {epoch}, due is {self.next_seq} of epoch {self.epoch}"
            )
        if offset != self.next_offset:
            raise ProtocolError(f"batch {seq} is at byte {offset}, due is {self.next_offset}")
        return True

    def _advance(self, next_seq: int, size: int) -> None:
        self.next_seq = next_seq
        self.next_offset += size

    def _see_written(self) -> None:
        t = self.totals
        t.written_lines = max(t.written_lines, t.stored_lines + t.skipped_lines + t.gap_lines)
        t.written_bytes = max(t.written_bytes, t.stored_bytes + t.skipped_bytes + t.gap_bytes)


class WhenFull(str, enum.Enum):
    """What the sender does when its window is full because the client is slow."""

    SPILL = "spill"
    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


class Spool(Protocol):
    """Where batches wait that do not fit the window: a bounded file on the host."""

    def write(self, data: bytes) -> Optional[int]:
        """Keep the bytes; gives their place, or None when the spool is full or broken."""

    def read(self, place: int) -> bytes:
        """The bytes at a place. Raises OSError when they are not what was written."""

    def release(self, place: int) -> None:
        """The place is not needed any more."""


@dataclass(slots=True)
class Batch:
    """One numbered batch in the queue: its bytes in memory (``data``) or at a spool's ``place``."""

    seq: int
    offset: int
    size: int
    lines: int
    wall: float
    mono: float
    ends_line: bool
    data: Optional[bytes]
    place: Optional[int] = None


@dataclass(slots=True)
class DroppedBatches:
    """Takes the place of batches ``seq`` to ``last_seq``; ``reason`` is for people."""

    seq: int
    last_seq: int
    offset: int
    size: int
    lines: int
    ends_line: bool
    reason: str = SPOOL_FULL


Item = Union[Batch, DroppedBatches]


class SendQueue:
    """The sender's unacked batches of one stream.

    ``push`` numbers what was read from the pipe, ``take`` gives what may be sent now,
    ``ack`` forgets, ``resume`` goes back to where the client wants to go on.
    """

    def __init__(
        self,
        spool: Optional[Spool] = None,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        when_full: WhenFull = WhenFull.SPILL,
    ) -> None:
        self._spool = spool
        self.window_bytes = window_bytes
        self.when_full = when_full
        self._sent: Deque[Item] = deque()
        self._unsent: Deque[Item] = deque()
        self.next_seq = 0
        self.written_lines = 0
        self.written_bytes = 0
        self.in_flight_bytes = 0
        self.memory_bytes = 0
        self.dropped_lines = 0
        self.dropped_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether a sender that may block must stop reading the pipe."""
        return self.memory_bytes >= self.window_bytes

    @property
    def waits(self) -> bool:
        """Whether anything is unacked."""
        return bool(self._sent or self._unsent)

    @property
    def next_unsent_seq(self) -> int:
        """The number that the next batch on the wire will have."""
        return self._unsent[0].seq if self._unsent else self.next_seq

    def push(self, data: bytes, wall: float, mono: float) -> None:
        """Number the bytes, and put them behind all others; over the window they are spilled."""
        if not data:
            return
        lines = data.count(b"\n")
        batch = Batch(
            self.next_seq, self.written_bytes, len(data), lines, wall, mono,
            data.endswith(b"\n"), data,
        )  # fmt: skip
        self.next_seq += 1
        self.written_bytes += batch.size
        self.written_lines += lines
        self._unsent.append(batch)
        if self.is_full and self.when_full is not WhenFull.BLOCK:
            self._make_room(batch, data)
        if batch.data is not None:
            self.memory_bytes += batch.size

    def take(self) -> List[Item]:
        """What may go on the wire now, in order. All of it stays in the queue until it is acked."""
        out: List[Item] = []
        while self._unsent:
            item = self._unsent[0]
            if type(item) is Batch:
                after = self.in_flight_bytes + item.size
                if after > self.window_bytes and self.in_flight_bytes:
                    break
                self.in_flight_bytes = after
            self._sent.append(self._unsent.popleft())
            out.append(item)
        return out

    def payload(self, batch: Batch) -> bytes:
        """The batch's bytes, from memory or from the spool. Raises OSError: they are lost."""
        if batch.data is not None:
            return batch.data
        assert self._spool is not None
        assert batch.place is not None
        return self._spool.read(batch.place)

    def lose(self, batch: Batch) -> DroppedBatches:
        """A batch that was taken cannot be read any more: the gap that goes in its place."""
        gap = DroppedBatches(
            batch.seq, batch.seq, batch.offset, batch.size, batch.lines, batch.ends_line, SPOOL_LOST
        )
        self._sent[self._sent.index(batch)] = gap
        self.dropped_lines += batch.lines
        self.dropped_bytes += batch.size
        self._forget(batch, in_flight=True)
        return gap

    def ack(self, next_seq: int) -> None:
        """The client has accounted for everything below ``next_seq``."""
        if next_seq > self.next_unsent_seq:
            raise ProtocolError(f"ack of {next_seq}, sent is {self.next_unsent_seq}")
        while self._sent and _last(self._sent[0]) < next_seq:
            self._forget(self._sent.popleft(), in_flight=True)

    def resume(self, next_seq: int) -> None:
        """A new link: send again from ``next_seq``, forget what is below it."""
        if next_seq > self.next_seq:
            raise ProtocolError(f"resume at {next_seq}, written is {self.next_seq}")
        while self._sent:
            self._unsent.appendleft(self._sent.pop())
        self.in_flight_bytes = 0
        while self._unsent and _last(self._unsent[0]) < next_seq:
            self._forget(self._unsent.popleft(), in_flight=False)
        if self.next_unsent_seq != next_seq:
            raise ProtocolError(f"resume at {next_seq}, the oldest kept is {self.next_unsent_seq}")

    def _make_room(self, batch: Batch, data: bytes) -> None:
        """Spill the newest batch; where that cannot be, drop the oldest unsent ones."""
        spool = self._spool if self.when_full is WhenFull.SPILL else None
        while self.is_full:
            if spool is not None:
                batch.place = spool.write(data)
                if batch.place is not None:
                    batch.data = None
                    return
            if not self._drop_oldest(keep=batch):
                return

    def _drop_oldest(self, keep: Batch) -> bool:
        """Turn the oldest unsent batch into a gap, joined to a gap before it."""
        gap: Optional[DroppedBatches] = None
        if self._unsent and isinstance(self._unsent[0], DroppedBatches):
            gap = self._unsent[0]
            self._unsent.popleft()
        if not self._unsent or self._unsent[0] is keep:
            if gap is not None:
                self._unsent.appendleft(gap)
            return False
        item = self._unsent.popleft()
        if gap is not None and SPOOL_FULL not in gap.reason:
            gap.reason += f", and {SPOOL_FULL}"
        if gap is None:
            gap = DroppedBatches(item.seq, item.seq - 1, item.offset, 0, 0, True)
        gap.last_seq = _last(item)
        gap.size += item.size
        gap.lines += item.lines
        gap.ends_line = item.ends_line
        if type(item) is Batch:
            self.dropped_lines += item.lines
            self.dropped_bytes += item.size
        self._forget(item, in_flight=False)
        self._unsent.appendleft(gap)
        return True

    def _forget(self, item: Item, in_flight: bool) -> None:
        if type(item) is not Batch:
            return
        if in_flight:
            self.in_flight_bytes -= item.size
        if item.data is not None:
            self.memory_bytes -= item.size
        elif item.place is not None and self._spool is not None:
            self._spool.release(item.place)

    def unacked(self) -> Tuple[int, int]:
        """(batches, bytes) that wait for the client."""
        items = [*self._sent, *self._unsent]
        return len(items), sum(item.size for item in items)


def _last(item: Item) -> int:
    return item.last_seq if type(item) is DroppedBatches else item.seq
