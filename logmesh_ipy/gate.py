"""Who gets in: what a connection may do, and for how long, until its peer has proved itself.

A stranger is read frame by frame, 4 KiB at most, for 4 seconds at most, and nothing of it is
decoded but the handshake's own frames. Over TCP at most 64 strangers are heard at once; then the
one that has been there longest goes, after a quarter of a second at the earliest, so that a burst
of honest peers is let in one after the other; one with whom TLS has begun has a second, for it may
be far away. Who was refused and why is kept for the status.
"""

from __future__ import annotations

import asyncio
import collections
import enum
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Counter, Deque, Dict, List, Optional, Tuple

from ._version import __version__
from .clock import SYSTEM_CLOCK
from .errors import HandshakeError, ProtocolError, TransportError
from .frames import MAX_HELLO_BYTES
from .handshake import NONCE_BYTES, ClientHandshake, ServerHandshake
from .wire import Refused, decode_handshake

if TYPE_CHECKING:
    from .channel import Connection, Handler

__all__ = [
    "ENTRY_SEC",
    "MAX_UNPROVEN",
    "DialGate",
    "Door",
    "Entry",
    "Reason",
    "Refusal",
    "Refusals",
    "ServerGate",
    "refusal",
]

ENTRY_SEC = 4.0
"""From a connection's first moment to its peer's proof."""
MAX_UNPROVEN = 64
"""Strangers that are heard at once over TCP."""
_GRACE_SEC = 0.25
"""How long each of them is heard at least."""
_TLS_GRACE_SEC = 1.0
"""... where TLS has begun, which takes two times the way there and back."""
_RECENT = 8
_POLL_SEC = 0.01
_NO_DESCRIPTOR_SEC = 0.2


class Reason(str, enum.Enum):
    """Why a connection was refused."""

    ANOTHER_USER = "a process of another user"
    NO_PROOF = "no valid proof of the token"
    NOT_THE_PROTOCOL = "not the protocol"
    TOO_SLOW = f"no proof within {ENTRY_SEC:g} s"
    CROWDED = "made way for newer strangers"
    LEFT = "left before the proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refused connection. No text in it is the stranger's own."""

    reason: Reason
    detail: str
    peer: str
    wall: float
    """Seconds since the epoch, for display."""
    read_bytes: int
    """How much of what it sent was read."""

    def __str__(self) -> str:
        return f"{self.peer}: {self.reason.value}{f' ({self.detail})' if self.detail else ''}"


def refusal(connection: Connection, reason: Reason, detail: str = "") -> Refusal:
    """What is to be told of a connection that was refused now."""
    return Refusal(
        reason=reason,
        detail=detail,
        peer=connection.peer_name,
        wall=SYSTEM_CLOCK.wall(),
        read_bytes=connection.received_bytes,
    )


class Refusals:
    """All that were refused, counted by reason, and the last few of them."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = collections.Counter()
        self._recent: Deque[Refusal] = collections.deque(maxlen=_RECENT)

    @property
    def count(self) -> int:
        """How many."""
        return sum(self.by_reason.values())

    @property
    def by_reason(self) -> Dict[Reason, int]:
        """How many for which reason."""
        return dict(self._counts)

    @property
    def recent(self) -> List[Refusal]:
        """The last few, oldest first."""
        return list(self._recent)

    def note(self, refusal: Refusal) -> None:
        """One more."""
        self._counts[refusal.reason] += 1
        self._recent.append(refusal)

    def __str__(self) -> str:
        parts = [f"{count:,} {reason.value}" for reason, count in self.by_reason.items()]
        return f"{self.count:,} refused{': ' if parts else ''}{', '.join(parts)}"


class Entry(asyncio.BufferedProtocol):
    """The loop's side of a connection until that is trusted: reads what it wants next, no more."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._buffer = bytearray(MAX_HELLO_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's hook."""
        self.connection.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The loop's hook."""
        left = MAX_HELLO_BYTES - self.connection.received_bytes
        return memoryview(self._buffer)[: min(left, self.connection.wanted_bytes)]

    def buffer_updated(self, nbytes: int) -> None:
        """The loop's hook."""
        connection = self.connection
        connection.data_received(bytes(self._buffer[:nbytes]))
        if (
            connection.received_bytes >= MAX_HELLO_BYTES
            and not connection.trusted
            and not connection.closed
        ):
            connection.abort(ProtocolError(f"{MAX_HELLO_BYTES:,} bytes without a proof"))

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """The loop's hook."""
        self.connection.connection_lost(exc)


class ServerGate:
    """Handler of an accepted connection until its peer has proved itself.

    ``accept`` gives the handler that takes over then.
    """

    def __init__(
        self, token: bytes, accept: Callable[[Connection], Handler], refused: Refusals
    ) -> None:
        self._accept = accept
        self._refused = refused
        self._handshake = ServerHandshake(token, os.urandom(NONCE_BYTES), __version__)
        self._deadline: Optional[asyncio.TimerHandle] = None
        self._refusal: Optional[Reason] = None
        self._detail = ""

    def met(self, connection: Connection) -> None:
        """The connection is there: from now on its time runs."""
        self._deadline = asyncio.get_running_loop().call_later(
            ENTRY_SEC, self.refuse, connection, Reason.TOO_SLOW
        )

    def challenge(self, connection: Connection) -> None:
        """Bytes pass both ways: ask for the proof."""
        connection.send(self._handshake.start())

    def refuse(self, connection: Connection, reason: Reason) -> None:
        """Close it at once."""
        self._refusal = self._refusal or reason
        connection.abort(HandshakeError(reason.value))

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol: judge the Hello."""
        answer = self._handshake.receive(decode_handshake(kind, body))
        connection.send(answer)
        if isinstance(answer, Refused):
            self._refusal, self._detail = Reason.NO_PROOF, answer.reason
            connection.close()
            return
        self._stop()
        connection.peer = self._handshake.peer
        connection.trust()
        connection.handler = self._accept(connection)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        self._stop()
        reason, detail = self._refusal, self._detail
        if reason is None and isinstance(error, ProtocolError):
            reason, detail = Reason.NOT_THE_PROTOCOL, str(error)
        self._refused.note(refusal(connection, reason or Reason.LEFT, detail))

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


class DialGate:
    """Handler of a dialled connection until the server has proved itself."""

    def __init__(self, handler: Handler, handshake: ClientHandshake) -> None:
        self._handler = handler
        self._handshake = handshake
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol."""
        answer = self._handshake.receive(decode_handshake(kind, body))
        if answer is not None:
            connection.send(answer)
        if self._handshake.done:
            connection.trust()
            connection.handler = self._handler
            if not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol."""
        if not self.done.done():
            # Not a refusal: a client that was too busy to answer in time closes as well.
            self.done.set_exception(error or TransportError("closed during the handshake"))


class Door:
    """Takes connections in one by one, as long as there is room; ``make`` gives a new one's."""

    def __init__(self, make: Callable[[], Entry]) -> None:
        self._make = make
        self._strangers: List[Tuple[Connection, float]] = []

    async def run(self, sock: socket.socket) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(sock)
            except ConnectionError:
                continue  # It has gone already.
            except OSError:
                await asyncio.sleep(_NO_DESCRIPTOR_SEC)
                continue
            await self._let_in(accepted)

    async def _let_in(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._make_room()
            accepted.setblocking(False)
            entry = self._make()
            self._strangers.append((entry.connection, loop.time()))
            await loop.connect_accepted_socket(lambda: entry, accepted)
        except OSError:
            accepted.close()  # It has gone meanwhile.
        except BaseException:
            accepted.close()
            raise

    async def _make_room(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiting = [(one, since) for one, since in self._strangers if _gate(one) is not None]
            self._strangers = waiting
            if len(waiting) < MAX_UNPROVEN:
                return
            now = loop.time()
            had_time = (one for one, since in waiting if now - since >= _grace_sec(one))
            oldest = next(had_time, None)
            gate = None if oldest is None else _gate(oldest)
            if oldest is not None and gate is not None:
                gate.refuse(oldest, Reason.CROWDED)
            else:
                await asyncio.sleep(_POLL_SEC)


def _grace_sec(connection: Connection) -> float:
    return _TLS_GRACE_SEC if connection.tls_begun else _GRACE_SEC


def _gate(connection: Connection) -> Optional[ServerGate]:
    """The gate that an open connection still stands before."""
    handler = connection.handler
    return handler if isinstance(handler, ServerGate) and not connection.closed else None
