"""Messages each way, in order and exactly once, over connections that come and go.

Each end counts the messages it has taken, and keeps those that it has sent until the other end
has taken them. ``Received`` is the first message on each new connection: what lies below its
count is forgotten, the rest is sent (again), and only then goes what is new. The same message,
sent now and then, says that more can be forgotten.

    apart --connected--> greeting --Received--> going on --disconnected--> apart

Each message goes with its number, so one that comes twice is dropped, and one that is not due yet
breaks the connection. ``Received`` tells also how many were sent before it. It is sent again and
again until the other end's has come and all is known to be taken, and one that says nothing new is
answered: so a message that was left out is noticed, of either kind. Frame of a message: kind 52;
body: the number (u64, big-endian), the message's kind, its body.

Invariants: what is not known to be taken is kept; a message is taken at most once, in the order
sent; at most ``WINDOW_BYTES`` (or one message) are sent and not known to be taken. It ends where
a count cannot be: then the other end is not the one that was connected before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Callable, Deque, Optional, Protocol

from .errors import ProtocolError
from .frames import HEADER, MAX_FRAME_BYTES, frame
from .wire import Message, Ping, Received, decode, encode

__all__ = ["WINDOW_BYTES", "Carrier", "ResumableLink"]

WINDOW_BYTES = 4 << 20
_NUMBERED_KIND = 52
_NUMBER_BYTES = 8
_TELL_SEC = 0.05
_TELL_AGAIN_SEC = 1.0
_TELL_BYTES = 1 << 20


class Carrier(Protocol):
    """A connection or an uplink."""

    def send_bytes(self, data: bytes) -> None:
        """Send whole frames; on a broken connection nothing happens."""


class ResumableLink:
    """One end. ``on_message`` takes each message; what it raises breaks the connection only."""

    def __init__(self, on_message: Callable[[Message], None]) -> None:
        self._on_message = on_message
        self._carrier: Optional[Carrier] = None
        self._going_on = False
        self._sent: Deque[bytes] = deque()
        self._unsent: Deque[bytes] = deque()
        self._sent_bytes = 0
        self._known_taken = 0
        self._numbered = 0
        self._taken = 0
        self._untold_bytes = 0
        self._has_told = False
        self._timer: Optional[asyncio.TimerHandle] = None

    def send(self, message: Message) -> None:
        """Send as soon as it can be. Raises ProtocolError for what does not fit a frame."""
        inner = encode(message)[HEADER.size - 1 :]  # from its kind on
        if len(inner) + 1 + _NUMBER_BYTES > MAX_FRAME_BYTES:
            raise ProtocolError(f"a {type(message).__name__} of {len(inner):,} bytes is too long")
        number = self._numbered.to_bytes(_NUMBER_BYTES, "big")
        self._numbered += 1
        self._unsent.append(frame(_NUMBERED_KIND, number + inner))
        self._pump()

    def connected(self, carrier: Carrier) -> None:
        """There is a new connection; the one before is not used any more."""
        self._carrier = carrier
        self._going_on = False
        self._tell()

    def disconnected(self) -> None:
        """The connection is gone. What is sent now waits for the next one."""
        self._carrier = None
        self._going_on = False
        self._stop_timer()

    def receive(self, kind: int, body: bytes) -> None:
        """One frame of the connection. Raises ProtocolError."""
        if kind == _NUMBERED_KIND:
            self._take(body)
            return
        message = decode(kind, body)
        if type(message) is Received:
            if message.sent > self._taken:
                raise ProtocolError(f"{message.sent} messages were sent, {self._taken} have come")
            self._greeted(message.count)
        elif type(message) is not Ping:
            raise ProtocolError(f"a {type(message).__name__} without a number")

    def _greeted(self, count: int) -> None:
        """The other end has taken so many. Where that is no news, it may have missed the last word.

        It is told that again, but not where this may be its own answer.
        """
        if self._going_on and count == self._known_taken and not self._has_told:
            self._tell()
        self._has_told = False
        self._forget(count)
        if not self._going_on:
            self._going_on = True
            self._unsent.extendleft(reversed(self._sent))
            self._sent.clear()
            self._sent_bytes = 0
        self._pump()

    def _take(self, body: bytes) -> None:
        if len(body) <= _NUMBER_BYTES:
            raise ProtocolError("a numbered message without kind or number")
        number = int.from_bytes(body[:_NUMBER_BYTES], "big")
        if number < self._taken:
            return
        if number > self._taken or not self._going_on:
            raise ProtocolError(f"message {number}, due is {self._taken}")
        message = decode(body[_NUMBER_BYTES], body[_NUMBER_BYTES + 1 :])
        self._taken += 1
        self._untold_bytes += len(body)
        if self._untold_bytes >= _TELL_BYTES:
            self._tell()
        else:
            self._tell_in(_TELL_SEC)
        self._on_message(message)

    def _pump(self) -> None:
        while self._going_on and self._carrier is not None and self._unsent:
            data = self._unsent[0]
            if self._sent_bytes and self._sent_bytes + len(data) > WINDOW_BYTES:
                return
            self._sent.append(self._unsent.popleft())
            self._sent_bytes += len(data)
            self._carrier.send_bytes(data)
            self._tell_in(_TELL_AGAIN_SEC)

    def _forget(self, count: int) -> None:
        if not self._known_taken <= count <= self._known_taken + len(self._sent):
            raise ProtocolError(
                f"{count} messages are said to be taken, {self._known_taken} to "
                f"{self._known_taken + len(self._sent)} can be"
            )
        for _ in range(count - self._known_taken):
            self._sent_bytes -= len(self._sent.popleft())
        self._known_taken = count

    def _tell(self) -> None:
        self._stop_timer()
        self._untold_bytes = 0
        if self._carrier is None:
            return
        self._has_told = True
        sent = self._known_taken + (len(self._sent) if self._going_on else 0)
        self._carrier.send_bytes(encode(Received(count=self._taken, sent=sent)))
        if self._sent or not self._going_on:
            self._tell_in(_TELL_AGAIN_SEC)

    def _tell_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._tell)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
