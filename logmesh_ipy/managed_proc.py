"""One proc as its bootstrap sees it: pipes, senders, and who forwards for it.

The forwarder of a proc is *hosted* by the proc or *adopted* by the bootstrap:

    starting --its channel appears--> hosted
    starting, hosted --exit, or no sign of life for 1 s while data waits--> adopted
    adopted --the living proc's forwarder answers again--> hosted

A command that is not ours is adopted from the start. An adopted forwarder answers a barrier when
it has relayed what the pipes hold, but not for a proc that is stopped (SIGSTOP): that one may have
more in its buffers, so it is late until it runs again. Each arrow raises the generation, and so
does each new connection: what an older one still sends is fenced by the client. The senders
keep what is not acked, so nothing is lost on any arrow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional

from .addresses import socket_path
from .backoff import Backoff
from .channel import Connection, dial
from .config import HostOptions
from .errors import ProtocolError
from .file_appender import FileAppender
from .local_log_sender import TRANSPORT_ERRORS, LocalLogSender
from .log_forward_actor import LogForwardActor
from .model import STREAMS, LoggerRuntimeMessage, OutputTarget
from .procs import Spawned, is_stopped
from .redaction import Redactor, Rules
from .sequence import SendQueue, WhenFull
from .spool import FileSpool
from .stream_fwder import RecentLines, StreamFwder
from .uplink import Uplink
from .wire import Ping, Pong, decode

__all__ = ["PATIENCE_SEC", "ManagedProc"]

PATIENCE_SEC = 1.0

MakeUplink = Callable[..., Uplink]


class ManagedProc:
    """Output side of one child. ``address`` is its hosted channel, None for a foreign command.

    ``make_uplink(name, on_frame, on_up, on_down)`` connects an adopted forwarder to the client.
    """

    def __init__(
        self,
        spawned: Spawned,
        *,
        proc: int,
        rank: int,
        address: Optional[str],
        adopted_address: Callable[[int], str],
        hostname: str,
        options: HostOptions,
        spool_directory: str,
        make_uplink: MakeUplink,
        tees: Mapping[OutputTarget, Callable[[bytes], None]],
        rules: Rules,
        on_finished: Callable[[ManagedProc], None],
    ) -> None:
        self.proc = proc
        self.rank = rank
        self.pid = spawned.pid
        self.exit_code: Optional[int] = None
        self.generation = 0
        self._address = address
        self._adopted_address = adopted_address
        self._make_uplink = make_uplink
        self._on_finished = on_finished
        self._adopted: Optional[LogForwardActor] = None
        self._adopted_uplink: Optional[Uplink] = None
        self._connecting: Optional[asyncio.Task[None]] = None
        self._adopting = False
        self._probe: Optional[_Probe] = None
        self._held_barriers: Deque[Callable[[], None]] = deque()
        self._backoff = Backoff()
        self._again: Optional[asyncio.TimerHandle] = None
        self.closed = False
        self._fault = ""
        self._loop = asyncio.get_running_loop()
        self._spools: List[FileSpool] = []
        self.rules = rules
        self.files: Dict[OutputTarget, FileAppender] = {}
        self.senders: Dict[OutputTarget, LocalLogSender] = {}
        self.fwders: Dict[OutputTarget, StreamFwder] = {}
        for target, fd in zip(STREAMS, (spawned.stdout, spawned.stderr), strict=True):
            spool = FileSpool(spool_directory, options.spool_max_bytes)
            self._spools.append(spool)
            queue = SendQueue(spool, options.window_bytes, WhenFull(options.when_full))
            sender = LocalLogSender(
                self, queue, proc=proc, epoch=1, target=target, pid=spawned.pid, hostname=hostname
            )
            sinks = [tees[target]] if target in tees else []
            if options.files:
                basename = f"{options.files_basename}-rank{rank}"
                file = self.files[target] = FileAppender(
                    options.files, basename, hostname, target,
                    max_bytes=options.file_max_bytes, backups=options.file_backups,
                )  # fmt: skip
                sinks.append(file.append)
            self.senders[target] = sender
            self.fwders[target] = StreamFwder(
                fd, sender, recent=RecentLines(options.recent_bytes), sinks=tuple(sinks),
                redactor=Redactor(rules) if rules else None,
            )  # fmt: skip

    def redacted(self, target: OutputTarget) -> int:
        """How often something was redacted in a stream."""
        redactor = self.fwders[target].redactor
        return 0 if redactor is None else redactor.count

    def status(self) -> Dict[str, Any]:
        """Exit code, forwarder, and per stream what was written and what waits."""
        return {
            "pid": self.pid,
            "exit_code": self.exit_code,
            "adopted": self.is_adopted,
            "generation": self.generation,
            "streams": {
                target.label: {
                    "lines": sender.queue.written_lines,
                    "bytes": sender.queue.written_bytes,
                    "dropped_lines": sender.queue.dropped_lines,
                    "unacked_bytes": sender.queue.unacked()[1],
                    "spilled_bytes": sender.queue.unacked()[1] - sender.queue.memory_bytes,
                    "redacted": self.redacted(target),
                }
                for target, sender in self.senders.items()
            },
            "files": {target.label: file.path for target, file in self.files.items()},
            "warnings": [*self.disk_warnings, *filter(None, (self.rules.warning, self._fault))],
        }

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What fails in it is told on stderr and as a warning, and harms no other proc."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever it is, the others go on)
            fault = f"its output is at risk: {type(error).__name__}: {error}"
            fault = self.rules.redact_text(fault)
            if fault != self._fault:
                self._fault = fault
                with contextlib.suppress(OSError):
                    sys.stderr.write(self.rules.redact_text(traceback.format_exc()))

    @property
    def disk_warnings(self) -> List[str]:
        """What is, or last was, wrong with its files and spools, and what that cost."""
        found = [file.warning for file in self.files.values()]
        for (target, sender), spool in zip(self.senders.items(), self._spools, strict=True):
            if spool.warning:
                lost = f"{sender.queue.dropped_lines:,} lines given up"
                found.append(f"{target.label}: {spool.warning}; {lost}")
        return [warning for warning in found if warning]

    @property
    def is_adopted(self) -> bool:
        """Whether the bootstrap forwards for this proc."""
        return self._adopted is not None

    @property
    def is_command(self) -> bool:
        """Whether it is none of ours, but what ``exec`` was given."""
        return self._address is None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.exit_code is None

    def start(self) -> None:
        """Begin to read the pipes; a foreign command gets its forwarder at once."""
        for fwder in self.fwders.values():
            fwder.start()
        if self._address is None:
            self._connect_adopted()

    def exited(self, code: int) -> None:
        """The process has ended: read what its pipes hold now, and see that it is relayed."""
        self.exit_code = code
        self.read_to_end()
        if not self.is_adopted and not self._finished:
            self._connect_adopted()

    def tick(self, now: float) -> None:
        """Called every few milliseconds while starting, later a few times a second."""
        if self.closed:
            return
        while self._held_barriers and not self._stands_still:
            self._held_barriers.popleft()()
        if self._finished and not self.alive:
            self._on_finished(self)
            return
        if self._connecting is None and self._again is None and not self._has_connection():
            self._connect_somewhere()
        stuck = [sender.is_stuck(now, PATIENCE_SEC) for sender in self.senders.values()]
        if any(stuck) and not self.is_adopted:
            self._connect_adopted()

    def beat(self) -> None:
        """Once a second: heartbeats, and a look whether the proc can forward again."""
        for sender in self.senders.values():
            sender.beat()
        if self.is_adopted and self.alive and self._address is not None and self._probe is None:
            self._probe = _Probe(self._address, self._give_back)

    def sender_lost(self, sender: LocalLogSender) -> None:
        """A connection of the log channel broke: start over under a new generation, soon."""
        if self._connecting is None:
            self._connect_again()

    def read_to_end(self) -> None:
        """Its process has ended: read what the pipes hold, for its files at least."""
        for fwder in self.fwders.values():
            fwder.read_to_end()

    def close(self) -> None:
        """Give everything up: pipes, connections, files, spools."""
        if self.closed:
            return
        self.closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._again is not None:
            self._again.cancel()
        if self._probe is not None:
            self._probe.close()
        for fwder in self.fwders.values():
            fwder.close()
        for sender in self.senders.values():
            sender.disconnect()
        self._drop_adopted()
        for file in self.files.values():
            file.close()
        for spool in self._spools:
            spool.close()

    @property
    def _stands_still(self) -> bool:
        return self.alive and is_stopped(self.pid)

    def _flush_stdio(self, done: Callable[[], None]) -> None:
        """For a proc that does not do it itself: nothing to flush, unless it will when it runs."""
        if self._stands_still:
            self._held_barriers.append(done)
        else:
            done()

    @property
    def _finished(self) -> bool:
        return all(sender.finished for sender in self.senders.values())

    def _has_connection(self) -> bool:
        return all(sender.connected for sender in self.senders.values())

    def _connect_somewhere(self) -> None:
        if self.is_adopted or self.is_command or not self.alive:
            self._connect_adopted()
        else:
            self._connect_hosted()

    def _connect_again(self) -> None:
        if not self.closed and self._again is None:
            pause_sec = self._backoff.pause(self._loop.time())
            self._again = self._loop.call_later(pause_sec, self._end_pause)

    def _end_pause(self) -> None:
        self._again = None
        if not self.closed and self._connecting is None and not self._has_connection():
            self._connect_somewhere()

    def _connect_hosted(self) -> None:
        assert self._address is not None
        if self._connecting is None and os.path.exists(socket_path(self._address)):
            self._connecting = self._loop.create_task(self._connect(self._address))

    def _connect_adopted(self) -> None:
        if self._connecting is not None:
            if self._adopting:
                return
            self._connecting.cancel()
        self._adopting = True
        self._connecting = self._loop.create_task(self._adopt())

    async def _adopt(self) -> None:
        if self._adopted is None:
            address = self._adopted_address(self.generation + 1)
            flush_stdio = None if self.is_command else self._flush_stdio
            actor = LogForwardActor(address, proc=self.proc, flush_stdio=flush_stdio)
            try:
                await actor.start(elsewhere=False)
            except BaseException as error:
                actor.close()
                self._connecting = None
                self._adopting = False
                if not isinstance(error, TRANSPORT_ERRORS):
                    raise
                self._connect_again()  # No descriptors, no disk: it may be better soon.
                return
            uplink = self._make_uplink(
                f"adopted {self.proc}",
                on_frame=lambda kind, body: _adopted_message(actor, kind, body),
                on_up=actor.link_up,
                on_down=actor.link_down,
            )
            actor.use_link(uplink)
            self._adopted, self._adopted_uplink = actor, uplink
            uplink.start()
        await self._connect(self._adopted.address)

    async def _connect(self, address: str) -> None:
        """Connect both senders under a new generation; on failure try again after a pause."""
        self.generation += 1
        task = asyncio.current_task()
        try:
            for sender in self.senders.values():
                await sender.connect(address, self.generation)
        except TRANSPORT_ERRORS:
            for sender in self.senders.values():
                sender.disconnect()
        finally:
            if self._connecting is task:
                self._connecting = None
                self._adopting = False
        if not self._has_connection() and self._connecting is None:
            self._connect_again()

    def _give_back(self, answered: bool) -> None:
        """The probe of the hosted forwarder has ended; where it answered, it takes over."""
        self._probe = None
        if answered and self.alive and not self.closed and self._connecting is None:
            self._drop_adopted()
            self._connect_hosted()

    def _drop_adopted(self) -> None:
        if self._adopted is not None and self._adopted_uplink is not None:
            for sender in self.senders.values():
                sender.disconnect()
            self._adopted_uplink.close()
            self._adopted.close()
        self._adopted = self._adopted_uplink = None
        self._held_barriers.clear()


def _adopted_message(actor: LogForwardActor, kind: int, body: bytes) -> None:
    message = decode(kind, body)
    # Meant for the LoggerRuntimeActor, which is told again when the proc forwards again.
    if type(message) is not LoggerRuntimeMessage.SetLogging:
        actor.client_message(message)


class _Probe:
    """Asks a forwarder for a sign of life; ``on_answer(False)`` when the connection breaks.

    The question waits in the forwarder's socket until its proc can answer, however long that is.
    """

    def __init__(self, address: str, on_answer: Callable[[bool], None]) -> None:
        self._on_answer = on_answer
        self._connection: Optional[Connection] = None
        self._task = asyncio.get_running_loop().create_task(self._ask(address))

    def close(self) -> None:
        """Ask no more, tell nothing."""
        self._on_answer = lambda answered: None
        self._task.cancel()
        if self._connection is not None:
            self._connection.abort()

    async def _ask(self, address: str) -> None:
        self._answered = asyncio.get_running_loop().create_future()
        try:
            self._connection = await dial(address, self)
            self._connection.send(Ping(n=0))
            answered = await self._answered
        except TRANSPORT_ERRORS:
            answered = False
        if self._connection is not None:
            self._connection.abort()
        self._on_answer(answered)

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol."""
        if type(decode(kind, body)) is not Pong:
            raise ProtocolError("a probe is answered by Pong")
        if not self._answered.done():
            self._answered.set_result(True)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        if not self._answered.done():
            self._answered.set_result(False)
