r"""LogForwardActor: serves a proc's log channel and relays it to the client, barriers in-band.

It runs in each remote proc (*hosted*), or in the bootstrap for a proc that cannot run it
(*adopted*): the same class, channel and numbers. Batches pass through unread.

    parents (StreamFwder's senders) --Log, Gap, End, Drained--\
                                                               > rx > uplink to the client
    its own connection to its channel --Flush(v)--------------/

A barrier: ``ForceSyncFlush(v)`` > flush the proc's stdio > ``FlushRequest(v)`` to both parents
> ``Drained(v)`` from both > post ``Flush(v)`` through the self-dialled connection > read it
behind all data > ``client.flush(v)`` on the uplink.

One way of recovery: when the uplink breaks, the parents' connections are closed; the bootstrap
connects again under a new generation, and the client tells each stream where to go on. What the
parents had drained before may be lost with the link, so open barriers drain again behind the
resumed data, and a marker that was posted before proves nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import Callable, Deque, Dict, Optional, Protocol, Tuple

from .actor import Actor
from .addresses import socket_path
from .backoff import Backoff
from .barrier import DrainTracker
from .channel import Connection, Server, dial, serve
from .errors import HandshakeError, ProtocolError, TransportError
from .frames import frame
from .model import BOOTSTRAP_LOG_CHANNEL, STREAMS, LogForwardMessage, LogMessage, OutputTarget
from .sockets import any_address
from .wire import (
    LOG_KIND,
    Ack,
    Attach,
    Drained,
    End,
    Fenced,
    Flushed,
    FlushRequest,
    GapFrame,
    Message,
    Open,
    Ping,
    Pong,
    Resume,
    Written,
    decode,
    strip_payload,
)

__all__ = ["HEARTBEAT_SEC", "LogForwardActor"]

HEARTBEAT_SEC = 1.0


class Link(Protocol):
    """What the actor needs of its uplink."""

    def send(self, message: Message) -> None:
        """Send one message to the client."""

    def send_bytes(self, data: bytes) -> None:
        """Send whole frames to the client."""


class LogForwardActor(Actor):
    """One proc's forwarder. Made on its loop; then ``await start()``.

    ``address`` is what ``BOOTSTRAP_LOG_CHANNEL`` said, or None: then any free Unix address is
    served, no parent is connected, streaming is off, and barriers complete at once.
    ``flush_stdio(done)`` flushes the proc's own buffers in another thread and has ``done``
    called on this loop; None where there is nothing to flush (adopted).
    """

    def __init__(
        self,
        address: Optional[str],
        *,
        proc: int,
        flush_stdio: Optional[Callable[[Callable[[], None]], None]] = None,
        on_fatal: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        super().__init__()
        self.address = address or any_address("forwarder")
        self.proc = proc
        self.has_parents = address is not None
        self.stream_to_client = self.has_parents
        self._speaks = True
        self.generation = 0
        self.heartbeats = 0
        self._link: Optional[Link] = None
        self._link_up = False
        self._flush_stdio = flush_stdio
        self._on_fatal = on_fatal
        self._drains = DrainTracker(STREAMS if self.has_parents else ())
        self._rx: Deque[Tuple[Connection, int, bytes]] = deque()
        self._links = 0
        self._posted: Deque[Tuple[int, Flushed]] = deque()
        self._drained_to: Dict[int, Dict[int, int]] = {}
        self._parents: Dict[int, Connection] = {}
        self._opened: Optional[Open] = None
        self._server: Optional[Server] = None
        self._flush_tx: Optional[Connection] = None
        self._dialling: Optional[asyncio.Task[None]] = None
        self._backoff = Backoff()
        self._heartbeat: Optional[asyncio.TimerHandle] = None
        self.on(LogForwardMessage.Forward, self._forward)
        self.on(LogForwardMessage.SetMode, self._set_mode)
        self.on(LogForwardMessage.ForceSyncFlush, self._force_sync_flush)

    @classmethod
    def address_from_environment(cls) -> Optional[str]:
        """The address that the bootstrap gave this proc."""
        return os.environ.get(BOOTSTRAP_LOG_CHANNEL)

    async def start(self, *, elsewhere: bool = True) -> None:
        """Serve the channel, dial it, beat.

        ``elsewhere``: an address that cannot be served is told to ``on_fatal`` and another one
        served, where no parent comes: such a forwarder speaks for nobody, and the bootstrap adopts
        the proc. Otherwise TransportError is raised; ``close`` is due then too.
        """
        try:
            self._server = await serve(self.address, self._accept)
        except TransportError as error:
            if not elsewhere:
                raise
            self.address = any_address("forwarder")
            self.has_parents = self.stream_to_client = self._speaks = False
            self._server = await serve(self.address, self._accept)
            self._on_fatal(
                TransportError(f"{error.strerror or error}; serving {self.address} instead")
            )
        self._flush_tx = await dial(self.address, self)
        self._beat()

    async def _dial_itself(self) -> None:
        """Its own connection broke: markers that were on it, and not yet read, are posted again."""
        connection: Optional[Connection] = None
        while connection is None:
            await asyncio.sleep(self._backoff.pause(self.loop.time()))
            with contextlib.suppress(TransportError):
                connection = await dial(self.address, self)
        self._flush_tx = connection
        for _, flushed in self._posted:
            connection.send(LogMessage.Flush(sync_version=flushed.version))

    def use_link(self, link: Link) -> None:
        """Set the uplink; ``link_up`` and ``link_down`` follow from it."""
        self._link = link

    def link_up(self) -> None:
        """The uplink is made: attach under the generation that the parents have told."""
        self._link_up = True
        self._attach()

    def link_down(self, error: Optional[Exception]) -> None:
        """The uplink is gone: the parents must start over."""
        self._link_up = False
        self._drop_parents()
        if isinstance(error, HandshakeError):
            self._on_fatal(error)

    def client_message(self, message: Message) -> None:
        """What the client sends down: acks, resume, control."""
        if isinstance(message, (Ack, Resume, Fenced)) and message.proc != self.proc:
            raise ProtocolError(f"a {type(message).__name__} of proc {message.proc}")
        if type(message) is Ack:
            parent = self._parents.get(message.target)
            if parent is not None:
                parent.send(message)
        elif type(message) is Resume:
            if message.generation == self.generation:
                for target, parent in self._parents.items():
                    parent.send(message)
                    for version in self._drains.open_versions(target):
                        parent.send(FlushRequest(version=version))
        elif type(message) is Fenced:
            if message.generation == self.generation:
                self._drop_parents()
        elif isinstance(message, (LogForwardMessage.SetMode, LogForwardMessage.ForceSyncFlush)):
            self.tell(message)
        else:
            raise ProtocolError(f"the client sent {type(message).__name__}")

    def close(self) -> None:
        """Stop serving, leave nothing behind."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        flush_tx, self._flush_tx = self._flush_tx, None
        if flush_tx is not None:
            flush_tx.abort()
        if self._dialling is not None:
            self._dialling.cancel()
        if self._server is not None:
            self._server.close()
        if not self.has_parents:
            # Its socket is gone with the server. Unlike rmtree, this needs no descriptor.
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(socket_path(self.address)))

    # --- the log channel ------------------------------------------------------------------

    def _accept(self, connection: Connection) -> LogForwardActor:
        return self

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol: everything that comes in over the channel goes through ``rx``."""
        self._rx.append((connection, kind, body))
        self.tell(_FORWARD)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        for target, parent in tuple(self._parents.items()):
            if parent is connection:
                del self._parents[target]
        if connection is self._flush_tx:
            self._flush_tx = None
            self._dialling = self.loop.create_task(self._dial_itself())

    def _forward(self, _: LogForwardMessage.Forward) -> None:
        while self._rx:
            connection, kind, body = self._rx.popleft()
            if kind == LOG_KIND:
                if connection in self._parents.values():
                    self._log(kind, body)
                continue
            try:
                self._channel_message(connection, decode(kind, body), kind, body)
            except ProtocolError as error:
                connection.abort(error)

    def _log(self, kind: int, body: bytes) -> None:
        if self._link is not None:
            data = frame(kind, body) if self.stream_to_client else strip_payload(body)
            self._link.send_bytes(data)

    def _channel_message(
        self, connection: Connection, message: Message, kind: int, body: bytes
    ) -> None:
        if type(message) is Open:
            self._open(connection, message)
        elif type(message) is Ping:
            connection.send(Pong(n=message.n))
        elif type(message) is LogMessage.Flush:
            if message.sync_version is not None:
                self._marker(message.sync_version)
        elif connection not in self._parents.values():
            raise ProtocolError(f"{type(message).__name__} before Open")
        elif type(message) is Drained:
            version, target = message.version, message.target
            if version in self._drains.open_versions(target):
                self._drained_to.setdefault(version, {})[target] = message.next_seq
            if self._drains.drained(version, target):
                self._post(version)
        elif isinstance(message, (GapFrame, End, Written)):
            if self._link is not None:
                self._link.send_bytes(frame(kind, body))
        else:
            raise ProtocolError(f"a sender sent {type(message).__name__}")

    def _open(self, connection: Connection, message: Open) -> None:
        if message.target not in STREAMS:
            raise ProtocolError(f"there is no stream {message.target}")
        if message.generation < self.generation or message.proc != self.proc:
            raise ProtocolError(f"generation {message.generation}, {self.generation} is served")
        if message.generation > self.generation:
            self.generation = message.generation
            self._drop_parents()
        self._parents[message.target] = connection
        self._opened = message
        self._attach()

    def _attach(self) -> None:
        """Once both streams have opened and the uplink is up, tell the client who relays."""
        opened = self._opened
        if not self._link_up or self._link is None or not self._speaks:
            return
        if opened is not None and len(self._parents) == len(STREAMS):
            self._link.send(
                Attach(
                    proc=opened.proc,
                    epoch=opened.epoch,
                    generation=opened.generation,
                    pid=opened.pid,
                    hostname=opened.hostname,
                )
            )
        elif not self.has_parents:
            self._link.send(
                Attach(proc=self.proc, epoch=0, generation=0, pid=os.getpid(), hostname="")
            )

    def _drop_parents(self) -> None:
        """The parents start over: so do the barriers that are under way."""
        self._links += 1
        self._drains.restart()
        self._drained_to.clear()
        parents, self._parents = tuple(self._parents.values()), {}
        for parent in parents:
            parent.abort()

    # --- control ------------------------------------------------------------------------------

    def _set_mode(self, message: LogForwardMessage.SetMode) -> None:
        self.stream_to_client = message.stream_to_client

    def _force_sync_flush(self, message: LogForwardMessage.ForceSyncFlush) -> None:
        version = message.version
        if not self._drains.request(version):
            return
        if self._flush_stdio is None:
            self._stdio_flushed(version)
        else:
            self._flush_stdio(lambda: self._stdio_flushed(version))

    def _stdio_flushed(self, version: int) -> None:
        if self._drains.flushed(version):
            self._post(version)
        else:
            for parent in self._parents.values():
                parent.send(FlushRequest(version=version))

    def _post(self, version: int) -> None:
        """Put the barrier's marker into the data stream, behind all that was read before."""
        covered = self._drained_to.pop(version, {})
        flushed = Flushed(
            proc=self.proc,
            version=version,
            next_stdout=covered.get(OutputTarget.STDOUT, 0),
            next_stderr=covered.get(OutputTarget.STDERR, 0),
        )
        self._posted.append((self._links, flushed))
        if self._flush_tx is not None:
            self._flush_tx.send(LogMessage.Flush(sync_version=version))

    def _marker(self, version: int) -> None:
        """The marker was read: all data before it is on the uplink. ``client.flush(version)``."""
        if not self._posted or self._posted[0][1].version != version:
            raise ProtocolError(f"a marker of version {version} that was not posted here")
        links, flushed = self._posted.popleft()
        if links == self._links and self._link is not None:
            self._link.send(flushed)

    def _beat(self) -> None:
        self.heartbeats += 1
        if self._flush_tx is not None:
            self._flush_tx.send(LogMessage.Flush(sync_version=None))
        self._heartbeat = self.loop.call_later(HEARTBEAT_SEC, self._beat)


_FORWARD = LogForwardMessage.Forward()
