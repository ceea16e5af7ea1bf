"""LogClientActor: exactly one, in the kernel process. Receives, accounts, completes barriers.

Frames of all uplinks end here. A batch passes the ledger (exactly once, in order) and goes to
the sink; acks go back in bulk. A proc is relayed by one connection at a time: the one that
attached last with the highest generation; what others still send is fenced. A barrier is
complete when each expected proc has acked by name, has exited with its last byte stored, or is
late.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import replace
from typing import Callable, DefaultDict, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from .actor import Actor
from .barrier import FlushLedger, FlushOutcome
from .channel import Connection
from .clock import SYSTEM_CLOCK, Clock
from .ended_sources import EndedSources, SourceNumbers
from .errors import ProtocolError
from .model import (
    STREAMS,
    FlushReport,
    Gap,
    LogClientMessage,
    LogForwardMessage,
    LoggerRuntimeMessage,
    LogMessage,
    LogSink,
    OutputTarget,
    ProcInfo,
    StreamTotals,
)
from .names import clean_hostname
from .sanitize import one_row
from .sequence import StreamLedger, Verdict
from .wire import (
    LOG_KIND,
    Ack,
    Attach,
    End,
    Fenced,
    Flushed,
    GapFrame,
    Message,
    Ping,
    Resume,
    Written,
    decode,
)

__all__ = ["LogClientActor", "ProcRecord"]

_ACK_SEC = 0.02
_ACK_BYTES = 512 << 10
_REASON_CHARS = 200


class _Group:
    """What the sources of one mesh brought, and how much of it a report has told."""

    __slots__ = ("gaps", "lines", "sources", "told_gaps", "told_lines")

    def __init__(self) -> None:
        self.sources = SourceNumbers()
        self.lines = 0
        self.gaps: List[Gap] = []
        self.told_lines = 0
        self.told_gaps = 0


class ProcRecord:
    """What the client knows of one source of lines."""

    __slots__ = (
        "connection", "epoch", "exit_code", "generation", "group", "has_runtime", "info", "ledgers",
        "level", "lost", "on_attach", "over", "stream_to_client", "unacked_bytes",
    )  # fmt: skip

    def __init__(self, info: ProcInfo, has_runtime: bool, group: int) -> None:
        self.info = info
        self.group = group
        self.has_runtime = has_runtime
        self.epoch = 0
        self.generation = 0
        self.connection: Optional[Connection] = None
        self.ledgers = {target: StreamLedger() for target in STREAMS}
        self.stream_to_client = True
        self.level: Optional[int] = None
        self.exit_code: Optional[int] = None
        self.lost = False
        self.over = False
        self.on_attach: Callable[[], None] = lambda: None
        self.unacked_bytes = 0

    @property
    def attached(self) -> bool:
        """Whether a forwarder relays it now."""
        return self.connection is not None

    @property
    def ended(self) -> bool:
        """Whether both of its streams have ended and are accounted for."""
        return all(ledger.ended for ledger in self.ledgers.values())


class LogClientActor(Actor):
    """Made on the client's loop. ``sink`` takes what arrives."""

    def __init__(self, sink: LogSink, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__()
        self._sink = sink
        self._clock = clock
        self.records: Dict[int, ProcRecord] = {}
        self._ended = EndedSources()
        self.gaps: List[Gap] = []
        self.aggregate_window_sec: Optional[float] = None
        self.protocol_errors = 0
        self._flushes = FlushLedger()
        self._waiters: Dict[int, asyncio.Future[FlushReport]] = {}
        self._groups: DefaultDict[int, _Group] = defaultdict(_Group)
        self._scopes: Dict[int, Tuple[int, bool, int]] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._unacked: Set[Tuple[int, OutputTarget]] = set()
        self._ack_timer: Optional[asyncio.TimerHandle] = None
        self.on(LogClientMessage.SetAggregate, self._set_aggregate)

    # --- procs --------------------------------------------------------------------------------

    def expect(self, info: ProcInfo, has_runtime: bool = True, group: int = 0) -> ProcRecord:
        """A source that will attach; ``has_runtime``: it has a LoggerRuntimeActor.

        ``group``: the mesh whose reports tell of its lines and gaps.
        """
        record = self.records[info.proc] = ProcRecord(info, has_runtime, group)
        self._groups[group].sources.add(info.proc)
        return record

    def sources_of(self, group: int) -> Optional[FrozenSet[int]]:
        """All sources that a mesh has or had; None where there are no others. For any thread."""
        groups = self._groups.copy()
        own = groups.pop(group, None)
        if own is None:
            return frozenset()
        return own.sources.frozen() if any(len(g.sources) for g in groups.values()) else None

    def set_mode(self, procs: Iterable[int], stream_to_client: bool, level: Optional[int]) -> None:
        """Tell forwarders and runtime actors; who attaches later is told then."""
        for proc in procs:
            record = self.records[proc]
            record.stream_to_client = stream_to_client
            record.level = level
            self._send_mode(record)

    def proc_exited(self, proc: int, code: int) -> None:
        """The bootstrap has seen the proc's end and read all that its pipes held then."""
        record = self.records.get(proc)
        if record is None or record.exit_code is not None:
            return
        record.exit_code = code
        self._flushes.exited(proc)
        self._settle_if_done(record)

    def host_lost(self, procs: Iterable[int], reason: str) -> None:
        """The bootstrap of these procs is gone: what they still had is a gap of unknown extent."""
        for proc in procs:
            record = self.records.get(proc)
            if record is None or record.lost or (record.exit_code is not None and record.ended):
                continue
            record.lost = True
            for target, ledger in record.ledgers.items():
                if not ledger.ended:
                    ledger.ended = True
                    self._note_gap(record, target, None, None, reason)
                    self._sink.leave_out(record.info, target, False)
            if record.exit_code is None:
                record.exit_code = -9
            self._flushes.settle(proc)
        self._complete()

    def forget(self, procs: Iterable[int]) -> None:
        """The procs' mesh has stopped: no barrier waits for them any more."""
        for proc in procs:
            self._flushes.settle(proc)
            self._over(proc)
        self._complete()

    def totals(self, procs: Optional[Iterable[int]] = None) -> StreamTotals:
        """The ledger's sum over procs (all there ever were by default) and their streams."""
        total = StreamTotals()
        if procs is None:
            total.add(self._ended.totals)
            procs = list(self.records)
        for proc in procs:
            for ledger in self.records[proc].ledgers.values():
                total.add(ledger.totals)
        return total

    @property
    def late(self) -> Tuple[int, ...]:
        """Procs that missed a barrier's deadline and have not answered since."""
        return tuple(sorted(self._flushes.late))

    # --- frames -------------------------------------------------------------------------------

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol of forwarders' uplinks."""
        message = decode(kind, body)
        if kind == LOG_KIND:
            assert type(message) is LogMessage.Log
            self._log(connection, message)
        elif type(message) is Flushed:
            self._flushed(connection, message)
        elif type(message) is Attach:
            self._attach(connection, message)
        elif isinstance(message, (Written, GapFrame, End)):
            self._stream_message(connection, message)
        elif type(message) is Ping:
            return
        else:
            raise ProtocolError(f"a forwarder sent {type(message).__name__}")

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        if isinstance(error, ProtocolError):
            self.protocol_errors += 1
        for record in self.records.values():
            if record.connection is connection:
                record.connection = None

    def _record(self, connection: Connection, proc: int) -> Optional[ProcRecord]:
        """The record if this connection may speak for the proc; None: fenced."""
        record = self.records.get(proc)
        if record is None:
            raise ProtocolError(f"there is no proc {proc}")
        return record if record.connection is connection else None

    def _attach(self, connection: Connection, message: Attach) -> None:
        record = self.records.get(message.proc)
        if record is None:
            raise ProtocolError(f"there is no proc {message.proc}")
        older = message.generation < record.generation or message.epoch < record.epoch
        if older or record.lost:
            connection.send(Fenced(proc=message.proc, generation=message.generation))
            return
        if record.connection is not None and record.connection is not connection:
            record.connection.send(Fenced(proc=message.proc, generation=record.generation))
        record.generation = message.generation
        record.epoch = message.epoch
        record.connection = connection
        if not record.info.pid:
            record.info = replace(
                record.info,
                pid=message.pid,
                hostname=clean_hostname(message.hostname) or record.info.hostname,
            )
        for target, ledger in record.ledgers.items():
            lines, size = ledger.begin(message.epoch)
            if size:
                self._note_gap(record, target, lines, size, "an earlier life of the streams")
                self._sink.leave_out(record.info, target, ends_line=False)
        # Before Resume: in silent mode not one batch may pass a forwarder that is new.
        self._send_mode(record)
        connection.send(
            Resume(
                proc=message.proc,
                epoch=message.epoch,
                generation=message.generation,
                next_stdout=record.ledgers[OutputTarget.STDOUT].next_seq,
                next_stderr=record.ledgers[OutputTarget.STDERR].next_seq,
            )
        )
        for version in self._flushes.to_ask_again(message.proc):
            connection.send(LogForwardMessage.ForceSyncFlush(version=version))
        record.on_attach()

    def _log(self, connection: Connection, log: LogMessage.Log) -> None:
        record = self._record(connection, log.proc)
        if record is None or log.generation != record.generation:
            connection.send(Fenced(proc=log.proc, generation=log.generation))
            return
        target = log.output_target
        if record.ledgers[target].accept(log) is Verdict.NEW:
            if log.skipped:
                self._sink.leave_out(record.info, target, log.ends_line)
            else:
                self._store(record, log)
        self._ack_soon(record, target, log.size)

    def _store(self, record: ProcRecord, log: LogMessage.Log) -> None:
        try:
            self._sink.append(record.info, log)
        except Exception as error:  # noqa: BLE001 (whatever it is: shown, and a gap, never silent)
            totals = record.ledgers[log.output_target].totals
            totals.stored_lines -= log.lines
            totals.stored_bytes -= log.size
            totals.gap_lines += log.lines
            totals.gap_bytes += log.size
            reason = f"the store failed: {type(error).__name__}: {error}"
            self._note_gap(record, log.output_target, log.lines, log.size, reason)
            with contextlib.suppress(Exception):
                self._sink.leave_out(record.info, log.output_target, log.ends_line)
            self.loop.call_exception_handler({"message": reason, "exception": error})
        else:
            self._groups[record.group].lines += log.lines

    def _stream_message(self, connection: Connection, message: Message) -> None:
        assert isinstance(message, (Written, GapFrame, End))
        record = self._record(connection, message.proc)
        if record is None:
            return
        try:
            target = OutputTarget(message.target)
        except ValueError:
            raise ProtocolError(f"there is no stream {message.target}") from None
        ledger = record.ledgers[target]
        if type(message) is Written:
            if not ledger.accept_written(
                message.epoch, message.next_seq, message.lines, message.bytes
            ):
                raise ProtocolError(f"{record.info.name} lost a tail: batch {ledger.next_seq}")
        elif type(message) is GapFrame:
            if ledger.accept_gap(message) is Verdict.NEW:
                self._note_gap(record, target, message.lines, message.size, message.reason)
                self._sink.leave_out(record.info, target, message.ends_line)
            self._ack_soon(record, target, 0)
        elif type(message) is End:
            if ledger.accept_end(message.epoch, message.seq):
                self._sink.end(record.info, target)
                self._settle_if_done(record)
            self._ack_soon(record, target, 0)

    def _flushed(self, connection: Connection, message: Flushed) -> None:
        record = self._record(connection, message.proc)
        if record is None:
            return
        covered = (message.next_stdout, message.next_stderr)
        for target, next_seq in zip(STREAMS, covered, strict=True):
            if record.ledgers[target].next_seq < next_seq:
                raise ProtocolError(
                    f"{record.info.name}: barrier {message.version} covers batch {next_seq - 1} "
                    f"of {target.label}, due is {record.ledgers[target].next_seq}"
                )
        self._flushes.ack(message.proc, message.version)
        self._complete()

    def _send_mode(self, record: ProcRecord) -> None:
        if record.connection is None:
            return
        record.connection.send(LogForwardMessage.SetMode(stream_to_client=record.stream_to_client))
        if record.has_runtime and record.level is not None:
            record.connection.send(LoggerRuntimeMessage.SetLogging(level=record.level))

    def _ack_soon(self, record: ProcRecord, target: OutputTarget, size: int) -> None:
        self._unacked.add((record.info.proc, target))
        record.unacked_bytes += size
        if record.unacked_bytes >= _ACK_BYTES:
            self._send_ack(record, target)
            self._unacked.discard((record.info.proc, target))
        elif self._ack_timer is None:
            self._ack_timer = self.loop.call_later(_ACK_SEC, self._send_acks)

    def _send_acks(self) -> None:
        self._ack_timer = None
        unacked, self._unacked = self._unacked, set()
        for proc, target in unacked:
            if proc in self.records:
                self._send_ack(self.records[proc], target)

    def _send_ack(self, record: ProcRecord, target: OutputTarget) -> None:
        record.unacked_bytes = 0
        if record.connection is not None and not record.lost:
            # The end of the stream is acked like one more batch.
            ledger = record.ledgers[target]
            record.connection.send(
                Ack(
                    proc=record.info.proc,
                    epoch=ledger.epoch,
                    target=target,
                    next_seq=ledger.next_seq + ledger.ended,
                )
            )

    def _note_gap(
        self,
        record: ProcRecord,
        target: OutputTarget,
        lines: Optional[int],
        size: Optional[int],
        reason: str,
    ) -> None:
        proc = record.info.proc
        words = one_row(reason)[:_REASON_CHARS]
        gap = Gap(proc=proc, output_target=target, lines=lines, bytes=size, reason=words)
        self.gaps.append(gap)
        self._groups[record.group].gaps.append(gap)

    # --- barriers -----------------------------------------------------------------------------

    def start_sync_flush(
        self, message: LogClientMessage.StartSyncFlush, *, group: int = 0, tells: bool = True
    ) -> asyncio.Future[FlushReport]:
        """Open a barrier over the expected procs; the future is its report.

        The report tells of the group's lines and gaps since the report before it, and of all gaps
        since its own beginning, though another one may have told them: what is lost makes each
        report false that it happened to. With ``tells`` False nobody will look at it, so that the
        next one tells of the same.
        """
        now = self._clock.monotonic()
        version = self._flushes.start(message.expected_procs, now, message.timeout_sec)
        self._scopes[version] = (group, tells, len(self._groups[group].gaps))
        waiter = self._waiters[version] = self.loop.create_future()
        waiter.add_done_callback(lambda _: self._forget_flush(version))
        request = LogForwardMessage.ForceSyncFlush(version=version)
        for proc in self._flushes.to_ask(version):
            connection = self.records[proc].connection
            if connection is not None:
                connection.send(request)
        self._complete()
        return waiter

    def _forget_flush(self, version: int) -> None:
        """The report was given, or nobody waits for it any more."""
        self._scopes.pop(version, None)
        if self._waiters.pop(version, None) is not None:
            self._flushes.cancel(version)
            self._complete()

    def _settle_if_done(self, record: ProcRecord) -> None:
        if record.exit_code is not None and record.ended:
            self._flushes.settle(record.info.proc)
            self._complete()
            if not record.has_runtime:
                self._over(record.info.proc)

    def _over(self, proc: int) -> None:
        """A command has ended, or the mesh of a proc: its record is kept for a while."""
        record = self.records.get(proc)
        if record is not None and not record.over:
            record.over = True
            now = self._clock.monotonic()
            self._ended.add(proc, now)
            self._ended.forget_old(now, self._forget_record)

    def _forget_record(self, proc: int) -> bool:
        record = self.records[proc]
        if record.attached or not self._flushes.forget(proc):
            return False
        self._ended.count(ledger.totals for ledger in record.ledgers.values())
        self._sink.forget(proc)
        del self.records[proc]
        return True

    def _expire(self) -> None:
        self._timer = None
        self._flushes.expire(self._clock.monotonic())
        self._complete()

    def _complete(self) -> None:
        for outcome in self._flushes.completed(self._clock.monotonic()):
            waiter = self._waiters.pop(outcome.version, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(self._report(outcome))
        deadline = self._flushes.next_deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            delay = max(0.0, deadline - self._clock.monotonic())
            self._timer = self.loop.call_later(delay, self._expire)

    def _report(self, outcome: FlushOutcome) -> FlushReport:
        number, tells, gaps_before = self._scopes[outcome.version]
        group = self._groups[number]
        lines = group.lines - group.told_lines
        gaps = group.gaps[min(group.told_gaps, gaps_before) :]
        if tells:
            group.told_lines, group.told_gaps = group.lines, len(group.gaps)
        procs = (*outcome.acked, *outcome.exited, *outcome.late)
        names = {proc: self.records[proc].info.name for proc in procs}
        return FlushReport(
            version=outcome.version,
            acked=tuple(names[proc] for proc in outcome.acked),
            exited=tuple(names[proc] for proc in outcome.exited),
            late=tuple(names[proc] for proc in outcome.late),
            lines=lines,
            gaps=tuple(gaps),
            seconds=outcome.seconds,
        )

    # --- modes ----------------------------------------------------------------------------------

    def _set_aggregate(self, message: LogClientMessage.SetAggregate) -> None:
        self.aggregate_window_sec = message.aggregate_window_sec
