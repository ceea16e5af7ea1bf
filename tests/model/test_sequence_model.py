"""SendQueue, a real FileSpool and the client's StreamLedger over a link that breaks."""

from __future__ import annotations

import copy
import tempfile
from collections import deque
from typing import Deque, List, Optional, Tuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from logmesh_ipy.errors import ProtocolError
from logmesh_ipy.model import LogMessage, OutputTarget
from logmesh_ipy.sequence import (
    Batch,
    DroppedBatches,
    SendQueue,
    StreamLedger,
    Verdict,
    WhenFull,
)
from logmesh_ipy.spool import FileSpool
from logmesh_ipy.wire import GapFrame

EPOCH = 1
LONGEST = 12


class FailingSpool(FileSpool):
    """A spool whose disk can be switched off."""

    broken = False

    def write(self, data: bytes) -> Optional[int]:
        return None if self.broken else super().write(data)


def as_log(queue: SendQueue, item: Batch, silent: bool) -> LogMessage.Log:
    return LogMessage.Log(
        proc=0, epoch=EPOCH, generation=1, output_target=OutputTarget.STDOUT, seq=item.seq,
        offset=item.offset, size=item.size, lines=item.lines, wall=item.wall, mono=item.mono,
        pid=1, hostname="h", ends_line=item.ends_line,
        payload=b"" if silent else queue.payload(item),
    )  # fmt: skip


def as_gap(item: DroppedBatches) -> GapFrame:
    return GapFrame(
        proc=0, epoch=EPOCH, generation=1, target=1, seq=item.seq, last_seq=item.last_seq,
        offset=item.offset, size=item.size, lines=item.lines, ends_line=item.ends_line,
        reason="full",
    )  # fmt: skip


class LossyLink(RuleBasedStateMachine):
    """The oracle is ``written``: all bytes ever pushed. ``taken`` is what the client made of it."""

    @initialize(
        window=st.integers(1, 40),
        spool_bytes=st.integers(0, 60),
        when_full=st.sampled_from(WhenFull),
    )
    def make(self, window: int, spool_bytes: int, when_full: WhenFull) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.spool = FailingSpool(self.directory.name, spool_bytes)
        self.window = window
        self.queue = SendQueue(self.spool, window, when_full)
        self.ledger = StreamLedger()
        self.ledger.begin(EPOCH)
        self.written = b""
        self.taken: List[Tuple[str, int, bytes]] = []
        self.wire: Deque[LogMessage.Log | GapFrame] = deque()
        self.old: List[LogMessage.Log | GapFrame] = []
        self.acks: Deque[int] = deque()
        self.up = False
        self.silent = False

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.reconcile()
            self.spool.close()
            self.directory.cleanup()

    # --- the sender ---------------------------------------------------------------------

    @rule(data=st.binary(min_size=1, max_size=LONGEST) | st.sampled_from([b"a\n", b"bc", b"\n\n"]))
    def push(self, data: bytes) -> None:
        if self.queue.when_full is WhenFull.BLOCK and self.queue.is_full:
            return
        before = self.queue.next_seq
        self.queue.push(data, 0.0, 0.0)
        assert self.queue.next_seq == before + 1
        self.written += data

    @precondition(lambda self: self.up)
    @rule()
    def send(self) -> None:
        due = self.queue.next_unsent_seq
        for item in self.queue.take():
            assert item.seq == due
            due = item.last_seq + 1 if isinstance(item, DroppedBatches) else item.seq + 1
            if isinstance(item, Batch):
                self.wire.append(as_log(self.queue, item, self.silent))
            else:
                self.wire.append(as_gap(item))

    @rule(broken=st.booleans())
    def disk(self, broken: bool) -> None:
        self.spool.broken = broken

    @rule(silent=st.booleans())
    def set_mode(self, silent: bool) -> None:
        self.silent = silent

    # --- the link -----------------------------------------------------------------------

    @rule()
    def lose_link(self) -> None:
        self.up = False
        self.wire.clear()
        self.acks.clear()

    @precondition(lambda self: not self.up)
    @rule()
    def connect(self) -> None:
        self.queue.resume(self.ledger.next_seq)
        self.up = True

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.receive(self.wire.popleft(), Verdict.NEW)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        self.receive(data.draw(st.sampled_from(self.old)), Verdict.DUPLICATE)

    @rule()
    def say_ack(self) -> None:
        if self.up:
            self.acks.append(self.ledger.next_seq)

    @precondition(lambda self: self.acks)
    @rule()
    def deliver_ack(self) -> None:
        self.queue.ack(self.acks.popleft())

    @precondition(lambda self: self.up)
    @rule(lost=st.booleans())
    def heartbeat(self, lost: bool) -> None:
        """Stands behind what was sent: in a healthy link nothing is missing before it."""
        told = (self.queue.next_unsent_seq, self.queue.written_lines, self.queue.written_bytes)
        missing = bool(self.wire)
        if lost or not missing:
            assert self.ledger.accept_written(EPOCH, *told) is not missing

    # --- the client ---------------------------------------------------------------------

    def receive(self, frame: LogMessage.Log | GapFrame, verdict: Verdict) -> None:
        if isinstance(frame, GapFrame):
            assert self.ledger.accept_gap(frame) is verdict
            what = ("gap", frame.size, b"")
            assert frame.lines == self.piece(frame.offset, frame.size).count(b"\n")
            assert frame.ends_line == self.piece(frame.offset, frame.size).endswith(b"\n")
        else:
            assert self.ledger.accept(frame) is verdict
            what = ("skipped" if frame.skipped else "stored", frame.size, frame.payload)
        if verdict is Verdict.NEW:
            self.taken.append(what)
            self.old.append(copy.deepcopy(frame))

    def piece(self, offset: int, size: int) -> bytes:
        return self.written[offset : offset + size]

    # --- what always holds --------------------------------------------------------------

    @invariant()
    def accepted_is_a_prefix_of_written(self) -> None:
        if not hasattr(self, "queue"):
            return
        offset = 0
        sums = {"stored": [0, 0], "skipped": [0, 0], "gap": [0, 0]}
        for what, size, payload in self.taken:
            piece = self.piece(offset, size)
            assert what != "stored" or payload == piece
            sums[what][0] += piece.count(b"\n")
            sums[what][1] += size
            offset += size
        totals = self.ledger.totals
        assert offset == self.ledger.next_offset <= len(self.written)
        assert [totals.stored_lines, totals.stored_bytes] == sums["stored"]
        assert [totals.skipped_lines, totals.skipped_bytes] == sums["skipped"]
        assert [totals.gap_lines, totals.gap_bytes] == sums["gap"]
        assert totals.in_flight_lines >= 0
        assert 0 <= totals.in_flight_bytes <= len(self.written) - offset
        assert sums["gap"][1] <= self.queue.dropped_bytes

    @invariant()
    def the_queue_is_bounded_and_keeps_its_sums(self) -> None:
        if not hasattr(self, "queue"):
            return
        queue = self.queue
        held = [item for item in (*queue._sent, *queue._unsent) if isinstance(item, Batch)]
        in_memory = sum(item.size for item in held if item.data is not None)
        assert queue.memory_bytes == in_memory <= max(self.window, LONGEST) + LONGEST
        sent = sum(item.size for item in queue._sent if isinstance(item, Batch))
        assert queue.in_flight_bytes == sent <= max(self.window, LONGEST)
        assert self.spool.bytes == sum(item.size for item in held if item.data is None)
        assert self.spool.bytes <= self.spool.max_bytes
        assert queue.written_bytes == len(self.written)
        assert queue.written_lines == self.written.count(b"\n")
        if queue.when_full is WhenFull.BLOCK:
            assert queue.dropped_bytes == 0
            assert queue.memory_bytes < self.window + LONGEST
        assert queue.waits == bool(queue.unacked()[0])

    def reconcile(self) -> None:
        """Whatever happened: one good link, and the account is closed to the last byte."""
        self.lose_link()
        self.connect()
        while self.queue.waits:
            self.send()
            assert self.wire, "what waits must be sent"
            self.deliver(len(self.wire))
            self.queue.ack(self.ledger.next_seq)
        assert self.ledger.accept_written(
            EPOCH, self.queue.next_seq, self.queue.written_lines, self.queue.written_bytes
        )
        self.accepted_is_a_prefix_of_written()
        totals = self.ledger.totals
        assert self.ledger.next_offset == totals.written_bytes == len(self.written)
        assert totals.written_lines == self.written.count(b"\n")
        assert totals.in_flight_bytes == totals.in_flight_lines == 0
        assert (totals.gap_lines, totals.gap_bytes) == (
            self.queue.dropped_lines,
            self.queue.dropped_bytes,
        )
        assert self.queue.memory_bytes == self.spool.bytes == 0
        assert self.ledger.accept_end(EPOCH, self.queue.next_seq)
        assert not self.ledger.accept_end(EPOCH, self.queue.next_seq)


def test_what_the_client_took_and_the_gaps_are_what_was_written() -> None:
    run_state_machine_as_test(
        LossyLink, settings=settings(max_examples=300, stateful_step_count=60)
    )


# --- cases that a random walk meets too rarely ------------------------------------------------


def queue_of(*pieces: bytes, window: int = 100, when_full: WhenFull = WhenFull.BLOCK) -> SendQueue:
    queue = SendQueue(None, window, when_full)
    for piece in pieces:
        queue.push(piece, 0.0, 0.0)
    return queue


def log(seq: int, offset: int, data: bytes, epoch: int = EPOCH) -> LogMessage.Log:
    item = Batch(seq, offset, len(data), data.count(b"\n"), 0.0, 0.0, data.endswith(b"\n"), data)
    made = as_log(SendQueue(), item, False)
    return LogMessage.Log(**{n: getattr(made, n) for n in made.__slots__} | {"epoch": epoch})


def test_a_queue_without_a_spool_drops_the_oldest_and_says_so() -> None:
    queue = queue_of(b"1\n", b"2\n", b"3\n", b"4\n", window=4, when_full=WhenFull.DROP_OLDEST)
    gap, *rest = queue.take()
    assert isinstance(gap, DroppedBatches)
    assert (gap.seq, gap.last_seq, gap.offset, gap.size, gap.lines) == (0, 1, 0, 4, 2)
    assert [item.seq for item in rest] == [2, 3]
    assert (queue.dropped_lines, queue.dropped_bytes) == (2, 4)


def test_what_was_sent_is_never_dropped() -> None:
    queue = queue_of(b"1111", when_full=WhenFull.DROP_OLDEST, window=4)
    assert len(queue.take()) == 1
    for _ in range(5):
        queue.push(b"2222", 0.0, 0.0)
        assert queue.memory_bytes == 8
    queue.resume(1)
    assert [item.seq for item in queue.take()] == [1, 5]


def test_a_batch_longer_than_the_window_is_sent_alone() -> None:
    queue = queue_of(b"x" * 50, b"y" * 50, b"z", window=10)
    assert [item.seq for item in queue.take()] == [0]
    assert queue.take() == []
    queue.ack(1)
    assert [item.seq for item in queue.take()] == [1]


def test_nothing_is_numbered_for_no_bytes() -> None:
    assert queue_of(b"").next_seq == 0


@pytest.mark.parametrize("next_seq", [3, 4, 100])
def test_an_ack_of_what_was_not_sent_is_refused(next_seq: int) -> None:
    queue = queue_of(b"1", b"2", b"3", window=2)
    assert len(queue.take()) == 2
    with pytest.raises(ProtocolError):
        queue.ack(next_seq)


@pytest.mark.parametrize("next_seq", [0, 1, 4])
def test_a_resume_where_the_queue_cannot_go_on_is_refused(next_seq: int) -> None:
    queue = queue_of(b"1", b"2", b"3")
    queue.take()
    queue.ack(2)
    with pytest.raises(ProtocolError):
        queue.resume(next_seq)
    queue.resume(2)
    queue.take()
    queue.ack(3)
    assert not queue.waits
    with pytest.raises(ProtocolError):
        queue.resume(0)
    queue.resume(3)


def test_the_ledger_refuses_holes_and_changes_nothing_then() -> None:
    ledger = StreamLedger()
    ledger.begin(EPOCH)
    ledger.accept(log(0, 0, b"a\n"))
    before = copy.deepcopy(ledger.totals)
    for bad in (log(2, 2, b"x"), log(1, 3, b"x"), log(1, 1, b"x"), log(1, 2, b"x", epoch=2)):
        with pytest.raises(ProtocolError):
            ledger.accept(bad)
    for seq, last, lines, size in ((2, 3, 0, 1), (1, 0, 0, 1), (1, 1, 2, 1)):
        with pytest.raises(ProtocolError):
            ledger.accept_gap(as_gap(DroppedBatches(seq, last, 2, size, lines, False)))
    with pytest.raises(ProtocolError):
        ledger.accept_end(EPOCH, 2)
    assert ledger.totals == before
    assert ledger.accept(log(1, 2, b"b")) is Verdict.NEW
    assert ledger.duplicates == 0


def test_a_lost_tail_is_noticed_by_the_heartbeat() -> None:
    ledger = StreamLedger()
    ledger.begin(EPOCH)
    ledger.accept(log(0, 0, b"a\n"))
    assert ledger.accept_written(EPOCH, 1, 3, 6)
    assert (ledger.totals.in_flight_lines, ledger.totals.in_flight_bytes) == (2, 4)
    assert not ledger.accept_written(EPOCH, 2, 3, 6)
    assert ledger.accept_written(EPOCH - 1, 9, 9, 9)
    assert ledger.totals.written_lines == 3


def test_a_new_epoch_starts_the_numbers_again_and_the_sums_go_on() -> None:
    ledger = StreamLedger()
    ledger.begin(1)
    ledger.accept(log(0, 0, b"a\nb\n"))
    ledger.accept_written(1, 1, 5, 10)
    assert ledger.begin(1) == (0, 0)
    assert ledger.begin(2) == (3, 6)
    assert (ledger.totals.gap_lines, ledger.totals.gap_bytes) == (3, 6)
    assert ledger.accept(log(1, 4, b"late\n", epoch=1)) is Verdict.DUPLICATE
    assert ledger.accept(log(0, 0, b"c\n", epoch=2)) is Verdict.NEW
    ledger.accept_written(2, 1, 2, 4)
    totals = ledger.totals
    assert (totals.written_lines, totals.in_flight_lines) == (7, 1)
    assert (totals.written_bytes, totals.in_flight_bytes) == (14, 2)
