"""The one connection over which frames reach the client, made again whenever it breaks.

Forwarders and the run channel each hold an :class:`Uplink`. It dials until it succeeds, waiting
from 20 ms up to 2 s with jitter between tries (a link that is dropped at once was a try too);
a client that refuses the handshake is not asked again. The holder is told when the link is
up and when it is gone, and starts over: nothing of a broken link is assumed to have arrived.
"""

from __future__ import annotations

import asyncio
import random
from typing import Callable, Optional

from .channel import Connection, dial
from .errors import HandshakeError
from .handshake import Role
from .wire import Message, encode

__all__ = ["Uplink"]

_FIRST_DELAY_SEC = 0.02
_MAX_DELAY_SEC = 2.0
_STEADY_SEC = 0.01


class Uplink:
    """Keeps one authenticated connection to ``address`` alive until closed.

    ``on_frame(kind, body)`` takes what the client sends, ``on_up()`` is called after each
    handshake, ``on_down(error)`` when the link has gone; an error that is a HandshakeError is
    final.
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
    ) -> None:
        self.address = address
        self._token = token
        self._role = role
        self._name = name
        self._on_frame = on_frame
        self._on_up = on_up
        self._on_down = on_down
        self._connection: Optional[Connection] = None
        self._task: Optional[asyncio.Task[None]] = None
        self._dialling = False
        self._delay = _FIRST_DELAY_SEC
        self._up_at: Optional[float] = None
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether frames can be sent now."""
        return self._connection is not None and not self._connection.closed

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not taken yet."""
        return 0 if self._connection is None else self._connection.unsent_bytes

    def start(self) -> None:
        """Begin to dial."""
        self._dialling = True
        self._task = asyncio.get_running_loop().create_task(self._dial())

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
        if self._connection is not None:
            self._connection.close()

    def frame_received(self, connection: Connection, kind: int, body: bytes) -> None:
        """Handler protocol. The first frame may come before ``dial`` has returned."""
        self._connection = connection
        self._on_frame(kind, body)

    def connection_lost(self, connection: Connection, error: Optional[Exception]) -> None:
        """Handler protocol: tell the holder, then dial again."""
        self._connection = None
        if self._dialling:
            # Lost before it was told to be up: the dialling task sees that and goes on.
            return
        if not self._closed:
            self._on_down(error)
        if not self._closed:
            self.start()

    async def _dial(self) -> None:
        connection: Optional[Connection]
        if self._up_at is not None:
            if asyncio.get_running_loop().time() - self._up_at < _STEADY_SEC:
                await self._pause()
            else:
                self._delay = _FIRST_DELAY_SEC
        while True:
            try:
                connection = await dial(self.address, self, self._token, self._role, self._name)
            except HandshakeError as error:
                self._closed = True
                self._on_down(error)
                return
            except OSError:
                connection = None
            if connection is not None and not connection.closed:
                break
            await self._pause()
        self._connection = connection
        self._up_at = asyncio.get_running_loop().time()
        self._dialling = False
        self._on_up()

    async def _pause(self) -> None:
        await asyncio.sleep(self._delay * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
        self._delay = min(self._delay * 2, _MAX_DELAY_SEC)
