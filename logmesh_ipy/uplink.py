"""The one connection over which frames reach the client, made again whenever it breaks.

Forwarders, the run channel and the bootstrap's control each hold an :class:`Uplink`. It dials
until it succeeds, at most once a second where faults go on (see ``backoff``); a client that
refuses the handshake is not asked again, one that falls silent is dialled anew. The holder is
told when the link is up and when it is gone, and starts over: nothing of a broken link is
assumed to have arrived.

    dialling --handshake--> up --lost, or silent--> dialling
    dialling --refused--> closed          any --close()--> closed
"""

from __future__ import annotations

import asyncio
from typing import Callable, Optional

from .backoff import Backoff
from .channel import Connection, dial
from .errors import HandshakeError, ProtocolError
from .handshake import Role
from .heartbeat import DIALLED_PATIENCE_SEC, Heartbeat
from .wire import PING_KIND, Message, encode

__all__ = ["Uplink"]


class Uplink:
    """Keeps one authenticated connection to ``address`` alive until closed.

    ``on_up()`` is called after each handshake and before the first frame, ``on_frame(kind,
    body)`` takes what the client sends, ``on_down(error)`` is called when the link has gone; an
    error that is a HandshakeError is final. ``certificate``: the client's (PEM), where the address
    is one of TLS. ``patience_sec``: how long the client may be silent;
    None where it may be for as long as it likes, since its loop is not its own.
    """

    def __init__(
        self,
        address: str,
        token: bytes,
        role: Role,
        name: str,
        *,
        on_frame: Callable[[int, bytes], None],
        on_up: Callable[[], None],
        on_down: Callable[[Optional[Exception]], None],
        certificate: Optional[str] = None,
        patience_sec: Optional[float] = DIALLED_PATIENCE_SEC,
    ) -> None:
        self.address = address
        self._token = token
        self._role = role
        self._name = name
        self._on_frame = on_frame
        self._on_up = on_up
        self._on_down = on_down
        self._certificate = certificate
        self._patience_sec = patience_sec
        self._connection: Optional[Connection] = None
        self._heartbeat: Optional[Heartbeat] = None
        self._task: Optional[asyncio.Task[None]] = None
        self._backoff = Backoff()
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether frames can be sent now."""
        return self._connection is not None and not self._connection.closed

    def start(self) -> None:
        """Begin to dial."""
        self._dial_soon(0.0)

    def send(self, message: Message) -> None:
        """Send where the link is up; where it is not, the message is of a dead link and dropped."""
        self.send_bytes(encode(message))

    def send_bytes(self, data: bytes) -> None:
        """Send whole frames."""
        if self._connection is not None:
            self._connection.send_bytes(data)

    def close(self) -> None:
        """Give the link up for good."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._connection is not None:
            self._connection.close()

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol. The first frame may come before ``dial`` has returned."""
        if connection is not self._connection:
            if self._closed:
                connection.abort()
                return
            self._made(connection)
        if kind != PING_KIND:
            self._on_frame(kind, body)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol: tell the holder, then dial again."""
        if connection is not self._connection:
            return  # Lost before it was told to be up: the dialling task sees that and goes on.
        self._connection = None
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if not self._closed:
            self._on_down(error)
        if not self._closed:
            self._dial_soon(self._backoff.pause(asyncio.get_running_loop().time()))

    def _dial_soon(self, pause_sec: float) -> None:
        self._task = asyncio.get_running_loop().create_task(self._dial(pause_sec))

    async def _dial(self, pause_sec: float) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        while not self._closed:
            await asyncio.sleep(pause_sec)
            connection: Optional[Connection]
            try:
                connection = await dial(
                    self.address, self, self._token, self._role, self._name,
                    certificate=self._certificate,
                )  # fmt: skip
            except HandshakeError as error:
                self._closed = True
                self._on_down(error)
                return
            except (OSError, ProtocolError):
                connection = None
            if connection is not None and connection is self._connection:
                return  # Its first frame has told that it is up.
            if self._task is not task:  # Lost again, or closed as the handshake was just done.
                if connection is not None:
                    connection.abort()
                return
            if connection is not None and not connection.closed:
                self._made(connection)
                return
            pause_sec = self._backoff.pause(loop.time())

    def _made(self, connection: Connection) -> None:
        self._connection = connection
        self._heartbeat = Heartbeat(connection, self._patience_sec)
        self._on_up()
